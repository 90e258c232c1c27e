"""MNIST as pictures, and the rule by which it is made black and white."""

from __future__ import annotations

import gzip
import os
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from dlmkit_pictures.idx import FILES, read_mnist
from dlmkit_pictures.mnist import MNIST, BinarisedMNIST, read_amat
from PIL import Image

from dlmkit.errors import UserError


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    read_mnist.cache_clear()
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 20)):
        arrays = random.integers(256, size=(count, 28, 28)), np.arange(count) % 10
        for name, array in zip(FILES[part], arrays, strict=True):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def test_what_is_black_and_white_already_stays_as_it_is(folder):
    assert "drawn from seed 3" in BinarisedMNIST(str(folder), val_size=10, binarisation_seed=3).describe()
    random = np.random.default_rng(1)
    ink = {"train": random.integers(2, size=(60, 28, 28)), "test": random.integers(2, size=(20, 28, 28))}
    for part, pictures in ink.items():
        (folder / f"{FILES[part][0]}.gz").write_bytes(gzip.compress(idx(255 * pictures)))
    read_mnist.cache_clear()
    data = BinarisedMNIST(str(folder), val_size=10, binarisation_seed=3)
    assert torch.equal(data.table("test")[0][:, 0], torch.from_numpy(ink["test"]).float())
    assert "black and white, as it came" in data.describe()


def test_the_shades_are_those_of_the_files(folder):
    data = MNIST(str(folder), val_size=10, batch_size=5)
    assert [data.size(split) for split in ("train", "val", "test")] == [50, 10, 20]
    assert (data.channels, data.side, data.levels, data.num_classes) == (1, 28, 256, 10)
    shades = read_mnist(str(folder))["train"][0]
    assert torch.equal((data.table("val")[0][:, 0] * 255).round().byte(), shades[50:])


def test_ink_follows_from_the_rule(folder):
    data = BinarisedMNIST(str(folder), val_size=10, binarisation_seed=7, batch_size=5)
    files = {part: pictures.numpy() for part, (pictures, _) in read_mnist(str(folder)).items()}
    parts = {"train": files["train"][:50], "val": files["train"][50:], "test": files["test"]}
    for number, (split, shades) in enumerate(parts.items()):
        u = np.random.default_rng((7, number)).random(shades.shape, dtype=np.float32)
        assert torch.equal(data.table(split)[0][:, 0], torch.from_numpy((u < shades / 255).astype(np.float32))), split
    assert data.levels == 2 and data.num_classes == 10
    other = BinarisedMNIST(str(folder), val_size=10, binarisation_seed=8)
    assert not torch.equal(other.table("test")[0], data.table("test")[0])
    again = BinarisedMNIST(str(folder), val_size=10, binarisation_seed=7)
    assert torch.equal(again.table("train")[0], data.table("train")[0])


def test_a_pixel_is_ink_as_often_as_it_is_dark(folder):
    grey = np.full((60, 28, 28), 51)  # one in five
    (folder / f"{FILES['train'][0]}.gz").write_bytes(gzip.compress(idx(grey)))
    read_mnist.cache_clear()
    ink = BinarisedMNIST(str(folder), val_size=10).table("train")[0]
    assert ink.mean().item() == pytest.approx(0.2, abs=0.01)
    assert set(ink.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("shade", [0, 255])
def test_black_and_white_stay_what_they_are(folder, shade):
    (folder / f"{FILES['train'][0]}.gz").write_bytes(gzip.compress(idx(np.full((60, 28, 28), shade))))
    read_mnist.cache_clear()
    assert (BinarisedMNIST(str(folder), val_size=10).table("train")[0] == shade / 255).all()


def test_larochelle_s_files_are_read_as_they_are(tmp_path):
    random = np.random.default_rng(0)
    drawn = {name: random.integers(2, size=(count, 784)) for name, count in (("train", 6), ("valid", 3), ("test", 2))}
    for name, array in drawn.items():
        np.savetxt(tmp_path / f"binarized_mnist_{name}.amat", array, fmt="%d")
    data = BinarisedMNIST(str(tmp_path), batch_size=2)
    assert data.fixed and data.num_classes == 1 and "Larochelle" in data.describe()
    assert [data.size(split) for split in ("train", "val", "test")] == [6, 3, 2]
    assert (data.table("val")[0].numpy().reshape(3, 784) == drawn["valid"]).all()
    assert list(data.baselines()) == ["test/nats", "test/bits_per_dimension"]  # nobody judges a single class
    (tmp_path / "binarized_mnist_test.amat").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        BinarisedMNIST(str(tmp_path)).table("train")


def stored(place, pictures, labelled=False):
    """A dataset with a Parquet file for each split; what is given as bytes stays as it is."""
    datasets = pytest.importorskip("datasets")

    def cell(picture):
        if not isinstance(picture, np.ndarray):
            return picture
        file = BytesIO()
        Image.fromarray(picture.astype(np.uint8)).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    for split, some in pictures.items():
        rows = {"image": [cell(p) for p in some]} | ({"label": [i % 10 for i in range(len(some))]} if labelled else {})
        columns = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
        columns.to_parquet(place / f"{split}-0.parquet")
    read_mnist.cache_clear()
    return str(place)


def test_a_dataset_in_black_and_white_without_classes_keeps_its_validation_split(tmp_path):
    random = np.random.default_rng(0)
    ink = {s: random.integers(2, size=(n, 28, 28)) for s, n in (("train", 6), ("validation", 3), ("test", 4))}
    place = stored(tmp_path, {split: 255 * pictures for split, pictures in ink.items()})
    data = BinarisedMNIST(place, batch_size=2)
    assert "as it came" in data.describe() and data.num_classes == 1
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        assert torch.equal(data.table(split)[0][:, 0], torch.from_numpy(ink[name]).float()), split
    with pytest.raises(UserError, match="no split train with image and label in every row"):
        MNIST(place, val_size=1).table("train")
    stored(tmp_path, {split: 255 * ink[split] for split in ("train", "test")}, labelled=True)
    with pytest.raises(UserError, match="no split val with image and label in every row"):
        MNIST(place, val_size=1).table("train")
    assert BinarisedMNIST(place, batch_size=2).num_classes == 1  # not some with their class and others as 0


def test_a_dataset_s_broken_rows_are_named(tmp_path):
    good = np.random.default_rng(0).integers(256, size=(3, 28, 28))
    for bad, words in (
        ({"bytes": b"no picture", "path": None}, "row 3: this is no picture that can be read"),
        (None, "row 3: there is no picture in image"),
        (np.zeros((28, 30)), "row 3: this picture has 28 × 30 pixels, and the first of the dataset 28 × 28"),
    ):
        place = stored(tmp_path, {"train": [*good, bad], "test": list(good)}, labelled=True)
        with pytest.raises(UserError, match=words):
            MNIST(place, val_size=1).table("train")


@pytest.mark.parametrize("text", ["", "0 1 0\n", "2 " * 784, "a" * 784])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.amat").write_text(text)
    with pytest.raises(UserError, match="784 zeros and ones"):
        read_amat(tmp_path / "x.amat")


def test_options_out_of_range():
    for options, words in (({"val_size": 0}, "val_size is 0"), ({"binarisation_seed": -1}, "binarisation_seed is -1")):
        with pytest.raises(UserError, match=words):
            BinarisedMNIST(**options)


@pytest.mark.slow
def test_the_real_digits():
    place = os.environ.get("DLMKIT_DATA")
    if not place:
        pytest.skip("DLMKIT_DATA is not set")
    data = BinarisedMNIST(str(Path(place) / "mnist"))
    assert [data.size(split) for split in ("train", "val", "test")] == [50_000, 10_000, 10_000]
    assert data.table("test")[0].mean().item() == pytest.approx(0.1325, abs=0.001)  # the mean shade of the test
