"""The digits as pictures, and the judge of made ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dlmkit_pictures.digits import Digits
from dlmkit_pictures.judge import Judge, frechet_distance, spread


@pytest.fixture(scope="module")
def digits():
    return Digits(batch_size=64)


def test_what_the_digits_are(digits):
    assert [digits.size(split) for split in ("train", "val", "test")] == [1297, 200, 300]
    assert (digits.channels, digits.side, digits.num_classes) == (1, 8, 10)
    batch = digits.batch("train", 0, 0, 0, 1)
    assert batch["picture"].shape == (64, 1, 8, 8) and batch["picture"].dtype == torch.float32
    assert 0 <= batch["picture"].min() and batch["picture"].max() <= 1
    shades = batch["picture"] * 16
    assert torch.equal(shades, shades.round())


def test_the_splits_share_no_picture(digits):
    seen = [{p.numpy().tobytes() for p in digits.table(split)[0]} for split in ("train", "val", "test")]
    assert not (seen[0] & seen[2]) and not (seen[0] & seen[1]) and not (seen[1] & seen[2])


def test_an_epoch_has_each_picture_once_in_an_order_of_its_own(digits):
    def labels(epoch):
        return torch.cat([digits.batch("train", epoch, i, 0, 1)["picture"] for i in range(digits.batches("train"))])

    first, second = labels(0), labels(1)
    assert len({p.numpy().tobytes() for p in first}) == len(first) == 64 * 20
    assert not torch.equal(first, second)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_parts_of_two_processes_are_the_batch_of_one(digits, split):
    whole, *parts = (digits.batch(split, 3, 1, rank, world) for rank, world in ((0, 1), (0, 2), (1, 2)))
    for name, tensor in whole.items():
        assert torch.equal(tensor, torch.cat([part[name] for part in parts]))


def test_some_of_all_are_spread_over_all():
    """Pictures from folders lie in the order of their classes."""
    labels = torch.arange(10).repeat_interleave(100)
    assert spread(labels, 50).bincount().tolist() == [5] * 10
    assert torch.equal(spread(labels, 1000), labels) and spread(labels, 1000) is labels
    assert spread(labels, 999).bincount(minlength=10).min() >= 99


def test_a_class_of_one_picture_is_not_judged_alone(digits):
    class Few(Digits):
        def table(self, split):
            pictures, labels = super().table(split)
            return (pictures[:20], torch.tensor([3, *[5] * 19])) if split == "train" else (pictures, labels)

    found = Few().baselines()["test/distance"]
    assert list(found) == ["training pictures", "one class alone"]
    assert all(math.isfinite(value) for value in found.values())


def test_the_judge_can_tell_digits(digits):
    assert digits.judge.accuracy(*digits.table("test")) > 0.95


def test_the_judge_prefers_real_pictures_and_sees_collapsed_modes(digits):
    train, labels = digits.table("train")
    test = digits.table("test")[0]
    real, one, noise = (digits.judge.verdict(p, test) for p in (train, train[labels == 3], torch.rand(300, 1, 8, 8)))
    assert real.distance < 0.1 * min(one.distance, noise.distance)
    assert real.coverage > 0.95 and one.coverage < 0.15 and real.confidence > noise.confidence
    assert digits.judge.verdict(test, test).distance == pytest.approx(0, abs=1e-3)


def test_the_judge_sees_that_every_class_has_collapsed_to_one_picture(digits):
    """All classes are covered, and the distance tells all the same."""
    train, labels = digits.table("train")
    few = torch.stack([train[labels == digit][0] for digit in range(10)]).repeat(30, 1, 1, 1)
    real, repeated = (digits.judge.verdict(p, digits.table("test")[0]) for p in (train[:300], few))
    assert repeated.coverage > 0.95 and repeated.distance > 5 * real.distance


def test_the_judge_is_trained_once_and_leaves_the_run_s_random_numbers_alone(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path))
    pictures, labels = (table[:200] for table in digits.table("train"))
    torch.manual_seed(7)
    expected = torch.rand(3)
    seen = []
    with monkeypatch.context() as patch:
        for _ in range(2):
            torch.manual_seed(7)
            seen.append(Judge.of(pictures, labels, steps=3).look(pictures)[1])
            assert torch.equal(torch.rand(3), expected)
            patch.setattr(Judge, "_train", lambda self, pictures, labels, steps: None if steps == 0 else pytest.fail())
    assert torch.equal(*seen)
    others = [(pictures, labels, 1, 3), (pictures.flip(0), labels, 0, 3), (pictures, labels.flip(0), 0, 3)]
    for other in others:
        assert not torch.equal(Judge.of(*other).look(pictures)[1], seen[0])
    assert len(list(tmp_path.glob("judge-*.pt"))) == 1 + len(others)


def test_runs_of_all_seeds_have_one_judge(monkeypatch):
    seen = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        data = Digits()
        assert data.seed == int(seed)
        seen.append(data.judge.look(data.table("test")[0])[0])
    assert torch.equal(*seen)


def test_frechet_distance_of_independent_features_in_closed_form():
    draw = np.random.default_rng(0)
    one, other = draw.normal(1, [1, 2, 3], (20_000, 3)), draw.normal([0, 1, 2], [2, 2, 1], (20_000, 3))
    expected = sum(
        (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2 for a, b in zip(one.T, other.T, strict=True)
    )
    assert frechet_distance(one, other) == pytest.approx(expected, rel=0.01)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_by_another_way():
    """The trace of the root of a product, from the eigenvalues of the product itself."""
    draw = np.random.default_rng(1)
    one, other = (draw.normal(size=(50, 4)) @ draw.normal(size=(4, 4)) for _ in range(2))
    s1, s2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).real.sum()
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross
    assert frechet_distance(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["float64", "autocast"])
def test_the_judge_is_the_same_at_every_precision(precision):
    pictures, labels = torch.rand(40, 1, 8, 8), torch.arange(40) % 4
    plain = Judge(pictures, labels, steps=2).look(pictures)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "float64" else before)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            given = pictures.double() if precision == "float64" else pictures
            other = Judge(given, labels, steps=2).look(given)
        assert torch.get_default_dtype() == (torch.float64 if precision == "float64" else before)
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
