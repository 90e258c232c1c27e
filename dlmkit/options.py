"""The options of a class or of one of its methods, as jsonargparse reads them from signature and docstring."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from dlmkit import recipe as recipes
from dlmkit.diagnosis import option_type
from dlmkit.errors import UserError, did_you_mean
from dlmkit.notation import in_words, plain_prose, plain_type

__all__ = ["Option", "class_options", "method_options", "sample_options", "told"]


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


def told(data: type) -> dict[str, str]:
    """What a data module tells a task: its public properties by name, with the first line of what each is.

    Args:
        data: The data module's class.
    """
    known = inspect.getmembers(data, lambda member: isinstance(member, property))
    own = {name: member for name, member in known if not (name.startswith("_") or hasattr(LightningDataModule, name))}
    return {name: plain_prose((inspect.getdoc(member) or "").partition("\n")[0]) for name, member in own.items()}


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


def sample_options(cls: type, prompt: str | None, n: int | None, words: Sequence[str]) -> dict[str, Any]:
    """The options of a task's own ``sample``, checked by jsonargparse.

    Args:
        cls: Of the task.
        prompt: As the user gave it.
        n: How many.
        words: The other options, as they were typed.

    Raises:
        UserError: If there is no such option, or it takes something else.
    """
    if n is not None and n < 1:
        raise UserError(f"-n is {n}", "give at least 1")
    if prompt is not None and any("\ud800" <= sign <= "\udfff" for sign in prompt):
        remedy = "set the terminal to UTF-8, or write it with other letters"
        raise UserError("the prompt is not UTF-8", remedy, "--prompt")
    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_method_arguments(cls, "sample", fail_untyped=False)
    given = {}
    for key, text in recipes.split_overrides(words):
        name = ".".join(key)
        if name not in names:
            what = f"--{name} is no option of {cls.__name__}'s sample"
            raise UserError(what, did_you_mean(name, names, f"it takes {', '.join('--' + n for n in names)}"))
        given[name] = _of_its_type(cls, names, name, text)
    given |= {name: value for name, value in (("n", n), ("prompt", prompt)) if value is not None}
    result: dict[str, Any] = parser.instantiate_classes(parser.parse_object(given)).as_dict()
    return result


def _of_its_type(cls: type, names: list[str], name: str, text: str) -> Any:
    """What was typed for an option, as YAML reads it; or as it stands, for a class may be named 3."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_method_arguments(cls, "sample", fail_untyped=False, skip=set(names) - {name})
    for value in (recipes.typed(text), text):
        try:
            parser.parse_object({name: value})
            return value
        except ArgumentError:
            continue
    written = next(o.written for o in method_options(cls, "sample") if o.name == name)
    raise UserError(f"--{name} is {recipes.typed(text)!r}", f"sample takes {in_words(plain_type(written))} there")
