"""Calls a task's ``show`` at a chosen pace and puts what it returns where people look."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from dlmkit.errors import UserError
from dlmkit.media import Media

__all__ = ["ShowMedia"]


class ShowMedia(Callback):
    """Writes the media of ``show`` into the run's ``media/`` and to Weights & Biases.

    It is called on the first batch of a validation and of the test, on the first process, in evaluation mode. A
    ``show`` that fails costs its pictures, not the run: the failure is told on the screen and kept in ``faults``.

    Args:
        every: Show at each ``every``-th validation; 0 shows only at the test. When left out, each, or in a resumed run
            as often as before.
    """

    def __init__(self, every: int | None = None) -> None:
        self.given = every
        self.every = 1 if every is None else every
        self.folder: Path | None = None
        self.latest: dict[str, Path] = {}
        self.latest_media: dict[str, Media] = {}
        self.faults: list[str] = []
        self._validations = 0

    def state_dict(self) -> dict[str, Any]:
        """How many validations there have been, and how often it shows."""
        return {"validations": self._validations, "every": self.every}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up."""
        self._validations = state_dict["validations"]
        if self.given is None:
            self.every = state_dict.get("every", self.every)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show on the first batch of every ``every``-th validation."""
        if batch_idx == 0 and dataloader_idx == 0 and not trainer.sanity_checking:
            if self.every and self._validations % self.every == 0:
                self._show(trainer, pl_module, batch, f"{trainer.global_step:07d}")
            self._validations += 1

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show on the first batch of the test."""
        if batch_idx == 0 and dataloader_idx == 0:
            self._show(trainer, pl_module, batch, "test")

    def _show(self, trainer: Trainer, task: LightningModule, batch: Any, suffix: str) -> None:
        show = getattr(task, "show", None)
        if show is not None:
            self.put(trainer, lambda: show(batch), f"show of {type(task).__name__}", suffix)

    def put(self, trainer: Trainer, make: Callable[[], Mapping[str, Media]], what: str, suffix: str) -> None:
        """Write media of anybody's as those of ``show`` are written.

        Args:
            trainer: Of the run.
            make: Makes them, by name, without gradients; where it fails, only the media are lost.
            what: Who makes them, for the line that tells of the failure.
            suffix: What their files' names end with.
        """
        if self.folder is None or not trainer.is_global_zero:
            return
        try:
            with torch.no_grad():
                media: dict[str, Media] = dict(make())
                files = {name: item.save(self.folder, f"{name}-{suffix}") for name, item in media.items()}
                self._track(trainer, media, files)
        except UserError as error:
            self.faults.append(f"{what}: {error}")
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
            place = f"{frames[0].filename}:{frames[0].lineno}: " if frames else ""
            self.faults.append(f"{place}{what} failed: {type(error).__name__}: {error}")
        else:
            self.latest |= files
            self.latest_media |= media

    def _track(self, trainer: Trainer, media: dict[str, Media], files: dict[str, Path]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                shown = {f"media/{name}": item.tracked(files[name]) for name, item in media.items()}
                logger.experiment.log({**shown, "trainer/global_step": trainer.global_step})
