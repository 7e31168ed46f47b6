"""What a run of an earlier version keeps as its spec trains as it did."""

from __future__ import annotations

import pytest

from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.assembly.upgrade import upgraded
from hvdsl.compiler.settings import L2
from hvdsl.grammar import read_text
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import SMALL


@pytest.mark.parametrize(
    ("written", "kind", "decay"),
    [
        ("adam(lr = 1e-3, weight_decay = 0.01)", "adamw", 0.01),
        ("adam(1e-3, (0.9, 0.9), 1e-8, 0.01)", "adamw", 0.01),
        ("plan", "adamw", 0.02),
        ("adam(lr = 1e-3, weight_decay = l2(0.01))", "adam", L2(weight=0.01)),
        ("adamw(lr = 1e-3, weight_decay = l2(0.01))", "adam", L2(weight=0.01)),
        ("adamax(lr = 1e-3, weight_decay = 0.01)", "adamax", 0.01),
        ("adam(lr = 1e-3)", "adam", 0.0),
    ],
)
def test_adam_of_version_0_1_keeps_its_decay(written: str, kind: str, decay: float | L2) -> None:
    text = SMALL.replace("adam(lr = 1e-3)", written) + "let plan = adam(1e-3, weight_decay = d)\nlet d = 0.02\n"
    train = assemble(upgraded(read_text(Source("resolved.hv", text)))).settings.train
    assert train is not None
    assert (train.optimizer.kind, train.optimizer.lr, train.optimizer.weight_decay) == (kind, 1e-3, decay)


@pytest.mark.parametrize(
    "written", ["adam(lr = 1e-3, weight_decay = 0.01)", "adamw(lr = 1e-3, weight_decay = l2(0.01))"]
)
def test_a_new_spec_says_which_decay_it_means(written: str) -> None:
    with pytest.raises(SpecError) as caught:
        assemble(Source("small.hv", SMALL.replace("adam(lr = 1e-3)", written)))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code.id == "HV0602"
    assert "adamw(weight_decay = 0.01)" in diagnostic.help and "adam(weight_decay = l2(0.01))" in diagnostic.help
