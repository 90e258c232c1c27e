"""What the core's tests share: a plugin of a few numbers, installed for the test, and the command to give."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import re
import shutil
import signal
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

HELPERS = Path(__file__).parent / "helpers"

# Before torch is imported: in nets of a few numbers, threads do nothing but wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def faults(self):
        """The lines that tell a fault, without the command's name in front."""
        return [line.removeprefix("dlmkit: ") for line in self.err.splitlines()]


def forget_installed():
    """Read the packages' metadata anew."""
    from dlmkit import plugins

    plugins.installed.cache_clear()
    plugins._version.cache_clear()
    plugins._dist_faults.clear()
    plugins._identities.clear()


def write_package(folder, name, entries, version="1.0", requires=()):
    """The metadata by which a package is found, as an installer writes them.

    Args:
        folder: Where, a folder of sys.path.
        name: The distribution.
        entries: Group to {name: value}.
        version: Its version.
        requires: What it needs.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: The package {name}\n{needs}"
    (info / "METADATA").write_text(head)
    groups = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder of packages with the tiny plugin in it; a process of its own finds it through PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(HELPERS / "dlmkit_tiny", folder / "dlmkit_tiny", ignore=shutil.ignore_patterns("__pycache__"))
    entries = {
        "dlmkit.tasks": {
            "tiny": "dlmkit_tiny.task:Tiny",
            "needy": "dlmkit_tiny.task:Needy",
            "rivals": "dlmkit_tiny.rivals:Rivals",
        },
        "dlmkit.data": {
            "beats": "dlmkit_tiny.data:Beats",
            "bare": "dlmkit_tiny.data:Bare",
            "points": "dlmkit_tiny.rivals:Points",
        },
        "dlmkit.recipes": {"tiny": "dlmkit_tiny.recipes"},
    }
    write_package(folder, "dlmkit-tiny", entries)
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working folder, caches of its own, and an environment that a test may change as it likes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path.parent / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("COLUMNS", "100")
    with contextlib.ExitStack() as stack:
        for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            stack.callback(_restore, name, os.environ.get(name))
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.getsignal(number))
        yield tmp_path


def _restore(name, value):
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@pytest.fixture
def tiny(workplace, site, monkeypatch):
    """The tiny plugin installed: the task ``tiny``, the data ``beats``, the recipe ``tiny``."""
    monkeypatch.syspath_prepend(str(site))
    forget_installed()
    yield workplace
    monkeypatch.undo()
    forget_installed()


@pytest.fixture
def install(tiny, monkeypatch):
    """Installs further packages: ``install("dlmkit-x", {"dlmkit.tasks": {"x": "x:X"}}, x="class X: ...")``."""
    folder = tiny.parent / f"{tiny.name}-site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def add(name, entries, requires=(), **modules):
        write_package(folder, name, entries, requires=requires)
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(textwrap.dedent(text))
        forget_installed()

    yield add
    for name in [name for name, module in sys.modules.items() if _lies_in(module, folder)]:
        del sys.modules[name]


def _lies_in(module, folder):
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


@pytest.fixture
def write(workplace):
    """Writes a file into the working folder: ``write("my.yaml", text)``; the text may be indented."""

    def put(name, text):
        path = workplace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return put


@pytest.fixture
def prose(write):
    """A text of a few words, long enough to be split."""
    draw = random.Random(0)
    words = ["the ", "cat ", "sat ", "on ", "a ", "mat\n"]
    return write("prose.txt", "".join(draw.choice(words) for _ in range(300)))


@pytest.fixture
def command(tiny, capsys):
    """Gives a command in this process: ``command("run", "tiny")``."""

    def give(*words):
        from dlmkit.cli import main

        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return give


@pytest.fixture
def refused(command, workplace):
    """Gives a command that must fail as a user's mistake does, and returns its lines.

    Each line names the fault; the exit status is 2; there is no run folder, and nothing in those that were there has
    changed.
    """

    def give(*words):
        before = _contents(workplace / "runs")
        outcome = command(*words)
        assert outcome.code == 2, outcome
        assert outcome.err.strip(), "nothing is said"
        for line in outcome.err.splitlines():
            assert re.match(r"dlmkit: \S", line), outcome.err
        assert "Traceback" not in outcome.err
        assert _contents(workplace / "runs") == before
        return outcome.faults

    return give


def _contents(folder):
    return {path: path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@pytest.fixture
def train(command, workplace):
    """Trains and returns the run's folder: ``train("tiny", "--trainer.max_steps=4")``."""

    def give(*words, name=None):
        runs = workplace / "runs"
        before = set(runs.iterdir()) if runs.is_dir() else set()
        words = (*words, "--name", name) if name else words
        outcome = command("run", *words)
        assert outcome.code == 0, outcome
        assert outcome.err == "", outcome.err
        if "--resume" in words:
            return Path(words[1])
        if name:
            return Path("runs", name)
        (folder,) = set(runs.iterdir()) - before
        return folder.relative_to(workplace)

    return give


@pytest.fixture
def weights():
    """Reads the last weights of a run."""

    def read(folder, name="last"):
        import torch

        return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]

    return read


@pytest.fixture
def rows():
    """Reads a CSV file as one dictionary for each row."""

    def read(path):
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
