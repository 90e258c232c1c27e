from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from dlmkit_wavenet.model import CausalStack, GatedLayer, WaveNetModel, dilations
from torch import Tensor

EXACT = {"rtol": 0.0, "atol": 1e-10}
SMALL = {"residual_channels": 3, "dilation_channels": 4, "skip_channels": 5, "end_channels": 6, "levels": 16}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(layers: int = 3, stacks: int = 2, **options: int) -> WaveNetModel:
    return WaveNetModel(layers, stacks, **SMALL, **options).double().eval()


def slopes(net: WaveNetModel, codes: Tensor, scored: int, output: int) -> Tensor:
    """How much each sample of the input moves one output, (T,)."""
    for open_relu in (net.skip, net.end):
        open_relu.bias.data += 3  # so that no unit is dead
    embedded = net.embedding(codes).detach().requires_grad_()
    net.embedding.register_forward_hook(lambda *_: embedded)
    net(codes, scored=scored)[0, :, output].square().sum().backward()
    return embedded.grad[0].abs().sum(dim=1)


def test_a_gated_layer_by_loops():
    """The paper's equation 2 and figure 4, scalar by scalar."""
    layer, x = GatedLayer(2, 3, 3, 4).double(), torch.randn(1, 2, 20, dtype=torch.float64)
    condition = torch.randn(1, 6, 1, dtype=torch.float64)
    y, z = layer(x, condition)
    weight, bias = layer.conv.weight, layer.conv.bias
    assert y.shape == (1, 2, 12)
    for t in range(8, 20):
        unit = []
        for channel in range(3):
            before = []
            for row in (channel, 3 + channel):
                total = bias[row] + condition[0, row, 0]
                for tap in range(3):
                    for c in range(2):
                        total = total + weight[row, c, tap] * x[0, c, t - 4 * (2 - tap)]
                before.append(total)
            unit.append(torch.tanh(before[0]) / (1 + torch.exp(-before[1])))
            torch.testing.assert_close(z[0, channel, t - 8], unit[-1], **EXACT)
        for c in range(2):
            added = layer.residual.bias[c] + sum(layer.residual.weight[c, d, 0] * unit[d] for d in range(3))
            torch.testing.assert_close(y[0, c, t - 8], x[0, c, t] + added, **EXACT)


def plain(net: WaveNetModel, codes: Tensor, h: list[Tensor]) -> Tensor:
    """The whole net as the paper draws it: one-hot vectors, a skip convolution for each layer, everything padded."""
    one_hot = F.one_hot(codes, net.levels).double().transpose(1, 2)
    x = F.conv1d(one_hot, net.embedding.weight.t()[..., None])
    total = torch.zeros(1, dtype=torch.float64)
    width = net.width
    for number, (layer, span) in enumerate(zip(net.layers, dilations(3, 2), strict=True)):
        padded = F.pad(x, (span, 0))
        w, b = layer.conv.weight, layer.conv.bias
        filters = F.conv1d(padded, w[:width], b[:width], dilation=span) + h[number][:, :width]
        gates = F.conv1d(padded, w[width:], b[width:], dilation=span) + h[number][:, width:]
        z = filters.tanh() * gates.sigmoid()
        total = total + F.conv1d(z, net.skip.weight[:, number * width : (number + 1) * width])
        x = x if layer.residual is None else x + F.conv1d(z, layer.residual.weight, layer.residual.bias)
    out = (total + net.skip.bias[:, None]).relu()
    out = F.conv1d(out, net.end.weight, net.end.bias).relu()
    return F.conv1d(out, net.readout.weight, net.readout.bias)


@pytest.mark.parametrize("kinds", [(), ("classes",), ("classes", "speakers", "local_classes")], ids=len)
def test_the_net_is_the_plain_one(kinds):
    net, codes = small(**dict.fromkeys(kinds, 3)), torch.randint(16, (2, 30))
    given = {"classes": torch.tensor([2, 0]), "speakers": torch.tensor([1, 1])}
    given = {name: value if name in kinds else None for name, value in given.items()}
    local = torch.randint(3, (2, 30)) if "local_classes" in kinds else None
    h = [torch.zeros(2, 8, 30, dtype=torch.float64) for _ in range(6)]
    for number in range(6):
        rows = slice(8 * number, 8 * (number + 1))
        for name in ("classes", "speakers"):
            if name in kinds:
                h[number] += net.conditions[name].weight[given[name], rows][..., None]
        if local is not None:
            h[number] += net.conditions["local"].weight[local][..., rows].transpose(1, 2)
    found = net(codes, given["classes"], given["speakers"], local)
    assert found.shape == (2, 16, 30 - net.receptive_field + 1)
    torch.testing.assert_close(found, plain(net, codes, h)[..., net.receptive_field - 1 :], **EXACT)
    last = net(codes, given["classes"], given["speakers"], local, scored=4)
    torch.testing.assert_close(last, found[..., -4:], **EXACT)


@pytest.mark.parametrize(("layers", "stacks", "kernel"), [(3, 2, 2), (4, 1, 3), (1, 1, 2)])
def test_causality_and_receptive_field_by_gradient(layers, stacks, kernel):
    net = small(layers, stacks, kernel_size=kernel)
    field = 1 + (kernel - 1) * (2**layers - 1) * stacks
    assert net.receptive_field == field
    for output in (0, 4):
        net = small(layers, stacks, kernel_size=kernel)
        seen = slopes(net, torch.randint(16, (1, field + 4)), 5, output)
        assert torch.equal(seen.nonzero().ravel(), torch.arange(output, output + field))


def test_a_condition_is_heard_at_its_own_sample():
    net, codes = small(local_classes=3), torch.randint(16, (1, 30))
    local = torch.zeros(1, 30, dtype=torch.int64)
    before = net(codes, local=local)
    local[0, 25] = 1
    changed = (net(codes, local=local) != before).any(dim=1)[0]
    assert torch.equal(changed.nonzero().ravel(), torch.arange(25, 30) - net.receptive_field + 1)


def test_the_size_is_that_of_the_usual_forty_layers():
    net = WaveNetModel()
    assert net.receptive_field == 4093
    assert sum(p.numel() for p in net.parameters()) == 675_296


def test_gradients_reach_everything():
    net = small(classes=2, speakers=2, local_classes=2)
    ones = torch.ones(1, dtype=torch.int64)
    net(torch.randint(16, (1, 40)), ones, ones, torch.randint(2, (1, 40))).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_what_is_refused():
    with pytest.raises(ValueError, match="hold 0 with their whole past, not 1; give at least 15"):
        small()(torch.zeros(1, 14, dtype=torch.int64), scored=1)
    with pytest.raises(ValueError, match="the net has speakers"):
        small(speakers=2)(torch.zeros(1, 20, dtype=torch.int64))
    with pytest.raises(ValueError, match="local classes"):
        small(local_classes=2)(torch.zeros(1, 20, dtype=torch.int64))
    with pytest.raises(ValueError, match="kernel_size 1"):
        WaveNetModel(kernel_size=1)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 33, 40])
def test_the_last_step_of_a_stack_is_the_tree(length):
    stack = CausalStack(2, 4, 5, 3).double()
    x = torch.randn(2, length, 2, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(stack(x)[:, -1].square().sum(), x)
    (tree,) = torch.autograd.grad(stack.last(x).square().sum(), x)
    torch.testing.assert_close(stack.last(x), stack(x)[:, -1], **EXACT)
    torch.testing.assert_close(tree, whole, **EXACT)


def test_a_stack_is_causal_and_as_long_as_its_input():
    stack = CausalStack(2, 3, 4, 3).double()
    x = torch.randn(1, 30, 2, dtype=torch.float64, requires_grad=True)
    out = stack(x)
    assert out.shape == (1, 30, 4)
    out[0, 20].square().sum().backward()
    assert torch.equal(x.grad[0].any(dim=1).nonzero().ravel(), torch.arange(20 - stack.receptive_field + 1, 21))


def test_dropout_only_in_training():
    stack, x = CausalStack(2, 3, 4, 3, dropout=0.5), torch.randn(1, 30, 2)
    assert not torch.equal(stack(x), stack(x))
    stack.eval()
    torch.testing.assert_close(stack(x)[:, -1], stack.last(x))
