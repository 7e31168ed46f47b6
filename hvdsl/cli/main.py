"""Entry of the command line: the table of commands, and the one place where failures become exit codes.

0 fine; 1 the input is wrong or the work failed; 2 usage; 3 `fmt --check` would change a file; 70 a bug of ours;
130 interrupted by Ctrl-C. `train` that was stopped by a signal saves, and ends with 128 and the signal's number:
129 SIGHUP, 130 SIGINT, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from hvdsl.errors import HvdslError, UsageError

FAILED, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130
COLLECT_AFTER, COMPILING_COLLECTS_AFTER = 100_000, 1_000_000  # allocations between two runs of the garbage collector

# Name, module in hvdsl.cli.commands, one line of help. A module is imported only when its command is used.
GROUPS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "specs": (
        ("check", "check", "check a spec and report every mistake in it"),
        ("fmt", "fmt", "print or rewrite specs in the canonical form"),
        ("convert", "convert", "turn a spec from text to YAML or back"),
        ("info", "info", "show parameters, costs and latents per resolution"),
        ("schema", "schema", "print a JSON schema of a spec's settings in YAML, for editors"),
        ("compile", "compile", "write the spec as a PyTorch module"),
        ("explain", "explain", "explain a diagnostic code or a term of the objective"),
        ("viz", "viz", "draw a spec"),
        ("lsp", "lsp", "serve editors: diagnostics, hover, completion, definitions, rename, format"),
        ("specs", "specs", "list, show or copy the specs that come with hvdsl"),
    ),
    "data": (("data", "data", "say which files are the data, what is in them, and what a spec needs"),),
    "training": (("train", "train", "train a spec, or continue a run"),),
    "using a model": (
        ("eval", "eval", "evaluate a run in bits per dimension"),
        ("score", "score", "score each image, and separate two sets of images"),
        ("sample", "sample", "draw images from a run"),
        ("reconstruct", "reconstruct", "reconstruct images at several depths of the hierarchy"),
        ("edit", "edit", "show what images would be under other conditions"),
        ("encode", "encode", "write the latents of images: means, scales, samples, rates, codes"),
        ("decode", "decode", "turn latents or codes back into images"),
        ("interpolate", "interpolate", "draw the path from one image to another through its latents"),
        ("codes", "codes", "write the codes of a data set to a file"),
    ),
    "runs": (
        ("runs", "runs", "list runs: state, step, best figures, age, size"),
        ("report", "report", "write a page about runs: curves, rates, pictures, differences"),
        ("verify", "verify", "check every file of a run against its digest"),
        ("export", "export", "write a trained model for others: .pt2, .onnx, or a folder for a model hub"),
        ("import", "import_", "turn published weights into a run"),
    ),
    "machine": (
        ("doctor", "doctor", "say what this machine can do: devices, compilers, extras, speed"),
        ("completion", "completion", "print a completion script for bash, zsh or fish"),
    ),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
COMPILING = frozenset(name for name, _, _ in GROUPS["specs"]) - {"lsp"}
"""Commands that read specs, say something and end."""
COMPUTING = frozenset(name for group in ("training", "using a model") for name, _, _ in GROUPS[group])
"""Commands that spend their time in torch."""


class Command(Protocol):
    """What a module of hvdsl.cli.commands offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong with a command line in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; `{self.prog} --help` shows what there is\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # closed by who called: `hvdsl … >&-`
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    # pydantic would search every installed distribution for plugins, which nothing here uses.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "WORLD_SIZE" in os.environ:  # what fails between processes is told in a sentence, not by torch's sockets
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    # Compiling makes many long-lived objects and few cycles: at Python's own threshold of 700 allocations the collector
    # would mostly walk them, and once more as the process ends. Training goes on collecting, at a slower pace.
    thresholds, compiles = gc.get_threshold(), bool(COMPILING.intersection(arguments[:1]))
    gc.set_threshold(COMPILING_COLLECTS_AFTER if compiles else COLLECT_AFTER)
    if compiles and argv is None:
        atexit.register(gc.freeze)
    if argv is None and COMPUTING.intersection(arguments[:1]):  # a process of its own
        from hvdsl.runtime.ground.heap import keep_freed_memory

        keep_freed_memory()
    try:
        return _guarded(arguments)
    finally:
        gc.set_threshold(*thresholds)


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser: of the `chosen` command alone, or of all where none is chosen."""
    parser = _Parser(
        prog="hvdsl",
        usage="hvdsl [-h] [--version] COMMAND …",
        description="Deep hierarchical VAEs as text: check, draw, compile, train and sample specs.",
        epilog=f"{_overview()}\n\n`hvdsl COMMAND --help` shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="store_true", help="show the versions of hvdsl and torch, and the device that commands use"
    )
    commands = parser.add_subparsers(prog="hvdsl", dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    known = any(name == chosen for name, _, _ in COMMANDS)
    for name, module, summary in COMMANDS:
        if known and name != chosen:
            continue
        sub = commands.add_parser(name, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False)
        if chosen in (None, name):
            command = cast(Command, import_module(f"hvdsl.cli.commands.{module}"))
            command.configure(sub)
            sub.set_defaults(execute=command.run)
    return parser


def _overview() -> str:
    """Return the commands by what they are for, one line each."""
    width = max(len(name) for name, _, _ in COMMANDS) + 2
    return "\n".join(
        line
        for title, commands in GROUPS.items()
        for line in ("", f"{title}:", *(f"  {name:{width}}{summary}" for name, _, summary in commands))
    ).lstrip("\n")


def _guarded(arguments: list[str]) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help and usage errors
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as failure:
        return _say(failure, USAGE)
    except HvdslError as failure:
        return _failed(failure)
    except KeyboardInterrupt:
        print("hvdsl: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has what it wanted (`hvdsl info SPEC | head`); nothing may flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as failure:
        return _say(_file_failure(failure), FAILED)
    except Exception as failure:
        return _out_of_memory(failure, arguments) or _bug(failure)


def _dispatch(arguments: list[str]) -> int:
    chosen = next((argument for argument in arguments if not argument.startswith("-")), "")
    if chosen and all(name != chosen for name, _, _ in COMMANDS):
        near = _near(chosen, [name for name, _, _ in COMMANDS])
        raise UsageError(f"there is no command `{chosen}`; {near}`hvdsl --help` lists them")
    parser = build_parser(chosen)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        _refuse(unknown, parser, chosen)
    if args.version:
        print(_version())
        return 0
    if args.command is None:
        parser.print_help()
        return USAGE
    return cast(int, args.execute(args))


def _refuse(unknown: Sequence[str], parser: argparse.ArgumentParser, command: str) -> NoReturn:
    """Say that a command takes no such arguments, and what may have been meant."""
    from hvdsl.cli.commands.completion import commands_of

    flags = [flag for words in commands_of(parser) for option in words.options for flag in option.flags]
    near = next(filter(None, (_near(word.partition("=")[0], flags) for word in unknown if word.startswith("-"))), "")
    name = f"hvdsl {command}".strip()
    raise UsageError(f"unrecognized arguments: {' '.join(unknown)}; {near}`{name} --help` shows what there is")


def _near(word: str, known: Sequence[str]) -> str:
    """Return a question for what is nearly one of the words that are known, else nothing."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`? " if near else ""


def _version() -> str:
    import hvdsl

    torch, device = _torch_for_cpus() or _torch()
    return f"hvdsl {hvdsl.__version__}, torch {torch}, device {device}"


def _torch_for_cpus() -> tuple[str, str] | None:
    """Return torch's version and `cpu` where torch can use nothing else, without the seconds of importing it.

    Its `version.py` says what it was built for. None where that, a Mac or another package's backend may bring a device.
    """
    import re
    from importlib.metadata import entry_points
    from importlib.util import find_spec
    from pathlib import Path

    torch = find_spec("torch")
    if torch is None or torch.origin is None or sys.platform == "darwin" or entry_points(group="torch.backends"):
        return None
    text = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    values = dict(re.findall(r"^(\w+)(?:: [^=]+)? = '?([^'\n]+)'?$", text, re.MULTILINE))
    built_for_none = all(values.get(kind) == "None" for kind in ("cuda", "hip", "xpu"))
    return (values["__version__"], "cpu") if built_for_none and "__version__" in values else None


def _torch() -> tuple[str, str]:
    import torch

    from hvdsl.workflows.runs import device_of

    device = device_of("auto")
    if device.type == "cpu":
        return torch.__version__, "cpu"
    return torch.__version__, f"{device.type} ({torch.get_device_module(device).get_device_name(device)})"


def _failed(failure: HvdslError) -> int:
    """Tell what a spec or the surroundings did wrong."""
    diagnostics = getattr(failure, "diagnostics", None)  # of a SpecError, whose module few commands need
    if diagnostics is None:
        return _say(failure, FAILED)
    from hvdsl.cli.output import print_diagnostics

    return print_diagnostics(diagnostics)


def _out_of_memory(failure: Exception, arguments: list[str]) -> int:
    """Tell of too little memory; 0 if it is something else."""
    if not isinstance(failure, MemoryError | RuntimeError):
        return 0
    from hvdsl.runtime.ground.memory import out_of_memory

    remedy = "take a smaller `--batch`"
    if "train" in arguments[:1]:
        remedy += (
            " (or `--set train.accumulate=4`: the same batch in parts), `--precision bf16`, or "
            "`--set train.checkpointing=group`, which recomputes activations"
        )
    sentence = out_of_memory(failure, remedy)
    return 0 if sentence is None else _say(sentence, FAILED)


def _bug(failure: Exception) -> int:
    if os.environ.get("HVDSL_TRACEBACK") == "1":
        raise failure
    print(
        f"hvdsl: internal error: {type(failure).__name__}: {failure}\n"
        "This is a bug in hvdsl, not in your spec. Run again with HVDSL_TRACEBACK=1 to see where it happened,\n"
        "and report it with that traceback, the spec and the output of `hvdsl --version`.",
        file=sys.stderr,
    )
    return BUG


def _say(failure: Exception | str, code: int) -> int:
    text = str(failure)
    if not all(line.isprintable() for line in text.splitlines()):  # a file's name may hold what steers a terminal
        from hvdsl.render.diagnostics import printable

        text = "\n".join(map(printable, text.splitlines()))
    print(f"hvdsl: {text}", file=sys.stderr)
    return code


def _file_failure(failure: OSError) -> str:
    reason = (failure.strerror or str(failure)).lower()
    return f"`{failure.filename}`: {reason}" if failure.filename else reason


if __name__ == "__main__":
    sys.exit(main())
