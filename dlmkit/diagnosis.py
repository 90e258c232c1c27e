"""Says what is wrong with a configuration: every fault, each with file, line and remedy.

jsonargparse decides what fits; where it refuses, or lets a null pass that nobody may give, the keys are walked one by
one and asked about singly, so that all faults are known at once and each has its place.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import lightning.pytorch.callbacks
import torch.optim.lr_scheduler
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dlmkit.errors import UserError, did_you_mean
from dlmkit.notation import in_words, plain_type
from dlmkit.recipe import CLASS_KEYS, Key, Recipe, beside_class_path

__all__ = ["diagnose", "fill_defaults", "option_type"]

_HOMES = {
    "Optimizer": torch.optim,
    "LRScheduler": torch.optim.lr_scheduler,
    "Callback": lightning.pytorch.callbacks,
}
"""Where a class is that stands without its module: the word in an option's type, and the module."""


def fill_defaults(config: dict[str, Any], types: Mapping[str, type]) -> dict[str, Any]:
    """Accept ``optimizer: {lr: 0.1}`` for the class that is the option's default, and ``Adam`` for torch.optim.Adam.

    Args:
        config: A recipe's configuration.
        types: The classes behind its sections.

    Returns:
        The configuration with such mappings in LightningCLI's form.
    """
    out = dict(config)
    for word, cls in types.items():
        args = config[word].get("init_args") or {}
        parser, names = _parser(cls)
        defaults = parser.get_defaults()
        args = {name: _in_full(value, _home(cls, name)) if name in names else value for name, value in args.items()}
        filled = {name: _filled(value, defaults.get(name)) if name in names else value for name, value in args.items()}
        out[word] = {**config[word], "init_args": filled}
    callbacks = (config.get("trainer") or {}).get("callbacks")
    if isinstance(callbacks, (str, dict)):
        callbacks = [callbacks]
    if isinstance(callbacks, list):
        full = [_in_full(callback, _HOMES["Callback"]) for callback in callbacks]
        out["trainer"] = {**config["trainer"], "callbacks": full}
    return out


def _home(cls: type, name: str) -> ModuleType | None:
    """The module of the classes that an option takes, if it takes optimisers, schedules or callbacks."""
    kind = option_type(cls, name)
    return next((module for word, module in _HOMES.items() if word in kind), None)


def _in_full(value: Any, home: ModuleType | None) -> Any:
    """``Adam``, alone or as a ``class_path``, with its module."""
    path = value.get("class_path") if isinstance(value, dict) else value
    if home is None or not isinstance(path, str) or not isinstance(getattr(home, path, None), type):
        return value
    full = f"{home.__name__}.{path}"
    return {**value, "class_path": full} if isinstance(value, dict) else {"class_path": full}


def _filled(value: Any, default: Any) -> Any:
    """One option whose default is a class: in LightningCLI's form, another class with that class's own defaults."""
    if not _is_class(default):
        return value
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, dict):
        return value
    if not CLASS_KEYS & value.keys():
        return {"init_args": value}
    path = value.get("class_path", default["class_path"])
    cls = _allowed_class(path) if path != default["class_path"] else None
    if not isinstance(cls, type) or not isinstance(value.get("init_args") or {}, dict):
        return value
    # Otherwise jsonargparse would keep what the two classes have in common: AdamW's learning rate, say.
    parser, names = _parser(cls)
    own = {n: v for n, v in parser.get_defaults().as_dict().items() if n in names and not _is_required(cls, n)}
    return {**value, "init_args": {**own, **(value.get("init_args") or {})}}


def diagnose(
    recipe: Recipe, config: dict[str, Any], types: Mapping[str, type], links: Iterable[str], nulls_only: bool = False
) -> list[UserError]:
    """Every fault of a configuration.

    Args:
        recipe: Knows where each key was written.
        config: Its configuration, possibly with defaults filled in.
        types: The classes behind ``model``, ``data`` and ``trainer``.
        links: What the data will tell the model.
        nulls_only: Look only for nulls where none may be given, which jsonargparse lets pass.
    """
    faults = []
    seed = config.get("seed_everything", 1)
    if not isinstance(seed, int):
        faults.append(recipe.fault(("seed_everything",), f"seed_everything takes a whole number, not {seed!r}"))
    for word, cls in types.items():
        args, key = (
            (config[word], (word,)) if word == "trainer" else (config[word].get("init_args"), (word, "init_args"))
        )
        linked = set(links) if word == "model" else set()
        faults += _class_faults(recipe, cls, args or {}, key, linked, nulls_only)
    return faults


def option_type(cls: type, name: str) -> str:
    """The annotation of a constructor's parameter as written, looked up through the base classes."""
    parameter, home = _parameter(cls, name)
    note = parameter.annotation if parameter else inspect.Parameter.empty
    if note is inspect.Parameter.empty:
        return "another type"
    written = note.__name__ if isinstance(note, type) else str(note)
    return re.sub(r"[A-Za-z_]\w*", lambda m: _choices(home.get(m[0])) or m[0], written)


def _choices(value: Any) -> str:
    """``Literal["a", "b"]``, written out where an annotation has a name for it."""
    return f"Literal[{', '.join(map(repr, get_args(value)))}]" if get_origin(value) is Literal else ""


def _parameter(cls: type, name: str) -> tuple[inspect.Parameter | None, Mapping[str, Any]]:
    """A constructor's parameter, and the names of the module that it is written in."""
    for base in cls.__mro__:
        own = vars(base).get("__init__")
        if own is not None and name in inspect.signature(own).parameters:
            return inspect.signature(own).parameters[name], getattr(own, "__globals__", {})
    return None, {}


def _is_required(cls: type, name: str) -> bool:
    parameter, _ = _parameter(cls, name)
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _parser(cls: type, only: str | None = None, names: Iterable[str] = ()) -> tuple[LightningArgumentParser, list[str]]:
    parser = LightningArgumentParser(exit_on_error=False)
    skip: set[str | int] = {name for name in names if name != only} if only else set()
    return parser, parser.add_class_arguments(cls, fail_untyped=False, instantiate=False, skip=skip)


def _is_class(default: Any) -> bool:
    return hasattr(default, "get") and default.get("class_path") is not None


def _class_faults(
    recipe: Recipe, cls: type, args: Any, key: Key, linked: set[str], nulls_only: bool
) -> Iterator[UserError]:
    owner = _owner(recipe, cls)
    if not isinstance(args, dict):
        yield recipe.fault(key, f"{'.'.join(key)} is {args!r}", f"give the options of {owner} below it")
        return
    parser, names = _parser(cls)
    defaults = parser.get_defaults()
    for name, value in args.items():
        below = (*key, name)
        if name not in names:
            shown = owner != cls.__qualname__  # a plugin's, by its name
            otherwise = f"dlmkit show {owner} lists its options" if shown else f"it takes {', '.join(names)}"
            remedy = did_you_mean(name, names, otherwise)
            yield recipe.fault(below, f"{_shown(recipe, below)} is no option of {owner}", remedy)
        else:
            home = _home(cls, name)
            nested = list(_nested_faults(recipe, value, below, defaults.get(name), home, nulls_only))
            yield from nested or _value_faults(recipe, cls, names, name, value, below, nulls_only)
    given = {*args, *linked, *_given_later(cls)}
    for name in (n for n in names if n not in given and _is_required(cls, n)):
        option = plain_type(option_type(cls, name))
        data = next((e.name for e in recipe.used if e.kind == "data" and key == ("model", "init_args")), "")
        otherwise = f", or data that tell it, which {data} does not" if data else ""
        yield recipe.fault(key, f"{owner} needs {name}", f"give {'.'.join(key)}.{name} ({option}){otherwise}")


def _given_later(cls: type) -> list[str]:
    """What an optimiser or schedule is given when it is made, not by the recipe: its first parameter."""
    return list(inspect.signature(cls).parameters)[:1] if issubclass(cls, (Optimizer, LRScheduler)) else []


def _owner(recipe: Recipe, cls: type) -> str:
    path = f"{cls.__module__}.{cls.__qualname__}"
    return next((e.name for e in recipe.used if e.path == path), cls.__qualname__)


def _shown(recipe: Recipe, key: Key) -> str:
    """A key as it was written: an ``init_args`` that was left out is left out."""
    brief = (*key[:-2], key[-1])
    return ".".join(brief if key not in recipe.places and brief in recipe.places else key)


def _value_faults(
    recipe: Recipe, cls: type, names: list[str], name: str, value: Any, key: Key, nulls_only: bool
) -> Iterator[UserError]:
    if nulls_only and value is not None:
        return
    parser, _ = _parser(cls, name, names)
    try:
        if value is None:
            parser.parse_args([f"--{name}=null"])  # as text, because a null in a mapping means "not given"
        else:
            parser.parse_object({name: value})
    except Exception as error:
        yield _explain(recipe, cls, name, value, key, str(error))


def _nested_faults(
    recipe: Recipe, value: Any, key: Key, default: Any, home: ModuleType | None, nulls_only: bool
) -> Iterator[UserError]:
    """Look for faults inside a class that the value names, or in the items of a list."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from _nested_faults(recipe, item, (*key, str(position)), None, home, nulls_only)
        return
    if home is not None and isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, dict):
        return
    path = value.get("class_path", default.get("class_path") if _is_class(default) else None)
    if not isinstance(path, str):
        return
    strays = beside_class_path(recipe, value, key) if "class_path" in value else []
    yield from strays
    cls = _allowed_class(path)
    if isinstance(cls, str):
        remedy = f"if you trust it, add --allow {path.partition('.')[0]}" if "may name" in cls else _near(path, home)
        yield recipe.fault((*key, "class_path"), cls, remedy)
    else:
        # What stands in the wrong place is not missing too; a default's options need not be given again.
        given = set(_required(cls)) if strays or "class_path" not in value else set()
        args = value.get("init_args") or {}
        yield from _class_faults(recipe, cls, args, (*key, "init_args"), given, nulls_only)


def _required(cls: type) -> list[str]:
    return [name for name in _parser(cls)[1] if _is_required(cls, name)]


def _allowed_class(path: str) -> type | str:
    """The class, or why there is none; asks jsonargparse whether it may be imported before importing it."""
    probe = LightningArgumentParser(exit_on_error=False)
    probe.add_argument("--probe", type=type)
    try:
        probe.parse_object({"probe": path})
    except Exception as error:
        if "not allowed" in str(error):
            return f"{path} is in none of the packages that a recipe may name"
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name) if module else None
    except (ImportError, AttributeError):
        found = None
    return found if isinstance(found, type) else f"there is no class {path}"


def _near(path: str, home: ModuleType | None) -> str:
    module, _, name = path.rpartition(".")
    try:
        known = dir(importlib.import_module(module) if module else home)
    except ImportError:
        known = []
    return did_you_mean(name, [k for k in known if k[:1].isupper()], "check its spelling")


def _explain(recipe: Recipe, cls: type, name: str, value: Any, key: Key, reason: str) -> UserError:
    if "not allowed" in reason and isinstance(value, str):
        what, remedy = f"{value} is in none of the packages that a recipe may name", f"--allow {value.split('.')[0]}"
        return recipe.fault(key, what, f"if you trust it, add {remedy}")
    shown = "null" if value is None else repr(value)
    kind = in_words(plain_type(option_type(cls, name)))
    return recipe.fault(key, f"{_shown(recipe, key)} is {shown}", f"{_owner(recipe, cls)} takes {kind} there")
