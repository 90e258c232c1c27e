"""Pictures in files: read as tensors of one kind, whatever the file holds.

Dimensions: C channels, H height, W width, S side.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    "changed_to",
    "existing_folder",
    "folders_in",
    "holds_pictures",
    "list_pictures",
    "look_at",
    "luminance",
    "named_file",
    "read_picture",
    "square",
    "squared",
    "stores_dataset",
    "told",
    "unpack",
]

Channels = Literal[1, 3]
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


_FLOATS = "its pixels are float numbers, which say nothing of what is white"
_AS_BYTES = "save it with 8 or 16 bits per pixel"
_METADATA = ("metadata.csv", "metadata.jsonl")
"""Tables that datasets knows beside pictures."""


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

    What is transparent, with a palette or without, lies on white. 16 bits become 8. Grey is repeated where colour is
    wanted; colour becomes its luminance (ITU-R 601-2) where grey is wanted. A photograph is turned as its camera says.
    Of several pictures in one file the first is taken.

    Args:
        path: Of a file that Pillow reads; of ``stored`` bytes what they are called.
        channels: 1 for grey, 3 for colour.
        stored: What the file holds, where it lies elsewhere.

    Raises:
        UserError: If there is no such file, it is no picture, or it is damaged; it names the file.
    """
    from PIL import ImageOps

    with _opened(path, stored) as opened:
        deep, several = _is_deep(opened), getattr(opened, "n_frames", 1) > 1
        opened.load()
        pixels, changes = unpack(ImageOps.exif_transpose(opened), channels, str(path))
        if deep and "16-bit" not in changes:  # of 16 bits in colour Pillow keeps 8 by itself
            changes = ("16-bit", *changes)
        return Picture(pixels, (*changes, "several") if several else changes)


def look_at(path: Path) -> tuple[tuple[int, int], tuple[str, ...]]:
    """What the head of a picture's file says: height and width as they are stored, and what would become of it.

    What is transparent is told where the file could be so. A damaged file is found out, but for a JPEG that has its
    end: of these, which may be many and large, nothing else is read.

    Args:
        path: Of a file that Pillow reads.

    Raises:
        UserError: If there is no such file, it is no picture, it is damaged, or its pixels are float numbers; it names
            the file.
    """
    with _opened(path) as opened:
        wide, high = opened.size
        kinds = {
            "16-bit": _is_deep(opened) or opened.mode.startswith("I"),
            "see-through": opened.has_transparency_data,
            "grey": opened.mode in ("1", "L", "LA") or opened.mode.startswith("I"),
            "several": getattr(opened, "n_frames", 1) > 1,
        }
        if opened.format == "PNG":
            opened.verify()
        elif opened.mode == "F":
            raise UserError(_FLOATS, _AS_BYTES, str(path))
        elif opened.format not in ("JPEG", "MPO") or b"\xff\xd9" not in _end(path):
            opened.load()
        if opened.mode.startswith("I") and opened.format != "PNG":  # which is checked, and has 16 bits at most
            _require_16_bits(np.asarray(opened), str(path))
    return (high, wide), tuple(kind for kind, so in kinds.items() if so)


def _end(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read()


def _is_deep(opened: PillowImage) -> bool:
    return any(";16" in str(tile[3]) for tile in getattr(opened, "tile", []) if len(tile) > 3)


@contextmanager
def _opened(path: Path, stored: bytes | None = None) -> Iterator[PillowImage]:
    """A picture's file as Pillow opens it; what Pillow says of a broken one becomes a line that names it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # of odd tags and large pictures, which can be read
            with Image.open(path if stored is None else BytesIO(stored)) as opened:
                yield opened
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
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, TypeError) as fault:
        # Pillow's words for a broken file, and for broken notes of a camera in one
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
        raise UserError(_FLOATS, _AS_BYTES, where)
    if opened.mode.startswith("I"):  # 16 bits, which Pillow also keeps as 32
        changes.append("16-bit")
        deep = np.asarray(opened).astype(np.float32)
        _require_16_bits(deep, where)
        pixels = torch.from_numpy((deep[None] / 257).round() / 255)
    else:
        if opened.has_transparency_data:
            layered = opened.convert("RGBA")
            if layered.getchannel("A").getextrema() != (255, 255):
                changes.append("see-through")
            white = Image.new("RGBA", opened.size, "white")
            opened = Image.alpha_composite(white, layered)
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


def _require_16_bits(pixels: np.ndarray, where: str) -> None:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise UserError("its pixels have 32 bits, which say nothing of what is white", _AS_BYTES, where)


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
    if place.exists() and not place.is_dir():
        raise UserError("this is a file, not a folder", "give the folder that it lies in", str(folder))
    if not place.is_dir():
        raise UserError("there is no such folder", did_you_mean(place.name, names_beside(place), remedy), str(folder))
    return place


def named_file(name: str, option: str = "--prompt") -> Path:
    """The path of a file that is named in an option.

    Args:
        name: ``~`` is expanded.
        option: Where it is given.

    Raises:
        UserError: If the name is empty.
    """
    if not name.strip():
        raise UserError("there is no name", "name a picture's file", option)
    return Path(name).expanduser()


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
        inner = [path.name for path in folders_in(place)]
        if inner and not files:
            what = f"there is no picture in this folder, but {_folders(inner)}"
            raise UserError(what, "name one that holds pictures", str(folder))
        what = f"there is no picture in this folder, but {len(files)} other files" if files else "this folder is empty"
        raise UserError(what, f"put pictures into it ({', '.join(ENDINGS[:3])}, …)", str(folder))
    return found


def folders_in(place: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones do not count."""
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def stores_dataset(source: str) -> bool:
    """Whether a folder is a stored Hugging Face dataset: Parquet or Arrow files, or pictures with a table ``metadata``.

    Args:
        source: ``~`` is expanded.
    """
    place = Path(source).expanduser()
    tables = (p for p in place.rglob("*") if p.suffix in (".parquet", ".arrow") or p.name in _METADATA)
    return place.is_dir() and any(tables)


def holds_pictures(source: str) -> bool:
    """Whether this is a folder whose files are the pictures, and neither a stored dataset nor a dataset's name.

    Args:
        source: ``~`` is expanded.
    """
    return Path(source).expanduser().is_dir() and not stores_dataset(source)


def _folders(names: Sequence[str]) -> str:
    """Some names of folders, in words."""
    kind = "the folder" if len(names) == 1 else f"{len(names):,} folders:"
    return f"{kind} {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"


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
    """The middle of a picture as a square of the wanted size; whether it was oblong or too small is among its changes.

    Args:
        picture: As it was read.
        side: Pixels S along one side.
    """
    high, wide = picture.pixels.shape[1:]
    kinds = {"oblong": high != wide, "small": min(high, wide) < side}
    return Picture(square(picture.pixels, side), (*picture.changes, *(kind for kind, so in kinds.items() if so)))


_CHANGES = {
    "see-through": "transparent in parts, which lie on white",
    "16-bit": "of 16 bits, made 8",
    "oblong": "oblong, of which the middle is taken",
    "small": "smaller than asked for, and enlarged",
    "grey": "grey, repeated as colour",
    "coloured": "in colour, made grey",
    "several": "of several pictures, of which the first is taken",
}


def changed_to(name: str, picture: Picture) -> str:
    """The name of one picture, and in words what had to be changed in it.

    Args:
        name: Of its file.
        picture: As it was read.
    """
    return "; ".join([name, *(text for change, text in _CHANGES.items() if change in picture.changes)])


def told(read: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """What had to be changed in a set of pictures, in words; empty where nothing had.

    Args:
        read: The name of each picture, and its changes.
    """
    parts = []
    for change, text in _CHANGES.items():
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
