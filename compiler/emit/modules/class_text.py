"""The text of one class: its docstring, its constructor, its `forward`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from hvdsl.compiler.emit import syntax
from hvdsl.compiler.emit.forward.signature import Signature
from hvdsl.compiler.emit.forward.text import Forward
from hvdsl.compiler.emit.modules.classes import ModuleClass
from hvdsl.compiler.emit.modules.constructor import members
from hvdsl.compiler.emit.modules.tree import ModuleTree
from hvdsl.compiler.emit.syntax import identifier


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


def class_text(module_class: ModuleClass, tree: ModuleTree) -> list[str]:
    """Write the class of a recipe or a section."""
    instance = module_class.example
    kind, _ = instance.scope.definition or ("", None)
    what = f"{kind} {instance.scope.name.rstrip('_')}".lstrip()
    signature = Signature(instance, tree, instance.outputs)
    base = "nn.Module" if instance.is_section else "Recipe"
    lines = [f"class {identifier(module_class.name)}({base}):"]
    first, *rest = [*_comments(instance.scope.comments), f"`{what}`."]
    lines.append(docstring(first, syntax.INDENT, rest))
    if module_class.entries or module_class.parameters:
        lines += ["", *constructor(module_class)]
    body = Forward(module_class, tree, signature).lines()
    if body:
        lines += ["", *signature.text, *body]
    return lines


def _comments(lines: Sequence[str]) -> list[str]:
    """What stands right above a definition, as sentences of a docstring no wider than code."""
    block: list[str] = []
    for line in lines:
        block = [] if not line else [*block, line.lstrip("# ").rstrip()]
    wide = syntax.WIDTH - len(syntax.INDENT) - len('"""')
    return [part for line in block for part in textwrap.wrap(line, wide)]


def constructor(module_class: ModuleClass) -> list[str]:
    """Write `__init__`."""
    parameters = "".join(f", {p.name}: {p.annotation}" for p in module_class.parameters)
    lines = [f"    def __init__(self{parameters}) -> None:"]
    if len(lines[0]) > syntax.WIDTH:
        each = [f"        {p.name}: {p.annotation}," for p in module_class.parameters]
        lines = ["    def __init__(", "        self,", *each, "    ) -> None:"]
    lines.append("        super().__init__()")
    lines += [f"        self.{p.name} = {p.name}" for p in module_class.parameters if p.kept]
    for name, expression in members(module_class.entries).items():
        lines += syntax.expression_lines(f"self.{identifier(name)} = ", expression, depth=2)
    return lines
