"""Processes that can be killed and signalled, and cost no second import of torch.

They are forked off a server that has imported the program and computed nothing, so that each is as fresh as one that
was started by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

PRELOADED = ["hvdsl.cli.main", "hvdsl.workflows.train", "tests.runtime.forked"]


@cache
def server() -> ForkServerContext:
    """The server, with what the command line sets before torch is there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with patch.dict(os.environ, {"TORCH_CPP_LOG_LEVEL": "FATAL"}):
        forkserver.ensure_running()
    return context


class Forked:
    """A process that runs `target(*arguments)`, with what it prints in files.

    Args:
        folder: Where those are.
        environment: What is set beside the variables of this process.
    """

    def __init__(
        self, folder: Path, target: Callable[..., object], *arguments: object, environment: Mapping[str, str] = {}
    ) -> None:
        number = len(list(folder.glob("*.out")))
        self._files = folder / f"{number}.out", folder / f"{number}.err"
        for file in self._files:
            file.touch()
        self._process = server().Process(target=_run, args=(self._files, dict(environment), target, arguments))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; minus the signal's number where one ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def communicate(self, seconds: float = 300) -> tuple[str, str]:
        """Wait for the end; what was printed, and what was printed as errors."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"it did not end within {seconds:g} s: {self.printed()}")
        return self.printed()

    def printed(self) -> tuple[str, str]:
        """What was printed until now."""
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return out, err

    def wait_for(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        """Wait for something that this process does."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.returncode is None and time.monotonic() < end, self.printed()
            time.sleep(0.02)


def ranks(folder: Path, target: Callable[..., object], *arguments: object, **environment: str) -> tuple[Forked, Forked]:
    """Two processes of one group, as a cluster's launcher starts them: nobody ends the others when one fails."""
    port = free_port()
    first, second = (rank_of_two(rank, port, folder, target, *arguments, **environment) for rank in (0, 1))
    return first, second


def rank_of_two(
    rank: int, port: int, folder: Path, target: Callable[..., object], *arguments: object, **environment: str
) -> Forked:
    """One of two processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    variables = {name: str(value) for name, value in place.items()} | environment
    return Forked(folder, target, *arguments, environment=variables)


def train(arguments: Sequence[object]) -> int:
    """`hvdsl train …` on one thread."""
    from hvdsl.cli.main import main

    return main(["train", *map(str, arguments), "--device", "cpu", "--threads", "1"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(
    files: Sequence[Path], environment: Mapping[str, str], target: Callable[..., object], arguments: Sequence[Any]
) -> None:
    for file, descriptor in zip(files, (1, 2), strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.update(environment)
    torch.set_num_threads(1)
    status = target(*arguments)
    sys.exit(status if isinstance(status, int) else 0)
