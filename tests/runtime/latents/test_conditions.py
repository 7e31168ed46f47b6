"""Conditions from the spec to the sample: fields of the data, dropping, weights, guidance, counterfactuals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvdsl
from hvdsl.compiler.pipeline import check
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.printer import print_text
from hvdsl.grammar.source import Source
from hvdsl.grammar.text.reader import read_text
from hvdsl.grammar.yaml.printer import canonical, print_yaml
from hvdsl.grammar.yaml.reader import read_yaml
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.evaluate import evaluate
from hvdsl.runtime.inference.generate import reconstruct
from hvdsl.runtime.inference.inference import model_batch, some
from hvdsl.runtime.latents import Source as TraversalSource
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.latents.conditions import arguments_of, dropped, target_of
from hvdsl.runtime.likelihoods import DiscretizedLogisticMixture, DiscretizedNormal
from hvdsl.runtime.training.batches import PixelBatch
from hvdsl.runtime.training.folder.weights import save_weights
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.tasks import ImageTask
from hvdsl.workflows.conditions import rows_of, runtime_condition
from hvdsl.workflows.images import GivenImages
from hvdsl.workflows.latent_files import encode_images, read_given, read_latents
from hvdsl.workflows.runs import used_images

SPEC = """hv 1
model tiny
data digits {
  shape = 1x8x8, bits = 4, input = v / 7.5 - 1
  given label = 10 classes { drop = 0.2 }
  given low = 1x4x4 { source = image, input = v / 7.5 - 1 }
  given hole = 1x8x8 { source = box }
  weight = 1 - hole
}
group layer {
  z ~ normal(concat(x, label) -> conv(1x1, 8)) posterior normal(concat(x, skip, label) -> conv(1x1, 8))
  x + (z -> conv(3x3, 8)) + (label -> conv(1x1, 8))
}
encoder {
  8: conv(3x3, 8) -> gelu -> tap -> avg_pool(2)
  4: concat(x, low) -> conv(3x3, 8) -> gelu -> tap
}
decoder {
  4: learned(zeros, 8) -> layer
  8: nearest(2) -> layer -> gelu -> conv(1x1, logits)
}
likelihood discretized_normal(scale = exp)
objective { unit = nats_per_dim }
train { steps = 2, batch = 8, optimizer = adam(lr = 2e-3) }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> hvdsl.Trained:
    result = hvdsl.train(Source("tiny.hv", SPEC), out=tmp_path_factory.mktemp("conditions") / "run", device="cpu")
    return hvdsl.load(result.run, device="cpu")


def test_text_and_yaml_say_the_same() -> None:
    tree = read_text(Source("tiny.hv", SPEC))
    assert read_text(Source("again.hv", print_text(tree))) == tree
    assert canonical(read_yaml(Source("tiny.yaml", print_yaml(tree)))) == canonical(tree)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("given low", "given layer", "`layer` is a field of `data`"),
        ("given low", "given conv", "`conv` is an operation"),
        ("given low", "given x", "`x` is what flows"),
        ("given low", "given bits", "`bits` is a setting of `data`"),
        ("weight = 1 - hole", "weight = 1 - label", "weights are of pixels"),
        ("weight = 1 - hole", "target = low", "the target has not the image's shape"),
        ("weight = 1 - hole", "classes = 10", "the classes are said twice"),
    ],
)
def test_what_cannot_be_a_field_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(Source("wrong.hv", SPEC.replace(old, new)))
    assert any(told in diagnostic.message for diagnostic in caught.value.diagnostics)


@pytest.mark.parametrize("name", ["next", "class", "self"])
def test_a_field_may_be_called_as_python_calls_something(name: str) -> None:
    spec = SPEC.replace("given low", f"given {name}").replace("concat(x, low)", f"concat(x, {name})")
    model = hvdsl.build(Source("m.hv", spec))
    latents = Traversal(model.LATENTS, 1, None, TraversalSource.POSTERIOR_MEAN)
    given = arguments_of(model, {"label": torch.tensor([1]), name: torch.zeros(1, 1, 4, 4)})
    assert model(torch.zeros(1, 1, 8, 8), latents, **given).isfinite().all()


def test_a_local_hides_a_field() -> None:
    plain = SPEC.replace(" + (label -> conv(1x1, 8))", "")
    for name in ("low", "label"):
        hidden = plain.replace("  x + (z ->", f"  {name} = z\n  x + ({name} ->")
        models = [hvdsl.build(Source("h.hv", text), seed=0).state_dict() for text in (plain, hidden)]
        assert list(models[0]) == list(models[1])
        assert all(torch.equal(a, b) for a, b in zip(models[0].values(), models[1].values(), strict=True))


def test_conditions_are_dropped_together_and_by_rate(trained: hvdsl.Trained) -> None:
    conditions = trained.model.GIVEN
    label = {"label": np.arange(4)}
    assert dropped(conditions, label, np.array([0.1, 0.2, 0.19, 0.9]))["label"].tolist() == [-1, 1, -1, 3]


def test_guidance_of_one_is_plain_and_of_none_is_without_conditions(trained: hvdsl.Trained) -> None:
    given = {"label": [1, 2, 3]}
    plain = trained.sample(3, given=given)
    assert torch.equal(trained.sample(3, given=given, guidance=1.0), plain)
    assert torch.equal(trained.sample(3, given=given, guidance=0.0), trained.sample(3))
    assert not torch.equal(trained.sample(3, given=given, guidance=4.0), plain)


def test_without_conditions_batch_norms_are_recalibrated_without_them(tmp_path: Path) -> None:
    text = SPEC.replace("x + (z -> conv(3x3, 8))", "x + (z -> conv(3x3, 8, bias = no) -> batch_norm)")
    compiled = hvdsl.compile(Source("normed.hv", text))
    save_weights(compiled.build(1), tmp_path / "normed.safetensors", print_text(compiled.model.resolved), step=1)
    normed = hvdsl.load(tmp_path / "normed.safetensors", device="cpu")
    plain = normed.sample(3, recalibrate=2)
    assert torch.equal(normed.sample(3, given={"label": [1, 2, 3]}, guidance=0.0, recalibrate=2), plain)
    assert not torch.equal(normed.sample(3, given={"label": [1, 2, 3]}, recalibrate=2), plain)


def test_unchanged_conditions_give_the_image_back(trained: hvdsl.Trained) -> None:
    images = np.random.default_rng(0).integers(0, 16, (4, 8, 8)).astype(np.uint8)
    label = {"label": [1, 2, 3, 4]}
    same = trained.edit(images, label, given=label)
    assert same.own_noise and torch.equal(same.edited, same.original)
    assert not torch.equal(trained.edit(images, {"label": 9}, given=label).edited, same.original)


def test_what_has_no_weight_does_not_count(trained: hvdsl.Trained) -> None:
    images = np.full((2, 8, 8), 7, np.uint8)
    half = np.zeros((2, 1, 8, 8), np.float32)
    half[:, :, :, 4:] = 1  # a hole where the right half is
    given: dict[str, Any] = {"label": 0, "low": np.zeros((2, 1, 4, 4), np.float32), "hole": half}
    scores = trained.elbo(images, given=given)
    assert torch.equal(torch.as_tensor(scores.dims), torch.full((2,), 32.0, dtype=torch.float64))
    params = torch.randn(2, 2, 8, 8)
    likelihood, target = (
        DiscretizedNormal(bits=4, bin=2 / 15, scale=trained.model.likelihood.scale),
        torch.zeros(2, 1, 8, 8),
    )
    whole = likelihood.log_prob(params, target, torch.from_numpy(1 - half))
    torch.testing.assert_close(whole, likelihood.log_prob(params[..., :4], target[..., :4]))
    mixture = DiscretizedLogisticMixture(3, channels=3, bits=4)
    params, target = torch.randn(2, 30, 8, 8).double(), torch.randint(0, 16, (2, 3, 8, 8)).double() / 7.5 - 1
    whole = mixture.log_prob(params, target, torch.from_numpy(1 - half).double())
    torch.testing.assert_close(whole, mixture.log_prob(params[..., :4], target[..., :4]))
    with pytest.raises(hvdsl.Error, match="of all pixels of an image is 0"):
        trained.elbo(images, given={**given, "hole": np.ones((2, 1, 8, 8), np.float32)})


def test_evaluate_divides_by_the_weights(trained: hvdsl.Trained) -> None:
    images = np.random.default_rng(1).integers(0, 16, (2, 8, 8)).astype(np.uint8)
    half = np.zeros((2, 1, 8, 8), np.float32)
    half[:, :, :, 4:] = 1
    given = {"label": 0, "low": np.zeros((2, 1, 4, 4), np.float32), "hole": half}
    bound, single = trained.evaluate(images, given=given).bound, trained.elbo(images, given=given)
    assert bound.dims == 32
    assert bound.distortion == pytest.approx(single.distortion.mean().item() / 32, rel=1e-6)


def test_figures_of_whole_images_are_not_told_of_weighted_ones(trained: hvdsl.Trained) -> None:
    bound = trained.evaluate().bound
    assert (bound.psnr_db, bound.ssim) == (None, None)
    with pytest.raises(hvdsl.UsageError, match="--baselines are of whole images"):
        trained.evaluate(baselines=True)


def test_reconstructions_are_compared_with_the_target() -> None:
    spec = SPEC.replace("given hole = 1x8x8 { source = box }", "given clean = 1x8x8")
    spec = spec.replace("weight = 1 - hole", "target = clean / 7.5 - 1")
    compiled = hvdsl.compile(Source("clean.hv", spec))
    model, data = compiled.build(0), compiled.model.settings.data
    pixels = torch.randint(0, 16, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    fields = {"label": torch.tensor([1, 2, 3]), "low": torch.zeros(3, 1, 4, 4)}
    [clean] = reconstruct(model, data, pixels, [2], given=fields)
    far = 10 * np.log10(15**2 / (clean - pixels).square().mean().item())
    near = evaluate(model, GivenImages(pixels, fields | {"clean": clean.round()}), pixels=data).psnr_db
    assert near is not None and near > far + 3


SEVERAL = (
    SPEC.replace("given hole = 1x8x8 { source = box }", "given clean = 1x8x8\n  given hole = 1x8x8")
    .replace("weight = 1 - hole", "target = (clean - v) * hole / 15")
    .replace("data digits {", "data images {\n  values = levels")
    .replace("likelihood discretized_normal(scale = exp)", "likelihood normal")
    .replace("batch = 8", "batch = 4")
)


def test_a_target_may_be_of_several_images(tmp_path: Path) -> None:
    compiled = hvdsl.compile(Source("several.hv", SEVERAL))
    model, data = compiled.build(0), compiled.model.settings.data
    rng = np.random.default_rng(0)
    clean, noisy = (rng.integers(0, 16, (8, 1, 8, 8)).astype(np.uint8) for _ in range(2))
    fields: dict[str, Any] = {"label": np.arange(8), "low": np.zeros((8, 1, 4, 4), np.float32)}
    fields |= {"clean": clean, "hole": rng.integers(0, 2, (8, 1, 8, 8))}
    own = {name: torch.from_numpy(fields[name]) for name in ("clean", "hole")}
    v = torch.from_numpy(noisy).float()
    torch.testing.assert_close(target_of(model, v, own), (own["clean"] - v) * own["hole"] / 15)

    np.savez(tmp_path / "pairs.npz", images=noisy, **fields)
    result = hvdsl.train(Source("several.hv", SEVERAL), data=tmp_path / "pairs.npz", out=tmp_path / "run", device="cpu")
    trained = hvdsl.load(result.run, device="cpu")
    assert trained.evaluate(split="train").bound.psnr_db is None
    assert trained.score(split="train").negative_elbo.isfinite().all()
    numbers = {name: torch.from_numpy(value).float() for name, value in fields.items()} | {"label": torch.arange(8)}
    with pytest.raises(hvdsl.Error, match=r"of several images .* cannot be turned back into pixels"):
        reconstruct(trained.model, data, v, [2], given=numbers)


def test_a_target_of_several_images_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    spec = SEVERAL.replace("target = (clean - v) * hole / 15", "target = log(clean - v)")
    clean = np.full((8, 1, 8, 8), 15, np.uint8)
    noisy = np.random.default_rng(0).integers(0, 15, (8, 1, 8, 8)).astype(np.uint8)
    noisy[3, 0, 2, 2] = 15
    low = np.zeros((8, 1, 4, 4), np.float32)
    np.savez(tmp_path / "pairs.npz", images=noisy, clean=clean, low=low, label=np.arange(8), hole=clean)
    with pytest.raises(hvdsl.Error, match=r"^the `target` of image 3 of .*\.npz, which is of `clean` and `v`, is NaN"):
        hvdsl.train(Source("log.hv", spec), data=tmp_path / "pairs.npz", out=tmp_path / "run", device="cpu", steps=2)
    model = hvdsl.compile(Source("log.hv", spec)).build(0)
    batch = {"clean": torch.tensor(clean[:1]).float(), "low": torch.tensor(low[:1]), "label": torch.tensor([0])}
    with pytest.raises(hvdsl.Error, match="the `target` of image 1 of 1"):
        model_batch(model, torch.tensor(noisy[3:4]).float(), SampleNoise(0, range(1)), batch)


@pytest.mark.parametrize("likelihood", ["discretized_normal(scale = exp)", "bernoulli"])
def test_a_target_of_several_images_lies_on_no_grid(likelihood: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(Source("several.hv", SEVERAL.replace("likelihood normal", f"likelihood {likelihood}")))
    assert any("of several images" in diagnostic.message for diagnostic in caught.value.diagnostics)


def test_a_score_divides_by_the_weights(trained: hvdsl.Trained) -> None:
    scores = trained.score(split="test")
    assert isinstance(scores.dims, torch.Tensor) and ((scores.dims > 0) & (scores.dims < 64)).all()
    torch.testing.assert_close(scores.bits_per_dim, scores.negative_elbo / (scores.dims * np.log(2)))


@pytest.mark.parametrize("settings", [{"bound": "elbo"}, {"bound": "iwae", "samples": 3, "chunk": 2}])
def test_pieces_of_a_weighted_batch_are_the_batch(settings: dict[str, Any]) -> None:
    spec = SPEC.replace("  given low = 1x4x4 { source = image, input = v / 7.5 - 1 }\n", "").replace("x, low", "x")
    rng = np.random.default_rng(0)
    holes = (rng.random((4, 1, 8, 8)) < np.array([0.0, 0.2, 0.5, 0.9]).reshape(4, 1, 1, 1)).astype(np.float32)
    pixels = rng.integers(0, 16, (4, 1, 8, 8)).astype(np.uint8)
    batch = PixelBatch(0, 0, pixels, {"label": np.arange(4), "hole": holes})
    model = hvdsl.build(Source("tiny.hv", spec), seed=0).double()
    objective = ObjectiveSettings(unit="nats_per_dim", **settings)
    train = check(Source("tiny.hv", spec)).settings.train
    found = []
    for accumulate in (1, 2):
        task, own = ImageTask(objective), train.model_copy(update={"accumulate": accumulate})
        made = task.optimization(copy.deepcopy(model), own, Clock(1, 2), World())
        found.append(made.step(task.parts(made.model, batch, own)))
    whole, pieces = found
    assert whole.gradient_norm == pytest.approx(pieces.gradient_norm, rel=1e-6)
    assert whole.loss == pytest.approx(pieces.loss, rel=1e-6)
    assert whole.terms["bits_per_dim"] == pytest.approx(pieces.terms["bits_per_dim"], rel=1e-6)


def test_a_folder_that_is_given_is_read_as_it_is_wanted(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (3, 4, 4)).astype(np.uint8)
    for place, image in enumerate(stored):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    data = hvdsl.compile(Source("tiny.hv", SPEC)).model.settings.data
    low = next(runtime_condition(field) for field in data.conditions if field.name == "low")
    rows = rows_of([low], {"low": tmp_path}, 10**12, data, {})
    assert len(rows["low"]) == 3
    late = some(rows, range(10**9, 10**9 + 4))["low"]
    assert torch.equal(late[:, 0], torch.from_numpy(stored >> 4)[torch.arange(10**9, 10**9 + 4) % 3].float())
    with pytest.raises(hvdsl.UsageError, match="3 values for 2 images"):
        rows_of([low], {"low": tmp_path}, 2, data, {})


def test_conditions_go_with_their_images_from_one_to_the_other(trained: hvdsl.Trained) -> None:
    ends = np.random.default_rng(2).integers(0, 16, (2, 8, 8)).astype(np.uint8)
    low = torch.rand(2, 1, 4, 4) * 15
    way = trained.interpolate(ends[:1], ends[1:], steps=5, given={"label": [3, 7], "low": low})
    for place, (end, label) in {0: (0, 3), 4: (1, 7)}.items():
        alone = trained.reconstruct(ends[end : end + 1], given={"label": label, "low": low[end : end + 1]})
        assert torch.equal(way[place : place + 1], alone)
    assert not torch.equal(way, trained.interpolate(ends[:1], ends[1:], steps=5, given={"label": 3, "low": low}))
    varied = trained.interpolate(ends[:1], groups="0", steps=3, given={"label": 3, "low": low[:1]})
    assert torch.equal(varied[0], way[0]) and not torch.equal(varied[2], way[0])
    with pytest.raises(hvdsl.UsageError, match="--given label: 3 values for 2 images"):
        trained.interpolate(ends[:1], ends[1:], given={"label": [1, 2, 3]})


def test_what_is_encoded_is_decoded_with_its_conditions(trained: hvdsl.Trained, tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 16, (5, 8, 8)).astype(np.uint8)
    given = {"label": torch.tensor([1, 2, -1, 4, 5])}
    whole = trained.reconstruct(images, given=given)
    assert torch.equal(trained.decode(trained.encode(images, given=given), given=given), whole)
    np.savez(tmp_path / "x.npz", images=images * 17, labels=np.array([1, 2, 3, 4, 5]))
    opened = trained._opened
    stored = used_images(None, trained.spec.model.settings.data, tmp_path / "x.npz")
    for output in (tmp_path / "latents.npz", tmp_path / "latents"):
        encode_images(opened, stored, output)
        beside = read_given(output, opened)
        assert set(beside) == {"label"} and beside["label"].tolist() == [1, 2, 3, 4, 5]  # only the encoder reads `low`
        decoded = trained.decode(read_latents(output, opened), given=beside)
        assert torch.equal(decoded, trained.reconstruct(images, given={"label": [1, 2, 3, 4, 5]}))


def test_info_says_what_a_model_is_conditioned_on() -> None:
    found = {c["name"]: c for c in hvdsl.compile(Source("tiny.hv", SPEC)).info()["conditions"]}
    assert found["label"]["read_by"] == ("inference", "generation") and found["label"]["drop"] == 0.2
    assert (found["low"]["read_by"], found["hole"]["read_by"]) == (("inference",), ("weight",))
    unread = SPEC.replace("concat(x, low) ->", "")
    [warning] = check(Source("tiny.hv", unread)).warnings
    assert warning.message == "nothing reads `low`"
    assert check(Source("tiny.hv", SPEC)).warnings == ()


def test_an_image_of_other_proportions_is_refused(trained: hvdsl.Trained, tmp_path: Path) -> None:
    images = np.zeros((1, 8, 8), np.uint8)
    for size in ((8, 8), (8, 6)):
        Image.new("L", size).save(tmp_path / "low.png")
        if size == (8, 6):
            with pytest.raises(hvdsl.UsageError, match=r"--given low=.*low.png is 6x8 and the field 4x4: crop it"):
                trained.reconstruct(images, given={"label": 1, "low": tmp_path / "low.png"})
        else:
            trained.reconstruct(images, given={"label": 1, "low": tmp_path / "low.png"})
    with pytest.raises(hvdsl.UsageError, match="--given low=nowhere: there is no image nowhere"):
        trained.reconstruct(images, given={"label": 1, "low": "nowhere"})


def test_a_class_that_is_not_given_is_zeros(trained: hvdsl.Trained) -> None:
    deaf = copy.deepcopy(trained.model)
    with torch.no_grad():
        for name, weight in deaf.named_parameters():
            if ".layer." in name and weight.dim() == 4 and weight.shape[1] in (10, 18, 26):
                weight[:, -10:] = 0  # label is joined last, or alone
    x, low, walk = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4), []
    for model, label in ((trained.model, [-1, -1]), (deaf, [3, 4])):
        latents = Traversal(model.LATENTS, 2, None, TraversalSource.POSTERIOR_MEAN)
        walk.append(model(x, latents, label=torch.tensor(label), low=low))
    torch.testing.assert_close(*walk)


def test_only_what_is_read_can_be_given(trained: hvdsl.Trained) -> None:
    with pytest.raises(hvdsl.UsageError, match="--given low: only the encoder reads `low`"):
        trained.sample(1, given={"low": torch.zeros(1, 1, 4, 4)})
    with pytest.raises(hvdsl.UsageError, match=r"--given lable: .*did you mean `label`\?"):
        trained.sample(1, given={"lable": 1})
    with pytest.raises(hvdsl.UsageError, match="--set-given label=12: classes are whole numbers from 0 to 9"):
        trained.edit(np.zeros((1, 8, 8), np.uint8), {"label": 12}, given={"label": 1})


def test_the_masses_of_a_discretised_normal_add_up_to_one(trained: hvdsl.Trained) -> None:
    likelihood = DiscretizedNormal(bits=4, bin=2 / 15, scale=trained.model.likelihood.scale)
    grid = torch.linspace(-1, 1, 16).view(16, 1, 1, 1)
    for mean, log_scale in ((0.0, 0.0), (0.9, -3.0), (-2.0, -1.0), (0.3, 4.0)):
        params = torch.tensor([mean, log_scale]).view(1, 2, 1, 1).expand(16, -1, -1, -1).double()
        assert likelihood.log_prob(params, grid.double()).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_a_missing_class_is_told_before_training(tmp_path: Path) -> None:
    spec = SPEC.replace("data digits", "data photos").replace("1x8x8", "3x8x8").replace("1x4x4", "3x4x4")
    spec = spec.replace("given hole = 3x8x8 { source = box }", "").replace("weight = 1 - hole", "")
    spec = spec.replace(" { drop = 0.2 }", "").replace("bits = 4, input = v / 7.5 - 1", "input = v / 127.5 - 1")
    with pytest.raises(hvdsl.Error, match="label"):
        hvdsl.train(Source("none.hv", spec), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["eleven", "10", 12])
def test_a_class_that_is_none_is_refused(trained: hvdsl.Trained, value: str | int) -> None:
    with pytest.raises(hvdsl.UsageError, match="from 0 to 9"):
        trained.sample(1, given={"label": value})


@pytest.mark.slow
def test_drawn_digits_are_nearest_to_the_mean_of_their_class(tmp_path: Path) -> None:
    run = hvdsl.train("vdvae_digits_conditional", steps=300, out=tmp_path / "run", device="cpu", threads=1).run
    images = hvdsl.open_data("vdvae_digits_conditional").train
    pixels, given = images.conditioned(range(len(images)), ["label"])
    means = np.stack([pixels[given["label"] == c].mean(0) for c in range(10)]).reshape(10, -1)
    label = torch.arange(10).repeat_interleave(30)
    drawn = hvdsl.load(run, device="cpu").sample(300, given={"label": label}, mean=True).numpy().reshape(300, 1, -1)
    nearest = ((drawn - means) ** 2).sum(2).argmin(1)
    share = (nearest == label.numpy()).mean()
    assert share > 0.8, share
