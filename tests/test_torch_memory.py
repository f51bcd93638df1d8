"""torch's memory on a device: its counters, its allocator's history as a timeline, and what is in force.

There is no device where most of these run: what torch gives there is written by hand in its documented format
(`torch.cuda.memory_stats`, the docstring of `torch.cuda.memory._snapshot`), and no recording.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.frameworks.memory import Counters, Device
from fwmagic.frameworks.torch.memory import TorchMemory, counters, timeline

MIB = 1 << 20
CUDA = Device("cuda:0", 0)
NOTHING = Counters(0, 0, 0, 0, "")
# A part of the 100 keys that torch gives, as after x = torch.ones(2**20, device="cuda") (written by hand).
STATS = {
    "active.all.current": 1,
    "active_bytes.all.current": 4 * MIB,
    "allocated_bytes.all.allocated": 12 * MIB,
    "allocated_bytes.all.current": 4 * MIB,
    "allocated_bytes.all.freed": 8 * MIB,
    "allocated_bytes.all.peak": 12 * MIB,
    "allocated_bytes.large_pool.current": 4 * MIB,
    "allocated_bytes.large_pool.peak": 11 * MIB,
    "inactive_split_bytes.all.current": 16 * MIB,
    "num_ooms": 0,
    "reserved_bytes.all.current": 20 * MIB,
    "reserved_bytes.all.peak": 40 * MIB,
    "reserved_bytes.small_pool.peak": 2 * MIB,
}


class TestCounters:
    def test_of_all_pools_together(self):
        found = counters(STATS)
        assert dataclasses.astuple(found)[:4] == (4 * MIB, 20 * MIB, 12 * MIB, 40 * MIB)
        assert "torch.cuda.memory_stats" in found.source

    def test_before_cuda_has_started_nothing_is_in_use(self):
        stats = torch.cuda.memory_stats() if not torch.cuda.is_available() else {}
        assert stats == {}
        assert counters(stats) == Counters(0, 0, 0, 0, "torch has not started on this device")

    @pytest.mark.parametrize(
        ("key", "field"),
        [
            ("allocated_bytes.all.current", "in_use"),
            ("reserved_bytes.all.current", "held"),
            ("allocated_bytes.all.peak", "peak_in_use"),
            ("reserved_bytes.all.peak", "peak_held"),
        ],
    )
    def test_a_key_that_is_missing_is_not_known_and_not_zero(self, key, field):
        found = counters({name: value for name, value in STATS.items() if name != key})
        whole = counters(STATS)
        assert getattr(found, field) is None
        assert dataclasses.replace(found, **{field: getattr(whole, field)}) == whole

    def test_zero_is_a_number(self):
        assert counters(dict.fromkeys(STATS, 0)).peak_in_use == 0


def event(action, size=0, time_us=0):
    """An entry of `device_traces`, written by hand."""
    return {
        "action": action,
        "addr": 139_600_000_000_000,
        "size": size,
        "stream": 0,
        "time_us": time_us,
        "compile_context": "N/A",
        "user_metadata": "",
        "pool_id": (0, 0),
    }


def moments(*events, start=NOTHING):
    return [(moment.in_use, moment.held) for moment in timeline(events, start)]


class TestTimeline:
    def test_without_events_is_what_there_was(self):
        assert moments(start=Counters(3, 5)) == [(3, 5)]

    @pytest.mark.parametrize(
        ("action", "after"),
        [
            ("alloc", (107, 1000)),
            ("free_requested", (93, 1000)),
            ("segment_alloc", (100, 1007)),
            ("segment_map", (100, 1007)),
            ("segment_free", (100, 993)),
            ("segment_unmap", (100, 993)),
        ],
    )
    def test_what_an_action_changes(self, action, after):
        assert moments(event(action, 7), start=Counters(100, 1000)) == [(100, 1000), after]

    @pytest.mark.parametrize("action", ["free_completed", "oom", "snapshot", "workspace_snapshot", "user_defined"])
    def test_actions_that_change_neither(self, action):
        assert moments(event(action, 7), start=Counters(100, 1000)) == [(100, 1000)]

    def test_a_tensor_that_is_freed_counts_once(self):
        events = [event("alloc", 512), event("free_requested", 512), event("free_completed", 512)]
        assert moments(*events) == [(0, 0), (512, 0), (0, 0)]

    def test_times_are_seconds_from_the_first_event(self):
        epoch = 1_790_000_000_000_000
        events = [
            event("segment_alloc", 4, epoch),
            event("alloc", 4, epoch + 250),
            event("alloc", 4, epoch + 1_000_250),
        ]
        found = [moment.seconds for moment in timeline(events, NOTHING)]
        assert found == pytest.approx([0.0, 0.0, 250e-6, 1.00025], abs=1e-6)

    def test_times_that_step_back_are_not_negative(self):
        found = timeline([event("alloc", 1, 1000), event("alloc", 1, 400)], NOTHING)
        assert [moment.seconds for moment in found] == [0.0, 0.0, 0.0]

    def test_what_is_freed_of_before_is_never_negative(self):
        assert moments(event("free_requested", 700), start=Counters(512, 512)) == [(512, 512), (0, 512)]

    @given(
        start=st.integers(0, 1 << 40),
        steps=st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 34), st.integers(0, 1 << 30)), max_size=60),
    )
    def test_ends_where_the_allocator_is_and_its_maximum_is_the_true_one(self, start, steps):
        """Replay an allocator that gets its memory from segments: blocks come and go, segments only come."""
        events, live = [], []
        in_use, held, now = start, start, 0
        true_in_use, true_held = [in_use], [held]
        for frees, size, pick in steps:
            now += 1 + pick % 7
            if frees and live:
                size = live.pop(pick % len(live))
                in_use -= size
                events += [event("free_requested", size, now), event("free_completed", size, now)]
            else:
                if in_use + size > held:
                    more = in_use + size - held
                    held += more
                    events.append(event(("segment_alloc", "segment_map")[pick % 2], more, now))
                    true_in_use.append(in_use)
                    true_held.append(held)
                live.append(size)
                in_use += size
                events.append(event("alloc", size, now))
            true_in_use.append(in_use)
            true_held.append(held)
        found = timeline(events, Counters(start, start))
        assert [moment.in_use for moment in found] == true_in_use
        assert [moment.held for moment in found] == true_held
        assert max(moment.in_use for moment in found) == max(true_in_use)
        assert (found[-1].in_use, found[-1].held) == (in_use, held)
        assert all(earlier.seconds <= later.seconds for earlier, later in itertools.pairwise(found))


class FakeCuda:
    """The parts of torch.cuda that talk to a device: an allocator that gives segments of 2 MiB."""

    def __init__(self, monkeypatch, keeps_history=True):
        self.keeps_history = keeps_history
        self.recording: list[dict] | None = None
        self.calls: list[tuple] = []
        self.in_use = self.held = self.peak = 0
        for owner, name in (
            (torch.cuda, "synchronize"),
            (torch.cuda, "memory_stats"),
            (torch.cuda.memory, "_record_memory_history"),
            (torch.cuda.memory, "_snapshot"),
        ):
            monkeypatch.setattr(owner, name, getattr(self, name))

    def synchronize(self, device):
        self.calls.append(("synchronize", device))

    def memory_stats(self, device):
        now = {"allocated_bytes.all.current": self.in_use, "reserved_bytes.all.current": self.held}
        return now | {"allocated_bytes.all.peak": self.peak, "reserved_bytes.all.peak": self.held}

    def _record_memory_history(self, enabled, **options):
        self.calls.append(("record", enabled))
        if not self.keeps_history:  # what c10/cuda/CUDAMallocAsyncAllocator.cpp says
            raise RuntimeError(
                "cudaMallocAsync does not yet support recordHistory.\nException raised from recordHistory"
            )
        self.most = options.get("max_entries", 0)
        self.recording = None if enabled is None else []

    def _snapshot(self, device):
        assert self.recording is not None
        return {"segments": [], "device_traces": [[], self.recording[-self.most :]]}

    def take(self, size):
        self.in_use += size
        if self.in_use > self.held:
            self.log("segment_alloc", 2 * MIB)
            self.held += 2 * MIB
        self.peak = max(self.peak, self.in_use)
        self.log("alloc", size)

    def give(self, size):
        self.in_use -= size
        self.log("free_requested", size)
        self.log("free_completed", size)

    def log(self, action, size):
        if self.recording is not None:
            self.recording.append(event(action, size, len(self.recording)))


SECOND = Device("cuda:1", 1)


class TestRecord:
    """On a fake of the device: what torch itself would do there is in the last test of this file."""

    def test_the_history_of_the_block_from_what_there_was_before(self, monkeypatch):
        cuda = FakeCuda(monkeypatch)
        cuda.take(512)
        with TorchMemory().record(SECOND) as events:
            cuda.take(MIB)
            cuda.give(MIB)
            assert events.moments == []
        assert [(moment.in_use, moment.held) for moment in events.moments] == [
            (512, 2 * MIB),
            (512 + MIB, 2 * MIB),
            (512, 2 * MIB),
        ]
        assert events.source == "every event of torch's caching allocator"
        assert cuda.calls == [("synchronize", 1), ("record", "all"), ("synchronize", 1), ("record", None)]

    def test_an_error_ends_the_recording_and_passes(self, monkeypatch):
        cuda = FakeCuda(monkeypatch)
        with pytest.raises(ZeroDivisionError), TorchMemory().record(SECOND):
            raise ZeroDivisionError
        assert cuda.recording is None
        assert cuda.calls[-1] == ("record", None)

    def test_more_events_than_are_kept(self, monkeypatch):
        monkeypatch.setattr("fwmagic.frameworks.torch.memory._MOST_EVENTS", 4)
        cuda = FakeCuda(monkeypatch)
        with TorchMemory().record(SECOND) as events:
            for _ in range(3):
                cuda.take(8)
        assert events.moments == []
        assert events.source == "not available: the cell allocates more than 4 times"

    @pytest.mark.parametrize("name", ["_record_memory_history", "_snapshot"])
    def test_a_torch_without_its_private_functions_says_why(self, monkeypatch, name):
        cuda = FakeCuda(monkeypatch)
        monkeypatch.delattr(torch.cuda.memory, name)
        with TorchMemory().record(SECOND) as events:
            cuda.take(8)
        assert events.moments == []
        assert events.source == "not available: this torch records no history of its allocator"
        assert ("record", "all") not in cuda.calls

    def test_an_allocator_without_a_history_says_why_and_the_block_runs(self, monkeypatch):
        cuda, ran = FakeCuda(monkeypatch, keeps_history=False), []
        with TorchMemory().record(SECOND) as events:
            ran.append(True)
        assert ran == [True]
        assert events.moments == []
        assert events.source.startswith("not available: cudaMallocAsync does not yet support recordHistory.")
        assert "\n" not in events.source
        assert ("record", None) not in cuda.calls

    @pytest.mark.parametrize("asks", [True, False])
    def test_without_its_cache_torch_counts_nothing_which_is_not_zero(self, monkeypatch, asks):
        cuda = FakeCuda(monkeypatch)
        if asks:
            monkeypatch.setattr(torch._C, "_cuda_cudaCachingAllocator_is_enabled", lambda: False, raising=False)
        else:
            monkeypatch.delattr(torch._C, "_cuda_cudaCachingAllocator_is_enabled", raising=False)
            monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
        found = TorchMemory().counters(SECOND)
        assert dataclasses.astuple(found)[:4] == (None,) * 4
        assert found.why.startswith("without its cache")
        with TorchMemory().record(SECOND) as events:
            pass
        assert (events.moments, events.source) == ([], f"not available: {found.why}")
        assert ("record", "all") not in cuda.calls


class TestDevice:
    def test_on_a_cpu_there_is_none(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert [TorchMemory().device(wanted) for wanted in (None, "cpu", "cuda", "cuda:1", "gpu:0")] == [None] * 5

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (None, Device("cuda:2", 2, "2222")),
            ("cuda", Device("cuda:2", 2, "2222")),
            ("gpu", Device("cuda:2", 2, "2222")),
            ("cuda:1", Device("cuda:1", 1, "1111")),
            ("gpu:0", Device("cuda:0", 0, "0000")),
            ("cpu", None),
        ],
    )
    def test_of_those_that_torch_sees(self, monkeypatch, wanted, found):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=str(i) * 4))
        assert TorchMemory().device(wanted) == found

    def test_a_device_whose_uuid_torch_does_not_tell(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace())
        assert TorchMemory().device("cuda:1") == Device("cuda:1", 1, None)


_IN_FORCE = "from fwmagic.frameworks.torch.memory import TorchMemory; print(TorchMemory().in_force())"


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, {"torch allocator settings": "none"}),
        (
            {"PYTORCH_ALLOC_CONF": "backend:native,expandable_segments:True"},
            {"torch allocator settings": "backend:native,expandable_segments:True"},
        ),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"},
            {"torch allocator settings": "backend:cudaMallocAsync"},
        ),
        (
            {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
            {"torch allocator settings": "none", "torch caching": "off"},
        ),
    ],
)
def test_what_is_in_force_is_read_back_from_torch(variables, found):
    names = {
        "PYTORCH_ALLOC_CONF",
        "PYTORCH_CUDA_ALLOC_CONF",
        "PYTORCH_HIP_ALLOC_CONF",
        "PYTORCH_NO_CUDA_MEMORY_CACHING",
    }
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IN_FORCE],
        env={**environment, **variables, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(found)
    assert done.stderr == ""


def test_a_torch_that_cannot_be_asked_says_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(torch._C, "_accelerator_getAllocatorSettings")
    monkeypatch.delenv("PYTORCH_NO_CUDA_MEMORY_CACHING", raising=False)
    assert TorchMemory().in_force() == {}


# A real device


@pytest.mark.gpu
def test_the_peak_and_the_timeline_of_a_real_device():
    from fwmagic.memory import device, nvml

    memory = TorchMemory()
    where = memory.device(None)
    base = torch.ones(64 * MIB, device="cuda")
    torch.ones(256 * MIB, device="cuda")  # an older peak, of 1 GiB: it is not to be taken for that of the call
    torch.cuda.synchronize()

    def call():
        temporary = torch.ones(128 * MIB, dtype=torch.uint8, device="cuda")
        result = temporary.sum()
        del temporary
        torch.cuda.synchronize()
        return result, torch.cuda.max_memory_allocated()

    kept = []
    ledger = device.measure(lambda: kept.append(call()), memory, where)
    ((_, true),) = kept
    amounts = {amount.kind: amount for amount in ledger.peak}
    assert amounts["in use"].bytes == pytest.approx(true, rel=0.005)
    assert amounts["in use"].bytes >= base.nbytes + 128 * MIB
    assert amounts["in use"].bytes < base.nbytes + 512 * MIB
    assert max(moment.in_use for moment in ledger.timeline) == amounts["in use"].bytes
    assert ledger.timeline[0].in_use == ledger.start
    uuid, source = device.identify(where.ordinal, where.uuid)
    assert uuid is not None, source
    if all(amount.bytes is not None for name, amount in amounts.items() if name != "context"):
        assert sum(amount.bytes or 0 for amount in amounts.values()) == pytest.approx(ledger.total, abs=16 * MIB)
    assert nvml.read(uuid).total.bytes == ledger.total
    assert memory.started()
    assert memory.in_force()["torch allocator"] in ("native", "cudaMallocAsync")
    held = memory.counters(where).held
    assert memory.empty_cache(where) == "torch.cuda.empty_cache()"
    assert memory.counters(where).held < held


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("variables", "counts", "records"),
    [
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, True, True),
        ({"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, True, False),
        ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, False, False),
    ],
)
def test_what_the_allocators_of_a_real_device_tell(variables, counts, records):
    code = (
        "import torch; from fwmagic.frameworks.torch.memory import TorchMemory; memory = TorchMemory()\n"
        "where = memory.device(None); kept = torch.ones(2**28, dtype=torch.uint8, device='cuda')\n"
        "with memory.record(where) as events: torch.ones(2**26, device='cuda')\n"
        "print(memory.counters(where).in_use, bool(events.moments))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    in_use, recorded = done.stdout.split()
    assert (int(in_use) >= 1 << 28) if counts else (in_use == "None")
    assert recorded == str(records)
