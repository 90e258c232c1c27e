"""CIFAR-10 and CIFAR-100 in the binary files that they come in.

Dimensions: N pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.module import Split
from dlmkit.errors import UserError

__all__ = ["Version", "cifar_version", "read_cifar"]


class Version(NamedTuple):
    """One of the two sets.

    Args:
        files: Of each split.
        labels: Bytes before a picture; the last of them is its class.
        classes: How many there are.
    """

    files: dict[Split, tuple[str, ...]]
    labels: int
    classes: int


_TEN = Version({"train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test": ("test_batch.bin",)}, 1, 10)
_HUNDRED = Version({"train": ("train.bin",), "test": ("test.bin",)}, 2, 100)
_PICKLES = ("data_batch_1", "train")
_NUMBERS = 3 * 32 * 32


def cifar_version(folder: Path) -> Version | None:
    """Which of the two sets a folder holds, None where it is neither.

    Args:
        folder: Need not be there.

    Raises:
        UserError: If it holds the version for Python, whose pickles can hold code.
    """
    for version, pickle in zip((_TEN, _HUNDRED), _PICKLES, strict=True):
        if any((folder / name).is_file() for names in version.files.values() for name in names):
            return version
        if (folder / pickle).is_file() and any((folder / name).is_file() for name in ("batches.meta", "meta")):
            what = "this is CIFAR's version for Python, whose pickles can hold code and are not read"
            raise UserError(what, "give the binary version, or the dataset by its name on the hub", str(folder))
    return None


def read_cifar(folder: Path, version: Version) -> dict[Split, tuple[Tensor, Tensor]]:
    """The pictures (N, 3, 32, 32), uint8, and classes (N,), int64, of training and test.

    Args:
        folder: Of the files.
        version: Which set it is, as :func:`cifar_version` says.

    Raises:
        UserError: If a file is missing, cut short or of another kind; it names the file.
    """
    found: dict[Split, tuple[Tensor, Tensor]] = {}
    for split, names in version.files.items():
        records = np.concatenate([_records(folder / name, version) for name in names])
        pictures = torch.from_numpy(records[:, version.labels :].reshape(-1, 3, 32, 32))
        found[split] = pictures, torch.from_numpy(records[:, version.labels - 1].astype(np.int64))
    return found


def _records(path: Path, version: Version) -> np.ndarray:
    """The records of a file (N, labels + 3072), uint8."""
    try:
        found = np.fromfile(path, np.uint8)
    except OSError as fault:
        remedy = "put all files of CIFAR's binary version into one folder"
        raise UserError(f"this file cannot be read: {fault.strerror}", remedy, str(path)) from fault
    size = version.labels + _NUMBERS
    if not len(found) or len(found) % size:
        what = f"this file holds {len(found):,} bytes, and a picture with its class takes {size:,}"
        raise UserError(what, "get it again", str(path))
    records = found.reshape(-1, size)
    worst = int(records[:, version.labels - 1].max())
    if worst >= version.classes:
        what = f"this file has a class {worst}, and there are {version.classes}"
        raise UserError(what, "give the binary version as it comes", str(path))
    return records
