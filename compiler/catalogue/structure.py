"""Operations around a block, and the nodes that stand for the parts of a model.

`residual` and `iaf` take a block. The compiler places the block's operations (and the shortcut's) before the
node, which only joins them: `residual` has inputs (shortcut(x), body), `iaf` (z, m) or (z, m, s).
"""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.catalogue.rules import equal, integers, number, positive_integer, same_shape, shape_text, term
from hvdsl.compiler.catalogue.sources import GRID, grid_shape
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    AtRest,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Saves,
)
from hvdsl.compiler.graph import Role, Shape

IAF_OUTPUTS = {"shift": 1, "affine": 2, "gated": 2}

_NAME = Argument("name", ArgumentType.WORD)


def _residual_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    shortcut, body = inputs
    if shortcut != body:
        raise OperationError(
            "the two ways through `residual` end in different shapes",
            found=f"{shape_text(shortcut)} by the shortcut, {shape_text(body)} by the block",
            expected="equal shapes",
            help="give a `shortcut` that changes the shape as the block does",
        )
    return (body,)


def _residual(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    shortcut, body = operands
    scale = number(args, "scale")
    return f"({shortcut}) + ({body})" if scale == 1 else f"({shortcut}) + {scale!r} * ({body})"


def _iaf_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    form = term(args, "form").name
    if len(inputs) != IAF_OUTPUTS[form] + 1:
        raise OperationError(
            f"`iaf({form})` needs {'m and s' if IAF_OUTPUTS[form] == 2 else 'm'} from its block",
            found=f"{len(inputs) - 1} tensors",
            expected=str(IAF_OUTPUTS[form]),
        )
    return (equal(inputs, "z and what the block of `iaf` makes of it"),)


_IAF = {
    "shift": "({z}) - ({m})",
    "affine": "(({z}) - ({m})) * torch.exp(-({s}))",
    "gated": "gated_mix({z}, {m}, {s})",
}
_LOG_DETERMINANT = {"affine": "-({s})", "gated": "F.logsigmoid({s})"}


def _iaf(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return _IAF[term(args, "form").name].format(**dict(zip("zms", operands, strict=False)))


def log_determinant(form: str, s: str) -> str:
    """The source text of log |dz'/dz| in each element, for a form of `iaf` that changes volume."""
    return _LOG_DETERMINANT[form].format(s=s)


def _latent_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    names = ("the prior", "the posterior", "the posterior's sample")
    if len(set(inputs)) != 1:
        raise OperationError(
            "prior and posterior of a latent differ in shape",
            found=", ".join(f"{shape_text(shape)} by {name}" for name, shape in zip(names, inputs, strict=False)),
            expected="equal shapes",
        )
    return (inputs[0],)


def _tap_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return tuple(inputs)


def _stated_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = integers(args, "shape")
    return ((channels, height, width),)


def _codes_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return (grid_shape(positive_integer(args, "classes") * positive_integer(args, "depth"), args),)


_DEPTH = Argument("depth", ArgumentType.INTEGER, 1, doc="codes at each position, of residual quantization")
RESIDUAL = Operation(
    "residual",
    OperationKind.STEP,
    "shortcut(x) + scale * what the block makes of x.",
    (
        Argument("scale", ArgumentType.NUMBER, 1.0, doc="factor on the block"),
        Argument("shortcut", ArgumentType.STEP, None, doc="by default the identity"),
    ),
    _residual_shape,
    expression=_residual,
    locality=Locality.ELEMENT,
    linear=True,
    glyph="+",
    block=True,
)
IAF = Operation(
    "iaf",
    OperationKind.STEP,
    "Autoregressive flow: the block makes m, or m and s, of z (Kingma 2016).",
    (
        Argument(
            "form",
            ArgumentType.WORD,
            words=tuple(IAF_OUTPUTS),
            doc="`shift`: z - m; `affine`: (z - m) / exp(s); `gated`: g z + (1 - g) m, g = sigmoid(s)",
        ),
    ),
    _iaf_shape,
    saves=Saves.INPUTS,
    expression=_iaf,
    role=Role.FLOW,
    locality=Locality.ELEMENT,
    block=True,
)
IMAGE = Operation(
    "image",
    OperationKind.INTERNAL,
    "The mapped input image.",
    (Argument("shape", ArgumentType.SHAPE),),
    _stated_shape,
    role=Role.IMAGE,
    locality=Locality.ELEMENT,
    glyph="",
)
TAP = Operation(
    "tap",
    OperationKind.INTERNAL,
    "Publish tensors.",
    (_NAME,),
    _tap_shape,
    role=Role.TAP,
    locality=Locality.ELEMENT,
    at_rest=AtRest.IDENTITY,
    linear=True,
    view=True,
)
SAMPLE = Operation(
    "sample",
    OperationKind.INTERNAL,
    "Draw from the posterior, before a flow.",
    (),
    same_shape,
    role=Role.SAMPLE,
    locality=Locality.ELEMENT,
    glyph="",
)
LATENT = Operation(
    "latent",
    OperationKind.INTERNAL,
    "Draw a latent: from the posterior in training, from the prior in generation.",
    (_NAME, Argument("family", ArgumentType.WORD, words=tuple(LATENT_FAMILIES))),
    _latent_shape,
    role=Role.LATENT,
    locality=Locality.ELEMENT,
)
CODES = Operation(
    "codes",
    OperationKind.INTERNAL,
    "The one-hot maps of the codes that a second-stage prior is of, one for each depth, side by side.",
    (_NAME, Argument("classes", ArgumentType.INTEGER), GRID, _DEPTH),
    _codes_shape,
    role=Role.CODES,
    locality=Locality.ELEMENT,
    glyph="",
)
GIVEN = Operation(
    "given",
    OperationKind.INTERNAL,
    "A condition: a field of the data, codes of another latent, or an image. Classes enter one-hot.",
    (
        _NAME,
        Argument("shape", ArgumentType.SHAPE),
        Argument("classes", ArgumentType.INTEGER, None),
        _DEPTH,
        Argument("source", ArgumentType.WORD, words=("image", "field", "codes")),
        Argument("place", ArgumentType.INTEGER, 0, doc="among the fields that the data declares"),
        Argument("input", ArgumentType.TEXT, None, doc="the map of raw numbers, an expression in `v`"),
        Argument("drop", ArgumentType.NUMBER, 0.0, doc="how often training leaves it out"),
    ),
    _stated_shape,
    role=Role.GIVEN,
    locality=Locality.ELEMENT,
)
OUTPUT = Operation(
    "output",
    OperationKind.INTERNAL,
    "The parameters of the likelihood.",
    (),
    same_shape,
    role=Role.OUTPUT,
    locality=Locality.ELEMENT,
    at_rest=AtRest.IDENTITY,
    linear=True,
    view=True,
    glyph="",
)

OPERATIONS = (RESIDUAL, IAF, IMAGE, TAP, SAMPLE, LATENT, CODES, GIVEN, OUTPUT)
