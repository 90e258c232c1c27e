"""Where text comes from: the Python standard library, files, a Hugging Face dataset; each becomes a dataset."""

from __future__ import annotations

import glob
import hashlib
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlmkit.data.hub import by_split, load_splits
from dlmkit.errors import UserError, did_you_mean, names_beside

if TYPE_CHECKING:
    from datasets import Dataset

    from dlmkit.data.module import Split

__all__ = ["STDLIB", "Corpus", "expand", "python_stdlib", "python_stdlib_dataset", "read_corpus"]

STDLIB = "python-stdlib"

# Modules that are written in Python, in English, and lie at the same place in CPython 3.11 to 3.14. Tables, tests,
# and modules that were removed or became packages in between are left out, and so are files that are so large or so
# unlike the rest that the split they fall into would be of another kind.
_MODULES = tuple(
    """
    _collections_abc _threading_local _weakrefset abc argparse ast
    asyncio/base_events asyncio/base_subprocess asyncio/base_tasks asyncio/coroutines asyncio/events asyncio/exceptions
    asyncio/futures asyncio/locks asyncio/protocols asyncio/queues asyncio/runners asyncio/staggered asyncio/streams
    asyncio/subprocess asyncio/taskgroups asyncio/tasks asyncio/threads asyncio/timeouts asyncio/transports
    base64 bisect calendar collections/__init__
    concurrent/futures/__init__ concurrent/futures/_base concurrent/futures/process concurrent/futures/thread
    configparser contextlib copy csv dataclasses difflib
    email/__init__ email/errors email/feedparser email/generator email/parser email/policy email/utils
    enum fnmatch functools getpass glob graphlib heapq http/__init__ http/client http/cookies
    importlib/util inspect json/__init__ json/decoder json/encoder json/scanner linecache logging/__init__
    multiprocessing/pool multiprocessing/process multiprocessing/queues multiprocessing/shared_memory
    multiprocessing/synchronize numbers operator os pickle posixpath pprint queue random
    re/__init__ re/_compiler re/_parser reprlib sched secrets selectors shutil socket statistics subprocess
    tarfile tempfile textwrap threading timeit tomllib/_parser traceback types
    unittest/case unittest/loader unittest/main unittest/mock unittest/result unittest/runner unittest/suite
    unittest/util urllib/error urllib/parse urllib/request weakref
    """.split()
)

_TEXT_ENDINGS = {".txt", ".text", ".md", ".rst", ".tex", ".org", ".py", ".c", ".h", ".cpp", ".rs", ".go", ".js", ".ts"}
_TEXT_ENDINGS |= {".java", ".html", ".htm", ".xml", ".css", ".json", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".log"}
# Files whose text lies in a column.
_TABLE_ENDINGS = {".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Corpus:
    """A text and what to call it.

    Args:
        label: What a person calls the source.
        where: Where it lies: a path, a dataset's name.
        texts: The text of the split ``train``, and of ``val`` and ``test`` where the source has them itself.
    """

    label: str
    where: str
    texts: Mapping[Split, str]


def python_stdlib_dataset() -> Dataset:
    """The source text of the Python standard library, as it lies where Python is installed.

    A pinned list of about a hundred modules, 2.9 million characters on CPython 3.11 and 3.0 million on 3.13, nearly
    all of them ASCII. The text differs between Python versions, and so do figures that are measured on it. The
    files come in an order that is shuffled once and for all (by the SHA-256 of their names), so that the first
    eight tenths, the next and the last are texts of one kind, but of different modules.

    Returns:
        Rows of ``name`` (``asyncio/tasks.py``) and ``text``.

    Raises:
        UserError: If less than nine tenths of the files are there.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = sorted((f"{module}.py" for module in _MODULES), key=lambda name: hashlib.sha256(name.encode()).digest())
    found = [name for name in names if (folder / name).is_file()]
    if 10 * len(found) < 9 * len(names):
        what = f"this Python comes without the source of its library: {len(found)} of {len(names)} files are there"
        raise UserError(what, "give a text file as data.source", str(folder))
    return _dataset(found, [_read_file(folder / name) for name in found])


def python_stdlib() -> str:
    """The files of `python_stdlib_dataset` as one text."""
    return _join(python_stdlib_dataset()["text"])


def read_corpus(source: str | list[str], subset: str | None, column: str) -> Corpus:
    """Read a source, whatever it is.

    Args:
        source: ``python-stdlib``, text files (``~`` and ``*`` are expanded), a folder or a dataset's name.
        subset: Which of a dataset's configurations.
        column: The column that holds the text.

    Returns:
        The text by split.

    Raises:
        UserError: If it is not there, not text, empty, or has no such column.
    """
    values = [source] if isinstance(source, str) else list(source)
    where = ", ".join(values)
    parts: Mapping[Split, Dataset]
    if values == [STDLIB]:
        label, parts = "Python standard library", {"train": python_stdlib_dataset()}
    elif len(values) == 1 and not _is_file(values[0]):
        label, parts = values[0], _load_dataset(values[0], subset)
    else:
        paths = [path for value in values for path in expand(value)]
        label = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
        parts = {"train": _files_dataset(paths)}
    texts = {split: _column(part, column, where) for split, part in parts.items()}
    for split, text in texts.items():
        if not text:
            raise UserError(f"there is no text in the {split} split", "give text as data.source", where)
    return Corpus(label, where, texts)


def _is_file(value: str) -> bool:
    path = Path(value).expanduser()
    if path.is_dir():
        return False
    return path.suffix in _TEXT_ENDINGS | _TABLE_ENDINGS.keys() or path.exists() or glob.has_magic(value)


def expand(value: str) -> list[Path]:
    """The files that a name or a pattern stands for, in the order of their names.

    Args:
        value: A path, in which ``~`` and ``*`` are expanded.

    Raises:
        UserError: If there is none.
    """
    path = Path(value).expanduser()
    if path.is_file():
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
    if not found:
        raise UserError(*_missing(path), value)
    return found


def _missing(path: Path) -> tuple[str, str]:
    remedy = "check data.source"
    if glob.has_magic(str(path)):
        return "no file matches this pattern", remedy
    if path.is_dir():
        return "this is a folder", "give its files: add /*.txt, say"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}", remedy
    return "there is no such file", did_you_mean(path.name, names_beside(path), remedy)


def _files_dataset(paths: list[Path]) -> Dataset:
    builders = {_TABLE_ENDINGS.get(path.suffix, "") for path in paths}
    if builders == {""}:
        return _dataset([str(path) for path in paths], [_read_file(path) for path in paths])
    if len(builders) > 1:
        kinds = ", ".join(sorted({path.suffix for path in paths}))
        raise UserError(f"data.source mixes files of several kinds ({kinds})", "give files of one kind", str(paths[0]))
    return _load_dataset(builders.pop(), None, [str(path) for path in paths])["train"]


def _read_file(path: Path) -> str:
    """A file's text; the line ends of other systems become line feeds."""
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise UserError(fault.strerror or str(fault), "check data.source and who may read it", str(path)) from fault
    if b"\0" in raw:
        remedy = "give a text file (UTF-16 becomes UTF-8 with iconv -f UTF-16 -t UTF-8)"
        raise UserError(f"this is no text but binary: byte {raw.index(0)} is NUL", remedy, str(path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        # A byte-order mark is taken off before decoding, and the fault's position counts from behind it.
        at = fault.start + len(raw) - len(fault.object)
        line = raw.count(b"\n", 0, at) + 1
        what = f"this is not UTF-8: byte {at} (0x{raw[at]:02x}) in line {line}"
        raise UserError(what, "convert it, say with iconv -f LATIN1 -t UTF-8", str(path)) from fault
    if not text:
        raise UserError("this file is empty", "give a file with text", str(path))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _dataset(names: list[str], texts: list[str]) -> Dataset:
    from datasets import Dataset, Features, Value

    # A string column holds 2 GiB in all, a large_string column any number.
    features = Features({"name": Value("string"), "text": Value("large_string")})
    return Dataset.from_dict({"name": names, "text": texts}, features=features)


def _load_dataset(name: str, subset: str | None, files: list[str] | None = None) -> Mapping[Split, Dataset]:
    """``train``, and what there is of ``val`` and ``test``.

    Args:
        name: A hub name, a folder or a file format.
        subset: The configuration.
        files: The files of a format.
    """
    found = load_splits(name, _remedy(name, Path(name).expanduser(), files), subset, files)
    parts = by_split(found)
    if "train" not in parts:
        where = files[0] if files else name
        raise UserError(f"this dataset has no split train but {', '.join(found)}", "give another data.source", where)
    return parts


def _remedy(name: str, path: Path, files: list[str] | None) -> str:
    if files:
        return "check that the files hold what their ending says"
    if path.is_dir():
        return "check data.subset and that the folder holds text, jsonl or parquet files"
    siblings = [str(path.parent / near) for near in names_beside(path)]
    if meant := did_you_mean(name, [STDLIB, *siblings]):
        return meant
    return "check the spelling, data.subset, the connection and HF_HUB_OFFLINE, or give a local file"


def _column(rows: Dataset, column: str, where: str) -> str:
    if column not in rows.column_names:
        remedy = did_you_mean(column, rows.column_names, "name one of them as data.column")
        raise UserError(f"there is no column {column} but {', '.join(rows.column_names)}", remedy, where)
    values = list(rows[column])
    odd = next((value for value in values if not isinstance(value, str | None)), None)
    if odd is not None:
        remedy = "name a column of text as data.column"
        raise UserError(f"the column {column} holds {type(odd).__name__} and no text", remedy, where)
    return _join(value or "" for value in values)


def _join(texts: Iterable[str]) -> str:
    """One text; a line break between two rows unless the first ends with one."""
    rows = list(texts)
    return "".join(row if row.endswith("\n") else f"{row}\n" for row in rows[:-1]) + "".join(rows[-1:])
