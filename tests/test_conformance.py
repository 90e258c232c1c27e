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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames:
        parametrize(metafunc, NAMES, fast=NAMES[:1])  # real processes for one plugin; for all of them with -m slow


def test_a_plugin_is_installed() -> None:
    assert NAMES


def test_plugin(subject: Subject, check: Check, record_property: Callable[[str, object], None]) -> None:
    record_property("measured", judge(check, subject) or "")
