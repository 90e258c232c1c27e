"""The conformance kit: what every plugin is checked for, by ``dlmkit check --plugin NAME`` and under pytest."""

from __future__ import annotations

__all__ = ["run_kit"]


def run_kit(name: str, slow: bool = False) -> int:
    """Check one installed plugin and print a line for each check.

    Args:
        name: The plugin, as ``dlmkit list`` shows it.
        slow: Whether to start real processes as well.

    Returns:
        0 if the plugin keeps what dlmkit promises, 1 if it does not.

    Raises:
        UserError: If no plugin has that name.
    """
    from dlmkit.testing.report import run

    return run(name, slow)
