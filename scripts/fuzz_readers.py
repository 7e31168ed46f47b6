"""Damage files of every form that data come in, and see that each reader answers with a sentence.

    python scripts/fuzz_readers.py [--mutations 10000] [--commands 300] [--seed 0]

Every mutation is read as the runtime reads data: what is refused must be a `DataError`; what is read must be pixels. A
process of its own reads each form, with a limit on its memory; one that dies, hangs or raises anything else has failed.
Then `hvdsl data` is given further ones: it exits with 0, or with 1 and one sentence.
Prints one line for each form, and exits with 1 if there was a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import logging
import multiprocessing
import pickle
import resource
import struct
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from hvdsl.cli.main import main as hvdsl_command
from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError
from hvdsl.runtime.data.source import find_source
from hvdsl.runtime.data.tables import read_table

SLOWEST = 10.0  # seconds for one file
MEMORY = 6 << 30  # bytes of address space
FORMS: tuple[str, ...] = tuple(
    "png jpg webp tif bmp gif ppm png16 npy npz npzc idx idxgz mat svhn lmdb cifar cifarpy csv jsonl tar".split()  # noqa: SIM905
)

_NO_PLACE = ("csv", "jsonl", "cifar", "cifarpy")  # what is no place of images, or one only by its spec's name


def whole(form: str) -> bytes:
    """A small file of this form that can be read."""
    rng = np.random.default_rng(0)
    image = np.linspace(0, 255, 16 * 16 * 3).astype(np.uint8).reshape(16, 16, 3)
    file = io.BytesIO()
    match form:
        case "png16":
            Pillow.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16)).save(file, "png")
        case "npy":
            np.save(file, rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
        case "npz" | "npzc":
            save = np.savez if form == "npz" else np.savez_compressed
            save(file, images=rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), labels=np.arange(4))
        case "idx" | "idxgz":
            raw = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4, 8, 8) + bytes(range(256))
            return gzip.compress(raw) if form == "idxgz" else raw
        case "mat":
            from scipy.io import savemat  # type: ignore[import-untyped]  # it has no stubs

            savemat(file, {"data": rng.random((64, 5)), "testdata": rng.random((64, 2))}, do_compression=True)
        case "svhn":
            from scipy.io import savemat

            images = rng.integers(0, 256, (8, 8, 3, 5), dtype=np.uint8)
            savemat(file, {"X": images, "y": np.arange(5)[:, None] + 1})
        case "cifar":
            return b"".join(bytes([i]) + bytes(3072) for i in range(2))
        case "cifarpy":
            return pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}, protocol=2)
        case "csv":
            return b"file,age,kind\n0.png,3,cat\n1.png,4,dog\n"
        case "jsonl":
            return b'{"file": "0.png", "age": 3}\n{"file": "1.png", "age": null}\n'
        case "lmdb":
            return _lmdb(image)
        case "tar":
            with tarfile.open(fileobj=file, mode="w:") as archive:
                for i in range(3):
                    picture = whole("png")
                    for name, content in ((f"{i}.png", picture), (f"{i}.cls", b"1")):
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
        case _:
            Pillow.fromarray(image).save(file, {"jpg": "jpeg", "tif": "tiff"}.get(form, form))
    return file.getvalue()


def _lmdb(image: np.ndarray) -> bytes:
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder, map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
            for i in range(40):
                transaction.put(str(i).encode(), image.tobytes())
        return (Path(folder) / "data.mdb").read_bytes()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy with bytes changed, cut off, doubled or moved."""
    changed = bytearray(data)
    match int(rng.integers(5)):
        case 0:
            del changed[int(rng.integers(len(data))) :]
        case 1:
            start = int(rng.integers(len(data)))
            changed[start : start + int(rng.integers(1, 64))] = rng.bytes(int(rng.integers(64)))
        case 2:
            for _ in range(int(rng.integers(1, 4))):  # a size that is absurd
                start = int(rng.integers(min(len(data), 256)))
                changed[start : start + 4] = b"\xff\xff\xff\x7f"[:: int(rng.choice([1, -1]))]
        case _:
            for _ in range(int(rng.integers(1, 12))):
                limit = len(data) if rng.random() < 0.5 else min(len(data), 128)
                changed[int(rng.integers(limit))] = int(rng.integers(256))
    return bytes(changed)


def place(form: str, folder: Path) -> tuple[Path, Path]:
    """The file that is damaged, and what is then opened."""
    match form:
        case "idx" | "idxgz":
            suffix = ".gz" if form == "idxgz" else ""
            for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
                (folder / (name + suffix)).write_bytes(whole(form))
            return folder / f"train-images-idx3-ubyte{suffix}", folder
        case "cifar" | "cifarpy":
            suffix = ".bin" if form == "cifar" else ""
            for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
                (folder / (name + suffix)).write_bytes(whole(form))
            return folder / f"data_batch_2{suffix}", folder
        case "lmdb":
            (folder / "x.lmdb").mkdir()
            return folder / "x.lmdb" / "data.mdb", folder / "x.lmdb"
    path = folder / f"x.{ {'png16': 'png', 'npzc': 'npz', 'svhn': 'mat'}.get(form, form) }"
    return path, path


def read(form: str, path: Path) -> None:
    """Read a place as the runtime does."""
    if form in ("csv", "jsonl"):
        read_table(path)
        return
    name = {"cifar": "cifar10", "cifarpy": "cifar10"}.get(form, "images")
    source = find_source(Data(name=name, shape=(3, 8, 8)), path)
    for images in source.parts.values():
        for index in range(min(len(images), 50)):
            values = images.image(index, 0).values
            if values.ndim != 3 or values.size == 0:
                raise AssertionError(f"no image: {values.shape}")


def command(form: str, path: Path) -> None:
    """Read a place as `hvdsl data` does; a failure has to be one sentence."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = hvdsl_command(["data", str(path)])
    last = (err.getvalue().splitlines() or [""])[-1]
    if code == 1 and last.startswith("hvdsl: ") and "bug in hvdsl" not in last:
        raise DataError(last)
    if code != 0 or "Traceback" in err.getvalue():
        raise AssertionError(f"exit {code}: {err.getvalue()[-300:]}")


def attack(form: str, seed: int, start: int, count: int, by_command: bool, answer: Connection) -> None:
    """Read `count` damaged files from mutation `start` on; say what came of each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable()
    warnings.simplefilter("ignore")
    original = whole(form)
    with tempfile.TemporaryDirectory() as folder:
        file, opened = place(form, Path(folder))
        file.write_bytes(original)
        look = command if by_command else read
        look(form, opened)  # undamaged, it can be read
        for number in range(start, start + count):
            file.write_bytes(damaged(original, np.random.default_rng([seed, FORMS.index(form), number])))
            began = time.monotonic()
            try:
                look(form, opened)
                outcome = "read"
            except DataError:
                outcome = "refused"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {error}"
            if time.monotonic() - began > SLOWEST:
                outcome = f"took {time.monotonic() - began:.0f} s"
            answer.send((number, outcome))


def campaign(form: str, count: int, seed: int, by_command: bool, tell: Callable[[str], None]) -> bool:
    """Run all mutations of one form; a process that dies is replaced, and counted as a failure."""
    outcomes: Counter[str] = Counter()
    following = 0
    while following < count:
        receiving, sending = multiprocessing.Pipe(False)
        rest = (form, seed, following, count - following, by_command, sending)
        process = multiprocessing.Process(target=attack, args=rest)
        process.start()
        sending.close()
        try:
            while following < count and receiving.poll(3 * SLOWEST):
                number, outcome = receiving.recv()
                kind = outcome if outcome in ("read", "refused") else "failed"
                outcomes[kind] += 1
                if kind == "failed":
                    tell(f"{form} mutation {number}: {outcome}")
                following = number + 1
        except EOFError:
            pass
        if following < count:
            tell(f"{form} mutation {following}: the process ended or hung ({process.exitcode})")
            outcomes["failed"] += 1
            following += 1
            process.kill()
        process.join()
    tell(f"{form}: {count:,} mutations, " + ", ".join(f"{n:,} {kind}" for kind, n in sorted(outcomes.items())))
    return not outcomes["failed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000, help="in all (default 10,000)")
    parser.add_argument("--commands", type=int, default=300, help="mutations that `hvdsl data` is given (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forms", nargs="*", default=FORMS, choices=FORMS)
    args = parser.parse_args()
    began = time.monotonic()
    good = []
    if args.commands:  # everything is loaded before processes are forked, so that their time is that of the reading
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "x.png").write_bytes(whole("png"))
            command("png", Path(folder) / "x.png")
    for count, by_command in ((args.mutations, False), (args.commands, True)):
        forms = [form for form in args.forms if not (by_command and form in _NO_PLACE)]
        each = -(-count // len(forms)) if count else 0
        seed = args.seed + by_command
        good += [campaign(form, each, seed, by_command, partial(print, flush=True)) for form in forms if each]
        how = "through `hvdsl data`" if by_command else "in process"
        print(f"{each * len(forms):,} mutations {how}; {time.monotonic() - began:.0f} s so far, seed {args.seed}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
