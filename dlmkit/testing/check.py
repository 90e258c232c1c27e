"""What a check is, and how one is kept from reaching into the next."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlmkit.errors import Faults, UserError

if TYPE_CHECKING:
    from dlmkit.testing.subject import Subject

__all__ = ["Check", "NotReached", "Unsuitable", "check", "contained", "explain", "tell"]


class NotReached(Exception):
    """Another check has told already why this one cannot be made."""


class Unsuitable(Exception):
    """The check asks for something that this plugin does not have; the text says what."""


@dataclass(frozen=True)
class Check:
    """One promise that a plugin is held to.

    Args:
        name: The word by which a task switches it off.
        text: What is promised, in one line.
        function: Raises a UserError where the promise is broken; may return a line on what was measured.
        slow: Whether it starts processes, so that it is left out unless asked for.
        optional: Whether a task may switch it off.
    """

    name: str
    text: str
    function: Callable[[Subject], str | None]
    slow: bool = False
    optional: bool = True

    def __call__(self, subject: Subject) -> str | None:
        """Check a plugin, leaving the process as it was.

        Args:
            subject: The plugin.

        Returns:
            What was measured, if that is worth a line.

        Raises:
            UserError: If the promise is broken; what the author should change is in it.
            Unsuitable: If the plugin has nothing that could be checked.
            NotReached: If an earlier check has failed for the same reason.
        """
        with contained():
            return self.function(subject)


def check(text: str, *, slow: bool = False, optional: bool = True) -> Callable[[Callable[..., str | None]], Check]:
    """Turn a function into the check of its name.

    Args:
        text: What is promised, in one line.
        slow: Whether it starts processes.
        optional: Whether a task may switch it off.
    """
    return lambda function: Check(function.__name__, text, function, slow, optional)


def tell(faults: list[UserError]) -> None:
    """Raise what was found, if anything was.

    Args:
        faults: In the order in which they are to be read.

    Raises:
        UserError: If there is at least one.
    """
    if faults:
        raise Faults(faults)


def explain(error: BaseException, package: str) -> str:
    """Say in one line what was raised, and where in the author's own code.

    Args:
        error: Anything that was raised.
        package: The plugin's top package, such as ``dlmkit_lstm``.
    """
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if package in Path(f.filename).parts or Path(f.filename).stem == package]
    frame = (own or frames)[-1]
    text = " ".join(str(error).split())
    return f"{short(frame.filename)}:{frame.lineno}: {type(error).__name__}: {text}"


def short(filename: str) -> str:
    """A file as its package and name."""
    return str(Path(*Path(filename).parts[-2:]))


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Put back what a training run changes in its process; the checks decide which warnings matter."""
    import numpy as np
    import torch

    environment, threads = dict(os.environ), torch.get_num_threads()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    known = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    levels = {logger: logger.level for logger in known}
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if in_main else {}
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)  # the batches are small, and other work may share the machine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        for logger, level in levels.items():
            logger.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
