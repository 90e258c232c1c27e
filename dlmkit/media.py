"""What a task can show: pictures, figures, sounds, texts and tables, written to the run folder and to the tracker."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Animation", "Audio", "Figure", "Image", "Media", "Table", "Text"]


class Media(ABC):
    """One thing to look at, to listen to or to read."""

    suffix: str

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write the file."""

    @abstractmethod
    def tracked(self, path: Path) -> Any:
        """The Weights & Biases object for the file that was written."""

    def save(self, folder: Path, name: str) -> Path:
        """Write into a folder.

        Args:
            folder: Made if it is not there.
            name: File name without suffix.

        Returns:
            The file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}{self.suffix}"
        self.write(path)
        return path


@dataclass
class Image(Media):
    """A picture.

    Args:
        pixels: (H, W) grey or (H, W, 3) colour; uint8, or floats in [0, 1].
        caption: A line above it.
    """

    pixels: NDArray[Any]
    caption: str = ""
    suffix = ".png"

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
            raise ValueError(f"a picture is (H, W) or (H, W, 3), not {shape}")

    def write(self, path: Path) -> None:
        """Write a PNG."""
        from matplotlib import image

        pixels = _captioned(_bytes(self.pixels), self.caption)
        image.imsave(path, np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)

    def tracked(self, path: Path) -> Any:
        """The picture as ``wandb.Image``."""
        import wandb

        return wandb.Image(str(path))


@dataclass
class Animation(Media):
    """Pictures one after the other, over and over.

    Args:
        frames: Each (H, W) grey or (H, W, 3) colour, all of one size; uint8, or floats in [0, 1].
        seconds: How long all of them take together; the last one stays a second longer.
        captions: A line above each, or none at all.
    """

    frames: Sequence[NDArray[Any]]
    seconds: float = 4.0
    captions: Sequence[str] = ()
    suffix = ".gif"

    def write(self, path: Path) -> None:
        """Write a GIF."""
        from PIL import Image as Pillow

        captions = self.captions or [""] * len(self.frames)
        pictures = [Pillow.fromarray(_captioned(_bytes(f), c)) for f, c in zip(self.frames, captions, strict=True)]
        each = max(20, round(1000 * self.seconds / len(pictures)))
        times = [each] * (len(pictures) - 1) + [each + 1000]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0)

    def tracked(self, path: Path) -> Any:
        """The animation as ``wandb.Video``."""
        import wandb

        return wandb.Video(str(path), format="gif")


@dataclass
class Figure(Media):
    """A matplotlib figure.

    Args:
        figure: Made with ``matplotlib.figure.Figure(...)``, which needs no screen and no closing.
    """

    figure: MatplotlibFigure
    suffix = ".png"

    def write(self, path: Path) -> None:
        """Write a PNG, trimmed, sharp enough for a slide."""
        self.figure.savefig(path, dpi=150, bbox_inches="tight")

    def tracked(self, path: Path) -> Any:
        """The figure as ``wandb.Image``."""
        import wandb

        return wandb.Image(str(path))


@dataclass
class Audio(Media):
    """A sound.

    Args:
        wave: (T,) mono or (T, C); floats in [-1, 1].
        rate: Samples per second, in Hz.
    """

    wave: NDArray[Any]
    rate: int
    suffix = ".wav"

    def write(self, path: Path) -> None:
        """Write a 16-bit WAV."""
        import soundfile

        soundfile.write(path, np.clip(self.wave, -1, 1), self.rate, subtype="PCM_16")

    def tracked(self, path: Path) -> Any:
        """The sound as ``wandb.Audio``."""
        import wandb

        return wandb.Audio(str(path), sample_rate=self.rate)


@dataclass
class Text(Media):
    """A text.

    Args:
        text: Any Unicode.
    """

    text: str
    suffix = ".txt"

    def write(self, path: Path) -> None:
        """Write UTF-8."""
        path.write_text(self.text + "\n", encoding="utf-8")

    def tracked(self, path: Path) -> Any:
        """The text as ``wandb.Html``, its line breaks kept."""
        import html

        import wandb

        return wandb.Html(f"<pre>{html.escape(self.text)}</pre>", inject=False)


@dataclass
class Table(Media):
    """A table.

    Args:
        columns: The heads.
        rows: One sequence of cells for each row.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]] = field(default_factory=list)
    suffix = ".csv"

    def write(self, path: Path) -> None:
        """Write CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])

    def tracked(self, path: Path) -> Any:
        """The table as ``wandb.Table``."""
        import wandb

        return wandb.Table(columns=list(self.columns), data=[list(row) for row in self.rows])


def _captioned(pixels: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """A picture (H, W) or (H, W, 3) with a line of text on white above it, no wider than before if that can be."""
    if not caption:
        return pixels
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    picture = Pillow.fromarray(pixels).convert("RGB")
    size = min(20, max(11, picture.width // 25))
    font = ImageFont.load_default(size)
    room = round(1.6 * size)
    whole = Pillow.new("RGB", (max(picture.width, round(font.getlength(caption)) + 8), picture.height + room), "white")
    whole.paste(picture, (0, room))
    ImageDraw.Draw(whole).text((4, room // 2), caption, fill="black", font=font, anchor="lm")
    return np.asarray(whole)


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels as uint8, from floats in [0, 1] or as they are."""
    return pixels if pixels.dtype == np.uint8 else (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
