"""What has to hold so that a run can be gone on with."""

from __future__ import annotations

from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any, cast

from dlmkit import recipe as recipes
from dlmkit import runs
from dlmkit.errors import UserError

if TYPE_CHECKING:
    from dlmkit.engine import Engine

__all__ = ["checkpoint_to_resume", "require_same_network"]


def checkpoint_to_resume(engine: Engine, resumed: runs.Run | None) -> tuple[Path | None, int]:
    """The checkpoint to go on from, and the steps that it has done.

    Args:
        engine: Built from the run's configuration, with what was changed in it.
        resumed: The run, or None for a new one.

    Raises:
        UserError: If it cannot be gone on with: it is of another network, or has done its steps.
    """
    if resumed is None:
        return None, -1
    from dlmkit.engine import read_checkpoint

    checkpoint = read_checkpoint(resumed.last)
    require_same_network(engine, checkpoint, resumed.last)
    _require_same_optimisation(engine, resumed)
    done = int(checkpoint["global_step"])
    if 0 <= engine.trainer.max_steps <= done and resumed.summary.get("status") == "finished":
        remedy = f"ask for more, such as --trainer.max_steps={2 * done}"
        raise UserError(f"the run has done its {done} steps already", remedy, str(resumed.folder))
    return resumed.last, done


def require_same_network(engine: Engine, checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint whose weights the network has no place for.

    Args:
        engine: Has the network.
        checkpoint: As it was read.
        path: Its file.

    Raises:
        UserError: If a name or a shape differs.
    """
    have, want = checkpoint["state_dict"], engine.model.state_dict()
    if {k: v.shape for k, v in have.items()} != {k: v.shape for k, v in want.items()}:
        what = "the checkpoint is of another network than these options and this data make"
        raise UserError(what, "use those that the run was started with", str(path))


def _require_same_optimisation(engine: Engine, resumed: runs.Run) -> None:
    """Refuse another optimiser or schedule, and options of a schedule whose whole curve is in the checkpoint."""
    from dlmkit.schedules import RunSchedule
    from dlmkit.tasks.task import optimisation_options

    saved = recipes.from_config(resumed.config, resumed.folder.name).config["model"].get("init_args", {})

    def saved_class(option: str, shared: str, word: str) -> str | None:
        """The class that the run was trained with, if the one asked for is not another."""
        before: str | None = (saved.get(option) or saved.get(shared) or {}).get("class_path")
        now = engine.config.model.init_args.get(option)
        if before and now and now.class_path != before:
            what = f"the run was trained with {before}, not {now.class_path}"
            raise engine.recipe.fault(("model", "init_args", option), what, f"start a new run to change the {word}")
        return before

    for option, schedule_option in optimisation_options(engine.model):
        saved_class(option, "optimizer", "optimiser")
        schedule = saved_class(schedule_option, "lr_scheduler", "schedule")
        given = engine.recipe.typed(("model", schedule_option))
        if schedule and given and not issubclass(cast(type, locate(schedule)), RunSchedule):
            what = f"{schedule} goes on as it is in the checkpoint"
            remedy = "start a new run to change it; dlmkit.WarmupCosine can be changed"
            raise engine.recipe.fault(("model", "init_args", schedule_option), what, remedy)
