"""Completion scripts: every command and option, and what bash makes of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hvdsl.cli.commands.completion import SHELLS, commands_of
from hvdsl.cli.main import COMMANDS, build_parser

from .conftest import Hvdsl

BASH, FISH = shutil.which("bash"), shutil.which("fish")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(hvdsl: Hvdsl, shell: str) -> None:
    script = hvdsl("completion", shell).out
    assert f"hvdsl completion {shell}" in script.splitlines()[0]  # the line to write
    for command in commands_of(build_parser()):
        assert all(name in script for name in command.path.split())
        for flag in (flag for option in command.options for flag in option.flags):
            assert (flag if shell != "fish" else f" {flag.lstrip('-')} ") in script
    assert all(name in script for name, _, _ in COMMANDS)


@pytest.mark.skipif(BASH is None, reason="no bash is installed")
def test_bash_completes_commands_options_their_words_specs_and_files(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "mine.hv").touch()
    (tmp_path / "script").write_text(hvdsl("completion", "bash").out)
    ask = '_ask() { COMP_WORDS=(hvdsl "$@"); COMP_CWORD=$#; _hvdsl; echo "${COMPREPLY[@]}"; }'
    lines = [
        "tr",
        "train --prec",
        "train --precision b",
        "viz ''",
        "viz graph vdvae_cif",
        "check m",
        "train --out x --js",
    ]
    commands = "; ".join(["source ./script", ask, *(f"_ask {line}" for line in lines)])
    done = subprocess.run([str(BASH), "--norc", "-c", commands], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "train", "--precision", "bf16", "graph latents cell", "vdvae_cifar10", "mine.hv", ""
    ]  # fmt: skip


@pytest.mark.skipif(FISH is None, reason="no fish is installed")
def test_fish_completes_the_same_with_what_each_word_means(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "mine.hv").touch()
    (tmp_path / "script").write_text(hvdsl("completion", "fish").out)
    lines = ["tr", "train --prec", "train --precision b", "viz l", "viz graph vdvae_cif", "check m", "completion "]
    commands = "; ".join(["source ./script", *(f"complete -C 'hvdsl {line}'" for line in lines)])
    done = subprocess.run([str(FISH), "--no-config", "-c", commands], cwd=tmp_path, capture_output=True, text=True)
    words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert words == ["train", "--precision", "bf16", "latents", "vdvae_cifar10", "mine.hv", "bash", "fish", "zsh"]
    assert "train\tTrain a spec, or continue a run" in done.stdout.splitlines()
