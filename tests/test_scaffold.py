"""``dlmkit new``: what it refuses, what it writes, and that what it writes keeps dlmkit's promises."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from dlmkit import recipe
from dlmkit.scaffold import _FILES, _IMPORTED, write

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["my-net", "x", "figure", "word4vec", "a-very-long-name-of-forty-characters-yes"]


def run_python(*words, python=sys.executable, **options):
    """Runs Python in a process of its own, and returns its output."""
    done = subprocess.run([str(python), *map(str, words)], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("name", "fault", "remedy"),
    [
        ("MyNet", "'MyNet' is no name for a plugin", "write my-net"),
        ("my_net", "'my_net' is no name for a plugin", "write my-net"),
        ("my net!", "'my net!' is no name for a plugin", "write my-net"),
        ("-net-", "'-net-' is no name for a plugin", "write net"),
        ("2nd-net", "'2nd-net' is no name for a plugin", "write nd-net"),
        ("my--net", "'my--net' is no name for a plugin", "write my-net"),
        ("../net", "'../net' is no name for a plugin", "write net"),
        ("", "'' is no name for a plugin", "such as my-net"),
        ("é", "'é' is no name for a plugin", "such as my-net"),
        ("x" * 41, "has 41 characters", "at most 40"),
        ("lambda", "lambda is a word of Python's own", "write lambda-net"),
        ("none", "none is a word of Python's own", "write none-net"),
        ("tiny", "dlmkit-tiny has the name tiny already", "choose another"),
        ("beats", "dlmkit-tiny has the name beats already", "choose another"),
        ("characters", "dlmkit has the name characters already", "choose another"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(refused, workplace, name, fault, remedy):
    (line,) = refused("new", "--", name) if name.startswith("-") else refused("new", name)
    assert fault in line
    assert line.endswith(remedy) or remedy in line
    assert list(workplace.iterdir()) == []


def test_a_package_that_is_installed_already_is_refused(refused, install):
    install("dlmkit-other", {"dlmkit.tasks": {"else": "else_:Else"}})
    (line,) = refused("new", "other")
    assert line == "a package dlmkit-other is installed already; choose another name"


def test_a_folder_that_is_there_already_is_refused(refused, workplace):
    (workplace / "my-net").mkdir()
    (line,) = refused("new", "my-net")
    assert line == "my-net: is there already; choose another name, or remove it first"
    assert list((workplace / "my-net").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(refused, write):
    write("file", "")
    (line,) = refused("new", "my-net", "--folder", "file")
    assert line == "file/my-net: cannot be written: Not a directory; choose another --folder"


def test_new_says_what_to_do_next(command, workplace):
    outcome = command("new", "my-net", "--folder", "nets")
    assert outcome.code == 0
    assert "pip install -e nets/my-net && dlmkit run my-net && dlmkit check --plugin my-net" in outcome.out
    assert (workplace / "nets/my-net/dlmkit_my_net/model.py").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written(tiny, name):
    folder = write(name, tiny)
    module = name.replace("-", "_")
    texts = {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert set(texts) == {
        "pyproject.toml",
        "README.md",
        f"dlmkit_{module}/__init__.py",
        f"dlmkit_{module}/model.py",
        f"dlmkit_{module}/task.py",
        f"dlmkit_{module}/recipes/{name}.yaml",
        f"tests/test_{module}.py",
    }
    for path, text in texts.items():
        assert "${" not in text, path
        assert text.endswith("\n") and not text.endswith("\n\n"), path
        if path.endswith(".py"):
            compile(text, path, "exec")
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["name"] == f"dlmkit-{name}"
    assert project["dependencies"] == ["dlmkit>=0.1,<0.2"]
    place, _, task = project["entry-points"]["dlmkit.tasks"][name].partition(":")
    assert place == f"dlmkit_{module}.task"
    tree = ast.parse(texts[f"dlmkit_{module}/task.py"])
    assert task in [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert project["entry-points"]["dlmkit.recipes"] == {name: f"dlmkit_{module}.recipes"}
    assert texts[f"dlmkit_{module}/recipes/{name}.yaml"].startswith(f"# dlmkit run {name}\n")


def test_no_class_is_called_as_what_its_file_imports(tiny):
    tree = ast.parse((write("my-net", tiny) / "dlmkit_my_net/task.py").read_text())
    names = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert {name for name in names if name[0].isupper() and not name.isupper()} == _IMPORTED


def test_the_wheel_carries_every_template():
    from importlib import resources

    there = {file.name for file in (resources.files("dlmkit.scaffold") / "template").iterdir()}
    assert there == set(_FILES.values())


@pytest.mark.skipif(not shutil.which("ruff", path=sysconfig.get_path("scripts")), reason="ruff is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_clean_by_the_rules_of_this_project(tiny, name):
    folder = write(name, tiny)
    ruff = shutil.which("ruff", path=sysconfig.get_path("scripts"))
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *words, "--no-cache", str(folder)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    own, ours = (tomllib.loads((place / "pyproject.toml").read_text())["tool"]["ruff"] for place in (folder, ROOT))
    assert own["line-length"] == ours["line-length"]
    assert own["lint"]["select"] == ours["lint"]["select"]
    assert own["lint"]["ignore"] == ours["lint"]["ignore"]


def test_the_recipe_reads(install, tiny):
    folder = write("my-net", tiny)
    install("dlmkit-my-net", {"dlmkit.tasks": {"my-net": "dlmkit_my_net.task:MyNet"}})
    read = recipe.read(str(folder / "dlmkit_my_net/recipes/my-net.yaml"))
    assert read.config["model"]["class_path"] == "dlmkit_my_net.task.MyNet"
    assert read.config["data"]["class_path"] == "dlmkit.data.text.Characters"


@pytest.mark.slow
def test_it_installs_trains_and_passes_the_conformance_kit(workplace):
    pytest.importorskip("flit_core", reason="builds the plugin")
    folder = write("my-net", workplace)
    python = fresh_environment(workplace / "environment")
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run_python("-m", "pip", *install, folder, python=python)
    rows = run_python("-m", "dlmkit.cli", "list", python=python).splitlines()
    assert [row.split()[:2] for row in rows if "my-net" in row] == [["my-net", "dlmkit-my-net"]] * 2
    options = ["--trainer.max_steps=30", "--trainer.val_check_interval=30", "--name=first"]
    out = run_python("-m", "dlmkit.cli", "run", "my-net", *options, python=python)
    assert "test/bits per character" in out
    for product in ("checkpoints/best.ckpt", "media/symbols-test.png", "summary.json"):
        assert (workplace / "runs/first" / product).is_file()
    assert run_python("-m", "dlmkit.cli", "sample", "runs/first", "--length=20", python=python).strip()
    out = run_python("-m", "dlmkit.cli", "check", "--plugin", "my-net", python=python)
    assert "✗" not in out
    run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests", python=python, cwd=folder)


def fresh_environment(folder):
    """A virtual environment that also sees what is installed for this one, and returns its Python."""
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    (places,) = run_python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", python=python).splitlines()
    running = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    lines = [f"import site; site.addsitedir({place!r})\n" for place in running]  # reads the editable installs there too
    Path(places, "running.pth").write_text("".join(lines))
    return python
