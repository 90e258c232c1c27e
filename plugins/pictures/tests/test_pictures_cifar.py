"""CIFAR in the binary files that it comes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dlmkit_pictures.cifar import cifar_version
from dlmkit_pictures.labelled import LabelledPictures

from dlmkit.errors import UserError

TEN = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]


def write(folder, names, labels, classes, count=6):
    """Files of so many records each; returns all pictures and classes by file."""
    random, found = np.random.default_rng(0), {}
    for name in names:
        records = random.integers(256, size=(count, labels + 3072)).astype(np.uint8)
        records[:, labels - 1] = np.arange(count) % 2 + classes - 2
        records.tofile(folder / name)
        found[name] = records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1]
    return found


@pytest.mark.parametrize(("names", "labels", "classes"), [(TEN, 1, 10), (["train.bin", "test.bin"], 2, 100)])
def test_the_binary_version_is_read(tmp_path, names, labels, classes):
    files = write(tmp_path, names, labels, classes)
    data = LabelledPictures(str(tmp_path), val_size=2, batch_size=2)
    pictures, marks = data.table("test")
    assert torch.equal((pictures * 255).round().byte(), torch.from_numpy(files[names[-1]][0]))
    assert torch.equal(marks, torch.from_numpy(files[names[-1]][1]).long())
    training = np.concatenate([files[name][0] for name in names[:-1]])
    assert data.size("train") == len(training) - 2 and data.size("val") == 2
    seen = torch.cat([data.table("train")[0], data.table("val")[0]])
    assert sorted(seen.sum((1, 2, 3)).tolist()) == pytest.approx(sorted((training / 255).sum((1, 2, 3)).tolist()))


def test_grey_and_smaller_pictures_are_made_of_it(tmp_path):
    write(tmp_path, TEN, 1, 10)
    data = LabelledPictures(str(tmp_path), image_size=16, picture_channels=1, val_size=2, batch_size=2)
    assert data.table("test")[0].shape == (6, 1, 16, 16)
    assert "36 of 36 in colour, made grey (such as " in data.describe()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / TEN[2]).unlink(), "data_batch_3.bin: this file cannot be read: No such file"),
        (lambda folder: (folder / TEN[1]).write_bytes(bytes(3074)), "data_batch_2.bin: this file holds 3,074 bytes"),
        (lambda folder: (folder / TEN[0]).write_bytes(b""), "data_batch_1.bin: this file holds 0 bytes"),
        (lambda folder: (folder / TEN[5]).write_bytes(b"\x0a" * 3073), "test_batch.bin: this file has a class 10"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, spoil, words):
    write(tmp_path, TEN, 1, 10)
    spoil(tmp_path)
    with pytest.raises(UserError, match=words):
        LabelledPictures(str(tmp_path), val_size=2).table("train")


def test_pickles_are_not_read(tmp_path):
    assert cifar_version(tmp_path) is None
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04.")
    (tmp_path / "batches.meta").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickles can hold code and are not read; give the binary version"):
        LabelledPictures(str(tmp_path)).table("train")
