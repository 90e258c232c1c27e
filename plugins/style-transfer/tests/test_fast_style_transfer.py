"""The net that paints in one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dlmkit_style_transfer.crops import PhotographCrops
from dlmkit_style_transfer.fast import FastStyleTransfer
from dlmkit_style_transfer.transformer import LEAST, TransformerNet
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn

from dlmkit.cli import main
from dlmkit.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:.*does not have many workers", "ignore:.*CombinedLoader"
)


@pytest.mark.parametrize("high, wide", [(16, 16), (17, 30), (33, 51), (64, 34), (21, 100)])
def test_a_picture_of_any_size_keeps_it(high, wide):
    made = TransformerNet(4, 1)(torch.rand(2, 3, high, wide))
    assert made.shape == (2, 3, high, wide) and 0 <= made.min() and made.max() <= 1


def test_what_is_added_to_a_side_is_cut_off_again_at_its_end():
    net = TransformerNet(4, 1).double()
    net.noise.zero_()
    picture = torch.rand(1, 3, 18, 21, dtype=torch.double)
    whole = net(torch.nn.functional.pad(picture, (0, 3, 0, 2), mode="reflect"))
    torch.testing.assert_close(net(picture), whole[..., :18, :21], rtol=0, atol=1e-10)


def test_a_picture_that_is_too_small():
    with pytest.raises(ValueError, match=rf"a picture of 40 × 15 pixels is too small; {LEAST} × {LEAST}"):
        TransformerNet(4, 1)(torch.rand(1, 3, 15, 40))


def test_the_layers_are_those_of_the_paper():
    net = TransformerNet()
    found = [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in net.modules()
             if isinstance(m, nn.Conv2d)]  # fmt: skip
    assert found[:3] == [(4, 32, 9, 1), (32, 64, 3, 2), (64, 128, 3, 2)]
    assert found[3:13] == [(128, 128, 3, 1)] * 10
    assert found[13:] == [(128, 64, 3, 1), (64, 32, 3, 1), (32, 3, 9, 1)]
    assert not any(isinstance(m, nn.ConvTranspose2d | nn.BatchNorm2d) for m in net.modules())
    assert all(m.padding_mode == "reflect" for m in net.modules() if isinstance(m, nn.Conv2d))


def test_pictures_of_a_batch_do_not_mix():
    net = TransformerNet(4, 2).double()
    pictures = torch.rand(3, 3, 24, 20, dtype=torch.double)
    torch.testing.assert_close(net(pictures)[1], net(pictures[1:2])[0], rtol=0, atol=1e-10)


def test_contrast_and_brightness_do_not_matter_inside():
    """The instance normalisation behind the first convolution takes both away; the noise is left out here."""
    net = TransformerNet(4, 1).double()
    net.noise.zero_()
    x = torch.rand(1, 3, 24, 24, dtype=torch.double)
    torch.testing.assert_close(net(x), net(0.5 * x + 0.2), rtol=0, atol=1e-3)


def test_every_weight_is_trained_and_no_feature():
    torch.manual_seed(0)
    task = FastStyleTransfer(4, 1)
    batch = PhotographCrops(crop=32, style_size=64, batch_size=2).batch("train", 0, 0, 0, 1)
    task.loss(batch)[0].backward()
    names = [name for name, parameter in task.named_parameters() if parameter.grad is not None]
    assert names == [name for name, _ in task.named_parameters()] and all(name.startswith("net.") for name in names)


def test_the_figure_of_the_test_is_what_is_left_of_the_style_loss(tmp_path):
    torch.manual_seed(0)
    task = FastStyleTransfer(4, 1).eval()
    data = PhotographCrops(crop=32, style_size=64, batch_size=2)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    found = Trainer(**options, limit_test_batches=1).test(task, datamodule=data, verbose=False)[0]
    batch = data.batch("test", 0, 0, 0, 1)
    fixed, styles = task.fixed_losses(), [batch["style_1"]]
    target = fixed.content_target(batch["content"]), fixed.style_target(styles)
    with torch.no_grad():
        before, after = (fixed(x, *target).style.mean() for x in (batch["content"], task(batch["content"])))
    assert found["test/style_left"] == pytest.approx(float(after / before), rel=1e-4) != pytest.approx(1, rel=0.01)


def test_a_file_is_painted_as_the_net_paints_its_pixels(tmp_path):
    torch.manual_seed(0)
    task = FastStyleTransfer(4, 1).eval()
    name = save(tmp_path / "odd.png", 41, 37)
    with Image.open(name) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    (shown,) = task.sample(name)
    with torch.no_grad():
        expected = task(pixels)[0].permute(1, 2, 0).mul(255).round().byte().numpy()
    assert np.abs(shown.pixels.astype(int) - expected).max() <= 1


def test_options_out_of_range():
    with pytest.raises(UserError, match="maps is 0; give at least 1"):
        FastStyleTransfer(maps=0)


def save(path, wide, high):
    pixels = np.random.default_rng(0).integers(0, 256, (high, wide, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def test_a_run_and_pictures_painted_with_it(tmp_path, capsys):
    words = ["--model.maps=4", "--model.blocks=1", "--data.crop=32", "--data.style_size=64", "--data.size=64"]
    words += ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--name", "run", "--runs", str(tmp_path)]
    assert main(["run", "fast-style-transfer", *words]) == 0
    folder = tmp_path / "run"
    assert (folder / "media" / "training-test.gif").is_file()
    assert "random weights" in capsys.readouterr().out
    for name, prompt, further, size in [
        ("own", [], [], (64, 43)),
        ("odd", ["--prompt", save(tmp_path / "odd.png", 101, 47)], [], (101, 47)),
        ("large", ["--prompt", "china"], ["--size=200"], (200, 133)),
    ]:
        assert main(["sample", str(folder), "--out", str(tmp_path / name), *prompt, *further]) == 0
        (file,) = (tmp_path / name).iterdir()
        with Image.open(file) as picture:
            assert picture.size == size
    assert main(["sample", str(folder), "--prompt", save(tmp_path / "small.png", 90, 9)]) == 2
    assert "small.png: a picture of 90 × 9 pixels is too small" in capsys.readouterr().err
    Image.new("RGBA", (60, 50), (10, 200, 30, 99)).save(tmp_path / "glass.png")
    assert main(["sample", str(folder), "--out", str(tmp_path / "glass"), "--prompt", str(tmp_path / "glass.png")]) == 0
    assert "glass.png; transparent in parts, which lie on white" in capsys.readouterr().out
    (painted,) = (tmp_path / "glass").glob("*.png")
    with Image.open(painted) as picture:  # the painted picture is as it would be without
        assert picture.size == (60, 50)
    for further, message in (
        (["--prompt", "china", "--size=0"], "--size: size is 0; give at least 32"),
        (["--prompt", "chnia"], "there is no picture called chnia; did you mean china"),
    ):
        assert main(["sample", str(folder), *further]) == 2
        assert message in capsys.readouterr().err
    assert main(["sample", str(folder), "--prompt", str(tmp_path / "none.png")]) == 2
    assert "there is no such file" in capsys.readouterr().err
