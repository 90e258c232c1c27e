"""The objective against loops over scalars, the torch blocks against it, and the compiled loop against its gradient."""

import itertools
import math

import numpy as np
import pytest
import torch
from dlmkit_word2vec.adagrad import RowAdagrad
from dlmkit_word2vec.blocks import cbow_loss, cut, skip_gram_loss
from dlmkit_word2vec.engines import Threads
from dlmkit_word2vec.model import Embeddings
from dlmkit_word2vec.sampling import BLOCK, PAD

V, D, K, W = 30, 7, 3, 4
SIZES = (2 * BLOCK, 45, 1, 0)  # a full row, one that ends within a block, one without neighbours, an empty one


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Embeddings(V, D).double()
    with torch.no_grad():
        net.input.normal_()
        net.output.normal_()
    return net


@pytest.fixture
def text():
    """Rows of different lengths, windows, noise."""
    rng = np.random.default_rng(0)
    tokens = np.full((len(SIZES), 2 * BLOCK), PAD)
    for row, size in zip(tokens, SIZES, strict=True):
        row[:size] = rng.integers(0, V, size)
    windows, noise = rng.integers(1, W + 1, tokens.shape), rng.integers(0, V, tokens.shape)
    return tuple(torch.from_numpy(part) for part in (tokens, windows, noise))


def centres(text):
    """Each centre's row, place, and the words around it."""
    tokens, windows, _ = text
    for row, size in enumerate(SIZES):
        for i in range(size):
            reach = int(windows[row, i])
            around = [int(tokens[row, j]) for j in range(max(0, i - reach), min(size, i + reach + 1)) if j != i]
            if around:
                yield row, i, int(tokens[row, i]), around


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def dot(a, b):
    return sum(p * q for p, q in zip(a.tolist(), b.tolist() if hasattr(b, "tolist") else b, strict=True))


def test_skip_gram_is_the_papers_sum(net):
    centre, around, negatives = 3, [1, 4, 4], [5, 6, 3]
    expected = 0.0
    for word in around:
        hidden = net.input[word]
        expected -= log_sigmoid(dot(net.output[centre], hidden))
        expected -= sum(log_sigmoid(-dot(net.output[n], hidden)) for n in negatives)
    got = net.skip_gram(torch.tensor(centre), torch.tensor(around), torch.tensor(negatives))
    assert abs(got.item() - expected) < 1e-10


def test_cbow_is_the_papers_sum(net):
    centre, around, negatives = 3, [1, 4, 4], [5, 6, 3]
    hidden = [sum(net.input[w, d].item() for w in around) / 3 for d in range(D)]
    expected = -log_sigmoid(dot(net.output[centre], hidden))
    expected -= sum(log_sigmoid(-dot(net.output[n], hidden)) for n in negatives)
    got = net.cbow(torch.tensor(centre), torch.tensor(around), torch.tensor(negatives))
    assert abs(got.item() - expected) < 1e-10


def brute_force(net, text, objective):
    """The blocks' loss by a loop over centres: a block's noise counts K/32 each, for K negatives in all."""
    loss = 0.0
    for row, i, centre, around in centres(text):
        block = i // BLOCK * BLOCK
        alone = getattr(net, objective)(torch.tensor(centre), torch.tensor(around), torch.zeros(0, dtype=torch.int64))
        noise = text[2][row, block : block + BLOCK]
        both = getattr(net, objective)(torch.tensor(centre), torch.tensor(around), noise)
        loss = loss + alone + K / BLOCK * (both - alone)
    return loss


@pytest.mark.parametrize(("objective", "function"), [("skip_gram", skip_gram_loss), ("cbow", cbow_loss)])
def test_the_blocks_are_a_loop_over_centres(net, text, objective, function):
    parameters = (net.input, net.output)
    expected = brute_force(net, text, objective)
    gradients = torch.autograd.grad(expected, parameters)
    got = function(*parameters, cut(*text, W, K, torch.float64))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    for one, other in zip(torch.autograd.grad(2 * got, parameters), gradients, strict=True):
        torch.testing.assert_close(one, 2 * other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [skip_gram_loss, cbow_loss])
def test_the_gradient_by_hand_is_that_of_finite_differences(net, text, function):
    blocks = cut(*text, W, K, torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: function(a, b, blocks), (net.input, net.output))


def kernel_negatives(text, row, i, centre):
    """The K of the row's noise that lie as far apart as can be, without the centre itself."""
    length = text[2].shape[1]
    drawn = [int(text[2][row, (i + k * (length // K)) % length]) for k in range(K)]
    return [n for n in drawn if n != centre]


@pytest.mark.parametrize("objective", ["skip_gram", "cbow"])
def test_the_compiled_loop_takes_a_gradient_step_for_each_centre(net, text, objective):
    pytest.importorskip("numba", reason="the compiled loop needs the extra 'fast'")
    rate, steps = 0.1, 0
    inputs, outputs = (p.detach().float().clone() for p in (net.input, net.output))
    expected = 0.0
    for row, i, centre, around in centres(text):
        negatives = torch.tensor(kernel_negatives(text, row, i, centre), dtype=torch.int64)
        loss = getattr(net, objective)(torch.tensor(centre), torch.tensor(around), negatives)
        expected += loss.item()
        steps += len(around) if objective == "skip_gram" else 1
        gradients = torch.autograd.grad(loss, (net.input, net.output))
        for parameter, gradient in zip((net.input, net.output), gradients, strict=True):
            parameter.data -= rate * gradient
    batch = dict(zip(("input", "window", "noise"), text, strict=True))
    loss, count = Threads(objective, 1)(inputs, outputs, batch, K, rate)
    assert count == steps
    assert loss == pytest.approx(expected, rel=2e-3)  # the tables' steps
    torch.testing.assert_close(inputs.double(), net.input.detach(), rtol=0, atol=5e-3)
    torch.testing.assert_close(outputs.double(), net.output.detach(), rtol=0, atol=5e-3)


@pytest.mark.parametrize("objective", ["skip_gram", "cbow"])
@pytest.mark.parametrize(("negatives", "dim"), [*itertools.product([1, 2, 5, 8], [1, 9])])
def test_the_compiled_loop_takes_every_size(objective, negatives, dim, text):
    pytest.importorskip("numba", reason="the compiled loop needs the extra 'fast'")
    torch.manual_seed(1)
    inputs, outputs = torch.randn(V, dim), torch.randn(V, dim)
    batch = dict(zip(("input", "window", "noise"), text, strict=True))
    before = inputs.clone(), outputs.clone()
    train = Threads(objective, 1)
    first, count = train(inputs, outputs, batch, negatives, 0.0)
    assert torch.equal(inputs, before[0]) and torch.equal(outputs, before[1])
    for _ in range(20):
        last, _ = train(inputs, outputs, batch, negatives, 0.05)
    assert count > 0
    assert last < first
    assert inputs.isfinite().all()


def test_one_thread_repeats_bit_for_bit(text):
    pytest.importorskip("numba", reason="the compiled loop needs the extra 'fast'")
    batch = dict(zip(("input", "window", "noise"), text, strict=True))
    ends = []
    for _ in range(2):
        torch.manual_seed(2)
        inputs, outputs = torch.randn(V, D), torch.randn(V, D)
        for _ in range(3):
            Threads("skip_gram", 1)(inputs, outputs, batch, K, 0.05)
        ends.append((inputs, outputs))
    assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[0][1], ends[1][1])


def test_row_adagrad_is_adagrad_over_rows():
    torch.manual_seed(0)
    start = torch.randn(4, 3, dtype=torch.float64)
    parameter, expected, total = torch.nn.Parameter(start.clone()), start.clone(), torch.zeros(4, dtype=torch.float64)
    optimizer = RowAdagrad([parameter], lr=0.3)
    for _ in range(5):
        gradient = torch.randn(4, 3, dtype=torch.float64)
        gradient[2] = 0
        parameter.grad = gradient
        optimizer.step()
        for row in range(4):
            total[row] += sum(float(g) ** 2 for g in gradient[row]) / 3
            if total[row]:
                expected[row] -= 0.3 * gradient[row] / math.sqrt(total[row])
    torch.testing.assert_close(parameter.data, expected, rtol=0, atol=1e-8)
    assert torch.equal(parameter.data[2], start[2])


def test_row_adagrad_is_torchs_where_rows_have_one_number():
    torch.manual_seed(0)
    start = torch.randn(6, 1, dtype=torch.float64)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = [RowAdagrad([ours], lr=0.1), torch.optim.Adagrad([theirs], lr=0.1)]
    for _ in range(4):
        ours.grad = torch.randn(6, 1, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
