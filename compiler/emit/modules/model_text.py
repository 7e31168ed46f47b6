"""The classes of a model and of its second-stage priors: latents, likelihood, pixel maps, code maps."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from hvdsl.compiler.assembly.pixels import V, parse_pixel_map
from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS
from hvdsl.compiler.emit import runtime_index, syntax
from hvdsl.compiler.emit.forward.signature import Signature
from hvdsl.compiler.emit.forward.text import Forward
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.class_text import constructor, docstring
from hvdsl.compiler.emit.modules.classes import ModuleClass
from hvdsl.compiler.emit.modules.constructor import REPEATED
from hvdsl.compiler.emit.modules.instance import given_name
from hvdsl.compiler.emit.modules.tree import ModuleTree
from hvdsl.compiler.emit.syntax import camel, identifier, substitute, word
from hvdsl.compiler.graph import Graph, GraphLatent, Literal, Node, Shape, Term
from hvdsl.compiler.setting_words import AtLeast
from hvdsl.compiler.settings import Data


def model_class(module_class: ModuleClass, tree: ModuleTree, scored: Term, data: Data, title: str) -> list[str]:
    instance = module_class.example
    signature = Signature(instance, tree, instance.outputs)
    channels, height, width = data.shape
    numbers = "that are real numbers" if data.is_real else f"0 … {2**data.bits - 1 if data.binarize == 'none' else 1}"
    lines = [
        f"class {identifier(module_class.name)}(nn.Module):",
        docstring(title or tree.graph.name, syntax.INDENT),
        "",
    ]
    lines += latents_table(tree.graph.latents)
    lines += _conditions(signature, tree, data)
    lines += ["", *constructor(module_class)]
    lines += syntax.expression_lines("self.likelihood = ", likelihood(scored, channels), depth=2)
    shape = f"(N, {channels}, {height}, {width})"
    lines += _pixels("input", data.input, f"Map raw pixels {numbers}, {shape}, to what the encoder takes.")
    lines += _target(data, f"raw pixels {numbers}, {shape},")
    lines += _weight(data)
    lines += ["", *signature.text]
    summary = "Return the likelihood's parameters for the mapped image `x`; without an image, generate."
    lines.append(docstring(summary, syntax.INDENT * 2, [_described(*each) for each in signature.conditions]))
    lines.append("        latents.begin(self, x)")
    for node, name in signature.conditions:
        if node.index in tree.uses.live:
            lines += _as_map(node, name)
    return lines + Forward(module_class, tree, signature).lines()


def _pixels(name: str, text: str, summary: str) -> list[str]:
    tree = ast.parse(parse_pixel_map(text).torch(), mode="eval").body
    return [
        "",
        f"    def {name}(self, v: Tensor) -> Tensor:",
        docstring(summary, syntax.INDENT * 2),
        *syntax.expression_lines("return ", tree, depth=2),
    ]


def _target(data: Data, raw: str) -> list[str]:
    """`target(v)`, or of fields, in the image's place or beside it, `target(v, *, clean)`."""
    text = data.input if data.target is None else data.target
    names = [field.name for field in data.given]
    pixels = parse_pixel_map(text, (V, *names))
    fields = [name for name in pixels.symbols if name != V]
    if not fields:
        return _pixels("target", text, f"Map {raw} to what the likelihood scores.")
    own = {name: allowed(name) for name in fields}
    arguments = ", ".join(f"{name}: Tensor" for name in own.values())
    tree = ast.parse(pixels.torch(own), mode="eval").body
    if len(pixels.symbols) == 1:
        summary = f"Map `{own[fields[0]]}`, which stands beside {raw} to what the likelihood scores."
    else:
        images = [own.get(name, name) for name in pixels.symbols]
        summary = f"Map {' and '.join(f'`{name}`' for name in images)} to what the likelihood scores."
    return [
        "",
        f"    def target(self, v: Tensor, *, {arguments}) -> Tensor:",
        docstring(summary, syntax.INDENT * 2),
        *syntax.expression_lines("return ", tree, depth=2),
    ]


def _weight(data: Data) -> list[str]:
    """`weight(*, mask)`, where pixels count differently."""
    if data.weight is None:
        return []
    pixels = parse_pixel_map(data.weight, [field.name for field in data.given])
    names = {name: allowed(name) for name in pixels.symbols}
    tree = ast.parse(pixels.torch(names), mode="eval").body
    return [
        "",
        f"    def weight(self, *, {', '.join(f'{own}: Tensor' for own in names.values())}) -> Tensor:",
        docstring("Return how much each pixel counts in the likelihood, `(N, 1, H, W)`.", syntax.INDENT * 2),
        *syntax.expression_lines("return ", tree, depth=2),
    ]


def scored_fields(data: Data) -> tuple[str, ...]:
    """The fields that `target` and `weight` are of, in the order in which they are declared."""
    names = [field.name for field in data.given]
    texts = [text for text in (data.target, data.weight) if text is not None]
    used = {symbol for text in texts for symbol in parse_pixel_map(text, (V, *names)).symbols}
    return tuple(name for name in names if name in used)


def _conditions(signature: Signature, tree: ModuleTree, data: Data) -> list[str]:
    """`GIVEN = (…)`: what `forward` is given besides the image; `SCORED = (…)`: what `target` and `weight` are of.

    `TARGET_OF = ("clean", "v")` stands where `target` is of several images, and cannot be turned back.
    """
    lines: list[str] = []
    if signature.conditions:
        entries = [_declared(n, own, n.index in tree.uses.generative) for n, own in signature.conditions]
        lines += ["    GIVEN = (", *(f"        {entry}," for entry in entries), "    )"]
    fields = {field.name: field for field in data.given}
    scored = [fields[name] for name in scored_fields(data)]
    if scored:
        entries = [_condition(f.name, f.shape, f.classes, f.drop, allowed(f.name)) for f in scored]
        lines += ["    SCORED = (", *(f"        {entry}," for entry in entries), "    )"]
    images = () if data.target is None else parse_pixel_map(data.target, (V, *fields)).symbols
    if len(images) > 1:
        words = ", ".join(f'"{word(name)}"' for name in images)
        lines.append(f"    TARGET_OF = ({words})")
    return lines


def _declared(node: Node, own: str | None = None, generative: bool = True) -> str:
    classes = node.args["classes"]
    return _condition(
        given_name(node),
        raw_shape(node),
        classes if isinstance(classes, int) else None,
        float(str(node.args["drop"])),
        own,
        generative,
    )


def _condition(
    name: str, shape: Shape, classes: int | None, drop: float, own: str | None = None, generative: bool = True
) -> str:
    """`Condition("age", (1, 1, 1), drop=0.1)`."""
    sizes = ", ".join(str(int(n)) for n in shape)
    options = f", classes={int(classes)}" if classes is not None else ""
    options += f", drop={float(drop)}" if drop else ""
    options += "" if generative else ", generative=False"
    options += f', argument="{identifier(own)}"' if own is not None and own != name else ""
    return f'Condition("{word(name)}", ({sizes}){options})'


def _described(node: Node, name: str) -> str:
    """What an argument of `forward` is."""
    if node.args["classes"] is not None:
        return f"`{name}` are classes `(N,)`, -1 where none is given."
    channels, height, width = raw_shape(node)
    shape = f"(N, {channels})" if (height, width) == (1, 1) else f"(N, {channels}, {height}, {width})"
    return f"`{name}` are raw numbers `{shape}`" + (", NaN where none are given." if node.args["drop"] else ".")


def raw_shape(node: Node) -> Shape:
    """The shape of a field's numbers, without the channel that says whether they are there."""
    channels, height, width = node.shapes[0]
    return channels - bool(node.args["drop"] and node.args["classes"] is None), height, width


def as_map(node: Node, argument: ast.expr, like: ast.expr) -> ast.expr:
    """What makes an argument of `forward` the tensor that recipes see: one-hot classes, mapped numbers."""
    classes, text = node.args["classes"], node.args.get("input")
    if classes is not None:
        return syntax.call("one_hot", argument, syntax.literal(classes), like)
    value: ast.expr = syntax.call("condition", argument, syntax.literal(raw_shape(node)), like)
    if isinstance(text, str):
        mapped = ast.parse(parse_pixel_map(text).torch(), mode="eval").body
        value = substitute(mapped, {V: value})
    return syntax.call("with_presence", value) if node.args["drop"] else value


def _as_map(node: Node, name: str) -> list[str]:
    """The line that does so."""
    like = syntax.call("next", syntax.call(syntax.dotted("self", "parameters")))
    return syntax.expression_lines(f"{name} = ", as_map(node, syntax.name(name), like), depth=2)


def prior_class(module_class: ModuleClass, name: str, graph: Graph, tree: ModuleTree) -> list[str]:
    instance = module_class.example
    given = graph.entries()  # its own codes, then codes of other latents in the spec's order, then fields
    names = [allowed(given_name(node)) for node in given]
    lines = [
        f"class {name}(nn.Module):",
        docstring(f"The prior of `{graph.name}`: logits of each code from those before it.", syntax.INDENT),
        "",
    ]
    lines += syntax.expression_lines("CODES = ", _code_map(given[0]), depth=1)
    lines += syntax.expression_lines(
        "CONDITIONS = ", ast.Tuple([_code_map(node) for node in given[1:]], ast.Load()), depth=1
    )
    lines += ["", *constructor(module_class), ""]
    parameters = ", ".join(f"{n}: Tensor" for n in names)
    lines += [f"    def forward(self, {parameters}) -> Tensor:"]
    summary = "Return logits `(N, K, H, W)`; `{}` are codes `(N, H, W)`.".format("`, `".join(names))
    if given[0].args["depth"] != 1:
        summary = "Return logits `(N, depth K, H, W)` of codes `(N, depth, H, W)`, each depth after those before it."
    lines.append(docstring(summary, syntax.INDENT * 2))
    live = {v.node for v in instance.inputs}
    for node, argument in zip(given, names, strict=True):
        if node.index in live:
            lines += _as_map(node, argument)
    return lines + Forward(module_class, tree, Signature(instance, tree, instance.outputs)).lines()


def _code_map(node: Node) -> ast.expr:
    if node.args["classes"] is None:
        return ast.parse(_declared(node), mode="eval").body
    _, height, width = node.shapes[0]
    grid = () if node.args.get("source") == "field" else (height, width)
    depth = node.args.get("depth", 1)
    return syntax.call(
        "CodeMap",
        syntax.constant_node(given_name(node)),
        syntax.literal(node.args["classes"]),
        syntax.literal(grid),
        **({"depth": syntax.literal(depth)} if depth != 1 else {}),
    )


def latents_table(groups: Sequence[GraphLatent]) -> list[str]:
    """`LATENTS = (…)`, in order of generation."""
    lines = ["    LATENTS = ("]
    start = 0
    while start < len(groups):
        inner, place = _run(groups, start)
        outer, above = _blocks(groups, start, inner)
        if inner * outer < REPEATED:
            inner, place, outer, above = 1, -1, 1, -1
        lines += _folded(groups[start], (outer, above), (inner, place))
        start += inner * outer
    return [*lines, "    )"]


def _folded(first: GraphLatent, outer: tuple[int, int], inner: tuple[int, int]) -> list[str]:
    """One entry, or a comprehension over one or two numbers of the path."""
    steps = first.path.split(".")
    turns, names = [], iter("ij")
    for count, place in (outer, inner):
        if count > 1:
            variable, base = next(names), int(steps[place])
            steps[place] = "{" + (variable if base == 0 else f"{base} + {variable}") + "}"
            turns.append(f"for {variable} in range({count})")
    path = ".".join(step if step[0] == "{" or step.isdigit() else identifier(step) for step in steps)
    shape = ", ".join(str(int(n)) for n in first.shape)
    quoted = f'f"{path}"' if turns else f'"{path}"'
    what = f'"{word(first.name)}", {quoted}, "{identifier(first.family)}", ({shape}){_codes(first)}'
    entry = f"LatentGroup({what}{_own(first)})"
    if not turns:
        return _entry(8, what, _own(first), ",")
    flat = f"        *({' '.join([entry, *turns])}),"
    if len(flat) <= syntax.WIDTH:
        return [flat]
    return ["        *(", *_entry(12, what, _own(first)), *(f"            {turn}" for turn in turns), "        ),"]


def _entry(indent: int, what: str, own: str, tail: str = "") -> list[str]:
    """An entry on one line, or what is said of this latent alone on a line of its own."""
    pad = " " * indent
    flat = f"{pad}LatentGroup({what}{own}){tail}"
    if len(flat) <= syntax.WIDTH or not own:
        return [flat]
    return [f"{pad}LatentGroup(", f"{pad}    {what},", f"{pad}    {own.removeprefix(', ')},", f"{pad}){tail}"]


def _codes(group: GraphLatent) -> str:
    """What only a discrete latent has."""
    if group.codes is None:
        return ""
    depth = f", depth={int(group.depth)}" if group.depth > 1 else ""
    return f", codes={int(group.codes)}{depth}"


def _own(group: GraphLatent) -> str:
    """What the spec says of this latent alone."""
    settings = group.settings
    if settings is None:
        return ""
    text = f", weight={settings.weight!r}" if settings.weight != 1 else ""
    if settings.free is not None:
        free = settings.free
        arguments = ["None"] if free == "none" else [repr(free.nats)]
        if isinstance(free, AtLeast):
            fields = ("per", "take_max", "when")
            arguments += [
                f'{name}="{identifier(getattr(free, name))}"'
                for name in fields
                if getattr(free, name) != AtLeast.model_fields[name].default
            ]
        text += f", free=FreeBits({', '.join(arguments)})"
    return text + (f", temperature={settings.temperature!r}" if settings.temperature is not None else "")


def _run(groups: Sequence[GraphLatent], start: int) -> tuple[int, int]:
    """How many groups from `start` differ only in one number of the path that counts up, and which number."""
    place = _counting(groups[start], groups[start + 1], 1) if start + 1 < len(groups) else None
    if place is None:
        return 1, -1
    length = 2
    while start + length < len(groups) and _counting(groups[start], groups[start + length], length) == place:
        length += 1
    return length, place


def _blocks(groups: Sequence[GraphLatent], start: int, length: int) -> tuple[int, int]:
    """How often such a run follows on itself, with another number that counts up."""

    def place(block: int) -> int | None:
        at = start + block * length
        if at + length > len(groups):
            return None
        places = {_counting(groups[start + i], groups[at + i], block) for i in range(length)}
        return places.pop() if len(places) == 1 else None

    first = place(1) if length > 1 else None
    if first is None:
        return 1, -1
    count = 2
    while place(count) == first:
        count += 1
    return count, first


def _counting(first: GraphLatent, other: GraphLatent, by: int) -> int | None:
    """Which number of the path is larger by `by`, where nothing else differs."""
    if _alike(first) != _alike(other):
        return None
    a, b = first.path.split("."), other.path.split(".")
    places = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(places) != 1:
        return None
    x, y = a[places[0]], b[places[0]]
    return places[0] if x.isdigit() and y.isdigit() and int(y) == int(x) + by else None


def _alike(group: GraphLatent) -> tuple[object, ...]:
    """What groups of one entry have in common."""
    return group.name, group.family, group.shape, _codes(group), _own(group)


ALWAYS = ("bits",)  # said even where it is the default, since a reader asks for it first


def likelihood(term: Term, channels: int) -> ast.expr:
    """`DiscretizedLogisticMixture(10, channels=3, bits=8)`: arguments that are the language's defaults are left out."""
    entry = LIKELIHOODS[term.name]
    name = entry.runtime or camel(term.name)
    given = dict(term.options)
    positional: list[ast.expr] = []
    options: dict[str, ast.expr] = {}
    for argument in entry.arguments:
        value = given.get(argument.name)
        if argument.name == "n":
            positional.append(syntax.literal(value))
        elif argument.name in ALWAYS or value != argument.default:
            options[argument.name] = _argument(value)
    if "channels" in runtime_index.parameters(name):
        options = {"channels": syntax.constant_node(channels), **options}
    return syntax.call(name, *positional, **options)


def _argument(value: Literal) -> ast.expr:
    """A word that names a function of the runtime is a call of it; any other is a string."""
    if isinstance(value, Term) and value.name not in runtime_index.exports():
        return syntax.constant_node(value.name)
    return syntax.literal(value)
