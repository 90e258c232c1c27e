"""What dlmkit tells about classes, recipes and the installation."""

from __future__ import annotations

import ast
import copy
import enum
import functools
import json
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml

from dlmkit import plugins, recipe
from dlmkit.diagnosis import option_type
from dlmkit.doctor import examine
from dlmkit.inspection import describe
from dlmkit.notation import in_words, plain_equation, plain_prose, plain_type

# ---------------------------------------------------------------------------------------------------------- notation


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\sigma(W_f \cdot [h_{t-1}, x_t] + b_f)", "σ(W_f · [h_{t-1}, x_t] + b_f)"),
        (r"\tilde C_t &= \tanh(C_t)", "C̃_t = tanh(C_t)"),
        (r"\overrightarrow{h}_1; \overleftarrow{h}_1", "h\u20d7_1; h\u20d6_1"),
        (r"\lVert x \rVert_1 + \lvert y \rvert", "‖ x ‖_1 + | y |"),
        (r"\underbrace{0, \dots, 0}_{T-1}", "(0, …, 0)_{T-1}"),
        (r"a &= b \\" + "\n" + r"  c &= d \\", "a = b\nc = d"),
        (r"\frac{a + b}{2} + \tfrac12 + \frac{1}{BT}", "(a + b)/2 + 1/2 + 1/(BT)"),
        (r"\frac{\frac{a}{b}}{\sqrt{d_k}}", "(a/b)/(√(d_k))"),
        (r"\mathcal{L} = -\sum_{b,t} \log p(y \mid x)", "L = -∑_{b,t} log p(y | x)"),
        (r"x \in \mathbb{R}^{d \times k}, \mathbb{E}_{x \sim p}", "x ∈ ℝ^{d × k}, 𝔼_{x ∼ p}"),
        (r"\left\| x \right\|_2 \le \lambda \hat y", "‖ x ‖_2 ≤ λ ŷ".replace("ŷ", "y\u0302")),
        (r"f = \begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}", "f = { 1, x > 0; 0, otherwise }"),
        (r"\Gamma \Omega \varepsilon \operatorname{softmax}(z)_i", "Γ Ω ε softmax(z)_i"),
        (r"\unheard{a}{b} of \Foo", r"\unheard{a}{b} of \Foo"),
        (r"\hat{xy}", r"\hat{xy}"),
        (r"\frac{a}", "a/()"),
        ("{a", "a"),
    ],
)
def test_an_equation_becomes_text(source, text):
    assert plain_equation(source) == text


def test_prose_loses_its_markup():
    text = r"Makes ``x`` from :math:`\eta` as `Text`, :func:`~a.b.c` and :class:`X` do."
    assert plain_prose(text) == "Makes x from η as Text, c and X do."


def test_a_docstring_is_taken_apart():
    about = describe(
        "A net.\n\n.. math::\n    a &= b \\\\\n    c &= d\n\n    e &= f\n\nOne paragraph\nof two lines.\n\nAnother.\n\n"
        "References:\n    | First (Me, 1997)\n    | Second, long\n      (You, 2003), equation 1\n    | Third\n"
        "    | (They, 2010): a part\n\nArgs:\n    x: A number.\n\nRaises:\n    UserError: Never.\n"
    )
    assert about.title == "A net."
    assert about.equations == ["a = b\nc = d\ne = f"]
    assert about.prose == ["One paragraph of two lines.", "Another."]
    assert about.references == [
        "First (Me, 1997)",
        "Second, long (You, 2003), equation 1",
        "Third (They, 2010): a part",
    ]


def test_a_docstring_of_one_line_and_none_at_all():
    assert describe("A net.").title == "A net."
    assert describe("") == describe("   ")


# -------------------------------------------------------------------------------------------------------------- show


def test_show_of_a_task(command):
    outcome = command("show", "tiny")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0] == "tiny · A gated recurrent net that takes milliseconds."
    assert lines[1] == "task of dlmkit-tiny 1.0 (dlmkit_tiny.task.Tiny)"
    options = {line.split()[0]: " ".join(line.split()) for line in lines if line.startswith("  ")}
    assert options["vocab_size"] == "vocab_size int required, or from Symbols."
    assert options["width"] == "width int 8 Units."
    assert options["depths"] == "depths list[int] | null null A list."
    assert options["span"] == "span tuple[float, [0.0, 1.0] A pair."
    assert options["bias"] == "bias bool true Whether the output has a bias."
    assert options["optimizer"] == "optimizer an optimiser AdamW(lr=0.001) Makes the optimiser from the parameters."
    assert options["lr_scheduler"].startswith("lr_scheduler a schedule | null null Makes the learning-rate schedule")
    assert options["-n"].startswith("-n int 1 ")
    assert options["temperature"].startswith("temperature float 0.8 0 repeats the likeliest")
    assert options["dlmkit"] == "dlmkit run tiny A net of a few numbers on walks over a ring."
    assert max(map(len, lines)) <= 100
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("int", "a whole number"),
        ("int | None", "a whole number or null"),
        ("typing.Literal['ab', 'ba']", "ab or ba"),
        ("Literal[1, 16, 34] | None", "1, 16, 34 or null"),
        ("list[str]", 'a list of words, such as ["one", "other"]'),
        ("tuple[int, int]", "a list of 2 whole numbers"),
        ("tuple[float, ...]", "a list of numbers"),
        ("dict[str, int]", "dict[str, int]"),
    ],
)
def test_types_as_a_person_says_them(written, words):
    assert in_words(plain_type(written)) == words


Mood = Literal["merry", "sad"]


class Moody:
    def __init__(self, mood: Mood = "merry", other: Mood | None = None) -> None: ...


def test_a_name_for_choices_is_written_out():
    assert option_type(Moody, "mood") == "Literal['merry', 'sad']"
    assert plain_type(option_type(Moody, "other")) == "merry | sad | null"


def test_no_equation_is_left_in_latex():
    """Of dlmkit and its plugins, as ``dlmkit show`` prints them."""
    left, found = [], 0
    for folder in ("dlmkit", "plugins"):
        for path in sorted((Path(__file__).parents[1] / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and (docstring := ast.get_docstring(node)):
                    equations = describe(docstring).equations
                    found += len(equations)
                    left += [f"{path.name}: {node.name}: {e}" for e in equations if "\\" in e]
    assert found > 40 and not left, "\n".join(left)


def test_show_fits_eighty_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, command("show", "tiny").out.splitlines())) <= 80


def test_show_of_data_and_of_what_generates_nothing(command, install):
    outcome = command("show", "dlmkit-tiny:beats")
    assert "data module of dlmkit-tiny 1.0" in outcome.out
    assert "generating" not in outcome.out
    assert "  dlmkit run tiny  " in outcome.out
    silent = """
        from dlmkit import Task
        class Silent(Task):
            '''Says [bold]nothing[/bold].'''
            def loss(self, batch):
                return 0
        """
    install("dlmkit-silent", {"dlmkit.tasks": {"silent": "silent:Silent"}}, silent=silent)
    outcome = command("show", "silent")
    assert outcome.out.startswith("silent · Says [bold]nothing[/bold].")
    assert "generating" not in outcome.out
    assert "recipes" not in outcome.out


def test_show_of_data_says_what_a_batch_holds_and_what_a_task_is_told(command, install):
    source = """
        from dlmkit import DataModule
        class Above(DataModule):
            '''Something.

            It is read twice. A batch holds ``input`` (B, T), int64.
            '''
            @property
            def classes(self):
                '''How many.

                Not in the first line.
                '''
                return 2
            @property
            def _hidden(self):
                return 3
        class Below(Above):
            '''Something else.'''
        class Own(Above):
            '''A third. It says so itself.

            A batch holds ``output``.
            '''
        """
    data = {"above": "sounds:Above", "below": "sounds:Below", "own": "sounds:Own"}
    install("dlmkit-sounds", {"dlmkit.data": data}, sounds=source)
    below = command("show", "below").out
    assert "about\n  A batch holds input (B, T), int64.\n" in below
    assert "  classes  How many.\n" in below
    assert "first line" not in below and "_hidden" not in below
    assert "It is read twice. A batch holds input (B, T), int64." in (above := command("show", "above").out)
    assert above.count("A batch holds") == 1
    assert "A batch holds output." in (own := command("show", "own").out)
    assert "input" not in own


def test_show_of_recipes(command, write):
    outcome = command("show", "tiny.yaml")
    assert "model:\n    class_path: tiny" in outcome.out
    assert "  model  tiny: dlmkit_tiny.task.Tiny of dlmkit-tiny 1.0\n" in outcome.out
    assert "  dlmkit copy tiny  make it your own\n" in outcome.out
    write("my.yaml", "# dlmkit run my.yaml\n# Mine.\nextends: tiny\nmodel: {init_args: {width: 4}}\n")
    outcome = command("show", "my.yaml")
    assert outcome.out.startswith("my.yaml · Mine.\nrecipe (my.yaml)\n")
    assert "  data   beats: dlmkit_tiny.data.Beats of dlmkit-tiny 1.0\n" in outcome.out
    assert "dlmkit copy" not in outcome.out
    write("over.yaml", "trainer: {max_steps: 3}\n")
    outcome = command("show", "over.yaml")
    assert "overlay (over.yaml)" in outcome.out
    assert "  dlmkit run RECIPE --config over.yaml  " in outcome.out


def test_an_unknown_name_is_told_without_torch(site):
    code = "import sys; from dlmkit.cli import main; print(main(['show', 'tinny']), 'torch' in sys.modules)"
    path = {"PYTHONPATH": str(site), "PATH": ""}
    outcome = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    assert outcome.stdout.split() == ["2", "False"]
    assert outcome.stderr == "dlmkit: no task, data module or recipe is called tinny; did you mean tiny?\n"


# ------------------------------------------------------------------------------------------------------------ schema


class Kind(enum.Enum):
    """A choice."""

    SLOW = 1
    FAST = 2


@dataclass
class Point:
    """A dataclass, whose fields stand in a recipe without a class_path."""

    x: int


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (bool, {"type": "boolean"}),
        (float, {"type": "number"}),
        (None, {"type": "null"}),
        (str | None, {"type": ["string", "null"]}),
        (int | int, {"type": "integer"}),
        (int | list[int], {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Annotated[int, []], {"type": "integer"}),
        (list, {"type": "array"}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict, {"type": "object"}),
        (Kind, {"enum": ["SLOW", "FAST"]}),
        (Path, {"type": "string"}),
        (Point, {"type": "object"}),
        (Any, {}),
        (Any | None, {}),
        (Callable[[int], int], {"$ref": "#/$defs/class"}),
        (typing.Callable, {"$ref": "#/$defs/class"}),
    ],
)
def test_a_type_has_a_schema(hint, schema):
    from dlmkit.schema import type_schema

    assert type_schema(hint) == schema


@functools.cache
def checked(text):
    """The validator of a schema that is one."""
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is judged by another implementation")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def validator(command):
    """Makes the validator of a recipe's schema, as ``dlmkit schema`` prints it."""

    def make(name):
        outcome = command("schema", name)
        assert outcome.code == 0, outcome
        assert len(outcome.out) < 300_000
        schema = json.loads(outcome.out)
        assert schema.pop("title").startswith("recipe of dlmkit")  # all else is one for recipes of the same classes
        return checked(json.dumps(schema))

    return make


def faults(validator, config):
    """The places of the faults, joined by points."""
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(config)]


def test_every_recipe_fits_its_schema(validator):
    for entry in plugins.installed():
        if entry.kind == "recipes" and not recipe.is_overlay(Path(entry.value)) and not entry.fault:
            config = yaml.safe_load(Path(entry.value).read_text(encoding="utf-8"))
            assert faults(validator(f"{entry.package}:{entry.name}"), config) == [], entry.name


def test_overlays_fit_the_schema_and_have_none(validator, refused, write):
    config = yaml.safe_load(write("over.yaml", "trainer: {max_steps: 3, devices: 2}\n").read_text())
    assert faults(validator("tiny"), config) == []
    (fault,) = refused("schema", "over.yaml")
    assert "over.yaml is an overlay" in fault


EARLY = "lightning.pytorch.callbacks.EarlyStopping"


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("modle", {}, [""]),
        ("seed_everything", "one", ["seed_everything"]),
        ("extends", "lstm", []),
        ("extends", "elsewhere/mine.yaml", []),
        ("extends", ["lstm"], ["extends"]),
        ("trainer", {"callbacks+": [{"class_path": EARLY, "init_args": {"monitor": "val/loss"}}]}, []),
        ("trainer", {"callbacks+": EARLY}, ["trainer.callbacks+"]),
        ("trainer", {"max_steps+": [1]}, ["trainer"]),
        ("model", "tiny", []),
        ("model", "needy", []),
        ("model", "dlmkit-tiny:needy", []),
        ("model", "a.b.C", []),
        ("model", "tinny", ["model"]),
        ("model", None, ["model"]),
        ("model.class_path", "tinny", ["model.class_path"]),
        ("model.init_arg", {}, ["model"]),
        ("model.init_args.widht", 4, ["model.init_args"]),
        ("model.init_args.width", "wide", ["model.init_args.width"]),
        ("model.init_args.width", 4.5, ["model.init_args.width"]),
        ("model.init_args.bias", 1, ["model.init_args.bias"]),
        ("model.init_args.depths", [1, 2], []),
        ("model.init_args.depths", None, []),
        ("model.init_args.depths", ["a"], ["model.init_args.depths"]),
        ("model.init_args.span", [0, 1], []),
        ("model.init_args.span", [0, 1, 2], ["model.init_args.span"]),
        ("model.init_args.optimizer", "torch.optim.SGD", []),
        ("model.init_args.optimizer", {"lr": 0.1}, []),
        ("model.init_args.optimizer", None, ["model.init_args.optimizer"]),
        ("model.init_args.optimizer.init_args.lrr", 0.1, ["model.init_args.optimizer.init_args"]),
        ("model.init_args.optimizer.init_args.betas", [0.9, 0.99], []),
        ("model.init_args.optimizer.lr", 0.1, ["model.init_args.optimizer"]),
        ("model.init_args.lr_scheduler", None, []),
        ("model.init_args.lr_scheduler", {"class_path": "dlmkit.WarmupCosine", "init_args": {"warmup": 5}}, []),
        ("data.init_args.symbols", 3, []),
        ("data.init_args.symbol", 3, ["data.init_args"]),
        ("trainer.max_stepps", 3, ["trainer"]),
        ("trainer.max_steps", "all", ["trainer.max_steps"]),
        ("trainer.precision", "bf16-mixed", []),
        ("trainer.precision", "bf17", ["trainer.precision"]),
        ("trainer.max_time", "00:01:00:00", []),
        ("trainer.callbacks", [{"class_path": EARLY, "init_args": {"monitor": "val/loss"}}], []),
        ("trainer.logger", False, []),
    ],
)
def test_the_schema_finds_mistakes_where_they_are(validator, key, value, where):
    config = yaml.safe_load(Path(plugins.find("recipes", "tiny").value).read_text(encoding="utf-8"))
    *above, last = key.split(".")
    part = config
    for word in above:
        part = part[word]
    part[last] = value
    assert faults(validator("tiny"), config) == where


def test_another_class_has_options_that_are_not_known(validator):
    config = yaml.safe_load(Path(plugins.find("recipes", "tiny").value).read_text(encoding="utf-8"))
    other = copy.deepcopy(config)
    other["model"] = {"class_path": "needy", "init_args": {"needed": 3}}
    built = {"extends": "tiny", "model": {"init_args": {"width": 3}}}
    assert faults(validator("tiny"), other) == []
    assert faults(validator("tiny"), built) == []
    assert faults(validator("tiny"), {"extends": "tiny", "model": {"init_args": {"widht": 3}}}) == ["model.init_args"]
    assert faults(validator("tiny"), {"model": "tiny"}) == [""]


def test_a_schema_is_made_quickly(tiny):
    from dlmkit.options import class_options
    from dlmkit.schema import recipe_schema

    recipe_schema(recipe.read("tiny"))
    class_options.cache_clear()
    started = time.process_time()
    recipe_schema(recipe.read("tiny"))
    assert time.process_time() - started < 2


# ------------------------------------------------------------------------------------------------------------ doctor


def told(name):
    """The findings that speak of a name."""
    return [finding for finding in examine() if name in finding.what]


def test_doctor_has_a_line_for_everything(command):
    outcome = command("doctor")
    lines = outcome.out.splitlines()
    for word in ("Python", "torch", "lightning", "Weights & Biases", "cache", "working folder"):
        assert any(line.startswith("✓") and word in line for line in lines), word
    assert "✓ task tiny of dlmkit-tiny 1.0" in lines
    assert "✓ recipe tiny of dlmkit-tiny 1.0" in lines
    assert outcome.code == (1 if "✗" in outcome.out else 0)
    assert outcome.err == ""


def test_doctor_tells_what_is_wrong_with_a_package(command, install):
    install("dlmkit-bad", {"dlmkit.tasks": {"bad": "bad:Bad"}}, bad="import nothing_of_this_name")
    install("dlmkit-old", {"dlmkit.tasks": {"old": "old:Old"}}, ["dlmkit>=9"], old="class Old: ...")
    install("dlmkit-twin", {"dlmkit.tasks": {"tiny": "twin:Twin"}}, twin="class Twin: ...")
    (bad,) = told("task bad ")
    assert bad.mark == "✗"
    assert "No module named 'nothing_of_this_name'" in bad.what
    (old,) = told("task old ")
    assert (old.mark, old.remedy) == ("✗", "pip install -U dlmkit-old")
    assert "needs dlmkit>=9, but 0.1.0 is installed" in old.what
    claims = told("task tiny ")
    assert [claim.mark for claim in claims] == ["✗", "✗"]
    assert "dlmkit-twin also claims this name; write dlmkit-tiny:tiny" in claims[0].what
    assert command("doctor").code == 1


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_doctor_knows_the_compromised_releases(tiny, monkeypatch, version):
    genuine = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == "lightning" else genuine(name))
    (finding,) = told("compromised")
    assert finding.mark == "✗"
    assert f"lightning {version}" in finding.what


def test_doctor_looks_at_folders(tiny, monkeypatch):
    blocked = tiny / "file"
    blocked.write_text("")
    monkeypatch.setenv("DLMKIT_CACHE", str(blocked / "cache"))
    (cache,) = told("cache ")
    assert (cache.mark, "DLMKIT_CACHE" in cache.remedy) == ("✗", True)
    monkeypatch.setenv("DLMKIT_CACHE", str(tiny / "not" / "yet"))
    (cache,) = told("cache ")
    assert cache.mark == "✓"
    assert not (tiny / "not").exists()


@pytest.mark.parametrize(("mode", "mark", "word"), [("offline", "✓", "offline"), ("disabled", "!", "disabled")])
def test_doctor_tells_how_runs_would_be_tracked(tiny, monkeypatch, mode, mark, word):
    monkeypatch.setenv("WANDB_MODE", mode)
    (finding,) = told("Weights & Biases")
    assert finding.mark == mark
    assert word in finding.what
