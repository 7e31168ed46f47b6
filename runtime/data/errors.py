"""What is wrong with data, and packages that only some readers of it need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hvdsl.errors import HvdslError


class DataError(HvdslError):
    """Data that is missing, damaged or not what the spec says."""


def optional(module: str, extra: str, what: str) -> Any:
    """Import a package of an extra.

    Raises:
        DataError: it is not installed; the message says how to.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(f"{what} needs `{module}`: install it with `pip install 'hvdsl[{extra}]'`") from error
