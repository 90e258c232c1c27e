from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from dlmkit_lstm.gates import BLOCKS, Gates, recorded_lstm
from dlmkit_lstm.model import LSTMCell, LSTMStack
from dlmkit_lstm.stack import chrono_biases
from torch import Tensor, nn

from dlmkit import TokenModel, UserError

EXACT = {"rtol": 0.0, "atol": 1e-10}
B, T, D, H = 3, 7, 4, 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def inputs(layers: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, D), h0 and c0 (layers, B, H), none of them zero, all with gradients."""
    shapes = (B, T, D), (layers, B, H), (layers, B, H)
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def lstm(layers: int = 1) -> nn.LSTM:
    return nn.LSTM(D, H, layers, batch_first=True, dtype=torch.float64)


def character_net(hidden: int = H, layers: int = 1, embedding: int = D, **options: float) -> TokenModel:
    return TokenModel(11, LSTMStack(embedding, hidden, layers, **options), embedding, hidden)


def unrolled(cell: LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> Gates:
    """The cell stepped over time, its gates stacked to (B, T, H)."""
    steps = []
    for x_t in x.unbind(1):
        h, c, gates = cell(x_t, (h, c))
        steps.append(gates)
    return Gates(*(torch.stack(values, dim=1) for values in zip(*steps, strict=True)))


def cell_gradients(cell: LSTMCell) -> list[Tensor]:
    """Gradients in the layout of nn.LSTM: w_ih, w_hh, b_ih, b_hh."""
    linears = (cell.input, cell.forget, cell.candidate, cell.output)
    weight = torch.cat([linear.weight.grad for linear in linears])
    bias = torch.cat([linear.bias.grad for linear in linears])
    return [weight[:, H:], weight[:, :H], bias, bias]


def test_the_six_equations_by_hand():
    cell = LSTMCell(1, 1).double()
    weights = {"forget": (0.5, -0.25, 1.0), "input": (0.1, 0.8, 0.0), "candidate": (-0.6, 0.4, 0.2)}
    weights["output"] = (0.3, 0.7, -0.1)
    for name, (of_h, of_x, bias) in weights.items():
        gate = getattr(cell, name)
        gate.load_state_dict({"weight": torch.tensor([[of_h, of_x]]), "bias": torch.tensor([bias])})
    x, h, c = (torch.tensor([[value]], dtype=torch.float64) for value in (2.0, 0.5, -1.0))
    h, c, gates = cell(x, (h, c))
    # inside forget: 0.5*0.5 - 0.25*2 + 1 = 0.75     σ(0.75) = 0.67917870
    # inside input: 0.1*0.5 + 0.8*2 + 0 = 1.65        σ(1.65) = 0.83889105
    # inside candidate: -0.6*0.5 + 0.4*2 + 0.2 = 0.7  tanh(0.7) = 0.60436778
    # cell: 0.67917870 * -1 + 0.83889105 * 0.60436778 = -0.17217998
    # inside output: 0.3*0.5 + 0.7*2 - 0.1 = 1.45     σ(1.45) = 0.80999843
    # hidden: 0.80999843 * tanh(-0.17217998) = 0.80999843 * -0.17049844 = -0.13810347
    expected = Gates(0.67917870, 0.83889105, 0.60436778, 0.80999843, -0.17217998, -0.13810347)
    for name, value in expected._asdict().items():
        assert getattr(gates, name).item() == pytest.approx(value, abs=1e-8), name
    assert (h.item(), c.item()) == (gates.hidden.item(), gates.cell.item())


def test_cell_stepped_over_time_is_nn_lstm():
    theirs, (x, h0, c0) = lstm(), inputs()
    ours = LSTMCell.from_torch(theirs)
    hidden, (h, c) = theirs(x, (h0, c0))
    gates = unrolled(ours, x, h0[0], c0[0])
    torch.testing.assert_close(gates.hidden, hidden, **EXACT)
    torch.testing.assert_close((gates.hidden[:, -1], gates.cell[:, -1]), (h[0], c[0]), **EXACT)
    weight = torch.randn_like(hidden)
    expected = torch.autograd.grad((hidden * weight).sum() + c.sum(), (x, h0, c0, *theirs.parameters()))
    (gates.hidden * weight).sum().add(gates.cell[:, -1].sum()).backward()
    for found, wanted in zip((x.grad, h0.grad, c0.grad, *cell_gradients(ours)), expected, strict=True):
        torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("layer", [0, 1])
def test_cell_takes_any_layer(layer):
    theirs = lstm(2)
    cell = LSTMCell.from_torch(theirs, layer)
    w_ih, w_hh, b_ih, b_hh = theirs.all_weights[layer]
    torch.testing.assert_close(cell.forget.weight, torch.cat((w_hh, w_ih), 1)[H : 2 * H])
    torch.testing.assert_close(cell.output.bias, (b_ih + b_hh)[3 * H :])
    assert cell.forget.weight.data_ptr() != w_hh.data_ptr()


def test_cell_refuses_other_equations():
    with pytest.raises(ValueError, match="other equations"):
        LSTMCell.from_torch(nn.LSTM(D, H, bidirectional=True))
    with pytest.raises(ValueError, match="layer is 2; give 0 to 1"):
        LSTMCell.from_torch(lstm(2), 2)


@pytest.mark.parametrize("field", Gates._fields)
def test_gradient_of_each_output_is_autograds_through_the_cell(field):
    theirs, (x, h0, c0) = lstm(), inputs()
    cell = LSTMCell.from_torch(theirs)
    plain, recorded = unrolled(cell, x, h0[0], c0[0]), recorded_lstm(x, h0[0], c0[0], *theirs.all_weights[0])
    torch.testing.assert_close(recorded, plain, **EXACT)
    weight = torch.randn(B, T, H, dtype=torch.float64)
    found = torch.autograd.grad((getattr(recorded, field) * weight).sum(), (x, h0, c0, *theirs.parameters()))
    (getattr(plain, field) * weight).sum().backward()
    by_output = [torch.zeros_like(p) for p in cell.output.parameters()]
    for parameter, zeros in zip(cell.output.parameters(), by_output, strict=True):
        parameter.grad = zeros if parameter.grad is None else parameter.grad
    for one, other in zip(found, (x.grad, h0.grad, c0.grad, *cell_gradients(cell)), strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_gradient_of_all_outputs_together():
    theirs, (x, h0, c0) = lstm(), inputs()
    cell = LSTMCell.from_torch(theirs)
    plain, recorded = unrolled(cell, x, h0[0], c0[0]), recorded_lstm(x, h0[0], c0[0], *theirs.all_weights[0])
    found, expected = (
        torch.autograd.grad(sum(output.pow(2).sum() for output in gates), (x, h0, c0)) for gates in (recorded, plain)
    )
    torch.testing.assert_close(found, expected, **EXACT)


def test_gradcheck():
    sizes = (2, 3, 2), (2, 2), (2, 2), (8, 2), (8, 2), (8,), (8,)
    arguments = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    assert torch.autograd.gradcheck(recorded_lstm, arguments)


def test_second_derivatives_are_refused():
    x, h0, c0 = inputs()
    hidden = recorded_lstm(x, h0[0], c0[0], *lstm().all_weights[0]).hidden
    (gradient,) = torch.autograd.grad(hidden.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("layers", [1, 2])
def test_recorded_path_is_the_forward_pass(layers):
    net = character_net(layers=layers, dropout=0.3).double().eval()
    tokens = torch.randint(11, (B, T))
    _, h0, c0 = inputs(layers)
    logits, (h, c) = net(tokens, (h0, c0))
    records = net.record(tokens, (h0, c0))
    assert len(records) == layers
    assert {values.shape for record in records for values in record} == {(B, T, H)}
    torch.testing.assert_close(net.readout(records[-1].hidden), logits, **EXACT)
    torch.testing.assert_close(torch.stack([record.hidden[:, -1] for record in records]), h, **EXACT)
    torch.testing.assert_close(torch.stack([record.cell[:, -1] for record in records]), c, **EXACT)
    wanted = (h0, c0, *net.parameters())
    expected = torch.autograd.grad(logits.square().sum(), wanted)
    found = torch.autograd.grad(net.readout(records[-1].hidden).square().sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_recorded_path_drops_between_layers_only_in_training():
    net, tokens = character_net(layers=2, dropout=0.5), torch.randint(11, (B, T))
    first, second = net.record(tokens), net.record(tokens)
    torch.testing.assert_close(first[0].hidden, second[0].hidden)
    assert not torch.allclose(first[1].hidden, second[1].hidden)
    net.eval()
    torch.testing.assert_close(net.record(tokens)[1].hidden, net.record(tokens)[1].hidden)


def test_single_precision_and_autocast():
    net, tokens = character_net(64).eval(), torch.randint(11, (B, 50))
    record = net.record(tokens)[0]
    torch.testing.assert_close(net.readout(record.hidden), net(tokens)[0], rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        state = torch.zeros(2, 1, B, 64, dtype=torch.bfloat16)
        under_autocast = net.record(tokens, (state[0], state[1]))[0]
    assert under_autocast.hidden.dtype == torch.float32
    torch.testing.assert_close(under_autocast, record)
    under_autocast.hidden.sum().backward()
    assert net.recurrence.weight_hh_l0.grad.isfinite().all()


@pytest.mark.parametrize("forget_bias", [1.0, 3.5])
def test_initialisation(forget_bias):
    stack = LSTMStack(D, 16, 2, forget_bias=forget_bias)
    for _, w_hh, b_ih, b_hh in stack.all_weights:
        for gate in w_hh.chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0.0, atol=1e-5)
        i, f, candidate, o = (b_ih + b_hh).chunk(4)
        assert f.eq(forget_bias).all()
        assert not torch.cat((i, candidate, o)).any()


def test_gates_that_start_with_memories_of_every_length():
    torch.manual_seed(0)
    stack = LSTMStack(D, 4000, 2, orthogonal=False)
    before = [w_hh.clone() for _, w_hh, *_ in stack.all_weights]
    chrono_biases(stack.all_weights, BLOCKS, 101)
    for (_, w_hh, b_ih, b_hh), same in zip(stack.all_weights, before, strict=True):
        assert torch.equal(w_hh, same)
        i, f, candidate, o = (b_ih + b_hh).chunk(4)
        assert torch.equal(i, -f) and not torch.cat((candidate, o)).any()
        steps = f.double().exp()  # uniform from 1 to 100
        assert 1 <= steps.min() < 1.2 and 99.8 < steps.max() <= 100.001
        assert steps.mean().item() == pytest.approx(50.5, abs=2) and (steps < 25.75).double().mean() < 0.27
    with pytest.raises(ValueError, match="is 2; give at least 3"):
        chrono_biases(stack.all_weights, BLOCKS, 2)


def test_the_longest_memory_of_a_problem_is_an_option():
    from dlmkit_lstm.task import LSTMProblem

    net = LSTMProblem(D, 3, "last", "class", hidden_size=H, chrono=50)
    i, f, *_ = net.recurrence.all_weights[0][2].chunk(4)
    assert torch.equal(i, -f) and len(f.unique()) == H
    with pytest.raises(UserError, match="longest time to remember is 1"):
        LSTMProblem(D, 3, "last", "class", chrono=1)


@pytest.mark.parametrize("layers", [1, 2])
def test_state_carried_over_two_halves_is_one_pass(layers):
    net, tokens = character_net(layers=layers).double().eval(), torch.randint(11, (B, 2 * T))
    logits, state = net(tokens)
    first, carried = net(tokens[:, :T])
    second, last = net(tokens[:, T:], carried)
    torch.testing.assert_close(torch.cat((first, second), dim=1), logits, **EXACT)
    torch.testing.assert_close(last, state, **EXACT)
    assert {values.shape for values in last} == {(layers, B, H)}
    whole, half = net.record(tokens)[-1], net.record(tokens[:, T:], carried)[-1]
    torch.testing.assert_close(half.cell, whole.cell[:, T:], **EXACT)


def test_without_orthogonal_matrices_the_weights_start_as_in_torch():
    stack = LSTMStack(D, 16, 2, orthogonal=False, forget_bias=2.0)
    for _, w_hh, b_ih, b_hh in stack.all_weights:
        assert w_hh.abs().max() <= 1 / 4  # uniform within ±1/√H
        assert w_hh.std().item() == pytest.approx(1 / 4 / 3**0.5, rel=0.1)
        gram = w_hh.chunk(4)[0] @ w_hh.chunk(4)[0].T
        assert not torch.allclose(gram, torch.eye(16), atol=0.1)
        assert (b_ih + b_hh).chunk(4)[1].eq(2.0).all()


def test_sizes_that_are_refused():
    with pytest.raises(ValueError, match="hidden_size=0"):
        TokenModel(11, LSTMStack(8, 8), 8, 0)
    with pytest.raises(ValueError, match="hidden_size must be greater than zero"):
        LSTMStack(8, 0)
    with pytest.raises(ValueError, match="num_layers must be greater than zero"):
        LSTMStack(8, 8, 0)
    for layers in (1, 2):
        with pytest.raises(ValueError, match="dropout"):
            LSTMStack(8, 8, layers, dropout=1.5)
    with pytest.raises(ValueError, match="dropout"):
        LSTMStack(8, 8, weight_dropout=-0.5)


# ---------- recurrent weights that are dropped


def thinned(stack: LSTMStack, seed: int) -> list[Tensor]:
    """The recurrent matrices that a pass in training sees when the generator stands at ``seed``."""
    torch.manual_seed(seed)
    return [nn.functional.dropout(w_hh, stack.weight_dropout.p) for _, w_hh, _, _ in stack.all_weights]


def unrolled_with(stack: LSTMStack, matrices: list[Tensor], x: Tensor, h0: Tensor, c0: Tensor) -> list[Gates]:
    """The readable cell over time, layer by layer, the recurrent matrices replaced."""
    plain, records = nn.LSTM(D, H, stack.num_layers).double(), []
    plain.load_state_dict(stack.state_dict())
    with torch.no_grad():
        for layer, matrix in enumerate(matrices):
            plain.all_weights[layer][1].copy_(matrix)
    for layer in range(stack.num_layers):
        records.append(unrolled(LSTMCell.from_torch(plain, layer), x, h0[layer], c0[layer]))
        x = records[-1].hidden
    return records


@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_is_dropped_in_evaluation(layers):
    stack = LSTMStack(D, H, layers, weight_dropout=0.5).double().eval()
    plain = nn.LSTM(D, H, layers, batch_first=True, dtype=torch.float64)
    plain.load_state_dict(stack.state_dict())
    x, h0, c0 = inputs(layers)
    hidden, (h, c) = plain(x, (h0, c0))
    found, state = stack(x, (h0, c0))
    torch.testing.assert_close((found, *state), (hidden, h, c), **EXACT)
    torch.testing.assert_close(stack.record(x, (h0, c0))[-1].hidden, hidden, **EXACT)


def test_dropped_weights_are_zero_and_the_others_scaled():
    stack = LSTMStack(D, 64, weight_dropout=0.4).double()
    w_hh, (seen,) = stack.weight_hh_l0, thinned(stack, 3)
    dropped = seen == 0
    assert dropped.double().mean().item() == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(seen[~dropped], w_hh[~dropped] / 0.6, **EXACT)
    x, zeros = torch.randn(2, 1, D, dtype=torch.float64), torch.zeros(1, 2, 64, dtype=torch.float64)
    h0 = torch.eye(64, dtype=torch.float64)[None, :2]  # picks a column of the matrix that the pass has used
    torch.manual_seed(3)
    candidate = stack.record(x, (h0, zeros))[0].candidate[:, 0].atanh()
    from_x = (x[:, 0] @ stack.weight_ih_l0.T).chunk(4, dim=1)[2]
    torch.testing.assert_close(candidate - from_x, seen.chunk(4)[2][:, :2].T, **EXACT)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("path", ["forward", "record"])
def test_one_mask_holds_for_all_time_steps(layers, path):
    stack = LSTMStack(D, H, layers, weight_dropout=0.5).double()
    x, h0, c0 = inputs(layers)
    expected = unrolled_with(stack, thinned(stack, 5), x, h0, c0)
    torch.manual_seed(5)
    if path == "record":
        torch.testing.assert_close(stack.record(x, (h0, c0)), expected, **EXACT)
    else:
        hidden, (h, c) = stack(x, (h0, c0))
        torch.testing.assert_close(hidden, expected[-1].hidden, **EXACT)
        torch.testing.assert_close(h, torch.stack([gates.hidden[:, -1] for gates in expected]), **EXACT)
        torch.testing.assert_close(c, torch.stack([gates.cell[:, -1] for gates in expected]), **EXACT)
    other, _ = stack(x, (h0, c0))  # the next batch has another mask
    assert not torch.allclose(other, expected[-1].hidden)


@pytest.mark.parametrize("layers", [1, 2])
def test_gradient_is_zero_where_a_weight_is_dropped(layers):
    stack = LSTMStack(D, H, layers, weight_dropout=0.5).double()
    x, *state = inputs(layers)
    masks = [matrix != 0 for matrix in thinned(stack, 7)]
    assert any(not mask.all() for mask in masks)
    gradients = []
    for run in (lambda: stack(x, state)[0], lambda: stack.record(x, state)[-1].hidden):
        torch.manual_seed(7)
        gradients.append(torch.autograd.grad(run().square().sum(), (x, *state, *stack.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    by_name = dict(zip([name for name, _ in stack.named_parameters()], gradients[0][3:], strict=True))
    for layer, mask in enumerate(masks):
        torch.testing.assert_close(by_name[f"weight_hh_l{layer}"] != 0, mask)


def test_both_paths_drop_the_same_under_the_same_state_of_the_generator():
    """Weights, and activations between layers."""
    stack = LSTMStack(D, H, 3, dropout=0.4, weight_dropout=0.3).double()
    x, *state = inputs(3)
    torch.manual_seed(11)
    hidden, (h, c) = stack(x, state)
    torch.manual_seed(11)
    records = stack.record(x, state)
    torch.testing.assert_close(records[-1].hidden, hidden, **EXACT)
    torch.testing.assert_close(torch.stack([gates.hidden[:, -1] for gates in records]), h, **EXACT)
    torch.testing.assert_close(torch.stack([gates.cell[:, -1] for gates in records]), c, **EXACT)


def test_importing_the_package_imports_no_torch():
    code = "import sys, dlmkit_lstm; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_from_both_ends_is_two_layers_of_which_one_sees_the_sequence_reversed():
    from dlmkit_lstm.task import LSTMProblem

    net = LSTMProblem(D, 3, "each", "class", hidden_size=H, bidirectional=True).double()
    x, _, _ = inputs()
    theirs = nn.LSTM(D, H, batch_first=True, bidirectional=True, dtype=torch.float64)
    for suffix, stack in (("", net.recurrence), ("_reverse", net.from_the_end)):
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(theirs, name + suffix).data.copy_(getattr(stack, name))
    torch.testing.assert_close(net.features(x), theirs(x)[0], **EXACT)
    assert net(x).shape == (B, T, 3)
    assert LSTMProblem(D, 3, "each", "class", hidden_size=H).from_the_end is None
