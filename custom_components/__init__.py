"""Integrations of Home Assistant that do not come with it."""
