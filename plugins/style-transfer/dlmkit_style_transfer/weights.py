"""The fixed nets' weights, out of files or from the hub."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dlmkit.data.hub import hub_or_cache
from dlmkit.errors import UserError, did_you_mean, names_beside
from dlmkit_style_transfer.features import Features, random_convnet, tiny_darknet, vgg19

__all__ = ["FeatureNet", "features"]

FeatureNet = Literal["random", "tiny-darknet", "vgg19"]
_ENDINGS = (".npz", ".json", ".pt", ".pth", ".bin", ".safetensors")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_NEEDED = {
    "tiny-darknet": "the model.json of TensorFlow.js's darknettiny, or an .npz with Keras's arrays of Tiny Darknet",
    "vgg19": "torchvision's weights of vgg19 (.pth, .safetensors), or a hub name such as timm/vgg19.tv_in1k",
}


def features(net: FeatureNet, weights: str | None, average: bool = False) -> Features:
    """The fixed net that a user asks for.

    Args:
        net: Which.
        weights: A file, or for VGG-19 also the name of a model on the hub; nothing for random weights.
        average: Whether means are taken instead of maxima where the picture is halved.

    Raises:
        UserError: If weights are missing, not needed, or cannot be read; it names the file. If means are asked for
            where no maxima are.
    """
    if net == "random":
        if weights is not None:
            remedy = "leave it out, or choose tiny-darknet or vgg19 as model.features"
            raise UserError(f"random features need no weights, but {weights} is given", remedy, "model.weights")
        if average:
            remedy = "leave average_pooling out, or choose tiny-darknet or vgg19 as model.features"
            raise UserError("random features take no maxima, they halve smoothly", remedy, "model.average_pooling")
        return random_convnet()
    if weights is None:
        raise UserError(f"{net} needs its weights", f"give {_NEEDED[net]}", "model.weights")
    path = _file(net, weights)
    if path.suffix not in _ENDINGS:
        what = f"a file of weights ends in {', '.join(sorted(_ENDINGS))}, and this one in {path.suffix or 'nothing'}"
        raise UserError(what, f"give {_NEEDED[net]}", str(path))
    read = {".npz": _arrays, ".json": _shards}.get(path.suffix, _state)
    arrays = read(path)
    try:
        return (tiny_darknet if net == "tiny-darknet" else vgg19)(arrays, average)
    except ValueError as fault:
        raise UserError(f"these are no weights of {net}: {fault}", f"give {_NEEDED[net]}", str(path)) from fault


def _file(net: str, weights: str) -> Path:
    """The file itself, or the one that the hub has under a name."""
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError("this is a folder, not a file of weights", "name a file in it", weights)
    hub_name = net == "vgg19" and weights.count("/") == 1 and path.suffix not in _ENDINGS and weights[0] not in "./~"
    if hub_name:
        return _from_hub(weights)
    remedy = did_you_mean(path.name, names_beside(path), f"give {_NEEDED[net]}")
    raise UserError("there is no such file", remedy, weights)


def _from_hub(name: str) -> Path:
    """A model's file from the Hugging Face hub, which keeps it for the next time."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    fault: Exception | None = None
    out_of_reach = ""
    for file in _HUB_FILES:
        try:
            with hub_or_cache() as out_of_reach:
                return Path(hf_hub_download(name, file))
        except EntryNotFoundError as missing:
            fault = missing
        except (HfHubHTTPError, HFValidationError, OSError, RuntimeError) as refused:
            fault = refused
            break
    unreached = "" if isinstance(fault, HFValidationError) else out_of_reach
    reason = unreached or str(fault).strip().partition("\n")[0]
    remedy = "check the name and the connection, or give a file"
    raise UserError(f"this model cannot be had from the hub: {reason}", remedy, name) from fault


def _arrays(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, KeyError, zipfile.BadZipFile) as fault:
        raise _damaged(path, fault) from fault


def _shards(path: Path) -> dict[str, Tensor]:
    """Arrays as TensorFlow.js stores them: their names and shapes in a JSON file, their numbers in files beside it."""
    found: dict[str, Tensor] = {}
    place = path
    try:
        for group in json.loads(path.read_bytes())["weightsManifest"]:
            numbers = b""
            for name in group["paths"]:
                place = path.parent / Path(name).name
                numbers += place.read_bytes()
            start = 0
            for array in group["weights"]:
                if array["dtype"] != "float32":
                    raise ValueError(f"{array['name']} is {array['dtype']}, not float32")
                size = math.prod(array["shape"])
                values = np.frombuffer(numbers, "<f4", size, start).reshape(array["shape"])
                found[array["name"]], start = torch.from_numpy(values.copy()), start + 4 * size
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise _damaged(place, fault) from fault
    return found


def _state(path: Path) -> dict[str, Tensor]:
    """Tensors by name; no code of the file is run."""
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile) as fault:
        raise _damaged(path, fault) from fault
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise UserError(f"this file holds a {type(found).__name__}, not weights by name", "give another", str(path))
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _damaged(path: Path, fault: Exception) -> UserError:
    reason = (str(fault).strip().partition("\n")[0] or type(fault).__name__)[:120]
    return UserError(f"these weights cannot be read: {reason}", "get the file again", str(path))
