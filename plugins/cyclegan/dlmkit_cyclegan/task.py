"""The CycleGAN as a Lightning task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from dlmkit_pictures.files import Channels, as_bytes, changed_to, named_file, read_picture, squared
from dlmkit_pictures.frames import Frames
from dlmkit_pictures.pairs import as_channels
from dlmkit_pictures.strips import first_of, strips_figure
from torch import Tensor, nn

from dlmkit import Adversarial, Figure, Media, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit.tasks.adversarial import Player
from dlmkit.tasks.task import Metrics
from dlmkit_cyclegan.model import PatchDiscriminator, ReplayBuffer, ResNetGenerator

__all__ = ["CycleGAN"]

_SHOWN = 10
_WAYS = {"ab": ("a", "b"), "ba": ("b", "a")}


class CycleGAN(Adversarial):
    r"""Pictures of one look into another and back, from two sets of pictures that do not belong to each other.

    .. math::
        \mathcal{L} = \mathbb{E}[(D_b(G(a)) - 1)^2] + \mathbb{E}[(D_a(F(b)) - 1)^2]
        + \lambda \, \mathbb{E}[\lVert F(G(a)) - a \rVert_1 + \lVert G(F(b)) - b \rVert_1]
        + \mu \, \mathbb{E}[\lVert G(b) - b \rVert_1 + \lVert F(a) - a \rVert_1]

    G and F translate to look b and to look a. A discriminator for each look minimises half of (D - 1)² of real pictures
    and D² of made ones, which come out of a replay buffer. Distances are those of pixels from -1 to 1, as in the paper.
    Both generators take one turn together, and both discriminators after them. The buffer is the same on all processes:
    each is given the pictures of all, and the numbers that decide are drawn for all together.

    References:
        | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017)
        | Least Squares Generative Adversarial Networks (Mao et al., 2017), for the objective

    Args:
        a_channels: Channels of the pictures of look a; follows from the data.
        b_channels: Channels of the pictures of look b; follows from the data.
        side: Pixels along one side; follows from the data.
        scored: Whether the data can tell how many translated pictures are what they were; follows from the data. The
            best weights are then those with the most, otherwise those with the shortest way there and back.
        width: Maps of the generators at full size, and of the discriminators' first layer.
        halvings: How often a generator halves the picture.
        blocks: Residual blocks of a generator.
        patch: Pixels along the side of the patches that the discriminators look at: 1, 16, 34, 70, 142 or 286.
        cycle: What the distance after the way there and back is multiplied with, λ.
        identity: What the distance is multiplied with by which a generator changes what has its look already, μ. Half
            of ``cycle`` in the paper where colours should be kept, otherwise 0.
        buffer: Pictures in the replay buffer of each look; 0 for none.
        optimizer: Makes the generators' optimiser from their parameters.
        discriminator_optimizer: Makes the discriminators'; when left out, as the generators'.
        lr_scheduler: Makes the generators' learning-rate schedule; it is stepped after every round.
        discriminator_lr_scheduler: Makes the discriminators'; when left out, as the generators'.
        generator_every: The generators are updated once in so many rounds, the discriminators in each.

    Raises:
        UserError: If there are no such pictures or patches, a number is negative, or ``identity`` is asked for between
            grey and colour.
    """

    monitor: ClassVar[str] = "val/cycle"
    headline: ClassVar[str] = "test/cycle"
    conformance: ClassVar[Mapping[str, str]] = {
        "overfits_one_batch": "two losses that work against each other do not fall",
    }
    conformance_options = ("--model.width=4", "--model.buffer=6")

    def __init__(
        self,
        a_channels: int,
        b_channels: int,
        side: int,
        scored: bool = False,
        width: int = 64,
        halvings: int = 2,
        blocks: int = 9,
        patch: Literal[1, 16, 34, 70, 142, 286] = 70,
        cycle: float = 10.0,
        identity: float = 0.0,
        buffer: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if scored:  # a net that does nothing has the shortest way
            self.monitor, self.monitor_mode, self.headline = "val/accuracy", "max", "test/accuracy"  # type: ignore[misc]
        at_least(0, "model.", cycle=cycle, identity=identity, buffer=buffer, halvings=halvings, blocks=blocks)
        at_least(1, "model.", width=width)
        if identity and a_channels != b_channels:
            what = f"look a has {a_channels} channels and look b {b_channels}, so no picture has both looks"
            raise UserError(what, "leave identity out, or read both with as many channels", "model.identity")
        self.channels, self.side = {"a": a_channels, "b": b_channels}, side
        self.cycle, self.identity = cycle, identity
        try:
            self.generators = nn.ModuleDict(
                {
                    "ab": ResNetGenerator(a_channels, b_channels, side, width, halvings, blocks),
                    "ba": ResNetGenerator(b_channels, a_channels, side, width, halvings, blocks),
                }
            )
            found = {
                look: PatchDiscriminator(channels, patch, width, side=side) for look, channels in self.channels.items()
            }
        except ValueError as error:
            raise UserError(str(error), "give another data.side, model.halvings or model.patch", "model") from error
        self.discriminators = nn.ModuleDict(found)
        sizes = self.channels.items() if buffer else ()
        self.replay = nn.ModuleDict({look: ReplayBuffer(buffer, count, side) for look, count in sizes})
        self._made: dict[str, Tensor] | None = None
        self._examples: dict[str, Tensor] = {}
        self._frames = Frames()

    def players(self) -> Mapping[str, Player]:
        """Both generators together, and after them both discriminators."""
        makers = Player(self.generators, self.optimizer, self.lr_scheduler, self.generator_every)
        critics = Player(self.discriminators, self.discriminator_optimizer, self.discriminator_lr_scheduler)
        return {"generators": makers, "discriminators": critics}

    def forward(self, pictures: Tensor, way: str = "ab") -> Tensor:
        """Translate pictures (B, C, S, S), from 0 to 1, from look a to look b, or the other way (``ba``)."""
        made: Tensor = self.generators[way](pictures)
        return made

    def generators_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """How far the generators are from deceiving the discriminators, and from finding back."""
        losses, metrics = [], {}
        self._made = {}
        for way, (look, other) in _WAYS.items():
            given = batch[look]
            made = self(given, way)
            self._made[other] = made.detach()
            metrics[f"cycle_{look}"] = distance = (self(made, way[::-1]) - given).abs().mean()
            losses += [(self.discriminators[other](made) - 1).square().mean(), self.cycle * 2 * distance]
            if self.identity:
                losses.append(self.identity * 2 * (self(batch[other], way) - batch[other]).abs().mean())
        metrics = {name: value.detach() for name, value in metrics.items()}
        return torch.stack(losses).sum(), metrics | {"cycle": torch.stack(list(metrics.values())).mean()}

    def discriminators_loss(self, batch: Batch) -> Tensor:
        """How badly the discriminators tell real pictures from those that the buffers hand out."""
        made, self._made = self._made, None
        if made is None:
            with torch.no_grad():
                made = {other: self(batch[look], way) for way, (look, other) in _WAYS.items()}
        losses = []
        for look, pictures in made.items():
            seen = self._exchanged(look, pictures) if self.training and self.replay else pictures
            real, fake = self.discriminators[look](batch[look]), self.discriminators[look](seen)
            losses.append(((real - 1).square().mean() + fake.square().mean()) / 2)
        return torch.stack(losses).sum()

    def _exchanged(self, look: str, made: Tensor) -> Tensor:
        """Give the pictures of all processes to the buffer, and take this process's share of what it hands out."""
        draws = torch.special.ndtr(self.noise(len(made), 2))  # uniform from 0 to 1
        world = 1 if self._trainer is None else self.trainer.world_size
        if world == 1:
            return cast(Tensor, self.replay[look](made, draws))
        everyone, numbers = (self.all_gather(part).flatten(0, 1) for part in (made, draws))  # type: ignore[union-attr]
        given: Tensor = self.replay[look](everyone, numbers)
        return given.chunk(world)[self.trainer.global_rank]

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The losses of all; and where the truth is known, how near what is made comes to it."""
        loss, metrics = super().loss(batch)
        judges = None if self._trainer is None else getattr(self.trainer.datamodule, "judges", None)  # type: ignore[attr-defined]
        further: dict[str, Tensor | tuple[Tensor, int]] = {}
        rights: list[float] = []
        for way, (look, other) in _WAYS.items():
            if f"{look}_truth" in batch:
                made = self(batch[look], way)
                further[f"l1_{way}"] = (made - batch[f"{look}_truth"]).abs().mean()
                if judges is not None:
                    right = judges[other].accuracy(made, batch[f"{look}_class"])
                    further[f"accuracy_{way}"] = torch.tensor(right, device=self.device)
                    rights.append(right)
        if rights:
            further["accuracy"] = torch.tensor(sum(rights) / len(rights), device=self.device)
        return loss, {**metrics, **further}

    # ------------------------------------------------------------------------------------------------ what it shows

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of validation; the first pictures of the first are kept for what is shown."""
        super().validation_step(batch, batch_idx)
        if batch_idx == 0 and not self.trainer.sanity_checking:
            first = first_of(self, batch, _SHOWN)
            self._examples = {look: as_bytes(first[look]) for look in ("a", "b")}
            made = [self(first[look], way) for way, (look, _) in _WAYS.items()]
            self._frames.add(self.trainer.global_step, torch.cat([as_channels(pictures, 3) for pictures in made]))

    def show(self, batch: Batch) -> dict[str, Media]:
        """There and back for both looks, beside the truth where it is known; and how it came about."""
        batch = first_of(self, batch, _SHOWN)
        shown: dict[str, Media] = {}
        for way, (look, other) in _WAYS.items():
            truth = batch.get(f"{look}_truth")
            rows = self._there_and_back(batch[look], way)
            if truth is not None:
                rows["truth"] = truth
            title = "There and back; pictures never trained on"
            shown[f"{look}-{other}-{look}"] = Figure(strips_figure(rows, title))
        if len(self._frames) > 1:
            shown["training"] = self._frames.animation(columns=len(self._frames.pictures[0]) // 2)
        return shown

    def _there_and_back(self, pictures: Tensor, way: str) -> dict[str, Tensor]:
        one, other = (look.upper() for look in _WAYS[way])
        made = self(pictures, way)
        return {one: pictures, f"{one} → {other}": made, f"{one} → {other} → {one}": self(made, way[::-1])}

    def sample(  # type: ignore[override]
        self, prompt: str | None = None, n: int = _SHOWN, *, way: Literal["ab", "ba"] = "ab"
    ) -> list[Media]:
        """Translate a picture, and back.

        Args:
            prompt: The file of a picture; its middle is cut out as a square and brought to the size that the net knows.
                When left out, the pictures are those that were shown during training.
            n: How many of those at most.
            way: ab translates from look a to look b, ba the other way.

        Raises:
            UserError: If there is no prompt and no picture from training, or the file cannot be read.
        """
        if prompt is not None:
            channels = cast(Channels, self.channels[way[0]])
            picture = read_picture(named_file(prompt), channels)
            made = squared(picture, self.side)
            given, title = made.pixels[None], changed_to(Path(prompt).name, made)
        elif self._examples:
            given, title = self._examples[way[0]][:n] / 255, "There and back"
        else:
            raise UserError("there is no picture to translate", "name a picture's file", "--prompt")
        rows = self._there_and_back(given.to(self.device), way)
        return [Figure(strips_figure(rows, title))]

    # ------------------------------------------------------------------------------------------------ what is kept

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the animation and a sample without a prompt are made of."""
        checkpoint["examples"] = self._examples
        checkpoint["frames"] = self._frames.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up."""
        self._examples = checkpoint["examples"]
        self._frames.load(checkpoint["frames"])
