"""Seeds for what is random at each place of a training."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int) -> int:
    """Return a seed that follows from numbers, and differs widely where they differ little."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1
