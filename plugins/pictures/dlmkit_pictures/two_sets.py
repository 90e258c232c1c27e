"""Two sets of pictures from folders or from a dataset by name, which do not belong to each other.

Dimensions: N and M pictures of a split, C channels, S side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dlmkit.data.hub import splits_with_train
from dlmkit.data.module import Batch, Split
from dlmkit.errors import UserError
from dlmkit_pictures.files import (
    Channels,
    Picture,
    appended,
    as_bytes,
    holds_pictures,
    list_pictures,
    read_picture,
    squared,
)
from dlmkit_pictures.paired import check_side_and_shares, dataset_pictures, shares, split_folders
from dlmkit_pictures.pairs import as_channels
from dlmkit_pictures.unpaired import Unpaired

__all__ = ["UnpairedPictures"]

_REMEDY = "check the spelling, the connection and HF_HUB_OFFLINE, or give two local folders"
_Named = tuple[tuple[str, Picture], ...]
"""A picture and what it is called, and behind it its partner in the other look, where it is known."""


class UnpairedPictures(Unpaired):
    """Two sets of pictures, each from a folder of its own, or from two columns of a dataset.

    Folders may be divided into ``train``, ``val`` and ``test``; what is missing is taken from the training pictures,
    always the same ones. Of each picture the middle is taken as a square and brought to one size. What is transparent
    lies on white, 16 bits become 8, grey is repeated as colour, and colour becomes grey where one channel is asked for.

    References:
        | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017), for horses
          and zebras

    Args:
        a: The folder of the pictures of look a, or a dataset's name, such as huggan/horse2zebra.
        b: The folder of the pictures of look b; left out for a dataset.
        columns: Of a dataset: those that hold the pictures of look a and of look b.
        disjoint: Of the names that both folders have, take one half in look a and the other half in look b, so that no
            picture is seen in both looks. Where every picture has a partner, validation and test know the truth.
        side: Pixels that a picture is brought to along one side.
        a_channels: Of the pictures of look a: 1 for grey, 3 for colour.
        b_channels: Of the pictures of look b.
        val_share: Of the training pictures, where there is no split for validation.
        test_share: Of the training pictures, where there is no split for the test.
        batch_size: Pictures of each look in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If a share or the side makes no sense, or the one folder is a folder of pictures; and, when the
            pictures are first needed, if they cannot be read.
    """

    def __init__(
        self,
        a: str,
        b: str | None = None,
        columns: tuple[str, str] = ("imageA", "imageB"),
        disjoint: bool = False,
        side: int = 64,
        a_channels: Channels = 3,
        b_channels: Channels = 3,
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        check_side_and_shares(side, val_share, test_share, "pictures")
        if b is None and holds_pictures(a):
            raise UserError("there is one folder, of look a alone", "name that of look b as data.b", a)
        if disjoint and b is None:
            what = "disjoint halves the names that two folders have, and a dataset has no names"
            raise UserError(what, "leave it out, or name the folder of look b as data.b", "data.disjoint")
        self.places = (a, b)
        self.columns, self.disjoint, self.edge = columns, disjoint, side
        self.channels = (a_channels, b_channels)
        self.val_share, self.test_share = val_share, test_share

    @property
    def a_channels(self) -> int:
        """Of the pictures of look a: 1 for grey, 3 for colour."""
        return self.channels[0]

    @property
    def b_channels(self) -> int:
        """Of the pictures of look b."""
        return self.channels[1]

    @property
    def side(self) -> int:
        """Pixels along one side."""
        return self.edge

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pictures of a split, of look a (N, C, S, S) and of look b (M, C', S, S), uint8."""
        a, b = self._tables[0]
        return a[split][0], b[split][0]

    def describe(self) -> str:
        """Where they come from, how many there are, and what had to be changed."""
        counts = ", ".join(
            f"{len(table['train'][0]):,} of {look}" for table, look in zip(self._tables[0], "ab", strict=True)
        )
        where = " and ".join(filter(None, self.places))
        size = f"{self.edge} × {self.edge} pixels"
        return f"{where}, {size}, {counts} for training{appended(self._tables[1])}"

    def known(self, split: Split, rows: Tensor) -> Batch:
        """How pictures look in the other look, ``a_truth`` and ``b_truth``, where all have a partner."""
        tables = self._tables[0]
        looks = zip(("a", "b"), (tables[0][split], tables[1][split]), strict=True)
        return {f"{look}_truth": table[1][rows] / 255 for look, table in looks if len(table) == 2}

    def baselines(self) -> dict[str, dict[str, float]]:
        """How far the pictures as they are lie from the truth, where it is known."""
        rows = torch.arange(self.size("test"))
        batch = self.take("test", rows)
        ways = [("a", "b")] * ("a_truth" in batch) + [("b", "a")] * ("b_truth" in batch)
        return {
            f"test/l1_{look}{other}": {
                "as it is": float(
                    (as_channels(batch[look], batch[other].shape[1]) - batch[f"{look}_truth"]).abs().mean()
                )
            }
            for look, other in ways
        }

    @cached_property
    def _tables(self) -> tuple[list[dict[Split, tuple[Tensor, ...]]], list[tuple[str, tuple[str, ...]]]]:
        """For each look and split its pictures, and behind them their truth where it is known; and what was changed."""
        tables, read = [], []
        for look, named in enumerate(self._sets()):
            found: dict[Split, tuple[Tensor, ...]] = {}
            for split, pictures in named.items():
                rows: list[list[Tensor]] = []
                for each in pictures:
                    made = [(name, squared(picture, self.edge)) for name, picture in each]
                    rows.append([as_bytes(picture.pixels) for _, picture in made])
                    read += [(name, picture.changes) for name, picture in made]
                if not rows:
                    what = f"{split} has no picture of look {'ab'[look]}"
                    raise UserError(what, "give more", str(self.places[look] or self.places[0]))
                columns = zip(*([row[:1] for row in rows] if min(map(len, rows)) == 1 else rows), strict=True)
                found[split] = tuple(torch.stack(column) for column in columns)
            kept = shares({split: len(table[0]) for split, table in found.items()}, self)
            tables.append({split: tuple(table[row] for table in found[of]) for split, (of, row) in kept.items()})
        return tables, read

    def _sets(self) -> list[dict[Split, Iterable[_Named]]]:
        """The pictures of look a and of look b, read one by one, for each split that there is."""
        a, b = self.places
        if b is not None:
            folders = [split_folders(place) for place in (a, b)]
            if self.disjoint and folders[0].keys() != folders[1].keys():
                what = f"it is divided into {', '.join(folders[0])}, and {b} into {', '.join(folders[1])}, so a picture"
                raise UserError(f"{what} could be seen in both looks", "divide both alike, or leave out disjoint", a)
            return [{split: self._of_folder(folders, which, split) for split in folders[which]} for which in (0, 1)]
        found = splits_with_train(a, _REMEDY)
        return [
            {
                split: (
                    ((f"{a}, row {row}", picture),)
                    for row, picture in enumerate(dataset_pictures(rows, column, self.channels[which], a))
                )
                for split, rows in found.items()
            }
            for which, column in enumerate(self.columns)
        ]

    def _of_folder(self, folders: list[dict[Split, Path]], which: int, split: Split) -> Iterator[_Named]:
        left_out: set[str] = set()
        partners: dict[str, Path] = {}
        if self.disjoint and split in folders[1 - which]:
            mine, partners = ({p.stem: p for p in list_pictures(folders[i][split])} for i in (which, 1 - which))
            both = sorted(mine.keys() & partners.keys())
            order = torch.randperm(len(both), generator=torch.Generator().manual_seed(0)).tolist()
            left_out = {both[place] for place in (order[1::2] if which == 0 else order[::2])}
        for path in list_pictures(folders[which][split]):
            if path.stem not in left_out:
                pair = ((path, which), *([(partners[path.stem], 1 - which)] if path.stem in partners else []))
                yield tuple((str(one), read_picture(one, self.channels[look])) for one, look in pair)
