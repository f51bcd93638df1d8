"""The growth of this process's resident memory: exact where Linux counts it, sampled and called so where not."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fwmagic
from fwmagic.memory import host
from fwmagic.report import Ledger, Timeline

MIB = 1 << 20
SIZES = (1, 16, 64, 256)
FRAMEWORKS = ("torch", "numpy", "jax, eager", "jax, jitted")

# In a process of its own, as a worker does it: what the tests before have left in the heaps plays no part.
EXACT = """
import json

from fwmagic.memory import host

assert host.map_large_blocks()

import jax
import jax.numpy as jnp
import numpy as np
import torch

import fwmagic
from fwmagic.memory import host

def programs(count):
    given = jnp.full(count, 0.5, jnp.float32)
    jitted = jax.jit(lambda a: jax.lax.optimization_barrier(jnp.sin(a)).sum()).lower(given).compile()
    assert jitted.memory_analysis().temp_size_in_bytes == 4 * count
    return {
        "torch": lambda: torch.full((count,), 1.0).sum().item(),
        "numpy": lambda: np.full(count, 1.0, np.float32).sum(),
        "jax, eager": lambda: jnp.full(count, 1.0, jnp.float32).block_until_ready(),
        "jax, jitted": lambda: jitted(given).block_until_ready(),
    }

found = []
for mib in SIZES:
    for name, call in programs(mib << 18).items():
        call(), call()
        ledgers = [host.measure(call) for _ in range(3)]
        found += [(name, mib, ledger.how, ledger.peak[0].bytes, ledger.note) for ledger in ledgers]
print(json.dumps(found))
"""

# A thread that is not the main one frees 16 MiB at the end of a heap of its own, and takes them again.
LINGERS = """
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fwmagic
from fwmagic.memory import host

def use(mib):
    np.full(mib << 20, 1, np.uint8)

use(30)  # from now on glibc keeps blocks up to that size in its heaps
with ThreadPoolExecutor(1) as pool:
    before = host.lingering()
    pool.submit(use, 16).result()
    host.give_back()
    kept = host.lingering()
    ledger = host.measure(lambda: pool.submit(use, 16).result())
    more = host.measure(lambda: use(256))
print(json.dumps([before, kept, ledger.peak[0].bytes, ledger.note, more.note]))
"""


def python(text: str) -> list:
    """Return what a program prints as JSON, run in a process of its own."""
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def growth(ledger: Ledger) -> int:
    (amount,) = ledger.peak
    assert amount.bytes is not None, amount.why
    return amount.bytes


def is_right(count: int, mib: int) -> bool:
    return abs(count - mib * MIB) <= max(0.02 * mib * MIB, MIB)


def hold(mib: int, seconds: float = 0.05) -> None:
    array = np.full(mib * MIB, 1, np.uint8)
    time.sleep(seconds)
    del array


@pytest.fixture(scope="module")
def exact() -> list:
    return python(f"SIZES = {SIZES}\n{EXACT}")


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_peak_is_that_of_a_known_temporary(exact, framework, mib):
    found = [(*rest,) for name, size, *rest in exact if (name, size) == (framework, mib)]
    assert len(found) == 3
    for how, count, note in found:
        assert how == "measured"
        assert is_right(count, mib), f"{count / MIB:.2f} MiB"
        assert note == ""


@pytest.mark.parametrize("mib", [16, 64, 256])
@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_the_peak_is_right_in_a_process_that_did_other_things(framework, mib):
    count = mib * MIB // 4
    calls = {"torch": lambda: torch.full((count,), 1.0), "numpy": lambda: np.full(count, 1.0, np.float32)}
    calls[framework]()
    ledger = host.measure(calls[framework])
    assert is_right(growth(ledger), mib), f"{growth(ledger) / MIB:.2f} MiB"
    assert (ledger.device, ledger.total, ledger.how) == ("host", None, "measured")
    assert "VmHWM" in ledger.peak[0].source
    assert abs(ledger.start - psutil.Process().memory_info().rss) < 32 * MIB


def blocks() -> list[bytearray]:
    return [bytearray(b"x" * 60_000) for _ in range(1000)]  # too small to be mapped one by one


def freed_below_a_block_that_stays(cyclic: bool) -> bytearray:
    """Make and drop 57 MiB; the C library by itself gives back only what lies above the block that it returns."""
    dropped: list[object] = [*blocks()]
    if cyclic:
        dropped.append(dropped)  # now only the garbage collector finds it
    return bytearray(b"x" * 60_000)


@pytest.mark.parametrize("cyclic", [False, True])
def test_what_was_freed_before_hides_no_growth(cyclic):
    def call() -> list[bytearray]:
        gc.collect()
        return blocks()

    stays = freed_below_a_block_that_stays(cyclic)
    assert growth(host.measure(call)) > 55 * MIB
    stays = freed_below_a_block_that_stays(cyclic)
    hidden = host.measure(call, settle=lambda: None)
    assert growth(hidden) < 20 * MIB, "settling was not what made the difference"
    del stays


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_only_new_garbage_is_collected_meanwhile():
    gc.unfreeze()  # what conftest.py froze
    old, kept = Cycle(), Cycle()
    seen, still = weakref.ref(old), weakref.ref(kept)
    del old
    with host.only_new_garbage():
        assert gc.get_freeze_count() > 1000, "what was there before is looked at again"
        new = weakref.ref(Cycle())
        del kept
        host.give_back()
        assert new() is None
        assert seen() is not None
        assert still() is not None, "it was there before"
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert seen() is None
    assert still() is None


def test_what_the_user_froze_stays_frozen():
    mine = [[] for _ in range(1000)]
    gc.freeze()
    try:
        with host.only_new_garbage():
            new = [[]]
        # What is frozen may still die, so that their number says little; what is frozen is in no generation.
        known = {id(one) for one in gc.get_objects()}
        assert known.isdisjoint(map(id, mine))
        assert id(new) in known
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("memory", [True, False])
def test_a_run_collects_for_its_memory_passes_only(memory):
    frozen: list[int] = []

    def call() -> None:
        frozen.append(gc.get_freeze_count())

    fwmagic.compare({"a": call, "b": call}, budget=0.1, memory=memory)
    assert any(frozen) == memory
    assert not frozen[0]
    assert gc.get_freeze_count() == 0


def test_what_another_thread_freed_may_hide_growth_and_then_the_note_says_how_much():
    before, kept, count, note, note_of_more = python(LINGERS)
    assert before < MIB
    assert 16 * MIB <= kept < 18 * MIB
    assert count < 16 * MIB <= count + kept + MIB
    assert note.startswith("without and with 16.")
    assert "MiB that the C library had kept of freed memory" in note
    assert note_of_more.startswith("without and with 16."), "6 % of the figure matter"


def test_where_freed_memory_may_hide_growth_the_figure_is_a_span(monkeypatch):
    monkeypatch.setattr(host, "lingering", lambda: 24 * MIB)
    (amount,) = host.measure(lambda: None).peak
    assert amount.most == amount.bytes + 24 * MIB
    monkeypatch.setattr(host, "lingering", lambda: 0)
    (amount,) = host.measure(lambda: None).peak
    assert amount.most is None


def test_freed_memory_that_does_not_matter_gets_no_note(monkeypatch):
    monkeypatch.setattr(host, "lingering", lambda: MIB)
    assert host.measure(lambda: None).note == ""
    monkeypatch.setattr(host, "lingering", lambda: 3 * MIB)
    assert host.measure(lambda: None).note != ""
    assert host.measure(lambda: np.full(256 * MIB, 1, np.uint8)).note == ""


@pytest.mark.parametrize("error", [OSError("no handle"), TypeError("no name"), AttributeError("no function")])
def test_other_c_libraries_are_left_alone(monkeypatch, error):
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    host.give_back()
    assert host.lingering() == 0
    assert not host.map_large_blocks()


def test_a_heap_that_cannot_be_told_is_no_error(monkeypatch):
    class Library:
        @staticmethod
        def open_memstream(*_: object) -> None:
            return None

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    assert host.lingering() == 0


def test_the_timeline_shows_the_course():
    kept = []

    def call() -> np.ndarray:
        hold(64)
        time.sleep(0.02)
        kept.append(np.full(16 * MIB, 1, np.uint8))
        return np.full(16 * MIB, 1, np.uint8)

    ledger = host.measure(call)
    first, *between, last = ledger.timeline
    assert (first.seconds, first.in_use, first.held) == (0.0, 0, None)
    assert is_right(last.in_use, 32), "the outputs are still there at the end"
    assert any(is_right(moment.in_use, 64) for moment in between)
    assert any(is_right(moment.in_use, 0) for moment in between)
    assert all(0 <= moment.in_use <= growth(ledger) for moment in ledger.timeline)
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(ledger.timeline))
    assert re.search(r"sampled every \d[\d.]* m?s$", ledger.source)
    assert "0 where it was below" in ledger.source


def test_a_sample_below_the_start_is_no_growth():
    given = [np.full(64 * MIB, 1, np.uint8)]

    def call() -> None:
        given.clear()
        time.sleep(0.02)

    ledger = host.measure(call)
    assert is_right(growth(ledger), 0)
    assert ledger.timeline[-1].in_use == 0
    assert len(ledger.timeline) > 2


def test_a_call_too_short_for_samples_has_two_moments():
    ledger = host.measure(lambda: None)
    assert len(ledger.timeline) == 2
    assert ledger.source.endswith("read at the start and at the end only")


@given(st.lists(st.integers(0, 1 << 40)))
def test_of_pairs_the_larger_stays(values):
    kept = host.larger_of_pairs(values)
    assert len(kept) == (len(values) + 1) // 2
    assert all(index // 2 == pair for pair, index in enumerate(kept))
    assert [values[i] for i in kept] == [max(values[i : i + 2]) for i in range(0, len(values), 2)]


@given(st.lists(st.integers(0, 1 << 40), max_size=300), st.integers(2, 17))
def test_samples_stay_few_and_keep_the_largest(values, most):
    read = iter(values)
    sampler = host._ResidentSampler(lambda: next(read), interval=1.0, most=most)
    sampler.begin()
    for count in range(1, len(values) + 1):
        sampler.take()
        samples = sampler.samples(float("inf"))
        assert len(samples) < max(most, 2)
        assert max(resident for _, resident in samples) == max(values[:count])
    samples = sampler.samples(float("inf"))
    assert sampler.taken == len(values)
    assert samples == sorted(samples, key=lambda sample: sample[0])
    order = iter(values)
    assert all(resident in order for _, resident in samples), "the samples are not in the order they came in"
    # The interval doubles each time that the samples are halved: none is further from the next than two of them.
    assert len(values) <= (len(samples) + 1) * sampler._interval


def test_a_long_call_has_a_timeline_of_bounded_length(monkeypatch):
    monkeypatch.setattr(host, "MOST_KEPT", 12)
    monkeypatch.setattr(host._ResidentSampler.__init__, "__defaults__", (1e-4, 10))
    ledger = host.measure(lambda: hold(8, 0.3))
    assert len(ledger.timeline) <= 12
    assert max(moment.in_use for moment in ledger.timeline) > 7 * MIB


def test_no_thread_is_left():
    host.measure(lambda: None)
    before = {*threading.enumerate()}
    during: set[threading.Thread] = set()
    host.measure(lambda: during.update(threading.enumerate()))
    assert len(during - before) == 1
    assert {*threading.enumerate()} <= before


@pytest.mark.parametrize(
    "error", [ValueError("mine"), StopIteration(3), KeyboardInterrupt(), SystemExit(2), OSError(5)]
)
def test_what_the_call_raises_comes_out_and_no_thread_stays(error):
    def call() -> None:
        raise error

    before = {*threading.enumerate()}
    with pytest.raises(type(error)) as caught:
        host.measure(call)
    assert caught.value is error
    assert caught.traceback[-1].name == "call"
    assert (error.__cause__, error.__context__) == (None, None)
    assert {*threading.enumerate()} <= before


def test_ctrl_c_stops_the_call_and_the_thread():
    before = {*threading.enumerate()}
    with pytest.raises(KeyboardInterrupt):
        host.measure(lambda: (signal.raise_signal(signal.SIGINT), time.sleep(60)))
    assert {*threading.enumerate()} <= before


@pytest.mark.parametrize("why", ["missing", "folder", "without effect", "no counter"])
def test_without_a_counter_the_peak_is_sampled_and_called_so(monkeypatch, tmp_path: Path, why):
    path, attribute = tmp_path / "proc", "_STATUS" if why == "no counter" else "_CLEAR_REFS"
    if why == "folder":
        path.mkdir()
    elif why == "missing":
        path = tmp_path / "none"
    else:
        path.write_text("VmRSS:\t4 kB\n")
    hold(256, 0)  # the counter stands far above what is resident now
    monkeypatch.setattr(host, attribute, path)
    ledger = host.measure(lambda: hold(64))
    (amount,) = ledger.peak
    assert (amount.kind, ledger.how) == ("in use", "sampled")
    assert is_right(amount.bytes, 64)
    assert re.match(r"sampled every \d[\d.]* m?s, so the true peak may be higher: no counter", amount.source)
    assert str(path) in amount.source
    assert path.exists() == (why != "missing")
    assert max(moment.in_use for moment in ledger.timeline) == amount.bytes


def test_a_short_call_without_a_counter_is_read_at_its_end(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(host, "_CLEAR_REFS", tmp_path / "none")
    monkeypatch.setattr(host._ResidentSampler.__init__, "__defaults__", (60.0, 10))
    ledger = host.measure(lambda: np.full(64 * MIB, 1, np.uint8))
    assert is_right(growth(ledger), 64)
    assert ledger.peak[0].source.startswith("read at the start and at the end only, so the true peak may be higher")


def test_elsewhere_psutil_reads(monkeypatch, tmp_path: Path):
    for name in ("_CLEAR_REFS", "_STATUS", "_STATM"):
        monkeypatch.setattr(host, name, tmp_path / name)
    ledger = host.measure(lambda: hold(64))
    assert ledger.how == "sampled"
    assert is_right(growth(ledger), 64)


class Refuse:
    def memory_info(self) -> None:
        raise psutil.AccessDenied(1)


def test_where_nothing_can_be_read_a_sentence_says_so_and_nothing_runs(monkeypatch, tmp_path: Path):
    for name in ("_CLEAR_REFS", "_STATUS", "_STATM"):
        monkeypatch.setattr(host, name, tmp_path / name)
    monkeypatch.setattr(psutil, "Process", Refuse)
    ran = []
    ledger = host.measure(lambda: ran.append(1))
    (amount,) = ledger.peak
    assert (amount.kind, amount.bytes, ledger.timeline, ledger.start, ran) == ("in use", None, Timeline(), None, [])
    assert amount.why.startswith("the resident memory of this process cannot be read: ")
    assert not amount.why.endswith(": ")


def test_readings_that_fail_later_on_are_no_error_either(monkeypatch, tmp_path: Path):
    statm = tmp_path / "statm"
    statm.write_text("10 20 30")
    monkeypatch.setattr(host, "_STATM", statm)

    def call() -> None:
        statm.write_text("")
        time.sleep(0.02)

    ledger = host.measure(call)
    assert ledger.peak[0].bytes is None
    assert ledger.peak[0].why.startswith("the resident memory")


def test_it_measures_in_any_thread():
    with ThreadPoolExecutor(1) as pool:
        ledger = pool.submit(host.measure, lambda: hold(256, 0)).result()
    assert is_right(growth(ledger), 256)


FAULTS = """
import json, resource
import numpy as np
import fwmagic
from fwmagic.memory import host

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 20, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

host.keep_large_blocks()
np.ones(1 << 20, np.float32)
print(json.dumps(faults()))
"""


FIRST_RUN = """
import json
import numpy as np
import fwmagic

def step(x=np.ones((1000, 1000), np.float32)):
    return x * np.clip(x + 3, 0, 6) / 6

report = fwmagic.compare({"step": step}, budget=0.3)
print(json.dumps(report["step"].time.page_faults))
"""


def test_the_first_run_in_a_young_kernel_does_not_pay_for_memory_that_later_runs_keep():
    pages = 4 * 1000 * 1000 // 4096
    assert python(FIRST_RUN) < pages // 10


@pytest.mark.parametrize("own", [False, True])
def test_what_is_freed_is_kept_unless_the_user_has_said_how(monkeypatch, own):
    if own:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    pages = 20 * (4 << 20) // 4096
    # Linux may give some pages in larger pieces, which are one fault then.
    assert (python(FAULTS) > pages // 4) == own
