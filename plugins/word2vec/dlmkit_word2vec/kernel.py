r"""Training compiled: one loop over the centres of a text, which several threads run at once without locks.

It is stochastic gradient descent, a step for each centre on the loss of :class:`~dlmkit_word2vec.model.Embeddings`. The
words around a centre share its K negatives, so that what is one dot product at a time in the authors' program becomes
two small matrix products: the K + 1 output vectors are fetched once for all words around. Threads write into the same
matrices; with thousands of words they rarely meet (Hogwild), and one thread repeats bit for bit.

References:
    | Hogwild: A Lock-Free Approach to Parallelizing Stochastic Gradient Descent (Niu, Recht, Ré, Wright, 2011)
    | Parallelizing Word2Vec in Shared and Distributed Memory (Ji, Satish, Li, Dubey, 2016): shared negatives

B rows of T tokens, D dimensions, C words around a centre, K negatives.
"""

# ruff: noqa: ANN001, ANN201, ANN202 - numba finds out the types of what it compiles
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["cbow", "skip_gram"]

# What may be rearranged so that vector instructions apply; infinities and nans do not occur.
compiled = njit(fastmath={"reassoc", "contract", "arcp", "nsz", "nnan", "ninf"}, error_model="numpy", cache=True)
entry = njit(
    fastmath={"reassoc", "contract", "arcp", "nsz", "nnan", "ninf"}, error_model="numpy", cache=True, nogil=True
)

ZERO, ONE = np.float32(0), np.float32(1)
REACH = 8.0
"""Beyond it a sigmoid is taken for 0 or 1, but for 3e-4."""
CELLS = 4096
_SCORES = (np.arange(CELLS) + 0.5) * (2 * REACH / CELLS) - REACH
SIGMOID = (1 / (1 + np.exp(-_SCORES))).astype(np.float32)
LOSS = np.log1p(np.exp(-_SCORES)).astype(np.float32)  # -log sigmoid
SCALE = np.float32(CELLS / (2 * REACH))


@compiled
def _cell(score):
    """Where a score lies in the tables."""
    return min(CELLS - 1, max(0, int((score + np.float32(REACH)) * SCALE)))


@compiled
def _scores(left, rows, right, columns, out):
    """Put left · rightᵀ into out, for the first rows and columns, three columns at a time."""
    dim = left.shape[1]
    for i in range(rows):
        for j in range(0, columns, 3):
            a, b, c = ZERO, ZERO, ZERO
            for d in range(dim):
                x = left[i, d]
                a += x * right[j, d]
                b += x * right[j + 1, d]
                c += x * right[j + 2, d]
            out[i, j], out[i, j + 1], out[i, j + 2] = a, b, c


@compiled
def _fetch(matrix, row, out, at):
    for d in range(matrix.shape[1]):
        out[at, d] = matrix[row, d]


@compiled
def _add(weights, which, rows, matrix, out, row):
    """Add weights[which] · matrix to out[row], three rows of the matrix at a time."""
    for j in range(0, rows, 3):
        a, b, c = weights[which, j], weights[which, j + 1], weights[which, j + 2]
        for d in range(matrix.shape[1]):
            out[row, d] += a * matrix[j, d] + b * matrix[j + 1, d] + c * matrix[j + 2, d]


@compiled
def _noise_words(words, centre, noise, row, place, stride, negatives):
    """Put the centre and its noise into words, without noise that is the centre; how many they are."""
    words[0], m, at = centre, 1, place
    for _ in range(negatives):
        if noise[row, at] != centre:
            words[m] = noise[row, at]
            m += 1
        at = at + stride if at + stride < noise.shape[1] else at + stride - noise.shape[1]
    return m


@compiled
def _steps(scores, row, m, rate):
    """Turn scores, that of the centre first, into what each output's vector is to be added with; the loss."""
    cell = _cell(scores[row, 0])
    loss = LOSS[cell]
    scores[row, 0] = rate * (ONE - SIGMOID[cell])
    for k in range(1, m):
        cell = _cell(scores[row, k])
        loss += LOSS[CELLS - 1 - cell]
        scores[row, k] = -rate * SIGMOID[cell]
    scores[row, m] = scores[row, m + 1] = ZERO  # the products go three at a time
    return loss


@entry
def skip_gram(inputs, outputs, tokens, windows, noise, negatives, rate):
    """Train on rows of text.

    Args:
        inputs: (V, D), float32; is changed.
        outputs: (V, D), float32; is changed.
        tokens: (B, T), int64; a row ends at the first that is negative.
        windows: (B, T), int64.
        noise: (B, T), int64; a centre takes K of its row that lie as far apart as can be, so that each is used K
            times, with words around that have nothing to do with each other.
        negatives: K.
        rate: The learning rate.

    Returns:
        The loss before each step, summed, and the number of pairs that it is the sum of.
    """
    dim, length = inputs.shape[1], tokens.shape[1]
    widest = windows.max() if windows.size else 1
    room, places = negatives + 3, 2 * widest + 3
    out, around = np.zeros((room, dim), np.float32), np.zeros((places, dim), np.float32)
    scores, turned = np.zeros((places, room), np.float32), np.zeros((room, places), np.float32)
    words = np.zeros(room, np.int64)
    stride, step, loss, count = max(1, length // negatives), np.float32(rate), 0.0, 0
    for b in range(len(tokens)):
        size = length
        while size and tokens[b, size - 1] < 0:
            size -= 1
        for i in range(size):
            low, high = max(0, i - windows[b, i]), min(size, i + windows[b, i] + 1)
            n = 0
            for j in range(low, high):
                if j != i:
                    _fetch(inputs, tokens[b, j], around, n)
                    n += 1
            if n == 0:
                continue
            m = _noise_words(words, tokens[b, i], noise, b, i, stride, negatives)
            for k in range(m):
                _fetch(outputs, words[k], out, k)
            _scores(around, n, out, m, scores)
            for c in range(n):
                loss += _steps(scores, c, m, step)
                for k in range(m):
                    turned[k, c] = scores[c, k]
            count += n
            n = 0
            for j in range(low, high):
                if j != i:
                    _add(scores, n, m, out, inputs, tokens[b, j])
                    n += 1
            for k in range(m):
                turned[k, n] = turned[k, n + 1] = ZERO
                _add(turned, k, n, around, outputs, words[k])
    return loss, count


@entry
def cbow(inputs, outputs, tokens, windows, noise, negatives, rate):
    """Train on rows of text; arguments and results are those of `skip_gram`, the loss being that of the centres."""
    dim, length = inputs.shape[1], tokens.shape[1]
    room = negatives + 3
    out, mean = np.zeros((room, dim), np.float32), np.zeros((3, dim), np.float32)
    scores, back = np.zeros((1, room), np.float32), np.zeros((1, room), np.float32)
    turned = np.zeros((1, 3), np.float32)
    words = np.zeros(room, np.int64)
    stride, step, loss, count = max(1, length // negatives), np.float32(rate), 0.0, 0
    for b in range(len(tokens)):
        size = length
        while size and tokens[b, size - 1] < 0:
            size -= 1
        for i in range(size):
            low, high = max(0, i - windows[b, i]), min(size, i + windows[b, i] + 1)
            if high - low < 2:
                continue
            share = ONE / np.float32(high - low - 1)
            for d in range(dim):
                mean[0, d] = ZERO
            for j in range(low, high):
                if j != i:
                    for d in range(dim):
                        mean[0, d] += share * inputs[tokens[b, j], d]
            m = _noise_words(words, tokens[b, i], noise, b, i, stride, negatives)
            for k in range(m):
                _fetch(outputs, words[k], out, k)
            _scores(mean, 1, out, m, scores)
            loss += _steps(scores, 0, m, step)
            for k in range(m + 2):
                back[0, k] = share * scores[0, k]
            count += 1
            for j in range(low, high):
                if j != i:
                    _add(back, 0, m, out, inputs, tokens[b, j])
            for k in range(m):
                turned[0, 0] = scores[0, k]
                _add(turned, 0, 1, mean, outputs, words[k])
    return loss, count
