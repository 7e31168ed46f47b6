"""A language server: what `document` knows, spoken over the language server protocol by pygls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path

from hvdsl.editor.document import Choice, Definition, Document
from hvdsl.grammar.diagnostics import Diagnostic, Severity
from hvdsl.grammar.source import Source, Span

if TYPE_CHECKING:
    from pygls.workspace import TextDocument

_KINDS = {
    "cell": lsp.CompletionItemKind.Class,
    "group": lsp.CompletionItemKind.Class,
    "operation": lsp.CompletionItemKind.Function,
    "likelihood": lsp.CompletionItemKind.Function,
    "setting": lsp.CompletionItemKind.Property,
    "keyword": lsp.CompletionItemKind.Keyword,
    "context": lsp.CompletionItemKind.Constant,
}


class _Server(LanguageServer):
    """A language server and the documents that are open in it, each looked at once per version."""

    def __init__(self, version: str) -> None:
        super().__init__("hvdsl", version)
        self.documents: dict[str, tuple[int | None, Document]] = {}

    def document(self, uri: str) -> Document:
        text: TextDocument = self.workspace.get_text_document(uri)
        version, kept = self.documents.get(uri, (None, None))
        if kept is None or version != text.version or kept.source.text != text.source:
            kept = Document(text.source, Path(to_fs_path(uri) or uri))
            self.documents[uri] = text.version, kept
        return kept

    def offset(self, uri: str, position: lsp.Position) -> int:
        return self.workspace.get_text_document(uri).offset_at_position(position)

    def publish(self, uri: str) -> None:
        """Send the mistakes of a document to the editor."""
        current = self.document(uri)
        mistakes = [_diagnostic(d, current.source) for d in dict.fromkeys(current.checked[1])]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, mistakes))


def server(version: str) -> LanguageServer:
    """Return a language server for `.hv` files; `start_io()` serves standard input and output."""
    ls = _Server(version)
    _follow_documents(ls)
    _explain(ls)
    _change(ls)
    return ls


def _follow_documents(ls: _Server) -> None:
    """Look at documents as they are opened, changed, saved and closed."""

    @ls.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        ls.publish(params.text_document.uri)

    @ls.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: lsp.DidChangeTextDocumentParams) -> None:
        ls.publish(params.text_document.uri)

    @ls.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: lsp.DidSaveTextDocumentParams) -> None:
        for uri in [params.text_document.uri, *ls.documents]:  # what uses the saved file is looked at again
            ls.documents.pop(uri, None)
            ls.publish(uri)

    @ls.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        ls.documents.pop(params.text_document.uri, None)
        ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(params.text_document.uri, []))


def _explain(ls: _Server) -> None:
    """Answer what a name is, where it is defined, and what may stand at a place."""

    @ls.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hover(params: lsp.HoverParams) -> lsp.Hover | None:
        uri = params.text_document.uri
        text = ls.document(uri).hover(ls.offset(uri, params.position))
        return None if text is None else lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text))

    @ls.feature(lsp.TEXT_DOCUMENT_COMPLETION)
    def complete(params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
        uri = params.text_document.uri
        return [_item(choice) for choice in ls.document(uri).completions(ls.offset(uri, params.position))]

    @ls.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def definition(params: lsp.DefinitionParams) -> lsp.Location | None:
        uri = params.text_document.uri
        found: Definition | None = ls.document(uri).definition(ls.offset(uri, params.position))
        if found is None:
            return None
        own = found.span.source is ls.document(uri).source
        place = uri if own else from_fs_path(str(Path(found.span.source.name).resolve()))
        return None if place is None else lsp.Location(place, _range(found.span))


def _change(ls: _Server) -> None:
    """Propose changes of a document: names, layout, repairs."""

    @ls.feature(lsp.TEXT_DOCUMENT_RENAME)
    def rename(params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
        uri = params.text_document.uri
        spans = ls.document(uri).occurrences(ls.offset(uri, params.position))
        edits = [lsp.TextEdit(_range(span), params.new_name) for span in spans]
        return lsp.WorkspaceEdit({uri: edits}) if edits and params.new_name.isidentifier() else None

    @ls.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatting(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
        current = ls.document(params.text_document.uri)
        text, source = current.formatted(), current.source
        whole = Span(source, 0, len(source.text))
        return None if text is None or text == source.text else [lsp.TextEdit(_range(whole), text)]

    @ls.feature(lsp.TEXT_DOCUMENT_CODE_ACTION)
    def repair(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        uri, lines = params.text_document.uri, (params.range.start.line, params.range.end.line)
        actions = []
        for diagnostic, span, text in ls.document(uri).repairs():
            where = _range(span)
            if where.start.line <= lines[1] and where.end.line >= lines[0]:
                edit = lsp.WorkspaceEdit({uri: [lsp.TextEdit(where, text)]})
                title, told = f"write `{text}`", [_diagnostic(diagnostic, span.source)]
                actions.append(lsp.CodeAction(title, lsp.CodeActionKind.QuickFix, told, edit=edit, is_preferred=True))
        return actions


def _diagnostic(diagnostic: Diagnostic, source: Source) -> lsp.Diagnostic:
    """A diagnostic as the protocol has it; of another file it stands at the top, and says where it is."""
    span, message = diagnostic.span, diagnostic.message
    if span is not None and span.source.name != source.name:
        message, span = f"{Path(span.source.name).name}:{span.line}: {message}", None
    parts = [("found", diagnostic.found), ("expected", diagnostic.expected), ("help", diagnostic.help)]
    text = "\n".join([message, *(f"{name}: {words}" for name, words in parts if words)])
    error = diagnostic.severity is Severity.ERROR
    severity = lsp.DiagnosticSeverity.Error if error else lsp.DiagnosticSeverity.Warning
    place = _range(span if span is not None else Span(source, 0, 0))
    return lsp.Diagnostic(place, text, severity, diagnostic.code.id, source="hvdsl")


def _range(span: Span) -> lsp.Range:
    return lsp.Range(_position(span.source, span.start), _position(span.source, span.end))


def _position(source: Source, offset: int) -> lsp.Position:
    """A place in the protocol's units: lines from 0, columns in UTF-16."""
    line, column = source.position(offset)
    before = source.text[offset - column + 1 : offset]
    return lsp.Position(line - 1, len(before.encode("utf-16-le")) // 2)


def _item(choice: Choice) -> lsp.CompletionItem:
    kind = _KINDS.get(choice.kind, lsp.CompletionItemKind.Variable)
    return lsp.CompletionItem(
        choice.name, kind=kind, detail=choice.detail or choice.kind, documentation=choice.doc or None
    )
