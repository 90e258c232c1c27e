"""Every installed plugin keeps what dlmkit promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlmkit import plugins
from dlmkit.testing.check import Check
from dlmkit.testing.conformance import judge, parametrize, subject
from dlmkit.testing.subject import Subject

__all__ = ["subject"]  # pytest finds the fixture here

NAMES = plugins.names("tasks")
VARIANTS = [e.name for e in plugins.installed() if e.kind == "tasks" and e.package != f"dlmkit-{e.name}"]
"""Tasks that share a package, and so nearly all of what a run keeps, with the one that it is named after."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames:
        # Real processes for two plugins, one of them adversarial; for all of them with -m slow.
        parametrize(metafunc, NAMES, fast=[NAMES[0], "cyclegan"], brief=VARIANTS)


def test_a_plugin_is_installed() -> None:
    assert NAMES


def test_plugin(subject: Subject, check: Check, record_property: Callable[[str, object], None]) -> None:
    record_property("measured", judge(check, subject) or "")
