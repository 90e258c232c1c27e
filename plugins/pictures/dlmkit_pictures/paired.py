"""Pairs of pictures from folders, or from a dataset by name.

Dimensions: N pairs of a split, C channels, H height, W width, S side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dlmkit.data.hub import by_split, splits_with_train
from dlmkit.data.module import Split
from dlmkit.errors import UserError, did_you_mean
from dlmkit_pictures.files import (
    Channels,
    Picture,
    appended,
    as_bytes,
    folders_in,
    holds_pictures,
    list_pictures,
    read_picture,
    squared,
)
from dlmkit_pictures.pairs import PicturePairs

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["PairedPictures", "check_side_and_shares", "dataset_pictures", "shares", "split_folders"]

_REMEDY = "check the spelling, the connection and HF_HUB_OFFLINE, or give a local folder"


class _Named(NamedTuple):
    name: str
    picture: Picture


_Pair = tuple[_Named, _Named]
"""What is given, and what is wanted."""


class PairedPictures(PicturePairs):
    """Pairs of pictures: from two folders, from one folder with both side by side, or from a dataset by its name.

    Two folders hold files of the same names (``source/cat.png`` and ``target/cat.jpg``). In one folder each file holds
    both, the given one on the left; such a file is twice as wide as high, as those of facades and maps are. Folders
    may be divided into ``train``, ``val`` and ``test``; what is missing is taken from the training pairs, always the
    same ones. Of each picture the middle is taken as a square and brought to one size. What is transparent lies on
    white, 16 bits become 8, grey is repeated as colour, and colour becomes grey where one channel is asked for.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017), for facades and maps

    Args:
        source: The folder of the given pictures, or of both side by side, or a dataset's name, such as huggan/facades.
        target: The folder of the pictures that they should become.
        columns: Of a dataset: the two that hold the pictures, the given one first.
        swap: Turn the direction round.
        side: Pixels that a picture is brought to along one side.
        in_channels: Of the given pictures: 1 for grey, 3 for colour.
        out_channels: Of the pictures that they should become.
        val_share: Of the training pairs, where there is no split for validation.
        test_share: Of the training pairs, where there is no split for the test.
        batch_size: Pairs in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
        mirror: Turn half of the training pairs round, left to right.
        shift: Move each training pair by up to so many pixels to any side; the edge's pixels fill what is laid bare.

    Raises:
        UserError: If a share, the side or the shift makes no sense; and, when the pairs are first needed, if they
            cannot be read.
    """

    def __init__(
        self,
        source: str,
        target: str | None = None,
        columns: tuple[str, str] = ("imageA", "imageB"),
        swap: bool = False,
        side: int = 64,
        in_channels: Channels = 3,
        out_channels: Channels = 3,
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 16,
        num_workers: int = 0,
        mirror: bool = False,
        shift: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, mirror, shift)
        check_side_and_shares(side, val_share, test_share, "pairs")
        self.source, self.target, self.columns, self.swap = source, target, columns, swap
        self.edge, self.channels = side, (in_channels, out_channels)
        self.val_share, self.test_share = val_share, test_share

    @property
    def in_channels(self) -> int:
        """Of the given pictures: 1 for grey, 3 for colour."""
        return self.channels[0]

    @property
    def out_channels(self) -> int:
        """Of the pictures that they should become."""
        return self.channels[1]

    @property
    def side(self) -> int:
        """Pixels along one side."""
        return self.edge

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pairs of a split (N, C, S, S) and (N, C', S, S), uint8."""
        return self._tables[0][split]

    def describe(self) -> str:
        """Where they come from, how many there are, and what had to be changed."""
        folders = " → ".join(filter(None, [self.source, self.target]))
        size = f"{self.edge} × {self.edge} pixels"
        return f"{folders}, {size}; {self.sizes('pairs')}{appended(self._tables[1])}"

    @cached_property
    def _tables(self) -> tuple[dict[Split, tuple[Tensor, Tensor]], list[tuple[str, tuple[str, ...]]]]:
        tables, read = {}, []
        for split, pairs in self._pairs().items():
            stacked: tuple[list[Tensor], list[Tensor]] = ([], [])
            for pair in pairs:
                _alike(*pair)
                for (name, picture), pixels in zip(pair, stacked, strict=True):
                    made = squared(picture, self.edge)
                    pixels.append(as_bytes(made.pixels))
                    read.append((name, made.changes))
            tables[split] = (torch.stack(stacked[0]), torch.stack(stacked[1]))
        rows = shares({split: len(table[0]) for split, table in tables.items()}, self)
        return {s: (tables[of][0][kept], tables[of][1][kept]) for s, (of, kept) in rows.items()}, read

    def _pairs(self) -> dict[Split, Iterable[_Pair]]:
        """The pairs of each split that there is, read one by one."""
        if self.target is not None:
            ones, others = split_folders(self.source), split_folders(self.target)
            if ones.keys() != others.keys():
                what = f"it is divided into {', '.join(ones)}, and {self.target} into {', '.join(others)}"
                raise UserError(what, "divide both alike", self.source)
            return {split: self._of_folders(folder, others[split]) for split, folder in ones.items()}
        if holds_pictures(self.source):
            return {split: self._of_sheets(folder) for split, folder in split_folders(self.source).items()}
        found = splits_with_train(self.source, _REMEDY)
        return {split: self._of_rows(rows) for split, rows in found.items()}

    def _of_folders(self, one: Path, other: Path) -> Iterator[_Pair]:
        first, second = _by_stem(one), _by_stem(other)
        for have, lack, folder in ((first, second, other), (second, first, one)):
            alone = sorted(have.keys() - lack.keys())
            if alone:
                what = f"{one} has {len(first):,} pictures and {other} has {len(second):,}: {len(alone):,} of them"
                what += f" have no partner in {folder}, such as this one"
                raise UserError(what, "let both folders hold files of the same names", str(have[alone[0]]))
        for stem in first:
            yield self._turned(
                [
                    _Named(str(path), read_picture(path, self._kind(i)))
                    for i, path in enumerate((first[stem], second[stem]))
                ]
            )

    def _of_sheets(self, folder: Path) -> Iterator[_Pair]:
        for path in list_pictures(folder):
            sides: list[_Named] = []
            for which in (0, 1):
                pixels, changes = read_picture(path, self._kind(which))
                high, wide = pixels.shape[1:]
                if wide != 2 * high:
                    what = f"this picture has {wide} × {high} pixels; two side by side would be twice as wide as high"
                    raise UserError(what, "give pairs side by side, or a second folder as data.target", str(path))
                half = pixels[:, :, high:] if which else pixels[:, :, :high]
                sides.append(_Named(str(path), Picture(half, changes)))
            yield self._turned(sides)

    def _of_rows(self, rows: Dataset) -> Iterator[_Pair]:
        sides = [dataset_pictures(rows, name, self._kind(i), self.source) for i, name in enumerate(self.columns)]
        for index, pair in enumerate(zip(*sides, strict=True)):
            yield self._turned([_Named(f"{self.source}, row {index}", picture) for picture in pair])

    def _turned(self, pair: list[_Named]) -> _Pair:
        one, other = pair
        return (other, one) if self.swap else (one, other)

    def _kind(self, which: int) -> Channels:
        """The channels that the first or the second picture is read with, before they are swapped."""
        return self.channels[1 - which if self.swap else which]


def split_folders(folder: str) -> dict[Split, Path]:
    """The folders ``train``, ``val`` and ``test`` in a folder as far as there are such, or else itself as ``train``.

    Args:
        folder: ``~`` is expanded; it need not be there.
    """
    place = Path(folder).expanduser()
    inner = {path.name: path for path in folders_in(place)} if place.is_dir() else {}
    if "train" not in inner:
        return {"train": place}
    # A second name beside train, because a dataset of one split is all train whatever it is called.
    known: Any = by_split({"train": inner["train"], "": place, **inner})
    return dict(known)


def check_side_and_shares(side: int, val_share: float, test_share: float, what: str) -> None:
    """See to it that pictures can be brought to a size and divided.

    Args:
        side: Pixels along one side.
        val_share: What is kept for validation.
        test_share: What is kept for the test.
        what: That which is divided, such as ``pairs``.

    Raises:
        UserError: If a share or the side makes no sense.
    """
    if side < 1:
        raise UserError(f"side is {side}", "give at least 16", "data.side")
    if min(val_share, test_share) <= 0 or val_share + test_share >= 1:
        fault = f"val_share {val_share} and test_share {test_share} leave no {what} for one of the splits"
        raise UserError(fault, "give shares above 0 that are less than 1 together", "data.val_share")


def shares(counts: dict[Split, int], data: Any) -> dict[Split, tuple[Split, Tensor]]:
    """Which examples each split has: of which split that there is, and which rows of it.

    Args:
        counts: Examples of the splits that there are, ``train`` among them.
        data: Has ``val_share`` and ``test_share``, for those that there are not.

    Raises:
        UserError: If there are too few.
    """
    rows: dict[Split, tuple[Split, Tensor]] = {s: (s, torch.arange(n)) for s, n in counts.items()}
    order = torch.randperm(counts["train"], generator=torch.Generator().manual_seed(0))
    cuts: list[tuple[Split, float]] = [("test", data.test_share), ("val", data.val_share)]
    for split, share in cuts:
        if split not in counts:
            cut = max(1, round(counts["train"] * share))
            rows[split], order = ("train", order[:cut].sort().values), order[cut:]
    if not len(order):
        what = f"{counts['train']} pictures are too few to train with and to test on"
        raise UserError(what, "give more", "data")
    rows["train"] = ("train", order.sort().values)
    return rows


def dataset_pictures(rows: Dataset, column: str, channels: Channels, where: str) -> Iterator[Picture]:
    """The pictures in a column of a dataset.

    Args:
        rows: The dataset.
        column: Its column.
        channels: 1 for grey, 3 for colour.
        where: What the dataset is called.

    Raises:
        UserError: If there is no such column, or no pictures in it.
    """
    from datasets import Image

    if column not in rows.column_names:
        remedy = did_you_mean(column, rows.column_names, "name them as data.columns")
        raise UserError(f"there is no column {column} but {', '.join(rows.column_names)}", remedy, where)
    if not isinstance(rows.features[column], Image):
        raise UserError(f"the column {column} holds no pictures", "name another as data.columns", where)
    stored = rows.select_columns([column]).cast_column(column, Image(decode=False))
    for index, row in enumerate(stored):
        cell, name = row[column], f"{where}, row {index}"
        if cell is None:
            raise UserError(f"there is no picture in {column}", "leave the row out", name)
        path = Path(name if cell["bytes"] is not None or not cell["path"] else cell["path"])
        yield read_picture(path, channels, cell["bytes"])


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_pictures(folder):
        if path.stem in found:
            what = f"there is also {found[path.stem].name}, so which one is the partner is not clear"
            raise UserError(what, "keep one of them", str(path))
        found[path.stem] = path
    return found


def _alike(one: _Named, other: _Named) -> None:
    """See to it that the pictures of a pair have one shape; their sizes may differ."""
    (high, wide), (high2, wide2) = (named.picture.pixels.shape[1:] for named in (one, other))
    if abs(high * wide2 - high2 * wide) > 0.02 * high * wide2:
        what = f"this picture has {wide} × {high} pixels and its partner {wide2} × {high2}: another shape"
        raise UserError(what, "cut both alike, so that they lie on each other", one.name)
