"""``dlmkit schema``: the JSON Schema of a recipe, by which an editor completes keys and underlines mistakes.

jsonargparse exports one for a whole LightningCLI too, but that fails on the trainer's callbacks, knows no registered
names and takes megabytes; this one is put together from the signatures of the classes that the recipe names.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import datetime
import enum
import json
import sys
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit import plugins
from dlmkit import recipe as recipes
from dlmkit.errors import UserError

if TYPE_CHECKING:
    from dlmkit.options import Option
    from dlmkit.recipe import Recipe

__all__ = ["recipe_schema", "schema", "type_schema"]

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANY: Schema = {}
_SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_ARRAYS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_DOTTED: Schema = {"type": "string", "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"}
_QUALIFIED: Schema = {"type": "string", "pattern": r"^[\w.-]+:[\w-]+$"}  # package:name
_CLASS: Schema = {
    "class_path": {"type": "string", "description": "Import path of the class."},
    "init_args": {"type": "object", "description": "Its options."},
    "dict_kwargs": {"type": "object", "description": "Options that its signature does not name."},
}


def schema(options: argparse.Namespace) -> int:
    """``dlmkit schema``: print it."""
    if recipes.is_overlay(recipes.locate(options.recipe)):
        raise UserError(f"{options.recipe} is an overlay", "give a recipe that it is laid over", "schema")
    recipe = recipes.read(options.recipe)
    from dlmkit.verbs import quiet

    with quiet():
        json.dump(recipe_schema(recipe), sys.stdout, indent=1, ensure_ascii=False)
        print()
    return 0


def recipe_schema(recipe: Recipe) -> Schema:
    """The schema of a recipe, in draft 2020-12.

    The options of the classes that the recipe names are checked by name and type, and so are those of torch's
    optimisers and schedules; the options of other classes only in their form.

    Args:
        recipe: From :func:`dlmkit.recipe.read`.

    Returns:
        Plain values, ready for ``json.dump``.

    Raises:
        UserError: If one of its classes may not be named or does not import.
    """
    from lightning.pytorch import Trainer

    from dlmkit.engine import Allowed, data_and_model
    from dlmkit.options import class_options

    Allowed().apply(recipe)
    classes = data_and_model(recipe)
    return {
        "$schema": _DIALECT,
        "title": f"recipe of dlmkit, as {recipe.name}",
        "type": "object",
        "additionalProperties": False,
        # a whole recipe, one that builds on another, or an overlay
        "anyOf": [
            {"required": ["model", "data"]},
            {"required": ["extends"]},
            {"not": {"anyOf": [{"required": ["model"]}, {"required": ["data"]}]}},
        ],
        "properties": {
            "seed_everything": {"type": "integer", "description": "Of all random numbers; 1 when left out."},
            "extends": {
                "description": "A recipe to build on: mappings merge, NAME+ adds to a list, everything else replaces.",
                "anyOf": [{"enum": plugins.names("recipes")}, {"type": "string"}],
            },
            "model": _part(recipe, "model", "tasks", "What is trained."),
            "data": _part(recipe, "data", "data", "What it is trained on."),
            "trainer": {"description": "Options of Lightning's Trainer.", "$ref": "#/$defs/trainer_options"},
        },
        "$defs": {
            "class": _word_or_class([{"type": "string"}]),
            "optimizer": _known_classes(_optimizers()),
            "lr_scheduler": _known_classes(_schedules()),
            "model_options": _options_schema(class_options(classes["model"])),
            "data_options": _options_schema(class_options(classes["data"])),
            "trainer_options": _options_schema(class_options(Trainer)),
        },
    }


def type_schema(hint: Any) -> Schema:
    """The schema of a type; one that fits everything where JSON has nothing like it.

    Args:
        hint: An evaluated annotation.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_schema(args[0])
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in (typing.Union, types.UnionType):
        return _union([type_schema(arg) for arg in args])
    if origin is collections.abc.Callable:
        return _made_later(args[-1] if args else Any)
    if tuple in (hint, origin):
        return _tuple(args)
    if origin in _ARRAYS or hint in _ARRAYS:
        return {"type": "array", "items": type_schema(args[0])} if args else {"type": "array"}
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return {"type": "object", "additionalProperties": type_schema(args[1])} if args else {"type": "object"}
    return _class_schema(hint)


def _class_schema(hint: Any) -> Schema:
    """The schema of a class that is not generic."""
    if hint is None:
        return {"type": "null"}
    if not isinstance(hint, type) or hint in (object, Any):
        return _ANY
    if issubclass(hint, enum.Enum):
        return {"enum": list(hint.__members__)}
    if issubclass(hint, (Path, datetime.timedelta)):
        return {"type": "string"}
    if dataclasses.is_dataclass(hint):
        return {"type": "object"}
    scalar = next((name for kind, name in _SCALARS.items() if issubclass(hint, kind)), None)
    return {"type": scalar} if scalar else {"$ref": "#/$defs/class"}


def _made_later(result: Any) -> Schema:
    """The schema of a class that is made when the run begins: an optimiser, a schedule, another callable."""
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    wanted = [kind for kind in (result, *typing.get_args(result)) if isinstance(kind, type)]
    for name, base in (("optimizer", Optimizer), ("lr_scheduler", LRScheduler)):
        if any(issubclass(kind, base) for kind in wanted):
            return {"$ref": f"#/$defs/{name}"}
    return {"$ref": "#/$defs/class"}


def _union(parts: list[Schema]) -> Schema:
    """One that fits any of several."""
    if any(part == _ANY for part in parts):
        return _ANY
    different = [part for number, part in enumerate(parts) if part not in parts[:number]]
    simple = [part["type"] for part in different if part.keys() == {"type"} and isinstance(part["type"], str)]
    if len(simple) == len(different):
        return {"type": simple} if len(simple) > 1 else different[0]
    return {"anyOf": different}


def _tuple(args: tuple[Any, ...]) -> Schema:
    if not args:
        return {"type": "array"}
    if args[-1] is Ellipsis:
        return {"type": "array", "items": type_schema(args[0])}
    items = [type_schema(arg) for arg in args]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(args)}


# ------------------------------------------------------------------------------------------------- model, data, options


def _part(recipe: Recipe, word: str, kind: str, text: str) -> Schema:
    """The schema of ``model`` or ``data``: the recipe's own class, or another whose options are not known here."""
    entries = [e for e in plugins.installed() if e.kind == kind]
    path = recipe.config[word]["class_path"]
    own = {path}.union(*({e.name, f"{e.package}:{e.name}"} for e in entries if e.path == path))
    names = [*_named({e.name: e.about or e.value for e in entries}), _DOTTED, _QUALIFIED]
    another = {"required": ["class_path"], "properties": {"class_path": {"not": {"enum": sorted(own)}}}}
    return {
        "description": text,
        **_word_or_class(names),
        "if": another,
        "else": {"properties": {"init_args": {"$ref": f"#/$defs/{word}_options"}}},
    }


def _word_or_class(names: list[Schema]) -> Schema:
    """A class by its name alone, or with options.

    Written without alternatives between the two, so that a fault is found at the key that has it.
    """
    path = {"anyOf": names, "description": "Which class."}
    return {
        "anyOf": [*names, {"type": "object"}],
        "properties": {**_CLASS, "class_path": path},
        "additionalProperties": False,
    }


def _named(names: dict[str, str]) -> list[Schema]:
    return [{"const": name, "description": text} for name, text in names.items()]


def _options_schema(options: Iterable[Option]) -> Schema:
    """The schema of a mapping of options; none is required, because recipes merge and the data knows some."""
    properties = {}
    for option in options:
        about: Schema = {"description": option.meaning} if option.meaning else {}
        if _is_json(option.default) and not option.required and option.default is not None:
            about["default"] = option.default
        properties[option.name] = {**about, **_with_null(type_schema(option.hint), option)}
        if "'array'" in str(properties[option.name]):
            properties[f"{option.name}+"] = {"type": "array", "description": f"What is added to {option.name}."}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _with_null(kind: Schema, option: Option) -> Schema:
    """A null default may also be written where the annotation forgets it."""
    missing = option.default is None and not option.required and kind != _ANY
    return _union([kind, {"type": "null"}]) if missing and "null" not in str(kind) else kind


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


# -------------------------------------------------------------------------------------------------------- named classes


def _known_classes(classes: dict[str, type]) -> Schema:
    """One of several classes whose options are known, or another whose options are not.

    Options alone are those of the class that is the default.

    Args:
        classes: Import path to class.
    """
    from dlmkit.options import class_options

    names = [*_named({path: _title(cls) for path, cls in classes.items()}), _DOTTED]
    cases = [
        {
            "if": {"required": ["class_path"], "properties": {"class_path": {"const": path}}},
            # its first parameter, what it works on, is given by the task
            "then": {"properties": {"init_args": _options_schema(class_options(cls)[1:])}},
        }
        for path, cls in classes.items()
    ]
    return {
        "if": {"anyOf": [{"required": [key]} for key in _CLASS]},  # what is no mapping passes this too
        "then": {**_word_or_class(names), "allOf": cases},
    }


def _title(cls: type) -> str:
    lines = (cls.__doc__ or cls.__name__).strip().splitlines()
    return lines[0]


def _optimizers() -> dict[str, type]:
    import torch.optim

    return _exported(torch.optim, torch.optim.Optimizer, "torch.optim")


def _schedules() -> dict[str, type]:
    from torch.optim import lr_scheduler

    from dlmkit.schedules import WarmupCosine

    known = _exported(lr_scheduler, lr_scheduler.LRScheduler, "torch.optim.lr_scheduler")
    return {"dlmkit.WarmupCosine": WarmupCosine, **known}


def _exported(module: Any, base: type, path: str) -> dict[str, type]:
    """The public classes of a module that are a kind of ``base``, in alphabetical order."""
    found = {name: getattr(module, name) for name in sorted(module.__all__)}
    return {
        f"{path}.{name}": cls
        for name, cls in found.items()
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base
    }
