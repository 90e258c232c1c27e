r"""Generation sample by sample, at a cost that does not depend on how far back the net looks.

Each layer keeps in a ring buffer the :math:`d (K - 1)` inputs that its convolution still needs. A new sample then costs
one matrix-vector product for each convolution, where running the net anew would repeat the whole receptive field
(Fast WaveNet, Le Paine et al. 2016).

A token is drawn by inverting the cumulative distribution at a uniform number, and those numbers are drawn beforehand:
:mod:`dlmkit_wavenet.kernel`, which does the same in one compiled loop, gives the same tokens for them.

n sounds, T samples, R residual channels, D dilation channels, L layers, K kernel size, V levels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit_wavenet.model import WaveNetModel

__all__ = ["Conditions", "Eager", "Start", "choose", "generate", "is_fast", "prime"]

CHUNK = 1000
"""Samples between two calls of the progress function."""


@dataclass(frozen=True)
class Conditions:
    """What the sounds are to be.

    Args:
        condition: (n,) int64 global class, or None.
        speaker: (n,) int64, or None.
        local: (n, T) int64, the class of each sample to be generated, or None. Behind its end the last one stays.
    """

    condition: Tensor | None = None
    speaker: Tensor | None = None
    local: Tensor | None = None

    def to(self, device: torch.device) -> Conditions:
        """The same on another device."""
        moved = (part if part is None else part.to(device) for part in (self.condition, self.speaker, self.local))
        return Conditions(*moved)


@dataclass(frozen=True)
class Start:
    """Where generation starts.

    Args:
        rings: For each layer the inputs that it still needs, oldest first, (d·(K-1), n, R).
        token: The last sample (n,) int64.
        whole: The global condition (n, L, 2D), or None.
        local: (n, T) int64, the class of each sample to be generated, or None.
    """

    rings: list[Tensor]
    token: Tensor
    whole: Tensor | None
    local: Tensor | None


@torch.no_grad()
def prime(net: WaveNetModel, prompt: Tensor, conditions: Conditions, length: int) -> Start:
    """What the layers remember when they have heard silence and then a prompt.

    Args:
        net: In evaluation mode.
        prompt: (n, P) int64, P ≥ 1; its last sample is the first that generation looks at.
        conditions: What the sounds are to be.
        length: Samples that will be generated.
    """
    past = net.receptive_field - 1
    codes = F.pad(prompt[:, :-1], (past, 0), value=net.levels // 2)[:, -past:] if past else prompt[:, :0]
    local = conditions.local
    if local is not None:
        local = torch.cat((local[:, :length], local[:, -1:].expand(-1, max(0, length - local.shape[1]))), dim=1)
    whole = net.global_condition(conditions.condition, conditions.speaker)
    before = None if local is None else torch.zeros_like(codes)  # class 0: nothing sounds
    x = net.embedding(codes).transpose(1, 2)  # (n, R, past)
    rings = []
    for number, layer in enumerate(net.layers):
        rings.append(x[..., x.shape[2] - layer.reach :].permute(2, 0, 1).contiguous())
        if x.shape[2] > layer.reach:
            x, _ = layer(x, net.layer_condition(number, whole, before, x.shape[2] - layer.reach))
    return Start(rings, prompt[:, -1], whole, local)


def choose(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int = 0) -> Tensor:
    """Draw from a softmax by inverting its cumulative distribution.

    Args:
        logits: (n, V).
        uniform: (n,) float64 in [0, 1).
        temperature: Logits are divided by it; at 0 the likeliest is taken.
        top_k: Only so many of the likeliest can be drawn (more where some are equal); 0 for all.

    Returns:
        (n,) int64.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    scores = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    weights = torch.exp(scores)
    if 0 < top_k < logits.shape[-1]:
        weights = weights * (scores >= scores.topk(top_k).values[:, -1:])
    summed = weights.double().cumsum(dim=-1)
    return (summed <= uniform[:, None] * summed[:, -1:]).sum(dim=-1)


class Eager:
    """Generation by torch's own operations, on any device; on CUDA a step is captured once as a graph and replayed.

    Args:
        net: In evaluation mode.
        start: Where to start, from :func:`prime`.
        uniforms: (T, n) float64 in [0, 1), one for each token to be drawn.
        temperature: See :func:`choose`.
        top_k: See :func:`choose`.
    """

    @torch.no_grad()
    def __init__(
        self, net: WaveNetModel, start: Start, uniforms: Tensor, temperature: float = 1.0, top_k: int = 0
    ) -> None:
        self.net, self.temperature, self.top_k = net, temperature, top_k
        self.uniforms, self.local = uniforms, start.local
        length, (n, width), device = len(uniforms), (len(start.token), net.width), start.token.device
        sizes = torch.tensor([len(ring) for ring in start.rings], device=device)
        self.sizes, self.offsets = sizes, sizes.cumsum(0) - sizes
        self.memory = torch.cat(start.rings)  # all rings one after the other, (sum of d·(K-1), n, R)
        taps = net.layers[0].conv.kernel_size[0]
        spans = sizes // (taps - 1)
        # How long ago each input was, oldest first, (L, K-1).
        self.ago = spans[:, None] * torch.arange(taps - 1, 0, -1, device=device)
        self.filters = [layer.conv.weight.permute(2, 1, 0).flatten(0, 1).contiguous() for layer in net.layers]
        bias = net.gate_biases  # (L, 2D)
        self.bias = bias.expand(n, -1, -1) if start.whole is None else bias + start.whole
        self.residuals = [
            None if layer.residual is None else (layer.residual.weight[..., 0].t().contiguous(), layer.residual.bias)
            for layer in net.layers
        ]
        self.outputs = torch.empty(n, len(net.layers) * width, device=device, dtype=self.memory.dtype)
        self.token = start.token.clone()
        self.time = torch.zeros(1, dtype=torch.int64, device=device)
        self.codes = torch.empty(length, n, dtype=torch.int64, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Take the last token in, and predict the next one, (n, V)."""
        reads = self.offsets[:, None] + (self.time - self.ago) % self.sizes[:, None]  # (L, K-1)
        writes = self.offsets + self.time % self.sizes  # (L,)
        local = self._local()
        x, width = self.net.embedding(self.token), self.net.width  # (n, R)
        for number, (filters, residual) in enumerate(zip(self.filters, self.residuals, strict=True)):
            past = self.memory.index_select(0, reads[number])  # (K-1, n, R)
            self.memory.index_copy_(0, writes[number : number + 1], x[None])
            inputs = torch.cat((*past, x), dim=1)  # (n, K·R)
            condition = self.bias[:, number]
            if local is not None:
                condition = condition + local[:, number]
            before_gate = torch.addmm(condition, inputs, filters)
            z = torch.tanh(before_gate[:, :width]) * torch.sigmoid(before_gate[:, width:])
            self.outputs[:, number * width : (number + 1) * width] = z
            if residual is not None:
                x = torch.addmm(x + residual[1], z, residual[0])
        return self.net.head(self.outputs[..., None])[..., 0]

    def _local(self) -> Tensor | None:
        """V h of each sound's local class now, (n, L, 2D)."""
        if self.local is None:
            return None
        now = self.local.index_select(1, self.time)[:, 0]
        return self.net.conditions["local"](now).unflatten(1, (len(self.filters), 2 * self.net.width))

    @torch.no_grad()
    def step(self) -> None:
        """Generate one sample of each sound; everything that changes lies in tensors, so that a graph can replay it."""
        uniform = self.uniforms.index_select(0, self.time)[0]
        self.token.copy_(choose(self.logits(), uniform, self.temperature, self.top_k))
        self.codes.index_copy_(0, self.time, self.token[None])
        self.time.add_(1)

    def run(self, steps: int) -> Tensor:
        """Generate ``steps`` further samples, (steps, n) int64."""
        first = int(self.time)
        if self.token.is_cuda and self.graph is None:
            self._capture()
        for _ in range(steps):
            if self.graph is None:
                self.step()
            else:
                self.graph.replay()
        return self.codes[first : first + steps]

    def _capture(self) -> None:
        """Record one step as a CUDA graph; the steps taken to warm up are undone."""
        changing = (self.memory, self.token, self.time)
        kept = [tensor.clone() for tensor in changing]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # libraries choose their kernels on the first calls, which a graph must not record
                self.time.zero_()
                self.step()
        torch.cuda.current_stream().wait_stream(aside)
        self.time.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        for tensor, before in zip(changing, kept, strict=True):
            tensor.copy_(before)
        self.graph = graph


def generate(
    net: WaveNetModel,
    length: int,
    prompt: Tensor | None = None,
    conditions: Conditions = Conditions(),
    n: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 1,
    fast: bool | None = None,
    progress: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Generate sounds.

    Args:
        net: Its mode does not matter, for nothing is dropped here.
        length: Samples T of each sound.
        prompt: What they go on from, (n, P) int64; silence when left out.
        conditions: What the sounds are to be; tensors of n rows.
        n: How many sounds, where there is no prompt.
        temperature: 1 is the net's own distribution, below is tamer, 0 takes the likeliest always.
        top_k: Only so many of the likeliest levels can be drawn; 0 for all.
        seed: Of the draws; the same seed gives the same sounds.
        fast: Whether to use the compiled kernel; when left out, if numba is there, the net on the CPU and in float32.
        progress: Called with every stretch of codes (n, t) as soon as it is there.

    Returns:
        Codes (n, T) int64, without the prompt, where they were made: on the net's device, or on the processor where
        the net is on an Apple GPU.

    Raises:
        ValueError: If ``length`` or ``temperature`` is negative, or a condition is missing.
    """
    if length < 0 or temperature < 0 or top_k < 0:
        raise ValueError(f"{length=}, {temperature=} and {top_k=} must not be negative")
    device = _with_double(net.embedding.weight.device)
    if device != net.embedding.weight.device:
        net = copy.deepcopy(net).to(device)
    conditions = conditions.to(device)
    if prompt is None or not prompt.shape[1]:
        prompt = torch.full((n, 1), net.levels // 2)
    prompt = prompt.to(device)
    draw = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(length, len(prompt), generator=draw, dtype=torch.float64).to(device)
    start = prime(net, prompt, conditions, length)
    parts = []
    for part in _stretches(net, start, uniforms, temperature, top_k, is_fast(net) if fast is None else fast):
        parts.append(part)
        if progress is not None:
            progress(part)
    return torch.cat(parts, dim=1) if parts else prompt[:, :0]


def _with_double(device: torch.device) -> torch.device:
    """Where tokens are drawn in float64: Apple's GPUs have none, and the compiled kernel is the processor's anyway."""
    return torch.device("cpu") if device.type == "mps" else device


def _stretches(
    net: WaveNetModel, start: Start, uniforms: Tensor, temperature: float, top_k: int, fast: bool
) -> Iterator[Tensor]:
    engine: Eager | Compiled
    if fast:
        from dlmkit_wavenet.kernel import Compiled

        engine = Compiled(net, start, uniforms, temperature, top_k)
    else:
        engine = Eager(net, start, uniforms, temperature, top_k)
    for first in range(0, len(uniforms), CHUNK):
        yield engine.run(min(CHUNK, len(uniforms) - first)).t().clone()


def is_fast(net: WaveNetModel) -> bool:
    """Whether the compiled kernel is there and can run this net: on the CPU, or from an Apple GPU, in float32."""
    from importlib.util import find_spec

    weight = net.embedding.weight
    return (
        _with_double(weight.device).type == "cpu" and weight.dtype == torch.float32 and find_spec("numba") is not None
    )
