"""Pictures with a class, from a Hugging Face dataset or from a folder for each class.

Dimensions: N pictures, C channels, S side.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlmkit.data.hub import splits_with_train
from dlmkit.data.module import Split
from dlmkit.errors import UserError, at_least, did_you_mean
from dlmkit_pictures.cifar import cifar_version, read_cifar
from dlmkit_pictures.files import (
    Channels,
    Picture,
    folders_in,
    holds_pictures,
    list_pictures,
    read_picture,
    squared,
    unpack,
)
from dlmkit_pictures.paired import dataset_pictures, split_folders
from dlmkit_pictures.pictures import ReadPictures

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["LabelledPictures"]

_PICTURE, _LABEL = ("image", "img"), ("label", "labels", "fine_label")
"""What the columns of a dataset may be called."""

_CLASSES = "put pictures into a folder for each class, train/CLASS and test/CLASS"


class LabelledPictures(ReadPictures):
    """Pictures with a class each: a Hugging Face dataset such as CIFAR-10, or folders ``train/CLASS``, ``test/CLASS``.

    A folder may also hold the binary version of CIFAR-10 or CIFAR-100 (``data_batch_1.bin`` and so on). The middle of
    each picture is made a square of the wanted size. Where there is no validation set, some training pictures are kept
    for it, and others for the test where there is none.

    References:
        | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009), for CIFAR-10

    Args:
        source: The name of a Hugging Face dataset, or a folder of class folders or of CIFAR's binary files.
        image_size: Pixels S along one side.
        picture_channels: 1 for grey, 3 for colour.
        val_size: Training pictures that are kept for validation where it has no set of its own, and as many for the
            test where that has none.
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
        at_least(4, "data.", image_size=image_size)
        at_least(1, "data.", val_size=val_size)
        self.source, self.image_size = source, image_size
        self.picture_channels: Channels = picture_channels
        self.val_size = val_size

    def describe(self) -> str:
        """Where they are from, size and splits."""
        size = f"{self.image_size} × {self.image_size} pixels"
        return f"{self.source}: {size}, {self.num_classes} classes; {self.sizes('pictures')}{self.changed()}"

    def read(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Pictures (N, C, S, S) and their classes."""
        folder = Path(self.source).expanduser()
        version = cifar_version(folder)
        if version is not None:
            sets = read_cifar(folder, version)
            found = {split: (self._of_bytes(pictures, split), labels) for split, (pictures, labels) in sets.items()}
        elif holds_pictures(self.source):
            found = self._of_folders(split_folders(self.source))
        else:
            remedy = "give a dataset's name or a folder as data.source, or check the connection"
            splits = splits_with_train(self.source, remedy)
            found = {split: self._of_rows(rows, split) for split, rows in splits.items()}
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

    def _of_folders(self, splits: dict[Split, Path]) -> dict[Split, tuple[Tensor, Tensor]]:
        """The pictures of folders, one for each class, which are numbered as they follow by name."""
        inner = {split: folders_in(place) for split, place in splits.items()}
        classes = [folder.name for folder in inner["train"]]
        found: dict[Split, tuple[Tensor, Tensor]] = {}
        for split, folders in inner.items():
            unknown = next((folder for folder in folders if folder.name not in classes), None)
            if unknown is not None:
                remedy = did_you_mean(unknown.name, classes, f"the training has {', '.join(classes[:5])}")
                raise UserError("the training has no class of that name", remedy, str(unknown))
            if not folders:
                raise UserError("there is no folder in it that could be a class", _CLASSES, str(splits[split]))
            files = [(path, classes.index(folder.name)) for folder in folders for path in list_pictures(folder)]
            read = ((str(path), read_picture(path, self.picture_channels)) for path, _ in files)
            found[split] = self._made(read, len(files)), torch.tensor([label for _, label in files])
        return found

    def _of_bytes(self, pictures: Tensor, split: Split) -> Tensor:
        """Colour pictures (N, 3, 32, 32), uint8, in the wanted size and channels."""
        from PIL import Image

        names = (f"{self.source}, {split} picture {number}" for number in range(len(pictures)))
        opened = zip(names, map(Image.fromarray, pictures.permute(0, 2, 3, 1).contiguous().numpy()), strict=True)
        return self._made(((name, unpack(each, self.picture_channels, name)) for name, each in opened), len(pictures))

    def _made(self, read: Iterable[tuple[str, Picture]], count: int) -> Tensor:
        """Pictures in the wanted size (N, C, S, S), and a note of what was changed in each."""
        pictures = torch.empty(count, self.picture_channels, self.image_size, self.image_size)
        for number, (name, picture) in enumerate(read):
            made = squared(picture, self.image_size)
            pictures[number] = (made.pixels * 255).round() / 255
            self.note(name, made.changes)
        return pictures

    def _of_rows(self, rows: Dataset, split: Split) -> tuple[Tensor, Tensor]:
        names = [next((name for name in known if name in rows.column_names), None) for known in (_PICTURE, _LABEL)]
        if None in names or not len(rows):
            what = f"its {split} split has {len(rows):,} rows of {', '.join(rows.column_names) or 'no columns'}"
            raise UserError(what, "give a dataset with the columns image and label", self.source)
        picture, label = names
        labels = list(rows[label])
        if None in labels:
            what = f"of its {split} pictures {labels.count(None):,} have no class"
            raise UserError(what, "leave them out", self.source)
        if not all(isinstance(each, int) for each in labels):
            what = f"the classes of its {split} pictures are no whole numbers, such as {labels[0]!r}"
            raise UserError(what, "give a dataset whose column label is a ClassLabel", self.source)
        where = f"{self.source}, {split}"
        read = dataset_pictures(rows, str(picture), self.picture_channels, where)
        named = ((f"{where}, row {number}", each) for number, each in enumerate(read))
        return self._made(named, len(rows)), torch.tensor(labels)
