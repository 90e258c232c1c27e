from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from dlmkit_gru.gates import Gates, recorded_gru
from dlmkit_gru.model import GRUCell, GRUStack, ResetFirstGRUCell
from dlmkit_gru.task import GRUProblem
from torch import Tensor, nn

from dlmkit import UserError

EXACT = {"rtol": 0.0, "atol": 1e-10}
B, T, D, H = 3, 7, 4, 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def inputs(layers: int = 1) -> tuple[Tensor, Tensor]:
    """x (B, T, D) and h0 (layers, B, H), none of them zero, both with gradients."""
    shapes = (B, T, D), (layers, B, H)
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def gru(layers: int = 1) -> nn.GRU:
    return nn.GRU(D, H, layers, batch_first=True, dtype=torch.float64)


def unrolled(cell: GRUCell, x: Tensor, h: Tensor) -> Gates:
    """The cell stepped over time, its gates stacked to (B, T, H)."""
    steps = []
    for x_t in x.unbind(1):
        h, gates = cell(x_t, h)
        steps.append(gates)
    return Gates(*(torch.stack(values, dim=1) for values in zip(*steps, strict=True)))


def cell_gradients(cell: GRUCell) -> list[Tensor]:
    """Gradients in the layout of nn.GRU: w_ih, w_hh, b_ih, b_hh; zero where the loss does not depend on a weight."""
    for parameter in cell.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    (r, r_bias), (z, z_bias), (w, b), (u, c) = (
        (linear.weight.grad, linear.bias.grad)
        for linear in (cell.reset, cell.update, cell.candidate, cell.candidate_recurrent)
    )
    by_weights = [torch.cat((r[:, H:], z[:, H:], w)), torch.cat((r[:, :H], z[:, :H], u))]
    return [*by_weights, torch.cat((r_bias, z_bias, b)), torch.cat((r_bias, z_bias, c))]


# -------------------------------------------------------------------------------------------- equations, both forms


def by_hand(cell: GRUCell, x: list[float], h: list[float], reset_first: bool, z_replaces: bool = False) -> list[float]:
    """The next state by scalars and loops.

    Args:
        cell: Whose weights.
        x: The input, D numbers.
        h: The state, H numbers.
        reset_first: Whether the reset gate acts before the recurrent matrix.
        z_replaces: Whether the update gate is the share that is replaced, as Chung et al. have it; else what is kept.
    """

    def inside(linear: nn.Linear, unit: int, values: list[float]) -> float:
        weights = linear.weight[unit].tolist()
        return sum(weights[j] * values[j] for j in range(len(values))) + linear.bias[unit].item()

    def sigma(a: float) -> float:
        return 1 / (1 + math.exp(-a))

    units = range(len(h))
    r = [sigma(inside(cell.reset, i, h + x)) for i in units]
    z = [sigma(inside(cell.update, i, h + x)) for i in units]
    after = []
    for i in units:
        if reset_first:
            recurrent = inside(cell.candidate_recurrent, i, [r[j] * h[j] for j in units])
        else:
            recurrent = r[i] * inside(cell.candidate_recurrent, i, h)
        candidate = math.tanh(inside(cell.candidate, i, x) + recurrent)
        kept = 1 - z[i] if z_replaces else z[i]
        after.append(kept * h[i] + (1 - kept) * candidate)
    return after


def test_the_equations_by_hand():
    cell = GRUCell(1, 1).double()
    for name, of_h, of_x, bias in (("reset", 0.5, -0.25, 1.0), ("update", 0.1, 0.8, 0.0)):
        getattr(cell, name).load_state_dict({"weight": torch.tensor([[of_h, of_x]]), "bias": torch.tensor([bias])})
    for name, weight, bias in (("candidate", 0.4, 0.2), ("candidate_recurrent", -0.6, 0.3)):
        getattr(cell, name).load_state_dict({"weight": torch.tensor([[weight]]), "bias": torch.tensor([bias])})
    x, h = (torch.tensor([[value]], dtype=torch.float64) for value in (2.0, 0.5))
    h, gates = cell(x, h)
    # inside reset: 0.5*0.5 - 0.25*2 + 1 = 0.75          σ(0.75) = 0.67917870
    # inside update: 0.1*0.5 + 0.8*2 + 0 = 1.65          σ(1.65) = 0.83889105
    # the old state's share: -0.6*0.5 + 0.3 = 0
    # inside candidate: 0.4*2 + 0.2 + 0.67917870*0 = 1   tanh(1) = 0.76159416
    # hidden: 0.83889105*0.5 + 0.16110895*0.76159416 = 0.54214516
    expected = Gates(0.67917870, 0.83889105, 0.76159416, 0.54214516)
    for name, value in expected._asdict().items():
        assert getattr(gates, name).item() == pytest.approx(value, abs=1e-7), name
    assert h.item() == gates.hidden.item()
    # reset first, the old state's share is -0.6*(0.67917870*0.5) + 0.3 = 0.09624639, and tanh(1.09624639) = 0.79932
    first = ResetFirstGRUCell(1, 1).double()
    first.load_state_dict(cell.state_dict())
    assert first(x, x / 4)[1].candidate.item() == pytest.approx(math.tanh(1.09624639), abs=1e-7)


@pytest.mark.parametrize(("kind", "reset_first"), [(GRUCell, False), (ResetFirstGRUCell, True)])
def test_both_forms_by_scalars_and_loops(kind, reset_first):
    cell, x, h = kind(D, H).double(), torch.randn(D).double(), torch.randn(H).double()
    state, by_loops = h, h.tolist()
    for _ in range(4):
        state = cell(x[None], state[None])[0][0]
        by_loops = by_hand(cell, x.tolist(), by_loops, reset_first)
    torch.testing.assert_close(state.tolist(), by_loops, **EXACT)


@pytest.mark.parametrize(("kind", "reset_first"), [(GRUCell, False), (ResetFirstGRUCell, True)])
def test_negating_the_update_gate_gives_the_other_sense_of_z(kind, reset_first):
    """z that is replaced instead of kept, as in Chung et al.: the same net with other weights."""
    cell, x, h = kind(D, H).double(), torch.randn(D).double(), torch.randn(H).double()
    chung = by_hand(cell, x.tolist(), h.tolist(), reset_first, z_replaces=True)
    with torch.no_grad():
        cell.update.weight.neg_()
        cell.update.bias.neg_()
    torch.testing.assert_close(cell(x[None], h[None])[0][0].tolist(), chung, **EXACT)


def both_forms(u: Tensor, c: Tensor, r: Tensor) -> tuple[GRUCell, ResetFirstGRUCell]:
    """Both cells with equal weights, given U and c, and reset gates that are r whatever comes in."""
    cells = GRUCell(D, len(r)).double(), ResetFirstGRUCell(D, len(r)).double()
    cells[1].load_state_dict(cells[0].state_dict())
    for cell in cells:
        cell.candidate_recurrent.load_state_dict({"weight": u, "bias": c})
        cell.reset.load_state_dict({"weight": torch.zeros_like(cell.reset.weight), "bias": torch.logit(r)})
    return cells


FULL = torch.arange(1.0, 17).reshape(4, 4).sin()
BLOCKS = torch.block_diag(FULL[:2, :2], FULL[2:, 2:])
UNEQUAL, EQUAL, PAIRS = torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.full((4,), 0.3), torch.tensor([0.2, 0.2, 0.7, 0.7])
ZERO, SOME, OPEN = torch.zeros(4), torch.tensor([0.5, -0.5, 1.0, 2.0]), torch.ones(4)
BRIDGE = torch.zeros(4, 4)
BRIDGE[0, 3] = 1.0
CASES = {
    "any U, unequal r": (FULL, ZERO, UNEQUAL, False),
    "diagonal U": (torch.diag(FULL.diag()), ZERO, UNEQUAL, True),
    "any U, equal r": (FULL, ZERO, EQUAL, True),
    "blocks of U with equal r": (BLOCKS, ZERO, PAIRS, True),
    "blocks of U with unequal r": (BLOCKS, ZERO, UNEQUAL, False),
    "any U, r equal in pairs that it connects": (FULL, ZERO, PAIRS, False),
    "one connection between the blocks": (BLOCKS + BRIDGE, ZERO, PAIRS, False),
    "diagonal U and a bias": (torch.diag(FULL.diag()), SOME, UNEQUAL, False),
    "any U and a bias, r = 1": (FULL, SOME, OPEN, True),
    "a bias where r = 1 alone": (BLOCKS, torch.tensor([0, 0, 1.0, 2.0]), torch.tensor([0.2, 0.2, 1.0, 1.0]), True),
}


@pytest.mark.parametrize(("u", "c", "r", "equal"), list(CASES.values()), ids=CASES)
def test_when_both_forms_are_the_same_net(u, c, r, equal):
    u, c, r = u.double(), c.double(), r.double()
    commute = torch.equal(u * r, r[:, None] * u)  # U diag(r) = diag(r) U
    assert (commute and not ((1 - r) * c).any()) == equal
    after, before = both_forms(u, c, r)
    x, h = torch.randn(50, D).double(), torch.randn(50, 4).double()
    difference = (after(x, h)[0] - before(x, h)[0]).abs().max().item()
    assert difference < 1e-12 if equal else difference > 1e-3


def test_how_far_both_forms_differ():
    after = GRUCell(D, H).double()
    before = ResetFirstGRUCell(D, H).double()
    before.load_state_dict(after.state_dict())
    x, h = torch.randn(B, D).double(), torch.randn(B, H).double()
    (_, one), (_, other) = after(x, h), before(x, h)
    torch.testing.assert_close(one[:2], other[:2], **EXACT)  # the gates are the same
    u, c, r = after.candidate_recurrent.weight, after.candidate_recurrent.bias, one.reset
    for b in range(B):
        for i in range(H):
            found = torch.atanh(other.candidate[b, i]) - torch.atanh(one.candidate[b, i])
            wanted = sum(u[i, j] * (r[b, j] - r[b, i]) * h[b, j] for j in range(H)) + (1 - r[b, i]) * c[i]
            torch.testing.assert_close(found, wanted, **EXACT)


# ------------------------------------------------------------------------------------------------ against nn.GRU


def test_cell_stepped_over_time_is_nn_gru():
    theirs, (x, h0) = gru(), inputs()
    ours = GRUCell.from_torch(theirs)
    hidden, h = theirs(x, h0)
    gates = unrolled(ours, x, h0[0])
    torch.testing.assert_close(gates.hidden, hidden, **EXACT)
    torch.testing.assert_close(gates.hidden[:, -1], h[0], **EXACT)
    weight = torch.randn_like(hidden)
    expected = torch.autograd.grad((hidden * weight).sum() + h.sum(), (x, h0, *theirs.parameters()))
    (gates.hidden * weight).sum().add(gates.hidden[:, -1].sum()).backward()
    for found, wanted in zip((x.grad, h0.grad, *cell_gradients(ours)), expected, strict=True):
        torch.testing.assert_close(found, wanted, **EXACT)


def test_the_other_form_is_not_nn_gru():
    theirs, (x, h0) = gru(), inputs()
    other = unrolled(ResetFirstGRUCell.from_torch(theirs), x, h0[0])
    assert (other.hidden - theirs(x, h0)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("layer", [0, 1])
def test_cell_takes_any_layer(layer):
    theirs = gru(2)
    cell = GRUCell.from_torch(theirs, layer)
    w_ih, w_hh, b_ih, b_hh = theirs.all_weights[layer]
    torch.testing.assert_close(cell.update.weight, torch.cat((w_hh, w_ih), 1)[H : 2 * H])
    torch.testing.assert_close(cell.reset.bias, (b_ih + b_hh)[:H])
    torch.testing.assert_close(cell.candidate_recurrent.bias, b_hh[2 * H :])
    assert cell.candidate.weight.data_ptr() != w_ih[2 * H :].data_ptr()


def test_cell_refuses_other_equations():
    with pytest.raises(ValueError, match="other equations"):
        GRUCell.from_torch(nn.GRU(D, H, bidirectional=True))
    with pytest.raises(ValueError, match="other equations"):
        GRUCell.from_torch(nn.GRU(D, H, bias=False))
    with pytest.raises(ValueError, match="layer is 2; give 0 to 1"):
        GRUCell.from_torch(gru(2), 2)


# ------------------------------------------------------------------------------------------------ the recorded path


@pytest.mark.parametrize("fields", [*((name,) for name in Gates._fields), Gates._fields], ids="-".join)
def test_gradient_of_each_output_is_autograds_through_the_cell(fields):
    theirs, (x, h0) = gru(), inputs()
    cell = GRUCell.from_torch(theirs)
    plain, recorded = unrolled(cell, x, h0[0]), recorded_gru(x, h0[0], *theirs.all_weights[0])
    torch.testing.assert_close(recorded, plain, **EXACT)
    weights = {name: torch.randn(B, T, H, dtype=torch.float64) for name in fields}
    losses = [sum((getattr(gates, name) * weights[name]).sum() for name in fields) for gates in (recorded, plain)]
    found = torch.autograd.grad(losses[0], (x, h0, *theirs.parameters()))
    losses[1].backward()
    for one, other in zip(found, (x.grad, h0.grad, *cell_gradients(cell)), strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_gradient_where_only_some_arguments_need_one():
    theirs, (x, h0) = gru(), inputs()
    w_ih, w_hh, b_ih, b_hh = (parameter.detach() for parameter in theirs.all_weights[0])
    (found,) = torch.autograd.grad(recorded_gru(x.detach(), h0[0], w_ih, w_hh, b_ih, b_hh).hidden.square().sum(), h0)
    (expected,) = torch.autograd.grad(theirs(x, h0)[0].square().sum(), h0)
    torch.testing.assert_close(found, expected, **EXACT)


def test_gradcheck():
    sizes = (2, 3, 2), (2, 2), (6, 2), (6, 2), (6,), (6,)
    arguments = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    assert torch.autograd.gradcheck(recorded_gru, arguments)


def test_second_derivatives_are_refused():
    x, h0 = inputs()
    hidden = recorded_gru(x, h0[0], *gru().all_weights[0]).hidden
    (gradient,) = torch.autograd.grad(hidden.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("layers", [1, 2])
def test_recorded_path_is_the_forward_pass(layers):
    net, (x, h0) = GRUStack(D, H, layers, dropout=0.3).double().eval(), inputs(layers)
    hidden, (h,) = net(x, (h0,))
    records = net.record(x, (h0,))
    assert len(records) == layers
    assert {values.shape for record in records for values in record} == {(B, T, H)}
    torch.testing.assert_close(records[-1].hidden, hidden, **EXACT)
    torch.testing.assert_close(torch.stack([record.hidden[:, -1] for record in records]), h, **EXACT)
    wanted = (x, h0, *net.parameters())
    expected = torch.autograd.grad(hidden.square().sum(), wanted)
    found = torch.autograd.grad(records[-1].hidden.square().sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_recorded_path_drops_between_layers_only_in_training():
    net, (x, _) = GRUStack(D, H, 2, dropout=0.5).double(), inputs()
    first, second = net.record(x), net.record(x)
    torch.testing.assert_close(first[0].hidden, second[0].hidden)
    assert not torch.allclose(first[1].hidden, second[1].hidden)
    net.eval()
    torch.testing.assert_close(net.record(x)[1].hidden, net.record(x)[1].hidden)


def test_single_precision_and_autocast():
    net, x = GRUStack(16, 64), torch.randn(B, 50, 16)
    record = net.record(x)[0]
    torch.testing.assert_close(record.hidden, net(x)[0], rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = net.record(x, (torch.zeros(1, B, 64, dtype=torch.bfloat16),))[0]
    assert under_autocast.hidden.dtype == torch.float32
    torch.testing.assert_close(under_autocast, record)
    under_autocast.hidden.sum().backward()
    assert net.weight_hh_l0.grad.isfinite().all()


# ------------------------------------------------------------------------------------------------ the layers


@pytest.mark.parametrize("update_bias", [0.0, 2.5])
def test_initialisation(update_bias):
    net = GRUStack(D, 16, 2, update_bias=update_bias)
    for _, w_hh, b_ih, b_hh in net.all_weights:
        for gate in w_hh.chunk(3):
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0.0, atol=1e-5)
        r, z, candidate = (b_ih + b_hh).chunk(3)
        assert z.eq(update_bias).all()
        assert not torch.cat((r, candidate)).any()


def test_gates_that_start_with_memories_of_every_length():
    torch.manual_seed(0)
    stack = GRUStack(D, 4000, 1, orthogonal=False)
    stack.chrono_biases(101)
    r, z, candidate = (stack.bias_ih_l0 + stack.bias_hh_l0).chunk(3)
    steps = z.double().exp()  # uniform from 1 to 100
    assert 1 <= steps.min() < 1.2 and 99.8 < steps.max() <= 100.001
    assert steps.mean().item() == pytest.approx(50.5, abs=2) and (steps < 25.75).double().mean() < 0.27
    assert not torch.cat((r, candidate)).any()
    with pytest.raises(ValueError, match="is 2; give at least 3"):
        stack.chrono_biases(2)


def test_the_longest_memory_of_a_problem_is_an_option():
    net = GRUProblem(D, 3, "last", "class", hidden_size=8, chrono=50)
    assert len(net.recurrence.bias_ih_l0.chunk(3)[1].unique()) == 8
    with pytest.raises(UserError, match="longest time to remember is 1"):
        GRUProblem(D, 3, "last", "class", chrono=1)


def test_initialisation_as_torch_has_it():
    torch.manual_seed(5)
    theirs = nn.GRU(D, 16)
    torch.manual_seed(5)
    torch.testing.assert_close(GRUStack(D, 16, orthogonal=False).weight_hh_l0, theirs.weight_hh_l0)


@pytest.mark.parametrize("bias", [1.0, 3.0])
def test_memory_lasts_as_long_as_the_update_bias_says(bias):
    """With every weight zero the state decays to 1/e within about 1 + e^b steps, less half a step."""
    net = GRUStack(1, 1, update_bias=bias, orthogonal=False).double()
    for name, parameter in net.named_parameters():
        if name.startswith("weight"):
            nn.init.zeros_(parameter)
    hidden = net(torch.zeros(1, 100, 1).double(), (torch.ones(1, 1, 1).double(),))[0].flatten()
    steps = int((hidden > math.exp(-1)).sum())
    assert abs(steps - (1 + math.exp(bias))) < 2


@pytest.mark.parametrize("layers", [1, 2])
def test_state_carried_over_two_halves_is_one_pass(layers):
    net, x = GRUStack(D, H, layers).double().eval(), torch.randn(B, 2 * T, D).double()
    hidden, state = net(x)
    first, carried = net(x[:, :T])
    second, last = net(x[:, T:], carried)
    torch.testing.assert_close(torch.cat((first, second), dim=1), hidden, **EXACT)
    torch.testing.assert_close(last, state, **EXACT)
    assert [values.shape for values in last] == [(layers, B, H)]
    whole, half = net.record(x)[-1], net.record(x[:, T:], carried)[-1]
    torch.testing.assert_close(half.hidden, whole.hidden[:, T:], **EXACT)


def test_sizes_that_are_refused():
    with pytest.raises(ValueError, match="hidden_size"):
        GRUStack(D, 0)
    with pytest.raises(ValueError, match="num_layers"):
        GRUStack(D, 8, 0)
    with pytest.raises(ValueError, match="dropout"):
        GRUStack(D, 8, dropout=1.5)


def test_importing_the_package_imports_no_torch():
    code = "import sys, dlmkit_gru; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
