"""Shared instances in emitted code: one module for all uses, states that are carried, and what is refused."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

import hvdsl
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Source as From
from hvdsl.runtime.latents import Traversal
from tests.compiler.emit.emit_specs import SHARING, compiled


def test_a_shared_instance_is_one_module_that_is_handed_to_where_it_is_used() -> None:
    done = compiled("sharing")
    source = done.source
    assert "self.mix = SharedMix()" in source and source.count("SharedMix()") == 1
    assert "def forward(self, x: Tensor, mix: nn.Module) -> Tensor:" in source
    assert "x = self.step(x, skip_8, mix, latents[2 + i : 3 + i])" in source
    assert "for _ in range(3):\n            h = self.f(h)" in source
    module = done.build()
    assert sum(p.numel() for p in module.parameters()) == done.model.graph.parameter_count()
    assert len(module.LATENTS) == 5  # a latent for each use


def test_a_shared_instance_declared_in_a_repeat_is_one_for_each_turn() -> None:
    module = compiled("shared_in_turns").build()
    weights = [n for n, _ in module.named_parameters() if n.startswith("encoder.r8.f.") and n.endswith("weight")]
    assert weights == [f"encoder.r8.f.{i}.block.0.conv.0.weight" for i in range(2)]
    assert compiled("shared_in_turns").model.graph.parameter_count() == sum(p.numel() for p in module.parameters())


def test_latents_of_a_shared_group_are_told_apart_by_the_place_of_its_use() -> None:
    paths = [group.path for group in compiled("sharing").build().LATENTS]
    assert paths == [f"decoder.r4.step.{i}.level.0.z" for i in range(2)] + [
        f"decoder.r8.step.{i}.level.0.z" for i in range(3)
    ]


def test_a_shared_instance_that_differs_from_use_to_use_is_refused() -> None:
    text = SHARING.replace("conv(1x1, width) -> leaky_relu(0.1)", "{ avg_pool(res // 2) -> nearest(res // 2) }")
    with pytest.raises(SpecError) as caught:
        hvdsl.compile(Source("sharing.hv", text))
    assert [d.code.id for d in caught.value.diagnostics] == ["HV0805"]


RECURRENT = """hv 1
model recurrent
data digits { shape = 1x8x8, bits = 4, input = v / 15 }
group step {
  h, canvas = x
  z ~ normal(standard(2)) posterior normal(concat(skip, h) -> conv(1x1, 4))
  h = concat(h, z) -> conv(1x1, 3) -> tanh
  h, canvas + (h -> conv(1x1, 1))
}
encoder { 8: avg_pool(2) -> conv(1x1, 3) -> tap }
decoder {
  4: { shared f = step; _, canvas = (learned(zeros, 3), learned(zeros, 1)) -> f * 3; canvas }
  8: nearest(2)
}
likelihood bernoulli
objective { unit = nats_per_image }
"""


def test_a_shared_step_over_a_state_is_a_loop_though_nothing_reads_the_last_state() -> None:
    """As in DRAW (Gregor et al. 2015): the last of the steps makes a state, too, for it is the same module."""
    done = hvdsl.compile(Source("recurrent.hv", RECURRENT), level=0)
    assert "for i in range(2):\n            x, h = self.r4.f(x, h, skip_4, latents[i : 1 + i])" in done.source
    assert "_, canvas = self.r4.f(x, h, skip_4, latents[2:3])" in done.source
    walk = Traversal.infer(done.build().LATENTS, 2, SampleNoise(0, [0, 1]))  # type: ignore[arg-type]
    done.build()(torch.rand(2, 1, 8, 8), walk)
    assert walk.rates.shape == (3, 2)


REMEMBERING = """hv 1
model remembering
data digits { shape = 1x8x8, bits = 4, input = v / 15 }
group step {
  e, h, canvas = x
  e = concat(skip, h, e) -> conv(1x1, 3) -> tanh
  z ~ normal(standard(2)) posterior normal(e -> conv(1x1, 4))
  h = concat(h, z) -> conv(1x1, 3) -> tanh
  e, h, canvas + (h -> conv(1x1, 1))
}
encoder { 8: conv(1x1, 2) -> tap -> avg_pool(2) -> conv(1x1, 3) -> tap }
decoder {
  4: { shared f = step; _, _, canvas = (learned(zeros, 3), learned(zeros, 3), learned(zeros, 1)) -> f * 3; canvas }
  8: {
    nearest(2)
    last ~ normal(standard(1)) posterior normal(skip)
    x + last
  }
}
likelihood bernoulli
objective { unit = nats_per_image }
"""


def test_a_shared_step_may_carry_a_state_that_posteriors_alone_read() -> None:
    """The state of DRAW's encoder: it is computed while any later posterior is, and never when images are drawn."""
    shared = hvdsl.build(Source("one.hv", REMEMBERING), seed=1)
    several = hvdsl.build(Source("each.hv", REMEMBERING.replace("shared f = step; ", "").replace("f * 3", "step * 3")))
    weights = shared.state_dict()
    with torch.no_grad():
        for name, weight in several.named_parameters():
            weight.copy_(weights[re.sub(r"r4\.canvas\.step\.\d", "r4.f.step.0", name)])
    x = torch.rand(2, 1, 8, 8)
    for sources in itertools.product((From.POSTERIOR_MEAN, From.PRIOR), repeat=4):
        walks = [Traversal(m.LATENTS, 2, SampleNoise(0, [0, 1]), sources, 0.0) for m in (shared, several)]  # type: ignore[arg-type]
        with torch.no_grad():
            first, second = (m(x, walk) for m, walk in zip((shared, several), walks, strict=True))
        assert torch.equal(first, second)
