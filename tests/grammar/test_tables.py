"""The shipped tables are those of the grammar, and importing the grammar stays cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

from hvdsl.grammar.text.generate import generate, serialise


def test_the_shipped_tables_are_not_stale() -> None:
    shipped = files("hvdsl.grammar.text").joinpath("tables.json").read_text(encoding="utf-8")
    assert shipped == serialise(generate()), "run `python -m hvdsl.grammar.text.generate`"


def test_reading_text_imports_neither_lark_nor_yaml_nor_torch() -> None:
    program = (
        "import sys; from hvdsl.grammar import read_text; from hvdsl.grammar.source import Source;"
        "read_text(Source('t', 'hv 1\\nmodel m\\n'));"
        "print(sorted({'lark', 'yaml', 'torch', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
