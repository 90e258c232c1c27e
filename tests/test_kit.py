"""The kit itself: a sound plugin passes every check, and each broken one is told what to change."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure as MatplotlibFigure

from dlmkit import Animation, Audio, Figure, Image, Table, Text, UserError, plugins
from dlmkit.data.module import ResumableLoader
from dlmkit.testing import check as kit
from dlmkit.testing import conformance, package_checks, process_checks, run_checks, run_kit, training_checks
from dlmkit.testing.subject import Subject

INIT = '"""A plugin that is made by a test."""\n'
TASK = '''
"""A small net."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from dlmkit import Media, Table, Task, Text


class Net(Task):
    """A small net.

    References:
        | Nothing (Nobody, 2000)

    Args:
        width: Units.
    """

    def __init__(self, width: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
        self.shift = 0.0
        self.number = itertools.count()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean squared error."""
        return (self.net(batch["input"]) - batch["target"]).square().mean()

    def show(self, batch: dict[str, Tensor]) -> dict[str, Media]:
        """The first answers."""
        return {"answers": Table(["y"], self.net(batch["input"]).tolist())}

    def sample(self, n: int = 1, seed: int = 1) -> list[Media]:
        """Answers to random questions.

        Args:
            n: How many.
            seed: Of the questions.
        """
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return [Text(f"{float(self.net(torch.randn(3, generator=draw))):.9f}") for _ in range(n)]
'''
DATA = '''
"""Points on a plane."""

from __future__ import annotations

import torch
from torch import Tensor

from dlmkit import DataModule


class Plane(DataModule):
    """Points on a plane.

    References:
        | Elements (Euclid, 300 BC)
    """

    def batches(self, split: str) -> int:
        """Ten."""
        return 10

    def batch(self, split: str, epoch: int, index: int, rank: int, world: int) -> dict[str, Tensor]:
        """Points and their heights."""
        seed = hash((self.seed, len(split), epoch, index))
        x = torch.randn(self.batch_size, 3, generator=torch.Generator().manual_seed(seed))
        x = x[rank::world]
        return {"input": x, "target": 3 + x.sum(dim=1, keepdim=True)}
'''
RECIPE = """# dlmkit run NAME
# Expect nothing.
model:
  class_path: NAME
  init_args:
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.05}}
data:
  class_path: NAME
trainer:
  max_steps: 600
"""
FILES = {"__init__.py": INIT, "task.py": TASK, "data.py": DATA, "recipes/NAME.yaml": RECIPE}

Plugin = Callable[..., Subject]
_numbers = itertools.count()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    """Install a plugin on the path, sound but for some words that are replaced; give it as a subject."""
    made: list[Subject] = []

    def install(*replaced: tuple[str, str], without: str = "") -> Subject:
        name = f"fake{next(_numbers)}"
        files = {file: text for file, text in FILES.items() if file != without}
        for old, new in replaced:
            assert any(old in text for text in files.values()), f"{old} is nowhere"
            files = {file: text.replace(old, new) for file, text in files.items()}
        files = {f"dlmkit_{name}/{file}": text for file, text in files.items()}
        files[f"dlmkit_{name}-0.1.dist-info/METADATA"] = f"Metadata-Version: 2.1\nName: dlmkit-{name}\nVersion: 0.1\n"
        files[f"dlmkit_{name}-0.1.dist-info/entry_points.txt"] = (
            "[dlmkit.tasks]\nNAME = dlmkit_NAME.task:Net\n\n[dlmkit.data]\nNAME = dlmkit_NAME.data:Plane\n\n"
            "[dlmkit.recipes]\nNAME = dlmkit_NAME.recipes\n"
        )
        for file, text in files.items():
            path = tmp_path / file.replace("NAME", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("NAME", name))
        monkeypatch.syspath_prepend(str(tmp_path))
        plugins.installed.cache_clear()
        made.append(Subject(name))
        return made[-1]

    monkeypatch.setattr(plugins, "_identities", {})
    monkeypatch.setattr(plugins, "_dist_faults", {})
    yield install
    for subject in made:
        subject.__exit__(None, None, None)
    plugins.installed.cache_clear()
    for module in [m for m in sys.modules if m.startswith("dlmkit_fake")]:
        del sys.modules[module]


def advice(check: kit.Check, subject: Subject) -> str:
    with pytest.raises(UserError) as caught:
        check(subject)
    return str(caught.value)


# ---------- the whole kit


def test_sound_plugin_passes_everything(plugin: Plugin, capsys: pytest.CaptureFixture[str]) -> None:
    subject = plugin()
    assert run_kit(subject.word) == 0
    lines = capsys.readouterr().out.splitlines()
    checks = [line for line in lines if line.startswith("  ")]
    assert len(checks) == sum(not c.slow for c in conformance.CHECKS)
    assert all(line.startswith("  ✓ ") for line in checks), lines
    assert f"{len(checks)} checks passed" in lines[-1]


def test_report_says_what_failed_what_is_switched_off_and_what_was_not_reached(
    plugin: Plugin, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = plugin(
        ("    def __init__", '    conformance = {"overfits_one_batch": "too good"}\n\n    def __init__'),
        ('(batch["input"]) - batch["target"])', '(batch["inputs"]) - batch["target"])'),
    )
    assert run_kit(subject.word) == 1
    text = capsys.readouterr().out
    assert re.search(
        r"✗ the default recipe.*recipe_trains.*\n.*reads 'inputs' of a batch \(dlmkit_fake\d+/task.py:\d+\)",
        text,
    )
    assert re.search(r"– .*below 50 % of its start.*switched off: too good", text)
    assert re.search(r"– the same seed.*not reached: it takes a run of the default recipe", text)
    assert "conformance = {" in text.splitlines()[-1]


def test_plugin_that_does_not_import_fails(plugin: Plugin, capsys: pytest.CaptureFixture[str]) -> None:
    subject = plugin((TASK, TASK.replace("import itertools", "import nothing_of_that_name")))
    assert run_kit(subject.word) == 1
    text = capsys.readouterr().out
    assert re.search(
        r"✗ its entry points.*\n.*fake\d+ of dlmkit-fake\d+ 0.1 does not import: ModuleNotFoundError", text
    )
    assert "not reached: it takes an import that works" in text


def test_unknown_plugin(plugin: Plugin) -> None:
    subject = plugin()
    with pytest.raises(UserError, match=f"no task is called {subject.word}x; did you mean"):
        run_kit(f"{subject.word}x")


def test_checks_have_names_and_texts() -> None:
    assert len({c.name for c in conformance.CHECKS}) == len(conformance.CHECKS) == 14
    assert all(c.text and c.function.__doc__ for c in conformance.CHECKS)
    assert [c.name for c in conformance.CHECKS if c.slow] == ["two_real_processes"]


def test_pytest_plugin_imports_nothing_heavy() -> None:
    code = "import dlmkit.testing.plugin, sys; print({'torch', 'lightning', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_check_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before, state, threads = dict(os.environ), torch.get_rng_state(), torch.get_num_threads()
    with kit.contained():
        os.environ["PL_GLOBAL_SEED"] = "3"
        torch.manual_seed(3)
        torch.set_num_threads(2)
    assert dict(os.environ) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


# ---------- the package


def test_every_recipe_of_the_package_is_looked_at(plugin: Plugin, tmp_path: Path) -> None:
    subject = plugin()
    assert package_checks.recipes_are_sound(subject) == "1 recipe"
    folder = tmp_path / f"dlmkit_{subject.word}" / "recipes"
    (folder / f"{subject.word}-large.yaml").write_text(
        f"# dlmkit run x\nextends: {subject.word}\nmodel:\n  init_args:\n    widht: 8\n"
    )
    (folder / f"{subject.word}-gone.yaml").write_text("# dlmkit run y\nextends: nothing-of-that-name\n")
    (folder / "other.yml").write_text("# dlmkit run z\n")
    plugins.installed.cache_clear()
    found = advice(package_checks.recipes_are_sound, subject)
    assert f"{subject.word}-large.yaml:5: " in found and "widht" in found
    assert "nothing-of-that-name" in found
    assert "other.yml: dlmkit finds recipes by their ending .yaml; rename it" in found


def test_heavy_import(plugin: Plugin) -> None:
    subject = plugin((INIT, INIT + "import matplotlib.figure\n"))
    found = advice(package_checks.imports_lazily, subject)
    assert f"{subject.package}/__init__.py: import {subject.package} loads matplotlib; import in the modules" in found


def test_slow_import(plugin: Plugin) -> None:
    subject = plugin((INIT, INIT + "import time\nwhile time.process_time() < 1.3: pass\n"))
    assert re.search(r"computes for 1.\d s; do that later", advice(package_checks.imports_lazily, subject))


def test_import_that_raises(plugin: Plugin) -> None:
    subject = plugin((INIT, INIT + "1 / 0\n"))
    assert "raises ZeroDivisionError: division by zero; mend it" in advice(package_checks.imports_lazily, subject)


def test_entry_point_into_the_void(plugin: Plugin) -> None:
    subject = plugin(without="data.py")
    found = advice(package_checks.imports_lazily, subject)
    assert re.search(r"data fake\d+: its module dlmkit_fake\d+.data is not there", found)


def test_task_that_is_no_task(plugin: Plugin) -> None:
    subject = plugin(("class Net(Task)", "class Net"), ("__init__(**kwargs)", "__init__()"))
    assert "task:Net is no LightningModule; name the task's class" in advice(package_checks.imports_lazily, subject)


class Sound:
    """A sound one.

    References:
        | Nothing (Nobody, 2000)

    Args:
        width: Units.
    """

    def __init__(self, width: int = 3) -> None:
        self.width = width


class Inheriting(Sound):
    """One that adds to it.

    Args:
        activation: Makes the activation.
    """

    def __init__(self, activation: Callable[[int], float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Careless:
    def __init__(self, a: Any, b, c: Callable = min, d: dict[str, Any] | None = None, e: Callable[[int], Any] = min):
        """Nothing.

        Args:
            a:
            d: Options.
        """


def test_sound_documentation() -> None:
    assert list(package_checks.class_faults(Sound)) == []
    assert list(package_checks.class_faults(Inheriting)) == []


def test_careless_documentation() -> None:
    faults = [str(fault) for fault in package_checks.class_faults(Careless)]
    assert re.match(r"tests/test_kit.py:\d+: Careless has no docstring of its own; begin", faults[0])
    assert "Careless names no paper; add References:" in faults[1]
    assert "the option a of Careless is typed as Any; name the type" in faults[2]
    assert "the option a of Careless is not described; add a:" in faults[3]
    assert "the option b of Careless has no type; annotate it, as in b: int = 3" in faults[4]
    assert "the option c of Careless is typed as a Callable of which nothing is said" in faults[6]
    assert "the option d of Careless is typed as Any" in faults[8]
    assert "the option e of Careless is typed as Any" in faults[9]
    assert len(faults) == 11


def test_annotation_that_is_not_imported(plugin: Plugin) -> None:
    subject = plugin(("width: int", "width: Whole"), ("import warnings\n", "from typing import TYPE_CHECKING\n"))
    found = advice(package_checks.documented_parameters, subject)
    assert "means nothing at run time: name 'Whole' is not defined; import it where the module begins" in found


def test_data_of_the_package_is_looked_at_too(plugin: Plugin) -> None:
    subject = plugin(("    References:\n        | Elements (Euclid, 300 BC)\n", ""))
    assert "Plane names no paper" in advice(package_checks.documented_parameters, subject)


def test_switches() -> None:
    known = {"overfits_one_batch": True, "known_switches": False}

    class Switching:
        conformance = {"overfit_one_batch": "x", "known_switches": "x", "overfits_one_batch": " "}

    class Wrong:
        conformance = ["overfits_one_batch"]

    faults = [fault.lines()[0] for fault in package_checks.switch_faults(Switching, known)]
    assert "overfit_one_batch is no check; did you mean overfits_one_batch?" in faults[0]
    assert "known_switches cannot be switched off" in faults[1]
    assert "overfits_one_batch has no reason; say why" in faults[2]
    assert "it is ['overfits_one_batch']; write {" in str(next(package_checks.switch_faults(Wrong, known)))


# ---------- training


def test_parameter_without_gradient(plugin: Plugin) -> None:
    subject = plugin(
        ("        self.shift = 0.0\n", "        self.shift = 0.0\n        self.idle = nn.Linear(2, 2)\n"),
        ("        self.shift = 0.0\n", "        self.shift = 0.0\n        self.dead = nn.Parameter(torch.ones(()))\n"),
        (".square().mean()", ".square().mean() + (0 * self.dead)"),
    )
    found = advice(training_checks.gradient_reaches_every_parameter, subject)
    assert "the loss does not use idle.weight, idle.bias; use it in the loss, or remove it" in found
    assert "the gradient of dead is zero in 6 steps; look for a detach()" in found


def test_gradient_that_is_not_finite(plugin: Plugin) -> None:
    # The root of 0 has a loss of 0 and a gradient that is not a number.
    subject = plugin((".square().mean()", ".square().mean() + (0 * self.net[0].weight).sum().sqrt()"))
    found = advice(training_checks.gradient_reaches_every_parameter, subject)
    assert re.search(r"the gradient of net.0.weight, .* is not finite; look for a log or a root of 0", found)


def test_net_that_does_not_learn(plugin: Plugin) -> None:
    subject = plugin(("lr: 0.05", "lr: 0.0"))
    found = advice(training_checks.overfits_one_batch, subject)
    assert re.search(r"fake\d+.yaml: the loss on one batch went from (\S+) to \1 in 300 steps; check that", found)


def test_overfitting_ignores_the_schedule(plugin: Plugin) -> None:
    slow = "lr_scheduler: {class_path: dlmkit.WarmupCosine, init_args: {warmup: 100000}}\n"
    subject = plugin(("    optimizer:", f"    {slow}    optimizer:"))
    assert re.match(r"\S+ to \S+ in \d+ steps", str(training_checks.overfits_one_batch(subject)))


def test_knowledge_that_is_not_saved(plugin: Plugin) -> None:
    subject = plugin(
        (
            "        return (self.net(",
            "        self.shift += 0.1 * self.training\n        return self.shift + (self.net(",
        )
    )
    found = advice(training_checks.saves_and_reloads, subject)
    assert re.search(r"the loss is \S+ before saving and \S+ after loading; what the network learns besides", found)


def test_checkpoint_with_code_in_it(plugin: Plugin) -> None:
    saving = "    def on_save_checkpoint(self, c: Any) -> None:\n        c['extra'] = itertools.count()\n\n    def loss"
    subject = plugin(("    def loss", saving))
    found = advice(training_checks.saves_and_reloads, subject)
    assert "cannot be read as a checkpoint" in found
    assert "keep only tensors, numbers, words, lists and mappings in it" in found


# ---------- media


def test_show_that_shows_nothing(plugin: Plugin) -> None:
    subject = plugin(('return {"answers": Table(["y"], self.net(batch["input"]).tolist())}', "return {}"))
    assert "show returns nothing to look at; return at least one" in advice(training_checks.media_are_made, subject)


def test_show_that_raises(plugin: Plugin) -> None:
    subject = plugin(('Table(["y"], ', 'Table(["y"], 1 / 0, '))
    with pytest.raises(ZeroDivisionError) as caught:
        training_checks.media_are_made(subject)
    assert re.match(r"dlmkit_fake\d+/task.py:\d+: ZeroDiv", kit.explain(caught.value, subject.package))


def drawn(*, empty: bool) -> MatplotlibFigure:
    figure = MatplotlibFigure(figsize=(1, 1))
    axes = figure.subplots()
    if not empty:
        axes.plot([0, 1], [1, 0])
    return figure


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (Image(np.full((4, 4), 0.5)), "is blank"),
        (Image(np.full((4, 4, 3), 255, dtype=np.uint8)), "is blank"),
        (Figure(MatplotlibFigure(figsize=(1, 1))), "is blank"),
        (Figure(drawn(empty=True)), "has only empty axes"),
        (Animation([np.eye(4)]), "has one frame only"),
        (Animation([np.eye(4), np.zeros((4, 4, 3))]), "ends with a blank frame"),
        (Audio(np.full(100, 0.3), 8000), "is silent"),
        (Audio(np.zeros(0), 8000), "is silent"),
        (Audio(np.array([0.1, np.nan]), 8000), "holds numbers that are not finite"),
        (Text("\n "), "is empty"),
        (Table(["a"], []), "has no rows"),
        ("text", "is a str"),
        (Image(np.eye(4)), ""),
        (Image(np.random.default_rng(1).random((4, 4, 3))), ""),
        (Figure(drawn(empty=False)), ""),
        (Animation([np.zeros((4, 4)), np.eye(4)]), ""),
        (Audio(np.sin(np.arange(100.0)), 8000), ""),
        (Text("a"), ""),
        (Table(["a"], [[1]]), ""),
    ],
)
def test_media(item: Any, fault: str, tmp_path: Path) -> None:
    found, remedy = training_checks.media_fault("thing", item, tmp_path)
    assert found == fault
    assert bool(remedy) == bool(fault)


def test_media_whose_name_is_a_path(tmp_path: Path) -> None:
    assert training_checks.media_fault("a/b", Text("a"), tmp_path)[0] == "cannot name a file"


# ---------- runs


def test_plugin_without_recipe(plugin: Plugin) -> None:
    subject = plugin(without="recipes/NAME.yaml")
    found = advice(run_checks.recipe_trains, subject)
    assert re.search(r"there is no recipe called (fake\d+); write dlmkit_\1/recipes/\1.yaml, and \1 = ", found)


def test_recipe_that_does_not_begin_with_its_command(plugin: Plugin) -> None:
    subject = plugin(("# dlmkit run NAME\n", ""))
    found = advice(run_checks.recipe_trains, subject)
    assert re.search(r"yaml:1: the recipe does not begin with its command; let its first line be: # dlmkit run", found)


def test_recipe_with_faults(plugin: Plugin) -> None:
    subject = plugin(("  init_args:\n", "  init_args:\n    widht: 3\n"))
    assert "is no option of fake" in advice(run_checks.recipe_trains, subject)


def test_recipe_with_a_batch_size_in_words(plugin: Plugin) -> None:
    subject = plugin(("  class_path: NAME\ntrainer", "  class_path: NAME\n  init_args: {batch_size: few}\ntrainer"))
    assert "batch_size is 'few'" in advice(run_checks.recipe_trains, subject)


def test_loss_that_is_no_number(plugin: Plugin) -> None:
    subject = plugin((".square().mean()", ".square().mean() * float('nan')"))
    assert "the loss is nan at step" in advice(run_checks.recipe_trains, subject)


def test_loss_that_is_no_number_though_its_gradient_is(plugin: Plugin) -> None:
    subject = plugin((".square().mean()", ".square().mean() + float('nan')"))
    for check in (training_checks.overfits_one_batch, training_checks.saves_and_reloads):
        assert "nan" in advice(check, subject)


def test_run_that_warns(plugin: Plugin) -> None:
    subject = plugin(("        return (self.net(", "        warnings.warn('mind the gap')\n        return (self.net("))
    found = advice(run_checks.recipe_trains, subject)
    assert re.search(r"dlmkit_fake\d+/task.py: a run warns: mind the gap; mend what it warns of", found)


def test_draws_that_do_not_follow_the_seed(plugin: Plugin) -> None:
    subject = plugin(
        ("import warnings\n", "import secrets\nimport warnings\n"),
        (".square().mean()", ".square().mean() + secrets.randbelow(1000) / 1000 * self.net[0].bias.sum()"),
    )
    found = advice(run_checks.same_seed_same_result, subject)
    assert "two runs with the same seed differ in state_dict.net.0.weight, by up to" in found
    assert "draw random numbers from torch" in found
    assert "even a run that is not stopped does not end the same" in advice(run_checks.resumes_exactly, subject)


def test_seed_that_is_set_in_the_code(plugin: Plugin) -> None:
    subject = plugin(
        ("(self.seed, ", "(1, "), ("        self.net =", "        torch.manual_seed(1)\n        self.net =")
    )
    found = advice(run_checks.same_seed_same_result, subject)
    assert "another seed gives the same weights; remove the seed that is set in the code" in found


def test_show_that_leaves_a_trace(plugin: Plugin) -> None:
    subject = plugin(
        ('        return {"answers"', '        self.shift = 1.0\n        return {"answers"'),
        (".square().mean()", ".square().mean() * (1 + self.shift)"),
        ("torch.optim.AdamW", "torch.optim.SGD"),
    )
    assert "showing changes the training: it differs in" in advice(run_checks.same_seed_same_result, subject)


def test_training_state_that_is_not_saved(plugin: Plugin) -> None:
    subject = plugin(
        (".square().mean()", ".square().mean() * (1 + next(self.number) % 5)"),
        ("torch.optim.AdamW", "torch.optim.SGD"),
    )
    found = advice(run_checks.resumes_exactly, subject).splitlines()
    assert len(found) == 3
    assert "stopped within an epoch (after batch 2) and resumed, the run ends with another state_dict.net.0" in found[0]
    assert "on the last batch of an epoch (after batch 4)" in found[1]
    assert "right after a validation (after batch 3)" in found[2]
    assert all("belongs into buffers, or into on_save_checkpoint" in line for line in found)


def test_what_a_task_keeps_and_does_not_take_up(plugin: Plugin) -> None:
    kept = """    seen = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.seen += 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seen"], checkpoint["clock"] = self.seen, float(id(checkpoint))

"""
    found = advice(run_checks.resumes_exactly, plugin(("    def loss", kept + "    def loss"))).splitlines()
    assert len(found) == 3 and "resumed, the run ends with another seen: 6 and 4" in found[0]


def test_position_that_is_lost(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: ResumableLoader, state: dict[str, Any]) -> None:
        self.positions.epoch = state["epoch"]

    monkeypatch.setattr(ResumableLoader, "load_state_dict", forgetful)
    found = advice(run_checks.resumes_exactly, plugin()).splitlines()
    assert ["within an epoch" in found[0], "right after a validation" in found[-1], len(found)] == [True, True, 2]


def test_callbacks_of_the_recipe_stay(plugin: Plugin) -> None:
    further = "  callbacks:\n  - class_path: lightning.pytorch.callbacks.LambdaCallback\n"
    subject = plugin(("  max_steps: 600\n", f"  max_steps: 600\n{further}"))
    run_checks.resumes_exactly(subject)
    text = (subject.folder / "runs" / "stopped-2" / "config.yaml").read_text()
    assert "LambdaCallback" in text
    assert "probes.Stop" not in text


def test_samples_that_do_not_follow_the_seed(plugin: Plugin) -> None:
    subject = plugin(("torch.randn(3, generator=draw)", "torch.randn(3)"))
    found = advice(run_checks.samples_from_checkpoint, subject)
    assert "sampling twice with the same seed gives different samples; give sample an option seed" in found


def test_sample_that_gives_nothing(plugin: Plugin) -> None:
    subject = plugin(("for _ in range(n)]", "for _ in range(0)]"))
    assert "sample returns nothing" in advice(run_checks.samples_from_checkpoint, subject)


def test_sample_that_wants_the_data(plugin: Plugin) -> None:
    subject = plugin(
        ("        draw = ", "        from dlmkit_NAME.data import Plane\n\n        Plane()\n        draw = ")
    )
    assert "sampling makes the data module; take what sampling" in advice(run_checks.samples_from_checkpoint, subject)


def test_task_that_does_not_sample(plugin: Plugin) -> None:
    with pytest.raises(kit.Unsuitable, match="it generates nothing"):
        run_checks.samples_from_checkpoint(plugin(("def sample", "def answer")))


# ---------- processes


def test_data_that_both_processes_see_whole(plugin: Plugin) -> None:
    subject = plugin(("x[rank::world]", "x"))
    found = advice(process_checks.two_processes_one_gradient, subject)
    assert "each of two processes is given as many rows as one; let batch(…, rank, world) give" in found


def test_data_that_gives_both_processes_the_same(plugin: Plugin) -> None:
    subject = plugin(("x[rank::world]", "x[0::world]"))
    found = advice(process_checks.two_processes_one_gradient, subject)
    assert "input of two processes holds other rows than that of one" in found


def test_noise_in_the_loss(plugin: Plugin) -> None:
    subject = plugin(('self.net(batch["input"])', 'self.net(batch["input"] + torch.randn_like(batch["input"]))'))
    found = advice(process_checks.two_processes_one_gradient, subject)
    assert "the loss draws random numbers; take self.noise(…)" in found


def test_noise_that_processes_draw_together(plugin: Plugin) -> None:
    noise = 'self.noise(len(batch["input"]), 3).to(batch["input"])'
    subject = plugin(
        ('self.net(batch["input"])', f'self.net(batch["input"] + {noise})'), ("x[rank::world]", "x.chunk(world)[rank]")
    )
    assert "equal to" in str(process_checks.two_processes_one_gradient(subject))


def test_loss_that_mixes_examples(plugin: Plugin) -> None:
    subject = plugin((".square().mean()", ".var()"))
    found = advice(process_checks.two_processes_one_gradient, subject)
    assert "though each gets its part of the same batch; let loss be the mean over what count(batch) counts" in found


def test_dropout_and_batch_norm_are_held(plugin: Plugin) -> None:
    subject = plugin(("nn.Tanh(), ", "nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.5), "))
    assert "batch norm held in evaluation mode" in str(process_checks.two_processes_one_gradient(subject))


@pytest.mark.slow
def test_real_processes_of_a_sound_plugin(plugin: Plugin) -> None:
    assert "one run folder, weights equal to" in str(process_checks.two_real_processes(plugin()))


@pytest.mark.slow
def test_real_processes_that_see_the_same(plugin: Plugin) -> None:
    subject = plugin(("x[rank::world]", "x[0::world]"))
    assert "two processes train to other weights than one, by" in advice(process_checks.two_real_processes, subject)


@pytest.mark.slow
def test_real_processes_one_of_which_fails(plugin: Plugin) -> None:
    subject = plugin(("        return (self.net(", "        1 / (1 - self.global_rank)\n        return (self.net("))
    found = advice(process_checks.two_real_processes, subject)
    assert "two processes end with: ZeroDivisionError: division by zero; dlmkit run with" in found


# ---------- what may be else

PLAIN_TASK = '''
"""A net without dlmkit."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn


class Net(LightningModule):
    """A net without dlmkit.

    References:
        | Nothing (Nobody, 2000)

    Args:
        width: Units.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Mean squared error."""
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """The same."""
        self.log("val/loss", (self.net(batch[0]) - batch[1]).square().mean())

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """The same."""
        self.log("test/loss", (self.net(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.05)
'''
PLAIN_DATA = '''
"""Points on a plane, without dlmkit."""

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class Plane(LightningDataModule):
    """Points on a plane, without dlmkit.

    References:
        | Elements (Euclid, 300 BC)
    """

    def _loader(self) -> DataLoader:
        x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=4)

    train_dataloader = val_dataloader = test_dataloader = _loader
'''


@pytest.fixture
def plain(plugin: Plugin) -> Subject:
    optimizer = "  init_args:\n    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.05}}\n"
    return plugin((TASK, PLAIN_TASK), (DATA, PLAIN_DATA), (optimizer, ""))


def test_plain_lightning(plain: Subject) -> None:
    training_checks.saves_and_reloads(plain)
    training_checks.gradient_reaches_every_parameter(plain)
    training_checks.overfits_one_batch(plain)
    with pytest.raises(kit.Unsuitable, match=r"it is no dlmkit\.Task"):
        process_checks.two_processes_one_gradient(plain)
    assert "there is no show method; write show(self, batch)" in advice(training_checks.media_are_made, plain)


def test_runs_of_plain_lightning(plain: Subject) -> None:
    run_checks.recipe_trains(plain)
    run_checks.same_seed_same_result(plain)
    assert "let the data module be a dlmkit.DataModule" in advice(run_checks.resumes_exactly, plain)


def test_options_by_which_a_task_makes_itself_small(plugin: Plugin) -> None:
    subject = plugin(("    def __init__", '    conformance_options = ("--model.width=3",)\n\n    def __init__'))
    assert subject.build().model.state_dict()["net.0.bias"].shape == (3,)
    folder, _ = subject.reference
    assert "width: 3" in (folder / "config.yaml").read_text()


def test_two_processes_are_compared_with_plain_steps_of_every_optimiser_in_float64():
    from types import SimpleNamespace

    from dlmkit import Adversarial

    *words, precision = process_checks._calm_words(SimpleNamespace(task_type=Adversarial))
    assert precision == "--trainer.precision=64-true"
    assert {word.partition("=")[0] for word in words} == {"--model.optimizer", "--model.discriminator_optimizer"}
    assert all("torch.optim.SGD" in word for word in words)
