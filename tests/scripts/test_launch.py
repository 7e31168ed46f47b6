"""The launch files start what they say: their commands are taken apart by torchrun's own parser and by ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hvdsl.cli.main import build_parser

LAUNCH = Path(__file__).parents[2] / "scripts" / "launch"
STAND_INS = {
    "torchrun": 'printf "%s\\n" "$@" >> "$SAID"; exit "$(cat "$ENDS_WITH")"',
    "srun": 'exec "$@"',
    "scontrol": "echo first-machine",
    "sleep": "exit 0",
}

pytestmark = pytest.mark.skipif(not LAUNCH.is_dir(), reason="an installed package has no scripts")


def launched(tmp_path: Path, script: str, code: int = 0, **environment: str) -> tuple[int, list[list[str]]]:
    """What a launch file calls `torchrun` with, where that and SLURM's commands are stand-ins, and its exit code."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "code").write_text(str(code))
    (tmp_path / "said").write_text("")
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}
    variables |= {
        "ENDS_WITH": str(tmp_path / "code"),
        "SLURM_JOB_NODELIST": "a,b",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "7",
    }
    command = ["bash", str(LAUNCH / script), "my.hv", "runs/my", "--precision", "bf16"]
    done = subprocess.run(command, env=os.environ | variables | environment, capture_output=True, timeout=60)
    words = (tmp_path / "said").read_text().splitlines()
    starts = [i for i, word in enumerate(words) if word.startswith(("--standalone", "--nnodes"))]
    return done.returncode, [words[a:b] for a, b in zip(starts, [*starts[1:], len(words)], strict=True)]


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCH.glob("*")))
def test_a_launch_file_starts_or_goes_on_with_a_run(script: str, tmp_path: Path) -> None:
    from torch.distributed.run import get_args_parser

    code, commands = launched(tmp_path, script, NODES="2", HEAD="first-machine:29500")
    assert (code, len(commands)) == (0, 1)
    launcher = get_args_parser().parse_args(commands[0])
    assert (launcher.module, launcher.training_script) == (True, "hvdsl")
    arguments = build_parser("train").parse_args(launcher.training_script_args)
    assert (arguments.command, arguments.spec, str(arguments.out)) == ("train", "my.hv", "runs/my")
    assert (arguments.resume, arguments.precision) == ("auto", "bf16")
    several = script in ("several_nodes.sh", "slurm.sbatch")
    assert launcher.rdzv_endpoint == ("first-machine:29500" if several else "")


def test_a_machine_that_may_go_tries_again_but_for_what_would_end_the_same(tmp_path: Path) -> None:
    assert launched(tmp_path, "preemptible.sh", code=2)[0] == 2
    code, commands = launched(tmp_path, "preemptible.sh", code=1, TRIES="3")
    assert (code, len(commands)) == (1, 3)


def test_slurm_is_asked_to_queue_again_and_to_say_when_it_ends() -> None:
    text = (LAUNCH / "slurm.sbatch").read_text()
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert {"--requeue", "--open-mode=append", "--signal=B:TERM@300", "--ntasks-per-node=1"} <= set(asked)
