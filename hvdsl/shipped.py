"""The models that come with the package, and what a spec argument means."""

from __future__ import annotations

import difflib
from pathlib import Path

from hvdsl.errors import HvdslError

SPECS = Path(__file__).parent / "specs"
SUFFIXES = (".hv", ".yaml", ".yml")


def shipped() -> dict[str, Path]:
    """Return the shipped specs by name, in alphabetical order."""
    return {path.stem: path for path in sorted(SPECS.glob("*.hv"))}


def locate(argument: str) -> tuple[Path, str | None]:
    """Return the file and the variant that a spec argument means.

    An argument is a path, the name of a shipped spec, or either of them followed by `@variant`.
    Raises HvdslError where there is no such file and no such name.
    """
    if Path(argument).is_file():
        return Path(argument), None
    place, at, variant = argument.rpartition("@")
    if not at:
        place = argument
    path = Path(place)
    if not path.is_file():
        path = _shipped_path(place)
    return path, variant if at else None


def _shipped_path(name: str) -> Path:
    known = shipped()
    if name in known:
        return known[name]
    if Path(name).is_dir():
        raise HvdslError(f"`{name}` is a folder; a spec is a file ending in .hv or .yaml")
    if Path(name).suffix in SUFFIXES or "/" in name:
        raise HvdslError(f"there is no file `{name}`; `hvdsl specs list` shows the specs that come with hvdsl")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "`hvdsl specs list` shows them all"
    raise HvdslError(f"there is no file and no shipped spec called `{name}`; {hint}")
