"""What the names of files and folders say: parts of a data set, and what is no data at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import PurePosixPath

TRAIN, VALIDATION, TEST, ALL = "train", "validation", "test", "all"
PARTS = (TRAIN, VALIDATION, TEST)

_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "eval", "evaluation"), VALIDATION),
    **dict.fromkeys(("test", "tests", "testing", "tst", "t10k", "holdout", "heldout"), TEST),
}
# Words beside a part's that say nothing of what is in it.
_NEUTRAL = frozenset(
    "image images img imgs picture pictures photo photos pic pics jpeg jpegs jpg png data dataset set sets files file "  # noqa: SIM905
    "split full all small large big new old raw clean final".split()
)
# Words of folders and files that hold something about images, in the form of images.
_ABOUT = frozenset(
    "mask masks label labels annotation annotations segmentation segmentations seg segs gt groundtruth truth trimap "  # noqa: SIM905
    "trimaps matte mattes".split()
)
_IMAGE = frozenset("image images img imgs picture pictures photo photos jpeg jpegs rgb".split())  # noqa: SIM905
_ABOUT_ONE = re.compile(rf"(?i)(.+)[-_. ](?:{'|'.join(sorted(_ABOUT))})")
_HIDDEN = ("@eadir", "__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "__pycache__")
# Parts' names that may as well be something else (`tr` is also Turkish): these only where all folders beside each other
# are called as parts.
_SHORT = {"tr": TRAIN, "va": VALIDATION, "vl": VALIDATION, "te": TEST, "ts": TEST}
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_JOINED = re.compile(r"^(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?)(set|data|images|imgs)$")
_INSIDE = re.compile(r"train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?")  # in a word, as in `mytrain`


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems and editors leave behind."""
    return name.startswith((".", "~")) or name.lower() in _HIDDEN


def _tokens(name: str) -> list[str]:
    if name.lower() == "t10k" or name.lower().startswith("t10k"):
        return ["t10k"]
    name = re.sub(r"(?i)(held|hold)[-_ ]out", r"\1out", name)
    tokens: list[str] = []
    for token in (word.lower() for word in _TOKEN.findall(name)):
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


def parts_of(names: Collection[str]) -> dict[str, str]:
    """The parts that folders beside each other mean: also of `seg_train` and `seg_test`, or `mytrain` and `mytest`,
    which are alike but for that word, and of `tr` and `te` where there are no others."""
    parts = {name: part for name in names if (part := part_of(name)) is not None}
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        part, inside = part_in(name), _INSIDE.search(name.lower())
        if part is not None:
            rest = tuple(token for token in _tokens(name) if token not in _WORDS)
            by_rest.setdefault(rest, {})[name] = part
        elif inside is not None:
            around = (name[: inside.start()].lower(), name[inside.end() :].lower())
            by_rest.setdefault(("inside", *around), {})[name] = _WORDS[inside[0]]
    for alike in by_rest.values():
        if len(set(alike.values())) > 1:
            parts |= alike
    short = {name: _SHORT[name.lower()] for name in names if is_short(name)}
    if short and len({*parts.values(), *short.values()}) > 1 and len(parts) + len(short) == len(set(names)):
        parts |= short
    return parts


def is_short(name: str) -> bool:
    """Whether a folder's name may be short for a part: `tr`, `te`."""
    return name.lower() in _SHORT


def part_in(name: str) -> str | None:
    """The part that the name of a file or array speaks of, beside whatever else: `mnist_train.npy`, `x_test`."""
    parts = {_WORDS[token] for token in _tokens(name) if token in _WORDS}
    if TEST in parts:
        return TEST
    return parts.pop() if len(parts) == 1 else None


@lru_cache(maxsize=4096)
def is_wrapper(name: str) -> bool:
    """Whether a folder's name, as `images`, says nothing of the class of what is in it."""
    tokens = _tokens(name)
    return bool(tokens) and all(token in _NEUTRAL and len(token) > 1 for token in tokens)


def is_about_images(name: str) -> bool:
    """Whether a folder's name, as `masks` or `SegmentationClass`, says that it holds something about images."""
    return not _ABOUT.isdisjoint(_tokens(name))


def about_images(names: Sequence[str]) -> list[bool]:
    """Which files, by their paths with `/`, are about images beside them: masks, and labels in the form of images.

    So is what is in a folder `masks` beside one called `images` or as a part, and `a_mask.png` beside `a.png`.
    """
    beside: dict[str, set[str]] = {}  # names of the folders in a folder
    images: set[str] = set()
    for name in names:
        above = ""
        for step in name.split("/")[:-1]:
            beside.setdefault(above, set()).add(step)
            above += f"{step}/"
        stem = PurePosixPath(name).stem
        if _ABOUT_ONE.fullmatch(stem) is None:
            images |= {above + stem, above + stem.partition(".")[0]}  # of `K.image.png`, as shards have it, `K`
    about = {
        f"{above}{name}/"
        for above, steps in beside.items()
        for name in steps
        if is_about_images(name) and any(_is_of_images(other, name) for other in steps)
    }
    return [_is_about_one(name, images) or any(name.startswith(folder) for folder in about) for name in names]


def _is_of_images(name: str, about: str) -> bool:
    """Whether a folder holds the images that one beside it, as `masks`, is about: `images`, `train`, `leftImg8bit`."""
    if is_about_images(name):
        return False
    said = not _IMAGE.isdisjoint(_tokens(name)) and _IMAGE.isdisjoint(_tokens(about))
    return said or is_wrapper(name) or part_of(name) is not None


def _is_about_one(name: str, images: Container[str]) -> bool:
    path = PurePosixPath(name)
    match = _ABOUT_ONE.fullmatch(path.stem)
    return match is not None and f"{name[: -len(path.name)]}{match[1]}" in images


def places_of(names: Sequence[str]) -> list[tuple[str, str | None]]:
    """The part of each file and the folder that says its class, by the paths of all of them, with `/`.

    The first folder of a path whose name means a part says the part. The first other one says the class, unless it
    only wraps: `images`, a part's name once more (`seg_train/seg_train`), or a folder that all files are in. Where no
    folder says a part and the name of every file does (`train_01.png`, `test_01.png`), those do.
    """
    beside: dict[str, set[str]] = {}  # names of the folders in a folder
    for name in names:
        above = ""
        for step in name.split("/")[:-1]:
            beside.setdefault(above, set()).add(step)
            above += f"{step}/"
    parts = {above: parts_of(steps) for above, steps in beside.items()}
    placed = [_placed(name, parts) for name in names]
    while len({folders[0] for _, folders in placed if folders}) == 1 and all(len(folders) > 1 for _, folders in placed):
        placed = [(part, folders[1:]) for part, folders in placed]
    if all(part == ALL for part, _ in placed):
        by_name = list(takewhile(bool, (part_in(PurePosixPath(name).stem) for name in names)))
        if len(by_name) == len(names) and len(set(by_name)) > 1:
            placed = [(part or ALL, folders) for part, (_, folders) in zip(by_name, placed, strict=True)]
    return [(part, folders[0] if folders else None) for part, folders in placed]


def _placed(name: str, parts: Mapping[str, Mapping[str, str]]) -> tuple[str, list[str]]:
    """The part that a path says, and its other folders without those that only wrap."""
    above, part = "", ALL
    others: list[str] = []
    passed: set[str] = set()
    for step in name.split("/")[:-1]:
        meant = parts[above].get(step)
        if meant is None and step not in passed:
            others.append(step)
        elif part == ALL and meant is not None:
            part = meant
            passed.add(step)
        above += f"{step}/"
    while len(others) > 1 and is_wrapper(others[0]):
        others.pop(0)
    if part != ALL and others and is_wrapper(others[0]):
        others.pop(0)
    return part, others
