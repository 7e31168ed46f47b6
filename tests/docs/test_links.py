"""Links of the documents lead somewhere, and the site has every page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a)[^>]*(?:src|href)=\"([^\"]+)\"")


def prose(page: Path) -> str:
    """The text of a page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """What can stand behind `#`: the headings, as the site names them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


def slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_the_site_knows_every_block_of_code_for_one(page: Path) -> None:
    """GitHub takes any words behind a fence; the site takes a language and options, else the code is prose."""
    fences = re.findall(r"^```(?!`)(.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    assert [fence for fence in fences if not re.fullmatch(r'([a-z]+( title="[^"]+")?)?', fence)] == []


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for match in LINK.finditer(prose(page)):
            target = match[1] or match[2]
            if not re.match(r"[a-z]+:", target):
                yield page, target


ALL = sorted(set(links()))


def test_there_are_links() -> None:
    assert len(ALL) > 40


@pytest.mark.parametrize(("page", "target"), ALL, ids=[f"{page.name}-{target}" for page, target in ALL])
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    place, _, anchor = target.partition("#")
    path = (page.parent / place).resolve() if place else page
    assert path.exists()
    if anchor:
        assert anchor in anchors(path)


def test_pages_of_the_site_link_within_it() -> None:
    outside = [
        (page.name, target)
        for page, target in ALL
        if page.is_relative_to(DOCS) and not (page.parent / target.partition("#")[0]).resolve().is_relative_to(DOCS)
    ]
    assert not outside


def test_the_site_has_every_page_once() -> None:
    listed = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["docs_dir"] == "docs"
