"""What commands print for programs: a form with a number, reviewed; and nothing for others speaks of this machine."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hvdsl.cli.main import main
from hvdsl.cli.output import FORMAT

from .codes import CPU
from .conftest import TINY, Hvdsl

RECORDED = Path(__file__).with_name("json_forms.txt")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, a wrong one, a run of the first, and 0.1's run of codes."""
    import zipfile

    folder = tmp_path_factory.mktemp("json")
    (folder / "tiny.hv").write_text(TINY)
    (folder / "wrong.hv").write_text("hv 1\nmodel two\nencoder { 8: conf(3x3, 8) }\n")
    (folder / "pictures").mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"{number}.png")
    assert main(["train", str(folder / "tiny.hv"), "--out", str(folder / "run"), *CPU]) == 0
    with zipfile.ZipFile(RECORDED.parent / "version_0_1/two_stage.zip") as archive:
        archive.extractall(folder / "codes")
    return folder


def form(value: Any) -> Any:
    """The shape of JSON: keys and types, of a list its first entry."""
    if isinstance(value, dict):
        return {key: form(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [form(value[0])] if value else []
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_every_json_has_the_reviewed_form(runs: Path, hvdsl: Hvdsl) -> None:
    """After a change on purpose: `HVDSL_UPDATE=1 pytest tests/cli/test_json.py`; a key that changes or goes raises
    `FORMAT`."""
    commands: dict[str, tuple[str | Path, ...]] = {
        "check": ("check", runs / "tiny.hv", "--json"),
        "check, of what is wrong": ("check", runs / "wrong.hv", "--json"),
        "info": ("info", runs / "tiny.hv", "--json"),
        "info, of a prior": ("info", "vqvae2_photos", "--json"),
        "data": ("data", runs / "pictures", "--json"),
        "specs list": ("specs", "list", "--json"),
        "explain": ("explain", "--json"),
        "explain, of a code": ("explain", "HV0301", "--json"),
        "explain, of a term": ("explain", "spectral", "--json"),
        "eval": ("eval", runs / "run", "--json", "--baselines", *CPU),
        "score": ("score", runs / "run", "--against", runs / "pictures" / "0.png", "--json", *CPU),
        "eval, of codes": ("eval", runs / "codes", "--json", *CPU),
        "runs": ("runs", runs, "--json"),
        "verify": ("verify", runs / "run", "--json"),
        "doctor": ("doctor", "--no-speed", "--json"),
    }
    forms = []
    for name, command in commands.items():
        printed = json.loads(hvdsl(*command).out)
        assert next(iter(printed.items())) == ("format", FORMAT), name
        forms.append(f"# {name}\n{json.dumps(form(printed), indent=1)}\n")
    text = "\n".join(forms)
    if os.environ.get("HVDSL_UPDATE"):
        RECORDED.write_text(text, "utf-8")
    assert text == RECORDED.read_text("utf-8")


def test_every_json_option_is_reviewed() -> None:
    reviewed = {line.removeprefix("# ").split(",")[0].split()[0] for line in RECORDED.read_text().splitlines()
                if line.startswith("# ")}  # fmt: skip
    offered = re.findall(r"^## hvdsl (\w+)\n(.*?)^```$\n(?=\n## |\Z)", (ROOT / "docs/commands.md").read_text("utf-8"),
                         re.MULTILINE | re.DOTALL)  # fmt: skip
    assert {name for name, text in offered if "--json" in text} <= reviewed


def test_what_is_written_for_others_speaks_of_no_machine(runs: Path, hvdsl: Hvdsl, tmp_path: Path) -> None:
    """`environment.json` keeps where the data is and what the run was computed on: that is what resuming needs, and
    it stays in the run."""
    assert hvdsl("compile", runs / "tiny.hv", "-o", tmp_path / "model.py").code == 0
    assert hvdsl("compile", runs / "tiny.hv", "--standalone", "-o", tmp_path / "alone.py").code == 0
    for ending in ("svg", "html", "json", "dot", "mmd"):
        assert hvdsl("viz", "graph", runs / "tiny.hv", "-o", tmp_path / f"graph.{ending}").code == 0
    assert hvdsl("codes", runs / "codes", "-o", tmp_path / "codes.npz", *CPU).code == 0
    assert hvdsl("sample", runs / "run", "-n", "1", "-o", tmp_path / "sample.png", *CPU).code == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    local = ("environment.json", "history.jsonl")
    written += [path for path in (runs / "run").rglob("*") if path.is_file() and path.name not in local]
    written = [path for path in written if "events" not in path.parts]  # TensorBoard's own, which name the host
    assert len(written) > 12
    secrets = [str(runs), str(ROOT), str(Path.home()), platform.node()]
    user = getpass.getuser()
    for path in written:
        content = path.read_bytes()
        for secret in secrets:
            assert len(secret) < 3 or secret.encode() not in content, f"{path.name} has {secret}"
        assert f"/{user}/".encode() not in content, path.name
