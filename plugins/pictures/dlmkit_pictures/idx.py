"""The MNIST handwritten digits, from the four files that they come in or from a Hugging Face dataset."""

from __future__ import annotations

import gzip
import math
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.hub import by_split, load_splits
from dlmkit.data.module import Split
from dlmkit.errors import UserError
from dlmkit_pictures.files import as_bytes, stores_dataset
from dlmkit_pictures.paired import dataset_pictures

__all__ = ["FILES", "mnist_splits", "read_idx", "read_mnist"]

FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The images and the labels of both parts; each may end with .gz."""

_BYTES = 8  # the code of unsigned bytes in an idx file


def mnist_splits(source: str, val_size: int, labelled: bool = True) -> dict[Split, tuple[Tensor, Tensor]]:
    """The pictures (N, 28, 28), uint8, and digits (N,), int64.

    Validation is the end of the training set, but for a dataset that has a validation split.

    Args:
        source: A folder with the four idx files, or the name of a Hugging Face dataset.
        val_size: Pictures that are kept for validation.
        labelled: Whether a dataset has to say which digit each is; else all are 0 where it does not.

    Raises:
        UserError: If they cannot be read, are of another size, or too few.
    """
    found = read_mnist(source, labelled)
    for part, (pictures, _) in found.items():
        if pictures.shape[1:] != (28, 28) or not len(pictures):
            size = " × ".join(map(str, pictures.shape))
            raise UserError(f"the {part} images are {size}", "give pictures of 28 × 28 pixels", source)
    if "val" in found:
        return found
    pictures, digits = found["train"]
    kept = len(digits) - val_size
    if kept < 1:
        what = f"val_size {val_size:,} leaves nothing of {len(digits):,} training pictures"
        raise UserError(what, f"give at most {len(digits) - 1:,}", "data.val_size")
    parts: dict[Split, slice] = {"train": slice(0, kept), "val": slice(kept, None)}
    return {name: (pictures[part], digits[part]) for name, part in parts.items()} | {"test": found["test"]}


@lru_cache(maxsize=1)
def read_mnist(source: str, labelled: bool = True) -> dict[Split, tuple[Tensor, Tensor]]:
    """The pictures (N, 28, 28) and digits (N,) of ``train`` and ``test``, and of ``val`` where a dataset has it.

    Args:
        source: A folder with the four idx files, or the name of a Hugging Face dataset.
        labelled: Whether a dataset has to say which digit each is; else all are 0 where it does not.

    Returns:
        Of each uint8 and int64.

    Raises:
        UserError: If there is no such thing, or it is damaged or of another kind.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if stores_dataset(source):
            return _hub(str(folder), labelled)
        return {part: _part(folder, part) for part in FILES}
    if folder.exists() or source.startswith((".", "/", "~")):
        what = "this is a file" if folder.exists() else "there is no such folder"
        raise UserError(what, "give the folder of the four idx files as data.source", str(folder))
    return _hub(source, labelled)


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file of unsigned bytes, gzipped or not.

    Raises:
        UserError: If it is damaged or of another kind.
    """
    again = "fetch it again"
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as fault:
        raise UserError(f"this file cannot be read: {fault}", again, str(path)) from fault
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _BYTES:
        raise UserError("this is no idx file of bytes", "give the files as MNIST comes", str(path))
    head = 4 + 4 * raw[3]
    if len(raw) < head:
        raise UserError(f"this file ends after {len(raw)} bytes, in its head", again, str(path))
    shape = np.frombuffer(raw, ">u4", raw[3], 4).tolist()
    if len(raw) - head != math.prod(shape):
        size = " × ".join(map(str, shape))
        raise UserError(f"this file says {size} and holds {len(raw) - head:,} bytes", again, str(path))
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _part(folder: Path, part: Split) -> tuple[Tensor, Tensor]:
    """The pictures and digits of one part, from idx files."""
    missing = [f"{name}(.gz)" for names in FILES.values() for name in names if not _find(folder, name)]
    if missing:
        remedy = "put MNIST's four files there, or give their folder as data.source"
        raise UserError(f"{', '.join(missing)} is not in this folder", remedy, str(folder))
    paths = [path for name in FILES[part] if (path := _find(folder, name))]
    pictures, digits = (read_idx(path) for path in paths)
    for array, axes, path in ((pictures, 3, paths[0]), (digits, 1, paths[1])):
        if array.ndim != axes:
            what = f"this file has {array.ndim} axes and should have {axes}"
            raise UserError(what, "give images and labels under their own names", str(path))
    return _checked(pictures, digits, str(paths[1]))


def _checked(pictures: np.ndarray, digits: np.ndarray, where: str) -> tuple[Tensor, Tensor]:
    if len(pictures) != len(digits):
        remedy = "give images and labels of one set"
        raise UserError(f"there are {len(digits):,} labels to {len(pictures):,} images", remedy, where)
    if len(digits) and digits.max() > 9:
        raise UserError(f"there is a label {digits.max()}", "give a set of the ten digits", where)
    return torch.from_numpy(pictures.copy()), torch.from_numpy(digits.astype(np.int64))


def _hub(name: str, labelled: bool) -> dict[Split, tuple[Tensor, Tensor]]:
    """The same from a dataset with the columns ``image`` and ``label``."""
    remedy = "give a folder with MNIST's four idx files as data.source, or check the connection"
    found = by_split(load_splits(name, remedy))
    digits = {part: _digits(rows) for part, rows in found.items()}
    for part in (*FILES, *found):
        if part not in found or "image" not in found[part].column_names or (labelled and digits[part] is None):
            what = f"this dataset has no split {part} with {'image and label' if labelled else 'image'} in every row"
            raise UserError(what, "give a dataset of digits such as ylecun/mnist", name)
    if any(each is None for each in digits.values()):  # not some with their class and others as 0
        digits = {part: np.zeros(len(rows), np.int64) for part, rows in found.items()}
    return {part: _checked(_pictures(rows, name), cast(np.ndarray, digits[part]), name) for part, rows in found.items()}


def _digits(rows: Any) -> np.ndarray | None:
    """The column ``label``, None where it is missing or has gaps, as a split has that is without it beside others."""
    known = list(rows["label"]) if "label" in rows.column_names else [None]
    return None if None in known else np.array(known)


def _pictures(rows: Any, name: str) -> np.ndarray:
    from datasets import Image

    if not isinstance(rows.features["image"], Image):
        raise UserError("its column image holds no pictures", "give a dataset of digits such as ylecun/mnist", name)
    found: list[np.ndarray] = []
    for row, picture in enumerate(dataset_pictures(rows, "image", 1, name)):
        found.append(as_bytes(picture.pixels[0]).numpy())
        if found[-1].shape != found[0].shape:
            size, first = (" × ".join(map(str, array.shape)) for array in (found[-1], found[0]))
            what = f"this picture has {size} pixels, and the first of the dataset {first}"
            raise UserError(what, "give pictures of 28 × 28 pixels", f"{name}, row {row}")
    return np.stack(found) if found else np.zeros((0, 28, 28), np.uint8)
