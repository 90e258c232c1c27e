"""word2vec's own formats: a line of text for each word, or its name followed by the bytes of its vector.

Both begin with a line of two numbers, words and dimensions. A file whose name ends with .gz is packed.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from dlmkit import UserError
from dlmkit_word2vec.vectors import Vectors

__all__ = ["is_binary", "read_vectors", "write_vectors"]

_LONGEST = 10_000  # bytes of a word; beyond, the file is something else


def is_binary(path: Path) -> bool:
    """Whether a name asks for the binary format: it ends with .bin or .bin.gz."""
    return path.name.removesuffix(".gz").endswith(".bin")


def _opened(path: Path, mode: str) -> IO[bytes]:
    return gzip.open(path, mode) if path.suffix == ".gz" else path.open(mode)  # type: ignore[return-value]


def write_vectors(vectors: Vectors, path: Path) -> None:
    """Write all vectors, in binary if the name ends with .bin, else as text that gives every float32 exactly.

    Args:
        vectors: What was learnt.
        path: The file.

    Raises:
        UserError: If it cannot be written, or a word has white space in it.
    """
    odd = next((word for word in vectors.words if not word or word.split() != [word]), None)
    if odd is not None:
        raise UserError(f"the word {odd!r} has white space in it, which the format cannot hold", "leave it out")
    draft = path.with_name(f".{path.name}")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(draft, "wb") as file:
            file.write("{} {}\n".format(*vectors.matrix.shape).encode())
            for word, row in zip(vectors.words, vectors.matrix, strict=True):
                if is_binary(path):
                    file.write(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n")
                else:
                    file.write(f"{word} {' '.join(map(str, row))}\n".encode())
        draft.replace(path)
    except OSError as fault:
        raise UserError(f"cannot be written: {fault.strerror}", "choose another file", str(path)) from fault


def read_vectors(path: Path) -> Vectors:
    """Read what word2vec, gensim or `write_vectors` wrote; the name tells binary from text.

    Args:
        path: The file.

    Raises:
        UserError: If it is something else, cut short, or has a word twice.
    """
    read: Callable[[IO[bytes], int, int], tuple[list[str], np.ndarray]] = _binary if is_binary(path) else _text
    try:
        with _opened(path, "rb") as file:
            words, matrix = read(file, *_header(file))
    except (OSError, EOFError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise UserError(f"cannot be read: {reason}", "check the name", str(path)) from None
    except ValueError as fault:
        kind = "binary (its name ends with .bin)" if is_binary(path) else "text (binary has a name that ends with .bin)"
        raise UserError(f"{fault}; it was read as {kind}", "give a file in word2vec's format", str(path)) from None
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise UserError(f"it has the word {twice!r} twice", "remove one", str(path))
    return Vectors(words, matrix)


def _header(file: IO[bytes]) -> tuple[int, int]:
    line = file.readline(_LONGEST)
    try:
        words, dim = map(int, line.split())
    except ValueError:
        raise ValueError("its first line is not two numbers, words and dimensions") from None
    if words < 1 or dim < 1:
        raise ValueError(f"it has {words} words of {dim} dimensions")
    return words, dim


def _text(file: IO[bytes], count: int, dim: int) -> tuple[list[str], np.ndarray]:
    words, rows = [], np.empty((count, dim), np.float32)
    for i in range(count):
        cells = file.readline().rstrip().split(b" ")
        if len(cells) != dim + 1:
            raise ValueError(f"line {i + 2:,} has {len(cells) - 1} numbers and not {dim}")
        try:
            rows[i] = np.array(cells[1:], dtype=np.float32)
            words.append(cells[0].decode())
        except ValueError:
            raise ValueError(f"line {i + 2:,} is not a word and {dim} numbers") from None
    return words, rows


def _binary(file: IO[bytes], count: int, dim: int) -> tuple[list[str], np.ndarray]:
    content = file.read()
    words, rows, at = [], np.empty((count, dim), np.float32), 0
    for i in range(count):
        space = content.find(b" ", at, at + _LONGEST)
        if space < 0 or space + 1 + 4 * dim > len(content):
            raise ValueError(f"it ends in word {i + 1:,} of {count:,}")
        rows[i] = np.frombuffer(content, "<f4", dim, space + 1)
        words.append(content[at:space].lstrip(b"\n").decode())  # some writers end a vector with a line break
        at = space + 1 + 4 * dim
    return words, rows
