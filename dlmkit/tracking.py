"""Where a run's figures go: ``metrics.csv`` always, Weights & Biases when asked."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from dlmkit.errors import UserError
from dlmkit.runs import write_text

__all__ = ["MetricsFile", "wandb_logger", "wandb_ready"]


class MetricsFile(Logger):
    """Writes ``metrics.csv``: a row for each step at which something was logged.

    Unlike Lightning's CSVLogger it goes on with the file of a resumed run, and each row is on disk at once. When each
    row was written goes into ``times.csv`` beside it: two runs that end alike have equal figures, but not equal times.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = ["step", "epoch"]
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or self.columns)
                self.rows = [{k: v for k, v in row.items() if v != ""} for row in reader]
        self.times = _Times(path.with_name("times.csv"))

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """The run's name."""
        return self.path.parent.name

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` has them all."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one row."""
        row: dict[str, Any] = {"step": step} | {k: _number(v) for k, v in metrics.items()}
        if self.rows and self.rows[-1] == row:
            return  # logged already, before a checkpoint
        self.rows.append(row)
        if step is not None:
            self.times.mark(step)
        fresh = [k for k in row if k not in self.columns]
        if fresh or len(self.rows) == 1:
            self.columns += sorted(fresh)
            self._write_all()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget what was logged at this step and later: a resumed run does it again."""
        kept = [row for row in self.rows if int(float(row["step"])) < step]
        if len(kept) < len(self.rows):
            self.rows = kept
            self._write_all()
        self.times.rewind(step)

    def latest(self) -> dict[str, float]:
        """The last figure of each metric."""
        return {k: float(v) for row in self.rows for k, v in row.items() if k not in ("step", "epoch")}

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


class _Times:
    """Writes ``times.csv``: the seconds of training, validation and all, until the figures of a step were there.

    Args:
        path: The file; that of a resumed run goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[tuple[int, float]] = []
        self._started: float | None = None
        self._before = 0.0
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file, contextlib.suppress(TypeError, ValueError, KeyError):
                for row in csv.DictReader(file):  # up to where a power cut has torn it
                    self.rows.append((int(row["step"]), float(row["seconds"])))
                    self._before = self.rows[-1][1]

    @property
    def seconds(self) -> float:
        """The seconds of training so far, those before a resumption included."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    @rank_zero_only
    def start(self) -> None:
        """Count from here on, after what the rows tell."""
        self._before = self.rows[-1][1] if self.rows else 0.0
        self._started = time.monotonic()
        self._write("w", self.rows)

    @rank_zero_only
    def stop(self, step: int) -> None:
        """Count no further."""
        if self._started is not None:
            self.mark(max(0, step))
            self._before, self._started = self.seconds, None

    def mark(self, step: int) -> None:
        """Add a row, while training."""
        if self._started is not None:
            self.rows.append((step, round(self.seconds, 3)))
            self._write("a", self.rows[-1:])

    def rewind(self, step: int) -> None:
        """Forget this step and later ones; the file follows when training starts."""
        self.rows = [row for row in self.rows if row[0] < step]

    def _write(self, mode: str, rows: list[tuple[int, float]]) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("step", "seconds"), *rows] if mode == "w" else rows)


def _number(value: Any) -> Any:
    number = float(value) if isinstance(value, (Tensor, float)) else value
    return int(number) if isinstance(number, float) and number.is_integer() and abs(number) < 1e15 else number


def wandb_ready() -> str:
    """What W&B would do: ``online``, ``offline`` or ``disabled``; never asks for an account.

    Raises:
        UserError: If a key is there, but cannot be one.
    """
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("online", "offline", "disabled"):
        return mode
    os.environ.setdefault("WANDB_SILENT", "true")  # before wandb reads its settings
    import wandb

    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except (wandb.errors.AuthenticationError, ValueError) as error:
        what = f"Weights & Biases cannot be used: {error}"
        raise UserError(what, "run wandb login, or set WANDB_MODE=offline", "--wandb") from None


def wandb_logger(
    folder: Path, project: str, config: dict[str, Any], provenance: dict[str, Any], run_id: str, checkpoints: bool
) -> WandbLogger:
    """A tracker whose run carries the whole configuration and provenance.

    Args:
        folder: The run folder; W&B's own files go into it.
        project: The W&B project.
        config: The whole resolved configuration.
        provenance: How the run came about.
        run_id: The run's id; the same id on resuming goes on with the same run.
        checkpoints: Whether to upload checkpoints as artifacts.

    Raises:
        UserError: If W&B refuses.
    """
    import wandb

    mode = wandb_ready()  # decided here, so that W&B never asks for an account
    try:
        run = wandb.init(
            project=project,
            id=run_id,
            name=folder.name,
            dir=folder,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]
            config={**config, "provenance": provenance},
            settings=wandb.Settings(silent=True, console="off"),
        )
    except (wandb.errors.Error, ValueError) as error:
        what = f"Weights & Biases refuses the run: {error}"
        raise UserError(what, "set WANDB_MODE=offline to track it here; wandb sync sends it later", "--wandb") from None
    return WandbLogger(experiment=run, log_model=checkpoints)
