"""Pictures in files: read as tensors of one kind, whatever the file holds.

Dimensions: C channels, H height, W width, S side.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit.errors import UserError, did_you_mean, names_beside

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "ENDINGS",
    "Channels",
    "Picture",
    "appended",
    "as_bytes",
    "existing_folder",
    "list_pictures",
    "luminance",
    "read_picture",
    "square",
    "squared",
    "told",
    "unpack",
]

Channels = Literal[1, 3]
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class Picture(NamedTuple):
    """A picture, and what had to be done to the file's content.

    Args:
        pixels: (C, H, W), float32 from 0 to 1.
        changes: What it was that it is no longer, such as ``see-through``; none for a plain picture.
    """

    pixels: Tensor
    changes: tuple[str, ...]


def read_picture(path: Path, channels: Channels = 3, stored: bytes | None = None) -> Picture:
    """The picture in a file, or in the bytes of one.

    What is transparent, with a palette or without, lies on white. Pixels of 16 bits keep their shades. Grey is repeated
    where colour is wanted; colour becomes its luminance (ITU-R 601-2) where grey is wanted. A photograph is turned as
    its camera says. Of several pictures in one file the first is taken.

    Args:
        path: Of a file that Pillow reads; of ``stored`` bytes what they are called.
        channels: 1 for grey, 3 for colour.
        stored: What the file holds, where it lies elsewhere.

    Raises:
        UserError: If there is no such file, it is no picture, or it is damaged; it names the file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path if stored is None else BytesIO(stored)) as opened:
            deep = any(";16" in str(tile[3]) for tile in getattr(opened, "tile", []) if len(tile) > 3)
            opened.load()
            pixels, changes = unpack(ImageOps.exif_transpose(opened), channels, str(path))
            # Of 16 bits in colour Pillow keeps 8 by itself.
            return Picture(pixels, ("16-bit", *changes) if deep and "16-bit" not in changes else changes)
    except FileNotFoundError as fault:
        remedy = did_you_mean(path.name, names_beside(path), "check the name")
        raise UserError("there is no such file", remedy, str(path)) from fault
    except IsADirectoryError as fault:
        raise UserError("this is a folder, not a picture", "name a file in it", str(path)) from fault
    except UnidentifiedImageError as fault:
        remedy = "give a PNG or JPEG, or take it out of the folder"
        raise UserError("this is no picture that can be read", remedy, str(path)) from fault
    except Image.DecompressionBombError as fault:
        raise UserError("this picture is too large to be opened", "make it smaller", str(path)) from fault
    except (OSError, ValueError, SyntaxError, EOFError) as fault:  # Pillow's words for a broken file
        what = f"this picture is damaged: {fault}"
        raise UserError(what, "take it out of the folder, or get it again", str(path)) from fault


def unpack(opened: PillowImage, channels: Channels, where: str) -> Picture:
    """The pixels of a picture that Pillow has opened; `read_picture` says what becomes of which kind.

    Args:
        opened: By Pillow.
        channels: 1 for grey, 3 for colour.
        where: What to call it where it cannot be had.

    Raises:
        UserError: If its pixels are of a kind that has no black and white, such as float numbers.
    """
    from PIL import Image

    changes = []
    if opened.mode == "F":
        remedy = "save it with 8 or 16 bits per pixel"
        raise UserError("its pixels are float numbers, which say nothing of what is white", remedy, where)
    if opened.mode.startswith("I"):  # 16 bits, which Pillow also keeps as 32
        changes.append("16-bit")
        pixels = torch.from_numpy(np.asarray(opened).astype(np.float32)[None] / 65535).clamp(0, 1)
    else:
        if opened.has_transparency_data:
            changes.append("see-through")
            white = Image.new("RGBA", opened.size, "white")
            opened = Image.alpha_composite(white, opened.convert("RGBA"))
            opened = opened.convert("L" if channels == 1 and _is_grey(opened) else "RGB")
        grey = opened.mode in ("L", "1")
        loaded = np.asarray(opened.convert("L" if grey else "RGB"), dtype=np.float32) / 255
        pixels = torch.from_numpy(loaded[None] if grey else loaded.transpose(2, 0, 1).copy())
    if channels == 3 and len(pixels) == 1:
        changes.append("grey")
        pixels = pixels.expand(3, -1, -1)
    elif channels == 1 and len(pixels) == 3:
        changes.append("coloured")
        pixels = luminance(pixels)
    return Picture(pixels, tuple(changes))


def _is_grey(opened: PillowImage) -> bool:
    red, green, blue = (np.asarray(band) for band in opened.convert("RGB").split())
    return bool((red == green).all() and (green == blue).all())


def existing_folder(folder: str | Path, remedy: str) -> Path:
    """A folder that has to be there.

    Args:
        folder: ``~`` is expanded.
        remedy: What to do where no other has nearly its name.

    Raises:
        UserError: If it is not there.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError("there is no such folder", did_you_mean(place.name, names_beside(place), remedy), str(folder))
    return place


def list_pictures(folder: str | Path) -> list[Path]:
    """The picture files in a folder, by name; folders in it and hidden files do not count.

    Args:
        folder: Where they are; ``~`` is expanded.

    Raises:
        UserError: If there is no such folder, or no picture in it.
    """
    place = existing_folder(folder, "check the name")
    files = [p for p in place.iterdir() if p.is_file() and not p.name.startswith(".")]
    found = sorted(p for p in files if p.suffix.lower() in ENDINGS)
    if not found:
        others = len(files)
        what = f"there is no picture in this folder, but {others} other files" if others else "this folder is empty"
        raise UserError(what, f"put pictures into it ({', '.join(ENDINGS[:3])}, …)", str(folder))
    return found


def luminance(pictures: Tensor) -> Tensor:
    """How bright each pixel is (..., 1, H, W), as ITU-R 601-2 and the Y of YIQ have it, of pictures (..., 3, H, W)."""
    weights = pictures.new_tensor([0.299, 0.587, 0.114])
    return (pictures * weights[:, None, None]).sum(dim=-3, keepdim=True)


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures of any shape, from 0 to 1, as uint8 from 0 to 255 in the processor's memory."""
    return (pictures * 255).round().byte().cpu()


def square(pixels: Tensor, side: int) -> Tensor:
    """The middle of a picture as a square of the wanted size: the shorter edge becomes ``side``, the longer is cut.

    Pixels are averaged where the picture is made smaller, and interpolated where it is made larger.

    Args:
        pixels: (C, H, W), from 0 to 1.
        side: Pixels S along one side.

    Returns:
        (C, S, S).
    """
    high, wide = pixels.shape[1:]
    edge = min(high, wide)
    top, left = (high - edge) // 2, (wide - edge) // 2
    middle = pixels[:, top : top + edge, left : left + edge]
    if edge == side:
        return middle
    scaled = F.interpolate(middle[None], (side, side), mode="bilinear", antialias=edge > side, align_corners=False)
    return scaled[0].clamp(0, 1)


def squared(picture: Picture, side: int) -> Picture:
    """The middle of a picture as a square of the wanted size, with that among its changes where something is cut off.

    Args:
        picture: As it was read.
        side: Pixels S along one side.
    """
    high, wide = picture.pixels.shape[1:]
    return Picture(square(picture.pixels, side), picture.changes + (() if high == wide else ("oblong",)))


def told(read: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """What had to be changed in a set of pictures, in words; empty where nothing had.

    Args:
        read: The name of each picture, and its changes.
    """
    texts = {
        "see-through": "transparent in parts, which lie on white",
        "16-bit": "of 16 bits, made 8",
        "oblong": "oblong, of which the middle is taken",
        "grey": "grey, repeated as colour",
        "coloured": "in colour, made grey",
    }
    parts = []
    for change, text in texts.items():
        names = [name for name, changes in read if change in changes]
        if names:
            parts.append(f"{len(names):,} of {len(read):,} {text} (such as {names[0]})")
    return "; ".join(parts)


def appended(read: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """What `told` says, for the end of a description.

    Args:
        read: The name of each picture, and its changes.
    """
    notes = told(read)
    return f"; {notes}" if notes else ""
