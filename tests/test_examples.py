"""How numbered examples are shared out among batches and processes."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch

from dlmkit.data.examples import Examples
from dlmkit.errors import UserError


class Numbers(Examples):
    """As many numbers in each split as it is told."""

    def __init__(self, count: int, batch_size: int) -> None:
        super().__init__(batch_size)
        self.count = count

    def size(self, split):
        return self.count

    def take(self, split, rows):
        return {"number": rows}


@pytest.mark.parametrize(("count", "size"), [(107, 2), (107, 16), (5, 4), (7, 8), (64, 16), (3, 16)])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_example_is_seen_once_and_no_process_has_none(count, size, world):
    data = Numbers(count, size)
    if min(count, size) < world:
        with pytest.raises(UserError, match="too few for 3 processes"):
            data.batch("val", 0, 0, 0, world)
        return
    seen = []
    for index in range(data.batches("val")):
        parts = [data.batch("val", 0, index, rank, world)["number"] for rank in range(world)]
        assert min(map(len, parts)) >= 1 and sum(map(len, parts)) < 2 * size
        seen += torch.cat(parts).tolist()
    assert seen == list(range(count))


def test_fewer_examples_than_processes():
    with pytest.raises(UserError, match=r"trainer\.devices: a batch of val has 3 examples, too few for 4 processes"):
        Numbers(3, 8).batch("val", 0, 0, 0, 4)
    with pytest.raises(UserError, match="a batch of 8 is more than the 3 training examples; give at most 3"):
        Numbers(3, 8).batches("train")
    with pytest.raises(IndexError):
        Numbers(3, 8).batch("val", 0, 1, 0, 1)


def test_training_batches_are_full_and_in_another_order_in_each_epoch():
    data = Numbers(50, 8)
    assert data.batches("train") == 6
    epochs = [torch.cat([data.batch("train", e, k, 0, 1)["number"] for k in range(6)]).tolist() for e in (0, 1)]
    assert epochs[0] != epochs[1] and all(len(set(epoch)) == 48 for epoch in epochs)
    halves = [data.batch("train", 1, 2, rank, 2)["number"] for rank in (0, 1)]
    assert torch.cat(halves).tolist() == epochs[1][16:24]


class Broken(Numbers):
    """One example of it cannot be had."""

    def __init__(self) -> None:
        super().__init__(8, 2)
        self.num_workers = 1

    def take(self, split, rows):
        if 5 in rows:
            raise UserError("this picture is damaged", "take it out", "five.png")
        return {"number": rows}


def test_an_error_in_a_loading_process_is_told_as_in_one():
    with pytest.raises(UserError) as caught:
        list(Broken().test_dataloader())
    assert str(caught.value) == "five.png: this picture is damaged; take it out"


def test_a_loading_process_is_given_the_data_without_the_trainer():
    """Where processes are not copies of this one, as on macOS, the data are pickled, and a trainer cannot be."""
    data = Numbers(8, 2)
    loader = data.test_dataloader()
    data.trainer = SimpleNamespace(callback=lambda: None)
    again = pickle.loads(pickle.dumps(loader.dataset))
    assert torch.equal(again[0, 1]["number"], loader.dataset[0, 1]["number"]) and again.data.trainer is None
    assert data.trainer is not None
