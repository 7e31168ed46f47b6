"""A model as programs that need nothing of ours: tensors in, tensors out, noise and all, for any number of images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data, ModelSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise, RecordedNoise
from hvdsl.runtime.inference.generate import completed, decode_image
from hvdsl.runtime.inference.inference import PixelMap
from hvdsl.runtime.inference.recalibrate import recalibrate_batch_norm
from hvdsl.runtime.latents import Condition, Given, LatentGroup, Source, Traversal
from hvdsl.runtime.latents.conditions import absent, arguments_of, blank, conditions_of
from hvdsl.runtime.latents.group import default_temperatures
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.protocol import as_vae, is_quantized
from hvdsl.workflows.groups import group_names

TRACED = 3  # images of the example that programs are traced with


class EncodeProgram(nn.Module):
    """Pixel values `(N, C, H, W)` to each group's posterior mean, after its flow, or its codes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, **given: Tensor) -> tuple[Tensor, ...]:
        vae = as_vae(self.model)
        walk = Traversal(vae.LATENTS, pixels.shape[0], None, Source.POSTERIOR_MEAN)
        vae(vae.input(pixels), walk, **arguments_of(self.model, given))
        return tuple(
            o.z if o.codes is None else _codes_of(g, o.codes) for g, o in zip(vae.LATENTS, walk.outcomes, strict=True)
        )


def _codes_of(group: LatentGroup, codes: Tensor) -> Tensor:
    return codes if group.depth > 1 else codes[:, 0]


class DecodeProgram(nn.Module):
    """Each group's value, as `EncodeProgram` gives it, to pixels `(N, C, H, W)`, float: the likelihood's mean."""

    def __init__(self, model: nn.Module, pixels: PixelMap) -> None:
        super().__init__()
        self.model, self.pixels = model, pixels

    def forward(self, *latents: Tensor, **given: Tensor) -> Tensor:
        vae = as_vae(self.model)
        sources = [
            Given(z if z.is_floating_point() or g.depth > 1 else z[:, None])
            for g, z in zip(vae.LATENTS, latents, strict=True)
        ]
        batch = latents[0].shape[0]
        walk = Traversal(vae.LATENTS, batch, None, sources)
        own = arguments_of(self.model, completed(self.model, given, batch))
        pixels: Tensor = self.pixels(vae.likelihood.mean(vae(None, walk, **own)))
        return pixels


class ReconstructProgram(nn.Module):
    """Pixel values `(N, C, H, W)` to their reconstruction by posterior means, float."""

    def __init__(self, model: nn.Module, pixels: PixelMap) -> None:
        super().__init__()
        self.model, self.pixels = model, pixels

    def forward(self, pixels: Tensor, **given: Tensor) -> Tensor:
        vae = as_vae(self.model)
        walk = Traversal(vae.LATENTS, pixels.shape[0], None, Source.POSTERIOR_MEAN)
        params = vae(vae.input(pixels), walk, **arguments_of(self.model, given))
        images: Tensor = self.pixels(vae.likelihood.mean(params))
        return images


class SampleProgram(nn.Module):
    """Noise to pixel values `(N, C, H, W)`, float: a draw from the priors, and from the likelihood.

    Args:
        streams: what each input is for.
        temperatures: of each group.
    """

    def __init__(
        self, model: nn.Module, pixels: PixelMap, streams: Sequence[str], temperatures: Sequence[float]
    ) -> None:
        super().__init__()
        self.model, self.pixels = model, pixels
        self.streams, self.temperatures = tuple(streams), tuple(temperatures)

    def forward(self, *noise: Tensor, **given: Tensor) -> Tensor:
        vae, batch = as_vae(self.model), noise[0].shape[0]
        recorded = RecordedNoise(batch, streams=dict(zip(self.streams, noise, strict=True)))
        walk = Traversal(vae.LATENTS, batch, recorded, Source.PRIOR, self.temperatures)
        own = arguments_of(self.model, completed(self.model, given, batch))
        images: Tensor = self.pixels(decode_image(vae, vae(None, walk, **own), recorded, "sample"))
        return images


@dataclass(frozen=True, slots=True, eq=False)
class TensorProgram:
    """A module, the names of what goes in and comes out, and how its noise is drawn.

    Attributes:
        noise: of each input that is noise, `normal`, or `uniform in [low, high)`.
        given: what it is conditioned on, which it takes by name: classes `(N,)` int64, -1 where there is none, numbers
            `(N, C)` or `(N, C, H, W)`, NaN where there are none.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    noise: Mapping[str, str]
    given: tuple[Condition, ...] = ()

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run it on what goes in, in the order of `inputs`, then of `given`."""
        outputs = self.module(*inputs[: len(self.inputs)], **self._named(inputs))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return {c.name: value for c, value in zip(self.given, inputs[len(self.inputs) :], strict=True)}

    def trace(self, example: Sequence[Tensor]) -> torch.export.ExportedProgram:
        """Return the program for any number of images; `example` is what a call takes.

        Raises:
            HvdslError: an operation of the model cannot be exported for any number of images.
        """
        batch = torch.export.Dim("batch")
        first, named = tuple(example[: len(self.inputs)]), self._named(example)
        sizes: tuple[Any, ...] = tuple({0: batch} for _ in first)
        if not isinstance(self.module, EncodeProgram | ReconstructProgram):
            sizes = (sizes,)  # what comes as *args is one argument
        module = _spelled(self.module, list(named))
        shapes = (*sizes, *({0: batch} for _ in named))
        try:
            with torch.no_grad():
                return torch.export.export(module, first, named, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # whatever torch's tracer finds fault with
            reason = str(error).strip().splitlines()[0]
            raise HvdslError(f"the model cannot be exported for any number of images: torch says `{reason}`") from error


def _spelled(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """The same module with its keywords by their names: torch traces no `**given` for any number of images."""
    forward = type(module).forward
    own = [p for p in signature(forward).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    own = [p.replace(name=f"{p.name}_") if p.name in names else p for p in own]

    def spelled(self: nn.Module, *inputs: Tensor, **given: Tensor) -> Any:
        return forward(self, *inputs, **given)

    keywords = [Parameter(name, Parameter.KEYWORD_ONLY) for name in names]
    spelled.__signature__ = Signature([*own, *keywords])  # type: ignore[attr-defined]  # what `inspect` reads
    copied = copy.copy(module)
    copied.__class__ = type(type(module).__name__, (type(module),), {"forward": spelled})
    return copied


class _Listening:
    """Noise that notes what is asked of it."""

    def __init__(self, noise: Noise) -> None:
        self._noise, self.batch = noise, noise.batch
        self.drawn: dict[str, Tensor] = {}
        self.kinds: dict[str, str] = {}

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        self.kinds[stream] = "normal"
        return self.drawn.setdefault(stream, self._noise.normal(stream, shape))

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        self.kinds[stream] = f"uniform in [{low:.9g}, {high:.9g})"
        return self.drawn.setdefault(stream, self._noise.uniform(stream, shape, low, high))


def programs(module: nn.Module, settings: ModelSettings) -> dict[str, TensorProgram]:
    """Return the programs of a model on the CPU, in evaluation mode, by name.

    They are encode, decode, reconstruct and, where images start from the model's own priors, sample.

    Raises:
        HvdslError: batch norms are to be recalibrated under conditions of which nothing is known.
    """
    model = copy.deepcopy(module).cpu().eval().requires_grad_(False)
    data, vae = settings.data, as_vae(model)
    pixels = PixelMap(vae, data, "cpu")
    names = tuple(name.replace(".", "_") for name in group_names(vae.LATENTS))
    given = conditions_of(model)
    generating = tuple(condition for condition in given if condition.generative)
    made = {
        "encode": TensorProgram(EncodeProgram(model), ("pixels",), names, {}, given),
        "decode": TensorProgram(DecodeProgram(model, pixels), names, ("images",), {}, generating),
        "reconstruct": TensorProgram(ReconstructProgram(model, pixels), ("pixels",), ("images",), {}, given),
    }
    if not is_quantized(model):
        made["sample"] = _sample(model, settings, generating)
    return made


def _sample(model: nn.Module, settings: ModelSettings, given: tuple[Condition, ...]) -> TensorProgram:
    passes = settings.sample.recalibrate_batch_norm
    vae = as_vae(model)
    temperatures = default_temperatures(vae.LATENTS, settings.sample.temperature)
    if passes:
        unknown = next((c.name for c in given if c.classes is None and not c.droppable), None)
        if unknown is not None:
            raise HvdslError(
                f"batch norms are to be recalibrated under values of `{unknown}`, of which an export knows none: "
                "`--set sample.recalibrate_batch_norm=0` leaves their statistics as they were trained"
            )
        model = copy.deepcopy(model)
        turns = {c.name: torch.arange(c.classes) for c in given if c.classes is not None}
        turns |= {c.name: absent(c, 1) for c in given if c.classes is None}
        recalibrate_batch_norm(model, passes, temperature=temperatures, given=completed(model, turns, 1))
        vae = as_vae(model)
    pixels = PixelMap(vae, settings.data, "cpu")
    listening = _noise_of(model, temperatures, 0, TRACED)
    streams = tuple(listening.drawn)
    names = {stream: stream.replace(".", "_") for stream in streams}
    kinds = {names[stream]: kind for stream, kind in listening.kinds.items()}
    return TensorProgram(
        SampleProgram(model, pixels, streams, temperatures), tuple(names.values()), ("images",), kinds, given
    )


def _noise_of(model: nn.Module, temperatures: Sequence[float], seed: int, count: int) -> _Listening:
    """The noise of some images, which is drawn as they are."""
    vae = as_vae(model)
    listening = _Listening(image_noise(model, vae.LATENTS, seed, range(count)))
    anything = {c.name: blank(c, count) for c in conditions_of(model)}
    with torch.no_grad():
        walk = Traversal(vae.LATENTS, count, listening, Source.PRIOR, temperatures)
        decode_image(vae, vae(None, walk, **arguments_of(model, anything)), listening, "sample")
    return listening


def _values(condition: Condition, count: int, generator: torch.Generator) -> Tensor:
    """Values of a condition; of one that may be absent the last is."""
    if condition.classes is not None:
        value = torch.randint(0, condition.classes, (count,), generator=generator)
    else:
        value = torch.randn(count, *condition.stored, generator=generator)
    return torch.cat((value[1:], absent(condition, 1))) if condition.droppable else value


def examples(made: Mapping[str, TensorProgram], data: Data, count: int, seed: int) -> dict[str, tuple[Tensor, ...]]:
    """Return inputs of each program for `count` images: random pixels, their latents, noise, conditions."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *data.shape)
    if data.is_real:
        pixels = torch.randn(shape, generator=generator)
    else:
        pixels = torch.randint(0, 2 if data.binarize != "none" else 2**data.bits, shape, generator=generator).float()
    given = {c.name: _values(c, count, generator) for c in made["encode"].given}
    with torch.no_grad():
        latents = tuple(value.clone() for value in made["encode"]((pixels, *given.values())))
    inputs = {"encode": (pixels,), "decode": latents, "reconstruct": (pixels,)}
    if "sample" in made:
        sample = made["sample"].module
        assert isinstance(sample, SampleProgram)
        drawn = _noise_of(sample.model, sample.temperatures, seed, count).drawn
        inputs["sample"] = tuple(drawn[stream] for stream in sample.streams)
    return {name: (*first, *(given[c.name] for c in made[name].given)) for name, first in inputs.items()}
