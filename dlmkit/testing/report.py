"""Runs the suite on one plugin, and prints it so that its author knows what to change."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from dlmkit import plugins
from dlmkit.testing.check import Check, explain

__all__ = ["Report", "run"]

_MODULE = "dlmkit.testing.conformance"
_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("–", "yellow")}


def run(name: str, slow: bool) -> int:
    """Check one plugin; see :func:`dlmkit.testing.run_kit`."""
    entry = plugins.find("tasks", name)
    report = Report(entry, Console(file=sys.stdout, highlight=False, soft_wrap=True))
    words = ["--pyargs", _MODULE, "--dlmkit-plugin", name, "--capture=sys", "-m", "" if slow else "not slow"]
    # Neither the author's pytest settings nor the plugins of their environment have a say here.
    words += ["-c", os.devnull, "--rootdir", str(Path(__file__).parent), "--disable-plugin-autoload"]
    words += ["-p", "dlmkit.testing.plugin", "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:logging"]
    words += ["-p", "no:faulthandler", "--import-mode=importlib"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    with mock.patch.dict(os.environ, environment, clear=True), report:
        code = pytest.main(words, plugins=[report])
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    report.conclude()
    return 0 if code == pytest.ExitCode.OK else 1


class Report:
    """A pytest plugin that prints a line for each check.

    Args:
        entry: The plugin that is checked.
        console: Where to print.
    """

    def __init__(self, entry: plugins.Entry, console: Console) -> None:
        self.entry, self.console = entry, console
        self.package = entry.value.partition(":")[0].partition(".")[0]
        self.counts = dict.fromkeys(_MARKS, 0)
        self.texts: dict[str, Check] = {}
        self.reasons: dict[str, str] = {}
        self.started = time.monotonic()
        self.live = Live(
            console=console, transient=True, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Report:
        self.console.print(Text(f"{self.entry.name} of {self.entry.package} {self.entry.version}", style="bold cyan"))
        self.live.start()
        self._now("loading")
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def _now(self, text: str) -> None:
        self.live.update(Spinner("dots", text=text))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember which item is which check."""
        self.texts = {item.nodeid: item.callspec.params["check"] for item in session.items}  # type: ignore[attr-defined]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell when the suite itself cannot be read."""
        if report.failed:
            self.console.print(str(report.longrepr))

    def pytest_internalerror(self, excrepr: Any) -> None:
        """Tell when pytest itself fails."""
        self.console.print(str(excrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what is being looked at."""
        self._now(self.texts[nodeid].text)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Keep why a check failed, in words."""
        if call.excinfo is not None:
            error = call.excinfo.value
            told = isinstance(error, (pytest.fail.Exception, pytest.skip.Exception))
            self.reasons[item.nodeid] = str(error) if told else explain(error, self.package)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the line of a check, and what to change."""
        if report.when != "call" and not report.failed:
            return
        self.counts[report.outcome] += 1
        check = self.texts[report.nodeid]
        mark, colour = _MARKS[report.outcome]
        reason = self.reasons.get(report.nodeid, "")
        measured = dict(report.user_properties).get("measured", "")
        line = Text(f"  {mark} ", style=colour) + Text(f"{check.text}  ")
        tail = measured if report.passed else reason if report.skipped else check.name
        self.console.print(line + Text(f"{tail}  {report.duration:.1f} s".strip(), style="dim"))
        for fault in reason.splitlines() if report.failed else []:
            self.console.print(Text(f"      {fault}", style="red"))

    def conclude(self) -> None:
        """Print how many checks went how, and how long it took."""
        passed, failed, skipped = (self.counts[k] for k in ("passed", "failed", "skipped"))
        parts = [
            f"{passed} checks passed",
            f"{failed} failed" if failed else "",
            f"{skipped} left out" if skipped else "",
        ]
        line = f"{', '.join(filter(None, parts))} in {time.monotonic() - self.started:.0f} s"
        self.console.print(Text(line, style="bold red" if failed or not passed else "bold green"))
        if failed:
            self.console.print(
                'a check that makes no sense here: conformance = {"its_name": "why"} in the task\'s class'
            )
