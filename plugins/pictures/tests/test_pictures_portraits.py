"""Portraits: people apart, shades, and embeddings by a net that has never seen them."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from dlmkit_pictures.embedded import EmbeddedDigits, EmbeddedPortraits
from dlmkit_pictures.portraits import Portraits
from PIL import Image

from dlmkit.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Twelve people, each of a grey of its own, in folders as the ORL faces come."""
    for person in range(1, 13):
        (tmp_path / f"s{person}").mkdir()
        for number in range(3):
            pixels = np.full((20, 16), 20 * person + number, np.uint8)
            pixels[:, :8] //= 2  # the left half is darker
            Image.fromarray(pixels).save(tmp_path / f"s{person}" / f"{number}.pgm")
    return tmp_path


def test_people_are_in_one_split_only_and_numbered(folder):
    data = Portraits(str(folder), image_size=8, shades=5, val_people=2, test_people=3, batch_size=4)
    labels = {split: data.table(split)[1] for split in ("train", "val", "test")}
    assert [len(labels[split]) for split in labels] == [7 * 3 * 2, 2 * 3, 3 * 3]
    assert {split: sorted(set(whose.tolist())) for split, whose in labels.items()} == {
        "train": list(range(7)),
        "val": [7, 8],
        "test": [9, 10, 11],
    }
    assert data.channels == 1 and data.side == 8 and data.num_classes == 0 and data.levels == 5
    exact = Portraits(str(folder), image_size=8, shades=256, val_people=2, test_people=3)
    train, val, test = ({round(255 * p.max().item()) for p in exact.table(split)[0]} for split in labels)
    assert (len(train), len(val), len(test)) == (21, 6, 9)  # each picture has a grey of its own
    assert not train & val and not train & test and not val & test


def test_a_person_s_pictures_stay_together(folder):
    data = Portraits(str(folder), image_size=8, shades=256, val_people=2, test_people=3)
    for split in ("train", "val", "test"):
        pictures, labels = data.table(split)
        for label in labels.unique():
            top = pictures[labels == label].amax(dim=(1, 2, 3)) * 255
            assert (top.max() - top.min()).item() < 3  # three greys that lie side by side


def test_shades_and_mirrors(folder):
    data = Portraits(str(folder), image_size=8, shades=5, val_people=2, test_people=3)
    pictures = data.table("train")[0]
    assert torch.equal(pictures * 4, (pictures * 4).round())
    once, mirrored = pictures.chunk(2)
    assert torch.equal(once.flip(3), mirrored)
    assert (once[:, :, :, 0] <= once[:, :, :, -1]).all() and (once[:, :, :, 0] < once[:, :, :, -1]).any()


def test_copies_are_cut_out_of_each_training_picture(folder):
    for path in folder.glob("*/*.pgm"):  # brighter from left to right
        Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))).save(path)
    options = {"image_size": 16, "shades": 256, "val_people": 2, "test_people": 3}
    one, many, again = (Portraits(str(folder), copies=copies, **options) for copies in (1, 9, 9))
    for split in ("val", "test"):
        assert torch.equal(one.table(split)[0], many.table(split)[0])
    pictures, whose = many.table("train")
    assert torch.equal(pictures, again.table("train")[0]) and len(pictures) == 9 * len(one.table("train")[0])
    assert torch.equal(whose, one.table("train")[1].repeat_interleave(9))
    once, mirrored = pictures.chunk(2)
    assert torch.equal(once.flip(3), mirrored)
    each = once.unflatten(0, (-1, 9))
    assert torch.equal(each[:, 0], one.table("train")[0].chunk(2)[0])
    left, right = each[:, 1:, 0, :, 0] * 255 / 3, each[:, 1:, 0, :, -1] * 255 / 3  # columns 0 to 63 of the whole
    assert left.max() > 5 and right.min() < 58 and (right - left).min() > 44  # at most an eighth is missing
    assert left.min() < 3 and right.max() > 60


def test_the_people_do_not_follow_from_the_run(folder):
    one, other, same = (
        Portraits(str(folder), image_size=8, val_people=2, test_people=3, people_seed=seed).table("test")[0]
        for seed in (0, 1, 0)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_an_embedding_comes_with_each_picture(folder):
    data = EmbeddedPortraits(str(folder), image_size=8, val_people=2, test_people=3, batch_size=4)
    batch = data.batch("val", 0, 0, 0, 1)
    assert batch["embedding"].shape == (len(batch["picture"]), data.embedding_size) == (6, 64)
    train = data.embeddings("train")
    torch.testing.assert_close(train.mean(dim=0), torch.zeros(64), rtol=0, atol=1e-4)
    assert train.square().mean().item() == pytest.approx(1, abs=1e-3)
    assert torch.equal(data.embeddings("val"), batch["embedding"])


def test_embedded_digits_lie_near_their_like():
    data = EmbeddedDigits()
    vectors, labels = data.embeddings("test"), data.table("test")[1]
    far = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
    assert (labels[far.argmin(dim=1)] == labels).float().mean() > 0.9


def test_what_is_wrong_with_a_folder(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for source, words in ((folder / "none", "no such folder"), (empty, "holds no folders")):
        with pytest.raises(UserError, match=words):
            Portraits(str(source)).table("train")
    with pytest.raises(UserError, match="12 people, of whom 12 are kept"):
        Portraits(str(folder), val_people=6, test_people=6).table("train")
    (folder / "s3" / "0.pgm").write_bytes(b"P5 nothing")
    with pytest.raises(UserError, match=r"s3/0\.pgm: this (picture is damaged|is no picture)"):
        Portraits(str(folder), val_people=2, test_people=3).table("train")
    with pytest.raises(UserError, match="shades is 1"):
        Portraits(shades=1)


@pytest.mark.slow
def test_the_real_faces(tmp_path):
    """A net that has seen thirty people can tell six others apart."""
    place = os.environ.get("DLMKIT_DATA")
    if not place:
        pytest.skip("DLMKIT_DATA is not set")
    with tarfile.open(Path(place) / "orl_faces" / "orl_faces.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    data = EmbeddedPortraits(str(tmp_path / "orl_faces"), image_size=24)
    assert [data.size(split) for split in ("train", "val", "test")] == [600, 40, 60]
    vectors, labels = data.embeddings("test"), data.table("test")[1]
    far = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
    assert (labels[far.argmin(dim=1)] == labels).float().mean() > 0.9
