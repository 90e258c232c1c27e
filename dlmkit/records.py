"""What run folders tell of themselves, read without torch: figures, times, tables, and where their options differ."""

from __future__ import annotations

import contextlib
import csv
import glob
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from dlmkit.errors import UserError
from dlmkit.runs import Run

__all__ = ["MISSING", "Record", "Table", "differences", "find_runs", "higher_is_better", "plain"]

MISSING = object()
"""The value of an option that a run does not have."""

# Names of figures of which more is better, where the task does not say.
_UPWARD = {"accuracy", "acc", "precision", "recall", "f1", "auroc", "auc", "psnr", "ssim", "bleu", "iou", "correct"}
_UPWARD |= {"exact", "coverage", "groups", "analogies", "similarity", "correlation"}

Curve = list[tuple[float, float]]

_MOST_NAMES = 16
"""Rows of a table whose first column holds names."""


@dataclass
class Table:
    """A table that a run wrote as media, whose cells are numbers, but for names in the first column.

    Args:
        columns: The first two heads.
        rows: The first two cells of each row; of the first cells all are numbers, or all are names.
    """

    columns: tuple[str, str]
    rows: Sequence[tuple[float | str, float]]


@dataclass
class Record:
    """One run, as its folder tells it.

    Args:
        run: The folder.
        name: What it is called beside the others.
    """

    run: Run
    name: str
    summary: dict[str, Any] = field(init=False)
    provenance: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.summary, self.provenance = self.run.summary, self.run.provenance

    @property
    def folder(self) -> Path:
        """Where it lies, as the user wrote it."""
        return self.run.folder

    @property
    def status(self) -> str:
        """``finished``, ``stopped``, or ``unfinished`` where it runs still or was killed."""
        known = {"finished": "finished", "interrupted": "stopped"}
        return known.get(str(self.summary.get("status")), "unfinished")

    @cached_property
    def options(self) -> dict[str, Any]:
        """The configuration, flat: ``model.optimizer.lr`` to its value, ``model.optimizer`` to its class."""
        path = self.run.config
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise _unreadable(path, " ".join(str(error).split())) from None
        if not isinstance(config, dict):
            raise _unreadable(path, "it holds no options")
        return dict(_flat(config, ""))

    @property
    def model(self) -> str:
        """The name of the task's class."""
        return str(self.options.get("model", "")).rpartition(".")[2]

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Each metric over the steps done; that of the test has one point."""
        curves: dict[str, Curve] = {}
        path = self.folder / "metrics.csv"
        for line, row in _rows(path):
            step = _number(path, line, "step", row.pop("step", ""))
            for name, cell in row.items():
                if cell != "" and name != "epoch":
                    done = step if name.startswith("test/") else step + 1
                    curves.setdefault(name, []).append((done, _number(path, line, name, cell)))
        return curves

    @cached_property
    def times(self) -> Curve:
        """The seconds of training over the steps done; empty for a run of before they were written."""
        path = self.folder / "times.csv"
        return [tuple(_number(path, line, n, row.get(n, "")) for n in ("step", "seconds")) for line, row in _rows(path)]  # type: ignore[misc]

    def over_seconds(self, metric: str) -> Curve:
        """A metric over the seconds of training."""
        seconds = {step + 1: second for step, second in self.times}
        return [(seconds[step], value) for step, value in self.curves.get(metric, []) if step in seconds]

    @property
    def steps(self) -> int | None:
        """The steps done."""
        told = self.summary.get("steps")
        logged = [curve[-1][0] for curve in self.curves.values()]
        return told if told is not None else int(max(logged)) if logged else None

    @property
    def seconds(self) -> float | None:
        """How long it trained, in all."""
        return self.times[-1][1] if self.times else self.summary.get("seconds")

    def tests(self) -> dict[str, float]:
        """The figures of the test."""
        return {k: float(v) for k, v in (self.summary.get("metrics") or {}).items() if k.startswith("test/")}

    def best(self, metric: str) -> float | None:
        """The best value of a curve."""
        values = [value for _, value in self.curves.get(metric, []) if not math.isnan(value)]
        return (max if higher_is_better(metric, [self]) else min)(values) if values else None

    def tables(self) -> dict[str, Table]:
        """The latest version of every table of numbers among the media."""
        latest: dict[str, tuple[float, Path]] = {}
        for path in (self.folder / "media").glob("*.csv"):
            found = re.fullmatch(r"(.+)-(\d+|test)", path.stem)
            if found:
                when = math.inf if found[2] == "test" else float(found[2])
                latest[found[1]] = max(latest.get(found[1], (-1.0, path)), (when, path))
        read = {name: _table(path) for name, (_, path) in sorted(latest.items())}
        return {name: table for name, table in read.items() if table is not None}


def find_runs(words: Sequence[str]) -> list[Record]:
    """The runs that the user named, each once.

    Args:
        words: Folders, or patterns such as ``runs/lstm-*``, of which what is no run is passed over.

    Raises:
        UserError: If one is not there or no run, or a pattern matches none.
    """
    folders: dict[Path, Path] = {}
    for word in words:
        for path in _matches(word):
            folders.setdefault(path.resolve(), path)
    runs = [Run(path) for path in folders.values()]
    names = [path.name for path in folders]
    return [
        Record(run, name if names.count(name) == 1 else str(run.folder)) for run, name in zip(runs, names, strict=True)
    ]


def higher_is_better(metric: str, records: Sequence[Record]) -> bool:
    """Whether more of a metric is better, as its task says, or as its name does."""
    base = metric.partition("/")[2] or metric
    for record in records:
        monitor = str(record.summary.get("monitor", ""))
        if monitor.partition("/")[2] == base:
            return record.summary.get("monitor_mode") == "max"
    return bool(_UPWARD & set(re.split(r"[/_ ]", base.lower())))


def differences(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The options that differ among the runs that have them, the most telling ones first.

    What only one kind of network has is no difference between two kinds; the model itself is left out. The steps are
    no option where every run has done those that it was asked for.

    Returns:
        Option to the value of each run, :data:`MISSING` where it has none.
    """
    keys = list(dict.fromkeys(key for record in records for key in record.options))
    found = {key: [record.options.get(key, MISSING) for record in records] for key in keys}
    devices = [record.provenance.get("devices", MISSING) for record in records]
    found = {k: v for k, v in {**found, "device": devices}.items() if _differ(v)}
    found.pop("model", None)
    if all(record.options.get("trainer.max_steps") == record.steps for record in records):
        found.pop("trainer.max_steps", None)
    return dict(sorted(found.items(), key=lambda item: _rank(item[0], found)))


def plain(value: Any) -> str:
    """A value as it stands in a cell: classes without their packages, files without their folders."""
    if value is MISSING:
        return ""
    if isinstance(value, dict):
        return plain(value.get("class_path", ", ".join(f"{k}: {plain(v)}" for k, v in value.items())))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", text) and text.rpartition(".")[2][:1].isupper():
        return text.rpartition(".")[2]
    text = text.rpartition("/")[2] or text
    return text if len(text) <= 24 else f"{text[:11]}…{text[-12:]}"


# ---------------------------------------------------------------------------------------------------------- helpers


def _matches(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.exists() or not glob.has_magic(word):
        _require_run(path, word)
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path)))]
    kept = [one for one in found if (one / "config.yaml").is_file()]
    if not kept:
        what = "none of what it matches is a run" if found else "no run matches"
        raise UserError(what, "give run folders, such as 'runs/*'", word)
    return kept


def _require_run(path: Path, word: str) -> None:
    """Refuse what is easily given in place of a run: a file beside it, and the folder of all runs."""
    if path.is_file():
        raise UserError("this is a file, no run", "leave it out; a pattern in quotes passes it over", word)
    if path.is_dir() and not (path / "config.yaml").is_file() and any(path.glob("*/config.yaml")):
        raise UserError("this folder is no run, but holds some", f"to compare them, give '{path / '*'}'", word)


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield key, value
        return
    if "class_path" in value:
        yield key, value["class_path"]
    for word, below in value.items():
        if word in ("init_args", "dict_kwargs"):
            yield from _flat(below, key) if isinstance(below, dict) and below else ()
        elif word != "class_path":
            yield from _flat(below, f"{key}.{word}" if key else str(word))


def _differ(values: list[Any]) -> bool:
    there = [value for value in values if value is not MISSING]
    return any(value != there[0] for value in there)


def _rank(key: str, found: dict[str, list[Any]]) -> tuple[int, int]:
    """The model's options before the data's and the trainer's; last, how long it was trained and what data implies."""
    order = ["model", "data", "seed_everything", "device", "trainer"]
    late = key in ("trainer.max_steps", "trainer.max_epochs", "trainer.default_root_dir")
    late |= "data" in found and key in ("model.vocab_size", "model.input_size", "model.output_size")
    top = key.partition(".")[0]
    return (len(order) if late else order.index(top) if top in order else len(order)), list(found).index(key)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a file of figures with their lines; none where there is no file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise _unreadable(f"{path}:{reader.line_num}", "the row has not as many cells as the head")
                if "step" not in row:
                    raise _unreadable(path, "it has no column step")
                yield reader.line_num, row
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None


def _number(path: Path, line: int, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise _unreadable(f"{path}:{line}", f"{name} is {cell!r}, which is no number") from None


def _unreadable(where: Path | str, why: str) -> UserError:
    return UserError(f"cannot be read: {why}", "mend it, or leave this run out", str(where))


def _table(path: Path) -> Table | None:
    """A table of numbers, or of numbers with names; None for one of words."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = list(csv.reader(file))
        numbers = [[float(cell) for cell in row[1:]] for row in rows]
    except (OSError, ValueError, csv.Error):
        return None
    if len(head) < 2 or not rows or any(len(row) != len(head) for row in rows):
        return None
    names: list[float | str] = [row[0] for row in rows]
    with contextlib.suppress(ValueError):
        names = [float(row[0]) for row in rows]
    if len(rows) < 2 if isinstance(names[0], float) else len(rows) > _MOST_NAMES:
        return None
    return Table((head[0], head[1]), [(name, row[0]) for name, row in zip(names, numbers, strict=True)])
