"""The gradient's way back in time: closed forms, what the callback writes, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from matplotlib import image
from torch import nn
from torch.utils.data import DataLoader

from dlmkit import SequenceProblem, SequenceTask, Task, UserError
from dlmkit.callbacks.gradient_flow import (
    GradientFlow,
    flow_figure,
    gradient_by_inputs,
    gradient_by_states,
    spectral_radii,
)
from dlmkit.callbacks.media import ShowMedia

V, B, T = 5, 3, 12
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:.*does not have many workers", "ignore:.*CombinedLoader"
)


class Linear(SequenceTask):
    """h_t = w h_{t-1} + u_{x_t}, logits = read-out of h_t; if told so, all that it carries is a count."""

    def __init__(self, w: float, width: int = 2, stateless: bool = False) -> None:
        super().__init__()
        self.w, self.stateless = w, stateless
        self.embedding, self.readout = nn.Embedding(V, width), nn.Linear(width, V)

    def forward(self, tokens, state=None):
        h = 0.0 if state is None else 1.0 * state[0]
        hidden = []
        for u in self.embedding(tokens).unbind(1):
            h = self.w * h + u
            hidden.append(h[-1] if h.dim() == 3 else h)
        count = torch.ones(1, len(tokens), 1, dtype=torch.int64)
        return self.readout(torch.stack(hidden, 1)), (count if self.stateless else hidden[-1][None],)


class Recurrent(SequenceTask):
    """A torch layer with read-out."""

    def __init__(self, layer: type[nn.Module] = nn.LSTM, layers: int = 2) -> None:
        super().__init__()
        self.embedding, self.net, self.readout = (
            nn.Embedding(V, 4),
            layer(4, 6, layers, batch_first=True),
            nn.Linear(6, V),
        )

    def forward(self, tokens, state=None):
        if state is not None and len(state) == 1:
            (state,) = state
        hidden, state = self.net(self.embedding(tokens), state)
        return self.readout(hidden), state if isinstance(state, tuple) else (state,)


class Summing(SequenceProblem):
    """h_t = w h_{t-1} + x_t."""

    def __init__(self, w: float, **kwargs) -> None:
        super().__init__(hidden_size=1, input_size=1, **kwargs)
        self.w = w

    def features(self, x):
        h, hidden = torch.zeros_like(x[:, 0]), []
        for x_t in x.unbind(1):
            h = self.w * h + x_t
            hidden.append(h)
        return torch.stack(hidden, 1)


class Fading(Task):
    """A task of a third kind, which names its way back: each step counts half of the one after it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 4)

    def loss(self, batch):
        return self.way_back(batch)[0]

    def way_back(self, batch):
        steps = self.embedding(batch["input"])
        return (steps.sum(2) * 0.5 ** torch.arange(T - 1, -1, -1)).sum(), steps


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def text(length: int = T) -> dict[str, torch.Tensor]:
    return {
        "input": torch.randint(V, (B, length)),
        "target": torch.randint(V, (B, length)),
        "reset": torch.zeros(B, dtype=torch.bool),
        "characters": torch.full((B,), length),
    }


def loader(batch):
    return DataLoader([batch], batch_size=None)


class OneBatch(LightningDataModule):
    """A batch that is used for everything."""

    def __init__(self, batch) -> None:
        super().__init__()
        self.given = batch

    def train_dataloader(self):
        return loader(self.given)

    val_dataloader = test_dataloader = train_dataloader


def run(tmp_path, task: LightningModule, batch, *callbacks, **options) -> Trainer:
    options = {"max_steps": 2, "max_epochs": 2, "logger": False, "enable_checkpointing": False, **options}
    options |= {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 1}
    trainer = Trainer(default_root_dir=tmp_path, callbacks=list(callbacks), accelerator="cpu", **options)
    data = OneBatch(batch)
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)
    return trainer


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("w", [0.5, 1.0, 1.3, -0.8])
@pytest.mark.parametrize("distance", [4, T, 50])
def test_a_linear_nets_gradient_is_a_power(w, distance):
    task, batch = Linear(w).double(), text()
    distances, curves = gradient_by_states(task, batch["input"], batch["target"], distance)
    assert distances == list(range(1, min(distance, T) + 1))
    (norms,) = curves.values()
    # by the state one step back: w Vᵀ (p - y)
    logits, _ = task(batch["input"])
    by_logits = torch.softmax(logits[:, -1], -1) - nn.functional.one_hot(batch["target"][:, -1], V)
    first = (by_logits @ task.readout.weight).norm(dim=1).mean().item()
    assert norms == pytest.approx([first * abs(w) ** k for k in distances], rel=1e-10)


def test_what_vanishes_is_followed_far():
    task, batch = Linear(1e-2), text(20)
    _, curves = gradient_by_states(task, batch["input"], batch["target"], 20)
    ratios = np.divide(curves["all"][1:], curves["all"][:-1])
    assert ratios[:15] == pytest.approx(1e-2, rel=1e-3)  # to 1e-32, whose square is no float


def test_each_state_and_all_together():
    """Against the whole graph at once: the states after each step are split off one long pass by hand."""
    task, batch = Recurrent(nn.LSTM).double(), text()
    _, curves = gradient_by_states(task, batch["input"], batch["target"], T)
    assert list(curves) == ["all", "h", "c"]
    for k in (1, 4, T - 1):
        with torch.no_grad():
            _, state = task(batch["input"][:, : T - k])
        state = tuple(s.clone().requires_grad_() for s in state)
        logits, _ = task(batch["input"][:, T - k :], state)
        loss = nn.functional.cross_entropy(logits[:, -1], batch["target"][:, -1], reduction="sum")
        h, c = (g.transpose(0, 1).flatten(1) for g in torch.autograd.grad(loss, state))
        assert curves["h"][k - 1] == pytest.approx(h.norm(dim=1).mean().item(), rel=1e-10)
        assert curves["c"][k - 1] == pytest.approx(c.norm(dim=1).mean().item(), rel=1e-10)
        assert curves["all"][k - 1] == pytest.approx(torch.cat((h, c), 1).norm(dim=1).mean().item(), rel=1e-10)


@pytest.mark.parametrize("w", [0.5, 1.2])
def test_a_problem_that_answers_at_the_end_with_a_value(w):
    task = Summing(w, output_size=1, answer="last", target="value").double()
    x, y = torch.randn(B, T, 1).double(), torch.randn(B).double()
    distances, curves = gradient_by_inputs(task, x, y)
    first = (2 * (task(x).squeeze(-1) - y).abs() * task.readout.weight.abs()).mean().item()
    assert distances == list(range(T))
    assert curves["all"] == pytest.approx([first * w**k for k in distances], rel=1e-10)


def test_a_problem_that_answers_at_some_steps_with_a_class():
    task = Summing(0.5, output_size=4, answer="each", target="class").double()
    x, y = torch.randn(B, T, 1).double(), torch.full((B, T), -100)
    y[:, 3], y[:, 7] = 1, 2  # the last that is asked is step 7
    distances, curves = gradient_by_inputs(task, x, y)
    by_logits = torch.softmax(task(x)[:, 7], -1) - torch.eye(4)[2]
    first = (by_logits @ task.readout.weight).abs().mean().item()
    assert curves["all"] == pytest.approx([first * 0.5**k for k in range(8)], rel=1e-10)
    assert distances == list(range(8))


# -------------------------------------------------------------------------------------------------- spectral radius


def test_the_radius_of_known_matrices():
    rnn = nn.RNN(2, 2)
    quarter_turn = torch.tensor([[0.0, -1.5], [1.5, 0.0]])  # eigenvalues ± 1.5 i
    rnn.weight_hh_l0.data = quarter_turn
    assert spectral_radii(rnn) == pytest.approx({"l0": 1.5})
    lstm = nn.LSTM(2, 2, 2)
    for layer, scale in ((lstm.weight_hh_l0, 1.0), (lstm.weight_hh_l1, 10.0)):
        layer.data = torch.cat([scale * size * torch.eye(2) for size in (1.0, -2.0, 3.0, 4.0)])
    expected = {"l0 i": 1, "l0 f": 2, "l0 g": 3, "l0 o": 4, "l1 i": 10, "l1 f": 20, "l1 g": 30, "l1 o": 40}
    assert spectral_radii(lstm) == pytest.approx(expected)
    assert list(spectral_radii(nn.GRU(2, 2))) == ["l0 r", "l0 z", "l0 n"]


def test_every_module_is_looked_at_and_what_is_not_square_left_out():
    both = nn.ModuleDict({"encoder": nn.RNN(2, 3), "decoder": nn.RNN(2, 3, bidirectional=True)})
    assert list(spectral_radii(both)) == ["l0", "decoder.l0", "l0_reverse"]
    assert spectral_radii(nn.LSTM(4, 4, proj_size=2)) == {}
    assert spectral_radii(nn.Linear(3, 3)) == {}


# ------------------------------------------------------------------------------------------------------------- in a run


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_run_writes_the_picture_and_its_numbers(tmp_path, rows, layer):
    run(tmp_path, Recurrent(layer), text(), GradientFlow(distance=6))
    folder = tmp_path / "media"
    names = [f"gradient-flow-{step}" for step in ("0000001", "0000002", "test")]
    for name in names:
        assert image.imread(folder / f"{name}.png").shape[0] > 500
        table = rows(folder / f"{name}.csv")
        assert [int(row["distance"]) for row in table] == [1, 2, 3, 4, 5, 6]
        assert all(float(row["gradient"]) > 0 for row in table)
        assert list(table[0]) == ["distance", "gradient"]
    radii = rows(folder / "spectral-radius-test.csv")
    assert len(radii) == 2 * {nn.RNN: 1, nn.LSTM: 4, nn.GRU: 3}[layer]


def test_it_uses_the_runs_own_writer(tmp_path):
    showing = ShowMedia(every=0)
    showing.folder = tmp_path / "there"
    run(tmp_path, Linear(0.9), text(), showing, GradientFlow())
    assert (tmp_path / "there" / "gradient-flow-test.csv").is_file()
    assert showing.latest["gradient-flow"] == tmp_path / "there" / "gradient-flow-test.png"
    assert not showing.faults
    assert not (tmp_path / "media").exists()


def test_it_changes_nothing_of_the_training(tmp_path):
    weights = []
    for callbacks in ([], [GradientFlow()]):
        torch.manual_seed(1)
        task = Recurrent()
        run(tmp_path, task, text(), *callbacks, gradient_clip_val=1.0)
        weights.append(task.state_dict())
        torch.manual_seed(0)
    torch.testing.assert_close(weights[0], weights[1], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_any_precision(tmp_path, rows, precision):
    flow = GradientFlow()
    run(tmp_path, Recurrent(nn.GRU), text(), flow, precision=precision)
    assert not flow.media.faults
    gradients = [float(row["gradient"]) for row in rows(tmp_path / "media" / "gradient-flow-test.csv")]
    assert all(g > 0 and math.isfinite(g) for g in gradients)


def test_a_sequence_problem_in_a_run(tmp_path, rows):
    task = Summing(0.5, output_size=1, answer="last", target="value")
    flow = GradientFlow()
    run(tmp_path, task, {"input": torch.randn(B, T, 1), "target": torch.randn(B)}, flow)
    assert not flow.media.faults
    table = rows(tmp_path / "media" / "gradient-flow-test.csv")
    assert float(table[9]["gradient"]) / float(table[0]["gradient"]) == pytest.approx(0.5**9, rel=1e-4)


def test_a_task_of_another_kind_names_its_way_back(tmp_path, rows):
    flow = GradientFlow()
    run(tmp_path, Fading(), text(), flow)
    assert not flow.media.faults
    table = rows(tmp_path / "media" / "gradient-flow-test.csv")
    assert [float(row["distance"]) for row in table] == list(range(T))
    assert [float(row["gradient"]) for row in table] == pytest.approx([2 * 0.5**k for k in range(T)])


@pytest.mark.parametrize("task", [Linear(0.5, stateless=True), BoringModel()], ids=["no state", "no sequence task"])
def test_without_a_state_there_is_one_line_and_the_run_goes_on(tmp_path, task):
    flow = GradientFlow()
    if isinstance(task, BoringModel):
        flow.setup(Trainer(default_root_dir=tmp_path, logger=False, accelerator="cpu"), task, "fit")
        with pytest.raises(UserError, match="BoringModel is no sequence task, so there is no way back in time"):
            flow.flow(task, torch.zeros(2, 32))  # whatever its batches are
        return
    trainer = run(tmp_path, task, text(), flow)
    assert trainer.global_step == 2
    assert set(flow.media.faults) == {"gradient flow: Linear carries no state, so there is no way back in time"}
    assert not (tmp_path / "media").exists()


def test_a_gradient_of_nothing_is_drawn():
    figure = flow_figure([1, 2, 3], {"all": [0.0, 0.0, 0.0]}, {})
    assert figure.axes[0].get_title() == "no gradient at all arrives"


def test_where_the_gradient_ends_is_said():
    figure = flow_figure([0, 1, 2, 3], {"all": [1.0, 0.1, 0.0, 0.0]}, {})
    assert figure.axes[0].get_title() == "nothing arrives from more than 1 steps back"


def test_a_distance_of_nothing_is_refused():
    with pytest.raises(UserError, match="distance is 0; give at least 1"):
        GradientFlow(0)


def test_the_overlay_with_the_command(train, rows):
    folder = train("tiny", "--config", "gradient-flow", "--trainer.max_steps=4", name="flow")
    assert (folder / "media" / "gradient-flow-0000004.png").is_file()
    table = rows(folder / "media" / "gradient-flow-test.csv")
    assert [float(row["distance"]) for row in table] == list(range(1, len(table) + 1))
    assert (folder / "media" / "words-test.txt").is_file()  # what the task itself shows is there as before
