"""What is installed: found without importing it, broken ones listed with the reason, clashes told and resolvable."""

from __future__ import annotations

import json
import sys

import pytest

from dlmkit import plugins, recipe
from dlmkit.errors import UserError

SUBCLASS = """
    from dlmkit_tiny.task import Tiny as Base

    class Tiny(Base):
        "Another net."
    """


def test_a_package_registers_tasks_data_and_recipes(tiny):
    mine = {(e.kind, e.name): e for e in plugins.installed() if e.package == "dlmkit-tiny"}
    assert set(mine) == {
        ("tasks", "tiny"),
        ("tasks", "needy"),
        ("tasks", "rivals"),
        ("data", "beats"),
        ("data", "bare"),
        ("data", "points"),
        ("recipes", "tiny"),
        ("recipes", "rivals"),
    }
    task = mine["tasks", "tiny"]
    assert (task.value, task.path) == ("dlmkit_tiny.task:Tiny", "dlmkit_tiny.task.Tiny")
    assert (task.version, task.fault, task.summary) == ("1.0", "", "The package dlmkit-tiny")
    assert mine["recipes", "tiny"].value.endswith("dlmkit_tiny/recipes/tiny.yaml")


def test_the_core_registers_its_own_data_and_recipes(tiny):
    mine = [e for e in plugins.installed() if e.package == "dlmkit"]
    assert {"characters", "subwords"} <= {e.name for e in mine}
    assert not any(e.fault for e in mine)
    assert plugins.find("recipes", "lstm-tinyshakespeare").package == "dlmkit"


def test_every_yaml_file_of_a_recipe_folder_is_a_recipe(tiny, site, install):
    folder = site / "dlmkit_tiny" / "recipes"
    (folder / "tiny-long.yaml").write_text("extends: tiny\n")
    install("nothing", {})
    try:
        assert {"tiny", "tiny-long"} <= set(plugins.names("recipes"))
        assert plugins.find("recipes", "tiny-long").package == "dlmkit-tiny"
    finally:
        (folder / "tiny-long.yaml").unlink()


def test_recipes_may_lie_in_a_folder(tiny, site, install, train):
    """One level deep; the folder is part of the name, and such a recipe builds on its neighbour."""
    folder = tiny.parent / f"{tiny.name}-site" / "many"
    (folder / "recipes" / "deep").mkdir(parents=True)
    text = (site / "dlmkit_tiny" / "recipes" / "tiny.yaml").read_text()
    (folder / "recipes" / "deep" / "one.yaml").write_text(text)
    (folder / "recipes" / "deep" / "two.yaml").write_text("extends: deep/one\ntrainer: {max_steps: 3}\n")
    install("many", {"dlmkit.recipes": {"many": "many.recipes"}})
    assert {"deep/one", "deep/two"} <= set(plugins.names("recipes"))
    assert plugins.find("recipes", "many:deep/one") == plugins.find("recipes", "deep/one")
    with pytest.raises(UserError, match="did you mean deep/two or deep/one"):
        recipe.locate("deep/tow")
    run = train("many:deep/two")
    assert run.name.startswith("two-")
    assert json.loads((run / "summary.json").read_text())["steps"] == 3


def test_a_single_module_is_a_plugin_too(install, train):
    install("dlmkit-flat", {"dlmkit.tasks": {"flat": "flat_net:Tiny"}}, flat_net=SUBCLASS)
    assert plugins.find("tasks", "flat").path == "flat_net.Tiny"
    train("tiny", "--model=flat")
    train("tiny", "--model=flat_net.Tiny")


def test_listing_imports_nothing(command, install):
    install("dlmkit-loud", {"dlmkit.tasks": {"loud": "loud:Net"}}, loud="raise RuntimeError('imported')\n")
    outcome = command("list")
    assert outcome.code == 0
    assert "loud" in outcome.out
    assert "loud" not in sys.modules


def test_list_names_everything_in_columns(command):
    outcome = command("list")
    assert outcome.code == 0
    assert outcome.err == ""
    heads = [line for line in outcome.out.splitlines() if not line.startswith(" ")]
    assert heads == ["plugins:", "data:", "recipes:"]
    rows = [line.split(maxsplit=3) for line in outcome.out.splitlines() if line.startswith("  ")]
    assert ["tiny", "dlmkit-tiny", "1.0", "A gated recurrent net that takes milliseconds."] in rows
    assert ["tiny", "dlmkit-tiny", "1.0", "A net of a few numbers on walks over a ring."] in rows
    walk = "A walk over a ring of symbols; streams run on from batch to batch, every epoch is another walk."
    assert ["beats", "dlmkit-tiny", "1.0", walk] in rows


def test_list_for_programs(command):
    rows = json.loads(command("list", "--json").out)
    (tiny,) = [row for row in rows if (row["kind"], row["name"]) == ("task", "tiny")]
    assert tiny == {
        "kind": "task",
        "name": "tiny",
        "value": "dlmkit_tiny.task:Tiny",
        "package": "dlmkit-tiny",
        "version": "1.0",
        "fault": None,
    }


# ---------- broken


def faults(command, *words):
    outcome = command("list", "--json", *words)
    return outcome.code, {
        (row["package"], row["name"]): row["fault"] for row in json.loads(outcome.out) if row["fault"]
    }


def test_what_the_metadata_show_is_listed_as_broken(command, install, train):
    install(
        "dlmkit-sick",
        {"dlmkit.tasks": {"sick": "sick:Net", "gone": "nowhere:Net"}, "dlmkit.recipes": {"lost": "nowhere.recipes"}},
        requires=["torch<2", "no-such-package>=1", "numpy>=1", "absent; python_version < '3'"],
        sick="",
    )
    code, broken = faults(command)
    assert code == 1
    assert broken["dlmkit-sick", "gone"] == "its module nowhere is not there; reinstall dlmkit-sick"
    assert broken["dlmkit-sick", "lost"] == "its module nowhere.recipes is not there; reinstall dlmkit-sick"
    reason = broken["dlmkit-sick", "sick"]
    assert reason.startswith("needs torch<2, but 2.")
    assert reason.endswith("; needs no-such-package, which is not installed")
    assert "broken: needs torch<2" in command("list").out
    train("tiny")


class Distribution:
    def __init__(self, *requires):
        self.requires = list(requires)


@pytest.mark.parametrize(
    "have", ["1", "1.0", "1.9.3", "1.10", "1.10.0", "2", "2.0.1", "0.9", "1.10rc1", "1.10+cpu", "2.0.dev1"]
)
def test_requirements_are_met_as_packaging_has_it(monkeypatch, have):
    from packaging.requirements import Requirement

    monkeypatch.setattr(plugins, "_version", lambda name: have)
    texts = [
        f"thing{spec}"
        for spec in ("", ">=1.10", ">=1.0,<2", ">= 1.2 , < 1.10", ">=1,<1.10.0", "==1.*", "!=1.10", "~=1.9")
    ]
    for text in texts:
        fits = Requirement(text).specifier.contains(have, prereleases=True)
        assert bool(plugins.requirement_faults(Distribution(text))) == (not fits), text
    assert not plugins.requirement_faults(Distribution('thing>=99; extra == "more"', "thing>=99 ; extra=='more'"))
    assert plugins.requirement_faults(Distribution('thing>=99; python_version > "3"'))


def test_a_plugin_that_does_not_import_hurts_only_what_names_it(command, refused, install, write, train):
    install("dlmkit-ill", {"dlmkit.tasks": {"ill": "ill:Net"}}, ill="raise OSError('libill.so: not found')\n")
    assert command("list").code == 0, "nothing is imported, so nothing is known"
    code, broken = faults(command, "--verify")
    assert code == 1
    assert "OSError: libill.so: not found" in broken["dlmkit-ill", "ill"]
    assert set(broken) == {("dlmkit-ill", "ill")}
    (line,) = refused("run", "tiny", "--model=ill")
    assert line.startswith("command line: ill of dlmkit-ill 1.0 does not import: OSError: libill.so: not found; ")
    assert "pip install -U dlmkit-ill" in line
    write("my.yaml", "model:\n  class_path: ill\ndata: beats\n")
    (line,) = refused("run", "my.yaml")
    assert line.startswith("my.yaml:2: ill of dlmkit-ill")
    train("tiny")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit('go away')\n", "SystemExit: go away"),
        ("x = (\n", "SyntaxError"),
        ("pass\n", "AttributeError: module 'rotten' has no attribute 'Net'"),
    ],
)
def test_the_reason_why_a_plugin_does_not_import(refused, install, text, what):
    install("dlmkit-rotten", {"dlmkit.tasks": {"rotten": "rotten:Net"}}, rotten=text)
    (line,) = refused("run", "tiny", "--model=rotten")
    assert what in line


def test_a_registered_name_that_is_no_task(refused, install):
    install("dlmkit-odd", {"dlmkit.tasks": {"odd": "odd:net"}}, odd="def net(): ...\n")
    (line,) = refused("run", "tiny", "--model=odd")
    assert "odd.net is no LightningModule" in line


# ---------- clash


def test_two_packages_that_claim_one_name(command, refused, install, write, train):
    install("dlmkit-other", {"dlmkit.tasks": {"tiny": "other_net:Tiny"}}, other_net=SUBCLASS)
    code, broken = faults(command)
    assert code == 1
    assert broken["dlmkit-other", "tiny"] == "dlmkit-tiny also claims this name; write dlmkit-other:tiny"
    assert broken["dlmkit-tiny", "tiny"] == "dlmkit-other also claims this name; write dlmkit-tiny:tiny"
    write("my.yaml", "model:\n  class_path: tiny\ndata: beats\ntrainer: {max_steps: 1}\n")
    (line,) = refused("run", "my.yaml")
    assert line.startswith("my.yaml:2: dlmkit-other and dlmkit-tiny both claim the task tiny; ")
    assert "write dlmkit-other:tiny or dlmkit-tiny:tiny, or uninstall one of them" in line
    for package, path in (("dlmkit-other", "other_net.Tiny"), ("dlmkit-tiny", "dlmkit_tiny.task.Tiny")):
        write("my.yaml", f"model:\n  class_path: {package}:tiny\ndata: beats\ntrainer: {{max_steps: 1}}\n")
        assert f"class_path: {path}\n" in (train("my.yaml", name=package) / "config.yaml").read_text()


def test_a_clash_is_resolved_where_the_recipe_is_not_ones_own(install, write, train):
    install("dlmkit-other", {"dlmkit.tasks": {"tiny": "other_net:Tiny"}}, other_net=SUBCLASS)
    config = (train("tiny", "--model=dlmkit-other:tiny", name="typed") / "config.yaml").read_text()
    assert "class_path: other_net.Tiny\n" in config
    assert "lr: 0.01\n" in config, "the recipe's options stay"
    write("my.yaml", "extends: tiny\nmodel: {class_path: 'dlmkit-tiny:tiny'}\n")
    assert "class_path: dlmkit_tiny.task.Tiny\n" in (train("my.yaml", name="built") / "config.yaml").read_text()


def test_two_packages_with_a_recipe_of_one_name(refused, install, write, train, site, workplace):
    folder = workplace.parent / f"{workplace.name}-site" / "twin_recipes"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "tiny.yaml").write_text("extends: dlmkit-tiny:tiny\ntrainer: {max_steps: 1}\n")
    install("dlmkit-twin", {"dlmkit.recipes": {"twin": "twin_recipes"}})
    (line,) = refused("run", "tiny")
    assert line.startswith("dlmkit-tiny and dlmkit-twin both claim the recipe tiny; write dlmkit-tiny:tiny or ")
    assert (train("dlmkit-twin:tiny") / "summary.json").is_file()


def test_an_unknown_name_has_a_remedy(tiny):
    with pytest.raises(UserError) as caught:
        plugins.find("tasks", "tinny", "here:1")
    assert str(caught.value).startswith("here:1: no task is called tinny; did you mean tiny?")
    with pytest.raises(UserError, match="no data is called nothing; if it is a plugin: pip install dlmkit-nothing"):
        plugins.find("data", "nothing")
    with pytest.raises(UserError, match="no recipe is called a b; dlmkit list shows what is installed"):
        plugins.find("recipes", "a b")


# ---------- copy


def test_a_copied_recipe_trains(command, refused, train, workplace):
    outcome = command("copy", "tiny")
    assert (outcome.code, outcome.out) == (0, "wrote tiny.yaml; edit it, then: dlmkit run tiny.yaml\n")
    train("tiny.yaml", "--trainer.max_steps=1")
    (line,) = refused("copy", "tiny")
    assert line == "tiny.yaml: is there already; choose another name, or remove it first"
    (workplace / "folder").mkdir()
    assert command("copy", "tiny", "folder").code == 0
    assert (workplace / "folder" / "tiny.yaml").read_text() == (workplace / "tiny.yaml").read_text()
    (line,) = refused("copy", "tiny", "my.txt")
    assert "end it in .yaml" in line
    (line,) = refused("copy", "tiny", "nowhere/my.yaml")
    assert line.startswith("nowhere/my.yaml: cannot be written: ")
    (line,) = refused("copy", "tinny")
    assert line.startswith("no recipe is called tinny; did you mean tiny?")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'class Other:\n    """Not this."""\nclass A(Other):\n    """What it is.\n\n    More.\n    """\n',
            "What it is.",
        ),
        ('class Alike:\n    """Not this."""\nclass A:\n    r"""What `it` is."""\n', "What it is."),
        ('class A:\n    def f(self):\n        """Not this."""\n', "The package dlmkit-told"),
        ("from elsewhere import A\n", "The package dlmkit-told"),
    ],
)
def test_what_a_class_says_of_itself_is_read_and_not_imported(install, text, told):
    install("dlmkit-told", {"dlmkit.tasks": {"told": "told:A"}}, told=f"raise SystemExit\n{text}")
    assert plugins.find("tasks", "told").about == told
