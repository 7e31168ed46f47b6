"""Recorded cases: weights, inputs, noise and results of the published implementations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.importers import rename
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.latents import Traversal

FOLDER = Path(__file__).parent
SPECS = {"a_8bit_32px": "vdvae_a.hv", "b_5bit_64px": "vdvae_b.hv", "c_custom_widths": "vdvae_c.hv"}


@dataclass(frozen=True)
class Case:
    """One recorded model. Images are kept NHWC in the files and NCHW here."""

    name: str
    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def groups(self) -> int:
        return int(self.facts["n_groups"])

    def image(self, key: str) -> Tensor:
        return self.tensors[key].permute(0, 3, 1, 2).contiguous()

    def noise(self, prefix: str = "") -> list[Tensor | None]:
        return [self.tensors.get(f"{prefix}eps.{i:03}") for i in range(self.groups)]


@cache
def case(name: str) -> Case:
    folder = FOLDER / "vdvae" / name
    return Case(name, json.loads((folder / "case.json").read_text()), load_file(folder / "io.safetensors"))


def published_weights(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / "vdvae" / name / "model.safetensors")


def our_names(compiled: hvdsl.Compiled) -> dict[str, tuple[int, ...]]:
    """Parameter names in order of execution, with their shapes."""
    nodes = compiled.model.graph.nodes
    return {f"{n.path}.{p.role}": p.shape for n in nodes for p in n.parameters if p.trainable}


def in_our_names(name: str, published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename some of a case's published tensors (gradients, averages)."""
    compiled = hvdsl.compile(FOLDER / "specs" / SPECS[name])
    names = our_names(compiled)
    everything = {key: torch.full_like(value, torch.nan) for key, value in published_weights(name).items()}
    renamed = rename("openai-vdvae", names, everything | published)
    return {key: value.reshape(names[key]) for key, value in renamed.items() if not value.isnan().all()}


def model(name: str, dtype: torch.dtype = torch.float32, level: int = 1) -> nn.Module:
    """Build the emitted model with the recorded weights."""
    path = FOLDER / "specs" / SPECS[name]
    names = our_names(hvdsl.compile(path))
    built = hvdsl.build(path, level=level)
    weights = rename("openai-vdvae", names, published_weights(name))
    built.load_state_dict({key: value.reshape(names[key]) for key, value in weights.items()})
    return built.to(dtype)


def infer(built: nn.Module, recorded: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Traversal]:
    """Run the recorded images through posteriors with the recorded noise."""
    x = recorded.image("x_in").to(dtype)
    noise = RecordedNoise(len(x), [e if e is None else e.to(dtype) for e in recorded.noise()])
    walk = Traversal.infer(built.LATENTS, len(x), noise)  # type: ignore[arg-type]  # the protocol of emitted models
    return built(x, walk), walk
