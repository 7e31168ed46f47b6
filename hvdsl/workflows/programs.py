"""A model as programs that need nothing of ours: tensors in, tensors out, noise and all, for any number of images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data, ModelSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise, RecordedNoise
from hvdsl.runtime.inference.generate import decode_image
from hvdsl.runtime.inference.inference import PixelMap
from hvdsl.runtime.inference.recalibrate import recalibrate_batch_norm
from hvdsl.runtime.latents import Given, LatentGroup, Source, Traversal
from hvdsl.runtime.latents.group import default_temperatures
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.protocol import as_vae, is_quantized
from hvdsl.workflows.groups import group_names

TRACED = 3  # images of the example that programs are traced with


class Encode(nn.Module):
    """Pixel values `(N, C, H, W)` to each group's posterior mean, after its flow, or its codes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        vae = as_vae(self.model)
        walk = Traversal(vae.LATENTS, pixels.shape[0], None, Source.POSTERIOR_MEAN)
        vae(vae.input(pixels), walk)
        return tuple(
            o.z if o.codes is None else _codes_of(g, o.codes) for g, o in zip(vae.LATENTS, walk.outcomes, strict=True)
        )


def _codes_of(group: LatentGroup, codes: Tensor) -> Tensor:
    return codes if group.depth > 1 else codes[:, 0]


class Decode(nn.Module):
    """Each group's value, as `Encode` gives them, to pixel values `(N, C, H, W)`, float: the likelihood's mean."""

    def __init__(self, model: nn.Module, pixels: PixelMap) -> None:
        super().__init__()
        self.model, self.pixels = model, pixels

    def forward(self, *latents: Tensor) -> Tensor:
        vae = as_vae(self.model)
        sources = [
            Given(z if z.is_floating_point() or g.depth > 1 else z[:, None])
            for g, z in zip(vae.LATENTS, latents, strict=True)
        ]
        walk = Traversal(vae.LATENTS, latents[0].shape[0], None, sources)
        pixels: Tensor = self.pixels(vae.likelihood.mean(vae(None, walk)))
        return pixels


class Reconstruct(nn.Module):
    """Pixel values `(N, C, H, W)` to their reconstruction by posterior means, float."""

    def __init__(self, model: nn.Module, pixels: PixelMap) -> None:
        super().__init__()
        self.model, self.pixels = model, pixels

    def forward(self, pixels: Tensor) -> Tensor:
        vae = as_vae(self.model)
        walk = Traversal(vae.LATENTS, pixels.shape[0], None, Source.POSTERIOR_MEAN)
        images: Tensor = self.pixels(vae.likelihood.mean(vae(vae.input(pixels), walk)))
        return images


class Sample(nn.Module):
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

    def forward(self, *noise: Tensor) -> Tensor:
        vae, batch = as_vae(self.model), noise[0].shape[0]
        recorded = RecordedNoise(batch, streams=dict(zip(self.streams, noise, strict=True)))
        walk = Traversal(vae.LATENTS, batch, recorded, Source.PRIOR, self.temperatures)
        images: Tensor = self.pixels(decode_image(vae, vae(None, walk), recorded, "sample"))
        return images


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A module, the names of what goes in and comes out, and how its noise is drawn.

    Attributes:
        noise: of each input that is noise, `normal`, or `uniform in [low, high)`.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    noise: Mapping[str, str]

    def trace(self, example: Sequence[Tensor]) -> torch.export.ExportedProgram:
        """Return the program for any number of images.

        Raises:
            HvdslError: an operation of the model cannot be exported for any number of images.
        """
        batch = torch.export.Dim("batch")
        shapes: tuple[Any, ...] = tuple({0: batch} for _ in example)
        if not isinstance(self.module, Encode | Reconstruct):
            shapes = (shapes,)  # what comes as *args is one argument
        try:
            with torch.no_grad():
                return torch.export.export(self.module, tuple(example), dynamic_shapes=shapes, strict=False)
        except Exception as error:  # whatever torch's tracer finds fault with
            reason = str(error).strip().splitlines()[0]
            raise HvdslError(f"the model cannot be exported for any number of images: torch says `{reason}`") from error


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


def programs(module: nn.Module, settings: ModelSettings) -> dict[str, Program]:
    """Return the programs of a model on the CPU, in evaluation mode, by name.

    They are encode, decode, reconstruct and, where images start from the model's own priors, sample.

    Raises:
        HvdslError: the model takes conditions.
    """
    conditions = [p.name for p in signature(module.forward).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    if conditions:
        raise HvdslError(f"the model is conditioned on `{conditions[0]}`: such models are not exported as programs")
    model = copy.deepcopy(module).cpu().eval().requires_grad_(False)
    data, vae = settings.data, as_vae(model)
    pixels = PixelMap(vae, data, "cpu")
    names = tuple(name.replace(".", "_") for name in group_names(vae.LATENTS))
    made = {
        "encode": Program(Encode(model), ("pixels",), names, {}),
        "decode": Program(Decode(model, pixels), names, ("images",), {}),
        "reconstruct": Program(Reconstruct(model, pixels), ("pixels",), ("images",), {}),
    }
    if not is_quantized(model):
        made["sample"] = _sample(model, settings)
    return made


def _sample(model: nn.Module, settings: ModelSettings) -> Program:
    passes = settings.sample.recalibrate_batch_norm
    vae = as_vae(model)
    temperatures = default_temperatures(vae.LATENTS, settings.sample.temperature)
    if passes:
        model = copy.deepcopy(model)
        recalibrate_batch_norm(model, passes, temperature=temperatures)
        vae = as_vae(model)
    pixels = PixelMap(vae, settings.data, "cpu")
    listening = _Listening(image_noise(model, vae.LATENTS, 0, range(TRACED)))
    with torch.no_grad():
        walk = Traversal(vae.LATENTS, TRACED, listening, Source.PRIOR, temperatures)
        decode_image(vae, vae(None, walk), listening, "sample")
    streams = tuple(listening.drawn)
    names = {stream: stream.replace(".", "_") for stream in streams}
    kinds = {names[stream]: kind for stream, kind in listening.kinds.items()}
    return Program(Sample(model, pixels, streams, temperatures), tuple(names.values()), ("images",), kinds)


def examples(made: Mapping[str, Program], data: Data, count: int, seed: int) -> dict[str, tuple[Tensor, ...]]:
    """Return inputs of each program for `count` images: random pixels, their latents, noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *data.shape)
    if data.is_real:
        pixels = torch.randn(shape, generator=generator)
    else:
        pixels = torch.randint(0, 2 if data.binarize != "none" else 2**data.bits, shape, generator=generator).float()
    with torch.no_grad():
        latents = tuple(value.clone() for value in made["encode"].module(pixels))
    inputs = {"encode": (pixels,), "decode": latents, "reconstruct": (pixels,)}
    if "sample" in made:
        sample = made["sample"].module
        assert isinstance(sample, Sample)
        groups = as_vae(sample.model)
        listening = _Listening(image_noise(sample.model, groups.LATENTS, seed, range(count)))
        with torch.no_grad():
            walk = Traversal(groups.LATENTS, count, listening, Source.PRIOR, sample.temperatures)
            decode_image(groups, groups(None, walk), listening, "sample")
        inputs["sample"] = tuple(listening.drawn[stream] for stream in sample.streams)
    return inputs
