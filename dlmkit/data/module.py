"""The base of every data module: batches as a pure function of split, epoch and position."""

from __future__ import annotations

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dlmkit.errors import UserError, at_least
from dlmkit.seeds import run_seed

__all__ = ["Batch", "DataModule", "Split"]

Split = Literal["train", "val", "test"]
Batch = dict[str, Tensor]


class DataModule(LightningDataModule, ABC):
    """A data module whose every batch follows from (split, epoch, position) alone.

    A child says how many batches a split has and what each one is. From that follows what a run promises: it
    resumes at the very batch where it was stopped, and several processes see together what one would see.

    Every public property of a child that is also a parameter of the model (``vocab_size``, ``num_classes``) is
    handed to the model by name.

    Args:
        batch_size: Examples in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If the batch cannot be split evenly among the processes.
    """

    def __init__(self, batch_size: int = 32, num_workers: int = 0) -> None:
        super().__init__()
        at_least(1, "data.", batch_size=batch_size)
        at_least(0, "data.", num_workers=num_workers)
        self.batch_size = batch_size
        self.num_workers = num_workers

    @property
    def seed(self) -> int:
        """The run's seed (``seed_everything``), from which a child derives every random choice."""
        return run_seed()

    @abstractmethod
    def batches(self, split: Split) -> int:
        """The number of batches in one epoch of a split."""

    @abstractmethod
    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of one batch.

        Args:
            split: ``train``, ``val`` or ``test``.
            epoch: Counted from 0; 0 for validation and test.
            index: Position in the epoch, from 0 to ``batches(split) - 1``.
            rank: This process, from 0 to ``world - 1``.
            world: The number of processes; the parts of all ranks together are the batch of one process.

        Returns:
            Named tensors, examples first.
        """

    def describe(self) -> str:
        """One line on what the data is, for the screen."""
        return f"{self.batches('train')} training batches of {self.batch_size}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """What simple methods reach on the test split: metric name to method to figure."""
        return {}

    def save(self, folder: str) -> None:
        """Write what a trained model needs of the data (a tokenizer, say) into the run folder."""

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training batches of this process, resumable at any position."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation batches of this process."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test batches of this process."""
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[Batch]:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        if self.batch_size % world:
            remedy = f"give a multiple of {world} as data.batch_size"
            raise UserError(f"a batch of {self.batch_size} does not divide among {world} processes", remedy)
        return ResumableLoader(self, split, rank, world)


class _Positions(Sampler[tuple[int, int]]):
    """Yields (epoch, index); Lightning sets the epoch, a resumed run the first index."""

    def __init__(self, count: int, moves: bool) -> None:
        self.count, self.moves = count, moves
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        if self.moves:  # validation and test are the same in every epoch
            self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        for index in range(start, self.count):
            yield self.epoch, index


class _Batches(Dataset[Batch]):
    def __init__(self, data: DataModule, split: Split, rank: int, world: int) -> None:
        self.data, self.split, self.rank, self.world = data, split, rank, world

    def __getstate__(self) -> dict[str, Any]:
        """What a loading process is given where it is no copy of this one: the data without the trainer."""
        data = copy.copy(self.data)
        data.trainer = None
        return {**vars(self), "data": data}

    def __getitem__(self, position: tuple[int, int]) -> Batch:
        epoch, index = position
        return _Told(self.data.batch(self.split, epoch, index, self.rank, self.world))


class _Told(Batch):
    """A batch that says so if a model reads what the data do not tell."""

    def __missing__(self, name: str) -> Tensor:
        reader = sys._getframe(1)
        file = Path(reader.f_code.co_filename)
        place = f"{file.parent.name}/{file.name}:{reader.f_lineno}"
        what = f"the model reads {name!r} of a batch ({place}), and these data tell {', '.join(self)}"
        remedy = "give data that the model is made for; dlmkit show MODEL lists recipes"
        raise UserError(what, remedy, "data.class_path")


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader that Lightning can save and restore in the middle of an epoch.

    The position is taken from the trainer's count of batches that were trained on, not from what the loader has
    fetched, so batches loaded ahead are not lost. A position at the end of an epoch is the start of the next.

    Args:
        data: The data module.
        split: Which of its splits.
        rank: This process.
        world: The number of processes.
    """

    def __init__(self, data: DataModule, split: Split, rank: int, world: int) -> None:
        self.positions = _Positions(data.batches(split), moves=split == "train")
        super().__init__(
            _Batches(data, split, rank, world),
            batch_size=None,
            sampler=self.positions,
            num_workers=data.num_workers,
            persistent_workers=data.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self._trainer = data.trainer

    def __len__(self) -> int:
        return len(self.positions)

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position of the next batch to train on."""
        if self._trainer is None:
            return {"epoch": self.positions.epoch, "index": self.positions.start}
        progress: Any = self._trainer.fit_loop.epoch_loop.batch_progress.current
        done = progress.processed
        total = min(len(self), int(self._trainer.num_training_batches))
        return {"epoch": self.positions.epoch + (done >= total), "index": done % total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next epoch's iteration at a saved position."""
        self.positions.epoch, self.positions.start = state["epoch"], state["index"]
