"""`hvdsl import SOURCE WEIGHTS --spec SPEC --out RUN`: published weights as a run that evaluates and samples."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options import add_data, add_set, checked
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from hvdsl.compiler.model import Model
    from hvdsl.runtime.training.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="the code base that published the weights, such as openai-vdvae or nvidia-nvae"
    )
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, help="its .th, .pt or .safetensors file")
    parser.add_argument(
        "--spec", metavar="SPEC", required=True, help="the model: a file, or the name of a shipped spec"
    )
    parser.add_argument(
        "--ema", metavar="WEIGHTS", type=Path, help="the published running average, if it is a second file"
    )
    parser.add_argument(
        "--prior",
        metavar="LATENT=WEIGHTS",
        action="append",
        default=[],
        help="the published prior of a discrete latent; may be repeated",
    )
    parser.add_argument("--out", metavar="RUN", type=Path, required=True, help="the run folder to make")
    add_data(parser)
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.importers import read_weights, rename, table
    from hvdsl.importers.names import sources

    if args.source not in sources():
        raise UsageError(f"there is no importer `{args.source}`; known are {', '.join(sources())}")
    model = checked(args.spec, args.overrides)

    from hvdsl.cli.runs import create_run, instantiate
    from hvdsl.runtime.training.weights import model_tensors

    own = model_tensors(instantiate(model))
    names = {name: tuple(tensor.shape) for name, tensor in own.items()}
    files = {"model": args.weights} | ({"ema": args.ema} if args.ema else {})
    entry = table(args.source).entry
    parts = {part: rename(args.source, names, read_weights(path, entry)) for part, path in files.items()}
    priors = _priors(args, model)  # everything is read before anything is made
    made = create_run(args.out, args.spec, model, args.data)
    made.checkpoints().save(0, parts, {"imported": args.source})
    if priors:
        _save_priors(args, made, model, priors)
    print(f"imported {args.weights.name} into {made.folder}", file=sys.stderr)
    return 0


def _priors(args: argparse.Namespace, model: Model) -> dict[str, dict[str, Tensor]]:
    """Read the tensors of every published prior, in the names of the spec's."""
    from hvdsl.cli.runs import instantiate_prior
    from hvdsl.importers import read_weights, rename, table
    from hvdsl.runtime.training.weights import model_tensors

    source = table(args.source).priors
    found = {}
    for text in args.prior:
        latent, equals, path = text.partition("=")
        if not equals or latent not in model.priors:
            known = ", ".join(model.priors) or "no prior"
            raise UsageError(f"--prior {text}: write LATENT=WEIGHTS; `{model.settings.model}` has {known}")
        if not source:
            raise UsageError(f"--prior {text}: {args.source} publishes no priors over codes")
        names = {name: tuple(t.shape) for name, t in model_tensors(instantiate_prior(model, latent)).items()}
        found[latent] = rename(source, names, read_weights(Path(path), table(source).entry))
    return found


def _save_priors(args: argparse.Namespace, made: Run, model: Model, priors: dict[str, dict[str, Tensor]]) -> None:
    import torch

    from hvdsl.cli.stages import create_prior_run, open_autoencoder
    from hvdsl.runtime.codes.store import Identity

    # Of the data that they were trained on nothing is known.
    identity = Identity(open_autoencoder(made, torch.device("cpu")).digest, data="")
    for latent, tensors in priors.items():
        stage = create_prior_run(made, model, latent, identity)
        stage.checkpoints().save(0, {"model": tensors}, {"imported": args.source})
