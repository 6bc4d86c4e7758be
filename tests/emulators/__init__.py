"""Stand-ins for services that the tests and benches cannot reach."""
