"""What is installed, read from the packages' metadata; nothing is imported before a run names it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from dlmkit.errors import UserError, did_you_mean

__all__ = ["GROUPS", "KINDS", "Entry", "find", "installed", "load", "names", "requirement_faults"]

KINDS = ("tasks", "data", "recipes")
GROUPS = {kind: f"dlmkit.{kind}" for kind in KINDS}
_SINGULAR = {"tasks": "task", "data": "data", "recipes": "recipe"}


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Args:
        kind: ``tasks``, ``data`` or ``recipes``.
        name: The word that a recipe or the command line uses.
        value: ``package.module:Class``; for a recipe its file.
        package: The distribution that registers it.
        version: That distribution's version.
        fault: What is visibly wrong with it, empty when nothing is.
        summary: What its distribution says of itself.
    """

    kind: str
    name: str
    value: str
    package: str
    version: str
    fault: str = ""
    summary: str = field(default="", compare=False)

    @property
    def path(self) -> str:
        """The import path in the form that a recipe's ``class_path`` takes."""
        return self.value.replace(":", ".")

    @property
    def about(self) -> str:
        """One line: what the class's docstring begins with, or the package's summary; nothing is imported."""
        module, _, name = self.value.partition(":")
        for file in filter(os.path.isfile, _module_places(module)):
            with open(file, encoding="utf-8", errors="replace") as opened:
                text = f"\n{opened.read()}"
            rest = text.partition(f"\nclass {name}(")[2] or text.partition(f"\nclass {name}:")[2]
            head, quotes, docstring = rest.partition('"""')
            bases = head.rstrip("r \n")
            if quotes and (not bases or bases.endswith(":")) and "\n    def " not in bases:
                return docstring.partition("\n")[0].partition('"""')[0].replace("`", "")
        return self.summary


@cache
def installed() -> tuple[Entry, ...]:
    """Every registered task, data module and recipe, sorted by kind and name."""
    _identities.clear()
    _dist_faults.clear()
    _specs.clear()
    entries = [entry for dist, point in _entry_points() for entry in _entries(dist, point)]
    claims: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        claims.setdefault((entry.kind, entry.name), []).append(entry)
    told = [_with_clash(entry, claims[entry.kind, entry.name]) for entry in entries]
    return tuple(sorted(told, key=lambda e: (KINDS.index(e.kind), e.name, e.package)))


def names(kind: str) -> list[str]:
    """The registered names of one kind."""
    return sorted({entry.name for entry in installed() if entry.kind == kind})


def find(kind: str, name: str, where: str = "") -> Entry:
    """Look up one name.

    Args:
        kind: ``tasks``, ``data`` or ``recipes``.
        name: The name, or ``package:name`` where two packages claim it.
        where: Where the user wrote it, for the error.

    Raises:
        UserError: If nothing, or more than one package, has that name.
    """
    package, _, word = name.rpartition(":")
    found = [e for e in installed() if e.kind == kind and e.name == word and package in ("", e.package)]
    if not found:
        raise _unknown(kind, name, where)
    if len(found) > 1:
        owners = " and ".join(e.package for e in found)
        remedy = f"write {found[0].package}:{word} or {found[1].package}:{word}, or uninstall one of them"
        raise UserError(f"{owners} both claim the {_SINGULAR[kind]} {word}", remedy, where)
    return found[0]


def load(entry: Entry, where: str = "") -> Any:
    """Import the class behind an entry.

    Args:
        entry: What to import.
        where: Where the user named it, for the error.

    Raises:
        UserError: If importing it raises; the reason is the last line of that error.
    """
    module, _, attribute = entry.value.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
        for part in attribute.split("."):
            loaded = getattr(loaded, part)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{entry.name} of {entry.package} {entry.version} does not import: {type(error).__name__}: {error}"
        remedy = entry.fault or f"update it (pip install -U {entry.package}) or tell its author"
        raise UserError(what, remedy, where) from error
    return loaded


def requirement_faults(dist: metadata.Distribution) -> list[str]:
    """What a distribution requires that is missing or of a version that does not fit."""
    faults = []
    for text in dist.requires or []:
        if _plainly_met(text):
            continue
        from packaging.requirements import Requirement  # takes a third of the time of a listing

        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = _version(need.name)
        except metadata.PackageNotFoundError:
            faults.append(f"needs {need.name}, which is not installed")
            continue
        if not need.specifier.contains(have, prereleases=True):
            faults.append(f"needs {need.name}{need.specifier}, but {have} is installed")
    return faults


_OF_AN_EXTRA = re.compile(r"[^;]*;\s*extra\s*==\s*(['\"])[\w.-]+\1\s*")
_PLAIN = re.compile(r"([\w.-]+)\s*>=\s*(\d+(?:\.\d+)*)\s*(?:,\s*<\s*(\d+(?:\.\d+)*))?\s*")


def _plainly_met(text: str) -> bool:
    """Whether a requirement of the usual form, ``name>=1.2,<2``, is met; False where it must be looked at closely."""
    if _OF_AN_EXTRA.fullmatch(text):
        return True
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        return False
    try:
        have = _numbers(_version(plain[1]))
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return _numbers(plain[2]) <= have and (plain[3] is None or have < _numbers(plain[3]))


def _numbers(version: str) -> tuple[int, ...]:
    """A release such as 1.20.0 as (1, 20), so that equal ones compare equal.

    Raises:
        ValueError: If it is not made of numbers alone, such as 2.0rc1.
    """
    parts = [int(part) for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


@cache
def _version(name: str) -> str:
    return metadata.version(name)


def _entry_points() -> Iterator[tuple[metadata.Distribution, metadata.EntryPoint]]:
    everything = metadata.entry_points()  # one pass over the installed packages
    for group in GROUPS.values():
        for point in everything.select(group=group):
            if point.dist is not None:
                yield point.dist, point


def _entries(dist: metadata.Distribution, point: metadata.EntryPoint) -> Iterator[Entry]:
    kind = point.group.removeprefix("dlmkit.")
    package, version, summary = _identity(dist)
    folder = _folder(point.value)
    fault = _fault(dist, package, point.value, folder)
    if kind != "recipes":
        yield Entry(kind, point.name, point.value, package, version, fault, summary)
        return
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]) if folder else []:
        name = file.relative_to(folder).with_suffix("").as_posix()  # type: ignore[arg-type]  # there is a folder
        yield Entry(kind, name, str(file), package, version, fault, summary)
    if fault:
        yield Entry(kind, point.name, point.value, package, version, fault, summary)


_identities: dict[int, tuple[str, str, str]] = {}


def _identity(dist: metadata.Distribution) -> tuple[str, str, str]:
    """Name, version and summary; parsed once for each distribution."""
    if id(dist) not in _identities:
        head = dist.metadata
        _identities[id(dist)] = (head["Name"], head["Version"], head["Summary"] or "")
    return _identities[id(dist)]


def _folder(value: str) -> Path | None:
    """The folder of a package such as ``dlmkit_lstm.recipes``, found without importing it."""
    top, *rest = value.partition(":")[0].split(".")
    spec = _spec(top)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place, *rest)
        # The core's recipes lie beside its package in a checkout, and inside it in a wheel.
        for candidate in (folder, Path(place).parent.joinpath(*rest) if top == "dlmkit" else folder):
            if candidate.is_dir():
                return candidate
    return None


_dist_faults: dict[str, str] = {}


def _fault(dist: metadata.Distribution, package: str, value: str, folder: Path | None) -> str:
    module = value.partition(":")[0]
    if folder is None and not _module_exists(module):
        return f"its module {module} is not there; reinstall {package}"
    if package == "dlmkit":  # `doctor` tells of the core's own requirements
        return ""
    if package not in _dist_faults:
        _dist_faults[package] = "; ".join(requirement_faults(dist))
    return _dist_faults[package]


def _module_exists(module: str) -> bool:
    return any(os.path.exists(place) for place in _module_places(module))


_specs: dict[str, ModuleSpec | None] = {}


def _spec(top: str) -> ModuleSpec | None:
    """Where a top package lies; looked for once."""
    if top not in _specs:
        _specs[top] = importlib.util.find_spec(top)
    return _specs[top]


def _module_places(module: str) -> Iterator[str]:
    """Where a module may lie, as a file or a folder, found without importing it."""
    top, *rest = module.split(".")
    spec = _spec(top)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for ending in (".py", "/__init__.py", ""):
            yield os.path.join(folder, *rest) + ending
    if spec and not rest and spec.origin:
        yield spec.origin


def _with_clash(entry: Entry, claims: list[Entry]) -> Entry:
    others = sorted({other.package for other in claims} - {entry.package})
    if not others:
        return entry
    fault = f"{' and '.join(others)} also claims this name; write {entry.package}:{entry.name}"
    return Entry(entry.kind, entry.name, entry.value, entry.package, entry.version, fault, entry.summary)


def _unknown(kind: str, name: str, where: str) -> UserError:
    single = _SINGULAR[kind]
    remedy = did_you_mean(name, names(kind))
    if name.replace("-", "").isalnum():
        remedy += f"{', or ' if remedy else ''}if it is a plugin: pip install dlmkit-{name}"
    remedy = remedy or "dlmkit list shows what is installed"
    return UserError(f"no {single} is called {name}", remedy, where)
