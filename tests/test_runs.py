"""The run folder: what is in it, how it is named, and going on from it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys

import pytest
import torch

from dlmkit import runs
from dlmkit.errors import UserError

# ---------- contents


def test_what_a_run_leaves(train, rows, weights):
    folder = train("tiny", "--model.dropout=0.1", "--allow", "something")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    media = {f"media/{name}-{when}" for name in ("words", "units") for when in ("0000004", "0000008", "test")}
    assert {file.rpartition(".")[0] for file in files if file.startswith("media/")} == media
    assert files - {file for file in files if file.startswith("media/")} == {
        ".lock",
        "recipe.yaml",
        "config.yaml",
        "provenance.json",
        "metrics.csv",
        "times.csv",
        "summary.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    assert re.fullmatch(r"tiny-\d{8}-\d{6}", folder.name)
    assert (folder / "recipe.yaml").read_text().startswith("# dlmkit run tiny\n")
    assert "dropout: 0.1" in (folder / "config.yaml").read_text()
    assert set(weights(folder)) == set(weights(folder, "best"))


def test_provenance(train, workplace, monkeypatch):
    words = ["run", "tiny", "--name", "first"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/dlmkit", *words])
    subprocess.run(["git", "init", "-q"], check=True)
    (workplace / "notes").write_text("one")
    subprocess.run(["git", "add", "notes"], check=True)
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, "commit", "-q", "-m", "notes"], check=True)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    record = json.loads((train(*words[1:]) / "provenance.json").read_text())
    assert record["command"] == ["dlmkit", *words]
    assert record["folder"] == str(workplace)
    assert record["seed"] == 1
    assert record["versions"]["dlmkit-tiny"] == "1.0"
    assert {"dlmkit", "torch", "lightning", "torchmetrics", "jsonargparse", "numpy"} <= set(record["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", record["started"])
    assert record["devices"].startswith("1 × ")
    assert record["git"] == {"revision": revision, "changed": False}
    (workplace / "notes").write_text("two")
    assert runs.provenance([], 1, "")["git"] == {"revision": revision, "changed": True}


def test_provenance_without_git(workplace, monkeypatch):
    monkeypatch.setenv("PATH", str(workplace))
    assert runs.provenance([], 1, "")["git"] is None


def test_summary(train):
    folder = train("tiny")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 8)
    assert {"train/loss", "val/loss", "val/bits_per_character", "test/loss"} <= set(summary["metrics"])
    assert summary["best_checkpoint"] == "checkpoints/best.ckpt"
    assert summary["seconds"] >= 0
    assert runs.Run(folder).best() == folder / "checkpoints" / "best.ckpt"


def test_metrics_have_a_row_for_each_step_at_which_something_is_logged(train, rows):
    table = rows(train("tiny") / "metrics.csv")
    assert [row["step"] for row in table] == ["0", "1", "2", "3", "3", "4", "5", "6", "7", "7", "8"]
    assert [row["step"] for row in table if row["val/loss"]] == ["3", "7"]
    assert [row["step"] for row in table if row["test/loss"]] == ["8"]
    assert all(row["train/loss"] or row["val/loss"] or row["test/loss"] for row in table)


def test_the_best_checkpoint_is_the_recipes_own_where_it_has_one(train):
    own = "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {monitor: val/loss, filename: mine}}"
    folder = train("tiny", f"--trainer.callbacks=[{own}]")
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"mine.ckpt", "last.ckpt"}
    assert runs.Run(folder).best().name == "mine.ckpt"


def test_the_last_steps_are_validated_too(train, rows):
    """8 steps, of which every third is followed by a validation; the best checkpoint may be that of the last."""
    from dlmkit.engine import read_checkpoint

    folder = train("tiny", "--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null")
    table = rows(folder / "metrics.csv")
    assert [row["step"] for row in table if row["val/loss"]] == ["2", "5", "7"]
    losses = [float(row["val/loss"]) for row in table if row["val/loss"]]
    assert min(losses) == losses[-1]
    assert read_checkpoint(runs.Run(folder).best())["global_step"] == 8


def test_a_run_without_validation(train):
    folder = train("tiny", "--trainer.limit_val_batches=0")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert runs.Run(folder).best() == runs.Run(folder).last


# ---------- naming


def test_two_runs_within_one_second(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.time, "strftime", lambda form: "20261124-101500")
    names = [runs.create(tmp_path / "runs", None, "tiny").name for _ in range(3)]
    assert names == ["tiny-20261124-101500", "tiny-20261124-101500-2", "tiny-20261124-101500-3"]


def test_eight_processes_get_eight_names(tmp_path):
    code = "import sys; sys.stdin.read(1); from dlmkit import runs; from pathlib import Path\n"
    code += "import time; time.strftime = lambda form: 'now'\n"
    code += "print(runs.create(Path('runs'), None, 'tiny').name)"
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in started:  # all are waiting for this
        process.stdin.write("\n")
        process.stdin.flush()
    names = [process.communicate(timeout=60)[0].strip() for process in started]
    assert sorted(names) == sorted(["tiny-now", *(f"tiny-now-{n}" for n in range(2, 9))])
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(names)


def test_a_given_name_is_never_changed(tmp_path):
    assert runs.create(tmp_path, "first", "tiny").name == "first"
    with pytest.raises(UserError, match="a run called first is there already"):
        runs.create(tmp_path, "first", "tiny")


def test_a_file_in_the_way_is_told(tmp_path):
    """Also when it got there after the folder was checked."""
    (tmp_path / "file").write_text("")
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(5)
    try:
        with pytest.raises(UserError, match="--runs DIR"):
            runs.create(tmp_path / "file", None, "tiny")
        with pytest.raises(UserError, match="cannot be written"):
            runs.create(tmp_path / "file" / "below", None, "tiny")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_files_are_written_in_one_stroke(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    runs.write_json(path, {"a": 1})
    monkeypatch.setattr(runs.Path, "replace", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        runs.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


# ---------- reading back


def test_a_run_that_is_not_there(refused, train, workplace):
    train("tiny", name="first")
    for verb in (["run", "--resume"], ["test"], ["sample"]):
        (line,) = refused(*verb, "runs/frist")
        assert line == "runs/frist: there is no such run; did you mean first?"
    (line,) = refused("run", "--resume", "elsewhere/first")
    assert line.startswith("elsewhere/first: there is no such run; give the folder that dlmkit run printed")
    (line,) = refused("run", "--resume", "runs")
    assert line == "runs: this folder is no run: it has no config.yaml; give the run's own folder"
    (line,) = refused("run", "--resume", "runs/first/metrics.csv")
    assert "there is no such run" in line


def test_a_saved_file_that_was_damaged(refused, train):
    folder = train("tiny", name="first")
    (folder / "summary.json").write_text("{")
    (line,) = refused("test", folder)
    assert line.startswith("runs/first/summary.json: not valid JSON")
    (folder / "config.yaml").write_text("model: [\n")
    (line,) = refused("run", "--resume", folder)
    assert line.startswith("runs/first/config.yaml:")


class Harmful:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def damage(path, kind):
    import torch

    whole = path.read_bytes()
    checkpoint = torch.load(path, weights_only=True)
    if kind == "missing":
        path.unlink()
    elif kind == "foreign":
        torch.save({"model": torch.ones(2)}, path)
    elif kind == "of another network":
        torch.save({**checkpoint, "state_dict": {"w": torch.ones(2)}}, path)
    elif kind == "code":
        path.write_bytes(pickle.dumps(Harmful()))
    elif kind == "code in a checkpoint":
        torch.save({**checkpoint, "more": Harmful()}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello world"}[kind])


DAMAGES = {
    "missing": "there is no such checkpoint",
    "truncated": "cannot be read as a checkpoint",
    "empty": "cannot be read as a checkpoint",
    "text": "cannot be read as a checkpoint",
    "foreign": "is no checkpoint of a training run",
    "of another network": "another network",
    "code": "cannot be read as a checkpoint",
    "code in a checkpoint": "cannot be read as a checkpoint",
}


def test_a_checkpoint_that_is_none(refused, train, workplace):
    folder = train("tiny", name="first")
    path = folder / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    for kind, what in DAMAGES.items():
        path.write_bytes(whole)
        damage(path, kind)
        for words in (
            ["run", "--resume", folder, "--trainer.max_steps=9"],
            ["sample", folder, "--checkpoint", path],
        ):
            (line,) = refused(*words)
            assert line.startswith("runs/first/checkpoints/last.ckpt: "), kind
            assert what in line, kind
            assert "weights_only" not in line, "whoever reads this must not be told how to run the code"
    assert not (workplace / "harm").exists()


def test_the_test_reads_the_best_checkpoint_as_carefully(refused, train, workplace):
    folder = train("tiny", name="first")
    damage(folder / "checkpoints" / "best.ckpt", "code in a checkpoint")
    (line,) = refused("test", folder)
    assert line.startswith("runs/first/checkpoints/best.ckpt: cannot be read")
    assert not (workplace / "harm").exists()


def test_the_test_of_a_run_again(command, train):
    folder = train("tiny")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    outcome = command("test", folder)
    assert outcome.code == 0
    loss = json.loads((folder / "summary.json").read_text())["metrics"]["test/loss"]
    assert f"{loss:.3f}" in outcome.out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_which_checkpoint(command, refused, train):
    folder = train("tiny", "--model.optimizer.lr=10", "--trainer.val_check_interval=1")  # gets worse and worse
    told = {which: command("test", folder, "--checkpoint", which).out for which in ("best", "last")}
    assert told["best"] == command("test", folder).out != told["last"]
    for path in (folder / "checkpoints" / "last.ckpt", "last.ckpt"):
        assert told["last"] == command("test", folder, "--checkpoint", path).out
    (line,) = refused("test", folder, "--checkpoint", "frist")
    assert line.startswith("frist: there is no such checkpoint")


def test_the_test_on_other_data(refused, command, train):
    folder = train("tiny", name="first")
    assert command("test", folder, "--data.length=7").code == 0
    (line,) = refused("test", folder, "--data.symbols=7")
    assert "another network" in line


# ----------------------------------------------------------------------------------------------------------- resuming


def test_resuming_a_run_that_is_done(refused, train):
    folder = train("tiny", name="first")
    (line,) = refused("run", "--resume", folder)
    assert line == "runs/first: the run has done its 8 steps already; ask for more, such as --trainer.max_steps=16"


def test_a_longer_run_goes_on_and_ends_as_if_it_had_been_one(train, weights, rows):
    """Wherever the shorter one ended: after a validation, in the middle or at the end of an epoch, by epochs."""
    whole = train("tiny", "--model.dropout=0.2", "--trainer.max_steps=14", name="whole")
    ends = {"max_steps=8": [], "max_steps=7": ["6"], "max_steps=10": ["9"], "max_epochs=1": ["9"]}
    for end, more in ends.items():
        grown = train("tiny", "--model.dropout=0.2", "--trainer.max_steps=14", f"--trainer.{end}", name=end)
        train("--resume", grown, "--trainer.max_steps=14", "--trainer.max_epochs=null")
        for name, tensor in weights(whole).items():
            assert tensor.equal(weights(grown)[name]), (end, name)
        for file in ("config.yaml", "recipe.yaml"):
            assert (grown / file).read_text() == (whole / file).read_text(), end
        table, long = rows(grown / "metrics.csv"), rows(whole / "metrics.csv")
        ended = [row for row in table if row not in long]  # the shorter one was validated at its end
        assert [row for row in table if row in long] == long, end
        assert [(row["step"], bool(row["val/loss"])) for row in ended] == [(step, True) for step in more], end
        ends = [json.loads((folder / "summary.json").read_text()) for folder in (grown, whole)]
        assert ends[0]["steps"] == ends[1]["steps"], end
        assert ends[0]["metrics"] == ends[1]["metrics"], end


@pytest.mark.parametrize("place", ["moved", "named in full"])
def test_a_run_goes_on_from_its_folder_alone(train, rows, workplace, place):
    """Its best checkpoint is still known when the folder lies elsewhere, or is named otherwise."""
    import torch

    whole = train("tiny", "--trainer.max_steps=9", name="whole")
    folder = train("tiny", name="first")
    if place == "moved":
        (workplace / "elsewhere").mkdir()
        folder = folder.rename("elsewhere/renamed")
    else:
        folder = folder.absolute()
    train("--resume", folder, "--trainer.max_steps=9")
    ends = [json.loads((one / "summary.json").read_text()) for one in (folder, whole)]
    assert ends[0]["best_checkpoint"] == ends[1]["best_checkpoint"] == "checkpoints/best.ckpt"
    assert ends[0]["metrics"] == ends[1]["metrics"]
    scores = []
    for one in (folder, whole):
        callbacks = torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
        scores += [float(state["best_model_score"]) for name, state in callbacks.items() if "ModelCheckpoint" in name]
    losses = [float(row["val/loss"]) for row in rows(whole / "metrics.csv") if row["val/loss"]]
    assert scores == pytest.approx([min(losses[:-1])] * 2)  # the ninth step's validation is not a longer run's


def test_provenance_keeps_every_resuming(train):
    folder = train("tiny", name="first")
    started = json.loads((folder / "provenance.json").read_text())
    for steps in (9, 10):
        train("--resume", folder, f"--trainer.max_steps={steps}")
    record = json.loads((folder / "provenance.json").read_text())
    assert len(record.pop("resumed")) == 2
    assert record == started


def test_a_value_may_follow_its_option_after_a_space(train):
    folder = train("tiny", "--trainer.max_steps", "2", name="first")
    train("--resume", folder, "--trainer.max_steps", "3")
    assert json.loads((folder / "summary.json").read_text())["steps"] == 3


def test_an_overlay_may_be_laid_on_a_resumed_run(train, write):
    folder = train("tiny", name="first")
    write("longer.yaml", "trainer: {max_steps: 9}\n")
    train("--resume", folder, "--config", "longer.yaml")
    assert json.loads((folder / "summary.json").read_text())["steps"] == 9


@pytest.mark.parametrize("words", [["tiny"], ["--name", "second"]])
def test_what_makes_no_sense_when_resuming(refused, train, words):
    folder = train("tiny", name="first")
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9", *words)
    assert line.startswith("--resume goes on with a run")
    assert line.endswith("is not needed; leave it out")


def test_another_network_cannot_be_resumed(refused, train):
    folder = train("tiny", name="first")
    for option in ("--model.width=9", "--data.symbols=7", "--model.bias=false"):
        (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9", option)
        assert line.startswith("runs/first/checkpoints/last.ckpt: the checkpoint is of another network"), option


def test_what_the_data_tells_may_be_typed_when_resuming(refused, train):
    folder = train("tiny", name="first")
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9", "--model.vocab_size=7")
    assert "vocab_size is 7, but the data says 6" in line
    train("--resume", folder, "--trainer.max_steps=9", "--model.vocab_size=6")


def test_how_many_are_sampled_is_the_task_s_own_unless_it_is_said(command, train, monkeypatch):
    from dlmkit_tiny.task import Tiny

    from dlmkit import Text

    def sample(self, prompt: str = "", n: int = 3) -> list[Text]:
        assert not torch.is_grad_enabled() and not self.training
        return [Text("abc")] * n

    monkeypatch.setattr(Tiny, "sample", sample)
    folder = train("tiny", name="first")
    for words, count in (([], 3), (["-n", 2], 2)):
        outcome = command("sample", folder, *words)
        assert (outcome.code, outcome.out.count("abc")) == (0, count)


def test_a_prompt_in_another_encoding_is_one_line(command, train):
    folder = train("tiny", name="first")
    outcome = command("sample", folder, "--prompt", "b\udcf6se")  # what a byte 0xf6 becomes in sys.argv
    assert outcome.code == 2
    assert outcome.faults == [
        "--prompt: the prompt is not UTF-8; set the terminal to UTF-8, or write it with other letters"
    ]


@pytest.mark.parametrize(
    ("typed", "got"), [("3", "'3'"), ("null", "None"), ("no", "'no'"), ("[1]", "'[1]'"), ("cat", "'cat'")]
)
def test_a_name_that_looks_like_a_number_is_a_name(command, train, monkeypatch, typed, got):
    from dlmkit_tiny.task import Tiny

    from dlmkit import Text

    def sample(self, prompt: str = "", n: int = 1, label: str | None = None, times: int = 1) -> list[Text]:
        return [Text(f"label {label!r}, {times!r} times")]

    monkeypatch.setattr(Tiny, "sample", sample)
    folder = train("tiny", name="first")
    assert f"label {got}, 2 times" in command("sample", folder, f"--label={typed}", "--times=2").out
    outcome = command("sample", folder, "--times=2.5")
    assert outcome.code == 2
    assert "--times is 2.5; sample takes a whole number there" in outcome.faults[0]


def test_a_show_that_fails_is_told_with_its_place(command, tiny, monkeypatch):
    from dlmkit_tiny.task import Tiny

    monkeypatch.setattr(Tiny, "show", lambda task, batch: {"picture": {}["image"]})
    said = " ".join(command("run", "tiny").out.split())
    assert re.search(r"test_runs\.py:\d+: show of Tiny failed: KeyError: 'image'; the run went on without", said)


def test_a_disk_that_is_full_when_figures_are_written(command, monkeypatch, tiny):
    """The file's name has the word metric in it; that is not what is wrong."""
    from dlmkit.tracking import MetricsFile

    def full(self, metrics, step=None):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/first/metrics.csv")

    monkeypatch.setattr(MetricsFile, "log_metrics", full)
    outcome = command("run", "tiny", "--name", "first")
    assert outcome.code == 2
    (line,) = outcome.faults
    assert line.startswith("runs/first/metrics.csv: there is no room left on the disk; make room")


def test_another_optimiser_cannot_be_resumed(refused, train):
    folder = train("tiny", name="first")
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9", "--model.optimizer=torch.optim.SGD")
    assert line.startswith("command line: the run was trained with torch.optim.AdamW, not torch.optim.SGD")


def test_what_is_typed_wins_over_the_checkpoint(train):
    import torch

    def group(folder):
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0][
            "param_groups"
        ][0]

    folder = train("tiny", name="plain")
    train(
        "--resume", folder, "--trainer.max_steps=9", "--model.optimizer.lr=0.5", "--model.optimizer.weight_decay=0.25"
    )
    assert (group(folder)["lr"], group(folder)["weight_decay"]) == (0.5, 0.25)
    schedule = ["--model.lr_scheduler=dlmkit.WarmupCosine", "--model.lr_scheduler.warmup=4"]
    folder = train("tiny", *schedule, name="scheduled")
    train("--resume", folder, "--trainer.max_steps=16", "--model.optimizer.lr=0.5")
    typed = train("tiny", *schedule, "--trainer.max_steps=16", "--model.optimizer.lr=0.5", name="whole")
    assert group(folder)["lr"] == pytest.approx(group(typed)["lr"])


def test_copies_at_a_pace_do_not_take_the_place_of_the_best(train):
    """A ModelCheckpoint that chooses by no figure keeps copies; what is tested is the best all the same."""
    copies = "--trainer.callbacks+={class_path: ModelCheckpoint, init_args: {every_n_train_steps: 3, save_top_k: -1}}"
    folder = train("tiny", copies)
    assert (folder / "checkpoints" / "best.ckpt").is_file() and len(list((folder / "checkpoints").iterdir())) > 3
    assert json.loads((folder / "summary.json").read_text())["best_checkpoint"] == "checkpoints/best.ckpt"


def test_last_ckpt_is_written_after_whatever_chooses_the_best(command, tiny, write):
    from dlmkit.callbacks.checkpoints import LastCheckpoint
    from dlmkit.cli import parse
    from dlmkit.recipe import read
    from dlmkit.verbs import build_run, quiet

    chooses = "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {monitor: val/loss}}"
    write("my.yaml", f"extends: tiny\ntrainer: {{callbacks: [{chooses}]}}\n")
    for words in (["my.yaml"], ["tiny"]):
        options = parse(["run", *words])
        with quiet():
            engine = build_run(read(words[0]), options, None)
        assert isinstance(engine.trainer.callbacks[-1], LastCheckpoint)


def test_a_resumed_run_has_no_summary_until_it_has_come_out_again(train, command, monkeypatch):
    folder = train("tiny")
    assert json.loads((folder / "summary.json").read_text())["steps"] == 8

    def asked(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lightning.pytorch.Trainer.test", asked)
        assert command("run", "--resume", folder, "--trainer.max_steps=12").code == 130
    assert not (folder / "summary.json").exists()
    train("--resume", folder)  # only the test is left
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 12 and summary["seconds"] > 0
    assert len(json.loads((folder / "provenance.json").read_text())["resumed"]) == 2


def test_a_task_without_a_test_is_trained_all_the_same(train, monkeypatch, command):
    from dlmkit_tiny.task import Tiny
    from lightning.pytorch import LightningModule

    for base in Tiny.__mro__:
        if "test_step" in vars(base) and base is not LightningModule:
            monkeypatch.setattr(base, "test_step", LightningModule.test_step)
    folder = train("tiny")
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert command("check", "tiny").code == 0


# ------------------------------------------------------------------------------------------ two at one run, refusals


def test_a_run_that_another_process_is_at_is_not_resumed(refused, train):
    from dlmkit import runs

    folder = train("tiny", name="first")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    lock = runs.hold(folder)
    (folder / "checkpoints" / "last.ckpt").rename(folder / "first.ckpt")  # as where none has been written yet
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9")
    assert line == "runs/first: another process is at this run; wait until it is done, or stop it with Ctrl-C"
    lock.release()
    (folder / "first.ckpt").rename(folder / "checkpoints" / "last.ckpt")
    assert {path: path.read_bytes() for path in before} == before
    train("--resume", folder, "--trainer.max_steps=9")


def test_a_run_is_kept_to_its_process_while_it_trains_and_no_longer(train, command, monkeypatch):
    from dlmkit_tiny.task import Tiny

    from dlmkit import UserError, runs

    seen = []

    def watching(self) -> None:
        folder = self.trainer.callbacks[0].folder
        with pytest.raises(UserError, match="another process"):
            runs.hold(folder)
        seen.append(folder)

    monkeypatch.setattr(Tiny, "on_train_start", watching)
    folder = train("tiny", name="first")
    runs.hold(folder).release()

    def failing(self) -> None:
        watching(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tiny, "on_train_start", failing)
    assert command("run", "--resume", folder, "--trainer.max_steps=9").code == 130
    runs.hold(folder).release()
    assert [path.name for path in seen] == ["first"] * 2


def test_a_resumption_that_is_refused_changes_nothing(command, train, monkeypatch):
    """Also where it is refused late, when Lightning reads the checkpoint."""
    from dlmkit_tiny.task import Tiny

    from dlmkit import UserError

    def refusing(self, checkpoint) -> None:
        raise UserError("not this one", "take another", "model.width")

    folder = train("tiny", name="first")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    monkeypatch.setattr(Tiny, "on_load_checkpoint", refusing)
    outcome = command("run", "--resume", folder, "--trainer.max_steps=9", "--model.optimizer.lr=0.5")
    assert outcome.code == 2 and "not this one; take another" in outcome.err
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_what_is_laid_over_a_resumed_run_wins_over_the_checkpoint(command, train, write):
    import torch

    folder = train("tiny", name="first")
    write("slower.yaml", "model: {init_args: {optimizer: {init_args: {lr: 0.5}}}}\ntrainer: {max_steps: 9}\n")
    outcome = command("run", "--resume", folder, "--config", "slower.yaml")
    assert outcome.code == 0 and "given anew, so not as in the checkpoint: optimizer.lr 0.5" in outcome.out
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    outcome = command("run", "--resume", folder, "--trainer.max_steps=10")
    assert outcome.code == 0 and "given anew" not in outcome.out


def test_a_schedule_whose_curve_is_in_the_checkpoint_cannot_be_changed(refused, train):
    words = ["--model.lr_scheduler=torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size=100"]
    folder = train("tiny", *words, name="first")
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9", "--model.lr_scheduler.gamma=0.5")
    assert line.startswith("command line: torch.optim.lr_scheduler.StepLR goes on as it is in the checkpoint; start")
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9", "--model.lr_scheduler=dlmkit.WarmupCosine")
    assert (
        "trained with torch.optim.lr_scheduler.StepLR, not dlmkit.WarmupCosine; start a new run to change the" in line
    )
    train("--resume", folder, "--trainer.max_steps=9")


def test_a_curve_over_the_run_takes_what_is_typed_when_resuming(command, train):
    import torch

    folder = train("tiny", "--model.lr_scheduler=dlmkit.WarmupCosine", name="first")
    words = ["--trainer.max_steps=9", "--model.lr_scheduler={floor: 1.0, warmup: 2}"]
    outcome = command("run", "--resume", folder, *words)
    told = "given anew, so not as in the checkpoint: lr_scheduler.warmup 2, lr_scheduler.floor 1.0"
    assert outcome.code == 0 and told in " ".join(outcome.out.split())
    (group,) = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0][
        "param_groups"
    ]
    assert group["lr"] == group["initial_lr"]  # at the floor, which is all of it


def test_options_typed_together_win_over_the_checkpoint(train):
    import torch

    folder = train("tiny", name="first")
    train("--resume", folder, "--trainer.max_steps=9", "--model.optimizer={lr: 0.5, weight_decay: 0.25}")
    (group,) = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0][
        "param_groups"
    ]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_how_often_a_run_shows_is_kept_when_it_is_resumed(train):
    def shown(folder):
        return len([path for path in (folder / "media").iterdir() if not path.stem.endswith("test")])

    folder = train("tiny", "--show-every=0", name="first")
    assert shown(folder) == 0
    train("--resume", folder, "--trainer.max_steps=12")
    assert shown(folder) == 0
    train("--resume", folder, "--trainer.max_steps=16", "--show-every=1")
    assert shown(folder) > 0


def test_processes_are_told_together_that_another_one_is_at_the_run(train, site):
    """The first one finds it out, and the second one does not wait for the first."""
    import os
    import subprocess
    import sys

    from dlmkit import runs

    folder = train("tiny", name="first")
    lock = runs.hold(folder)
    several = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--trainer.max_steps=9"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    words = [sys.executable, "-m", "dlmkit", "run", "--resume", str(folder), *several]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    lock.release()
    assert done.returncode == 2
    assert done.stderr.count("another process is at this run") == 1 and "Traceback" not in done.stderr


def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch):
    import errno

    import filelock

    from dlmkit import runs

    def refusing(lock, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refusing)
    lock = runs.hold(tmp_path)
    assert not lock.is_locked
    lock.release()
