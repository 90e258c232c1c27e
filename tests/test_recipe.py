"""Reading recipes: what the text means, what builds on what, what is typed, and where every key was written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dlmkit.errors import UserError, did_you_mean, names_beside
from dlmkit.recipe import parse_overrides, read

TEXT = """\
# a comment
seed_everything: 3
model:
  class_path: tiny
  init_args:
    width: 4
    depths: [1, 2]
    optimizer:
      class_path: torch.optim.SGD
      init_args: {lr: 0.5, momentum: 0.9}
data:
  class_path: beats
trainer:
  max_steps: 2
"""


@pytest.fixture
def base(tiny, write):
    return write("base.yaml", TEXT)


def model_args(recipe):
    return recipe.config["model"]["init_args"]


def fault(*words, **options):
    with pytest.raises(UserError) as caught:
        read(*words, **options)
    return caught.value.lines()


# ------------------------------------------------------------------------------------------------ what the text means


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("n", "n"),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("1", 1),
        ("-3", -3),
        ("010", 10),
        ("0", 0),
        ("1_000", 1000),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("12:30:45", "12:30:45"),
        ("2026-11-24", "2026-11-24"),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("null", None),
        ("~", None),
        ("", None),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
        (".", "."),
        ("'1'", "1"),
        ("[1, [no, 2.0]]", [1, ["no", 2.0]]),
        ("{}", {}),
    ],
)
def test_scalars(tiny, write, text, value):
    path = write("my.yaml", f"model: tiny\ndata: beats\ntrainer: {{}}\nseed_everything: {text}\n")
    read_value = read(str(path)).config["seed_everything"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_not_a_number(tiny, write):
    recipe = read(str(write("my.yaml", "model: tiny\ndata: beats\nseed_everything: .nan\n")))
    assert math.isnan(recipe.config["seed_everything"])


def test_anchors_and_merge_keys(tiny, write):
    path = write(
        "my.yaml",
        """\
        model:
          class_path: tiny
          init_args: &own {width: 4, bias: no}
        data:
          class_path: beats
          init_args:
            <<: *own
            width: 5
        """,
    )
    recipe = read(str(path))
    assert model_args(recipe) == {"width": 4, "bias": "no"}
    assert recipe.config["data"]["init_args"] == {"width": 5, "bias": "no"}


def test_an_alias_that_contains_itself_is_told(tiny, write):
    path = write("my.yaml", "model: tiny\ndata: beats\ntrainer: &a\n  x: *a\n")
    (line,) = fault(str(path))
    assert line.startswith("my.yaml:3: ")
    assert "contains itself" in line


def test_an_empty_recipe_lacks_model_and_data(tiny, write):
    lines = fault(str(write("my.yaml", "# nothing yet\n")))
    assert [line.split("; ")[0].rpartition(": ")[2] for line in lines] == ["model is missing", "data is missing"]
    assert all("my.yaml: " in line for line in lines)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n"])
def test_what_is_no_mapping_is_no_recipe(tiny, write, text):
    (line,) = fault(str(write("my.yaml", text)))
    assert line.startswith("my.yaml:1: not a recipe")


def test_a_class_by_its_name_alone(tiny, write):
    recipe = read(str(write("my.yaml", "model: tiny\ndata: beats\n")))
    assert recipe.config["model"]["class_path"] == "dlmkit_tiny.task.Tiny"
    assert recipe.config["data"]["class_path"] == "dlmkit_tiny.data.Beats"
    assert [entry.name for entry in recipe.used] == ["tiny", "beats"]


def test_a_class_by_its_import_path_is_the_registered_one(tiny, write):
    text = "model: dlmkit_tiny.task.Tiny\ndata: dlmkit_tiny.data.Beats\n"
    assert [entry.name for entry in read(str(write("my.yaml", text))).used] == ["tiny", "beats"]


def test_every_key_knows_its_line(base):
    recipe = read(str(base))
    lines = base.read_text().splitlines()
    for key, place in recipe.places.items():
        name, _, line = place.partition(":")
        assert name == "base.yaml"
        assert key[-1] in lines[int(line) - 1] or key[-1].isdigit()
    assert recipe.place(("model", "init_args", "optimizer", "init_args", "momentum")) == "base.yaml:10"
    assert recipe.place(("model", "init_args", "depths", "1")) == "base.yaml:7"
    assert recipe.place(("model", "init_args", "nothing")) == "base.yaml:5", "the nearest key above"
    assert recipe.place(("nothing",)) == str(base)


def test_the_name_of_a_run_is_that_of_its_recipe(base):
    assert read(str(base)).name == "base"
    assert read("tiny").name == "tiny"
    assert read("tiny").text.startswith("# dlmkit run tiny\n")


# ---------- extends


def test_a_plus_adds_to_a_list_where_it_would_be_replaced(base, write):
    file = write("more.yaml", "extends: base.yaml\nmodel: {init_args: {depths+: [3, 4]}}\ntrainer: {callbacks+: [a]}\n")
    overlay = write("overlay.yaml", "trainer:\n  callbacks+:\n  - class_path: b\n    init_args: {c: 1}\n")
    recipe = read(str(file), ["--model.depths+=5", "--trainer.callbacks+=[d, e]"], [str(overlay)])
    assert model_args(recipe)["depths"] == [1, 2, 3, 4, 5]
    callbacks = recipe.config["trainer"]["callbacks"]
    assert callbacks == ["a", {"class_path": "b", "init_args": {"c": 1}}, "d", "e"]
    assert recipe.place(("trainer", "callbacks", "1", "init_args", "c")).endswith("overlay.yaml:4")
    assert recipe.place(("model", "init_args", "depths", "2")).endswith("more.yaml:2")
    assert not any(word.endswith("+") for word in recipe.config["trainer"])


def test_mappings_merge_and_lists_replace(base, write):
    path = write(
        "my.yaml",
        """\
        extends: base.yaml
        model:
          init_args:
            depths: [9]
            dropout: 0.5
        trainer:
          max_epochs: 4
        """,
    )
    recipe = read(str(path))
    assert recipe.config["seed_everything"] == 3
    assert recipe.config["trainer"] == {"max_steps": 2, "max_epochs": 4}
    assert model_args(recipe) == {
        "width": 4,
        "depths": [9],
        "dropout": 0.5,
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5, "momentum": 0.9}},
    }
    assert recipe.place(("model", "init_args", "width")) == "base.yaml:6"
    assert recipe.place(("model", "init_args", "depths")) == "my.yaml:4"
    assert recipe.place(("trainer", "max_epochs")) == "my.yaml:7"
    assert recipe.name == "my"


@pytest.mark.parametrize(
    "below, above, expected",
    [
        ("{class_path: A, init_args: {eps: 1}}", "{lr: 2}", {"class_path": "A", "init_args": {"eps": 1, "lr": 2}}),
        ("{eps: 1}", "{lr: 2}", {"eps": 1, "lr": 2}),
        ("{eps: 1}", "{init_args: {lr: 2}}", {"init_args": {"eps": 1, "lr": 2}}),
        ("{eps: 1}", "{class_path: A, init_args: {lr: 2}}", {"class_path": "A", "init_args": {"lr": 2}}),
    ],
)
def test_a_short_form_and_a_long_one(tiny, write, below, above, expected):
    model = "model: {{class_path: tiny, init_args: {{optimizer: {}}}}}\ndata: beats\n"
    write("below.yaml", model.format(below))
    over = write("over.yaml", f"extends: below.yaml\nmodel:\n  init_args:\n    optimizer: {above}\n")
    recipe = read(str(over))
    assert model_args(recipe)["optimizer"] == expected
    inner = ("init_args", "lr") if "init_args" in expected else ("lr",)
    assert recipe.place(("model", "init_args", "optimizer", *inner)) == "over.yaml:4"


def test_another_class_drops_the_options_of_the_one_before(base, write):
    optimizer = "model: {init_args: {optimizer: {class_path: torch.optim.Adam, init_args: {eps: 1e-5}}}}"
    recipe = read(str(write("my.yaml", f"extends: base.yaml\n{optimizer}\n")))
    assert model_args(recipe)["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"eps": 1e-5}}
    assert model_args(recipe)["width"] == 4
    recipe = read(str(write("my.yaml", "extends: base.yaml\nmodel: {class_path: needy, init_args: {needed: 1}}\n")))
    assert model_args(recipe) == {"needed": 1}


@pytest.mark.parametrize("name", ["tiny", "dlmkit_tiny.task.Tiny", "dlmkit-tiny:tiny"])
def test_the_same_class_keeps_its_options_however_it_is_called(base, write, name):
    recipe = read(str(write("my.yaml", f"extends: base.yaml\nmodel: {{class_path: '{name}'}}\n")))
    assert recipe.config["model"]["class_path"] == "dlmkit_tiny.task.Tiny"
    assert model_args(recipe)["width"] == 4


@pytest.mark.parametrize("name", ["beats", "dlmkit_tiny.data.Beats", "dlmkit-tiny:beats"])
def test_the_same_data_keeps_its_options_however_it_is_called(tiny, write, name):
    write("base.yaml", "model: tiny\ndata: {class_path: beats, init_args: {count: 3}}\n")
    recipe = read(str(write("my.yaml", f"extends: base.yaml\ndata: {{class_path: '{name}'}}\n")))
    assert recipe.config["data"] == {"class_path": "dlmkit_tiny.data.Beats", "init_args": {"count": 3}}


def test_building_on_a_recipe_that_names_its_class_alone(tiny, write):
    write("base.yaml", "model: tiny\ndata: beats\n")
    recipe = read(str(write("my.yaml", "extends: base.yaml\nmodel: {init_args: {width: 5}}\n")))
    assert recipe.config["model"] == {"class_path": "dlmkit_tiny.task.Tiny", "init_args": {"width": 5}}


def test_naming_a_class_alone_is_the_same_as_its_class_path(base, write):
    recipe = read(str(write("my.yaml", "extends: base.yaml\nmodel: tiny\n")))
    assert model_args(recipe)["width"] == 4
    recipe = read(str(write("my.yaml", "extends: base.yaml\nmodel: needy\n")))
    assert recipe.config["model"] == {"class_path": "dlmkit_tiny.task.Needy"}


def test_an_installed_recipe_is_built_on_by_name(tiny, write):
    recipe = read(str(write("my.yaml", "extends: tiny\ntrainer: {max_steps: 3}\n")))
    assert recipe.config["trainer"]["max_steps"] == 3
    assert recipe.config["trainer"]["val_check_interval"] == 4
    file, _, line = recipe.place(("trainer", "val_check_interval")).rpartition(":")
    assert file.endswith("dlmkit_tiny/recipes/tiny.yaml")
    assert "val_check_interval" in Path(file).read_text().splitlines()[int(line) - 1]


def test_a_chain_over_several_folders(base, write):
    write("other/middle.yaml", "extends: ../base.yaml\nmodel: {init_args: {width: 5, note: no}}\n")
    recipe = read(str(write("other/deeper/top.yaml", "extends: ../middle.yaml\nmodel: {init_args: {note: on}}\n")))
    assert (model_args(recipe)["width"], model_args(recipe)["note"]) == (5, "on")
    assert recipe.place(("model", "init_args", "width")) == "other/middle.yaml:2"
    assert recipe.place(("model", "init_args", "note")) == "other/deeper/top.yaml:2"


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("a", "a")])
def test_a_circle(tiny, write, first, second):
    write("b.yaml", "extends: a.yaml\n")
    write("a.yaml", f"extends: {second}.yaml\n")
    (line,) = fault(f"{first}.yaml")
    assert "extends itself: a.yaml → " in line
    assert line.endswith("→ a.yaml; break the circle")


def test_a_base_that_is_not_there(base, write):
    (line,) = fault(str(write("derived.yaml", "# first\nextends: bse.yaml\n")))
    assert line.startswith("derived.yaml:2: there is no file bse.yaml; did you mean base.yaml")
    (line,) = fault(str(write("my.yaml", "extends: tiyn\n")))
    assert line.startswith("my.yaml:1: no recipe is called tiyn; did you mean tiny?")
    (line,) = fault(str(write("my.yaml", "extends: [a, b]\n")))
    assert line.startswith("my.yaml:1: extends is ['a', 'b']; name one")


def test_a_fault_in_the_base_points_into_the_base(base, write):
    base.write_text(TEXT.replace("data:", "dtaa:"))
    lines = fault(str(write("my.yaml", "extends: base.yaml\n")))
    assert lines[0] == "base.yaml:11: dtaa is no key of a recipe; did you mean data?"


# ---------- overrides


def test_words_become_keys_and_values():
    words = ["--a.b=1", "--a.c", "2", "--d=x=y", "--e=[1, no]", "--f", "-3", "--g={h: 1e-3}", "--i='5'", "--j=a: b: c"]
    assert parse_overrides(words) == [
        (("a", "b"), 1),
        (("a", "c"), 2),
        (("d",), "x=y"),
        (("e",), [1, "no"]),
        (("f",), -3),
        (("g",), {"h": 0.001}),
        (("i",), "5"),
        (("j",), "a: b: c"),
    ]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["a=1"], "a=1 is no option"),
        (["--a"], "--a needs a value; write --a=VALUE"),
        (["--a", "--b=1"], "--a needs a value"),
        (["-a", "1"], "-a is no option"),
    ],
)
def test_words_that_are_no_options(words, what):
    with pytest.raises(UserError) as caught:
        parse_overrides(words)
    assert str(caught.value).startswith(f"command line: {what}")


@pytest.mark.parametrize("option", ["--model.width", "--model.init_args.width"])
def test_init_args_may_be_left_out(base, option):
    recipe = read(str(base), [f"{option}=9"])
    assert model_args(recipe)["width"] == 9
    assert recipe.place(("model", "init_args", "width")) == "command line"
    assert recipe.place(("model", "init_args", "depths")) == "base.yaml:7"


def test_an_option_of_an_option(base):
    recipe = read(str(base), ["--model.optimizer.lr=0.1"])
    assert model_args(recipe)["optimizer"]["init_args"] == {"lr": 0.1, "momentum": 0.9}
    recipe = read("tiny", ["--model.lr_scheduler=dlmkit.WarmupCosine", "--model.lr_scheduler.warmup=3"])
    assert model_args(recipe)["lr_scheduler"] == {"class_path": "dlmkit.WarmupCosine", "init_args": {"warmup": 3}}


def test_what_is_typed_wins_over_every_recipe(base, write):
    write("over.yaml", "model: {init_args: {width: 5}}\nseed_everything: 4\n")
    recipe = read(str(base), ["--model.width=6"], ["over.yaml"])
    assert (model_args(recipe)["width"], recipe.config["seed_everything"]) == (6, 4)
    assert recipe.name == "base"
    assert recipe.place(("seed_everything",)) == "over.yaml:2"


def test_overlays_are_laid_on_in_order_and_may_extend(base, write):
    write("under.yaml", "trainer: {max_steps: 7, max_epochs: 7}\n")
    write("one.yaml", "extends: under.yaml\ntrainer: {max_epochs: 8}\n")
    write("two.yaml", "trainer: {max_steps: 9}\n")
    recipe = read(str(base), (), ["one.yaml", "two.yaml"])
    assert recipe.config["trainer"] == {"max_steps": 9, "max_epochs": 8}
    assert recipe.config["data"]["class_path"] == "dlmkit_tiny.data.Beats"


def test_another_model_typed(base):
    recipe = read(str(base), ["--model=needy", "--model.needed=1"])
    assert recipe.config["model"] == {"class_path": "dlmkit_tiny.task.Needy", "init_args": {"needed": 1}}
    assert model_args(read(str(base), ["--model=tiny"]))["width"] == 4
    assert read(str(base), ["--data=bare"]).config["data"]["class_path"] == "dlmkit_tiny.data.Bare"


@pytest.mark.parametrize(
    ("option", "name"), [("--model", "tinny"), ("--model.class_path", "tinny"), ("--data", "bets")]
)
def test_an_unknown_class_typed_is_told_of_the_command_line(base, option, name):
    (line,) = fault(str(base), overrides=[f"{option}={name}"])
    assert line.startswith("command line: no ")
    assert f"is called {name}; did you mean {'tiny' if name == 'tinny' else 'beats'}?" in line


def test_an_option_below_what_has_none(base):
    (line,) = fault(str(base), overrides=["--trainer.max_steps.x=1"])
    assert line.startswith("command line: --trainer.max_steps.x: trainer.max_steps has no keys below it")


@pytest.mark.parametrize("text", ["model: {class_path: tiny, init_args: }", "model: tiny"])
def test_an_option_typed_where_the_recipe_has_none(tiny, write, text):
    recipe = read(str(write("my.yaml", f"{text}\ndata: beats\n")), ["--model.width=3"])
    assert model_args(recipe) == {"width": 3}


def test_an_option_typed_into_an_empty_section(tiny, write):
    path = write("my.yaml", "model: tiny\ndata: beats\ntrainer:\n  # max_steps: 5\n")
    assert read(str(path), ["--trainer.max_steps=3"]).config["trainer"] == {"max_steps": 3}


def test_reading_changes_nothing_that_was_read_before(base):
    read(str(base), ["--model.width=9"])
    assert model_args(read(str(base)))["width"] == 4


# ---------- errors


def test_did_you_mean():
    assert did_you_mean("widht", ["width", "depth"]) == "did you mean width?"
    assert did_you_mean("xyz", ["width", "depth"], "look around") == "look around"


def test_names_beside_a_path(tmp_path, monkeypatch):
    (tmp_path / "b.txt").touch()
    (tmp_path / "a").mkdir()
    assert names_beside(tmp_path / "c.txt") == ["a", "b.txt"]
    assert names_beside(tmp_path / "nowhere" / "c.txt") == []

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    assert names_beside(tmp_path / "c.txt") == []


def test_an_error_is_one_line_whatever_it_says():
    error = UserError("several\n  lines", "mend\n\nthem", "a.yaml:3")
    assert error.lines() == ["a.yaml:3: several lines; mend them"]
    assert str(UserError("what")) == "what"


def test_what_a_later_word_replaces_is_typed_no_more(base):
    recipe = read(str(base), ("--model.width=3", "--model=needy"))
    assert recipe.typed(("model",)) == {}
    recipe = read(str(base), ("--model.depths+=3",))
    assert recipe.typed(("model",)) == {"depths": [1, 2, 3]}


@pytest.mark.parametrize(("below", "above"), [("torch.optim.AdamW", "AdamW"), ("AdamW", "torch.optim.AdamW")])
def test_the_same_optimiser_by_its_short_name_keeps_its_options(base, write, below, above):
    write(
        "below.yaml",
        f"extends: base.yaml\nmodel: {{init_args: {{optimizer: {{class_path: {below}, init_args: {{lr: 2}}}}}}}}",
    )
    over = f"{{class_path: {above}, init_args: {{eps: 1}}}}"
    recipe = read(str(write("over.yaml", f"extends: below.yaml\nmodel: {{init_args: {{optimizer: {over}}}}}")))
    assert model_args(recipe)["optimizer"] == {"class_path": above, "init_args": {"lr": 2, "eps": 1}}


def test_what_cannot_be_printed_is_no_yaml(tiny, write):
    (line,) = fault(str(write("my.yaml", "model: \x0c\n")))
    assert "my.yaml: not valid YAML: " in line and line.endswith("check this line's spelling")
