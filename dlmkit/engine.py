"""From a recipe to data, model and trainer, over LightningCLI: all is checked and built before anything is written."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from dlmkit import plugins
from dlmkit.callbacks.checkpoints import WholeFiles
from dlmkit.data.module import DataModule
from dlmkit.diagnosis import diagnose, fill_defaults
from dlmkit.errors import Faults, UserError
from dlmkit.options import told
from dlmkit.recipe import Recipe
from dlmkit.tasks.task import Task

__all__ = ["Allowed", "Engine", "build", "data_and_model", "links", "load_checkpoint", "load_task"]

# Below these a recipe may name any class; naming torch as a whole would let a recipe run shell commands.
_TRUSTED = ("dlmkit", "torch.nn", "torch.optim", "torchmetrics", "lightning.pytorch")

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # in glibc's malloc.h


@dataclass(frozen=True)
class Allowed:
    """The packages whose classes a recipe may name.

    Args:
        packages: What the user allows beyond dlmkit, its plugins and the trusted parts of the stack.
    """

    packages: tuple[str, ...] = ()

    def apply(self, recipe: Recipe) -> None:
        """Tell jsonargparse, and check the classes of model and data, which are imported first.

        Raises:
            UserError: If the recipe names another class.
        """
        paths = {word: recipe.config[word]["class_path"] for word in ("model", "data")}
        plugin_packages = {e.path.partition(".")[0] for e in plugins.installed() if e.kind != "recipes"}
        used = plugin_packages & {path.partition(".")[0] for path in paths.values()}
        allowed = [*_TRUSTED, *self.packages, *sorted(used)]
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed)
        for word, path in paths.items():
            if not any(path == p or path.startswith(f"{p}.") for p in allowed):
                remedy = f"if you trust it, add --allow {path.partition('.')[0]}"
                what = f"{path} is in none of the packages that a recipe may name"
                raise recipe.fault((word, "class_path"), what, remedy)


class Engine(LightningCLI):
    """LightningCLI that is given a read recipe instead of the command line.

    Args:
        recipe: Read, merged, its names resolved.
        callbacks: What this run does beside training.
        trainer_options: Trainer arguments that are the command's own and are not saved.
    """

    def __init__(
        self, recipe: Recipe, callbacks: Sequence[Callback] = (), trainer_options: dict[str, Any] | None = None
    ) -> None:
        self.recipe = recipe
        self.trainer_options = trainer_options or {}
        self.own_callbacks = list(callbacks)
        types = data_and_model(recipe)
        self.model_type, self.data_type = types["model"], types["data"]
        self.links = links(self.data_type, self.model_type)
        self.typed = self._take_typed()
        super().__init__(
            run=False,
            args={},
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            seed_everything_default=1,
            parser_kwargs={"exit_on_error": False},
            trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 10},
        )

    def _take_typed(self) -> dict[str, Any]:
        """Values that the user gave for what the data knows; they are compared with it once it is built."""
        given = self.recipe.config["model"].get("init_args") or {}
        typed = self.recipe.typed(("model",))
        taken = {name: given.pop(name) for name in self.links if name in given}
        if self.recipe.saved:  # the run wrote them; the checkpoint will tell if they have changed
            return {name: value for name, value in taken.items() if name in typed}
        return taken

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what the data knows to the model's parameters of the same name."""
        for name in self.links:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Check the recipe's configuration; all faults are told at once."""
        config = fill_defaults(self.recipe.config, {"model": self.model_type, "data": self.data_type})
        refused = None
        try:
            self.config = parser.parse_object(copy.deepcopy(config))  # which it would change
        except Exception as error:
            refused = error
        faults = diagnose(self.recipe, config, self._types(), self.links, nulls_only=refused is None)
        if faults:
            raise Faults(faults)
        if refused is not None:
            raise _from_jsonargparse(self.recipe, refused)

    def _types(self) -> dict[str, type]:
        return {"model": self.model_type, "data": self.data_type, "trainer": Trainer}

    def instantiate_classes(self) -> None:
        """Build the data, then the model with what the data knows, then the trainer, and try what comes later."""
        try:
            super().instantiate_classes()
        except UserError as error:
            raise self.recipe.located(error) from error
        except (ValueError, TypeError, RuntimeError) as error:
            raise self._refused(error) from error
        self._write_links_back()
        self._try_optimiser()
        self._check_interval()

    def _refused(self, error: Exception) -> UserError:
        """A constructor's own complaint about its options, at the place of the class."""
        chain: list[BaseException] = [error]
        while following := chain[-1].__cause__ or chain[-1].__context__:
            chain.append(following)  # jsonargparse wraps what a constructor raises
        told = next((e for e in chain if isinstance(e, UserError)), None)
        if told is not None:
            return self.recipe.located(told)
        error = next((e for e in reversed(chain) if isinstance(e, Exception)), error)
        frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        word = "data" if any(isinstance(owner, self.data_type) for owner in frames) else "model"
        cls = self.data_type if word == "data" else self.model_type
        what = f"{cls.__name__} cannot be made: {_first_line(error)}"
        return self.recipe.fault((word, "class_path"), what, f"change {word}.init_args")

    def _try_optimiser(self) -> None:
        """Make the optimisers and their schedules once, so that what they refuse is known before there is a run."""
        task: Any = self.model
        if not isinstance(task, Task):
            return
        for option, make, parameters, schedule_option, schedule in task.optimisations():
            name = option
            try:
                optimizer = make(parameters)
                if isinstance(optimizer, torch.optim.LBFGS) and getattr(self.trainer.precision_plugin, "scaler", None):
                    what = "L-BFGS computes the loss several times in a step, which the loss scale of float16 forbids"
                    raise self.recipe.fault(("trainer", "precision"), what, "give bf16-mixed, or another optimizer")
                name = schedule_option
                if schedule is not None:
                    schedule(optimizer)
            except (ValueError, TypeError) as error:
                what = f"{name} cannot be made: {_first_line(error)}"
                raise self.recipe.fault(("model", "init_args", name), what, "change its options") from error

    def _check_interval(self) -> None:
        """Lightning finds a validation interval that is longer than an epoch only when training starts."""
        trainer, data = self.trainer, self.datamodule
        every = trainer.val_check_interval
        if not isinstance(data, DataModule) or not isinstance(every, int) or trainer.check_val_every_n_epoch is None:
            return
        batches = data.batches("train")
        if every > batches and trainer.limit_val_batches:
            what = f"val_check_interval is {every}, but an epoch has {batches} batches"
            remedy = "give fewer, or count over epochs with check_val_every_n_epoch: null"
            raise self.recipe.fault(("trainer", "val_check_interval"), what, remedy)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The recipe's trainer with the command's own callbacks; on the screen is only what dlmkit prints."""
        settings = dict(self._get(self.config_init, "trainer", default={}))
        given = settings.get("callbacks") or []
        settings["callbacks"] = [*self.own_callbacks, *(given if isinstance(given, (list, tuple)) else [given])]
        settings["logger"] = settings.get("logger") or False
        settings |= {"enable_progress_bar": False, "enable_model_summary": False} | self.trainer_options
        try:
            trainer = Trainer(**settings)
        except (MisconfigurationException, ValueError, TypeError, RuntimeError, ModuleNotFoundError) as error:
            raise trainer_fault(self.recipe, settings, error) from error
        WholeFiles.serve(trainer)
        return trainer

    def _write_links_back(self) -> None:
        """Complete the configuration with what the data said; contradict what was typed otherwise."""
        faults = []
        for name in self.links:
            value = getattr(self.datamodule, name)
            self.config.model.init_args[name] = value
            if name in self.typed and self.typed[name] != value:
                what = f"{name} is {self.typed[name]!r}, but the data says {value!r}"
                faults.append(
                    self.recipe.fault(("model", "init_args", name), what, "leave it out: it follows the data")
                )
        if faults:
            raise Faults(faults)

    def config_text(self) -> str:
        """The whole resolved configuration as YAML that plain LightningCLI reads."""
        text: str = self.parser.dump(self.config, skip_link_targets=False, skip_unset=False, skip_validation=True)
        head = "# The whole configuration of a dlmkit run. Plain LightningCLI reads it too: fit --config config.yaml\n"
        return head + text

    def config_values(self) -> dict[str, Any]:
        """The same as plain values."""
        values: dict[str, Any] = yaml.safe_load(self.config_text())
        return values


def build(
    recipe: Recipe,
    callbacks: Sequence[Callback] = (),
    allowed: Allowed = Allowed(),
    trainer_options: dict[str, Any] | None = None,
) -> Engine:
    """Check a recipe and build its data, model and trainer; nothing is written.

    Args:
        recipe: From :func:`dlmkit.recipe.read`.
        callbacks: What the run does beside training.
        allowed: Packages that the recipe may name classes of.
        trainer_options: Trainer arguments that are the command's own.

    Raises:
        UserError: For every fault of the recipe, a line each.
    """
    allowed.apply(recipe)
    keep_freed_memory()
    return Engine(recipe, callbacks, trainer_options)


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, where it is glibc.

    By default glibc maps every large block anew and gives it back when it is freed, so that each training step has all
    its activations paged in again; ``benchmarks/kept_memory.py`` measures what that takes. What is kept here is used by
    the next step; a process's memory then stays at its highest. Whoever sets glibc's own variables (``MALLOC_...``) is
    left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_MMAP_MAX, 0)
        set_option(_TRIM_THRESHOLD, -1)  # never


def load_task(recipe: Recipe, allowed: Allowed = Allowed()) -> LightningModule:
    """Build only the model of a run's saved configuration; its data need not be there any more.

    Args:
        recipe: From :func:`dlmkit.recipe.from_config`.
        allowed: Packages that it may name classes of.
    """
    allowed.apply(recipe)
    _import(recipe, "model", LightningModule)
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", fail_untyped=False, required=True)
    config = parser.parse_object({"model": recipe.config["model"]})
    task: LightningModule = parser.instantiate_classes(config).model
    return task


def load_checkpoint(task: LightningModule, path: Path) -> dict[str, Any]:
    """Put a checkpoint's weights into a task; no code from the file is run.

    Args:
        task: Of the class and size that wrote it.
        path: The checkpoint.

    Returns:
        The whole checkpoint.

    Raises:
        UserError: If it is missing, truncated, of another kind or of another network.
    """
    checkpoint = read_checkpoint(path)
    task.on_load_checkpoint(checkpoint)
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        remedy = "give the run that it belongs to"
        raise UserError(f"it holds another network: {_first_line(error)}", remedy, str(path)) from None
    return checkpoint


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        UserError: If it is missing, truncated or not a checkpoint of Lightning's.
    """
    if not path.is_file():
        raise UserError("there is no such checkpoint", "the run may have been stopped before its first", str(path))
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        what = "cannot be read as a checkpoint: it is damaged, or holds code, which dlmkit does not run"
        raise UserError(what, "use another one of the run's checkpoints folder", str(path)) from None
    except Exception as error:
        remedy = "it may be cut short or of another program; use another one of the run's checkpoints folder"
        raise UserError(f"cannot be read as a checkpoint ({_first_line(error)})", remedy, str(path)) from None
    if not isinstance(checkpoint, dict) or not {"state_dict", "loops"} <= checkpoint.keys():
        raise UserError("is no checkpoint of a training run", "give one that dlmkit run wrote", str(path))
    return checkpoint


def data_and_model(recipe: Recipe) -> dict[str, type]:
    """Import the classes that a recipe names for ``model`` and ``data``.

    Raises:
        UserError: If one does not import or is of another kind.
    """
    bases = {"model": LightningModule, "data": LightningDataModule}
    return {word: _import(recipe, word, base) for word, base in bases.items()}


def _import(recipe: Recipe, word: str, base: type) -> type:
    """The class that a recipe names for model or data.

    Raises:
        UserError: If it does not import or is of another kind.
    """
    path = recipe.config[word]["class_path"]
    where = recipe.place((word, "class_path"))
    entry = next((e for e in recipe.used if e.path == path), None)
    if entry is None:
        module, _, name = path.rpartition(".")
        entry = plugins.Entry(word, name, f"{module}:{name}", module.partition(".")[0] or path, "")
    loaded = plugins.load(entry, where)
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise UserError(f"{path} is no {base.__name__}", f"name a {base.__name__} as {word}.class_path", where)
    return loaded


def links(data: type, model: type) -> list[str]:
    """What the data knows and the model takes, by name."""
    parser = LightningArgumentParser(exit_on_error=False)
    taken = set(parser.add_class_arguments(model, fail_untyped=False))
    return sorted(set(told(data)) & taken)


def trainer_fault(recipe: Recipe, settings: dict[str, Any], error: Exception) -> UserError:
    """What Lightning says of the trainer's options, at the place of the one that it names.

    Args:
        recipe: Knows where each option was written.
        settings: The trainer's options.
        error: What it raised.
    """
    text = _first_line(error)
    accelerator = settings.get("accelerator")
    if accelerator in ("gpu", "cuda", "mps", "tpu") and ("ccelerator" in text or "backend" in text):
        remedy = "leave accelerator out (auto takes what is there), or say cpu; dlmkit doctor shows the devices"
        return recipe.fault(("trainer", "accelerator"), f"no {accelerator} is to be found here", remedy)
    named = next((k for k in recipe.config["trainer"] if k in text), None)
    key = ("trainer", named) if named else ("trainer",)
    return recipe.fault(key, f"the trainer cannot be made: {text}", "change this option")


def _from_jsonargparse(recipe: Recipe, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(_first_line(error), "dlmkit show NAME lists a class's options", str(recipe.path))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
