"""Where a run's figures go: ``metrics.csv`` always, Weights & Biases when asked."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from dlmkit.errors import UserError

__all__ = ["MetricsFile", "wandb_logger", "wandb_ready"]


class MetricsFile(Logger):
    """Writes ``metrics.csv``: a row for each step at which something was logged.

    Unlike Lightning's CSVLogger it goes on with the file of a resumed run, and each row is on disk at once.

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

    def latest(self) -> dict[str, float]:
        """The last figure of each metric."""
        return {k: float(v) for row in self.rows for k, v in row.items() if k not in ("step", "epoch")}

    def _write_all(self) -> None:
        draft = self.path.with_name(f".{self.path.name}")
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        draft.replace(self.path)


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
    """
    import wandb

    run = wandb.init(
        project=project,
        id=run_id,
        name=folder.name,
        dir=folder,
        resume="allow",
        mode=wandb_ready(),  # type: ignore[arg-type]  # decided here, so that W&B never asks for an account
        config={**config, "provenance": provenance},
        settings=wandb.Settings(silent=True, console="off"),
    )
    return WandbLogger(experiment=run, log_model=checkpoints)
