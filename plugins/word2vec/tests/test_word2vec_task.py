"""Whole runs through the command: both engines, both objectives, sampling, export, files to begin with, bad input."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from dlmkit_word2vec.export import main as export
from dlmkit_word2vec.export import run_vectors
from dlmkit_word2vec.formats import read_vectors
from dlmkit_word2vec.task import Word2Vec

from dlmkit import UserError
from dlmkit.cli import main

TOPICS = ["lion tiger wolf bear fox", "red green blue yellow white", "monday tuesday friday sunday saturday"]


def topical(size, seed=0):
    """Text in which a word stands among words of its own topic, and common words everywhere."""
    rng = np.random.default_rng(seed)
    topics = [text.split() for text in TOPICS]
    words = []
    while len(words) < size:
        topic = topics[rng.integers(len(topics))]
        words += [topic[i] if rng.random() < 0.8 else "the" for i in rng.integers(0, len(topic), 20)]
    return " ".join(words)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(topical(30_000))

    def run(*words, recipe="word2vec"):
        small = ["--data.source=text.txt", "--model.dim=16", "--data.batch_size=4", "--data.length=500"]
        code = main(["run", recipe, "--name", "it", *small, "--trainer.max_epochs=3", *words])
        return code, capsys.readouterr()

    return run


def engines():
    try:
        import numba  # noqa: F401
    except ImportError:
        return ["torch"]
    return ["torch", "numba"]


@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize("recipe", ["word2vec", "cbow"])
def test_words_of_one_topic_find_each_other(command, tmp_path, engine, recipe):
    code, _ = command(f"--model.engine={engine}", "--model.threads=1", "--data.sample=0.1", recipe=recipe)
    assert code == 0
    summary = json.loads((tmp_path / "runs/it/summary.json").read_text())
    assert summary["metrics"]["test/loss"] < summary["baselines"]["test/loss"]["frequency alone"]
    vectors = run_vectors(tmp_path / "runs/it")
    for topic in TOPICS:
        words = topic.split()
        assert {n.word for n in vectors.nearest(words[0], 4)} == set(words[1:]), (recipe, engine)
    with (tmp_path / "runs/it/metrics.csv").open() as file:
        speeds = [float(row["train/words_per_second"]) for row in csv.DictReader(file) if row["train/words_per_second"]]
    assert speeds and min(speeds) > 0


def test_samples_need_no_text_and_the_export_is_the_run(command, tmp_path, capsys):
    assert command("--model.engine=torch")[0] == 0
    (tmp_path / "text.txt").unlink()
    assert main(["sample", "runs/it", "--prompt", "lion - red + blue", "--top=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(-1 <= float(line.split()[1]) <= 1 for line in lines)
    assert main(["sample", "runs/it", "--prompt", "lino"]) == 2
    assert "did you mean lion" in capsys.readouterr().err
    assert export(["runs/it", "v.bin"]) == 0
    assert "16 vectors of 16 numbers, binary" in capsys.readouterr().out
    assert np.array_equal(read_vectors(tmp_path / "v.bin").matrix, run_vectors("runs/it").matrix)
    assert export(["runs/none", "v.bin"]) == 2
    assert "no such run" in capsys.readouterr().err


def test_a_run_can_begin_with_vectors_of_a_file(command, tmp_path, capsys):
    (tmp_path / "start.txt").write_text("2 16\nlion " + "9 " * 15 + "9\nunicorn" + " 1" * 16 + "\n")
    code, _ = command("--model.engine=torch", "--model.start=start.txt", "--trainer.max_steps=1", "--model.rate=1e-9")
    assert code == 0
    assert np.allclose(run_vectors("runs/it").matrix[run_vectors("runs/it").number["lion"]], 9)
    code, told = command("--model.start=start.txt", "--model.dim=8", "--name=other")
    assert code == 2 and "have 16 numbers" in told.err


def test_files_of_questions_are_asked_at_the_test(command, tmp_path):
    (tmp_path / "pairs.txt").write_text("lion\ttiger\t9\nlion\tred\t1\nred\tblue\t8\nmonday\tfox\t0\nnone\tfox\t3\n")
    (tmp_path / "q.txt").write_text(": same\nlion tiger red blue\nred blue monday friday\n: unknown\na b c d\n")
    code, out = command("--model.engine=torch", "--model.similarity=[pairs.txt]", "--model.analogies=q.txt")
    assert code == 0, out.err
    metrics = json.loads((tmp_path / "runs/it/summary.json").read_text())["metrics"]
    assert metrics["test/pairs"] > 0.5
    assert 0 <= metrics["test/analogies"] <= 1
    lines = (tmp_path / "runs/it/media/analogies-by-section-test.csv").read_text().splitlines()
    rows = list(csv.reader(lines))
    assert [row[0] for row in rows] == ["section", "same", "unknown", "all"]
    assert rows[2][2:] == ["0", "1"]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--model.dim=0", "dim is 0"),
        ("--model.rate=-1", "rate is -1"),
        ("--model.threads=-2", "threads is -2"),
        ("--model.similarity=[nothing.txt]", "nothing.txt: cannot be read"),
        ("--model.start=nothing.txt", "nothing.txt: cannot be read"),
        ("--data.source=texd.txt", "did you mean"),
        ("--data.min_count=100000", "occur often enough"),
        ("--model.window=3", "data says 5"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_leaves_no_run(command, tmp_path, option, told):
    code, out = command(option)
    assert code == 2
    assert told in out.err and len(out.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs/it").exists()


def test_the_rate_falls_in_a_straight_line():
    task = Word2Vec(vocab_size=3, window=2, negatives=2, dim=2, rate=0.5)

    class Trainer:
        estimated_stepping_batches, global_step = 100, 0

    task._trainer = trainer = Trainer()
    rates = []
    for trainer.global_step in (0, 25, 50, 99, 100, 120):
        rates.append(type(task).current_rate(_Attached(task, trainer)))
    assert rates[:3] == pytest.approx([0.5, 0.5 * (1 - 0.998 * 0.25), 0.5 * (1 - 0.998 * 0.5)])
    assert rates[3] > rates[4] == pytest.approx(0.001)
    assert rates[5] == pytest.approx(0.001)


class _Attached:
    def __init__(self, task, trainer):
        self.rate, self.trainer, self.compiled = task.rate, trainer, True


def test_numba_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr("dlmkit_word2vec.task.has_numba", lambda: False)
    with pytest.raises(UserError, match=r"numba is not installed; pip install 'dlmkit-word2vec\[fast\]'"):
        Word2Vec(vocab_size=3, window=2, negatives=2, engine="numba")


@pytest.mark.parametrize("engine", engines())
def test_a_resumed_run_ends_like_an_uninterrupted_one(command, tmp_path, monkeypatch, engine):
    words = [f"--model.engine={engine}", "--model.threads=1", "--data.sample=0.1"]
    assert command(*words)[0] == 0
    whole = run_vectors(tmp_path / "runs/it").matrix

    def stop(self, *_):
        self.trainer.should_stop = self.trainer.global_step >= 20

    with monkeypatch.context() as patched:
        patched.setattr(Word2Vec, "on_train_batch_end", stop)
        assert command(*words, "--name=part")[0] == 0
    stopped = run_vectors(tmp_path / "runs/part").matrix
    assert not np.allclose(stopped, whole, atol=1e-3)
    assert main(["run", "--resume", "runs/part"]) == 0
    assert np.array_equal(run_vectors(tmp_path / "runs/part").matrix, whole)


def test_changes_of_all_processes_are_added_up(monkeypatch):
    """Both began with the same weights; this one changed a row, the other one that row and another."""
    from dlmkit_word2vec.engines import Changes

    weight = torch.arange(6.0).view(3, 2)
    begun = weight.clone()
    changes = Changes([weight])
    others = torch.tensor([[0.0, 0.0], [10.0, 20.0], [30.0, 0.0]])
    monkeypatch.setattr("dlmkit_word2vec.engines.dist.all_reduce", lambda change: change.add_(others))
    weight[1] += 1
    changes.exchange()
    expected = begun + others
    expected[1] += 1
    torch.testing.assert_close(weight, expected)
    changes.exchange()  # nothing of this process's is new
    torch.testing.assert_close(weight, expected + others)


def test_the_slides_analogies_are_a_table_and_their_words_a_map():
    """Vectors in which every relation is a direction answer every question, and the map has all arrows."""
    from dlmkit_word2vec.relations import ANALOGIES, RELATIONS

    rng = np.random.default_rng(0)
    words, rows = [], []
    pairs = [(a, b) for first, second, third, fourth in ANALOGIES[:4] for a, b in ((first, second), (third, fourth))]
    pairs += list(zip(*[iter(" ".join(list(RELATIONS.values())[:3]).split())] * 2, strict=True))
    step = {text: rng.normal(size=24) for text in ("x",)}["x"]
    for a, b in pairs:
        if a not in words and b not in words:
            words += [a, b]
            base = rng.normal(size=24) * 3
            rows += [base, base + step]
    task = Word2Vec(vocab_size=len(words), window=2, negatives=2, dim=24)
    task.words, task.counts = words, np.arange(len(words), 0, -1)
    task.net.input.data = torch.from_numpy(np.stack(rows)).float()
    shown = task.show({})
    table = shown["analogies"].rows
    assert [row[:2] for row in table[:2]] == [("paris - france + italy", "rome"), ("bigger - big + cold", "colder")]
    assert all(row[2].startswith(row[1] + " ") for row in table[:2])
    for method in ("pca", "tsne"):
        axes = shown[f"map-{method}"].figure.axes[0]
        notes = axes.texts
        arrows = [note for note in notes if note.arrow_patch is not None]
        written = [note for note in notes if note.get_text()]
        assert len(arrows) == 15 and len({arrow.arrow_patch.get_edgecolor() for arrow in arrows}) == 3
        assert len(written) == len({note.get_text() for note in written}) == 30
        boxes = [note.get_window_extent() for note in written]
        over = sum(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
        assert over <= 1, method  # of 435 pairs of words


@pytest.mark.slow
@pytest.mark.parametrize("engine", engines())
def test_two_processes_end_with_the_same_weights_and_learn(tmp_path, engine):
    (tmp_path / "text.txt").write_text(topical(30_000))
    words = [sys.executable, "-m", "dlmkit.cli", "run", "word2vec", "--data.source=text.txt", "--model.dim=16"]
    words += ["--data.batch_size=4", "--data.length=500", "--trainer.max_epochs=3", "--data.sample=0.1", "--name=it"]
    words += ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", f"--model.engine={engine}"]
    kept = {k: v for k, v in os.environ.items() if k not in ("PL_GLOBAL_SEED", "LOCAL_RANK", "WORLD_SIZE")}
    environment = kept | {"DLMKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    vectors = run_vectors(tmp_path / "runs/it")
    assert torch.from_numpy(vectors.matrix).isfinite().all()
    for topic in TOPICS:
        names = topic.split()
        assert {n.word for n in vectors.nearest(names[0], 4)} == set(names[1:])
