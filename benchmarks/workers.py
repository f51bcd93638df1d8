"""The suite of isolated workers: how long one takes to start, and how long big arrays take to reach it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.results import ROOT, Watch
from fwmagic import frameworks
from fwmagic.worker.parcel import Parcel, ParcelAddress, unpack_parcel
from fwmagic.worker.process import Worker, WorkerSetting

Run = dict[str, Any]

_STARTS = 10
_SENDS = 10
#: What is sent, in bytes; the smoke test sends less.
_BYTES = 100_000_000
_QUICK_BYTES = 1_000_000
_COLD = "import torch, jax"
#: Most of these jobs are over before the system has counted anybody's time: the load is watched so long before, too.
_WATCH = 0.2


def workers(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Start workers and cold processes in random order, then send arrays to workers, in random order of kinds."""
    # The first worker of a process waits for the server that all of them are copies of: that is a row of its own.
    yield _started("first worker")
    jobs = ["later worker", "cold imports"] * (1 if quick else _STARTS)
    rng.shuffle(jobs)
    for turn, job in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **(_cold() if job == "cold imports" else _started(job))}
    count = (_QUICK_BYTES if quick else _BYTES) // 4
    # Not zeros, which a system may give out without any memory behind them.
    array = np.random.default_rng(0).random(count, dtype=np.float32)
    values = {"torch": torch.from_numpy(array.copy()), "jax": jnp.asarray(array), "numpy": array}
    for name in rng.sample(sorted(values), len(values)):
        yield from _sends(name, values[name], 1 if quick else _SENDS)


def loaded() -> list[str]:
    """Return which of the two frameworks this process has imported; asked of a worker."""
    return sorted({"torch", "jax"} & set(sys.modules))


def received(address: ParcelAddress) -> int:
    """Unpack a parcel in a worker, and return the bytes of the array in it; the array is dropped."""
    return int(unpack_parcel(address)["value"].nbytes)


def _started(kind: str) -> Run:
    watch = _watch()
    start = time.perf_counter()
    worker = Worker(_setting())
    worker.wait()
    seconds = time.perf_counter() - start
    with worker:
        modules = worker.call(loaded)
    run = {"setup": kind, "method": "start", "seconds": seconds, "loaded": modules, "load": watch.load()}
    if modules != ["jax", "torch"]:
        run["failed"] = f"the worker has imported {modules or 'no framework'}"
    return run


def _cold() -> Run:
    watch = _watch()
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _COLD], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    run = {"setup": "cold imports", "method": "start", "seconds": seconds, "load": watch.load()}
    return {**run, "failed": done.stderr[-2000:]} if done.returncode else run


def _sends(name: str, value: Any, later: int) -> Iterator[Run]:
    """Send an array to a new worker, again and again; the first time may start a framework there."""
    with Worker(_setting()) as worker:
        for turn in range(1 + later):
            watch = _watch()
            start = time.perf_counter()
            with Parcel({"value": value}, frameworks.loaded()) as parcel:
                count = worker.call(received, parcel.address)
                seconds = time.perf_counter() - start
            run = {"turn": f"{turn + 1}/{1 + later}", "setup": name, "method": "send", "seconds": seconds}
            run.update(kind="later" if turn else "first", bytes=count, load=watch.load())
            if count != value.nbytes:
                run["failed"] = f"{count} of {value.nbytes} bytes came"
            yield run


def _setting() -> WorkerSetting:
    return WorkerSetting(dict(os.environ), str(Path.cwd()), tuple(sys.path))


def _watch() -> Watch:
    watch = Watch()
    time.sleep(_WATCH)
    return watch
