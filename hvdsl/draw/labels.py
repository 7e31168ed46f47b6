"""How operations, shapes and sizes are written in a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.arithmetic import ADD_NUMBER, DIV_NUMBER, MUL_NUMBER, SUB_NUMBER
from hvdsl.compiler.catalogue.resampling import AVG_POOL, BILINEAR, MAX_POOL, NEAREST
from hvdsl.compiler.catalogue.reshaping import CROP, SIDES
from hvdsl.compiler.graph import Literal, Node, Shape, Term
from hvdsl.render.numbers import abbreviated

NUMBERS = {ADD_NUMBER: "+", SUB_NUMBER: "−", MUL_NUMBER: "×", DIV_NUMBER: "÷"}


def silent(node: Node) -> bool:
    """Whether an operation moves numbers about without a step that a reader of the figure would look for."""
    return not operation(node)


def operation(node: Node) -> str:
    """Return the short name of an operation: `conv 4×4 /2`, `avg pool 2×2`, `gelu`."""
    entry = node.operation
    if entry in NUMBERS:
        return f"{NUMBERS[entry]} {as_in_spec(node.args['number'])}"
    text = entry.name.replace("_", " ") if entry.glyph is None else entry.glyph
    if entry in (NEAREST, BILINEAR) and node.args.get("factor") in (1, (1, 1)):
        return ""
    kernel, factor = node.args.get("kernel"), node.args.get("factor")
    if isinstance(kernel, tuple):
        text += " " + "×".join(str(length) for length in kernel)
    if isinstance(factor, tuple) and len(set(factor)) == 1:
        factor = factor[0]
    if isinstance(factor, int):
        text += f" ×{factor}"
    stride = node.args.get("stride")
    if isinstance(stride, tuple) and stride != (1, 1) and entry not in (AVG_POOL, MAX_POOL):
        text += f" /{stride[0]}" if stride[0] == stride[1] else f" /{stride[0]}×{stride[1]}"
    if entry is CROP:
        text += "".join(f" {side} {node.args[side]}" for side in SIDES if node.args[side])
    out = node.args.get("out")
    return f"{text} → {out}" if isinstance(out, int) else text


def as_in_spec(value: Literal) -> str:
    """Return a value as a spec would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        whole = all(isinstance(length, int) for length in value)
        return "×".join(map(str, value)) if whole and value else f"({', '.join(map(as_in_spec, value))})"
    if isinstance(value, Term):
        inside = [*map(as_in_spec, value.args), *(f"{name} = {as_in_spec(v)}" for name, v in value.options)]
        return f"{value.name}({', '.join(inside)})" if inside else value.name
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def quantity(count: int, what: str) -> str:
    """Return a number and what it counts: `1 latent group`, `412 k latent scalars`."""
    return f"{abbreviated(count)} {what}{'' if count == 1 else 's'}"


def shape(channels: str | int, height: int, width: int) -> str:
    return f"{channels}×{height}×{width}"


def shapes(chain: Sequence[Shape]) -> str:
    """Return one shape, or the range of channels where equal grids differ in them: `36…20×16×16`."""
    first, last = chain[0], chain[-1]
    if first[1:] != last[1:]:
        return f"{shape(*first)} … {shape(*last)}"
    return shape(first[0] if first[0] == last[0] else f"{first[0]}…{last[0]}", *first[1:])


def wrapped(parts: Sequence[str], columns: int) -> list[str]:
    """Join parts by middle dots into lines of about `columns` characters."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= columns:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines
