"""Makes the run folder at the last moment, fills it, and tells everything else where it is."""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

from dlmkit import runs
from dlmkit.callbacks.checkpoints import LastCheckpoint
from dlmkit.callbacks.media import ShowMedia
from dlmkit.data.module import DataModule
from dlmkit.errors import UserError
from dlmkit.screen import print_rows
from dlmkit.tracking import MetricsFile, wandb_logger

__all__ = ["RunFolder", "Tracking"]


@dataclass
class Tracking:
    """Whether and how a run is tracked in Weights & Biases.

    Args:
        project: The W&B project; None tracks nothing.
        checkpoints: Whether checkpoints go up as artifacts.
    """

    project: str | None = None
    checkpoints: bool = False


@dataclass
class RunFolder(Callback):
    """The first callback of a run: everything was built and checked, so now there may be a folder.

    Args:
        parent: Where run folders go.
        name: The run's own name, if the user gave one.
        recipe: The recipe's name.
        recipe_text: The recipe as written.
        config_text: The whole resolved configuration, as YAML.
        config: The same, as plain values.
        packages: The distributions of the plugins it uses.
        tracking: Whether and how to track in W&B.
        resumed: The folder of the run to go on with.
    """

    parent: Path
    name: str | None
    recipe: str
    recipe_text: str
    config_text: str
    config: dict[str, Any]
    packages: list[str]
    tracking: Tracking
    resumed: Path | None = None
    folder: Path = field(default=Path(), init=False)
    lock: FileLock | None = field(default=None, init=False)
    record: dict[str, Any] = field(default_factory=dict, init=False)
    tracker: WandbLogger | None = field(default=None, init=False)
    metrics: MetricsFile | None = field(default=None, init=False)

    def __hash__(self) -> int:
        return id(self)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Name and fill the folder on the first process, and tell all processes of it."""
        if stage != "fit":
            return
        fault = None
        if trainer.is_global_zero:
            try:
                self._open(trainer)
            except UserError as error:
                fault = error
        folder, fault = trainer.strategy.broadcast((str(self.folder), fault))
        if fault is not None:  # on every process, so that none waits for the first, which tells it
            self.discard(trainer)
            raise fault if trainer.is_global_zero else SystemExit(2)
        self.folder = Path(folder)
        self._place(trainer)
        if trainer.is_global_zero:
            print_rows({"run": str(self.folder)})

    def _open(self, trainer: Trainer) -> None:
        """Make the folder or take hold of it, and start the tracker."""
        self.folder = self.resumed or runs.create(self.parent, self.name, self.recipe)
        self.hold(self.folder)
        self.record = self._recorded(trainer)
        if self.resumed is None:
            self.write(trainer)
        if self.tracking.project is not None:
            known = self.record["wandb"]
            self.tracker = wandb_logger(
                self.folder, known["project"], self.config, self.record, known["id"], self.tracking.checkpoints
            )

    def hold(self, folder: Path) -> None:
        """Keep a run's folder to this process until it is released.

        Raises:
            UserError: If another process has it.
        """
        self.lock = self.lock or runs.hold(folder)

    def release(self) -> None:
        """Let other processes have it."""
        if self.lock is not None:
            self.lock.release()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What can be gone on with is a new run from here on: forget the figures that it will log again."""
        if self.metrics is None:
            return
        if self.resumed is not None:
            self.write(trainer)
            self.metrics.rewind(trainer.global_step)
            (self.folder / "summary.json").unlink(missing_ok=True)  # it is no longer what has come out
        self.metrics.times.start()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a resumed run's loader be set to where it is, also where an optimiser's schedule has counted batches."""
        trainer.fit_loop._combined_loader = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock: the test is no training."""
        if self.metrics is not None:
            self.metrics.times.stop(trainer.global_step - 1)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The run may lie elsewhere than when it was stopped: what it keeps of its checkpoints is where it is now."""
        here = str(self.folder / "checkpoints")
        states = checkpoint.get("callbacks", {})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            state = states.get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and callback.dirpath == here and state:
                states[callback.state_key] = _moved(state, state["dirpath"], here)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the clock, and close the tracker, so that what it has is on disk; a mistake told at once leaves none."""
        if self.metrics is not None:
            self.metrics.times.stop(trainer.global_step - 1)
        self.close(trainer, "failed")
        if isinstance(exception, UserError) and not trainer.global_step:
            self.discard(trainer)

    def discard(self, trainer: Trainer) -> None:
        """Leave no folder, unless the run was one before."""
        if self.resumed is None and self.folder != Path() and trainer.is_global_zero:
            self.release()
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self, trainer: Trainer, status: str) -> None:
        """Tell the loggers that the run is over; Weights & Biases writes what it still holds."""
        for logger in trainer.loggers:
            logger.finalize(status)
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=0 if status == "success" else 1)

    def _recorded(self, trainer: Trainer) -> dict[str, Any]:
        """How the run comes about, and how it was resumed."""
        devices = f"{trainer.world_size} × {trainer.strategy.root_device.type}"
        record = runs.provenance(self.packages, self.config.get("seed_everything"), devices)
        if self.resumed is not None:
            before = runs.Run(self.resumed).provenance
            record = {**before, "resumed": [*before.get("resumed", []), record]}
        if self.tracking.project is not None:
            run_id = re.sub(r"[:;,#?/']", "-", f"{self.folder.name[:50]}-{secrets.token_hex(4)}")
            known = record.setdefault("wandb", {"id": run_id, "project": self.tracking.project})
            known["checkpoints"] = self.tracking.checkpoints
        return record

    def write(self, trainer: Trainer) -> None:
        """Keep on the first process what the run is made from."""
        if not trainer.is_global_zero:
            return
        if self.resumed is None:
            runs.write_text(self.folder / "recipe.yaml", self.recipe_text)
        runs.write_text(self.folder / "config.yaml", self.config_text)
        runs.write_json(self.folder / "provenance.json", self.record)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, DataModule):
            data.save(str(self.folder))

    def _place(self, trainer: Trainer) -> None:
        """Point checkpoints, media and loggers at the folder."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder / "checkpoints")
            elif isinstance(callback, LastCheckpoint):
                callback.path = self.folder / "checkpoints" / "last.ckpt"
            elif isinstance(callback, ShowMedia):
                callback.folder = self.folder / "media"
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):  # one that the recipe itself asks for
                logger.experiment.config.update(self.config, allow_val_change=True)
        self.metrics = MetricsFile(self.folder / "metrics.csv")
        loggers = [*trainer.loggers, self.metrics]
        if self.tracker is not None:
            loggers.append(self.tracker)
        trainer.loggers = loggers


def _moved(value: Any, old: str, new: str) -> Any:
    """A callback's state with the paths in one folder written as paths in another."""
    if isinstance(value, dict):
        return {_moved(k, old, new): _moved(v, old, new) for k, v in value.items()}
    return new + value[len(old) :] if isinstance(value, str) and value.startswith(old) else value
