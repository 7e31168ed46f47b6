"""Draw the charts of docs/results.md: curves of runs from their metrics.jsonl, and the bars of an ablation.

    python scripts/curves.py run runs/digits bits_per_dim -o docs/images/digits_curve.svg
    python scripts/curves.py priors runs/vqvae2_mnist -o docs/images/vqvae2_mnist_curve.svg
    python scripts/curves.py ablation collapse -o docs/images/ablation_collapse.svg

Needs matplotlib, which the extra `docs` brings.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
BOUND = "negative_importance_bound_nats_per_dim"  # what validation measures where `evaluate` has several samples
NAMES = {
    "bits_per_dim": "bits/dim",
    "negative_elbo_nats_per_dim": "negative ELBO, nats per dimension",
    BOUND: "negative bound, nats per dimension",
}
COLOURS = ("#c9772b", "#4a78b5", "#3f9142", "#8a8f99")
plt.rcParams.update(
    {
        "svg.hashsalt": "hvdsl",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e8ec",
        "axes.axisbelow": True,
    }
)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def curve(run: Path, name: str, dims: int, after: float, output: Path) -> None:
    """Training and validation against the step; the axis leaves out what came before `after` of the run.

    With `dims` above 1, what is logged per dimension is drawn per image.
    """
    figure, axes = plt.subplots(figsize=(6.4, 2.9))
    rows = records(run)
    steps = [(row["step"], row[name]) for row in rows if row["event"] == "train" and name in row]
    first = steps[-1][0] * after
    checks = [row for row in rows if row["event"] == "validation"]
    key = name if checks and name in checks[0] else BOUND
    label = "validation" if key == name else "validation, importance-weighted"
    for points, title, style, colour in (
        (steps, "training", "-", COLOURS[3]),
        ([(row["step"], row[key]) for row in checks], label, "o-", COLOURS[1]),
    ):
        drawn = [(step, value * dims) for step, value in points if step >= first]
        if drawn:
            axes.plot(*zip(*drawn, strict=True), style, label=title, color=colour, markersize=4, linewidth=1.4)
    axes.set(xlabel="step", ylabel=NAMES.get(name, name).replace("dimension", "dimension" if dims == 1 else "image"))
    axes.legend(frameon=False)
    save(figure, output)


def priors(run: Path, output: Path) -> None:
    """Nats per code of each prior of a run, of training and of validation, against the epoch."""
    figure, axes = plt.subplots(figsize=(6.4, 2.9))
    for folder, colour in zip(sorted((run / "priors").iterdir(), reverse=True), COLOURS, strict=False):
        rows = records(folder)
        epochs = {row["step"]: row["epoch"] for row in rows if "epoch" in row}
        per_step = max(epochs.values()) / max(epochs)
        for event, style, label in (("train", "-", None), ("validation", "o--", folder.name)):
            drawn = [(row["step"] * per_step, row["nats_per_code"]) for row in rows if row["event"] == event]
            drawn = [(epoch, nats) for epoch, nats in drawn if epoch >= 0.2]
            axes.plot(*zip(*drawn, strict=True), style, label=label, color=colour, markersize=4, linewidth=1.4)
    axes.set(xlabel="epoch", ylabel="nats per code")
    axes.legend(title="training, and validation (dots)", frameon=False)
    save(figure, output)


def ablation(study: str, output: Path) -> None:
    """Nats of each resolution, bars with the standard deviation over the seeds, a group of bars for each variation."""
    kept = json.loads((ROOT / "docs" / "results" / "ablations.json").read_text("utf-8"))
    rows = [row for row in kept if row["study"] == study]
    titles = list(dict.fromkeys(row["variation"] for row in rows))
    sides = list(rows[0]["rates"])
    figure, axes = plt.subplots(figsize=(6.4, 2.9))
    for i, side in enumerate(sides):
        values = [[row["rates"][side] for row in rows if row["variation"] == title] for title in titles]
        places = [place + (i - (len(sides) - 1) / 2) * 0.26 for place in range(len(titles))]
        means = [statistics.fmean(value) for value in values]
        errors = [  # standard deviation over the seeds
            statistics.stdev(value) if len(value) > 1 else 0.0 for value in values
        ]
        axes.bar(places, means, 0.24, yerr=errors, capsize=3, label=side, color=COLOURS[i], ecolor="#555")
    axes.set_xticks(range(len(titles)), titles)
    axes.set(ylabel="rate, nats per image")
    axes.grid(visible=False, axis="x")
    axes.legend(title="latents at", frameon=False)
    save(figure, output)


def save(figure: Any, output: Path) -> None:
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Date": None})
    plt.close(figure)
    print(f"wrote {output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_run = kinds.add_parser("run", help="the curve of a run")
    of_run.add_argument("run", type=Path)
    of_run.add_argument("name", help="what is drawn, as metrics.jsonl calls it")
    of_run.add_argument("--dims", type=int, default=1, help="draw what is logged per dimension per image of so many")
    of_run.add_argument("--after", type=float, default=0.05, help="leave out this part of the run (default: 0.05)")
    of_priors = kinds.add_parser("priors", help="the curves of the priors of a two-stage run")
    of_priors.add_argument("run", type=Path)
    of_study = kinds.add_parser("ablation", help="the rates of an ablation by resolution")
    of_study.add_argument("study")
    for kind in (of_run, of_priors, of_study):
        kind.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    if args.kind == "run":
        curve(args.run, args.name, args.dims, args.after, args.output)
    elif args.kind == "priors":
        priors(args.run, args.output)
    else:
        ablation(args.study, args.output)


if __name__ == "__main__":
    main()
