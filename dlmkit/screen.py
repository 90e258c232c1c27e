"""What a run shows on the screen: a head, live progress, and last lines that say what came out and what to do next."""

from __future__ import annotations

import math
import os
import shlex
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dlmkit.errors import UserError
from dlmkit.media import Media
from dlmkit.media import Text as TextMedia

__all__ = ["ProgressLine", "console", "figures_table", "print_next", "print_rows", "print_samples", "quote"]

_SILENCE = 60.0
"""Seconds after which a log gets a line, however long the run is."""

console = Console(highlight=False, soft_wrap=True)


def quote(*words: str) -> str:
    """A command as the user's shell reads it."""
    return shlex.join(words)


def print_rows(rows: dict[str, str]) -> None:
    """Print labelled lines."""
    width = max(7, *map(len, rows))
    for label, value in rows.items():
        console.print(Text(f"{label:<{width}}  ", style="bold cyan") + Text(value))


class ProgressLine(Callback):
    """A line after each validation; a live line on a terminal, and elsewhere one after each tenth of the way or minute.

    Training stops with an error when the loss is no number any more.
    """

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.live: Live | None = None
        self._started = 0.0
        self._first = 0
        self._told = 0
        self._spoke = 0.0
        self._refreshed = 0.0
        self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and, on a terminal, the live line."""
        self._started, self._first, self._paused = time.monotonic(), trainer.global_step, 0.0
        self._spoke = self._started
        if not trainer.is_global_zero or not console.is_terminal:
            return
        columns = (
            TextColumn("[bold cyan]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, auto_refresh=False, transient=True)
        total = trainer.estimated_stepping_batches
        self.bar.add_task("training", total=None if total == float("inf") else total, figures="")
        self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh twice a second."""
        now = time.monotonic()
        if now - self._refreshed < 0.5:
            return
        self._refreshed = now
        self._check_loss(trainer)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=trainer.global_step, figures=self._figures(trainer))
            self.bar.refresh()
        elif trainer.is_global_zero and not console.is_terminal:
            self._tell_sometimes(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop counting the time towards the training's speed."""
        self._paused -= time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the outcome in a line that stays."""
        self._paused += time.monotonic()
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_global_zero:
            self._tell(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the live line away."""
        self._check_loss(trainer)
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _figures(self, trainer: Trainer) -> str:
        monitored = getattr(trainer.lightning_module, "monitor", "val/loss")
        metrics = {k: float(v) for k, v in trainer.progress_bar_metrics.items() if isinstance(v, (int, float))}
        shown = [f"{k} {_cell(v)}" for k, v in metrics.items() if k.endswith("loss") or k == monitored]
        speed = (trainer.global_step - self._first) / max(1e-9, time.monotonic() - self._started - self._paused)
        return "  ".join([*shown, f"{speed:.1f} steps/s"])

    def _tell_sometimes(self, trainer: Trainer) -> None:
        if trainer.global_step >= trainer.estimated_stepping_batches and trainer.enable_validation:
            return  # the validation at the end tells of it
        if self._tenth(trainer) > self._told or time.monotonic() - self._spoke > _SILENCE:
            self._tell(trainer)

    def _tenth(self, trainer: Trainer) -> int:
        total = trainer.estimated_stepping_batches
        return int(10 * trainer.global_step / total) if total not in (0, float("inf")) else 0

    def _tell(self, trainer: Trainer) -> None:
        self._told, self._spoke = self._tenth(trainer), time.monotonic()
        total = trainer.estimated_stepping_batches
        of = "" if total == float("inf") else f"/{int(total)}"
        console.print(f"step {trainer.global_step}{of}  {self._figures(trainer)}{self._left(trainer)}")

    def _left(self, trainer: Trainer) -> str:
        """How long the rest will take at the speed so far, where that is more than a minute."""
        total, done = trainer.estimated_stepping_batches, trainer.global_step - self._first
        if total == float("inf") or not done:
            return ""
        minutes = (total - trainer.global_step) / done * (time.monotonic() - self._started) / 60
        return f"  {minutes:.0f} min left" if minutes >= 1 else ""

    def _check_loss(self, trainer: Trainer) -> None:
        for name, loss in trainer.callback_metrics.items():
            if name.startswith("train/") and name.endswith("loss") and not math.isfinite(float(loss)):
                called = name.removeprefix("train/").replace("_", " ")
                later = "lower the learning rate, or clip gradients (--trainer.gradient_clip_val=1)"
                remedy = later if trainer.global_step > 1 else "look at the loss and at the data"
                raise UserError(f"the {called} is {float(loss)} at step {trainer.global_step}", remedy)


def figures_table(
    title: str, metrics: dict[str, float], baselines: dict[str, dict[str, float]], headline: str
) -> Table:
    """The metrics of a stage, each beside what simple methods reach.

    There is a line for each metric; or where methods are many, so that names would be cut off, a line for each of them.

    Args:
        title: Names the run's own column.
        metrics: Name to figure.
        baselines: Metric name to method to figure.
        headline: The metric that comes first.
    """
    shown = {name: baselines.get(name, {}) for name in metrics}
    methods = sorted({m for values in shown.values() for m in values}, key=lambda m: _worst(shown, m))
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    names = sorted(metrics, key=lambda n: (n != headline, n))
    table.add_column("")
    if len(methods) > max(3, len(names)):
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        table.add_row(title, *(_cell(metrics[name]) for name in names), style="bold")
        for method in methods:
            table.add_row(method, *(_cell(shown[name].get(method)) for name in names))
        return table
    table.add_column(title, justify="right", style="bold")
    for method in methods:
        table.add_column(method, justify="right")
    for name in names:
        table.add_row(name.replace("_", " "), _cell(metrics[name]), *(_cell(shown[name].get(m)) for m in methods))
    return table


def _worst(baselines: dict[str, dict[str, float]], method: str) -> float:
    return min(values.get(method, math.inf) for values in baselines.values())


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def print_samples(media: dict[str, Media]) -> None:
    """Print the texts among the media, framed."""
    for name, item in media.items():
        if isinstance(item, TextMedia):
            body = Text("\n".join(item.text.splitlines()[:14]))
            console.print(Panel(Group(body), title=name, title_align="left", border_style="cyan", width=_width()))


def _width() -> int:
    return min(100, console.width if console.is_terminal else int(os.environ.get("COLUMNS", "100")))


def print_next(command: str, what: str) -> None:
    """Print the command to try next."""
    console.print(Text("next     ", style="bold cyan") + Text(command, style="bold") + Text(f"   {what}", style="dim"))
