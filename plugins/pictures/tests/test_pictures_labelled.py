"""Pictures with a class, from folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from dlmkit_pictures.labelled import LabelledPictures
from dlmkit_pictures.pictures import ReadPictures
from PIL import Image

from dlmkit.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for split, count in (("train", 6), ("test", 3)):
        for number, name in enumerate(("cat", "dog")):
            place = tmp_path / "pictures" / split / name
            place.mkdir(parents=True)
            for k in range(count):
                pixels = np.full((10, 8, 3), (100 * number, 10 * k, 50), np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")
    return tmp_path / "pictures"


def test_classes_are_folders(folder):
    data = LabelledPictures(str(folder), image_size=8, val_size=4, batch_size=2)
    assert [data.size(split) for split in ("train", "val", "test")] == [8, 4, 6]
    assert (data.channels, data.side, data.num_classes, data.levels) == (3, 8, 2, 256)
    for split in ("train", "val", "test"):
        pictures, labels = data.table(split)
        assert torch.equal((pictures[:, 0, 0, 0] * 255).round().long(), 100 * labels)  # red tells the class
    kept = {tuple(p[:, 0, 0].tolist()) for p in data.table("val")[0]}
    assert not kept & {tuple(p[:, 0, 0].tolist()) for p in data.table("train")[0]}


def test_without_a_test_set_others_are_kept_for_it_than_for_validation(folder):
    shutil.rmtree(folder / "test")
    data = LabelledPictures(str(folder), image_size=8, val_size=3, batch_size=2)
    kept = [{tuple(p[:, 0, 0].tolist()) for p in data.table(split)[0]} for split in ("train", "val", "test")]
    assert [len(each) for each in kept] == [6, 3, 3] and len(set.union(*kept)) == 12


@pytest.mark.parametrize(("picture", "label"), [("image", "label"), ("img", "fine_label")])
def test_classes_are_a_column_of_a_dataset(tmp_path, monkeypatch, picture, label):
    """A hub's dataset is read by the same way as one that is stored in a folder."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Pictures

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    features = Features({picture: Pictures(), label: ClassLabel(names=["cat", "dog"])})
    for split, count in (("train", 8), ("test", 4)):
        rows = [Image.new("RGB", (8, 8), (100 * (k % 2), 10 * k, 50)) for k in range(count)]
        columns = {picture: rows, label: [k % 2 for k in range(count)]}
        (tmp_path / "stored").mkdir(exist_ok=True)
        Dataset.from_dict(columns, features).to_parquet(tmp_path / "stored" / f"{split}-0.parquet")
    data = LabelledPictures(str(tmp_path / "stored"), image_size=8, val_size=2, batch_size=2)
    assert [data.size(split) for split in ("train", "val", "test")] == [6, 2, 4] and data.num_classes == 2
    for split in ("train", "val", "test"):
        pictures, labels = data.table(split)
        assert torch.equal((pictures[:, 0, 0, 0] * 255).round().long(), 100 * labels)
    assert [round(p[1, 0, 0].item() * 255) for p in data.table("test")[0]] == [0, 10, 20, 30]


def test_a_dataset_without_the_columns(tmp_path, monkeypatch):
    from datasets import Dataset

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "stored").mkdir()
    Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "stored" / "train-0.parquet")
    with pytest.raises(UserError, match="its train split has 2 rows of text; give a dataset with the columns image"):
        LabelledPictures(str(tmp_path / "stored")).table("train")


def test_grey_is_what_is_asked_for(folder):
    data = LabelledPictures(str(folder), image_size=4, picture_channels=1, val_size=4, batch_size=2)
    assert data.table("test")[0].shape == (6, 1, 4, 4)


def test_faults(folder, tmp_path):
    with pytest.raises(UserError, match="leaves nothing of 12"):
        LabelledPictures(str(folder), val_size=12).table("train")
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "one.png")
    for name in ("empty", "flat"):
        with pytest.raises(UserError, match=f"{name}: there is no folder in it that could be a class; put pictures"):
            LabelledPictures(str(tmp_path / name)).table("train")
    with pytest.raises(UserError, match=r"one\.png: this is a file, not a folder"):
        LabelledPictures(str(tmp_path / "flat" / "one.png")).table("train")
    with pytest.raises(UserError, match="there is no such folder; did you mean flat"):
        LabelledPictures(str(tmp_path / "flate")).table("train")
    with pytest.raises(UserError, match="image_size is 2"):
        LabelledPictures(image_size=2)


@pytest.mark.parametrize(
    ("content", "fault"), [(b"no picture at all", "no picture that can be read"), (None, "this picture is damaged")]
)
def test_a_file_that_cannot_be_read_is_named(folder, content, fault):
    path = folder / "train" / "dog" / "3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:600] if content is None else content)
    with pytest.raises(UserError, match=fault) as caught:
        LabelledPictures(str(folder), val_size=4).table("train")
    assert str(caught.value).startswith(str(path))


def test_an_empty_class_is_told(folder):
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"train/dog: this folder is empty; put pictures into it"):
        LabelledPictures(str(folder), val_size=2).table("train")


def test_one_class_is_enough(folder):
    for split in ("train", "test"):
        shutil.rmtree(folder / split / "dog")
    data = LabelledPictures(str(folder), image_size=8, val_size=2, batch_size=2)
    assert data.num_classes == 1 and data.size("train") == 4
    assert data.judge.verdict(data.table("train")[0], data.table("test")[0]).coverage == 1


def test_a_class_that_only_the_test_has(folder):
    (folder / "test" / "dog").rename(folder / "test" / "dogs")
    with pytest.raises(UserError, match=r"test/dogs: the training has no class of that name; did you mean dog"):
        LabelledPictures(str(folder), val_size=2).table("train")


def test_a_class_that_only_the_test_of_a_dataset_has():
    class Given(ReadPictures):
        source = "owner/name"

        def read(self):
            pictures, labels = torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
            return {"train": (pictures, labels), "val": (pictures, labels), "test": (pictures, labels + 1)}

        def describe(self):
            return ""

    with pytest.raises(UserError, match="owner/name: test has pictures of class 2, of which there is none in train"):
        Given().prepare_data()


def test_a_split_of_one_picture(folder):
    with pytest.raises(UserError, match=r"val has 1 picture, .* differ; give two or more"):
        LabelledPictures(str(folder), val_size=1).table("train")


def test_what_was_changed_is_told(folder):
    Image.new("LA", (8, 8), (100, 128)).save(folder / "train" / "cat" / "0.png")
    said = LabelledPictures(str(folder), image_size=8, val_size=4, batch_size=2).describe()
    assert "1 of 18 transparent in parts, which lie on white" in said
    assert "17 of 18 oblong, of which the middle is taken" in said
