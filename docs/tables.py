"""Writes what other files repeat of the code: the README's plugins and recipes, the commands' help, what to install.

Usage: python docs/tables.py [--check]      (--check changes nothing, and fails where a page is out of date)
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def plugins() -> str:
    """A table row for each folder in plugins/, from its own pyproject.toml."""
    rows = ["| plugin | what it is | run it |", "|---|---|---|"]
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        name = file.parent.name
        command = f"`dlmkit run {name}`" if "dlmkit.tasks" in project["entry-points"] else "data for the others"
        rows.append(f"| [{name}](plugins/{name}/README.md) | {project['description']} | {command} |")
    return "\n".join(rows)


def gallery() -> str:
    """The first picture of each plugin's page, four to a row."""
    cells = []
    for page in sorted(ROOT.glob("plugins/*/README.md")):
        found = re.search(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8"))
        if found:
            name, file = page.parent.name, (page.parent / found[2]).resolve().relative_to(ROOT).as_posix()
            image = f'<img src="{file}" alt="{found[1]}" width="190">'
            cells.append(f'<td align="center"><a href="plugins/{name}/README.md">{image}<br>{name}</a></td>')
    rows = [
        "".join(["<tr>", *(f"\n{cell}" for cell in cells[at : at + 4]), "\n</tr>"]) for at in range(0, len(cells), 4)
    ]
    return "\n".join(["<table>", *rows, "</table>"])


def recipes() -> str:
    """A table row for each lecture-scale recipe, from its opening comment."""
    rows = ["| recipe | what it is |", "|---|---|"]
    for file in sorted(ROOT.glob("recipes/*.yaml")):
        rows.append(f"| [{file.stem}](recipes/{file.name}) | {_about(file)} |")
    for folder in sorted({file.parent for file in ROOT.glob("recipes/*/*.yaml")}):
        files = sorted(folder.glob("*.yaml"))
        names = ", ".join(f"[{file.stem}](recipes/{folder.name}/{file.name})" for file in files)
        if len(files) > 8:
            names = f"{len(files)} recipes: [{files[0].stem}](recipes/{folder.name}/{files[0].name}) and its like"
        rows.append(f"| {folder.name}/… | {names} |")
    return "\n".join(rows)


def _about(file: Path) -> str:
    """The second line of a recipe's opening comment."""
    comments = [line.lstrip("# ") for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return comments[1]


def requirements() -> str:
    """What ``pip install -r requirements.txt`` installs: the core, and every plugin, with what makes it fast."""
    rows = ["-e ."]
    for file in _plugins():
        extras = tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("optional-dependencies", {})
        chosen = "[fast]" if "fast" in extras else ""  # other extras are large, and for a few users
        rows.append(f"-e plugins/{file.parent.name}{chosen}")
    return "\n".join(rows)


def _plugins() -> list[Path]:
    """The project file of each plugin, those that others depend on first."""
    files = sorted(ROOT.glob("plugins/*/pyproject.toml"))
    return sorted(files, key=lambda file: any(_needs(other, file.parent.name) for other in files), reverse=True)


def _needs(file: Path, name: str) -> bool:
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    return any(need.startswith((f"dlmkit-{name}>", f"dlmkit-{name}[")) for need in project["dependencies"])


def commands() -> str:
    """The help of every verb."""
    os.environ["COLUMNS"] = "100"
    from dlmkit.cli import parser

    top = parser()
    (verbs,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    parts = [f"```text\n{top.format_help().strip()}\n```"]
    parts += [f"## {name}\n\n```text\n{verb.format_help().strip()}\n```" for name, verb in verbs.choices.items()]
    return "\n\n".join(parts)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"gallery": gallery, "plugins": plugins, "recipes": recipes},
    "requirements.txt": {"plugins": requirements},
    "docs/commands.md": {"commands": commands},
}


def main() -> int:
    """Write or check every generated part; 1 if one is out of date."""
    check = "--check" in sys.argv[1:]
    stale = []
    for page, parts in PAGES.items():
        path = ROOT / page
        text = fresh = path.read_text(encoding="utf-8")
        for name, make in parts.items():
            opens, closes = ("<!--", " -->") if path.suffix == ".md" else ("#", "")
            begin, end = f"{opens} {name}: python docs/tables.py{closes}", f"{opens} end of {name}{closes}"
            head, found, rest = fresh.partition(begin)
            if not found or end not in rest:
                raise SystemExit(f"{page}: the lines {begin} and {end} are missing")
            fresh = f"{head}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
        if fresh != text:
            stale.append(page)
            if not check:
                path.write_text(fresh, encoding="utf-8")
    for page in stale:
        print(f"{page} {'is out of date: run python docs/tables.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
