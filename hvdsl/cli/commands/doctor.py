"""`hvdsl doctor`: what this machine can do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from hvdsl.cli.options.shared import add_json


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-speed", action="store_false", dest="speed", help="do not time a training step")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.output import print_json
    from hvdsl.workflows.doctor import examine_machine

    found = examine_machine(speed=args.speed)
    if args.json:
        print_json(found)
    else:
        print("\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from hvdsl.render.numbers import in_bytes

    def line(title: str, text: str) -> str:
        return f"{title:<14}{text}"

    def memory(count: int | None) -> str:
        return "" if count is None else f", {in_bytes(count)}"

    cpu = found["cpu"]
    yield line("hvdsl", f"{found['hvdsl']}, torch {found['torch']}, Python {found['python']}, {found['platform']}")
    cores = f"{cpu['usable_cores']} of {cpu['cores']} cores, {cpu['threads']} threads{memory(cpu['memory_bytes'])}"
    yield line("cpu", f"{cpu['name']}, {cpu['instructions']}, {cores}")
    for device in found["devices"]:
        bf16 = {True: ", bf16", False: ", no bf16", None: ""}[device["bf16"]]
        yield line(device["name"], f"{device['model'] or device['name']}{memory(device['memory_bytes'])}{bf16}")
    if not found["devices"]:
        yield line("accelerators", "none that torch can use")
    for compiler in found["compilers"]:
        there = f"{compiler['found']} (for {compiler['for']})" if compiler["problem"] is None else compiler["problem"]
        yield line(compiler["name"], there)
    yield line("processes", ", ".join(found["processes"]) or "torch was built without torch.distributed")
    for extra in found["extras"]:
        there = f"{extra['package']} {extra['version']}" if extra["version"] else f"not installed: `{extra['install']}`"
        yield line(extra["extra"], there)
    for speed in found["speed"]:
        step = f"{1000 * speed['seconds_per_step']:.1f} ms, {speed['images_per_second']:.0f} images/s"
        yield line("speed", f"a step of {speed['spec']} on {speed['device']}, batch {speed['batch']}: {step}")
