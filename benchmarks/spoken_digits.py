"""Can a listener tell generated digits apart? A classifier that has only heard real recordings answers.

    python benchmarks/spoken_digits.py --run runs/wavenet-spoken-digits
    python benchmarks/spoken_digits.py --source recordings  # the classifier alone

The classifier is a small convolutional net on log-mel spectrograms. It is trained on the real recordings that the run
was trained and validated on, and is judged on the real recordings of the test split and, for each of those, on a
generated one: the same digit, the same speaker, the same duration. It hears all of them through the same 8-bit µ-law
code.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from common import trained
from dlmkit_wavenet.codec import SILENCE, mu_law_decode
from dlmkit_wavenet.data import Audio
from dlmkit_wavenet.sounds import Clip
from torch import Tensor, nn

SPLIT = {"pattern": "{class}_{speaker}_{index}", "test_indices": [0, 1, 2, 3, 4], "val_indices": [5]}
MELS, WINDOW, HOP = 40, 256, 80  # at 8 kHz a window of 32 ms every 10 ms


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a trained run; without it only real digits are judged")
    parser.add_argument("--source", help="the recordings; when left out, those that the run was trained on")
    parser.add_argument("--checkpoint", type=Path, help="of the run; the best when left out")
    parser.add_argument("--temperature", type=float, default=1.0, help="of generation; below 1 is tamer")
    parser.add_argument("--epochs", type=int, default=12, help="of the classifier")
    parser.add_argument("--most", type=int, default=300, help="how many digits are generated at most")
    parser.add_argument("--out", type=Path, help="folder for the generated digits as .wav")
    parser.add_argument("--seed", type=int, default=1, help="of the classifier and of generation")
    return parser.parse_args()


# ---------------------------------------------------------------------------------------------------------- features


def mel_filters(rate: int) -> Tensor:
    """Triangular filters (MELS, WINDOW // 2 + 1), evenly spaced on the mel scale from 50 Hz to half the rate."""

    def mel(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    edges = 700 * (10 ** (torch.linspace(mel(50), mel(rate / 2), MELS + 2) / 2595) - 1)
    f = torch.linspace(0, rate / 2, WINDOW // 2 + 1)
    rise = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0)


def log_mel(waves: Tensor, filters: Tensor) -> Tensor:
    """Log-mel spectrograms (B, MELS, frames) of waves (B, N), each with mean 0 and deviation 1."""
    spectrum = torch.stft(waves, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True).abs() ** 2
    features = torch.log(filters @ spectrum + 1e-5)
    mean, deviation = features.mean((1, 2), keepdim=True), features.std((1, 2), keepdim=True)
    return (features - mean) / deviation


def waves_of(clips: list[Clip], size: int) -> Tensor:
    """Clips as waves (B, size), each with a peak of 0.9, in the middle of silence; a longer one loses its ends."""
    waves = torch.zeros(len(clips), size)
    for row, clip in zip(waves, clips, strict=True):
        wave = torch.from_numpy(mu_law_decode(clip.codes))
        wave = 0.9 * wave / wave.abs().max().clamp(min=1e-3)
        cut = wave[max(0, (len(wave) - size) // 2) :][:size]
        start = (size - len(cut)) // 2
        row[start : start + len(cut)] = cut
    return waves


# -------------------------------------------------------------------------------------------------------- classifier


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution, and half the resolution."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


def classifier(classes: int) -> nn.Sequential:
    """Four blocks, the mean over what is left, and a linear layer; input (B, 1, MELS, frames)."""
    blocks = [block(a, b) for a, b in ((1, 16), (16, 32), (32, 64), (64, 64))]
    return nn.Sequential(*blocks, nn.Dropout(0.2), nn.AdaptiveAvgPool2d((1, 3)), nn.Flatten(), nn.Linear(192, classes))


def augmented(waves: Tensor, draw: torch.Generator) -> Tensor:
    """Waves (B, N) that are moved by up to 0.1 s, and in which there is some noise, as a microphone has it."""
    shift = int(torch.randint(-800, 801, (1,), generator=draw))
    level = 10 ** (-3.5 + 2 * torch.rand(len(waves), 1, generator=draw))
    return torch.roll(waves, shift, dims=1) + level * torch.randn(waves.shape, generator=draw)


def train(waves: Tensor, labels: Tensor, filters: Tensor, epochs: int, seed: int) -> nn.Module:
    """A classifier of waves (B, N) with labels (B,)."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    net = classifier(int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.003, weight_decay=0.01)
    steps = epochs * -(-len(waves) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(waves), generator=draw).split(64):
            logits = net(log_mel(augmented(waves[rows], draw), filters)[:, None])
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def answers(net: nn.Module, waves: Tensor, filters: Tensor) -> Tensor:
    """The class (B,) that the net hears in each wave (B, N)."""
    return torch.cat([net(log_mel(part, filters)[:, None]).argmax(-1) for part in waves.split(64)])


# -------------------------------------------------------------------------------------------------------- generation


def generated(given: argparse.Namespace, data: Audio) -> list[Clip]:
    """For clips of the test split, all digits in turn, a generated one of the same digit, speaker and duration."""
    from dlmkit_wavenet.generate import Conditions, generate

    task = trained(given.run, given.checkpoint)
    count = min(given.most, len(data.clips["test"]))
    asked = data.prompts(count, "test")
    clips: list[Clip] = []
    silent: list[float] = []
    started = time.perf_counter()
    for rows in torch.argsort(asked["length"]).split(50):  # clips of like duration together
        length = int(asked["length"][rows].max()) + data.tail
        known = {name: asked[name][rows] for name in ("condition", "speaker", "local") if name in asked}
        if "local" in known:
            known["local"] = known["local"][:, :length]
        conditions = Conditions(**known)
        codes = generate(
            task.net.eval(), length, None, conditions, len(rows), given.temperature, seed=given.seed + len(clips)
        )
        for row, number in zip(codes.numpy().astype(np.uint8), rows.tolist(), strict=True):
            size = int(asked["length"][number])
            silent.append(float((row[size + data.tail // 2 : size + data.tail] == SILENCE).mean()))
            clips.append(
                Clip(f"{number}", row[:size], None, int(asked["condition"][number]), int(asked["speaker"][number]))
            )
    seconds = sum(len(clip.codes) for clip in clips) / data.sample_rate
    took = time.perf_counter() - started
    print(f"generated {len(clips)} digits, {seconds:.0f} s of sound in {took:.0f} s, temperature {given.temperature}")
    print(f"behind their end {100 * float(np.mean(silent)):.0f} % of the samples are silent")
    return clips


def write(clips: list[Clip], data: Audio, folder: Path) -> None:
    """Each generated digit as ``DIGIT_SPEAKER_NUMBER.wav``."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        name = f"{data.class_names[clip.condition]}_{data.speaker_names[clip.speaker]}_{clip.name}.wav"
        soundfile.write(folder / name, mu_law_decode(clip.codes), data.sample_rate, subtype="PCM_16")


# ------------------------------------------------------------------------------------------------------------- print


def recordings(given: argparse.Namespace) -> Audio:
    """The data of the run, or the recordings that were named."""
    options: dict[str, Any] = dict(SPLIT)
    if given.run:
        options = yaml.safe_load((given.run / "config.yaml").read_text(encoding="utf-8"))["data"]
        options = options.get("init_args", options)
    if given.source:
        options["source"] = given.source
    if "source" not in options:
        raise SystemExit("name a run with --run, or the recordings with --source")
    return Audio(**options)


def judge(net: nn.Module, clips: list[Clip], size: int, filters: Tensor) -> tuple[Tensor, Tensor]:
    """What was said and what was heard, (B,) each."""
    said = torch.tensor([clip.condition for clip in clips])
    return said, answers(net, waves_of(clips, size), filters)


def report(names: list[str], results: dict[str, tuple[Tensor, Tensor]]) -> None:
    """The accuracy by digit and over all, side by side."""
    print("\n| digit | " + " | ".join(results) + " |\n|---|" + "---|" * len(results))
    for number, name in enumerate(names):
        cells = []
        for said, heard in results.values():
            mine = said == number
            right = int((heard[mine] == number).sum())
            wrong = torch.bincount(heard[mine & (heard != number)], minlength=len(names))
            mistaken = f", mostly {names[int(wrong.argmax())]}" if wrong.sum() > 1 else ""
            cells.append(f"{right}/{int(mine.sum())}{mistaken}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    shares = [f"{100 * float((said == heard).float().mean()):.1f} %" for said, heard in results.values()]
    print("| all | " + " | ".join(shares) + " |")


def main() -> None:
    """Train the classifier, generate, and print."""
    given = arguments()
    data = recordings(given)
    size = data.sample_rate  # one second holds all but the longest recordings
    filters = mel_filters(data.sample_rate)
    real = data.clips["train"] + data.clips["val"]
    labels = torch.tensor([clip.condition for clip in real])
    started = time.perf_counter()
    net = train(waves_of(real, size), labels, filters, given.epochs, given.seed)
    print(
        f"{data.describe()}\nclassifier: {sum(p.numel() for p in net.parameters()):,} parameters, trained on "
        f"{len(real)} real recordings for {given.epochs} epochs in {time.perf_counter() - started:.0f} s"
    )
    results = {"real, held out": judge(net, data.clips["test"], size, filters)}
    if given.run:
        clips = generated(given, data)
        if given.out:
            write(clips, data, given.out)
        results["generated"] = judge(net, clips, size, filters)
    report(data.class_names, results)


if __name__ == "__main__":
    main()
