"""Recordings as data: who says what in each, and which of them train and which test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from dlmkit.data.module import Split
from dlmkit.errors import UserError, at_least
from dlmkit_wavenet.codec import mu_law_encode
from dlmkit_wavenet.sounds import Clip, Sounds
from dlmkit_wavenet.sources import Reading, Recording, read_recordings

__all__ = ["Audio"]

_FEW = 10
"""Fewer recordings than these are cut along the time."""


class Audio(Sounds):
    """Recordings, of which the file names or the columns of a dataset tell the class and the speaker.

    A dataset's own splits are kept. Otherwise the split follows from ``test_indices`` and ``val_indices``, or from
    fractions: of the recordings, in an order that is shuffled once and for all, or of the time, if there are fewer
    than ten recordings. Recordings that cannot be used are each told in one line; nothing is read by halves.

    References:
        | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016), section 3.1: several speakers

    Args:
        source: What to read: sound files (~ and * are expanded), a folder of them, or the name of a Hugging Face
            dataset; its columns label and speaker, if it has them, tell class and speaker.
        pattern: What a file's name, without its ending, tells: {class}_{speaker}_{index}, for instance. The fields are
            class, speaker, index (a number) and any.
        subset: Which configuration of a Hugging Face dataset.
        audio_column: The column of a dataset that holds the sound.
        sample_rate: Samples per second, in Hz, that the recordings must have.
        test_indices: Recordings whose index is one of these are the test split.
        val_indices: Recordings whose index is one of these are the validation split.
        val_fraction: Share for validation, if nothing else tells it.
        test_fraction: Share for the test, if nothing else tells it.
        positions: Parts into which each recording is divided; which part of which class a sample is in is its local
            condition. 0 gives no local condition.
        resample: Whether recordings of another sample rate are converted; otherwise they are refused.
        mixdown: Whether the channels of stereo are averaged; otherwise it is refused.
        allow_clipped: Whether clipped recordings are taken; otherwise they are refused.
        skip_broken: Whether recordings that cannot be used are left out; otherwise nothing is read.
        normalize: Whether each recording is scaled so that its peak is at 0.9.
        context: Samples before the first scored one; the receptive field of the network.
        length: Scored samples of an example.
        tail: Silence that belongs to each recording in training, in seconds; from it a network learns to end.
        batch_size: Examples in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, which is quick.

    Raises:
        UserError: If a figure is out of range; and, when the recordings are first needed, if they cannot be used.
    """

    def __init__(
        self,
        source: str | list[str],
        pattern: str | None = None,
        subset: str | None = None,
        audio_column: str = "audio",
        sample_rate: int = 8000,
        test_indices: list[int] | None = None,
        val_indices: list[int] | None = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        positions: int = 0,
        resample: bool = False,
        mixdown: bool = False,
        allow_clipped: bool = False,
        skip_broken: bool = False,
        normalize: bool = False,
        context: int = 2048,
        length: int = 2048,
        tail: float = 0.1,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        super().__init__(sample_rate, context, length, tail, batch_size, num_workers)
        if not source:
            raise UserError("data.source is empty", "give sound files, a folder or a dataset", "data.source")
        for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            if not 0 < fraction < 0.5:
                remedy = "give a share above 0 and below a half, such as 0.1"
                raise UserError(f"{name} is {fraction}", remedy, f"data.{name}")
        at_least(0, "data.", positions=positions)
        self.source, self.subset, self.audio_column = source, subset, audio_column
        self.reading = Reading(sample_rate, pattern, resample, mixdown, allow_clipped, skip_broken, normalize)
        self.indices: dict[Split, set[int]] = {"val": set(val_indices or ()), "test": set(test_indices or ())}
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.positions = positions

    @property
    def classes(self) -> int:
        """Classes that the names or the columns tell; 0 when there are none."""
        return len(self.class_names)

    @property
    def speakers(self) -> int:
        """Speakers that the names or the columns tell; 0 when there are none."""
        return len(self.speaker_names)

    @property
    def local_classes(self) -> int:
        """Parts of each class, and one for silence; 0 when recordings are not divided."""
        return 1 + max(1, self.classes) * self.positions if self.positions else 0

    @property
    def class_names(self) -> list[str]:
        """The classes, numbers in their order, then words."""
        return self._names["class"]

    @property
    def speaker_names(self) -> list[str]:
        """The speakers, numbers in their order, then words."""
        return self._names["speaker"]

    @property
    def local_names(self) -> list[str]:
        """Silence, then each part of each class, such as ``7 3/20``."""
        if not self.positions:
            return []
        parts = [f"{part + 1}/{self.positions}" for part in range(self.positions)]
        return ["silence", *(f"{name} {part}".strip() for name in self.class_names or [""] for part in parts)]

    @property
    def where(self) -> str:
        """The source."""
        return self.source if isinstance(self.source, str) else ", ".join(self.source)

    def make(self, split: Split) -> list[Clip]:
        """The recordings of a split as clips."""
        return self._split_clips[split]

    def describe(self) -> str:
        """How many recordings there are, what is known of them, and which were left out."""
        told = super().describe()
        if not self._left_out:
            return told
        names = "; ".join(f"{Path(fault.where).name}: {fault.what}" for fault in self._left_out[:5])
        more = f"; and {len(self._left_out) - 5} more" if len(self._left_out) > 5 else ""
        return f"{told}; left out {len(self._left_out)} ({names}{more})"

    @cached_property
    def _read(self) -> tuple[list[Recording], list[UserError]]:
        return read_recordings(self.source, self.reading, self.subset, self.audio_column)

    @property
    def _recordings(self) -> list[Recording]:
        return self._read[0]

    @property
    def _left_out(self) -> list[UserError]:
        return self._read[1]

    @cached_property
    def _split_clips(self) -> dict[Split, list[Clip]]:
        recordings = self._recordings
        told = any(self.indices.values()) or any(recording.split for recording in recordings)
        if told or len(recordings) >= _FEW:
            return {split: [self._clip(one) for one in part] for split, part in self._shared_out(recordings).items()}
        clips: dict[Split, list[Clip]] = {"train": [], "val": [], "test": []}
        for clip in map(self._clip, recordings):
            for split, part in self._cut(clip).items():
                clips[split].append(part)
        return clips

    def _shared_out(self, recordings: list[Recording]) -> dict[Split, list[Recording]]:
        """Which recordings belong to which split."""
        shares: dict[Split, list[Recording]] = {"train": [], "val": [], "test": []}
        for recording in recordings:
            shares[recording.split or "train"].append(recording)
        shuffled = sorted(shares["train"], key=lambda one: hashlib.sha256(Path(one.name).name.encode()).digest())
        own = any(recording.split for recording in recordings)
        for split, indices in self.indices.items():
            if shares[split]:
                continue
            if indices and not own:
                taken = [recording for recording in shares["train"] if self._index(recording) in indices]
            else:
                taken = shuffled[: max(1, round(self.fractions[split] * len(recordings)))]
            names = {recording.name for recording in taken}
            shares[split] = taken
            shares["train"] = [recording for recording in shares["train"] if recording.name not in names]
            shuffled = [recording for recording in shuffled if recording.name not in names]
        return shares

    def _index(self, recording: Recording) -> int:
        if "index" not in recording.fields:
            remedy = "give a data.pattern with {index}, or leave test_indices and val_indices out"
            raise UserError("nothing tells this recording's index", remedy, recording.name)
        return int(recording.fields["index"])

    def _cut(self, clip: Clip) -> dict[Split, Clip]:
        """One clip cut along the time: the beginning trains, the end tests."""
        size = len(clip.codes)
        test = size - round(self.fractions["test"] * size)
        val = test - round(self.fractions["val"] * size)
        ranges: dict[Split, slice] = {"train": slice(0, val), "val": slice(val, test), "test": slice(test, size)}
        local = clip.local
        return {
            split: clip._replace(codes=clip.codes[part], local=None if local is None else local[part])
            for split, part in ranges.items()
        }

    def _clip(self, recording: Recording) -> Clip:
        condition, speaker = (self._number(recording, field) for field in ("class", "speaker"))
        codes = mu_law_encode(recording.wave).astype(np.uint8)
        local = None
        if self.positions:
            part = np.arange(len(codes)) * self.positions // len(codes)
            local = (1 + condition * self.positions + part).astype(np.int32)
        return Clip(Path(recording.name).name, codes, local, condition, speaker)

    def _number(self, recording: Recording, field: str) -> int:
        """The number of a recording's class, or speaker; 0 where there are none."""
        if not self._names[field]:
            return 0
        if field not in recording.fields:
            remedy = "give a data.pattern that fits every name, or leave this recording out"
            raise UserError(f"nothing tells this recording's {field}", remedy, recording.name)
        return self._names[field].index(recording.fields[field])

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Field to the words that stand there."""
        fields = ("class", "speaker")
        return {field: _in_order(recording.fields.get(field) for recording in self._recordings) for field in fields}


def _in_order(words: Iterable[str | None]) -> list[str]:
    """Each word once: numbers in their order, then the others in theirs."""
    found = {word for word in words if word is not None}
    return sorted(found, key=lambda word: (not word.isdecimal(), int(word) if word.isdecimal() else 0, word))
