"""The LALR(1) tables that `generate.py` makes from `hv.lark`."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Tables(NamedTuple):
    """What the tokenizer and the parser need of the grammar."""

    starts: dict[str, int]  # start symbol -> first state
    ends: dict[str, int]  # start symbol -> state in which it is complete
    states: list[dict[str, int]]  # state -> symbol -> next state, or -1 - rule to reduce
    rules: list[tuple[str, str, list[bool]]]  # symbol made, action, which of its parts the action gets to see
    literals: dict[str, str]  # keyword or punctuation -> terminal
    patterns: dict[str, str]  # terminal -> regular expression


@cache
def load() -> Tables:
    """Return the tables that were shipped."""
    return Tables(**json.loads(files("hvdsl.grammar.text").joinpath("tables.json").read_text(encoding="utf-8")))
