"""No quick test is long: one that takes more than a few seconds of processor time fails."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

# One thread to a worker: several workers share the cores, and threads that wait for each other spin. What is set
# outside holds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LIMIT = 5.0  # seconds of processor time, on the machine that the project is developed on
ROOM = 2.0  # how much slower a busy machine may be


def processor_seconds() -> float:
    """Seconds of processor time of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    before = processor_seconds()
    yield
    spent = processor_seconds() - before
    if os.environ["OMP_NUM_THREADS"] != "1":  # threads that wait for each other use up time that no test asked for
        return
    if item.get_closest_marker("slow") is None and spent > ROOM * LIMIT:
        pytest.fail(
            f"took {spent:.1f} s of processor time, and a quick test may take {LIMIT:g}: "
            "make it smaller, or mark it `slow`"
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write anew what tests compare with reviewed files")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update"):
        os.environ["HVDSL_UPDATE"] = "1"
