"""Training a prior with the same optimisation as any model."""

from __future__ import annotations

import math

import torch

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer, Train
from hvdsl.runtime.priors.stage import CodeBatch, CodeObjective, nats
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from tests.runtime.priors.test_sampling import BODIES, build

CODES = torch.randint(0, 6, (4, 5, 7), generator=torch.Generator().manual_seed(0))


def test_the_loss_is_the_cross_entropy_in_nats_per_code() -> None:
    prior = build(BODIES["type B"]).module
    loss, terms = CodeObjective()(prior, CodeBatch(CODES), 0)
    chosen = prior(CODES).log_softmax(1).gather(1, CODES[:, None])
    assert torch.allclose(loss, -chosen.mean(), atol=1e-6)
    assert torch.allclose(nats(prior, CODES).mean(), 35 * loss, rtol=1e-5)
    assert torch.allclose(terms["bits_per_map"], 35 * loss / math.log(2))


def test_training_lowers_the_cost_of_the_codes() -> None:
    prior = build(BODIES["strict"]).module
    train = Train(batch=4, optimizer=Optimizer(kind="adam", lr=1e-2), warmup=Duration(n=0), ema=0.9)
    optimization = Optimization(prior, train, CodeObjective(), Clock(per_epoch=1, total=None))
    losses = [optimization.step([CodeBatch(CODES[:2]), CodeBatch(CODES[2:])]).loss for _ in range(20)]
    assert losses[-1] < losses[0]
