"""Tracking in Weights & Biases without an account: what its file on disk holds, read back record by record."""

from __future__ import annotations

import json
import struct
import time

import pytest
import yaml

BLOCK = 32768
KEY = "0" * 40


def records(path):
    """The records of a .wandb file: a LevelDB log, whose blocks begin with the file's own 7-byte header."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    position, parts = 7, []
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        position += 7
        if position + size > len(data):  # the rest is not yet written
            return
        parts.append(data[position : position + size])
        position += size
        if kind in (1, 4):  # whole, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts.clear()
            yield record


def nested(items):
    whole = {}
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        place = whole
        for key in above:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return whole


class Tracked:
    """What the files of a run hold.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder):
        self.ids, self.config, self.history, self.files = [], {}, [], []
        for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
            for record in self.whole(path):
                kind = record.WhichOneof("record_type")
                if kind == "run":
                    self.ids.append(record.run.run_id)
                    self.name, self.project = record.run.display_name, record.run.project
                    self.config |= nested(record.run.config.update)
                elif kind == "config":
                    self.config |= nested(record.config.update)
                elif kind == "history":
                    self.history.append(nested(record.history.item))
                elif kind == "files":
                    self.files += [file.path for file in record.files.files]

    def whole(self, path):
        """All records; the service writes the last of them a moment after the run has ended."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = list(records(path))
            if any(record.WhichOneof("record_type") == "exit" for record in found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{path} was never finished")

    def values(self, name):
        return {row["trainer/global_step"]: row[name] for row in self.history if name in row}


@pytest.fixture(scope="module")
def quiet_service():
    """The service that wandb starts is stopped when the last test here is done."""
    yield
    import wandb

    wandb.teardown()


def test_an_offline_run_holds_everything_and_is_continued(command, train, rows, quiet_service):
    outcome = command("run", "tiny", "--name", "first", "--wandb-project", "lecture", "--model.width=3")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Weights & Biases, project lecture, offline" in outcome.out
    assert "wandb sync runs/first/wandb/offline-run-" in outcome.out
    from pathlib import Path

    folder = Path("runs/first")
    tracked = Tracked(folder)
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    for section, content in saved.items():
        assert tracked.config[section] == content
    record = json.loads((folder / "provenance.json").read_text())
    wandb_id = record["wandb"]["id"]
    assert record["wandb"] == {"id": wandb_id, "project": "lecture", "checkpoints": False}
    assert tracked.config["provenance"]["versions"] == record["versions"]
    assert tracked.config["provenance"]["git"] == record["git"]
    assert set(tracked.ids) == {wandb_id}
    assert (tracked.name, tracked.project) == ("first", "lecture")

    table = rows(folder / "metrics.csv")
    for name in ("train/loss", "val/loss", "test/loss"):
        assert tracked.values(name) == pytest.approx({int(r["step"]): float(r[name]) for r in table if r[name]})
    shown = [row for row in tracked.history if "media/words" in row]
    assert [row["trainer/global_step"] for row in shown] == [4, 8, 8]
    assert shown[0]["media/words"]["_type"] == "html-file"
    assert shown[0]["media/units"]["_type"] == "image-file"
    for row in shown:
        for kind in ("words", "units"):
            assert any(path.endswith(row[f"media/{kind}"]["path"]) for path in tracked.files)

    # A resumed run is the same run, without being asked again.
    train("--resume", folder, "--trainer.max_steps=10")
    tracked = Tracked(folder)
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    assert set(tracked.ids) == {wandb_id}
    assert set(tracked.values("train/loss")) == set(range(10))
    assert tracked.config["trainer"]["max_steps"] == 10


def test_every_kind_of_media_is_tracked(command, monkeypatch, quiet_service):
    from pathlib import Path

    import numpy as np
    import wandb
    from dlmkit_tiny.task import Tiny
    from matplotlib.figure import Figure as MatplotlibFigure

    from dlmkit import Animation, Audio, Figure, Image, Table, Text

    figure = MatplotlibFigure(figsize=(1, 1))
    figure.subplots().plot([0, 1], [1, 0])
    media = {
        "moving": Animation([np.eye(8), np.zeros((8, 8))]),
        "drawn": Figure(figure),
        "seen": Image(np.eye(8)),
        "heard": Audio(np.sin(np.arange(800.0)), 8000),
        "told": Text("words"),
        "listed": Table(["a"], [[1]]),
    }
    monkeypatch.setattr(Tiny, "show", lambda task, batch: media)
    wandb.teardown()  # the service of the tests before works in their folder
    outcome = command("run", "tiny", "--name", "first", "--wandb")
    assert (outcome.code, outcome.err) == (0, "")
    tracked = Tracked(Path("runs/first"))
    (*_, last) = [row for row in tracked.history if "media/moving" in row]
    kinds = {name: last[f"media/{name}"]["_type"] for name in media}
    assert kinds == {
        "moving": "video-file",
        "drawn": "image-file",
        "seen": "image-file",
        "heard": "audio-file",
        "told": "html-file",
        "listed": "table-file",
    }
    for name in media:
        assert any(path.endswith(last[f"media/{name}"]["path"]) for path in tracked.files), name


def test_nothing_is_tracked_unless_asked(train):
    folder = train("tiny")
    assert not (folder / "wandb").exists()
    assert "wandb" not in json.loads((folder / "provenance.json").read_text())


def test_a_disabled_tracker_tracks_nothing(command, monkeypatch, tiny, quiet_service):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    outcome = command("run", "tiny", "--name", "first", "--wandb")
    assert (outcome.code, outcome.err) == (0, "")
    assert not list((tiny / "runs" / "first").glob("wandb/*run-*"))


@pytest.mark.parametrize(
    ("environment", "netrc", "state"),
    [
        ({}, "", "offline"),
        ({"WANDB_API_KEY": KEY}, "", "online"),
        ({}, f"machine api.wandb.ai login user password {KEY}", "online"),
        ({}, f"machine elsewhere.org login user password {KEY}", "offline"),
        ({"WANDB_BASE_URL": "https://own.example.org"}, f"machine api.wandb.ai login user password {KEY}", "offline"),
        ({"WANDB_BASE_URL": "https://own.example.org"}, f"machine own.example.org login user password {KEY}", "online"),
        ({}, "this is no netrc", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", "offline"),
        ({"WANDB_MODE": "disabled"}, "", "disabled"),
        ({"WANDB_MODE": "dryrun"}, "", "offline"),
        ({"WANDB_MODE": "online"}, "", "online"),
    ],
)
def test_nobody_is_ever_asked_for_an_account(workplace, monkeypatch, environment, netrc, state):
    import wandb

    from dlmkit.tracking import wandb_ready

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (workplace / "netrc").write_text(netrc)
    (workplace / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(workplace / "netrc"))
    monkeypatch.setattr("builtins.input", None)
    wandb.teardown()  # it has read the environment of the tests before
    assert wandb_ready() == state


def test_a_key_that_cannot_be_one_is_told_before_there_is_a_run(refused, monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wandb.teardown()
    (line,) = refused("run", "tiny", "--wandb")
    assert line.startswith("--wandb: Weights & Biases cannot be used: ")
    assert "run wandb login, or set WANDB_MODE=offline" in line


def test_the_metrics_file_goes_on_where_it_was(tmp_path):
    from dlmkit.tracking import MetricsFile

    file = MetricsFile(tmp_path / "metrics.csv")
    file.log_metrics({"a": 1.0, "epoch": 0}, step=0)
    file.log_metrics({"b": 0.5, "epoch": 0}, step=1)
    file.log_metrics({"a": 2.0, "epoch": 0}, step=2)
    text = "step,epoch,a,b\n0,0,1,\n1,0,,0.5\n2,0,2,\n"
    assert (tmp_path / "metrics.csv").read_text() == text
    again = MetricsFile(tmp_path / "metrics.csv")
    again.rewind(2)
    assert (tmp_path / "metrics.csv").read_text() == text.removesuffix("2,0,2,\n")
    again.log_metrics({"a": 2.0, "epoch": 0}, step=2)
    assert (tmp_path / "metrics.csv").read_text() == text


def test_a_project_s_name_that_cannot_be_one(refused):
    (line,) = refused("run", "tiny", "--wandb-project=team/lecture")
    assert line.startswith("--wandb-project: a project's name has no /, and this is team/lecture; give another")


def test_a_run_s_name_may_have_what_its_id_may_not(train):
    folder = train("tiny", "--wandb", name="lr:0.1")
    assert json.loads((folder / "provenance.json").read_text())["wandb"]["id"].startswith("lr-0.1-")


def test_a_refusal_of_wandb_is_one_line(command, tiny, monkeypatch):
    import wandb

    def refusing(**options):
        raise wandb.errors.UsageError("invalid\nentity")

    monkeypatch.setattr(wandb, "init", refusing)
    outcome = command("run", "tiny", "--wandb", "--name", "first")
    assert outcome.code == 2
    (line,) = outcome.faults
    assert line.startswith("--wandb: Weights & Biases refuses the run: invalid entity; set WANDB_MODE=offline")
    assert not (tiny / "runs" / "first").exists()


def test_a_resumed_run_goes_on_keeping_its_checkpoints(train, monkeypatch):
    import json

    from dlmkit.callbacks import run_folder

    monkeypatch.setenv("WANDB_MODE", "offline")
    asked, made = [], run_folder.wandb_logger
    monkeypatch.setattr(run_folder, "wandb_logger", lambda *given: (asked.append(given[-1]), made(*given))[1])
    folder = train("tiny", "--wandb-checkpoints", name="first")
    assert json.loads((folder / "provenance.json").read_text())["wandb"]["checkpoints"] is True
    train("--resume", folder, "--trainer.max_steps=9")
    assert asked == [True, True]
