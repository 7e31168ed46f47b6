"""Priors over residual codes, several at each position: their order, their sampler, their training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import hvdsl
from hvdsl.compiler.analysis.summary import prior_summary
from hvdsl.compiler.pipeline import check
from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer, Train
from hvdsl.errors import HvdslError
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.priors.hierarchy import Cut, KeptCodes, sample_codes
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import Sampled, draw_codes, greedy
from hvdsl.runtime.priors.stage import CodeBatch, CodeObjective, nats
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from tests.runtime.priors.test_sampling import priors

SPEC = """hv 1
model residual
data images {{ shape = 1x3x4, bits = 8, input = v / 255{more} }}
encoder {{ 3x4: conv(3x3, 8) -> tap }}
decoder {{
  3x4: {{
    z ~ codebook(5, 4, depth = 3) posterior nearest_code(skip -> conv(1x1, 4))
    y ~ codebook(4, 4) posterior nearest_code(skip -> conv(1x1, 4))
    x = z + y -> conv(1x1, logits)
  }}
}}
likelihood mse
objective {{ unit = mean_square }}
prior z {{ first, second, _ = chunk(3); {body} }}
prior y given z {{ conv(3, 8, mask = causal(exclude)) + (z -> conv(1x1, 8)) -> elu -> conv(1x1, 4) }}
"""
CONTEXT = "h = conv(3, 8, mask = causal(exclude)) -> elu -> conv(3, 8, mask = causal(all))"
HEADS = """
  b = h + (first -> conv(1x1, 8)) -> elu -> conv(1x1, 5)
  c = h + (concat(first, second) -> conv(1x1, 8)) -> elu -> dropout(0.1) -> conv(1x1, 5)
  concat(h -> elu -> conv(1x1, 5), b, c)
"""
BODIES = {
    "heads": CONTEXT + HEADS,
    "gated": f"{CONTEXT} -> elu -> conv(1x1, 16) -> glu{HEADS}",
    "attention": "h = conv(3, 8, mask = causal(exclude)); h = attention(h, h -> elu, h, causal = inclusive) + h"
    + HEADS,
    "label in the heads": CONTEXT + HEADS.replace("h + (first", "h + (label -> conv(1x1, 8)) + (first"),
    "place in the heads": CONTEXT + HEADS.replace("b = h + (", "b = (concat(h, coordinates(x)) -> conv(1x1, 8)) + ("),
    "shifts": "h = shift(right = 1) -> conv(1x1, 8) -> elu -> shift(down = 1) -> silu" + HEADS,
    "rows above": "a = conv((2, 3), 8, pad = (1, 0, 1, 1)) -> shift(down = 1); b = conv(1x1, 8) -> shift(right = 1)"
    "; h = a + b -> elu" + HEADS,
    "normed": CONTEXT + HEADS.replace("-> elu -> conv(1x1, 5)\n  c", "-> layer_norm -> conv(1x1, 5)\n  c"),
}


def build(body: str) -> list[StepwisePrior]:
    more = ", classes = 3" if "label" in body else ""
    return priors(check(Source("residual.hv", SPEC.format(body=body, more=more))))


@pytest.mark.parametrize("name", BODIES)
def test_the_drawn_codes_are_the_argmax_of_the_full_forward(name: str) -> None:
    prior = build(BODIES[name])[0]
    module = prior.module.double().eval()
    given = (torch.tensor([0, 2]),) if "label" in BODIES[name] else ()
    noise = 3 * torch.randn(2, 3, 5, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    logits = torch.zeros(2, 3, 5, 3, 4).double()

    def choose(p: torch.Tensor, i: int, column: int) -> torch.Tensor:
        j, d = divmod(column, 3)
        logits[:, d, :, i, j] = p
        return (p + noise[:, d, :, i, j]).argmax(1)

    drawn = draw_codes(prior, choose, given, batch=2)
    assert drawn.shape == (2, 3, 3, 4) and len(drawn.unique()) == 5
    with torch.no_grad():
        whole = module(drawn, *given).view(-1, 3, 5, 3, 4)
    assert torch.equal((whole + noise).argmax(2), drawn)
    torch.testing.assert_close(logits, whole, rtol=0, atol=1e-10)


LATE = {
    "the own depth": BODIES["heads"].replace("h + (first", "h + (second"),
    "a later depth": BODIES["heads"].replace("concat(h -> elu", "concat(h + (second -> conv(1x1, 8)) -> elu"),
    "all at once": f"{CONTEXT}; h + conv(1x1, 8) -> elu -> conv(1x1, 15)",
}


@pytest.mark.parametrize("name", LATE)
def test_a_depth_sees_those_before_it_alone(name: str) -> None:
    with pytest.raises(SpecError, match="sees codes against the order of their depths"):
        build(LATE[name])


def test_positions_come_before_depths() -> None:
    with pytest.raises(SpecError, match="sees a later position"):
        build(BODIES["heads"].replace("(first -> conv(1x1, 8))", "(first -> conv(3x3, 8))"))


AROUND = BODIES["heads"].replace("(first -> conv(1x1, 8))", "(first -> conv(3, 8, mask = causal(all)))")
ALONE = "concat(coordinates(x) -> conv(1x1, 5), first -> conv(1x1, 5), second -> conv(1x1, 5))"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            BODIES["heads"].replace("(first -> conv(1x1, 8))", "(first -> conv(3, 8, mask = causal(all)))"),
            "`conv` cannot be sampled",
        ),
        (ALONE, "`output` cannot be sampled depth by depth"),
        (BODIES["heads"].replace("conv(1x1, 5), b, c)", "conv(1x1, 5), b)"), "does not end with its logits"),
    ],
)
def test_what_has_no_form_is_told(body: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(body)


def test_depths_are_said_by_info() -> None:
    model = check(Source("residual.hv", SPEC.format(body=BODIES["heads"], more="")))
    told = prior_summary(model.priors["z"])
    assert (told.classes, told.depth, told.height, told.width) == (5, 3, 3, 4)
    assert told.sight.seen == 7 - 1  # of the earlier ones in a middle of 1, 2: all but the row's first of the row above


def test_samples_do_not_depend_on_their_batch_and_kept_codes_stand() -> None:
    z, y = build(BODIES["heads"])
    levels = {"z": z, "y": y}
    together = sample_codes(levels, range(4), seed=3)
    alone = sample_codes(levels, range(2, 3), seed=3, cuts={"z": Cut(top_p=1.0)})
    assert all(torch.equal(together[name][2:3], alone[name]) for name in levels)
    assert together["z"].shape == (4, 3, 3, 4) and together["y"].shape == (4, 3, 4)
    mask = torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    kept = sample_codes(levels, range(4), seed=9, kept={"z": KeptCodes(together["z"], mask)})["z"]
    stands = mask[:, None].expand_as(kept)
    assert torch.equal(kept[stands], together["z"][stands]) and not torch.equal(kept, together["z"])
    with pytest.raises(HvdslError, match="several codes at each position"):
        draw_codes(z, greedy, schedule="wavefront")


def test_temperature_zero_is_greedy() -> None:
    z = build(BODIES["heads"])[0]
    cold = Sampled(SampleNoise(0, range(2)), "z", 5, (3, 12), temperature=0.0)
    assert torch.equal(draw_codes(z, cold, batch=2), draw_codes(z, greedy, batch=2))


def test_the_loss_is_the_cross_entropy_of_every_depth_and_training_lowers_it() -> None:
    prior = build(BODIES["heads"])[0].module
    codes = torch.randint(0, 5, (4, 3, 3, 4), generator=torch.Generator().manual_seed(0))
    prior.eval()
    loss, terms = CodeObjective()(prior, CodeBatch(codes), 0)
    chosen = prior(codes).view(-1, 3, 5, 3, 4).log_softmax(2).gather(2, codes[:, :, None])
    assert torch.allclose(loss, -chosen.mean(), atol=1e-6)
    assert torch.allclose(nats(prior, codes).mean(), 36 * loss, rtol=1e-5)
    assert torch.allclose(terms["bits_per_map"], 36 * loss / math.log(2))
    train = Train(batch=4, optimizer=Optimizer(kind="adam", lr=1e-2), warmup=Duration(n=0))
    optimization = Optimization(prior, train, CodeObjective(), Clock(per_epoch=1, total=None))
    losses = [optimization.step([CodeBatch(codes[:2]), CodeBatch(codes[2:])]).loss for _ in range(10)]
    assert losses[-1] < losses[0]


PATH = """hv 1
model residual_path
data arrays { shape = 1x8x8, bits = 8, input = v / 127.5 - 1, holdout = 4 }
encoder { 8: conv(4x4, 8, stride = 2) -> gelu; 4: tap }
decoder {
  4: { z ~ codebook(6, 4, depth = 2) posterior nearest_code(skip -> conv(1x1, 4)); x = z }
  8: upconv(4x4, logits, stride = 2)
}
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
prior z {
  first, _ = chunk(2)
  h = conv(3, 8, mask = causal(exclude)) -> elu
  concat(h -> conv(1x1, 6), h + (first -> conv(1x1, 8)) -> elu -> conv(1x1, 6))
}
train { steps = 1, batch = 8, optimizer = adam(lr = 5e-3) }
train z { steps = 2, batch = 8, optimizer = adam(lr = 5e-3), accumulate = 2 }
"""


def test_from_images_to_samples_and_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (16, 8, 8)).astype(np.uint8))
    run, spec = tmp_path / "run", Source("path.hv", PATH)
    hvdsl.train(spec, data=tmp_path / "x.npz", out=run, stage="all", device="cpu")
    assert hvdsl.train(out=run, stage="z", resume=True, steps=3, device="cpu").steps == {"z": 3}
    trained = hvdsl.load(run, device="cpu")
    codes = trained.sample_codes(3, seed=1)
    assert codes["z"].shape == (3, 2, 4, 4) and torch.equal(trained.decode(codes), trained.sample(3, seed=1))
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    kept = trained.sample(3, keep=codes, mask=mask, seed=2)
    assert not torch.equal(kept, trained.decode(codes))
    cost = trained.evaluate().codes
    assert cost is not None and cost.levels[0].prior_nats_per_code is not None
    bits = cost.levels[0].prior_bits_per_image
    assert bits == pytest.approx(32 * cost.levels[0].prior_nats_per_code / math.log(2))
