"""The two tiers: what `make test` runs, and what only `make test-all` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


def tiered(cases: Mapping[str, Any], *first: str) -> list[Any]:
    """Return a parameter for each case, named by its key; all but those named in `first` are of the second tier."""
    if unknown := set(first) - set(cases):
        raise ValueError(f"no cases are named {sorted(unknown)}")
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), id=name, marks=() if name in first else pytest.mark.slow
        )
        for name, value in cases.items()
    ]
