"""Pictures with a class, from folders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dlmkit_pictures.labelled import LabelledPictures
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


def test_grey_is_what_is_asked_for(folder):
    data = LabelledPictures(str(folder), image_size=4, picture_channels=1, val_size=4, batch_size=2)
    assert data.table("test")[0].shape == (6, 1, 4, 4)


def test_faults(folder, tmp_path):
    with pytest.raises(UserError, match="leaves nothing of 12"):
        LabelledPictures(str(folder), val_size=12).table("train")
    with pytest.raises(UserError, match="cannot be loaded"):
        (tmp_path / "empty").mkdir()
        LabelledPictures(str(tmp_path / "empty")).table("train")
    with pytest.raises(UserError, match="image_size is 2"):
        LabelledPictures(image_size=2)
