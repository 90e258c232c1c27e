"""Results that are kept by the content and the settings that they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from dlmkit.errors import UserError

__all__ = ["Arrays", "cached"]

Arrays = dict[str, npt.NDArray[Any]]


def cached(kind: str, settings: Mapping[str, Any], content: Iterable[str], make: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache, made first if they are not there.

    The cache is the folder ``~/.cache/dlmkit`` or the one that the environment variable ``DLMKIT_CACHE`` names. A
    file's name there is a hash of all that its content depends on; so nothing made with other settings or from
    another text is ever read. A lock makes the processes of one run wait for the one that works, and a damaged file
    is made anew.

    Args:
        kind: What the file's name begins with.
        settings: Everything that the result depends on besides the content, in JSON's types.
        content: Texts that the result is made from.
        make: Makes the arrays; none may hold objects.

    Raises:
        UserError: If the cache cannot be written.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for text in content:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))  # so that no two lists of texts are one text
        digest.update(encoded)
    folder = Path(os.environ.get("DLMKIT_CACHE") or "~/.cache/dlmkit").expanduser()
    file = folder / f"{kind}-{digest.hexdigest()}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            found = _read(file)
            if found is None:
                found = make()
                # A process that is killed while it writes leaves no half file under the final name.
                unfinished = file.with_suffix(".tmp")
                with unfinished.open("wb") as stream:
                    np.savez(stream, allow_pickle=False, **found)
                unfinished.replace(file)
            return found
    except OSError as fault:
        remedy = "name a folder that can be written in the environment variable DLMKIT_CACHE"
        raise UserError(f"the cache cannot be written: {fault.strerror or fault}", remedy, str(folder)) from fault


def _read(file: Path) -> Arrays | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            return dict(found)
    except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
        return None
