"""The Fréchet Inception distance: what reaches the metric, and what is said where its net cannot be had."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import pytest
import torch
from dlmkit_pictures.inception import add_pictures, inception_distance
from dlmkit_pictures.judge import frechet_distance
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from dlmkit import UserError


class MeanColour(nn.Module):
    """Stands in for Inception: three features."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, pictures):
        self.seen.append(tuple(pictures.shape))
        return pictures.float().mean(dim=(2, 3))


def test_the_distance_is_that_of_the_features():
    draw = torch.Generator().manual_seed(0)
    real, made = torch.rand(230, 3, 8, 8, generator=draw), torch.rand(150, 3, 8, 8, generator=draw) ** 2
    metric = FrechetInceptionDistance(MeanColour(), normalize=True).set_dtype(torch.float64)
    add_pictures(metric, real, real=True)
    add_pictures(metric, made, real=False)
    features = [pictures.mean(dim=(2, 3)).double().numpy() for pictures in (real, made)]
    assert metric.compute().item() == pytest.approx(frechet_distance(*features), rel=1e-3)


def test_grey_pictures_are_shown_in_three_channels_a_hundred_at_a_time():
    net = MeanColour()
    metric = FrechetInceptionDistance(net, normalize=True)
    net.seen.clear()
    add_pictures(metric, torch.rand(130, 1, 8, 8), real=True)
    assert net.seen == [(100, 3, 8, 8), (30, 3, 8, 8)]


def test_what_is_missing_is_told_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr("dlmkit_pictures.inception.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"torch-fidelity, which is not installed.*dlmkit-pictures\[inception\]"):
        inception_distance("download", "model.inception")
    monkeypatch.setattr("dlmkit_pictures.inception.find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(UserError, match=r"there is no file .*none\.pth"):
        inception_distance(str(tmp_path / "none.pth"), "model.inception")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)  # it is there and cannot be used
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"nothing")
    with pytest.raises(UserError, match="Inception's weights cannot be had"):
        inception_distance(str(broken), "model.inception")
