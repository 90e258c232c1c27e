"""The verbs that answer without torch: list, copy, new, completion."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dlmkit import plugins
from dlmkit.errors import UserError
from dlmkit.plugins import Entry

__all__ = ["completion", "copy", "list_installed", "new"]

_HEADS = {"tasks": "plugins", "data": "data", "recipes": "recipes"}


def list_installed(options: argparse.Namespace) -> int:
    """``dlmkit list``: what is installed, and what is visibly broken; 1 if anything is."""
    faults = {entry: entry.fault for entry in plugins.installed()}
    if options.verify:
        faults = {entry: _verify(entry) for entry in faults}
    if options.json:
        _print_json(faults)
    else:
        _print_rows(faults)
    return 1 if any(faults.values()) else 0


def _verify(entry: Entry) -> str:
    """Import an entry and say what raises; a recipe is read."""
    from dlmkit import recipe

    try:
        if entry.kind == "recipes":
            path = Path(entry.value)
            if not recipe.is_overlay(path):
                recipe.read(str(path))
        else:
            plugins.load(entry)
    except UserError as error:
        return entry.fault or str(error)
    return entry.fault


def _print_rows(faults: dict[Entry, str]) -> None:
    if not faults:
        print("nothing is installed; pip install dlmkit-lstm is a beginning")
    width = max((len(e.name) for e in faults), default=0)
    source = max((len(f"{e.package} {e.version}") for e in faults), default=0)
    for kind, head in _HEADS.items():
        rows = [e for e in faults if e.kind == kind]
        if rows:
            print(f"{head}:")
        for e in rows:
            about = f"broken: {faults[e]}" if faults[e] else _about(e)
            print(f"  {e.name:<{width}}  {f'{e.package} {e.version}':<{source}}  {about}".rstrip())


def _about(entry: Entry) -> str:
    """One line: what a class or a recipe says of itself first."""
    if entry.kind != "recipes":
        return entry.about
    with open(entry.value, encoding="utf-8") as file:
        comments = [line.lstrip("# ").strip() for line in file.read(2000).splitlines() if line.startswith("#")]
    return next((line for line in comments if not line.startswith("dlmkit ")), "")


def _print_json(faults: dict[Entry, str]) -> None:
    import json

    rows = [
        {
            "kind": e.kind.removesuffix("s"),
            "name": e.name,
            "value": e.value,
            "package": e.package,
            "version": e.version,
            "fault": fault or None,
        }
        for e, fault in faults.items()
    ]
    print(json.dumps(rows, indent=2))


def copy(options: argparse.Namespace) -> int:
    """``dlmkit copy``: a recipe of one's own."""
    from dlmkit import recipe

    source = recipe.locate(options.recipe)
    target: Path = options.file or Path(source.name)
    if target.is_dir():
        target = target / source.name
    if target.suffix not in (".yaml", ".yml"):
        raise UserError(f"{target} is no name for a recipe", "end it in .yaml", "copy")
    if target.exists():
        raise UserError("is there already", "choose another name, or remove it first", str(target))
    try:
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", "choose another place", str(target)) from None
    word = str(target) if len(target.parts) > 1 else target.name
    print(f"wrote {target}; edit it, then: dlmkit run {word}")
    return 0


def new(options: argparse.Namespace) -> int:
    """``dlmkit new``: a plugin of one's own."""
    from dlmkit.scaffold import write

    folder = write(options.name, options.folder)
    print(f"wrote {folder}; it trains as it stands:")
    print(f"  pip install -e {folder} && dlmkit run {options.name} && dlmkit check --plugin {options.name}")
    print(f"then put your network into {folder / ('dlmkit_' + options.name.replace('-', '_')) / 'model.py'}")
    return 0


def completion(options: argparse.Namespace) -> int:
    """``dlmkit completion``: the shell's completion script, with the names that are installed now."""
    import shtab

    from dlmkit.cli import parser

    grammar = parser()
    grammar_actions = next(a for a in grammar._actions if isinstance(a, argparse._SubParsersAction))
    for verb in grammar_actions.choices.values():
        for action in verb._actions:
            _complete(action)
    sys.stdout.write(shtab.complete(grammar, options.shell) + "\n")
    return 0


def _complete(action: argparse.Action) -> None:
    """Tell the completion which words or files an argument takes."""
    import shtab

    if action.dest == "recipe":
        action.choices = plugins.names("recipes")
    elif action.dest in ("name", "plugin") and action.metavar == "NAME" and action.option_strings != ["--name"]:
        action.choices = sorted({*plugins.names("tasks"), *plugins.names("data")})
    elif action.dest in ("run", "resume", "runs", "out", "folder"):
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.dest in ("file", "checkpoint"):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
