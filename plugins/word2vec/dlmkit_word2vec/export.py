"""Writes the vectors of a run in word2vec's formats: ``python -m dlmkit_word2vec.export RUN FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dlmkit import UserError
from dlmkit_word2vec.formats import is_binary, write_vectors
from dlmkit_word2vec.vectors import Vectors

__all__ = ["main", "run_vectors"]


def run_vectors(run: str | Path) -> Vectors:
    """The vectors of a finished or stopped run.

    Args:
        run: Its folder.

    Raises:
        UserError: If it is no run of word2vec.
    """
    from dlmkit.engine import read_checkpoint
    from dlmkit.runs import Run

    path = Run(run).best()
    checkpoint = read_checkpoint(path)
    if "vocabulary" not in checkpoint or "net.input" not in checkpoint["state_dict"]:
        raise UserError("it holds no word vectors", "give a run of word2vec or cbow", str(path))
    return Vectors(checkpoint["vocabulary"]["words"].split("\n"), checkpoint["state_dict"]["net.input"].numpy())


def main(words: list[str] | None = None) -> int:
    """The command.

    Args:
        words: Of the command line.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m dlmkit_word2vec.export", description=__doc__)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("file", type=Path, help="a name that ends with .bin for binary, else text; .gz packs it")
    given = parser.parse_args(words)
    try:
        vectors = run_vectors(given.run)
        write_vectors(vectors, given.file)
    except UserError as error:
        print("\n".join(f"dlmkit: {line}" for line in error.lines()), file=sys.stderr)
        return 2
    kind = "binary" if is_binary(given.file) else "text"
    print("{}: {:,} vectors of {} numbers, {}".format(given.file, *vectors.matrix.shape, kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
