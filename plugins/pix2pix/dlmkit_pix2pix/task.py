"""Pix2pix as a Lightning task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from dlmkit_pictures.fidelity import fidelity
from dlmkit_pictures.files import Channels, as_bytes, changed_to, named_file, read_picture, squared
from dlmkit_pictures.frames import Frames
from dlmkit_pictures.pairs import as_channels
from dlmkit_pictures.strips import first_of, strips_figure
from torch import Tensor

from dlmkit import Adversarial, Figure, Media, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit.tasks.adversarial import Player
from dlmkit.tasks.task import Metrics
from dlmkit_pix2pix.model import Normalisation, PatchDiscriminator, UNet

__all__ = ["Pix2Pix"]

_SHOWN = 10


class Pix2Pix(Adversarial):
    r"""Picture to picture from pairs: a generator is to come near the truth, and to pass a discriminator of patches.

    .. math::
        \min_G \max_D \; \mathbb{E}[\log D(x, y)] + \mathbb{E}[\log(1 - D(x, G(x, z)))]
        + \lambda \, \mathbb{E}[\lVert y - G(x, z) \rVert_1]

    The discriminator sees the given picture x beside the truth y, or beside what was made of it. Its objective is
    halved, and the generator minimises -log D in place of log(1 - D), both as in the paper. The L1 distance is that of
    pixels from -1 to 1. In a round the generator goes first, and the discriminator is shown what it made then.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017)

    Args:
        in_channels: Channels of the given picture; follows from the data.
        out_channels: Channels of the picture that it should become; follows from the data.
        side: Pixels along one side, a power of two from 16 to 256; follows from the data.
        width: Maps of both networks at half the size; with every further halving twice as many, up to eight times.
        patch: Pixels along the side of the patches that the discriminator looks at: 1, 16, 34, 70, 142 or 286.
        l1: What the distance to the truth is multiplied with, λ.
        adversary: What the adversarial part of the generator's loss is multiplied with; with 0 there is no adversary,
            and L1 alone is minimised.
        normalisation: Of both networks' maps: over a picture, over the batch, or none.
        optimizer: Makes the generator's optimiser from its parameters.
        discriminator_optimizer: Makes the discriminator's; when left out, as the generator's.
        lr_scheduler: Makes the generator's learning-rate schedule; it is stepped after every round.
        discriminator_lr_scheduler: Makes the discriminator's; when left out, as the generator's.
        generator_every: The generator is updated once in so many rounds, the discriminator in each.

    Raises:
        UserError: If there are no such pictures or patches, or a weight is negative.
    """

    monitor: ClassVar[str] = "val/l1"
    headline: ClassVar[str] = "test/psnr"
    conformance: ClassVar[Mapping[str, str]] = {
        "overfits_one_batch": "two losses that work against each other do not fall",
    }
    conformance_options = ("--model.width=4",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        side: int,
        width: int = 64,
        patch: Literal[1, 16, 34, 70, 142, 286] = 70,
        l1: float = 100.0,
        adversary: float = 1.0,
        normalisation: Normalisation = "instance",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(0, "model.", l1=l1, adversary=adversary)
        at_least(1, "model.", width=width)
        self.in_channels, self.side = in_channels, side
        self.l1, self.adversary = l1, adversary
        try:
            self.generator = UNet(in_channels, out_channels, side, width, normalisation)
            beside = in_channels + out_channels
            self.discriminator = PatchDiscriminator(beside, patch, width, normalisation, side)
        except ValueError as error:
            raise UserError(str(error), "give another data.side or model.patch", "model") from error
        if adversary == 0:
            self.discriminator.requires_grad_(False)
        self._made: Tensor | None = None
        self._examples = torch.empty(0, dtype=torch.uint8)
        self._frames = Frames()

    def players(self) -> Mapping[str, Player]:
        """The generator, and after it the discriminator where there is an adversary."""
        both = super().players()
        return {name: both[name] for name in ("generator", "discriminator")[: 1 if self.adversary == 0 else 2]}

    def forward(self, picture: Tensor, z: Tensor | None = None) -> Tensor:
        """Translate pictures (B, C, S, S), from 0 to 1; the noise z (B, noise_size) is drawn where it is not given."""
        z = self.noise(len(picture), self.generator.noise_size) if z is None else z  # type: ignore[arg-type]
        made: Tensor = self.generator(picture, z)
        return made

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """How far what is made is from the truth and from deceiving the discriminator."""
        given, truth = batch["input"], batch["target"]
        made = self(given)
        self._made = made.detach()
        distance = (made - truth).abs().mean()
        loss = self.l1 * 2 * distance  # pixels from -1 to 1 are twice as far from each other
        if self.adversary:
            told = self.discriminator(given, made)
            loss = loss + self.adversary * F.softplus(-told).mean()
        return loss, {"l1": distance.detach()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """How badly the discriminator tells the truth from what was made; and its outputs, from 0 to 1."""
        given, truth = batch["input"], batch["target"]
        made = self(given).detach() if self._made is None else self._made
        self._made = None
        real, fake = self.discriminator(given, truth), self.discriminator(given, made)
        loss = (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
        return loss, {"real_output": real.sigmoid().mean().detach(), "made_output": fake.sigmoid().mean().detach()}

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The losses of both, and how near what is made comes to the truth."""
        loss, metrics = super().loss(batch)
        given, truth = batch["input"], batch["target"]
        z = self.noise(len(given), self.generator.noise_size)  # type: ignore[arg-type]
        near = fidelity(self(given, z), truth)
        return loss, {**metrics, **{name: (each.mean(), len(given)) for name, each in near.items()}}

    # ------------------------------------------------------------------------------------------------ what it shows

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of validation; the first pictures of the first are kept for what is shown."""
        super().validation_step(batch, batch_idx)
        if batch_idx == 0 and not self.trainer.sanity_checking:
            given = first_of(self, batch, _SHOWN)["input"]
            self._examples = as_bytes(given)
            self._frames.add(self.trainer.global_step, self._fixed(given))

    def _fixed(self, pictures: Tensor, seed: int = 0) -> Tensor:
        """Translate with noise that is always the same."""
        draw = torch.Generator().manual_seed(seed)
        size = cast(int, self.generator.noise_size)
        made: Tensor = self(pictures, torch.randn(len(pictures), size, generator=draw).to(pictures.device))
        return made

    def show(self, batch: Batch) -> dict[str, Media]:
        """Given pictures, what is made of them and the truth; what noise changes; and how it came about."""
        batch = first_of(self, batch, _SHOWN)
        given, truth = batch["input"], batch["target"]
        rows = {"input": given, "output": self._fixed(given), "truth": truth}
        shown: dict[str, Media] = {
            "translations": Figure(strips_figure(rows, "What is made of pictures never trained on"))
        }
        draws = {f"noise {seed + 1}": self._fixed(given, seed) for seed in range(3)}
        shown["noise"] = Figure(strips_figure({"input": given, **draws}, "The same pictures, other noise"))
        if self.adversary:
            shown["patches"] = Figure(self._patches_figure(given, truth))
        if len(self._frames) > 1:
            shown["training"] = self._frames.animation(columns=_SHOWN // 2)
        return shown

    def _patches_figure(self, given: Tensor, truth: Tensor) -> Any:
        """What the discriminator says of each place: white where it takes a patch for real."""
        made = self._fixed(given)
        rows = {"output": made, "D of output": self._told(given, made), "truth": truth}
        rows["D of truth"] = self._told(given, truth)
        return strips_figure(rows, "What the discriminator says of each patch: white is real, black is made")

    def _told(self, given: Tensor, picture: Tensor) -> Tensor:
        told = torch.sigmoid(self.discriminator(given, picture))[:, None]
        return F.interpolate(told, given.shape[2:], mode="nearest")

    def sample(self, prompt: str | None = None, n: int = 4, *, seed: int = 1) -> list[Media]:  # type: ignore[override]
        """Translate a picture.

        Args:
            prompt: The file of a picture; its middle is cut out as a square and brought to the size that the net knows.
                When left out, the pictures are those that were shown during training.
            n: How often, each time with other noise.
            seed: Of the noise; the same seed gives the same pictures.

        Raises:
            UserError: If there is no prompt and no picture from training, or the file cannot be read.
        """
        if prompt is None:
            if not len(self._examples):
                raise UserError("there is no picture to translate", "name a picture's file", "--prompt")
            given = self._examples.to(self.device) / 255
        else:
            picture = read_picture(named_file(prompt), cast(Channels, self.in_channels))
            made = squared(picture, self.side)
            given = made.pixels[None].to(self.device)
        rows = {"input": given} | {f"output {i + 1}": self._fixed(given, seed + 1000 * i) for i in range(n)}
        if prompt is None:
            return [Figure(strips_figure(rows, "Pictures of the validation, and their translations"))]
        row = {Path(prompt).name: torch.cat([as_channels(pictures, 3) for pictures in rows.values()])}
        title = changed_to("A picture, and what is made of it", made)
        return [Figure(strips_figure(row, title))]

    # ------------------------------------------------------------------------------------------------ what is kept

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the animation and a sample without a prompt are made of."""
        checkpoint["examples"] = self._examples
        checkpoint["frames"] = self._frames.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up."""
        self._examples = checkpoint["examples"]
        self._frames.load(checkpoint["frames"])
