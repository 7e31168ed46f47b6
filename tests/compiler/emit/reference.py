"""Run a graph node by node, as the operation table says: what emitted code must equal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hvdsl.compiler.catalogue.activations import DROPOUT
from hvdsl.compiler.graph import Edge, Graph, Role, Term
from hvdsl.runtime import distributions, layers
from hvdsl.runtime.latents import Traversal

NAMES = {"torch": torch, "F": F, **vars(distributions), **{name: getattr(layers, name) for name in layers.__all__}}


def interpret(graph: Graph, module: nn.Module, image: Tensor, latents: Traversal) -> Tensor:
    """Return the model's output; layers are looked up in `module` by their paths. Dropout is taken to be off."""
    latents.begin(module, image)
    values: dict[Edge, object] = {}
    number = {group.node: i for i, group in enumerate(graph.latents)}
    groups = dict(enumerate(graph.latents))
    starts = {group.sample: i for i, group in groups.items() if group.sample is not None}
    flowed = {group.tap: i for i, group in groups.items() if group.tap is not None and group.flow is not None}
    for node in graph.nodes:
        operands = [values[v] for v in node.inputs]
        operation = node.operation
        if node.role is Role.IMAGE:
            made: object = image
        elif node.index in flowed:
            group = groups[flowed[node.index]]
            steps = [graph.nodes[i] for i in group.flow.steps]
            volumes = [-values[s.inputs[2]] for s in steps if s.args["form"] == Term("affine")]
            start = values[Edge(group.sample)]
            made = [operands[0], distributions.Flowed(operands[1], start, operands[0], *volumes)]
        elif node.role in (Role.TAP, Role.OUTPUT) or node.operation is DROPOUT:
            made = operands if len(node.shapes) > 1 else operands[0]
        elif node.role is Role.SAMPLE:
            made = latents[starts[node.index]].start(*operands)
        elif node.role is Role.LATENT:
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
            values[Edge(node.index, port)] = value
    result = values[graph.output]
    assert isinstance(result, Tensor)
    return result
