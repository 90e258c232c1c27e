"""The part of the kit that pytest loads in every session; it imports neither torch nor Lightning."""

from __future__ import annotations

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the plugins to check."""
    group = parser.getgroup("dlmkit", "the conformance kit of dlmkit (--pyargs dlmkit.testing.conformance)")
    group.addoption(
        "--dlmkit-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="check this installed plugin only (repeat for several; default: all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known where ``--strict-markers`` is set."""
    config.addinivalue_line("markers", "slow: starts several processes or trains longer; leave out with -m 'not slow'")
    config.addinivalue_line("markers", "xdist_group(name): what pytest-xdist (--dist loadgroup) keeps on one core")
