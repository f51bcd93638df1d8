"""Loops of `jax.lax` where nothing is compiled: each step is Python, so that a long one is told of before it starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from fwmagic.format import seconds
from fwmagic.frameworks.jax.tree import leaves_of

# A loop of fewer steps is not told of. A step of the first such loop takes up to so many seconds.
_LONG, _STEP = 100, 0.03
# Seconds between two lines of progress.
_INTERVAL = 2.0


@contextmanager
def eager() -> Iterator[None]:
    """Run without compiling, under `jax.disable_jit`, and tell of long loops."""
    scan, fori_loop = jax.lax.scan, jax.lax.fori_loop

    def told_scan(f: Any, init: Any, xs: Any = None, length: int | None = None, *rest: Any, **options: Any) -> Any:
        sizes = [len(leaf) for leaf in leaves_of(xs) if getattr(leaf, "ndim", 0)]
        step = _told("scan", f, length or (sizes or [0])[0], "scan the first steps only, such as `xs[:10]`")
        return scan(step, init, xs, length, *rest, **options)

    def told_loop(lower: Any, upper: Any, body_fun: Any, init_val: Any, **options: Any) -> Any:
        count = int(upper) - int(lower) if isinstance(lower, int) and isinstance(upper, int) else 0
        return fori_loop(lower, upper, _told("fori_loop", body_fun, count, "ask for fewer steps"), init_val, **options)

    with jax.disable_jit():
        _put(told_scan, told_loop)
        try:
            yield
        finally:
            _put(scan, fori_loop)


def _put(scan: Any, fori_loop: Any) -> None:
    setattr(jax.lax, "scan", scan)  # noqa: B010 - a plain function, with which it may be replaced
    setattr(jax.lax, "fori_loop", fori_loop)  # noqa: B010


def _told(name: str, step: Callable[..., Any], count: int, fewer: str) -> Callable[..., Any]:
    """Return a step of a loop of `count` that tells how far it is; the step itself if the loop is short."""
    if count < _LONG:
        return step
    _say(
        f"jax.lax.{name} of {count:,} steps runs as a Python loop here, which takes up to {seconds(count * _STEP)} the "
        f"first time. To look at less, {fewer}; Ctrl-C ends it, and the notebook is as before the cell."
    )
    began = said = time.monotonic()
    done = 0

    def told(*arguments: Any) -> Any:
        nonlocal done, said
        now = time.monotonic()
        if done and now - said >= _INTERVAL:
            said = now
            _say(f"step {done:,} of {count:,}, about {seconds((now - began) / done * (count - done))} more")
        done += 1
        return step(*arguments)

    return told


def _say(text: str) -> None:
    print(f"fwmagic: {text}", file=sys.stderr, flush=True)
