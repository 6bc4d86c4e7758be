"""The status page in a real browser. A package, so that its tests can share one browser and one server."""
