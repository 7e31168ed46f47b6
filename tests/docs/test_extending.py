"""The examples of the page on extending work: each is put into a copy of the project and run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
MAIN = "import sys; from hvdsl.cli.main import main; sys.exit(main(sys.argv[1:]))"


def test_what_is_replaced_is_there_once() -> None:
    page = "".join(EXAMPLES.values())
    blocks = re.findall(r'^```python title="replace (\S+)"\n(.*?)^---$', page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 10
    wrong = [(place, old) for place, old in blocks if (ROOT / place).read_text().count(old.rstrip("\n")) != 1]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("title", EXAMPLES)
def test_the_example_works(title: str, tmp_path: Path) -> None:
    root = tmp_path / "hvdsl"
    leave = shutil.ignore_patterns(".*", "build", "dist", "runs", "golden", "docs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, root, symlinks=True, ignore=leave)
    commands = []
    for language, kind, place, text in re.findall(
        r'^```(\w+)(?: title="(\w+) ?(\S*)")?\n(.*?)^```$', EXAMPLES[title], re.MULTILINE | re.DOTALL
    ):
        if kind == "new":
            (root / place).write_text(text)
        elif kind == "replace":
            old, new = (part.rstrip("\n") for part in text.split("---\n"))
            content = (root / place).read_text()
            assert content.count(old) == 1, (place, old)
            (root / place).write_text(content.replace(old, new))
        elif kind == "check":
            (root / "spec.hv").write_text(text)
            commands += [["-c", MAIN, "check", "spec.hv"], ["-c", MAIN, "train", "spec.hv", "--out", "run"]]
        else:
            assert (language, kind) == ("sh", "")
            commands += [shlex.split(line)[1:] for line in text.splitlines()]
    assert commands
    for command in commands:
        done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
