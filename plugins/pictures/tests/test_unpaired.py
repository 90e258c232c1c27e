"""Two sets of pictures without pairs: digits in two looks, folders, datasets."""

from __future__ import annotations

import pytest
import torch
from dlmkit_pictures.digit_looks import DigitLooks, as_chalk, as_ink
from dlmkit_pictures.strips import first_of
from dlmkit_pictures.two_sets import UnpairedPictures
from dlmkit_pictures.unpaired import Unpaired
from PIL import Image

from dlmkit.errors import UserError


class Two(Unpaired):
    """Five pictures and twelve; the value of a picture is its number."""

    def table(self, split):
        return tuple(torch.arange(n).byte().view(n, 1, 1, 1).expand(n, 1, 4, 4) for n in (5, 12))


def numbers(batch, look):
    return (batch[look][:, 0, 0, 0] * 255).round().int().tolist()


def test_an_epoch_has_each_picture_of_the_larger_set_once():
    data = Two(batch_size=4)
    assert (data.size("train"), data.size("val"), data.batches("train")) == (12, 5, 3)
    seen = {look: [n for i in range(3) for n in numbers(data.batch("train", 0, i, 0, 1), look)] for look in "ab"}
    assert sorted(seen["b"]) == list(range(12)) and set(seen["a"]) == set(range(5))
    assert max(seen["a"].count(n) for n in range(5)) == 3
    assert [n % 5 for n in seen["b"]] != seen["a"]  # who stands beside whom is chance
    assert numbers(data.batch("train", 1, 0, 0, 1), "b") != seen["b"][:4]
    with pytest.raises(IndexError):
        data.batch("train", 0, 3, 0, 1)


@pytest.mark.parametrize("split", ["train", "val"])
def test_two_processes_see_what_one_sees(split):
    data = Two(batch_size=4)
    last = data.batches(split) - 1
    whole, *parts = (data.batch(split, 2, last, rank, world) for rank, world in ((0, 1), (0, 2), (1, 2)))
    for look in "ab":
        assert torch.equal(whole[look], torch.cat([part[look] for part in parts]))


# ---------- digits in two looks


@pytest.fixture(scope="module")
def looks():
    return DigitLooks(batch_size=50)


def test_no_digit_is_in_both_looks_nor_in_two_splits(looks):
    seen = set()
    for split in ("train", "val", "test"):
        batch = looks.batch(split, 0, 0, 0, 1)
        assert set(batch) == (
            {"a", "b"} if split == "train" else {"a", "b", "a_truth", "b_truth", "a_class", "b_class"}
        )
        a, b = looks.table(split)
        from dlmkit_pictures.digit_looks import _halves

        chalk = [*a, *_halves(split)[0]["b_truth"]]
        assert len(a) == len(b) and looks.size(split) == len(a)
        for picture in chalk:
            assert picture.numpy().tobytes() not in seen
            seen.add(picture.numpy().tobytes())
    assert (looks.a_channels, looks.b_channels, looks.side) == (3, 3, 16)


def test_what_the_looks_are():
    digit = torch.zeros(1, 1, 16, 16)
    digit[:, :, 3:13, 7:9] = 1
    chalk, ink = as_chalk(digit), as_ink(digit)
    assert torch.equal(chalk[0, 0], digit[0, 0]) and chalk.shape == (1, 3, 16, 16)
    assert ink[0, :, 0, 0].tolist() == pytest.approx([1, 0.93, 0.65])  # paper
    assert ink[0, :, 8, 8].tolist() == pytest.approx([0.1, 0.15, 0.55], abs=0.2)
    top, bottom = (ink[0, 0, row].argmin().item() for row in (4, 11))
    assert top > bottom  # it leans to the right


def test_the_truth_is_the_same_digit(looks):
    batch = looks.batch("test", 0, 0, 0, 1)
    assert looks.judges["a"].accuracy(batch["a"], batch["a_class"]) > 0.9
    assert looks.judges["b"].accuracy(batch["a_truth"], batch["a_class"]) > 0.9
    assert looks.judges["a"].accuracy(batch["b_truth"], batch["b_class"]) > 0.9


def test_a_digit_as_it_is_is_not_told_in_the_other_look(looks):
    """Otherwise the score would reward a net that does nothing."""
    figures = looks.baselines()
    for way in ("ab", "ba"):
        assert figures[f"test/accuracy_{way}"]["as it is"] < 0.2 < 0.9 < figures[f"test/accuracy_{way}"]["the truth"]
        assert figures[f"test/l1_{way}"]["the truth"] == 0 < figures[f"test/l1_{way}"]["as it is"]


def test_where_a_batch_is_small_the_first_pictures_of_the_split_are_shown(looks):
    class Task:
        device = torch.device("cpu")
        _trainer = None

    class Trainer:
        datamodule, testing = looks, False

    task, batch = Task(), looks.batch("test", 0, 2, 0, 1)
    assert torch.equal(first_of(task, batch, 4)["a"], batch["a"][:4])
    task._trainer = Trainer()
    assert torch.equal(first_of(task, batch, 4)["a"], batch["a"][:4])
    small = {name: tensor[:3] for name, tensor in batch.items()}
    for testing, split in ((False, "val"), (True, "test")):
        task._trainer.testing = testing
        assert torch.equal(first_of(task, small, 4)["a"], looks.take(split, torch.arange(4))["a"])
        assert len(first_of(task, small, 10_000)["b"]) == looks.size(split)


# ---------- folders and datasets


@pytest.fixture
def folders(tmp_path):
    """Twelve pictures of look a, and those of the same names but two in look b."""
    for number in range(12):
        for folder, colour in (("a", (number, 0, 0)), ("b", (0, number, 0))):
            (tmp_path / folder).mkdir(exist_ok=True)
            if folder == "a" or number < 10:
                Image.new("RGB", (20 + number, 20), colour).save(tmp_path / folder / f"{number}.png")
    return str(tmp_path / "a"), str(tmp_path / "b")


def every(data, which):
    """The numbers of all pictures of a look."""
    return {s: data.table(s)[which][:, which, 0, 0].tolist() for s in ("train", "val", "test")}


def test_two_folders(folders):
    data = UnpairedPictures(*folders, side=16, val_share=0.2, test_share=0.2, batch_size=2)
    for which, count in ((0, 12), (1, 10)):
        assert sorted(n for part in every(data, which).values() for n in part) == list(range(count))
    assert [len(n) for n in every(data, 0).values()] == [8, 2, 2]
    assert "8 of a, 6 of b for training" in data.describe()
    assert (data.side, data.a_channels, data.b_channels) == (16, 3, 3)


def test_names_of_both_folders_can_be_shared_out(folders):
    data = UnpairedPictures(*folders, side=16, val_share=0.2, test_share=0.2, disjoint=True)
    a, b = ({n for part in every(data, which).values() for n in part} for which in (0, 1))
    assert not a & b and a | b == set(range(12)) and {10, 11} <= a and len(b) == 5
    batch = data.take("test", torch.arange(1))
    assert "a_truth" not in batch  # two pictures of look a have no partner
    assert torch.equal(batch["b_truth"][:, 0, 0, 0], batch["b"][:, 1, 0, 0])
    assert list(data.baselines()) == ["test/l1_ba"]


def test_no_picture_is_seen_in_both_looks_of_folders_that_are_divided_otherwise(folders, tmp_path):
    (tmp_path / "a" / "train").mkdir()
    (tmp_path / "a" / "test").mkdir()
    for number in range(10):
        path = tmp_path / "a" / f"{number}.png"
        path.rename(path.parent / ("test" if number > 6 else "train") / path.name)
    with pytest.raises(UserError, match=r"divided into train, test, and .* into train, so a picture could"):
        UnpairedPictures(*folders, side=16, disjoint=True).table("train")
    assert len(UnpairedPictures(*folders, side=16).table("test")[0]) == 3
    with pytest.raises(UserError, match=r"data\.disjoint: disjoint halves the names that two folders have"):
        UnpairedPictures("owner/name", disjoint=True)


def test_halves_of_one_name(tmp_path):
    for look in "ab":
        (tmp_path / look).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / look / "same.png")
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"{number}.png")
    with pytest.raises(UserError, match="b: train has no picture of look b"):
        UnpairedPictures(str(tmp_path / "a"), str(tmp_path / "b"), side=8, disjoint=True).table("train")


def test_the_truth_is_known_where_all_have_a_partner(folders, tmp_path):
    for number in (10, 11):
        (tmp_path / "a" / f"{number}.png").unlink()
    data = UnpairedPictures(*folders, side=16, val_share=0.2, test_share=0.2, disjoint=True, batch_size=2)
    batch = data.take("val", torch.arange(1))
    assert torch.equal(batch["a_truth"][:, 1], batch["a"][:, 0]) and (batch["a_truth"][:, 0] == 0).all()
    number = data.take("test", torch.arange(1))["a"][0, 0, 0, 0].item()
    assert data.baselines()["test/l1_ab"]["as it is"] == pytest.approx(2 / 3 * number)
    assert set(data.batch("train", 0, 0, 0, 1)) == {"a", "b"}
    assert data.known("test", torch.arange(1)).keys() == {"a_truth", "b_truth"}
    assert not UnpairedPictures(*folders, side=16).known("test", torch.arange(1))


def test_folders_of_splits_and_grey(folders, tmp_path):
    for look in "ab":
        (tmp_path / look / "train").mkdir()
        (tmp_path / look / "test").mkdir()
        for number in range(10):
            part = "test" if number > 6 else "train"
            (tmp_path / look / f"{number}.png").rename(tmp_path / look / part / f"{number}.png")
    data = UnpairedPictures(*folders, side=16, b_channels=1)
    assert every(data, 0)["test"] == [7, 8, 9] and data.table("val")[1].shape == (1, 1, 16, 16)
    assert "10 of 20 in colour, made grey" in data.describe()


def test_a_dataset_with_two_columns(tmp_path):
    from datasets import Dataset

    rows = {name: [Image.new("RGB", (20, 20), (n, n, 0)) for n in range(10)] for name in ("imageA", "imageB")}
    Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    data = UnpairedPictures(str(tmp_path), side=16)
    assert [len(n) for n in every(data, 1).values()] == [8, 1, 1]
    with pytest.raises(UserError, match="there is no column image but imageA, imageB; did you mean"):
        UnpairedPictures(str(tmp_path), columns=("image", "imageB")).size("train")


def test_bad_folders_and_options(folders, tmp_path):
    with pytest.raises(UserError, match=r"one folder, of look a alone; name that of look b as data\.b"):
        UnpairedPictures(folders[0])
    with pytest.raises(UserError, match="leave no pictures"):
        UnpairedPictures(*folders, test_share=0)
    with pytest.raises(UserError, match="side is -1"):
        UnpairedPictures(*folders, side=-1)
    (tmp_path / "b" / "4.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"4\.png: this is no picture") as error:
        UnpairedPictures(*folders).size("train")
    assert len(error.value.lines()) == 1
    for path in (tmp_path / "b").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="this folder is empty"):
        UnpairedPictures(*folders).size("train")
