"""Independent seeds out of one."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed for one purpose: the same for the same parts, unrelated to all others."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1  # fits an int64
