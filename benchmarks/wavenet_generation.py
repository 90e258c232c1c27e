"""Time of one generated sample, 40 layers: the naive window, pytorch-wavenet's ``generate_fast``, and both of our ways.

All take turns on one thread, and the time is that thread's on the processor, so that what other programs take is left
out, but for their share of cache and memory. The floor beside it is what reading the weights once takes, from the cache
where they stay and from memory.

Usage: python benchmarks/wavenet_generation.py [--peer DIR] [--rounds 10]

The cost of a sample does not follow the receptive field: the last lines are one net of 40 layers with a field of 61
samples beside one of 40 layers with 4,093, as the default has it.

The peer is a checkout of https://github.com/vincentherrmann/pytorch-wavenet; without it, it is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import report
from dlmkit_wavenet.generate import Conditions, Eager, prime
from dlmkit_wavenet.kernel import Compiled
from dlmkit_wavenet.model import WaveNetModel

SILENCE = 128


def load_peer(folder: str) -> ModuleType:
    """The peer's module, as it is but for what it asks of an older torch and of packages that it only loads data with.

    Args:
        folder: The checkout.
    """
    sys.path.insert(0, str(Path(folder).resolve()))
    with mock.patch.dict(sys.modules, {"audio_data": _mu_law()}):
        import wavenet_model
        import wavenet_modules

    # A column takes no longer a matrix of one column, and autograd functions are no longer objects.
    wavenet_modules.DilatedQueue.enqueue = _enqueue
    wavenet_modules.constant_pad_1d = wavenet_model.constant_pad_1d = _pad
    return wavenet_model


def _enqueue(queue: Any, given: torch.Tensor) -> None:
    queue.data[:, queue.in_pos] = given[:, 0]
    queue.in_pos = (queue.in_pos + 1) % queue.max_length


def _pad(given: torch.Tensor, target_size: int, dimension: int = 0, value: float = 0, pad_start: bool = False) -> Any:
    missing = target_size - given.shape[dimension]
    sides = [0, 0] * (given.dim() - 1 - dimension) + ([missing, 0] if pad_start else [0, missing])
    return torch.nn.functional.pad(given, sides, value=value)


def _mu_law() -> ModuleType:
    """What the peer's model needs of its own loader of sound files, which needs librosa: the inverse of the µ-law."""
    module: Any = ModuleType("audio_data")
    module.np = np
    module.mu_law_expansion = lambda data, mu: np.sign(data) * (np.exp(np.abs(data) * np.log(mu + 1)) - 1) / mu
    return module


def peer_net(folder: str, **options: Any) -> Any:
    """The peer's net at its defaults, which are ours but for biases that it leaves out.

    Args:
        folder: The checkout.
        options: Further ones of its constructor.
    """
    return load_peer(folder).WaveNetModel(layers=10, blocks=4, bias=False, **options)


def naive(net: WaveNetModel, steps: int) -> None:
    """Run the whole window anew for each sample."""
    codes = torch.full((1, net.receptive_field), SILENCE)
    with torch.no_grad():
        for _ in range(steps):
            drawn = torch.multinomial(torch.softmax(net(codes)[..., -1], dim=-1), 1)
            codes = torch.cat((codes[:, 1:], drawn), dim=1)


def fast_peer(net: Any, steps: int) -> None:
    """The peer's cached generation; it prints, and today's numpy and torch warn of what it does."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        net.generate_fast(steps)


def naive_peer(net: Any, steps: int) -> None:
    """The peer's whole window for each sample, without its drawing."""
    window = torch.nn.functional.one_hot(torch.full((1, net.receptive_field), SILENCE), 256).float().transpose(1, 2)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            net(window)


def ways(net: WaveNetModel, peer: Any, most: int) -> dict[str, tuple[Callable[[int], Any], int]]:
    """Name to what generates a number of samples, and how many to take at a time."""
    start = prime(net, torch.full((1, 1), SILENCE), Conditions(), most)
    uniforms = torch.rand(most, 1, dtype=torch.float64)
    eager, compiled = Eager(net, start, uniforms), Compiled(net, start, uniforms)
    batch = prime(net, torch.full((16, 1), SILENCE), Conditions(), most)
    sixteen = Compiled(net, batch, torch.rand(most, 16, dtype=torch.float64))
    found: dict[str, tuple[Callable[[int], Any], int]] = {
        "numba kernel": (compiled.run, 200),
        "numba kernel, 16 sounds": (sixteen.run, 20),
        "eager torch": (eager.run, 20),
        "naive window, our net": (lambda steps: naive(net, steps), 1),
    }
    if peer is not None:
        found["naive window, pytorch-wavenet"] = (lambda steps: naive_peer(peer, steps), 1)
        found["pytorch-wavenet generate_fast"] = (lambda steps: fast_peer(peer, steps), 10)
    return found


def fields(rounds: int, steps: int = 200) -> None:
    """The kernel with a short and a long receptive field at equal layers, which take turns."""
    nets = [WaveNetModel(layers, 40 // layers).eval() for layers in (2, 10)]
    engines, names = [], []
    for net in nets:
        start = prime(net, torch.full((1, 1), SILENCE), Conditions(), steps * (rounds + 1))
        engines.append(Compiled(net, start, torch.rand(steps * (rounds + 1), 1, dtype=torch.float64)))
        names.append(f"kernel, a field of {net.receptive_field:,}")
    taken: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for engine, times in zip(engines, taken, strict=True):
            started = time.thread_time()
            engine.run(steps)
            if turn:
                times.append(1e3 * (time.thread_time() - started) / steps)
    report(names[1], taken[1], taken[0], "ms per sample", names[0])


def reading(array: np.ndarray, repeats: int = 5) -> float:
    """Milliseconds that reading an array once takes, best of some."""
    best = float("inf")
    for _ in range(repeats):
        started = time.thread_time()
        array.max()
        best = min(best, time.thread_time() - started)
    return 1e3 * best


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="DIR", help="a checkout of pytorch-wavenet")
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (default: 10)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = WaveNetModel().eval()
    peer = peer_net(asked.peer) if asked.peer else None
    if peer is None:
        print("without --peer, pytorch-wavenet is left out")
    size = sum(p.numel() for p in net.parameters())
    print(f"{len(net.layers)} layers, {size:,} parameters, receptive field {net.receptive_field:,}, one thread")
    found = ways(net, peer, 200 * (asked.rounds + 2))
    times: dict[str, list[float]] = {name: [] for name in found}
    weights, far = found["numba kernel"][0].__self__.weights, np.ones(64_000_000, np.float32)  # type: ignore[attr-defined]
    times["weights from the cache"], times["weights from memory"] = [], []
    for turn in range(asked.rounds + 1):
        for name, (run, steps) in found.items():
            started = time.thread_time()
            run(steps)
            if turn:  # the first is for warming up
                sounds = 16 if name.endswith("16 sounds") else 1
                times[name].append(1e3 * (time.thread_time() - started) / steps / sounds)
        if turn:
            times["weights from the cache"].append(reading(weights))
            times["weights from memory"].append(reading(far, 1) * weights.size / far.size)
    for name, taken in times.items():
        print(f"{name}: {min(taken):.4g} ms per sample at best")
    for name in times:
        if name != "numba kernel":  # how many times as long as our kernel
            report(name, times[name], times["numba kernel"], "ms per sample", "numba kernel")
    fields(asked.rounds)


if __name__ == "__main__":
    main()
