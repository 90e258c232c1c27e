"""A training step of ``dlmkit run lstm`` against the same model, data and optimiser in a hand-written loop.

Both run in one process, in turn, a segment of steps each; everything that the command does beside training is on. Also
prints how much of a step is spent waiting for data.

Usage: python benchmarks/training_step.py [--segments 15] [--steps 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import torch
from common import report
from lightning.pytorch import Callback, LightningModule, Trainer

from dlmkit import TokenModel, cli, recipe, verbs
from dlmkit.schedules import WarmupCosine

CLIP = 1.0


class HandWritten:
    """The loop that one would write without any framework: the recipe's model, optimiser, schedule and clipping."""

    def __init__(self, engine: Any, total: int) -> None:
        self.data = engine.datamodule
        self.net = recipe_net(engine)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.004, betas=(0.9, 0.99))
        self.schedule = WarmupCosine(self.optimizer, warmup=50, total_steps=total)
        self.state: Any = None
        self.index = 0

    def steps(self, count: int) -> None:
        """Take steps."""
        for _ in range(count):
            batch = self.data.batch("train", 0, self.index, 0, 1)
            logits, state = self.net(batch["input"], self.state)
            self.state = tuple(s.detach() for s in state)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["target"].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            self.optimizer.step()
            self.schedule.step()
            self.index += 1


def recipe_net(engine: Any) -> torch.nn.Module:
    """A second network of the recipe's size."""
    from dlmkit_lstm.model import LSTMStack

    return TokenModel(engine.datamodule.vocab_size, LSTMStack(256, 256), 256, 256)


class Interleave(Callback):
    """After each segment of Lightning's steps, as many by hand."""

    def __init__(self, peer: HandWritten, steps: int) -> None:
        self.peer, self.steps = peer, steps
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.started: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """At a segment's first batch: the other side's turn, then start the clock."""
        if trainer.global_step % self.steps == 0:
            now = time.perf_counter()
            if self.started is not None:
                self.ours.append((now - self.started) / self.steps)
                self.peer.steps(self.steps)
                self.theirs.append((time.perf_counter() - now) / self.steps)
            self.started = time.perf_counter()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=15, help="interleaved pairs (default: 15)")
    parser.add_argument("--steps", type=int, default=20, help="steps in a segment (default: 20)")
    asked = parser.parse_args()
    total = asked.steps * (asked.segments + 2)
    with tempfile.TemporaryDirectory() as folder, verbs.quiet():
        words = ["run", "lstm", "--runs", folder, f"--trainer.max_steps={total}", "--trainer.profiler=simple"]
        options = cli.parse([*words, "--trainer.limit_val_batches=0"])
        engine = verbs.build_run(recipe.read("lstm", options.overrides), options, None)
        timer = Interleave(HandWritten(engine, total), asked.steps)
        callbacks: Any = engine.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(timer)
        engine.trainer.fit(engine.model, engine.datamodule)
        spent = engine.trainer.profiler.recorded_durations  # type: ignore[attr-defined]
    wait = sum(spent["[_TrainingEpochLoop].train_dataloader_next"])
    print(f"dlmkit run lstm, {torch.get_num_threads()} threads")
    report("training step", [1e3 * t for t in timer.ours[1:]], [1e3 * t for t in timer.theirs[1:]], "ms", "by hand")
    print(f"waiting for data: {100 * wait / (sum(timer.ours) * asked.steps):.2f} % of the training time")


if __name__ == "__main__":
    main()
