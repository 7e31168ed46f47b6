"""Cut text into tokens: the rule for line breaks, matching brackets, comments kept aside; the grammar's tables."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import isinf
from typing import NamedTuple, NoReturn

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import limits
from hvdsl.grammar.diagnostics import Code, Diagnostic, Diagnostics, SpecError
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.tree import number_value


class Tables(NamedTuple):
    """What the tokenizer and the parser need of the grammar."""

    starts: dict[str, int]  # start symbol -> first state
    ends: dict[str, int]  # start symbol -> state in which it is complete
    states: list[dict[str, int]]  # state -> symbol -> next state, or -1 - rule to reduce
    rules: list[tuple[str, str, list[bool]]]  # symbol made, action, which of its parts the action gets to see
    literals: dict[str, str]  # keyword or punctuation -> terminal
    patterns: dict[str, str]  # terminal -> regular expression


@cache
def load_tables() -> Tables:
    """Return the tables that were shipped."""
    return Tables(**json.loads(files("hvdsl.grammar.text").joinpath("tables.json").read_text(encoding="utf-8")))


STOP, END = "_STOP", "$END"
OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSING = {close: open_ for open_, close in OPENING.items()}
_SHAPES = {"LPAR": "(", "LSQB": "[", "LBRACE": "{", "RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_GOES_ON = frozenset({"ARROW", "COMMA", "IS", "TILDE"})  # a line break after these ends nothing …
_CONTINUES = frozenset({"ARROW", "POSTERIOR"})  # … nor one before these
RESERVED = frozenset({"IF", "ELSE", "AND", "OR", "NOT", "POSTERIOR"})  # keywords wherever they stand

# What other languages write: how HV spells it, and the terminal to go on with.
_HABITS = {
    ":=": ("=", "IS"),
    "&&": ("and", "AND"),
    "||": ("or", "OR"),
    "!": ("not", "NOT"),
    "=>": ("->", "ARROW"),
    "|>": ("->", "ARROW"),
    "|": ("->", "ARROW"),
    "^": ("**", "POWER"),
    "→": ("->", "ARROW"),
    "\u00d7": ("*", "TIMES"),
    "\u00f7": ("/", "OVER"),
    "\u2264": ("<=", "AT_MOST"),
    "\u2265": (">=", "AT_LEAST"),
} | dict.fromkeys("\u2212\u2013\u2014", ("-", "MINUS"))  # the minus and the dashes of a typeset page
_DASHES = str.maketrans("\u2212\u2013\u2014", "---")


@record
class Fragment(Record):
    """Text to be read, and where it stands in its source.

    `places` maps each character (and the end) to its offset there: a scalar of a YAML file is seldom what
    stands in the file.
    """

    source: Source
    text: str
    places: tuple[int, ...] | None = None

    def span(self, start: int, end: int) -> Span:
        """Return the span of the characters `start` up to `end` in the source."""
        if self.places is None:
            return Span(self.source, start, end)
        first = self.places[start]
        return Span(self.source, first, max(first, self.places[end - 1] + 1) if end > start else first)


class Token(NamedTuple):
    type: str  # terminal of the grammar; a keyword is a NAME until the parser has a place for it
    text: str
    start: int
    end: int


@dataclass(slots=True)
class Trivia:
    """Comments and blank lines, until the node that they belong to takes them.

    `leading` has the whole lines before the token that starts at the key; `beside` the comment on the
    line of the token that ends
    there.
    """

    leading: dict[int, tuple[str, ...]] = field(default_factory=dict)
    beside: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Tokens:
    fragment: Fragment
    tokens: list[Token]
    trivia: Trivia


@cache
def _pattern() -> re.Pattern[str]:
    table = load_tables()
    symbols = sorted((s for s in table.literals if not s.isalpha()), key=len, reverse=True)
    groups = {
        "SPACE": r"[ \t\r\f]+|\A\ufeff",
        "LINE": r"\n",
        "COMMENT": r"\#[^\n]*",
        "SEMICOLON": ";",
        "STRING": table.patterns["STRING"],
        "OPEN_STRING": r'"[^\n]*',
        "DIM": table.patterns["DIM"],
        "NUMBER": table.patterns["NUMBER"],
        "BAD_NUMBER": r"\.?[0-9](?:[eE][+\-\u2212\u2013\u2014]|[A-Za-z0-9_.])*",
        "NAME": table.patterns["NAME"],
        "HABIT": r":=|&&|\|\||!(?!=)|=>|\|>|\||\^|→|[\u00d7\u00f7\u2264\u2265\u2212\u2013\u2014]",
        "SYMBOL": "|".join(map(re.escape, symbols)),
        "STRANGE": r"[^\x00-\x7f]+|.",
    }
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in groups.items()), re.ASCII)


class _Scanner:
    """One walk over a text."""

    def __init__(self, fragment: Fragment, diagnostics: Diagnostics) -> None:
        self.fragment = fragment
        self.diagnostics = diagnostics
        self.tokens: list[Token] = []
        self.trivia = Trivia()
        self.leading: list[str] = []
        self.brackets: list[Token] = []
        self.inner: dict[int, int] = {}  # by opening brace, how deep its lines are indented
        self.left: Token | None = None  # the first brace that seems to be open behind its lines
        self.stray: Token | None = None  # the first closing brace whose line does not go with its partner's
        self.stop: Token | None = None  # a line break or semicolon that the next token may turn into a _STOP
        self._strange_line = 0  # the end of the last line that holds a character without a place

    def scan(self) -> Tokens:
        fresh = True  # nothing stands on this line yet
        for match in _pattern().finditer(self.fragment.text):
            kind, text, start, end = match.lastgroup or "", match.group(), match.start(), match.end()
            if kind == "SPACE":
                continue
            if kind == "LINE":
                if fresh:
                    self.leading.append("")
                fresh = True
                self.stop = self.stop or Token(STOP, "\n", start, start)
                continue
            if kind == "COMMENT":
                self._comment(text.rstrip(), alone=fresh)
            elif kind == "SEMICOLON":
                self.stop = Token(STOP, ";", start, end)
            elif token := self._token(kind, text, start, end):
                self._add(token)
            fresh = False
        return self._finish()

    def _comment(self, text: str, alone: bool) -> None:
        before = [t for t in self.tokens[-3:] if t.type not in ("COMMA", STOP)]
        if alone or not before:
            self.leading.append(text)
        else:
            self.trivia.beside[before[-1].end] = text

    def _token(self, kind: str, text: str, start: int, end: int) -> Token | None:
        """Return the token, or report what is wrong with it and return what it must have meant."""
        table = load_tables()
        if kind == "NAME":
            keyword = table.literals.get(text, "")
            kind = keyword if keyword in RESERVED else kind
        elif kind == "SYMBOL":
            kind = table.literals[text]
        elif kind in ("NUMBER", "DIM"):
            self._check_size(kind, text, start, end)
        elif kind == "HABIT":
            spelling, kind = _HABITS[text]
            help_ = f"write `{spelling}`" + (", or `x` in a size: `3x3`" if text == "\u00d7" else "")
            self._error(codes.FOREIGN, f"`{text}` is not HV", start, end, text, f"`{spelling}`", help_)
        elif kind == "BAD_NUMBER":
            self._bad_number(text, start, end)
            kind, text = "NUMBER", "0"
        elif kind == "OPEN_STRING":
            message = "this string is not closed on its line"
            self._error(codes.UNTERMINATED, message, start, end, text[:20], '`"`', 'end the string with `"`')
            kind, text = "STRING", '""'
        elif kind == "STRANGE":
            return self._strange(text, start, end)
        return Token(kind, text, start, end)

    def _check_size(self, kind: str, text: str, start: int, end: int) -> None:
        parts = text.split("x") if kind == "DIM" else [text]
        if len(text) <= limits.DIGITS * len(parts) and all(len(p) <= limits.DIGITS for p in parts):
            values = [float(number_value(p)) for p in parts]
            if all(
                v <= limits.INTEGER or (not isinf(v) and not p.isdigit()) for v, p in zip(values, parts, strict=True)
            ):
                return
        shown = text if len(text) <= 20 else f"{text[:17]}…"
        expected = f"at most {limits.DIGITS} digits, integers up to 2^53, floats up to 1e308"
        self._error(
            codes.NUMBER_TOO_LARGE,
            f"`{shown}` is out of range",
            start,
            end,
            shown,
            expected,
            "use a smaller number",
        )

    def _bad_number(self, text: str, start: int, end: int) -> None:
        shown = text if len(text) <= 20 else f"{text[:17]}…"
        help_ = "names cannot start with a digit; separate a number from what follows it"
        if text.startswith("."):
            help_ = f"write `0{shown}`"
        elif text != text.translate(_DASHES):
            help_ = f"the minus sign is another one here: write `{shown.translate(_DASHES)}`"
        elif text.endswith("."):
            help_ = f"write `{shown}0`, or without the point"
        expected = "a number like `12`, `1_000`, `2e-4` or `8GiB`, or a shape like `3x3`"
        self._error(codes.BAD_NUMBER, f"`{shown}` is not a number", start, end, shown, expected, help_)

    def _strange(self, text: str, start: int, end: int) -> Token | None:
        shown = text[:10] if text.isprintable() else " ".join(f"U+{ord(c):04X}" for c in text[:4])
        help_ = "take it out; text belongs in a comment or between double quotes"
        if start < self._strange_line:
            return None  # a consequence of another one
        line = self.fragment.text.find("\n", start)
        self._strange_line = len(self.fragment.text) if line < 0 else line
        if text in "'\u2018\u2019\u201c\u201d":
            help_ = 'strings are written in double quotes: `"…"`'
        elif text.isspace() or not text.isprintable():
            help_ = "it looks like a space, or like nothing: write a plain space in its place"
        elif unicodedata.name(text[0], "").startswith("GREEK"):
            name = unicodedata.name(text[0]).split()[-1].lower()
            help_ = f"names are of the letters a to z: write `{name}`"
        if text == "?":
            help_ = "choose by `a if test else b`"
        self._error(codes.STRANGE, f"`{shown}` has no place in a spec", start, end, shown, "", help_)
        return None

    def _add(self, token: Token) -> None:
        if len(self.tokens) >= limits.TOKENS:
            message = f"the file has more than {limits.TOKENS:,} tokens"
            self._error(
                codes.TOO_MANY_TOKENS,
                message,
                token.start,
                token.end,
                "",
                "",
                "split it, or use repetition: `block * 100`",
            )
            raise SpecError(self.diagnostics)
        if self.stop is not None and self.stop.text == "\n":
            self._begin_line(token)
        self._add_stop(token)
        if token.type in OPENING:
            if len(self.brackets) >= limits.BRACKETS:
                message = f"more than {limits.BRACKETS} brackets are open here"
                help_ = "give inner parts a name with `let` or a recipe of their own"
                self._error(codes.TOO_DEEP, message, token.start, token.end, token.text, "", help_)
                raise SpecError(self.diagnostics)
            self.brackets.append(token)
        elif token.type in CLOSING and not self._close(token):
            return
        if self.leading:
            self.trivia.leading[token.start] = tuple(self.leading)
            self.leading = []
        self.tokens.append(token)

    def _add_stop(self, token: Token) -> None:
        """Decide whether the line break or semicolon before `token` ends a statement."""
        stop, self.stop = self.stop, None
        if stop is None or not self.tokens:
            return
        last = self.tokens[-1].type
        if last == "LBRACE" or token.type in ("RBRACE", END):
            return
        if stop.text == "\n":
            inside = bool(self.brackets) and self.brackets[-1].type != "LBRACE"
            if inside or last in _GOES_ON or token.type in _CONTINUES:
                return
        self.tokens.append(stop)

    def _close(self, token: Token) -> bool:
        """Take the partner of a closing bracket from those that are open; False where it has none and is left out."""
        opened = self.brackets[-1] if self.brackets else None
        if opened is None or (OPENING[opened.type] != token.type and opened.type == "LBRACE"):
            stray = (token.type == "RBRACE" and self.stray) or token
            self._error(
                codes.UNOPENED,
                f"`{stray.text}` closes nothing",
                stray.start,
                stray.end,
                stray.text,
                "",
                "take it out, or open it before",
            )
            if token.type == "RBRACE":
                raise SpecError(self.diagnostics)
            return False
        if OPENING[opened.type] != token.type:
            line, column = self.fragment.source.position(self.fragment.span(token.start, token.end).start)
            self._unclosed(opened, f"`{token.text}` at {line}:{column}")
        self.brackets.pop()
        if token.type == "RBRACE" and self.stray is None and not self._fit(opened, token):
            self.stray, self.left = token, self.left or opened
        return True

    def _begin_line(self, token: Token) -> None:
        """Note the first brace that seems to be open behind its lines.

        It is one with a line that is indented less than its first, and no deeper than its own.
        """
        if self.left or not self.brackets or self.brackets[-1].type != "LBRACE" or token.type in (*CLOSING, END):
            return
        text, opened = self.fragment.text, self.brackets[-1]
        line = text.rfind("\n", 0, token.start) + 1
        if line <= opened.start:
            return
        indent, outer = token.start - line, _indent(text, text.rfind("\n", 0, opened.start) + 1)
        if indent <= outer and indent < self.inner.get(opened.start, max(outer, 1)):
            self.left = opened
        self.inner.setdefault(opened.start, indent)

    def _fit(self, opened: Token, closed: Token) -> bool:
        """Whether two braces that are partners by their order are so by their lines, too.

        Where a brace is missing, those behind it find the wrong partners, up to the end of the text. As specs are
        written, partners stand on one line, or the closing one begins a line: indented no deeper than the line of the
        opening one, and deeper than that of the brace around them.
        """
        text = self.fragment.text
        first, last = (text.rfind("\n", 0, brace.start) + 1 for brace in (opened, closed))
        if first == last:
            return True
        around = next((b for b in reversed(self.brackets) if b.type == "LBRACE"), None)
        least = -1 if around is None else _indent(text, text.rfind("\n", 0, around.start) + 1)
        alone = not text[last : closed.start].strip()
        return alone and least < closed.start - last <= _indent(text, first)

    def _unclosed(self, opened: Token, found: str) -> NoReturn:
        close = _SHAPES[OPENING[opened.type]]
        message = f"this `{opened.text}` is never closed"
        self._error(
            codes.UNCLOSED,
            message,
            opened.start,
            opened.end,
            found,
            f"`{close}`",
            f"add the missing `{close}`",
        )
        raise SpecError(self.diagnostics)

    def _finish(self) -> Tokens:
        if self.brackets:
            opened = self.brackets[-1]
            if opened.type == "LBRACE":
                opened = self.left or opened
            self._unclosed(opened, "the end of the text")
        end = len(self.fragment.text)
        self._add_stop(Token(END, "", end, end))
        if self.leading:
            self.trivia.leading[end] = tuple(self.leading)
        self.tokens.append(Token(END, "", end, end))
        return Tokens(self.fragment, self.tokens, self.trivia)

    def _error(
        self,
        code: Code,
        message: str,
        start: int,
        end: int,
        found: str = "",
        expected: str = "",
        help_: str = "",
    ) -> None:
        self.diagnostics.add(Diagnostic(code, message, self.fragment.span(start, end), found, expected, help_))
        if len(list(self.diagnostics)) >= limits.DIAGNOSTICS:
            raise SpecError(self.diagnostics)


def _indent(text: str, line: int) -> int:
    """How many characters of blank a line begins with."""
    end = line
    while text[end : end + 1] in (" ", "\t"):
        end += 1
    return end - line


def tokenize(fragment: Fragment, diagnostics: Diagnostics) -> Tokens:
    """Return the tokens of a text, the end included, and its comments.

    Mistakes that leave a token in no doubt go to `diagnostics`; brackets that do not match and limits raise
    `SpecError`.
    """
    return _Scanner(fragment, diagnostics).scan()
