"""Style transfer: seconds per picture, against the algorithm of PyTorch's tutorial with the same fixed net and losses.

The tutorial's algorithm: modules that keep their loss stand between the layers of a sequential net, which ends behind
the last of them; convolution, normalisation and activation are layers of their own; L-BFGS with PyTorch's settings goes
through a closure that brings the pixels into their range and goes forward and back, 300 times at full size. Ours is the
task's: convolution and normalisation in one, channels last, targets computed once, a short history of curvature, and
first steps at a quarter and at half the size.

Both start from the content, on one thread, whose time on the processor counts. The clock stands
still while a picture is judged, which is done for both by the same function: the weighted sum of both losses of the
picture in its range, at full size. What is compared is the tutorial's time for its 300 steps with the time until ours
is as good as the tutorial's best picture.

Usage: python benchmarks/style_transfer.py --weights darknettiny/model.json [--size 512] [--rounds 3]
Without --weights the fixed net is the one with random weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from common import report
from dlmkit_style_transfer.features import Features, FrozenLayer
from dlmkit_style_transfer.model import gram
from dlmkit_style_transfer.photographs import get_picture
from dlmkit_style_transfer.task import StyleTransfer
from torch import Tensor, nn

STEPS = 300  # of the tutorial


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="Tiny Darknet's weights (model.json or .npz); random ones when left out")
    parser.add_argument("--size", type=int, default=512, help="pixels along the longer side (default: 512)")
    parser.add_argument("--content", default="china", help="the content picture (default: china)")
    parser.add_argument("--style", default="strokes", help="the style picture (default: strokes)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the tutorial's algorithm (default: {STEPS})")
    parser.add_argument("--coarse", type=int, nargs="*", default=[80, 60], help="our steps at smaller sizes")
    parser.add_argument("--history", type=int, default=20, help="pairs of our L-BFGS's history (default: 20)")
    parser.add_argument("--every", type=int, default=5, help="our steps from one judgement to the next (default: 5)")
    parser.add_argument("--style-weight", type=float, default=1000.0, help="of the style loss (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    return parser.parse_args()


# --------------------------------------------------------------------------------------------- the tutorial's algorithm


class Normalise(nn.Module):
    """The first layer: pixels as the net wants them."""

    def __init__(self, net: Features) -> None:
        super().__init__()
        self.mean, self.scale = net.mean, net.scale

    def forward(self, x: Tensor) -> Tensor:
        """Pixels, shifted and scaled."""
        return (x - self.mean) * self.scale


class KeepLoss(nn.Module):
    """Lets activations pass, and keeps what they cost."""

    def __init__(self, cost: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.cost = cost
        self.value = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """The activations, unchanged."""
        self.value = self.cost(x)
        return x


class Norm(nn.Module):
    """Batch normalisation in use, not yet put into the convolution before it."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(len(bias)).eval().requires_grad_(False)
        self.norm.running_var.fill_(1 - self.norm.eps)  # its own factor is 1, so that both sides compute the same
        self.norm.bias.data.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps, normalised."""
        return self.norm(x)


Losses = list[KeepLoss]


def plain_layers(layer: FrozenLayer, norm: bool) -> list[nn.Module]:
    """A frozen layer as the modules that it stands for."""
    convolution = nn.Conv2d(*layer.weight.shape[1::-1], layer.weight.shape[2], bias=not norm)
    convolution.weight.data.copy_(layer.weight)
    edge = layer.weight.shape[2] // 2
    if layer.reflect:
        found: list[nn.Module] = [layer.pool, nn.ReflectionPad2d(edge), convolution]
    else:
        convolution.padding = (edge, edge)
        found = [layer.pool, convolution]
    if norm:
        found.append(Norm(layer.bias))
    else:
        convolution.bias.data.copy_(layer.bias)
    return [*found, nn.LeakyReLU(layer.slope) if layer.slope else nn.ReLU()]


def tutorial_net(task: StyleTransfer, content: Tensor, style: Tensor, norm: bool) -> tuple[nn.Sequential, Losses]:
    """The sequential net with losses in it, up to the last of them."""
    net = task.fixed_losses().features
    target = task.style_target([style])
    seen = net(content, task.content_layers)
    modules: list[nn.Module] = [Normalise(net)]
    kept: Losses = []
    for name, layer in zip(net.names, net.layers, strict=True):
        modules += plain_layers(layer, norm)
        if name in task.style_layers:
            weight = task.style_weight / len(task.style_layers) / target.size[name]
            kept.append(KeepLoss(lambda x, a=target.grams[name], w=weight: w * (gram(x)[0] - a).square().sum()))
            modules.append(kept[-1])
        if name in task.content_layers:
            weight = task.content_weight / len(task.content_layers) / target.energy[name]
            kept.append(KeepLoss(lambda x, p=seen[name], w=weight: w * F.mse_loss(x, p)))
            modules.append(kept[-1])
        if name == [n for n in net.names if n in {*task.content_layers, *task.style_layers}][-1]:
            break
    return nn.Sequential(*modules).requires_grad_(False), kept


@dataclass
class Run:
    """What one way of making the picture came to.

    Args:
        seconds: Of this thread, without those of judging.
        losses: What was judged, and after how many seconds.
        picture: The last one.
    """

    seconds: float
    losses: list[tuple[float, float]]
    picture: Tensor


def tutorial(task: StyleTransfer, batch: dict[str, Tensor], steps: int, norm: bool) -> Run:
    """The tutorial's algorithm: so many times through the closure."""
    clock = time.thread_time()
    net, kept = tutorial_net(task, batch["content"], batch["style_1"], norm)
    x = batch["content"].clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([x])
    done = [0]

    def closure() -> Tensor:
        with torch.no_grad():
            x.clamp_(0, 1)
        optimizer.zero_grad()
        net(x)
        loss = torch.stack([module.value for module in kept]).sum()
        loss.backward()
        done[0] += 1
        return loss

    losses, judging = [], 0.0
    while done[0] < steps:
        optimizer.step(closure)
        before = time.thread_time()
        losses.append((before - clock - judging, judged(task, batch, x.detach())))
        judging += time.thread_time() - before
    with torch.no_grad():
        x.clamp_(0, 1)
    return Run(time.thread_time() - clock - judging, losses, x.detach())


# ----------------------------------------------------------------------------------------------------------------- ours


def ours(task: StyleTransfer, batch: dict[str, Tensor], goal: float, given: argparse.Namespace) -> Run:
    """The task's algorithm, until it is as good."""
    clock = time.thread_time()
    task._targets.clear()
    task.pixels.data.copy_(batch["content"])
    optimizer = torch.optim.LBFGS([task.pixels], lr=1.0, max_iter=1, history_size=given.history)
    losses, judging = [], 0.0
    task.train()
    for step in range(given.steps + sum(given.coarse)):
        Step.number = step
        task.guard.begin(optimizer, anew=step in task.switches or not step)

        def closure() -> Tensor:
            task.into_range()
            optimizer.zero_grad()
            loss = task.loss(batch)[0]
            task.guard.look(task.pixels, loss)
            loss.backward()
            return loss

        optimizer.step(closure)
        task.guard.end(task.pixels, optimizer)
        if task.halvings == 0 and step % given.every == given.every - 1:
            before = time.thread_time()
            losses.append((before - clock - judging, judged(task, batch, task.pixels.detach())))
            judging += time.thread_time() - before
            if losses[-1][1] <= goal:
                break
    return Run(time.thread_time() - clock - judging, losses, task.pixels.detach())


class Step(StyleTransfer):
    """The task without a trainer: it is told the step."""

    number = 0

    @property
    def global_step(self) -> int:
        """Steps done."""
        return Step.number


@torch.no_grad()
def judged(task: StyleTransfer, batch: dict[str, Tensor], picture: Tensor) -> float:
    """The weighted sum of both losses of a picture in its range."""
    if 0 not in task._targets:
        task._targets[0] = task._make_targets(batch, 0)
    losses = task.fixed_losses()(picture.clamp(0, 1), *task._targets[0])
    return float(task.content_weight * losses.content + task.style_weight * losses.style)


def main() -> None:
    """Measure in turn and print."""
    given = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = {"content": get_picture(given.content, "--content", given.size)[None]}
    batch["style_1"] = get_picture(given.style, "--style", given.size)[None]
    options = {"features": "tiny-darknet", "weights": given.weights} if given.weights else {}
    high, wide = batch["content"].shape[2:]
    task = Step(high, wide, coarse_steps=given.coarse, style_weight=given.style_weight, smoothness=0.0, **options)
    print(f"{wide} × {high} pixels, {task.told}, one thread, torch {torch.__version__}, CPU")
    theirs_taken, ours_taken = [], []
    for turn in range(given.rounds):
        theirs = tutorial(task, batch, given.steps, norm=bool(given.weights))
        best_after, goal = min(theirs.losses, key=lambda judged: judged[1])
        mine = ours(task, batch, goal, given)
        theirs_taken.append(theirs.seconds)
        ours_taken.append(mine.seconds)
        reached = "reached" if mine.losses[-1][1] <= goal else "NOT REACHED"
        print(f"round {turn + 1}: loss {goal:.4f} of the tutorial, after {best_after:.1f} s of {theirs.seconds:.1f} s")
        print(f"  ours: {reached} after {mine.seconds:.1f} s")
        print("  theirs " + " ".join(f"{s:.0f}s {loss:.3f}" for s, loss in theirs.losses[::3]))
        print("  ours   " + " ".join(f"{s:.0f}s {loss:.3f}" for s, loss in mine.losses[::4]))
    report("seconds per picture: the tutorial", theirs_taken, ours_taken, "s", "ours, until as good")


if __name__ == "__main__":
    main()
