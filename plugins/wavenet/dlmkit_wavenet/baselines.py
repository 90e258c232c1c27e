"""What simple methods reach in bits per sample: counting, and linear prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dlmkit_wavenet.codec import LEVELS, mu_law_bounds, mu_law_decode

__all__ = ["LinearPrediction", "bits_per_sample", "unigram"]

Codes = Sequence[npt.NDArray[np.uint8]]
Floats = npt.NDArray[np.float64]

_FLOOR = 1e-3
"""Share of the probability that is spread evenly over all classes, so that none is impossible."""

_SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "Laplace": lambda z: 0.5 + 0.5 * np.sign(z) * -np.expm1(-np.abs(z)),
    "logistic": lambda z: 0.5 + 0.5 * np.tanh(z * np.log(2)),
    "Gauss": lambda z: 1 / (1 + np.exp(-np.clip(1.5976 * z * 0.79788 + 0.07056 * (z * 0.79788) ** 3, -50, 50))),
}
"""Distribution functions of unit mean absolute value; the normal one as its usual approximation."""


def bits_per_sample(train: Codes, test: Codes) -> dict[str, float]:
    """What the methods reach.

    Args:
        train: The µ-law classes of each training clip (N,).
        test: Those of each test clip.

    Returns:
        Method to bits per sample of the test clips, all of whose samples are scored.
    """
    return {"unigram": unigram(train, test), "linear prediction": LinearPrediction(train).bits(test)}


def unigram(train: Codes, test: Codes) -> float:
    r"""Bits per sample when each class has the share that it has in training, one more of each being counted.

    .. math::
        -\frac1N \sum_t \log_2 \frac{1 + n(c_t)}{256 + \sum_c n(c)}

    Args:
        train: The µ-law classes of each training clip (N,).
        test: Those of each test clip.
    """
    counts, scored = (np.bincount(np.concatenate(clips), minlength=LEVELS) for clips in (train, test))
    share = (1 + counts) / (LEVELS + counts.sum())
    return float(-(scored * np.log2(share)).sum() / scored.sum())


class LinearPrediction:
    r"""Predicts a sample as a weighted sum of those before it, and knows how far off it will be.

    .. math::
        \hat x_t = \sum_{k=1}^{p} a_k x_{t-k}, \qquad
        P(c_t) = F\!\left(\frac{b_{c+1} - \hat x_t}{s_t}\right) - F\!\left(\frac{b_c - \hat x_t}{s_t}\right)

    The weights solve the normal equations of the autocorrelation method. The spread :math:`s_t` follows from how far
    off the last samples were: that figure is cut into ranges of equally many training samples, and each range has the
    mean absolute error that it has in training. The distribution F is the best of three in training.

    References:
        | Linear Prediction: A Tutorial Review (Makhoul, 1975)
        | Shorten: Simple Lossless and Near-Lossless Waveform Compression (Robinson, 1994)

    Args:
        train: The µ-law classes of each training clip (N,).
        order: Samples p that a prediction sees.
        window: Samples whose errors tell the spread.
        ranges: Into how many ranges that figure is cut.
    """

    def __init__(self, train: Codes, order: int = 32, window: int = 32, ranges: int = 24) -> None:
        self.order, self.window = order, window
        waves = [mu_law_decode(codes).astype(np.float64) for codes in train]
        r = sum(np.array([wave[k:] @ wave[: max(len(wave) - k, 0)] for k in range(order + 1)]) for wave in waves)
        r = np.asarray(r) + 1e-9 * np.eye(1, order + 1)[0] * (r[0] + 1)  # type: ignore[index]
        toeplitz = r[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
        self.weights: Floats = np.linalg.solve(toeplitz, r[1:])
        errors, recent = (np.concatenate(parts) for parts in zip(*map(self._errors, waves), strict=True))
        self.edges: Floats = np.unique(np.quantile(recent, np.arange(1, ranges) / ranges))
        where = np.searchsorted(self.edges, recent, side="right")
        counts = np.bincount(where, minlength=len(self.edges) + 1)
        self.spreads: Floats = np.bincount(where, np.abs(errors), len(self.edges) + 1) / np.maximum(counts, 1) + 1e-6
        # A part of the training clips tells which distribution fits.
        self.shape = min(_SHAPES, key=lambda shape: self._bits(train[:64], shape))

    def bits(self, test: Codes) -> float:
        """Bits per sample of some clips.

        Args:
            test: The µ-law classes of each (N,).
        """
        return self._bits(test, self.shape)

    def probabilities(self, codes: npt.NDArray[np.uint8], shape: str | None = None) -> Floats:
        """The probability of each of a clip's classes, given those before it (N,).

        Args:
            codes: The clip's µ-law classes (N,).
            shape: Laplace, logistic or Gauss; when left out, the best one.
        """
        wave = mu_law_decode(codes).astype(np.float64)
        errors, recent = self._errors(wave)
        guess = wave - errors
        spread = self.spreads[np.searchsorted(self.edges, recent, side="right")]
        bounds = np.concatenate([[-np.inf], mu_law_bounds(), [np.inf]])
        below, above = ((bounds[codes.astype(int) + side] - guess) / spread for side in (0, 1))
        distribution = _SHAPES[shape or self.shape]
        p = distribution(np.clip(above, -60, 60)) - distribution(np.clip(below, -60, 60))
        return np.asarray((1 - _FLOOR) * p + _FLOOR / LEVELS)

    def _bits(self, clips: Codes, shape: str) -> float:
        total = sum(-np.log2(self.probabilities(codes, shape)).sum() for codes in clips)
        return float(total / sum(map(len, clips)))

    def _errors(self, wave: Floats) -> tuple[Floats, Floats]:
        """How far off each prediction is (N,), and the mean of that over the samples just before (N,)."""
        padded = np.concatenate([np.zeros(self.order), wave])
        guess = np.convolve(padded[:-1], self.weights, mode="valid")[: len(wave)]
        errors = wave - guess
        sums = np.concatenate([[0.0], np.cumsum(np.abs(errors))])
        t = np.arange(len(wave))
        recent = (sums[t] - sums[np.maximum(t - self.window, 0)]) / self.window
        return errors, recent
