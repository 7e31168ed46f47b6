"""One safetensors file as a model: its metadata has the resolved spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hvdsl.importers.weights import WeightsError
from hvdsl.runtime.ground.noise import SCHEMES
from hvdsl.runtime.training.folder.checkpoint import (
    CONTENT,
    DIGEST,
    NOISE_SCHEME,
    PRIOR_OF,
    SPEC,
    STEP,
    content_is_whole,
)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The tensors of a file by name, with the resolved spec that they are of."""

    path: Path
    spec: str
    step: int
    noise_scheme: int
    tensors: Mapping[str, Tensor]

    def fitting(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors, checked against `like` for names, shapes and types.

        Raises:
            WeightsError: one is missing, too many, or of another shape or type.
        """
        for name in sorted(like.keys() | self.tensors.keys()):
            here, there = like.get(name), self.tensors.get(name)
            if here is None or there is None:
                where = "is not in the spec's model" if here is None else "is missing"
                raise WeightsError(f"{self.path} does not fit the spec in it: `{name}` {where}")
            if (here.shape, here.dtype) != (there.shape, there.dtype):
                raise WeightsError(
                    f"{self.path} does not fit the spec in it: `{name}` is {list(there.shape)} {there.dtype} there and "
                    f"{list(here.shape)} {here.dtype} in the model"
                )
        return dict(self.tensors)


def read_weights_file(path: Path) -> WeightsFile:
    """Read a file of weights with its spec; nothing in it is executed.

    Raises:
        WeightsError: it cannot be read, has no spec, or a spec of another digest.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        whole = content_is_whole(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error})") from error
    if not whole:
        raise WeightsError(
            f"{path} is damaged: its content is not what the SHA-256 in its metadata says; where it was changed on "
            f"purpose, leave `{CONTENT}` out of the metadata"
        )
    if SPEC not in metadata:
        raise WeightsError(
            f"{path} has no spec in its metadata: give the run folder, or import it with `hvdsl import … --spec SPEC`"
        )
    if PRIOR_OF in metadata:
        raise WeightsError(f"{path} is the prior of `{metadata[PRIOR_OF]}`, and no model: give its run")
    spec, step = metadata[SPEC], metadata.get(STEP, "0")
    if hashlib.sha256(spec.encode()).hexdigest() != metadata.get(DIGEST):
        raise WeightsError(f"{path} is damaged: the spec in its metadata is not the one that its digest is of")
    if not (step.isascii() and step.isdigit()):
        raise WeightsError(f"{path} is damaged: its metadata says it was trained for `{step}` steps")
    scheme = metadata.get(NOISE_SCHEME, "1")
    if scheme not in map(str, SCHEMES):
        raise WeightsError(f"{path} draws by noise scheme {scheme}, which this version does not know")
    return WeightsFile(path, spec, int(step), int(scheme), tensors)
