"""``dlmkit doctor``: whether this installation can train, and what to do where it cannot."""

from __future__ import annotations

import argparse
import importlib
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from dlmkit import plugins
from dlmkit.errors import UserError

__all__ = ["Finding", "doctor", "examine"]

_COMPROMISED = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}


class Finding(NamedTuple):
    """One line of the report.

    Args:
        mark: ``✓`` for right, ``!`` for worth knowing, ``✗`` for wrong.
        what: What was looked at, and how it is.
        remedy: What to do about it.
    """

    mark: str
    what: str
    remedy: str = ""


def doctor(options: argparse.Namespace) -> int:
    """``dlmkit doctor``: a line for each thing looked at; 1 if any is wrong."""
    wrong = 0
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # of what is imported; a fault is told below
        for finding in examine():
            wrong += finding.mark == "✗"
            print(f"{finding.mark} {finding.what}{f'; {finding.remedy}' if finding.remedy else ''}", flush=True)
    return 1 if wrong else 0


def examine() -> Iterator[Finding]:
    """Look at everything, one after the other."""
    from dlmkit.data.cache import cache_folder

    yield Finding("✓", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _requirements()
    yield from _torch()
    yield from _plugins()
    yield _wandb()
    yield _writable(cache_folder(), "cache", "name another folder in the environment variable DLMKIT_CACHE")
    yield _writable(Path.cwd(), "working folder", "change to a folder of your own, or give dlmkit run --runs DIR")


def _requirements() -> Iterator[Finding]:
    """What dlmkit itself requires, and releases that nobody should have."""
    for name, versions in _COMPROMISED.items():
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if have in versions:
            remedy = f"pip install -U {name}, and change the passwords and keys that this account could read"
            yield Finding("✗", f"{name} {have} is a compromised release", remedy)
    own = metadata.distribution("dlmkit")
    faults = plugins.requirement_faults(own)
    for fault in faults:
        yield Finding("✗", f"dlmkit {own.version} {fault}", "pip install -U dlmkit")
    if not faults:
        yield Finding("✓", f"dlmkit {own.version} has all that it requires, lightning {metadata.version('lightning')}")


def _torch() -> Iterator[Finding]:
    """The build of torch, and what it can compute on."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        yield Finding("✗", f"torch does not import: {_one_line(error)}", "reinstall it as pytorch.org says")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU"
    threads = torch.get_num_threads()
    yield Finding("✓", f"torch {torch.__version__}, built for {build}; {threads} CPU thread{'s' * (threads > 1)}")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Finding("✓", f"cuda:{index} is {device.name} with {device.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("✓", "mps is there, an Apple GPU")
    elif not torch.cuda.is_available():
        yield _without_gpu(build)


def _without_gpu(build: str) -> Finding:
    if not shutil.which("nvidia-smi"):
        return Finding("✓", "no GPU; recipes train on the CPU")
    if build == "CPU":
        return Finding(
            "!", "nvidia-smi is here, but this torch is for CPUs", "for a GPU install torch as pytorch.org says"
        )
    return Finding(
        "!", "nvidia-smi is here, but torch finds no GPU", "look at what nvidia-smi says of driver and devices"
    )


def _plugins() -> Iterator[Finding]:
    """Every task and data module imported, every recipe read."""
    entries = plugins.installed()
    if not any(e.kind == "tasks" for e in entries):
        yield Finding("!", "no plugin is installed", "pip install dlmkit-lstm is a beginning")
    for entry in entries:
        name = f"{entry.kind.removesuffix('s')} {entry.name} of {entry.package} {entry.version}"
        fault = _fault(entry)
        yield Finding("✗", f"{name}: {fault}", _remedy(entry)) if fault else Finding("✓", name)


def _fault(entry: plugins.Entry) -> str:
    """What its metadata show to be wrong, or else what importing or reading it does."""
    from dlmkit import recipe

    try:
        if entry.kind != "recipes":
            plugins.load(entry)
        elif not recipe.is_overlay(Path(entry.value)):
            recipe.read(entry.value)
    except UserError as error:
        return entry.fault or " ".join(str(error).split())
    return entry.fault


def _remedy(entry: plugins.Entry) -> str:
    """For what the entry itself is wrong about; an error on import brings its own."""
    if not entry.fault or "also claims" in entry.fault or "reinstall" in entry.fault:
        return ""
    return f"pip install -U {entry.package}"


def _wandb() -> Finding:
    try:
        from dlmkit.tracking import wandb_ready

        state = wandb_ready()
    except Exception as error:
        return Finding("✗", f"Weights & Biases does not work: {_one_line(error)}", "leave --wandb out, or mend this")
    if state == "online":
        return Finding("✓", "Weights & Biases would track online (--wandb)")
    if state == "disabled":
        return Finding("!", "Weights & Biases is disabled", "unset WANDB_MODE to use --wandb")
    return Finding("✓", "Weights & Biases would track offline (--wandb); wandb login makes it online")


def _writable(folder: Path, name: str, remedy: str) -> Finding:
    """Whether a file can be made in a folder, or in the nearest folder above that is there; nothing is left behind."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free / 2**30
    except OSError as error:
        return Finding("✗", f"{name} {folder} cannot be written: {error.strerror}", remedy)
    return Finding("✓", f"{name} {folder} can be written, {free:.0f} GiB free")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
