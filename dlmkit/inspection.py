"""``dlmkit show``: what a plugin, a data module or a recipe is, from its code and its metadata."""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit import plugins
from dlmkit import recipe as recipes
from dlmkit.errors import UserError, did_you_mean
from dlmkit.notation import plain_equation, plain_prose

if TYPE_CHECKING:
    from rich.console import Console

    from dlmkit.options import Option

__all__ = ["Description", "describe", "show"]

_KIND = {"tasks": "task", "data": "data module"}
_HEADS = ("name", "type", "default", "meaning")
_WIDEST = 18  # of the columns between the first and the last


def show(options: argparse.Namespace) -> int:
    """``dlmkit show``: a task, a data module or a recipe."""
    found = _find(options.name)
    if isinstance(found, Path):
        _show_recipe(found)
        return 0
    from dlmkit.verbs import quiet

    with quiet():
        _show_class(found)
    return 0


def _find(name: str) -> plugins.Entry | Path:
    """The class that has a name, else the recipe; nothing is imported for that.

    Raises:
        UserError: If nothing has that name.
    """
    package, _, word = name.rpartition(":")
    for kind in ("tasks", "data"):
        if any(e.kind == kind and e.name == word and package in ("", e.package) for e in plugins.installed()):
            return plugins.find(kind, name)
    stem = re.sub(r"\.ya?ml$", "", name)
    if Path(name).is_file() and stem != name:
        return Path(name)
    if stem.rpartition(":")[2] in plugins.names("recipes"):
        return recipes.locate(stem)
    known = [known for kind in plugins.KINDS for known in plugins.names(kind)]
    remedy = did_you_mean(name, dict.fromkeys(known), "dlmkit list shows what is installed")
    raise UserError(f"no task, data module or recipe is called {name}", remedy)


# -------------------------------------------------------------------------------------------------------- docstrings


@dataclass
class Description:
    """A docstring in its parts, without markup.

    Args:
        title: Its first line.
        equations: The displayed equations, a text of one or more lines each.
        prose: The paragraphs.
        references: The papers.
    """

    title: str = ""
    equations: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)


def describe(docstring: str) -> Description:
    """Take a docstring apart; the sections other than References (Args, Raises) are left out.

    Args:
        docstring: As ``inspect.getdoc`` gives it.
    """
    body, *sections = re.split(r"^(?=(?:[A-Z]\w+):[ \t]*$\n[ \t]+\S)", docstring, flags=re.MULTILINE)
    title, _, rest = body.strip().partition("\n")
    about = Description(plain_prose(title))
    for block in re.split(r"\n[ \t]*\n(?![ \t])", rest.strip()):
        head, directive, equation = block.partition(".. math::")
        if directive:
            about.equations.append(plain_equation(equation))
        if head.strip():
            about.prose.append(" ".join(plain_prose(head).split()))
    for section in sections:
        if section.startswith("References:"):
            about.references = _references(section.partition("\n")[2])
    return about


def _references(text: str) -> list[str]:
    """One entry for each paper: a line that begins with ``|`` begins another once the one before has its year."""
    papers: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        words = line.removeprefix("|").strip()
        if papers and not (line.startswith("|") and re.search(r"\d{4}\)", papers[-1])):
            papers[-1] += f" {words}"
        else:
            papers.append(words)
    return [plain_prose(paper) for paper in papers]


# ------------------------------------------------------------------------------------------------------------ classes


def _show_class(entry: plugins.Entry) -> None:
    cls = plugins.load(entry)
    about = describe(inspect.getdoc(cls) or "")
    screen = _Screen()
    screen.title(entry.name, about.title)
    screen.line(f"{_KIND[entry.kind]} of {entry.package} {entry.version} ({entry.path})")
    screen.block("papers" if len(about.references) > 1 else "paper", about.references)
    screen.block("equations", [line for equation in about.equations for line in equation.splitlines()])
    batch = _batch(cls)
    prose = about.prose if batch in " ".join(about.prose) else [*about.prose, batch]
    if prose:
        screen.head("about")
    for number, paragraph in enumerate(prose):
        screen.paragraph(paragraph, gap=number > 0)
    _show_options(screen, entry, cls)
    if entry.kind == "data":
        from dlmkit.options import told

        screen.head("tells", "a task that has a parameter of that name")
        screen.columns(list(told(cls).items()))
    own = [e for e in plugins.installed() if e.kind == "recipes" and e.package == entry.package and _uses(e, entry)]
    if own:
        screen.head("recipes")
        screen.columns([(f"dlmkit run {e.name}", _first_comment(Path(e.value))) for e in own])


def _batch(cls: type) -> str:
    """What a batch holds, as the class says it or else the next one above it that does."""
    for base in cls.__mro__[:-1]:
        for paragraph in describe(inspect.getdoc(base) or "").prose:
            _, head, rest = paragraph.partition("A batch holds")
            if head:
                return head + rest
    return ""


def _uses(recipe: plugins.Entry, entry: plugins.Entry) -> bool:
    """Whether a recipe names a class; one that cannot be read does not, and ``dlmkit doctor`` tells why."""
    path = Path(recipe.value)
    try:
        return not recipes.is_overlay(path) and entry in recipes.read(str(path)).used
    except UserError:
        return False


def _show_options(screen: _Screen, entry: plugins.Entry, cls: Any) -> None:
    from dlmkit.options import class_options, method_options

    word = "model" if entry.kind == "tasks" else "data"
    options = class_options(cls)
    if options:
        screen.head("options", f"{word}.init_args in a recipe, --{word}.NAME=VALUE on the command line")
        screen.columns(_rows(options, "required, or from the data" if word == "model" else "required"), _HEADS)
    if word == "data" or not _generates(cls):
        return
    screen.head("generating", "dlmkit sample RUN --NAME=VALUE")
    screen.columns(_rows(method_options(cls, "sample"), "required"), _HEADS)


def _rows(options: Iterable[Option], without_default: str) -> list[tuple[str, ...]]:
    from dlmkit.notation import plain_type

    return [
        (
            "-n" if o.name == "n" else o.name,
            plain_type(o.written),
            without_default if o.required else _value(o.default),
            o.meaning,
        )
        for o in options
    ]


def _generates(cls: type) -> bool:
    """Whether a task has a ``sample`` of its own, or inherits one that does something."""
    from dlmkit.tasks.task import Task

    return callable(getattr(cls, "sample", None)) and cls.sample is not Task.sample  # type: ignore[attr-defined]


def _value(default: Any) -> str:
    """A default as a recipe would have it; a class by its name and what is not its own default."""
    if isinstance(default, dict) and "class_path" in default:
        given = ", ".join(f"{k}={_value(v)}" for k, v in (default.get("init_args") or {}).items())
        return f"{default['class_path'].rpartition('.')[2]}({given})"
    if isinstance(default, str):
        return default if re.fullmatch(r"[\w./+-]+", default) else json.dumps(default, ensure_ascii=False)
    try:
        return json.dumps(default)
    except TypeError:
        return "set by the code"


# ------------------------------------------------------------------------------------------------------------ recipes


def _show_recipe(path: Path) -> None:
    owner = next((e for e in plugins.installed() if e.kind == "recipes" and Path(e.value) == path), None)
    name = owner.name if owner else str(path)
    overlay = recipes.is_overlay(path)
    kind = "overlay" if overlay else "recipe"
    screen = _Screen()
    screen.title(name, _first_comment(path))
    screen.line(f"{kind} of {owner.package} {owner.version} ({path})" if owner else f"{kind} ({path})")
    screen.head("text")
    for line in path.read_text(encoding="utf-8").rstrip().splitlines():
        screen.line(f"  {line}")
    if not overlay:
        screen.head("names")
        screen.columns(_named_classes(recipes.read(str(path))))
    screen.head("next")
    run = ("dlmkit run RECIPE --config {}", "lay it over a recipe") if overlay else ("dlmkit run {}", "train it")
    copied = [("dlmkit copy {}", "make it your own")] if owner else []
    screen.columns([(command.format(shlex.quote(name)), text) for command, text in [run, *copied]])


def _named_classes(recipe: recipes.Recipe) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for word, kind in (("model", "tasks"), ("data", "data")):
        target = recipe.config[word]["class_path"]
        entry = next((e for e in recipe.used if e.kind == kind), None)
        rows.append((word, f"{entry.name}: {target} of {entry.package} {entry.version}" if entry else target))
    return rows


def _first_comment(path: Path) -> str:
    """The first line of a recipe's opening comment that is not the command."""
    comments = [line.lstrip("# ").strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    return next((line for line in comments if not line.startswith("dlmkit ")), "")


# ------------------------------------------------------------------------------------------------------------- screen


class _Screen:
    """Prints headed blocks, no wider than 100 columns; nothing in a text is taken for markup."""

    def __init__(self) -> None:
        from rich.console import Console

        width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
        self.console: Console = Console(width=width, highlight=False, markup=False, emoji=False)

    def title(self, name: str, text: str) -> None:
        from rich.text import Text

        whole = textwrap.fill(f"{name} · {text}" if text else name, self.console.width, break_on_hyphens=False)
        self.console.print(Text(whole[: len(name)], style="bold") + Text(whole[len(name) :]), soft_wrap=True)

    def head(self, name: str, note: str = "") -> None:
        from rich.text import Text

        self.console.print(Text(f"\n{name}", style="bold cyan") + Text(f"   {note}" if note else "", style="dim"))

    def line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def block(self, head: str, lines: list[str]) -> None:
        """A head and its lines; nothing where there are none."""
        if lines:
            self.head(head)
        for text in lines:
            self.paragraph(text, hanging=4)

    def paragraph(self, text: str, gap: bool = False, hanging: int = 2) -> None:
        """Wrapped text, the lines after the first indented by ``hanging``."""
        wrapped = textwrap.fill(
            text,
            self.console.width,
            initial_indent="  ",
            subsequent_indent=" " * hanging,
            break_on_hyphens=False,
            break_long_words=False,
        )
        self.console.print(f"\n{wrapped}" if gap else wrapped, soft_wrap=True)

    def columns(self, rows: list[tuple[str, ...]], heads: tuple[str, ...] = ()) -> None:
        """Aligned columns, wrapped where they are too wide; the last takes the width that is left."""
        table = [heads, *rows] if heads else rows
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        widths[1:] = [min(width, _WIDEST) for width in widths[1:]]
        widths[-1] = self.console.width - sum(widths[:-1]) - 2 * len(widths)
        for number, row in enumerate(table):
            cells = [textwrap.wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
            for words in itertools.zip_longest(*cells, fillvalue=""):
                line = "  ".join(f"{word:<{width}}" for word, width in zip(words, widths, strict=True))
                self.console.print(f"  {line}".rstrip(), soft_wrap=True, style="dim" if heads and not number else None)
