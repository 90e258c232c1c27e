"""Peephole and coupled gates: against loops over scalars, and against autograd through the readable cell."""

from __future__ import annotations

import math

import pytest
import torch
from dlmkit_lstm.coupled import CoupledGates, CoupledLSTMCell, CoupledLSTMStack
from dlmkit_lstm.gates import Gates
from dlmkit_lstm.model import LSTMStack
from dlmkit_lstm.peephole import PeepholeLSTMCell, PeepholeLSTMStack
from torch import Tensor, nn

from dlmkit import TokenModel
from dlmkit.recipe import read

EXACT = {"rtol": 0.0, "atol": 1e-10}
B, T, D, H = 3, 7, 4, 5
CELLS = {PeepholeLSTMStack: PeepholeLSTMCell, CoupledLSTMStack: CoupledLSTMCell}
FIELDS = [*((PeepholeLSTMStack, name) for name in Gates._fields)]
FIELDS += [(CoupledLSTMStack, name) for name in CoupledGates._fields]

each_kind = pytest.mark.parametrize("kind", CELLS)
few_and_many = pytest.mark.parametrize("layers", [1, 2])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def stack_of(kind, layers: int = 1, **options):
    """Layers in double precision, no weight of which is zero."""
    stack = kind(D, H, layers, **options).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return stack


def inputs(layers: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, D), h0 and c0 (layers, B, H), none of them zero, all with gradients."""
    shapes = (B, T, D), (layers, B, H), (layers, B, H)
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


# ---------- outputs, against an independent reference of scalars and loops


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def weighted(stack, gate: int, unit: int, x: list[float], h: list[float]) -> float:
    """What is inside the activation of one unit's gate, without any peephole."""
    row = gate * H + unit
    w_ih, w_hh, b_ih, b_hh = (parameter.tolist() for parameter in stack.all_weights[0][:4])
    total = b_ih[row] + b_hh[row]
    for j in range(D):
        total += w_ih[row][j] * x[j]
    for j in range(H):
        total += w_hh[row][j] * h[j]
    return total


def peephole_step(stack, x: list[float], h: list[float], c: list[float]) -> list[dict[str, float]]:
    p_i, p_f, p_o = stack.peephole_l0.tolist()
    units = []
    for k in range(H):
        i = sigmoid(weighted(stack, 0, k, x, h) + p_i[k] * c[k])
        f = sigmoid(weighted(stack, 1, k, x, h) + p_f[k] * c[k])
        candidate = math.tanh(weighted(stack, 2, k, x, h))
        cell = f * c[k] + i * candidate
        o = sigmoid(weighted(stack, 3, k, x, h) + p_o[k] * cell)
        hidden = o * math.tanh(cell)
        units.append({"forget": f, "input": i, "candidate": candidate, "output": o, "cell": cell, "hidden": hidden})
    return units


def coupled_step(stack, x: list[float], h: list[float], c: list[float]) -> list[dict[str, float]]:
    units = []
    for k in range(H):
        f = sigmoid(weighted(stack, 0, k, x, h))
        candidate = math.tanh(weighted(stack, 1, k, x, h))
        cell = f * c[k] + (1 - f) * candidate
        o = sigmoid(weighted(stack, 2, k, x, h))
        hidden = o * math.tanh(cell)
        units.append({"forget": f, "candidate": candidate, "output": o, "cell": cell, "hidden": hidden})
    return units


STEPS = {PeepholeLSTMStack: peephole_step, CoupledLSTMStack: coupled_step}


@each_kind
def test_every_output_is_that_of_loops_over_scalars(kind):
    stack, (x, h0, c0) = stack_of(kind), inputs()
    record, cell = stack.record(x, (h0, c0))[0], CELLS[kind].from_stack(stack)
    for b in range(B):
        h, c = h0[0, b].tolist(), c0[0, b].tolist()
        for t in range(T):
            before = tuple(torch.tensor([values], dtype=torch.float64) for values in (h, c))
            units = STEPS[kind](stack, x[b, t].tolist(), h, c)
            h, c = [unit["hidden"] for unit in units], [unit["cell"] for unit in units]
            _, _, gates = cell(x[b, t][None], before)
            for name in record._fields:
                expected = [unit[name] for unit in units]
                assert getattr(record, name)[b, t].tolist() == pytest.approx(expected, rel=0, abs=1e-10), name
                assert getattr(gates, name)[0].tolist() == pytest.approx(expected, rel=0, abs=1e-10), name


# ---------- gradients, against autograd through the readable cell


def unrolled(cell, x: Tensor, h: Tensor, c: Tensor):
    """The readable cell over time, its gates stacked to (B, T, H)."""
    steps = []
    for x_t in x.unbind(1):
        h, c, gates = cell(x_t, (h, c))
        steps.append(gates)
    return type(steps[0])(*(torch.stack(values, dim=1) for values in zip(*steps, strict=True)))


def layout(kind, cell, gradients: list[Tensor]) -> list[Tensor]:
    """Gradients by the cell's parameters in the stack's layout: w_ih, w_hh, b_ih, b_hh, peepholes."""
    of = dict(zip([name for name, _ in cell.named_parameters()], gradients, strict=True))
    weight = torch.cat([of[f"{gate}.weight"] for gate in kind.blocks])
    bias = torch.cat([of[f"{gate}.bias"] for gate in kind.blocks])
    found = [weight[:, H:], weight[:, :H], bias, bias]
    if kind is PeepholeLSTMStack:
        found.append(torch.stack([of[f"{gate}_peephole"] for gate in ("input", "forget", "output")]))
    return found


def assert_same_gradients(kind, loss):
    stack, (x, h0, c0) = stack_of(kind), inputs()
    cell = CELLS[kind].from_stack(stack)
    recorded, plain = stack.record(x, (h0, c0))[0], unrolled(cell, x, h0[0], c0[0])
    torch.testing.assert_close(recorded, plain, **EXACT)
    found = torch.autograd.grad(loss(recorded), (x, h0, c0, *stack.all_weights[0]))
    wanted = torch.autograd.grad(loss(plain), (x, h0, c0, *cell.parameters()), materialize_grads=True)
    expected = (*wanted[:3], *layout(kind, cell, wanted[3:]))
    assert sum(bool(gradient.any()) for gradient in found) >= 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_gradient_of_each_output_is_autograds_through_the_cell(kind, field):
    weight = torch.randn(B, T, H, dtype=torch.float64)
    assert_same_gradients(kind, lambda gates: (getattr(gates, field) * weight).sum())


@each_kind
def test_gradient_of_all_outputs_together(kind):
    assert_same_gradients(kind, lambda gates: sum(output.pow(2).sum() for output in gates))


@each_kind
def test_gradient_of_a_loss_on_hidden_states_and_the_last_cell(kind):
    assert_same_gradients(kind, lambda gates: gates.hidden.square().sum() + gates.cell[:, -1].sum())


@each_kind
def test_gradcheck(kind):
    stack = kind(2, 2).double()
    weights = [torch.randn_like(weight, requires_grad=True) for weight in stack.all_weights[0]]
    arguments = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 2), (2, 2), (2, 2))]
    assert torch.autograd.gradcheck(stack.run, (*arguments, *weights))


@each_kind
@few_and_many
def test_the_stack_is_the_cells_over_time_and_one_upon_the_other(kind, layers):
    stack = stack_of(kind, layers, dropout=0.5).eval()
    x, h0, c0 = inputs(layers)
    below, records = x, []
    for layer in range(layers):
        records.append(unrolled(CELLS[kind].from_stack(stack, layer), below, h0[layer], c0[layer]))
        below = records[-1].hidden
    hidden, (h, c) = stack(x, (h0, c0))
    torch.testing.assert_close(hidden, below, **EXACT)
    torch.testing.assert_close(h, torch.stack([record.hidden[:, -1] for record in records]), **EXACT)
    torch.testing.assert_close(c, torch.stack([record.cell[:, -1] for record in records]), **EXACT)
    torch.testing.assert_close(stack.record(x, (h0, c0)), records, **EXACT)
    found, expected = (
        torch.autograd.grad(loss.square().sum() + state.sum(), (x, h0, c0))
        for loss, state in ((hidden, c), (below, torch.stack([record.cell[:, -1] for record in records])))
    )
    torch.testing.assert_close(found, expected, **EXACT)


# ---------- what tells one kind from another


def test_without_peepholes_it_is_an_lstm():
    ours, theirs = PeepholeLSTMStack(D, H, 2).double(), nn.LSTM(D, H, 2, batch_first=True, dtype=torch.float64)
    assert not any(parameter.any() for name, parameter in ours.named_parameters() if "peephole" in name)
    theirs.load_state_dict({name: value for name, value in ours.state_dict().items() if "peephole" not in name})
    x, h0, c0 = inputs(2)
    hidden, (h, c) = theirs(x, (h0, c0))
    found, state = ours(x, (h0, c0))
    torch.testing.assert_close((found, *state), (hidden, h, c), **EXACT)


def test_a_gate_sees_the_cell_while_the_output_gate_is_shut():
    """What the peepholes are for: h tells nothing of the cell, the gates know it."""
    x, c0 = torch.zeros(1, 1, D), torch.tensor([[[-2.0, -1.0, 0.0, 1.0, 2.0]]])
    stack = PeepholeLSTMStack(D, H)
    blind = stack.record(x, (torch.zeros_like(c0), c0))[0]
    assert blind.forget.unique().numel() == 1
    nn.init.ones_(stack.peephole_l0)
    seeing = stack.record(x, (torch.zeros_like(c0), c0))[0]
    torch.testing.assert_close(seeing.forget[0], torch.sigmoid(c0[0] + 1.0))
    torch.testing.assert_close(seeing.output, torch.sigmoid(seeing.cell))  # as it is now


def test_coupled_gates_are_an_lstm_whose_input_gate_is_the_forget_gates_rest():
    """σ(-a) = 1 - σ(a): an LSTM with the forget gate's weights, negated, as its input gate's."""
    ours, theirs = stack_of(CoupledLSTMStack), nn.LSTM(D, H, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for mine, other in zip(ours.all_weights[0], theirs.all_weights[0], strict=True):
            f, candidate, o = mine.chunk(3)
            other.copy_(torch.cat((-f, f, candidate, o)))
    x, h0, c0 = inputs()
    hidden, (h, c) = theirs(x, (h0, c0))
    found, state = ours(x, (h0, c0))
    torch.testing.assert_close((found, *state), (hidden, h, c), **EXACT)
    assert sum(p.numel() for p in ours.parameters()) * 4 == sum(p.numel() for p in theirs.parameters()) * 3


def test_the_cell_of_coupled_gates_is_a_weighted_mean():
    record = stack_of(CoupledLSTMStack).record(100 * torch.randn(B, 50, D, dtype=torch.float64))[0]
    assert record.cell.abs().max() <= 1


# ---------- what a stack promises


@each_kind
def test_the_recurrent_matrices_have_the_names_of_torch(kind):
    names, torchs = (dict(net.named_parameters()) for net in (kind(D, H, 2), nn.LSTM(D, H, 2)))
    assert set(torchs) <= set(names)
    assert set(names) - set(torchs) == ({"peephole_l0", "peephole_l1"} if kind is PeepholeLSTMStack else set())
    assert all(names[name].dim() == torchs[name].dim() for name in torchs)


@each_kind
@pytest.mark.parametrize("forget_bias", [1.0, 3.5])
def test_initialisation(kind, forget_bias):
    stack = kind(D, 16, 2, forget_bias=forget_bias)
    for _, w_hh, b_ih, b_hh, *_ in stack.all_weights:
        for gate in w_hh.split(16):
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0.0, atol=1e-5)
        bias = dict(zip(kind.blocks, (b_ih + b_hh).split(16), strict=True))
        assert bias.pop("forget").eq(forget_bias).all()
        assert not torch.cat([*bias.values()]).any()


@each_kind
def test_without_orthogonal_matrices_the_weights_start_as_in_torch(kind):
    for w_ih, w_hh, *_ in kind(D, 16, 2, orthogonal=False).all_weights:
        for weight in (w_ih, w_hh):
            assert weight.abs().max() <= 1 / 4  # uniform within ±1/√H
            assert weight.std().item() == pytest.approx(1 / 4 / 3**0.5, rel=0.15)
        gate = w_hh.split(16)[0]
        assert not torch.allclose(gate @ gate.T, torch.eye(16), atol=0.1)


@each_kind
@few_and_many
def test_recurrent_weights_are_dropped_once_for_a_batch_and_only_in_training(kind, layers):
    stack = stack_of(kind, layers, weight_dropout=0.5)
    x, *state = inputs(layers)
    torch.manual_seed(7)
    matrices = [nn.functional.dropout(weights[1], 0.5).detach() for weights in stack.all_weights]
    whole, _ = stack.eval()(x, state)
    thin = stack_of(kind, layers)
    thin.load_state_dict(stack.state_dict())
    torch.testing.assert_close(thin(x, state)[0], whole, **EXACT)
    with torch.no_grad():
        for weights, matrix in zip(thin.all_weights, matrices, strict=True):
            weights[1].copy_(matrix)
    stack.train()
    for run in (lambda: stack(x, state)[0], lambda: stack.record(x, state)[-1].hidden):
        torch.manual_seed(7)
        hidden = run()
        torch.testing.assert_close(hidden, thin(x, state)[0], **EXACT)
        gradients = torch.autograd.grad(hidden.square().sum(), [weights[1] for weights in stack.all_weights])
        for gradient, matrix in zip(gradients, matrices, strict=True):
            torch.testing.assert_close(gradient != 0, matrix != 0)
    assert not torch.allclose(stack(x, state)[0], hidden)


@each_kind
def test_activations_are_dropped_between_layers_only_in_training(kind):
    stack, (x, *_) = stack_of(kind, 2, dropout=0.5), inputs()
    first, second = stack.record(x), stack.record(x)
    torch.testing.assert_close(first[0].hidden, second[0].hidden)
    assert not torch.allclose(first[1].hidden, second[1].hidden)
    stack.eval()
    torch.testing.assert_close(stack.record(x)[1].hidden, stack.record(x)[1].hidden)


@each_kind
@few_and_many
def test_state_carried_over_two_halves_is_one_pass(kind, layers):
    net = TokenModel(11, stack_of(kind, layers), D, H).double().eval()
    tokens = torch.randint(11, (B, 2 * T))
    logits, state = net(tokens)
    first, carried = net(tokens[:, :T])
    second, last = net(tokens[:, T:], carried)
    torch.testing.assert_close(torch.cat((first, second), dim=1), logits, **EXACT)
    torch.testing.assert_close(last, state, **EXACT)
    assert {values.shape for values in last} == {(layers, B, H)}


@each_kind
def test_single_precision_and_autocast(kind):
    stack, x = kind(D, 64).eval(), torch.randn(B, 50, D)
    record = stack.record(x)[0]
    double = kind(D, 64).double()
    double.load_state_dict(stack.state_dict())
    torch.testing.assert_close(record.hidden, double(x.double())[0].float(), rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, state = stack(x)
    assert {values.dtype for values in (hidden, *state)} == {torch.float32}
    torch.testing.assert_close(hidden, record.hidden)
    hidden.sum().backward()
    assert stack.weight_hh_l0.grad.isfinite().all()


@each_kind
def test_what_is_refused(kind):
    with pytest.raises(ValueError, match="hidden_size=0"):
        kind(8, 0)
    with pytest.raises(ValueError, match="num_layers=0"):
        kind(8, 8, 0)
    with pytest.raises(ValueError, match="dropout"):
        kind(8, 8, dropout=1.5)
    with pytest.raises(ValueError, match="dropout"):
        kind(8, 8, weight_dropout=-0.5)
    with pytest.raises(ValueError, match="layer is 2; give 0 to 1"):
        CELLS[kind].from_stack(kind(8, 8, 2), 2)
    with pytest.raises(ValueError, match="no steps"):
        kind(8, 8)(torch.zeros(2, 0, 8))
    with pytest.raises(RuntimeError, match="once_differentiable"):
        x = torch.randn(1, 2, 8, requires_grad=True)
        (gradient,) = torch.autograd.grad(kind(8, 8)(x)[0].square().sum(), x, create_graph=True)
        gradient.sum().backward()


def test_all_three_start_alike():
    """The same seed gives the plain LSTM's inputs' weights, as far as the gates are the same."""
    stacks = []
    for kind in (LSTMStack, PeepholeLSTMStack):
        torch.manual_seed(1)
        stacks.append(kind(D, H))
    for name, value in stacks[0].state_dict().items():
        torch.testing.assert_close(stacks[1].state_dict()[name], value, **EXACT)


@pytest.mark.parametrize("name", ["peephole-lstm", "coupled-lstm"])
def test_a_variants_recipe_is_that_of_the_lstm_but_for_the_class(name):
    """Another class drops the options that a recipe builds on; what is compared must still be of one size."""
    ours, lstm = read(name).config, read("lstm").config
    assert ours["model"].pop("class_path") != lstm["model"].pop("class_path")
    assert ours == lstm
