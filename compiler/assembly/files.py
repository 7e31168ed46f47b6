"""Find the files that a spec names: itself, what it `use`s, what it `extends`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePosixPath, PureWindowsPath

from hvdsl.compiler.diagnostics.assembly import FILE_NOT_FOUND, UNSAFE_PATH
from hvdsl.compiler.suggest import nearest_word
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, SpecError

SUFFIXES = (".hv", ".yaml", ".yml")


def shipped() -> Path:
    """Return the folder of the shipped specs; `lib/` in it holds the recipes that they share."""
    return Path(str(files("hvdsl.specs")))


def locate(name: str | Path) -> tuple[Path, str | None]:
    """Return the file that `model.hv`, `model.hv@NAME@OTHER` or the name of a shipped spec means, and the variants.

    Raises `SpecError` (HV0201) where there is no such file.
    """
    text = str(name)
    if Path(text).is_file():
        return Path(text), None
    place, variant = split_variants(text)
    for path in (Path(place), shipped() / f"{place}.hv"):
        if _plain_name(place, path) and path.is_file():
            return path, variant or None
    known = sorted(p.stem for p in shipped().glob("*.hv"))
    resolved = Path(place) / "resolved.hv"  # of a run folder
    elsewhere = str(resolved) if resolved.is_file() else _below(place, Path())
    near, kind = (elsewhere, "") if elsewhere else (nearest_word(Path(place).stem, known), "the shipped ")
    raise SpecError(
        [
            Diagnostic(
                FILE_NOT_FOUND,
                f"there is no spec `{place}`",
                None,
                found="a folder" if place and Path(place).is_dir() else "no such file",
                expected="a file that ends in `.hv` or `.yaml`, or the name of a shipped spec",
                help=f"did you mean {kind}`{near}`?" if near else "`hvdsl specs list` names the shipped ones",
            )
        ]
    )


def is_shipped(name: str) -> bool:
    """Whether a spec of that name, without folder and ending, comes with hvdsl."""
    return name == Path(name).name and (shipped() / f"{name}.hv").is_file()


def split_variants(text: str) -> tuple[str, str]:
    """Return file and variants of `model.hv@NAME@OTHER`; the variants are empty where none is named."""
    folder, slash, last = text.rpartition("/")
    place, _, variants = last.partition("@")
    return f"{folder}{slash}{place}", variants


def variants_of(header: tree.HeaderNode, path: Path) -> list[str]:
    """Return the variants that `extends "m.hv@NAME"` names, where the file is not itself called that."""
    name = header.value.value if isinstance(header.value, tree.String) else ""
    file, variants = split_variants(name)
    return variants.split("@") if variants and Path(file).name == path.name else []


MOST_FOLDERS = 200  # that a search for a file of some name looks into


def _below(name: str, root: Path | None) -> str | None:
    """Return where below a folder, at most two deep, there is a file of this name."""
    wanted = PurePosixPath(name).name
    if root is None or not wanted or "\\" in name:
        return None
    try:
        for at, folder in enumerate(folder for pattern in ("*/", "*/*/") for folder in root.glob(pattern)):
            if at == MOST_FOLDERS:
                break
            if (folder / wanted).is_file():
                return (folder / wanted).relative_to(root).as_posix()
    except OSError:  # a folder that may not be read
        return None
    return None


def _plain_name(place: str, path: Path) -> bool:
    """Whether a shipped spec may be meant: a bare name, never a path that leads out of the folder."""
    return path == Path(place) or place.isidentifier()


def find(header: tree.HeaderNode, beside: Path | None) -> Path:
    """Return the file that a `use` or `extends` names.

    Looked for in `beside` (the folder of the file that says it; None for text without a file), then among the
    shipped: recipes of `specs/lib/` for `use`, specs for `extends`. Links may not lead out of the folder.
    Raises `SpecError` (HV0201, HV0202).
    """
    node = header.value
    name = node.value if isinstance(node, tree.String) else node.id
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or PureWindowsPath(name).drive:
        raise _unsafe(header, name, "an absolute path or one with `..`")
    folder = shipped() / "lib" if header.kind == "use" else shipped()
    wanted = [name, split_variants(name)[0]] if header.kind == "extends" else [name]
    for root, file in ((root, file) for file in dict.fromkeys(wanted) for root in (beside, folder) if root):
        candidate = root / PurePosixPath(file)
        if not candidate.is_file():
            continue
        if not candidate.resolve().is_relative_to(root.resolve()):
            raise _unsafe(header, name, f"a link that leads out of {root.name or 'its folder'}")
        return candidate
    known = [p.name for root in (beside, folder) if root for s in SUFFIXES for p in sorted(root.glob(f"*{s}"))]
    near = _below(name, beside) or nearest_word(name, known)
    raise SpecError(
        [
            Diagnostic(
                FILE_NOT_FOUND,
                f"there is no file `{name}` to {'use' if header.kind == 'use' else 'extend'}",
                node.span,
                found="no such file beside this one, nor among the shipped ones",
                expected="the name of a file, relative to this one",
                help=f"did you mean `{near}`?" if near else "check the name; it is relative to the file that says it",
            )
        ]
    )


def _unsafe(header: tree.HeaderNode, name: str, found: str) -> SpecError:
    return SpecError(
        [
            Diagnostic(
                UNSAFE_PATH,
                f"`{name}` leads out of the folder",
                header.value.span,
                found=found,
                expected="a file in the folder of this one, or below it",
                help="put the file beside the spec, and name it relative to the spec",
            )
        ]
    )
