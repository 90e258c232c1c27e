"""Every installed recipe is sound: it resolves, and each of its options exists and is of the right type."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from dlmkit import plugins, recipe
from dlmkit.diagnosis import diagnose, fill_defaults
from dlmkit.engine import Allowed, data_and_model, links

RECIPES = [entry for entry in plugins.installed() if entry.kind == "recipes"]


def test_there_are_recipes():
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("entry", RECIPES, ids=lambda entry: entry.name)
def test_recipe_is_sound(entry):
    path = Path(entry.value)
    overlay = recipe.is_overlay(path)
    read = recipe.read("lstm" if overlay else str(path), overlays=[str(path)] if overlay else [])
    Allowed().apply(read)
    types = {**data_and_model(read), "trainer": Trainer}
    config = fill_defaults(read.config, {word: types[word] for word in ("model", "data")})
    faults = diagnose(read, config, types, links(types["data"], types["model"]))
    assert not [line for fault in faults for line in fault.lines()]


@pytest.mark.parametrize("entry", RECIPES, ids=lambda entry: entry.name)
def test_recipe_opens_with_its_command_and_a_line_on_what_it_is(entry):
    first, second, *_ = Path(entry.value).read_text(encoding="utf-8").splitlines()
    assert first.startswith("# dlmkit run ") and entry.name in first
    assert second.startswith("# ") and second.endswith(".")


SHAPES = [Path(entry.value) for entry in RECIPES if Path(entry.value).parent.name == "shapes"]


def test_every_shape_has_its_recipe():
    assert sorted(path.stem for path in SHAPES) == [
        "many-to-many",
        "many-to-many-unaligned",
        "many-to-one",
        "one-to-many",
        "one-to-one",
    ]


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_a_shape_is_named_and_drawn(path, tmp_path, monkeypatch):
    """One step is trained; what the run shows has the drawing, under the name that the recipe has."""
    from dlmkit import Figure
    from dlmkit.cli import main

    shown = {}
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Figure, "write", lambda item, file: (file.touch(), shown.update({file.stem: item.figure})))
    small = [] if path.stem == "many-to-many-unaligned" else ["--model.hidden_size=8"]
    limits = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    if not small:
        small = ["--data.train_size=100", "--data.val_size=10", "--data.test_size=10", "--model.hidden_size=8"]
    assert main(["run", f"shapes/{path.stem}", "--runs", str(tmp_path), "--name", "it", *limits, *small]) == 0
    figure = shown["shape-test"]
    title = figure.get_suptitle() or figure.axes[0].get_title()
    assert title.lower().replace(",", "").replace(" ", "-").startswith(path.stem)
    assert len(figure.axes[0].patches) >= 3  # what goes in, a step of the net, what comes out


def test_the_recurrent_nets_learn_the_same_text_alike():
    """So that their finished runs can be compared: only the net differs, and what a recipe says of it."""
    found = {}
    for name in ("rnn", "lstm", "gru", "peephole-lstm", "coupled-lstm"):
        config = recipe.read(name, []).config
        model = {key: value for key, value in config["model"]["init_args"].items() if key != "forget_bias"}
        found[name] = {"model": model, **{key: config[key] for key in ("data", "trainer", "seed_everything")}}
    assert all(one == found["lstm"] for one in found.values())
