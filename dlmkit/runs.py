"""The run folder: how it is named, what is written into it, and how it is read back. Imports nothing heavy."""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit.errors import UserError, did_you_mean, names_beside

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Run", "check_parent", "create", "hold", "provenance", "write_json", "write_text", "write_whole"]

_STACK = ("torch", "lightning", "torchmetrics", "jsonargparse", "datasets", "tokenizers", "wandb", "numpy")


class Run:
    """A run folder that exists.

    Args:
        folder: As the user wrote it.

    Raises:
        UserError: If it is not there or no run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            otherwise = "give the folder that dlmkit run printed, such as runs/lstm-…"
            remedy = did_you_mean(self.folder.name, names_beside(self.folder), otherwise)
            raise UserError("there is no such run", remedy, str(folder))
        if not self.config.is_file():
            raise UserError("this folder is no run: it has no config.yaml", "give the run's own folder", str(folder))

    @property
    def config(self) -> Path:
        """The whole resolved configuration."""
        return self.folder / "config.yaml"

    @property
    def last(self) -> Path:
        """Where training stopped."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def provenance(self) -> dict[str, Any]:
        """How the run came about."""
        return self._read("provenance.json")

    @property
    def summary(self) -> dict[str, Any]:
        """What came out, empty while it runs."""
        return self._read("summary.json")

    def best(self) -> Path:
        """The checkpoint to use: the best where there is one, else the last.

        Raises:
            UserError: If there is neither.
        """
        named = self.summary.get("best_checkpoint")
        folder = self.folder / "checkpoints"
        for path in (self.folder / named if named else folder / "best.ckpt", folder / "best.ckpt", self.last):
            if path.is_file():
                return path
        remedy = "it was stopped before the first was written; start it again"
        raise UserError("the run has no checkpoint", remedy, str(folder))

    def checkpoint(self, which: str) -> Path:
        """The checkpoint that a user asked for: ``best``, ``last``, a file of the checkpoints folder, or any file."""
        if which == "best":
            return self.best()
        named = self.folder / "checkpoints" / which
        return self.last if which == "last" else named if named.is_file() else Path(which)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"not valid JSON: {error}", "restore or remove it", str(path)) from None
        return content


def check_parent(runs: Path, name: str | None) -> None:
    """Say before any work is done that a run could not be written.

    Args:
        runs: Where run folders go.
        name: The run's own name, if the user gave one.

    Raises:
        UserError: If the folder cannot be written, or a run of that name is there.
    """
    nearest = runs.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError("run folders cannot be written here", "choose another place with --runs DIR", str(runs))
    if name is not None and (name in (".", "..") or Path(name).name != name):
        raise UserError(f"{name!r} is no name for a folder", "use letters, digits, - and _", "--name")
    if name is not None and (runs / name).exists():
        remedy = f"choose another --name, or go on with it: dlmkit run --resume {runs / name}"
        raise UserError(f"a run called {name} is there already", remedy, str(runs / name))


def create(runs: Path, name: str | None, recipe: str) -> Path:
    """Make a run's folder; no two runs ever get the same one.

    Args:
        runs: Where run folders go.
        name: The run's own name, if the user gave one.
        recipe: Names the run otherwise, with date and time.

    Returns:
        The new, empty folder.

    Raises:
        UserError: If a run of the given name is there already, or nothing can be written.
    """
    stem = name or f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_parent(runs, name)
    attempt = 1
    while True:
        folder = runs / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            if not runs.is_dir():
                runs.mkdir(parents=True, exist_ok=True)
            folder.mkdir()  # fails where another process was first: that is the lock
            return folder
        except FileExistsError:
            if name is not None:
                check_parent(runs, name)
            attempt += 1
        except OSError as error:
            remedy = "choose another place with --runs DIR"
            raise UserError(f"cannot be written: {error.strerror}", remedy, str(folder)) from None


def hold(folder: Path) -> FileLock:
    """Keep a run to this process, until the lock is released or the process ends.

    Where the file system has no locks, as some of a network, the run is not kept to anyone.

    Raises:
        UserError: If another process has it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", fallback_to_soft=False)  # such a lock would outlive a process that is killed
    try:
        lock.acquire(timeout=0)
    except Timeout:
        remedy = "wait until it is done, or stop it with Ctrl-C"
        raise UserError("another process is at this run", remedy, str(folder)) from None
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
            return lock
        remedy = "copy it to where you can write, and go on with the copy"
        raise UserError(f"cannot be written: {error.strerror or error}", remedy, str(folder)) from None
    return lock


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file beside its place, bring it to the disk and rename it: at any moment the old or the new one is there.

    Raises:
        OSError: If it cannot be written; it names the file, and what was there before is still there.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror, str(path)) from fault
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 as `write_whole` does."""
    write_whole(path, text.encode())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON likewise."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def provenance(packages: Sequence[str], seed: Any, devices: str) -> dict[str, Any]:
    """How a run comes about: enough to do it again elsewhere.

    Args:
        packages: The distributions of the plugins it uses.
        seed: ``seed_everything``.
        devices: What it computes on.
    """
    versions = {name: _version(name) for name in ("dlmkit", *packages, *_STACK)}
    return {
        "command": ["dlmkit", *sys.argv[1:]],
        "folder": str(Path.cwd()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "versions": {name: version for name, version in versions.items() if version},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "devices": devices,
        "git": _git(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Revision of the checkout that the command was given in, and whether it had changes."""

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        return {"revision": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
