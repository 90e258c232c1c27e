"""The command itself: its grammar, its answers, its speed, and what it shows."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import textwrap

import pytest

from dlmkit import __version__, cli

VERBS = ["run", "test", "sample", "compare", "check", "list", "show", "copy", "schema", "completion", "new", "doctor"]


def grammar():
    (verbs,) = [a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return verbs.choices


def examples():
    """The commands that the help texts show."""
    for name, verb in grammar().items():
        for line in verb.epilog.splitlines()[1:]:
            command = re.split(r"\s{3,}|\s+[12]?>+", line.strip())[0]
            for part in command.split("&&"):
                if part.strip().startswith("dlmkit "):
                    yield pytest.param(name, part.strip(), id=part.strip())


def test_every_verb_has_a_line_of_help_and_an_example():
    assert list(grammar()) == VERBS
    for name, verb in grammar().items():
        assert verb.epilog.startswith("examples:\n  dlmkit "), name
        assert verb.description.endswith("."), name
        for action in verb._actions:
            assert action.help, (name, action.dest)


@pytest.mark.parametrize(("verb", "example"), list(examples()))
def test_the_examples_of_the_help_are_commands(verb, example):
    words = shlex.split(example)
    options = cli.parse(words[1:])
    assert options.verb_name == words[1]
    assert all(word.startswith("--") for word in getattr(options, "overrides", []))


def test_help_and_version(command):
    bare, asked = command(), command("--help")
    assert (bare.code, bare.err) == (asked.code, asked.err) == (0, "")
    assert bare.out == asked.out
    for verb in VERBS:
        assert re.search(rf"^\s+{verb}\s+\w", bare.out, re.MULTILINE)
    assert command("--version").out == f"dlmkit {__version__}\n"
    assert "--resume RUN" in command("run", "--help").out


def test_options_are_not_abbreviated(refused):
    (line,) = refused("list", "--js")
    assert line.startswith("--js is no option of list")


def test_values_with_spaces_and_dashes(command):
    options = cli.parse(["run", "x", "--name", "a b", "--model.note=a b", "--model.shift", "-3", "--allow", "p q"])
    assert (options.name, options.allow) == ("a b", ["p q"])
    assert options.overrides in (["--model.note=a b", "--model.shift", "-3"], ["--model.note=a b", "--model.shift=-3"])
    options = cli.parse(["sample", "runs/x", "--prompt", "two words", "--temperature", "0.5"])
    assert options.prompt == "two words"


def test_stopped_by_the_keyboard(command, monkeypatch):
    from dlmkit import catalogue

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "list_installed", interrupted)
    outcome = command("list")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "dlmkit: stopped\n")


def test_a_reader_that_goes_away(workplace):
    """``dlmkit list | head -1`` ends in silence."""
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONUNBUFFERED", None)
    command = [sys.executable, "-m", "dlmkit.cli", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(command, shell, tmp_path):
    outcome = command("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    for word in ("tiny", "doctor", *(["--wandb-project"] if shell != "tcsh" else [])):
        assert word in outcome.out
    if shell == "bash":
        (tmp_path / "completion").write_text(outcome.out)
        subprocess.run(["bash", "-n", tmp_path / "completion"], check=True)


LIGHT = """
    import contextlib, io, sys
    from dlmkit.cli import main

    out = io.StringIO()
    for words in {words!r}:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                main(words)
            except SystemExit:
                pass
        heavy = {heavy!r} & set(sys.modules)
        assert not heavy, (words, heavy)
    print(out.getvalue())
    """


def test_what_needs_no_torch_imports_none(tiny, write, site):
    """In a process of its own, because this one has imported everything."""
    write("malformed.yaml", "model: [\n")
    write("unknown.yaml", "model: nothing\ndata: beats\n")
    write("twice.yaml", "model: tiny\nmodel: tiny\ndata: beats\n")
    words = [
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in VERBS),
        ["list"],
        ["list", "--json"],
        ["copy", "tiny"],
        ["copy", "nosuch"],
        ["completion", "bash"],
        ["new", "No Name"],
        ["show", "nosuch"],
        ["run"],
        ["run", "nosuch"],
        ["run", "nosuch.yaml"],
        ["run", "malformed.yaml"],
        ["run", "unknown.yaml"],
        ["run", "twice.yaml"],
        ["run", "tiny", "--nosuch"],
        ["run", "tiny", "--name", "a/b"],
        ["run", "--resume", "nosuch"],
        ["test", "nosuch"],
        ["sample", "nosuch"],
        ["check", "nosuch"],
    ]
    heavy = {
        "torch",
        "lightning",
        "lightning_fabric",
        "datasets",
        "wandb",
        "matplotlib",
        "numpy",
        "jsonargparse",
        "rich",
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    code = textwrap.dedent(LIGHT.format(words=words, heavy=heavy))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for told in (
        "wrote tiny.yaml",
        "malformed.yaml:2: not valid YAML",
        "unknown.yaml:1: no task is called nothing",
        "twice.yaml:2: the key model is given twice",
        "a/b",
        "nosuch: there is no such run",
    ):
        assert told in done.stdout, told


def test_the_first_screen(command, tiny):
    """A head, a line for each validation, the outcome, and what to do next."""
    outcome = command("run", "tiny", "--name", "first")
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0].split(maxsplit=1)[1] == f"{__version__} · tiny · A gated recurrent net that takes milliseconds."
    heads = [line.split()[0] for line in lines[:5]]
    assert heads == ["dlmkit", "data", "model", "device", "run"]
    told = [line.split()[1] for line in lines if "val/loss" in line and line.startswith("step ")]
    assert {"4/8", "8/8"} <= set(told)  # on a busy machine there are lines in between
    assert re.search(r"^test/loss +\d\.\d{3}$", outcome.out, re.MULTILINE)
    assert "media/units-test.png" in outcome.out
    assert re.search(r"^run +runs/first +\(8 steps in \d+ min \d+ s\)$", outcome.out, re.MULTILINE)
    assert re.match(r"next +dlmkit sample runs/first +more of it from the trained network", lines[-1])
    assert max(map(len, lines)) <= 100


def test_a_run_that_is_asked_to_stop_in_its_test_says_so(command, monkeypatch):
    """Lightning leaves then without a status of its own, which would be that of success."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    def asked(*args, **options):
        raise SIGTERMException

    monkeypatch.setattr("lightning.pytorch.Trainer.test", asked)
    outcome = command("run", "tiny")
    assert (outcome.code, outcome.err) == (143, "dlmkit: stopped\n")
