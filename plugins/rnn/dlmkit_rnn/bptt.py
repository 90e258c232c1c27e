r"""Back-propagation through time as the slide writes it, line by line and without autograd.

.. code-block:: text

    Back_Propagation_Through_Time(a, y)      // a[t] is the input at time t. y[t] is the output
    Unfold the network to contain k instances of f
    do until stopping criteria is met:
        x = the zero-magnitude vector        // x is the current context
        for t from 0 to n - k                // n is the length of the training sequence
            Set the network inputs to x, a[t], a[t+1], ..., a[t+k-1]
            p = forward-propagate the inputs over the whole unfolded network
            e = y[t+k] - p                   // error = target - prediction
            Back-propagate the error, e, back across the whole unfolded network
            Sum the weight changes in the k instances of f together.
            Update all the weights in f and g.
            x = f(x, a[t])                   // compute the context for the next time-step

That is :func:`sliding`: the window of k instances moves on by one step, asks for one target, at its end, and updates
the weights once. Each of the n inputs is read k times, so an epoch costs n·k steps of f; the context x is a number by
now, through which no gradient flows. In Williams & Peng's notation it is BPTT(k; 1).

What is trained today is :func:`chunked`, BPTT(k; k): the window moves on by k steps and asks for a target at each of
them. An epoch costs n steps of f, whatever k is. Both rest on the same backward pass, :func:`back_propagate`. For k = 1
they still differ in one thing: the slide computes the next context with the weights of after the update.

The slide prints the last line one level further out; it belongs into the loop over t, or the context never moves.

n length of the sequence, k instances of f, D input width, H hidden width, K output width.

References:
    | Backpropagation Through Time: What It Does and How to Do It (Werbos, 1990)
    | An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories (Williams & Peng,
      1990)
    | Finding Structure in Time (Elman, 1990), which is k = 1: the context is an input like any other
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Net", "back_propagate", "chunked", "f", "forward", "g", "gradient", "sliding"]

Squash = Callable[[Tensor], Tensor]


class Net(NamedTuple):
    r"""The weights of f and g, or a change of each.

    Args:
        w: Of f, (H, H + D); its first H columns read the context.
        b: Of f, (H,).
        v: Of g, (K, H).
        c: Of g, (K,).
    """

    w: Tensor
    b: Tensor
    v: Tensor
    c: Tensor


def identity(z: Tensor) -> Tensor:
    """What g gives as it is: for values."""
    return z


def f(net: Net, x: Tensor, a: Tensor) -> Tensor:
    """The next context (H,) from the context x (H,) and the input a (D,)."""
    return torch.tanh(net.w @ torch.cat((x, a)) + net.b)


def g(net: Net, x: Tensor, squash: Squash = identity) -> Tensor:
    """The prediction (K,) from a context (H,)."""
    return squash(net.v @ x + net.c)


def forward(net: Net, x: Tensor, inputs: Tensor) -> list[Tensor]:
    """The contexts of the unfolded net: k + 1 vectors (H,), the given one first.

    Args:
        net: The weights.
        x: The context before the first input, (H,).
        inputs: One for each instance of f, (k, D).
    """
    contexts = [x]
    for a in inputs:
        contexts.append(f(net, contexts[-1], a))
    return contexts


def back_propagate(net: Net, contexts: Sequence[Tensor], inputs: Tensor, errors: Sequence[Tensor | None]) -> Net:
    r"""Carry errors back across the whole unfolded net, and sum the weight changes of its k instances.

    With :math:`h_j` the context after instance j and :math:`e_j` the error there,

    .. math::
        \Delta V = \sum_j e_j h_j^\top, \quad
        \delta_j = (V^\top e_j + W_h^\top \delta_{j+1}) * (1 - h_j^2), \quad
        \Delta W = \sum_j \delta_j \, [h_{j-1}, a_j]^\top

    Args:
        net: The weights.
        contexts: What :func:`forward` gave.
        inputs: One for each instance of f, (k, D).
        errors: Target minus prediction (K,) after each instance, or None where nothing was asked.

    Returns:
        The change of every weight that makes the errors smaller: minus the gradient of the loss.
    """
    size = len(net.b)
    change = Net(*(torch.zeros_like(weight) for weight in net))
    from_later = torch.zeros_like(net.b)  # what the instances after this one say about its context
    for j in reversed(range(len(inputs))):
        before, after, e = contexts[j], contexts[j + 1], errors[j]
        onto_context = from_later
        if e is not None:
            change.v.add_(torch.outer(e, after))
            change.c.add_(e)
            onto_context = onto_context + net.v.T @ e
        delta = onto_context * (1 - after**2)  # through the tanh
        change.w.add_(torch.outer(delta, torch.cat((before, inputs[j]))))  # the sum over the instances of f
        change.b.add_(delta)
        from_later = net.w[:, :size].T @ delta
    return change


def gradient(net: Net, x: Tensor, inputs: Tensor, target: Tensor, squash: Squash = identity) -> tuple[Net, Tensor]:
    r"""One window of the slide: k inputs, one target after the last.

    Args:
        net: The weights.
        x: The context before the window, (H,).
        inputs: a[t] to a[t+k-1], (k, D).
        target: y[t+k], (K,).
        squash: What g ends with. The error target minus prediction is minus the gradient by what enters it for the
            identity with the loss :math:`\tfrac12 |e|^2`, and for the softmax with the cross-entropy.

    Returns:
        The change of every weight, and the error (K,).
    """
    contexts = forward(net, x, inputs)
    e = target - g(net, contexts[-1], squash)
    return back_propagate(net, contexts, inputs, [*[None] * (len(inputs) - 1), e]), e


def sliding(
    net: Net, a: Tensor, y: Tensor, k: int, rate: float, squash: Squash = identity
) -> tuple[Net, list[Tensor], Tensor]:
    """One turn of the slide's outer loop: a window of k instances slides over the sequence, step by step.

    Args:
        net: The weights at the start.
        a: The inputs, (n, D).
        y: The outputs, (n + 1, K). y[t] is what the inputs before t lead to, so y[0] is never asked for; to predict
            what comes next in a sequence s, give a = s[:-1] and y = s.
        k: Instances of f.
        rate: What a weight change is multiplied with.
        squash: What g ends with; see :func:`gradient`.

    Returns:
        The weights at the end, the error of every window, and the last context.

    Raises:
        ValueError: If the sequence is shorter than the unfolding, or ``y`` is not one longer than ``a``.
    """
    n = _length(a, y, k)
    x = torch.zeros_like(net.b)
    errors = []
    for t in range(n - k + 1):
        change, e = gradient(net, x, a[t : t + k], y[t + k], squash)
        net = _update(net, change, rate)
        x = f(net, x, a[t])  # the context for the next time step, by the new weights
        errors.append(e)
    return net, errors, x


def chunked(
    net: Net, a: Tensor, y: Tensor, k: int, rate: float, squash: Squash = identity
) -> tuple[Net, list[Tensor], Tensor]:
    """The usual variant: windows of k steps, one after the other, with a target at every step.

    Args:
        net: The weights at the start.
        a: The inputs, (n, D); a remainder of fewer than k steps makes a shorter window.
        y: The outputs, (n + 1, K), as in :func:`sliding`.
        k: Instances of f.
        rate: What a weight change is multiplied with.
        squash: What g ends with; see :func:`gradient`.

    Returns:
        The weights at the end, the error of every step, and the last context.

    Raises:
        ValueError: If the sequence is shorter than the unfolding, or ``y`` is not one longer than ``a``.
    """
    n = _length(a, y, k)
    x = torch.zeros_like(net.b)
    errors: list[Tensor] = []
    for t in range(0, n, k):
        inputs, targets = a[t : t + k], y[t + 1 : t + k + 1]
        contexts = forward(net, x, inputs)
        window = [target - g(net, h, squash) for target, h in zip(targets, contexts[1:], strict=True)]
        net = _update(net, back_propagate(net, contexts, inputs, window), rate)
        x = contexts[-1]  # carried forward as a number: no gradient goes further back
        errors += window
    return net, errors, x


def _update(net: Net, change: Net, rate: float) -> Net:
    return Net(*(weight + rate * by for weight, by in zip(net, change, strict=True)))


def _length(a: Tensor, y: Tensor, k: int) -> int:
    """The length n of a sequence.

    Raises:
        ValueError: If it does not fit the unfolding.
    """
    if len(y) != len(a) + 1:
        raise ValueError(f"y has {len(y)} entries for {len(a)} inputs; give {len(a) + 1}, y[0] is not asked for")
    if not 1 <= k <= len(a):
        raise ValueError(f"a sequence of {len(a)} inputs cannot be unfolded into {k} instances; give k from 1 to n")
    return len(a)
