"""Sequence problems, and what stands around a recurrent layer."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dlmkit import SequenceProblem, TokenModel
from dlmkit.figures import sequence_shape_figure, units_figure, visible

B, T, F, K = 4, 5, 3, 6


class Sums(SequenceProblem):
    """The features are running sums, so that everything can be computed by hand."""

    def features(self, x):
        return x.cumsum(1)


def make(answer, target, size=K):
    torch.manual_seed(0)
    return Sums(F, F, size, answer, target)


@pytest.mark.parametrize(("answer", "shape"), [("last", (B, K)), ("each", (B, T, K))])
def test_an_answer_at_the_end_or_at_every_step(answer, shape):
    task, x = make(answer, "class"), torch.randn(B, T, F)
    out = task(x)
    assert out.shape == shape
    torch.testing.assert_close(out[:, -1] if answer == "each" else out, task.readout(x.sum(1)))


def test_the_loss_of_classes_leaves_out_what_is_not_asked():
    task, x = make("each", "class"), torch.randn(B, T, F)
    target = torch.randint(K, (B, T))
    target[:, :2] = -100
    loss, metrics = task.loss({"input": x, "target": target})
    logp = task(x).log_softmax(-1)
    terms, right = [], 0
    for b in range(B):
        for t in range(2, T):
            terms.append(-logp[b, t, target[b, t]].item())
            right += int(logp[b, t].argmax() == target[b, t])
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert metrics["accuracy"].item() == pytest.approx(right / len(terms))
    assert task.count({"input": x, "target": target}) == len(terms)


def test_the_loss_of_values_is_the_mean_squared_error():
    task, x, target = make("last", "value", 1), torch.randn(B, T, F), torch.randn(B)
    loss = task.loss({"input": x, "target": target})
    assert loss.item() == pytest.approx(((task(x)[:, 0] - target).square().mean()).item(), rel=1e-5)
    assert task.count({"input": x, "target": target}) == B


def test_two_halves_of_a_batch_weigh_as_one():
    """The loss of the whole is the mean of the halves', each with the number of its answers."""
    task, x, target = make("each", "class"), torch.randn(B, T, F), torch.randint(K, (B, T))
    target[0] = -100
    whole = task.loss({"input": x, "target": target})[0]
    parts = [{"input": x[i], "target": target[i]} for i in (slice(0, 2), slice(2, 4))]
    counts = [task.count(part) for part in parts]
    assert counts == [T, 2 * T]
    mean = sum(task.loss(part)[0] * count for part, count in zip(parts, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(mean, whole)


def test_what_it_shows(tmp_path):
    task = make("last", "class")
    data = SimpleNamespace(
        shape="many to one",
        steps=lambda x, y: ([f"{v:.1f}" for v in x[:, 0]], [""] * (len(x) - 1) + [str(int(y))]),
        tell=lambda x, y, a: [str(len(x)), str(int(y)), str(int(a))],
    )
    task._trainer = SimpleNamespace(datamodule=data)
    shown = task.show({"input": torch.randn(B, T, F), "target": torch.randint(K, (B,))})
    assert set(shown) == {"shape", "answers"}
    assert shown["shape"].save(tmp_path, "shape").stat().st_size > 5000
    with shown["answers"].save(tmp_path, "answers").open() as file:
        head, *rows = csv.reader(file)
    assert head == ["input", "right", "answered"]
    assert len(rows) == B
    assert {row[0] for row in rows} == {str(T)}


class Doubling(nn.Module):
    """A "recurrent" layer that doubles, and counts its steps in its state."""

    def forward(self, x, state=None):
        count = torch.zeros(1, len(x), 1) if state is None else state[0]
        return 2 * x, (count + x.shape[1],)

    def record(self, x, state=None):
        return [SimpleNamespace(hidden=2 * x)]


def test_a_token_model_is_embedding_recurrence_and_read_out():
    net, tokens = TokenModel(7, Doubling(), 4, 4).eval(), torch.randint(7, (2, 3))
    logits, state = net(tokens)
    torch.testing.assert_close(logits, net.readout(2 * net.embedding.weight[tokens]))
    assert net(tokens, state)[1][0].eq(6).all()
    torch.testing.assert_close(net.readout(net.record(tokens)[0].hidden), logits)


def test_a_token_model_drops_where_it_says():
    net, tokens = TokenModel(7, Doubling(), 64, 64, embedding_dropout=1.0), torch.randint(7, (2, 3))
    torch.testing.assert_close(net(tokens)[0], net.readout(torch.zeros(2, 3, 64)))
    with pytest.raises(ValueError, match="vocab_size=0"):
        TokenModel(0, Doubling(), 4, 4)
    with pytest.raises(ValueError, match="dropout"):
        TokenModel(7, Doubling(), 4, 4, dropout=2.0)


def test_the_units_shown_are_the_liveliest_sorted_by_their_pace():
    t = torch.arange(40.0)
    slow, quick, dead = torch.sin(t / 20), torch.sin(2 * t), torch.zeros(40)
    values = torch.stack([dead] * 20 + [quick, slow], dim=1)
    figure = units_figure({"memory": (values, -1.0, 1.0)}, values, [visible(c) for c in "a b\n" * 10], "Title")
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape == (16, 40)
    shown = torch.as_tensor(picture)
    where = [int((shown - wanted).abs().sum(1).argmin()) for wanted in (slow, quick)]
    assert where[0] < where[1]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()][:4] == ["a", "␣", "b", "⏎"]


def test_a_shape_is_drawn_with_what_goes_in_and_what_comes_out():
    figure = sequence_shape_figure("many to one", ["a", "b", "c"], ["", "", "yes"])
    assert {text.get_text() for text in figure.axes[0].texts} >= {"a", "b", "c", "yes"}
    assert figure.axes[0].get_title() == "many to one"
