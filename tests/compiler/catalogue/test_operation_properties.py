"""What entries say of operations holds of what runs: what is read, linear, a view, written in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.compiler.analysis.autoregression import channel_reads
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.structure import IAF
from hvdsl.compiler.catalogue.table import AtRest, Operation, Past, Reads, ReadWindow
from hvdsl.compiler.graph import Literal, Role, Shape, Term
from hvdsl.runtime import layers, priors
from tests.compiler.catalogue.calls import complete
from tests.compiler.catalogue.test_operation_table import EXPRESSIONS

X = (4, 3, 4)


def causal(at: str, mirror: bool = False) -> Term:
    return Term("causal", (at,), (("mirror", mirror),))


def conv(kernel: int = 3, **given: Literal) -> tuple[str, list[Shape], dict[str, Literal]]:
    return "conv", [X], {"kernel": (kernel, kernel), "out": 4, **given}


Case = tuple[str, list[Shape], dict[str, Literal]]
CASES: list[Case] = [
    *((op, [(c, min(h, 4), min(w, 4)) for c, h, w in inputs], given) for op, inputs, given in EXPRESSIONS),
    ("shift", [X], {"down": 1, "right": -1}),
    ("shift", [X], {}),
    ("expand", [(4, 1, 1)], {"size": (3, 4)}),
    ("split", [X], {"sizes": (1, 3)}),
    ("chunk", [X], {"n": 2}),
    ("channels_last", [X], {}),
    ("low_precision", [X], {}),
    conv(),
    conv(groups=2),
    conv(stride=(2, 2), pad=Term("tf")),
    conv(dilation=(2, 2), pad=Term("tf")),
    conv(pad=Term("reflect")),
    conv(1),
    *(conv(mask=causal(at)) for at in ("exclude", "before", "upto", "all")),
    conv(mask=causal("before", mirror=True)),
    conv(1, mask=causal("upto")),
    ("depthwise", [X], {"kernel": (3, 3)}),
    ("depthwise", [X], {"kernel": (3, 3), "mask": causal("exclude")}),
    ("upconv", [X], {"kernel": (4, 4), "out": 2}),
    ("dense", [X], {"out": 3}),
    ("batch_norm", [X], {}),
    ("batch_norm_silu", [X], {}),
    ("group_norm", [X], {"groups": 2}),
    ("layer_norm", [X], {}),
    ("affine", [X], {}),
    ("dropout", [X], {"p": 0.5}),
    ("attention", [X, X, X], {"heads": 2}),
    ("attention", [X, X, X], {"causal": Term("strict")}),
    ("attention", [X, X, X], {"causal": Term("inclusive")}),
    ("iaf", [X, X, X], {"form": Term("affine")}),
    ("iaf", [X, X], {"form": Term("shift")}),
]  # fmt: skip
NAMES = [f"{op} {number}" for number, (op, _, _) in enumerate(CASES)]


def function(op: str, inputs: Sequence[Shape], given: dict[str, Literal]) -> Callable[..., tuple[Tensor, ...]]:
    """What the operation runs as, in float64 and outside of training."""
    entry, args = OPERATIONS[op], complete(op, **given)
    run: Callable[..., Any]
    if entry.layer is not None:
        spoken = entry.layer(inputs, entry.shape(inputs, args), args)
        layer = _made(Term(spoken.name, spoken.args, spoken.options))
        layers.initialize(layer, 0)
        layer = layer.double().eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(0.5, 1, generator=torch.Generator().manual_seed(3))
        run = layer
    else:
        assert entry.expression is not None
        names = [f"t{i}" for i in range(len(inputs))]
        text = entry.expression(names, inputs, args)
        spaces = {"torch": torch, "F": F, **vars(layers)}

        def run(*values: Tensor) -> Any:
            return eval(text, {**spaces, **dict(zip(names, values, strict=True))})

    return lambda *tensors: out if isinstance(out := run(*tensors), tuple) else (out,)


def _made(value: Any) -> Any:
    if not isinstance(value, Term):
        return value
    return getattr(layers, value.name)(*map(_made, value.args), **{k: _made(v) for k, v in value.options})


def tensors(inputs: Sequence[Shape], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, *shape, dtype=torch.float64, generator=generator) for shape in inputs]


def along(window: ReadWindow, position: int, length: int) -> set[int]:
    if window.everywhere:
        return set(range(length))
    at = position * window.stride // window.up
    return {p for p in range(at + window.first, at + window.last + 1) if 0 <= p < length}


def seen_at(reads: Reads, at: tuple[int, int], operand: Shape) -> set[tuple[int, int]]:
    if operand[1:] == (1, 1):
        return {(0, 0)}
    rows, columns = along(reads.rows, at[0], operand[1]), along(reads.columns, at[1], operand[2])
    if reads.mirrored:
        rows, columns = ({abs(r) for r in axis} for axis in (range(operand[1]), range(operand[2])))
    found = set(product(rows, columns))
    if reads.taps is not None:
        found = {(at[0] + row, at[1] + column) for row, column in reads.taps} & found
    if reads.past is not None:
        found = {place for place in found if place < at or (place == at and reads.past is Past.INCLUSIVE)}
    return found


@pytest.mark.parametrize(("op", "inputs", "given"), CASES, ids=NAMES)
def test_an_output_is_made_of_the_positions_and_channels_that_the_entry_names(
    op: str, inputs: list[Shape], given: dict[str, Literal]
) -> None:
    entry, run, args = OPERATIONS[op], function(op, inputs, given), complete(op, **given)
    shapes = entry.shape(inputs, args)
    channels = channel_reads(entry, inputs, shapes, args)
    values = tensors(inputs)
    for port, output in enumerate(shapes):
        jacobians = torch.autograd.functional.jacobian(lambda *x, port=port: run(*x)[port], tuple(values))
        for number, (reads, jacobian) in enumerate(zip(entry.positions(inputs, args), jacobians, strict=True)):
            reached = jacobian[0, :, :, :, 0] != 0
            for i, j in product(range(output[1]), range(output[2])):
                places = {(int(r), int(c)) for r, c in reached[:, i, j].any(0).any(0).nonzero()}
                assert places <= seen_at(reads, (i, j), inputs[number]), (op, port, number, i, j)
                if reads.offsets is not None and inputs[number][1:] == output[1:]:
                    for channel in range(output[0]):
                        bits = sum(1 << int(c) for c in reached[channel, i, j, :, i, j].nonzero())
                        assert bits & ~channels[port][channel][number] == 0, (op, port, channel, number)


@pytest.mark.parametrize(("op", "inputs", "given"), CASES, ids=NAMES)
def test_what_is_called_linear_is_linear_up_to_a_constant(
    op: str, inputs: list[Shape], given: dict[str, Literal]
) -> None:
    entry, run = OPERATIONS[op], function(op, inputs, given)
    x, y = tensors(inputs), tensors(inputs, 1)
    at = [run(*(p * a + (1 - p) * b for a, b in zip(x, y, strict=True))) for p in (0.0, 1.0, -2.0)]
    differs = any(
        not torch.allclose(third, 3 * none - 2 * one, rtol=1e-9, atol=1e-9)
        for none, one, third in zip(*at, strict=True)
    )
    said = entry.linear or entry.at_rest is not AtRest.SAME
    assert differs != said or entry is IAF, op  # a shift alone is linear; other forms are not


@pytest.mark.parametrize(("op", "inputs", "given"), CASES, ids=NAMES)
def test_what_is_called_a_view_shares_memory(op: str, inputs: list[Shape], given: dict[str, Literal]) -> None:
    if OPERATIONS[op].view:
        [x] = tensors(inputs)
        assert all(
            out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for out in function(op, inputs, given)(x)
        )


@pytest.mark.parametrize("entry", [o for o in OPERATIONS.values() if o.writes_into], ids=lambda o: o.name)
def test_the_form_that_writes_into_a_buffer_gives_the_same(entry: Operation) -> None:
    assert entry.writes_into is not None
    [x] = tensors([(4, 1, 1)])
    [expected] = function(entry.name, [(4, 1, 1)], {})(x)
    text = entry.writes_into(["x"], complete(entry.name))
    assert text is not None
    buffer = torch.zeros_like(expected)
    eval(f"{text[:-1]}, out=out)", {**vars(priors), "x": x, "out": buffer})
    assert torch.equal(buffer, expected)


def test_an_elu_of_another_slope_has_no_such_form() -> None:
    rule = OPERATIONS["elu"].writes_into
    assert rule is not None and rule(["x"], complete("elu", alpha=0.5)) is None


@pytest.mark.parametrize("entry", [o for o in OPERATIONS.values() if o.cancels_bias], ids=lambda o: o.name)
def test_what_cancels_a_bias_does(entry: Operation) -> None:
    assert entry.layer is not None
    shape: Shape = (3, 4, 4)
    spoken = entry.layer([shape], (shape,), complete(entry.name))
    layer = _made(Term(spoken.name, spoken.args, spoken.options))
    layers.initialize(layer, 0)
    x = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(layer.double().train()(x), layer(x + bias), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("entry", [o for o in OPERATIONS.values() if o.bias], ids=lambda o: o.name)
def test_the_argument_that_asks_for_a_bias_makes_one(entry: Operation) -> None:
    given: dict[str, Literal] = {"out": 4} if any(a.name == "out" for a in entry.arguments) else {}
    given |= {"kernel": (3, 3)} if any(a.name == "kernel" for a in entry.arguments) else {}
    assert entry.parameters is not None and entry.bias is not None
    for wanted in (True, False):
        parameters = entry.parameters([X], complete(entry.name, **given, **{entry.bias: wanted}))
        assert any(p.role == "bias" for p in parameters) is wanted


@pytest.mark.parametrize("case", [c for c in CASES if OPERATIONS[c[0]].steady], ids=lambda c: c[0])
def test_steady_operations_move_no_further_than_their_inputs(case: Case) -> None:
    op, inputs, given = case
    run = function(op, inputs, given)
    x = 4 * torch.randn(50, *inputs[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    [low], [high] = run(x), run(x + 1e-3)
    assert 0 < (high - low).abs().max() <= 1.15e-3


def test_every_operation_that_runs_is_looked_at() -> None:
    runs = {o.name for o in OPERATIONS.values() if o.role in (Role.OPERATION, Role.FLOW) and o.distribution is None}
    assert runs - {op for op, _, _ in CASES} == {"learned", "constant", "coordinates"}
