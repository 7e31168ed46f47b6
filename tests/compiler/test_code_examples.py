"""Every diagnostic code's bad example gives that code and no other error; its good example gives no error."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_specs import write

from hvdsl.compiler.assemble import assemble
from hvdsl.compiler.codes import all_codes
from hvdsl.grammar.diagnostics import Code, Severity, SpecError

ASSEMBLY = [c for c in all_codes().values() if c.id[2:4] in ("02", "06") or c.id == "HV0911"]


def found(text: str, folder: Path) -> tuple[set[str], set[str]]:
    """Return the codes of the errors and of the warnings that assembling an example gives."""
    spec, overrides = write(text, folder)
    try:
        diagnostics = assemble(spec, overrides).warnings
    except SpecError as error:
        diagnostics = error.diagnostics
    errors = {d.code.id for d in diagnostics if d.severity is Severity.ERROR}
    return errors, {d.code.id for d in diagnostics} - errors


@pytest.mark.parametrize("code", ASSEMBLY, ids=lambda code: code.id)
def test_the_bad_example_gives_its_code(code: Code, tmp_path: Path) -> None:
    errors, warnings = found(code.bad, tmp_path)
    if code.severity is Severity.WARNING:
        assert (errors, code.id in warnings) == (set(), True)
    else:
        assert errors == {code.id}


@pytest.mark.parametrize("code", ASSEMBLY, ids=lambda code: code.id)
def test_the_good_example_gives_no_error(code: Code, tmp_path: Path) -> None:
    errors, warnings = found(code.good, tmp_path)
    assert errors == set()
    assert code.id not in warnings


def test_codes_are_unique_and_of_their_module() -> None:
    assert all(len(code_id) == 6 and code_id.startswith("HV") for code_id in all_codes())
