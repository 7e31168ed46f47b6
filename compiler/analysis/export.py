"""The graph for others: as a networkx graph, and as JSON with a stable order."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from hvdsl.compiler.analysis.cost import holders, row_of
from hvdsl.compiler.graph import Graph, GraphScope, Literal, Node, Term

if TYPE_CHECKING:
    import networkx

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

FORMAT = 1


def to_networkx(graph: Graph) -> networkx.MultiDiGraph[int]:
    """Nodes by index with op, args, shapes, path, scope, span, parameters and the node itself; edges with the
    producer's `port`, the reader's `operand` number and the tensor's `shape`.
    """
    import networkx

    result: networkx.MultiDiGraph[int] = networkx.MultiDiGraph(name=graph.name)
    for node in graph.nodes:
        result.add_node(node.index, **_attributes(node), node=node)
    for node in graph.nodes:
        for operand, value in enumerate(node.inputs):
            result.add_edge(value.node, node.index, port=value.port, operand=operand, shape=graph.shape(value))
    return result


def _attributes(node: Node) -> dict[str, object]:
    return {
        "op": node.operation.name,
        "args": dict(node.args),
        "shapes": node.shapes,
        "path": node.path,
        "scope": node.scope.path,
        "span": node.span,
        "parameters": node.parameters,
    }


def to_json(graph: Graph) -> dict[str, Json]:
    """The graph as plain data, in order of execution: two compilations of one spec give the same bytes."""
    above = holders(graph)
    return {
        "format": FORMAT,
        "name": graph.name,
        "image": _list(graph.image) if graph.image else None,
        "output": [graph.output.node, graph.output.port],
        "latents": [
            {"name": g.name, "node": g.node, "family": g.family, "shape": _list(g.shape), "path": g.path}
            for g in graph.latents
        ],
        "nodes": [_node(node, above.get(node.index, ())) for node in graph.nodes],
        "scopes": _scope(graph.root),
    }


def _node(node: Node, above: tuple[GraphScope, ...]) -> dict[str, Json]:
    row = row_of(above)
    return {
        "index": node.index,
        "op": node.operation.name,
        "args": {name: json_literal(node.args[name]) for name in sorted(node.args)},
        "inputs": [[value.node, value.port] for value in node.inputs],
        "shapes": [_list(shape) for shape in node.shapes],
        "names": list(node.names),
        "path": node.path,
        "scope": node.scope.path,
        "row": row.path if row else None,
        "parameters": [
            {
                "role": p.role,
                "shape": _list(p.shape),
                "init": json_literal(p.init),
                "trainable": p.trainable,
                "shared": p.role in node.shared,
            }
            for p in node.parameters
        ],
    }


def _scope(scope: GraphScope) -> dict[str, Json]:
    return {
        "kind": scope.kind,
        "name": scope.name,
        "number": scope.number,
        "path": scope.path,
        "members": [m.index if isinstance(m, Node) else _scope(m) for m in scope.members],
    }


def json_literal(value: Literal) -> Json:
    """An argument as JSON: a term becomes `{"term": name, "args": […], "options": {…}}`."""
    if isinstance(value, Term):
        return {
            "term": value.name,
            "args": [json_literal(v) for v in value.args],
            "options": {name: json_literal(v) for name, v in value.options},
        }
    if isinstance(value, tuple):
        return [json_literal(v) for v in value]
    return value


def _list(numbers: tuple[int, ...]) -> list[Json]:
    return list(numbers)
