"""The conformance kit: what every plugin is checked for, by ``dlmkit check --plugin NAME`` and under pytest."""
