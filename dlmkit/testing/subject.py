"""A plugin under examination: its class, its recipe made small, and the runs that several checks look at."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast
from unittest import mock

import yaml
from lightning.pytorch import LightningModule

from dlmkit import plugins
from dlmkit import recipe as recipes
from dlmkit.errors import UserError
from dlmkit.testing.check import NotReached
from dlmkit.testing.probes import Gradients

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from dlmkit.engine import Engine

__all__ = ["BATCHES", "STEPS", "VALIDATION", "Outcome", "Show", "Subject", "arguments", "recipe_callbacks"]

# A small run: epochs of 4 batches, a validation after every third batch, so that batch 2 lies within an epoch, batch 3
# before a validation, batch 4 at an epoch's end, and the run ends with a validation in the middle of an epoch.
BATCHES, VALIDATION, STEPS = 4, 3, 6
_TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "logger": False,
    "max_epochs": -1,
    "max_steps": STEPS,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "limit_train_batches": BATCHES,
    "limit_val_batches": 2,
    "limit_test_batches": 2,
    "val_check_interval": VALIDATION,
    "check_val_every_n_epoch": None,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
}
_BATCH_SIZE = 4  # the smallest that two processes can share with more than one example each

Show = Literal["always", "once", "never"]
T = TypeVar("T")


class _Once(Generic[T]):
    def __init__(self, make: Callable[[Any], T], need: str) -> None:
        self.make, self.need = make, need
        self.__doc__ = make.__doc__

    def __get__(self, subject: Any, owner: type | None = None) -> T:
        made = vars(subject).setdefault("_made", {})
        name = self.make.__name__
        if name not in made:
            try:
                made[name] = self.make(subject), None
            except NotReached as error:
                made[name] = None, str(error)
                raise
            except Exception:
                made[name] = None, f"not reached: it takes {self.need}"
                raise
        result, failed = made[name]
        if failed:
            raise NotReached(failed)
        return cast(T, result)


def once(need: str) -> Callable[[Callable[[Any], T]], _Once[T]]:
    """Make a property that is computed once; a failure is told once, and after that only that there was one.

    Args:
        need: What a check that comes later lacks then.
    """
    return lambda make: _Once(make, need)


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Args:
        code: Its exit status.
        output: What it printed.
        errors: What it printed as errors.
        warned: The warnings that would have been on the screen, with the file that each is about.
    """

    code: int
    output: str
    errors: str
    warned: list[tuple[str, str]]

    def expect(self, *codes: int) -> Outcome:
        """Itself, if it ended as it should.

        Raises:
            UserError: With the command's own words, if it did not.
        """
        if self.code in codes:
            return self
        lines = [line.removeprefix("dlmkit: ") for line in self.errors.splitlines() if line.startswith("dlmkit: ")]
        text = " | ".join(lines) or self.errors.strip()[-500:] or f"the command ended with status {self.code}"
        raise UserError(text)


class Subject:
    """An installed plugin.

    Args:
        word: Its name, as ``dlmkit list`` shows it.

    Raises:
        UserError: If nothing installed has that name.
    """

    def __init__(self, word: str) -> None:
        self.word = word
        self.entry = plugins.find("tasks", word)
        self._scratch = tempfile.TemporaryDirectory(prefix="dlmkit-check-")
        self.folder = Path(self._scratch.name).resolve()
        self.shown: Any = {}  # what ``show`` returned or raised when a run last called it

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._scratch.cleanup()

    @property
    def package(self) -> str:
        """The top package, such as ``dlmkit_lstm``."""
        return self.entry.value.partition(":")[0].partition(".")[0]

    @property
    def switches(self) -> Mapping[str, str]:
        """The checks that the task switches off, with its reasons."""
        try:
            found = getattr(plugins.load(self.entry), "conformance", {})
        except UserError:
            return {}  # the checks that need the task tell
        return found if isinstance(found, Mapping) else {}

    @once("an import that works")
    def task_type(self) -> type[LightningModule]:
        """The class of the task."""
        found = plugins.load(self.entry)
        if not (isinstance(found, type) and issubclass(found, LightningModule)):
            what = f"{self.entry.value} is no LightningModule"
            raise UserError(what, "name the task's class in pyproject.toml, under dlmkit.tasks", self.entry.package)
        return found

    @once("a default recipe")
    def recipe(self) -> recipes.Recipe:
        """The default recipe as it is."""
        found = [e for e in plugins.installed() if e.kind == "recipes" and e.package == self.entry.package]
        mine = next((e for e in found if e.name == self.entry.name and not e.fault), None)
        if mine is None:
            file = f"{self.package}/recipes/{self.entry.name}.yaml"
            remedy = f'write {file}, and {self.entry.name} = "{self.package}.recipes" under dlmkit.recipes'
            raise UserError(f"there is no recipe called {self.entry.name}", remedy, "pyproject.toml")
        return recipes.read(mine.value)

    @once("a default recipe")
    def small(self) -> Path:
        """What is laid over the recipe for a run of seconds."""
        from dlmkit.engine import Allowed

        Allowed().apply(self.recipe)  # before importing a class that it names
        known = arguments(self.data_type)
        given = self.recipe.config["data"].get("init_args") or {}
        batch_size = given.get("batch_size", known.get("batch_size"))
        smaller = {"batch_size": batch_size, "num_workers": 0}
        if isinstance(batch_size, int):  # else the command tells what is wrong with it
            smaller["batch_size"] = min(batch_size, _BATCH_SIZE)
        data = {"init_args": {k: v for k, v in smaller.items() if k in known}}
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump({"data": data, "trainer": _TRAINER}))
        return path

    @once("a default recipe")
    def data_type(self) -> type:
        """The class of the recipe's data module."""
        path = self.recipe.config["data"]["class_path"]
        module, _, name = path.rpartition(".")
        entry = next((e for e in self.recipe.used if e.path == path), None)
        found = plugins.load(entry or plugins.Entry("data", name, f"{module}:{name}", module, ""))
        if not isinstance(found, type):
            raise UserError(f"{path} is no class", "name a data module", str(self.recipe.path))
        return found

    @property
    def overrides(self) -> list[str]:
        """What the task itself asks for in order to be small: words such as ``--model.hidden_size=32``."""
        return [str(word) for word in getattr(self.task_type, "conformance_options", ())]

    def build(self, *words: str, callbacks: tuple[Callback, ...] = ()) -> Engine:
        """Build data, task and trainer as the command does, small and without callbacks of the recipe.

        Args:
            words: Overrides, such as ``--trainer.max_steps=5``.
            callbacks: What looks on.
        """
        from dlmkit.engine import build

        words = ("--trainer.callbacks=[]", *self.overrides, *words)
        recipe = recipes.read(self.word, words, [str(self.small)])
        return build(recipe, callbacks, trainer_options={"default_root_dir": str(self.folder)})

    def run(self, name: str, *words: str, show: Show = "never") -> Outcome:
        """``dlmkit run`` on the small recipe.

        Args:
            name: The run's own name.
            words: Overrides.
            show: When to show media, which takes most of the time of a small run.
        """
        runs = str(self.folder / "runs")
        words = ("run", self.word, "--config", str(self.small), "--runs", runs, "--name", name, *self.overrides, *words)
        return self.command(*words, show=show)

    def command(self, *words: str, show: Show = "never") -> Outcome:
        """Give a command in this process, keeping what it prints.

        Args:
            words: What follows ``dlmkit``.
            show: When to show media.
        """
        from dlmkit.cli import main

        output, errors = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(output))
            stack.enter_context(contextlib.redirect_stderr(errors))
            log = stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("default")
            stack.enter_context(self._sparing(show))
            try:
                code = main(words)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        warned = [(str(w.filename), " ".join(str(w.message).split())) for w in log or []]
        return Outcome(code, output.getvalue(), errors.getvalue(), warned)

    @contextlib.contextmanager
    def _sparing(self, show: Show) -> Iterator[None]:
        """Leave out the baselines, and what is not to be shown."""
        own = getattr(self.task_type, "show", None)
        calls = 0

        def once_or_never(task: Any, batch: Any) -> Any:
            nonlocal calls
            calls += 1
            if own is None or show == "never" or calls > 1:
                return {}
            try:
                self.shown = own(task, batch)
            except Exception as error:
                self.shown = error
                raise
            return self.shown

        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(self.data_type, "baselines", lambda data: {}, create=True))
            if own is not None and show != "always":
                stack.enter_context(mock.patch.object(self.task_type, "show", once_or_never))
            yield

    @once("a run of the default recipe")
    def reference(self) -> tuple[Path, Outcome]:
        """A small run of the default recipe: its folder, and what the command did."""
        outcome = self.run("reference", show="once").expect(0)
        return self.folder / "runs" / "reference", outcome

    @once("a few steps of training")
    def trained(self) -> tuple[Engine, Gradients]:
        """The engine after a few steps of training, and the gradients that were seen."""
        gradients = Gradients()
        engine = self.build("--trainer.limit_val_batches=0", callbacks=(gradients,))
        engine.trainer.fit(engine.model, engine.datamodule)
        return engine, gradients


def arguments(cls: type) -> dict[str, Any]:
    """The constructor's options with their defaults, as a recipe can give them."""
    from lightning.pytorch.cli import LightningArgumentParser

    parser = LightningArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(cls, fail_untyped=False)
    defaults = parser.get_defaults()
    return {name: defaults.get(name) for name in names}


def recipe_callbacks(recipe: recipes.Recipe, *further: dict[str, Any]) -> str:
    """The option that gives the trainer the recipe's callbacks and further ones, as one word of the command line."""
    found = recipe.config["trainer"].get("callbacks") or []
    every = [*(found if isinstance(found, list) else [found]), *further]
    return f"--trainer.callbacks={json.dumps(every, separators=(',', ':'))}"
