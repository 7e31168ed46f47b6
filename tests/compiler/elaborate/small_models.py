"""Small whole specs around the lines that a test is about."""

from __future__ import annotations

from hvdsl.compiler.graph import Graph, Node
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source

LEVEL = """
group level(n = 4) {
  z ~ normal(standard(n)) posterior normal(skip -> conv(1x1, 2 * n))
  x + (z -> conv(1x1, channels))
}"""
ENCODER = "8: conv(3x3, 8) -> tap"
DECODER = "8: learned(zeros, 8) -> level -> conv(1x1, logits)"


def text(
    *,
    top: str = "",
    encoder: str = ENCODER,
    decoder: str = DECODER,
    data: str = "1x8x8",
    tail: str = "",
    level: str = LEVEL,
) -> str:
    return f"""hv 1
model small
data digits {{ shape = {data}, bits = 4, input = v, binarize = threshold }}
{top}{level}
encoder {{
  {encoder}
}}
decoder {{
  {decoder}
}}
likelihood bernoulli
objective {{ unit = nats_per_image }}
{tail}"""


def model(
    *,
    top: str = "",
    encoder: str = ENCODER,
    decoder: str = DECODER,
    data: str = "1x8x8",
    tail: str = "",
    level: str = LEVEL,
) -> Model:
    """Return the model; errors are the test's failure."""
    whole = text(top=top, encoder=encoder, decoder=decoder, data=data, tail=tail, level=level)
    return check(Source("small.hv", whole))


def faults(
    *,
    top: str = "",
    encoder: str = ENCODER,
    decoder: str = DECODER,
    data: str = "1x8x8",
    tail: str = "",
    level: str = LEVEL,
) -> tuple[Diagnostic, ...]:
    """Return what is wrong with a model."""
    whole = text(top=top, encoder=encoder, decoder=decoder, data=data, tail=tail, level=level)
    try:
        return check(Source("small.hv", whole)).warnings
    except SpecError as error:
        return error.diagnostics


def codes(diagnostics: tuple[Diagnostic, ...]) -> list[str]:
    return [d.code.id for d in diagnostics]


def encoded(encoder: str, top: str = "", data: str = "1x8x8") -> list[Node]:
    """Return the nodes that an encoder places, but for taps."""
    graph = model(encoder=encoder, top=top, data=data).graph
    return [n for n in graph.nodes if n.operation.name not in ("image", "tap", "output") and _in_encoder(n)]


def _in_encoder(node: Node) -> bool:
    return node.scope.path.startswith("encoder")


def operations(nodes: list[Node]) -> list[str]:
    return [n.operation.name for n in nodes]


def paths(graph: Graph, section: str = "") -> list[str]:
    """Return the paths of the nodes that own parameters, in order, without doubles."""
    return list(dict.fromkeys(n.path for n in graph.nodes if n.path and n.path.startswith(section)))
