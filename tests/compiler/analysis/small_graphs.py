"""Graphs built by hand, node by node, for analyses to look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal as Choice

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.table import ArgumentType
from hvdsl.compiler.catalogue.weights import ZEROS
from hvdsl.compiler.graph import Edge, Graph, GraphLatent, GraphScope, Literal, Node, Shape
from hvdsl.grammar.source import Source, Span

OPERANDS = (ArgumentType.TENSOR, ArgumentType.DISTRIBUTION, ArgumentType.STEP)
SPAN = Span(Source("hand.hv", ""), 0, 0)


class Maker:
    """Adds nodes in order, as elaboration does."""

    def __init__(self, image: Shape) -> None:
        self.nodes: list[Node] = []
        self.root = self.scope = GraphScope("model", "hand", None, None, SPAN)
        self.latents: list[GraphLatent] = []
        self.size = image

    @contextmanager
    def within(self, kind: Choice["section", "row", "recipe"], name: str, number: int | None = None) -> Iterator[None]:
        above = self.scope
        self.scope = GraphScope(kind, name, number, above, SPAN)
        above.members.append(self.scope)
        yield
        self.scope = above

    def add(self, op: str, *inputs: Edge, port: int = 0, **given: Literal) -> Edge:
        operation = OPERATIONS[op]
        args = {
            a.name: given.get(a.name, a.default)
            for a in operation.arguments
            if a.type not in OPERANDS or a.name in given
        }
        shapes = [self.nodes[v.node].shapes[v.port] for v in inputs]
        parameters = operation.parameters(shapes, args) if operation.parameters else ()
        index = len(self.nodes)
        path = f"{self.scope.path}.{op}.{index}" if parameters else ""
        node = Node(index, operation, args, inputs, operation.shape(shapes, args), self.scope, SPAN, parameters, path)
        self.nodes.append(node)
        self.scope.members.append(node)
        return Edge(index, port)

    def image(self) -> Edge:
        return self.add("image", shape=self.size)

    def latent(self, name: str, prior: Edge, posterior: Edge) -> Edge:
        z = self.add("latent", prior, posterior, name=name, family="normal")
        self.latents.append(
            GraphLatent(
                name, z.node, "normal", self.nodes[z.node].shapes[0], f"{self.scope.path}.{name}", prior, posterior
            )
        )
        return z

    def graph(self, output: Edge) -> Graph:
        end = self.add("output", output)
        return Graph("hand", self.nodes, self.root, self.latents, end, self.size)


def ladder() -> Graph:
    """Two latents: one at 4x4 below a learned map, one at 8x8 that reads the first."""
    m = Maker((3, 8, 8))
    x = m.image()
    with m.within("section", "encoder"):
        with m.within("row", "r8"):
            with m.within("recipe", "block", 0):
                x = m.add("conv", x, kernel=(3, 3), out=16)
            fine = m.add("tap", x, name="")
            x = m.add("avg_pool", x, kernel=(2, 2))
        with m.within("row", "r4"):
            with m.within("recipe", "block", 1):
                x = m.add("conv", m.add("gelu", x), kernel=(3, 3), out=16)
            coarse = m.add("tap", x, name="")
    with m.within("section", "decoder"):
        with m.within("row", "r4"), m.within("recipe", "layer", 0):
            start = m.add("learned", init=ZEROS, channels=16, grid=(4, 4))
            prior = m.add("normal", m.add("conv", start, kernel=(1, 1), out=8))
            posterior = m.add("normal", m.add("conv", coarse, kernel=(1, 1), out=8))
            y = m.add("conv", m.latent("z", prior, posterior), kernel=(1, 1), out=16)
        with m.within("row", "r8"):
            y = m.add("nearest", y, factor=(2, 2))
            with m.within("recipe", "layer", 1):
                prior = m.add("normal", m.add("conv", y, kernel=(1, 1), out=8))
                both = m.add("concat", y, fine)
                posterior = m.add("normal", m.add("conv", both, kernel=(3, 3), out=8))
                z = m.add("conv", m.latent("z", prior, posterior), kernel=(1, 1), out=16)
                y = m.add("add", y, z)
            y = m.add("conv", y, kernel=(1, 1), out=3)
    return m.graph(y)
