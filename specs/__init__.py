"""The shipped models and, in `lib/`, the recipes they share."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["names", "spec_path", "text"]


def names() -> tuple[str, ...]:
    """Return the names of the shipped specs, sorted."""
    return tuple(
        sorted(entry.name.removesuffix(".hv") for entry in files(__name__).iterdir() if entry.name.endswith(".hv"))
    )


def spec_path(name: str) -> Path:
    """Return the file of a shipped spec. Raises `KeyError` where there is none of this name."""
    if name not in names():
        raise KeyError(f"no shipped spec is called {name!r}; there are {', '.join(names())}")
    return Path(str(files(__name__).joinpath(f"{name}.hv")))


def text(name: str) -> str:
    """Return the text of a shipped spec. Raises `KeyError` where there is none of this name."""
    return spec_path(name).read_text(encoding="utf-8")
