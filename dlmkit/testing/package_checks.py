"""What a plugin is before it trains: its import, its documentation, its switches."""

from __future__ import annotations

import collections.abc
import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docstring_parser
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from dlmkit import plugins
from dlmkit.errors import UserError, did_you_mean
from dlmkit.testing.check import check, short, tell
from dlmkit.testing.subject import Subject

__all__ = ["class_faults", "documented_parameters", "imports_lazily", "recipes_are_sound", "switch_faults"]

_HEAVY = ("torch", "lightning", "datasets", "matplotlib", "wandb")
_SECONDS = 1.0
_PROBE = """
import importlib, sys, time
known = set(sys.modules)
started = time.process_time()
importlib.import_module(sys.argv[1])
print(time.process_time() - started, *sorted(set(sys.argv[2:]) & (set(sys.modules) - known)))
"""
_BARE = (Any, typing.Callable, collections.abc.Callable)


@check("its entry points lead somewhere, and importing its package loads nothing heavy")
def imports_lazily(subject: Subject) -> str:
    """Import the top package in a fresh interpreter; resolve everything that the distribution registers."""
    entries = [e for e in plugins.installed() if e.package == subject.entry.package]
    faults = [UserError(e.fault, "mend the entry point", f"{e.package}, {e.kind} {e.name}") for e in entries if e.fault]
    tell(faults)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    words = [sys.executable, "-c", _PROBE, subject.package, *_HEAVY]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
    init = f"{subject.package}/__init__.py"
    if done.returncode:
        raise UserError(f"import {subject.package} raises {done.stderr.strip().splitlines()[-1]}", "mend it", init)
    seconds, *heavy = done.stdout.splitlines()[-1].split()
    if heavy:
        remedy = "import in the modules that need it, and name them in the entry points, as in dlmkit_x.task:X"
        raise UserError(f"import {subject.package} loads {', '.join(heavy)}", remedy, init)
    if float(seconds) > _SECONDS:
        raise UserError(f"import {subject.package} computes for {float(seconds):.1f} s", "do that later", init)
    for entry in entries:
        if entry.kind == "data":
            plugins.load(entry)
    _ = subject.task_type
    return f"{1000 * float(seconds):.0f} ms"


@check("every option is annotated and described, and the paper is named")
def documented_parameters(subject: Subject) -> str:
    """Look at the task and at the data modules of the same distribution."""
    registered = [e for e in plugins.installed() if e.kind == "data" and e.package == subject.entry.package]
    classes = [subject.task_type, *(plugins.load(e) for e in registered)]
    tell([fault for cls in classes for fault in class_faults(cls)])
    return f"{sum(len(_options(cls)) for cls in classes)} options"


@check("each of its recipes resolves, and every option in them exists and is of the right type")
def recipes_are_sound(subject: Subject) -> str:
    """Look at all recipes of the same distribution; an overlay is laid over the default recipe."""
    own = [e for e in plugins.installed() if e.kind == "recipes" and e.package == subject.entry.package and not e.fault]
    faults: list[UserError] = []
    for entry in own:
        try:
            faults += _recipe_faults(Path(entry.value), Path(subject.recipe.path))
        except UserError as fault:
            faults.append(fault)
    for folder in sorted({Path(entry.value).parent for entry in own}):
        for path in sorted(folder.glob("*.yml")):
            faults.append(UserError("dlmkit finds recipes by their ending .yaml", "rename it", short(str(path))))
    tell(faults)
    return f"{len(own)} recipe" + ("s" if len(own) > 1 else "")


def _recipe_faults(path: Path, default: Path) -> list[UserError]:
    from dlmkit import recipe as recipes
    from dlmkit.diagnosis import diagnose, fill_defaults
    from dlmkit.engine import Allowed, data_and_model, links

    overlay = recipes.is_overlay(path)
    read = recipes.read(str(default if overlay else path), overlays=[str(path)] if overlay else [])
    Allowed().apply(read)  # before importing a class that it names
    types: dict[str, type] = {**data_and_model(read), "trainer": Trainer}
    config = fill_defaults(read.config, {word: types[word] for word in ("model", "data")})
    return list(diagnose(read, config, types, links(types["data"], types["model"])))


@check("what the task switches off exists, and has a reason", optional=False)
def known_switches(subject: Subject) -> None:
    """Look at the task's ``conformance``."""
    from dlmkit.testing.conformance import CHECKS

    tell(list(switch_faults(subject.task_type, {c.name: c.optional for c in CHECKS})))


def switch_faults(cls: type, known: Mapping[str, bool]) -> Iterator[UserError]:
    """What is wrong with a task's ``conformance``.

    Args:
        cls: The task.
        known: Every check, and whether it may be switched off.
    """
    found = getattr(cls, "conformance", {})
    where = f"{place(cls)}: conformance"
    if not isinstance(found, Mapping):
        yield UserError(f"it is {found!r}", 'write {"name_of_the_check": "why it makes no sense here"}', where)
        return
    for name, reason in found.items():
        if name not in known:
            yield UserError(f"{name} is no check", did_you_mean(name, known, f"there are {', '.join(known)}"), where)
        elif not known[name]:
            yield UserError(f"{name} cannot be switched off", "remove it", where)
        elif not isinstance(reason, str) or not reason.strip():
            yield UserError(f"{name} has no reason", "say why it makes no sense here, or remove it", where)


def class_faults(cls: type) -> Iterator[UserError]:
    """What is missing in the documentation of a task or a data module.

    Args:
        cls: The class; what its bases describe counts as described.
    """
    where = place(cls)
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    if not text.splitlines() or not text.splitlines()[0].strip():
        remedy = "begin its docstring with one line that says what it is; dlmkit show and the run's first line print it"
        yield UserError(f"{cls.__name__} has no docstring of its own", remedy, where)
    own = [c for c in cls.__mro__ if c.__module__.partition(".")[0] == cls.__module__.partition(".")[0]]
    if not any(re.search(r"^\s*References:\s*$", vars(c).get("__doc__") or "", re.MULTILINE) for c in own):
        remedy = "add References: to its docstring, with | Title (authors, year) below"
        yield UserError(f"{cls.__name__} names no paper", remedy, where)
    described = _described(cls)
    try:
        annotations = _annotations(cls)
    except NameError as error:
        remedy = "import it where the module begins, not under TYPE_CHECKING, so that the command can read it"
        yield UserError(f"an annotation of {cls.__name__} means nothing at run time: {error}", remedy, where)
        return
    for name in _options(cls):
        yield from _option_faults(cls, name, annotations.get(name), described)


def _option_faults(cls: type, name: str, annotation: Any, described: set[str]) -> Iterator[UserError]:
    what, where = f"the option {name} of {cls.__name__}", place(cls)
    if annotation is None:
        yield UserError(f"{what} has no type", f"annotate it, as in {name}: int = 3", where)
    elif bare := next(_bare(annotation), ""):
        remedy = "name the type; a recipe could have anything called through this one"
        yield UserError(f"{what} is typed as {bare}", remedy, where)
    if name not in described:
        yield UserError(f"{what} is not described", f"add {name}: and its meaning to Args: in the docstring", where)


def _bare(annotation: Any) -> Iterator[str]:
    """The words for what stands anywhere in an annotation and lets everything pass."""
    if isinstance(annotation, list):  # the parameters of a Callable
        parts: tuple[Any, ...] = tuple(annotation)
    elif annotation in _BARE:
        yield "Any" if annotation is Any else "a Callable of which nothing is said"
        return
    else:
        parts = typing.get_args(annotation) if typing.get_origin(annotation) is not typing.Literal else ()
    for part in parts:
        yield from _bare(part)


def _options(cls: type) -> list[str]:
    """The constructor's options as a recipe can give them, those of the base classes included."""
    names: list[str] = LightningArgumentParser(exit_on_error=False).add_class_arguments(cls, fail_untyped=False)
    return names


def _annotations(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        init = vars(base).get("__init__")
        if inspect.isfunction(init):
            named = {n: None for n in inspect.signature(init).parameters}
            found |= named | {n: a for n, a in typing.get_type_hints(init).items() if n in named}
    return found


def _described(cls: type) -> set[str]:
    texts = [vars(base).get("__doc__") or "" for base in cls.__mro__]
    texts += [getattr(vars(base).get("__init__"), "__doc__", "") or "" for base in cls.__mro__]
    parsed = [docstring_parser.parse(text, docstring_parser.DocstringStyle.GOOGLE) for text in texts if "Args:" in text]
    return {p.arg_name for doc in parsed for p in doc.params if (p.description or "").strip()}


def place(cls: type) -> str:
    """Where a class is written: its file, and the line on which it begins."""
    try:
        return f"{short(inspect.getsourcefile(cls) or '')}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return cls.__module__
