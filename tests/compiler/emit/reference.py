"""Run a graph node by node, as the operation table says: what emitted code must equal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.checks.flows import Flow, flow_of
from hvdsl.compiler.graph import Graph, Value
from hvdsl.runtime import distributions, layers
from hvdsl.runtime.latents import Traversal

NAMES = {"torch": torch, "F": F, **vars(distributions), **{name: getattr(layers, name) for name in layers.__all__}}


def interpret(graph: Graph, module: nn.Module, image: Tensor, latents: Traversal) -> Tensor:
    """Return the model's output; layers are looked up in `module` by their paths. Dropout is taken to be off."""
    latents = latents.like(next(module.parameters()))
    values: dict[Value, object] = {}
    number = {group.node: i for i, group in enumerate(graph.latents)}
    taps = {i: graph.nodes[graph.nodes[n].inputs[2].node] for n, i in number.items() if len(graph.nodes[n].inputs) > 2}
    flows = {i: flow for n, i in number.items() if isinstance(flow := flow_of(graph, graph.nodes[n]), Flow)}
    starts = {flows[i].start.node if i in flows else tap.inputs[0].node: i for i, tap in taps.items()}
    flowed = {tap.index: i for i, tap in taps.items() if i in flows}
    for node in graph.nodes:
        operands = [values[v] for v in node.inputs]
        operation = OPERATIONS[node.op]
        if node.op == "image":
            made: object = image
        elif node.index in flowed:
            flow = flows[flowed[node.index]]
            volumes = [-values[s] for form, s in flow.scales if form == "affine"]
            made = [operands[0], distributions.Flowed(operands[1], values[flow.start], operands[0], *volumes)]
        elif node.op in ("tap", "output", "dropout"):
            made = operands if len(node.shapes) > 1 else operands[0]
        elif node.op == "sample":
            made = latents[starts[node.index]].start(*operands)
        elif node.op == "latent":
            made = latents[number[node.index]].draw(*operands[:2])
        elif operation.layer is not None:
            layer = module.get_submodule(node.path)
            own = dict(module.get_submodule(node.own_path).named_parameters()) if node.own_path else {}
            made = functional_call(layer, own, tuple(operands or [latents.batch]))
        else:
            assert operation.expression is not None
            names = [f"operand_{i}" for i in range(len(operands))]
            text = operation.expression(names, [graph.shape(v) for v in node.inputs], node.args)
            made = eval(text, {**NAMES, "latents": latents, **dict(zip(names, operands, strict=True))})
        for port, value in enumerate(made if len(node.shapes) > 1 else [made]):
            values[Value(node.index, port)] = value
    result = values[graph.output]
    assert isinstance(result, Tensor)
    return result
