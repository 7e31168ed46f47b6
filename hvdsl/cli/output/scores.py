"""Scores of images, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hvdsl.workflows.score import Roc, Scores


def lines(scored: Sequence[Scores], curves: Mapping[str, Roc]) -> Iterator[str]:
    """Say the mean of each set and its least likely images, and how well the two are told apart."""
    for scores in scored:
        mean, nats = scores.bits_per_dim.mean().item(), scores.negative_elbo.mean().item()
        ratio = "" if scores.llr is None else f", LLR>{scores.k} {scores.llr.mean().item():.2f} nats"
        yield f"{mean:.4f} bits/dim, {nats:.2f} nats/image{ratio}  ({scores.images})"
        yield "  least likely: " + ", ".join(f"{name} {bits:.4f}" for name, bits in scores.highest())
    for name, curve in curves.items():
        yield f"AUROC {curve.auroc:.4f}  by {name}"


def as_json(scored: Sequence[Scores], curves: Mapping[str, Roc]) -> dict[str, Any]:
    """For `score --json`."""
    sets = [
        {"images": s.images, "names": list(s.names), **{name: c.tolist() for name, c in s.columns.items()}}
        for s in scored
    ]
    return {"sets": sets, "auroc": {name: curve.auroc for name, curve in curves.items()}}
