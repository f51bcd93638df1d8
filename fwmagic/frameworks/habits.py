"""What functions of a library do by default, and not those of another one."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Habit:
    """What a function does by default, in words, and not in another framework; `settled` by naming such an argument.

    Names are those that `bare_name` returns.
    """

    name: str
    other: str
    settled: tuple[str, ...]
    what: str


def bare_name(name: str) -> str:
    """Return the letters of a function's name up to its first digit: `layernorm` of LayerNorm and of layer_norm."""
    return re.split(r"\d", name.replace("_", "").lower(), maxsplit=1)[0]
