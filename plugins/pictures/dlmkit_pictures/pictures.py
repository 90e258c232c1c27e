"""What every set of pictures has in common.

Dimensions: B pictures of a batch, N pictures of a split, C channels, H = W side.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from dlmkit.data.examples import Examples
from dlmkit.data.module import Batch, Split
from dlmkit.errors import UserError
from dlmkit_pictures.density import density_baselines
from dlmkit_pictures.files import appended
from dlmkit_pictures.judge import Judge, spread

__all__ = ["Pictures", "ReadPictures"]

_LOOKED_AT = 5_000
"""Training pictures that the judge looks at, at most, to say what its figures are worth."""

_LEAST_PICTURES = 2
"""Of a split: the judge looks at how its features vary."""

_JUDGE_SEED = 1
"""Of the judge: not the run's, so that runs of all seeds have one judge, and their figures one scale."""

_LEAST_STEPS, _MOST_STEPS = 400, 2_000
"""Batches that the judge is trained on."""


class Pictures(Examples):
    """Square pictures of one size, each with a class.

    A batch holds ``picture`` (B, C, H, H), float32 from 0 to 1, and ``label`` (B,), int64.

    Args:
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    @abstractmethod
    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pictures of a split (N, C, H, H), float32 from 0 to 1, and their classes (N,), int64."""

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.table("train")[0].shape[1])

    @property
    def side(self) -> int:
        """Pixels along one side."""
        return int(self.table("train")[0].shape[2])

    @property
    def levels(self) -> int:
        """How many values a channel of a pixel can have."""
        return 256

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return int(self.table("train")[1].max()) + 1

    def size(self, split: Split) -> int:
        """The number of pictures N of a split."""
        return len(self.table(split)[1])

    def take(self, split: Split, rows: Tensor) -> Batch:
        """Some pictures and their classes."""
        pictures, labels = self.table(split)
        return {"picture": pictures[rows], "label": labels[rows]}

    @cached_property
    def judge(self) -> Judge:
        """A classifier of the training pictures, the same in all runs, which tells how good made pictures are."""
        pictures, labels = self.table("train")
        steps = min(max(2 * len(labels) // 64, _LEAST_STEPS), _MOST_STEPS)  # two epochs of a large set
        return Judge.of(pictures, labels, seed=_JUDGE_SEED, steps=steps)

    def baselines(self) -> dict[str, dict[str, float]]:
        """How the judge finds the training pictures themselves and those of one class, and simple ways' likelihoods."""
        simple = density_baselines(self.table("train"), self.table("test"), self.levels)
        if self.num_classes < 2:  # a judge of one class has nothing to tell
            return simple
        train, labels = (spread(table, _LOOKED_AT) for table in self.table("train"))
        test = self.table("test")[0]
        shown = {"training pictures": train}
        of_first = labels == labels[0]
        alone = of_first if of_first.sum() > 1 else labels == labels.mode().values
        if alone.sum() > 1:  # one picture says nothing of how pictures differ
            shown["one class alone"] = train[alone]
        verdicts = {name: self.judge.verdict(pictures, test) for name, pictures in shown.items()}
        names = next(iter(verdicts.values()))._fields
        judged = {f"test/{n}": {who: float(getattr(v, n)) for who, v in verdicts.items()} for n in names}
        judged["test/as_asked"] = {"training pictures": self.judge.accuracy(train, labels)}
        return judged | simple


class ReadPictures(Pictures):
    """Pictures that are read all at once, when they are first needed, and kept in memory.

    Args:
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    strangers: ClassVar[bool] = False
    """Whether validation and test show classes that the training has not."""

    def __init__(self, batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__(batch_size, num_workers)
        self._notes: list[tuple[str, tuple[str, ...]]] = []

    def note(self, name: str, changes: tuple[str, ...]) -> None:
        """Remember what had to be changed in a picture, and in how many that was."""
        self._notes.append((name, changes))

    def changed(self) -> str:
        """What had to be changed, for the end of a description; empty where nothing had."""
        _ = self._tables  # read first
        return appended(self._notes)

    @abstractmethod
    def read(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """What :meth:`table` is to give of each split.

        Raises:
            UserError: If the pictures cannot be read.
        """

    def prepare_data(self) -> None:
        """Read once on every machine."""
        _ = self._tables

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pictures of a split (N, C, H, H), float32 from 0 to 1, and their classes (N,), int64."""
        return self._tables[split]

    @cached_property
    def _tables(self) -> dict[Split, tuple[Tensor, Tensor]]:
        tables = self.read()
        known = set(tables["train"][1].tolist())
        for split, (pictures, labels) in tables.items():
            where = str(getattr(self, "source", "data"))
            if len(pictures) < _LEAST_PICTURES:
                what = f"{split} has {len(pictures)} picture, which says nothing of how pictures differ"
                raise UserError(what, "give two or more", where)
            unknown = sorted(set(labels.tolist()) - known)
            if unknown and not self.strangers:
                what = f"{split} has pictures of class {unknown[0]}, of which there is none in train"
                raise UserError(what, "leave them out, or give such pictures for the training", where)
        return tables
