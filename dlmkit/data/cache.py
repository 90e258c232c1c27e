"""Where results are kept from one run to the next, and how several processes share them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlmkit.errors import UserError

__all__ = ["cache_folder", "locked"]


def cache_folder() -> Path:
    """The folder ``~/.cache/dlmkit``, or the one that the environment variable ``DLMKIT_CACHE`` names."""
    return Path(os.environ.get("DLMKIT_CACHE") or "~/.cache/dlmkit").expanduser()


@contextmanager
def locked(stem: str) -> Iterator[Path]:
    """Keep what has this name to oneself, so that the processes of one run wait for the one that makes it.

    What is written should get its final name last: a process that is killed on the way then leaves no half file.

    Args:
        stem: A name without ending, with a hash of all that the content depends on, so that nothing that was made
            with other settings or from another content is ever read.

    Yields:
        The file of that name in the cache, to which an ending is to be given.

    Raises:
        UserError: If the cache cannot be written.
    """
    from filelock import FileLock

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{stem}.lock"):
            yield folder / stem
    except OSError as fault:
        remedy = "name a folder with room that can be written in the environment variable DLMKIT_CACHE"
        raise UserError(f"the cache cannot be written: {fault.strerror or fault}", remedy, str(folder)) from fault
