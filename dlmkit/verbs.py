"""The verbs that train or use a trained network."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmkit import recipe as recipes
from dlmkit import runs
from dlmkit.errors import UserError
from dlmkit.mishaps import mishap
from dlmkit.resuming import checkpoint_to_resume, require_same_network

if TYPE_CHECKING:
    from dlmkit.engine import Allowed, Engine
    from dlmkit.recipe import Recipe

Baselines = dict[str, dict[str, float]]

__all__ = ["build_run", "check", "quiet", "run", "sample", "test"]


def run(options: argparse.Namespace) -> int:
    """``dlmkit run``: train, test, show."""
    if options.resume:
        for given, what in ((options.recipe, f"the recipe {options.recipe}"), (options.name, f"--name {options.name}")):
            if given:
                raise UserError(f"--resume goes on with a run; {what} is not needed", "leave it out")
        resumed = runs.Run(options.resume)
        recipe = recipes.from_config(resumed.config, resumed.folder.name, options.overrides, options.config)
        return _train(recipe, options, resumed)
    if not options.recipe:
        raise UserError("which recipe?", "dlmkit run lstm trains one; dlmkit list shows all")
    recipe = recipes.read(options.recipe, options.overrides, options.config)
    runs.check_parent(Path(options.runs), options.name)
    return _train(recipe, options, None)


def test(options: argparse.Namespace) -> int:
    """``dlmkit test``: the test of a finished run, again."""
    folder = runs.Run(options.run)
    recipe = recipes.from_config(folder.config, folder.folder.name, options.overrides)
    path = folder.checkpoint(options.checkpoint)
    with quiet():
        from dlmkit import screen
        from dlmkit.engine import build, read_checkpoint

        checkpoint = read_checkpoint(path)
        engine = build(recipe, allowed=_allowed(options))
        require_same_network(engine, checkpoint, path)
        metrics = _tested(engine, path)
        if engine.trainer.is_global_zero:
            screen.console.print(_table(engine, metrics, _baselines(engine)))
    return 0


def sample(options: argparse.Namespace) -> int:
    """``dlmkit sample``: generate from a trained run, whose data need not be there any more."""
    folder = runs.Run(options.run)
    path = folder.checkpoint(options.checkpoint)
    recipe = recipes.from_config(folder.config, folder.folder.name)
    with quiet():
        import torch

        from dlmkit.engine import load_checkpoint, load_task
        from dlmkit.options import sample_options

        task: Any = load_task(recipe, _allowed(options))
        load_checkpoint(task, path)
        task.eval()
        if not callable(getattr(task, "sample", None)):
            raise UserError(f"{recipe.name} has nothing that generates", "look at its media folder", str(folder.folder))
        with torch.no_grad():
            media = task.sample(**sample_options(type(task), options.prompt, options.n, options.overrides))
        _print_media(media, Path(options.out or folder.folder / "samples"))
    return 0


def check(options: argparse.Namespace) -> int:
    """``dlmkit check``: a recipe through one batch of everything, or the conformance kit on a plugin."""
    if options.plugin:
        from dlmkit.testing import run_kit

        return run_kit(options.plugin, slow=options.slow)
    if not options.recipe:
        raise UserError("what is to be checked?", "name a recipe, or a plugin with --plugin NAME")
    recipe = recipes.read(options.recipe, options.overrides, options.config)
    started = time.monotonic()
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        from dlmkit import screen
        from dlmkit.callbacks.media import ShowMedia
        from dlmkit.engine import build

        showing = ShowMedia()
        showing.folder = Path(scratch)
        one_batch = {"fast_dev_run": 1, "default_root_dir": scratch}
        engine = build(recipe, [showing], _allowed(options), one_batch)
        try:
            engine.trainer.fit(engine.model, engine.datamodule)
            metrics = _tested(engine, None)
        except UserError as error:
            raise recipe.located(error) from None
        _require_finite(recipe, metrics)
        if showing.faults:
            raise UserError(showing.faults[0], "mend the task's show method")
        took = time.monotonic() - started
        loss = ", ".join(f"{k} {v:.3f}" for k, v in metrics.items())
        screen.console.print(f"{options.recipe} is sound: one batch of training, validation and test in {took:.1f} s")
        screen.console.print(f"untrained: {loss}")
    return 0


# --------------------------------------------------------------------------------------------------------- training


def _train(recipe: Recipe, options: argparse.Namespace, resumed: runs.Run | None) -> int:
    with quiet(), _ctrl_c():
        engine = build_run(recipe, options, resumed)
        try:
            return _fit_and_test(engine, recipe, options, resumed)
        finally:
            _folder(engine).release()


def _fit_and_test(engine: Engine, recipe: Recipe, options: argparse.Namespace, resumed: runs.Run | None) -> int:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from dlmkit import screen
    from dlmkit.callbacks.checkpoints import Interrupted

    if resumed is not None and engine.trainer.world_size == 1:  # several are told together, by RunFolder
        _folder(engine).hold(resumed.folder)
    checkpoint, done_before = checkpoint_to_resume(engine, resumed)
    if engine.trainer.is_global_zero:
        _print_head(engine)
    try:
        engine.trainer.fit(engine.model, engine.datamodule, ckpt_path=checkpoint, weights_only=True)
    except Interrupted as stop:
        return _stopped(engine, stop, options.allow)
    except UserError as error:
        raise recipe.located(error) from None
    except (MisconfigurationException, RuntimeError, MemoryError, OSError, ValueError) as error:
        fault = _mishap_of_run(engine, error, options.allow) or _unknown_metric(recipe, error)
        if fault is None and isinstance(error, (MisconfigurationException, ValueError)):
            fault = _refused_at_start(engine, error)
        if fault is None:
            raise
        raise fault from None
    if engine.trainer.global_step == done_before:  # training was at its end: only the test is left
        _folder(engine).write(engine.trainer)
        loop = engine.trainer.fit_loop.epoch_loop
        loop._batches_that_stepped = max(loop._batches_that_stepped, done_before)
        epochs: Any = engine.trainer.fit_loop.epoch_progress
        if epochs.current.processed < epochs.current.started:
            epochs.increment_processed()
    _tell_faults(engine)
    metrics, best = _test_best(engine)
    if engine.trainer.is_global_zero:
        baselines = _baselines(engine)
        _finish(engine, {**_folder(engine).metrics.latest(), **metrics}, baselines, best)
        screen.console.print()
        _print_outcome(engine, metrics, baselines)
    return 0


def build_run(recipe: Recipe, options: argparse.Namespace, resumed: runs.Run | None) -> Engine:
    """Build a recipe with everything that a run does beside training; no folder is made yet."""
    from dlmkit.callbacks.checkpoints import LastCheckpoint
    from dlmkit.callbacks.media import ShowMedia
    from dlmkit.callbacks.run_folder import RunFolder, Tracking
    from dlmkit.callbacks.seeding import Seeding
    from dlmkit.callbacks.typed import TypedOptions
    from dlmkit.engine import build
    from dlmkit.screen import ProgressLine

    before = resumed.provenance.get("wandb", {}) if resumed else {}
    project = _project(options, before)
    name = recipe.name if resumed is None else resumed.folder.name
    folder = RunFolder(
        parent=Path(options.runs),
        name=options.name,
        recipe=name,
        recipe_text=recipe.text,
        config_text="",
        config={},
        packages=sorted({e.package for e in recipe.used} - {"dlmkit"}),
        tracking=Tracking(project, options.wandb_checkpoints or before.get("checkpoints", False)),
        resumed=resumed.folder if resumed else None,
    )
    typed = TypedOptions(lambda option: recipe.typed(("model", option)) if resumed else {})
    callbacks = [folder, Seeding(), typed, ShowMedia(options.show_every), ProgressLine(), LastCheckpoint()]
    engine = build(recipe, callbacks, _allowed(options))
    folder.config_text, folder.config = engine.config_text(), engine.config_values()
    _add_best_checkpoint(engine)
    return engine


def _project(options: argparse.Namespace, before: Mapping[str, Any]) -> str | None:
    known = before.get("project")
    if refused := set(options.wandb_project or "") & set("/\\#?%:"):
        what = f"a project's name has no {' '.join(sorted(refused))}, and this is {options.wandb_project}"
        raise UserError(what, "give another; the team is named by WANDB_ENTITY", "--wandb-project")
    if known or options.wandb or options.wandb_project or options.wandb_checkpoints:
        return str(known or options.wandb_project or "dlmkit")
    return None


def _add_best_checkpoint(engine: Engine) -> None:
    """Keep the best checkpoint by the task's metric, unless the recipe has a ModelCheckpoint that chooses by one.

    Those that choose come before ``last.ckpt`` is written, so that it knows of a new best.
    """
    from lightning.pytorch.callbacks import ModelCheckpoint

    trainer: Any = engine.trainer
    last = next(c for c in trainer.callbacks if type(c).__name__ == "LastCheckpoint")
    trainer.callbacks.remove(last)
    trainer.callbacks.append(last)
    chooses = any(isinstance(c, ModelCheckpoint) and c.monitor is not None for c in trainer.callbacks)
    if chooses or not trainer.limit_val_batches:
        return
    monitor, mode = getattr(engine.model, "monitor", "val/loss"), getattr(engine.model, "monitor_mode", "min")
    # Chosen at the validation, not at the epoch's end, which comes after last.ckpt is written.
    best = ModelCheckpoint(
        monitor=monitor, mode=mode, filename="best", enable_version_counter=False, save_on_train_epoch_end=False
    )
    trainer.callbacks.insert(-1, best)


def _test_best(engine: Engine) -> tuple[dict[str, float], Path | None]:
    """Test with the best weights, where a validation has chosen them."""
    from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging

    trainer: Any = engine.trainer
    for callback in trainer.callbacks:
        if isinstance(callback, WeightAveraging):  # would load the last weights over the averages of the checkpoint
            callback._average_model = None
    found = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor is not None]
    chosen = [callback.best_model_path for callback in found]
    best = next((Path(path) for path in chosen if path), None)
    return _tested(engine, best), best


def _tested(engine: Engine, checkpoint: Path | None) -> dict[str, float]:
    """The figures of the test; none where task or data have no test, as a plain LightningModule need not."""
    from lightning.pytorch.utilities.model_helpers import is_overridden

    if not (is_overridden("test_step", engine.model) and is_overridden("test_dataloader", engine.datamodule)):
        return {}
    trainer = engine.trainer
    results = trainer.test(engine.model, engine.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
    return dict(results[0]) if results else {}


def _stopped(engine: Engine, stop: Any, allow: list[str]) -> int:
    from dlmkit import screen

    folder = _folder(engine)
    if engine.trainer.is_global_zero:
        status = {"status": "interrupted", "steps": stop.step, "seconds": _seconds(engine), **_about(engine)}
        runs.write_json(folder.folder / "summary.json", status)
        if stop.step is None:
            screen.console.print("stopped before the first checkpoint; nothing was lost that a new run does not repeat")
        else:
            screen.console.print(f"stopped at step {stop.step}; {folder.folder} holds everything")
            screen.print_next(_resuming(folder.folder, allow), "go on from there")
    return 143 if stop.signum == signal.SIGTERM else 130


def _resuming(folder: Path, allow: list[str]) -> str:
    """The command that goes on with a run."""
    from dlmkit import screen

    return screen.quote("dlmkit", "run", "--resume", str(folder), *(w for a in allow for w in ("--allow", a)))


def _mishap_of_run(engine: Engine, error: Exception, allow: list[str]) -> UserError | None:
    """A mishap, and how the run goes on after it."""
    fault = mishap(error)
    last = _callback(engine, "LastCheckpoint")
    if fault is None or last.saved_step is None:
        return fault
    again = f"{_resuming(_folder(engine).folder, allow)} goes on from step {last.saved_step}"
    return UserError(fault.what, f"{fault.remedy}; {again}", fault.where)


def _finish(engine: Engine, metrics: Mapping[str, float], baselines: Baselines, best: Path | None) -> None:
    """Write the summary, and close the tracker."""
    folder = _folder(engine).folder
    summary = {
        "status": "finished",
        "metrics": metrics,
        "baselines": baselines,
        "steps": engine.trainer.global_step,
        "epochs": engine.trainer.current_epoch,
        "seconds": _seconds(engine),
        "best_checkpoint": str(best.relative_to(folder)) if best and best.is_relative_to(folder) else best,
        **_about(engine),
    }
    runs.write_json(folder / "summary.json", summary)
    _folder(engine).close(engine.trainer, "success")


def _about(engine: Engine) -> dict[str, Any]:
    """What whoever reads the run folder needs to know of the task, without loading it."""
    told = {name: getattr(engine.model, name, None) for name in ("headline", "monitor", "monitor_mode")}
    return {"parameters": sum(p.numel() for p in engine.model.parameters()), **told}


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    """Lightning ends the process on Ctrl-C, deaf to any further one; here it is a KeyboardInterrupt again."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


# ------------------------------------------------------------------------------------------------------- the screen


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what other libraries say off the screen; what a plugin says is not theirs and stays."""
    import lightning.pytorch  # noqa: F401  (it sets its loggers' levels when it is imported)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            for module in ("lightning", "torch", "jsonargparse", "datasets", "wandb", "matplotlib", "huggingface_hub"):
                warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        for name in ("lightning", "lightning.pytorch", "lightning.fabric", "datasets", "wandb", "torch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield


def _print_head(engine: Engine) -> None:
    from dlmkit import __version__, screen

    task = engine.model
    title = (type(task).__doc__ or type(task).__name__).strip().splitlines()[0]
    parameters = sum(p.numel() for p in task.parameters())
    rows = {
        "dlmkit": f"{__version__} · {engine.recipe.name} · {title}",
        "data": getattr(engine.datamodule, "describe", lambda: type(engine.datamodule).__name__)(),
        "model": f"{type(task).__name__}, {parameters:,} parameters",
        "device": _device(engine),
    }
    project = _folder(engine).tracking.project
    if project is not None:
        from dlmkit.tracking import wandb_ready

        rows["tracked"] = f"Weights & Biases, project {project}, {wandb_ready()}"
    screen.print_rows(rows)


def _device(engine: Engine) -> str:
    import torch

    trainer = engine.trainer
    kind = trainer.strategy.root_device.type
    name = torch.cuda.get_device_name() if kind == "cuda" else f"{kind}, {torch.get_num_threads()} thread(s)"
    return name if trainer.world_size == 1 else f"{trainer.world_size} × {name}"


def _print_outcome(engine: Engine, metrics: Mapping[str, float], baselines: Baselines) -> None:
    from dlmkit import screen

    folder = _folder(engine).folder
    showing = _callback(engine, "ShowMedia")
    screen.console.print(_table(engine, metrics, baselines))
    screen.print_samples(showing.latest_media)
    shown = {name: str(path) for name, path in showing.latest.items() if path.suffix != ".txt"}
    minutes, seconds = divmod(round(_seconds(engine)), 60)
    took = f"{engine.trainer.global_step} steps in {minutes} min {seconds} s"
    screen.print_rows({**shown, "run": f"{folder}   ({took})"})
    offline = [str(part) for part in sorted(folder.glob("wandb/offline-run-*"))]  # a resumed run has several
    if offline:
        screen.print_next(screen.quote("wandb", "sync", *offline), "upload what was tracked offline")
    if getattr(type(engine.model), "sample", None) not in (None, _base_sample()):
        screen.print_next(screen.quote("dlmkit", "sample", str(folder)), "more of it from the trained network")
    else:
        screen.print_next(screen.quote("dlmkit", "test", str(folder)), "test it again")


def _base_sample() -> Any:
    from dlmkit.tasks.task import Task

    return Task.sample


def _table(engine: Engine, metrics: Mapping[str, float], baselines: Baselines) -> Any:
    from dlmkit import screen

    headline = getattr(engine.model, "headline", "test/loss")
    told = {k: v for k, v in metrics.items() if k == headline or k in baselines} or dict(metrics)
    return screen.figures_table(type(engine.model).__name__, told, baselines, headline)


def _tell_faults(engine: Engine) -> None:
    from dlmkit import screen

    for fault in dict.fromkeys(_callback(engine, "ShowMedia").faults):
        screen.console.print(f"dlmkit: {fault}; the run went on without its pictures", style="yellow")


def _print_media(media: list[Any], folder: Path) -> None:
    from dlmkit import screen
    from dlmkit.media import Text

    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number, item in enumerate(media, 1):
        if isinstance(item, Text):
            print(item.text)
            print("─" * 20) if number < len(media) else None
        else:
            screen.console.print(str(item.save(folder, f"{stamp}-{number}")))


# ---------------------------------------------------------------------------------------------------------- helpers


def _allowed(options: argparse.Namespace) -> Allowed:
    from dlmkit.engine import Allowed

    return Allowed(tuple(options.allow))


def _callback(engine: Engine, name: str) -> Any:
    trainer: Any = engine.trainer
    return next(c for c in trainer.callbacks if type(c).__name__ == name)


def _folder(engine: Engine) -> Any:
    return _callback(engine, "RunFolder")


def _seconds(engine: Engine) -> float:
    return round(float(_folder(engine).metrics.times.seconds), 1)


def _baselines(engine: Engine) -> Baselines:
    known: Baselines = getattr(engine.datamodule, "baselines", dict)()
    return known


def _unknown_metric(recipe: Recipe, error: Exception) -> UserError | None:
    """A callback or schedule that waits for a metric which nobody logs, found only by the first validation."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, OSError) or ("metric" not in text and "monitor" not in text):  # a path may have the word
        return None
    return UserError(text, "name one of the metrics that are logged", recipe.place(("trainer", "callbacks")))


def _refused_at_start(engine: Engine, error: Exception) -> UserError | None:
    """What Lightning says of an option when training starts, such as a limit that leaves no batch."""
    from dlmkit.engine import trainer_fault

    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if engine.trainer.global_step or "lightning" not in Path(raised_in).parts:
        return None
    _folder(engine).discard(engine.trainer)
    return trainer_fault(engine.recipe, engine.recipe.config["trainer"], error)


def _require_finite(recipe: Recipe, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(f"{name} is {value} on the first batch", "check the loss", str(recipe.path))
