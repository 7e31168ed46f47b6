"""Quantizers against numbers recorded from public implementations.

Limits are those that the recordings come with: codes exact; values 1e-5; losses 1e-6 + 1e-5 relative; gradients 1e-5;
moving averages 1e-5 relative.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from hvdsl.runtime.ground.tensors import Gradient
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.quantizers import (
    EmaCodebook,
    FiniteScalar,
    GradientCodebook,
    LinearCodebook,
    LookupFree,
    NearestCode,
    Quantized,
    Quantizer,
)
from hvdsl.runtime.quantizers.clustering import kmeans
from hvdsl.runtime.quantizers.codebook import orthogonality
from hvdsl.runtime.quantizers.fixed import code_entropies
from tests.golden.recorded import FOLDER

GRID = (1, 1)  # quantizers take maps of any size; the grid is that of the prior
PUBLISHED = ("ema_vq_random_state", "ema_vq_fresh_init", "ema_vq_fast_decay")
LIBRARY = ("vector_quantize_euclidean", "vector_quantize_euclidean_decay099", "vector_quantize_cosine")


def case(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = FOLDER / "quantizer" / name
    return json.loads((folder / "case.json").read_text()), load_file(folder / "io.safetensors")


def as_map(rows: Tensor) -> Tensor:
    """Vectors `(…, D)` as one picture `(1, D, M, 1)`."""
    return rows.reshape(-1, rows.shape[-1]).t()[None, :, :, None].contiguous()


def as_rows(values: Tensor, like: Tensor) -> Tensor:
    return values[0, :, :, 0].t().reshape(like.shape)


def quantize(quantizer: Quantizer, rows: Tensor, gradient: Gradient = "straight_through") -> Quantized:
    return quantizer.quantize(NearestCode(as_map(rows), gradient))


def step(quantizer: Quantizer, rows: Tensor) -> Quantized:
    """What training does with one batch."""
    quantized = quantize(quantizer, rows)
    quantizer.observe(quantized)
    quantizer.update(torch.tensor(True))
    return quantized


def codes(quantized: Quantized, like: Tensor) -> Tensor:
    return quantized.codes.flatten().reshape(like.shape)


def close(found: Tensor, recorded: Tensor, limit: float = 1e-5) -> None:
    torch.testing.assert_close(found, recorded, rtol=0, atol=limit)


def relatively_close(found: Tensor, recorded: Tensor) -> None:
    torch.testing.assert_close(found, recorded, rtol=1e-5, atol=1e-6)


def loss_is(found: Tensor, recorded: float) -> None:
    assert found.item() == pytest.approx(recorded, abs=1e-6, rel=1e-5)


def ema(name: str) -> tuple[EmaCodebook, dict[str, Any], dict[str, Tensor]]:
    """A codebook in the recorded state, either layout."""
    facts, tensors = case(name)
    config = facts["config"]
    size = config.get("n_embed") or config["codebook_size"]
    distance = "cosine" if config.get("use_cosine_sim") else "euclidean"
    made = EmaCodebook(size, config["dim"], GRID, decay=config["decay"], distance=distance)
    made.load_state_dict(state(tensors, "state", name in PUBLISHED))
    return made, facts, tensors


def state(tensors: dict[str, Tensor], at: str, published: bool) -> dict[str, Tensor]:
    embed, sums, counts = (tensors[f"{at}.{key}"] for key in ("embed", "embed_avg", "cluster_size"))
    if published:
        return {"codes": embed.t()[None], "sums": sums.t()[None], "counts": counts[None]}
    return {"codes": embed, "sums": sums, "counts": counts}


@pytest.mark.parametrize("name", [*PUBLISHED, *LIBRARY])
def test_ema_codebooks_in_evaluation(name: str) -> None:
    made, facts, tensors = ema(name)
    made.eval()
    rows = tensors["eval.input"].clone().requires_grad_()
    found = quantize(made, rows)
    assert torch.equal(codes(found, tensors["eval.indices"]), tensors["eval.indices"])
    close(as_rows(found.value, rows), tensors["eval.quantize"])
    looked_up = made.look_up(found.codes)
    assert torch.equal(looked_up, found.value), "the value is the code, bit for bit"
    if name in PUBLISHED:
        loss_is(found.commitment, facts["eval"]["diff"])
        loss = (as_rows(found.value, rows) * tensors["eval.cotangent"]).sum() + 0.25 * found.commitment.sum()
        (gradient,) = torch.autograd.grad(loss, rows)
        close(gradient, tensors["eval.grad_input"])


@pytest.mark.parametrize("name", [*PUBLISHED, *LIBRARY])
def test_three_ema_updates(name: str) -> None:
    made, facts, tensors = ema(name)
    published = name in PUBLISHED
    losses = facts["train"]["diff" if published else "loss"]
    weight = 1.0 if published else facts["config"]["commitment_weight"]
    for i, loss in enumerate(losses, 1):
        found = step(made, tensors[f"train.step{i}.input"])
        recorded = tensors[f"train.step{i}.indices"]
        assert torch.equal(codes(found, recorded), recorded)
        loss_is(weight * found.commitment, loss)
        wanted = state(tensors, f"train.step{i}", published)
        for key, value in made.state_dict().items():
            relatively_close(value, wanted[key])


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize(("gradient", "key"), [("straight_through", "ste"), ("rotation", "rotation")])
def test_straight_through_and_rotation(name: str, gradient: Gradient, key: str) -> None:
    made, facts, tensors = ema(name)
    rows = tensors["eval.input"].clone().requires_grad_()
    found = quantize(made, rows, gradient)
    auxiliary = facts["config"]["commitment_weight"] * found.commitment.sum()
    loss_is(auxiliary, facts["grad"]["aux"][key])
    value = as_rows(found.value, rows)
    close(value, tensors[f"grad.{key}.quantize"])
    (slope,) = torch.autograd.grad((value * tensors["grad.cotangent"]).sum() + auxiliary, rows)
    close(slope, tensors[f"grad.{key}.grad_input"])


def test_dead_codes_start_anew_with_their_counts_and_sums() -> None:
    facts, tensors = case("vector_quantize_dead_code")
    config = facts["config"]
    expire = config["threshold_ema_dead_code"]
    made = EmaCodebook(config["codebook_size"], config["dim"], GRID, decay=config["decay"], expire=expire)
    made.load_state_dict(state(tensors, "state", published=False))
    found = step(made, tensors["train.input"])
    loss_is(found.commitment, facts["loss"])
    dead = tensors["train.expired_mask"][0].bool()
    assert int(dead.sum()) == facts["n_expired"]
    for key, name in (("codes", "embed"), ("sums", "embed_avg"), ("counts", "cluster_size")):
        relatively_close(made.state_dict()[key][0, ~dead], tensors[f"train.{name}_before_expiry"][0, ~dead])
    fresh = made.codes[0, dead]
    assert all((row == tensors["train.input"][0]).all(1).any() for row in fresh)
    assert torch.equal(made.counts[0, dead], torch.full((len(fresh),), float(expire)))
    assert torch.equal(made.sums[0, dead], fresh * expire)


def test_the_2017_codebook_trained_by_gradient() -> None:
    facts, tensors = case("gradient_vq_classic")
    made = GradientCodebook(20, 5, GRID)
    made.load_state_dict({"codes": tensors["codebook"][None]})
    rows = tensors["input"].clone().requires_grad_()
    found = quantize(made, rows)
    assert torch.equal(codes(found, tensors["indices"]), tensors["indices"])
    close(as_rows(found.value, rows), tensors["quantize"])
    assert found.codebook is not None
    loss_is(found.codebook, facts["losses"]["codebook"])
    loss_is(found.commitment, facts["losses"]["commitment"])
    loss = (as_rows(found.value, rows) * tensors["cotangent"]).sum() + (found.codebook + 0.25 * found.commitment).sum()
    loss.backward()
    close(rows.grad if rows.grad is not None else rows, tensors["grad_input"])
    assert made.codes.grad is not None
    close(made.codes.grad[0], tensors["grad_codebook"])


def test_kmeans() -> None:
    _, tensors = case("kmeans_init")
    rows = tensors["input"][0]
    for iterations in (1, 10):
        means, counts = kmeans(rows, rows[:8], World(), iterations=iterations)
        close(means, tensors[f"means_{iterations}"][0])
        assert torch.equal(counts.long(), tensors[f"bins_{iterations}"][0].long())
    directions = tensors["input_normalised"][0]
    means, counts = kmeans(directions, directions[:8], World(), cosine=True)
    close(means, tensors["cosine_means_10"][0])
    assert torch.equal(counts.long(), tensors["cosine_bins_10"][0].long())
    made = EmaCodebook(8, 3, GRID)
    made.begin(0, tensors["means_10"][0], tensors["bins_10"][0].float())
    wanted = state(tensors, "after_init", published=False)
    for key, value in made.state_dict().items():
        relatively_close(value, wanted[key])


@pytest.mark.parametrize("name", ["residual_vq", "residual_vq_shared"])
def test_residual_quantization(name: str) -> None:
    facts, tensors = case(name)
    config = facts["config"]
    depth, shared = config["num_quantizers"], config.get("shared_codebook", False)
    made = EmaCodebook(config["codebook_size"], config["dim"], GRID, decay=config["decay"], depth=depth, shared=shared)
    tables = range(made.tables)
    keys = {"codes": "embed", "sums": "embed_avg", "counts": "cluster_size"}

    def recorded(at: str) -> dict[str, Tensor]:
        return {ours: torch.cat([tensors[f"{at}.layers.{i}.{key}"] for i in tables]) for ours, key in keys.items()}

    made.load_state_dict(recorded("state"))
    found = quantize(made.eval(), tensors["eval.input"])
    of_levels = tensors["eval.indices"].reshape(-1, depth).t()
    assert torch.equal(found.codes[0, :, :, 0], of_levels)
    close(as_rows(found.value, tensors["eval.quantize"]), tensors["eval.quantize"])
    close(as_rows(made.look_up(found.codes), tensors["eval.quantize"]), tensors["eval.output_from_indices"])
    rows = tensors["train.input"].clone().requires_grad_()
    found = quantize(made.train(), rows)
    assert torch.equal(found.codes[0, :, :, 0], tensors["train.indices"].reshape(-1, depth).t())
    loss_is(found.commitment, float(tensors["train.losses"].sum()))
    loss = (as_rows(found.value, rows) * tensors["train.cotangent"]).sum() + found.commitment.sum()
    (gradient,) = torch.autograd.grad(loss, rows)
    # The library adds one straight-through path for each level; here the gradient passes once, however deep.
    close(gradient, tensors["train.grad_input"] - (depth - 1) * tensors["train.cotangent"])
    made.observe(found)
    made.update(torch.tensor(True))
    for key, value in recorded("train").items():
        relatively_close(made.state_dict()[key], value)


@pytest.mark.parametrize("name", ["fsq_odd_even", "fsq_symmetric", "fsq_image", "fsq_projected"])
def test_finite_scalars(name: str) -> None:
    facts, tensors = case(name)
    made = FiniteScalar(
        tuple(facts["config"]["levels"]), GRID, symmetric=facts["config"].get("preserve_symmetry", False)
    )
    given = tensors["input"].clone().requires_grad_()
    rows = given.permute(0, 2, 3, 1) if name == "fsq_image" else given
    projections = {key: tensors[f"param.{key}"] for key in _projections(tensors)}
    found = quantize(made, _projected(rows, projections, "project_in"))
    assert torch.equal(codes(found, tensors["indices"]), tensors["indices"].long())
    for values, key in ((found.value, "quantize"), (made.look_up(found.codes), "codes_from_indices")):
        flat = _projected(as_rows(values, values[0, :, :, 0].t()), projections, "project_out")
        close(_like(flat, tensors[key], name), tensors[key])
        if key == "quantize":
            (gradient,) = torch.autograd.grad((_like(flat, tensors[key], name) * tensors["cotangent"]).sum(), given)
            close(gradient, tensors["grad_input"])
    whole = torch.arange(facts["codebook_size"])[None, None, :, None]
    close(made.look_up(whole)[0, :, :, 0].t(), tensors["implicit_codebook"])


@pytest.mark.parametrize("name", ["lfq", "lfq_temperature100", "lfq_projected_image", "lfq_spherical"])
def test_lookup_free(name: str) -> None:
    facts, tensors = case(name)
    config, train = facts["config"], facts["train"]
    bits = tensors["codebook"].shape[1]
    made = LookupFree(
        bits,
        GRID,
        spherical=config["spherical"],
        entropy=config["entropy_loss_weight"],
        diversity=config["diversity_gamma"],
        inverse_temperature=config["inv_temperature"],
    )
    given = tensors["input"].clone().requires_grad_()
    rows = given.permute(0, 2, 3, 1) if name.endswith("image") else given
    projections = {key: tensors[f"param.{key}"] for key in _projections(tensors)}
    inward = _projected(rows, projections, "project_in")
    found = quantize(made, inward)
    assert torch.equal(codes(found, tensors["indices"]), tensors["indices"].long())
    assert found.codebook is not None
    weight = config["commitment_loss_weight"]
    if weight:
        loss_is(found.commitment, train["commitment"])
    auxiliary = (found.codebook + weight * found.commitment).sum()
    auxiliary = auxiliary + _of_the_floor(made, inward)
    loss_is(auxiliary, train["aux"])
    flat = _projected(found.value[0, :, :, 0].t(), projections, "project_out")
    value = _like(flat, tensors["train.quantize"], name)
    close(value, tensors["train.quantize"])
    (gradient,) = torch.autograd.grad((value * tensors["cotangent"]).sum() + auxiliary, given)
    close(gradient, tensors["grad_input"])
    close(made.look_up(torch.arange(2**bits)[None, None, :, None])[0, :, :, 0].t(), _sized(tensors["codebook"], made))
    assert quantize(made.eval(), rows.new_zeros(3, bits)).codebook is None


def test_entropies_of_codes_are_those_of_the_softmax_over_all_of_them() -> None:
    facts, tensors = case("lfq")
    scores = tensors["input"].reshape(-1, 6)
    sure, spread = code_entropies(2 * facts["config"]["inv_temperature"] * scores)
    loss_is(sure, facts["train"]["per_sample_entropy"])
    loss_is(spread, facts["train"]["batch_entropy"])


def test_codes_through_a_linear_map() -> None:
    facts, tensors = case("sim_vq")
    made = LinearCodebook(20, 6, GRID)
    weight = tensors["param.code_transform.weight"]
    made.load_state_dict({"codes": tensors["state.frozen_codebook"][None], "weight": weight[None]})
    rows = tensors["input"].clone().requires_grad_()
    found = quantize(made, rows)
    assert torch.equal(codes(found, tensors["indices"]), tensors["indices"].long())
    close(as_rows(found.value, rows), tensors["quantize"])
    assert found.codebook is not None
    auxiliary = (found.codebook + 0.25 * found.commitment).sum()
    loss_is(auxiliary, facts["loss"])
    ((as_rows(found.value, rows) * tensors["cotangent"]).sum() + auxiliary).backward()
    assert rows.grad is not None and made.weight.grad is not None
    close(rows.grad, tensors["grad_input"])
    close(made.weight.grad[0], tensors["grad.code_transform.weight"])


def test_orthogonality() -> None:
    facts, tensors = case("orthogonal_reg")
    table = tensors["codebook"][0].clone().requires_grad_()
    penalty = orthogonality(table)
    loss_is(penalty, facts["loss"])
    (gradient,) = torch.autograd.grad(penalty, table)
    close(gradient, tensors["grad_codebook"][0])


def _of_the_floor(made: LookupFree, rows: Tensor) -> Tensor:
    """What the library's 1e-5 under probabilities in logarithms adds to its loss; here entropies are exact."""
    rows = rows.reshape(-1, made.dim)
    rows = F.normalize(rows, dim=1) if made.spherical else rows
    table = made.look_up(torch.arange(2**made.dim)[None, None, :, None])[0, :, :, 0]
    p = torch.softmax(2 * made.inverse_temperature * rows.double() @ table.double(), 1)

    def difference(p: Tensor) -> Tensor:
        return (p * (p.clamp_min(1e-300).log() - p.clamp_min(1e-5).log())).sum(-1).mean()

    return made.entropy * (difference(p) - made.diversity * difference(p.mean(0)))


def _sized(signs: Tensor, made: LookupFree) -> Tensor:
    return F.normalize(signs, dim=1) if made.spherical else signs


def _projections(tensors: dict[str, Tensor]) -> list[str]:
    return [key.removeprefix("param.") for key in tensors if key.startswith("param.")]


def _projected(rows: Tensor, projections: dict[str, Tensor], which: str) -> Tensor:
    """A 1x1 convolution around a quantizer, which a spec writes itself."""
    if f"{which}.weight" not in projections:
        return rows
    return F.linear(rows, projections[f"{which}.weight"], projections[f"{which}.bias"])


def _like(rows: Tensor, recorded: Tensor, name: str) -> Tensor:
    if not name.endswith("image"):
        return rows.reshape(recorded.shape)
    batch, dim, height, width = recorded.shape
    return rows.reshape(batch, height, width, dim).permute(0, 3, 1, 2)
