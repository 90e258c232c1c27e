"""Melodies on a plucked string, computed when the run begins: sound that needs neither files nor a network."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from dlmkit.data.module import Split
from dlmkit.errors import UserError
from dlmkit_wavenet.codec import mu_law_encode
from dlmkit_wavenet.sounds import Clip, Sounds

__all__ = ["Tones", "frequency", "pluck"]

Wave = npt.NDArray[np.float64]

_SCALE = {"C": 0, "D": 2, "E": 4, "G": 7, "A": 9}
"""The pentatonic scale, in which every order of notes sounds well: name to semitones above C."""

_STREAMS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_ONSETS = 3  # the stream that says where windows are put


def frequency(note: int) -> float:
    """The frequency in Hz of a MIDI note; note 69 is A4, 440 Hz.

    Args:
        note: Semitones, 60 being C4.
    """
    return float(440 * 2 ** ((note - 69) / 12))


def pluck(pitch: float, size: int, sample_rate: int, draw: np.random.Generator) -> Wave:
    r"""A plucked string: the shape into which a finger draws it runs round a delay line that averages it.

    .. math::
        y_t = \tfrac12 \bigl[(1 - a)\, y_{t-P} + y_{t-P-1} + a\, y_{t-P-2}\bigr], \qquad
        P + \tfrac12 + a = \frac{r}{f}, \quad 0 \le a < 1

    The average of two neighbours takes the high harmonics away first, as a string does; it delays by half a sample.
    The share a tunes the rest of the period by linear interpolation between samples. The string begins as a triangle,
    with a little noise, where Karplus and Strong have nothing but noise: that sounds softer, like a nylon string.

    References:
        | Digital Synthesis of Plucked-String and Drum Timbres (Karplus & Strong, 1983)
        | Extensions of the Karplus-Strong Plucked-String Algorithm (Jaffe & Smith, 1983), on tuning

    Args:
        pitch: Frequency f in Hz, at most a tenth of the sample rate.
        size: Samples N.
        sample_rate: Samples r per second, in Hz.
        draw: Of the place of the finger and of the noise.

    Returns:
        Samples (N,) in [-1, 1]; the peak is about 0.5.
    """
    period = sample_rate / pitch - 0.5
    delay = int(period)
    a = period - delay
    finger = draw.uniform(0.25, 0.5)
    place = np.arange(delay + 2) / (delay + 2)
    shape = np.minimum(place / finger, (1 - place) / (1 - finger))
    shape += 0.05 * draw.uniform(-1, 1, len(shape))
    shape -= shape.mean()
    y = np.concatenate([0.5 * shape / np.abs(shape).max(), np.zeros(size)])
    for start in range(delay + 2, len(y), delay):  # as many samples at a time as depend on none of each other
        n = np.arange(start, min(start + delay, len(y)))
        y[n] = 0.5 * ((1 - a) * y[n - delay] + y[n - delay - 1] + a * y[n - delay - 2])
    return y[:size]


class Tones(Sounds):
    """Melodies on a plucked string (Karplus & Strong 1983), conditioned on the note that sounds.

    A melody walks up and down a pentatonic scale in notes of half a beat, one and two, and now and then it rests. Most
    notes are damped shortly before the next one, and none comes twice in a row without that, so that the local
    condition, whose class 0 is a rest, tells where each note begins and ends. Every melody follows from the seed, the
    split and its number.

    What pitch a note has is open in its first period only; after that the string repeats itself, whatever the condition
    says. A network that sees windows from anywhere in a melody sees few beginnings, so some windows of training are put
    there.

    References:
        | Digital Synthesis of Plucked-String and Drum Timbres (Karplus & Strong, 1983)

    Args:
        sample_rate: Samples per second, in Hz.
        melodies: How many there are for training; an eighth as many, and two at least, for validation and for the test.
        seconds: How long each of them is.
        beat: How long a beat is, in seconds.
        gap: How long the string is damped at the end of most notes, in seconds; less than half a beat.
        lowest: The lowest note, as a MIDI number; 60 is C4, 262 Hz.
        highest: The highest note, as a MIDI number; 72 is C5, 523 Hz.
        context: Samples before the first scored one; the receptive field of the network.
        length: Scored samples of an example.
        tail: Silence that belongs to each melody in training, in seconds.
        batch_size: Examples in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, which is quick.
        onsets: Share of the windows of training in which a note begins within the first quarter of what is scored, each
            pitch as often; the others lie anywhere.

    Raises:
        UserError: If a figure is out of range, or there is no note, or one that is too high for the sample rate.
    """

    def __init__(
        self,
        sample_rate: int = 8000,
        melodies: int = 64,
        seconds: float = 4.0,
        beat: float = 0.2,
        gap: float = 0.03,
        lowest: int = 60,
        highest: int = 72,
        context: int = 1024,
        length: int = 2000,
        tail: float = 0.0,
        batch_size: int = 8,
        num_workers: int = 0,
        onsets: float = 0.5,
    ) -> None:
        super().__init__(sample_rate, context, length, tail, batch_size, num_workers)
        for name, figure in (("melodies", melodies), ("seconds", seconds), ("beat", beat)):
            if figure <= 0:
                raise UserError(f"{name} is {figure}", "give more than 0", f"data.{name}")
        if not 0 <= gap < beat / 2:
            raise UserError(f"gap is {gap}", f"give at least 0 and less than {beat / 2}, half a beat", "data.gap")
        if not 0 <= onsets <= 1:
            raise UserError(f"onsets is {onsets}", "give a share from 0 to 1", "data.onsets")
        self.melodies, self.seconds, self.beat, self.gap, self.onsets = melodies, seconds, beat, gap, onsets
        self.notes = [note for note in range(lowest, highest + 1) if note % 12 in _SCALE.values()]
        if len(self.notes) < 3:
            remedy = "leave at least an octave between data.lowest and data.highest"
            raise UserError(
                f"between the notes {lowest} and {highest} are {len(self.notes)} of the scale", remedy, "data"
            )
        if frequency(self.notes[-1]) > sample_rate / 10:
            what = f"note {self.notes[-1]} has {frequency(self.notes[-1]):.0f} Hz, more than a tenth of the sample rate"
            raise UserError(what, "give a lower data.highest or a higher data.sample_rate", "data.highest")

    @property
    def local_classes(self) -> int:
        """The notes, and the rest."""
        return 1 + len(self.notes)

    @property
    def local_names(self) -> list[str]:
        """``rest``, then the notes from low to high: ``C4``, ``D4``, ..."""
        names = {semitones: name for name, semitones in _SCALE.items()}
        return ["rest", *(f"{names[note % 12]}{note // 12 - 1}" for note in self.notes)]

    @property
    def frequencies(self) -> list[float]:
        """The frequency of each class in Hz; 0 for the rest."""
        return [0.0, *map(frequency, self.notes)]

    def make(self, split: Split) -> list[Clip]:
        """The melodies of a split."""
        count = self.melodies if split == "train" else max(2, self.melodies // 8)
        return [self._melody(split, index) for index in range(count)]

    @cached_property
    def _beginnings(self) -> tuple[npt.NDArray[np.int64], Wave]:
        """Melody and first sample of each note of training (N, 2), and its chance (N,), alike for all pitches."""
        found, pitches = [], []
        for number, clip in enumerate(self.clips["train"]):
            local = np.asarray(clip.local)
            begins = np.flatnonzero(local * np.diff(local, prepend=0))
            found.append(np.stack([np.full_like(begins, number), begins], axis=1))
            pitches.append(local[begins])
        _, which, counts = np.unique(np.concatenate(pitches), return_inverse=True, return_counts=True)
        return np.concatenate(found), 1 / (len(counts) * counts[which])

    def _windows(self, split: Split, epoch: int) -> npt.NDArray[np.int64]:
        return _with_beginnings(self, epoch, self.seed) if split == "train" else super()._windows(split, epoch)

    def _melody(self, split: Split, index: int) -> Clip:
        draw = np.random.default_rng(np.random.SeedSequence((self.seed, _STREAMS[split], index)))
        size = round(self.seconds * self.sample_rate)
        wave, local = np.zeros(size), np.zeros(size, dtype=np.int32)
        place, start = int(draw.integers(len(self.notes))), 0
        while start < size:
            beats = draw.choice([0.5, 1.0, 1.0, 2.0])
            end = min(size, start + round(beats * self.beat * self.sample_rate))
            gap = self.gap if draw.random() < 0.75 else 0.0
            damped = max(start, end - round(gap * self.sample_rate))
            if not start or draw.random() > 0.1:  # else a rest
                wave[start:damped] = pluck(frequency(self.notes[place]), damped - start, self.sample_rate, draw)
                local[start:damped] = 1 + place
            place = self._next(place, draw)
            start = end
        return Clip(f"melody {index} of {split}", mu_law_encode(wave).astype(np.uint8), local)

    def _next(self, place: int, draw: np.random.Generator) -> int:
        """A step or a leap away on the scale, back from its ends."""
        steps = [s for s in (-3, -2, -1, -1, 1, 1, 2, 3) if 0 <= place + s < len(self.notes)]
        return place + int(draw.choice(steps))


@lru_cache(maxsize=4)
def _with_beginnings(data: Tones, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """The windows of an epoch of training (W, 2), some moved to where a note begins; every batch asks for them."""
    draw = np.random.default_rng(np.random.SeedSequence((seed, _ONSETS, epoch)))
    windows = Sounds._windows(data, "train", epoch).copy()
    chosen = draw.random(len(windows)) < data.onsets
    beginnings, chances = data._beginnings
    moved = draw.choice(beginnings, int(chosen.sum()), p=chances)
    moved[:, 1] -= draw.integers(-(-data.length // 4), size=len(moved))
    windows[chosen] = np.maximum(moved, 0)
    return windows
