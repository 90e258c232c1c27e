"""Pairs of pictures: drawn, from folders, and from datasets; and how near they are to each other."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from datasets import Image as Pictures
from dlmkit_pictures.fidelity import fidelity
from dlmkit_pictures.glyphs import CHARACTERS, Glyphs, draw_glyphs
from dlmkit_pictures.paired import PairedPictures, dataset_pictures
from dlmkit_pictures.pairs import PicturePairs, as_channels
from PIL import Image

from dlmkit.errors import UserError


def paint(path, colour, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folders(tmp_path):
    """Ten pairs: the number as red, and as green."""
    for number in range(10):
        paint(tmp_path / "one" / f"{number}.png", (number, 0, 0))
        paint(tmp_path / "other" / f"{number}.jpg", (0, number * 20, 0))
    return str(tmp_path / "one"), str(tmp_path / "other")


class Table(PicturePairs):
    """Pairs from two tensors."""

    def __init__(self, given, wanted, **options):
        super().__init__(**options)
        self.pair = given, wanted

    def table(self, split):
        return self.pair


# ---------- how near


def test_fidelity_is_its_formulas():
    made, truth = torch.rand(2, 3, 3, 12, 14).unbind()
    near = fidelity(made, truth)
    for row in range(3):
        a, b = made[row].flatten().tolist(), truth[row].flatten().tolist()
        error = sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
        assert near["psnr"][row].item() == pytest.approx(-10 * np.log10(error), rel=1e-5)
        assert near["l1"][row].item() == pytest.approx(
            np.mean([abs(x - y) for x, y in zip(a, b, strict=True)]), rel=1e-5
        )
        slopes = [sum(np.abs(np.diff(p[row].numpy(), axis=axis)).mean() for axis in (1, 2)) for p in (made, truth)]
        assert near["detail"][row].item() == pytest.approx(slopes[0] / slopes[1], rel=1e-5)


def test_a_picture_is_nearest_to_itself():
    picture = torch.rand(2, 1, 16, 16)
    same = fidelity(picture, picture)
    assert same["psnr"].tolist() == pytest.approx([100, 100]) and same["ssim"].tolist() == pytest.approx([1, 1])
    assert same["l1"].tolist() == [0, 0] and same["detail"].tolist() == pytest.approx([1, 1])
    flat = fidelity(picture.mean(dim=(2, 3), keepdim=True).expand_as(picture), picture)
    assert (flat["detail"] == 0).all() and (flat["ssim"] < 0.5).all()


def test_structural_similarity_by_another_way():
    """The definition at every place, with a Gaussian window of 11 pixels; the picture is mirrored at its edges."""
    first, second = torch.rand(2, 1, 1, 16, 16).double().unbind()
    places = torch.arange(11).double() - 5
    line = torch.exp(-(places**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    x, y = (torch.nn.functional.pad(p, (5, 5, 5, 5), mode="reflect") for p in (first, second))
    values = []
    for i in range(16):
        for j in range(16):
            a, b = x[0, 0, i : i + 11, j : j + 11], y[0, 0, i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb, cab = (
                (window * (a - ma) ** 2).sum(),
                (window * (b - mb) ** 2).sum(),
                (window * (a - ma) * (b - mb)).sum(),
            )
            values.append((2 * ma * mb + 1e-4) * (2 * cab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert fidelity(first, second)["ssim"].item() == pytest.approx(float(torch.stack(values).mean()), abs=1e-5)


# ---------- what all pairs share


def test_a_batch_is_from_0_to_1_and_says_its_shape():
    data = Table(torch.zeros(8, 1, 16, 16).byte(), torch.full((8, 3, 16, 16), 255).byte(), batch_size=4)
    batch = data.batch("train", 0, 0, 0, 1)
    assert batch["input"].shape == (4, 1, 16, 16) and batch["target"].dtype == torch.float32
    assert batch["input"].max() == 0 and batch["target"].min() == 1
    assert (data.in_channels, data.out_channels, data.side, data.size("train")) == (1, 3, 16, 8)


def test_both_pictures_of_a_pair_are_moved_alike():
    picture = torch.arange(16).byte().view(1, 1, 4, 4).repeat(8, 1, 1, 1)
    data = Table(picture, picture * 10, batch_size=8, mirror=True, shift=1)
    batch = data.batch("train", 3, 0, 0, 1)
    torch.testing.assert_close(batch["target"], batch["input"] * 10)
    seen = {tuple((p * 255).round().flatten().int().tolist()) for p in batch["input"]}
    padded = torch.nn.functional.pad(picture[:1].float(), (1, 1, 1, 1), mode="replicate")
    crops = [padded[0, 0, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    turned = torch.nn.functional.pad(picture[:1].float().flip(3), (1, 1, 1, 1), mode="replicate")
    crops += [turned[0, 0, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    assert 3 < len(seen) and seen <= {tuple(c.flatten().int().tolist()) for c in crops}
    parts = [data.batch("train", 3, 0, rank, 2)["input"] for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), batch["input"])
    assert torch.equal(data.batch("val", 0, 0, 0, 1)["input"][0], picture[0] / 255)


def test_baselines_are_the_input_and_the_nearest_training_pair():
    class Known(Table):
        def table(self, split):
            given = torch.zeros(2, 1, 12, 12).byte()
            given[1] = 200
            wanted = given.clone()
            wanted[1, :, :6] = 100
            return (given, wanted) if split == "train" else (given.flip(0) + 5, wanted.flip(0))

    figures = Known(None, None).baselines()
    assert list(figures) == ["test/psnr", "test/ssim", "test/l1", "test/detail"]
    assert figures["test/l1"]["the nearest training pair"] == 0
    assert figures["test/l1"]["the input as it is"] == pytest.approx(((105 + 5) / 2 + 5) / 2 / 255)


def test_similarity_does_not_depend_on_the_precision_of_the_run():
    """Variances in half precision would be mostly rounding."""
    made, truth = (0.5 + 0.02 * torch.rand(2, 3, 3, 16, 16)).unbind()
    plain = fidelity(made, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fidelity(made, truth)
    for name, each in plain.items():
        torch.testing.assert_close(mixed[name], each, rtol=1e-6, atol=1e-6)


def test_the_most_similar_is_found_among_many():
    given = torch.arange(0, 250, 0.1).byte().view(-1, 1, 1, 1).expand(-1, 1, 12, 12).contiguous()

    class Many(Table):
        def table(self, split):
            return (given, given) if split == "train" else (given[[5, 1700, 2400]], given[[5, 1700, 2400]])

    assert Many(None, None).baselines()["test/l1"]["the nearest training pair"] == 0


def test_a_dataset_s_own_bytes_win_over_a_file_of_that_name(tmp_path, monkeypatch):
    from datasets import Dataset

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    paint(tmp_path / "0.png", (255, 255, 255))
    stored = io.BytesIO()
    Image.new("RGB", (20, 20), (10, 20, 30)).save(stored, "png")
    cells = [{"path": "0.png", "bytes": stored.getvalue()}]
    rows = Dataset.from_dict({"image": cells}).cast_column("image", Pictures())
    (picture,) = dataset_pictures(rows, "image", 3, "owner/name")
    assert [round(float(value) * 255) for value in picture.pixels[:, 0, 0]] == [10, 20, 30]


def test_channels_can_be_made_others():
    grey, colour = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(as_channels(grey, 3)[:, 2], grey[:, 0]) and as_channels(grey, 1) is grey
    torch.testing.assert_close(
        as_channels(colour, 1)[:, 0], torch.einsum("nchw,c->nhw", colour, torch.tensor([0.299, 0.587, 0.114]))
    )


# ---------- outlines of letters


def test_no_letter_is_in_two_splits():
    texts = list(CHARACTERS.values())
    assert not any(set(a.upper()) & set(b.upper()) for a in texts for b in texts if a is not b)
    assert all(len(set(text)) == len(text) for text in texts)


def test_letters_of_the_test_look_like_none_of_the_training():
    """Upright and of one size in one font, the masks of no two are nearly the same."""
    from dlmkit_pictures.glyphs import _mask

    class Middle:
        def integers(self, *_):
            return 0

        def uniform(self, low, high):
            return (low + high) / 2

    draw = Middle()
    masks = {split: torch.stack([_mask(c, draw).flatten() for c in text]) for split, text in CHARACTERS.items()}
    for other in ("val", "test"):
        for mask in masks[other]:
            overlap = torch.minimum(mask, masks["train"]).sum(1) / torch.maximum(mask, masks["train"]).sum(1)
            assert overlap.max() < 0.85


def test_a_letter_is_its_outline_filled():
    outline, letter = draw_glyphs("OB", 12, seed=5)
    assert outline.shape == letter.shape == (12, 3, 32, 32) and 0 <= letter.min() and letter.max() <= 1
    inked = [(picture.min(dim=1).values < 0.7) for picture in (outline, letter)]
    assert (inked[1].sum(dim=(1, 2)) > 1.2 * inked[0].sum(dim=(1, 2))).all()
    assert (inked[0] & ~inked[1]).float().mean() < 0.01  # the outline lies within the letter
    assert (outline[:, :, 16, 16] == 1).sum() > 6 and torch.equal(*(draw_glyphs("OB", 3, seed=5)[0] for _ in range(2)))


def test_hatching_cannot_be_seen_in_the_outline():
    from dlmkit_pictures.glyphs import _hatching

    one, other = _hatching(torch.tensor([0.0, 0.5]).view(2, 1, 1, 1))
    assert (one - other).abs().mean() > 0.3
    torch.testing.assert_close((one + other) / 2, torch.full((1, 32, 32), 0.8))


def test_the_drawn_pairs():
    data = Glyphs()
    assert [data.size(s) for s in ("train", "val", "test")] == [3000, 160, 320]
    assert (data.in_channels, data.out_channels, data.side) == (3, 3, 32)
    assert "outlines of letters" in data.describe()


# ---------- folders and datasets


def number(batch):
    return (batch["input"][:, 0, 0, 0] * 255).round().int().tolist()


def test_two_folders_are_paired_by_name(folders):
    data = PairedPictures(*folders, side=16, val_share=0.2, test_share=0.3, batch_size=5)
    assert [data.size(s) for s in ("train", "val", "test")] == [5, 2, 3]
    seen = []
    for split in ("train", "val", "test"):
        for index in range(data.batches(split)):
            batch = data.batch(split, 0, index, 0, 1)
            green = batch["target"][:, 1, 0, 0] * 255
            assert green.tolist() == pytest.approx([20 * n for n in number(batch)], abs=2)
            seen += number(batch)
    assert sorted(seen) == list(range(10))
    again = PairedPictures(*folders, side=16, val_share=0.2, test_share=0.3)
    assert torch.equal(again.table("test")[0], data.table("test")[0])
    turned = PairedPictures(*folders, side=16, val_share=0.2, test_share=0.3, swap=True)
    assert torch.equal(turned.table("test")[1], data.table("test")[0])


def test_pairs_side_by_side_in_folders_of_splits(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for index in range(count):
            sheet = Image.new("RGB", (40, 20), (255, 0, 0))
            sheet.paste(Image.new("RGB", (20, 20), (0, 0, 255)), (20, 0))
            (tmp_path / split).mkdir(exist_ok=True)
            sheet.save(tmp_path / split / f"{index}.png")
    data = PairedPictures(str(tmp_path), side=16)
    assert [data.size(s) for s in ("train", "val", "test")] == [4, 2, 3]
    given, wanted = data.table("val")
    assert given[0, :, 0, 15].tolist() == [255, 0, 0] and wanted[0, :, 0, 0].tolist() == [0, 0, 255]
    assert PairedPictures(str(tmp_path), side=16, swap=True).table("val")[0][0, :, 0, 0].tolist() == [0, 0, 255]


def test_a_split_that_is_missing_is_taken_from_the_training(folders, tmp_path):
    for split, numbers in (("train", range(8)), ("test", range(8, 10))):
        for which, ending in (("one", "png"), ("other", "jpg")):
            (tmp_path / "split" / which / split).mkdir(parents=True)
            for n in numbers:
                name = f"{n}.{ending}"
                (tmp_path / "split" / which / split / name).write_bytes((tmp_path / which / name).read_bytes())
    data = PairedPictures(*(str(tmp_path / "split" / which) for which in ("one", "other")), side=16)
    assert [data.size(s) for s in ("train", "val", "test")] == [7, 1, 2]
    assert data.table("test")[0][:, 0, 0, 0].tolist() == [8, 9]


def test_pairs_of_a_dataset(tmp_path):
    from datasets import Dataset

    rows = {
        "photo": [Image.new("RGB", (20, 20), (n, 0, 0)) for n in range(10)],
        "drawing": [Image.new("L", (40, 40), n) for n in range(10)],
    }
    Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    data = PairedPictures(str(tmp_path), columns=("photo", "drawing"), side=16, out_channels=1)
    assert [data.size(s) for s in ("train", "val", "test")] == [8, 1, 1]
    given, wanted = data.table("train")
    assert given.shape == (8, 3, 16, 16) and torch.equal(given[:, 0, 0, 0], wanted[:, 0, 0, 0])
    for columns, message in [
        (("photos", "drawing"), "there is no column photos but photo, drawing; did you mean photo"),
    ]:
        with pytest.raises(UserError, match=message):
            PairedPictures(str(tmp_path), columns=columns).size("train")


def test_what_was_changed_is_said(folders, tmp_path):
    Image.new("L", (20, 20), 3).save(tmp_path / "one" / "3.png")
    text = PairedPictures(*folders, side=16).describe()
    assert "1 of 20 grey, repeated as colour" in text and "3.png" in text and "8 training" in text
    assert "enlarged" not in text
    other = next((tmp_path / "other").glob("4.*"))
    Image.new("L", (12, 12), 3).save(other)  # a partner is told by its own name
    text = PairedPictures(*folders, side=16).describe()
    assert f"1 of 20 smaller than asked for, and enlarged (such as {other})" in text


def without(folder, name):
    def spoil(base):
        (base / folder / name).unlink()

    return spoil


def replace(folder, name, **options):
    return lambda base: paint(base / folder / name, 0, **options)


BAD = [
    (without("other", "4.jpg"), "one has 10 pictures and .*other has 9: 1 of them have no partner"),
    (without("one", "4.png"), "one has 9 pictures and .*other has 10: 1 of them"),
    (replace("one", "3.png", size=(20, 30)), "20 × 30 pixels and its partner 20 × 20: another shape"),
    (replace("one", "3.jpg"), "there is also 3"),
    (lambda base: (base / "one" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing"), r"3\.png: this"),
    (lambda base: [p.unlink() for p in (base / "one").iterdir()], "one: this folder is empty"),
    (lambda base: [p.unlink() for f in ("one", "other") for p in (base / f).glob("[2-9].*")], "too few to train with"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_bad_folders_are_told_in_one_line(folders, tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        PairedPictures(*folders, side=16).size("train")
    assert len(error.value.lines()) == 1


def test_other_sizes_of_the_same_shape_are_welcome(folders, tmp_path):
    paint(tmp_path / "one" / "3.png", (3, 0, 0), size=(50, 50))
    assert PairedPictures(*folders, side=16).size("train") == 8


def test_bad_options(folders, tmp_path):
    with pytest.raises(UserError, match=r"twice as wide as high; give pairs side by side, or a second folder"):
        PairedPictures(folders[0]).size("train")
    with pytest.raises(UserError, match="leave no pairs"):
        PairedPictures(*folders, val_share=0.5, test_share=0.5)
    with pytest.raises(UserError, match=r"data\.shift: shift is -1; give at least 0"):
        PairedPictures("here", shift=-1)
    with pytest.raises(UserError, match="side is 0"):
        PairedPictures(*folders, side=0)
    with pytest.raises(UserError, match="there is no such folder; did you mean other"):
        PairedPictures(folders[0], folders[1] + "s").size("train")
    for split in ("train", "test"):
        (tmp_path / "one" / split).mkdir()
    with pytest.raises(UserError, match=r"divided into train, test, and .* into train; divide both alike"):
        PairedPictures(*folders).table("train")
