"""Deep hierarchical VAEs as text: a language, a compiler to plain PyTorch, and one runtime.

    import hvdsl
    result = hvdsl.train("vdvae_digits", out="runs/digits")
    trained = hvdsl.load(result.run)
    images = trained.sample(16)

Importing the package imports neither torch nor the compiler. No function prints, or changes random state, threads,
default types, warning filters or signal handlers.
"""

from __future__ import annotations

import os.path

if __name__ != "hvdsl":
    raise ModuleNotFoundError(f"No module named {__name__!r}", name=__name__)
# `os.path`, since importing `pathlib` takes longer than all of this.
if not os.path.isdir(os.path.join(__path__[0], "compiler")):  # noqa: PTH112, PTH118
    # A checkout without symbolic links: the packages stand in the root, beside this one.
    __path__.append(os.path.dirname(__path__[0]))  # noqa: PTH120

from hvdsl.errors import HvdslError as Error
from hvdsl.errors import UsageError

TYPE_CHECKING = False  # type checkers take the name for true; `typing` takes long to import, too
if TYPE_CHECKING:
    from typing import Any

    from hvdsl.grammar.diagnostics import SpecError
    from hvdsl.grammar.source import Source
    from hvdsl.importers.weights import WeightsError
    from hvdsl.runtime.codes.levels import CodesError
    from hvdsl.runtime.data.errors import DataError
    from hvdsl.runtime.training.folder.checkpoint import CheckpointError
    from hvdsl.runtime.training.folder.run import RunError
    from hvdsl.runtime.training.sinks import Sink
    from hvdsl.runtime.training.step.guard import TrainingStalledError
    from hvdsl.workflows.compiling import Compiled, build, compile
    from hvdsl.workflows.edit import Edits
    from hvdsl.workflows.evaluate import EvaluationResult, ImageElbo
    from hvdsl.workflows.import_weights import import_weights
    from hvdsl.workflows.latents import GroupLatents, Latents
    from hvdsl.workflows.runs import open_data
    from hvdsl.workflows.score import Roc, Scores
    from hvdsl.workflows.train import TrainingSummary, train
    from hvdsl.workflows.trained import Trained, load

    __version__: str

_PLACES = {
    "build": "workflows.compiling",
    "compile": "workflows.compiling",
    "import_weights": "workflows.import_weights",
    "load": "workflows.trained",
    "open_data": "workflows.runs",
    "train": "workflows.train",
    "Compiled": "workflows.compiling",
    "Edits": "workflows.edit",
    "EvaluationResult": "workflows.evaluate",
    "GroupLatents": "workflows.latents",
    "ImageElbo": "workflows.evaluate",
    "Latents": "workflows.latents",
    "Roc": "workflows.score",
    "Scores": "workflows.score",
    "Source": "grammar.source",
    "Trained": "workflows.trained",
    "TrainingSummary": "workflows.train",
    "CheckpointError": "runtime.training.folder.checkpoint",
    "CodesError": "runtime.codes.levels",
    "DataError": "runtime.data.errors",
    "RunError": "runtime.training.folder.run",
    "Sink": "runtime.training.sinks",
    "SpecError": "grammar.diagnostics",
    "TrainingStalledError": "runtime.training.step.guard",
    "WeightsError": "importers.weights",
}

__all__ = [
    "CheckpointError",
    "CodesError",
    "Compiled",
    "DataError",
    "Edits",
    "Error",
    "EvaluationResult",
    "GroupLatents",
    "ImageElbo",
    "Latents",
    "Roc",
    "RunError",
    "Scores",
    "Sink",
    "Source",
    "SpecError",
    "Trained",
    "TrainingStalledError",
    "TrainingSummary",
    "UsageError",
    "WeightsError",
    "__version__",
    "build",
    "compile",
    "import_weights",
    "load",
    "open_data",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"hvdsl.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hvdsl")
    except PackageNotFoundError:  # a checkout that was never installed
        return "(not installed)"
