"""Comparing runs: what is read from their folders, the table, the figure, and what is refused."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from dlmkit import compare, records
from dlmkit.records import MISSING

# ---------- runs that were trained


@pytest.fixture
def two(train):
    """Two trained runs that differ in width and learning rate."""
    train("tiny", "--trainer.max_steps=4", name="narrow")
    train("tiny", "--trainer.max_steps=4", "--model.width=16", "--model.optimizer.lr=0.1", name="wide")
    return ["runs/narrow", "runs/wide"]


def test_two_runs_side_by_side(command, two, workplace):
    before = {path: path.read_bytes() for path in (workplace / "runs").rglob("*") if path.is_file()}
    outcome = command("compare", *two)
    assert (outcome.code, outcome.err) == (0, "")
    head, *body = [line.split() for line in outcome.out.splitlines() if line.strip()]
    while body[0][0] != "narrow":
        head = body.pop(0)
    assert head == ["run", "model", "params", "test/loss", "character", "steps", "seconds", "width", "lr"]
    summaries = [json.loads((workplace / run / "summary.json").read_text()) for run in two]
    for cells, summary, rest in zip(body, summaries, (["8", "0.01"], ["16", "0.1"]), strict=False):
        figures = [f"{summary['metrics'][name]:.3f}" for name in ("test/bits_per_character", "test/loss")]
        assert sorted(cells[3:5]) == sorted(figures)
        assert cells[1] == "Tiny"
        assert cells[-2:] == rest
        assert cells[5] == "4"
    assert outcome.out.splitlines()[-2].startswith("figure   compare.png   (val/loss of 2 runs)")
    assert outcome.out.splitlines()[-1].startswith("next     dlmkit compare runs/narrow runs/wide --metric val/bits")
    assert (workplace / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert {path: path.read_bytes() for path in (workplace / "runs").rglob("*") if path.is_file()} == before


def test_a_run_tells_how_large_its_network_is_and_what_it_aims_at(train, workplace):
    summary = json.loads((train("tiny") / "summary.json").read_text())
    # embedding 6 × 8, three gates of 8 × (8 + 8) and two biases, read-out 8 × 6 and its bias
    assert summary["parameters"] == 48 + 3 * 8 * 16 + 2 * 24 + 54
    assert (summary["headline"], summary["monitor"], summary["monitor_mode"]) == ("test/loss", "val/loss", "min")


def test_times_go_on_when_a_run_is_resumed(train, rows):
    folder = train("tiny", "--trainer.max_steps=6", name="first")
    before = [(int(row["step"]), float(row["seconds"])) for row in rows(folder / "times.csv")]
    train("--resume", folder, "--trainer.max_steps=12")
    after = [(int(row["step"]), float(row["seconds"])) for row in rows(folder / "times.csv")]
    assert after[: len(before)] == before
    assert [step for step, _ in after] == sorted(step for step, _ in after)
    assert [second for _, second in after] == sorted(second for _, second in after)
    assert {step for step, _ in after} == set(range(12)), "one for each step at which something is logged, no test"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["seconds"] == pytest.approx(after[-1][1], abs=0.2), "that of all parts of the run"


def test_times_of_steps_that_are_done_again_are_forgotten(tmp_path):
    from dlmkit.tracking import MetricsFile

    file = MetricsFile(tmp_path / "metrics.csv")
    assert file.times.seconds == 0
    file.log_metrics({"a": 1.0}, step=0)
    assert not (tmp_path / "times.csv").exists(), "nothing is timed before training starts"
    (tmp_path / "times.csv").write_text("step,seconds\n0,1.5\n4,10\n9,20\n1")
    again = MetricsFile(tmp_path / "metrics.csv")
    again.rewind(5)
    again.times.start()
    assert (tmp_path / "times.csv").read_text().splitlines() == ["step,seconds", "0,1.5", "4,10.0"]
    assert 10 <= again.times.seconds < 11
    again.log_metrics({"a": 2.0}, step=6)
    again.times.stop(7)
    again.log_metrics({"a": 3.0}, step=8)
    assert [line.partition(",")[0] for line in (tmp_path / "times.csv").read_text().split()] == [
        "step",
        "0",
        "4",
        "6",
        "7",
    ]


def test_nothing_heavy_is_imported(two):
    code = "import sys; from dlmkit.cli import main; main(sys.argv[1:]); "
    code += "assert not {'torch', 'lightning', 'jsonargparse'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code, "compare", *two], check=True, env={**os.environ}, capture_output=True)


# ---------- runs that were made up

FIGURES = "step,epoch,train/loss,val/loss\n0,0,4,\n1,0,2,3\n"


@pytest.fixture
def make(workplace):
    """Writes a run's folder without training: ``make("one", {"model.width": 3}, metrics="step,…")``."""

    def put(name, options=(), metrics=FIGURES, times="step,seconds\n0,1\n1,2\n", tests=(), **summary):
        folder = workplace / "runs" / name
        (folder / "media").mkdir(parents=True)
        config = {"seed_everything": 1, "model": {"class_path": "dlmkit_x.task.X"}, "data": {"class_path": "y.Y"}}
        for key, value in dict(options).items():
            *path, last = key.split(".")
            inner = config
            for word in path:
                inner = inner.setdefault(word, {})
                inner = inner.setdefault("init_args", {}) if "class_path" in inner else inner
            inner[last] = {**inner[last], **value} if isinstance(inner.get(last), dict) else value
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        told = {"status": "finished", "steps": 2, "seconds": 2.0, "metrics": dict(tests), **summary}
        (folder / "summary.json").write_text(json.dumps(told))
        for file, text in (("metrics.csv", metrics), ("times.csv", times)):
            if text is not None:
                (folder / file).write_text(text)
        return folder

    return put


def read(*names):
    return records.find_runs([f"runs/{name}" for name in names])


def of(command, *words):
    """The comparison for programs."""
    outcome = command("compare", *words, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def test_patterns_and_folders(command, make, workplace):
    for name in ("b", "a", "c"):
        make(name)
    (workplace / "runs" / "notes").mkdir()
    (workplace / "runs" / "list.txt").write_text("")
    assert [run["name"] for run in of(command, "runs/*")["runs"]] == ["a", "b", "c"]
    assert [run["name"] for run in of(command, "runs/c", "runs/[ab]", "runs/c/")["runs"]] == ["c", "a", "b"]
    assert not (workplace / "compare.png").exists(), "for programs nothing is drawn unless asked for"


def test_runs_of_the_same_name_are_told_apart(command, make, workplace):
    make("a")
    shutil.copytree(workplace / "runs", workplace / "other")
    assert [run["name"] for run in of(command, "runs/a", "other/a")["runs"]] == ["runs/a", "other/a"]


def test_only_options_that_differ(make):
    adam = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1, "betas": [0.9, 0.99]}}
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2, "momentum": 0.9}}
    make("a", {"model.width": 3, "model.optimizer": adam, "model.bias": 1.0, "trainer": {"max_steps": 2}})
    make("b", {"model.width": 3, "model.optimizer": sgd, "model.bias": 2.0, "trainer": {"max_steps": 2}})
    make("c", {"model": {"class_path": "z.Z"}, "model.width": 3, "model.optimizer": adam, "seed_everything": 2})
    found = records.differences(read("a", "b", "c"))
    assert list(found) == ["model.optimizer", "model.optimizer.lr", "model.bias", "seed_everything"]
    assert found["model.bias"] == [1.0, 2.0, MISSING]
    assert [records.plain(value) for value in found["model.optimizer"]] == ["AdamW", "SGD", "AdamW"]
    assert records.differences(read("a")) == {}


def test_the_steps_asked_for_are_told_where_they_were_not_done(make):
    make("a", {"trainer.max_steps": 2})
    make("b", {"trainer.max_steps": 9}, steps=9)
    assert records.differences(read("a", "b")) == {}
    make("c", {"trainer.max_steps": 9}, steps=3, status="interrupted")
    assert list(records.differences(read("a", "c"))) == ["trainer.max_steps"]


def test_what_the_data_implies_comes_last(make):
    make("a", {"model.vocab_size": 3, "data.source": "one", "trainer.precision": 16})
    make("b", {"model.vocab_size": 4, "data": {"class_path": "y.W"}, "data.source": "two", "trainer.precision": 32})
    assert list(records.differences(read("a", "b"))) == [
        "data",
        "data.source",
        "trainer.precision",
        "model.vocab_size",
    ]


def test_values_are_short():
    shown = {
        "torch.optim.AdamW": "AdamW",
        "/data/texts/one.txt": "one.txt",
        "texts/": "texts/",
        "0.1": "0.1",
        "a-very-long-name-of-a-data-set.txt": "a-very-long…data-set.txt",
    }
    for value, text in shown.items():
        assert records.plain(value) == text
    assert records.plain([1, 2.50, None, True]) == "1, 2.5, none, yes"
    assert records.plain([{"class_path": "a.B", "init_args": {}}]) == "B"
    assert records.plain(MISSING) == ""


def test_heads_are_as_long_as_they_must_be():
    heads = compare._short_heads(["model.optimizer.lr", "model.width", "data.width", "data", "seed_everything"])
    assert list(heads.values()) == ["lr", "model.width", "data.width", "data", "seed_everything"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_screen(command, make, monkeypatch, width):
    names = ["one-with-a-rather-long-name-20261124-101500", "two", "three"]
    for number, name in enumerate(names):
        options = {f"model.option_number_{n}": n + number for n in range(12)}
        make(name, options, parameters=12_345_678, metrics="step,val/loss\n0,2\n", status=["finished", ""][number % 2])
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = command("compare", "runs/*")
    table = outcome.out.partition(" more: ")[0].splitlines()[:-1]
    assert max(map(len, table)) <= width
    assert "12.3M" in outcome.out
    assert "option_number_0" in outcome.out
    assert "(--json has all)" in outcome.out
    shown = sum("option_number_" in word for line in table for word in line.split())
    (count,) = [line.split()[0] for line in outcome.out.splitlines() if " more: " in line]
    assert int(count) + shown >= 12


def test_the_best_is_bold(make):
    from rich.console import Console

    make("a", metrics="step,val/accuracy,val/loss\n0,0.5,1\n")
    make("b", metrics="step,val/accuracy,val/loss\n0,0.7,2\n")
    for metric, best in (("val/accuracy", "0.700"), ("val/loss", "1.000")):
        console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system="standard")
        compare._print_tables(console, read("a", "b"), metric)
        assert re.findall(r"\x1b\[1m\s*(\S+?)\x1b", console.file.getvalue()) == [best]


def test_whether_more_is_better(make):
    make("a", monitor="val/odd_one", monitor_mode="max")
    for metric, more in (
        ("val/odd_one", True),
        ("test/odd_one", True),
        ("val/top_accuracy", True),
        ("val/loss", False),
    ):
        assert records.higher_is_better(metric, read("a")) is more


def test_sorting(command, make):
    for name, figure in (("a", 3.0), ("b", 1.0), ("c", None), ("d", 2.0)):
        make(name, tests={} if figure is None else {"test/loss": figure, "test/accuracy": figure})
    assert [run["name"] for run in of(command, "runs/*", "--sort", "test/loss")["runs"]] == ["b", "d", "a", "c"]
    assert [run["name"] for run in of(command, "runs/*", "--sort", "test/accuracy")["runs"]] == ["a", "d", "b", "c"]


# ---------- the metric and the figure


@pytest.fixture
def panels(monkeypatch):
    """What would be drawn."""
    from dlmkit import curves

    drawn = []
    monkeypatch.setattr(curves, "draw", lambda panels, runs, path: drawn.extend(panels))
    return drawn


def test_the_metric_is_what_the_runs_report(command, make):
    both = "step,train/loss,val/loss,val/bits_per_character\n0,1,1,1\n"
    make("a", metrics=both, headline="test/bits_per_character")
    make("b", metrics=both, baselines={"test/bits_per_character": {}})
    make("c", metrics="step,train/loss,val/loss,val/other\n0,1,1,1\n")
    make("d", metrics="step,train/loss,val/other\n0,1,1\n")
    make("e", metrics="step,train/loss\n0,1\n")
    for runs, metric in (
        ("ab", "val/bits_per_character"),
        ("abc", "val/loss"),
        ("cd", "val/other"),
        ("ae", "train/loss"),
    ):
        assert of(command, *(f"runs/{name}" for name in runs))["metric"] == metric


def test_curves_over_steps_and_seconds(command, make, panels):
    make("a", times="step,seconds\n0,60\n1,240\n1,300\n")
    make("b", times=None, metrics="step,train/loss,val/loss\n3,,7\n")
    outcome = command("compare", "runs/*")
    steps, seconds = panels
    assert steps.curves == {"a": [(2, 3.0)], "b": [(4, 7.0)]}
    assert (seconds.curves, seconds.x) == ({"a": [(5.0, 3.0)]}, "training time in minutes")
    assert "not over seconds: b (no times.csv" in outcome.out


def test_runs_without_times(command, make, panels):
    make("a", times=None)
    outcome = command("compare", "runs/a")
    assert len(panels) == 1
    assert "no curves over seconds: a (no times.csv" in outcome.out


def test_a_run_that_has_logged_nothing_yet(command, make, panels):
    make("a")
    make("b", metrics=None, times=None, status="")
    make("c", metrics="step,epoch\n", times=None)
    outcome = command("compare", "runs/*")
    assert outcome.code == 0
    assert "not in the figure: b, c (no val/loss)" in outcome.out
    assert "unfinished" in outcome.out


def test_tables_that_several_runs_wrote(command, make, panels):
    files = {
        "a": {"flow-0000100.csv": "1,9\n2,9\n", "flow-0000020.csv": "5,5\n6,6\n", "words-test.csv": "one,2\nthree,4\n"},
        "b": {"flow-0000100.csv": "1,7\n2,7\n", "flow-test.csv": "1,1,5\n2,0.001,5\n", "alone-test.csv": "1,2\n3,4\n"},
        "c": {"words-test.csv": "one,2\nthree,4\n"},
    }
    for name, tables in files.items():
        folder = make(name)
        for file, text in tables.items():
            head = "distance,gradient,more\n" if text.split("\n")[0].count(",") == 2 else "distance,gradient\n"
            (folder / "media" / file).write_text(head + text)
    assert command("compare", "runs/*").code == 0
    panel, named = panels[2:]
    assert (panel.title, panel.x, panel.y) == ("flow", "distance", "gradient")
    assert panel.curves == {"a": [(1, 9), (2, 9)], "b": [(1, 1), (2, 0.001)]}
    assert named.title == "words" and named.curves == {name: [("one", 2), ("three", 4)] for name in "ac"}


def test_tables_of_texts_and_long_ones_are_no_panels(command, make, panels):
    for name in "ab":
        media = make(name) / "media"
        (media / "texts-test.csv").write_text("question,answer\none,two\n")
        (media / "empty-test.csv").write_text("x,y\n")
        (media / "long-test.csv").write_text("word,times\n" + "".join(f"w{n},1\n" for n in range(17)))
    assert command("compare", "runs/*").code == 0
    assert len(panels) == 2


def test_named_figures_are_points(command, make, workplace, monkeypatch):
    """Of nets with other names, such as gates, each has its own."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure))
    for name, rows in (("rnn", "l0,1.5\n"), ("lstm", "l0 i,0.5\nl0 f,2.5\n")):
        (make(name) / "media" / "radius-test.csv").write_text("matrix,radius\n" + rows)
    assert command("compare", "runs/rnn", "runs/lstm").code == 0
    ax = drawn[0].axes[2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["l0", "l0 i", "l0 f"]
    assert [list(line.get_ydata()) for line in ax.get_lines()] == [[1.5], [0.5, 2.5]]
    assert {line.get_linestyle() for line in ax.get_lines()} == {"None"}


def test_an_axis_is_logarithmic_where_it_must_be():
    from dlmkit.curves import _spans_decades

    assert _spans_decades([1e-9, 0.0, 1.0])
    assert not _spans_decades([0.1, 1.0, 10.0])
    assert not _spans_decades([-1.0, 1e-9, 1.0])
    assert not _spans_decades([0.0, float("nan"), float("inf")])


@pytest.mark.parametrize("count", [1, 11])
def test_the_figure(command, make, workplace, count):
    """Of any number of runs, as any kind of file, into a folder too; figures that are no numbers are left out."""
    for number in range(count):
        folder = make(f"run-{number}", metrics=f"step,val/loss\n0,{number}\n1,nan\n2,inf\n3,1e9\n")
        for name in ("one", "two", "three", "four", "five"):
            (folder / "media" / f"{name}-test.csv").write_text("x,y\n1,0\n2,0\n")
    for file in ("a.png", "b.pdf", "c.svg"):
        outcome = command("compare", "runs/*", "--out", file)
        assert (outcome.code, outcome.err) == (0, "")
        assert f"figure   {file}" in outcome.out
        assert (workplace / file).stat().st_size > 1000
    (workplace / "slides").mkdir()
    assert of(command, "runs/*", "--out", "slides")["figure"] == "slides/compare.png"
    assert (workplace / "slides" / "compare.png").is_file()


def test_many_points_are_averaged():
    from dlmkit.curves import _averaged

    curve = [(float(x), float(x % 2)) for x in range(1000)]
    assert len(_averaged(curve)) == 200
    assert _averaged(curve)[0] == (2.0, pytest.approx(0.4))
    assert _averaged(curve[:100]) == curve[:100]


@pytest.mark.parametrize(
    ("runs", "status", "words"),
    [
        ("a", "finished", "dlmkit compare 'runs/*'"),
        ("ab", "finished", "dlmkit compare runs/a runs/b --metric train/loss"),
        ("ab", "interrupted", "dlmkit run --resume runs/b"),
    ],
)
def test_what_to_try_next(command, make, panels, runs, status, words):
    make("a")
    make("b", status=status)
    last = command("compare", *(f"runs/{name}" for name in runs)).out.splitlines()[-1]
    assert last.startswith(f"next     {words}   ")


def test_for_programs(command, make):
    make("a", {"model.width": 3}, tests={"test/loss": 3.5}, parameters=5, metrics="step,val/loss\n0,nan\n1,2\n3,4\n")
    make("b", {"model.width": 4}, metrics="step,val/loss\n0,nan\n")
    found = of(command, "runs/*")
    assert (found["metric"], found["figure"], found["differences"]) == ("val/loss", None, ["model.width"])
    a, b = found["runs"]
    assert (a["folder"], a["model"], a["status"], a["parameters"]) == ("runs/a", "X", "finished", 5)
    assert (a["steps"], a["seconds"], a["options"]) == (2, 2.0, {"model.width": 3})
    assert a["metrics"] == {"test/loss": 3.5, "val/loss": 2.0}
    assert b["metrics"] == {"val/loss": None}


# ---------- what is refused


def test_what_is_no_run(refused, make, workplace):
    make("first")
    (workplace / "runs" / "notes").mkdir()
    (workplace / "runs" / "list.txt").write_text("")
    for words, line in (
        ("runs/frist", "runs/frist: there is no such run; did you mean first?"),
        ("runs/notes", "runs/notes: this folder is no run: it has no config.yaml; give the run's own folder"),
        ("runs", "runs: this folder is no run, but holds some; to compare them, give 'runs/*'"),
        ("runs/list.txt", "runs/list.txt: this is a file, no run; leave it out; a pattern in quotes passes it over"),
        ("x/*", "x/*: no run matches; give run folders, such as 'runs/*'"),
        ("runs/n*", "runs/n*: none of what it matches is a run; give run folders, such as 'runs/*'"),
    ):
        assert refused("compare", "runs/first", words) == [line]
    (line,) = refused("compare")
    assert "RUN" in line


def test_no_shared_metric(refused, make):
    make("a", metrics="step,val/one\n0,1\n")
    make("b", metrics="step,val/two,train/loss\n0,1,1\n")
    (line,) = refused("compare", "runs/a", "runs/b")
    assert line == (
        "no metric is in all of the runs; choose one with --metric: a has val/one; b has train/loss, val/two"
    )
    make("c", metrics=None)
    (line,) = refused("compare", "runs/c")
    assert line == "c: no run has logged any figures yet; train for longer"


def test_a_metric_that_only_some_have(command, make, panels):
    make("a", metrics="step,val/one\n0,1\n")
    make("b", metrics="step,val/two\n0,1\n")
    outcome = command("compare", "runs/*", "--metric", "val/one")
    assert outcome.code == 0
    assert "not in the figure: b (no val/one)" in outcome.out
    assert "(val/one of 1 run)" in outcome.out


def test_an_unknown_metric(refused, make):
    make("a", tests={"test/loss": 1})
    assert refused("compare", "runs/a", "--metric", "val/los") == [
        "--metric: no run has a curve of val/los; did you mean val/loss?"
    ]
    (line,) = refused("compare", "runs/a", "--metric", "nothing")
    assert line == "--metric: no run has a curve of nothing; there are train/loss, val/loss"
    assert refused("compare", "runs/a", "--sort", "test/los") == [
        "--sort: no run has a figure test/los; did you mean test/loss?"
    ]


DAMAGES = {
    "no number": (b"step,val/loss\n0,1\n1,x\n", "metrics.csv:3: cannot be read: val/loss is 'x', which is no number"),
    "no step": (b"step,val/loss\n,1\n", "metrics.csv:2: cannot be read: step is '', which is no number"),
    "cut short": (b"step,epoch,val/loss\n0,1\n", "metrics.csv:2: cannot be read: the row has not as many cells"),
    "too long": (b"step,val/loss\n0,1,2,3\n", "metrics.csv:2: cannot be read: the row has not as many cells"),
    "no head": (b"a,b\n0,1\n", "metrics.csv: cannot be read: it has no column step"),
    "no text": (b"\xff\xfe\x00\n1\n", "metrics.csv: cannot be read: "),
    "torn quotes": (b'step,val/loss\n0,"1\n', "metrics.csv: cannot be read: "),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_figures_that_cannot_be_read(refused, make, kind):
    content, what = DAMAGES[kind]
    (make("a") / "metrics.csv").write_bytes(content)
    (line,) = refused("compare", "runs/a")
    assert line.startswith(f"runs/a/{what}")
    assert line.endswith("; mend it, or leave this run out")


def test_other_files_that_cannot_be_read(refused, make):
    (make("a") / "metrics.csv").unlink()
    os.mkdir("runs/a/metrics.csv")
    (line,) = refused("compare", "runs/a")
    assert line.startswith("runs/a/metrics.csv: cannot be read: Is a directory")
    for text in ("model: [\n", "[]\n", ""):
        (make("b") / "config.yaml").write_text(text)
        (line,) = refused("compare", "runs/b")
        assert line.startswith("runs/b/config.yaml: cannot be read: ")
        shutil.rmtree("runs/b")
    (make("c") / "summary.json").write_text("{")
    (line,) = refused("compare", "runs/c")
    assert line.startswith("runs/c/summary.json: not valid JSON")


def test_a_figure_that_cannot_be_written(refused, make, workplace):
    make("a")
    for file, why in (
        ("no/such/x.png", "No such file or directory"),
        ("runs/a/config.yaml/x.png", "Not a directory"),
        ("x.doc", "Format 'doc' is not supported"),
    ):
        (line,) = refused("compare", "runs/a", "--out", file)
        assert line == f"{file}: cannot be written: {why}; give another file, such as --out compare.png"
