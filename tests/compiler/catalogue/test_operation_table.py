"""The table as a whole: complete, documented, and what is emitted fits what is declared."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.convolutions import upconv_crop
from hvdsl.compiler.catalogue.padding import resolve_padding
from hvdsl.compiler.catalogue.reference import markdown
from hvdsl.compiler.catalogue.table import Locality, OperationKind
from hvdsl.compiler.graph import Literal, Role, Shape, Term
from hvdsl.runtime import layers
from tests.compiler.catalogue.calls import complete, expression, layer, macs, reads, shape

NOT_EMITTED = frozenset(name for name, o in OPERATIONS.items() if o.role not in (Role.OPERATION, Role.FLOW))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_says_how_it_runs_in_exactly_one_way(name: str) -> None:
    operation = OPERATIONS[name]
    ways = [way for way in (operation.layer, operation.expression) if way is not None]
    assert len(ways) == (0 if name in NOT_EMITTED else 1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_documented(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.summary.endswith((".", "`."))
    if operation.kind is not OperationKind.INTERNAL:
        assert all(argument.doc for argument in operation.arguments), name


def test_reference_lists_what_a_spec_can_say() -> None:
    text = markdown()
    for name, operation in OPERATIONS.items():
        assert (f"### `{name}" in text) == (operation.kind is not OperationKind.INTERNAL), name
    assert "conv(kernel, out, stride = 1" in text
    assert "`split(4, 12)`: 16x8x8 → 4x8x8, 12x8x8" in text


CONVOLUTIONS: list[tuple[str, Shape, dict[str, Literal]]] = [
    ("conv", (4, 9, 8), {"kernel": (3, 3), "out": 6}),
    ("conv", (4, 9, 8), {"kernel": (3, 5), "out": 6, "groups": 2}),
    ("conv", (4, 8, 8), {"kernel": (4, 4), "out": 6, "stride": (2, 2)}),
    ("conv", (4, 9, 9), {"kernel": (3, 3), "out": 2, "dilation": (2, 2), "pad": Term("tf")}),
    ("depthwise", (4, 9, 8), {"kernel": (5, 5)}),
]


def run_convolution(op: str, x: torch.Tensor, weight: torch.Tensor, given: dict[str, Literal]) -> torch.Tensor:
    args = complete(op, **given)
    pad = resolve_padding(args["pad"], tuple(x.shape[1:]), args["kernel"], args["stride"], args["dilation"])
    groups = x.shape[1] if op == "depthwise" else args["groups"]
    x = F.pad(x, (pad.left, pad.right, pad.top, pad.bottom))
    return F.conv2d(x, weight, None, args["stride"], 0, args["dilation"], groups)


def weight_shape(op: str, x: Shape, given: dict[str, Literal]) -> tuple[int, ...]:
    rule = OPERATIONS[op].parameters
    assert rule is not None
    return rule([x], complete(op, **given))[0].shape


@pytest.mark.parametrize(("op", "x", "given"), CONVOLUTIONS)
def test_convolution_agrees_with_torch(op: str, x: Shape, given: dict[str, Literal]) -> None:
    weight = torch.ones(weight_shape(op, x, given))
    with FlopCounterMode(display=False) as counter:
        y = run_convolution(op, torch.ones(1, *x), weight, given)
    assert tuple(y.shape[1:]) == shape(op, x, **given)
    assert counter.get_total_flops() == 2 * macs(op, x, **given)
    assert_sees(op, x, given, lambda t: run_convolution(op, t, weight, given))


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("pad", ["same", "tf"])
def test_transposed_convolution_agrees_with_torch(kernel: int, pad: str) -> None:
    x = (3, 5, 4)
    given: dict[str, Literal] = {"kernel": (kernel, kernel), "out": 2, "pad": Term(pad)}
    weight = torch.ones(weight_shape("upconv", x, given))
    (top, bottom), (left, right) = upconv_crop(complete("upconv", **given))

    def run(t: torch.Tensor) -> torch.Tensor:
        full = F.conv_transpose2d(t, weight, stride=2)
        full = F.pad(full, (0, max(0, -right), 0, max(0, -bottom)))
        return full[:, :, top : full.shape[2] - max(0, bottom), left : full.shape[3] - max(0, right)]

    assert tuple(run(torch.ones(1, *x)).shape[1:]) == shape("upconv", x, **given)
    with FlopCounterMode(display=False) as counter:
        F.conv_transpose2d(torch.ones(1, *x), weight, stride=2)
    assert counter.get_total_flops() == 2 * macs("upconv", x, **given)
    assert_sees("upconv", x, given, run, exact=False)


def test_dense_counts_as_torch_does() -> None:
    with FlopCounterMode(display=False) as counter:
        F.linear(torch.ones(1, 24), torch.ones(10, 24))
    assert counter.get_total_flops() == 2 * macs("dense", (6, 2, 2), out=10)


EXPRESSIONS: list[tuple[str, list[Shape], dict[str, Literal]]] = [
    *((name, [(4, 6, 6)], {}) for name in ("gelu", "silu", "swish", "elu", "relu", "leaky_relu", "tanh")),
    ("sigmoid", [(4, 6, 6)], {}),
    ("softplus", [(4, 6, 6)], {"beta": 0.5}),
    ("glu", [(4, 6, 6)], {}),
    ("clip", [(4, 6, 6)], {"low": -1, "high": 0.5}),
    ("identity", [(4, 6, 6)], {}),
    ("avg_pool", [(4, 6, 6)], {"kernel": (2, 2)}),
    ("avg_pool", [(4, 6, 6)], {"kernel": (2, 3), "stride": (2, 3), "pad": None}),
    ("max_pool", [(4, 6, 6)], {"kernel": (3, 3), "stride": (2, 2)}),
    ("max_pool", [(4, 6, 6)], {"kernel": (2, 2), "stride": (1, 1), "pad": Term("tf")}),
    ("global_pool", [(4, 6, 6)], {}),
    ("nearest", [(4, 6, 6)], {"factor": (2, 2)}),
    ("nearest", [(4, 6, 6)], {"factor": (2, 3)}),
    ("bilinear", [(4, 6, 6)], {"factor": (2, 2), "align_corners": True}),
    ("bilinear", [(4, 6, 6)], {"factor": (2, 2)}),
    ("pixel_shuffle", [(4, 6, 6)], {"factor": 2}),
    ("crop", [(4, 6, 6)], {"top": 1, "right": 2}),
    ("crop", [(4, 6, 6)], {}),
    ("pad", [(4, 6, 6)], {"bottom": 1, "left": 2}),
    ("flatten", [(4, 6, 6)], {}),
    ("reshape", [(4, 4, 4)], {"shape": (1, 8, 8)}),
    ("pad_channels", [(4, 6, 6)], {"out": 7}),
    ("first_channels", [(4, 6, 6)], {"out": 3}),
    ("concat", [(4, 6, 6), (2, 6, 6)], {}),
    ("mean", [(4, 6, 6)] * 3, {}),
    ("add", [(4, 6, 6), (4, 1, 1)], {}),
    ("sub", [(4, 6, 6), (4, 6, 6)], {}),
    ("mul", [(4, 6, 6), (1, 6, 6)], {}),
    ("div", [(4, 6, 6), (4, 6, 6)], {}),
    ("neg", [(4, 6, 6)], {}),
    *((name, [(4, 6, 6)], {"number": 0.5}) for name in OPERATIONS if "number" in name),
    ("residual", [(4, 6, 6), (4, 6, 6)], {"scale": 0.1}),
]  # fmt: skip


def run_expression(op: str, operands: list[torch.Tensor], given: dict[str, Literal]) -> torch.Tensor:
    names = [f"t{i}" for i in range(len(operands))]
    text = expression(op, names, *(tuple(t.shape[1:]) for t in operands), **given)
    result: torch.Tensor = eval(
        text, {"torch": torch, "F": F, **vars(layers), **dict(zip(names, operands, strict=True))}
    )
    return result


@pytest.mark.parametrize(("op", "inputs", "given"), EXPRESSIONS)
def test_expression_gives_the_declared_shape(op: str, inputs: list[Shape], given: dict[str, Literal]) -> None:
    generator = torch.Generator().manual_seed(0)
    operands = [torch.rand(2, *s, generator=generator) for s in inputs]
    y = run_expression(op, operands, given)
    assert tuple(y.shape) == (2, *shape(op, *inputs, **given))
    if OPERATIONS[op].locality is Locality.WINDOW:
        assert_sees(op, inputs[0], given, lambda t: run_expression(op, [t], given), exact=False)


def test_arithmetic_says_what_it_does() -> None:
    two = torch.full((1, 1, 1, 1), 2.0)
    numbers = {
        "add_number": 7.0, "sub_number": -3.0, "number_sub": 3.0,
        "mul_number": 10.0, "div_number": 0.4, "number_div": 2.5,
    }  # fmt: skip
    for op, expected in numbers.items():
        assert run_expression(op, [two], {"number": 5}).item() == pytest.approx(expected)
    assert run_expression("residual", [two, two], {"scale": 0.1}).item() == pytest.approx(2.2)


def assert_sees(op: str, x: Shape, given: dict[str, Literal], run: object, exact: bool = True) -> None:
    """What the gradient of an output reaches lies in the declared windows (if exact: up to their ends)."""
    assert callable(run)
    [read] = reads(op, x, **given)
    for axis, window in enumerate((read.rows, read.columns)):
        length = shape(op, x, **given)[1 + axis]
        for i in range(length):
            t = torch.rand(1, *x, generator=torch.Generator().manual_seed(1), requires_grad=True)
            run(t).select(2 + axis, i).sum().backward()
            assert t.grad is not None
            reached = t.grad[0].abs().sum(dim=(0, 2 - axis)).nonzero().flatten().tolist()
            at = i * window.stride // window.up
            inside = [p for p in range(at + window.first, at + window.last + 1) if 0 <= p < x[1 + axis]]
            assert set(reached) <= set(inside), (op, axis, i)
            if exact and len(inside) == window.last - window.first + 1:
                assert (min(reached), max(reached)) == (min(inside), max(inside)), (op, axis, i)


def test_layers_say_only_what_is_not_default() -> None:
    plain = layer("conv", (8, 4, 4), kernel=(3, 3), out=16)
    assert (plain.name, plain.args, plain.options) == ("Conv2d", (8, 16, (3, 3)), ())
    odd = layer(
        "conv",
        (8, 4, 4),
        kernel=(3, 2),
        out=16,
        stride=(2, 2),
        pad=(1, 1, 0, 0),
        bias=False,
        init=Term("scaled", (0.5,)),
    )
    assert odd.options == (
        ("stride", 2),
        ("padding", (1, 1, 0, 0)),
        ("bias", False),
        ("weight_init", Term("scaled", (0.5,))),
    )
    norm = Term("weight", (), (("gain", "log"), ("eps", 1e-5)))
    assert layer("depthwise", (8, 4, 4), kernel=(5, 5), norm=norm).options == (
        ("groups", 8),
        ("norm", Term("WeightNorm", (), (("gain", "log"), ("eps", 1e-5)))),
    )
    masked = layer("conv", (8, 4, 4), kernel=(3, 3), out=8, mask=Term("causal", ("upto",), (("mirror", False),)))
    assert masked.options == (("mask", Term("Causal", ("upto",))),)
    assert layer("dropout", (8, 4, 4), p=0.2).args == (0.2,)


def test_a_start_from_a_batch_is_an_option_of_the_layer() -> None:
    norm = Term("weight", (), (("start", Term("from_batch", (0.1,))),))
    options = layer("conv", (8, 4, 4), kernel=(3, 3), out=8, norm=norm).options
    assert options == (("norm", Term("WeightNorm", (), (("start", 0.1),))),)


def test_distributions_name_only_the_maps_that_differ() -> None:
    assert expression("normal", ["p"], (8, 2, 2)) == "Normal(p)"
    nvae = {"mean": Term("soft_clamp", (5,)), "scale": Term("exp", (), (("soft_clamp", 5), ("add", 0.01)))}
    assert expression("normal", ["p"], (8, 2, 2), **nvae) == (
        "Normal(p, mean=soft_clamp(5), scale=exp(soft_clamp=5, add=0.01))"
    )
    standard = expression("normal", [], params=Term("standard", (4,)), grid=(2, 2))
    assert standard == "Normal.standard((latents.batch, 4, 2, 2), latents.device, latents.dtype)"


def test_attention_costs_two_products() -> None:
    assert macs("attention", (16, 4, 4), (16, 4, 4), (8, 4, 4), heads=2) == math.prod((16, 16, 24))
