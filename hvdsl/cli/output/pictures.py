"""Where pictures of a run go."""

from __future__ import annotations

from pathlib import Path

from hvdsl.errors import UsageError
from hvdsl.runtime.training.run import Run


def place(run: Run | None, output: Path | None, name: str) -> Path:
    """Return the file to write: `output`, else one of the run's own pictures.

    Raises:
        UsageError: there is neither.
    """
    if output is not None:
        return output
    if run is None:
        raise UsageError("a single file has no folder for pictures: say where to write with `-o FILE.png`")
    return run.pictures / name
