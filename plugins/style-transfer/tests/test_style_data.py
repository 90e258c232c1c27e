"""The pictures: by name, from files, drawn, and cut into squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dlmkit_style_transfer.crops import PhotographCrops
from dlmkit_style_transfer.data import ContentAndStyle
from dlmkit_style_transfer.photographs import NAMES, fit, get_picture
from dlmkit_style_transfer.strokes import strokes
from PIL import Image

from dlmkit.errors import UserError


def save(path, wide=60, high=40, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (high, wide, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.quantize(8)
        picture.info["transparency"] = 0
        picture.save(path, transparency=0)
    elif mode == "16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        picture.convert(mode).save(path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_pictures_that_are_there_without_a_file(name):
    picture = get_picture(name, "data.content", 96)
    assert picture.shape[0] == 3 and max(picture.shape[1:]) == 96 and picture.is_contiguous()
    assert 0 <= picture.min() and picture.max() <= 1 and picture.std() > 0.1


def test_the_drawn_night_is_the_same_every_time_and_has_many_colours():
    first = strokes()
    strokes.cache_clear()
    assert torch.equal(first, strokes()) and first.shape == (3, 480, 600)
    assert len(torch.unique((first * 255).byte().flatten(1), dim=1).T) > 5000


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "16", "1"])
def test_files_of_any_kind_become_colour(tmp_path, mode):
    picture = get_picture(str(save(tmp_path / "a.png", mode=mode)), "data.content", 48)
    assert picture.shape == (3, 32, 48) and 0 <= picture.min() and picture.max() <= 1


def test_a_picture_that_fits_already_is_left_as_it_is():
    pixels = torch.rand(3, 40, 60)
    assert torch.equal(fit(pixels, 60), pixels)
    assert fit(pixels, 120).shape == (3, 80, 120)


def test_one_batch_says_it_all(tmp_path):
    data = ContentAndStyle("china", ["strokes", str(save(tmp_path / "a.png"))], size=64, style_size=80)
    batch = data.batch("train", 0, 0, 0, 1)
    assert {name: tuple(x.shape) for name, x in batch.items()} == {
        "content": (1, 3, 43, 64),
        "style_1": (1, 3, 64, 80),
        "style_2": (1, 3, 53, 80),
    }
    assert (data.height, data.width) == (43, 64)
    assert data.batch("val", 0, 0, 0, 1) is batch and "china, 64 × 43 pixels" in data.describe()


def broken(folder):
    (folder / "broken.png").write_bytes(save(folder / "whole.png").read_bytes()[:200])
    return str(folder / "broken.png")


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda f: "chian", r"there is no picture called chian; did you mean china\?"),
        (lambda f: str(f / "none.jpg"), "none.jpg: there is no such file"),
        (lambda f: str(f), "this is a folder, not a picture"),
        (broken, "broken.png: this picture is damaged"),
        (
            lambda f: str(save(f / "thin.png", 400, 10)),
            "thin.png: this picture has 64 × 2 pixels; 32 pixels are needed",
        ),
    ],
)
def test_pictures_that_cannot_be_had(make, text, tmp_path):
    source = make(tmp_path)
    for arguments in ({"content": source}, {"style": [source]}):
        with pytest.raises(UserError, match=text):
            ContentAndStyle(size=64, **arguments).batch("train", 0, 0, 0, 1)


def test_options_out_of_range():
    with pytest.raises(UserError, match="size is 8; give 32 to 8192 pixels"):
        ContentAndStyle(size=8)
    with pytest.raises(UserError, match="there is no style"):
        ContentAndStyle(style=[]).batch("val", 0, 0, 0, 1)
    with pytest.raises(UserError, match="crop is 4; give at least 32"):
        PhotographCrops(crop=4)


# ---------- squares


def test_squares_follow_from_the_position_and_are_shared_out():
    data = PhotographCrops(crop=32, style_size=64, batch_size=4)
    whole = data.batch("train", 1, 2, 0, 1)
    assert whole["content"].shape == (4, 3, 32, 32) and whole["style_1"].shape[0] == 1
    parts = [data.batch("train", 1, 2, rank, 2)["content"] for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole["content"])
    assert not torch.equal(data.batch("train", 1, 3, 0, 1)["content"], whole["content"])
    assert not torch.equal(data.batch("train", 2, 2, 0, 1)["content"], whole["content"])


def test_what_is_validated_on_is_never_trained_on(tmp_path):
    pixels = np.zeros((80, 200, 3), np.uint8)
    pixels[:, :150, 0] = 255
    pixels[:40, 150:, 1] = 255
    pixels[40:, 150:, 2] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = PhotographCrops(str(tmp_path), crop=32, style_size=64, batch_size=4)
    for split, colour in (("train", 0), ("val", 1), ("test", 2)):
        for index in range(20 if split == "train" else 1):
            mean = data.batch(split, 0, index, 0, 1)["content"].mean(dim=(0, 2, 3))
            assert mean[colour] > 0.99 and mean.sum() < 1.01, split


def test_a_photograph_smaller_than_a_square_is_enlarged(tmp_path):
    save(tmp_path / "a.png", 48, 40)
    data = PhotographCrops(str(tmp_path), crop=64, style_size=64, batch_size=2)
    for split in ("train", "val", "test"):
        assert data.batch(split, 0, 0, 0, 1)["content"].shape == (2, 3, 64, 64)


def test_folders_without_photographs(tmp_path):
    with pytest.raises(UserError, match="this folder is empty"):
        PhotographCrops(str(tmp_path)).setup("fit")
    broken(tmp_path)
    (tmp_path / "whole.png").unlink()
    with pytest.raises(UserError, match=r"broken\.png: this picture is damaged"):
        PhotographCrops(str(tmp_path)).setup("fit")
    with pytest.raises(UserError, match="there is no such folder"):
        PhotographCrops(str(tmp_path / "nowhere")).setup("fit")


def test_what_is_wrong_with_any_photograph_is_told_before_the_run(tmp_path):
    for k in range(4):
        save(tmp_path / f"{k}.png", 80, 70)
    data = PhotographCrops(str(tmp_path), crop=32, style_size=48)
    data.setup()
    assert "out of 4 photographs, in the style of strokes" in data.describe()
    save(tmp_path / "4.png", 80, 70, mode="RGBA")
    told = PhotographCrops(str(tmp_path), crop=32, style_size=48).describe()
    assert f"out of 5 photographs; 1 of 5 transparent in parts, which lie on white (such as {tmp_path}/4.png)" in told
    save(tmp_path / "y.png", 90, 20)
    with pytest.raises(UserError, match=r"y\.png: this picture has 90 × 20 pixels; 32 pixels are needed"):
        PhotographCrops(str(tmp_path), crop=32, style_size=48).setup()
    (tmp_path / "y.png").write_bytes((tmp_path / "0.png").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"y\.png: this picture is damaged"):
        PhotographCrops(str(tmp_path), crop=32, style_size=48).setup()


def test_what_was_changed_in_a_picture_is_told(tmp_path):
    grey = str(save(tmp_path / "grey.png", mode="L"))
    plain = str(save(tmp_path / "plain.png", mode="RGB"))
    assert ContentAndStyle(plain, [plain], size=48).describe().endswith(f"in the style of {plain}")
    said = ContentAndStyle("china", [plain, grey], size=48).describe()
    assert said.endswith(f"; 1 of 2 grey, repeated as colour (such as {grey})")
