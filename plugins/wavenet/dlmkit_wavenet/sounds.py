"""Sounds as classes: windows of clips in which every scored sample has its whole context.

Dimensions: B examples of a batch, T inputs, S scored samples of an example, N samples of a clip.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from dlmkit.data.module import Batch, DataModule, Split
from dlmkit.errors import UserError, at_least
from dlmkit_wavenet.baselines import bits_per_sample
from dlmkit_wavenet.codec import SILENCE

__all__ = ["NAMES", "Clip", "Sounds"]

UNSCORED = -100
"""The target of a sample that lies outside a clip; ``torch.nn.functional.cross_entropy`` leaves it out."""

NAMES: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
"""What a person calls each split."""


class Clip(NamedTuple):
    """One sound and what is known of it.

    Args:
        name: What a person calls it.
        codes: µ-law classes (N,), uint8.
        local: What is sounding at each sample (N,), int32; 0 is nothing. None where nothing is known.
        condition: The class of the whole clip.
        speaker: Who speaks in it.
    """

    name: str
    codes: npt.NDArray[np.uint8]
    local: npt.NDArray[np.int32] | None = None
    condition: int = 0
    speaker: int = 0


class Sounds(DataModule):
    r"""Clips, cut into windows for a network that predicts each sample from those before it.

    An example is a window of ``context + length`` samples :math:`x`; before and after a clip there is silence. A batch
    holds ``input`` (B, T), all samples of a window but the last, T = context + length - 1, and ``target`` (B, S), its
    last ``length`` samples, so that target s is the sample after input T - S + s and has ``context`` samples before
    it. Both are µ-law classes from 0 to 255, int64; what is not scored has the target -100. Of up to three conditions
    ``condition`` and ``speaker`` (B,), int64, hold for the whole example, and ``local`` (B, T), int64, is at each input
    the class of the sample that follows it, the one to be predicted there; its class 0 means that nothing is known to
    sound.

    In training the windows lie anywhere, anew in every epoch, as the seed says, and ``tail`` seconds of silence belong
    to each clip, so that a network learns how clips end. In validation and test each sample of a clip is scored
    exactly once, and no silence that was added.

    A child gives ``make``, the clips of a split.

    Args:
        sample_rate: Samples per second, in Hz.
        context: Samples before the first scored one; the receptive field of the network.
        length: Scored samples S of an example.
        tail: Silence that belongs to each clip in training, in seconds.
        batch_size: Examples in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, which is quick.

    Raises:
        UserError: If a figure is out of range; and, when the clips are first needed, if they are too short.
    """

    def __init__(
        self, sample_rate: int, context: int, length: int, tail: float, batch_size: int, num_workers: int = 0
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(1, "data.", sample_rate=sample_rate, context=context, length=length)
        at_least(0, "data.", tail=tail)
        self._sample_rate, self.context, self.length = sample_rate, context, length
        self.tail = round(tail * sample_rate)

    @property
    def sample_rate(self) -> int:
        """Samples per second, in Hz."""
        return self._sample_rate

    @property
    def classes(self) -> int:
        """Classes that a whole clip may have; 0 when there are none."""
        return 0

    @property
    def speakers(self) -> int:
        """Speakers, or instruments; 0 when they are not told apart."""
        return 0

    @property
    def local_classes(self) -> int:
        """Classes that a single sample may have, "nothing" among them; 0 when there are none."""
        return 0

    @property
    def class_names(self) -> list[str]:
        """What a person calls each class of a whole clip."""
        return []

    @property
    def speaker_names(self) -> list[str]:
        """What a person calls each speaker."""
        return []

    @property
    def local_names(self) -> list[str]:
        """What a person calls each class of a single sample; the first is "nothing"."""
        return []

    @abstractmethod
    def make(self, split: Split) -> list[Clip]:
        """The clips of a split, always the same ones."""

    @cached_property
    def clips(self) -> dict[Split, list[Clip]]:
        """The clips of every split.

        Raises:
            UserError: If there are none, or all of them are shorter than the context.
        """
        clips = {split: self.make(split) for split in NAMES}
        for split, name in NAMES.items():
            if not clips[split]:
                raise UserError(f"the {name} split has no clip", "give more clips or another split", self.where)
        longest = max((clip for part in clips.values() for clip in part), key=lambda clip: len(clip.codes))
        if len(longest.codes) <= self.context:
            what = f"the context of {self.context:,} samples is as long as the longest clip, {longest.name}, "
            remedy = f"give data.context below {len(longest.codes)} and a network that looks no further back"
            raise UserError(f"{what}which has {len(longest.codes):,}", remedy, self.where)
        return clips

    @property
    def where(self) -> str:
        """Where the clips come from, for an error."""
        return "data"

    def prepare_data(self) -> None:
        """Read or make the clips, so that what is wrong with them is told before a run begins."""
        _ = self.clips

    def setup(self, stage: str) -> None:
        """Read or make them in every process.

        Args:
            stage: What the trainer is about to do; all splits are read whatever it is.
        """
        _ = self.clips

    def prompts(self, n: int, split: Split = "val") -> Batch:
        """What is known of some whole clips: enough to ask a network for n sounds of the same kind.

        Clips of all classes take turns.

        Args:
            n: How many; beyond the number of clips they repeat.
            split: From which split.

        Returns:
            ``condition``, ``speaker`` (n,) and ``local`` (n, N), as far as there are such; ``local`` ends with the
            class 0 for the silence that belongs to each clip in training, and where a clip is shorter than the
            longest. ``length`` (n,) is the number of samples of each clip without that silence.
        """
        taken: Counter[int] = Counter()

        def turn(clip: Clip) -> int:
            taken[clip.condition] += 1
            return taken[clip.condition]

        ordered = sorted(self.clips[split], key=turn)
        chosen = [ordered[i % len(ordered)] for i in range(n)]
        known = {"length": torch.tensor([len(clip.codes) for clip in chosen])}
        if self.local_classes:
            known["local"] = torch.zeros(n, int(known["length"].max()) + self.tail, dtype=torch.int64)
            for row, clip in zip(known["local"], chosen, strict=True):
                row[: len(clip.codes)] = torch.from_numpy(np.asarray(clip.local, dtype=np.int64))
        return known | self._globals(chosen)

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch."""
        count = len(self._windows(split, 0))
        if split == "train":
            return max(1, count // self.batch_size)
        world = self.trainer.world_size if self.trainer else 1
        full, rest = divmod(count, self.batch_size)
        return max(1, full + (rest >= world))  # every process needs a row

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of one batch; the last of validation and test may have fewer examples."""
        if not 0 <= index < self.batches(split):
            raise IndexError(f"batch {index} of {self.batches(split)}")
        windows = self._windows(split, epoch)
        rows = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        rows = rows % len(windows) if split == "train" else rows[rows < len(windows)]
        if len(rows) < world:
            raise UserError(f"{len(rows)} examples do not divide among {world} processes", "give more clips", "data")
        mine = windows[np.array_split(rows, world)[rank]]
        return self._examples([self.clips[split][clip] for clip, _ in mine], mine[:, 1], split == "train")

    def describe(self) -> str:
        """How many clips and seconds there are, and what is known of them."""
        seconds = {s: sum(len(clip.codes) for clip in clips) / self.sample_rate for s, clips in self.clips.items()}
        sizes = ", ".join(f"{len(self.clips[s])} clips ({seconds[s]:.0f} s) {NAMES[s]}" for s in NAMES)
        given = {"classes": self.classes, "speakers": self.speakers, "classes of a sample": self.local_classes}
        told = [f"{count} {name}" for name, count in given.items() if count]
        return "; ".join([f"{sizes}, {self.sample_rate:,} Hz", *([", ".join(told)] if told else [])])

    def baselines(self) -> dict[str, dict[str, float]]:
        """Bits per sample, on the samples that the test scores, of two methods fitted to the training split."""
        train, test = ([clip.codes for clip in self.clips[split]] for split in ("train", "test"))
        return {"test/bits_per_sample": bits_per_sample(train, test)}

    def _globals(self, clips: Sequence[Clip]) -> Batch:
        known = {}
        if self.classes:
            known["condition"] = torch.tensor([clip.condition for clip in clips])
        if self.speakers:
            known["speaker"] = torch.tensor([clip.speaker for clip in clips])
        return known

    def _examples(self, clips: Sequence[Clip], starts: npt.NDArray[np.int64], training: bool) -> Batch:
        """The windows of some clips whose first scored samples are ``starts`` (B,)."""
        x = torch.full((len(clips), self.context + self.length), SILENCE)  # (B, T + 1)
        local = torch.zeros_like(x)
        target = torch.full((len(clips), self.length), UNSCORED)
        for row, (clip, start) in enumerate(zip(clips, starts.tolist(), strict=True)):
            first = start - self.context  # of the window, counted from the clip's first sample
            here = slice(max(0, first), min(len(clip.codes), start + self.length))
            there = slice(here.start - first, here.stop - first)
            x[row, there] = torch.from_numpy(clip.codes[here]).long()
            if clip.local is not None:
                local[row, there] = torch.from_numpy(clip.local[here]).long()
            scored = min(self.length, len(clip.codes) + training * self.tail - start)
            target[row, :scored] = x[row, self.context : self.context + scored]
        batch = {"input": x[:, :-1].contiguous(), "target": target, **self._globals(clips)}
        return batch | {"local": local[:, 1:].contiguous()} if self.local_classes else batch

    def _windows(self, split: Split, epoch: int) -> npt.NDArray[np.int64]:
        """Clip and first scored sample of each example (W, 2)."""
        sizes = tuple(len(clip.codes) + (split == "train") * self.tail for clip in self.clips[split])
        if split == "train":
            return _anywhere(sizes, self.length, self.seed, epoch)
        return _everywhere(sizes, self.length)


@lru_cache(maxsize=4)
def _everywhere(sizes: tuple[int, ...], length: int) -> npt.NDArray[np.int64]:
    """Windows that hold each sample exactly once (W, 2)."""
    return np.array([(clip, start) for clip, size in enumerate(sizes) for start in range(0, size, length)])


@lru_cache(maxsize=4)
def _anywhere(sizes: tuple[int, ...], length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """As many windows as hold each sample once, put anywhere and shuffled (W, 2).

    A window that would begin before a clip or end behind it is moved inside, so that the first and the last samples
    come no less often than those in the middle.
    """
    draw = np.random.default_rng(np.random.SeedSequence((seed, epoch)))
    total = np.array(sizes)
    clips = np.repeat(np.arange(len(sizes)), -(-total // length))
    starts = draw.integers(1 - length, total[clips])
    starts = np.clip(starts, 0, np.maximum(total[clips] - length, 0))
    return draw.permutation(np.stack([clips, starts], axis=1))
