"""The one error a user meets: where it is, what it is, and what to do about it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Faults", "UserError", "at_least", "did_you_mean", "names_beside"]


class UserError(Exception):
    """A fault in what the user gave; the command prints it as one line and exits with 2.

    Args:
        what: The fault, with the value that caused it.
        remedy: What to do about it.
        where: File and line (``my.yaml:12``), the path that it concerns, or the option; before an option such as
            ``model.width`` file and line are put where the recipe has it.
    """

    def __init__(self, what: str, remedy: str = "", where: str = "") -> None:
        super().__init__(what, remedy, where)
        if what.startswith("Caught UserError in "):  # in a loading process, by which torch wraps it in a traceback
            what = what.rpartition(f"{__name__}.UserError: ")[2]
        self.what = " ".join(what.split())
        self.remedy = " ".join(remedy.split())
        self.where = where

    def lines(self) -> list[str]:
        """The lines to print, one for each fault."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return [f"{head}; {self.remedy}" if self.remedy else head]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class Faults(UserError):
    """Several faults at once, so that a recipe is mended in one go.

    Args:
        faults: The faults, in the order in which they are to be read.
    """

    def __init__(self, faults: Iterable[UserError]) -> None:
        self.faults = list(faults)
        super().__init__(f"{len(self.faults)} faults")

    def lines(self) -> list[str]:
        """One line for each fault."""
        return [line for fault in self.faults for line in fault.lines()]


def at_least(least: float, where: str, below: float = math.inf, **values: float) -> None:
    """Refuse a number that is too small, or too large.

    Args:
        least: What each has to be at least.
        where: What stands before its name in an error: ``model.``, ``data.`` or ``--``.
        below: What each has to be less than.
        **values: The numbers by name.

    Raises:
        UserError: If one is out of this range, or is no number.
    """
    ends = f" and less than {below}" if below < math.inf else ""
    for name, value in values.items():
        if not least <= value < below:
            raise UserError(f"{name} is {value}", f"give at least {least}{ends}", f"{where}{name}")


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Phrase the nearest of the known words as a question.

    Args:
        word: What the user wrote.
        known: The words that would have been right.
        otherwise: The answer when nothing known is near.

    Returns:
        ``did you mean channels?``, or ``otherwise``.
    """
    near = difflib.get_close_matches(str(word), [str(k) for k in known], n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def names_beside(path: Path) -> list[str]:
    """The names in a path's folder, of which one may be what was meant; none if the folder cannot be read."""
    try:
        return sorted(found.name for found in path.parent.iterdir())
    except OSError:
        return []
