"""The two tiers: what `make test` runs, and what only `make test-all` does."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.mark import ParameterSet

#: A backend of `torch.compile` that generates no code.
QUICK_BACKEND = "aot_eager"


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


def thinned(cases: Iterable[Any], every: int) -> list[Any]:
    """Return a parameter for each case; all but the first, and every second one, third and so on, are of tier two."""
    parameters = []
    for i, case in enumerate(cases):
        values, marks, name = case if isinstance(case, ParameterSet) else (case, (), None)
        values = values if isinstance(values, tuple) else (values,)
        parameters.append(pytest.param(*values, marks=marks if i % every == 0 else (*marks, pytest.mark.slow), id=name))
    return parameters


@contextmanager
def compiling_with(backend: str) -> Iterator[None]:
    """Let `torch.compile` use a backend where the caller names none."""
    import torch

    usual = torch.compile

    @functools.wraps(usual)
    def compile(*args: Any, **options: Any) -> Any:
        return usual(*args, **{"backend": backend, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile)
        yield
