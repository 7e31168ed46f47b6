"""What can be wrong with the text itself (HV01xx), and with its size (HV0701 and following)."""

from __future__ import annotations

from hvdsl.grammar.diagnostics import Code

_HEAD = "hv 1\nmodel m\n"

UNEXPECTED = Code(
    "HV0101",
    "something stands where it cannot",
    "The text up to here is fine, and what follows does not continue it. The message says what could stand "
    "in this place. Often the "
    "mistake is just before: a missing operator, comma, `->` or closing bracket.",
    _HEAD + "let a = 1 2\n",
    _HEAD + "let a = 1 + 2\n",
)
UNKNOWN_ITEM = Code(
    "HV0102",
    "unknown item",
    "A spec is made of items: `hv`, `model`, `title`, `use`, `extends`, `let`, `shared`, `default`, "
    "`cell`, `group`, `data`, `encoder`, "
    "`decoder`, `likelihood`, `objective`, `train`, `evaluate`, `sample`, `prior` and `variant`. Each "
    "begins on a line of its own.",
    _HEAD + "grup layer { relu }\n",
    _HEAD + "group layer { relu }\n",
)
BAD_TARGET = Code(
    "HV0103",
    "wrong left side",
    "Left of `=` stands a name, names with commas between them, or `tap(name)`; left of `~` a name, or "
    "names with commas between them. "
    "`==` compares.",
    _HEAD + "cell c { a + b = relu }\n",
    _HEAD + "cell c { a = relu }\n",
)
UNCLOSED = Code(
    "HV0104",
    "a bracket is never closed",
    "Every `(`, `[` and `{` needs its partner, in order. The span is the opening one; the message says "
    "where the search for its partner "
    "ended.",
    _HEAD + "cell c { conv(3x3, 8 }\n",
    _HEAD + "cell c { conv(3x3, 8) }\n",
)
UNOPENED = Code(
    "HV0105",
    "a bracket closes nothing",
    "This closing bracket has no opening partner before it.",
    _HEAD + "cell c { relu }}\n",
    _HEAD + "cell c { relu }\n",
)
UNTERMINATED = Code(
    "HV0106",
    "a string is not closed",
    'A string stands on one line between two `"`. It has no escapes, and so cannot hold a `"`.',
    'hv 1\nmodel m\ntitle "A model\n',
    'hv 1\nmodel m\ntitle "A model"\n',
)
BAD_NUMBER = Code(
    "HV0107",
    "not a number",
    "Numbers are written `12`, `1_000`, `0.5` or `2e-4`, with a digit on either side of the point; shapes "
    "and kernels `3x3`, `3x32x32`. "
    "Names begin with a letter or `_`.",
    _HEAD + "let a = 12abc\n",
    _HEAD + "let a = 12\n",
)
STRANGE = Code(
    "HV0108",
    "a character that has no place in a spec",
    "Outside comments and strings a spec is plain ASCII. Text copied from a document may hold typographic "
    "quotes, dashes or blanks.",
    _HEAD + "let a = 'b'\n",
    _HEAD + 'let a = "b"\n',
)
FOREIGN = Code(
    "HV0109",
    "another language's operator",
    "HV writes `and`, `or`, `not` as words, binds with `=`, passes on with `->`, and takes powers with `**`.",
    _HEAD + "let a = b && c\n",
    _HEAD + "let a = b and c\n",
)
LEADING_OPERATOR = Code(
    "HV0110",
    "a statement begins with an operator",
    "A line break ends a statement. Were `x` on one line and `- y` on the next two statements, a sum cut "
    "in two would quietly mean "
    "something else; so no statement begins with an operator. End the line before with the operator inside "
    "parentheses.",
    _HEAD + "cell c {\n  x\n  - y\n}\n",
    _HEAD + "cell c {\n  (x\n  - y)\n}\n",
)
MIXED_MAP = Code(
    "HV0111",
    "a map with an entry that has no key",
    "Either every entry of `[…]` has a key, and it is a map, or none has, and it is a list.",
    _HEAD + "let a = [1: 2, 3]\n",
    _HEAD + "let a = [1: 2, else: 3]\n",
)
NO_VERSION = Code(
    "HV0112",
    "the language version is missing",
    "A model says on its first line which version of the language it is written in, `hv 1`, so that it "
    "keeps its meaning when the "
    "language grows. A file of recipes for `use` may leave it out: it is read as the version of the spec "
    "that uses it.",
    "model m\n",
    "hv 1\nmodel m\n",
)
BAD_VERSION = Code(
    "HV0113",
    "unknown language version",
    "This release reads version 1 of the language.",
    "hv 7\nmodel m\n",
    "hv 1\nmodel m\n",
)
NOT_TEXT = Code(
    "HV0114",
    "not a text file",
    "A spec is UTF-8 text without NUL bytes. The file may be in another encoding, or no text at all.",
    "hv 1\nmodel m\0\n",
    "hv 1\nmodel m\n",
)
BAD_YAML = Code(
    "HV0115",
    "not the YAML form",
    "The YAML form has YAML's skeleton, with expressions of the language as its leaves. Anchors, aliases, "
    "tags and several documents are "
    "not part of it.",
    "hv: 1\nmodel: *m\n",
    "hv: 1\nmodel: m\n",
)
DUPLICATE_KEY = Code(
    "HV0116",
    "a key stands twice",
    "A YAML mapping holds each key once. Most YAML readers would silently keep the last one.",
    "hv: 1\nlet: {a: 1, a: 2}\n",
    "hv: 1\nlet: {a: 1, b: 2}\n",
)
TOO_LARGE = Code(
    "HV0701",
    "the file is too large",
    "Reading a spec takes bounded time and memory. A text file may have 1 MiB, a YAML file 256 KiB.",
    "",
    "",
)
TOO_DEEP = Code(
    "HV0702",
    "nested too deeply",
    "At most 64 brackets may be open at once, and an expression may be 100 levels deep; every operator of "
    "a chain `a + b + c …` is a level. "
    "Deeper parts get a name with `let`, a binding or a recipe.",
    _HEAD + f"let a = {'(' * 80}1{')' * 80}\n",
    _HEAD + "let a = (1)\n",
)
TOO_MANY_TOKENS = Code(
    "HV0703",
    "too many tokens",
    "A file may have 100,000 tokens. Repetition says in a few what copies say in many: `block * 100`.",
    "",
    "",
)
NUMBER_TOO_LARGE = Code(
    "HV0704",
    "a number is out of range",
    "Numbers have at most 40 digits, integers reach up to 2^53 and floats up to 1e308.",
    _HEAD + "let a = 1e999999\n",
    _HEAD + "let a = 1e9\n",
)

CODES = tuple(value for value in list(globals().values()) if isinstance(value, Code))
