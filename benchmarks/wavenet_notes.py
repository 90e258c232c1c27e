"""Does a WaveNet play the note that it is asked for? The pitch of generated notes, by autocorrelation.

    dlmkit run wavenet --name wavenet
    python benchmarks/wavenet_notes.py --run runs/wavenet

Every note of the scale is played in several random orders, each as one melody in which the string is damped shortly
before the next note, as in most of the melodies that it has heard. A note is right within a quarter-tone, half a
semitone. The plucked string itself is judged in the same way, to say what the measurement is worth.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from common import trained
from dlmkit_wavenet.generate import Conditions
from dlmkit_wavenet.tones import frequency, pluck

Wave = npt.NDArray[np.float64]
SEMITONES = {"C": 0, "C#": 1, "D": 2, "D#": 3, "E": 4, "F": 5, "F#": 6, "G": 7, "G#": 8, "A": 9, "A#": 10, "B": 11}


def wanted(name: str) -> float:
    """The frequency in Hz of a note's name, such as C4."""
    found = re.fullmatch(r"([A-G]#?)(-?\d)", name)
    if found is None:
        raise SystemExit(f"{name} is no note; the run is to be one of the data module tones")
    return frequency(12 * (int(found[2]) + 1) + SEMITONES[found[1]])


def pitch(wave: Wave, rate: int, low: float = 180, high: float = 800) -> float:
    """The frequency in Hz at which a wave is most like itself a period later, or nan where it is silent."""
    wave = wave - wave.mean()
    if np.abs(wave).max() < 0.01:
        return math.nan
    size = len(wave)
    spectrum = np.fft.rfft(wave, 2 * size)
    alike = np.fft.irfft(np.abs(spectrum) ** 2)[:size] / np.arange(size, 0, -1)
    first, last = int(rate / high), int(rate / low)
    best = first + int(alike[first : last + 1].argmax())
    # The first lag that is nearly as good: twice the period is as good as once.
    peaks = [k for k in range(first, best + 1) if alike[k] >= max(alike[k - 1], alike[k + 1], 0.85 * alike[best])]
    lag = peaks[0] if peaks else best
    a, b, c = alike[lag - 1 : lag + 2]
    return rate / (lag + 0.5 * (a - c) / (a - 2 * b + c))


def right(wave: Wave, rate: int, name: str) -> bool:
    """Whether a note is within a quarter-tone of what it should be; its first tenth and last fifth are left out."""
    part = wave[len(wave) // 10 : len(wave) * 4 // 5]
    return abs(12 * math.log2(pitch(part, rate) / wanted(name))) < 0.5


def main() -> None:
    """Play, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a trained run of the recipe wavenet")
    parser.add_argument("--orders", type=int, default=12, help="how many melodies")
    parser.add_argument("--seconds", type=float, default=0.3, help="of a note")
    parser.add_argument("--gap", type=float, default=0.03, help="seconds of rest at its end")
    parser.add_argument("--temperature", type=float, default=1.0)
    asked = parser.parse_args()
    task = trained(asked.run)
    names = [name for name in task.names["local"] if name[-1].isdigit()]
    draw = np.random.default_rng(0)
    size, rest = (round(seconds * task.sample_rate) for seconds in (asked.seconds, asked.gap))
    kinds = {name: number for number, name in enumerate(task.names["local"])}
    played, strings = ({name: 0 for name in names} for _ in range(2))
    for order in range(asked.orders):
        melody = [names[k] for k in draw.permutation(len(names))]
        with torch.no_grad():
            local = torch.tensor([kinds[name] for name in melody])[:, None].repeat(1, size)
            local[:, size - rest :] = kinds["rest"]
            conditions = Conditions(local=local.view(1, -1))
            wave = task.generated(1, local.numel(), conditions, seed=order, temperature=asked.temperature)[0]
        for name, part in zip(melody, wave.double().numpy().reshape(len(melody), -1), strict=True):
            played[name] += right(part, task.sample_rate, name)
            strings[name] += right(pluck(wanted(name), size, task.sample_rate, draw), task.sample_rate, name)
    count = asked.orders * len(names)
    print(f"{sum(played.values())} of {count} notes are right (the string itself: {sum(strings.values())})")
    print(", ".join(f"{name} {played[name]} of {asked.orders}" for name in names))


if __name__ == "__main__":
    main()
