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
