"""WaveNet as a Lightning task: it learns sounds sample by sample, and makes new ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor

from dlmkit import Audio, Figure, Media, Task, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit.tasks.task import Metrics
from dlmkit_wavenet.codec import LEVELS, mu_law_decode, mu_law_encode
from dlmkit_wavenet.figures import receptive_field_figure, sound_figure
from dlmkit_wavenet.generate import Conditions, generate, is_fast
from dlmkit_wavenet.model import WaveNetModel

__all__ = ["WaveNet"]

UNSCORED = -100
"""The target of a sample that is not asked for."""

KEPT = 8
"""Examples of conditions that travel with a checkpoint."""


class WaveNet(Task):
    r"""Predicts each sample of a sound from those before it, and generates sound one sample after the other.

    .. math::
        p(x) = \prod_t p(x_t \mid x_1, \dots, x_{t-1}, h), \qquad
        z = \tanh(W_f * x + V_f h) \odot \sigma(W_g * x + V_g h)

    The convolutions are causal and dilated, 1, 2, 4, …, so that what a sample sees of the past doubles with each layer.
    A sample is one of 256 levels of a µ-law. Sequence shape: many to many, aligned (every sample is answered with the
    next one).

    References:
        | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016)
        | Fast Wavenet Generation Algorithm (Le Paine et al., 2016), for generation with cached layers

    Args:
        sample_rate: Samples per second, in Hz; follows from the data.
        classes: Classes that a whole sound can have, 0 for none; follows from the data.
        speakers: Speakers, 0 for none; follows from the data.
        local_classes: Classes that each sample can have, 0 for none; follows from the data.
        layers: Layers in a stack, with dilations 1, 2, 4, …
        stacks: How often the stack is repeated.
        residual_channels: Width of what goes from layer to layer.
        dilation_channels: Width of the gated units.
        skip_channels: Width of the sum of all skip connections.
        end_channels: Width between the last two layers.
        kernel_size: Samples that each convolution looks at.
        show_seconds: Length of the sound that is generated to be shown, in seconds.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    headline: ClassVar[str] = "test/bits_per_sample"
    conformance_options: ClassVar[Sequence[str]] = (
        "--model.layers=4",
        "--model.stacks=1",
        "--model.residual_channels=16",
        "--model.dilation_channels=16",
        "--model.skip_channels=32",
        "--model.end_channels=32",
        "--model.show_seconds=0.1",
    )

    def __init__(
        self,
        sample_rate: int,
        classes: int = 0,
        speakers: int = 0,
        local_classes: int = 0,
        layers: int = 10,
        stacks: int = 4,
        residual_channels: int = 32,
        dilation_channels: int = 32,
        skip_channels: int = 256,
        end_channels: int = 256,
        kernel_size: int = 2,
        show_seconds: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate, self.show_seconds = sample_rate, show_seconds
        self.counts = {"class": classes, "speaker": speakers, "local": local_classes}
        self.names: dict[str, list[str]] = {}
        self.examples: dict[str, Tensor] = {}
        sizes = (layers, stacks, residual_channels, dilation_channels, skip_channels, end_channels, kernel_size)
        self.net = WaveNetModel(*sizes, classes, speakers, local_classes, LEVELS)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, V, N) of the N samples that a batch scores; see :meth:`loss` for what is in a batch."""
        given = (batch.get(name) for name in ("condition", "speaker", "local"))
        return self.net(batch["input"], *given, scored=batch["target"].shape[1])

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Cross-entropy of the scored samples in nats, and in bits.

        Args:
            batch: ``input`` (B, T) int64 levels, ``target`` (B, N) int64, the samples that follow the last N of the
                input (-100 asks for none), and as the net has them ``condition``, ``speaker`` (B,) and ``local``
                (B, T), int64, the class of the sample that follows.
        """
        loss = F.cross_entropy(self(batch).float(), batch["target"], ignore_index=UNSCORED)
        return loss, {"bits_per_sample": loss.detach() / math.log(2)}

    def count(self, batch: Batch) -> int:
        """How many samples a batch scores."""
        return int((batch["target"] != UNSCORED).sum())

    def way_back(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of the last sample alone, summed over the batch, and the embeddings (B, T, R) of those before it."""
        followed: list[Tensor] = []
        with self.net.embedding.register_forward_hook(lambda _module, _input, output: followed.append(output)):
            logits = self(batch)[..., -1].float()
        loss = F.cross_entropy(logits, batch["target"][:, -1], ignore_index=UNSCORED, reduction="sum")
        return loss, followed[0]

    # What is known of the data: from the data module in training, from the checkpoint afterwards.

    def configure_callbacks(self) -> list[Callback]:
        """Look whether data and net fit together, which Lightning asks before a run folder is made.

        Raises:
            UserError: If the net looks further back than the samples that the data gives it.
        """
        context, needed = getattr(self.trainer.datamodule, "context", None), self.net.receptive_field  # type: ignore[attr-defined]
        if context is not None and context < needed:
            what = f"the net looks {needed:,} samples back, and the data gives it {context:,}"
            raise UserError(what, f"give data.context={needed}, or fewer model.layers or model.stacks", "data.context")
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Take names and examples of conditions from the data module."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for kind in self.counts:
            self.names[kind] = list(getattr(data, f"{kind}_names", []))
        if callable(prompts := getattr(data, "prompts", None)) and any(self.counts.values()):
            known = prompts(max(KEPT, self.counts["class"]))  # small numbers, kept small in every checkpoint
            self.examples = {k: known[k].to(torch.int16) for k in ("condition", "speaker", "local") if k in known}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep names and examples of conditions."""
        checkpoint["sounds"] = {"names": self.names, "examples": self.examples}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        known = checkpoint.get("sounds", {})
        self.names, self.examples = known.get("names", {}), known.get("examples", {})

    # Generation.

    def show(self, batch: Batch) -> dict[str, Media]:
        """A sound of the net's own, its waveform and spectrogram, and at the end what one sample of it has seen."""
        sound = self.generated(1, max(1, round(self.show_seconds * self.sample_rate)), self.conditions(1))[0]
        media: dict[str, Media] = {
            "sound": Audio(sound.numpy(), self.sample_rate),
            "spectrogram": Figure(sound_figure(sound, self.sample_rate, "A sound generated sample by sample")),
        }
        if self._trainer is None or self.trainer.testing:  # training does not change it
            dilations = [layer.conv.dilation[0] for layer in self.net.layers]
            media["receptive-field"] = Figure(receptive_field_figure(dilations, self.net.layers[0].conv.kernel_size[0]))
        return media

    def generated(self, n: int, length: int, conditions: Conditions, **options: Any) -> Tensor:
        """Waves (n, T) in [-1, 1] on the CPU; ``options`` are those of :func:`~dlmkit_wavenet.generate.generate`."""
        return mu_law_decode(generate(self.net, length, conditions=conditions, n=n, **options)).cpu()

    def conditions(
        self,
        n: int,
        chosen: str | None = None,
        speaker: str | None = None,
        local: str | None = None,
        length: int = 0,
    ) -> Conditions:
        """What n sounds are to be: as asked for, and where nothing is asked, as in the examples from the data.

        Args:
            n: How many sounds.
            chosen: Class of the whole sound: its name or number.
            speaker: Name or number.
            local: Names or numbers separated by commas, one after the other for equal times.
            length: Samples in which ``local`` is heard through.

        Raises:
            UserError: If there is no such class, or no classes at all.
        """
        found = {}
        rows = self._rows(n, None if chosen is None else self._number("class", chosen))
        for kind, asked, key in (("class", chosen, "condition"), ("speaker", speaker, "speaker")):
            if asked is not None:
                found[key] = torch.tensor([self._number(kind, asked)] * n)
            elif self.counts[kind]:
                found[key] = self._example(key, rows, torch.arange(n) % self.counts[kind])
        if local is not None:
            numbers = torch.tensor([self._number("local", word) for word in local.split(",")])
            found["local"] = numbers[torch.arange(length) * len(numbers) // max(1, length)].expand(n, -1)
        elif self.counts["local"]:
            found["local"] = self._example("local", rows, torch.zeros(n, 1, dtype=torch.int64))
        return Conditions(**found)

    def _rows(self, n: int, number: int | None) -> Tensor:
        """Which examples n sounds take after, int64: those of one class, if it is asked for and there are any."""
        classes = self.examples.get("condition")
        fitting = torch.arange(0) if number is None or classes is None else (classes == number).nonzero().flatten()
        return fitting[torch.arange(n) % len(fitting)] if len(fitting) else torch.arange(n)

    def _example(self, key: str, rows: Tensor, otherwise: Tensor) -> Tensor:
        known = self.examples.get(key)
        return otherwise if known is None else known[rows % len(known)].long()

    def _number(self, kind: str, asked: str) -> int:
        count, names, asked = self.counts[kind], self.names.get(kind, []), asked.strip()
        option = {"class": "--label"}.get(kind, f"--{kind}")
        if not count:
            raise UserError(f"the net was trained without {kind} conditions", "leave the option out", option)
        if asked in names:
            return names.index(asked)
        if asked.isdecimal() and int(asked) < count:
            return int(asked)
        choice = ", ".join(names) if names else f"a number from 0 to {count - 1}"
        raise UserError(f"there is no {kind} {asked!r}", f"give one of: {choice}", option)

    def sample(  # type: ignore[override]
        self,
        prompt: str | None = None,
        n: int = 1,
        *,
        seconds: float = 2.0,
        temperature: float = 1.0,
        top_k: int = 0,
        seed: int = 1,
        label: str | None = None,
        speaker: str | None = None,
        local: str | None = None,
        stream: str | None = None,
    ) -> list[Media]:
        """Make sound.

        Args:
            prompt: A sound file to go on from; when left out, silence.
            n: How many sounds.
            seconds: How long each is.
            temperature: 0 takes the likeliest always, 1 is the model's own distribution, above is wilder.
            top_k: Only so many of the likeliest levels can be drawn; 0 for all.
            seed: Of the draws; the same seed gives the same sounds.
            label: Class of the sound, its name or number, where the net has classes.
            speaker: Name or number, where the net has speakers.
            local: Classes one after the other, separated by commas, such as notes: C4,E4,G4.
            stream: A .wav file that the first sound is written into while it is made.

        Raises:
            UserError: If an option is out of range, or the sound file cannot be used.
        """
        at_least(0, "--", seconds=seconds, temperature=temperature, top_k=top_k)
        length = round(seconds * self.sample_rate)
        start = None if prompt is None else self._heard(prompt).expand(n, -1)
        conditions = self.conditions(n, label, speaker, local, length)
        slow = self.device.type in ("cpu", "mps") and not is_fast(self.net)
        with _told(n * length, self.sample_rate, slow) as tell, self._writing(stream) as write:

            def progress(codes: Tensor) -> None:
                write(mu_law_decode(codes[0]).cpu())
                tell(codes.numel())

            options = {"temperature": temperature, "top_k": top_k, "seed": seed, "progress": progress}
            waves = self.generated(n, length, conditions, prompt=start, **options)
        return [Audio(wave.numpy(), self.sample_rate) for wave in waves]

    def _heard(self, path: str) -> Tensor:
        """The levels (1, P) of a sound file.

        Raises:
            UserError: If it cannot be read, is empty or stereo, or has another sample rate.
        """
        import soundfile

        try:
            wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise UserError(f"{path} cannot be read: {error}", "give a .wav or .flac file", "--prompt") from None
        if rate != self.sample_rate:
            what = f"{path} has {rate:,} samples per second, the net {self.sample_rate:,}"
            raise UserError(what, "convert it first", "--prompt")
        if wave.shape[1] != 1 or not len(wave):
            what = f"{path} has {wave.shape[1]} channels and {len(wave):,} samples"
            raise UserError(what, "give one channel, and some sound", "--prompt")
        return mu_law_encode(torch.from_numpy(wave[:, 0]))[None]

    @contextmanager
    def _writing(self, path: str | None) -> Iterator[Callable[[Tensor], None]]:
        """A function that appends samples to a file; what is there when generation is stopped can be played."""
        if path is None:
            yield lambda wave: None
            return
        import soundfile

        try:
            file = soundfile.SoundFile(path, "w", self.sample_rate, channels=1, subtype="PCM_16", format="WAV")
        except (OSError, soundfile.SoundFileError) as error:
            raise UserError(f"{path} cannot be written: {error}", "give another file", "--stream") from None
        with file:

            def write(wave: Tensor) -> None:
                file.write(wave.numpy())
                file.flush()

            yield write


@contextmanager
def _told(samples: int, rate: int, slow: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar, and at the end how many seconds of sound were made in a second; all on the error stream.

    The first stretch, with which the kernel is loaded or compiled, is left out of the speed where others follow.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if slow:
        console.print("generating with torch alone; pip install 'dlmkit-wavenet\\[fast]' makes it many times faster")
    columns = (TextColumn("sound"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    marks = [(0, time.perf_counter())]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("sound", total=samples)

        def tell(made: int) -> None:
            marks.append((marks[-1][0] + made, time.perf_counter()))
            bar.update(task, completed=marks[-1][0])

        yield tell
    (before, begun), (done, ended) = marks[1 if len(marks) > 2 else 0], marks[-1]
    speed = (done - before) / rate / max(ended - begun, 1e-9)
    took = ended - marks[0][1]
    console.print(f"{done / rate:.1f} s of sound in {took:.1f} s; {speed:.2f} seconds of sound a second once it runs")
