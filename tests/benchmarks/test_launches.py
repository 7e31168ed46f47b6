"""Operations of a step, counted on `meta`, and the layout of all that convolutions meet."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.launches import META, Autocast, Count, Counting, built_on_meta, count_step
from hvdsl.grammar.source import Source
from hvdsl.runtime.layers import Conv2d
from tests.cli.conftest import TINY
from tests.runtime.training.step.test_no_host_reads import FAMILIES

SPECS = {"tiny": {}, **FAMILIES}
QUICK = ("tiny", "vqvae2_photos")
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SPECS]


@cache
def counted(name: str) -> tuple[Count, int]:
    """The operations of a step in mixed precision, and how many parameters there are."""
    spec = Source("tiny.hv", TINY) if name == "tiny" else name
    model, settings = built_on_meta(spec, **SPECS[name], **{"train.precision": "bf16"})
    return count_step(model, settings, 2), len(list(model.parameters()))


@pytest.mark.parametrize("name", EACH)
def test_convolutions_of_each_family_meet_channels_last_alone(name: str) -> None:
    count, _ = counted(name)
    assert count.by_kind()["convolution"] + count.by_kind()["product"] > 10
    # A mixture of logistics gives its parameters' gradient in a layout of its own: one copy a step.
    assert sum(count.unlike.values()) <= 1 and all(place.startswith("backward gradient") for place in count.unlike)
    # Maps are turned where they begin: a constant in VDVAE; and where the likelihood sums.
    assert sum(count.turned.values()) <= 1


@pytest.mark.parametrize("name", EACH)
def test_nothing_of_a_step_is_launched_parameter_by_parameter(name: str) -> None:
    """In mixed precision, with weight norm, penalties, Adamax and averages, all go over lists or stacks."""
    count, parameters = counted(name)
    by_part = count.by_part()
    assert count.by_kind()["list, one by one"] == 0
    assert by_part["optimizer"] + by_part["average"] + by_part["norm"] < min(60, parameters)


def test_what_changes_the_layout_is_seen() -> None:
    conv = nn.Conv2d(3, 4, 3, device=META)
    conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch states fewer
    x = torch.empty(2, 3, 8, 8, device=META)
    with Counting() as counting:
        y = conv(x)
        y.contiguous()
        y.sum().backward()
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert {place.split(" (")[0] for place in counting.count.unlike} == {"input x", "input gradient"}
    assert list(counting.count.turned.values()) == [1]
    assert counting.count.by_kind()["bias"] == 2


def test_autocast_on_meta_casts_what_it_casts_on_a_device() -> None:
    conv = Conv2d(3, 3, (1, 1)).to(META)
    x = torch.empty(2, 3, 4, 4, device=META)
    with Counting() as counting, Autocast("meta", torch.bfloat16):
        y = F.gelu(conv(conv(x)))
        assert y.dtype == torch.bfloat16 and y.exp().dtype == torch.float32
    assert counting.count.by_kind()["cast"] == 4  # input, weight, bias, and what is exponentiated


def test_a_list_of_unlike_tensors_counts_one_by_one() -> None:
    a, b = [torch.empty(3, device=META)] * 5, [torch.empty((), device=META)] * 5
    with Counting() as counting:
        torch._foreach_add(a, a)
        torch._foreach_lerp_(a, a, b)
    assert counting.count.by_kind() == {"list": 1, "list, one by one": 5}
