from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from dlmkit_rnn.bptt import Net, back_propagate, chunked, f, forward, g, gradient, identity, sliding
from torch import Tensor, nn

EXACT = {"rtol": 0.0, "atol": 1e-10}
D, H, K = 3, 5, 3
softmax = partial(torch.softmax, dim=-1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def net(requires_grad: bool = False) -> Net:
    shapes = (H, H + D), (H,), (K, H), (K,)
    return Net(*(torch.randn(shape, dtype=torch.float64).mul(0.7).requires_grad_(requires_grad) for shape in shapes))


def sequence(n: int, classes: bool = False) -> tuple[Tensor, Tensor]:
    """Inputs (n, D) and outputs (n + 1, K); of a sequence of symbols, each symbol and the next."""
    if not classes:
        return torch.randn(n, D, dtype=torch.float64), torch.randn(n + 1, K, dtype=torch.float64)
    symbols = F.one_hot(torch.randint(K, (n + 1,)), K).double()
    return symbols[:-1], symbols


def loss(e: Tensor, p: Tensor, target: Tensor, classes: bool) -> Tensor:
    return -(target * p.log()).sum() if classes else 0.5 * e.square().sum()


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_a_windows_weight_change_is_minus_autograds_gradient(k, classes):
    weights, (a, y) = net(True), sequence(k, classes)
    x = torch.rand(H, dtype=torch.float64)
    h = x
    for a_t in a:
        h = torch.tanh(weights.w @ torch.cat((h, a_t)) + weights.b)
    z = weights.v @ h + weights.c
    value = F.cross_entropy(z, y[k]) if classes else 0.5 * (y[k] - z).square().sum()
    expected = torch.autograd.grad(value, weights)
    with torch.no_grad():
        change, e = gradient(weights, x, a, y[k], softmax if classes else identity)
    torch.testing.assert_close(e, y[k] - (z.softmax(0) if classes else z), **EXACT)
    for found, wanted in zip(change, expected, strict=True):
        torch.testing.assert_close(found, -wanted, **EXACT)


def test_the_change_of_f_is_the_sum_over_its_instances():
    """Each of the k instances is given weights of its own; autograd's changes of those are then added up."""
    k, weights, (a, y) = 6, net(), sequence(6)
    own = [(weights.w.clone().requires_grad_(), weights.b.clone().requires_grad_()) for _ in range(k)]
    h = torch.zeros(H, dtype=torch.float64)
    for (w, b), a_t in zip(own, a, strict=True):
        h = torch.tanh(w @ torch.cat((h, a_t)) + b)
    (0.5 * (y[k] - weights.v @ h - weights.c).square().sum()).backward()
    change, _ = gradient(weights, torch.zeros(H, dtype=torch.float64), a, y[k])
    torch.testing.assert_close(change.w, -sum(w.grad for w, _ in own), **EXACT)
    torch.testing.assert_close(change.b, -sum(b.grad for _, b in own), **EXACT)
    assert all(w.grad.abs().max() > 1e-4 for w, _ in own)  # each has its share


def test_a_unit_of_one_by_hand():
    """h = tanh(0.5 x + a), p = 2 h, from x = 0 through a = 0.3, -0.1 to the target 1."""
    one = Net(*(torch.tensor(v, dtype=torch.float64) for v in ([[0.5, 1.0]], [0.0], [[2.0]], [0.0])))
    a, y = torch.tensor([[0.3], [-0.1]]).double(), torch.tensor([1.0]).double()
    change, e = gradient(one, torch.zeros(1).double(), a, y)
    # h1 = tanh(0.3) = 0.29131261          h2 = tanh(0.5*0.29131261 - 0.1) = tanh(0.04565631) = 0.04562461
    # e = 1 - 2*0.04562461 = 0.90875078    at h2: 2*0.90875078 * (1 - 0.04562461²) = 1.81371824
    # at h1: 0.5*1.81371824 * (1 - 0.29131261²) = 0.82990030
    # by the weight of x: 1.81371824*0.29131261 + 0.82990030*0;  by that of a: 1.81371824*-0.1 + 0.82990030*0.3
    assert e.item() == pytest.approx(0.90875078, abs=1e-7)
    assert change.w[0].tolist() == pytest.approx([0.52835900, 0.06759827], abs=1e-7)
    assert change.b.item() == pytest.approx(2.64361854, abs=1e-7)
    assert change.v.item() == pytest.approx(0.90875078 * 0.04562461, abs=1e-7)


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_errors_at_every_step_are_nn_rnns(start):
    n, weights, (a, y) = 9, net(), sequence(9)
    x = torch.full((H,), start, dtype=torch.float64)
    rnn, readout = nn.RNN(D, H, batch_first=True).double(), nn.Linear(H, K).double()
    rnn.load_state_dict(
        {
            "weight_ih_l0": weights.w[:, H:],
            "weight_hh_l0": weights.w[:, :H],
            "bias_ih_l0": weights.b,
            "bias_hh_l0": torch.zeros(H),
        }
    )
    readout.load_state_dict({"weight": weights.v, "bias": weights.c})
    predictions = readout(rnn(a[None], x[None, None])[0])[0]
    (0.5 * (y[1:] - predictions).square().sum()).backward()
    contexts = forward(weights, x, a)
    errors = [target - g(weights, h) for target, h in zip(y[1:], contexts[1:], strict=True)]
    change = back_propagate(weights, contexts, a, errors)
    assert len(contexts) == n + 1
    torch.testing.assert_close(change.w, -torch.cat((rnn.weight_hh_l0.grad, rnn.weight_ih_l0.grad), 1), **EXACT)
    torch.testing.assert_close(change.b, -rnn.bias_ih_l0.grad, **EXACT)
    torch.testing.assert_close((change.v, change.c), (-readout.weight.grad, -readout.bias.grad), **EXACT)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (8, 1), (8, 3), (8, 8), (30, 7)])
def test_the_slides_loop_is_autograd_with_sgd(n, k, classes):
    start, (a, y) = net(), sequence(n, classes)
    squash = softmax if classes else identity
    found, errors, context = sliding(start, a, y, k, 0.05, squash)
    weights = [weight.clone().requires_grad_() for weight in start]
    sgd = torch.optim.SGD(weights, lr=0.05)
    x = torch.zeros(H, dtype=torch.float64)
    for t in range(n - k + 1):
        h = x
        for a_t in a[t : t + k]:
            h = f(Net(*weights), h, a_t)
        p = g(Net(*weights), h, squash)
        e = y[t + k] - p
        torch.testing.assert_close(errors[t], e.detach(), **EXACT)
        sgd.zero_grad()
        loss(e, p, y[t + k], classes).backward()
        sgd.step()
        x = f(Net(*weights), x, a[t]).detach()
    assert len(errors) == n - k + 1
    torch.testing.assert_close(context, x, **EXACT)
    for one, other in zip(found, weights, strict=True):
        torch.testing.assert_close(one, other.detach(), **EXACT)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (8, 1), (8, 3), (8, 8), (30, 7)])
def test_the_usual_variant_is_autograd_with_a_detached_state(n, k):
    start, (a, y) = net(), sequence(n)
    found, errors, context = chunked(start, a, y, k, 0.05)
    weights = [weight.clone().requires_grad_() for weight in start]
    sgd = torch.optim.SGD(weights, lr=0.05)
    x = torch.zeros(H, dtype=torch.float64)
    for t in range(0, n, k):
        losses = []
        for a_t, target in zip(a[t : t + k], y[t + 1 : t + k + 1], strict=True):
            x = f(Net(*weights), x, a_t)
            losses.append(0.5 * (target - g(Net(*weights), x)).square().sum())
        sgd.zero_grad()
        sum(losses).backward()
        sgd.step()
        x = x.detach()
    assert len(errors) == n
    torch.testing.assert_close(context, x, **EXACT)
    for one, other in zip(found, weights, strict=True):
        torch.testing.assert_close(one, other.detach(), **EXACT)


def test_with_one_instance_both_are_elmans_but_for_the_weights_that_carry_the_context():
    """The slide computes the next context with the weights of after the update, the variant keeps the one it has."""
    start, (a, y) = net(), sequence(12)
    slide, usual = sliding(start, a, y, 1, 0.05), chunked(start, a, y, 1, 0.05)
    torch.testing.assert_close(slide[1][0], usual[1][0], **EXACT)
    assert not torch.allclose(slide[2], usual[2], atol=1e-4)
    slide, usual = sliding(start, a, y, 1, 0.0), chunked(start, a, y, 1, 0.0)
    torch.testing.assert_close(slide[1:], usual[1:], **EXACT)


def test_it_learns():
    """A cycle of three symbols, in which what follows a depends on what was before it: a b a c a b a c."""
    symbols = F.one_hot(torch.tensor([0, 1, 0, 2] * 10), K).double()
    weights = net()
    first = last = None
    for _ in range(15):
        weights, errors, _ = sliding(weights, symbols[:-1], symbols, 3, 0.3, softmax)
        last = torch.stack(errors).square().sum(1).mean()
        first = first or last
    assert last < 0.02 < 0.3 < first


def test_what_does_not_fit_is_refused():
    a, y = sequence(4)
    for run in (sliding, chunked):
        with pytest.raises(ValueError, match="4 inputs cannot be unfolded into 5 instances"):
            run(net(), a, y, 5, 0.1)
        with pytest.raises(ValueError, match="unfolded into 0"):
            run(net(), a, y, 0, 0.1)
        with pytest.raises(ValueError, match="y has 4 entries for 4 inputs; give 5"):
            run(net(), a, y[1:], 2, 0.1)
