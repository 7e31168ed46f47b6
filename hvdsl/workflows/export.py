"""A trained model for others: exported programs, ONNX graphs, or a folder as model hubs take it.

Nothing is said to be done before it was loaded back in a process that cannot import this package, and gave the same at
two numbers of images that it was not traced with.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar import print_text
from hvdsl.runtime.ground.disk import new_folder, write_file, write_output
from hvdsl.runtime.latents import Source, Traversal
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.folder.weights import save_weights
from hvdsl.workflows.calls import no_global_effect, showing
from hvdsl.workflows.model_card import model_card
from hvdsl.workflows.open import Opened
from hvdsl.workflows.programs import TRACED, DecodeProgram, TensorProgram, examples, programs

COMPARED = (2, 5)  # numbers of images, beside those traced with
TOLERANCE = {"pt2": 1e-5, "onnx": 1e-3, "folder": 1e-5}  # of the range of an output; kernels of other runtimes round
FEW = 1e-3  # of the values may be further away: choices between codes or components that were nearly even


def export(
    opened: Opened, output: str | os.PathLike[str], *, license: str | None = None, console: Console | None = None
) -> list[Path]:
    """Write a model for others; see `Trained.export`.

    Raises:
        HvdslError: the ending is none of these, an extra is missing, or what was written does not give the same.
    """
    path = Path(output)
    ending = "" if os.fspath(output).endswith(("/", os.sep)) or path.is_dir() else path.suffix.lower()
    if ending not in ("", ".pt2", ".onnx"):
        raise UsageError(
            f"a model cannot be exported as `{output}`: give a file that ends in .pt2 or .onnx, or a folder"
        )
    if license is not None and ending:
        raise UsageError("--license goes into the model card of a folder: leave it out")
    if ending == "":
        return _folder(opened, path, license)
    if ending == ".onnx":
        _need_onnx()
    settings = opened.spec.model.settings
    with no_global_effect(), _quiet():
        made = programs(opened.module, settings)
        if ending == ".onnx":
            _need_straight_target(made)
        example = examples(made, settings.data, TRACED, 0)
        traced = {}
        with showing("programs", console) as show:
            for name, program in made.items():
                traced[name] = program.trace(example[name])
                show(len(traced), len(made))
        write = _archive if ending == ".pt2" else _graphs
        files = write(path, made, traced)
        _compare_programs(files, ending[1:], made, opened)
    return list(dict.fromkeys(files.values()))


def _archive(
    path: Path, made: Mapping[str, TensorProgram], traced: Mapping[str, torch.export.ExportedProgram]
) -> dict[str, Path]:
    """Write all programs into one file, of which `torch.export.load` gives the reconstruction."""
    from torch.export.pt2_archive._package import package_pt2  # what torch.export.save calls, for one program

    file = io.BytesIO()
    about = {
        name: {"inputs": p.inputs, "given": _given(p), "outputs": p.outputs, "noise": dict(p.noise)}
        for name, p in made.items()
    }
    package_pt2(
        file,
        exported_programs={_PROGRAM_NAMES.get(name, name): program for name, program in traced.items()},
        extra_files={"programs.json": json.dumps(about)},
    )
    write_output(path, file.getvalue())
    return dict.fromkeys(made, path)


def _given(program: TensorProgram) -> dict[str, str]:
    """What a program takes by name, in words."""
    shapes = {c.name: ", ".join(map(str, ("N", *c.stored))) for c in program.given}
    none = {c.name: (", -1 for none" if c.classes else ", NaN for none") if c.droppable else "" for c in program.given}
    kinds = {c.name: f"classes 0 to {c.classes - 1}" if c.classes else "numbers" for c in program.given}
    return {name: f"{kinds[name]} ({shape}){none[name]}" for name, shape in shapes.items()}


_PROGRAM_NAMES = {"reconstruct": "model"}
"""`torch.export.load` takes the program of this name."""


def _graphs(
    path: Path, made: Mapping[str, TensorProgram], traced: Mapping[str, torch.export.ExportedProgram]
) -> dict[str, Path]:
    """Write a file for each program, since an ONNX file holds one graph."""
    files = {}
    for name, program in made.items():
        files[name] = path.with_name(f"{path.stem}.{name}{path.suffix}")
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "graph.onnx"
            torch.onnx.export(
                traced[name],
                f=graph,
                input_names=[*program.inputs, *(c.name for c in program.given)],
                output_names=list(program.outputs),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            write_output(files[name], graph.read_bytes())
    return files


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's talk of graphs, and of what it lacks for other models, off the terminal."""
    loggers = [
        logging.getLogger(name)
        for name in ("torch", "torch.onnx", "torch.fx", "torch._export", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _need_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise HvdslError(f"writing ONNX needs `{missing[0]}`: install it with `pip install 'hvdsl[onnx]'`")


def _need_straight_target(made: Mapping[str, TensorProgram]) -> None:
    decode = made["decode"].module
    assert isinstance(decode, DecodeProgram)
    if not all(decode.pixels.straight):
        raise HvdslError("the spec's `target` is no straight line, which ONNX graphs cannot invert: export .pt2")


def _compare_programs(files: Mapping[str, Path], kind: str, made: Mapping[str, TensorProgram], opened: Opened) -> None:
    """Load what was written in a process without this package, and refuse what gives something else."""
    tensors: dict[str, Tensor] = {}
    tasks = []
    for count in COMPARED:
        inputs = examples(made, opened.spec.model.settings.data, count, seed=count)
        for name, program in made.items():
            with torch.no_grad():
                outputs = program(inputs[name])
            key = f"{name}/{count}"
            tensors |= {f"{key}/in/{i}": t.clone().contiguous() for i, t in enumerate(inputs[name])}
            tensors |= {f"{key}/out/{i}": t.clone().contiguous() for i, t in enumerate(outputs)}
            tasks.append(
                {
                    "key": key,
                    "file": str(files[name].resolve()),
                    "program": _PROGRAM_NAMES.get(name, name),
                    "inputs": list(program.inputs),
                    "given": [condition.name for condition in program.given],
                    "outputs": len(outputs),
                }
            )
    _compare(kind, tasks, tensors)


def _compare(kind: str, tasks: list[dict[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_file(dict(tensors), f"{folder}/tensors.safetensors")
        order = {"kind": kind, "tasks": tasks, "tolerance": TOLERANCE[kind], "few": FEW}
        write_file(f"{folder}/order.json", json.dumps(order))
        script = Path(__file__).with_name("compare_export.py")
        done = subprocess.run(
            [sys.executable, "-I", "-B", str(script), folder], capture_output=True, text=True, check=False, cwd=folder
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise HvdslError(f"what was exported does not give what the model gives: {reason}")


def _folder(opened: Opened, path: Path, license: str | None) -> list[Path]:
    """Write a folder as model hubs take it: weights with their spec, a module that needs torch alone, a card."""
    spec = print_text(opened.spec.model.resolved)
    try:
        with new_folder(path) as folder:
            save_weights(opened.module, folder / "model.safetensors", spec, step=opened.step)
            write_file(folder / "model.py", opened.spec.standalone())
            write_file(folder / "spec.hv", spec)
            write_file(folder / "README.md", model_card(opened, folder, license))
            _compare_folder(opened, folder)
    except FileExistsError as error:
        raise UsageError(f"{path} is there already: give a new folder") from error
    return [path]


def _compare_folder(opened: Opened, folder: Path) -> None:
    made = programs(opened.module, opened.spec.model.settings)
    tensors: dict[str, Tensor] = {}
    tasks: list[dict[str, Any]] = []
    for count in COMPARED:
        inputs = examples(made, opened.spec.model.settings.data, count, seed=count)["reconstruct"]
        given = {c.argument or c.name: t for c, t in zip(made["reconstruct"].given, inputs[1:], strict=True)}
        with torch.no_grad():
            vae = as_vae(made["reconstruct"].module.get_submodule("model"))
            walk = Traversal(vae.LATENTS, count, None, Source.POSTERIOR_MEAN)
            params = vae(vae.input(inputs[0]), walk, **given)
        key = f"reconstruct/{count}"
        tensors |= {f"{key}/in/{i}": t.clone().contiguous() for i, t in enumerate(inputs)}
        tensors[f"{key}/out/0"] = params.clone().contiguous()
        task = {"key": key, "file": str(folder.resolve()), "program": "", "inputs": ["pixels"], "outputs": 1}
        tasks.append(task | {"given": list(given)})
    _compare("folder", tasks, tensors)
