"""The text of one class: its docstring, its constructor, its `forward`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from hvdsl.compiler.emit import layout
from hvdsl.compiler.emit.classes import Class
from hvdsl.compiler.emit.constructor import members
from hvdsl.compiler.emit.forward import Forward
from hvdsl.compiler.emit.names import identifier
from hvdsl.compiler.emit.signature import Signature
from hvdsl.compiler.emit.units import Units


def docstring(first: str, indent: str = "", rest: Sequence[str] = ()) -> str:
    """Quote text, whatever is in it."""
    safe = [_safe(line) for line in (first, *rest)]
    if len(safe) == 1:
        return f'{indent}"""{safe[0]}"""'
    return "\n".join([f'{indent}"""{safe[0]}', "", *(indent + line for line in safe[1:]), f'{indent}"""'])


def _safe(text: str) -> str:
    """Printable text without a backslash, a quotation mark or a line break: it cannot end its string."""
    plain = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "".join(c if c.isprintable() else "?" for c in plain)


def class_text(made: Class, units: Units) -> list[str]:
    """Write the class of a recipe or a section."""
    unit = made.example
    kind, span = unit.scope.definition or ("", unit.scope.span)
    what = f"{kind} {unit.scope.name.rstrip('_')}".lstrip()
    where = f"{PurePath(span.source.name).name}:{span.line}"
    signature = Signature(unit, units, unit.outputs)
    base = "nn.Module" if unit.is_section else "Recipe"
    lines = [f"class {identifier(made.name)}({base}):"]
    lines.append(docstring(f"`{what}`, {where}.", layout.INDENT))
    if made.entries or made.parameters:
        lines += ["", *constructor(made)]
    body = Forward(made, units, signature).lines()
    if body:
        lines += ["", *signature.text, *body]
    return lines


def constructor(made: Class) -> list[str]:
    """Write `__init__`."""
    parameters = "".join(f", {p.name}: {p.annotation}" for p in made.parameters)
    lines = [f"    def __init__(self{parameters}) -> None:"]
    if len(lines[0]) > layout.WIDTH:
        each = [f"        {p.name}: {p.annotation}," for p in made.parameters]
        lines = ["    def __init__(", "        self,", *each, "    ) -> None:"]
    lines.append("        super().__init__()")
    lines += [f"        self.{p.name} = {p.name}" for p in made.parameters if p.kept]
    for name, expression in members(made.entries).items():
        lines += layout.lines(f"self.{identifier(name)} = ", expression, depth=2)
    return lines
