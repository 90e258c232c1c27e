from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from dlmkit_rnn.model import ElmanCell, RNNStack, Units
from torch import Tensor, nn

EXACT = {"rtol": 0.0, "atol": 1e-10}
B, T, D, H = 3, 7, 4, 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def inputs(layers: int = 1) -> tuple[Tensor, Tensor]:
    """x (B, T, D) and h0 (layers, B, H), none of them zero, both with gradients."""
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((B, T, D), (layers, B, H)))


def rnn(layers: int = 1) -> nn.RNN:
    return nn.RNN(D, H, layers, batch_first=True, dtype=torch.float64)


def unrolled(cell: ElmanCell, x: Tensor, h: Tensor) -> Tensor:
    """The cell stepped over time (B, T, H)."""
    steps = []
    for x_t in x.unbind(1):
        h = cell(x_t, h)
        steps.append(h)
    return torch.stack(steps, dim=1)


def test_the_equation_by_hand():
    cell = ElmanCell(2, 1).double()
    weight, bias = (torch.tensor(values, dtype=torch.float64) for values in ([[0.5, -1.0, 0.25]], [0.1]))
    cell.loop.load_state_dict({"weight": weight, "bias": bias})
    h = torch.tensor([[0.4]], dtype=torch.float64)
    h = cell(torch.tensor([[1.0, 2.0]], dtype=torch.float64), h)
    # 0.5*0.4 - 1*1 + 0.25*2 + 0.1 = -0.2             tanh(-0.2) = -0.19737532
    assert h.item() == pytest.approx(-0.19737532, abs=1e-8)
    h = cell(torch.tensor([[-1.0, 0.0]], dtype=torch.float64), h)
    # 0.5*-0.19737532 + 1 + 0 + 0.1 = 1.00131234      tanh(1.00131234) = 0.76214475
    assert h.item() == pytest.approx(0.76214475, abs=1e-8)


def test_cell_stepped_over_time_is_nn_rnn():
    theirs, (x, h0) = rnn(), inputs()
    ours = ElmanCell.from_torch(theirs)
    hidden, h = theirs(x, h0)
    stepped = unrolled(ours, x, h0[0])
    torch.testing.assert_close(stepped, hidden, **EXACT)
    torch.testing.assert_close(stepped[:, -1], h[0], **EXACT)
    weight = torch.randn_like(hidden)
    expected = torch.autograd.grad((hidden * weight).sum(), (x, h0, *theirs.parameters()))
    (stepped * weight).sum().backward()
    w, b = ours.loop.weight.grad, ours.loop.bias.grad
    for found, wanted in zip((x.grad, h0.grad, w[:, H:], w[:, :H], b, b), expected, strict=True):
        torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("layer", [0, 1])
def test_cell_takes_any_layer(layer):
    theirs = rnn(2)
    cell = ElmanCell.from_torch(theirs, layer)
    w_ih, w_hh, b_ih, b_hh = theirs.all_weights[layer]
    torch.testing.assert_close(cell.loop.weight, torch.cat((w_hh, w_ih), 1))
    torch.testing.assert_close(cell.loop.bias, b_ih + b_hh)
    assert cell.loop.bias.data_ptr() != b_hh.data_ptr()


def test_cell_refuses_other_equations():
    for other in ({"nonlinearity": "relu"}, {"bias": False}, {"bidirectional": True}):
        with pytest.raises(ValueError, match="another equation"):
            ElmanCell.from_torch(nn.RNN(D, H, **other))
    with pytest.raises(ValueError, match="layer is 2; give 0 to 1"):
        ElmanCell.from_torch(rnn(2), 2)


@pytest.mark.parametrize("layers", [1, 2])
def test_stack_is_the_cell_stepped_over_time(layers):
    stack, (x, h0) = RNNStack(D, H, layers).double(), inputs(layers)
    nn.init.normal_(stack.bias_hh_l0)
    hidden, (h,) = stack(x, (h0,))
    below = x
    for layer in range(layers):
        below = unrolled(ElmanCell.from_torch(stack, layer), below, h0[layer])
        torch.testing.assert_close(below[:, -1], h[layer], **EXACT)
    torch.testing.assert_close(below, hidden, **EXACT)


@pytest.mark.parametrize("layers", [1, 2])
def test_record_is_the_forward_pass(layers):
    stack, (x, h0) = RNNStack(D, H, layers, dropout=0.3).double().eval(), inputs(layers)
    nn.init.normal_(stack.bias_hh_l0)
    hidden, (h,) = stack(x, (h0,))
    records = stack.record(x, (h0,))
    assert len(records) == layers
    assert {values.shape for record in records for values in record} == {(B, T, H)}
    torch.testing.assert_close(records[-1].hidden, hidden, **EXACT)
    torch.testing.assert_close(torch.stack([record.hidden[:, -1] for record in records]), h, **EXACT)
    for record in records:
        torch.testing.assert_close(torch.tanh(record.from_input + record.from_context), record.hidden, **EXACT)
        torch.testing.assert_close(record.slope, 1 - record.hidden**2, **EXACT)
    wanted = (x, h0, *stack.parameters())
    expected = torch.autograd.grad(hidden.square().sum(), wanted)
    found = torch.autograd.grad(records[-1].hidden.square().sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_record_without_a_state_starts_from_zero():
    stack, (x, _) = RNNStack(D, H, 2).double(), inputs()
    for one, other in zip(stack.record(x), stack.record(x, (torch.zeros(2, B, H).double(),)), strict=True):
        torch.testing.assert_close(one, other)


def test_record_drops_between_layers_only_in_training():
    stack, x = RNNStack(D, H, 2, dropout=0.5), torch.randn(B, T, D)
    first, second = stack.record(x), stack.record(x)
    torch.testing.assert_close(first[0].hidden, second[0].hidden)
    assert not torch.allclose(first[1].hidden, second[1].hidden)
    stack.eval()
    torch.testing.assert_close(stack.record(x)[1].hidden, stack.record(x)[1].hidden)


def test_autocast():
    stack, x = RNNStack(D, 64, 2), torch.randn(B, 50, D)
    with torch.autocast("cpu", torch.bfloat16):
        record = stack.record(x)[-1]
    assert isinstance(record, Units)
    torch.testing.assert_close(record.hidden.float(), stack(x)[0], rtol=0.1, atol=0.1)
    record.hidden.sum().backward()
    assert stack.weight_hh_l0.grad.isfinite().all()


@pytest.mark.parametrize("orthogonal", [True, False])
def test_initialisation(orthogonal):
    stack = RNNStack(D, 16, 2, orthogonal=orthogonal)
    for _, w_hh, b_ih, b_hh in stack.all_weights:
        assert torch.allclose(w_hh @ w_hh.T, torch.eye(16), atol=1e-5) == orthogonal
        assert w_hh.abs().max() <= 0.25 or orthogonal
        assert not torch.cat((b_ih, b_hh)).any()


@pytest.mark.parametrize("layers", [1, 2])
def test_state_carried_over_two_halves_is_one_pass(layers):
    stack, x = RNNStack(D, H, layers).double(), torch.randn(B, 2 * T, D, dtype=torch.float64)
    hidden, state = stack(x)
    first, carried = stack(x[:, :T])
    second, last = stack(x[:, T:], carried)
    torch.testing.assert_close(torch.cat((first, second), dim=1), hidden, **EXACT)
    torch.testing.assert_close(last, state, **EXACT)
    assert {values.shape for values in last} == {(layers, B, H)}
    torch.testing.assert_close(stack.record(x[:, T:], carried)[-1].hidden, hidden[:, T:], **EXACT)


def test_sizes_that_are_refused():
    with pytest.raises(ValueError, match="hidden_size=0"):
        RNNStack(11, 0)
    with pytest.raises(ValueError, match="num_layers=0"):
        RNNStack(11, 8, 0)
    with pytest.raises(ValueError, match="dropout"):
        RNNStack(11, 8, 2, dropout=1.5)


def test_importing_the_package_imports_no_torch():
    code = "import sys, dlmkit_rnn; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
