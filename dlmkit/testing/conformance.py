"""The conformance suite: every check for every installed plugin.

``dlmkit check --plugin NAME`` runs it, and so does pytest: ``pytest --pyargs dlmkit.testing.conformance`` for all
plugins, with ``--dlmkit-plugin NAME`` for one; ``-m "not slow"`` leaves out what starts processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import pytest

from dlmkit import plugins
from dlmkit.errors import UserError
from dlmkit.testing.check import Check, NotReached, Unsuitable
from dlmkit.testing.package_checks import (
    documented_parameters,
    imports_lazily,
    known_switches,
    recipes_are_sound,
)
from dlmkit.testing.process_checks import two_processes_one_gradient, two_real_processes
from dlmkit.testing.run_checks import recipe_trains, resumes_exactly, same_seed_same_result, samples_from_checkpoint
from dlmkit.testing.subject import Subject
from dlmkit.testing.training_checks import (
    gradient_reaches_every_parameter,
    media_are_made,
    overfits_one_batch,
    saves_and_reloads,
)

__all__ = ["CHECKS", "judge", "parametrize"]

CHECKS = (
    imports_lazily,
    documented_parameters,
    known_switches,
    recipes_are_sound,
    recipe_trains,
    gradient_reaches_every_parameter,
    overfits_one_batch,
    saves_and_reloads,
    same_seed_same_result,
    resumes_exactly,
    two_processes_one_gradient,
    two_real_processes,
    media_are_made,
    samples_from_checkpoint,
)


def judge(check: Check, subject: Subject) -> str | None:
    """Make a check, and tell pytest how it went.

    Args:
        check: What is promised.
        subject: The plugin.

    Returns:
        What was measured.
    """
    reason = subject.switches.get(check.name)
    if reason and check.optional:
        pytest.skip(f"switched off: {reason}")
    try:
        return check(subject)
    except (NotReached, Unsuitable) as error:
        pytest.skip(str(error))
    except UserError as error:
        pytest.fail("\n".join(error.lines()), pytrace=False)


def parametrize(
    metafunc: pytest.Metafunc, names: Iterable[str], fast: Collection[str] = (), brief: Collection[str] = ()
) -> None:
    """Give a test function every check of every plugin.

    Args:
        metafunc: From ``pytest_generate_tests``.
        names: The plugins.
        fast: Those whose slow checks are made with the fast ones.
        brief: Those of which the longest check in one process, ``resumes_exactly``, is made with the slow ones.
    """
    cases = [
        pytest.param(name, check, id=f"{name}-{check.name}", marks=_marks(check, name, fast, brief))
        for name in names
        for check in CHECKS
    ]
    metafunc.parametrize(("subject", "check"), cases, indirect=["subject"], scope="module")


def _marks(check: Check, name: str, fast: Collection[str], brief: Collection[str]) -> list[pytest.MarkDecorator]:
    together = pytest.mark.xdist_group(name)  # what one check has made serves the next
    slow = (check.slow and name not in fast) or (check is resumes_exactly and name in brief)
    return [together, pytest.mark.slow] if slow else [together]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Check the plugins that were asked for, or all."""
    if {"subject", "check"} <= set(metafunc.fixturenames):
        parametrize(metafunc, metafunc.config.getoption("dlmkit_plugin") or plugins.names("tasks"))


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The plugin, with what one check has made for the next."""
    with Subject(request.param) as made:
        yield made


def test_plugin(subject: Subject, check: Check, record_property: Callable[[str, object], None]) -> None:
    """One promise, one plugin."""
    record_property("measured", judge(check, subject) or "")
