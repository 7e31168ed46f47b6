"""Every diagnostic code's bad example gives that code and no other error; its good example gives no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl.compiler.diagnostics import all_codes
from hvdsl.compiler.pipeline import check
from hvdsl.grammar import diagnostic_codes as grammar_codes
from hvdsl.grammar import read_text, read_yaml
from hvdsl.grammar.diagnostics import Code, Severity, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import write

# What is wrong with the text itself shows when it is read; these examples need be no whole models.
READING = [c for c in vars(grammar_codes).values() if isinstance(c, Code) and c.bad]
CHECKING = [c for c in all_codes().values() if c not in vars(grammar_codes).values() and c.bad]


def found(code: Code, text: str, folder: Path) -> tuple[set[str], set[str]]:
    """Return the codes of the errors and of the warnings that checking an example."""
    spec, overrides = write(text, folder)
    try:
        model = check(spec, overrides)
        diagnostics = model.warnings
    except SpecError as error:
        diagnostics = error.diagnostics
    errors = {d.code.id for d in diagnostics if d.severity is Severity.ERROR}
    return errors, {d.code.id for d in diagnostics} - errors


@pytest.mark.parametrize("code", CHECKING, ids=lambda code: code.id)
def test_the_bad_example_gives_its_code(code: Code, tmp_path: Path) -> None:
    errors, warnings = found(code, code.bad, tmp_path)
    if code.severity is Severity.WARNING:
        assert (errors, code.id in warnings) == (set(), True)
    else:
        assert errors == {code.id}


@pytest.mark.parametrize("code", CHECKING, ids=lambda code: code.id)
def test_the_good_example_gives_no_error(code: Code, tmp_path: Path) -> None:
    errors, warnings = found(code, code.good, tmp_path)
    assert errors == set()
    assert code.id not in warnings


@pytest.mark.parametrize("code", READING, ids=lambda code: code.id)
def test_reading_the_bad_example_gives_its_code_and_the_good_one_reads(code: Code) -> None:
    read = read_yaml if code.good.startswith("hv:") else read_text
    with pytest.raises(SpecError) as caught:
        read(Source("bad", code.bad))
    assert {d.code.id for d in caught.value.diagnostics} == {code.id}
    read(Source("good", code.good))


def test_codes_are_unique_and_of_their_module() -> None:
    assert all(len(code_id) == 6 and code_id.startswith("HV") for code_id in all_codes())
