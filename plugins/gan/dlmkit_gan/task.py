"""The GAN as a Lightning task."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import getattr_static
from typing import Any, ClassVar, Literal

import torch
from dlmkit_pictures.frames import Frames
from dlmkit_pictures.inception import add_pictures, inception_distance
from dlmkit_pictures.judge import spread
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure as MatplotlibFigure
from torch import Tensor

from dlmkit import Adversarial, Figure, Image, Media, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit.figures import picture_grid
from dlmkit.tasks.task import Metrics
from dlmkit_gan.model import Discriminator, Generator, Normalisation
from dlmkit_gan.objectives import OBJECTIVES, gradient_penalty

__all__ = ["GAN"]

_SHOWN = 32
_JUDGED = 1000
_MADE_AT_ONCE = 250


class GAN(Adversarial):
    r"""Generative adversarial nets: a generator makes pictures, a discriminator tells them from real ones.

    .. math::
        \min_G \max_D \; \mathbb{E}[\log D(x)] + \mathbb{E}[\log(1 - D(G(z)))], \qquad z \sim \mathcal{N}(0, I)

    How good it is says the ``judge`` of the data, which compares what is made with the data's ``table(split)``.

    References:
        | Generative Adversarial Nets (Goodfellow et al., 2014)
        | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford, Metz &
          Chintala, 2016), for the networks

    Args:
        channels: Channels of a picture; follows from the data.
        side: Pixels along one side; follows from the data.
        latent_size: Numbers in the vector z that a picture is made of.
        width: Maps of both networks at full size; with every halving of the side there are twice as many.
        objective: The game: minimax as in the paper, non-saturating, wasserstein (with a gradient penalty), or hinge.
        normalisation: Of the discriminator: spectral (of the weights), batch (of the maps), or none.
        dropout: Fraction of the discriminator's maps dropped, which keeps it from learning a small set by heart.
        penalty: What the gradient penalty of wasserstein is multiplied with.
        inception: File of the Inception net's weights, or ``download``: the test then also gives the Fréchet Inception
            distance, ``test/fid``; it needs dlmkit-gan[inception].
        inception_pictures: How many made pictures, and at most how many of the test, that distance is between.
        optimizer: Makes the generator's optimiser from its parameters.
        discriminator_optimizer: Makes the discriminator's; when left out, as the generator's.
        lr_scheduler: Makes the generator's learning-rate schedule; it is stepped after every round.
        discriminator_lr_scheduler: Makes the discriminator's; when left out, as the generator's.
        generator_every: The generator is updated once in so many rounds, the discriminator in each.

    Raises:
        UserError: If an option is out of range, the side is not 4 to 7 doubled, Inception's weights cannot be had, or
            the data have no judge.
    """

    monitor: ClassVar[str] = "val/distance"
    headline: ClassVar[str] = "test/distance"
    conformance: ClassVar[Mapping[str, str]] = {
        "overfits_one_batch": "two losses that work against each other do not fall",
    }
    conformance_options = ("--model.width=8", "--model.latent_size=8")

    def __init__(
        self,
        channels: int,
        side: int,
        latent_size: int = 64,
        width: int = 32,
        objective: Literal["minimax", "non-saturating", "wasserstein", "hinge"] = "non-saturating",
        normalisation: Normalisation = "spectral",
        dropout: float = 0.0,
        penalty: float = 10.0,
        inception: str | None = None,
        inception_pictures: int = 10_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(2, "model.", inception_pictures=inception_pictures)
        at_least(1, "model.", latent_size=latent_size, width=width)
        at_least(0, "model.", penalty=penalty)
        at_least(0, "model.", below=1, dropout=dropout)
        self.inception, self.inception_pictures = inception, inception_pictures
        self.latent_size, self.penalty = latent_size, penalty
        self.objective = OBJECTIVES[objective]()
        try:
            self.generator = Generator(latent_size, channels, side, width)
            self.discriminator = Discriminator(channels, side, width, normalisation, dropout)
        except ValueError as error:
            raise UserError(str(error), "give pictures of another size", "data") from error
        fixed = torch.randn(_JUDGED, latent_size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("fixed", fixed, persistent=False)  # the same z throughout the run, and in every run
        self._frames = Frames()
        self._outputs: list[tuple[int, float, float]] = []

    fixed: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """Pictures (B, C, S, S), from 0 to 1, of vectors z (B, latent_size)."""
        pictures: Tensor = self.generator(z)
        return pictures

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The discriminator's loss, and what it says of real and of made pictures: D, or d where no D is meant."""
        real = batch["picture"]
        made = self(self.noise(len(real), self.latent_size))
        told = self.discriminator(real), self.discriminator(made)
        loss = self.objective.discriminator(*told)
        if self.objective.penalised and torch.is_grad_enabled():
            mix = torch.special.ndtr(self.noise(len(real), 1, 1, 1))  # uniform from 0 to 1
            loss = loss + self.penalty * gradient_penalty(self.discriminator, real, made, mix)
        real_output, made_output = (
            (torch.sigmoid(logits) if self.objective.probable else logits).mean().detach() for logits in told
        )
        step = self.trainer.global_step if self.training and self._trainer is not None else -1
        if step % 10 == 0 and (not self._outputs or self._outputs[-1][0] != step):  # once for a group of batches
            self._outputs.append((step, float(real_output), float(made_output)))
        return loss, {"real_output": real_output, "made_output": made_output}

    def generator_loss(self, batch: Batch) -> Tensor:
        """The generator's loss on as many pictures as the batch has."""
        made = self(self.noise(len(batch["picture"]), self.latent_size))
        return self.objective.generator(self.discriminator(made))

    # ------------------------------------------------------------------------------------------------ how good it is

    def on_validation_batch_end(self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """After the last batch, let the data's judge look, and keep a frame of the animation.

        Where weights are averaged, the averages are in place now, and no more when the epoch ends.
        """
        if batch_idx + 1 == self.trainer.num_val_batches[0] and not self.trainer.sanity_checking:
            self._frames.add(self.trainer.global_step, self(self.fixed[:_SHOWN]))
            self._judge("val")

    def configure_callbacks(self) -> list[Callback]:
        """Look for the data's judge and for Inception's weights, before there is a run folder and hours are spent.

        Raises:
            UserError: If they cannot be had.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if getattr_static(data, "judge", None) is None:  # to ask for it in the usual way trains it
            what = f"{type(data).__name__} has no judge, and a GAN has no other measure of how good it is"
            raise UserError(what, "give pictures whose class can be told, such as labelled-pictures", "data.class_path")
        if self.inception is not None:
            inception_distance(self.inception, "model.inception")
        return super().configure_callbacks()

    def on_test_epoch_end(self) -> None:
        """Let the data's judge look, and Inception where its weights are given."""
        self._judge("test")
        if self.inception is not None:
            self.log("test/fid", self._fid(self.inception))

    def _fid(self, weights: str) -> Tensor:
        """The Fréchet Inception distance of made pictures from those of the test; each process shows its share."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        rank, processes = self.global_rank, self.trainer.world_size
        draw = torch.Generator().manual_seed(0)
        z = torch.randn(self.inception_pictures, self.latent_size, generator=draw)[rank::processes].to(self.fixed)
        device = "cpu" if self.device.type == "mps" else self.device  # Apple's GPUs have no float64
        metric = inception_distance(weights, "model.inception").to(device)
        real = spread(data.table("test")[0], self.inception_pictures)
        add_pictures(metric, real[rank::processes], real=True)
        for part in z.split(_MADE_AT_ONCE):
            add_pictures(metric, self(part), real=False)
        distance: Tensor = metric.compute()  # over all processes
        return distance

    def _judge(self, stage: Literal["val", "test"]) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        made = torch.cat([self(z) for z in self.fixed.split(_MADE_AT_ONCE)])
        verdict = data.judge.verdict(made, data.table(stage)[0])
        for name, value in verdict._asdict().items():
            self.log(f"{stage}/{name}", value, prog_bar=True, sync_dist=True, on_epoch=True, batch_size=1)

    # ------------------------------------------------------------------------------------------------ what it shows

    def show(self, batch: Batch) -> dict[str, Media]:
        """Pictures from fixed z, how they came about, a walk between z, and the discriminator's outputs over time."""
        shown: dict[str, Media] = {
            "samples": Image(
                picture_grid(self(self.fixed[:_SHOWN])), "Made pictures, from the same z at every validation"
            ),
            "real": Image(picture_grid(batch["picture"][:_SHOWN]), "Real pictures, never trained on"),
            "walk": Image(picture_grid(self(self.walk(rows=4, steps=10)), columns=10), "From one z to another"),
        }
        if len(self._frames) > 1:
            shown["training"] = self._frames.animation(columns=8)
        if len(self._outputs) > 1:
            shown["outputs"] = Figure(self.outputs_figure())
        return shown

    def walk(self, rows: int, steps: int) -> Tensor:
        """Vectors on the way from one z to another (rows · steps, latent_size).

        The way is along a great circle, on which vectors stay as long as normal ones are; a straight one between
        vectors that lie on a line with 0.

        Args:
            rows: How many ways.
            steps: Vectors on each, ends included.

        References:
            | Sampling Generative Networks (White, 2016)
        """
        one, other = self.fixed[:rows, None], self.fixed[rows : 2 * rows, None]
        angle = torch.arccos(torch.cosine_similarity(one, other, dim=-1).clamp(-1, 1))[..., None]
        t = torch.linspace(0, 1, steps, device=one.device)[None, :, None]
        between = (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)
        on_one_line = torch.sin(angle) < 1e-3  # there is no circle
        return torch.where(on_one_line, (1 - t) * one + t * other, between).flatten(0, 1)

    def outputs_figure(self) -> MatplotlibFigure:
        """What the discriminator said of real and of made pictures while it was trained."""
        figure = MatplotlibFigure(figsize=(9, 4), layout="constrained")
        ax = figure.subplots()
        steps, real, made = zip(*self._outputs, strict=True)
        ax.plot(steps, real, label="real pictures", color="tab:blue")
        ax.plot(steps, made, label="made pictures", color="tab:orange")
        ax.set_xlabel("step")
        if self.objective.probable:
            ax.axhline(0.5, color="grey", linewidth=1, linestyle=":")
            ax.set(ylabel="D = σ(d), the discriminator's output", ylim=(0, 1))
            ax.set_title("What the discriminator says: 1 is real, 0 is made; at ½ it cannot tell")
        else:
            ax.set_ylabel("d, the discriminator's output")
            ax.set_title("What the discriminator says: the higher, the more real; it has no scale of its own")
        ax.legend()
        return figure

    def sample(self, prompt: str | None = None, n: int = 32, *, seed: int = 1) -> list[Media]:  # type: ignore[override]
        """Make pictures.

        Args:
            prompt: Not used: a picture is made of random numbers alone.
            n: How many pictures.
            seed: Of the draws; the same seed gives the same pictures.

        Raises:
            UserError: If there is a prompt.
        """
        if prompt is not None:
            raise UserError("a GAN takes no prompt", "leave it out; --seed gives other pictures", "--prompt")
        draw = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.latent_size, generator=draw).to(self.device)
        return [Image(picture_grid(self(z)), f"Made pictures, seed {seed}")]

    # ------------------------------------------------------------------------------------------------ what is kept

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the frames of the animation and the discriminator's outputs."""
        checkpoint["frames"] = self._frames.state()
        checkpoint["outputs"] = torch.tensor(self._outputs, dtype=torch.float64)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        self._frames.load(checkpoint["frames"])
        self._outputs = [(int(step), real, made) for step, real, made in checkpoint["outputs"].tolist()]
