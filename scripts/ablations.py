"""Train the ablations that the VDVAE paper reports, at the size of the digits that ship, and keep what they give.

    python scripts/ablations.py                      # what is missing of every study's three seeds
    python scripts/ablations.py --again              # all of it: about twenty minutes of one core
    python scripts/ablations.py collapse --seeds 5
    python scripts/ablations.py --tables             # train nothing; print the tables of what is kept

Each variation is a variant or a `let` of a spec in scripts/ablations/. Test images, one sample each; numbers go to
docs/results/ablations.json, from which `scripts/curves.py` draws and docs/results.md has its tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvdsl

ROOT = Path(__file__).parents[1]
SPECS = ROOT / "scripts" / "ablations"
KEPT = ROOT / "docs" / "results" / "ablations.json"


@dataclass(frozen=True)
class Variation:
    """One row of a table: what it is called, and the lines of spec that make it."""

    title: str
    variant: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)


STUDIES = {
    "stochastic_depth": (
        Variation("8 deep"),
        Variation("4 deep, 2 side by side", "depth_4"),
        Variation("2 deep, 4 side by side", "depth_2"),
    ),
    "residual_scaling": (
        Variation("8 layers, scaled"),
        Variation("8 layers, not scaled", "unscaled"),
        Variation("32 layers, scaled", overrides={"depth": 4}),
        Variation("32 layers, not scaled", "unscaled", {"depth": 4}),
    ),
    "collapse": (
        Variation("nearest, residual"),
        Variation("learned upsampling", "learned_upsampling"),
        Variation("no residual", "no_residual"),
    ),
}


def train(study: str, variation: Variation, seed: int, folder: Path) -> dict[str, Any]:
    """Train one variation from one seed and measure it on the test images."""
    spec = SPECS / f"{study}.hv"
    name = f"{spec}@{variation.variant}" if variation.variant else str(spec)
    started = time.process_time()
    summary = hvdsl.train(name, overrides=variation.overrides, seed=seed, out=folder / "run", device="cpu", threads=1)
    steps = [record for record in summary.run.metrics() if record["event"] == "train"]
    trained = hvdsl.load(summary.run, device="cpu")
    measured = trained.evaluate(split="test").as_json()
    rates: dict[str, float] = {}
    for group, rate in zip(trained.model.LATENTS, measured["rate_per_group"], strict=True):
        side = f"{group.shape[-1]}x{group.shape[-1]}"
        rates[side] = rates.get(side, 0.0) + rate
    return {
        "study": study,
        "variation": variation.title,
        "seed": seed,
        "bits_per_dim": measured["bits_per_dim"],
        "skipped_steps": steps[-1]["skipped_steps"],
        "steps": steps[-1]["step"],
        "rates": rates,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f} ± {deviation:.3f}"


def table(study: str, kept: list[dict[str, Any]]) -> str:
    """The Markdown table of a study, in the order in which it lists its variations."""
    of_study = [record for record in kept if record["study"] == study]
    sides = sorted({side for record in of_study for side in record["rates"]}, key=lambda side: int(side.split("x")[0]))
    heads = ["", "bits/dim", "skipped steps", *(f"nats at {side}" for side in sides)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for variation in STUDIES[study]:
        rows = [record for record in of_study if record["variation"] == variation.title]
        if rows:
            cells = [variation.title, spread([row["bits_per_dim"] for row in rows])]
            cells.append(" ".join(f"{row['skipped_steps']}" for row in rows) + f" of {rows[0]['steps']}")
            cells += [f"{statistics.fmean([row['rates'][side] for row in rows]):.2f}" for side in sides]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="which (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--again", action="store_true", help="train what is kept already, too")
    parser.add_argument("--tables", action="store_true", help="train nothing, print what is kept")
    args = parser.parse_args()
    kept: list[dict[str, Any]] = json.loads(KEPT.read_text("utf-8")) if KEPT.is_file() else []
    studies = args.studies or list(STUDIES)
    for study in [] if args.tables else studies:
        if args.again:
            kept = [record for record in kept if record["study"] != study]
        there = {(record["study"], record["variation"], record["seed"]) for record in kept}
        for seed in range(args.seeds):
            for variation in STUDIES[study]:
                if (study, variation.title, seed) in there:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    record = train(study, variation, seed, Path(folder))
                kept.append(record)
                print(json.dumps(record), file=sys.stderr, flush=True)
                KEPT.parent.mkdir(exist_ok=True)
                KEPT.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    for study in studies:
        print(f"\n**{study}**\n\n{table(study, kept)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
