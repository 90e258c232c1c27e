"""Handwritten digits in two looks, of which no digit is seen in both; the truth is known all the same.

Dimensions: N digits of a split, S side.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit.data.module import Batch, Split
from dlmkit_pictures.digits import read_digits
from dlmkit_pictures.files import as_bytes
from dlmkit_pictures.judge import Judge
from dlmkit_pictures.unpaired import Unpaired

__all__ = ["DigitLooks", "as_chalk", "as_ink"]

_INK, _PAPER = (0.10, 0.15, 0.55), (1.0, 0.93, 0.65)
_SIDE = 16


class DigitLooks(Unpaired):
    """Handwritten digits of 16 × 16 pixels: white chalk on black (a), and blue ink on yellow paper (b), unpaired.

    Ink runs a little, and its digits lean to the right. Half of the digits that come with scikit-learn are written in
    chalk and the other half in ink, so that no digit is seen in both looks; but how each would look in the other is
    known, and a classifier for each look says whether a translated digit is still the same.

    Validation and test batches have beside ``a`` and ``b`` the digits ``a_class`` and ``b_class`` (B,), int64, and the
    pictures in the other look, ``a_truth`` and ``b_truth`` (B, 3, 16, 16).

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository
        | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017)

    Args:
        batch_size: Pictures of each look in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All digits of a split in chalk (N, 3, 16, 16), and all in ink, uint8."""
        pictures, _ = _halves(split)
        return pictures["a"], pictures["b"]

    def known(self, split: Split, rows: Tensor) -> Batch:
        """The digits, and how they look in the other look."""
        pictures, classes = _halves(split)
        truths = {f"{look}_truth": pictures[f"{look}_truth"][rows] / 255 for look in ("a", "b")}
        return truths | {f"{look}_class": classes[look][rows] for look in ("a", "b")}

    def describe(self) -> str:
        """Size and splits."""
        return f"handwritten digits of 16 × 16 pixels, in chalk and in ink, unpaired; {self.sizes('digits')} of each"

    @cached_property
    def judges(self) -> Mapping[str, Judge]:
        """For each look a classifier trained on that look's training pictures."""
        pictures, classes = _halves("train")
        return {look: Judge.of(pictures[look] / 255, classes[look]) for look in ("a", "b")}

    def baselines(self) -> dict[str, dict[str, float]]:
        """What the pictures reach as they are, and what they would in the other look."""
        pictures, classes = _halves("test")
        figures: dict[str, dict[str, float]] = {}
        for look, other in (("a", "b"), ("b", "a")):
            shown = {"as it is": pictures[look] / 255, "the truth": pictures[f"{look}_truth"] / 255}
            judge, truth = self.judges[other], shown["the truth"]
            figures[f"test/accuracy_{look}{other}"] = {n: judge.accuracy(p, classes[look]) for n, p in shown.items()}
            figures[f"test/l1_{look}{other}"] = {n: float((p - truth).abs().mean()) for n, p in shown.items()}
        ways = [figures["test/accuracy_ab"], figures["test/accuracy_ba"]]
        return {"test/accuracy": {n: sum(way[n] for way in ways) / 2 for n in ways[0]}} | figures


@lru_cache(maxsize=3)
def _halves(split: Split) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The pictures of each half in its look and, as its truth, in the other one, uint8; and their digits."""
    digits, classes = read_digits(split)
    half = len(digits) // 2
    large = F.interpolate(digits, (_SIDE - 4, _SIDE - 4), mode="bicubic", align_corners=False).clamp(0, 1)
    large = F.pad(large, (2, 2, 2, 2))
    chalk, ink = (as_bytes(look(large)) for look in (as_chalk, as_ink))
    pictures = {"a": chalk[:half], "b": ink[half : 2 * half], "a_truth": ink[:half], "b_truth": chalk[half : 2 * half]}
    return pictures, {"a": classes[:half], "b": classes[half : 2 * half]}


def as_chalk(digits: Tensor) -> Tensor:
    """White on black (N, 3, S, S) of digits (N, 1, S, S), 1 where they are."""
    return digits.expand(-1, 3, -1, -1)


def as_ink(digits: Tensor) -> Tensor:
    """Blue on yellow, running and leaning to the right (N, 3, S, S), of digits (N, 1, S, S), 1 where they are."""
    thick = digits.sqrt()
    lean = torch.tensor([[1.0, 0.35, 0.0], [0.0, 1.0, 0.0]]).expand(len(digits), -1, -1)
    leaning = F.grid_sample(thick, F.affine_grid(lean, list(thick.shape), align_corners=False), align_corners=False)
    ink, paper = (torch.tensor(colour)[:, None, None] for colour in (_INK, _PAPER))
    return paper + leaning * (ink - paper)
