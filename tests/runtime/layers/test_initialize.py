"""The one initialisation: torch's own ranges, a stream per parameter, the same on every way to a module."""

import math

import pytest
import torch
from torch import nn

from hvdsl.runtime.layers import (
    Affine,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Scope,
    constant,
    fan_in,
    gaussian,
    initialize,
    ones,
    orthogonal,
    scaled,
    uniform,
    zeros,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Conv2d(6, 40, (3, 3)), nn.Conv2d(6, 40, 3)),
        (Conv2d(40, 40, (3, 3), groups=8), nn.Conv2d(40, 40, 3, groups=8)),
        (ConvTranspose2d(40, 6, (4, 4)), nn.ConvTranspose2d(40, 6, 4)),
        (Dense(70, 60), nn.Linear(70, 60)),
    ],
    ids=["conv", "groups", "transposed", "dense"],
)
def test_fan_in_is_torchs_default(ours, theirs):
    initialize(ours, 0)
    for role in ("weight", "bias"):
        mine, reference = getattr(ours, role), getattr(theirs, role)
        assert mine.shape == reference.shape
    bound = 1 / math.sqrt(nn.init._calculate_fan_in_and_fan_out(theirs.weight)[0])
    for weight in (ours.weight, theirs.weight):
        assert 0.97 * bound < weight.abs().max() <= bound
    assert ours.bias.abs().max() <= bound
    assert ours.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def weights(init):
    layer = Conv2d(8, 16, (3, 3), weight_init=init, bias_init=ones())
    initialize(layer, 0)
    assert layer.bias.eq(1).all()
    return layer.weight.detach()


def test_rules():
    torch.testing.assert_close(weights(scaled(0.25)), 0.25 * weights(fan_in()))
    assert weights(zeros()).eq(0).all()
    assert weights(constant(3.0)).eq(3).all()
    assert weights(gaussian(0.1)).std().item() == pytest.approx(0.1, rel=0.1)
    assert 1 <= weights(uniform(1, 2)).min() < weights(uniform(1, 2)).max() < 2
    rows = weights(orthogonal()).flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), rtol=0, atol=1e-5)


def test_rules_print_as_the_calls_that_make_them():
    assert repr([fan_in(), scaled(0.5), uniform(0, 1)]) == "[fan_in(), scaled(0.5), uniform(0, 1)]"


def model():
    return Scope(conv=[Conv2d(3, 4, (3, 3)), Conv2d(4, 4, (3, 3))], norm=BatchNorm2d(4), gain=Affine(4))


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


def test_the_same_seed_gives_the_same_values_also_after_meta():
    direct = model()
    initialize(direct, 5)
    with torch.device("meta"):
        moved = model()
    moved.to_empty(device="cpu")
    initialize(moved, 5)
    assert_same(state(direct), state(moved))
    initialize(moved, 6)
    assert not direct.conv[0].weight.equal(moved.conv[0].weight)


def test_generator_stands_for_its_next_number():
    a, b = model(), model()
    initialize(a, torch.Generator().manual_seed(3))
    initialize(b, torch.Generator().manual_seed(3))
    assert_same(state(a), state(b))


def test_siblings_differ_and_additions_change_nothing():
    small, large = Scope(conv=[Conv2d(4, 4, (1, 1))]), Scope(first=Affine(2), conv=[Conv2d(4, 4, (1, 1))] * 1)
    large.conv.append(Conv2d(4, 4, (1, 1)))
    initialize(small, 0)
    initialize(large, 0)
    assert small.conv[0].weight.equal(large.conv[0].weight)
    assert not large.conv[0].weight.equal(large.conv[1].weight)


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    initialize(model(), 0)
    assert torch.rand(1).equal(expected)


def test_constructors_initialise_nothing():
    with torch.device("meta"):
        module = model()
    assert all(p.is_meta for p in module.parameters())
    with pytest.raises(ValueError, match=r"`conv.0.weight` is on the meta device; call `to_empty\(device=…\)` first"):
        initialize(module, 0)


def test_a_parameter_that_nobody_starts_is_refused():
    with pytest.raises(ValueError, match=r"`alien\.weight` has no initial value"):
        initialize(Scope(alien=nn.Linear(2, 2)), 0)
