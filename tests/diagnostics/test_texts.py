"""Diagnostics as text: many small specs in one file, and below each line what is said of it.

A file holds cases. A case begins with `=== TITLE`, whose first word is a code; lines `# error[HV0504] 3-14: …` and
`# warning[…]` speak of columns 3 to 14 of the line above them, those without columns of the whole. They are no part of
the spec. After a change that is meant, `pytest tests/diagnostics --update` writes them anew, to be reviewed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hvdsl.compiler.diagnostics import all_codes
from hvdsl.compiler.pipeline import check
from hvdsl.grammar import diagnostic_codes, read_text, read_yaml
from hvdsl.grammar.diagnostics import Code, Diagnostic, Severity, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import write

HERE = Path(__file__).parent
EXPECTED = re.compile(r"# (error|warning)\[HV\d{4}\].*\n")
READING = {code.id for code in vars(diagnostic_codes).values() if isinstance(code, Code)}
EXAMPLES = {code.id: code.bad for code in all_codes().values() if code.bad.isprintable() or "\0" not in code.bad}
EXAMPLES = {name: text if text.endswith("\n") else f"{text}\n" for name, text in EXAMPLES.items() if text}


def cases(path: Path) -> dict[str, str]:
    """The cases of a file by their titles, as they stand there."""
    parts = re.split(r"^=== (.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def diagnostics(title: str, text: str, folder: Path) -> tuple[Diagnostic, ...]:
    if title.split()[0] in READING:  # shows when it is read; such a text need be no whole model
        with pytest.raises(SpecError) as caught:
            (read_yaml if text.startswith("hv:") else read_text)(Source("spec", text))
        return caught.value.diagnostics
    spec, overrides = write(text, folder)
    try:
        return check(spec, overrides).warnings
    except SpecError as error:
        return error.diagnostics


def annotated(title: str, text: str, folder: Path) -> str:
    """The text with what is said of it."""
    below: dict[int, list[str]] = {}
    for diagnostic in diagnostics(title, text, folder):
        kind = "warning" if diagnostic.severity is Severity.WARNING else "error"
        line, columns, message = 0, "", diagnostic.message.replace(f"{folder}/", "")
        if diagnostic.span is not None and text.startswith(diagnostic.span.source.text.rstrip("\n")):
            line, column = diagnostic.span.source.position(diagnostic.span.start)
            columns = f" {column}-{column + max(diagnostic.span.end - diagnostic.span.start - 1, 0)}"
        below.setdefault(line, []).append(f"# {kind}[{diagnostic.code.id}]{columns}: {message}\n")
    lines = text.splitlines(keepends=True)
    result = [part for i, line in enumerate(lines, 1) for part in (line, *sorted(below.pop(i, [])))]
    return "".join([*result, *(line for said in below.values() for line in sorted(said))])


FILES = sorted({f"HV{name[2:4]}.txt" for name in EXAMPLES} | {path.name for path in HERE.glob("*.txt")})


@pytest.mark.parametrize("name", FILES)
def test_what_is_said_is_what_was_reviewed(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path = HERE / name
    known = cases(path) if path.exists() else {}
    texts = {title: EXPECTED.sub("", text) for title, text in known.items()}
    examples = {code: text for code, text in EXAMPLES.items() if name == f"HV{code[2:4]}.txt"}
    updating = pytestconfig.getoption("--update")
    if updating:
        texts = dict(sorted((texts | examples).items()))
    else:
        assert {code: texts.get(code) for code in examples} == examples, "a bad example changed: run with --update"
    results = {}
    for i, (title, text) in enumerate(texts.items()):
        folder = tmp_path / str(i)
        folder.mkdir()
        results[title] = annotated(title, text, folder)
    if updating:
        path.write_text("".join(f"=== {title}\n{text}" for title, text in results.items()), encoding="utf-8")
    else:
        assert results == known
