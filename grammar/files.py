"""Read a spec from a file, in either form."""

from __future__ import annotations

from pathlib import Path

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import limits, tree
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.printer import print_text
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import read_text

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
SUFFIXES = (".hv", *sorted(YAML_SUFFIXES))


def read(path: Path | str) -> tree.Spec:
    """Return the tree of a file: the YAML form for `.yaml` and `.yml`, the text form otherwise.

    Raises `SpecError` for what is wrong in it, `OSError` where it cannot be opened.
    """
    source = read_source(path)
    if Path(path).suffix.lower() in YAML_SUFFIXES:
        from hvdsl.grammar.yaml.reader import read_yaml  # 40 ms of PyYAML that the text form does without

        return read_yaml(source)
    return read_text(source)


def read_source(path: Path | str) -> Source:
    """Return a file's text. Raises `SpecError` where it is no UTF-8 or too large, and `OSError`."""
    with Path(path).open("rb") as file:
        data = file.read(limits.BYTES + 1)
    name = str(path)
    if len(data) > limits.BYTES:
        message = f"the file has more than {limits.BYTES // 1024} KiB"
        help_ = "split it with `use`, or use repetition: `block * 100`"
        raise SpecError([Diagnostic(codes.TOO_LARGE, message, Span(Source(name, ""), 0, 0), help=help_)])
    try:
        return Source(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        source = Source(name, data.decode("utf-8-sig", errors="replace"))
        at = source.text.find("\ufffd")
        found = f"the byte 0x{data[error.start]:02X}"
        help_ = "save the file as UTF-8"
        span = Span(source, at, at + 1)
        raise SpecError(
            [Diagnostic(codes.NOT_TEXT, "the file is not UTF-8 text", span, found, "UTF-8 text", help_)]
        ) from error


def format_text(source: Source) -> str:
    """Return a text in its canonical layout, comments kept. Raises `SpecError` where it cannot be read."""
    return print_text(read_text(source))
