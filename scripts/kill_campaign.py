"""Kill a run at random instants until it is done, and compare it with one that nothing happened to.

    python scripts/kill_campaign.py --kills 200 --seed 0

Each start is `hvdsl train SPEC --resume auto`, killed with SIGKILL after a random time, so that kills fall into making
the folder, steps, checkpoints and validation. Every weight, moment and average must be the same bit for bit, and so
must the log but for its times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

SETTINGS = ("steps=400", "log_every=10", "checkpoint_every=7", "evaluate_every=20", "batch=8", "ema=0.99")
TIMES = {"images_per_second", "seconds_per_step", "peak_memory_bytes"}


def start(spec: str, run: Path) -> subprocess.Popen[bytes]:
    overrides = [word for setting in SETTINGS for word in ("--set", f"train.{setting}")]
    command = [sys.executable, "-m", "hvdsl", "train", spec, "--out", str(run), "--resume", "auto", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--threads", "1", *overrides], env=environment, stdout=subprocess.DEVNULL)


def log(run: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def differences(a: Path, b: Path) -> list[str]:
    found = [] if log(a) == log(b) else ["metrics.jsonl"]
    step = max(int(path.name) for path in (a / "checkpoints").iterdir() if path.name.isdigit())
    for part in ("model", "ema", "optimizer"):
        one, other = (load_file(run / "checkpoints" / str(step) / f"{part}.safetensors") for run in (a, b))
        found += [f"{part}: {name}" for name in one if not torch.equal(one[name], other[name])]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spec", default="vdvae_digits")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds until a kill, at most")
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        straight = Path(place) / "straight"
        if start(args.spec, straight).wait() != 0:
            return 1
        kills, runs = 0, 0
        while kills < args.kills:
            run = Path(place) / f"killed-{runs}"
            while True:
                process = start(args.spec, run)
                wait = moments.uniform(0.0, args.longest)
                began = time.monotonic()
                while process.poll() is None and time.monotonic() - began < wait:
                    time.sleep(0.01)
                if process.poll() is not None or kills >= args.kills:
                    break
                process.kill()
                process.wait()
                kills += 1
            if process.wait() != 0:
                print(f"run {runs} ended with {process.returncode} after {kills} kills")
                return 1
            wrong = differences(straight, run)
            print(f"run {runs}: {kills} kills so far, differs in: {wrong[:5] or None}")
            if wrong:
                return 1
            runs += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
