"""Time from the command to the first training step: ``dlmkit run lstm`` against plain LightningCLI on the same config.

Usage: python benchmarks/first_step.py [--pairs 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import dlmkit, report
from lightning.pytorch import Callback

PLAIN = "from lightning.pytorch.cli import LightningCLI; LightningCLI()"
TIMER = {"class_path": "first_step.Stop"}


class Stop(Callback):
    """Ends the process after the first step and tells how long that took since it was started."""

    def on_train_batch_end(self, *args: Any) -> None:
        """Tell, and end."""
        print(f"first step after {time.time() - float(os.environ['STARTED']):.3f} s", flush=True)
        os._exit(0)


def seconds(command: list[str], folder: str) -> float:
    """From the start of the process to its first step."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"STARTED": str(time.time()), "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("first step after"))
    return float(line.split()[-2])


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs (default: 5)")
    pairs = parser.parse_args().pairs
    command = dlmkit()
    with tempfile.TemporaryDirectory() as folder:
        made = [command, "run", "lstm", "--name", "made", "--trainer.max_steps=1", "--trainer.limit_test_batches=1"]
        subprocess.run([*made, "--trainer.limit_val_batches=1"], cwd=folder, capture_output=True, check=True)
        plain = [sys.executable, "-c", PLAIN, "fit", "--config", "runs/made/config.yaml"]
        plain += [f"--trainer.callbacks+={TIMER['class_path']}"]
        ours = [
            command,
            "run",
            "lstm",
            "--allow",
            "first_step",
            f"--trainer.callbacks=[{{class_path: {TIMER['class_path']}}}]",
        ]
        times = [(seconds(ours, folder), seconds(plain, folder)) for _ in range(pairs)]
    a, b = zip(*times, strict=True)
    report("dlmkit run lstm to its first step", a, b, "s", "plain LightningCLI")


if __name__ == "__main__":
    main()
