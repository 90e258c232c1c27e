"""One photograph in one style, seen through each of the fixed nets, side by side: what the features can do.

Every picture is a run of its recipe through the command. A net whose weights are not given is left out.

Usage: python benchmarks/style_sheet.py [--content flower] [--style FILE] [--darknet FILE] [--vgg PTH] --out sheet.jpg
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import training
from dlmkit_style_transfer.photographs import get_picture
from matplotlib import image
from matplotlib.figure import Figure
from numpy.typing import NDArray


def painted(recipe: str, words: list[str], folder: str) -> tuple[NDArray[Any], float]:
    """The picture that a recipe ends with, and the share of the style loss that is left."""
    run = training(recipe, folder, words)
    picture = image.imread(run.folder / "media" / "picture-test.png")[..., :3]
    return picture, run.summary["metrics"]["test/style_left"]


def main() -> None:
    """Paint, and lay side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", default="flower", help="a photograph's file, or china, flower or hopper")
    parser.add_argument("--style", default="strokes", help="the same")
    parser.add_argument("--size", type=int, default=320, help="pixels along the longer side")
    parser.add_argument("--darknet", type=Path, help="the weights of Tiny Darknet")
    parser.add_argument("--vgg", type=Path, help="the weights of VGG-19")
    parser.add_argument("--out", type=Path, required=True, help="where the sheet goes")
    asked = parser.parse_args()
    words = [
        f"--data.content={asked.content}",
        f"--data.style=[{json.dumps(asked.style)}]",
        f"--data.size={asked.size}",
    ]
    nets: list[tuple[str, str, Path | None]] = [("random weights", "style-transfer", None)]
    nets += [("Tiny Darknet", "style-transfer-darknet", asked.darknet)] if asked.darknet else []
    nets += [("VGG-19", "style-transfer-vgg19", asked.vgg)] if asked.vgg else []
    shown = {
        name: np.transpose(get_picture(source, "--" + name, asked.size).numpy(), (1, 2, 0))
        for name, source in (("content", asked.content), ("style", asked.style))
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe, weights in nets:
            given = [f"--model.weights={weights.resolve()}"] if weights else []
            picture, left = painted(recipe, [*words, *given], folder)
            shown[f"{name}\n{100 * left:.2g} % of the style loss left"] = picture
    figure = Figure(figsize=(3.6 * len(shown), 3.2), layout="constrained")
    for ax, (name, picture) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        ax.imshow(picture)
        ax.set_title(name, fontsize=13)
        ax.set_axis_off()
    figure.savefig(asked.out, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
