"""Compare N steps with k steps, a resume and N - k steps, bit for bit: families, precisions, one process and two.

    python scripts/resume_matrix.py [--family NAME …] [--precision fp32 bf16 fp16] [--ranks 1 2]

Each run has a checkpoint in the middle and at the end; a copy of it goes on from the middle. All weights, moments,
averages and code counts of the last checkpoint must be the same, and the log but for its times.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from kill_campaign import CODES, FOREVER, LADDER, MACHINE, differences, ended, prepare, start

MIDDLE, END = 4, 9
PRECISIONS = {"fp16": "fp16(initial_scale = 256)"}  # at a larger one the first steps are skipped, and not saved
KINDS = {
    "codes, by gradient": ("codebook(32, 6, update = gradient)", "gradient = rotation"),
    "codes, residual": ("codebook(16, 6, depth = 3, expire = 0.1)", ""),
    "codes, cosine": ("codebook(32, 6, distance = cosine)", ""),
}
"""Codebooks beside that of the campaign, with arguments of their posterior."""
SHIPPED: dict[str, tuple[str, ...]] = {
    "vdvae_digits": ("width=8", "zdim=2"),
    "vdvae_digits_conditional": ("w=8",),
    "nvae_digits": ("c=4", "zdim=2"),
    "vdvae_digits, importance-weighted": ("width=8", "zdim=2", "objective.bound=iwae", "objective.samples=3"),
    "vdvae_digits, recomputed in parts": ("width=8", "zdim=2", "train.checkpointing=group", "train.accumulate=2"),
}


def families(place: Path) -> dict[str, tuple[str, list[str]]]:
    """Specs and overrides, by name; the written ones in `place`."""
    texts = {"ladder with batch norm": LADDER, "codes and their prior": CODES}
    for name, (codebook, argument) in KINDS.items():
        text = CODES.replace("codebook(32, 6, start = kmeans, expire = 0.1)", codebook)
        text = text.partition("use ")[0]
        texts[name] = text.replace("conv(1x1, 6))", f"conv(1x1, 6), {argument})") if argument else text
    found: dict[str, tuple[str, list[str]]] = {}
    for name, text in texts.items():
        spec = place / f"{name.replace(' ', '_').replace(',', '')}.hv"
        spec.write_text(text)
        stages = ["train", "train.z"] if "train z" in text else ["train"]
        settings = [f"{stage}.{setting}" for stage in stages for setting in ("evaluate_every=5", "log_every=3")]
        found[name] = (str(spec), settings)
    return found | {name: (name.partition(",")[0], list(overrides)) for name, overrides in SHIPPED.items()}


def together(arguments: list[str], place: Path, ranks: int) -> str:
    """Run a command in so many processes; what the first of them said that failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    outputs = [place / f"output-{rank}" for rank in range(ranks)]
    where = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    places = [where | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {} for rank in range(ranks)]
    children = [start(arguments, output, place) for output, place in zip(outputs, places, strict=True)]
    codes = [ended(child, FOREVER) for child in children]
    failed = [output.read_text()[-600:] for code, output in zip(codes, outputs, strict=True) if code != 0]
    return failed[0] if failed else ""


def compared(spec: str, overrides: list[str], precision: str, ranks: int, place: Path) -> str:
    """What is wrong; nothing where the two runs are equal."""
    straight, resumed = place / "straight", place / "resumed"
    steps = [
        f"--steps={END}",
        "--batch=8",
        f"--set=train.precision={PRECISIONS.get(precision, precision)}",
        *(f"--set={o}" for o in overrides),
    ]
    every = [f"--set=train.checkpoint_every={MIDDLE}", "--set=train.keep=9"]
    if "train.z.log_every=3" in overrides:
        every += [f"--set=train.z.checkpoint_every={MIDDLE}", "--set=train.z.keep=9"]
    begin = ["train", spec, "--out", str(straight), "--stage", "all", *MACHINE, *steps, *every]
    if failure := together(begin, place, ranks):
        return failure
    shutil.copytree(straight, resumed)
    again = ["train", "--resume", "--checkpoint", str(MIDDLE), "--out", str(resumed), "--stage", "all", *MACHINE]
    return together(again, place, ranks) or ", ".join(differences(straight, resumed)[:3])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="*")
    parser.add_argument("--precision", nargs="*", default=["fp32", "bf16", "fp16"])
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2])
    args = parser.parse_args()
    began, count, wrong = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        found = families(Path(temporary))
        for name, (spec, overrides) in found.items():
            if args.family and name not in args.family:
                continue
            prepare(spec)
            for precision in args.precision:
                for ranks in args.ranks:
                    place = Path(temporary) / f"{count}"
                    place.mkdir()
                    failure = compared(spec, overrides, precision, ranks, place)
                    print(f"{name}, {precision}, {ranks} processes: {failure or 'equal'}", flush=True)
                    count, wrong = count + 1, wrong + bool(failure)
                    shutil.rmtree(place)
    print(f"{count} pairs of runs, {wrong} not equal, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
