"""Results that are kept by the content and the settings that they were made from."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlmkit.data.cache import locked

__all__ = ["Arrays", "cached"]

Arrays = dict[str, npt.NDArray[Any]]


def cached(kind: str, settings: Mapping[str, Any], content: Iterable[str], make: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache, made first if they are not there.

    See `dlmkit.data.cache`. A damaged file is made anew.

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
    with locked(f"{kind}-{digest.hexdigest()}") as stem:
        file = stem.with_suffix(".npz")
        found = _read(file)
        if found is None:
            found = make()
            unfinished = stem.with_suffix(".tmp")
            with unfinished.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **found)
            unfinished.replace(file)
        return found


def _read(file: Path) -> Arrays | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            return dict(found)
    except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
        return None
