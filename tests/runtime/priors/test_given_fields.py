"""Priors over codes that are given numbers and images of the data, from the store to the sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hvdsl
from hvdsl.cli.main import main
from hvdsl.grammar.source import Source
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.priors.protocol import as_prior
from hvdsl.workflows.open import first_stage
from hvdsl.workflows.stages import open_priors

SPEC = """hv 1
model tiny
data arrays {
  shape = 1x8x8, bits = 4, input = v / 7.5 - 1, holdout = 4
  given label = 3 classes { drop = 0.2 }
  given age = 1 { input = v / 50 - 1, drop = 0.2 }
  given low = 1x4x4 { source = image, input = v / 7.5 - 1 }
}
encoder { 8: conv(4x4, 4, stride = 2) -> gelu; 4: tap }
decoder {
  4: { z ~ codebook(5, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = z }
  8: upconv(4x4, logits, stride = 2)
}
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
train { steps = 2, batch = 8, optimizer = adam(lr = 5e-3) }
prior z {
  seen = concat(low -> conv(3x3, 4), age, label) -> conv(1x1, 8)
  (conv(3x3, 8, mask = causal(exclude)) + seen) -> gelu -> conv(1x1, 5)
}
train z { steps = 3, batch = 8, accumulate = 2, optimizer = adam(lr = 5e-3) }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 90, 24)
    age[::5] = np.nan
    images = rng.integers(0, 16, (24, 8, 8)).astype(np.uint8) * 17
    labels = rng.integers(0, 3, 24)
    labels[1::6] = -1
    np.savez(folder / "x.npz", images=images, labels=labels, age=age)
    hvdsl.train(Source("tiny.hv", SPEC), data=folder / "x.npz", out=folder / "run", stage="all", device="cpu")
    return folder


def test_fields_are_kept_beside_the_codes(place: Path) -> None:
    store, stored = CodeStore.open(place / "run" / "codes" / "train"), np.load(place / "x.npz")
    assert set(store.fields) == {"age", "low"} and store.fields["low"].shape == (20, 1, 4, 4)
    assert np.isnan(store.fields["age"]).any()
    known = set(stored["age"][~np.isnan(stored["age"])].astype(np.float32).tolist())
    assert {float(a) for a in store.fields["age"].ravel() if not np.isnan(a)} <= known


def test_images_without_a_class_that_may_be_absent_have_codes(place: Path) -> None:
    store, absent = CodeStore.open(place / "run" / "codes" / "train"), (np.load(place / "x.npz")["labels"] < 0).sum()
    label = store.rows(["z", "label"]).batch(range(len(store)))[:, -1]
    assert 0 < (label == -1).sum() <= absent and set(label.tolist()) == {-1, 0, 1, 2}
    assert main(["codes", str(place / "run"), "-o", str(place / "codes.npz"), "--device", "cpu"]) == 0
    with np.load(place / "codes.npz") as written:
        assert written["label"].tolist() == label.tolist()


def test_a_class_that_may_not_be_absent_is_asked_for(place: Path, tmp_path: Path) -> None:
    spec = Source("tiny.hv", SPEC.replace("classes { drop = 0.2 }", "classes"))
    with pytest.raises(hvdsl.Error, match=r"label"):
        hvdsl.train(spec, data=place / "x.npz", out=tmp_path / "run", stage="all", device="cpu")


def test_codes_are_drawn_given_numbers_and_images(place: Path) -> None:
    trained = hvdsl.load(place / "run", device="cpu")
    low = torch.randint(0, 16, (3, 1, 4, 4)).float()
    given = {"label": [0, 1, 2], "age": [10, 50, 80], "low": low}
    greedy = trained.sample(3, temperature=0, given=given)
    prior = as_prior(open_priors(first_stage(trained._opened), ["z"], lambda _: True)["z"])
    z = torch.zeros_like(trained.encode(greedy)["z"])
    with torch.no_grad():
        for i, j in np.ndindex(4, 4):
            logits = prior(z, torch.tensor([0, 1, 2]), torch.tensor([[10.0], [50.0], [80.0]]), low)
            z[:, i, j] = logits[:, :, i, j].argmax(1)
    assert torch.equal(trained.decode({"z": z}), greedy)


def test_guidance_of_codes_is_plain_at_one_and_without_conditions_at_none(place: Path) -> None:
    trained = hvdsl.load(place / "run", device="cpu")
    low = torch.randint(0, 16, (3, 1, 4, 4)).float()
    given = {"label": [0, 1, 2], "age": [10, 50, 80], "low": low}
    plain = trained.sample(3, given=given)
    assert torch.equal(trained.sample(3, given=given, guidance=1.0), plain)
    assert torch.equal(trained.sample(3, given=given, guidance=0.0), trained.sample(3, given={"low": low}))
    assert not torch.equal(trained.sample(3, given=given, guidance=30.0), plain)
    with pytest.raises(hvdsl.Error, match="drawn given `low`: say which with `--given low=…`"):
        trained.sample(3)


def test_what_codes_cost_is_told_under_their_fields(place: Path) -> None:
    trained = hvdsl.load(place / "run", device="cpu")
    found = trained.evaluate()
    assert found.codes is not None and found.codes.levels[0].prior_nats_per_code is not None
    other = trained.evaluate(given={"age": 0}).codes
    assert other is not None and other.levels[0].prior_nats_per_code != found.codes.levels[0].prior_nats_per_code


def test_a_prior_does_not_go_on_with_other_fields(place: Path) -> None:
    stored = dict(np.load(place / "x.npz"))
    np.savez(place / "other.npz", **(stored | {"age": stored["age"] + 1}))
    with pytest.raises(hvdsl.Error, match="trained on other codes: its data was"):
        hvdsl.train(out=place / "run", data=place / "other.npz", stage="z", resume=True, device="cpu")
