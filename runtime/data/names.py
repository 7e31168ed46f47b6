"""What the names of files and folders say: parts of a data set, and what is no data at all."""

from __future__ import annotations

import re
from collections.abc import Iterable

TRAIN, VALIDATION, TEST, ALL = "train", "validation", "test", "all"
PARTS = (TRAIN, VALIDATION, TEST)

_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "eval", "evaluation"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst", "t10k"), TEST),
}
# Words beside a part's that say nothing of what is in it.
_NEUTRAL = frozenset(
    "image images img imgs picture pictures photo photos pic pics jpeg jpegs jpg png data dataset set sets files file "  # noqa: SIM905
    "split full all small large big new old raw clean final".split()
)
_HIDDEN = ("@eadir", "__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "__pycache__")
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_JOINED = re.compile(r"^(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?)(set|data|images|imgs)$")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems and editors leave behind."""
    return name.startswith((".", "~")) or name.lower() in _HIDDEN


def _tokens(name: str) -> list[str]:
    if name.lower() == "t10k" or name.lower().startswith("t10k"):
        return ["t10k"]
    tokens: list[str] = []
    for token in (found.lower() for found in _TOKEN.findall(name)):
        joined = _JOINED.match(token)
        tokens += joined.groups() if joined else (token,)
    return tokens


def part_of(name: str) -> str | None:
    """The part that a folder's name means: `Train`, `train2017`, `test_images`, `valid-32x32`; None for other names.

    Whatever says *test* is a test part, also beside other words: it is never trained on.
    """
    tokens = _tokens(name)
    parts = {_WORDS[token] for token in tokens if token in _WORDS}
    if TEST in parts:
        return TEST
    rest = [token for token in tokens if token not in _WORDS]
    if len(parts) != 1 or any(not token.isdigit() and token not in _NEUTRAL for token in rest if len(token) > 1):
        return None
    return parts.pop()


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """The parts that folders beside each other mean: also of `seg_train` and `seg_test`, alike but for that word."""
    parts = {name: part for name in names if (part := part_of(name)) is not None}
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        part = part_in(name)
        if part is not None:
            rest = tuple(token for token in _tokens(name) if token not in _WORDS)
            by_rest.setdefault(rest, {})[name] = part
    for alike in by_rest.values():
        if len(set(alike.values())) > 1:
            parts |= alike
    return parts


def part_in(name: str) -> str | None:
    """The part that the name of a file or array speaks of, beside whatever else: `mnist_train.npy`, `x_test`."""
    parts = {_WORDS[token] for token in _tokens(name) if token in _WORDS}
    if TEST in parts:
        return TEST
    return parts.pop() if len(parts) == 1 else None


def is_wrapper(name: str) -> bool:
    """Whether a folder's name, as `images`, says nothing of the class of what is in it."""
    tokens = _tokens(name)
    return bool(tokens) and all(token in _NEUTRAL and len(token) > 1 for token in tokens)
