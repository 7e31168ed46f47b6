"""End runs at random instants until they are done, and compare each with one that nothing happened to.

    python scripts/kill_campaign.py --spec ladder --kills 120 --seed 0
    python scripts/kill_campaign.py --spec codes --signal TERM --kills 30

Each start is `hvdsl train SPEC --stage all --resume auto` in a process of its own, ended by a signal after a random
part of its time: while the folder is made, in steps, checkpoints, validation, between the stages of a model of codes.
Every file of the last checkpoint of every stage must be the same bit for bit, and so must every log but for its times.
A process that SIGTERM, SIGHUP or SIGINT ends says that it stopped and how to go on, and exits with 128 and the signal's
number.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hvdsl.cli.main import main as hvdsl_command

LADDER = """hv 1
model ladder
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1, holdout = 60 }
cell block { residual { gelu -> conv(3x3, 8, bias = no) -> batch_norm -> gelu -> conv(1x1, channels) } }
group layer {
  z ~ normal(conv(1x1, 8)) posterior normal(concat(x, skip) -> conv(1x1, 8))
  x + (z -> conv(1x1, 8)) -> block
}
encoder { 8: conv(3x3, 8) -> block -> tap -> avg_pool(2)
  4: block -> tap }
decoder { 4: learned(zeros, 8) -> layer * 2
  8: nearest(2) -> layer -> conv(1x1, logits) }
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 400, batch = 16, optimizer = adam(lr = 3e-3), ema = 0.99, log_every = 10, checkpoint_every = 7
  evaluate_every = 50, sample_every = 100, keep = best(bits_per_dim) }
"""
CODES = """hv 1
model codes
data photos { shape = 3x16x16, bits = 8, input = v / 127.5 - 1 }
encoder { 16: conv(4x4, 16, stride = 2) -> relu
  8: conv(4x4, 16, stride = 2)
  4: relu -> tap }
decoder { 4: { z ~ codebook(32, 6, start = kmeans, expire = 0.1) posterior nearest_code(skip -> conv(1x1, 6))
    z -> conv(3x3, 16) -> relu }
  8: upconv(4x4, 16) -> relu
  16: upconv(4x4, logits) }
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
train { steps = 120, batch = 8, log_every = 10, checkpoint_every = 7, evaluate_every = 40, optimizer = adam(lr = 3e-3) }
use "pixelsnail.hv"
prior z { stem(16, 3) -> plain(1, inner = 8, k = 3) -> elu -> conv(1x1, 32) }
train z { steps = 120, batch = 16, log_every = 10, checkpoint_every = 7, evaluate_every = 40, ema = 0.9
  optimizer = adam(lr = 2e-3) }
"""
SPECS = {"ladder": LADDER, "codes": CODES}
TIMES = {"images_per_second", "seconds_per_step", "peak_memory_bytes"}
"""What no two runs have in common."""
FOREVER = 3600.0
MACHINE = ("--device", "cpu", "--threads", "1", "--sink", "none")


def prepare(spec: Path | str) -> None:
    """Import and compute beforehand what every process needs; no thread may have been started when one is forked."""
    import hvdsl.runtime.priors.stage
    import hvdsl.workflows.train  # noqa: F401

    if hvdsl_command(["compile", str(spec), "-o", os.devnull]) != 0:
        raise SystemExit(f"{spec} is no spec")


def start(arguments: list[str], output: Path, variables: Mapping[str, str] | None = None) -> int:
    """Begin a command in a process of its own, with these environment variables; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started this script
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= variables or {}
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = hvdsl_command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def training(spec: Path, run: Path) -> list[str]:
    """The command that begins a run or goes on with it."""
    return ["train", str(spec), "--out", str(run), "--stage", "all", "--resume", "auto", *MACHINE]


def ended(child: int, seconds: float, extra: float = 0.0) -> int | None:
    """Wait until the process has used so many seconds of processor time, and a moment of the clock more.

    Processor time, since how far a process has come by the clock depends on what else the machine does.

    Returns:
        The exit code, or minus the signal that it died of, or None if it goes on.
    """
    limit = math.inf
    while time.monotonic() < limit:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if limit == math.inf and spent(child) >= seconds:
            limit = time.monotonic() + extra
        time.sleep(0.005)
    return None


def spent(child: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stages(run: Path) -> dict[str, Path]:
    """The folders of a run that have checkpoints: its own, and those of its priors."""
    return {str(place.relative_to(run)): place for place in (run, *run.glob("priors/*"))}


def where(run: Path) -> str:
    """What a process was at when it ended, as far as the folder tells."""
    if not run.exists():
        return "making the folder" if any(run.parent.glob(f".{run.name}.*")) else "before there was a folder"
    if any(run.rglob(".*.new-*")) or any(run.rglob(".*.tmp")) or any(run.rglob(".*.old")):
        return "within a write"
    if not any(run.glob("checkpoints/*/manifest.json")):
        return "before the first checkpoint"
    if any(run.glob("priors/*/checkpoints/*")):
        return "in a prior"
    return "between the stages" if (run / "codes").exists() or (run / "priors").exists() else "in training"


def log(place: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def digests(place: Path) -> dict[str, str]:
    """Of every file of tensors in the newest checkpoint."""
    step = max(int(path.name) for path in (place / "checkpoints").iterdir() if path.name.isdigit())
    files = (place / "checkpoints" / str(step)).glob("*.safetensors")
    return {f"{step}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differences(straight: Path, run: Path) -> list[str]:
    """What of a finished run is not as in the one that nothing happened to."""
    wrong = [] if stages(straight).keys() == stages(run).keys() else ["stages"]
    for name, place in stages(straight).items():
        other = run / name
        wrong += [] if log(place) == log(other) else [f"{name}/metrics.jsonl"]
        ours, theirs = digests(place), digests(other)
        wrong += [
            f"{name}: {file}" for file in sorted(ours.keys() | theirs.keys()) if ours.get(file) != theirs.get(file)
        ]
        wrong += [f"{name}: left {path}" for path in other.rglob(".*") if path.name.endswith((".tmp", ".old"))]
    return wrong


def stopped_well(code: int, number: signal.Signals, output: str) -> bool:
    """Whether a process ended as it should by that signal."""
    if number == signal.SIGKILL:
        return code == -signal.SIGKILL
    if code == 128 + number:
        return "stopped" in output and ("goes on" in output or "begins anew" in output)
    if number == signal.SIGINT and code == 130:
        return "interrupted" in output
    return code == -number and not output  # it came while modules were still imported


def campaign(spec: Path, place: Path, number: signal.Signals, count: int, moments: random.Random, share: float) -> bool:
    """Send a signal so many times; whether all was as it should be."""
    straight, output = place / "straight", place / "output"
    before = os.times()
    if (code := ended(start(training(spec, straight), output), FOREVER)) != 0:
        print(f"the run that nothing happens to ended with {code}: {output.read_text()[-500:]}")
        return False
    after = os.times()
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    longest = share * whole
    print(f"a whole run takes {whole:.1f} s of processor time; signals come within {longest:.1f} s", flush=True)
    sent, runs, places, codes = 0, 0, Counter[str](), Counter[int]()
    while sent < count:
        run = place / f"run-{runs}"
        while True:
            child = start(training(spec, run), output)
            moment = moments.uniform(0.0, longest) if sent < count else FOREVER
            code = ended(child, moment, moments.uniform(0.0, 0.05))
            if code is not None:
                break
            os.kill(child, number)
            code = ended(child, FOREVER)
            sent += 1
            if code == 0:  # it came when all was done
                break
            if code is None or not stopped_well(code, number, output.read_text()):
                print(f"run {runs}: {number.name} gave {code}: {output.read_text()[-1500:]}")
                return False
            places[where(run)] += 1
            codes[code] += 1
        if code != 0:
            print(f"run {runs} ended by itself with {code} after {sent} signals: {output.read_text()[-1500:]}")
            return False
        wrong = differences(straight, run)
        print(f"run {runs}: {sent} signals so far, differs in: {wrong or None}", flush=True)
        if wrong:
            return False
        runs += 1
    print(
        f"{sent} times {number.name}, {runs} runs finished and equal; exit codes {dict(codes)}; by place {dict(places)}"
    )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spec", default="ladder", help=f"a file, or {' or '.join(SPECS)}")
    parser.add_argument("--signal", default="KILL", choices=("KILL", "TERM", "HUP", "INT"))
    parser.add_argument("--share", type=float, default=0.3, help="the latest moment, as a part of a whole run")
    parser.add_argument("--keep", type=Path, help="where runs are made and kept (default: a folder that is removed)")
    args = parser.parse_args()
    number = signal.Signals[f"SIG{args.signal}"]
    with tempfile.TemporaryDirectory() as temporary:
        place = args.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        spec = Path(args.spec)
        if args.spec in SPECS:
            spec = place / f"{args.spec}.hv"
            spec.write_text(SPECS[args.spec])
        prepare(spec)
        return 0 if campaign(spec, place, number, args.kills, random.Random(args.seed), args.share) else 1


if __name__ == "__main__":
    sys.exit(main())
