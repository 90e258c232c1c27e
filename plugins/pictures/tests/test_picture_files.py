"""Picture files of every kind, and those that are none."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from dlmkit_pictures.files import (
    Picture,
    changed_to,
    list_pictures,
    look_at,
    named_file,
    read_picture,
    square,
    squared,
    stores_dataset,
    told,
)
from dlmkit_pictures.frames import Frames
from dlmkit_pictures.strips import strips_figure
from PIL import Image

from dlmkit.errors import UserError


@pytest.fixture
def save(tmp_path):
    def written(name, array, mode=None, **options):
        picture = array if isinstance(array, Image.Image) else Image.fromarray(np.asarray(array))
        (picture.convert(mode) if mode else picture).save(tmp_path / name, **options)
        return tmp_path / name

    return written


RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def test_a_colour_picture_is_its_pixels(save):
    colours = np.stack([RAMP, RAMP // 2, 255 - RAMP], axis=-1)
    pixels, changes = read_picture(save("a.png", colours))
    assert pixels.dtype == torch.float32 and changes == ()
    torch.testing.assert_close(pixels, torch.from_numpy(colours.transpose(2, 0, 1) / 255).float())


def test_grey_where_colour_is_wanted_is_repeated(save):
    pixels, changes = read_picture(save("grey.png", RAMP), channels=3)
    assert pixels.shape == (3, 3, 4) and changes == ("grey",)
    assert torch.equal(pixels[0], pixels[2])
    assert read_picture(save("grey.png", RAMP), channels=1) == (pytest.approx(pixels[:1]), ())


def test_colour_where_grey_is_wanted_becomes_its_luminance(save):
    pixels, changes = read_picture(save("red.png", np.full((2, 2, 3), [255, 0, 0], np.uint8)), channels=1)
    assert pixels.shape == (1, 2, 2) and changes == ("coloured",)
    assert pixels[0, 0, 0].item() == pytest.approx(0.299)


def test_what_is_transparent_lies_on_white(save):
    see_through = np.zeros((1, 3, 4), np.uint8)
    see_through[0, :, 3] = [0, 51, 255]  # black: not there, a fifth, whole
    pixels, changes = read_picture(save("rgba.png", see_through))
    assert changes == ("see-through",)
    torch.testing.assert_close(pixels[:, 0], torch.tensor([1, 0.8, 0]).expand(3, 3), atol=0.005, rtol=0)


def test_a_palette_with_a_transparent_colour_lies_on_white_too(save):
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    indexed.putpalette([0, 0, 0, 0, 0, 255])
    pixels, changes = read_picture(save("p.png", indexed, transparency=0))
    assert changes == ("see-through",)
    assert pixels[:, 0].T.tolist() == [[1, 1, 1], [0, 0, 1]]
    grey, changes = read_picture(save("la.png", Image.new("LA", (2, 1), (100, 255))), channels=1)
    assert changes == () and grey.shape == (1, 1, 2) and grey[0, 0, 0].item() == pytest.approx(100 / 255)


def test_sixteen_bits_become_eight(save):
    """By rounding, and not by cutting off what is above 255."""
    shades = np.array([[0, 128, 256, 32768, 65535]], np.uint16)
    pixels, changes = read_picture(save("deep.png", shades), channels=1)
    assert changes == ("16-bit",)
    torch.testing.assert_close(pixels[0, 0], torch.tensor([0, 0, 1 / 255, 128 / 255, 1]))
    assert read_picture(save("deep.tif", shades), channels=3).changes == ("16-bit", "grey")


def test_black_and_white_is_from_0_to_1(save):
    pixels, _ = read_picture(save("bits.png", Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")), channels=1)
    assert pixels.flatten().tolist() == [0, 1]


def test_a_photograph_is_turned_as_its_camera_says(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert read_picture(save("turned.png", RAMP, exif=exif)).pixels.shape == (3, 4, 3)


def test_float_pixels_are_refused(save):
    with pytest.raises(UserError, match=r"f\.tif: its pixels are float numbers"):
        read_picture(save("f.tif", Image.fromarray(np.ones((2, 2), np.float32))))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "this picture is damaged"),
        (lambda raw: b"these are words", "this is no picture that can be read"),
        (lambda raw: b"", "this is no picture that can be read"),
    ],
)
def test_a_spoilt_file_is_named(save, spoil, message):
    path = save("noise.png", np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        read_picture(path)
    assert error.value.where == str(path) and "\n" not in str(error.value)


def test_files_that_are_not_there(save, tmp_path):
    save("cat.png", RAMP)
    with pytest.raises(UserError, match=r"there is no such file; did you mean cat\.png\?"):
        read_picture(tmp_path / "cats.png")
    with pytest.raises(UserError, match="this is a folder"):
        read_picture(tmp_path)


def test_a_folder_is_listed_by_name(save, tmp_path):
    for name in ("b.png", "a.jpg", ".hidden.png"):
        save(name, RAMP)
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "inner.png").mkdir()
    assert [p.name for p in list_pictures(tmp_path)] == ["a.jpg", "b.png"]


def test_folders_without_pictures(tmp_path):
    with pytest.raises(UserError, match="this folder is empty"):
        list_pictures(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(UserError, match="no picture in this folder, but 1 other files"):
        list_pictures(tmp_path)
    with pytest.raises(UserError, match=f"there is no such folder; did you mean {tmp_path.name}"):
        list_pictures(tmp_path.with_name(tmp_path.name + "x"))


def test_a_folder_of_folders_and_a_file_for_a_folder(save, tmp_path):
    for name in ("ann", "ben", "cy", "di"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"no picture in this folder, but 4 folders: ann, ben, cy, …; name one that"):
        list_pictures(tmp_path)
    with pytest.raises(UserError, match=r"a\.png: this is a file, not a folder; give the folder that it lies in"):
        list_pictures(save("a.png", RAMP))
    with pytest.raises(UserError, match="--prompt: there is no name; name a picture's file"):
        named_file(" ")


def test_what_could_be_transparent_and_is_not_is_not_told(save):
    opaque = np.dstack([RAMP, RAMP, RAMP, np.full_like(RAMP, 255)])
    assert read_picture(save("opaque.png", opaque)).changes == ()


def test_of_several_pictures_the_first_is_taken_and_that_is_told(save):
    others = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    pixels, changes = read_picture(save("moving.gif", others[0], save_all=True, append_images=others[1:]))
    assert changes == ("several",) and pixels[0].min() == 1 and pixels[2].max() == 0
    assert changed_to("moving.gif", Picture(pixels, changes)) == (
        "moving.gif; of several pictures, of which the first is taken"
    )


def test_whole_numbers_beyond_sixteen_bits_are_refused(save):
    with pytest.raises(UserError, match=r"deep\.tiff: its pixels have 32 bits, which say nothing of what is white"):
        read_picture(save("deep.tiff", np.array([[0, 70_000]], np.int32)))


@pytest.mark.parametrize(
    ("name", "array", "mode", "changes"),
    [
        ("plain.png", np.zeros((3, 4, 3), np.uint8), None, ()),
        ("grey.png", RAMP, None, ("grey",)),
        ("alpha.png", np.zeros((3, 4, 4), np.uint8), None, ("see-through",)),
        ("deep.png", RAMP.astype(np.uint16) * 257, None, ("16-bit", "grey")),
        ("plain.jpg", np.zeros((3, 4, 3), np.uint8), None, ()),
    ],
)
def test_the_head_of_a_file_says_what_reading_it_says(save, name, array, mode, changes):
    path = save(name, array, mode)
    assert look_at(path) == ((3, 4), changes)
    assert set(read_picture(path).changes) == set(changes) and read_picture(path).pixels.shape[1:] == (3, 4)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg"])
def test_a_file_that_ends_too_early_is_seen_at_its_head(save, name):
    path = save(name, np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=f"{name}: this picture is damaged"):
        look_at(path)


@pytest.mark.parametrize("name", ["cut.bmp", "cut.webp", "cut.gif", "cut.tif"])
def test_a_damaged_file_of_another_format_is_seen_too(save, name):
    path = save(name, np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=f"{name}: this picture is damaged"):
        look_at(path)


def test_of_a_large_jpeg_only_its_ends_are_looked_at(save, monkeypatch):
    path = save("whole.jpg", np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8))
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", None)  # and nothing is decoded
    monkeypatch.setattr(type(path), "read_bytes", None)
    assert look_at(path)[0] == (400, 400)


def test_float_pixels_are_refused_at_the_head_too(save):
    with pytest.raises(UserError, match="its pixels are float numbers"):
        look_at(save("float.tif", RAMP.astype(np.float32), "F"))


def test_what_pillow_warns_of_is_not_said(save, recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # twice as many are refused
    assert read_picture(save("large.png", RAMP)).pixels.shape == (3, 3, 4)
    assert not [warning for warning in recwarn if "PIL" in str(warning.filename)]


def test_the_middle_is_taken_and_scaled():
    pixels = torch.zeros(1, 4, 8)
    pixels[:, :, 2:6] = torch.tensor([[1.0, 1, 0, 0]] * 4)
    assert torch.equal(square(pixels, 4)[0], pixels[0, :, 2:6])
    halves = square(pixels, 2)
    assert halves.shape == (1, 2, 2) and halves[0, 0, 0] > 0.8 and halves[0, 0, 1] < 0.2
    torch.testing.assert_close(halves.sum(-1), torch.ones(1, 2))
    assert square(pixels.transpose(1, 2), 4).shape == (1, 4, 4)
    torch.testing.assert_close(square(torch.full((3, 5, 7), 0.3), 16), torch.full((3, 16, 16), 0.3))


def test_sixteen_bits_in_colour_are_told_though_pillow_keeps_eight(tmp_path):
    """Written by hand, since Pillow writes no such file: two pixels, one red, one white."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">6H", 65535, 0, 0, 65535, 65535, 65535)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    pixels, changes = read_picture(tmp_path / "deep.png")
    assert changes == ("16-bit",)
    assert pixels[:, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_what_is_cut_to_a_square_is_told():
    assert squared(Picture(torch.zeros(3, 8, 8), ("grey",)), 4).changes == ("grey",)
    made = squared(Picture(torch.zeros(3, 8, 12), ("grey",)), 4)
    assert made.changes == ("grey", "oblong") and made.pixels.shape == (3, 4, 4)
    assert told([("a.png", made.changes)]).startswith("1 of 1 oblong, of which the middle is taken (such as a.png)")
    small = squared(Picture(torch.zeros(3, 8, 3), ()), 4)
    assert small.changes == ("oblong", "small") and "smaller than asked for, and enlarged" in told(
        [("a.png", small.changes)]
    )


def test_what_was_changed_is_told():
    assert told([("a.png", ()), ("b.png", ())]) == ""
    text = told([("a.png", ()), ("b.png", ("grey", "16-bit")), ("c.png", ("grey",))])
    assert text == "1 of 3 of 16 bits, made 8 (such as b.png); 2 of 3 grey, repeated as colour (such as b.png)"


def test_frames_of_large_pictures_are_kept_smaller():
    frames = Frames()
    frames.add(1, torch.rand(32, 3, 64, 64))
    frames.add(2, torch.full((20, 3, 256, 128), 0.2))
    assert frames.pictures[0].shape == (32, 3, 64, 64) and frames.pictures[1].shape == (20, 3, 200, 100)
    assert (frames.pictures[1] == 51).all()


@pytest.mark.parametrize(
    ("file", "stored"),
    [("data/train-0.parquet", True), ("data.arrow", True), ("train/metadata.csv", True), ("train/labels.csv", False)],
)
def test_which_folder_is_a_stored_dataset(tmp_path, save, file, stored):
    """A stray table beside pictures does not make a dataset of them."""
    save("a.png", np.zeros((2, 2), np.uint8))
    assert not stores_dataset(str(tmp_path)) and not stores_dataset(str(tmp_path / "nowhere"))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert stores_dataset(str(tmp_path)) == stored


def test_strips_have_one_range_of_colours_and_no_mathematics(tmp_path):
    dark, light = torch.full((2, 1, 8, 8), 0.25), torch.full((2, 3, 8, 8), 0.5)
    figure = strips_figure({"cost_$5_and_$6.png": dark, "b": light}, "cost_$5_and_$6.png")
    (image,) = figure.axes[0].images
    pixels = np.asarray(image.get_array())
    high, wide = pixels.shape[0] // 2, pixels.shape[1] // 2
    assert (
        pixels[high // 2, wide // 2].tolist() == [64] * 3 and pixels[high + high // 2, wide // 2].tolist() == [128] * 3
    )
    figure.savefig(tmp_path / "a.png")  # where "_and_" would not parse


def test_whole_numbers_beyond_sixteen_bits_are_refused_at_the_head_too(save):
    with pytest.raises(UserError, match=r"deep.tif: its pixels have 32 bits"):
        look_at(save("deep.tif", np.array([[0, 70_000]], np.int32), "I"))
    assert look_at(save("wide.tif", np.array([[0, 60_000]], np.int32), "I")) == ((1, 2), ("16-bit", "grey"))
