"""Sequential MNIST: files as they come, files that are damaged, and the order of the pixels."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from dlmkit_pictures.idx import FILES, read_idx, read_mnist
from dlmkit_sequences.pixels import SequentialMNIST, permutation

from dlmkit.errors import UserError


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return {
        part: (random.integers(256, size=(n, 28, 28)), np.arange(n) % 10) for part, n in (("train", 60), ("test", 20))
    }


@pytest.fixture
def folder(tmp_path, pictures):
    read_mnist.cache_clear()
    for part, arrays in pictures.items():
        for name, array in zip(FILES[part], arrays, strict=True):
            if part == "train":
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def make(folder, **options):
    return SequentialMNIST(str(folder), **{"val_size": 10, "batch_size": 5, **options})


def test_pixels_come_row_by_row(folder, pictures):
    data = make(folder)
    assert [data.size(split) for split in ("train", "val", "test")] == [50, 10, 20]
    images, digits = pictures["test"]
    batch = data.batch("test", 0, 1, 0, 1)
    assert batch["input"].shape == (5, 784, 1) and batch["target"].tolist() == digits[5:10].tolist()
    for k in range(5):
        expected = [(images[5 + k][t // 28][t % 28] / 255 - 0.1307) / 0.3081 for t in range(784)]
        np.testing.assert_allclose(batch["input"][k, :, 0], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(data.table("val")[0], torch.from_numpy(pictures["train"][0][50:].astype(np.uint8)))


def test_the_permutation_is_one_for_all(folder, monkeypatch):
    plain, shuffled = make(folder), make(folder, permuted=True)
    order = permutation(784, 1)
    assert sorted(order.tolist()) == list(range(784)) and order.tolist() != list(range(784))
    for split in ("train", "test"):
        a, b = (data.batch(split, 0, 0, 0, 1)["input"] for data in (plain, shuffled))
        assert torch.equal(a[:, order], b)
    monkeypatch.setenv("PL_GLOBAL_SEED", "99")
    assert torch.equal(make(folder, permuted=True).batch("test", 0, 0, 0, 1)["input"], b)
    other = make(folder, permuted=True, permutation_seed=2).batch("test", 0, 0, 0, 1)["input"]
    assert not torch.equal(other, b)
    assert torch.equal(other.sort(1).values, b.sort(1).values)


def test_pooling_averages_squares(folder, pictures):
    x = make(folder, pool=2).batch("test", 0, 0, 0, 1)["input"]
    assert x.shape == (5, 196, 1)
    square = pictures["test"][0][0, 2:4, 4:6].mean() / 255  # row 1, column 2 of 14
    assert x[0, 14 + 2, 0].item() == pytest.approx((square - 0.1307) / 0.3081, abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"permuted": True}, {"pool": 2}, {"pool": 4, "permuted": True}, {"pool": 28}])
def test_in_words(folder, options):
    data = make(folder, **options)
    batch = data.batch("test", 0, 0, 0, 1)
    inputs, outputs = data.steps(batch["input"][0], batch["target"][0])
    assert len(inputs) == len(outputs) <= 12 and outputs[-1] == "0"
    picture, right, said = data.tell(batch["input"][0], batch["target"][0], torch.tensor(4))
    assert (right, said) == ("0", "4")
    plain = make(folder, pool=options.get("pool", 1))
    unshuffled = plain.batch("test", 0, 0, 0, 1)["input"][0]
    assert picture == plain.tell(unshuffled, torch.tensor(0), torch.tensor(4))[0]  # a person sees it as it was
    assert data.baselines()["test/accuracy"]["commonest digit"] == pytest.approx(0.1)
    assert "60" not in data.describe() and "50 training" in data.describe()


def refused(folder, **options):
    read_mnist.cache_clear()
    with pytest.raises(UserError) as caught:
        make(folder, **options).setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_files_are_named(folder):
    (folder / FILES["train"][1]).with_suffix(".gz").unlink()
    (folder / FILES["test"][0]).unlink()
    told = refused(folder)
    assert str(folder) in told and all(name in told for name in (FILES["train"][1], FILES["test"][0]))
    assert FILES["train"][0] not in told
    assert "no such folder" in refused(folder / "nowhere")
    assert "this is a file" in refused(folder / FILES["test"][1])


def test_truncated_files_are_named(folder):
    path = folder / f"{FILES['train'][0]}.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert f"{path}: this file cannot be read" in refused(folder)
    path.write_bytes(whole)
    path = folder / FILES["test"][0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert f"{path}: this file says 20 × 28 × 28 and holds 15,679 bytes" in refused(folder)
    path.write_bytes(whole[:7])
    assert "in its head" in refused(folder)
    for other in (b"", b"PK\x03\x04 no idx file"):
        path.write_bytes(other)
        assert "this is no idx file" in refused(folder)


def test_files_that_do_not_fit_are_named(folder, pictures):
    path = folder / FILES["test"][1]
    path.write_bytes(idx(np.arange(19) % 10))
    assert "there are 19 labels to 20 images" in refused(folder)
    path.write_bytes(idx(np.full(20, 26)))
    assert "there is a label 26" in refused(folder)
    path.write_bytes(idx(pictures["test"][0]))
    assert f"{path}: this file has 3 axes and should have 1" in refused(folder)
    path.write_bytes(idx(np.arange(20) % 10))
    (folder / FILES["test"][0]).write_bytes(idx(np.zeros((20, 8, 8))))
    assert "20 × 8 × 8" in refused(folder)


def test_an_array_of_any_shape_is_read(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    assert (read_idx(tmp_path / "a") == array).all()


def test_a_dataset_is_read_like_the_files(folder, pictures, tmp_path_factory):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    place = tmp_path_factory.mktemp("parquet")
    for part, (images, digits) in pictures.items():
        rows = {"image": [Image.fromarray(i.astype(np.uint8)) for i in images], "label": digits.tolist()}
        datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(place / f"{part}.parquet")
    expected = make(folder).batch("test", 0, 2, 0, 1)
    read_mnist.cache_clear()
    found = make(place).batch("test", 0, 2, 0, 1)
    assert torch.equal(found["input"], expected["input"]) and torch.equal(found["target"], expected["target"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"permutation_seed": -1}, "data.permutation_seed: permutation_seed is -1"),
        ({"pool": 3}, "data.pool: pool is 3; give a divisor of 28"),
        ({"pool": 0}, "pool is 0"),
        ({"val_size": 0}, "val_size is 0"),
        ({"val_size": 60}, "data.val_size: val_size 60 leaves nothing of 60 training pictures; give at most 59"),
    ],
)
def test_options_out_of_range(folder, options, words):
    assert words in refused(folder, **options)


@pytest.mark.skipif(not os.environ.get("DLMKIT_DATA"), reason="DLMKIT_DATA names no folder of real data")
@pytest.mark.slow
def test_the_real_files():
    data = SequentialMNIST(str(Path(os.environ["DLMKIT_DATA"]) / "mnist"))
    assert [data.size(split) for split in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    pixels = torch.cat([data.table(split)[0] for split in ("train", "val")]).float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert data.table("test")[1].bincount()[1] == 1135
