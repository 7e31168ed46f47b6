"""Published weights as a run that evaluates and samples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hvdsl.compiler.model import Model
from hvdsl.errors import UsageError
from hvdsl.grammar.source import Source
from hvdsl.importers import read_release, read_weights, rename, sources
from hvdsl.runtime.codes.store import Identity
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import model_tensors
from hvdsl.workflows.calls import no_global_effect
from hvdsl.workflows.compiling import Overrides, checked, spelled
from hvdsl.workflows.runs import create_run, instantiate, instantiate_prior
from hvdsl.workflows.stages import create_prior_run, open_autoencoder


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What to import and where to; see `hvdsl.import_weights` for each."""

    source: str
    weights: Path
    spec: str | Path | Source
    out: Path
    ema: Path | None = None
    prior: tuple[tuple[str, Path], ...] = ()
    data: Path | None = None
    overrides: tuple[str, ...] = ()


def import_weights(
    source: str,
    weights: str | os.PathLike[str],
    *,
    spec: str | Path | Source,
    out: str | os.PathLike[str],
    ema: str | os.PathLike[str] | None = None,
    prior: Mapping[str, str | os.PathLike[str]] | None = None,
    data: str | os.PathLike[str] | None = None,
    overrides: Overrides | None = None,
) -> Run:
    """Turn published weights into a run. Nothing in the files is executed.

    Examples:
        >>> run = hvdsl.import_weights("openai-vdvae", "cifar10.th", spec="vdvae_cifar10", out="runs/cifar10")

    Args:
        source: the code base that published them, such as `openai-vdvae` or `nvidia-nvae`.
        weights: a `.th`, `.pt` or `.safetensors` file.
        spec: the model: a file, or the name of a shipped spec.
        out: the run folder to make.
        ema: the published running average, if it is a second file.
        prior: the published priors of discrete latents, by latent.
        data: where the spec's data is, for evaluation.
        overrides: `let`s and settings, as `{"width": 64}`.

    Returns:
        the run, for `hvdsl.load`.

    Raises:
        hvdsl.Error: a file is not readable, or its tensors are not the spec's.
    """
    options = ImportOptions(
        source=source,
        weights=Path(weights),
        spec=spec,
        out=Path(out),
        ema=None if ema is None else Path(ema),
        prior=tuple((latent, Path(path)) for latent, path in (prior or {}).items()),
        data=None if data is None else Path(data),
        overrides=spelled(overrides),
    )
    with no_global_effect():
        return run_import(options)


def run_import(options: ImportOptions) -> Run:
    """Import as the options say; everything is read before anything is made."""
    if options.source not in sources():
        raise UsageError(f"there is no importer `{options.source}`; known are {', '.join(sources())}")
    model = checked(options.spec, options.overrides)
    own = model_tensors(instantiate(model))
    names = {name: tuple(tensor.shape) for name, tensor in own.items()}
    files = {"model": options.weights} | ({"ema": options.ema} if options.ema else {})
    entry = read_release(options.source).entry
    parts = {part: rename(options.source, names, read_weights(path, entry)) for part, path in files.items()}
    priors = _priors(options, model)
    run = create_run(options.out, options.spec, model, options.data)
    run.checkpoints().save(0, parts, {"imported": options.source})
    if priors:
        _save_priors(options, run, model, priors)
    return run


def _priors(options: ImportOptions, model: Model) -> dict[str, dict[str, Tensor]]:
    """Read the tensors of every published prior, in the names of the spec's."""
    source = read_release(options.source).priors
    tensors = {}
    for latent, path in options.prior:
        if latent not in model.priors:
            known = ", ".join(model.priors) or "no prior"
            raise UsageError(f"--prior {latent}={path}: write LATENT=WEIGHTS; `{model.settings.model}` has {known}")
        if not source:
            raise UsageError(f"--prior {latent}={path}: {options.source} publishes no priors over codes")
        names = {name: tuple(t.shape) for name, t in model_tensors(instantiate_prior(model, latent)).items()}
        tensors[latent] = rename(source, names, read_weights(path, read_release(source).entry))
    return tensors


def _save_priors(options: ImportOptions, run: Run, model: Model, priors: dict[str, dict[str, Tensor]]) -> None:
    # Of the data that they were trained on nothing is known.
    identity = Identity(open_autoencoder(run, torch.device("cpu")).digest, data="")
    for latent, tensors in priors.items():
        stage = create_prior_run(run, model, latent, identity)
        stage.checkpoints().save(0, {"model": tensors}, {"imported": options.source})
