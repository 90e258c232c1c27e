"""Style transfer by optimising a picture, as a Lightning task."""

from __future__ import annotations

import time
from itertools import accumulate
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from dlmkit_pictures.files import as_bytes, luminance
from dlmkit_pictures.frames import Frames
from torch import Tensor, nn

from dlmkit import Figure, Image, Media, Text, UserError
from dlmkit.data.module import Batch
from dlmkit.seeds import run_seed
from dlmkit.tasks.task import Metrics
from dlmkit_style_transfer.base import StyleTask, styles_of
from dlmkit_style_transfer.colour import match_colours, match_luminance, with_luminance
from dlmkit_style_transfer.figures import side_by_side
from dlmkit_style_transfer.guard import Guard
from dlmkit_style_transfer.model import StyleTarget
from dlmkit_style_transfer.photographs import LEAST, fit

__all__ = ["StyleTransfer"]

_FRAME = 320  # pixels along the longer side of the animation


class StyleTransfer(StyleTask):
    r"""A photograph is painted like a painting: the pixels are what is trained.

    .. math::
        x^* = \arg\min_x \; \alpha L_{content}(x) + \beta L_{style}(x) + \gamma V(x)

    The losses look at the picture through a fixed net that is not changed: what is to be seen are its activations on
    the content picture, how it is painted are the Gram matrices of its activations on the style pictures. Both are
    computed once. V is the total variation. Before each look at the picture its pixels are brought into the
    range from 0 to 1. L-BFGS searches no step length here, and may jump out of where its quadratic holds: a step that
    makes the loss a tenth larger is taken back. L-BFGS is told the way back as its last step, and from then on of each
    step what is left of it within the range; another optimiser begins anew from there.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys, Ecker & Bethge, 2016), equation 7
        | A Neural Algorithm of Artistic Style (Gatys, Ecker & Bethge, 2015)
        | Preserving Color in Neural Artistic Style Transfer (Gatys, Bethge, Hertzmann & Shechtman, 2016)
        | Controlling Perceptual Factors in Neural Style Transfer (Gatys et al., 2017), section 6, for coarse steps

    Args:
        height: Pixels of the picture from top to bottom; follows from the data.
        width: Pixels from left to right; follows from the data.
        start: What the optimisation starts from: the content picture, or noise.
        keep_colours: ``no``: the picture takes the style's colours. ``luminance``: only the brightness is painted, and
            the content's colours are laid over it. ``histogram``: the style's colours are first given the mean and
            covariance of the content's.
        coarse_steps: Steps at the beginning in which the picture is looked at in a smaller size, which takes less time:
            with [100, 50] it is a quarter of its size for 100 steps, then half for 50, then all of it.
        features: The fixed net: ``random`` (random weights; tells colours and textures), ``tiny-darknet`` or ``vgg19``
            (trained on ImageNet; their weights have to be given).
        weights: The file of the fixed net's weights: Tiny Darknet's as TensorFlow.js has them (model.json, the shards
            beside it) or as .npz with Keras's names, VGG-19's with torchvision's names (.pth, .safetensors), or for
            VGG-19 the name of a model on the hub.
        average_pooling: Whether the fixed net takes means instead of maxima where it halves the picture.
        content_layers: The layers that say what is to be seen; for each net there are some when left out.
        style_layers: The layers that say how it is painted; for each net there are some when left out.
        content_weight: What the content loss is multiplied with, α.
        style_weight: What the style loss is multiplied with, β.
        smoothness: What the total variation is multiplied with, γ.
        style_shares: How much each of several styles counts; equally much when left out.
        optimizer: Makes the optimiser from the pixels.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every step.

    Raises:
        UserError: If an option is out of range, or the fixed net's weights cannot be read.
    """

    headline: ClassVar[str] = "test/style_left"
    conformance: ClassVar[dict[str, str]] = {
        "two_processes_one_gradient": "one picture is optimised, so there is no batch that processes could share",
        "two_real_processes": "one picture is optimised, so there is no batch that processes could share",
    }
    conformance_options = ("--data.size=96", "--model.coarse_steps=[2]")

    def __init__(
        self,
        height: int,
        width: int,
        start: Literal["content", "noise"] = "content",
        keep_colours: Literal["no", "luminance", "histogram"] = "no",
        coarse_steps: list[int] = [],  # noqa: B006  (jsonargparse reads it, nobody changes it)
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if any(steps < 0 for steps in coarse_steps):
            raise UserError(f"coarse_steps are {coarse_steps}", "give 0 or more for each", "model.coarse_steps")
        if coarse_steps and min(height, width) >> len(coarse_steps) < LEAST:
            what = f"{width} × {height} pixels halved {len(coarse_steps)} times are less than {LEAST} along a side"
            raise UserError(what, "give fewer, or a larger data.size", "model.coarse_steps")
        self.start, self.keep_colours = start, keep_colours
        self.switches = list(accumulate(coarse_steps))
        self.pixels = nn.Parameter(torch.full((1, 3, height, width), 0.5))
        self.guard = Guard(self.pixels)
        self._targets: dict[int, tuple[dict[str, Tensor], StyleTarget]] = {}
        self._frames = Frames()
        self._seconds, self._since = 0.0, 0.0

    # ------------------------------------------------------------------------------------------------ the optimisation

    def setup(self, stage: str) -> None:
        """Start from the content or from noise; a checkpoint that is read later brings its own pixels."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or data is None:
            return
        content = data.batch("train", 0, 0, 0, 1)["content"]
        noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(run_seed()))
        self.pixels.data.copy_(content if self.start == "content" else noise)
        self._keep_frame(self.pixels.detach())

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Start the clock; and forget the curvature where the picture is looked at in another size from now on."""
        self._since = time.perf_counter()
        self.guard.begin(self.trainer.optimizers[0], anew=self.global_step in self.switches)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Stop the clock."""
        self._seconds += time.perf_counter() - self._since

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step; and where the look before it showed that the last one was a jump, take both back.

        Where a step leads is seen when the next one begins, so until then the picture may be a jump's.
        """
        super().optimizer_step(*args, **kwargs)
        self.guard.end(self.pixels, self.trainer.optimizers[0])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One look at the picture; L-BFGS may take several in a step, of which the first is where the last step led."""
        self.into_range()
        loss = super().training_step(batch, batch_idx)
        self.guard.look(self.pixels, loss)
        return loss

    def into_range(self) -> None:
        """Bring pixels that are darker than black or brighter than white back."""
        with torch.no_grad():
            self.pixels.clamp_(0, 1)

    @property
    def halvings(self) -> int:
        """How many times the picture is halved before it is looked at, in this step."""
        return sum(self.global_step < step for step in self.switches) if self.training else 0

    def forward(self, halvings: int = 0) -> Tensor:
        """The picture as the fixed net sees it (1, 3, H, W); out of training its pixels lie from 0 to 1.

        Args:
            halvings: How many times it is halved.
        """
        x: Tensor = self.pixels if self.training else self.pixels.clamp(0, 1)
        x = luminance(x).expand(-1, 3, -1, -1) if self.keep_colours == "luminance" else x
        return _halved(x, halvings)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """How far the picture is from the content and from the styles."""
        halvings = self.halvings
        if halvings not in self._targets:
            self._targets[halvings] = self._make_targets(batch, halvings)
        picture = self(halvings)
        return self.weighed(self.fixed_losses()(picture, *self._targets[halvings]), picture)

    def _make_targets(self, batch: Batch, halvings: int) -> tuple[dict[str, Tensor], StyleTarget]:
        content, styles = self._prepared(batch)
        for number, style in enumerate(styles, 1):
            if min(style.shape[2:]) >> halvings < LEAST:
                what = f"style {number} halved {halvings} times is less than {LEAST} pixels along a side"
                raise UserError(what, "give a larger data.style_size", "model.coarse_steps")
        target = self.style_target([_halved(style, halvings) for style in styles])
        return self.fixed_losses().content_target(_halved(content, halvings)), target

    def _prepared(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Content and styles as they are compared: without colours, or with those of the content."""
        content, styles = batch["content"], styles_of(batch)
        if self.keep_colours == "histogram":
            return content, [match_colours(style, content) for style in styles]
        if self.keep_colours == "luminance":
            bright = luminance(content)
            matched = [match_luminance(luminance(style), bright).expand(-1, 3, -1, -1) for style in styles]
            return bright.expand(-1, 3, -1, -1), matched
        return content, styles

    def finished(self, content: Tensor) -> Tensor:
        """The picture to be looked at (1, 3, H, W), from 0 to 1.

        Args:
            content: Whose colours it takes where they are kept.
        """
        pixels = self.pixels.detach()
        if self.keep_colours == "luminance":
            pixels = with_luminance(content, luminance(pixels))
        return pixels.clamp(0, 1)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The losses of the picture; what is left of the content picture's style loss; and how long it took."""
        super().test_step(batch, batch_idx)
        before, after = self._style_before(batch), cast(Tensor, self.loss(batch)[1]["style_loss"])
        seconds = torch.tensor(self._seconds, device=self.device)
        self._log_metrics("test", {"style_left": after / before, "seconds_per_picture": seconds}, 1)

    def _style_before(self, batch: Batch) -> Tensor:
        """The style loss of the content picture as it is."""
        losses = self.fixed_losses()(self._prepared(batch)[0], *self._targets[0])
        return losses.style.mean().clamp(min=1e-12)  # it is none where the content is the style, too

    # ------------------------------------------------------------------------------------------------ what it shows

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The losses; and the picture as it is now is kept for the animation."""
        super().validation_step(batch, batch_idx)
        if not self.trainer.sanity_checking:
            self._keep_frame(self.finished(batch["content"]))

    def _keep_frame(self, picture: Tensor) -> None:
        self._frames.add(self.global_step, fit(picture[0].cpu(), min(_FRAME, max(picture.shape[2:])))[None])

    def show(self, batch: Batch) -> dict[str, Media]:
        """The picture in full size; at the end also beside content and styles, and how it formed."""
        picture = self.finished(batch["content"])
        shown: dict[str, Media] = {"picture": Image(as_bytes(picture[0]).permute(1, 2, 0).numpy())}
        if self._trainer is None or self.trainer.testing:
            shown["transfer"] = Figure(self._side_by_side(batch, picture[0]))
            shown["losses"] = Text(self._told_losses(batch))
            if len(self._frames) > 1:
                shown["forming"] = self._frames.animation(columns=1)
        return shown

    def _told_losses(self, batch: Batch) -> str:
        """Both losses of the content as it is and of the picture, and the time that it took."""
        metrics = {name: float(value) for name, value in self.loss(batch)[1].items()}  # type: ignore[arg-type]
        rows = [("the content as it is", 0.0, float(self._style_before(batch)))]
        rows.append(("the picture", metrics["content_loss"], metrics["style_loss"]))
        lines = [f"{'':<22}{'content loss':>14}{'style loss':>14}"]
        lines += [f"{who:<22}{content:>14.4f}{style:>14.5f}" for who, content, style in rows]
        return "\n".join([*lines, f"{self._seconds:.1f} seconds per picture"])

    def _side_by_side(self, batch: Batch, picture: Tensor) -> Any:
        after = float(self.loss(batch)[1]["style_loss"])  # type: ignore[arg-type]
        left = 100 * after / float(self._style_before(batch))
        styles = {f"style {n}" if n > 1 else "style": s[0] for n, s in enumerate(styles_of(batch), 1)}
        caption = f"result: {left:.2g} % of the content's style loss is left"
        rows = {"content": batch["content"][0], **styles, caption: picture}
        return side_by_side(rows, f"features: {self.told}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the animation is made of, and the time that was taken."""
        checkpoint["frames"], checkpoint["seconds"] = self._frames.state(), self._seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up."""
        self._seconds = checkpoint["seconds"]
        self._frames.load(checkpoint["frames"])


def _halved(pictures: Tensor, halvings: int) -> Tensor:
    if not halvings:
        return pictures
    size, device = [side >> halvings for side in pictures.shape[2:]], pictures.device
    given = pictures.cpu() if device.type == "mps" else pictures  # Apple's GPUs lack the gradient of this
    return F.interpolate(given, size, mode="bilinear", antialias=True, align_corners=False).to(device)
