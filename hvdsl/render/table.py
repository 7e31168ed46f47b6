"""`hvdsl info` for people, rendered from what it prints as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TextIO

from hvdsl.render.numbers import abbreviated, in_bytes
from hvdsl.render.terminal import TableColumn, Terminal

COLUMNS = (
    TableColumn("resolution", words=True),
    TableColumn("latent", words=True),
    *(TableColumn(name) for name in ("encoder\nblocks", "groups", "parameters", "MACs", "activations")),
)


def show_info(info: Mapping[str, Any], stream: TextIO) -> None:
    """Print the table of resolutions and the totals; of priors over codes from a file, what these are of."""
    terminal = Terminal(stream)
    terminal.lines([info["title"] or info["name"]], style="bold")
    if "levels" in info:
        terminal.lines([""])
    else:
        terminal.table(COLUMNS, [_cells(row) for row in info["resolutions"]])
    terminal.pairs(_of_codes(info) if "levels" in info else _totals(info))
    terminal.pairs(("trained apart", _group(group)) for group in info.get("parameter_groups", ()))
    terminal.pairs(
        (f"prior of {prior['name']}", f"{prior['parameters']:,} parameters; {_sight(prior)}")
        for prior in info["priors"]
    )


def _group(group: Mapping[str, Any]) -> str:
    """Return how the parameters that a pattern is for are trained."""
    values = {"rate": group["lr"], "weight decay": group["weight_decay"]}
    how = [f"{what} {value:g}" for what, value in values.items() if value is not None]
    kind = group["kind"] if group["kind"] == "frozen" else ""
    return f"{group['pattern']}: {', '.join(filter(None, (kind, *how)))} ({group['parameters']:,} parameters)"


def info_html(info: Mapping[str, Any]) -> str:
    """Return the same as an HTML table, for a notebook."""
    heading = f"<h4>{escape(info['title'] or info['name'])}</h4>"
    if "levels" in info:
        return f"{heading}\n<table>{''.join(_row('td', pair) for pair in _of_codes(info))}</table>"
    titles = [column.heading.replace("\n", " ") for column in COLUMNS]
    rows = [_row("th", titles), *(_row("td", _cells(row)) for row in info["resolutions"])]
    totals = "".join(_row("td", pair) for pair in _totals(info))
    return f"{heading}\n<table>{''.join(rows)}</table>\n<table>{totals}</table>"


def _row(kind: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['height']}x{row['width']}",
        ", ".join("x".join(map(str, shape)) for shape in row["latent_shapes"]) or "-",
        str(row["blocks"]),
        str(row["groups"]),
        f"{row['parameters']:,}",
        abbreviated(row["macs"]),
        in_bytes(row["activation_bytes"]),
    )


def _totals(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    sections = f"encoder {info['encoder_parameters']:,}, decoder {info['decoder_parameters']:,}"
    if info["likelihood_parameters"]:
        sections += f", likelihood {info['likelihood_parameters']:,}"
    depth = info["stochastic_depth"]
    checkpointed = in_bytes(info["checkpointed_peak_bytes"])
    height, width = info["receptive_field"]
    return [
        ("parameters", f"{info['parameters']:,}  ({sections})"),
        ("latents", f"{info['latent_groups']} groups, {info['latent_dims']:,} scalars, stochastic depth {depth}"),
        ("MACs per image", f"{abbreviated(info['macs'])}  (generation {abbreviated(info['generation_macs'])})"),
        ("activations per image", f"{in_bytes(info['activation_bytes'])} kept for the backward pass (float32)"),
        ("peak memory per image", f"{in_bytes(info['peak_bytes'])}, with checkpointing {checkpointed}"),
        ("receptive field", f"{height}x{width} pixels"),
        *(("" if i else "conditions", _condition(field)) for i, field in enumerate(info["conditions"])),
    ]


def _of_codes(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    levels = []
    for level in info["levels"]:
        depth = f", {level['depth']} at each position" if level["depth"] > 1 else ""
        levels.append(f"{level['name']}: {level['classes']} codes on {level['grid'][0]}x{level['grid'][1]}{depth}")
    return [
        ("parameters", f"{info['parameters']:,}"),
        *(("" if i else "codes", level) for i, level in enumerate(levels)),
        *(("" if i else "conditions", _condition(field)) for i, field in enumerate(info["conditions"])),
    ]


def _condition(field: Mapping[str, Any]) -> str:
    """`age: 1 number, dropped 0.1, read by generation`."""
    channels, *size = field["shape"]
    numbers = f"{channels} number{'' if channels == 1 else 's'}"
    what = numbers if size == [1, 1] else "x".join(map(str, (channels, *size)))
    what = f"{field['classes']} classes" if field["classes"] is not None else what
    drop = f", dropped {field['drop']:g}" if field["drop"] else ""
    readers = [name for name in field["read_by"] if name != "inference" or "generation" not in field["read_by"]]
    return f"{field['name']}: {what}{drop}, read by {' and '.join(readers) or 'nothing'}"


def _sight(prior: Mapping[str, Any]) -> str:
    """How much of what precedes the middle of its map a prior sees, and the nearest position that it misses."""
    sight = prior["sight"]
    place, grid = _place(sight["position"]), f"{prior['height']}x{prior['width']}"
    if prior["depth"] > 1:
        grid += f", with {prior['depth']} codes at each,"
    text = f"at {place} of {grid} sees {sight['seen']:,} of {sight['earlier']:,} earlier"
    return text if sight["hole"] is None else f"{text}, all after {_place(sight['hole'])}"


def _place(position: Sequence[int]) -> str:
    return f"({position[0]}, {position[1]})"
