"""What a machine can do: devices, compilers, extras, threads, and the speed of one training step of a small spec."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import statistics
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import hvdsl
from hvdsl.runtime.data import open_splits
from hvdsl.runtime.training.batches import batches
from hvdsl.runtime.training.step.recipes import CompilationError, check_machine
from hvdsl.runtime.training.trainer import Trainer
from hvdsl.workflows.calls import no_global_effect
from hvdsl.workflows.compiling import checked
from hvdsl.workflows.runs import instantiate

SPEC, BATCH = "vdvae_digits", 32
WARM, TIMED = 2, 7  # steps


def examine_machine(*, speed: bool = True) -> dict[str, Any]:
    """Say what there is, as JSON has it.

    Args:
        speed: Train a few steps of a small spec on each device, and say how long one takes.
    """
    devices = _devices()
    return {
        "hvdsl": hvdsl.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "devices": devices,
        "compilers": _compilers(),
        "processes": _backends(),
        "extras": extras(),
        "speed": [_speed(name) for name in ("cpu", *(device["name"] for device in devices))] if speed else [],
    }


def _cpu() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory(),
    }


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.is_file():
        named = re.search(r"^model name\s*:\s*(.+)$", about.read_text(errors="replace"), re.MULTILINE)
        if named:
            return named[1]
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not of this system
        return None


def _devices() -> list[dict[str, Any]]:
    """Accelerators, as `--device` names them."""
    if not torch.cuda.is_available():
        other = torch.accelerator.current_accelerator(check_available=True)
        return [] if other is None else [{"name": other.type, "model": None, "memory_bytes": None, "bf16": None}]
    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        found.append({"name": f"cuda:{index}", "model": about.name, "memory_bytes": about.total_memory, "bf16": bf16})
    return found


def _compilers() -> list[dict[str, Any]]:
    """What optimisation level 2 needs: where it is or its version, and what is wrong without it."""
    named = os.environ.get("CXX", "g++")
    triton = version("triton") if importlib.util.find_spec("triton") is not None else None
    return [
        {"name": named, "for": "-O2 on a CPU", "found": shutil.which(named), "problem": _problem("cpu")},
        {"name": "triton", "for": "-O2 on an accelerator", "found": triton, "problem": _problem("cuda")},
    ]


def _problem(device: str) -> str | None:
    try:
        check_machine({device})
    except CompilationError as error:
        return str(error)
    return None


def _backends() -> list[str]:
    """How several processes can talk to each other."""
    if not dist.is_available():
        return []
    ways = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available(), "mpi": dist.is_mpi_available()}
    return [name for name, there in ways.items() if there]


def extras() -> list[dict[str, Any]]:
    """Each package that an extra brings: its version, or how to get it."""
    packages = []
    for extra, requirement in _requirements():
        package = re.match(r"[\w.-]+", requirement)
        if package is None or extra == "dev" or package[0] == "hvdsl":
            continue
        try:
            there: str | None = version(package[0])
        except PackageNotFoundError:
            there = None
        install = None if there else f"pip install 'hvdsl[{extra}]'"
        packages.append({"extra": extra, "package": package[0], "version": there, "install": install})
    return packages


def _requirements() -> Iterator[tuple[str, str]]:
    """Yield each extra with a requirement of it, by the installation, or by the checkout where there is none."""
    try:
        for requirement in requires("hvdsl") or []:
            extra = re.search(r"""extra == ["']([\w-]+)["']""", requirement)
            if extra is not None:
                yield extra[1], requirement
    except PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
        if project.is_file():
            for name, requirements in tomllib.loads(project.read_text())["project"]["optional-dependencies"].items():
                yield from ((name, requirement) for requirement in requirements)


def _speed(name: str) -> dict[str, Any]:
    """The median time of a training step, reading its images included."""
    model = checked(SPEC, (f"train.batch={BATCH}",))
    device = torch.device(name)
    with no_global_effect():
        trainer = Trainer(
            instantiate(model, 0, device), model.settings, open_splits(model.settings.data).train, sinks=()
        )
        stream, seconds = batches(trainer.data, trainer.order, 0), []
        try:
            for _ in range(WARM + TIMED):
                before = time.perf_counter()
                trainer.step(next(stream))
                seconds.append(time.perf_counter() - before)
        finally:
            stream.close()
    step = statistics.median(seconds[WARM:])
    return {"device": name, "spec": SPEC, "batch": BATCH, "seconds_per_step": step, "images_per_second": BATCH / step}
