"""The language server, by a real client over standard input and output; and what it knows, asked in process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from hvdsl.compiler.assembly import declared
from hvdsl.compiler.assembly.files import shipped
from hvdsl.editor.document import BLOCKS, Document

SPEC = """hv 1
model small
use "cells.hv"
let width = 8
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
cell block(k = 3) { x + (gelu -> conv(k, width)) }
group layer {
  z ~ normal(conv(1x1, 8)) posterior normal(concat(x, skip) -> conv(1x1, 8))
  x + (z -> conv(1x1, width)) -> block
}
encoder { 8: conv(3x3, width) -> wide -> tap }
decoder { 8: learned(zeros, width) -> layer * 2 -> conv(1x1, logits) }
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 2, batch = 4, optimizer = adam(lr = 1e-3) }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cells.hv").write_text("hv 1\ncell wide { gelu -> conv(1x1, width) }\n")
    return tmp_path


def at(text: str, word: str) -> int:
    return text.index(word) + 1


def test_a_name_is_known_where_it_is_used(folder: Path) -> None:
    document = Document(SPEC, folder / "small.hv")
    assert document.checked[1] == ()
    assert "2 uses" in (document.hover(at(SPEC, "layer *")) or "")
    assert "8x8x8 → 8x8x8" in (document.hover(at(SPEC, "layer *")) or "")
    assert (document.hover(at(SPEC, "concat")) or "").startswith("```hv\nconcat(")
    assert "whole" in (document.hover(at(SPEC, "batch =")) or "") or "integer" in (
        document.hover(at(SPEC, "batch =")) or ""
    )
    assert document.hover(at(SPEC, "hv 1") + 3) is None
    wide = document.definition(at(SPEC, "wide ->"))
    assert wide is not None
    assert (wide.kind, Path(wide.span.source.name).name, wide.span.line) == ("cell", "cells.hv", 2)
    k = document.definition(at(SPEC, "k, width"))
    assert k is not None
    assert (k.kind, k.span.line) == ("parameter", 6)


def test_a_recipe_of_a_library_that_is_used_as_something_is_known_where_it_is_used(folder: Path) -> None:
    (folder / "cells.hv").write_text("hv 1\ncell wide(k = 3) { gelu -> conv(k, channels) }\n")
    text = (
        SPEC.replace('"cells.hv"', '"cells.hv" as c')
        .replace("wide ->", "c.wide ->")
        .replace("model small", 'model small\ntitle "\U0001f600"')
    )
    document = Document(text.replace("\n", "\r\n"), folder / "small.hv")
    assert document.checked[1] == ()
    hover = document.hover(at(document.source.text, "wide ->")) or ""
    assert "cell wide" in hover and "1 use," in hover
    assert "k" not in {choice.name for choice in document.completions(at(document.source.text, "wide ->"))}


def test_a_rename_changes_every_place_and_no_other(folder: Path) -> None:
    text = SPEC.replace("(k = 3)", "(width = 3)").replace("conv(k, width)", "conv(width, 8)")
    document = Document(text, folder / "small.hv")
    assert [span.line for span in document.occurrences(at(text, "width = 8"))] == [4, 9, 11, 12]
    assert [span.line for span in document.occurrences(at(text, "width = 3"))] == [6, 6]


def test_what_may_stand_here_depends_on_the_place(folder: Path) -> None:
    document = Document(SPEC, folder / "small.hv")
    settings = {choice.name for choice in document.completions(at(SPEC, "steps = 2") - 1)}
    assert {"steps", "batch", "optimizer", "warmup"} <= settings
    assert "conv" not in settings
    names = {choice.name: choice for choice in document.completions(at(SPEC, "gelu -> conv(k") - 1)}
    assert {"conv", "layer", "width", "k", "wide", "channels"} <= set(names)
    assert "z" not in names  # another recipe's
    assert names["avg_pool"].detail.startswith("avg_pool(")
    assert {"cell", "encoder", "likelihood", "bernoulli"} <= {c.name for c in document.completions(len(SPEC))}


def shipped_spec(name: str) -> tuple[str, Document]:
    path = shipped() / f"{name}.hv"
    text = path.read_text(encoding="utf-8")
    return text, Document(text, path)


def test_conditions_are_names_like_others() -> None:
    text, document = shipped_spec("vdvae_photos_upscaling")
    use = at(text, "low -> bilinear")
    definition = document.definition(use)
    assert definition is not None and definition.kind == "condition" and definition.text.startswith("data photos")
    assert "3x16x16" in (document.hover(use) or "")
    assert len(document.occurrences(use)) == text.count("low") - text.count("given low=")  # its comment has one more
    assert "low" in {choice.name for choice in document.completions(at(text, "concat(x, skip"))}
    assert "a table, a folder" in (document.hover(at(text, "source = image")) or "")
    text, document = shipped_spec("vdvae_digits_conditional")
    assert "one-hot" in (document.hover(at(text, "label")) or "")


def test_blocks_inside_others_have_settings_of_their_own(folder: Path) -> None:
    text = SPEC.replace("skip) -> conv(1x1, 8))", "skip) -> conv(1x1, 8)) { weight = 0.5 }")
    text = text.replace("bits = 4,", "bits = 4, given age = 1 { drop = 0.1 },")
    document = Document(text, folder / "small.hv")
    latent = {choice.name for choice in document.completions(at(text, "weight = ") - 1)}
    assert latent == {"weight", "free", "temperature"}
    assert {c.name for c in document.completions(at(text, "drop = ") - 1)} == {"input", "drop", "source", "column"}
    assert "rate in the objective" in (document.hover(at(text, "weight = ")) or "")


def test_every_setting_says_what_it_means() -> None:
    for kind, block in BLOCKS.items():
        for name, key in declared.arguments(block).items():
            assert key.doc or (kind, name) in {("given", "shape"), ("given", "classes")}, (kind, name)


def test_half_written_text_has_diagnostics_and_no_failure(folder: Path) -> None:
    for end in range(0, len(SPEC), 7):
        document = Document(SPEC[:end], folder / "small.hv")
        assert document.checked[0] is None
        for place in (end, end // 2):
            document.hover(place), document.definition(place), document.completions(place), document.occurrences(place)


@pytest.mark.parametrize("spec", sorted(shipped().rglob("*.hv")), ids=lambda path: path.stem)
def test_every_name_of_the_shipped_specs_has_a_definition_or_is_the_languages_own(spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    document = Document(text, spec)
    for definition in document.definitions:
        assert document.definition(definition.span.start) is not None
        assert document.occurrences(definition.span.start), definition.name
    assert document.formatted() == text


async def talk(path: Path) -> None:
    client = LanguageClient("test", "1")
    told: asyncio.Queue[list[lsp.Diagnostic]] = asyncio.Queue()

    def published(params: lsp.PublishDiagnosticsParams) -> None:
        told.put_nowait(list(params.diagnostics))

    client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(published)

    await client.start_io(sys.executable, "-m", "hvdsl", "lsp", "--stdio")
    await client.initialize_async(lsp.InitializeParams(lsp.ClientCapabilities()))
    client.initialized(lsp.InitializedParams())
    uri, wrong = path.as_uri(), SPEC.replace("layer * 2", "layr * 2")
    client.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, "hv", 1, wrong)))
    (mistake,) = await asyncio.wait_for(told.get(), 60)
    assert (mistake.code, mistake.range.start.line) == ("HV0301", 11)
    here = lsp.TextDocumentIdentifier(uri)
    actions = await client.text_document_code_action_async(
        lsp.CodeActionParams(here, mistake.range, lsp.CodeActionContext([mistake]))
    )
    (edit,) = actions[0].edit.changes[uri]
    assert edit.new_text == "layer"
    change = lsp.TextDocumentContentChangePartial(edit.range, edit.new_text)
    client.text_document_did_change(
        lsp.DidChangeTextDocumentParams(lsp.VersionedTextDocumentIdentifier(version=2, uri=uri), [change])
    )
    assert await asyncio.wait_for(told.get(), 60) == []
    place = lsp.Position(10, SPEC.splitlines()[10].index("wide") + 1)
    found = await client.text_document_definition_async(lsp.DefinitionParams(here, place))
    assert found.uri.endswith("cells.hv")
    said = await client.text_document_hover_async(lsp.HoverParams(here, place))
    assert "cell wide" in said.contents.value
    renamed = await client.text_document_rename_async(lsp.RenameParams(here, lsp.Position(3, 5), "w"))
    assert {e.range.start.line for e in renamed.changes[uri]} == {3, 5, 8, 10, 11}
    options = lsp.FormattingOptions(2, True)
    (formatted,) = await client.text_document_formatting_async(lsp.DocumentFormattingParams(here, options))
    assert formatted.new_text.startswith("hv 1\nmodel small\n")
    items = await client.text_document_completion_async(lsp.CompletionParams(here, place))
    assert "avg_pool" in {item.label for item in items}
    await client.shutdown_async(None)
    client.exit(None)
    await client.stop()


def test_a_client_is_served_over_standard_input_and_output(folder: Path) -> None:
    asyncio.run(talk(folder / "small.hv"))
