"""Style transfer in one pass of a trained net, as a Lightning task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from dlmkit_pictures.files import as_bytes, changed_to, read_picture
from dlmkit_pictures.frames import Frames
from torch import Tensor

from dlmkit import Figure, Image, Media, Text, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit.tasks.task import Metrics
from dlmkit_style_transfer.base import StyleTask, styles_of
from dlmkit_style_transfer.figures import side_by_side
from dlmkit_style_transfer.model import Losses, StyleTarget
from dlmkit_style_transfer.photographs import LEAST, NAMES, fit, get_picture
from dlmkit_style_transfer.transformer import TransformerNet

__all__ = ["FastStyleTransfer"]

_SHOWN, _FRAME = 3, 320


class FastStyleTransfer(StyleTask):
    r"""A net learns to paint in one style: after that, a picture of any size takes one pass.

    .. math::
        W^* = \arg\min_W \; \mathbb{E}_x \left[ \alpha L_{content}(f_W(x), x) + \beta L_{style}(f_W(x))
        + \gamma V(f_W(x)) \right]

    The losses are those of `style-transfer`, on what the net f makes of content pictures x.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016), equation 1
        | Instance Normalization: The Missing Ingredient for Fast Stylization (Ulyanov, Vedaldi & Lempitsky, 2016)

    Args:
        maps: Maps of the net at full size (32 in the paper); at half size twice, at a quarter four times as many.
        blocks: Residual blocks of the net (5 in the paper).
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
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.

    Raises:
        UserError: If an option is out of range, or the fixed net's weights cannot be read.
    """

    headline: ClassVar[str] = "test/style_left"
    conformance: ClassVar[dict[str, str]] = {}
    conformance_options = ("--model.maps=4", "--model.blocks=1", "--data.crop=32", "--data.style_size=64")

    def __init__(self, maps: int = 32, blocks: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        at_least(1, "model.", maps=maps, blocks=blocks)
        self.net = TransformerNet(maps, blocks)
        self._target: StyleTarget | None = None
        self._example = torch.empty(0, dtype=torch.uint8)  # what a sample without a prompt is made of
        self._frames = Frames()

    def setup(self, stage: str) -> None:
        """Read the fixed net's weights, and keep a photograph to look at."""
        super().setup(stage)
        photograph = getattr(getattr(self.trainer, "datamodule", None), "photograph", None)
        if stage == "fit" and photograph is not None:
            self._example = as_bytes(photograph(0))

    def forward(self, pictures: Tensor) -> Tensor:
        """Paint pictures (B, 3, H, W) of any size, from 0 to 1."""
        painted: Tensor = self.net(pictures)
        return painted

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """How far what the net paints is from the content and from the styles."""
        made = self(batch["content"])
        return self.weighed(self.compare(made, batch), made)

    def compare(self, pictures: Tensor, batch: Batch) -> Losses:
        """The losses of pictures (B, 3, H, W).

        Args:
            pictures: What is compared with the batch's content.
            batch: Content and styles.
        """
        fixed = self.fixed_losses()
        if self._target is None:
            self._target = self.style_target(styles_of(batch))
        found: Losses = fixed(pictures, fixed.content_target(batch["content"]), self._target)
        return found

    def count(self, batch: Batch) -> int:
        """How many pictures the loss of a batch is the mean of."""
        return len(batch["content"])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The losses, and what is left of the content pictures' style loss."""
        super().test_step(batch, batch_idx)
        content = batch["content"]
        before, after = (self.compare(x, batch).style.mean() for x in (content, self(content)))
        self._log_metrics("test", {"style_left": after / before}, len(content))

    # ------------------------------------------------------------------------------------------------ what it shows

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of validation; at the first, the photograph as it is painted now is kept for the animation."""
        super().validation_step(batch, batch_idx)
        if batch_idx == 0 and not self.trainer.sanity_checking and len(self._example):
            self._frames.add(self.global_step, self(self._photograph(_FRAME)[None]))

    def _photograph(self, size: int | None = None) -> Tensor:
        pixels = self._example.to(self.net.noise) / 255
        return pixels if size is None or size >= max(pixels.shape[1:]) else fit(pixels, size)

    def show(self, batch: Batch) -> Mapping[str, Media]:
        """Squares never trained on, and what is made of them; a whole photograph; at the end, how it came about."""
        content = batch["content"][:_SHOWN]
        pictures = {"style": styles_of(batch)[0][0]}
        for number, (given, made) in enumerate(zip(content, self(content), strict=True), 1):
            pictures |= {f"content {number}": given, f"painted {number}": made}
        title = f"In one pass; features: {self.told}"
        shown: dict[str, Media] = {"squares": Figure(side_by_side(pictures, title, columns=len(pictures)))}
        if len(self._example):
            shown["picture"] = _image(self(self._photograph()[None])[0])
        done = self._trainer is None or self.trainer.testing
        if done and len(self._frames) > 1:
            shown["training"] = self._frames.animation(columns=1)
        return shown

    def sample(self, prompt: str | None = None, n: int = 1, *, size: int | None = None) -> list[Media]:  # type: ignore[override]
        """Paint a picture.

        Args:
            prompt: Its file, or ``china``, ``flower``, ``hopper``, ``strokes``; when left out, the photograph that was
                looked at during training.
            n: Of no effect: the net paints a picture in one way only.
            size: Pixels along the longer side that it is brought to first; as it is when left out. With 32 maps a
                picture takes some 650 bytes of memory a pixel, so 24 megapixels 16 GB.

        Raises:
            UserError: If there is no picture, or it cannot be read, or it or the size is too small.
        """
        if size is not None:
            at_least(LEAST, "--", size=size)
        notes: list[Media] = []
        if prompt is None and not len(self._example):
            raise UserError("there is no picture to paint", "name a picture's file", "--prompt")
        if prompt is None:
            pixels = self._photograph()
        elif prompt in NAMES or not Path(prompt).suffix:  # a name, or what could be meant for one
            pixels = get_picture(prompt, "--prompt")
        else:
            picture = read_picture(Path(prompt).expanduser())
            pixels = picture.pixels
            notes += [Text(changed_to(Path(prompt).name, picture))] if picture.changes else []
        pixels = fit(pixels, size) if size else pixels
        try:
            with torch.no_grad():
                return [_image(self(pixels[None].to(self.device))[0]), *notes]
        except ValueError as error:
            raise UserError(str(error), "give a larger one, or a larger --size", prompt or "--size") from error

    # ------------------------------------------------------------------------------------------------ what is kept

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the animation and a sample without a prompt are made of."""
        checkpoint["example"] = self._example
        checkpoint["frames"] = self._frames.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up."""
        self._example = checkpoint["example"]
        self._frames.load(checkpoint["frames"])


def _image(picture: Tensor) -> Image:
    return Image(as_bytes(picture.detach().clamp(0, 1)).permute(1, 2, 0).numpy())
