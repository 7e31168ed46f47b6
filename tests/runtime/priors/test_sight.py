"""What `hvdsl info` says that a prior sees, against gradients of the emitted prior."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hvdsl.compiler.analysis.causality import seen_positions
from hvdsl.compiler.analysis.summary import prior_summary
from hvdsl.compiler.emit import emit_priors
from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import check
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import as_prior

NARROW = ["hidden=16", "codes=4"]


@pytest.mark.parametrize(
    ("spec", "narrow"),
    [
        ("vqvae2_photos", ["codes=4"]),
        pytest.param("vqvae2_256", NARROW, marks=pytest.mark.slow),
        pytest.param("vqvae2_ffhq1024", [*NARROW, "units_top=4", "units=4"], marks=pytest.mark.slow),
    ],
)
def test_shipped_priors_see_what_they_are_said_to_see(
    spec: str, narrow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = check(spec, narrow)
    emitted = load_module(emit_priors(model), f"{spec}_seen")
    maps: list[Tensor] = []
    one_hot = emitted.one_hot
    monkeypatch.setattr(
        emitted, "one_hot", lambda codes, k, like: maps.append(one_hot(codes, k, like).requires_grad_()) or maps[-1]
    )
    for latent, graph in model.priors.items():
        prior = emitted.PRIORS[latent]().double().eval()
        initialize(prior, 0)
        maps.clear()
        seen = prior_summary(graph).sight
        own, *given = (torch.zeros(1, *m.grid, dtype=torch.long) for m in (prior.CODES, *as_prior(prior).CONDITIONS))
        prior(own, *given)[(0, slice(None), *seen.position)].sum().backward()
        reached = []
        for map in maps:
            assert map.grad is not None
            reached.append((map.grad[0] != 0).any(0).flatten())
        said = seen_positions(graph, seen.position).values()
        for bits, found in zip(said, reached, strict=True):
            assert [bool(bits >> place & 1) for place in range(found.numel())] == found.tolist()
        earlier = reached[0][: seen.earlier]
        missed = (~earlier).nonzero().flatten().tolist()
        assert int(earlier.sum()) == seen.seen and not reached[0][seen.earlier :].any()
        assert seen.hole == (divmod(missed[-1], prior.CODES.grid[1]) if missed else None)
