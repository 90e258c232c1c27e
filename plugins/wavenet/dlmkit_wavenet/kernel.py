r"""The same generation as :class:`~dlmkit_wavenet.generate.Eager`, compiled: one loop over samples and layers.

All weights lie in one array, in the order in which a sample needs them, so that they stream through the cache. A matrix
is cut into tiles of 32 outputs, which vector instructions sum up while the inputs pass. Channels are padded to whole
tiles with zeros.

n sounds, R residual channels, D dilation channels, S skip channels, L layers, K kernel size, V levels; ' is padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from dlmkit_wavenet.generate import Start
from dlmkit_wavenet.model import WaveNetModel

__all__ = ["Compiled"]

TILE = 32
NEVER = -1e30
"""The logit of a level that is only there to fill a tile."""

# What may be rearranged so that vector instructions apply; infinities, nans and divisions by zero do not occur.
_MATHS = {"reassoc", "contract", "arcp", "nsz", "nnan", "ninf"}
compiled: Callable[[Callable[..., Any]], Any] = njit(fastmath=_MATHS, error_model="numpy", cache=True)
ZERO, ONE, LOG2E = np.float32(0), np.float32(1), np.float32(1 / math.log(2))
HIGHEST, LEAST, LARGE = np.float32(80), np.float32(-79.5), np.float32(1e17)
HALF, MIDDLE = np.float32(0.5), np.float32(128)
# 2^r = Σ (r ln 2)^k / k! for |r| ≤ 1/2; the first term that is left out is 1e-7.
C1, C2, C3, C4, C5, C6 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7))

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Compiled:
    """Generation in one numba kernel, on one core, in float32.

    Args:
        net: On the CPU.
        start: Where to start.
        uniforms: (T, n) float64 in [0, 1), one for each token to be drawn.
        temperature: Logits are divided by it; at 0 the likeliest is taken.
        top_k: Only so many of the likeliest can be drawn; 0 for all.
    """

    def __init__(
        self, net: WaveNetModel, start: Start, uniforms: Tensor, temperature: float = 1.0, top_k: int = 0
    ) -> None:
        self.uniforms, self.temperature, self.top_k = uniforms.numpy(), temperature, top_k
        self.token, self.levels = start.token.numpy().copy(), net.levels
        self.weights, self.biases = _packed(net)
        channels, width = net.embedding.embedding_dim, net.width
        n, layers, taps = len(self.token), len(net.layers), net.layers[0].conv.kernel_size[0]
        self.spans = np.array([layer.conv.dilation[0] for layer in net.layers])
        self.table = _padded(net.embedding.weight)  # (V, R')
        self.memory = _padded(torch.cat(start.rings).transpose(0, 1))  # (n, sum of d·(K-1), R')
        bias = net.gate_biases  # (L, 2D)
        bias = bias.expand(n, -1, -1) if start.whole is None else bias + start.whole
        self.gates = _padded(_signed(bias, width))  # (n, L, 2D')
        self.local = np.zeros((n, 0), np.int64) if start.local is None else start.local.numpy()
        table = torch.zeros(1, layers * 2 * width) if start.local is None else net.conditions["local"].weight
        self.local_table = _padded(_signed(table.unflatten(1, (layers, -1)), width))  # (classes, L, 2D')
        skip, end = net.skip.out_channels, net.end.out_channels
        self.sizes = np.array([_round_up(size) for size in (channels, width, skip, end, net.levels)] + [taps])
        self.stream, self.skipped, self.out = (np.empty(n * self.sizes[i], np.float32) for i in (0, 2, 4))
        self.time = 0

    def run(self, steps: int) -> Tensor:
        """Generate ``steps`` further samples, (steps, n) int64."""
        codes = np.empty((steps, len(self.token)), np.int64)
        end = self.time + steps
        uniforms = self.uniforms[self.time : end]
        _generate(*self._arguments(), uniforms, self.time, float(self.temperature), self.top_k, codes)
        self.time = end
        return torch.from_numpy(codes)

    def logits(self) -> Tensor:
        """Take the last token in, and predict the next one, (n, V)."""
        _predict(*self._arguments(), self.time)
        self.time += 1
        return torch.from_numpy(self.out.reshape(len(self.token), -1)[:, : self.levels].copy())

    def _arguments(self) -> tuple[NDArray[Any], ...]:
        own = (self.weights, self.biases, self.table, self.gates, self.local, self.local_table, self.spans, self.sizes)
        return (*own, self.memory, self.token, self.stream, self.skipped, self.out)


def _round_up(size: int) -> int:
    return -(-size // TILE) * TILE


def _padded(array: Tensor | None) -> Floats:
    """With zeros at the end of the last dimension, so that tiles are whole; then flat."""
    assert array is not None  # a convolution's bias, which all of the net's have
    missing = _round_up(array.shape[-1]) - array.shape[-1]
    return nn.functional.pad(array.detach(), (0, missing)).contiguous().numpy().ravel()


def _signed(array: Tensor, width: int) -> Tensor:
    """Filters and gates (…, 2D) as (…, 2, D), times -2 and -1: what tanh and σ take the exponential of."""
    parts = array.unflatten(-1, (2, width))
    return parts * parts.new_tensor([[-2.0], [-1.0]])


def _tiled(weight: Tensor) -> Floats:
    """A matrix (…, outputs, inputs), padded to whole tiles, as the kernel reads it: tile, input, output in the tile."""
    rows, columns = weight.shape[-2:]
    whole = nn.functional.pad(weight.detach(), (0, _round_up(columns) - columns, 0, _round_up(rows) - rows))
    return whole.flatten(0, -2).unflatten(0, (-1, TILE)).transpose(1, 2).contiguous().numpy().ravel()


def _packed(net: WaveNetModel) -> tuple[Floats, Floats]:
    """Weights and biases in the order of use: each layer's convolution, residual and skip, then both at the end."""
    skips = net.skip.weight[..., 0].unflatten(1, (len(net.layers), -1)).unbind(1)
    matrices, biases = [], []
    for layer, onto_skip in zip(net.layers, skips, strict=True):
        for tap in layer.conv.weight.unbind(2):  # (2D, R), the oldest first
            matrices.append(_signed(tap.t(), layer.conv.out_channels // 2).permute(1, 2, 0))
        if layer.residual is not None:
            matrices.append(layer.residual.weight[..., 0])
            biases.append(_padded(layer.residual.bias))
        matrices.append(onto_skip)
    matrices += [net.end.weight[..., 0], net.readout.weight[..., 0]]
    readout = _padded(net.readout.bias)
    readout[net.levels :] = NEVER
    biases += [_padded(net.skip.bias), _padded(net.end.bias), readout]
    return np.concatenate([_tiled(matrix) for matrix in matrices]), np.concatenate(biases)


# The kernel. Arrays are passed whole and with a position, because a slice that is passed on costs as much as a small
# product: it is counted as one more reference. Positions in the weights come back as they are behind what was read.


@compiled
def _add_product(
    out: Floats, out_at: int, rows: int, weights: Floats, at: int, inputs: Floats, inputs_at: int, columns: int
) -> int:
    """Adds W inputs to out, for a matrix W (rows, columns)."""
    x = inputs[inputs_at : inputs_at + columns]
    for first in range(out_at, out_at + rows, TILE):
        tile = out[first : first + TILE]
        for i in range(0, columns, 8):  # eight inputs for each time that the tile's sums are fetched and put back
            a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
            e, f, g, h = x[i + 4], x[i + 5], x[i + 6], x[i + 7]
            w = weights[at : at + 8 * TILE]
            for o in range(TILE):
                one = a * w[o] + b * w[TILE + o] + (c * w[2 * TILE + o] + d * w[3 * TILE + o])
                other = e * w[4 * TILE + o] + f * w[5 * TILE + o] + (g * w[6 * TILE + o] + h * w[7 * TILE + o])
                tile[o] += one + other
            at += 8 * TILE
    return at


@compiled
def _copy(out: Floats, out_at: int, values: Floats, values_at: int, size: int) -> None:
    into, given = out[out_at : out_at + size], values[values_at : values_at + size]
    for i in range(size):
        into[i] = given[i]


@compiled
def _add(out: Floats, out_at: int, values: Floats, values_at: int, size: int) -> None:
    into, given = out[out_at : out_at + size], values[values_at : values_at + size]
    for i in range(size):
        into[i] += given[i]


@compiled
def _recall(
    out: Floats, out_at: int, memory: Floats, memory_at: int, spans: Ints, taps: int, channels: int, t: int
) -> None:
    """The inputs that all layers need of the past: fetched together, for they lie where no cache expects them."""
    for span in spans:
        size = span * (taps - 1)
        for tap in range(taps - 1):
            slot = memory_at + (t + size - span * (taps - 1 - tap)) % size * channels
            into, given = out[out_at : out_at + channels], memory[slot : slot + channels]
            for i in range(channels):
                into[i] = given[i]
            out_at += channels
        memory_at += size * channels


@compiled
def _relu(x: Floats, at: int, size: int) -> None:
    part = x[at : at + size]
    for i in range(size):
        part[i] = max(part[i], ZERO)


@compiled
def _exponential(x: Floats, power: Floats, power_bits: NDArray[np.int32]) -> None:
    """Puts exp(x) in the place of x, cut to ±80: 2^n by its bits, the rest by a polynomial.

    ``power_bits`` is the same memory as ``power``, seen as int32.
    """
    for i in range(len(x)):
        y = max(min(x[i], HIGHEST), -HIGHEST) * LOG2E
        shifted = np.int32(y + (MIDDLE + HALF))  # positive, so that cutting off the fraction rounds
        r = y - (np.float32(shifted) - MIDDLE)
        power_bits[i] = (shifted - 1) << 23  # a float32 keeps its exponent with 127 added
        x[i] = ONE + r * (C1 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    for i in range(len(x)):
        x[i] *= power[i]


@compiled
def _gated(x: Floats, z: Floats, power: Floats, power_bits: NDArray[np.int32]) -> None:
    """Makes z = tanh(filter) σ(gate) of x = (-2 filter, -gate), whose exponentials leave one division to do."""
    _exponential(x, power, power_bits)
    a, b = x[: len(z)], x[len(z) :]
    for i in range(len(z)):
        p, q = min(a[i], LARGE), min(b[i], LARGE)
        z[i] = (ONE - p) / ((ONE + p) * (ONE + q))


@compiled
def _predict(
    weights: Floats,
    biases: Floats,
    table: Floats,
    gates: Floats,
    local: Ints,
    local_table: Floats,
    spans: Ints,
    sizes: Ints,
    memory: Floats,
    token: Ints,
    stream: Floats,
    skipped: Floats,
    out: Floats,
    t: int,
) -> None:
    """The logits of the next sample of each sound, into ``out``."""
    channels, width, skip, taps, sounds, layers = sizes[0], sizes[1], sizes[2], sizes[5], len(token), len(spans)
    x, z, power_bits = np.empty(2 * width, np.float32), np.empty(width, np.float32), np.empty(2 * width, np.int32)
    power, recalled = power_bits.view(np.float32), np.empty(sounds * layers * (taps - 1) * channels, np.float32)
    past, rows = len(memory) // (sounds * channels), layers * (taps - 1)
    at = bias_at = ring = 0
    for s in range(sounds):
        _recall(recalled, s * rows * channels, memory, s * past * channels, spans, taps, channels, t)
        _copy(stream, s * channels, table, token[s] * channels, channels)
        _copy(skipped, s * skip, biases, channels * (layers - 1), skip)
    for layer in range(layers):
        size, begin = spans[layer] * (taps - 1), at
        for s in range(sounds):
            at, here = begin, s * past + ring
            _copy(x, 0, gates, (s * layers + layer) * 2 * width, 2 * width)
            if local.shape[1]:
                _add(x, 0, local_table, (local[s, t] * layers + layer) * 2 * width, 2 * width)
            for tap in range(taps - 1):
                row = (s * rows + layer * (taps - 1) + tap) * channels
                at = _add_product(x, 0, 2 * width, weights, at, recalled, row, channels)
            at = _add_product(x, 0, 2 * width, weights, at, stream, s * channels, channels)
            _copy(memory, (here + t % size) * channels, stream, s * channels, channels)
            _gated(x, z, power, power_bits)
            if layer < layers - 1:
                _add(stream, s * channels, biases, bias_at, channels)
                at = _add_product(stream, s * channels, channels, weights, at, z, 0, width)
            at = _add_product(skipped, s * skip, skip, weights, at, z, 0, width)
        ring += size
        bias_at += channels
    _read_out(weights, at, biases, channels * (layers - 1) + skip, sizes, sounds, skipped, out)


@compiled
def _read_out(
    weights: Floats, at: int, biases: Floats, bias_at: int, sizes: Ints, sounds: int, skipped: Floats, out: Floats
) -> None:
    """The two 1×1 convolutions at the end."""
    skip, width, levels, begin = sizes[2], sizes[3], sizes[4], at
    hidden = np.empty(width, np.float32)
    for s in range(sounds):
        _relu(skipped, s * skip, skip)
        _copy(hidden, 0, biases, bias_at, width)
        _copy(out, s * levels, biases, bias_at + width, levels)
        at = _add_product(hidden, 0, width, weights, begin, skipped, s * skip, skip)
        _relu(hidden, 0, width)
        _add_product(out, s * levels, levels, weights, at, hidden, 0, width)


@compiled
def _choose(logits: Floats, uniform: float, temperature: float, top_k: int) -> int:
    """See :func:`dlmkit_wavenet.generate.choose`."""
    if temperature == 0.0:
        return int(np.argmax(logits))
    scores, top, scale = logits.copy(), logits.max(), np.float32(1 / temperature)
    for i in range(len(scores)):
        scores[i] = max((scores[i] - top) * scale, -HIGHEST)
    lowest = max(np.sort(scores)[len(scores) - top_k] if top_k else LEAST, LEAST)
    weights, power_bits = scores.copy(), np.empty(len(scores), np.int32)
    _exponential(weights, power_bits.view(np.float32), power_bits)
    total = 0.0
    for i in range(len(weights)):
        weights[i] = weights[i] if scores[i] >= lowest else ZERO
        total += weights[i]
    goal, summed = uniform * total, 0.0
    for i in range(len(weights)):
        summed += weights[i]
        if summed > goal:
            return i
    return int(np.argmax(logits))


@compiled
def _generate(
    weights: Floats,
    biases: Floats,
    table: Floats,
    gates: Floats,
    local: Ints,
    local_table: Floats,
    spans: Ints,
    sizes: Ints,
    memory: Floats,
    token: Ints,
    stream: Floats,
    skipped: Floats,
    out: Floats,
    uniforms: NDArray[np.float64],
    first: int,
    temperature: float,
    top_k: int,
    codes: Ints,
) -> None:
    """Generate len(codes) samples of each sound."""
    levels = sizes[4]
    for step in range(len(codes)):
        _predict(
            weights, biases, table, gates, local, local_table, spans, sizes, memory, token, stream, skipped, out,
            first + step,
        )  # fmt: skip
        for s in range(len(token)):
            token[s] = _choose(out[s * levels : (s + 1) * levels], uniforms[step, s], temperature, top_k)
            codes[step, s] = token[s]
