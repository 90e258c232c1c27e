"""Pictures of sounds, and of what a sample of a causal stack can see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["receptive_field_figure", "sound_figure"]

DRAWN = 4
"""Layers of the drawing; with more, the lines can no longer be told apart."""


def sound_figure(wave: Tensor, rate: int, title: str = "") -> Figure:
    """A waveform, and below it the spectrogram.

    Args:
        wave: (T,) floats in [-1, 1], T ≥ 1.
        rate: Samples per second, in Hz.
        title: Above all.
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
    seconds = len(wave) / rate
    above.plot(torch.linspace(0, seconds, len(wave)).numpy(), wave.numpy(), linewidth=0.5)
    above.set(ylim=(-1, 1), xlim=(0, seconds), ylabel="amplitude", title=title)
    size = min(512, max(16, 2 ** (len(wave).bit_length() - 2)))
    padded = torch.nn.functional.pad(wave.float(), (size // 2, size // 2))
    spectrum = torch.stft(padded, size, size // 4, window=torch.hann_window(size), center=False, return_complex=True)
    decibels = 20 * torch.log10(spectrum.abs() / (size / 4) + 1e-5).numpy()  # a sine of full scale is 0 dB
    extent = (0, seconds, 0, rate / 2000)
    image = below.imshow(decibels, aspect="auto", origin="lower", extent=extent, vmin=-80, vmax=0, cmap="magma")
    below.set(xlabel="seconds", ylabel="kHz")
    figure.colorbar(image, ax=below, label="dB", pad=0.01)
    return figure


def receptive_field_figure(spans: Sequence[int], kernel_size: int) -> Figure:
    """A plain causal stack beside a dilated one: what the last sample sees is drawn dark.

    Args:
        spans: The net's dilations, layer by layer.
        kernel_size: Samples K that each convolution looks at.
    """
    shown = list(spans[:DRAWN])
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    steps = max(1 + (kernel_size - 1) * sum(shown), 8)
    reach = (kernel_size - 1) * len(spans) + 1, (kernel_size - 1) * sum(spans) + 1
    for ax, name, drawn, whole in zip(axes, ("plain", "dilated"), ([1] * len(shown), shown), reach, strict=True):
        seen = _draw_stack(ax, drawn, kernel_size, steps)
        layers = f"{len(shown)} layers see {seen} samples; the net's {len(spans)} would see {whole:,}"
        if len(spans) == len(shown):
            layers = f"{len(shown)} layers see {seen} samples"
        elif name == "dilated":
            layers = layers.replace("would see", "see")
        ax.set_title(f"{name} causal convolutions: {layers}")
    return figure


def _draw_stack(ax: Any, spans: Sequence[int], kernel_size: int, steps: int) -> int:
    """Draw a stack over ``steps`` samples, and tell how many of them the last output sees."""
    heard = {steps - 1}
    dots: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for level in range(len(spans), -1, -1):
        for t in range(steps):
            dots[t in heard].append((t, level))
        if level:
            span = spans[level - 1]
            edges: dict[bool, list[Any]] = {True: [], False: []}
            for t in range(steps):
                for tap in range(kernel_size):
                    if t - tap * span >= 0:
                        edges[t in heard].append([(t - tap * span, level - 1), (t, level)])
            ax.add_collection(LineCollection(edges[False], colors="0.88", linewidths=0.8, zorder=1))
            ax.add_collection(LineCollection(edges[True], colors="#1f5fa8", linewidths=1.8, zorder=2))
            heard = {t - tap * span for t in heard for tap in range(kernel_size) if t - tap * span >= 0}
    for dark, colour in ((False, "0.8"), (True, "#1f5fa8")):
        if dots[dark]:
            ax.scatter(*zip(*dots[dark], strict=True), s=42, c=colour, zorder=3)
    ax.scatter([steps - 1], [len(spans)], s=90, c="#e07b00", zorder=4)
    ax.set(xlim=(-0.7, steps - 0.3), ylim=(-0.4, len(spans) + 0.4), xlabel="time →")
    names = ["input", *(f"dilation {span}" for span in spans[:-1]), f"output, dilation {spans[-1]}"]
    ax.set_yticks(range(len(spans) + 1), names)
    ax.set_xticks([])
    ax.tick_params(length=0, labelleft=True)
    ax.spines[:].set_visible(False)
    return len(heard)
