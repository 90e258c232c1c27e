"""The fixed nets: what they compute, how deep they go, and what is told of wrong weights."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dlmkit_style_transfer import features as nets
from dlmkit_style_transfer.features import FrozenLayer, SmoothPool, fold, random_convnet, tiny_darknet, vgg19
from dlmkit_style_transfer.weights import features
from torch import nn

from dlmkit.errors import UserError


def darknet_arrays():
    draw = np.random.default_rng(0)
    arrays, before = {}, 3
    for number, width in enumerate(nets._DARKNET, 1):
        size = 3 if number <= 2 or (number % 2 == 0 and number < 15) else 1
        arrays[f"conv2d_{number}/kernel"] = draw.normal(size=(size, size, before, width)).astype(np.float32) / 10
        for part in ("gamma", "beta", "moving_mean"):
            arrays[f"batch_normalization_{number}/{part}"] = draw.normal(size=width).astype(np.float32)
        arrays[f"batch_normalization_{number}/moving_variance"] = draw.random(width).astype(np.float32) + 0.1
        before = width
    return arrays


def vgg_state(width=1):
    places = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    widths = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    state, before = {}, 3
    for place, wide in zip(places, widths, strict=True):
        state[f"features.{place}.weight"] = torch.full((wide, before, 3, 3), 0.01 / before)
        state[f"features.{place}.bias"] = torch.zeros(wide)
        before = wide
    return state | {"classifier.0.weight": torch.zeros(2, 2)}


# ---------- what they compute


def test_folding_a_batch_norm_changes_nothing():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=False).double()
    norm = nn.BatchNorm2d(5, eps=1e-3).double().eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_()
    norm.running_var.uniform_(0.1, 2.0)
    weight, bias = fold(
        convolution.weight.data, norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var, 1e-3
    )
    x = torch.randn(2, 3, 9, 8, dtype=torch.double)
    torch.testing.assert_close(F.conv2d(x, weight, bias, padding=1), norm(convolution(x)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("average", [False, True])
def test_tiny_darknet_is_its_layers_one_after_the_other(average):
    arrays = darknet_arrays()
    net = tiny_darknet({name: torch.from_numpy(array) for name, array in arrays.items()}, average).double()
    picture = torch.rand(1, 3, 45, 38, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    found = net(picture, net.names)
    x = picture
    for number in range(1, 16):
        if number in (2, 3, 7, 11) and average:  # of what there is, where a row or a column is odd
            x = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        elif number in (2, 3, 7, 11):
            x = F.max_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf), 2)
        parts = {p: torch.from_numpy(arrays[f"batch_normalization_{number}/{p}"]).double() for p in
                 ("gamma", "beta", "moving_mean", "moving_variance")}  # fmt: skip
        kernel = torch.from_numpy(arrays[f"conv2d_{number}/kernel"]).double().permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, padding=kernel.shape[2] // 2)
        x = F.batch_norm(x, parts["moving_mean"], parts["moving_variance"], parts["gamma"], parts["beta"], eps=1e-3)
        x = F.leaky_relu(x, 0.1)
        error = (found[f"conv{number}"] - x).abs().max() / x.abs().max()  # folded in float32
        assert error < 1e-5


def test_vgg_has_the_layers_of_torchvision():
    net = vgg19(vgg_state())
    assert net.names[:4] == ("relu1_1", "relu1_2", "relu2_1", "relu2_2")
    assert net.names[-1] == "relu5_4" and len(net.names) == 16
    found = net(torch.rand(1, 3, 35, 50), net.names)
    shapes = {name: tuple(a.shape[1:]) for name, a in found.items()}
    assert shapes["relu1_2"] == (64, 35, 50) and shapes["relu2_1"] == (128, 17, 25)
    assert shapes["relu4_2"] == (512, 4, 6) and shapes["relu5_1"] == (512, 2, 3)
    grey = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 32, 32)
    assert float(net(grey, ["relu1_1"])["relu1_1"].abs().max()) < 1e-7  # the mean colour is where it begins


@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d])
def test_vgg_is_torchvisions_layers_one_after_the_other(pool):
    """The published configuration: 2, 2, 4, 4, 4 convolutions of 3 × 3 with a maximum of 2 × 2 between the groups.

    With a mean in place of it, as Gatys et al. have it.
    """
    draw = torch.Generator().manual_seed(0)
    state = vgg_state()
    for name, tensor in state.items():
        scale = (2 / max(1, tensor[0].numel())) ** 0.5 if tensor.dim() == 4 else 0.1
        state[name] = torch.randn(tensor.shape, generator=draw) * scale
    net = vgg19(state, average=pool is F.avg_pool2d)
    picture = torch.rand(1, 3, 34, 48, generator=draw)
    found = net(picture, net.names)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x, place = (picture - mean) / deviation, 0
    for group, count in enumerate((2, 2, 4, 4, 4), 1):
        if group > 1:
            x, place = pool(x, 2), place + 1
        for number in range(1, count + 1):
            x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1))
            place += 2
            torch.testing.assert_close(found[f"relu{group}_{number}"], x, rtol=1e-3, atol=1e-4 * float(x.abs().max()))


def test_smooth_pooling_keeps_a_plain_picture_and_halves():
    pooled = SmoothPool()(torch.full((1, 4, 9, 12), 0.3))
    assert pooled.shape == (1, 4, 4, 6)
    torch.testing.assert_close(pooled, torch.full_like(pooled, 0.3))


def test_random_features_follow_from_the_seed_and_are_saved():
    def made(seed):
        torch.manual_seed(seed)
        return random_convnet()

    state = made(1).state_dict()
    assert len(state) == 10
    assert all(torch.equal(a, b) for a, b in zip(state.values(), made(1).state_dict().values(), strict=True))
    other = made(2)
    assert not torch.equal(other.layers[0].weight, made(1).layers[0].weight)
    other.load_state_dict(state)
    assert torch.equal(other.layers[0].weight, made(1).layers[0].weight)


def test_what_is_read_from_files_is_not_saved():
    assert not vgg19(vgg_state()).state_dict()


# ---------- how deep they go


def test_nothing_behind_the_last_wanted_layer_is_computed():
    net = random_convnet()
    passed = []
    for number, layer in enumerate(net.layers, 1):
        layer.register_forward_hook(lambda *args, number=number: passed.append(number))
    found = net(torch.rand(1, 3, 64, 64), ["random3", "random1"])
    assert sorted(found) == ["random1", "random3"] and passed == [1, 2, 3]
    passed.clear()
    assert net(torch.rand(1, 3, 64, 64), []) == {} and passed == []


def test_nothing_of_them_can_be_trained():
    net = random_convnet()
    assert not list(net.parameters())
    picture = torch.rand(1, 3, 32, 32, requires_grad=True)
    net(picture, ["random5"])["random5"].sum().backward()
    assert picture.grad.abs().sum() > 0 and all(b.grad is None for b in net.buffers())


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="there is no layer random9 but random1, "):
        random_convnet()(torch.rand(1, 3, 32, 32), ["random9"])


def test_a_frozen_layer_mirrors_the_edge_where_it_should():
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 0] = 1.0  # what lies above on the left
    x = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    mirrored = FrozenLayer(weight, torch.zeros(1), reflect=True)(x)
    assert mirrored[0, 0].tolist() == [[5, 4, 5], [2, 1, 2], [5, 4, 5]]
    assert FrozenLayer(weight, torch.zeros(1))(x)[0, 0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]


# ---------- weights in files


def test_weights_of_tiny_darknet_from_a_file(tmp_path):
    np.savez(tmp_path / "darknet.npz", **darknet_arrays())
    net = features("tiny-darknet", str(tmp_path / "darknet.npz"))
    assert net.told == "Tiny Darknet, trained on ImageNet" and len(net.names) == 15


def write_shards(folder, arrays, dtype="float32"):
    """As TensorFlow.js stores a net, with two shards for each half of the arrays."""
    groups, names = [], list(arrays)
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        numbers = b"".join(arrays[name].astype("<f4").tobytes() for name in part)
        paths = [f"group{number}-shard{shard}of2" for shard in (1, 2)]
        for path, piece in zip(paths, (numbers[:1001], numbers[1001:]), strict=True):
            (folder / path).write_bytes(piece)
        about = [{"name": name, "shape": list(arrays[name].shape), "dtype": dtype} for name in part]
        groups.append({"paths": paths, "weights": about})
    (folder / "model.json").write_text(json.dumps({"modelTopology": {}, "weightsManifest": groups}))
    return str(folder / "model.json")


def test_weights_of_tiny_darknet_from_tensorflow_js(tmp_path):
    np.savez(tmp_path / "darknet.npz", **darknet_arrays())
    other = features("tiny-darknet", str(tmp_path / "darknet.npz"))
    net = features("tiny-darknet", write_shards(tmp_path, darknet_arrays()))
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, dict(other.named_buffers())[name]), name


def test_weights_from_tensorflow_js_that_are_broken(tmp_path):
    for wrong, text in (("uint8", "is uint8, not float32"), ("float32", "group1-shard2of2: .*cannot be read")):
        path = write_shards(tmp_path, darknet_arrays(), wrong)
        (tmp_path / "group1-shard2of2").unlink()
        with pytest.raises(UserError, match=text):
            features("tiny-darknet", path)
    write_shards(tmp_path, darknet_arrays())
    (tmp_path / "group1-shard2of2").write_bytes(b"short")
    for wrong in (path, path.replace("model.json", "other.json")):
        (tmp_path / "other.json").write_text("[]")
        with pytest.raises(UserError, match="these weights cannot be read"):
            features("tiny-darknet", wrong)


def test_weights_of_vgg_in_three_forms(tmp_path):
    state = vgg_state()
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pth")
    head, numbers, place = {"__metadata__": {"format": "pt"}}, b"", 0
    for name, tensor in state.items():
        part = tensor.numpy().tobytes()
        head[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [place, place + len(part)]}
        numbers, place = numbers + part, place + len(part)
    text = json.dumps(head).encode()
    (tmp_path / "vgg.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    picture = torch.rand(1, 3, 32, 32)
    plain, *others = (features("vgg19", str(path)) for path in sorted(tmp_path.iterdir()))
    for other in others:
        assert torch.equal(plain(picture, ["relu2_1"])["relu2_1"], other(picture, ["relu2_1"])["relu2_1"])


def write_darknet(path, **changed):
    np.savez(path, **{k: v for k, v in (darknet_arrays() | changed).items() if v is not None})


@pytest.mark.parametrize(
    "net, name, make, text",
    [
        ("tiny-darknet", None, None, "tiny-darknet needs its weights"),
        ("random", "x.npz", None, "random features need no weights"),
        ("tiny-darknet", "none.npz", None, "there is no such file"),
        ("tiny-darknet", ".", None, "this is a folder"),
        ("tiny-darknet", "a.npz", lambda p: p.write_bytes(b"nothing"), "these weights cannot be read"),
        ("tiny-darknet", "a.npz", lambda p: write_darknet(p, **{"conv2d_3/kernel": None}), "it has no conv2d_3/kernel"),
        (
            "tiny-darknet",
            "a.npz",
            lambda p: write_darknet(p, **{"conv2d_1/kernel": np.ones((3, 3, 1, 16))}),
            r"its conv2d_1/kernel is \(3, 3, 1, 16\), not \(3, 3, 3, 16\)",
        ),
        (
            "tiny-darknet",
            "a.npz",
            lambda p: write_darknet(p, **{"batch_normalization_2/beta": np.full(32, np.nan, np.float32)}),
            "its batch_normalization_2/beta holds numbers that are not finite",
        ),
        ("vgg19", "a.pth", lambda p: p.write_bytes(b"PK nothing"), "these weights cannot be read"),
        ("vgg19", "a.pth", lambda p: torch.save([1, 2], p), "this file holds a list, not weights by name"),
        ("vgg19", "a.pth", lambda p: torch.save({"x": torch.ones(1)}, p), "it has no features.0.weight"),
        ("vgg19", "a.pth", lambda p: torch.save({"x": print}, p), "these weights cannot be read"),
        ("vgg19", "a.safetensors", lambda p: p.write_bytes(b"\x05"), "cannot be read: .*header too small"),
        ("vgg19", "a.safetensors", lambda p: p.write_bytes(b"\x02" + bytes(7) + b"no"), "these weights cannot be read"),
    ],
)
def test_weights_that_are_none(net, name, make, text, tmp_path):
    path = None if name is None else tmp_path / name
    if make:
        make(path)
    with pytest.raises(UserError, match=text) as caught:
        features(net, None if path is None else str(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_random_features_have_no_maxima_to_take_means_for():
    with pytest.raises(UserError, match="random features take no maxima, they halve smoothly; leave"):
        features("random", None, average=True)


def test_a_hub_name_that_cannot_be_reached(monkeypatch):
    import huggingface_hub

    def refuse(name, file):
        raise OSError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr("dlmkit.data.hub._is_known", lambda host: True)
    with pytest.raises(UserError, match="cannot be had from the hub: no connection; check the name"):
        features("vgg19", "timm/vgg19.tv_in1k")


def test_a_hub_name_is_fetched_once_per_file(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    torch.save(vgg_state(), tmp_path / "pytorch_model.bin")
    asked = []

    def download(name, file):
        asked.append((name, file))
        if file.endswith("safetensors"):
            raise EntryNotFoundError("no such file")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert features("vgg19", "somebody/vgg19").told == "VGG-19, trained on ImageNet"
    assert [file for _, file in asked] == ["model.safetensors", "pytorch_model.bin"]
