"""What a task can show: each kind written, read back, and put into the form that Weights & Biases takes."""

from __future__ import annotations

import csv
import wave

import numpy as np
import pytest
import torch
from matplotlib import image
from matplotlib.figure import Figure as MatplotlibFigure

import dlmkit
from dlmkit import Animation, Audio, Figure, Image, Table, Text
from dlmkit.figures import picture_grid


def test_names_are_imported_when_they_are_used():
    for name in dlmkit.__all__:
        assert getattr(dlmkit, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = dlmkit.Nothing


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_an_image_comes_back_as_it_was(tmp_path, shape, kind):
    whole = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels = whole if kind == "uint8" else (whole / 255).astype(np.float32)
    path = Image(pixels).save(tmp_path / "media", "picture")
    assert path == tmp_path / "media" / "picture.png"
    back = (image.imread(path) * 255).round().astype(np.uint8)
    grey = len(shape) == 2
    assert back.shape[:2] == (5, 7)
    assert np.array_equal(back[..., 0] if grey else back[..., : shape[2]], whole)


def test_an_image_is_clipped_not_stretched(tmp_path):
    back = image.imread(Image(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]])).save(tmp_path, "x"))[..., 0]
    assert (back[0] * 255).round().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("shape", [(3,), (3, 4, 2), (1, 2, 3, 3)])
def test_an_array_that_is_no_picture(shape):
    with pytest.raises(ValueError, match="a picture is"):
        Image(np.zeros(shape))


def test_a_figure_is_written(tmp_path):
    figure = MatplotlibFigure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 1])
    path = Figure(figure).save(tmp_path, "plot")
    pixels = image.imread(path)
    assert pixels.shape[0] > 100
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 2


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sound_comes_back_as_it_was(tmp_path, channels):
    time = np.arange(800) / 8000
    tone = np.stack([np.sin(2 * np.pi * 440 * time * (c + 1)) for c in range(channels)], axis=1)
    path = Audio((tone if channels > 1 else tone[:, 0]) * 1.5, rate=8000).save(tmp_path, "tone")
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, channels, 2)
        back = np.frombuffer(file.readframes(800), dtype="<i2").reshape(-1, channels) / 32768
    assert np.abs(back - np.clip(tone * 1.5, -1, 1)).max() < 1e-4


def test_a_text_comes_back_as_it_was(tmp_path):
    text = "one\n\ttwo größer 日本 🙂"
    assert Text(text).save(tmp_path, "text").read_text(encoding="utf-8") == text + "\n"


def test_a_table_comes_back_as_it_was(tmp_path):
    path = Table(["word", "count"], [["a, b", 1], ['say "x"\n', 2.5]]).save(tmp_path, "table")
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["word", "count"], ["a, b", "1"], ['say "x"\n', "2.5"]]


def test_each_kind_has_a_form_for_the_tracker(tmp_path):
    import wandb

    figure = MatplotlibFigure()
    figure.subplots().plot([0, 1])
    for item, kind in (
        (Image(np.zeros((4, 4))), wandb.Image),
        (Figure(figure), wandb.Image),
        (Audio(np.zeros(100), 8000), wandb.Audio),
        (Text("a < b"), wandb.Html),
        (Table(["a"], [[1], [2]]), wandb.Table),
    ):
        tracked = item.tracked(item.save(tmp_path, type(item).__name__))
        assert isinstance(tracked, kind)
    assert "<pre>a &lt; b</pre>" in Text("a < b").tracked(tmp_path / "x").html
    assert Table(["a"], [[1], [2]]).tracked(tmp_path / "x").data == [[1], [2]]


def test_captions_stand_above_and_leave_the_picture_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 300, 3), dtype=np.uint8)
    plain, told = (
        np.round(image.imread(Image(pixels, caption).save(tmp_path, "x"))[..., :3] * 255)
        for caption in ("", "step 1,200")
    )
    assert (plain == pixels).all()
    assert told.shape[1] == 300 and told.shape[0] > 40
    assert (told[-40:] == pixels).all()
    above = told[:-40]
    assert (above == 255).mean() > 0.5 and (above < 100).any()  # dark letters on white
    grey = Image(np.zeros((5, 5)), "a line that is longer than the picture is wide").save(tmp_path, "narrow")
    assert image.imread(grey).shape[1] > 100


def test_an_animation_tells_its_steps(tmp_path):
    import wandb
    from PIL import Image as Pillow

    frames = [np.full((20, 60, 3), shade, np.uint8) for shade in (0, 120)]
    path = Animation(frames, captions=["step 1", "step 2"]).save(tmp_path, "training")
    with Pillow.open(path) as moving:
        assert moving.n_frames == 2 and moving.height > 20
        assert moving.info["loop"] == 0  # over and over
        assert moving.info["duration"] == 2000
        for frame, (shade, time) in enumerate([(0, 2000), (120, 3000)]):
            moving.seek(frame)
            assert moving.info["duration"] == time
            assert moving.convert("RGB").getpixel((5, moving.height - 5)) == (shade,) * 3
    assert type(Animation(frames).tracked(path)) is wandb.Video
    with pytest.raises(ValueError, match="zip"):
        Animation(frames, captions=["one"]).save(tmp_path, "wrong")


def test_a_grid_of_pictures_has_one_range_of_colours_whatever_is_in_it():
    """No picture is brightened by its neighbours, or by itself."""
    shades = torch.tensor([0.25, -1.0, 2.0, 0.25])
    for some in (shades, shades[:1], shades[[0, 2]]):
        grid = picture_grid(some[:, None, None, None].expand(-1, 1, 4, 4), columns=len(some))
        wide = grid.shape[1] // len(some)
        found = [int(grid[grid.shape[0] // 2, wide * i + wide // 2, 0]) for i in range(len(some))]
        assert found == [{0.25: 64, -1.0: 0, 2.0: 255}[float(shade)] for shade in some]
