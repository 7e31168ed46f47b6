"""What commands print for programs: one JSON object with the number of its form."""

from __future__ import annotations

import json
from collections.abc import Mapping

FORMAT = 1
"""Raised when a key changes its meaning or goes; new keys may come without."""


def print_json(values: Mapping[str, object]) -> None:
    """Print values to standard output, after `format`."""
    print(json.dumps({"format": FORMAT, **values}, indent=2))
