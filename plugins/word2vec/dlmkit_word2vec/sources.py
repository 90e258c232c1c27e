"""Where words come from: the documentation of the Python packages that are installed, text files, a dataset."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import hashlib
import importlib.util
import lzma
import re
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from dlmkit import UserError
from dlmkit.data.hub import column_of, load_splits
from dlmkit.data.sources import expand
from dlmkit.errors import did_you_mean, names_beside

__all__ = ["PYTHON_DOCS", "Files", "HubDataset", "PythonDocs", "Source", "open_source"]

PYTHON_DOCS = "python-docs"

_BLOCK = 1 << 20
_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}  # type: ignore[dict-item]
_ENDINGS = {".txt", ".text", ".md", ".rst", ".tex", ".csv", ".tsv", ".html", ".log", *_OPENERS}

# What dlmkit and this plugin need, so that it is there wherever they are. Their documentation is English prose.
_PACKAGES = (
    "aiohttp",
    "datasets",
    "filelock",
    "fsspec",
    "huggingface_hub",
    "jinja2",
    "joblib",
    "jsonargparse",
    "lightning",
    "matplotlib",
    "networkx",
    "numpy",
    "pandas",
    "PIL",
    "pygments",
    "pytest",
    "rich",
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "torchmetrics",
)
_SKIPPED = {"tests", "test", "testing", "_vendor", "site-packages", "idle_test", "lib2to3", "turtledemo", "__pycache__"}


class Source(ABC):
    """Something that text comes from, piece by piece, so that it need not fit into memory."""

    label: str
    """What a person calls it."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Words that change when the content does."""

    @abstractmethod
    def texts(self) -> Iterator[str]:
        """The text in pieces that end between two words."""


class PythonDocs(Source):
    """Documentation strings and comments of Python's library and of the packages that dlmkit needs.

    The files are fixed by the packages' names; they come in an order that is shuffled once and for all, by the SHA-256
    of their names, so that the end is text of the same kind as the beginning. A text that occurs again, as inherited
    documentation does, is left out.
    """

    label = "documentation of Python and its packages"

    def __init__(self) -> None:
        roots = {"python": Path(sysconfig.get_paths()["stdlib"])}
        for name in _PACKAGES:
            spec = importlib.util.find_spec(name)
            if spec and spec.submodule_search_locations:
                roots[name] = Path(spec.submodule_search_locations[0])
        found = [(f"{name}/{path.relative_to(root)}", path) for name, root in roots.items() for path in _modules(root)]
        self.files = sorted(found, key=lambda file: hashlib.sha256(file[0].encode()).digest())

    def fingerprint(self) -> str:
        """Name, size and time of each file; reading them all would take longer than a start may."""
        stats = [(name, path.stat()) for name, path in self.files]
        told = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        return f"{PYTHON_DOCS} {hashlib.sha256(told.encode()).hexdigest()}"

    def texts(self) -> Iterator[str]:
        """The prose of one file after the other."""
        seen: set[bytes] = set()
        for _, path in self.files:
            fresh = []
            for text in prose(path.read_text(encoding="utf-8", errors="ignore")):
                key = hashlib.sha256(text.encode()).digest()[:8]
                if key not in seen:
                    seen.add(key)
                    fresh.append(text)
            yield "\n\n".join(fresh)


def _modules(root: Path) -> list[Path]:
    return [path for path in root.rglob("*.py") if not _SKIPPED & set(path.relative_to(root).parts[:-1])]


# Reading the text by its quotation marks takes a tenth of the time that parsing the code would take.
_STRINGS = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
_COMMENTS = re.compile(r"(?:^[ \t]*#.*\n)+", re.MULTILINE)
_HASHES = re.compile(r"^[ \t]*#+", re.MULTILINE)
_CODE = re.compile(
    r"^[ \t]*(?:>>>|\.\.\.).*(?:\n[ \t]*\S.*)*"  # what is typed at Python, and what it answers
    r"|^[ \t]*\.\. .*$|^[ \t]*:\w+:.*$"  # directives
    r"|``[^`\n]*``|https?://\S+|`[^`\n]*`_*|<[^>\n]{1,60}>|\\\w+"
    r"|\b\w*[_/.\\=(\[]\w\S*",  # names, paths, calls
    re.MULTILINE,
)


def prose(code: str) -> Iterator[str]:
    """The documentation strings and the comments of a module, with code, names and markup taken out.

    Args:
        code: Python.
    """
    for first, second in _STRINGS.findall(code):
        text = first or second
        if text.count(" ") > 3:
            yield _CODE.sub(" ", text)
    for comment in _COMMENTS.findall(code):
        yield _CODE.sub(" ", _HASHES.sub("", comment))


class Files(Source):
    """Text files, one after the other; .gz, .xz and .bz2 are unpacked while they are read.

    Args:
        paths: The files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.label = paths[0].name if len(paths) == 1 else f"{len(paths)} files"

    def fingerprint(self) -> str:
        """The SHA-256 of each file."""
        digests = []
        for path in self.paths:
            try:
                with path.open("rb") as file:
                    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
            except OSError as fault:
                raise _unreadable(path, fault) from fault
        return " ".join(digests)

    def texts(self) -> Iterator[str]:
        """Blocks of about a million characters, cut at white space."""
        for path in self.paths:
            yield from _pieces(_decoded(path))


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _decoded(path: Path) -> Iterator[str]:
    """The text of a file, block by block.

    Raises:
        UserError: If it is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, before = 1, 0
    try:
        with _OPENERS.get(path.suffix, _plain)(path) as file:
            while block := file.read(_BLOCK):
                try:
                    text = decoder.decode(block)
                except UnicodeDecodeError as fault:
                    at = before + fault.start - (len(fault.object) - len(block))
                    line += fault.object[: fault.start].count(b"\n")
                    what = f"this is not UTF-8: byte {at:,} (0x{fault.object[fault.start]:02x}) in line {line:,}"
                    raise UserError(what, "convert it, say with iconv -f LATIN1 -t UTF-8", str(path)) from fault
                if "\0" in text:
                    line += text[: text.index("\0")].count("\n")
                    raise UserError(f"this is no text but binary: line {line:,} has a NUL", "give text", str(path))
                line, before = line + text.count("\n"), before + len(block)
                yield text
    except (OSError, EOFError, lzma.LZMAError) as fault:
        raise _unreadable(path, fault) from fault


def _pieces(blocks: Iterator[str]) -> Iterator[str]:
    """The same text, cut at white space; a word at a seam goes with the next piece."""
    rest: list[str] = []
    for block in blocks:
        cut = max(block.rfind(" "), block.rfind("\n"))
        if cut < 0:
            rest.append(block)
            continue
        yield "".join([*rest, block[:cut]])
        rest = [block[cut:]]
    yield "".join(rest)


def _unreadable(path: Path, fault: Exception) -> UserError:
    reason = getattr(fault, "strerror", None) or str(fault)
    return UserError(f"cannot be read: {reason}", "check data.source and who may read it", str(path))


class HubDataset(Source):
    """A column of a Hugging Face dataset; its rows are read from disk as they are needed.

    Args:
        name: A hub name or a folder.
        subset: The configuration.
        column: The column that holds the text.
    """

    def __init__(self, name: str, subset: str | None, column: str) -> None:
        self.label, self.column = name, column
        found = load_splits(name, _remedy(name), subset)
        self.rows = found["train"] if "train" in found else next(iter(found.values()))
        if column not in self.rows.column_names:
            names = self.rows.column_names
            remedy = did_you_mean(column, names, "name one of them as data.column")
            raise UserError(f"there is no column {column} but {', '.join(names)}", remedy, name)

    def fingerprint(self) -> str:
        """The set's own fingerprint, of its content and what was done to it."""
        return f"{self.label} {self.column} {self.rows._fingerprint}"

    def texts(self) -> Iterator[str]:
        """Blocks of about a million characters, cut at white space."""
        for start in range(0, len(self.rows), 1000):
            cells = column_of(self.rows, self.column, self.label, start, start + 1000)
            text = "\n".join(str(cell or "") for cell in cells)
            yield from _pieces(text[at : at + _BLOCK] for at in range(0, len(text), _BLOCK))


def _remedy(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        return "check data.subset, or give the folder's text files: add /*.txt, say"
    otherwise = "check the spelling, data.subset and the connection, or give a local file"
    return did_you_mean(path.name, [PYTHON_DOCS, *names_beside(path)], otherwise)


def open_source(source: str | list[str], subset: str | None, column: str) -> Source:
    """The source that a user names.

    Args:
        source: ``python-docs``, text files (``~`` and ``*`` are expanded), a folder or a dataset's name.
        subset: Which of a dataset's configurations.
        column: The column that holds the text.

    Raises:
        UserError: If it is not there.
    """
    values = [source] if isinstance(source, str) else list(source)
    if values == [PYTHON_DOCS]:
        return PythonDocs()
    if len(values) == 1 and not _is_file(values[0]):
        return HubDataset(values[0], subset, column)
    return Files([path for value in values for path in expand(value)])


def _is_file(value: str) -> bool:
    path = Path(value).expanduser()
    return not path.is_dir() and (path.suffix in _ENDINGS or path.exists() or glob.has_magic(value))
