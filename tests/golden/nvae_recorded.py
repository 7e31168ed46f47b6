"""Recorded NVAE models: weights, inputs, noise and results of the published implementation.

The repository holds all six cases and, of each, the weights and the tensors that the tests compare; of the larger maps
and of the gradients it holds a choice. The environment variable `HVDSL_RECORDINGS` names a folder with everything
recorded; the same tests then compare all of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.importers import read_release, rename, weights
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.latents import Traversal

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("HVDSL_RECORDINGS", HERE)) / "nvae"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@dataclass(frozen=True)
class Case:
    name: str
    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def images(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return 2 * self.tensors["x"].to(dtype) - 1

    def target(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.tensors["x"].to(dtype) if self.name.startswith("c_") else self.images(dtype)

    def noise(self, prefix: str, groups: int) -> list[Tensor]:
        return [self.tensors[f"{prefix}.{i:02}"] for i in range(groups)]


def spec(name: str) -> Path:
    return HERE / "specs" / f"nvae_{name[0]}.hv"


@cache
def case(name: str) -> Case:
    folder = FOLDER / name
    return Case(name, json.loads((folder / "case.json").read_text()), load_file(folder / "io.safetensors"))


@cache
def our_names(name: str) -> dict[str, tuple[int, ...]]:
    """Names of parameters and running statistics in order of execution, with their shapes."""
    nodes = hvdsl.compile(spec(name)).model.graph.nodes
    return {f"{n.path}.{p.role}": p.shape for n in nodes for p in n.parameters}


@cache
def published(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / name / "model.safetensors")


@cache
def published_names(name: str) -> dict[str, str]:
    """Each of our names, and the release's."""
    return weights.published_names(our_names(name), read_release("nvidia-nvae").rules, published(name))


def model(name: str, dtype: torch.dtype = torch.float32, level: int = 1) -> nn.Module:
    """The emitted model with the recorded weights, in training mode."""
    built = hvdsl.build(spec(name), level=level)
    weights = rename("nvidia-nvae", our_names(name), published(name))
    built.load_state_dict({key: value.reshape(our_names(name)[key]) for key, value in weights.items()})
    return built.to(dtype).train()


def infer(
    built: nn.Module, recorded: Case, prefix: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Traversal]:
    """Run the recorded images through posteriors with recorded noise; every density and channel's rate is kept."""
    x = recorded.images(dtype)
    groups = built.LATENTS
    noise = RecordedNoise(len(x), [e.to(dtype) for e in recorded.noise(prefix, len(groups))])  # type: ignore[arg-type]
    walk = Traversal.infer(groups, len(x), noise, densities=True, detail="channel")  # type: ignore[arg-type]
    return built(x, walk), walk
