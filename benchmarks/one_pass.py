"""A photograph in one pass of a trained net, and optimised: the same losses of both, and what either costs.

The run is one of fast-style-transfer. The same photograph is then optimised by the recipe style-transfer with the fixed
net, the layers, the weights and the style of the run, and one function judges all: the content as it is, what the net
paints, and what was optimised.

    python benchmarks/one_pass.py runs/fast-style-transfer --content china --size 320 --out sheet.jpg
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from common import trained, training
from dlmkit_style_transfer.figures import side_by_side
from dlmkit_style_transfer.photographs import get_picture
from torch import Tensor

SHARED = ("features", "weights", "average_pooling", "content_layers", "style_layers")
SHARED += ("content_weight", "style_weight", "smoothness", "style_shares")
PASSES = 9


def optimised(config: dict[str, Any], content: str, size: int, steps: int) -> tuple[Tensor, float]:
    """A photograph (1, 3, H, W) that was optimised with the losses of a configuration, and the seconds that it took."""
    options = {name: value for name, value in config["model"]["init_args"].items() if name in SHARED}
    words = [f"--model.{name}={json.dumps(value)}" for name, value in options.items() if value is not None]
    data = config["data"]["init_args"]
    words += [f"--data.content={content}", f"--data.style={json.dumps(data['style'])}", f"--data.size={size}"]
    words += [f"--data.style_size={data['style_size']}", f"--trainer.max_steps={steps}"]
    with tempfile.TemporaryDirectory() as runs:
        run = training("style-transfer", runs, words)
        pixels: Tensor = trained(run.folder).pixels
        seconds: float = run.summary["metrics"]["test/seconds_per_picture"]
    return pixels.detach().clamp(0, 1), seconds


def main() -> None:
    """Paint both ways, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of fast-style-transfer")
    parser.add_argument("--content", default="china", help="a photograph's file, or china, flower or hopper")
    parser.add_argument("--size", type=int, default=320, help="pixels along the longer side")
    parser.add_argument("--steps", type=int, default=240, help="of the optimisation")
    parser.add_argument("--out", type=Path, help="where content, style and both pictures go, side by side")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    task, config = trained(asked.run), yaml.safe_load((asked.run / "config.yaml").read_text(encoding="utf-8"))
    data = config["data"]["init_args"]
    styles = [get_picture(source, "data.style", data["style_size"])[None] for source in data["style"]]
    content = get_picture(asked.content, "--content", asked.size)[None]
    batch = {"content": content, **{f"style_{number}": style for number, style in enumerate(styles, 1)}}
    seconds = []
    with torch.no_grad():
        for _ in range(PASSES):
            began = time.thread_time()
            painted = task(content).clamp(0, 1)
            seconds.append(time.thread_time() - began)
    slowly, taken = optimised(config, asked.content, asked.size, asked.steps)
    rows = {
        "the content as it is": (content, None),
        "in one pass": (painted, statistics.median(seconds)),
        f"optimised, {asked.steps} steps": (slowly, taken),
    }
    print(f"{content.shape[3]} × {content.shape[2]} pixels, {task.told}, one thread, torch {torch.__version__}")
    print(f"{'':<24}{'content loss':>14}{'style loss':>14}{'style left':>12}{'seconds':>10}")
    with torch.no_grad():
        before = float(task.compare(content, batch).style.mean())
        for name, (picture, cost) in rows.items():
            losses = task.compare(picture, batch)
            style = float(losses.style.mean())
            told = f"{float(losses.content.mean()):>14.3f}{style:>14.5f}{100 * style / before:>10.2f} %"
            print(f"{name:<24}{told}{'' if cost is None else f'{cost:>10.2f}'}")
    if asked.out:
        shown = {"content": content[0], "style": styles[0][0]}
        shown |= {"in one pass": painted[0], "optimised": slowly[0]}
        side_by_side(shown, f"features: {task.told}", columns=4).savefig(asked.out, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
