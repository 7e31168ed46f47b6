"""What the encoder receives: numbers that a network can begin with."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.assembly.pixels import parse_pixel_map
from hvdsl.compiler.diagnostics.warnings import LARGE_INPUT
from hvdsl.compiler.model import Model
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic

LARGEST = 10.0
_PLACES = 64  # values of a pixel that are looked at, evenly spread, ends included


def check_input_range(model: Model) -> Iterator[Diagnostic]:
    """Warn where `input` leaves [-10, 10] for pixels that there can be (HV0908)."""
    data = model.settings.data
    if data.is_real:
        return
    top = 1 if data.binarize != "none" else 2**data.bits - 1
    mapped = parse_pixel_map(data.input)
    values = [mapped(top * i / _PLACES) for i in range(_PLACES + 1)]
    if max(map(abs, values)) <= LARGEST:
        return
    sections = [i for i in model.resolved.items if isinstance(i, tree.Settings) and i.kind == "data"]
    keys = {setting.key.id: setting for section in sections for setting in section.settings}
    place = keys.get("input") or keys.get("shape")
    middle = f"{top / 2:g}"
    yield Diagnostic(
        LARGE_INPUT,
        f"the encoder gets values from {min(values):g} to {max(values):g}",
        place.span if place is not None else model.resolved.span,
        f"`input = {data.input}` of pixels 0 … {top}" if "input" in keys else f"pixels 0 … {top} as they are",
        f"numbers within [-{LARGEST:g}, {LARGEST:g}], best within [-1, 1]",
        f"say `input = v / {middle} - 1` in `data`",
    )
