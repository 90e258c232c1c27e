from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from dlmkit_wavenet.figures import receptive_field_figure, sound_figure
from dlmkit_wavenet.problem import WaveNetProblem
from dlmkit_wavenet.task import WaveNet, _told

from dlmkit import Audio, UserError
from dlmkit.cli import main

SMALL = {"layers": 3, "stacks": 1, "residual_channels": 8, "dilation_channels": 8, "skip_channels": 8}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def task(**options: int) -> WaveNet:
    return WaveNet(8000, **SMALL, end_channels=8, **options).eval()


def batch(net: WaveNet, scored: int = 5) -> dict[str, torch.Tensor]:
    field = net.net.receptive_field
    return {"input": torch.randint(256, (2, field + scored - 1)), "target": torch.randint(256, (2, scored))}


def test_loss_is_the_mean_over_what_is_scored():
    net = task()
    given = batch(net)
    given["target"][0, 3:] = -100
    loss, metrics = net.loss(given)
    p = torch.softmax(net.net(given["input"]), dim=1)
    nats = [-p[b, given["target"][b, t], t].log() for b in range(2) for t in range(5) if given["target"][b, t] >= 0]
    assert len(nats) == net.count(given) == 8
    torch.testing.assert_close(loss, torch.stack(nats).mean())
    torch.testing.assert_close(metrics["bits_per_sample"], loss / math.log(2))


def test_the_gradients_way_back_ends_with_the_receptive_field():
    net = task()
    given = batch(net, scored=30)
    loss, followed = net.way_back(given)
    torch.testing.assert_close(loss, F.cross_entropy(net(given)[..., -1], given["target"][:, -1], reduction="sum"))
    (gradient,) = torch.autograd.grad(loss, followed)
    arrives = gradient.abs().sum((0, 2)) > 0
    assert len(arrives) == net.net.receptive_field + 29
    assert not arrives[:29].any()
    assert arrives[29:].all()


def test_an_untrained_net_knows_next_to_nothing():
    assert task().loss(batch(task()))[1]["bits_per_sample"].item() == pytest.approx(8, abs=0.2)


def test_sample_gives_sound(tmp_path, capsys):
    stream = tmp_path / "stream.wav"
    sounds = task().sample(n=2, seconds=0.2, stream=str(stream))
    assert [type(sound) for sound in sounds] == [Audio, Audio]
    assert sounds[0].wave.shape == (1600,)
    assert sounds[0].rate == 8000
    assert not np.array_equal(sounds[0].wave, sounds[1].wave)
    streamed, rate = soundfile.read(stream)
    assert rate == 8000
    np.testing.assert_allclose(streamed, sounds[0].wave, atol=1e-4)
    told = capsys.readouterr()
    assert not told.out
    assert "0.4 s of sound" in told.err
    assert "seconds of sound a second" in told.err


def test_a_sound_is_in_its_file_while_it_is_made(tmp_path, monkeypatch):
    """What is stopped half-way can be played so far."""
    stream, net = tmp_path / "stream.wav", task()
    seen: list[int] = []

    def stopped(*args, progress, **options):
        codes = torch.randint(256, (1, 1000))
        for _ in range(3):
            progress(codes)
            seen.append(soundfile.info(stream).frames)
        raise KeyboardInterrupt

    monkeypatch.setattr("dlmkit_wavenet.task.generate", stopped)
    with pytest.raises(KeyboardInterrupt):
        net.sample(seconds=1, stream=str(stream))
    assert seen == [1000, 2000, 3000]
    assert soundfile.info(stream).frames == 3000


def test_the_speed_is_told_without_the_first_stretch(monkeypatch, capsys):
    """The first one loads or compiles the kernel."""
    now = iter([0.0, 60.0, 61.0, 62.0])
    monkeypatch.setattr("dlmkit_wavenet.task.time.perf_counter", lambda: next(now, 62.0))
    with _told(3000, 1000, slow=False) as tell:
        for _ in range(3):
            tell(1000)
    assert "3.0 s of sound in 62.0 s; 1.00 seconds of sound a second once it runs" in capsys.readouterr().err


def test_a_net_that_looks_further_back_than_the_clip_is_refused(capsys):
    assert main(["check", "wavenet", "--data.context=100"]) == 2
    said = capsys.readouterr().err
    assert "samples back, and the data gives it 100; give data.context=" in said
    assert len(said.strip().splitlines()) == 1


def test_sample_goes_on_from_a_file(tmp_path):
    path = tmp_path / "heard.wav"
    soundfile.write(path, np.sin(np.arange(400) / 5) * 0.5, 8000)
    net = task()
    for parameter in net.parameters():
        parameter.data *= 4  # so that what was heard matters
    (on,), (silence,) = net.sample(str(path), seconds=0.05), net.sample(seconds=0.05)
    assert not np.array_equal(on.wave, silence.wave)


@pytest.mark.parametrize(
    ("rate", "channels", "fault"), [(16000, 1, "16,000 samples per second"), (8000, 2, "channels")]
)
def test_a_prompt_that_does_not_fit_is_refused(tmp_path, rate, channels, fault):
    path = tmp_path / "heard.wav"
    soundfile.write(path, np.zeros((400, channels)), rate)
    with pytest.raises(UserError, match=fault):
        task().sample(str(path))
    path.write_text("no sound")
    with pytest.raises(UserError, match="cannot be read"):
        task().sample(str(path))


@pytest.mark.parametrize("wrong", [{"seconds": -1.0}, {"temperature": -0.1}, {"top_k": -2}, {"seconds": math.inf}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="give at least 0"):
        task().sample(**wrong)


def test_conditions_by_name_by_number_and_by_turns():
    net = task(classes=3, speakers=2, local_classes=4)
    net.names = {"class": ["one", "two", "three"], "local": ["rest", "C4", "E4", "G4"]}
    given = net.conditions(2, "two", "1", "C4, 3,rest", length=6)
    assert given.condition.tolist() == [1, 1]
    assert given.speaker.tolist() == [1, 1]
    assert given.local.tolist() == [[1, 1, 3, 3, 0, 0]] * 2
    assert net.conditions(4).condition.tolist() == [0, 1, 2, 0]
    assert net.sample(label="three", local="G4", seconds=0.01)
    with pytest.raises(UserError, match="there is no class 'four'"):
        net.conditions(1, "four")
    with pytest.raises(UserError, match="there is no speaker '2'"):
        net.conditions(1, speaker="2")
    with pytest.raises(UserError, match="trained without speaker"):
        task().conditions(1, speaker="0")


def test_a_checkpoint_brings_the_conditions():
    net, checkpoint = task(local_classes=4), {}
    net.names, net.examples = {"local": ["rest", "C4"]}, {"local": torch.tensor([[1, 2, 3]], dtype=torch.int16)}
    net.on_save_checkpoint(checkpoint)
    other = task(local_classes=4)
    other.on_load_checkpoint(checkpoint)
    assert other.conditions(2).local.tolist() == [[1, 2, 3]] * 2


def test_a_class_that_is_asked_for_takes_after_examples_of_its_own():
    net = task(classes=3, local_classes=4)
    net.examples = {
        "condition": torch.tensor([0, 1, 2, 1], dtype=torch.int16),
        "local": torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]], dtype=torch.int16),
    }
    given = net.conditions(3, "1")
    assert given.condition.tolist() == [1, 1, 1]
    assert given.local.tolist() == [[1, 1], [3, 3], [1, 1]]
    by_turns = net.conditions(5)
    assert by_turns.condition.tolist() == [0, 1, 2, 1, 0]
    assert by_turns.local[:, 0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("answer", ["last", "each"])
def test_a_problem_is_answered_where_it_is_asked(answer):
    net = WaveNetProblem(2, 3, answer, "class", kernel_size=3, layers=3, channels=4, dropout=0.1).eval()
    x = torch.randn(2, 20, 2)
    assert net(x).shape == ((2, 3) if answer == "last" else (2, 20, 3))
    each = net.readout(net.stack(x))
    torch.testing.assert_close(net(x), each[:, -1] if answer == "last" else each)


def test_a_problem_has_the_size_of_its_rivals():
    net = WaveNetProblem(2, 1, "last", "value")
    assert 65_000 < sum(p.numel() for p in net.parameters()) < 85_000
    assert net.stack.receptive_field == 1786


def test_figures():
    assert len(sound_figure(torch.sin(torch.arange(4000.0)), 8000).axes) == 3
    assert sound_figure(torch.zeros(1), 8000).axes
    figure = receptive_field_figure([1, 2, 4, 8, 16], 2)
    assert "4 layers see 5 samples; the net's 5 would see 6" in figure.axes[0].get_title()
    assert "4 layers see 16 samples; the net's 5 see 32" in figure.axes[1].get_title()
