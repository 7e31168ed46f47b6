"""The other processes of a run: whether all of them came, whether all are alive, and what the first failure was.

Beside the exchange of tensors there is a small store that all processes reach. Every process leaves a sign of life
there each second, and its first error before it ends. So whoever waits for one that is gone learns of which, and why,
instead of waiting for minutes or telling of broken sockets.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # documented, not listed

from hvdsl.errors import HvdslError

BEAT = 1.0  # seconds between two signs of life
LOST = 14.0  # without one for so long, a process is lost
SUSPECTED = 4.0  # the same, where an exchange with it has failed already
GRACE = 3.0  # for the main thread to end by itself, before the process is ended
RENDEZVOUS = 60.0  # seconds in which all processes must have come
RENDEZVOUS_VARIABLE = "HVDSL_RENDEZVOUS_SECONDS"
_FAILED = "failed"
_NETWORK = ("gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe", "socket")


class PeerError(HvdslError):
    """Another process of the run failed, was killed, or never came."""


def exchanged(rank: int, size: int, text: str) -> list[str]:
    """What every rank says, in order of ranks. All ranks call this in the same order.

    Raises:
        PeerError: One did not say anything.
    """
    store = PrefixStore("hvdsl", dist.distributed_c10d._get_default_store())
    turn = _Turn.next()
    store.set(f"{turn}/{rank}", text)
    keys = [f"{turn}/{other}" for other in range(size)]
    _wait(store, keys, 10 * patience())
    return [store.get(key).decode() for key in keys]


class _Turn:
    """Numbers the exchanges of this process, so that each has keys of its own."""

    count = 0

    @classmethod
    def next(cls) -> int:
        cls.count += 1
        return cls.count


def patience() -> float:
    """Seconds in which all processes must have come. Raises HvdslError where the environment says no number."""
    text = os.environ.get(RENDEZVOUS_VARIABLE, str(RENDEZVOUS))
    try:
        seconds = float(text)
        if 0 < seconds < 1e6:
            return seconds
    except ValueError:
        pass
    raise HvdslError(f"{RENDEZVOUS_VARIABLE} is a number of seconds, and is set to `{text}`")


class Peers:
    """This process among the others, from the first sign of life to the last.

    Args:
        store: What all processes reach.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._store = PrefixStore("peers", store)
        clone: Callable[[], Store] = self._store.clone  # type: ignore[attr-defined]  # not in torch's stubs
        self._own = clone()  # the watching thread's: a connection is not for two at a time
        self._hosts = isinstance(store, TCPStore) and rank == 0 and not _launcher_has_store()
        self._closed, self._noticed, self._suspicious = threading.Event(), threading.Event(), threading.Event()
        self._sentence = ""
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peers")

    def __enter__(self) -> Self:
        """Wait until all are there.

        Raises:
            PeerError: Some did not come in time; they are named.
        """
        self._store.set(f"beat/{self.rank}", "0")
        _wait(self._store, [f"beat/{rank}" for rank in range(self.size)], patience())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        with suppress(RuntimeError):  # nobody is there to tell, or somebody was killed
            self._store.set(f"ended/{self.rank}", "1")
            if self._hosts:  # the store goes with this process: the others are to learn first how it ended
                others = [f"ended/{rank}" for rank in range(self.size) if rank != self.rank]
                self._store.wait(others, timedelta(seconds=GRACE + 2 * BEAT))

    def tell(self, error: BaseException) -> None:
        """Leave this process's error for the others, if it is the first."""
        text = str(error) if isinstance(error, HvdslError) else f"{type(error).__name__}: {error}"
        record = json.dumps({"rank": self.rank, "error": (text.splitlines() or [""])[0][:500]})
        with suppress(RuntimeError):  # the process that has the store is gone, and will be named by all
            self._store.compare_set(_FAILED, "", record)

    def explain(self, error: BaseException) -> PeerError:
        """What is behind a failed exchange: the first failure or a process that is gone, once that is known."""
        with _without_sigterm():  # a launcher that saw the failure first ends everybody; the sentence comes before that
            self._suspicious.set()
            self._noticed.wait(SUSPECTED + 6 * BEAT)
        if self._sentence:
            return PeerError(self._sentence)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return PeerError(f"the connection between the processes failed, and none of them says why ({reason})")

    def _watch(self) -> None:
        seen = {rank: (b"", time.monotonic()) for rank in range(self.size) if rank != self.rank}
        beats = 0
        while not self._closed.wait(BEAT):
            beats += 1
            try:
                self._own.set(f"beat/{self.rank}", str(beats))
                sentence = self._failure() or self._silence(seen)
            except RuntimeError:
                who = "the launcher" if _launcher_has_store() else "rank 0"
                sentence = f"{who} is gone: it was killed, or its machine cannot be reached any more"
            if sentence:
                self._sentence = sentence
                self._noticed.set()
                if not self._closed.wait(GRACE + (SUSPECTED if self._suspicious.is_set() else 0)):
                    os.write(2, f"hvdsl: {sentence}\n".encode())  # last words: nobody else can say them
                    os._exit(1)
                return

    def _failure(self) -> str:
        """What another process said before it ended."""
        if not self._own.check([_FAILED]):
            return ""
        failed = json.loads(self._own.get(_FAILED))
        return "" if failed["rank"] == self.rank else f"rank {failed['rank']} failed: {failed['error']}"

    def _silence(self, seen: dict[int, tuple[bytes, float]]) -> str:
        """Which process gives no sign of life any more, and has not ended as it should."""
        now, limit = time.monotonic(), SUSPECTED if self._suspicious.is_set() else LOST
        for rank, beat in zip(seen, self._own.multi_get([f"beat/{rank}" for rank in seen]), strict=True):
            last, since = seen[rank]
            if beat != last:
                seen[rank] = (beat, now)
            elif now - since > limit and not self._own.check([f"ended/{rank}"]):
                return f"rank {rank} is gone: it was killed, or its machine cannot be reached any more"
        return ""


@contextmanager
def joined(rank: int, size: int, backend: str) -> Iterator[Peers]:
    """Join the others, for tensors and for signs of life; leave at the end.

    Raises:
        PeerError: Some did not come, failed, or are gone.
    """
    store = _store(rank, size)
    peers = Peers(store, rank, size)
    with peers:
        try:
            dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=size)
            yield peers
        except (KeyboardInterrupt, HvdslError) as error:
            peers.tell(error)
            raise
        except Exception as error:
            if is_network_failure(error):
                raise peers.explain(error) from error
            peers.tell(error)
            raise
        finally:
            _leave(backend, failed=sys.exc_info()[0] is not None)


def is_network_failure(error: BaseException) -> bool:
    """Whether an exchange between processes failed, rather than what was computed."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(word in text for word in _NETWORK)


def _store(rank: int, size: int) -> Store:
    host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    if not port.isdigit():
        raise HvdslError(f"MASTER_PORT is the number of a port, and is set to `{port}`")
    hosts, seconds = rank == 0 and not _launcher_has_store(), patience()
    try:
        store = TCPStore(
            host, int(port), size, hosts, timedelta(seconds=seconds), wait_for_workers=False, multi_tenant=True
        )
    except (RuntimeError, ValueError) as error:
        if hosts:
            reason = (str(error).splitlines() or [""])[0]
            raise PeerError(f"rank 0 cannot listen at {host}:{port} ({reason}): give another MASTER_PORT") from error
        raise PeerError(
            f"rank {rank} could not reach rank 0 at {host}:{port} within {seconds:g} s: see whether it was started, "
            f"and MASTER_ADDR and MASTER_PORT; {RENDEZVOUS_VARIABLE} waits longer"
        ) from error
    # After a restart by the launcher nothing of the attempt before it counts.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"hvdsl/{attempt}", store) if _launcher_has_store() else store


def _launcher_has_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _wait(store: Store, keys: list[str], seconds: float) -> None:
    """Wait for keys that end with a rank. Raises PeerError, which names the ranks whose keys did not come."""
    try:
        store.wait(keys, timedelta(seconds=seconds))
    except RuntimeError as error:
        missing = []
        for key in keys:
            try:
                if not store.check([key]):
                    missing.append(key.rpartition("/")[2])
            except RuntimeError:
                raise PeerError("rank 0 is gone: it was killed, or its machine cannot be reached any more") from error
        who = f"rank {missing[0]} has" if len(missing) == 1 else f"ranks {', '.join(missing)} have"
        raise PeerError(
            f"{who} not come within {seconds:g} s: see whether all processes were started and what they said; "
            f"{RENDEZVOUS_VARIABLE} waits longer"
        ) from error


def _leave(backend: str, failed: bool) -> None:
    """Leave the group; after a failure without waiting for exchanges that nobody will answer."""
    if not dist.is_initialized():
        return
    if not failed or backend == "gloo":
        dist.destroy_process_group()
        return
    leaving = threading.Thread(target=dist.destroy_process_group, daemon=True)
    leaving.start()
    leaving.join(GRACE)


@contextmanager
def _without_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
