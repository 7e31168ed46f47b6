"""Every command line in the documents is one that `hvdsl` takes, and their fragments of specs pass `check`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hvdsl.cli.main import build_parser
from hvdsl.compiler.assembly.files import shipped
from hvdsl.compiler.pipeline import check

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "AGENTS.md"])
GENERATED = {"commands.md", "codes.md", "operations.md"}


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def command_lines() -> list[tuple[str, str]]:
    """Page and command: of `sh` blocks, of tables, and what comments give as the command of a picture or figure."""
    lines = []
    for page in PAGES:
        if page.name not in GENERATED:
            text = page.read_text("utf-8")
            shell = "\n".join(blocks(page, "(?:sh)?")).replace("\\\n", " ")
            lines += [(page.name, line) for line in shell.splitlines() if line.startswith("hvdsl ")]
            lines += [(page.name, line) for line in re.findall(r"<!-- \$\$? (hvdsl .*?)(?: => .*?)? -->", text)]
            rows = "\n".join(row for row in text.splitlines() if row.startswith("|") and page.name == "README.md")
            lines += [(page.name, line) for line in re.findall(r"`(hvdsl [^`]*)`", rows)]
    return lines


LINES = command_lines()


def test_there_are_command_lines() -> None:
    assert len(LINES) > 40


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}-{line[:60]}" for page, line in LINES])
def test_a_command_line_is_taken(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *words = shlex.split(line, comments=True)[1:]
    is_whole = bool(words) and "…" not in words  # others name a command, or some of its options
    if is_whole:
        build_parser(command).parse_args([command, *words])
        return
    with pytest.raises(SystemExit) as end:
        build_parser(command).parse_args([command, "--help"])
    help_text = capsys.readouterr().out
    assert end.value.code == 0
    assert [word for word in words if word.startswith("-") and word not in help_text] == []


def test_fragments_of_the_tutorial_pass_check(tmp_path: Path) -> None:
    start = 'hv 1\nmodel mine\nextends "vdvae_digits.hv"\n'
    fragments = [
        fragment
        for page in sorted((ROOT / "docs" / "tutorial").glob("*.md"))
        for fragment in blocks(page, "hv")
        if not fragment.startswith("hv 1")
    ]
    assert len(fragments) >= 5
    for number, fragment in enumerate(fragments):
        # The colour images of the last chapter are those of `vdvae_photos`.
        spec = start.replace("vdvae_digits", "vdvae_photos") if "3x32x32" in fragment else start
        path = tmp_path / f"fragment{number}.hv"
        path.write_text(f"{spec}{fragment}", "utf-8")
        check(path)
        for variant in re.findall(r"^variant (\w+)", fragment, flags=re.MULTILINE):
            check(f"{path}@{variant}")


@pytest.mark.parametrize("path", sorted((ROOT / "scripts" / "ablations").glob("*.hv")), ids=lambda path: path.stem)
def test_the_specs_of_the_ablations_pass_check(path: Path) -> None:
    check(path)
    for variant in re.findall(r"^variant (\w+)", path.read_text("utf-8"), flags=re.MULTILINE):
        check(f"{path}@{variant}")
    assert (shipped() / "vdvae_digits.hv").is_file()
