"""The verb that puts runs side by side: a table on the screen, and a figure of their curves."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit.errors import UserError, did_you_mean
from dlmkit.records import MISSING, Record, differences, find_runs, higher_is_better, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from dlmkit.curves import Panel

__all__ = ["compare"]

_MOST_PANELS = 6
_WIDEST_NAME = 28


def compare(options: argparse.Namespace) -> int:
    """``dlmkit compare``: a table and a figure of runs; nothing of them is loaded or changed."""
    records = find_runs(options.runs)
    metric = _choose_metric(records, options.metric)
    records = _sorted(records, options.sort)
    figure = Path(options.out or "compare.png") if options.out or not options.json else None
    if figure is not None:
        figure = figure / "compare.png" if figure.is_dir() else figure
        _draw(records, metric, figure)
    if options.json:
        print(json.dumps(_as_json(records, metric, figure), indent=2, ensure_ascii=False, default=str))
        return 0
    console = _console()
    _print_tables(console, records, metric)
    for note in _notes(records, metric):
        console.print(note, style="dim", soft_wrap=True)
    _print_row(console, "figure", f"{figure}   ({metric} of {_counted(_drawn(records, metric))})")
    command, what = _next(records, metric, options.runs)
    _print_row(console, "next", command, what)
    return 0


# ----------------------------------------------------------------------------------------------------------- choosing


def _names(record: Record) -> list[str]:
    """The metrics that a run has a curve of."""
    return sorted(name for name in record.curves if not name.startswith("test/"))


def _choose_metric(records: list[Record], asked: str | None) -> str:
    """The metric of the figure: the one asked for, or one that every run has.

    Raises:
        UserError: If there is none.
    """
    having = [record for record in records if _names(record)]
    if not having:
        raise UserError("no run has logged any figures yet", "train for longer", ", ".join(r.name for r in records))
    known = sorted({name for record in having for name in _names(record)})
    if asked is not None:
        if asked not in known:
            what = f"no run has a curve of {asked}"
            raise UserError(what, did_you_mean(asked, known, f"there are {', '.join(known)}"), "--metric")
        return asked
    shared = [name for name in known if all(name in record.curves for record in having)]
    wanted = [*_headlines(having, "val"), "val/loss", *(name for name in shared if name.startswith("val/"))]
    wanted += [*_headlines(having, "train"), "train/loss", *shared]
    chosen = next((name for name in wanted if name in shared), None)
    if chosen is None:
        each = "; ".join(f"{record.name} has {', '.join(_names(record))}" for record in having)
        raise UserError("no metric is in all of the runs", f"choose one with --metric: {each}")
    return chosen


def _headlines(records: list[Record], stage: str) -> list[str]:
    """What the runs themselves report first, as another stage has it."""
    told = []
    for record in records:
        named = [record.summary.get("headline"), *record.summary.get("baselines", {})]
        told += [f"{stage}/{name.partition('/')[2]}" for name in named if name]
    return list(dict.fromkeys(told))


def _figures(record: Record) -> dict[str, float | None]:
    """Every figure by which runs are sorted."""
    return {**_metrics(record), "seconds": record.seconds, "parameters": record.summary.get("parameters")}


def _metrics(record: Record) -> dict[str, float | None]:
    """The test's figures, and the best of every curve."""
    return {**record.tests(), **{name: record.best(name) for name in _names(record)}}


def _sorted(records: list[Record], by: str | None) -> list[Record]:
    """The best first; those without that figure last."""
    if by is None:
        return records
    figures = {record.name: _figures(record) for record in records}
    known = sorted({name for one in figures.values() for name in one})
    if by not in known:
        remedy = did_you_mean(by, known, f"there are {', '.join(known)}")
        raise UserError(f"no run has a figure {by}", remedy, "--sort")
    sign = -1 if higher_is_better(by, records) else 1

    def key(record: Record) -> tuple[bool, float]:
        value = figures[record.name].get(by)
        missing = value is None or math.isnan(value)
        return missing, 0.0 if value is None or missing else sign * value

    return sorted(records, key=key)


# ---------------------------------------------------------------------------------------------------------- the table


@dataclass
class _Column:
    """A column of the table.

    Args:
        head: Its head; words are put below each other.
        cells: One for each run.
        left: Whether words stand in it, not numbers.
        rank: Where the screen is narrow, the column of the highest rank goes first; 0 stays.
        best: The rows to print bold.
    """

    head: str
    cells: list[str]
    left: bool = False
    rank: int = 0
    best: set[int] = field(default_factory=set)


def _print_tables(console: Console, records: list[Record], metric: str) -> None:
    """One table, or what came out above what was asked for where the screen is narrow; what does not fit is told."""
    name = _Column("run", ["\n".join(textwrap.wrap(record.name, _WIDEST_NAME)) for record in records], left=True)
    model = _Column("model", [record.model for record in records], left=True)
    parameters = [record.summary.get("parameters") for record in records]
    params = _Column("params", ["" if count is None else _compact(count) for count in parameters])
    results, options = _results(records, metric), _option_columns(differences(records))
    if _width(whole := [name, model, params, *results, *options]) <= console.width:
        console.print(_rich(whole))
        return
    upper, lower = [name, *results], [name, model, params, *options]
    hidden = [column.head for columns in (upper, lower) for column in _drop_until(columns, console.width)]
    console.print(_rich(upper), "", _rich(lower), sep="\n")
    if hidden:
        told = ", ".join(hidden[:5]) + (", …" if len(hidden) > 5 else "")
        console.print(f"{len(hidden)} more: {told}   (--json has all)", style="dim", soft_wrap=True)


def _drop_until(columns: list[_Column], width: int) -> list[_Column]:
    """Take columns out until the rest fits; those taken out."""
    dropped = []
    while _width(columns) > width and any(column.rank for column in columns):
        dropped.append(max(columns, key=lambda column: column.rank))
        columns.remove(dropped[-1])
    return dropped[::-1]


def _results(records: list[Record], metric: str) -> list[_Column]:
    """The columns of what came out."""
    headlines = _headlines(records, "test")
    tests = sorted({name for r in records for name in r.tests()}, key=lambda n: (n not in headlines, n))
    columns = [_figure_column(name, [r.tests().get(name) for r in records], records) for name in tests]
    if any(f"test/{metric.partition('/')[2]}" not in record.tests() for record in records):
        columns.insert(0, _figure_column(metric, [r.best(metric) for r in records], records, "best "))
    for number, column in enumerate(columns):
        column.rank = 10 * number
    columns.append(_Column("steps", ["" if r.steps is None else f"{r.steps:,}" for r in records], rank=1))
    columns.append(_Column("seconds", [_seconds(record.seconds) for record in records], rank=2))
    statuses = [record.status for record in records]
    return columns if set(statuses) == {"finished"} else [*columns, _Column("status", statuses, left=True, rank=3)]


def _figure_column(name: str, values: Sequence[float | None], records: list[Record], which: str = "") -> _Column:
    there = [value for value in values if value is not None and not math.isnan(value)]
    best = (max if higher_is_better(name, records) else min)(there) if len(there) > 1 else None
    cells = ["" if value is None else _figure(value) for value in values]
    bold = {row for row, cell in enumerate(cells) if best is not None and cell == _figure(best)}
    return _Column(which + name.replace("_", " "), cells, best=bold)


def _figure(value: float) -> str:
    return f"{value:.3f}" if not value or 0.001 <= abs(value) < 1e5 else f"{value:.2e}"


def _compact(count: int) -> str:
    """A count in at most five characters."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _option_columns(found: dict[str, list[Any]]) -> list[_Column]:
    heads = _short_heads(list(found)).items()
    return [_Column(head, [plain(v) for v in found[key]], True, rank) for rank, (key, head) in enumerate(heads, 1)]


def _short_heads(keys: list[str]) -> dict[str, str]:
    """The last word of each option, and as many before it as tell it from the others."""
    heads = {}
    for key in keys:
        words = key.split(".")
        size = next(
            n
            for n in range(1, len(words) + 1)
            if n == len(words) or sum(f".{k}".endswith("." + ".".join(words[-n:])) for k in keys) == 1
        )
        heads[key] = ".".join(words[-size:])
    return heads


def _head_lines(column: _Column) -> list[str]:
    return textwrap.wrap(column.head, 9, break_long_words=False, break_on_hyphens=False)


def _column_width(column: _Column) -> int:
    return max(len(line) for cell in [*_head_lines(column), *column.cells] for line in cell.split("\n"))


def _width(columns: list[_Column]) -> int:
    return sum(map(_column_width, columns)) + 2 * (len(columns) - 1)


def _rich(columns: list[_Column]) -> RichTable:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold cyan", padding=(0, 2, 0, 0))
    tallest = max(len(_head_lines(column)) for column in columns)
    for column in columns:
        lines = _head_lines(column)
        head = Text("\n".join([*[""] * (tallest - len(lines)), *lines]))
        table.add_column(head, justify="left" if column.left else "right", width=_column_width(column), overflow="fold")
    for row, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        styles = ["bold" if row in column.best else "" for column in columns]
        table.add_row(*(Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)))
    return table


# --------------------------------------------------------------------------------------------------------- the figure


def _draw(records: list[Record], metric: str, path: Path) -> None:
    from dlmkit.curves import Panel, draw

    noisy = metric.startswith("train/")
    panels = [Panel("", "steps", metric.replace("_", " "), _curves(records, metric), noisy)]
    seconds = {r.name: curve for r in records if (curve := r.over_seconds(metric))}
    if seconds:
        unit, factor = _unit(max(curve[-1][0] for curve in seconds.values()))
        scaled = {name: [(x / factor, y) for x, y in curve] for name, curve in seconds.items()}
        panels.append(Panel("", f"training time in {unit}", metric.replace("_", " "), scaled, noisy))
    panels += _media_panels(records)[: _MOST_PANELS - len(panels)]
    draw(panels, [record.name for record in records], path)


def _curves(records: list[Record], metric: str) -> dict[str, list[tuple[float, float]]]:
    return {record.name: record.curves.get(metric, []) for record in records}


def _unit(longest: float) -> tuple[str, float]:
    return ("seconds", 1) if longest < 180 else ("minutes", 60) if longest < 10800 else ("hours", 3600)


def _media_panels(records: list[Record]) -> list[Panel]:
    """A panel for every table of numbers that at least two runs wrote under the same name."""
    from dlmkit.curves import Panel

    tables = {record.name: record.tables() for record in records}
    panels = []
    for name in sorted({name for own in tables.values() for name in own}):
        having = {run: own[name] for run, own in tables.items() if name in own}
        if len(having) > 1:
            x, y = next(iter(having.values())).columns
            panels.append(Panel(name, x, y, {run: table.rows for run, table in having.items()}))
    return panels


# ------------------------------------------------------------------------------------------------------- what is said


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _print_row(console: Console, label: str, value: str, what: str = "") -> None:
    from rich.text import Text

    text = Text(f"{label:<9}", style="bold cyan") + Text(value, style="bold" if what else "")
    console.print(text + Text(f"   {what}" if what else "", style="dim"), soft_wrap=True)


def _counted(records: list[Record]) -> str:
    return f"{len(records)} run{'' if len(records) == 1 else 's'}"


def _drawn(records: list[Record], metric: str) -> list[Record]:
    return [record for record in records if metric in record.curves]


def _notes(records: list[Record], metric: str) -> list[str]:
    """What the figure cannot show, and why."""
    notes = []
    drawn = _drawn(records, metric)
    if lacking := [r.name for r in records if r not in drawn]:
        notes.append(f"not in the figure: {', '.join(lacking)} (no {metric})")
    if timeless := [r.name for r in drawn if not r.over_seconds(metric)]:
        which = "no curves over seconds" if len(timeless) == len(drawn) else "not over seconds"
        notes.append(f"{which}: {', '.join(timeless)} (no times.csv, as in runs of earlier versions)")
    hosts = {(r.provenance.get("host"), r.provenance.get("devices")) for r in drawn}
    if len(hosts) > 1:
        notes.append("the seconds are of different machines")
    return notes


def _next(records: list[Record], metric: str, words: list[str]) -> tuple[str, str]:
    """A command to try, and what it does."""
    stopped = next((record for record in records if record.status == "stopped"), None)
    if stopped is not None:
        return shlex.join(["dlmkit", "run", "--resume", str(stopped.folder)]), "go on with the one that was stopped"
    if len(records) == 1:
        pattern = str(records[0].folder.parent / "*")
        return shlex.join(["dlmkit", "compare", pattern]), "beside the other runs"
    shared = [name for name in _names(records[0]) if all(name in record.curves for record in records)]
    other = next((n for n in sorted(shared, key=lambda n: not n.startswith("val/")) if n != metric), None)
    if other is not None and len(words) <= 4:
        return shlex.join(["dlmkit", "compare", *words, "--metric", other]), "another curve of theirs"
    best = _sorted(records, metric)[0]
    return shlex.join(["dlmkit", "test", str(best.folder)]), "test the best again"


def _as_json(records: list[Record], metric: str, figure: Path | None) -> dict[str, Any]:
    found = differences(records)
    runs = []
    for number, record in enumerate(records):
        differing = {key: values[number] for key, values in found.items() if values[number] is not MISSING}
        runs.append(
            {
                "name": record.name,
                "folder": str(record.folder),
                "model": record.model,
                "status": record.status,
                "parameters": record.summary.get("parameters"),
                "steps": record.steps,
                "seconds": None if record.seconds is None else round(record.seconds, 3),
                "metrics": {name: _json_number(value) for name, value in _metrics(record).items()},
                "options": differing,
            }
        )
    return {"metric": metric, "figure": str(figure) if figure else None, "differences": list(found), "runs": runs}


def _json_number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
