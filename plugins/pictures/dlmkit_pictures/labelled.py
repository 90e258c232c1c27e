"""Pictures with a class, from a Hugging Face dataset or from a folder for each class.

Dimensions: N pictures, C channels, S side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlmkit.data.hub import splits_with_train
from dlmkit.data.module import Split
from dlmkit.errors import UserError
from dlmkit_pictures.files import Channels, squared
from dlmkit_pictures.paired import dataset_pictures
from dlmkit_pictures.pictures import ReadPictures

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["LabelledPictures"]

_PICTURE, _LABEL = ("image", "img"), ("label", "labels", "fine_label")
"""What the columns of a dataset may be called."""


class LabelledPictures(ReadPictures):
    """Pictures with a class each: a Hugging Face dataset such as CIFAR-10, or folders ``train/CLASS``, ``test/CLASS``.

    The middle of each picture is made a square of the wanted size. Where there is no validation set, some training
    pictures are kept for it, and others for the test where there is none.

    References:
        | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009), for CIFAR-10

    Args:
        source: The name of a Hugging Face dataset, or a folder.
        image_size: Pixels S along one side.
        picture_channels: 1 for grey, 3 for colour.
        val_size: Training pictures that are kept for validation, where it has no set of its own.
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If an option is out of range; and, when the pictures are first needed, if they cannot be read.
    """

    def __init__(
        self,
        source: str = "uoft-cs/cifar10",
        image_size: int = 32,
        picture_channels: Channels = 3,
        val_size: int = 5_000,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        for name, value, least in (("image_size", image_size, 4), ("val_size", val_size, 1)):
            if value < least:
                raise UserError(f"{name} is {value}", f"give at least {least}", f"data.{name}")
        self.source, self.image_size = source, image_size
        self.picture_channels: Channels = picture_channels
        self.val_size = val_size

    def describe(self) -> str:
        """Where they are from, size and splits."""
        size = f"{self.image_size} × {self.image_size} pixels"
        return f"{self.source}: {size}, {self.num_classes} classes; {self.sizes('pictures')}{self.changed()}"

    def read(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Pictures (N, C, S, S) and their classes."""
        remedy = "give a dataset's name or a folder as data.source, or check the connection"
        found = {split: self._read(rows, split) for split, rows in splits_with_train(self.source, remedy).items()}
        for split in ("val", "test"):
            if split not in found:
                found["train"], found[split] = self._kept(*found["train"])
        return found

    def _kept(self, pictures: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """What is left of the training pictures, and what is kept of them: the same in every run."""
        if len(labels) <= self.val_size:
            what = f"val_size {self.val_size:,} leaves nothing of {len(labels):,} training pictures"
            raise UserError(what, f"give at most {len(labels) - 1:,}", "data.val_size")
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        kept, left = order[: self.val_size].sort().values, order[self.val_size :].sort().values
        return (pictures[left], labels[left]), (pictures[kept], labels[kept])

    def _read(self, rows: Dataset, split: Split) -> tuple[Tensor, Tensor]:
        names = [next((name for name in known if name in rows.column_names), None) for known in (_PICTURE, _LABEL)]
        if None in names or not len(rows):
            what = f"its {split} split has {len(rows):,} rows of {', '.join(rows.column_names) or 'no columns'}"
            raise UserError(what, "give a dataset with the columns image and label", self.source)
        picture, label = names
        labels = list(rows[label])
        if None in labels:
            remedy = "put pictures into a folder for each class, train/CLASS, and leave no folder empty"
            raise UserError(f"of its {split} pictures {labels.count(None):,} have no class", remedy, self.source)
        pictures = torch.empty(len(rows), self.picture_channels, self.image_size, self.image_size)
        where = f"{self.source}, {split}"
        for number, read in enumerate(dataset_pictures(rows, str(picture), self.picture_channels, where)):
            made = squared(read, self.image_size)
            pictures[number] = (made.pixels * 255).round() / 255
            self.note(f"{where}, row {number}", made.changes)
        return pictures, torch.tensor(labels)
