"""Pix2pix on pairs that it was not trained on, beside three simple ways: L1 without an adversary, identity, neighbours.

The recipe is trained twice, as it is and with ``--model.adversary=0``; the test of each gives PSNR, SSIM, L1 and
detail, and those of the input as it is and of the nearest training pair. Runs that are there
already are not trained anew.

    python benchmarks/pix2pix.py pix2pix --out translations.png
    python benchmarks/pix2pix.py pix2pix-emoji --run runs/emoji --data.source=noto --data.target=twemoji
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import trained, training
from dlmkit_pictures.strips import strips_figure

from dlmkit import recipe as recipes
from dlmkit.engine import build
from dlmkit.runs import Run
from dlmkit.verbs import quiet

FIGURES = ("psnr", "ssim", "l1", "detail")
SHOWN = 10


def told(run: Run, method: str | None = None) -> str:
    """The four figures of a run's test, or of a simple way beside it."""
    summary = run.summary
    values: list[Any] = []
    for name in FIGURES:
        key = f"test/{name}"
        values.append(summary["baselines"].get(key, {}).get(method) if method else summary["metrics"][key])
    return "".join(f"{'' if value is None else f'{value:.3f}':>10}" for value in values)


def picture(out: Path, runs: dict[str, Run]) -> None:
    """Test pictures as they were given, as each run translates them, and the truth."""
    config = recipes.from_config(next(iter(runs.values())).config, "runs")
    with quiet():
        data: Any = build(config).datamodule
    data.prepare_data()
    pairs = data.take("test", torch.arange(0, data.size("test"), max(1, data.size("test") // SHOWN))[:SHOWN])
    rows = {"input": pairs["input"]}
    with torch.no_grad():
        rows |= {name: trained(run.folder)._fixed(pairs["input"]) for name, run in runs.items()}
    figure = strips_figure(rows | {"truth": pairs["target"]}, "Pictures never trained on")
    figure.savefig(out, dpi=110, bbox_inches="tight")


def main() -> None:
    """Train what is not there, print the table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="such as pix2pix")
    parser.add_argument("--run", type=Path, help="a run of the recipe that is there already")
    parser.add_argument("--l1-run", type=Path, help="one without an adversary")
    parser.add_argument("--out", type=Path, help="where a picture with both goes")
    asked, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as runs:
        both = {
            "L1 alone": Run(asked.l1_run)
            if asked.l1_run
            else training(asked.recipe, f"{runs}/l1", [*words, "--model.adversary=0"]),
            "pix2pix": Run(asked.run) if asked.run else training(asked.recipe, f"{runs}/both", words),
        }
        print(f"{asked.recipe}{'':<30}"[:30] + "".join(f"{name:>10}" for name in FIGURES))
        for name, run in both.items():
            print(f"{name:<30}{told(run)}")
        for method in next(iter(both.values())).summary["baselines"]["test/psnr"]:
            print(f"{method:<30}{told(both['pix2pix'], method)}")
        if asked.out:
            picture(asked.out, both)


if __name__ == "__main__":
    main()
