r"""The loss for whole batches in torch, on any device, its gradient written by hand.

A text is cut into blocks of 32 centres. A block's centres against all words that any of them can see are one matrix
product, of which a band is used; the noise of a block, one word for each centre, against the same words is another.
Each pair has K negatives in the sum, as in the paper: a block's noise counts K/32 for each. The gradient needs the same
products turned around, no more, and is summed up into the rows of both matrices.

References:
    | Distributed Representations of Words and Phrases and their Compositionality (Mikolov et al., 2013), equation 4
    | Parallelizing Word2Vec in Shared and Distributed Memory (Ji, Satish, Li, Dubey, 2016): shared negatives

N blocks, L centres of a block, W widest window, E = L + 2W words that a block sees, S words of noise, D dimensions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit_word2vec.sampling import BLOCK, PAD

__all__ = ["Blocks", "cbow_loss", "cut", "skip_gram_loss"]


class Blocks(NamedTuple):
    """A text in blocks.

    Args:
        centre: (N, L), int64.
        around: (N, E), int64.
        noise: (N, S), int64.
        band: (N, L, E): 1 where a centre sees a word, else 0.
        weight: K/S.
    """

    centre: Tensor
    around: Tensor
    noise: Tensor
    band: Tensor
    weight: float


def cut(tokens: Tensor, windows: Tensor, noise: Tensor, widest: int, negatives: int, dtype: torch.dtype) -> Blocks:
    """Cut rows of text into blocks.

    Args:
        tokens: (B, T), int64, T a multiple of `BLOCK`; `PAD` behind the ends.
        windows: (B, T), int64.
        noise: (B, T), int64.
        widest: The widest window W.
        negatives: K.
        dtype: Of the band.
    """
    centre, reach, drawn = (whole.reshape(-1, BLOCK) for whole in (tokens, windows, noise))
    seen = BLOCK + 2 * widest
    around = F.pad(tokens, (widest, widest), value=PAD).unfold(1, seen, BLOCK).flatten(0, 1)  # (N, E)
    places = torch.arange(seen, device=tokens.device)
    distance = (places[widest : widest + BLOCK, None] - places).abs()  # (L, E)
    sees = (distance <= reach[..., None]) & (distance > 0) & (around != PAD)[:, None] & (centre != PAD)[..., None]
    return Blocks(centre.clamp_min(0), around.clamp_min(0), drawn, sees.to(dtype), negatives / BLOCK)


def skip_gram_loss(inputs: Tensor, outputs: Tensor, blocks: Blocks) -> Tensor:
    """The loss summed over all pairs.

    Args:
        inputs: (V, D).
        outputs: (V, D).
        blocks: From `cut`.
    """
    loss: Tensor = _SkipGram.apply(inputs, outputs, blocks)
    return loss


def cbow_loss(inputs: Tensor, outputs: Tensor, blocks: Blocks) -> Tensor:
    """The loss summed over all centres that see a word; the arguments are those of `skip_gram_loss`."""
    loss: Tensor = _CBOW.apply(inputs, outputs, blocks)
    return loss


class _SkipGram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor, blocks: Blocks) -> Tensor:
        x, y, z = _rows(inputs, blocks.around), _rows(outputs, blocks.centre), _rows(outputs, blocks.noise)
        positive, negative = y @ x.mT, z @ x.mT  # (N, L, E), (N, S, E)
        times = blocks.weight * blocks.band.sum(1, keepdim=True)  # (N, 1, E)
        loss = (F.softplus(-positive) * blocks.band).sum() + (F.softplus(negative) * times).sum()
        if any(ctx.needs_input_grad):
            ctx.blocks, ctx.shape = blocks, inputs.shape
            ctx.save_for_backward(x, y, z, -torch.sigmoid(-positive) * blocks.band, torch.sigmoid(negative) * times)
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, z, positive, negative = ctx.saved_tensors
        positive, negative = scale * positive, scale * negative
        around = torch.baddbmm(positive.mT @ y, negative.mT, z)  # (N, E, D)
        return (*_summed(ctx.shape, ctx.blocks, around, positive @ x, negative @ x), None)


class _CBOW(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor, blocks: Blocks) -> Tensor:
        x, y, z = _rows(inputs, blocks.around), _rows(outputs, blocks.centre), _rows(outputs, blocks.noise)
        number = blocks.band.sum(2, keepdim=True)  # (N, L, 1)
        mean = blocks.band / number.clamp_min(1)  # (N, L, E)
        h, some = mean @ x, (number > 0).to(x.dtype)  # (N, L, D), (N, L, 1)
        positive, negative = (y * h).sum(2, keepdim=True), h @ z.mT  # (N, L, 1), (N, L, S)
        loss = (F.softplus(-positive) * some).sum() + blocks.weight * (F.softplus(negative) * some).sum()
        if any(ctx.needs_input_grad):
            ctx.blocks, ctx.shape = blocks, inputs.shape
            gradients = -torch.sigmoid(-positive) * some, blocks.weight * torch.sigmoid(negative) * some
            ctx.save_for_backward(mean, h, y, z, *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        mean, h, y, z, positive, negative = ctx.saved_tensors
        positive, negative = scale * positive, scale * negative
        around = mean.mT @ torch.baddbmm(positive * y, negative, z)  # (N, E, D)
        return (*_summed(ctx.shape, ctx.blocks, around, positive * h, negative.mT @ h), None)


def _rows(matrix: Tensor, words: Tensor) -> Tensor:
    """The vectors of words (N, n), (N, n, D)."""
    return matrix.index_select(0, words.flatten()).view(*words.shape, -1)


def _summed(shape: torch.Size, blocks: Blocks, around: Tensor, centre: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of all blocks, summed up in the rows of the words that they belong to."""
    inputs, outputs = around.new_zeros(shape), around.new_zeros(shape)
    inputs.index_add_(0, blocks.around.flatten(), around.flatten(0, 1))
    outputs.index_add_(0, blocks.centre.flatten(), centre.flatten(0, 1))
    outputs.index_add_(0, blocks.noise.flatten(), noise.flatten(0, 1))
    return inputs, outputs
