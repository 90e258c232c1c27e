"""MNIST as pictures: with all its shades, or in black and white.

Dimensions: N pictures of a split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.module import Split
from dlmkit.errors import UserError, at_least
from dlmkit_pictures.idx import mnist_splits
from dlmkit_pictures.pictures import ReadPictures

__all__ = ["MNIST", "BinarisedMNIST", "read_amat"]

_AMAT: dict[Split, str] = {
    "train": "binarized_mnist_train.amat",
    "val": "binarized_mnist_valid.amat",
    "test": "binarized_mnist_test.amat",
}


class MNIST(ReadPictures):
    """Handwritten digits of 28 × 28 pixels with 256 shades of grey.

    References:
        | Gradient-Based Learning Applied to Document Recognition (LeCun, Bottou, Bengio & Haffner, 1998)

    Args:
        source: A folder with MNIST's four idx files, gzipped or not, or the name of a Hugging Face dataset.
        val_size: Pictures at the end of the training set that are kept for validation, where a dataset has no split
            for it.
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If an option is out of range; and, when the pictures are first needed, if they cannot be read.
    """

    def __init__(
        self, source: str = "ylecun/mnist", val_size: int = 10_000, batch_size: int = 64, num_workers: int = 0
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(1, "data.", val_size=val_size)
        self.source, self.val_size = source, val_size

    def describe(self) -> str:
        """Size and splits."""
        return f"MNIST, 28 × 28 pixels, {self.levels} shades; {self.sizes('pictures')}"

    def read(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Pictures (N, 1, 28, 28) with all their shades, and their digits."""
        found = mnist_splits(self.source, self.val_size)
        return {split: (pictures[:, None].float() / 255, digits) for split, (pictures, digits) in found.items()}


class BinarisedMNIST(MNIST):
    r"""MNIST in black and white: a pixel is ink as often as it is dark.

    .. math::
        x = [u < p / 255], \qquad u \sim \mathcal{U}(0, 1)

    Here p is a pixel of MNIST from 0 to 255. The numbers u are drawn once and for all, by numpy's default generator:
    for the training pictures from the seed (``binarisation_seed``, 0), for validation from (…, 1), for the test from
    (…, 2). The pictures that Larochelle drew in the same way, which published figures are for, come in three files
    ``binarized_mnist_train.amat``, ``…_valid.amat`` and ``…_test.amat``; a folder that has them is read as it is, and
    says nothing of the digits: there is one class then. So it is with a Hugging Face dataset without a column
    ``label``. A dataset whose pictures are black and white already, as a copy of Larochelle's is, stays as it is, and
    its validation split is the one used.

    References:
        | On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008), for drawing the pixels
        | The Neural Autoregressive Distribution Estimator (Larochelle & Murray, 2011), for the fixed pictures

    Args:
        source: A folder with MNIST's four idx files or with Larochelle's three, or the name of a Hugging Face dataset.
        val_size: Pictures at the end of the training set that are kept for validation; not asked for where the files
            or the dataset have their own, as Larochelle's do.
        binarisation_seed: Which numbers u are drawn.
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If an option is out of range; and, when the pictures are first needed, if they cannot be read.
    """

    def __init__(
        self,
        source: str = "ylecun/mnist",
        val_size: int = 10_000,
        binarisation_seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(source, val_size, batch_size, num_workers)
        at_least(0, "data.", binarisation_seed=binarisation_seed)
        self.binarisation_seed = binarisation_seed
        self._came_so = False

    @property
    def levels(self) -> int:
        """Black and white."""
        return 2

    @property
    def fixed(self) -> bool:
        """Whether the pictures are Larochelle's."""
        return any((Path(self.source).expanduser() / name).is_file() for name in _AMAT.values())

    def describe(self) -> str:
        """Size, rule and splits."""
        sizes = self.sizes("pictures")  # reads them
        rule = "as it came" if self._came_so else f"drawn from seed {self.binarisation_seed}"
        rule = "as Larochelle drew it" if self.fixed else rule
        return f"MNIST in black and white, {rule}; 28 × 28 pixels; {sizes}"

    def read(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Pictures (N, 1, 28, 28) of zeros and ones, and their digits."""
        if self.fixed:
            found = {split: read_amat(Path(self.source).expanduser() / name) for split, name in _AMAT.items()}
            return {split: (ink, torch.zeros(len(ink), dtype=torch.int64)) for split, ink in found.items()}
        shades = mnist_splits(self.source, self.val_size, labelled=False)
        self._came_so = all(bool(((grey == 0) | (grey == 255)).all()) for grey, _ in shades.values())
        return {split: (self._ink(shades[split][0], number), shades[split][1]) for number, split in enumerate(_AMAT)}

    def _ink(self, pictures: Tensor, number: int) -> Tensor:
        draw = np.random.default_rng((self.binarisation_seed, number))
        u = torch.from_numpy(draw.random(pictures.shape, dtype=np.float32))
        return (u < pictures.float() / 255).float()[:, None]


def read_amat(path: Path) -> Tensor:
    """The pictures (N, 1, 28, 28) in a text file with a line of 784 zeros and ones for each.

    Raises:
        UserError: If it is not there, or holds something else.
    """
    try:
        raw = path.read_bytes()
    except OSError as fault:
        remedy = f"put {', '.join(_AMAT.values())} into one folder"
        raise UserError(f"this file cannot be read: {fault.strerror}", remedy, str(path)) from fault
    digits = np.frombuffer(raw.translate(None, b" \t\r\n"), np.uint8) - ord("0")
    if not len(digits) or len(digits) % 784 or digits.max() > 1:
        remedy = "give the file as it comes"
        raise UserError("this file is not made of lines of 784 zeros and ones", remedy, str(path))
    return torch.from_numpy(digits.reshape(-1, 1, 28, 28).astype(np.float32))
