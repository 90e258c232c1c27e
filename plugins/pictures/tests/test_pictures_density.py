"""The simple ways to tell how likely a picture is, by counting with loops."""

from __future__ import annotations

import math

import pytest
import torch
from dlmkit_pictures.density import density_baselines, independent_nats, neighbour_nats
from dlmkit_pictures.digits import Digits


@pytest.fixture
def sets():
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(4, (n, 2, 3, 3), generator=draw) for n in (20, 5)]


@pytest.mark.parametrize("by_class", [False, True])
def test_independent_pixels_by_loops(sets, by_class):
    train, test = sets
    labels = (torch.arange(20) % 3, torch.arange(5) % 3)
    total = 0.0
    for picture, label in zip(test, labels[1], strict=True):
        known = train[labels[0] == label] if by_class else train
        for c in range(2):
            for i in range(3):
                for j in range(3):
                    seen = sum(int(other[c, i, j] == picture[c, i, j]) for other in known)
                    total -= math.log((1 + seen) / (4 + len(known)))
    got = independent_nats(train, test, 4, labels if by_class else None)
    assert got == pytest.approx(total / 5, rel=1e-5)


def test_pictures_are_counted_in_parts(sets, monkeypatch):
    train, test = sets
    labels = (torch.arange(20) % 3, torch.arange(5) % 3)
    whole = [independent_nats(train, test, 4, labels), neighbour_nats(train, test, 4)]
    monkeypatch.setattr("dlmkit_pictures.density._AT_ONCE", 3)
    train, test = train.to(torch.uint8), test.to(torch.uint8)
    assert [independent_nats(train, test, 4, labels), neighbour_nats(train, test, 4)] == pytest.approx(whole, rel=1e-12)


def test_two_neighbours_by_loops(sets):
    train, test = sets

    def context(picture, c, i, j):
        return (picture[c, i, j - 1].item() if j else "border", picture[c, i - 1, j].item() if i else "border")

    places = [(c, i, j) for c in range(2) for i in range(3) for j in range(3)]
    seen = [(context(picture, *at), picture[at].item()) for picture in train for at in places]
    total = 0.0
    for picture in test:
        for at in places:
            here = [level for known, level in seen if known == context(picture, *at)]
            total -= math.log((1 + here.count(picture[at].item())) / (4 + len(here)))
    assert neighbour_nats(train, test, 4) == pytest.approx(total / 5, rel=1e-5)


def test_many_levels_are_joined_for_neighbours_only():
    train, test = (torch.randint(256, (n, 1, 8, 8)) for n in (50, 10))
    assert neighbour_nats(train, test, 256) == pytest.approx(64 * math.log(256), rel=0.02)  # nothing to be learnt
    # Pictures of shades that lie near each other: two such neighbours as they are have hardly been seen together.
    shades = [16 * torch.randint(16, (n, 1, 1, 1)) + torch.randint(16, (n, 1, 8, 8)) for n in (200, 10)]
    assert neighbour_nats(*shades, 256) < 0.75 * 64 * math.log(256)


def test_more_pixels_are_counted_than_float32_can():
    """Four of five pixels are 0 wherever they are; it stops at 16,777,216, and would take them for fewer."""
    train = (torch.rand(6, 1, 2000, 2000, generator=torch.Generator().manual_seed(0)) < 0.1).long()
    inside = train[:, :, 1:, 1:][(train[:, :, 1:, :-1] == 0) & (train[:, :, :-1, 1:] == 0)]
    zeros = int((inside == 0).sum())
    assert zeros > 2**24
    test = torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    corner = neighbour_nats(train, test[:, :, :1, :1], 2)
    row, column = (neighbour_nats(train, part, 2) - corner for part in (test[:, :, :1], test[:, :, :, :1]))
    found = neighbour_nats(train, test, 2) - corner - row - column
    assert found == pytest.approx(-math.log((1 + zeros) / (2 + len(inside))), rel=1e-5)


def test_the_baselines_of_the_digits():
    digits = Digits()
    assert digits.levels == 17
    found = density_baselines(digits.table("train"), digits.table("test"), 17)
    nats = found["test/nats"]
    assert nats["the same by class"] < nats["two neighbours"] < nats["independent pixels"] < 64 * math.log(17)
    for name, value in nats.items():
        assert found["test/bits_per_dimension"][name] == pytest.approx(value / 64 / math.log(2))
    known = digits.table("train")[1] < 5
    part = tuple(table[known] for table in digits.table("train"))
    assert "the same by class" not in density_baselines(part, digits.table("test"), 17)["test/nats"]
