"""What a spec becomes together with the files it names, a variant and overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl import specs
from hvdsl.compiler.assembly.assemble import Assembled, assemble
from hvdsl.compiler.graph import Term
from hvdsl.grammar import print_text, read_text, tree
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import SMALL


def small(text: str = SMALL, **options: object) -> Assembled:
    return assemble(Source("small.hv", text), **options)  # type: ignore[arg-type]  # test shorthand


def codes_of(error: SpecError) -> list[str]:
    return [d.code.id for d in error.diagnostics]


def let(assembled: Assembled, name: str) -> tree.Expr:
    return next(i.value for i in assembled.spec.items if isinstance(i, tree.Let) and i.name.id == name)


def labels(assembled: Assembled, kind: str) -> list[str]:
    section = next(i for i in assembled.spec.items if isinstance(i, tree.Section) and i.kind == kind)
    return [row.label.span.text for row in section.rows if isinstance(row, tree.Row)]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.hv").write_text(text)
    return folder


def test_a_spec_without_references_assembles_to_itself() -> None:
    assembled = small()
    kept = tuple(i for i in read_text(Source("small.hv", SMALL)).items if not isinstance(i, tree.Variant))
    assert assembled.spec.items == kept


@pytest.mark.parametrize("name", specs.names())
def test_the_merged_tree_of_a_shipped_spec_prints_and_assembles_to_the_same(name: str) -> None:
    first = assemble(name)
    again = assemble(Source("resolved.hv", print_text(first.spec)))
    assert again.spec == first.spec
    assert (again.settings, again.likelihood, again.logits) == (
        first.settings,
        first.likelihood,
        first.logits,
    )


def test_the_likelihood_is_complete_and_says_how_many_channels_it_needs() -> None:
    assembled = small()
    options = dict(assembled.likelihood.options)
    assert assembled.likelihood.name == "discretized_logistic_mixture"
    assert (options["n"], options["bits"], options["bins"], options["lower"]) == (2, 4, Term("exact"), -7)
    assert assembled.logits == 2 * 3  # grey: a weight, a mean, a scale


def test_used_recipes_come_in_and_the_specs_own_definition_wins(tmp_path: Path) -> None:
    write(
        tmp_path,
        cells="cell a { relu }\ncell b { relu }\nlet width = 4",
        m='use "cells.hv"\ncell b { gelu }\n',
    )
    path = tmp_path / "m.hv"
    path.write_text(SMALL + path.read_text())
    assembled = assemble(path)
    recipes = {
        i.name.id: print_text(tree.Spec((i,), span=i.span))
        for i in assembled.spec.items
        if isinstance(i, tree.RecipeNode)
    }
    assert "relu" in recipes["a"]
    assert "gelu" in recipes["b"]
    assert let(assembled, "width").span.text == "8"
    assert {s.name for s in assembled.sources} == {str(path), str(tmp_path / "cells.hv")}


def test_a_shipped_library_is_found_where_no_file_of_that_name_is_beside(tmp_path: Path) -> None:
    path = tmp_path / "m.hv"
    path.write_text(SMALL + 'use "nvae_cells.hv"\n')
    assert "squeeze_excite" in {i.name.id for i in assemble(path).spec.items if isinstance(i, tree.RecipeNode)}


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.hv").write_text("let a = 1")
    (inside / "cells.hv").symlink_to(tmp_path / "secret.hv")
    (inside / "m.hv").write_text(SMALL + 'use "cells.hv"\n')
    with pytest.raises(SpecError) as caught:
        assemble(inside / "m.hv")
    assert codes_of(caught.value) == ["HV0202"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../m.hv", "a/../../m.hv", "C:\\x.hv", ""])
def test_paths_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        small(SMALL + f'use "{name}"\n')
    assert codes_of(caught.value) == ["HV0202"]


def test_a_circle_is_named(tmp_path: Path) -> None:
    write(tmp_path, a='hv 1\nuse "b.hv"\n', b='hv 1\nuse "a.hv"\n', m=SMALL + 'use "a.hv"\n')
    with pytest.raises(SpecError) as caught:
        assemble(tmp_path / "m.hv")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.found == "a.hv -> b.hv -> a.hv"


def test_extending_replaces_by_name_by_row_and_by_key(tmp_path: Path) -> None:
    derived = """hv 1
model derived
extends "base.hv"
let width = 32
encoder {
  2: conv(3x3, width) -> tap
  4: none
}
train { batch = 64 }
"""
    write(tmp_path, base=SMALL, m=derived)
    assembled = assemble(tmp_path / "m.hv")
    assert assembled.settings.model == "derived"
    assert let(assembled, "width").span.text == "32"
    assert labels(assembled, "encoder") == ["8", "2"]
    assert labels(assembled, "decoder") == ["4", "8"]
    assert assembled.settings.train is not None
    assert (assembled.settings.train.batch, assembled.settings.train.steps) == (64, 100)


def test_new_rows_go_in_by_size(tmp_path: Path) -> None:
    derived = 'hv 1\nmodel m\nextends "base.hv"\nencoder { 6: tap }\ndecoder { 6: layer\n 2: layer }\n'
    write(tmp_path, base=SMALL, m=derived)
    assembled = assemble(tmp_path / "m.hv")
    assert labels(assembled, "encoder") == ["8", "6", "4"]
    assert labels(assembled, "decoder") == ["2", "4", "6", "8"]


def test_labels_are_compared_by_value_after_the_lets_are_merged(tmp_path: Path) -> None:
    base = SMALL.replace("8: conv(3x3, width)", "size: conv(3x3, width)") + "let size = 8\n"
    derived = 'hv 1\nmodel m\nextends "base.hv"\nlet half = 4\n'
    derived += "encoder { half: none\n 2 * half: conv(1x1, 8) -> tap }\n"
    write(tmp_path, base=base, m=derived)
    assert labels(assemble(tmp_path / "m.hv"), "encoder") == ["2 * half"]


def test_a_variant_is_laid_over_its_spec(tmp_path: Path) -> None:
    write(tmp_path, m=SMALL)
    assert let(assemble(f"{tmp_path / 'm.hv'}@wide"), "width").span.text == "16"
    assert let(assemble(tmp_path / "m.hv"), "width").span.text == "8"


def test_a_later_length_of_training_replaces_the_other_kind() -> None:
    train = small(SMALL, overrides=["train.epochs=3"]).settings.train
    assert train is not None
    assert (train.epochs, train.steps) == (3, None)


def test_overrides_reach_lets_settings_and_the_likelihood() -> None:
    overrides = [
        "width=64",
        "train.batch=16",
        "evaluate.samples=5",
        "likelihood.n=3",
        "train.optimizer=adamw(lr = 1)",
    ]
    assembled = small(SMALL, overrides=overrides)
    assert let(assembled, "width") == tree.Number("64", span=assembled.spec.span)
    train = assembled.settings.train
    assert train is not None
    assert (train.batch, train.optimizer.kind, train.optimizer.lr) == (16, "adamw", 1.0)
    assert assembled.settings.evaluate.samples == 5
    assert assembled.logits == 9


def test_a_wrong_override_points_into_itself() -> None:
    with pytest.raises(SpecError) as caught:
        small(SMALL, overrides=["train.batch=0", "wdith=3", "train.bach=3", "nothing.batch=3", "width="])
    by_code = {d.code.id: d for d in caught.value.diagnostics}
    assert by_code["HV0208"].span is not None
    unknown = [d for d in caught.value.diagnostics if d.code.id == "HV0209"]
    assert [d.help for d in unknown[:2]] == ["did you mean `width`?", "did you mean `batch`?"]
    with pytest.raises(SpecError) as caught:
        small(SMALL, overrides=["train.batch=0"])
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span is not None
    assert (diagnostic.span.source.name, diagnostic.span.text) == ("--set train.batch=0", "0")


def test_everything_wrong_is_reported_in_one_run() -> None:
    text = (
        SMALL.replace("steps = 100", "stepps = 100")
        .replace("unit = nats_per_dim", "")
        .replace("bits = 4", "bits = yes")
    )
    with pytest.raises(SpecError) as caught:
        small(text)
    assert sorted(codes_of(caught.value)) == ["HV0601", "HV0602", "HV0603"]
