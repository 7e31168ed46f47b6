"""Pickles of plain values and NumPy arrays, read without running anything that they ask for.

The public Python form of CIFAR-10 is a pickle. A pickle is a program; this reader lets it name exactly the few
constructors that NumPy's own pickles name, and puts inert stand-ins in their place: bytes and a type name come out,
and NumPy sees them only after they were checked.
"""

from __future__ import annotations

import io
import pickle  # only the restricted subclass below reads with it
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"u1": np.uint8, "i4": np.int32, "i8": np.int64, "f4": np.float32, "f8": np.float64}
_LIMIT = 1 << 30


class RefusedError(ValueError):
    """The file asks for something other than plain values and numeric arrays, or is not a pickle."""


class _DType:
    def __init__(self, name: object, *_: object) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if text not in _DTYPES:
            raise RefusedError(f"an array of type {text!r}")
        self.name = text

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: NumPy's defaults are the only ones these types have."""


class _Array:
    """What an array's pickle says of it, kept as it is until `value` checks it."""

    def __init__(self, *_: object) -> None:
        self._state: object = None

    def __setstate__(self, state: object) -> None:
        self._state = state

    def value(self) -> NDArray[np.generic]:
        match self._state:
            case (_, tuple(shape), _DType() as dtype, bool(fortran), bytes() | str() as data):
                raw = data.encode("latin-1") if isinstance(data, str) else data
            case _:
                raise RefusedError("an array in an unknown form")
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise RefusedError("an array of an impossible shape")
        array = np.frombuffer(raw, _DTYPES[dtype.name])
        count = 1
        for n in shape:
            count *= n
        if array.size != count:
            raise RefusedError(f"an array of shape {shape} with {array.size} elements")
        return array.reshape(shape, order="F" if fortran else "C")


def _bytes(text: object, encoding: object) -> bytes:
    """Stand in for `_codecs.encode`, which is how Python 3 writes bytes in old pickles."""
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("text in an unknown encoding")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    **{(module, "_reconstruct"): _Array for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise RefusedError(f"`{module}.{name}`") from None

    def persistent_load(self, pid: object) -> object:
        raise RefusedError("an external object")


def read_plain(data: bytes) -> object:
    """Return what a pickle holds: numbers, strings, lists, tuples, dicts and numeric arrays.

    Raises:
        RefusedError: it holds, or asks for, anything else; or it is damaged.
    """
    if len(data) > _LIMIT:
        raise RefusedError(f"more than {_LIMIT} bytes")
    try:
        loaded = _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    except RefusedError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
    ) as error:
        raise RefusedError(f"a damaged file ({error})") from error
    except (MemoryError, OverflowError, RecursionError) as error:
        raise RefusedError("a structure too large to read") from error
    return _arrays(loaded)


def _arrays(value: object, depth: int = 0) -> object:
    if depth > 8:
        raise RefusedError("a deeply nested structure")
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        return {key: _arrays(item, depth + 1) for key, item in items.items()}
    if isinstance(value, list) and any(isinstance(item, _Array | dict | list) for item in value):
        return [_arrays(item, depth + 1) for item in value]
    return value
