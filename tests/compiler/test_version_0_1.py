"""Every spec of version 0.1 checks as it did: its warnings and counts are in `outcomes.txt`.

What today's spec or library says otherwise is kept beside it as it was; the rest are the shipped texts. A line is a
spec's name, its trainable parameters (its likelihood's counted, as version 0.1 did not), its latent groups, those of
its priors, and the codes of its warnings.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl import specs
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.source import Source

HERE = Path(__file__).parent / "version_0_1"
OUTCOMES = dict(line.split(" ", 1) for line in (HERE / "outcomes.txt").read_text(encoding="utf-8").splitlines())


def outcome(name: str) -> str:
    kept = HERE / f"{name}.hv"
    text = kept.read_text(encoding="utf-8") if kept.exists() else specs.text(name)
    model = check(Source(f"{name}.hv", text), base=HERE)  # whose libraries are those of version 0.1
    counts = [model.graph.parameter_count(), len(model.graph.latents)]
    counts += [prior.parameter_count() for prior in model.priors.values()]
    return " ".join([*map(str, counts), *(d.code.id for d in model.warnings)])


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_spec_of_version_0_1_checks_as_it_did(name: str) -> None:
    assert outcome(name) == OUTCOMES[name]
