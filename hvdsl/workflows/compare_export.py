"""Load what was exported, run it, and compare: a script for a process that cannot import hvdsl."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Absent:
    """What finds no module of this package, wherever it is installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "hvdsl":
            raise ModuleNotFoundError(f"No module named {name!r} here, on purpose", name=name)


def main(folder: Path) -> None:
    sys.meta_path.insert(0, _Absent())
    import numpy as np
    from safetensors.numpy import load_file

    order = json.loads((folder / "order.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    open_program = {"pt2": _exported, "onnx": _onnx, "folder": _standalone}[order["kind"]]
    programs: dict[tuple[str, str], Callable[..., list[Any]]] = {}
    for task in order["tasks"]:
        place = (task["file"], task["program"])
        if place not in programs:
            programs[place] = open_program(*place)
        key, first = task["key"], len(task["inputs"])
        given = {name: tensors[f"{key}/in/{first + i}"] for i, name in enumerate(task["given"])}
        results = programs[place](*(tensors[f"{key}/in/{i}"] for i in range(first)), **given)
        if len(results) != task["outputs"]:
            sys.exit(f"{key} gives {len(results)} tensors, not {task['outputs']}")
        for i, result in enumerate(results):
            expected = tensors[f"{key}/out/{i}"].astype(np.float64)
            found = np.asarray(result, np.float64)
            if found.shape != expected.shape:
                sys.exit(f"output {i} of {key} is {found.shape}, not {expected.shape}")
            room = order["tolerance"] * max(1.0, float(np.abs(expected).max()))
            share = float((~(np.abs(found - expected) <= room)).mean())
            if share > order["few"]:
                sys.exit(f"{share:.2%} of output {i} of {key} differ by more than {room:.2g}")


def _exported(file: str, program: str) -> Callable[..., list[Any]]:
    import torch
    from torch.export.pt2_archive._package import load_pt2

    module = load_pt2(file).exported_programs[program].module()

    def run(*inputs: Any, **given: Any) -> list[Any]:
        with torch.no_grad():
            results = module(*map(torch.from_numpy, inputs), **{n: torch.from_numpy(v) for n, v in given.items()})
        return [t.numpy() for t in (results if isinstance(results, tuple | list) else (results,))]

    return run


def _onnx(file: str, program: str) -> Callable[..., list[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(*inputs: Any, **given: Any) -> list[Any]:
        results: list[Any] = session.run(None, dict(zip(names, inputs, strict=False)) | given)
        return results

    return run


def _standalone(folder: str, program: str) -> Callable[..., list[Any]]:
    import torch
    from safetensors.torch import load_file

    sys.path.insert(0, folder)
    import model as standalone  # type: ignore[import-not-found]  # the exported folder's

    module = standalone.Model()
    module.load_state_dict(load_file(f"{folder}/model.safetensors"))
    module.eval()

    def run(pixels: Any, **given: Any) -> list[Any]:
        v = torch.from_numpy(pixels)
        source = standalone.Source.POSTERIOR_MEAN
        with torch.no_grad():
            latents = standalone.Traversal(module.LATENTS, v.shape[0], None, source)
            return [module(module.input(v), latents, **{n: torch.from_numpy(t) for n, t in given.items()}).numpy()]

    return run


if __name__ == "__main__":
    main(Path(sys.argv[1]))
