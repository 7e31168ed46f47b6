"""Damage files of runs, and see that nothing answers with anything but a sentence, and that no number changes unseen.

    python scripts/fuzz_runs.py [--mutations 20000] [--commands 500] [--seed 0]

Each mutation changes one file of a run of a hierarchy or of a model of codes with its prior: bytes, cut or doubled
stretches, values of JSON. First in process, by what reads runs: every file must then be refused in one sentence, or
hold what it held. Then through commands: they exit with 0 or 1, say one sentence when they fail, and what they draw or
measure when they do not is what they drew and measured before. What is not read back into training is only shown:
`metrics.jsonl`, pictures, `model.py`, `graph.json` and `spec.hv`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from fuzz_readers import damaged
from kill_campaign import CODES, LADDER

from hvdsl.cli.main import main as hvdsl_command
from hvdsl.errors import HvdslError
from hvdsl.grammar import read_text
from hvdsl.report.records import read_records
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.window import Window
from hvdsl.workflows import verify as verifying
from hvdsl.workflows.open import checkpoint_step, read_weights_file
from hvdsl.workflows.overview import overview

SHOWN = {"metrics.jsonl", "model.py", "graph.json", "spec.hv", "lock"}
"""Files that are for readers alone, and pictures: fewer mutations are of them."""
MACHINE = ("--device", "cpu", "--threads", "1")
SLOWEST = 20.0  # seconds of processor time
LONGEST = 1_000  # characters of a sentence
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**70, 1e308, "", "x", "\x1b[31m\n", "../..", [], [[]], {}, {"a": {}}, [None] * 40,
)  # fmt: skip


def train(place: Path) -> dict[str, Path]:
    """Two short runs, by name."""
    runs = {}
    for name, text in (("ladder", LADDER), ("codes", CODES)):
        spec = place / f"{name}.hv"
        text = text.replace("steps = 400", "steps = 4").replace("steps = 120", "steps = 4")
        text = text.replace("checkpoint_every = 7", "checkpoint_every = 2").replace("log_every = 10", "log_every = 3")
        spec.write_text(text)
        runs[name] = place / name
        stages = ["--stage", "all"] if name == "codes" else []
        code = run_command(["train", str(spec), "--out", str(runs[name]), "--sink", "none", *stages, *MACHINE])[0]
        if code != 0:
            raise SystemExit(f"the run of {name} that is to be damaged failed with {code}")
    return runs


def changed_json(text: bytes, rng: np.random.Generator) -> bytes:
    """JSON, or lines of JSON, with one value replaced, removed or doubled; other text as it is."""
    lines = text.split(b"\n") if text.count(b"\n{") else [text]
    index = int(rng.integers(len(lines)))
    try:
        value = json.loads(lines[index])
    except ValueError:
        return text
    places = list(_places(value))
    if not places:
        return text
    holder, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    lines[index] = json.dumps(value).encode()
    return b"\n".join(lines)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])


def mutated(path: Path, data: bytes, rng: np.random.Generator) -> bytes:
    """The content of a file with one thing changed."""
    if path.suffix in (".json", ".jsonl") and rng.random() < 0.5:
        return changed_json(data, rng)
    return damaged(data, rng)


def facts(run: Path) -> dict[str, Any]:
    """Everything that later training and use of a run rest on, as its readers give it; raises HvdslError."""
    opened = Run.open(run)
    values: dict[str, Any] = {"level": opened.level, "spec": opened.spec()}
    _ = opened.data  # a place; what is there has a digest
    opened.history.entries()
    store = opened.checkpoints()
    for step in store.steps():
        checkpoint = store.open(step)
        values[f"state {step}"] = (checkpoint.state, checkpoint.noise_scheme)
        Window.of(checkpoint)
        for name in sorted(checkpoint.files):
            for key, tensor in checkpoint.load(name.removesuffix(".safetensors")).items():
                values[f"{step} {name} {key}"] = (str(tensor.dtype), tensor.shape, _bytes(tensor))
        if run.parent.name != "priors":  # whose weights are no model by themselves
            alone = read_weights_file(checkpoint.path / "model.safetensors")
            values[f"{step} alone"] = (alone.step, alone.noise_scheme, {n: _bytes(t) for n, t in alone.tensors.items()})
    for folder in sorted((run / "codes").glob("*")):
        codes = CodeStore.open(folder)
        codes.check()
        # Of other levels or another identity, they are made anew.
        values[str(folder)] = np.asarray(codes.matrix).tobytes()
    for prior in sorted((run / "priors").glob("*")):
        values[str(prior)] = facts(prior)
    return values


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else tensor.numpy().tobytes()


def look(run: Path) -> None:
    """What lists, checks and shows runs, which must come to an end whatever is in them."""
    overview(run)
    read_records(run / "metrics.jsonl")
    verifying.verify(run)
    with contextlib.suppress(HvdslError):
        checkpoint_step(Run.open(run), "best")


def in_process(run: Path, before: dict[str, Any]) -> str:
    """What came of a damaged run: `read`, `refused`, or what is wrong."""
    began, outcome = time.process_time(), "read"
    try:
        look(run)
        if facts(run) != before:
            return "a changed number was read in silence"
    except HvdslError as error:
        outcome = "refused"
        if "\n" in str(error) or len(str(error)) > LONGEST:
            outcome = f"no sentence: {str(error)[:300]!r}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {str(error)[:300]}"
    return outcome if time.process_time() - began < SLOWEST else "took too long"


def run_command(arguments: list[str]) -> tuple[int, str, str]:
    """One command's exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = hvdsl_command(arguments)
    return code, out.getvalue(), err.getvalue()


def commands(run: Path, place: Path) -> list[list[str]]:
    """What is done with a run; what has an output ends with its name."""
    of_codes = ["codes", str(run), "--split", "validation"]
    written = [
        ["sample", str(run), "-n", "2", *MACHINE, "-o", str(place / "samples.npy")],
        ["reconstruct", str(run), "-n", "2", *MACHINE, "-o", str(place / "reconstructions.png")],
        ["report", str(run), "--no-pictures", "-o", str(place / "report.html")],
    ]
    if (run / "codes").exists():
        written.append([*of_codes, *MACHINE, "-o", str(place / "codes.npz")])
    if run.name == "ladder":
        weights = min((run / "checkpoints").glob("*/model.safetensors"))
        written.append(["sample", str(weights), "-n", "1", *MACHINE, "-o", str(place / "alone.npy")])
    return [
        *written,
        ["eval", str(run), "--json", *MACHINE],
        ["verify", str(run)],
        ["runs", str(run.parent)],
        ["train", "--resume", "--out", str(run), "--steps", "6", "--sink", "none", *MACHINE],
    ]


def through_command(command: list[str], before: bytes | str | None) -> tuple[str, bytes | str | None]:
    """What came of a command on a damaged run, and what it gave."""
    code, out, err = run_command(command)
    if code not in (0, 1):
        return f"exit code {code}: {err[-400:]}", None
    if code == 1:
        wrong = command[0] not in ("verify", "runs") and (err.count("hvdsl: ") != 1 or len(err) > LONGEST + 200)
        spec = "resolved.hv" in err and "error[" in err  # a diagnostic has a form of its own
        return ("refused", None) if not wrong or spec else (f"no sentence: {err[-400:]!r}", None)
    given: bytes | str | None = None
    if "-o" in command and command[0] != "report":
        given = Path(command[-1]).read_bytes()
    elif command[0] == "eval":
        given = out
    if before is not None and given != before:
        return "gave something else in silence", given
    return "done", given


def campaign(runs: dict[str, Path], count: int, seed: int, attempt: Callable[[Path, str], str], what: str) -> bool:
    """Damage a file so many times; whether every answer was good."""
    outcomes: Counter[str] = Counter()
    files = [(name, path) for name, run in runs.items() for path in sorted(run.rglob("*")) if path.is_file()]
    shown = [path.name in SHOWN or path.suffix == ".png" for _, path in files]
    weights = np.where(shown, 0.2 / sum(shown), 0.8 / (len(files) - sum(shown)))
    failed = 0
    for number in range(count):
        rng = np.random.default_rng([seed, len(what), number])
        name, path = files[int(rng.choice(len(files), p=weights))]
        data, file = path.read_bytes(), path.relative_to(runs[name]).as_posix()
        if not data:
            continue
        path.write_bytes(mutated(path, data, rng))
        try:
            outcome = attempt(runs[name], file)
        finally:
            path.write_bytes(data)
        kind = outcome if outcome in ("read", "done", "refused") else "failed"
        outcomes[kind] += 1
        if kind == "failed":
            failed += 1
            print(f"{what} {number}: {name}/{file}: {outcome}", flush=True)
    counts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(outcomes.items()))
    print(f"{what}: {count:,} mutations, {counts}", flush=True)
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--commands", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["COLUMNS"] = "200"
    # Most specs are undamaged and alike, and the parser has fuzzers of its own.
    parsed_once = mock.patch.object(verifying, "read_text", cache(read_text))
    with tempfile.TemporaryDirectory() as temporary, parsed_once:
        place = Path(temporary)
        (place / "runs").mkdir()
        runs = train(place / "runs")
        before = {run: facts(run) for run in runs.values()}
        good = campaign(runs, args.mutations, args.seed, lambda run, file: in_process(run, before[run]), "in process")
        outputs = place / "outputs"
        outputs.mkdir()
        expected = {run: [through_command(c, None)[1] for c in commands(run, outputs)[:-1]] for run in runs.values()}
        pick = np.random.default_rng([args.seed, 1])

        def by_command(run: Path, file: str) -> str:
            number = int(pick.integers(len(expected[run]) + 1))
            if number < len(expected[run]):
                return through_command(commands(run, outputs)[number], expected[run][number])[0]
            copy = place / "copies" / run.name
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            return through_command(commands(copy, outputs)[-1], None)[0]

        good &= campaign(runs, args.commands, args.seed, by_command, "through commands")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
