"""Sentence pairs from plain-text files, JSON lines and the hub, each with the line that it stood on."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit.data.hub import by_split, column_of, load_splits, undecodable
from dlmkit.data.module import Split
from dlmkit.errors import UserError, did_you_mean, names_beside
from dlmkit_seq2seq.pairs import Texts

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["read_pairs"]

_TABLES = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def read_pairs(
    source: str | list[str], languages: tuple[str, str], subset: str | None, where: str
) -> dict[Split, Texts]:
    """Read pairs, whatever they come from.

    Args:
        source: Two plain-text files, one sentence on each line; a file of JSON lines; or the name of a dataset.
        languages: Columns of a table or of its column ``translation``.
        subset: Which of a dataset's configurations.
        where: The option that it was given in.

    Returns:
        The pairs of ``train``, and of ``val`` and ``test`` where a dataset has them.

    Raises:
        UserError: If it is not there, not text, or the two sides do not go together.
    """
    values = [source] if isinstance(source, str) else list(source)
    if len(values) == 2:
        return {"train": _from_files(*(Path(value).expanduser() for value in values))}
    if len(values) != 1:
        remedy = "give two text files, one file of JSON lines, or the name of a dataset"
        raise UserError(f"{where} names {len(values)} sources", remedy, where)
    path = Path(values[0]).expanduser()
    kind = next((table for ending, table in _TABLES.items() if path.name.removesuffix(".gz").endswith(ending)), "")
    if kind:
        _require(path)
        rows = load_splits(kind, "check that it holds what its ending says", files=[str(path)])["train"]
        return {"train": _columns(rows, languages, str(path))}
    if path.is_file():
        remedy = f"give the file of its translations too: {where}='[{values[0]}, OTHER]'"
        raise UserError("this is one side only", remedy, values[0])
    found = by_split(load_splits(values[0], "check the name, data.subset and the connection", subset))
    return {split: _columns(rows, languages, values[0]) for split, rows in found.items()}


def _from_files(one: Path, other: Path) -> Texts:
    source, target = _lines(one), _lines(other)
    if len(source) != len(target):
        (longer, more), shorter = ((one, source), other) if len(source) > len(target) else ((other, target), one)
        line = min(len(source), len(target)) + 1
        what = f"it has {len(more):,} lines and {shorter.name} {line - 1:,}: line {line:,} has no counterpart"
        told = more[line - 1].strip()
        quoted = f" ({told[:40]!r}{'…' if len(told) > 40 else ''})"
        raise UserError(what + quoted, "the same line of both files has to say the same", str(longer))
    return Texts(source, target, list(range(1, len(source) + 1)))


def _lines(path: Path) -> list[str]:
    """The lines of a text file, which only a line feed ends: Unicode's other line ends occur within sentences."""
    _require(path)
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as fault:
        raise UserError(f"this cannot be read: {fault}", "check that it is whole", str(path)) from fault
    if b"\0" in raw:
        remedy = "give a text file (UTF-16 becomes UTF-8 with iconv -f UTF-16 -t UTF-8)"
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise UserError(f"this is no text but binary: line {line:,} holds a NUL", remedy, str(path))
    raw = raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    rows = raw.removesuffix(b"\n").split(b"\n") if raw else []
    return [_text(row, line, path) for line, row in enumerate(rows, 1)]


def _text(row: bytes, line: int, path: Path) -> str:
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError as fault:
        remedy = "the file mixes encodings, or is Latin-1 throughout; iconv -f LATIN1 -t UTF-8 converts it"
        raise UserError(f"line {line:,} {undecodable(fault)}", remedy, str(path)) from None


def _require(path: Path) -> None:
    if path.is_file():
        return
    raise UserError("there is no such file", did_you_mean(path.name, names_beside(path), "check the path"), str(path))


def _columns(rows: Dataset, languages: Sequence[str], where: str) -> Texts:
    """The two columns of a table, or the two entries of its column ``translation``."""
    is_nested = "translation" in rows.column_names
    nested = [row or {} for row in column_of(rows, "translation", where)] if is_nested else None
    known = sorted({key for row in nested for key in row}) if nested is not None else list(rows.column_names)
    sides = []
    for language in languages:
        if language not in known:
            remedy = did_you_mean(language, known, "name two of them as data.languages")
            raise UserError(f"there is no column {language} but {', '.join(known)}", remedy, where)
        column = [row.get(language) for row in nested] if nested is not None else column_of(rows, language, where)
        sides.append([_sentence(value, line, language, where) for line, value in enumerate(column, 1)])
    return Texts(sides[0], sides[1], list(range(1, len(sides[0]) + 1)))


def _sentence(value: Any, line: int, language: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        remedy = "name columns of text as data.languages"
        raise UserError(f"row {line:,} of {language} holds {type(value).__name__} and no text", remedy, where)
    return value.replace("\r", " ").replace("\n", " ")
