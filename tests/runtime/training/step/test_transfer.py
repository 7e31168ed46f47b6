"""Input and results on their way between host and device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hvdsl.runtime.ground.noise import JointNoise, RecordedNoise
from hvdsl.runtime.latents import Condition
from hvdsl.runtime.latents.noise import noise_layout
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.training.batches import PixelBatch
from hvdsl.runtime.training.step.transfer import Readings, on_device, pixels_on, tensors_of
from hvdsl.runtime.training.tasks import ImageTask
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int64])
def test_values_arrive_as_they_were(dtype: type) -> None:
    values = np.array([0, 1, 200, 255], dtype)
    assert on_device(values, torch.device("cpu")).tolist() == values.tolist()


def test_sixteen_bits_keep_their_upper_half() -> None:
    values = np.array([[0, 32767, 32768, 65535]], np.uint16)
    assert on_device(values, torch.device("cpu")).tolist() == values.tolist()
    assert pixels_on(values, torch.zeros(1, dtype=torch.float64)).tolist() == values.tolist()


def test_every_tensor_of_a_batch_is_known() -> None:
    x, target, low = torch.zeros(2, 1), torch.ones(2, 1), torch.ones(2, 3)
    noise = JointNoise(0, [0, 1], layout=noise_layout(tiny().LATENTS))
    batch = ModelBatch(x, target, noise, given={"low": low})
    assert [t.shape for t in tensors_of([batch])] == [x.shape, target.shape, (2, 192), (2, 0), low.shape]
    assert next(tensors_of([ModelBatch(x, target, RecordedNoise(2))])) is x


def test_conditions_go_with_their_images() -> None:
    model, train = tiny(), settings(accumulate=2).train
    assert train is not None
    model.GIVEN = (Condition("label", (4, 1, 1), classes=4),)  # type: ignore[assignment]  # no module or tensor
    pixels = Blobs(4).batch(range(4))
    label = np.arange(4)
    batch = PixelBatch(3, 8, pixels, given={"label": label})
    first, second = ImageTask(settings().objective).parts(model, batch, train)
    assert (first.given["label"].tolist(), second.given["label"].tolist()) == ([0, 1], [2, 3])
    assert torch.equal(torch.cat([first.x, second.x]), model.input(torch.from_numpy(pixels.astype(np.float32))))


def test_readings_come_in_order_and_once() -> None:
    readings: Readings[str] = Readings(torch.device("cpu"))
    readings.push("a", torch.tensor([1.0]))
    readings.push("b", torch.tensor([2.0, 3.0]))
    assert list(readings.take(outstanding=1)) == [("a", [1.0]), ("b", [2.0, 3.0])]  # a CPU is never behind
    assert list(readings.take()) == []
