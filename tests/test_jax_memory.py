"""JAX's memory: XLA's counters and events, its compiler's static analysis, and what is in force.

There is no device where most of these run: what JAX gives there is written by hand in its documented format (the keys
of jaxlib's `py_device.cc`, the events of XLA's `bfc_allocator.cc`), and no recording. The profiles are read by JAX's
own `ProfileData`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from cells import run, shown
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.profiler import ProfileData
from jaxlib import xla_client
from scenes import notebook

from fwmagic.cells.program import traced_program
from fwmagic.format import size
from fwmagic.frameworks import get
from fwmagic.frameworks.compiled import Static
from fwmagic.frameworks.jax import compiler
from fwmagic.frameworks.jax.memory import JaxMemory, counters, timeline
from fwmagic.frameworks.memory import Counters, Device

GIB = 1 << 30
GPU = Device("gpu:0", 0)
BFC = {
    "num_allocs": 12,
    "bytes_in_use": 2 * GIB,
    "peak_bytes_in_use": 5 * GIB,
    "largest_alloc_size": GIB,
    "bytes_limit": 60 * GIB,
    "bytes_reserved": 0,
    "peak_bytes_reserved": 0,
    "bytes_reservable_limit": 0,
    "largest_free_block_bytes": 55 * GIB,
    "pool_bytes": 59 * GIB,
    "peak_pool_bytes": 60 * GIB,
}
# XLA's gpu_cudamallocasync_allocator.cc counts what is in use; the driver's pool behind it is not asked.
ASYNC = {name: value for name, value in BFC.items() if "pool" not in name}
PARSE = xla_client.generate_pjrt_gpu_plugin_options


class TestCounters:
    def test_of_the_allocator_that_divides_a_pool(self):
        found = counters(BFC)
        assert dataclasses.astuple(found) == (2 * GIB, 59 * GIB, 5 * GIB, 60 * GIB, "Device.memory_stats()", "")

    def test_of_cuda_async_the_pool_is_not_known_and_not_what_is_in_use(self):
        found = counters(ASYNC)
        assert dataclasses.astuple(found)[:4] == (2 * GIB, None, 5 * GIB, None)
        assert found.source == "Device.memory_stats(), which does not tell what the allocator holds"

    @pytest.mark.parametrize("stats", [None, {}], ids=["platform, or a CPU", "empty"])
    def test_an_allocator_that_counts_nothing_says_so(self, stats):
        found = counters(stats)
        assert dataclasses.astuple(found)[:4] == (None,) * 4
        assert found.why == "XLA's allocator keeps no counters for this device"

    def test_a_cpu_really_has_none(self):
        assert jax.devices("cpu")[0].memory_stats() is None
        assert JaxMemory().counters(Device("cpu:0", 0)) == counters(None)

    @pytest.mark.parametrize(
        ("key", "field"),
        [
            ("bytes_in_use", "in_use"),
            ("pool_bytes", "held"),
            ("peak_bytes_in_use", "peak_in_use"),
            ("peak_pool_bytes", "peak_held"),
        ],
    )
    def test_a_key_that_is_missing_is_not_known(self, key, field):
        found = counters({name: value for name, value in BFC.items() if name != key})
        whole = counters(BFC)
        assert getattr(found, field) is None
        assert dataclasses.replace(found, **{field: getattr(whole, field), "source": whole.source}) == whole

    def test_zero_is_a_number(self):
        assert counters(dict.fromkeys(BFC, 0)) == Counters(0, 0, 0, 0, "Device.memory_stats()", "")


class Accelerator(SimpleNamespace):
    """A device that is not there."""

    def __init__(self, index=0, **attributes):
        super().__init__(platform="gpu", id=index, **attributes)


@pytest.fixture
def accelerators(monkeypatch):
    """Let JAX have these devices besides its CPU."""

    def given(*devices):
        real = jax.devices

        def ask(platform=None):
            return list(devices) if platform in (None, "gpu", "cuda") else real(platform)

        monkeypatch.setattr(jax, "devices", ask)

    return given


class TestADevice:
    def test_that_raises_when_it_is_asked_says_why(self, accelerators):
        def memory_stats():
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: GetAllocatorStats\nis not implemented")

        accelerators(Accelerator(memory_stats=memory_stats))
        found = JaxMemory().counters(GPU)
        assert dataclasses.astuple(found)[:4] == (None,) * 4
        assert found.why.startswith("XLA's allocator does not tell (UNIMPLEMENTED: GetAllocatorStats")
        assert "\n" not in found.why

    def test_is_asked_by_its_own_id(self, accelerators):
        stats = [{"bytes_in_use": 1}, {"bytes_in_use": 2}]
        accelerators(*(Accelerator(i, memory_stats=lambda i=i: stats[i]) for i in range(2)))
        assert [JaxMemory().counters(Device(f"gpu:{i}", i)).in_use for i in range(2)] == [1, 2]

    def test_that_can_reset_its_peak_does(self, accelerators):
        cleared = []
        accelerators(Accelerator(clear_memory_stats=lambda: cleared.append(True)))
        assert JaxMemory().reset_peak(GPU) is True
        assert cleared == [True]

    def test_that_cannot_says_so(self, accelerators):
        accelerators(Accelerator())
        assert JaxMemory().reset_peak(GPU) is False

    @pytest.mark.parametrize("wanted", [None, "cpu", "cpu:0", "cuda", "cuda:1", "gpu:0", "tpu"])
    def test_there_is_none_on_a_cpu(self, monkeypatch, wanted):
        def devices(platform="cpu"):
            if platform != "cpu":
                raise RuntimeError(f"Unknown backend {platform}")
            return real

        real = jax.devices("cpu")
        monkeypatch.setattr(jax, "devices", devices)
        assert JaxMemory().device(wanted) is None

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (None, Device("gpu:0", 4)),
            ("cuda", Device("gpu:0", 4)),
            ("gpu:1", Device("gpu:1", 5)),
            ("cuda:1", Device("gpu:1", 5)),
            ("gpu:2", None),
            ("cpu", None),
        ],
    )
    def test_has_the_ordinal_of_the_hardware_and_never_that_of_another_one(self, accelerators, wanted, found):
        accelerators(Accelerator(0, local_hardware_id=4), Accelerator(1, local_hardware_id=5))
        assert JaxMemory().device(wanted) == found

    @pytest.mark.parametrize("hardware", [{}, {"local_hardware_id": None}])
    def test_without_an_ordinal_of_the_hardware_has_its_id(self, accelerators, hardware):
        accelerators(Accelerator(3, **hardware))
        assert JaxMemory().device(None) == Device("gpu:3", 3)

    def test_is_the_default_one_of_the_configuration(self, accelerators, monkeypatch):
        accelerators(Accelerator(0), Accelerator(1))
        monkeypatch.setattr("fwmagic.frameworks.jax.memory.config", lambda _: Accelerator(1))
        assert JaxMemory().device(None) == Device("gpu:1", 1)

    def test_is_the_default_one_also_if_that_is_a_platforms_name(self, accelerators):
        accelerators(Accelerator(0))
        jax.config.update("jax_default_device", "cpu")
        try:
            assert JaxMemory().device(None) is None
        finally:
            jax.config.update("jax_default_device", None)
        assert JaxMemory().device(None) == GPU


def profile(*lines):
    """A profile of one plane, in the text format of XLA's xplane.proto; events are (name, nanoseconds, stats)."""
    names = ["MemoryAllocation", "MemoryDeallocation", "ThreadpoolListener::Record"]
    strings = ["GPU_0_bfc", "GPU_1_bfc", "GPU_11_bfc", "gpu_host_bfc"]
    stats = ["allocator_name", "bytes_allocated", "peak_bytes_in_use", *strings]
    text = ['planes { id: 1 name: "/host:CPU"']
    for number, events in enumerate(lines):
        text.append(f'lines {{ id: {number} name: "thread {number}" timestamp_ns: 1000')
        for name, at, found in events:
            text.append(f"events {{ metadata_id: {1 + names.index(name)} offset_ps: {at * 1000} duration_ps: 0")
            for key, value in found.items():
                # XLA refers to strings by number, and so does this.
                kind = f"ref_value: {1 + stats.index(value)}" if isinstance(value, str) else f"int64_value: {value}"
                text.append(f"stats {{ metadata_id: {1 + stats.index(key)} {kind} }}")
            text.append("}")
        text.append("}")
    for kind, all_of in (("event", names), ("stat", stats)):
        for number, name in enumerate(all_of, start=1):
            text.append(f'{kind}_metadata {{ key: {number} value {{ id: {number} name: "{name}" }} }}')
    return ProfileData.from_text_proto("\n".join([*text, "}"]))


def allocation(at, total, allocator="GPU_0_bfc", name="MemoryAllocation"):
    found = {"allocator_name": allocator, "bytes_allocated": total, "peak_bytes_in_use": 999}
    return (name, at, {key: value for key, value in found.items() if value is not None})


def freed(at, total, allocator="GPU_0_bfc"):
    return allocation(at, total, allocator, "MemoryDeallocation")


def in_use(found):
    return [moment.in_use for moment in found]


class TestTimeline:
    def test_each_event_has_the_total_after_it(self):
        found = timeline(profile([allocation(0, 256), allocation(2000, 1280), freed(5000, 1024)]), 0)
        assert in_use(found) == [256, 1280, 1024]
        assert [moment.held for moment in found] == [None] * 3
        assert [moment.seconds for moment in found] == pytest.approx([0.0, 2e-6, 5e-6], abs=1e-9)

    def test_of_one_device_only(self):
        events = [
            allocation(0, 1), allocation(1, 100, "GPU_1_bfc"), allocation(2, 2), freed(3, 50, "GPU_1_bfc"),
            allocation(4, 7, "GPU_11_bfc"), allocation(5, 9, "gpu_host_bfc"),
        ]  # fmt: skip
        assert in_use(timeline(profile(events), 0)) == [1, 2]
        assert in_use(timeline(profile(events), 1)) == [100, 50]
        assert in_use(timeline(profile(events), 11)) == [7]
        assert timeline(profile(events), 2) == []

    def test_events_of_several_threads_come_in_the_order_of_their_times(self):
        found = timeline(profile([allocation(9, 3), freed(1, 1)], [allocation(5, 2)]), 0)
        assert in_use(found) == [1, 2, 3]
        assert found[0].seconds == 0.0

    def test_events_of_one_moment_stay_in_their_order(self):
        assert in_use(timeline(profile([allocation(4, 900), freed(4, 100), allocation(4, 500)]), 0)) == [900, 100, 500]

    def test_other_events_do_not_count(self):
        other = ("ThreadpoolListener::Record", 1, {"bytes_allocated": 5, "allocator_name": "GPU_0_bfc"})
        assert in_use(timeline(profile([other, allocation(2, 8)]), 0)) == [8]

    def test_an_event_without_a_total_is_left_out(self):
        assert in_use(timeline(profile([allocation(1, None), allocation(2, 8)]), 0)) == [8]

    def test_an_event_that_names_no_allocator_counts(self):
        assert in_use(timeline(profile([allocation(1, 6, None)]), 0)) == [6]

    def test_a_profile_without_events_has_no_timeline(self):
        assert timeline(profile([]), 0) == []

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 36)), min_size=1, max_size=40), st.randoms())
    def test_its_maximum_is_the_true_one(self, steps, rng):
        live, totals, events = [], [], []
        for at, (frees, count) in enumerate(steps):
            if frees and live:
                live.pop(rng.randrange(len(live)))
                events.append(freed(at, sum(live)))
            else:
                live.append(count)
                events.append(allocation(at, sum(live)))
            totals.append(sum(live))
        rng.shuffle(events)
        half = len(events) // 2
        found = timeline(profile(events[:half], events[half:]), 0)
        assert in_use(found) == totals
        assert max(in_use(found)) == max(totals)


class TestRecord:
    """With JAX's real profiler; a CPU has no events of memory."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        """Nothing is left behind."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        yield
        assert [path for path in tmp_path.iterdir() if path.name.startswith("fwmagic-")] == []

    def test_without_events_says_so(self):
        with JaxMemory().record(Device("cpu:0", 0)) as events:
            jnp.ones(1000).block_until_ready()
        assert events.moments == []
        assert events.source == "not available: XLA's allocator gave no memory events to jax.profiler"

    def test_an_error_ends_the_recording_and_passes(self, tmp_path):
        with pytest.raises(ZeroDivisionError), JaxMemory().record(GPU):
            raise ZeroDivisionError
        with jax.profiler.trace(str(tmp_path / "next")):  # it would raise if one was still being taken
            pass

    def test_while_the_user_takes_a_profile_it_says_so_and_leaves_that_one_alone(self, tmp_path):
        ran = []
        with jax.profiler.trace(str(tmp_path / "users")):
            with JaxMemory().record(GPU) as events:
                ran.append(True)
            jnp.ones(1000).block_until_ready()
        assert ran == [True]
        assert events.moments == []
        assert events.source.startswith("not available: Profile has already been started")
        assert list((tmp_path / "users").rglob("*.xplane.pb"))

    def test_a_jax_that_cannot_read_its_profile_says_so(self, monkeypatch):
        monkeypatch.delattr(jax.profiler, "ProfileData")
        with JaxMemory().record(GPU) as events:
            pass
        assert events.source == "not available: this JAX cannot read its own profile"

    def test_the_events_of_the_device_are_its_moments(self, monkeypatch):
        found = profile([allocation(0, 5), allocation(1, 50, "GPU_1_bfc"), freed(2, 3)])

        class Read:
            """What the profiler gives on a device."""

            from_file = staticmethod(lambda path: found if Path(path).is_file() else None)

        monkeypatch.setattr(jax.profiler, "ProfileData", Read)
        with JaxMemory().record(Device("gpu:0", 0)) as events:
            pass
        assert in_use(events.moments) == [5, 3]
        assert events.source == "every memory event of XLA's allocator, by jax.profiler"


def as_told(options):
    return {f"jax {name}": str(value) for name, value in options.items()}


class TestInForce:
    @pytest.fixture(autouse=True)
    def none_set(self, monkeypatch):
        for name in list(os.environ):
            if re.match(r"XLA_(PYTHON_)?CLIENT_", name):
                monkeypatch.delenv(name)

    @pytest.mark.parametrize(
        ("variables", "part"),
        [
            ({}, {"jax allocator": "default"}),
            ({"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, {"jax preallocate": "False"}),
            ({"XLA_PYTHON_CLIENT_PREALLOCATE": "yes"}, {"jax preallocate": "True"}),
            ({"XLA_PYTHON_CLIENT_ALLOCATOR": "PLATFORM"}, {"jax allocator": "platform"}),
            ({"XLA_CLIENT_MEM_FRACTION": ".30"}, {"jax memory_fraction": "0.3"}),
            ({"XLA_PYTHON_CLIENT_MEM_FRACTION": ".30"}, {"jax memory_fraction": "0.3"}),
        ],
    )
    def test_is_what_jaxs_own_parser_reads(self, monkeypatch, variables, part):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        found = JaxMemory().in_force()
        assert found == as_told(PARSE())
        assert found.items() >= part.items()

    def test_both_spellings_of_the_fraction_are_a_sentence(self, monkeypatch):
        monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", ".5")
        monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".3")
        (sentence,) = JaxMemory().in_force().values()
        assert sentence.startswith("not available: XLA_CLIENT_MEM_FRACTION is specified together with")

    @pytest.mark.parametrize("given", ["allocator:platform;memory_fraction:0.3", {"allocator": "platform"}])
    def test_what_the_configuration_gives_xlas_client_goes_before(self, monkeypatch, given):
        monkeypatch.setenv("XLA_PYTHON_CLIENT_ALLOCATOR", "cuda_async")
        jax.config.update("jax_pjrt_client_create_options", given)
        try:
            found = JaxMemory().in_force()
        finally:
            jax.config.update("jax_pjrt_client_create_options", None)
        assert found["jax allocator"] == "platform"
        assert JaxMemory().in_force()["jax allocator"] == "cuda_async"

    def test_a_jax_without_that_parser_says_nothing(self, monkeypatch):
        monkeypatch.delattr(xla_client, "generate_pjrt_gpu_plugin_options")
        assert JaxMemory().in_force() == {}


def test_whether_jax_has_started_is_found_out_without_starting_it():
    code = (
        "import jax; from fwmagic.frameworks.jax.memory import JaxMemory; memory = JaxMemory()\n"
        "first = memory.started(), memory.in_force() != {}, memory.started(); jax.devices('cpu')\n"
        "print(*first, memory.started())"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False", "True"]


# The compiler's own account, which a CPU gives, too

X = jnp.ones((512, 512), jnp.float32)


def sorted_sines(x):
    return jnp.sort(jnp.sin(x), axis=0)[0]  # what is sorted is a temporary of the size of x


class TestStatic:
    def test_of_a_function_with_a_known_temporary(self):
        compiled = jax.jit(sorted_sines).lower(X).compile()
        found = compiler.static(compiled)
        assert (found.argument, found.output, found.alias) == (X.nbytes, 512 * 4, 0)
        assert X.nbytes <= found.temp < 4 * X.nbytes
        assert found.temp == compiled.memory_analysis().temp_size_in_bytes
        assert found.total == found.argument + found.output + found.temp

    def test_what_an_output_shares_with_an_argument_counts_once(self):
        compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(X).compile()
        found = compiler.static(compiled)
        assert (found.argument, found.output, found.alias) == (X.nbytes,) * 3
        assert found.total == X.nbytes + found.temp

    @pytest.mark.parametrize(
        "error", [NotImplementedError(), jax.errors.JaxRuntimeError("UNIMPLEMENTED: no analysis here")]
    )
    def test_a_backend_that_raises_gives_none(self, error):
        def memory_analysis():
            raise error

        assert compiler.static(SimpleNamespace(memory_analysis=memory_analysis)) is None

    def test_a_backend_that_returns_nothing_gives_none(self):
        assert compiler.static(SimpleNamespace(memory_analysis=lambda: None)) is None

    def test_an_analysis_with_a_part_missing_gives_none(self):
        sizes = {f"{name}_size_in_bytes": 8 for name in ("argument", "output", "temp", "alias")}
        compiled = SimpleNamespace(memory_analysis=lambda: SimpleNamespace(**sizes))
        assert compiler.static(compiled) == Static(8, 8, 8, 8)
        del sizes["temp_size_in_bytes"]
        assert compiler.static(compiled) is None

    def test_reaches_what_is_traced_with_and_without_lifted_arrays(self):
        weight = jnp.ones((512, 512), jnp.float32)
        plain, lifted = get("jax").trace(sorted_sines, (X,)), get("jax").trace(lambda x: (x @ weight).sum(), (X,))
        assert plain.static == compiler.static(jax.jit(sorted_sines).lower(X).compile())
        assert (lifted.lifted, lifted.static.argument) == (1, X.nbytes + weight.nbytes)

    def test_reaches_the_program_of_a_cell(self):
        book = notebook("jax", "x = jnp.ones((512, 512))")
        scene = book.scene("y = jnp.sort(jnp.sin(x), axis=0)[0]\ny")
        scene.enter()
        try:
            program, done = traced_program(scene, book.framework.trace, book.framework.is_array)
        finally:
            scene.exit()
        assert program.static is done.static
        assert program.static.argument == X.nbytes
        assert program.static.temp >= X.nbytes
        assert book.plain("y = x + 1\ny").static is None

    @pytest.mark.memory
    def test_is_a_ledger_of_the_report(self, shell):
        run(shell, "import jax.numpy as jnp\nx = jnp.ones((512, 512))")
        run(shell, "%%jax --budget 0.1\njnp.sort(jnp.sin(x), axis=0)[0]")
        (variant,) = shown(shell)[-1]
        (static,) = [ledger for ledger in variant.memory if ledger.how == "static"]
        (amount,) = static.peak
        wanted = compiler.static(jax.jit(sorted_sines).lower(X).compile())
        assert (static.device, amount.kind, amount.bytes) == ("CPU", "in use", wanted.total)
        assert amount.source.startswith("XLA's static analysis, not measured: 1.00 MiB arguments + 2.00 KiB outputs")
        assert f"{size(wanted.temp)} temporaries" in amount.source
        assert (static.total, len(static.timeline)) == (None, 0)

    @pytest.mark.memory
    @pytest.mark.parametrize("options", ["--mode eager", "--no-memory"])
    def test_is_not_there_where_nothing_is_compiled_or_no_memory_is_wanted(self, shell, options):
        run(shell, "import jax.numpy as jnp\nx = jnp.ones((512, 512))")
        run(shell, f"%%jax --budget 0.1 {options}\njnp.sort(jnp.sin(x), axis=0)[0]")
        (variant,) = shown(shell)[-1]
        assert "static" not in [ledger.how for ledger in variant.memory]


# A real device

_ON_A_DEVICE = """
import json, jax, jax.numpy as jnp
from fwmagic.frameworks.jax.memory import JaxMemory
from fwmagic.memory import device
memory = JaxMemory()
where = memory.device(None)
if where is None:
    raise SystemExit("JAX sees no device")
x = jnp.ones(1 << 26)
f = jax.jit(lambda x: jnp.sort(jnp.sin(x))[:10])
wide = jax.jit(lambda x: jnp.sort(jnp.concatenate([jnp.sin(x), jnp.cos(x)]))[:10])
f(x).block_until_ready()
wide.lower(x).compile()
found = []
for call in (wide, f):  # the first one makes a new peak, the second one has an old one before it
    ledger = device.measure(lambda: call(x).block_until_ready(), memory, where)
    peaks = [moment.in_use for moment in ledger.timeline]
    true = jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    amounts = {amount.kind: (amount.bytes, amount.source or amount.why) for amount in ledger.peak}
    found.append([true, ledger.start, ledger.total, max(peaks, default=None), amounts])
print(json.dumps(found))
"""


@pytest.mark.gpu
def test_the_peak_and_the_events_of_a_real_device():
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run([sys.executable, "-c", _ON_A_DEVICE], env=environment, capture_output=True, text=True)
    if "JAX sees no device" in done.stderr:
        pytest.skip("JAX sees no CUDA device")
    assert done.returncode == 0, done.stderr
    new, old = json.loads(done.stdout.splitlines()[-1])
    x = 4 << 26
    true, start, _, of_events, amounts = new
    assert start >= x
    assert amounts["in use"][0] == pytest.approx(true, rel=0.005)
    if of_events is not None:
        assert max(start, of_events) == pytest.approx(true, rel=0.005)
    true, _, total, of_events, amounts = old
    if "reset" in amounts["in use"][1]:
        assert amounts["in use"][0] == pytest.approx(true, rel=0.005)
    elif of_events is not None:
        assert 2 * x <= amounts["in use"][0] < true
    else:
        assert amounts["in use"][0] is None
        assert "--isolate" in amounts["in use"][1]
    if all(count is not None for name, (count, _) in amounts.items() if name != "context"):
        assert sum(count or 0 for count, _ in amounts.values()) == pytest.approx(total, abs=16 << 20)
