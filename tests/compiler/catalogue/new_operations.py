"""Operations that the language does not have, each declared as any other: one entry, and a layer where it has state."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import pytest

import hvdsl.draw.ladder
import hvdsl.runtime.layers
import hvdsl.runtime.layers.norms
from hvdsl.compiler import catalogue, pipeline
from hvdsl.compiler.catalogue.rules import element_count, same_shape, template
from hvdsl.compiler.catalogue.table import Args, LayerCall, Locality, Operation, OperationKind, Saves
from hvdsl.compiler.catalogue.weights import ONES
from hvdsl.compiler.elaboration import environment
from hvdsl.compiler.emit import runtime_index, stepwise
from hvdsl.compiler.graph import Parameter, Shape

LOADED = (pipeline, stepwise, hvdsl.draw.ladder)  # all that holds the catalogue is there before it is replaced

MISH = Operation(
    "mish", OperationKind.STEP, "x tanh(softplus(x)).", (), same_shape,
    saves=Saves.INPUT, expression=template("F.mish({0})"), locality=Locality.ELEMENT,
)  # fmt: skip
DIFFERENCES = Operation(
    "differences", OperationKind.STEP, "Each channel less the one before it.", (), same_shape,
    expression=template("({0}) - torch.roll({0}, 1, 1)"), locality=Locality.PIXEL, linear=True,
)  # fmt: skip


def _gain(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    return (Parameter("weight", (inputs[0][0],), ONES),)


def _macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    return 2 * element_count(inputs[0])


def _layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return LayerCall("RootMeanSquareNorm", (inputs[0][0],))


RMS_NORM = Operation(
    "rms_norm", OperationKind.STEP, "The channels of each position over their root mean square.", (), same_shape,
    parameters=_gain, macs=_macs, saves=Saves.INPUT, layer=_layer, locality=Locality.PIXEL,
)  # fmt: skip

LAYER = '''

class RootMeanSquareNorm(Layer):
    """Each position's channels over their root mean square (Zhang & Sennrich 2019), times a gain per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))

    def initial(self, fill: Fill) -> None:
        fill("weight", ones(), 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5) * self.weight[:, None, None]
'''


@contextmanager
def new_operations() -> Iterator[None]:
    """Put the three entries into the catalogue, and the layer into the runtime's text and module."""
    old, public = catalogue.OPERATIONS, environment.PUBLIC_OPERATIONS
    added = {operation.name: operation for operation in (MISH, DIFFERENCES, RMS_NORM)}
    read = runtime_index.module_source

    def with_layer(module: str) -> str:
        text = read(module)
        if module == "layers.norms":
            return text + LAYER
        return text.replace("__all__ = [", '__all__ = ["RootMeanSquareNorm", ') if module == "layers" else text

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("hvdsl.compiler"):
                for attribute, value in list(vars(module).items()):
                    if value is old:
                        patch.setattr(module, attribute, MappingProxyType({**old, **added}))
                    elif value is public:
                        patch.setattr(module, attribute, public | added.keys())
        norms = hvdsl.runtime.layers.norms
        exec(LAYER, vars(norms))
        patch.setattr(hvdsl.runtime.layers, "RootMeanSquareNorm", vars(norms).pop("RootMeanSquareNorm"), raising=False)
        patch.setattr(runtime_index, "module_source", with_layer)
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    for function in (runtime_index.tree, runtime_index.exports, runtime_index.result_type):
        function.cache_clear()
