"""The law: what `check` accepts compiles, builds, trains, generates and is drawn position by position."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvdsl import grammar
from hvdsl.compiler.analysis.memory import memory
from hvdsl.compiler.analysis.reach import still_norms, untrained
from hvdsl.compiler.emit import emit_priors, emit_steps
from hvdsl.compiler.load import load_module
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check, write
from hvdsl.draw import draw
from hvdsl.errors import HvdslError
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.inference.generate import sample
from hvdsl.runtime.latents.conditions import arguments_of, conditions_of, target_images, target_of, weight_of
from hvdsl.runtime.latents.group import CodeMap, Condition
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.objective.penalties import Penalties
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import draw_codes
from hvdsl.runtime.training.schedule import Clock
from hvdsl.workflows.compiling import info

BATCH = 3
DEAD = {"HV0309", "HV0904", "HV0905", "HV0906", "HV0907", "HV0909"}  # warnings of what gets no gradient
CLOCK = Clock(per_epoch=10, total=20)
_VARIANT = re.compile(r"^variant (\w+)", re.MULTILINE)
TRIES = 3  # redraws of all parameters, before a gradient of zero counts


@dataclass
class Verdict:
    """What became of a text: the codes that `check` refuses it with, or what breaks the law."""

    refused: tuple[str, ...] = ()
    broken: str = ""
    warned: tuple[str, ...] = field(default=())


def judge(text: str) -> Verdict:
    """Put a spec to the law; one with variants, with all of these laid over it."""
    step = "check"
    try:
        model = check(Source("law.hv", text), variant="@".join(_VARIANT.findall(text)) or None)
        step = "text -> YAML -> text"
        _round_trip(text)
        step = "info and drawing"
        _is_shown(model)
        step = "prior steps"
        _priors(model)
        if model.is_of_codes:
            return Verdict(warned=tuple(sorted({d.code.id for d in model.warnings})))
        modules = []
        for level in (0, 1):
            step = f"compile -O{level}"
            source = write(model, level)
            step = f"build -O{level}"
            module = load_module(source, f"law_{level}").Model()
            initialize(module, 0)
            modules.append(module.double())
        step = "forward and backward"
        _trains(model, modules)
        step = "generate"
        _generates(model, modules[1])
    except SpecError as error:
        if step != "check":
            return Verdict(broken=f"{step}: refused late: {error}")
        return Verdict(refused=tuple(sorted({d.code.id for d in error.diagnostics})))
    except AssertionError as error:
        return Verdict(broken=f"{step}: {str(error).strip()[:400]}")
    except Exception as error:
        return Verdict(broken=f"{step}: {type(error).__name__}: {str(error).strip()[:300]}")
    return Verdict(warned=tuple(sorted({d.code.id for d in model.warnings})))


def _is_shown(model: Model) -> None:
    """What `info` and `draw` say of it: numbers of a model that is accepted."""
    assert info(model)["parameters"] >= 0
    assert draw(model, ".svg")
    if not model.is_of_codes:
        assert memory(model.graph).peak > 0


def _round_trip(text: str) -> None:
    spec = grammar.read_text(Source("law.hv", text))
    again = grammar.read_yaml(Source("law.yaml", grammar.print_yaml(spec)))
    assert grammar.print_text(again) == grammar.print_text(grammar.canonical(spec)), "YAML gives another text"


def _shake(module: nn.Module, seed: int) -> None:
    """Draw all parameters anew, larger with every try: small ones round to the middle code."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                (0.2 + 0.4 * seed) * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            )


def _fields(model: Model) -> dict[str, Tensor]:
    """Values of all fields beside an image; where one may be dropped, the last image has none."""
    fields = {}
    for i, condition in enumerate(model.settings.data.conditions):
        stored = condition.shape if condition.is_map else condition.shape[:1]
        values = torch.randint(0, 16, (BATCH, *stored), generator=torch.Generator().manual_seed(i)).double()
        none = torch.nan
        if condition.classes is not None:
            values, none = torch.arange(BATCH) % condition.classes, -1
        if condition.drop:
            values[-1] = none
        fields[condition.name] = values
    return fields


def _trains(model: Model, modules: list[nn.Module]) -> None:
    """Losses of both levels agree, and each parameter that the graph does not give up has a gradient."""
    plain, rewritten = modules
    silent = set(dict(plain.named_parameters()))
    v = torch.randint(0, 16, (BATCH, *model.settings.data.shape), generator=torch.Generator().manual_seed(1)).double()
    if model.settings.data.binarize != "none":
        v = (v > 7).double()
    fields, noise = _fields(model), SampleNoise(3, range(BATCH))
    objective = Objective(model.settings.objective, CLOCK.steps)
    for attempt in range(TRIES):
        _shake(plain, attempt)
        rewritten.load_state_dict(plain.state_dict())
        losses = []
        for module, training in ((plain, False), (rewritten, False), (plain, True)):
            module.train(training)
            given, weight = arguments_of(module, fields), weight_of(module, fields)
            target = target_of(module, v, fields)
            batch = ModelBatch(module.input(v), target, noise, given=given, weight=weight)
            losses.append(objective(module, batch, 7)[0])
        assert attempt or losses[2].isfinite(), f"the loss is {losses[2]}"
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-8, atol=1e-8, equal_nan=True)
        weights = [Penalties(module, model.settings.objective, CLOCK.steps)(7)[0] for module in modules]
        if weights[0] is not None:
            torch.testing.assert_close(weights[1], weights[0], rtol=1e-8, atol=1e-8)
        plain.zero_grad()
        losses[2].backward()
        silent -= {n for n, p in plain.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
        expected = {path for path, _ in untrained(model)}
        still = {n.parameter_path(p.role) for n in still_norms(model.graph) for p in n.parameters}
        if silent <= expected | still:
            break
    assert silent <= expected | still, f"no gradient: {sorted(silent - expected - still)[:4]}"
    assert not expected or DEAD & {d.code.id for d in model.warnings}, f"not told: {sorted(expected)[:4]}"
    trained = {n for n, p in plain.named_parameters() if n in expected and n not in silent}
    assert not trained, f"said to have no gradient: {sorted(trained)[:4]}"


def _generates(model: Model, module: nn.Module) -> None:
    """Images are drawn, under guidance where a condition may be dropped."""
    conditions, fields = conditions_of(module), _fields(model)
    guided = any(c.droppable for c in conditions) and not any(group.quantized for group in module.LATENTS)
    guidance = 2.0 if guided else None
    given = {condition.name: fields[condition.name] for condition in conditions}
    if target_images(module):  # there is no way back from a difference of images
        with pytest.raises(HvdslError, match="cannot be turned back into pixels"):
            sample(module, model.settings.data, BATCH, given=given, guidance=guidance)
        return
    images = sample(module, model.settings.data, BATCH, given=given, guidance=guidance)
    assert images.shape == (BATCH, *model.settings.data.shape), f"images of {tuple(images.shape)}"


def _priors(model: Model) -> None:
    """The logits of each position, drawn one after the other, are those of one forward pass over the whole map."""
    if not model.priors:
        return
    steps = load_module(emit_steps(model), "law_steps").STEPS
    for latent, cls in load_module(emit_priors(model), "law_priors").PRIORS.items():
        module = cls()
        initialize(module, 1)
        _drawn_as_forward(
            StepwisePrior(module.double(), steps[latent]), bool(DEAD & {d.code.id for d in model.warnings})
        )


def _drawn_as_forward(prior: StepwisePrior, warned: bool) -> None:
    _shake(prior.module, 1)
    own, generator = prior.model.CODES, torch.Generator().manual_seed(0)
    height, width = own.grid
    noise = 3 * torch.randn(2, own.classes, height, width * own.depth, generator=generator, dtype=torch.float64)
    given = [_of(condition, generator) for condition in prior.model.CONDITIONS]
    seen = torch.zeros_like(noise)

    def choose(logits: Tensor, i: int, j: int) -> Tensor:
        seen[:, :, i, j] = logits
        return (logits + noise[:, :, i, j]).argmax(1)

    drawn = draw_codes(prior, choose, given, batch=2)
    with torch.no_grad():
        full = prior.module.eval()(drawn, *given).view(2, own.depth, own.classes, height, width)
    columns = full.permute(0, 2, 3, 4, 1).flatten(3)  # each depth of a position is as a column
    torch.testing.assert_close(seen, columns, rtol=1e-8, atol=1e-9)
    if prior.steps.WAVEFRONT_SKEW is not None:
        assert torch.equal(draw_codes(prior, choose, given, batch=2, schedule="wavefront"), drawn), "other codes"
    _prior_trains(prior, drawn.clone(), given, warned)


def _of(condition: CodeMap | Condition, generator: torch.Generator) -> Tensor:
    """Codes, classes or numbers that a prior is given."""
    shape = (2, *(condition.shape if isinstance(condition, CodeMap) else condition.stored))
    if condition.classes is None:
        return torch.randint(0, 16, shape, generator=generator).double()
    return torch.randint(0, condition.classes, shape, generator=generator)


def _prior_trains(prior: StepwisePrior, codes: Tensor, given: list[Tensor], warned: bool) -> None:
    """Each parameter of a prior has a gradient, or it was told that some of it has none."""
    own = prior.model.CODES
    logits = prior.module.train()(codes, *given).view(2, own.depth, own.classes, *own.grid)
    F.cross_entropy(logits.transpose(1, 2), codes.view(2, own.depth, *own.grid)).backward()
    silent = [n for n, p in prior.module.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert warned or not silent, f"prior {own.name}, no gradient: {silent[:4]}"
