"""Datasets by name, folder or file, whatever they hold."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from dlmkit.errors import UserError, did_you_mean, names_beside

if TYPE_CHECKING:
    from datasets import Dataset

    from dlmkit.data.module import Split

__all__ = ["by_split", "column_of", "hub_or_cache", "load_splits", "splits_with_train", "undecodable"]

_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def load_splits(
    name: str, remedy: str, subset: str | None = None, files: list[str] | None = None
) -> dict[str, Dataset]:
    """A dataset's splits under the names that it has for them.

    Args:
        name: A hub name, a folder or a file format.
        remedy: What to do where it cannot be loaded.
        subset: The configuration.
        files: The files of a format.

    Raises:
        UserError: If it cannot be loaded.
    """
    from datasets import exceptions, load_dataset

    folder = Path(name).expanduser()
    local = bool(files) or folder.is_dir()
    if not local and folder.is_file():
        raise UserError("this is a file, not a folder", "give the folder that it lies in", name)
    if not local and name.startswith(("/", "./", "../", "~")):
        raise UserError("there is no such folder", did_you_mean(folder.name, names_beside(folder), remedy), name)
    out_of_reach = ""
    try:
        with ExitStack() as stack:
            stack.enter_context(_no_bars(local))
            if not local:
                out_of_reach = stack.enter_context(hub_or_cache())
            found = load_dataset(str(folder) if folder.is_dir() else name, name=subset, data_files=files)
    except (OSError, ValueError, RuntimeError, exceptions.DatasetsError) as fault:
        inner = fault.__cause__ if isinstance(fault, exceptions.DatasetGenerationError) else None
        unreached = out_of_reach if isinstance(fault, ConnectionError) else ""
        reason = unreached or str(inner or fault).partition("\n")[0]
        otherwise = remedy if local else did_you_mean(folder.name, names_beside(folder), remedy)
        raise UserError(f"this dataset cannot be loaded: {reason}", otherwise, files[0] if files else name) from fault
    return dict(found.items())


def by_split(found: Mapping[str, Dataset]) -> dict[Split, Dataset]:
    """The splits under our names for them; a dataset of one split is all ``train``."""
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    return {ours: found[name] for ours, theirs in _NAMES.items() for name in theirs if name in found}


def splits_with_train(name: str, remedy: str) -> dict[Split, Dataset]:
    """The splits of a dataset under our names, one for training among them.

    Args:
        name: A hub name or a folder.
        remedy: What to do where it cannot be loaded.

    Raises:
        UserError: If it cannot be loaded, or has nothing to train on.
    """
    found = load_splits(name, remedy)
    splits = by_split(found)
    if "train" not in splits:
        raise UserError(f"this dataset has no split train but {', '.join(found)}", "give another", name)
    return splits


def undecodable(fault: UnicodeDecodeError) -> str:
    """What is wrong with bytes that are no UTF-8, and what stands around."""
    near = fault.object[max(0, fault.start - 10) : fault.end + 10].decode("latin-1")
    return f"is not UTF-8: byte 0x{fault.object[fault.start]:02x} in …{near}…"


def column_of(rows: Dataset, column: str, where: str, first: int = 0, last: int | None = None) -> list[Any]:
    """Some cells of a column.

    Args:
        rows: The dataset.
        column: Its column.
        where: What the dataset is called.
        first: Row to begin with, from 0.
        last: Row to end before; the end when left out.

    Raises:
        UserError: If a row's text is not UTF-8; it names the row.
    """
    last = len(rows) if last is None else min(last, len(rows))
    try:
        found: list[Any] = list(rows[first:last][column])
        return found
    except UnicodeDecodeError:
        for number in range(first, last):
            try:
                _ = rows[number][column]
            except UnicodeDecodeError as fault:
                what = f"row {number + 1:,} of {column} {undecodable(fault)}"
                raise UserError(what, "the file mixes encodings, or is Latin-1 throughout", where) from None
        raise


@contextmanager
def hub_or_cache() -> Iterator[str]:
    """Look for what the Hugging Face hub has only among what was fetched before, where the hub's name leads nowhere.

    Its library would try again and again for half a minute, and tell of each attempt. Behind a proxy, which finds the
    hub by itself, it is left alone.

    Yields:
        Why the hub is not asked; empty where it is.
    """
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if constants.HF_HUB_OFFLINE or host is None or getproxies() or _is_known(host):
        yield ""
        return
    modules: list[Any] = [sys.modules[name] for name in (constants.__name__, "datasets.config") if name in sys.modules]
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield f"{host} cannot be reached, and nothing of that name was fetched before"
    finally:
        for module, offline in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = offline


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


@contextmanager
def _no_bars(wanted: bool) -> Iterator[None]:
    """Hide the progress of what takes no time, as local files do; a download shows it."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if not wanted or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
