"""What both ways of style transfer have in common: the fixed net, its layers, and the weights of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dlmkit import Task, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least, did_you_mean
from dlmkit.screen import print_rows
from dlmkit.tasks.task import Metrics
from dlmkit_style_transfer.features import Features
from dlmkit_style_transfer.model import Losses, StyleLosses, StyleTarget, total_variation
from dlmkit_style_transfer.weights import FeatureNet, features

__all__ = ["StyleTask", "styles_of"]

_CONTENT: dict[str, list[str]] = {"random": ["random4"], "tiny-darknet": ["conv8"], "vgg19": ["relu4_2"]}
_STYLE: dict[str, list[str]] = {
    "random": ["random1", "random2", "random3", "random4", "random5"],
    "tiny-darknet": ["conv1", "conv2", "conv4", "conv6", "conv8", "conv10"],
    "vgg19": ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"],
}


def styles_of(batch: Batch) -> list[Tensor]:
    """The style pictures (1, 3, H, W) of a batch."""
    return [picture for name, picture in batch.items() if name.startswith("style_")]


class StyleTask(Task):
    """A task that compares pictures by what a fixed net makes of them.

    Args:
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
        smoothness: What the total variation is multiplied with.
        style_shares: How much each of several styles counts; equally much when left out.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.

    Raises:
        UserError: If there is no such layer, a weight is negative, or the net's weights cannot be read.
    """

    def __init__(
        self,
        features: FeatureNet = "random",
        weights: str | None = None,
        average_pooling: bool = False,
        content_layers: list[str] | None = None,
        style_layers: list[str] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 1000.0,
        smoothness: float = 0.1,
        style_shares: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(0, "model.", content_weight=content_weight, style_weight=style_weight, smoothness=smoothness)
        shares = style_shares or []
        if style_shares is not None and (min(shares, default=-1) < 0 or sum(shares) <= 0):
            what = f"style_shares are {style_shares}"
            raise UserError(what, "give a number for each style, none negative, not all 0", "model.style_shares")
        self.content_weight, self.style_weight, self.smoothness = content_weight, style_weight, smoothness
        self.style_shares = style_shares
        self.net_options = features, weights, average_pooling
        self.content_layers = _CONTENT[features] if content_layers is None else content_layers
        self.style_layers = _STYLE[features] if style_layers is None else style_layers
        self.losses: StyleLosses | None = None
        if features == "random":  # drawn now, and part of the checkpoint; what is in files is read when it is needed
            self.fixed_losses()

    def setup(self, stage: str) -> None:
        """Read the fixed net's weights, so that a fault is told before anything is trained."""
        self.fixed_losses()

    def fixed_losses(self) -> StyleLosses:
        """The losses on the fixed net, whose weights are read at the first call.

        Raises:
            UserError: If they cannot be read, or there is no such layer.
        """
        if self.losses is None:
            net = features(*self.net_options)
            for option in ("content_layers", "style_layers"):
                _require_layers(net, getattr(self, option), f"model.{option}")
            self.losses = StyleLosses(net, self.content_layers, self.style_layers)
            self.losses.to(next(self.parameters(), net.mean))
        return self.losses

    def on_fit_start(self) -> None:
        """Say which features are used."""
        if self.trainer.is_global_zero:
            print_rows({"features": self.told})

    def weighed(self, losses: Losses, pictures: Tensor) -> tuple[Tensor, Metrics]:
        """The weighted sum of both losses and the total variation, and both losses by themselves.

        Args:
            losses: Of the pictures.
            pictures: (B, 3, H, W).
        """
        content, style = losses.content.mean(), losses.style.mean()
        rough = total_variation(pictures).mean()
        loss = self.content_weight * content + self.style_weight * style + self.smoothness * rough
        return loss, {"content_loss": content, "style_loss": style}

    @property
    def told(self) -> str:
        """What the features are, in words."""
        return self.fixed_losses().features.told

    def style_target(self, styles: Sequence[Tensor]) -> StyleTarget:
        """What is kept of the styles; a wrong number of shares is told.

        Args:
            styles: (1, 3, H, W) each.

        Raises:
            UserError: If there are more or fewer shares than styles.
        """
        if self.style_shares is not None and len(self.style_shares) != len(styles):
            what = f"there are {len(self.style_shares)} shares for {len(styles)} styles"
            raise UserError(what, "give one for each", "model.style_shares")
        return self.fixed_losses().style_target(styles, self.style_shares)


def _require_layers(net: Features, layers: Sequence[str], option: str) -> None:
    for name in layers:
        if name not in net.names:
            remedy = did_you_mean(name, net.names, f"there are {', '.join(net.names)}")
            raise UserError(f"there is no layer {name}", remedy, option)
