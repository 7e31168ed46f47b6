"""Drive the LALR(1) tables over a token list; recover from errors at the next statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple, Protocol

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import limits
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, SpecError
from hvdsl.grammar.source import Span
from hvdsl.grammar.text.tokens import CLOSING, END, OPENING, RESERVED, STOP, Fragment, Token, Tokens, load_tables


class _Part(NamedTuple):
    """A symbol on the stack: what it was read as, and where."""

    value: object
    start: int
    end: int
    depth: int  # of the tree below it


class Action(Protocol):
    """Build a node from the parts of a rule that are no punctuation."""

    def __call__(self, start: int, end: int, *parts: object) -> object: ...


class Inline(list[object]):
    """Parts of a repetition, to be spliced into the rule around it."""


_RECOVER = ("stmt", "row", "setting", "item")  # innermost first: no state begins two of them


LATENT_BRACE = "_LATENT_BRACE"
_OPENING = frozenset({*OPENING, LATENT_BRACE})
_LATENT_SETTINGS = frozenset({"weight", "free", "temperature"})
_VALUE = frozenset({"NUMBER", "DIM", "STRING", "NAME", "LPAR", "LSQB", "MINUS", "NOT"})
_OPERATORS = frozenset({"PLUS", "MINUS", "TIMES", "OVER", "FLOOR", "MODULO", "POWER", "OR", "AND", "IF"})


_STATEMENTS = {  # what other languages begin a statement with
    "return": "the last line of a recipe is its result: leave `return` out",
    "for": "repeat with `step * n`; the turn is `index`",
    "while": "repeat with `step * n`",
    "def": "define it at the top with `cell NAME(…) { … }`",
    "function": "define it at the top with `cell NAME(…) { … }`",
    "class": "define it at the top with `cell NAME(…) { … }`",
    "lambda": "define it at the top with `cell NAME(…) { … }`, and use it by its name",
    "var": "bind a tensor with `h = …`, a value with `let n = …`",
    "const": "bind a value with `let n = …`",
    "import": 'bring in recipes with `use "cells.hv"` at the top',
    "from": 'bring in recipes with `use "cells.hv"` at the top',
}


def _rest_of_line(span: Span) -> tuple[int, int]:
    end = span.source.text.find("\n", span.start)
    return span.start, len(span.source.text) if end < 0 else end


def _habit(last: Token, token: Token, following: Sequence[Token]) -> str:
    """What to write in the place of two words or signs of other languages."""
    if last.type == "NAME" and token.type == "NAME":
        if token.text == "x" and following and following[0].type == "NUMBER":
            return f"repeat with `{last.text} * {following[0].text}`"
        return _STATEMENTS.get(last.text, "")
    return "a comment begins with `#`" if (last.text, token.text) == ("/", "*") else ""


class Parser:
    """One parse. `actions` maps the names of `hv.lark` to functions that build nodes."""

    def __init__(self, tokens: Tokens, actions: Callable[[str], Action], diagnostics: Diagnostics) -> None:
        self.tables = load_tables()
        self.fragment: Fragment = tokens.fragment
        self.tokens = tokens.tokens
        self.actions = actions
        self.diagnostics = diagnostics
        self.states: list[int] = []
        self.parts: list[_Part] = []
        self._strange = [_rest_of_line(d.span) for d in diagnostics if d.code is codes.STRANGE and d.span is not None]
        self._of_latents = frozenset(_settings_braces(tokens.tokens))

    def parse(self, start: str) -> object:
        """Return what the start symbol's action built, or None after an error. Errors go to `diagnostics`."""
        self.states = [self.tables.starts[start]]
        final = self.tables.ends[start]
        at, resumed = 0, -1
        while True:
            token = self._typed(self.tokens[at])
            if self._shift(token, final):
                if token.type == END:
                    return self.parts[-1].value
                at += 1
                continue
            self._report(token, at)
            if token.type == END and at == resumed:
                return None
            recovered = self._recover(at + (at == resumed))  # always forward
            if recovered is None:
                return None
            at = resumed = recovered

    def _typed(self, token: Token) -> Token:
        """Make a word a keyword, or a brace one of a latent's settings, where the grammar has a place for it here."""
        if token.type == "NAME":
            keyword = self.tables.literals.get(token.text)
            if keyword and keyword in self.tables.states[self.states[-1]] and self._accepts(keyword):
                return token._replace(type=keyword)
        if token.start in self._of_latents and self._accepts(LATENT_BRACE):
            return token._replace(type=LATENT_BRACE)
        return token

    def _shift(self, token: Token, final: int) -> bool:
        """Reduce as far as the token asks for, then take it; False if it has no place here."""
        kind = token.type
        while True:
            if kind == END and self.states[-1] == final:
                return True
            action = self.tables.states[self.states[-1]].get(kind)
            if action is None:
                return False
            if action >= 0:
                self.states.append(action)
                self.parts.append(_Part(token, token.start, token.end, 0))
                return True
            self._reduce(-1 - action)

    def _reduce(self, number: int) -> None:
        origin, action, seen = self.tables.rules[number]
        size = len(seen)
        parts = self.parts[len(self.parts) - size :] if size else []
        if size:
            del self.parts[-size:], self.states[-size:]
            start, end = parts[0].start, parts[-1].end
        else:
            start = end = self.parts[-1].end if self.parts else 0
        depth = max((p.depth for p in parts), default=0)
        values = [p.value for p, kept in zip(parts, seen, strict=True) if kept]
        value: object
        if action == "pass":
            (value,) = values
        elif action == "inline":
            value = self._splice(values)
        else:
            depth += 1
            if depth > limits.DEPTH:
                message = f"this is more than {limits.DEPTH} levels deep"
                help_ = "give parts of it names of their own with `let`, a binding or a recipe"
                self.diagnostics.add(Diagnostic(codes.TOO_DEEP, message, self.fragment.span(start, end), help=help_))
                raise SpecError(self.diagnostics)
            value = self.actions(action)(start, end, *self._splice(values))
        self.states.append(self.tables.states[self.states[-1]][origin])
        self.parts.append(_Part(value, start, end, depth))

    @staticmethod
    def _splice(values: list[object]) -> Inline:
        """Flatten the repetitions among `values`, the first in place: long lists take linear time."""
        out = values[0] if values and isinstance(values[0], Inline) else Inline()
        for value in values[1:] if values and out is values[0] else values:
            if isinstance(value, Inline):
                out.extend(value)
            else:
                out.append(value)
        return out

    # -- errors -------------------------------------------------------------------------------------------

    def _report(self, token: Token, at: int) -> None:
        span = self.fragment.span(token.start, token.end)
        if any(d.span is not None and d.span.start == span.start and token.text for d in self.diagnostics):
            return  # the tokenizer has already said what is wrong here
        if any(start < span.start < end for start, end in self._strange):
            return  # a consequence
        accepted = self._accepted()
        if token.type in (STOP, "RBRACE") and "COLON" in accepted:
            row = self._begun("row")
            if row is not None:
                span = self.fragment.span(row.start, row.end)
                message = "a row begins with its resolution and `:`"
                help_ = "write `RESOLUTION: …`; where the row goes on from the line before, end that line with `->`"
                self.diagnostics.add(Diagnostic(codes.UNEXPECTED, message, span, "", "`:`", help_))
                return
        keywords = [word for word, kind in self.tables.literals.items() if kind in accepted and word.isalpha()]
        if token.type == "NAME" and "CELL" in accepted:
            near = get_close_matches(token.text, keywords, 1)
            help_ = f"did you mean `{near[0]}`?" if near else "the language reference lists what a spec is made of"
            expected = ", ".join(f"`{w}`" for w in sorted(keywords))
            message = f"`{token.text}` is not something that a spec is made of"
            self.diagnostics.add(Diagnostic(codes.UNKNOWN_ITEM, message, span, f"`{token.text}`", expected, help_))
        else:
            found, expected = _describe(token), _expected(accepted, self.tables.literals)
            message = f"{found} cannot stand here"
            self.diagnostics.add(
                Diagnostic(codes.UNEXPECTED, message, span, found, expected, self._help(token, at, accepted))
            )
        if len(list(self.diagnostics)) >= limits.DIAGNOSTICS:
            raise SpecError(self.diagnostics)

    def _begun(self, symbol: str) -> _Part | None:
        """The first part of the innermost `symbol` that is being read."""
        for state, part in zip(reversed(self.states[:-1]), reversed(self.parts), strict=False):
            if symbol in self.tables.states[state]:
                return part
        return None

    def _help(self, token: Token, at: int, accepted: set[str]) -> str:
        last = self.tokens[at - 1] if at else None
        if token.text == "x" and last is not None and last.type == "NUMBER" and self.tokens[at + 1].type == "NUMBER":
            return f"a size has no spaces: write `{last.text}x{self.tokens[at + 1].text}`"
        if last is not None and (habit := _habit(last, token, self.tokens[at + 1 : at + 2])):
            return habit
        if self._in_bare_row(token, at, accepted):
            return "several statements of a row stand in braces: `8: { h = …; conv(3x3, 16) }`"
        if token.type == "NUMBER" and last is not None and last.type == "COMMA" and self._is_split_number(at):
            return f"a number has a decimal point: write `{self.tokens[at - 2].text}.{token.text}`"
        if token.type == "COLON" and "IS" in accepted:
            return "write `=`; `:` stands behind the label of a row, and behind the keys of a map in `[ ]`"
        if token.type == "IS" and "COLON" in accepted:
            return "a row begins with its resolution and `:`, as in `8: conv(3x3, 16)`"
        if token.type == "IS" and last is not None:
            return "`=` binds a name at the start of a statement; compare with `==`"
        if token.type == STOP and token.text == ";":
            return "`;` ends a statement, which cannot end inside ( ) or [ ]"
        if accepted == {"STRING"}:
            return f'put it between double quotes: `"{token.text}"`'
        if accepted == {"IS"} and at > 1 and last is not None and self.tokens[at - 2].text == "given":
            return f"say what the field is: `given {last.text} = 1`, `= 10 classes` or `= 3x16x16`"
        if token.type in ("IF", "ARROW") and "RPAR" in accepted:
            return "put the inner part in parentheses"
        if token.type in ("EQUAL", "UNEQUAL", "LESS", "MORE", "AT_MOST", "AT_LEAST"):
            return "comparisons do not chain; join them with `and`"
        following = [token.text for token in self.tokens[at + 1 : at + 2]]
        if (last is None or last.type == STOP) and (token.text == "//" or (token.text == "/" and following == ["*"])):
            return "a comment begins with `#`"
        if last is not None and last.type == STOP and token.type in _OPERATORS:
            return "no statement begins with an operator; end the line before with it, or use parentheses"
        if token.type in ("IF", "ELSE") and accepted != {"NAME"}:
            return "choose by `a if test else b`"
        if token.type in RESERVED:
            return f"`{token.text}` is a word of the language and cannot be a name"
        if STOP in accepted and token.type in _VALUE:
            return "start a new line, or put an operator or `->` between the two"
        if "COMMA" in accepted and "RPAR" in accepted and token.type in _VALUE:
            return "put `,` between the two"
        if "COLON" in accepted and token.type in _VALUE:
            return "a row begins with its resolution and `:`, as in `8: conv(3x3, 16)`"
        return ""

    def _is_split_number(self, at: int) -> bool:
        """Whether a comma stands where the point of a number belongs: `7,5` without a space."""
        whole, comma, fraction = self.tokens[at - 2 : at + 1] if at > 1 else (None, None, None)
        if whole is None or comma is None or fraction is None:
            return False
        return whole.type == "NUMBER" and whole.end == comma.start and comma.end == fraction.start

    def _in_bare_row(self, token: Token, at: int, accepted: set[str]) -> bool:
        """Whether a row without braces goes on here as if it had them: at `h = …`, or behind a `;`."""
        if token.type != "IS" and "COLON" not in accepted:
            return False
        depth = 0
        for before in reversed(self.tokens[:at]):
            if before.type in ("RBRACE", "RPAR", "RSQB"):
                depth += 1
            elif before.type in ("LBRACE", "LPAR", "LSQB"):
                if depth == 0:
                    return False
                depth -= 1
            elif depth == 0 and token.type == "IS" and before.type in ("COLON", STOP):
                return before.type == "COLON"
            elif depth == 0 and before.type == STOP:
                return before.text == ";" and self._begun("row") is not None
        return False

    def _accepted(self) -> set[str]:
        """Return the terminals that can stand here: those that survive the reductions they ask for."""
        return {kind for kind in self.tables.states[self.states[-1]] if not kind.islower() and self._accepts(kind)}

    def _accepts(self, kind: str) -> bool:
        states = list(self.states)
        while True:
            action = self.tables.states[states[-1]].get(kind)
            if action is None:
                return False
            if action >= 0:
                return True
            origin, _, seen = self.tables.rules[-1 - action]
            if seen:
                del states[-len(seen) :]
            following = self.tables.states[states[-1]].get(origin)
            if following is None:
                return False
            states.append(following)
            if kind == END and following in self.tables.ends.values():
                return True

    def _recover(self, at: int) -> int | None:
        """Give up the statement around token `at`; return where to go on behind it, or None."""
        opened = closed = 0
        while self.states:
            row = self.tables.states[self.states[-1]]
            symbol = next((s for s in _RECOVER if s in row), None)
            if symbol is not None:
                at = self._skip(at, opened, commas=symbol == "setting")
                self.states.append(row[symbol])
                self.parts.append(_Part(Inline(), self.tokens[at].start, self.tokens[at].start, 0))
                return at
            self.states.pop()
            if self.parts:
                value = self.parts.pop().value
                if isinstance(value, Token) and value.type in CLOSING:
                    closed += 1
                elif isinstance(value, Token) and value.type in _OPENING:
                    opened, closed = (opened, closed - 1) if closed else (opened + 1, 0)
        return None

    def _skip(self, at: int, opened: int, commas: bool) -> int:
        """Return the place of the token that ends the statement, outside its own brackets."""
        while True:
            kind = self.tokens[at].type
            if kind == END or (opened == 0 and (kind == STOP or kind in CLOSING or (commas and kind == "COMMA"))):
                return at
            opened += (kind in OPENING) - (kind in CLOSING)
            at += 1


def _settings_braces(tokens: Sequence[Token]) -> Iterator[int]:
    """Yield where braces begin that hold settings of a latent: nothing but `NAME = …`, one of them of a latent.

    A block of nothing but such bindings would compute nothing.
    """
    open_braces: list[tuple[int, list[str] | None]] = []  # where it begins, and the names set in it while all fits
    depth: list[str] = []
    for at, token in enumerate(tokens):
        if depth and depth[-1] == "LBRACE" and tokens[at - 1].type in ("LBRACE", STOP, "COMMA"):
            start, names = open_braces[-1]
            if token.type == "NAME" and tokens[at + 1].type == "IS" and names is not None:
                names.append(token.text)
            elif token.type not in ("RBRACE", STOP, "COMMA"):
                open_braces[-1] = start, None
        if token.type in OPENING:
            depth.append(token.type)
            if token.type == "LBRACE":
                open_braces.append((token.start, []))
        elif token.type in CLOSING and depth and depth.pop() == "LBRACE":
            start, names = open_braces.pop()
            if names and "x" not in names and not _LATENT_SETTINGS.isdisjoint(names):
                yield start


def _describe(token: Token) -> str:
    """Name a token as a person would."""
    if token.type == END:
        return "the end of the text"
    if token.type == STOP:
        return "`;`" if token.text == ";" else "the end of the line"
    return f"`{token.text}`" if len(token.text) <= 30 else f"`{token.text[:27]}…`"


def _expected(accepted: set[str], literals: dict[str, str]) -> str:
    """Say what could stand at a place, in the language's own words."""
    words = []
    rest = set(accepted)
    if "NUMBER" in rest and "NAME" in rest:
        words.append("a value or step")
        rest -= _VALUE | {"LBRACE"}
    if "PLUS" in rest:
        words.append("an operator")
        rest -= _OPERATORS | {
            "EQUAL",
            "UNEQUAL",
            "LESS",
            "MORE",
            "AT_MOST",
            "AT_LEAST",
            "LPAR",
            "LSQB",
            "LBRACE",
        }
    plain = {"NUMBER": "a number", "NAME": "a name", "STRING": 'a string in `"`', "DIM": "a shape like `3x3`"}
    words += [plain[kind] for kind in plain if kind in rest]
    words += sorted(f"`{text}`" for text, kind in literals.items() if kind in rest)
    if STOP in rest:
        words.append("the end of the line")
    elif END in rest:
        words.append("the end of the text")
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" or {words[-1]}" if words else ""
