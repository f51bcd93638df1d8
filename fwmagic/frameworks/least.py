"""The least that a call has to do, whatever a compiler makes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Least:
    """Operations of matrix products and convolutions, and bytes of inputs and results that have to be gone through."""

    operations: float = 0.0
    bytes: float = 0.0
