"""Seeds for every purpose from the run's one seed."""

from __future__ import annotations

import hashlib


def derive(seed: int, purpose: str, index: int = 0) -> int:
    """A seed of its own for each purpose (init, order, augment, noise) and index, so that drawing more for one never shifts another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()[:8], "big")
