"""Used files under a name, what they need of the spec, their cells' parameters, and variants that combine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check
from hvdsl.grammar import print_text, tree
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.elaborate.small_models import text

LIBRARY = """
needs width
let half = width // 2
cell inner(act = relu) { act -> conv(1x1, half) }
cell layer { h = inner(gelu) -> conv(3x3, width); tap(inner) = h; h }
cell hiding(inner) { inner -> conv(1x1, width) }
"""
USE = 'use "cells.hv" as cells\nlet width = 8\n'


def written(folder: Path, main: str, **files: str) -> Path:
    for name, content in files.items():
        (folder / f"{name}.hv").write_text(content)
    (folder / "model.hv").write_text(main)
    return folder / "model.hv"


def spec(encoder: str, top: str = USE, tail: str = "") -> str:
    return text(
        top=top, encoder=f"8: {encoder}", decoder="8: learned(zeros, 8) -> level -> conv(1x1, logits)", tail=tail
    )


def faults(path: Path | str) -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        check(path)
    return list(caught.value.diagnostics)


def test_a_file_used_under_a_name_keeps_its_names_apart(tmp_path: Path) -> None:
    own = USE + "cell layer { conv(1x1, 2) }\ncell inner { relu }\nlet half = 3\n"
    path = written(
        tmp_path,
        spec("layer -> cells.layer -> conv(1x1, 8) -> tap", own).replace("skip ->", "skip(inner) ->"),
        cells=LIBRARY,
    )
    model = check(path)
    assert {node.path for node in model.graph.nodes if "layer" in node.path} == {
        "encoder.r8.layer.0.conv.0",
        "encoder.r8.cells_layer.0.h.cells_inner.0.conv.0",
        "encoder.r8.cells_layer.0.h.conv.0",
    }
    inner = next(n for n in model.graph.nodes if n.path == "encoder.r8.cells_layer.0.h.cells_inner.0.conv.0")
    assert inner.shapes == ((4, 8, 8),)  # `half` is that of the file


def test_the_closed_spec_says_the_same_without_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, spec("cells.layer -> cells.hiding(gelu) -> tap"), cells=LIBRARY)
    closed = assemble(path).spec
    assert not any(
        isinstance(item, tree.HeaderNode | tree.NeedsNode) and item.span.text.startswith(("use", "needs"))
        for item in closed.items
    )
    again = assemble(Source("resolved.hv", print_text(closed)))
    assert again.spec == closed
    assert "cell cells_hiding(inner) { inner -> conv(1x1, width) }" in print_text(closed)


@pytest.mark.parametrize(
    ("encoder", "place"),
    [("cells.leyer -> tap", "cells.leyer"), ("sells.layer -> tap", "sells.layer")],
)
def test_what_no_used_file_brings_is_told_with_what_is_near(tmp_path: Path, encoder: str, place: str) -> None:
    (fault,) = faults(written(tmp_path, spec(encoder), cells=LIBRARY))
    assert (fault.code.id, fault.span.text if fault.span else "") == ("HV0301", place)
    assert "did you mean" in fault.help


def test_a_missing_need_is_told_at_the_use(tmp_path: Path) -> None:
    (fault,) = faults(written(tmp_path, spec("cells.layer -> tap", USE.replace("width", "wide")), cells=LIBRARY))
    assert (fault.code.id, fault.span.text if fault.span else "") == ("HV0214", '"cells.hv"')
    assert "`let width = …`" in fault.help


def test_a_need_of_what_is_not_reached_is_none(tmp_path: Path) -> None:
    library = LIBRARY + "cell plain { relu }\n"
    assert check(
        written(tmp_path, spec("conv(3x3, 8) -> cells.plain -> tap", 'use "cells.hv" as cells'), cells=library)
    )


def test_a_need_of_a_file_that_a_used_file_uses_is_told_at_the_specs_own_use(tmp_path: Path) -> None:
    outer = 'use "inner.hv" as deep\ncell outer { deep.layer }\n'
    (fault,) = faults(written(tmp_path, spec("outer -> tap", 'use "cells.hv"'), cells=outer, inner=LIBRARY))
    assert (fault.code.id, fault.span.text if fault.span else "") == ("HV0214", '"cells.hv"')
    assert check(written(tmp_path, spec("outer -> tap", 'use "cells.hv"\nlet width = 8')))


def test_a_mistake_in_a_used_file_says_from_where_it_is_used(tmp_path: Path) -> None:
    broken = "cell c { conv(3x3, 8) -> d }\ncell d { concat(x, missing) }\n"
    (fault,) = faults(written(tmp_path, spec("c -> tap", 'use "cells.hv"'), cells=broken))
    assert fault.span is not None and fault.span.source.name.endswith("cells.hv")
    assert "used from" in fault.help and "model.hv, line 10" in fault.help


def parameters(model: Model) -> int:
    return model.graph.parameter_count()


def test_shipped_cells_take_kernel_dilation_and_activation() -> None:
    def count(call: str) -> int:
        decoder = f"8: learned(zeros, 8) -> {call} -> conv(1x1, logits)"
        top = 'use "vdvae_cells.hv"\nlet width = 8\nlet zdim = 2\ndefault conv { bias_init = zeros }'
        return parameters(check(Source("m.hv", text(top=top, decoder=decoder, level=""))))

    assert count("layer") == count("layer(3x3, 1, gelu)") == count("layer(dilation = 2, act = silu)")
    assert count("layer(kernel = 5x5)") > count("layer")


def test_variants_combine_and_can_be_extended(tmp_path: Path) -> None:
    base = spec(
        "conv(3x3, width) -> conv(3x3, 8) -> tap",
        "let width = 4\nlet depth = 1",
        "variant wide { let width = 16 }\nvariant deep { let depth = 2 }\nvariant wider { let width = 32 }\n",
    )
    written(tmp_path, 'hv 1\nmodel other\nextends "base.hv@wide@deep"\nvariant odd { let width = 3 }\n', base=base)

    def lets(name: str) -> dict[str, str]:
        items = assemble(str(tmp_path / name)).spec.items
        return {item.name.id: item.value.span.text for item in items if isinstance(item, tree.Let)}

    assert lets("base.hv@wide@deep") == {"width": "16", "depth": "2"}
    assert lets("base.hv@wide@wider") == {"width": "32", "depth": "1"}
    assert lets("model.hv") == {"width": "16", "depth": "2"}
    assert lets("model.hv@odd@wider") == {"width": "32", "depth": "2"}
    (fault,) = faults(str(tmp_path / "base.hv@wide@dep"))
    assert (fault.code.id, fault.help) == ("HV0205", "did you mean `deep`?")
    (fault,) = faults(written(tmp_path, 'hv 1\nmodel other\nextends "base.hv@wid"\n'))
    assert (fault.code.id, fault.span.text if fault.span else "") == ("HV0205", '"base.hv@wid"')


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ("needs default conv { bias_init }", []),
        ("needs default batch_norm { momentum }", ["no recipe of this file uses `batch_norm`"]),
        ("needs default conv { bias_int }", ["`conv` has no argument `bias_int`"]),
        ("needs default cnv { bias_init }", ["there is no operation `cnv`"]),
    ],
)
def test_a_needed_default_that_nothing_takes_is_told(tmp_path: Path, needs: str, expected: list[str]) -> None:
    top = USE + "default conv { bias_init = zeros }\n"
    path = written(tmp_path, spec("cells.layer -> tap", top=top), cells=needs + LIBRARY)
    assert [d.message for d in check(path).warnings if d.code.id in ("HV0903", "HV0921")] == expected
