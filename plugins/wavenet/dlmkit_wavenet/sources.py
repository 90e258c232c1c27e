"""Where recordings come from: files, a folder, a pattern, a Hugging Face dataset; what is wrong with one is told."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dlmkit.data.hub import load_splits
from dlmkit.data.module import Split
from dlmkit.errors import Faults, UserError, did_you_mean, names_beside

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Reading", "Recording", "read_recordings", "resample"]

Wave = npt.NDArray[np.float32]

_ENDINGS = {".wav", ".flac", ".ogg", ".oga", ".aif", ".aiff", ".au", ".mp3", ".w64", ".caf"}
_SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val"}
_SPLITS |= {"test": "test"}
_TOLD = 5
"""How many faulty recordings are named, one line each, before the rest is only counted."""
_FULL_SCALE, _QUIET = 0.999, 1e-4
_CLIPPED_SHARE = 1e-3


class Recording(NamedTuple):
    """A recording and what its name, or its row, says of it.

    Args:
        name: Its path, or its row in a dataset.
        wave: Samples (N,), float32 in [-1, 1].
        fields: Field of the pattern, or column, to what stands there: ``class``, ``speaker``, ``index``.
        split: The split that the source puts it in, if the source has splits.
    """

    name: str
    wave: Wave
    fields: dict[str, str]
    split: Split | None = None


@dataclass(frozen=True)
class Reading:
    """How recordings are read, and which are refused.

    Args:
        sample_rate: Samples per second, in Hz.
        pattern: How a file's name, without its ending, tells its fields: ``{class}_{speaker}_{index}``, say.
        resample: Whether another sample rate is converted; otherwise it is a fault.
        mixdown: Whether the channels of stereo are averaged; otherwise they are a fault.
        allow_clipped: Whether clipped recordings are taken; otherwise they are a fault.
        skip_broken: Whether a faulty recording is left out; otherwise nothing is read.
        normalize: Whether each recording is scaled so that its peak is 0.9 of the full scale.
    """

    sample_rate: int
    pattern: str | None = None
    resample: bool = False
    mixdown: bool = False
    allow_clipped: bool = False
    skip_broken: bool = False
    normalize: bool = False

    def __post_init__(self) -> None:
        """Find a fault in the pattern before any file is read."""
        if self.pattern is not None:
            _expression(self.pattern)


def read_recordings(
    source: str | list[str], reading: Reading, subset: str | None = None, audio_column: str = "audio"
) -> tuple[list[Recording], list[UserError]]:
    """Read a source, whatever it is.

    Args:
        source: Sound files (``~`` and ``*`` are expanded), a folder, or a dataset's name.
        reading: How each recording is read.
        subset: Which of a dataset's configurations.
        audio_column: The column of a dataset that holds the sound.

    Returns:
        The recordings in the order of their names, and the faults of those that were left out.

    Raises:
        UserError: If the source is not there or has no sound; and for faulty recordings, one line each, unless they
            are to be left out.
    """
    values = [source] if isinstance(source, str) else list(source)
    if len(values) == 1 and not _is_local(values[0]):
        entries = _rows(values[0], subset, audio_column, reading)
    else:
        paths = [path for value in values for path in _expand(value)]
        entries = (_entry(path, reading) for path in paths)
    found: list[Recording] = []
    faults: list[UserError] = []
    for entry in entries:
        try:
            found.append(entry())
        except UserError as fault:
            faults.append(fault)
    if faults and not reading.skip_broken:
        raise _told(faults)
    if not found:
        what = f"none of {len(faults)} recordings can be used; the first: {faults[0]}"
        raise UserError(what, where=", ".join(values))
    return found, faults


def _told(faults: list[UserError]) -> UserError:
    """One fault for the first few, with the way to leave them out."""
    told = [UserError(f.what, f"{f.remedy}, or leave it out with data.skip_broken=true", f.where) for f in faults]
    if len(told) == 1:
        return told[0]
    if len(told) > _TOLD:
        rest = UserError(f"and {len(told) - _TOLD} more recordings like these", "data.skip_broken=true leaves them out")
        told = [*told[:_TOLD], rest]
    return Faults(told)


# ------------------------------------------------------------------------------------------------------ one recording


def _entry(path: Path, reading: Reading) -> Callable[[], Recording]:
    """What reads one file."""

    def read() -> Recording:
        fields = _fields(path, reading.pattern)
        return Recording(str(path), decode(path, str(path), reading), fields)

    return read


def decode(file: Path | io.BytesIO, name: str, reading: Reading) -> Wave:
    """The samples of a sound file (N,), if nothing is wrong with them.

    Args:
        file: The file, or its bytes.
        name: Its name in an error.
        reading: How it is read.

    Raises:
        UserError: If it cannot be read, is empty, silent or clipped, or has another rate or number of channels.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)  # (N, C)
    except (soundfile.LibsndfileError, OSError) as fault:
        reason = getattr(fault, "error_string", None) or getattr(fault, "strerror", None) or str(fault)
        raise UserError(f"this cannot be read as sound: {reason.rstrip('.')}", "check the file", name) from fault
    if not len(samples):
        raise UserError("this recording has no samples", "check the file", name)
    if not np.isfinite(samples).all():
        raise UserError("this recording holds values that are no numbers", "check the file", name)
    if samples.shape[1] > 1 and not reading.mixdown:
        what = f"this recording has {samples.shape[1]} channels, and the network hears one"
        raise UserError(what, "average them with data.mixdown=true", name)
    if rate != reading.sample_rate and not reading.resample:
        what = f"this recording has {rate:,} samples per second, the recipe {reading.sample_rate:,}"
        raise UserError(what, f"give data.sample_rate={rate} or data.resample=true", name)
    _check_level(samples, name, reading)
    wave = resample(samples.mean(axis=1), rate, reading.sample_rate)
    return 0.9 * wave / np.abs(wave).max() if reading.normalize else wave


def _check_level(samples: npt.NDArray[np.float32], name: str, reading: Reading) -> None:
    """Refuse what holds no sound, and what was recorded too loud."""
    if np.ptp(samples, axis=0).max() < _QUIET:
        raise UserError(f"this recording is silent: nowhere louder than {_QUIET}", "check the file", name)
    share = float((np.abs(samples) >= _FULL_SCALE).mean())
    if share > _CLIPPED_SHARE and not reading.allow_clipped:
        what = f"this recording is clipped: {100 * share:.1f} % of its samples are at full scale"
        raise UserError(what, "record it less loud, take it as it is with data.allow_clipped=true", name)


def resample(wave: Wave, rate: int, to: int) -> Wave:
    """A sound at another sample rate, by cutting or extending its spectrum.

    Args:
        wave: Samples (N,).
        rate: Its samples per second.
        to: Those that are wanted.

    Returns:
        Samples (M,) with M / N as near to ``to / rate`` as can be.
    """
    if rate == to:
        return wave
    size = max(1, round(len(wave) * Fraction(to, rate)))
    spectrum = np.fft.rfft(wave.astype(np.float64))
    spectrum = spectrum[: size // 2 + 1]  # irfft extends what is too short with zeros
    sound: Wave = (np.fft.irfft(spectrum, size) * (size / len(wave))).astype(np.float32)
    return np.clip(sound, -1, 1)


def _fields(path: Path, pattern: str | None) -> dict[str, str]:
    """What a file's name tells.

    Raises:
        UserError: If it does not look like the pattern.
    """
    if pattern is None:
        return {}
    match = _expression(pattern).fullmatch(path.stem)
    if match is None:
        raise UserError(f"the name {path.stem} is not of the form {pattern}", "give another data.pattern", str(path))
    return {name: value for name, value in match.groupdict().items() if value is not None}


@lru_cache
def _expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern such as ``{class}_{speaker}_{index}``.

    Raises:
        UserError: If it names no field, one twice, or one that means nothing.
    """
    parts = re.split(r"\{(\w*)\}", pattern)
    names = parts[1::2]
    known = ("class", "speaker", "index", "any")
    for name in names:
        if name not in known:
            remedy = did_you_mean(name, known, f"the fields are {', '.join(known)}")
            raise UserError(f"data.pattern has a field {{{name}}}", remedy, "data.pattern")
    named = [name for name in names if name != "any"]
    if not named or len(set(named)) < len(named):
        remedy = "write {class}, {speaker} or {index}, each once, such as {class}_{speaker}_{index}"
        raise UserError(f"data.pattern is {pattern}", remedy, "data.pattern")
    groups = {"any": "(?:.*)", "index": r"(?P<index>\d+)"}
    words = [groups.get(part, f"(?P<{part}>.+?)") if i % 2 else re.escape(part) for i, part in enumerate(parts)]
    return re.compile("".join(words))


# ------------------------------------------------------------------------------------------------------------- files


def _is_local(value: str) -> bool:
    path = Path(value).expanduser()
    if path.is_dir():  # a folder of tables is a dataset
        return bool(_sounds(path)) or not any(path.rglob("*.parquet"))
    return (
        path.suffix.lower() in _ENDINGS or path.exists() or glob.has_magic(value) or value.startswith(("/", ".", "~"))
    )


def _sounds(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())


def _expand(value: str) -> list[Path]:
    """The files that a name, a folder or a pattern stands for, in the order of their names.

    Raises:
        UserError: If there are none.
    """
    path = Path(value).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        if found := _sounds(path):
            return found
        kinds = ", ".join(sorted(ending[1:] for ending in _ENDINGS))
        raise UserError("there is no sound file in this folder", f"give one with {kinds} files", value)
    if glob.has_magic(value):
        if found := [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]:
            return found
        raise UserError("no file matches this pattern", "check data.source", value)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "check data.source", value)
    remedy = did_you_mean(path.name, names_beside(path), "check data.source")
    raise UserError("there is no such file or folder", remedy, value)


# ----------------------------------------------------------------------------------------------------------- datasets


def _rows(name: str, subset: str | None, column: str, reading: Reading) -> Iterator[Callable[[], Recording]]:
    """What reads each row of a dataset."""
    for given, rows in _load(name, subset).items():
        if column not in rows.column_names:
            remedy = did_you_mean(column, rows.column_names, "name one of them as data.audio_column")
            raise UserError(f"there is no column {column} but {', '.join(rows.column_names)}", remedy, name)
        yield from _rows_of(name, given, rows, column, reading)


def _rows_of(name: str, given: str, rows: Dataset, column: str, reading: Reading) -> Iterator[Callable[[], Recording]]:
    from datasets import Audio

    rows = rows.cast_column(column, Audio(decode=False))  # bytes or a path: soundfile decodes them
    labels = {field: key for field, key in _columns(rows).items() if key != column}
    for at in range(len(rows)):

        def read(at: int = at) -> Recording:
            row = rows[at]
            sound = row[column]
            where = f"{name}, {given} row {at}" + (f" ({Path(sound['path']).name})" if sound.get("path") else "")
            file = io.BytesIO(sound["bytes"]) if sound.get("bytes") is not None else Path(sound["path"])
            wave = decode(file, where, reading)
            match = (
                _expression(reading.pattern).fullmatch(Path(sound.get("path") or "").stem) if reading.pattern else None
            )
            fields = match.groupdict() if match else {}  # a dataset need not name its sounds
            fields |= {field: _word(rows, key, row[key]) for field, key in labels.items() if field not in fields}
            return Recording(where, wave, fields, _SPLITS.get(given))

        yield read


def _columns(rows: Dataset) -> dict[str, str]:
    """Field to the column that holds it, under the names that datasets commonly use."""
    usual = {"class": ("label", "class", "digit"), "speaker": ("speaker", "speaker_id"), "index": ("index",)}
    found = {field: next((name for name in names if name in rows.column_names), None) for field, names in usual.items()}
    return {field: name for field, name in found.items() if name is not None}


def _word(rows: Dataset, column: str, value: Any) -> str:
    feature = rows.features[column]
    return str(feature.int2str(value)) if hasattr(feature, "int2str") else str(value)


def _load(name: str, subset: str | None) -> dict[str, Dataset]:
    """A dataset's splits under the names that it has for them.

    Raises:
        UserError: If it cannot be loaded.
    """
    remedy = "check the spelling, data.subset, the connection and HF_HUB_OFFLINE, or give a folder of sound files"
    splits = load_splits(name, remedy, subset)
    return splits if len(splits) > 1 else {"all": next(iter(splits.values()))}
