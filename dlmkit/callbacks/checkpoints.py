"""Checkpoints from which a run ends as if it had never stopped, and stopping at a batch boundary."""

from __future__ import annotations

import io
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from dlmkit.runs import write_whole

__all__ = ["Interrupted", "LastCheckpoint", "WholeFiles"]

_BETWEEN = 10  # batches, after which several processes agree on whether to stop


class Interrupted(Exception):
    """The run was asked to stop, and has.

    Args:
        signum: The signal that asked.
        step: The step from which it will go on, or None where there is no checkpoint yet.
    """

    def __init__(self, signum: int, step: int | None) -> None:
        super().__init__(signum, step)
        self.signum, self.step = signum, step


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint so that at any moment there is the old one or the new one, whole.

    Lightning writes it into the folder for temporary files, and moves it. Between two file systems that is a copy, of
    which a half is left when the process is killed or the disk is full.
    """

    @classmethod
    def serve(cls, trainer: Trainer) -> None:
        """Let a trainer's checkpoints be written so, unless its strategy or the recipe has a way of its own."""
        strategy = trainer.strategy
        if isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)) and strategy._checkpoint_io is None:
            strategy.checkpoint_io = cls()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What Lightning has gathered.
            path: Its file.
            storage_options: Not used.

        Raises:
            OSError: If it cannot be written; what was there before is still there then.
        """
        content, target = io.BytesIO(), Path(path)
        torch.save(checkpoint, content)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content.getbuffer())


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``, and stops a run on Ctrl-C or SIGTERM without losing it.

    It is written after every validation, at the end, when the run is stopped, and at a pace in between; never between
    a batch and the validation that follows it, because a run resumed there would leave that validation out.

    A training whose interval leaves out its last steps is validated at its end nevertheless, so that they, too, may
    have made the best checkpoint; a longer run goes on from before that validation, which it would not have had.

    Args:
        pace: Seconds between two checkpoints.
    """

    def __init__(self, pace: float = 60.0) -> None:
        self.pace = pace
        self._final = False
        self.path: Path | None = None
        self.saved_step: int | None = None
        self._saved_at = time.monotonic()
        self._signal: int | None = None
        self._torn = False
        self._unasked = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals."""
        self._saved_at = time.monotonic()
        self.saved_step = trainer.global_step if self.path is not None and self.path.exists() else None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._asked)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Hand the signals back."""
        self._hand_back()

    def _hand_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save at the pace; stop if asked."""
        done = batch_idx + 1
        self._unasked += 1
        self._torn = done % trainer.accumulate_grad_batches != 0 and done < trainer.num_training_batches
        if self._torn or validation_follows(trainer, batch_idx):
            return
        if _training_ends(trainer, batch_idx):
            # Saved here, inside the epoch, so that a longer run goes on from it; a signal is obeyed in on_train_end.
            self._save(trainer)
            self._ask_for_validation(trainer)
            return
        several = trainer.world_size > 1
        if several and self._unasked < _BETWEEN:
            return  # agreeing costs a message, so processes that run together do it now and then
        self._unasked = 0
        stop, due = self._signal is not None, time.monotonic() - self._saved_at >= self.pace
        if several:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            due = trainer.strategy.broadcast(due)
        if stop or due:
            # Lightning logs this batch only after this hook; a run that ends here would lack the row.
            trainer._logger_connector.update_train_step_metrics()
            self._save(trainer)
        if stop:
            raise Interrupted(self._signal or signal.SIGINT, self.saved_step)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop if asked, without waiting for a long validation: the last checkpoint stands before it."""
        if self._signal is not None and trainer.world_size == 1 and trainer.state.fn == "fit" and not self._final:
            raise Interrupted(self._signal, self.saved_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save with the validation's outcome, unless gradients are being accumulated, which no checkpoint holds."""
        self._unasked = _BETWEEN  # a validation may have been long
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self._torn and not self._final:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where training is ended early, before an average takes the weights' place at its end."""
        if trainer.should_stop and self.saved_step != trainer.global_step:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where training ended, and hand the signals back."""
        if self.saved_step != trainer.global_step:
            self._save(trainer)
        self._hand_back()
        if self._signal is not None:
            raise Interrupted(self._signal, self.saved_step)

    def _ask_for_validation(self, trainer: Trainer) -> None:
        """Lightning validates before it stops early, and this is how it is told to."""
        if trainer.enable_validation:
            self._final = trainer.should_stop = True
            if trainer.check_val_every_n_epoch is not None:
                trainer.check_val_every_n_epoch = 1

    def _save(self, trainer: Trainer) -> None:
        if self.path is not None:
            trainer.save_checkpoint(self.path)
            self._saved_at, self.saved_step = time.monotonic(), trainer.global_step

    def _asked(self, signum: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt  # asked twice: at once
        self._signal = signum


def _training_ends(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this is the last batch that the run was asked for."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    last_epoch = trainer.max_epochs is not None and 0 < trainer.max_epochs <= trainer.current_epoch + 1
    return last_epoch and batch_idx + 1 >= trainer.num_training_batches


def validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether Lightning validates after this training batch."""
    interval, per_epoch = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if not trainer.enable_validation:
        return False
    if trainer.should_stop and trainer.fit_loop._can_stop_early:
        return per_epoch is None or (trainer.current_epoch + 1) % per_epoch == 0
    if interval in (None, float("inf")):
        return False
    last = batch_idx + 1 >= trainer.num_training_batches
    if per_epoch is None:  # counted over epochs
        total = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        return bool(total % interval == 0)
    if (trainer.current_epoch + 1) % per_epoch:
        return False
    return last if interval == float("inf") else bool((batch_idx + 1) % interval == 0)
