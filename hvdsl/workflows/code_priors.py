"""What the priors of a trained model are good for by themselves: codes drawn from them, and what codes cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from torch import Tensor

from hvdsl.errors import UsageError
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.priors.evaluate import CodeEvaluation, evaluate_stored_codes
from hvdsl.runtime.priors.sampling import Schedule
from hvdsl.workflows.calls import no_global_effect, showing
from hvdsl.workflows.conditions import GivenValue
from hvdsl.workflows.evaluate import Split
from hvdsl.workflows.open import Opened, first_stage
from hvdsl.workflows.sample import SampleOptions, draw_codes_alone, per_name
from hvdsl.workflows.stages import code_folder, file_codes, open_priors, read_file_codes

BATCH = 64


def evaluate_file_codes(
    opened: Opened, data: Path | None, split: Split | None, batch: int, console: Console | None
) -> tuple[CodeEvaluation, str]:
    """Evaluate the priors of a run over codes from a file, and say on which; see `Trained.evaluate_codes`."""
    first, model = first_stage(opened), opened.spec.model
    if not model.is_of_codes:
        raise UsageError(f"the codes of `{model.settings.model}` are of its autoencoder: `evaluate` has what they cost")
    if data is None:
        stores = file_codes(first.run, model)
        part = split or ("test" if "test" in stores else "validation")
        if part not in stores:
            raise UsageError(f"{first.run.folder} has no test codes: say `--split validation`, or `--data FILE`")
        store, what = stores[part], f"{part} codes of {first.run.folder}"
    else:
        parts = read_file_codes(model.settings.data, data, whole=split is None)
        part = split or ("test" if "test" in parts else "train")
        file, rows = parts[part]
        store, what = file.store(code_folder(first.run, "given"), rows, part, world()), f"codes of {data}"
    priors = open_priors(first, list(model.priors), lambda s: opened.use_ema and s.evaluate.use_ema, opened.device)
    with showing("levels", console) as show:
        evaluation = evaluate_stored_codes(
            store, first.levels, priors, batch=batch, progress=lambda done: show(done, len(first.levels))
        )
    return evaluation, f"{len(store):,} images, {what}"


class CodePriors:
    """The part of `Trained` that needs no images."""

    _opened: Opened

    def sample_codes(
        self,
        n: int,
        *,
        temperature: float | Mapping[str, float] | None = None,
        batch: int = BATCH,
        seed: int = 0,
        top_k: int | Mapping[str, int] | None = None,
        top_p: float | Mapping[str, float] | None = None,
        fix: Mapping[str, str | os.PathLike[str] | Tensor] | None = None,
        schedule: Schedule | Mapping[str, Schedule] | None = None,
        given: Mapping[str, GivenValue] | None = None,
        guidance: float | None = None,
    ) -> dict[str, Tensor]:
        """Draw the codes of `n` images from trained priors, `(n, H, W)` (`(n, depth, H, W)`) by level, on the CPU.

        Of priors over codes from a file, which make no images, and of models of codes; there `decode` turns them into
        the images that `sample` draws. The arguments are those of `sample`.

        Raises:
            hvdsl.Error: a prior is missing, or an argument does not apply or fit.
        """
        options = SampleOptions(
            n=n,
            temperature=per_name(temperature),
            batch=batch,
            seed=seed,
            top_k=per_name(top_k),
            top_p=per_name(top_p),
            fix=tuple((name, c if isinstance(c, Tensor) else Path(c)) for name, c in (fix or {}).items()),
            schedule=per_name(schedule),
            given=tuple((given or {}).items()),
            guidance=guidance,
        )
        with no_global_effect():
            return draw_codes_alone(self._opened, options)[0]

    def evaluate_codes(
        self,
        *,
        data: str | os.PathLike[str] | None = None,
        split: Split | None = None,
        batch: int = BATCH,
        console: Console | None = None,
    ) -> CodeEvaluation:
        """Say what codes from a file cost under the priors of a run over these: bits and nats per image, by level.

        Args:
            data: another file of codes: all of it.
            split: `train`, `validation` or `test` of the run's (default: test if there is one, else validation).
            batch: images per pass.
            console: where to show progress.

        Raises:
            hvdsl.Error: there are no codes, or the model has an autoencoder: `evaluate` it.
        """
        with no_global_effect():
            place = None if data is None else Path(data)
            return evaluate_file_codes(self._opened, place, split, batch, console)[0]
