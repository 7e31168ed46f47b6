"""Turn `hv.lark` into `tables.json`: `python -m hvdsl.grammar.text.generate`.

Building LALR tables takes lark some 50 ms and importing lark 60 ms more, in every process that reads a spec;
loading these tables
takes about 2 ms. Lark's own cache is a pickle, and its serialised form belongs to one version of lark; this
form is plain JSON,
holds no code, and does not depend on the lark that is installed. A test fails when the file is stale.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from lark import Lark
from lark.grammar import Rule, Terminal
from lark.lexer import PatternStr

from hvdsl.grammar.text.tokens import Tables

STARTS = ["spec", "statements", "expression", "recipe_head", "prior_head", "condition_head", "needed"]


def generate() -> Tables:
    """Return the tables that `hv.lark` stands for."""
    grammar = files("hvdsl.grammar.text").joinpath("hv.lark").read_text(encoding="utf-8")
    lark = Lark(grammar, parser="lalr", lexer="basic", start=STARTS, maybe_placeholders=False, strict=False)
    table = lark.parser.parser._parse_table  # lark has no other way to the finished tables
    number: dict[int, int] = {}
    rules: dict[Rule, int] = {}
    states: list[dict[str, int]] = []
    queue = [table.start_states[name] for name in STARTS]
    for old in queue:  # breadth first and by symbol, so that the numbers do not hang on the order of sets
        if old in number:
            continue
        number[old] = len(number)
        queue += [to for _, (action, to) in sorted(table.states[old].items()) if action.name == "Shift"]
    for old in number:
        row: dict[str, int] = {}
        for symbol, (action, to) in sorted(table.states[old].items()):
            row[symbol] = number[to] if action.name == "Shift" else -1 - rules.setdefault(to, len(rules))
        states.append(row)
    return Tables(
        starts={name: number[table.start_states[name]] for name in STARTS},
        ends={name: number[table.end_states[name]] for name in STARTS},
        states=states,
        rules=[
            (
                rule.origin.name,
                _action(rule),
                [not (isinstance(s, Terminal) and s.filter_out) for s in rule.expansion],
            )
            for rule in rules
        ],
        literals={t.pattern.value: t.name for t in lark.terminals if isinstance(t.pattern, PatternStr)},
        patterns={t.name: t.pattern.to_regexp() for t in lark.terminals if not isinstance(t.pattern, PatternStr)},
    )


def _action(rule: Rule) -> str:
    """Name what a reduction does: `inline` and `pass` build no node, others are methods of the builder."""
    name = rule.origin.name
    if rule.alias:
        return str(rule.alias)
    if name.startswith("_"):
        return "inline"
    return "pass" if rule.options.expand1 else str(name)


def serialise(tables: Tables) -> str:
    """Return the text of `tables.json`: one state, rule or terminal a line, so that changes can be read."""
    parts = []
    for key, value in tables._asdict().items():
        if isinstance(value, list):
            body = "[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in value) + "\n]"
        else:
            body = json.dumps(value, indent=1, sort_keys=True)
        parts.append(f"{json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write_tables() -> None:
    """Write `tables.json` beside the grammar."""
    Path(__file__).with_name("tables.json").write_text(serialise(generate()), encoding="utf-8")


if __name__ == "__main__":
    write_tables()
