r"""A GRU layer that keeps its gates of every step, at the speed of ``nn.GRU``.

``nn.GRU`` shows only :math:`h_t`. Here the gates stay visible and can carry a loss, and the backward pass through time
is written by hand: whatever does not depend on the step after is computed for all steps at once.

B batch, T time steps, D input width, H hidden width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Gates", "recorded_gru"]

# Each multiplies a factor with the slope of an activation s that is already known, in one pass over the memory:
# factor * s * (1 - s) for the sigmoid, factor * (1 - s^2) for tanh.
_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input
_tanh_slope = torch.ops.aten.tanh_backward.grad_input


class Gates(NamedTuple):
    r"""What a GRU layer computes: each field is (B, H) for one step, (B, T, H) for a sequence.

    Args:
        reset: :math:`r_t` in (0, 1), how much of the old state the candidate sees.
        update: :math:`z_t` in (0, 1), how much of the old state is kept.
        candidate: :math:`\tilde h_t` in (-1, 1), what could replace the rest.
        hidden: :math:`h_t` in (-1, 1), memory and output in one.
    """

    reset: Tensor
    update: Tensor
    candidate: Tensor
    hidden: Tensor


def recorded_gru(x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Gates:
    r"""Run one GRU layer over a sequence and keep its gates.

    The weights are those of one layer of ``nn.GRU``: three blocks of H rows for :math:`r, z, \tilde h`. Gradients flow
    from each of the four outputs to each of the six arguments, once (there is no second derivative). The computation
    is in the weights' dtype, also under autocast.

    References:
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014), first version
        | Backpropagation Through Time: What It Does and How to Do It (Werbos, 1990)

    Args:
        x: Inputs (B, T, D), floating point.
        h0: Hidden state before the first step (B, H).
        w_ih: Weights of the inputs (3H, D).
        w_hh: Weights of the hidden state (3H, H).
        b_ih: Bias of the inputs' share (3H,).
        b_hh: Bias of the hidden state's share (3H,); in the candidate the reset gate scales it too.

    Returns:
        The gates, each (B, T, H); views of buffers that lie time first.

    Raises:
        RuntimeError: If the shapes do not fit together.
    """
    x, h0 = (a.to(w_ih.dtype) for a in (x, h0))
    with torch.autocast(x.device.type, enabled=False):
        return Gates(*_RecordedGRU.apply(x, h0, w_ih, w_hh, b_ih, b_hh))


# One buffer holds four blocks for every step, in the order h̃, r, z, u with u = U h + c, what the reset gate scales.
# So the inputs' product fills the first three blocks, the recurrent product is added to the last three, and each of
# the two is a single call. torch stacks r, z, h̃: the inputs' weights are rolled by one block, the others fit.


class _RecordedGRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # most losses look at the hidden state alone
        (batch, steps, _), size = x.shape, h0.shape[1]
        inputs = x.transpose(0, 1).flatten(0, 1)  # (T*B, D)
        hidden = x.new_empty(steps + 1, batch, size)  # h_{t-1}
        gates = x.new_empty(steps, batch, 4 * size)
        hidden[0] = h0
        # The inputs are known in advance: one product for all steps leaves only the recurrent one to the loop.
        w_input, b_input = w_ih.roll(size, 0), b_ih.roll(size)
        torch.addmm(b_input, inputs, w_input.t(), out=gates.flatten(0, 1)[:, : 3 * size])
        gates[:, :, size : 3 * size] += b_hh[: 2 * size]
        gates[:, :, 3 * size :] = b_hh[2 * size :]
        _run_forward(gates, hidden, w_hh.t())
        ctx.save_for_backward(inputs, hidden, gates, w_input, w_hh)
        candidate, r, z, _ = gates.chunk(4, dim=2)
        return tuple(a.transpose(0, 1) for a in (r, z, candidate, hidden[1:]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *from_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, hidden, gates, w_input, w_hh = ctx.saved_tensors
        size = w_hh.shape[1]
        r, z, candidate, from_hidden = (a if a is None else a.transpose(0, 1) for a in from_loss)
        onto_gates = _gradient_onto_gates(gates, candidate, r, z)
        delta, dh0 = _run_backward(gates, hidden, w_hh, from_hidden, onto_gates)
        rows = delta.flatten(0, 1)  # (T*B, 4H)
        by_input, by_hidden = rows[:, : 3 * size], rows[:, size:]
        # The net is one f, used T times with the same weights: their change is the sum of the changes of all T
        # instances. Stacked over time, that sum is a single product.
        dw_ih = by_input.t() @ inputs  # (3H, T*B) x (T*B, D) -> (3H, D)
        dw_hh = by_hidden.t() @ hidden[:-1].flatten(0, 1)  # (3H, T*B) x (T*B, H) -> (3H, H)
        db = rows.sum(dim=0)
        dx = (by_input @ w_input).view(*delta.shape[:2], -1).transpose(0, 1) if ctx.needs_input_grad[0] else None
        return dx, dh0, dw_ih.roll(-size, 0), dw_hh, db[: 3 * size].roll(-size), db[size:]


def _run_forward(gates: Tensor, hidden: Tensor, w_hh: Tensor) -> None:
    """Turn the inputs' share of the gates into the gates, step by step and in place.

    tanh(a) = 2 σ(2a) - 1 is faster than ``torch.tanh``, which starts threads even for a few thousand numbers; waiting
    for them costs more than the work, above all where cores are shared.

    Args:
        gates: What the inputs contribute, and the biases (T, B, 4H); overwritten with h̃, r, z, u.
        hidden: (T+1, B, H), the first one given; the others are written.
        w_hh: Recurrent weights (H, 3H).
    """
    size = hidden.shape[2]
    candidate, r, _, u = (a.unbind(0) for a in gates.chunk(4, dim=2))
    recurrent, r_and_z, z = (gates[:, :, a * size : b * size].unbind(0) for a, b in ((1, 4), (1, 3), (2, 3)))
    h = hidden.unbind(0)
    minus_one = gates.new_tensor(-1.0)  # a number would be turned into a tensor at every use
    for t in range(len(candidate)):
        recurrent[t].addmm_(h[t], w_hh)  # (B, H) x (H, 3H) -> (B, 3H)
        r_and_z[t].sigmoid_()
        n = candidate[t].addcmul_(r[t], u[t])
        n.add_(n).sigmoid_()
        torch.add(minus_one, n, alpha=2, out=n)
        torch.lerp(n, h[t], z[t], out=h[t + 1])


def _run_backward(
    gates: Tensor, hidden: Tensor, w_hh: Tensor, from_hidden: Tensor | None, onto_gates: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Carry the gradient from the last step to the first.

    Args:
        gates: h̃, r, z, u of every step (T, B, 4H).
        hidden: The hidden state before each step, and the last (T+1, B, H).
        w_hh: Recurrent weights (3H, H).
        from_hidden: The loss's gradient by the hidden states (T, B, H).
        onto_gates: The loss's gradient by what is inside h̃, r, z, and by u, apart from that through h (T, B, 4H).

    Returns:
        The whole gradient by what is inside h̃, r, z, and by u (T, B, 4H), and by h0 (B, H).
    """
    size = w_hh.shape[1]
    delta = _slopes(gates, hidden)
    blocks, recurrent = delta.unflatten(2, (4, size)).unbind(0), delta[:, :, size:].unbind(0)
    z, step = gates[:, :, 2 * size : 3 * size].unbind(0), delta.unbind(0)
    dh = torch.zeros_like(hidden[0])
    for t in reversed(range(len(step))):
        if from_hidden is not None:
            dh.add_(from_hidden[t])
        blocks[t].mul_(dh.unsqueeze(1))
        if onto_gates is not None:
            step[t].add_(onto_gates[t])
        dh.mul_(z[t]).addmm_(recurrent[t], w_hh)  # (B, 3H) x (3H, H) -> (B, H)
    return delta, dh


def _slopes(gates: Tensor, hidden: Tensor) -> Tensor:
    """How h_t changes with what is inside h̃, r, z, and with u, unit by unit (T, B, 4H)."""
    candidate, r, z, u = gates.chunk(4, dim=2)
    slopes = torch.empty_like(gates)
    by_candidate, by_r, by_z, by_u = slopes.chunk(4, dim=2)
    _tanh_slope(1 - z, candidate, grad_input=by_candidate)
    _sigmoid_slope(by_candidate * u, r, grad_input=by_r)
    _sigmoid_slope(hidden[:-1] - candidate, z, grad_input=by_z)
    torch.mul(by_candidate, r, out=by_u)
    return slopes


def _gradient_onto_gates(
    gates: Tensor, from_candidate: Tensor | None, from_r: Tensor | None, from_z: Tensor | None
) -> Tensor | None:
    """The gradient (T, B, 4H) that a loss on h̃, r, z themselves gives; None without such a loss."""
    if from_candidate is None and from_r is None and from_z is None:
        return None
    candidate, r, z, u = gates.chunk(4, dim=2)
    onto_gates = torch.zeros_like(gates)
    by_candidate, by_r, by_z, by_u = onto_gates.chunk(4, dim=2)
    onto_r = torch.zeros_like(r) if from_r is None else from_r
    if from_candidate is not None:
        _tanh_slope(from_candidate, candidate, grad_input=by_candidate)
        torch.mul(by_candidate, r, out=by_u)
        onto_r = onto_r + by_candidate * u  # the candidate looks through the reset gate
    _sigmoid_slope(onto_r, r, grad_input=by_r)
    if from_z is not None:
        _sigmoid_slope(from_z, z, grad_input=by_z)
    return onto_gates
