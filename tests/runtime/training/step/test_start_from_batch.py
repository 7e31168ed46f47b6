"""Gains and biases set from a first batch: the recorded operation, the stated deviation, the phase in a run."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.errors import HvdslError
from hvdsl.runtime.layers import Conv2d, ConvTranspose2d, WeightNorm, initialize
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.start_from_batch import start_from_batch, starts_from_batch
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, TinyHierarchy, settings

GOLDEN = load_file(Path(__file__).parents[3] / "golden" / "nvae_cells" / "op_res_elu_datainit.safetensors")
LOG = WeightNorm(gain="log", eps=1e-5, start=0.2)


def test_it_reproduces_the_recorded_initialisation() -> None:
    conv = Conv2d(8, 8, (3, 3), norm=LOG)
    with torch.no_grad():
        conv.weight.copy_(GOLDEN["w.conv_0.weight"])
        conv.gain.copy_(GOLDEN["w.conv_0.log_weight_norm"])
        conv.bias.copy_(GOLDEN["w.conv_0.bias"])
    found = []
    assert start_from_batch(conv, lambda: found.append(conv(F.elu(GOLDEN["x"])))) == 1
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(conv.gain.detach(), GOLDEN["w_after_init.conv_0.log_weight_norm"], **close)
    torch.testing.assert_close(conv.bias.detach(), GOLDEN["w_after_init.conv_0.bias"], **close)
    torch.testing.assert_close(found[0], GOLDEN["y_first"], **close)
    torch.testing.assert_close(conv(F.elu(GOLDEN["x_second"])).detach(), GOLDEN["y_second"], **close)


@pytest.mark.parametrize("gain", ["linear", "log"])
def test_every_channel_of_every_layer_leaves_with_the_stated_deviation(gain: Any) -> None:
    norm = WeightNorm(gain=gain, start=0.1)
    model = nn.Sequential(Conv2d(3, 6, (3, 3), norm=norm), nn.ELU(), ConvTranspose2d(6, 4, (4, 4), norm=norm))
    initialize(model, 0)
    x = torch.randn(16, 3, 8, 8) * 40 + 7
    assert start_from_batch(model, lambda: model(x)) == 2
    for y in (model[0](x), model(x)):
        torch.testing.assert_close(y.std((0, 2, 3)), torch.full((y.shape[1],), 0.1), rtol=1e-2, atol=0)
        assert y.mean((0, 2, 3)).abs().max() < 1e-3


def test_values_that_are_not_finite_are_refused() -> None:
    conv = nn.Sequential(Conv2d(1, 2, (1, 1), norm=LOG))
    initialize(conv, 0)
    with pytest.raises(HvdslError, match=r"`0` starts from a batch.*no finite deviation"):
        start_from_batch(conv, lambda: conv(torch.full((1, 1, 2, 2), torch.nan)))
    with pytest.raises(HvdslError, match="no finite deviation"):
        start_from_batch(conv, lambda: conv(torch.ones(1, 1, 1, 1)))


def test_a_channel_that_does_not_vary_keeps_the_scale_of_its_weight() -> None:
    conv = Conv2d(3, 4, (1, 1), norm=WeightNorm(gain="linear", start=0.1))
    initialize(conv, 0)
    assert start_from_batch(conv, lambda: conv(torch.zeros(8, 3, 4, 4))) == 1
    torch.testing.assert_close(conv.gain.flatten(), torch.full((4,), 0.1), rtol=1e-3, atol=0)
    assert start_from_batch(conv, lambda: conv(torch.full((8, 3, 4, 4), 0.3))) == 1
    assert conv.gain.abs().max() < 0.2


def test_a_layer_that_no_pass_reaches_keeps_its_first_values() -> None:
    model = nn.Sequential(Conv2d(1, 2, (1, 1), norm=LOG), Conv2d(2, 2, (1, 1), norm=LOG))
    initialize(model, 0)
    before = {name: value.clone() for name, value in model[1].named_parameters()}
    assert start_from_batch(model, lambda: model[0](torch.randn(4, 1, 8, 8))) == 1
    for name, value in model[1].named_parameters():
        assert torch.equal(value, before[name])


def starting() -> Any:
    model = TinyHierarchy()
    model.encoder.r8.conv[0] = Conv2d(1, 8, (3, 3), norm=LOG)
    initialize(model, 0)
    return model


def train(folder: Any, steps: Any) -> Any:
    run = Run.open(folder) if folder.exists() else Run.create(folder, {})
    model = starting()
    trainer = Trainer(model, settings(steps=steps, checkpoint_every=Duration(n=1)), Blobs(20), run=run)
    if run.checkpoints().latest() is not None:
        trainer.resume()
    trainer.fit()
    return model, trainer


def test_a_run_starts_once_and_its_checkpoint_remembers(tmp_path: Any) -> None:
    assert starts_from_batch(starting())
    train(tmp_path / "resumed", 1)
    assert Run.open(tmp_path / "resumed").checkpoints().latest().state["started_from_batch"] is True
    resumed, _ = train(tmp_path / "resumed", 3)
    straight, trainer = train(tmp_path / "straight", 3)
    for (name, a), b in zip(resumed.state_dict().items(), straight.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    first = starting().encoder.r8.conv[0].gain
    assert (trainer.optimization.ema.averages["encoder.r8.conv.0.gain"] - first).abs().max() > 0.1
