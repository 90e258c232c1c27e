"""``dlmkit schema``: the JSON Schema of a recipe, by which an editor completes keys and underlines mistakes.

jsonargparse exports one for a whole LightningCLI too, but that fails on the trainer's callbacks, knows no registered
names and takes megabytes; this one is put together from the signatures of the classes that the recipe names.
"""

from __future__ import annotations

import argparse
import collections.abc
import json
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit import plugins
from dlmkit import recipe as recipes

if TYPE_CHECKING:
    from dlmkit.options import Option
    from dlmkit.recipe import Recipe

__all__ = ["recipe_schema", "schema", "type_schema"]

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANY: Schema = {}
_SCALARS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    None: {"type": "null"},
    type(None): {"type": "null"},
}
_ARRAYS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"


def schema(options: argparse.Namespace) -> int:
    """``dlmkit schema``: print it."""
    recipe = recipes.read(options.recipe)
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
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    from dlmkit.engine import Allowed, _import
    from dlmkit.options import class_options

    Allowed().apply(recipe)
    model = _import(recipe, "model", LightningModule)
    data = _import(recipe, "data", LightningDataModule)
    return {
        "$schema": _DIALECT,
        "title": f"recipe of dlmkit, as {recipe.name}",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["model", "data"]}, {"required": ["extends"]}],
        "properties": {
            "seed_everything": {"type": "integer", "description": "Of all random numbers; 1 when left out."},
            "extends": {
                "description": "A recipe to build on: mappings merge, everything else replaces.",
                "anyOf": [{"enum": plugins.names("recipes")}, {"type": "string"}],
            },
            "model": _part(recipe, "model", "tasks", "What is trained.", "model_options"),
            "data": _part(recipe, "data", "data", "What it is trained on.", "data_options"),
            "trainer": {"description": "Options of Lightning's Trainer.", "$ref": "#/$defs/trainer_options"},
        },
        "$defs": {
            "class": _any_class(),
            "optimizer": _known_classes(_optimizers(), "torch.optim.AdamW"),
            "lr_scheduler": _known_classes(_schedules(), "dlmkit.WarmupCosine"),
            "model_options": _options_schema(class_options(model)),
            "data_options": _options_schema(class_options(data)),
            "trainer_options": _options_schema(class_options(Trainer)),
        },
    }


def type_schema(hint: Any) -> Schema:
    """The schema of a type; one that says nothing where the type says nothing that JSON has.

    Args:
        hint: An evaluated annotation.
    """
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_schema(args[0])
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in (typing.Union, types.UnionType):
        return _union([type_schema(arg) for arg in args])
    if origin is collections.abc.Callable:
        return _made_later(args[-1] if args else Any)
    if hint is tuple or origin is tuple:
        return _tuple(args)
    if hint in _ARRAYS or origin in _ARRAYS:
        return {"type": "array", "items": type_schema(args[0])} if args else {"type": "array"}
    if hint in _MAPPINGS or origin in _MAPPINGS:
        values = type_schema(args[1]) if len(args) > 1 else _ANY
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}
    return _class_schema(hint)


def _class_schema(hint: Any) -> Schema:
    """The schema of a class of which a recipe describes an instance."""
    import enum

    if not isinstance(hint, type) or hint is object:
        return _ANY
    if issubclass(hint, enum.Enum):
        return {"enum": list(hint.__members__)}
    if issubclass(hint, Path) or hint.__module__ == "datetime":
        return {"type": "string"}
    if hint.__module__ == "torch" and hint.__name__ in ("Tensor", "device", "dtype"):
        return {"type": ["string", "number", "array"]}
    return {"$ref": "#/$defs/class"}


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


def _part(recipe: Recipe, word: str, kind: str, text: str, options: str) -> Schema:
    """The schema of ``model`` or ``data``: the recipe's own class, or another whose options are not known here."""
    entries = [e for e in plugins.installed() if e.kind == kind]
    path = recipe.config[word]["class_path"]
    own = {path, *(e.name for e in entries if e.path == path), *(f"{e.package}:{e.name}" for e in entries if e.path == path)}
    named = [{"const": e.name, "description": e.summary or e.value} for e in entries]
    word_schema = {"anyOf": [*named, {"type": "string", "pattern": _DOTTED}, {"type": "string", "pattern": r"^[\w.-]+:[\w-]+$"}]}
    another = {"required": ["class_path"], "properties": {"class_path": {"not": {"enum": sorted(own)}}}}
    return {
        "description": text,
        "anyOf": [
            word_schema,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {"class_path": word_schema, "init_args": {"type": "object"}, "dict_kwargs": {"type": "object"}},
                "if": another,
                "else": {"properties": {"init_args": {"$ref": f"#/$defs/{options}"}}},
            },
        ],
    }


def _options_schema(options: list[Option], without: int = 0) -> Schema:
    """The schema of a mapping of options; none is required, because recipes merge and the data knows some."""
    properties = {}
    for option in options[without:]:
        about: Schema = {"description": option.meaning} if option.meaning else {}
        if _is_json(option.default) and not option.required and option.default is not None:
            about["default"] = option.default
        properties[option.name] = {**about, **_with_null(type_schema(option.hint), option)}
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


def _any_class() -> Schema:
    """A class by its import path, with any options."""
    described = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "class_path": {"type": "string", "description": "Import path of the class."},
            "init_args": {"type": "object", "description": "Its options."},
            "dict_kwargs": {"type": "object", "description": "Options that its signature does not name."},
        },
    }
    return {"anyOf": [{"type": "string"}, described]}


def _known_classes(classes: dict[str, type], usual: str) -> Schema:
    """One of several classes whose options are known, or another whose options are not.

    Args:
        classes: Import path to class.
        usual: The one that is meant when only options are given.
    """
    from dlmkit.options import class_options

    names: list[Schema] = [{"const": path, "description": _title(cls)} for path, cls in classes.items()]
    path = {"anyOf": [*names, {"type": "string", "pattern": _DOTTED}], "default": usual}
    cases = [
        {
            "if": {"required": ["class_path"], "properties": {"class_path": {"const": name}}},
            # its first parameter, what it works on, is given by the task
            "then": {"properties": {"init_args": _options_schema(class_options(cls), without=1)}},
        }
        for name, cls in classes.items()
    ]
    properties = {"class_path": path, "init_args": {"type": "object"}, "dict_kwargs": {"type": "object"}}
    described = {"type": "object", "additionalProperties": False, "properties": properties, "allOf": cases}
    shorthand = {"type": "object", "not": {"anyOf": [{"required": [key]} for key in properties]}}
    return {"anyOf": [path, described, shorthand]}


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
