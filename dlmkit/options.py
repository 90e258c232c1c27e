"""The options of a class or of one of its methods, as jsonargparse reads them from signature and docstring."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from dlmkit.diagnosis import option_type
from dlmkit.notation import plain_prose

__all__ = ["Option", "class_options", "method_options"]


@dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: Its name.
        written: Its annotation as written.
        hint: Its evaluated type; ``typing.Any`` where that is not known.
        required: Whether it has no default.
        default: Its default; ``{"class_path": …, "init_args": …}`` for that of a class that is made later.
        meaning: What the docstring says of it.
    """

    name: str
    written: str
    hint: Any
    required: bool
    default: Any
    meaning: str


@cache
def class_options(cls: type) -> tuple[Option, ...]:
    """The options of a constructor, with those that it hands on to its base class.

    Args:
        cls: The class.
    """
    parser = LightningArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(cls, fail_untyped=False, instantiate=False)
    hints = _constructor_hints(cls)
    return _options(parser, names, hints, {name: option_type(cls, name) for name in names})


def method_options(cls: type, method: str) -> tuple[Option, ...]:
    """The options of a method.

    Args:
        cls: Its class.
        method: Its name.
    """
    parser = LightningArgumentParser(exit_on_error=False)
    names = parser.add_method_arguments(cls, method, fail_untyped=False)
    function = getattr(cls, method)
    parameters = inspect.signature(function).parameters
    written = {name: str(p.annotation) for name, p in parameters.items()}
    return _options(parser, names, _hints(function), written)


def _options(
    parser: LightningArgumentParser, names: list[str], hints: dict[str, Any], written: dict[str, str]
) -> tuple[Option, ...]:
    actions = {action.dest: action for action in parser._actions}
    return tuple(
        Option(
            name=name,
            written=written.get(name, "another type"),
            hint=hints.get(name, Any),
            required=actions[name].required,
            default=_plain(actions[name].default),
            meaning=plain_prose(" ".join((actions[name].help or "").split())),
        )
        for name in names
    )


def _plain(default: Any) -> Any:
    """A default as plain values; jsonargparse has a namespace for that of a class."""
    return default.as_dict() if hasattr(default, "as_dict") else default


def _constructor_hints(cls: type) -> dict[str, Any]:
    """The types of a constructor's parameters, those of the base classes below those of the class itself."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            hints |= _hints(vars(base)["__init__"])
    return hints


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # a name that only a type checker imports, or a built-in function
        return {}
