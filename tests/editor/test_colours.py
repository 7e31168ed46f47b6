"""What colours `.hv` files knows the words of the grammar, and every shipped spec is coloured whole."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from pygments.token import Error

import hvdsl
from hvdsl.cli.main import COMMANDS
from hvdsl.editor.colours import CONSTANTS, DECLARATIONS, SECTIONS, WORDS, HvLexer

ROOT = Path(__file__).parents[2]
TEXTMATE = ROOT / "editors" / "vscode" / "syntaxes" / "hv.tmLanguage.json"


def grammar_words() -> set[str]:
    """Every word that the grammar spells, as a keyword of its own or as a terminal."""
    text = files("hvdsl.grammar.text").joinpath("hv.lark").read_text(encoding="utf-8")
    return set(re.findall(r'"([a-z]+)"', re.sub(r"//.*", "", text)))


def textmate_patterns() -> list[str]:
    rules = json.loads(TEXTMATE.read_text(encoding="utf-8"))["repository"]["all"]["patterns"]
    return [rule.get("match", rule.get("begin", "")) for rule in rules]


def test_the_lexer_knows_every_word_of_the_grammar() -> None:
    known = {*DECLARATIONS, *SECTIONS, *WORDS, *CONSTANTS}
    assert grammar_words() <= known


def test_the_textmate_grammar_knows_every_word_of_the_grammar() -> None:
    patterns = textmate_patterns()
    spelled = {word for pattern in patterns for word in re.findall(r"[a-z_]+", pattern)}
    assert grammar_words() | set(CONSTANTS) <= spelled
    for pattern in patterns:
        re.compile(pattern)


@pytest.mark.parametrize("spec", sorted((ROOT / "specs").rglob("*.hv")), ids=lambda path: path.stem)
def test_every_shipped_spec_is_coloured_whole(spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    tokens = list(HvLexer().get_tokens(text))
    assert "".join(value for _, value in tokens) == text
    assert not [value for kind, value in tokens if kind is Error]


def test_the_folder_for_visual_studio_code_names_what_exists() -> None:
    folder = ROOT / "editors" / "vscode"
    package = json.loads((folder / "package.json").read_text("utf-8"))
    assert package["version"] == hvdsl.__version__
    contributes = package["contributes"]
    paths = [package["main"], *(language["configuration"] for language in contributes["languages"])]
    for path in (*paths, *(grammar["path"] for grammar in contributes["grammars"])):
        assert (folder / path).is_file(), path
    program, command = contributes["configuration"]["properties"]["hv.command"]["default"]
    assert program == "hvdsl" and command in {name for name, _, _ in COMMANDS}
    assert '"hv").get("command")' in (folder / package["main"]).read_text("utf-8").replace("'", '"')
