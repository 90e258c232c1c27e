"""Pictures with a vector each, told by a net that learnt to tell the training classes.

Dimensions: B pictures of a batch, N pictures of a split, E numbers in a vector.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from dlmkit.data.module import Batch, Split
from dlmkit_pictures.digits import Digits
from dlmkit_pictures.pictures import Pictures
from dlmkit_pictures.portraits import Portraits

__all__ = ["Embedded", "EmbeddedDigits", "EmbeddedPortraits"]


class Embedded(Pictures):
    r"""Adds to each picture its embedding, (B, E) float32, under the name ``embedding``.

    .. math::
        e = \frac{f(x) - \bar f}{s}

    Here f are the judge's features, those of a classifier of the training pictures; their mean over the training
    pictures is taken off, and they are divided by one number, so that their mean square is 1. A picture of a class that
    the classifier has never seen has an embedding too.

    A batch holds ``picture`` (B, C, H, H), float32 from 0 to 1, ``label`` (B,), int64, and ``embedding`` (B, E),
    float32.
    """

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector."""
        return self.embeddings("val").shape[1]

    def embeddings(self, split: Split) -> Tensor:
        """Those of all pictures of a split (N, E)."""
        return self._embeddings[split]

    @cached_property
    def _embeddings(self) -> dict[Split, Tensor]:
        splits: tuple[Split, ...] = ("train", "val", "test")
        features = {split: self.judge.look(self.table(split)[0])[0] for split in splits}
        mean = features["train"].mean(dim=0)
        scale = (features["train"] - mean).square().mean().sqrt()
        return {split: (each - mean) / scale for split, each in features.items()}

    def take(self, split: Split, rows: Tensor) -> Batch:
        """Some pictures, their classes and their embeddings."""
        return super().take(split, rows) | {"embedding": self.embeddings(split)[rows]}


class EmbeddedDigits(Embedded, Digits):
    """The handwritten digits of 8 × 8 pixels that come with scikit-learn, each with its embedding.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository

    Args:
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """


class EmbeddedPortraits(Embedded, Portraits):
    """Grey portraits in a folder for each person, each with its embedding by a net that has seen other people only.

    References:
        | Parameterisation of a Stochastic Model for Human Face Identification (Samaria & Harter, 1994), for the ORL
          database of faces

    Args:
        source: A folder with a folder of pictures for each person, such as the ORL faces.
        image_size: Pixels along one side.
        shades: Values that a pixel can have.
        val_people: How many people are kept for validation.
        test_people: How many people are kept for the test.
        people_seed: Which ones; it does not follow from the run's seed, so that all runs have the same.
        copies: How often each training picture is there, its mirror not counted: once as it is, else with up to an
            eighth of its side cut off at random places, so that the face is a little elsewhere and larger.
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """
