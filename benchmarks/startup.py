"""What starting costs: `hvdsl check` and `hvdsl compile` of the largest shipped spec, each as a process of its own.

    python benchmarks/startup.py [--runs 5] [--spec vdvae_ffhq1024]

Prints the least wall time and CPU time of several runs (the first one writes bytecode and is not counted), the peak
memory, and whether torch was imported. The aims: check under 0.7 s, compile under 2 s, both under 200 MB without torch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Runs in the measured process: what it used in all, start of the interpreter included.
MEASURED = """
import json, resource, sys, time
from hvdsl.cli.main import main
code = main(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
figures = {"code": code, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss, "torch": "torch" in sys.modules}
figures["wall"] = time.time() - float(sys.argv[1])
print(json.dumps(figures), file=sys.stderr)
"""


def measure(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run the command line once; return exit code, wall and CPU seconds, peak memory in kB, and whether torch came."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, repr(time.time()), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
    if figures["code"] != 0:
        raise SystemExit(f"`hvdsl {' '.join(arguments)}` failed:\n{done.stderr}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--spec", default="vdvae_ffhq1024")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": folder}
        print(f"{args.spec}, least of {args.runs} runs")
        for command in (["check", args.spec], ["compile", args.spec, "-o", str(Path(folder) / "model.py")]):
            measure(command, environment)
            runs = [measure(command, environment) for _ in range(args.runs)]
            wall, cpu, peak = (min(run[key] for run in runs) for key in ("wall", "cpu", "peak"))
            torch = "imported" if any(run["torch"] for run in runs) else "not imported"
            print(f"{command[0]:8} {wall:5.2f} s wall  {cpu:5.2f} s CPU  {peak / 1024:4.0f} MB  torch {torch}")


if __name__ == "__main__":
    main()
