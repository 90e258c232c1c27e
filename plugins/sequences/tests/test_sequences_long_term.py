"""The problems on long-term dependencies are those of Bai, Kolter & Koltun (2018)."""

import math

import pytest
import torch
from dlmkit_sequences.long_term import Adding, CopyMemory

from dlmkit.errors import UserError


@pytest.fixture(autouse=True)
def _seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")


def everything(data, split):
    return data.examples(*data.table(split))


# ---------- adding


def test_the_sizes_are_the_papers():
    for data, train in ((Adding(length=20), 50_000), (CopyMemory(length=20), 10_000)):
        assert (data.size("train"), data.size("test")) == (train, 1_000)


def test_the_sum_of_the_two_marked_numbers_is_asked_for():
    inputs, targets = everything(Adding(length=13, train_size=200), "train")
    assert inputs.shape == (200, 13, 2)
    for sequence, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        marked = [number for number, mark in sequence if mark == 1]
        assert len(marked) == 2
        assert all(mark in (0, 1) and 0 <= number < 1 for number, mark in sequence)
        assert target == pytest.approx(marked[0] + marked[1], abs=1e-6)


def test_always_answering_one_gives_a_sixth():
    _, sums = everything(Adding(length=5, train_size=400_000), "train")
    # The variance of (y - 1)² is 1/15 - 1/36, for the fourth moment of a triangular distribution is 1/15.
    deviation = math.sqrt((1 / 15 - 1 / 36) / len(sums))
    assert ((sums - 1).double() ** 2).mean().item() == pytest.approx(1 / 6, abs=4 * deviation)
    assert sums.double().mean().item() == pytest.approx(1, abs=4 * math.sqrt(1 / 6 / len(sums)))


def test_every_pair_of_steps_is_marked_equally_often():
    _, marked = Adding(length=5, train_size=100_000).table("train")
    pairs = marked.sort(dim=1).values
    counts = (pairs[:, 0] * 5 + pairs[:, 1]).bincount(minlength=25).view(5, 5)
    expected = 100_000 / 10
    assert counts.tril().sum() == 0  # never twice the same step
    above = counts[torch.ones(5, 5).triu(1).bool()].double()
    assert ((above - expected) ** 2 / expected).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_the_shortest_sequence_has_two_marked_steps():
    inputs, targets = everything(Adding(length=2, train_size=32), "train")
    assert (inputs[:, :, 1] == 1).all()
    torch.testing.assert_close(inputs[:, :, 0].sum(1), targets)


def test_adding_in_words():
    data = Adding(length=50)
    batch = data.batch("test", 0, 0, 0, 1)
    for x, y in zip(batch["input"], batch["target"], strict=True):
        inputs, outputs = data.steps(x, y)
        assert len(inputs) == len(outputs) <= 12
        assert sum(label.startswith("+") for label in inputs) == 2
        assert outputs[-1] == f"{y.item():.2f}" and not any(outputs[:-1])
    asked, right, said = data.tell(x, y, y + 1)
    first, second = (float(part.split()[0]) for part in asked.split(" + "))
    assert first + second == pytest.approx(float(right), abs=0.002)
    assert float(said) == pytest.approx(float(right) + 1, abs=0.002)
    assert data.baselines()["test/loss"]["always 1"] == pytest.approx(1 / 6, abs=0.03)


# ---------- copying


@pytest.mark.parametrize("pause", [1, 2, 30])
def test_copy_memory_is_laid_out_as_in_the_paper(pause):
    data = CopyMemory(length=pause, train_size=64)
    inputs, targets = everything(data, "train")
    assert inputs.shape == (64, pause + 20, 1)
    for sequence, target in zip(inputs[:, :, 0].tolist(), targets.tolist(), strict=True):
        symbols = sequence[:10]
        assert all(symbol in range(1, 9) for symbol in symbols)
        assert sequence[10:] == [0] * (pause - 1) + [9] * 11
        assert target == [0] * (pause + 10) + symbols
    assert set(inputs[:, :10].flatten().tolist()) == set(range(1, 9))


def test_one_hot_tells_the_same():
    plain, _ = everything(CopyMemory(length=9, test_size=20), "test")
    coded, _ = everything(CopyMemory(length=9, test_size=20, one_hot=True), "test")
    assert coded.shape == (20, 29, 10) and (coded.sum(2) == 1).all()
    assert (coded.argmax(2) == plain[:, :, 0]).all()


@pytest.mark.parametrize("one_hot", [False, True])
def test_copying_in_words(one_hot):
    data = CopyMemory(length=40, one_hot=one_hot)
    (x, *_), (y, *_) = everything(data, "test")
    symbols = "".join(map(str, y[-10:].tolist()))
    inputs, outputs = data.steps(x, y)
    assert len(inputs) == len(outputs) <= 12
    assert "".join(inputs[:3]) == symbols[:3] and "".join(outputs[-3:]) == symbols[:3]
    assert inputs[-4:] == ["9"] * 4 and outputs[-4] == "0"  # the first 9 is answered by 0, then the symbols begin
    said = y.clone()
    said[0] = 3
    assert data.tell(x, y, said) == [f"{symbols}, then 40 steps", symbols, f"{symbols} and 1 too early"]


def test_a_net_without_memory():
    """The loss of answers that are right as far as time tells, and know nothing of the symbols."""
    data = CopyMemory(length=100)
    _, targets = everything(data, "test")
    odds = torch.zeros(120, 10, dtype=torch.double)
    odds[:110, 0] = 1
    odds[110:, 1:9] = 1 / 8
    losses = [-math.log(odds[t, symbol]) for target in targets[:50].tolist() for t, symbol in enumerate(target)]
    found = data.baselines()
    assert found["test/loss"]["no memory"] == pytest.approx(sum(losses) / len(losses), abs=1e-12)
    assert found["test/loss"]["no memory"] == pytest.approx(10 * math.log(8) / 120, abs=1e-12)
    right = (targets == odds.argmax(1)).double().mean().item()
    assert found["test/accuracy"]["no memory"] == pytest.approx(right, abs=0.005)


# ---------- both


@pytest.mark.parametrize("make", [Adding, CopyMemory])
def test_the_examples_follow_from_the_seed(make, monkeypatch):
    def first(split):
        return make(length=11).batch(split, 0, 0, 0, 1)["input"]

    before = {split: first(split) for split in ("train", "val", "test")}
    assert all(torch.equal(first(split), before[split]) for split in before)
    assert not torch.equal(before["val"], before["test"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "8")
    assert not any(torch.equal(first(split), before[split]) for split in before)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (Adding, {"length": 1}, "data.length: length is 1; give at least 2"),
        (Adding, {"length": -5}, "length is -5"),
        (Adding, {"train_size": 0}, "data.train_size: train_size is 0"),
        (CopyMemory, {"length": 0}, "data.length: length is 0; give at least 1"),
        (CopyMemory, {"symbols": 0}, "data.symbols: symbols is 0"),
        (CopyMemory, {"test_size": -1}, "data.test_size"),
    ],
)
def test_what_makes_no_problem_is_refused(make, options, words):
    with pytest.raises(UserError) as caught:
        make(**options)
    assert words in str(caught.value) and "\n" not in str(caught.value)
