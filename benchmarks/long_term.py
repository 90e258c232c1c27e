"""The table on long-term dependencies, from run folders: our figure beside the paper's.

    dlmkit run long-term/adding-600-gru
    dlmkit run long-term/copy-1000-wavenet
    python benchmarks/long_term.py runs/*

A run's cell follows from the recipe that its command named. The paper's figures are those of Bai, Kolter & Koltun 2018,
An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling, table 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dlmkit.records import Record, plain
from dlmkit.runs import Run

NETS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "wavenet": "WaveNet's layers"}
PAPER = {
    "sequential-mnist": {"lstm": 0.872, "gru": 0.962, "rnn": 0.215, "wavenet": 0.990},
    "permuted-mnist": {"lstm": 0.857, "gru": 0.873, "rnn": 0.253, "wavenet": 0.972},
    "adding-600": {"lstm": 0.164, "gru": 5.3e-5, "rnn": 0.177, "wavenet": 5.8e-5},
    "copy-1000": {"lstm": 0.0204, "gru": 0.0197, "rnn": 0.0202, "wavenet": 3.5e-5},
}
"""Accuracy for MNIST, mean squared error for adding, nats per step for copying; WaveNet's column is their TCN's."""


def cell(record: Record) -> tuple[str, str] | None:
    """The problem and the net of a run, or None where it is none of these."""
    for word in record.provenance.get("command", []):
        folder, _, name = str(word).rpartition("/")
        problem, _, net = name.rpartition("-")
        if folder == "long-term" and net in NETS:
            return problem, net
    return None


def row(problem: str, net: str, record: Record) -> str:
    """One line of the table."""
    metric = "accuracy" if problem.endswith("mnist") else "loss"
    ours, paper = record.tests().get(f"test/{metric}"), PAPER.get(problem, {}).get(net)
    told = [_figure(value, metric) for value in (ours, paper)]
    if ours is None:
        told[0] = f"{_figure(record.best(f'val/{metric}'), metric)} (validation)"
    time = f"{record.seconds / 60:.0f} min" if record.seconds else ""
    size = f"{record.summary.get('parameters', 0):,}"
    steps = f"{record.steps or 0:,} steps" + ("" if record.status == "finished" else f", {record.status}")
    return f"| {problem} | {NETS[net]} | {size} | {told[0]} | {told[1]} | {steps} | {time} | {settings(record)} |"


def settings(record: Record) -> str:
    """How it was trained: optimiser, rate and schedule, batch, and what keeps it in bounds."""
    options = record.options
    optimizer, schedule = (plain(options.get(f"model.{name}")) for name in ("optimizer", "lr_scheduler"))
    parts = [f"{optimizer} {options.get('model.optimizer.lr', ''):g}", "" if schedule == "none" else schedule]
    parts.append(f"batches of {options.get('data.batch_size')}")
    named = {"weight decay": "model.optimizer.weight_decay", "clip": "trainer.gradient_clip_val"}
    named |= {"dropout": "model.dropout", "chrono": "model.chrono", "forget bias": "model.forget_bias"}
    parts += [f"{name} {options[key]:g}" for name, key in named.items() if options.get(key)]
    return ", ".join(filter(None, parts))


def _figure(value: float | None, metric: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.3g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders; others among them are passed over")
    records = [Record(Run(folder), folder.name) for folder in parser.parse_args().runs if folder.is_dir()]
    cells = sorted((found, index) for index, record in enumerate(records) if (found := cell(record)))
    print("| problem | net | parameters | ours | the paper | after | in | settings |\n" + 8 * "|---" + "|")
    for (problem, net), index in cells:
        print(row(problem, net, records[index]))


if __name__ == "__main__":
    main()
