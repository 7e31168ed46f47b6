"""Any text gives a tree or diagnostics, in bounded time and memory: never a traceback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvdsl.grammar import limits, print_text, print_yaml, read, read_text, read_yaml
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source

CASES = sorted((Path(__file__).parent / "cases").glob("*.hv"))
SEEDS = [path.read_bytes() for path in CASES[:4]]
YAML_SEEDS = [print_yaml(read(path)).encode() for path in CASES[:4]]
fuzz = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
INSERTS = [
    b"(",
    b"}",
    b"{",
    b"[",
    b'"',
    b"#",
    b"\n",
    b";",
    b"->",
    b"~",
    b"=",
    b"\0",
    b"\xff",
    b"&a ",
    b"*a",
    b"|",
    b"- ",
    b": ",
    b"!!x",
]


def outcome(reader: object, content: str) -> set[str]:
    """Return the codes of what is wrong with a text; every diagnostic must be whole, and lie in the text."""
    source = Source("hostile", content)
    try:
        spec = reader(source)  # type: ignore[operator]
    except SpecError as error:
        assert error.diagnostics
        assert len(error.diagnostics) <= limits.DIAGNOSTICS + 1
        for diagnostic in error.diagnostics:
            assert diagnostic.message and len(diagnostic.message) < 400
            assert diagnostic.span is not None
            assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(content)
        return {d.code.id for d in error.diagnostics}
    print_text(spec)
    return set()


@st.composite
def mutants(draw: st.DrawFn, seeds: list[bytes]) -> str:
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        upto = min(len(data), at + draw(st.sampled_from([0, 0, 1, 2, 40])))
        data = data[:at] + draw(st.sampled_from(INSERTS) | st.binary(max_size=3)) + data[upto:]
    return data.decode(errors="replace")


@fuzz
@given(mutants(SEEDS))
def test_mutated_text_gives_diagnostics(content: str) -> None:
    outcome(read_text, content)


@settings(fuzz, max_examples=60)
@given(mutants(YAML_SEEDS))
def test_mutated_yaml_gives_diagnostics(content: str) -> None:
    outcome(read_yaml, content)


@fuzz
@given(st.text(max_size=60))
def test_any_text_gives_diagnostics(content: str) -> None:
    outcome(read_text, content)
    outcome(read_yaml, content)


MEGA = limits.BYTES - 100
HEAD = "hv 1\nlet a = "
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        ("(" * MEGA, {"HV0702"}),
        (HEAD + "(" * MEGA, {"HV0702"}),
        (HEAD + "[" * 5000 + "]" * 5000, {"HV0702"}),
        ("cell c " + "{" * MEGA, {"HV0702"}),
        (HEAD + "-" * 5000 + "1", {"HV0702"}),
        (HEAD + "not " * 5000 + "a", {"HV0702"}),
        (HEAD + "1" + " + 1" * 40_000, {"HV0702"}),
        (HEAD + "a" + "()" * 5000, {"HV0702"}),
        (HEAD + "a" + " ** a" * 5000, {"HV0702"}),
        (HEAD + "a if b else " * 5000 + "c", {"HV0702"}),
        (HEAD + "a" + " -> a" * 60_000, {"HV0703"}),
        (HEAD + "9" * 1_000_000, {"HV0704"}),
        (HEAD + "1e999999", {"HV0704"}),
        (HEAD + "x".join(["9" * 30] * 1000), {"HV0704"}),
        ("x" * (limits.BYTES + 1), {"HV0701"}),
        ("hv 1\nmodel m\0\n", {"HV0114"}),
        ("hv 1\nlet a = 1\n" + "# c\n" * 200_000 + "-> b", set()),
        ("hv 1\n" + "\n" * MEGA, set()),
        ("'" * MEGA, {"HV0108"}),
        ("hv 1\n" + "let a 1\n" * 20_000, {"HV0101"}),
        (HEAD + '"' + "a" * MEGA, {"HV0106"}),
        (")" * MEGA, {"HV0105"}),
    ],
    ids=lambda v: v[:24] if isinstance(v, str) else "",
)
def test_hostile_text_is_refused_quickly(content: str, codes: set[str]) -> None:
    begin = time.process_time()
    assert outcome(read_text, content) == codes
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (BOMB, "HV0115"),
        ("[" * 200_000, "HV0702"),
        ("{a: " * 50_000, "HV0702"),
        ("- " * 100_000, "HV0702"),
        ("hv: 1\nlet: {a: " + "(" * 100_000 + "}", "HV0702"),
        ("hv: 1\nlet: {a: " + "9" * 200_000 + "}", "HV0704"),
        ("x" * (limits.YAML_BYTES + 1), "HV0701"),
        ("hv: !!python/object/apply:os.system [x]\n", "HV0115"),
        ("hv: 1\n---\nhv: 1\n", "HV0115"),
        ("hv: 1\nmodel: m\x07\n", "HV0114"),
        ("? [a]\n: b\n", "HV0115"),
        ("hv: 1\n  x: [\n", "HV0115"),
    ],
    ids=lambda v: v[:24],
)
def test_hostile_yaml_is_refused_quickly(content: str, code: str) -> None:
    begin = time.process_time()
    assert code in outcome(read_yaml, content)
    assert time.process_time() - begin < 5


def test_files_that_are_no_text(tmp_path: Path) -> None:
    for data, code in ((b"hv 1\n\xff\xfe", "HV0114"), (b"x" * (limits.BYTES + 1), "HV0701")):
        path = tmp_path / "t.hv"
        path.write_bytes(data)
        with pytest.raises(SpecError) as caught:
            read(path)
        assert [d.code.id for d in caught.value.diagnostics] == [code]


def test_the_deepest_tree_that_is_read_can_be_printed_and_compared() -> None:
    content = HEAD + "1" + " + 1" * (limits.DEPTH - 3)
    spec = read_text(Source("t", content))
    assert read_text(Source("t", print_text(spec))) == spec
    assert repr(spec)
