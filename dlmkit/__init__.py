"""dlmkit: the architectures of a deep-learning lecture as plugins, from one core to many GPUs.

The names below are imported when they are first used, so that ``import dlmkit`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlmkit.callbacks.averaging import GeneratorAveraging
    from dlmkit.data.examples import Examples
    from dlmkit.data.module import DataModule
    from dlmkit.errors import UserError
    from dlmkit.media import Animation, Audio, Figure, Image, Media, Table, Text
    from dlmkit.nets import TokenModel
    from dlmkit.schedules import RunSchedule, WarmupCosine
    from dlmkit.tasks.adversarial import Adversarial
    from dlmkit.tasks.problem import SequenceProblem
    from dlmkit.tasks.sequence import SequenceTask
    from dlmkit.tasks.task import Task

__version__ = "0.1.0"
__all__ = [
    "Adversarial",
    "Animation",
    "Audio",
    "DataModule",
    "Examples",
    "Figure",
    "GeneratorAveraging",
    "Image",
    "Media",
    "RunSchedule",
    "SequenceProblem",
    "SequenceTask",
    "Table",
    "Task",
    "Text",
    "TokenModel",
    "UserError",
    "WarmupCosine",
]

_HOMES = {
    "Adversarial": "tasks.adversarial",
    "DataModule": "data.module",
    "Examples": "data.examples",
    "GeneratorAveraging": "callbacks.averaging",
    "RunSchedule": "schedules",
    "SequenceProblem": "tasks.problem",
    "SequenceTask": "tasks.sequence",
    "Task": "tasks.task",
    "TokenModel": "nets",
    "UserError": "errors",
    "WarmupCosine": "schedules",
} | dict.fromkeys(("Animation", "Audio", "Figure", "Image", "Media", "Table", "Text"), "media")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dlmkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dlmkit.{_HOMES[name]}"), name)
