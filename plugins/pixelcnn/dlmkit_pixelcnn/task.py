"""PixelCNN as a Lightning task: it learns how likely pictures are, and draws new ones pixel by pixel."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dlmkit import Animation, Figure, Image, Media, Task, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit.figures import picture_grid
from dlmkit.tasks.task import Metrics
from dlmkit_pixelcnn.figures import grid_figure, sight_figure, surprise_figure
from dlmkit_pixelcnn.generate import Cached, uniform_numbers
from dlmkit_pixelcnn.likelihoods import LIKELIHOODS, Likelihood, LogisticMixture
from dlmkit_pixelcnn.model import GatedPixelCNN

__all__ = ["PixelCNN"]

_ROWS = 6
_JUDGED = 500
_KEPT = 16
_FRAMES = 64
_KEPT_NUMBERS = 2**27


class PixelCNN(Task):
    r"""Predicts each pixel of a picture from those before it, and draws pictures pixel by pixel.

    .. math::
        p(x) = \prod_i p(x_i \mid x_1, \dots, x_{i-1}, h), \qquad
        z = \tanh(W_f * x + V_f h) \odot \sigma(W_g * x + V_g h)

    The convolutions are masked, so that a pixel sees only what is above it and what is on its left; a vertical and a
    horizontal stack together see all of that. The condition h is a class or a vector. The likelihood is exact, so that
    nats per picture and bits per dimension (a dimension is one colour of one pixel) can be compared with any other
    density of the same pictures.

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016)
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)
        | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood (Salimans et al., 2017)

    Args:
        channels: Colour channels of a picture; follows from the data.
        side: Pixels along one side; follows from the data.
        levels: Values that a channel of a pixel can have; follows from the data.
        num_classes: Classes of pictures, 0 for none; follows from the data.
        embedding_size: Numbers in the vector that comes with each picture, 0 for none; follows from the data.
        conditional: Whether pictures are made after a vector, if the data has them, or else after a class.
        likelihood: The distribution of a pixel: softmax over the levels, binary, or a mixture of logistic ones.
        components: How many distributions that mixture has.
        width: Features of a layer; for softmax and binary a multiple of the colours.
        layers: Layers of both stacks.
        kernel_size: Columns that a convolution looks at; an odd number.
        first_kernel_size: The same in the first layer.
        head_width: Width of the read-out; for softmax and binary a multiple of the colours.
        dropout: Probability that a feature is dropped for a whole picture.
        maps: How many maps say what is where, for pictures that are alike in that, such as faces; 0 for none.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.

    Raises:
        UserError: If a size is out of range, or the likelihood does not fit the data.
    """

    monitor: ClassVar[str] = "val/nats"
    headline: ClassVar[str] = "test/nats"
    conformance_options: ClassVar[Sequence[str]] = (
        "--model.width=12",
        "--model.layers=3",
        "--model.head_width=12",
        "--model.dropout=0",
    )

    def __init__(
        self,
        channels: int,
        side: int,
        levels: int = 256,
        num_classes: int = 0,
        embedding_size: int = 0,
        conditional: bool = True,
        likelihood: Literal["softmax", "binary", "logistic"] = "softmax",
        components: int = 5,
        width: int = 48,
        layers: int = 6,
        kernel_size: int = 3,
        first_kernel_size: int = 5,
        head_width: int = 96,
        dropout: float = 0.0,
        maps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.side = side
        self.embedding_size = embedding_size if conditional else 0
        self.num_classes = num_classes if conditional and not self.embedding_size else 0
        at_least(1, "model.", components=components, width=width, layers=layers, head_width=head_width)
        at_least(0, "model.", maps=maps)
        at_least(0, "model.", below=1, dropout=dropout)
        try:
            made = LIKELIHOODS[likelihood]
            self.likelihood: Likelihood = (
                made(channels, levels, components) if made is LogisticMixture else made(channels, levels)
            )
            sizes = (width, layers, kernel_size, first_kernel_size, head_width)
            conditions = (self.num_classes, self.embedding_size)
            told = self.likelihood.outputs, self.likelihood.groups
            self.net = GatedPixelCNN(channels, *told, *sizes, *conditions, dropout, maps, side)
        except ValueError as error:
            raise UserError(str(error), "give other sizes, or another model.likelihood", "model") from error
        self.examples: dict[str, Tensor] = {}

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the net tells of each pixel (B, O, H, W) of pictures (B, C, H, W) from 0 to 1."""
        outputs: Tensor = self.net(pictures, condition)
        return outputs

    def condition(self, batch: Batch) -> Tensor | None:
        """What the pictures of a batch are to be made after: vectors, classes, or nothing."""
        name = "embedding" if self.embedding_size else "label" if self.num_classes else None
        return None if name is None else batch[name]

    def log_prob(self, batch: Batch) -> Tensor:
        """The logarithm of the probability of each pixel, in nats, (B, H, W), float32 at least.

        The net may run in half precision. The likelihood does not: bfloat16 has steps of 4 between 512 and 1,024, as
        wide as what tells one net's nats from another's, and none between two of 256 levels.
        """
        outputs = self(batch["picture"], self.condition(batch))
        exact = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        with torch.autocast(outputs.device.type, enabled=False):
            return self.likelihood.log_prob(exact, self.likelihood.codes(batch["picture"]))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Nats per dimension, and as metrics nats per picture and bits per dimension.

        Args:
            batch: ``picture`` (B, C, H, W), float from 0 to 1, and ``label`` (B,) int64 or ``embedding`` (B, E).
        """
        dimensions = batch["picture"][0].numel()
        nats = -self.log_prob(batch).sum(dim=(1, 2)).mean()
        found = nats.detach()
        return nats / dimensions, {"nats": found, "bits_per_dimension": found / dimensions / math.log(2)}

    # ------------------------------------------------------------------------------------------------ what is drawn

    def draw(
        self,
        n: int,
        condition: Tensor | None = None,
        seed: int = 1,
        temperature: float = 1.0,
        given: Tensor | None = None,
        alike: int = 1,
    ) -> Tensor:
        """Draw pictures (n, C, H, W) from 0 to 1.

        Args:
            n: How many.
            condition: Classes (n,) or vectors (n, E), where the net has them.
            seed: The same seed gives the same pictures.
            temperature: 1 is the net's own distribution, 0 takes the likeliest.
            given: Their first rows, (n, C, rows, W) from 0 to 1, which are not drawn.
            alike: So many pictures in succession are drawn with the same random numbers.
        """
        was_training = self.net.training
        device = _with_double(self.device)
        net = self.net.eval() if device == self.device else copy.deepcopy(self.net).eval().to(device)
        if condition is not None:  # vectors, in the net's precision
            dtype = next(net.parameters()).dtype if condition.is_floating_point() else condition.dtype
            condition = condition.to(device, dtype)
        uniforms = uniform_numbers(self.likelihood, n, self.side, self.side, seed, alike).to(device)
        known = None if given is None else self.likelihood.codes(given).to(device)
        drawn, together = [], self._at_once()
        for first in range(0, n, together):
            part = slice(first, min(first + together, n))
            for_these = None if condition is None else condition[part]
            sampler = Cached(net, self.likelihood, part.stop - first, self.side, self.side, for_these)
            drawn.append(sampler.run(uniforms[:, :, :, part], temperature, None if known is None else known[part]))
        self.net.train(was_training)
        return self.likelihood.picture(torch.cat(drawn).to(self.device))

    def _at_once(self) -> int:
        """How many pictures are drawn together: what is kept of them is to take some hundred megabytes."""
        kept = len(self.net.layers) * self.net.width * self.side**2  # numbers for each picture
        return max(1, _KEPT_NUMBERS // (kept if self.net.places is None else 9 * kept))

    def on_test_epoch_end(self) -> None:
        """Say how fast it draws, and let the data's judge look at what it drew."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.embedding_size and not self.examples:
            return
        condition = self._in_turn(_JUDGED, self.examples.get("embedding"))
        started = time.perf_counter()
        made = self.draw(_JUDGED, condition)
        float(made.sum())  # a GPU is asked and does not wait: the clock is stopped when a figure has come back
        took = time.perf_counter() - started
        self.print(f"{_JUDGED:,} pictures were drawn in {took:.1f} s, {_JUDGED / took:.1f} a second")
        found = {"pictures_per_second": _JUDGED / took}
        told_apart = getattr(data, "num_classes", 2) > 1  # a judge of one class has nothing to tell
        if told_apart and hasattr(data, "judge") and not self.embedding_size:
            found["distance"] = data.judge.verdict(made, data.table("test")[0]).distance
            if condition is not None:
                found["as_asked"] = data.judge.accuracy(made, condition)
        for name, value in found.items():
            self.log(f"test/{name}", value, prog_bar=True, sync_dist=True)

    def _in_turn(self, n: int, vectors: Tensor | None) -> Tensor | None:
        """Each of some vectors in turn, or each class, for n pictures; nothing where the net has no condition."""
        known = torch.arange(self.num_classes) if vectors is None else vectors
        return known[torch.arange(n) % len(known)].to(self.device) if len(known) else None

    def between(self, first: Tensor, last: Tensor, steps: int) -> Tensor:
        """Pictures (N · steps, C, H, W) on the straight way from each of some vectors (N, E) to another.

        All pictures on a way are drawn with the same random numbers, so that only the vector makes a difference.

        Args:
            first: Where the ways begin.
            last: Where they end.
            steps: Pictures on each, ends included.
        """
        t = torch.linspace(0, 1, steps, device=first.device)[None, :, None]
        way = (1 - t) * first[:, None] + t * last[:, None]
        return self.draw(len(first) * steps, way.flatten(0, 1), alike=steps)

    # ------------------------------------------------------------------------------------------------ what it shows

    def show(self, batch: Batch) -> dict[str, Media]:
        """Pictures that it draws, others that it goes on with, where it is surprised, and what it can see."""
        real, condition = batch["picture"], self.condition(batch)
        log_prob = self.log_prob(batch)
        bits, nats = -log_prob[:8] / math.log(2), -log_prob[:8].sum(dim=(1, 2))
        most = self.likelihood.channels * math.log2(self.likelihood.levels)  # what it costs if nothing is known
        shown: dict[str, Media] = {}
        vectors = None
        if self.embedding_size:
            one = _first_of_each(batch["label"])
            known = self.examples or {name: batch[name][one] for name in ("picture", "embedding")}
            pictures, vectors = known["picture"].to(self.device), known["embedding"].to(self.device)
            shown["portraits"] = Figure(self.portraits_figure(pictures, vectors))
            shown["strip"] = Figure(self.strip_figure(pictures, vectors))
        else:
            shown["samples"] = Figure(self.samples_figure())
        return shown | {
            "drawing": self.drawing(self.draw(_KEPT, self._in_turn(_KEPT, vectors))),
            "completions": Figure(self.completions_figure(real, condition)),
            "surprise": Figure(surprise_figure(real[:8], bits, nats, most)),
            "sight": Figure(sight_figure(self._seeing(condition), real[:16])),
        }

    def drawing(self, pictures: Tensor) -> Animation:
        """How pictures (N, C, H, W) come about: what is not drawn yet is grey."""
        count = self.side * self.side
        done = torch.linspace(0, count, min(count, _FRAMES) + 1).round().long().tolist()
        place = torch.arange(count, device=pictures.device).view(self.side, self.side)
        frames = [picture_grid(torch.where(place < pixels, pictures, 0.5)) for pixels in done]
        return Animation(frames, captions=[f"pixel {pixels:,} of {count:,}" for pixels in done])

    def portraits_figure(self, real: Tensor, embeddings: Tensor) -> Any:
        """Real pictures (N, C, H, W), and for each what is drawn after its vector (N, E)."""
        count, draws = min(_ROWS, len(real)), 7
        drawn = self.draw(count * draws, embeddings[:count].repeat_interleave(draws, dim=0))
        shown = torch.cat((real[:count, None], drawn.unflatten(0, (count, draws))), dim=1).flatten(0, 1)
        return grid_figure(shown, ["real", *["drawn"] * draws], "Drawn after the vector of a real picture")

    def strip_figure(self, real: Tensor, embeddings: Tensor) -> Any:
        """On the straight way from the vector of one picture to that of the next, (N, C, H, W) and (N, E)."""
        count, steps = min(4, len(real)), 9
        other = (torch.arange(count, device=real.device) + 1) % len(real)
        drawn = self.between(embeddings[:count], embeddings[other], steps).unflatten(0, (count, steps))
        shown = torch.cat((real[:count, None], drawn, real[other, None]), dim=1).flatten(0, 1)
        heads = ["real", *(f"{k / (steps - 1):.2g}" for k in range(steps)), "real"]
        return grid_figure(shown, heads, "From one vector to another, on a straight line")

    def samples_figure(self) -> Any:
        """Drawn pictures, in a column for each class if there are some."""
        columns = min(self.num_classes, 10) or 8
        classes = torch.arange(columns, device=self.device).repeat(_ROWS) if self.num_classes else None
        heads = [str(k) if self.num_classes else "" for k in range(columns)]
        title = "Drawn pixel by pixel" + (", for the class above" if self.num_classes else "")
        return grid_figure(self.draw(columns * _ROWS, classes), heads, title)

    def completions_figure(self, real: Tensor, condition: Tensor | None) -> Any:
        """Real pictures, their upper halves, and what the net makes of these."""
        count, draws, half = min(5, len(real)), 6, self.side // 2
        rows = torch.arange(count, device=self.device).repeat_interleave(draws)
        given = real[rows, :, :half]
        drawn = self.draw(len(rows), None if condition is None else condition[rows], given=given)
        upper = torch.cat((real[:count, :, :half], torch.full_like(real[:count, :, half:], 0.5)), dim=2)
        shown = torch.cat((real[:count, None], upper[:, None], drawn.unflatten(0, (count, draws))), dim=1)
        return grid_figure(shown.flatten(0, 1), ["real", "given", *["drawn"] * draws], "The lower half, drawn")

    def _seeing(self, condition: Tensor | None) -> Any:
        """The net as a function of pictures alone."""
        return lambda x: self.net(x, None if condition is None else condition[: len(x)].clone())

    def sample(  # type: ignore[override]
        self, prompt: str | None = None, n: int = 32, *, seed: int = 1, temperature: float = 1.0
    ) -> list[Media]:
        """Draw pictures.

        Args:
            prompt: The class of all pictures, a number from 0 on; when left out, each class in turn. Where pictures are
                made after vectors: the number of a vector that is kept, or two such as 0-3 for the way between them.
            n: How many pictures.
            seed: Of the draws; the same seed gives the same pictures.
            temperature: 1 is the net's own distribution, below is tamer, 0 takes the likeliest always.

        Raises:
            UserError: If there is no such class, or an option is out of range.
        """
        at_least(1, "-", n=n)
        at_least(0, "--", temperature=temperature)
        condition, alike = self._asked(prompt, n)
        told = "each class in turn" if self.num_classes else "each vector in turn" if self.embedding_size else ""
        if prompt is not None:
            told = f"{'vector' if self.embedding_size else 'class'} {prompt}"
        words = [*([told] if told else []), f"seed {seed}", *([f"temperature {temperature:g}"] * (temperature != 1))]
        drawn = self.draw(n, condition, seed, temperature, alike=alike)
        return [Image(picture_grid(drawn), f"Drawn pixel by pixel, {', '.join(words)}")]

    def _asked(self, prompt: str | None, n: int) -> tuple[Tensor | None, int]:
        """The condition that a prompt names, and how many pictures in succession share their random numbers."""
        known = self.examples.get("embedding", torch.empty(0)).to(self.device)
        count = len(known) if self.embedding_size else self.num_classes
        if not count:
            if prompt is not None:
                raise UserError("this net was trained without classes", "leave the prompt out", "--prompt")
            return None, 1
        ends = [] if prompt is None else prompt.split("-") if self.embedding_size else [prompt]
        numbers = [int(word) if word.strip().isdecimal() else count for word in ends]
        if any(number >= count for number in numbers) or len(numbers) > 2:
            what, remedy = (
                f"there is no {'vector' if self.embedding_size else 'class'} {prompt!r}",
                f"give a number from 0 to {count - 1}",
            )
            raise UserError(what, remedy, "--prompt")
        if len(numbers) == 2:
            t = torch.linspace(0, 1, n, device=self.device)[:, None]
            return (1 - t) * known[numbers[0]] + t * known[numbers[1]], n
        rows = torch.full((n,), numbers[0]) if numbers else torch.arange(n) % count
        return (known[rows] if self.embedding_size else rows.to(self.device)), 1

    # ------------------------------------------------------------------------------------------------ what is kept

    def setup(self, stage: str) -> None:
        """Keep the vectors of some test pictures, each of another class, for sampling without the data."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.embedding_size and hasattr(data, "table"):
            rows = _first_of_each(data.table("test")[1])[:_KEPT]
            self.examples = {name: data.take("test", rows)[name] for name in ("picture", "embedding")}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep them."""
        checkpoint["examples"] = self.examples

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        self.examples = checkpoint["examples"]


def _with_double(device: torch.device) -> torch.device:
    """Where numbers are drawn in float64: Apple's GPUs have none, and their processors draw as fast."""
    return torch.device("cpu") if device.type == "mps" else device


def _first_of_each(labels: Tensor) -> Tensor:
    """The first row of each class, in the order of their coming."""
    found: dict[int, int] = {}
    for row, label in enumerate(labels.tolist()):
        found.setdefault(label, row)
    return torch.tensor(list(found.values()), device=labels.device)
