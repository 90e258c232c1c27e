from __future__ import annotations

import pytest
import torch
from dlmkit_wavenet.generate import Conditions, Eager, _with_double, choose, generate, prime
from dlmkit_wavenet.model import WaveNetModel
from torch import Tensor

LENGTH = 80


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def engines():
    numba = pytest.importorskip("numba", reason="the compiled kernel needs numba")
    assert numba
    from dlmkit_wavenet.kernel import Compiled

    return Eager, Compiled


def made(kernel_size: int = 2, channels: int = 20, levels: int = 256, **kinds: int) -> WaveNetModel:
    """A net whose sizes are no multiples of the kernel's tiles, with weights large enough for logits that matter."""
    net = WaveNetModel(4, 2, channels, channels + 4, 40, 50, kernel_size, levels=levels, **kinds)
    for parameter in net.parameters():
        parameter.data *= 2
    return net.eval()


def conditions(net: WaveNetModel, n: int, length: int) -> Conditions:
    kinds = net.conditions
    return Conditions(
        torch.arange(n) % 3 if "classes" in kinds else None,
        torch.arange(n) % 2 if "speakers" in kinds else None,
        torch.randint(5, (n, length)) if "local" in kinds else None,
    )


NETS = {
    "plain": {},
    "three taps": {"kernel_size": 3},
    "whole tiles": {"channels": 32},
    "few levels": {"levels": 50},
    "conditions": {"classes": 3, "speakers": 2, "local_classes": 5},
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "kernel"])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_cached_logits_are_those_of_the_whole_net(options, compiled):
    """Over several times the longest ring, and the receptive field."""
    net, n = made(**options), 3
    field, levels = net.receptive_field, net.levels
    codes = torch.randint(levels, (n, 10 + LENGTH))
    given = conditions(net, n, LENGTH)
    engine = (engines()[1] if compiled else Eager)(
        net, prime(net, codes[:, :10], given, LENGTH), torch.rand(LENGTH, n, dtype=torch.float64)
    )
    found = []
    for t in range(LENGTH):
        found.append(engine.logits())
        engine.time = engine.time if compiled else engine.time + 1
        engine.token[:] = codes[:, 10 + t].numpy() if compiled else codes[:, 10 + t]
    silence = torch.full((n, field - 10), levels // 2)
    whole = torch.cat((silence, codes[:, :-1]), dim=1)
    local = None if given.local is None else torch.cat((torch.zeros(n, field - 1).long(), given.local), dim=1)
    expected = net(whole, given.condition, given.speaker, local)
    assert expected.std() > 0.05
    torch.testing.assert_close(torch.stack(found, dim=2), expected.detach(), rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.7, 0), (1.3, 10), (1.0, 1), (0.0, 0)])
def test_both_ways_give_the_same_sounds(temperature, top_k):
    engines()
    net = made(classes=3, speakers=2, local_classes=5)
    options = {"conditions": conditions(net, 2, 200), "n": 2, "temperature": temperature, "top_k": top_k}
    one, other = (generate(net, 200, fast=fast, **options) for fast in (False, True))
    assert one.shape == (2, 200)
    assert torch.equal(one, other)


def naive(net: WaveNetModel, length: int, uniforms: Tensor) -> Tensor:
    """The window anew for each sample."""
    codes = torch.full((1, net.receptive_field), net.levels // 2)
    for t in range(length):
        logits = net(codes[:, -net.receptive_field :])[..., -1]
        codes = torch.cat((codes, choose(logits, uniforms[t])[:, None]), dim=1)
    return codes[:, -length:]


@torch.no_grad()
def test_generation_is_that_of_the_naive_window():
    net = made()
    uniforms = torch.rand(60, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert torch.equal(generate(net, 60, seed=5, fast=False), naive(net, 60, uniforms))


def test_draws_follow_the_softmax():
    logits = torch.tensor([[0.0, 1.0, -30.0, 2.0]])
    uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    many = logits.expand(10_000, -1)
    shares = torch.bincount(choose(many, uniforms, 0.8), minlength=4) / 10_000
    torch.testing.assert_close(shares, torch.softmax(logits[0] / 0.8, dim=0), rtol=0.0, atol=2e-4)
    assert choose(many, uniforms, top_k=2).unique().tolist() == [1, 3]
    assert choose(many, uniforms, temperature=0.0).unique().tolist() == [3]
    assert choose(torch.zeros(1, 4), torch.tensor([0.0], dtype=torch.float64)).item() == 0


@pytest.mark.parametrize("fast", [False, True], ids=["eager", "kernel"])
def test_progress_prompt_and_seed(fast):
    if fast:
        engines()
    net, parts = made(), []
    codes = generate(net, 2100, n=2, fast=fast, progress=parts.append) if fast else None
    if codes is not None:
        assert [part.shape[1] for part in parts] == [1000, 1000, 100]
        assert torch.equal(torch.cat(parts, dim=1), codes)
    prompt = torch.randint(256, (1, 300))
    first = generate(net, 50, prompt, fast=fast)
    assert torch.equal(first, generate(net, 50, prompt, fast=fast))
    assert not torch.equal(first, generate(net, 50, prompt, fast=fast, seed=2))
    whole = generate(net, 20, torch.cat((prompt, first[:, :30]), dim=1), temperature=0, fast=fast)
    assert whole.shape == (1, 20)


def test_going_on_is_not_stopping():
    """Half of a sound, taken as the prompt of the rest, ends as the whole one."""
    net = made()
    whole = generate(net, 100, temperature=0, fast=False)
    half = generate(net, 50, torch.cat((torch.full((1, 1), 128), whole[:, :50]), 1), temperature=0, fast=False)
    assert torch.equal(half, whole[:, 50:])


def test_a_local_condition_that_ends_goes_on():
    net = made(local_classes=5)
    short, long = (Conditions(local=torch.full((1, steps), 2)) for steps in (5, 60))
    assert torch.equal(generate(net, 60, conditions=short), generate(net, 60, conditions=long))


def test_a_net_where_there_is_no_float64_draws_on_the_processor(monkeypatch):
    net, prompt = made(classes=3, speakers=2, local_classes=5), torch.randint(256, (2, 10))
    given = Conditions(torch.tensor([0, 2]), torch.tensor([1, 0]), torch.randint(5, (2, 30)))
    here = generate(net, 30, prompt, given, fast=False)
    assert _with_double(torch.device("mps")) == torch.device("cpu")
    assert _with_double(torch.device("cuda", 1)) == torch.device("cuda", 1)
    monkeypatch.setattr("dlmkit_wavenet.generate._with_double", lambda device: torch.device("cpu", 0))  # "elsewhere"
    assert torch.equal(generate(net, 30, prompt, given, fast=False), here)


def test_nothing_and_what_is_refused():
    assert generate(made(), 0, n=2).shape == (2, 0)
    for wrong in ({"temperature": -1.0}, {"top_k": -1}):
        with pytest.raises(ValueError, match="negative"):
            generate(made(), 5, **wrong)
    with pytest.raises(ValueError, match="the net has classes"):
        generate(made(classes=3), 5)


def test_cost_does_not_depend_on_the_receptive_field():
    """What a step touches is as large with a field of 8,191 samples as with one of 13."""
    near, far = (WaveNetModel(layers, stacks, 8, 8, 8, 8).eval() for layers, stacks in ((2, 6), (12, 1)))
    assert far.receptive_field > 300 * near.receptive_field // 2
    counts = []
    for net in (near, far):
        start = prime(net, torch.full((1, 1), 128), Conditions(), 5)
        engine = Eager(net, start, torch.rand(5, 1, dtype=torch.float64))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as profile:
            engine.run(3)
        counts.append(sum(event.flops for event in profile.key_averages()))
    assert counts[0] == counts[1] > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a graph is captured on a CUDA GPU")
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_a_captured_graph_gives_the_tokens_of_plain_steps(options):
    net, n = made(**options).cuda(), 3
    given = conditions(net, n, LENGTH)
    given = Conditions(*(None if t is None else t.cuda() for t in (given.condition, given.speaker, given.local)))
    uniforms = torch.rand(LENGTH, n, dtype=torch.float64, device="cuda")
    engines = [
        Eager(net, prime(net, torch.full((n, 1), net.levels // 2, device="cuda"), given, LENGTH), uniforms)
        for _ in range(2)
    ]
    captured = torch.cat([engines[0].run(30), engines[0].run(LENGTH - 30)])
    assert engines[0].graph is not None
    for _ in range(LENGTH):
        engines[1].step()
    assert torch.equal(captured, engines[1].codes)
