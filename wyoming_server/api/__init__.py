"""The API of the server (docs/api.md)."""
