"""The number from which everything random in a run follows."""

from __future__ import annotations

import os

__all__ = ["run_seed"]


def run_seed() -> int:
    """The run's seed (``seed_everything`` of the recipe); 0 outside a run."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
