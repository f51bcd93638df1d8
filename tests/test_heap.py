"""The heap's peak and whose it was: known temporaries, lines of a cell, and what memray's own magic breaks."""

from __future__ import annotations

import linecache
import re
import shutil
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import greenlet
import jax
import jax.numpy as jnp
import memray
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.errors import FwMagicError
from fwmagic.memory import heap
from fwmagic.report import Allocation, Ledger, Timeline

MIB = 1 << 20
NAMES = ("/tmp/ipykernel_17/2345.py", "<ipython-input-3-0123456789ab>")  # as in a notebook, and in a terminal


def cell(text: str, name: str = NAMES[0]) -> tuple[Callable[[], None], dict[str, Any]]:
    """Return a function that runs a cell, which is compiled as IPython does it, and the cell's names."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    code = compile(text, name, "exec")
    names = {"__name__": "__main__", "torch": torch, "np": np, "jax": jax, "jnp": jnp}
    return lambda: exec(code, names), names


def peak(ledger: Ledger) -> int:
    (amount,) = ledger.peak
    assert amount.bytes is not None, amount.source
    return amount.bytes


def is_right(count: int | None, mib: float) -> bool:
    return count is not None and abs(count - mib * MIB) <= 0.02 * mib * MIB


def traces() -> list[object]:
    """Return what a tracker could leave behind in this process, other than threads."""
    hooks = [sys.getprofile(), sys.gettrace(), threading._profile_hook, greenlet.gettrace()]
    return [*hooks, dict(threading.Thread.__dict__), [*Path(tempfile.gettempdir()).glob("fwmagic*")]]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Any:
    """Whatever a test does: the process is as it was, and nothing was printed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    heap.measure(lambda: None, NAMES[0])  # memray's own imports
    before, threads = traces(), {*threading.enumerate()}
    yield
    linecache.clearcache()
    assert traces() == before
    assert {*threading.enumerate()} <= threads
    assert capfd.readouterr() == ("", "")


def jitted(count: int) -> Callable[[], Any]:
    argument = jnp.full(count, 0.5, jnp.float32)
    compiled = jax.jit(lambda a: jax.lax.optimization_barrier(jnp.sin(a)).sum()).lower(argument).compile()
    assert compiled.memory_analysis().temp_size_in_bytes == 4 * count
    return lambda: compiled(argument).block_until_ready()


PROGRAMS = {
    "torch": lambda count: lambda: torch.full((count,), 1.0).sum().item(),
    "numpy": lambda count: lambda: np.full(count, 1.0, np.float32).sum(),
    "jax, eager": lambda count: lambda: jnp.full(count, 1.0, jnp.float32).block_until_ready(),
    "jax, jitted": jitted,
}


@pytest.mark.parametrize("mib", [1, 16, 64, 256])
@pytest.mark.parametrize("framework", PROGRAMS)
def test_the_peak_is_that_of_a_known_temporary(framework, mib):
    call = PROGRAMS[framework](mib * MIB // 4)
    call(), call()
    ledger = heap.measure(call, NAMES[0])
    assert is_right(peak(ledger), mib), f"{peak(ledger) / MIB:.3f} MiB"
    assert (ledger.device, ledger.total, ledger.start, ledger.peak[0].kind) == ("heap", None, None, "in use")
    assert ledger.peak[0].source.startswith("memray: ")
    assert sum(line.bytes for line in ledger.lines) == peak(ledger)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("made", ["torch.full((16 << 20,), 1.0)", "np.full(16 << 20, 1, np.float32)"])
def test_an_array_belongs_to_its_line(made, name):
    call, _ = cell(f"# a comment\nn = 3\nx = {made}\ny = 4\n", name)
    call()
    first = heap.measure(call, name).lines[0]
    assert (first.line, first.what) == (3, "")
    assert is_right(first.bytes, 64)


def test_each_line_gets_its_own_and_the_largest_comes_first():
    call, _ = cell(
        "a = np.ones(2 << 20, np.uint8)\n"
        "b = [\n    np.ones(8 << 20, np.uint8),\n    torch.ones(1 << 20),\n]\n"
        "for _ in range(3):\n    b.append(np.ones(1 << 20, np.uint8))\n"
        "del a, b\n"
    )
    call()
    ledger = heap.measure(call, NAMES[0])
    lines = [line for line in ledger.lines if line.line is not None]
    assert [line.line for line in lines] == [3, 4, 7, 1]
    assert all(is_right(line.bytes, mib) for line, mib in zip(lines, [8, 4, 3, 2], strict=True))
    assert sum(line.bytes for line in ledger.lines) == peak(ledger)


def test_only_what_is_there_at_the_peak_counts():
    call, _ = cell("a = np.ones(8 << 20, np.uint8)\ndel a\nb = np.ones(16 << 20, np.uint8)\ndel b\n")
    ledger = heap.measure(call, NAMES[0])
    assert is_right(peak(ledger), 16)
    assert [line.line for line in ledger.lines if line.bytes > MIB] == [3]


def test_the_innermost_line_of_the_cell_counts():
    call, _ = cell("def make():\n    return np.ones(8 << 20, np.uint8)\n\nx = [make() for _ in range(1)]\n")
    call()
    assert heap.measure(call, NAMES[0]).lines[0].line == 2


def test_a_thread_of_the_cell_has_lines_too():
    text = (
        "import threading\nkept = []\ndef work():\n    kept.append(np.ones(8 << 20, np.uint8))\n"
        "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\n"
    )
    call, _ = cell(text)
    assert heap.measure(call, NAMES[0]).lines[0].line == 4


@pytest.mark.parametrize(
    ("inside", "what"),
    [("XLA", "inside XLA, line unknown"), ("", "in threads without Python, line unknown")],
)
def test_of_the_threads_of_xla_no_line_is_known(inside, what):
    call, names = cell("a = 1\nb = 2\nx = f()\n")
    names["f"] = jitted(16 << 20)
    call()
    first = heap.measure(call, NAMES[0], inside=inside).lines[0]
    assert (first.line, first.what) == (None, what)
    assert is_right(first.bytes, 64)


@pytest.fixture
def compiled() -> Iterator[Callable[..., Any]]:
    """torch.compile, without the compiler that makes machine code: the stack above the graph is the same."""
    torch.compiler.reset()
    yield lambda function: torch.compile(function, backend="eager")
    torch.compiler.reset()


# After the graph break, the rest of the function is one that torch has made.
F = "def f(x):\n    y = torch.sort(x * 2)[0]\n    print('', end='')\n    return torch.sort(y * 3)[0].sum()\n"


def test_of_what_torch_compiled_no_line_is_known(compiled):
    define, names = cell(F)
    define()
    f, x = compiled(names["f"]), torch.ones(1 << 20)
    f(x), f(x)
    ledger = heap.measure(lambda: f(x), NAMES[0])
    first = ledger.lines[0]
    assert (first.line, first.what) == (None, "inside torch, line unknown")
    assert first.bytes > 0.99 * peak(ledger) > 8 * MIB


def test_a_line_that_calls_what_torch_compiled_is_known(compiled):
    define, names = cell(f"{F}def run():\n    return f(x)\n")
    define()
    names.update(f=compiled(names["f"]), x=torch.ones(1 << 20))
    names["run"](), names["run"]()
    ledger = heap.measure(names["run"], NAMES[0])
    first = ledger.lines[0]
    assert (first.line, first.what) == (6, "")
    assert first.bytes > 0.99 * peak(ledger) > 8 * MIB


def own() -> bytearray:
    return bytearray(b"x" * (4 * MIB))


def test_what_is_from_elsewhere_is_named():
    ledger = heap.measure(lambda: (np.ones(2 * MIB, np.uint8), own()), NAMES[0])
    found = {line.what: line.bytes for line in ledger.lines}
    assert all(line.line is None for line in ledger.lines)
    assert is_right(found["outside of the cell: own in test_heap.py"], 8)
    assert is_right(found["inside numpy, line unknown"], 2)


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("/opt/lib/python3.11/site-packages/torch/nn/functional.py", "torch"),
        ("/usr/lib/python3/dist-packages/six.py", "six"),
        ("/tmp/torchinductor_me/ab/cab.py", "torch"),
        ("/chosen/ab/cab.py", "torch"),
        ("<eval_with_key>.7", "torch"),
        ("/usr/lib/python3.11/threading.py", ""),
        ("/home/me/torch/mine.py", ""),
        ("<frozen importlib._bootstrap>", ""),
        ("", ""),
    ],
)
def test_a_file_belongs_to_an_installed_package_or_to_none(monkeypatch, file, package):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/chosen")
    assert heap._package(file) == package


class Record(NamedTuple):
    size: int
    line: int

    def stack_trace(self) -> list[tuple[str, str, int]]:
        return [("f", "cell", self.line)]


def test_small_ones_are_added_up():
    records = [Record(100 * MIB, 1), Record(MIB, 2), Record(65_000, 3), Record(20_000, 4), Record(70_000, 5)]
    lines = heap._heap_lines(records, "cell", "", sum(record.size for record in records))
    assert [line.line for line in lines] == [1, 2, 5, None]
    assert lines[-1] == Allocation(None, 85_000, "other")
    # In a small heap the small ones are the large ones.
    assert [line.line for line in heap._heap_lines(records[2:4], "cell", "", 85_000)] == [3, 4]
    assert heap._heap_lines([], "cell", "", 0) == ()


def test_no_thread_is_left():
    before = psutil.Process().num_threads()
    heap.measure(own, NAMES[0])
    assert psutil.Process().num_threads() <= before


def test_a_call_that_allocates_nothing():
    ledger = heap.measure(lambda: None, NAMES[0])
    assert peak(ledger) < 4096
    assert ledger.timeline[0].in_use == 0


def test_the_timeline_shows_the_course():
    call, names = cell(
        "a = np.ones(32 << 20, np.uint8)\ntime.sleep(0.05)\ndel a\ntime.sleep(0.05)\nb = np.ones(64 << 20, np.uint8)\n"
    )
    names["time"] = time
    ledger = heap.measure(call, NAMES[0])
    first, *between, last = ledger.timeline
    assert (first.seconds, first.in_use, first.held) == (0.0, 0, None)
    assert is_right(last.in_use, 64), "the outputs are still there at the end"
    assert any(is_right(moment.in_use, 32) for moment in between)
    assert any(moment.in_use < MIB for moment in between)
    seconds = [moment.seconds for moment in ledger.timeline]
    assert seconds == sorted(seconds)
    assert all(moment.in_use <= peak(ledger) for moment in ledger.timeline)
    assert re.search(r"sampled every \d[\d.]* m?s$", ledger.source)


@given(st.lists(st.integers(0, 1 << 40), min_size=1), st.integers(1, 20))
def test_snapshots_are_thinned_and_keep_the_largest(counts, most):
    snapshots = [memray.MemorySnapshot(time, 0, count) for time, count in enumerate(counts)]
    kept = heap._thinned_heap(snapshots, most)
    assert min(len(counts), (most + 1) // 2) <= len(kept) <= most
    assert kept == sorted(kept)
    assert set(kept) <= set(snapshots)
    assert max(snapshot.heap for snapshot in kept) == max(counts)


# What memray's own magic does to a cell, which it indents and puts into a template.


def test_a_string_of_several_lines_stays_as_it_is():
    call, names = cell('text = """a\nb\n\tc"""\n')
    heap.measure(call, NAMES[0])
    assert names["text"] == "a\nb\n\tc"


def test_another_magic_may_be_the_first_line(bare_shell, capfd):
    text = bare_shell.transform_cell("%%time\nx = 6 * 7\n")
    code = compile(text, NAMES[0], "exec")
    assert peak(heap.measure(lambda: exec(code, bare_shell.user_ns), NAMES[0])) >= 0
    assert bare_shell.user_ns["x"] == 42
    assert "Wall time" in capfd.readouterr().out


@pytest.mark.parametrize("error", ["ValueError('mine')", "KeyboardInterrupt()", "StopIteration(3)", "RuntimeError(1)"])
def test_an_exception_comes_out_with_the_line_of_the_cell(error, tmp_path: Path):
    call, names = cell(f"x = np.ones(1000)\n\nerror = {error}\nraise error\n")
    with pytest.raises((Exception, KeyboardInterrupt)) as caught:
        heap.measure(call, NAMES[0], tmp_path / "graph.html")
    assert caught.value is names["error"]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == (NAMES[0], 4)
    assert not [*tmp_path.iterdir()]


def test_a_profiler_of_the_user_is_put_back():
    def profiler(*_: object) -> None:
        pass

    sys.setprofile(profiler)
    threading.setprofile(profiler)
    try:
        heap.measure(own, NAMES[0])
        assert (sys.getprofile(), threading._profile_hook) == (profiler, profiler)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def refused(why: str) -> None:
    """Assert that nothing is measured and nothing run, and that a sentence says why."""
    ran = []
    ledger = heap.measure(lambda: ran.append(1), NAMES[0])
    (amount,) = ledger.peak
    assert (amount.kind, amount.bytes, amount.why) == ("in use", None, why)
    assert (ledger.device, ledger.timeline, ledger.lines, ran) == ("heap", Timeline(), (), [])


def test_without_memray_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    refused("memray is not installed: pip install 'fwmagic[memory]'")


def test_a_broken_memray_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", types.ModuleType("memray"))
    with pytest.raises(ImportError) as caught:
        from memray import FileDestination  # noqa: F401
    refused(f"memray cannot be imported: {caught.value}")


def test_on_windows_there_is_no_memray(monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    monkeypatch.setattr(sys, "platform", "win32")
    refused("memray runs on Linux and macOS only")


def test_another_tracker_goes_on(tmp_path: Path):
    with memray.Tracker(tmp_path / "other.bin"):
        refused("another memray.Tracker is active in this process, and there can be only one")
        mine = np.ones(8 * MIB, np.uint8)
    with memray.FileReader(tmp_path / "other.bin") as reader:
        assert reader.metadata.peak_memory >= mine.nbytes


def test_a_tracker_that_cannot_start_is_a_sentence(monkeypatch):
    def refuse(**_: object) -> None:
        raise OSError("no\nroom")

    monkeypatch.setattr(memray, "Tracker", refuse)
    refused("memray cannot start: no room")


def test_the_flame_graph_has_the_line_and_needs_no_network(tmp_path: Path):
    call, _ = cell("n = 1 << 20\nx = np.ones(n, np.uint8)  # déjà vu\n")
    call()
    graph = tmp_path / "graph.html"
    graph.write_text("an older one")
    ledger = heap.measure(call, NAMES[0], graph)
    assert is_right(peak(ledger), 1)
    page = graph.read_text(encoding="utf-8")
    assert "x = np.ones(n, np.uint8)  # d" in page
    assert NAMES[0] in page
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=", page)


def test_where_the_flame_graph_cannot_go_nothing_runs(tmp_path: Path):
    ran = []
    for path, why in [(tmp_path / "no" / "graph.html", "there is no folder"), (tmp_path, "this is a folder")]:
        with pytest.raises(FwMagicError, match=f"{re.escape(str(path))}: {why}"):
            heap.measure(lambda: ran.append(1), NAMES[0], path)
    assert ran == []
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_goes_away_meanwhile_is_one_sentence(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FwMagicError, match=r"graph\.html: No such file or directory\.$"):
        heap.measure(lambda: shutil.rmtree(folder), NAMES[0], folder / "graph.html")


def test_greenlets_are_followed_and_left_alone():
    seen = []

    def trace(event: str, _: object) -> None:
        seen.append(event)

    greenlet.settrace(trace)
    try:
        ledger = heap.measure(lambda: greenlet.greenlet(own).switch(), NAMES[0])
        assert greenlet.gettrace() is trace
    finally:
        greenlet.settrace(None)
    assert is_right(ledger.lines[0].bytes, 8)
    assert ledger.lines[0].what == "outside of the cell: own in test_heap.py"


def test_without_greenlets_there_is_nothing_to_put_back(monkeypatch):
    monkeypatch.delitem(sys.modules, "greenlet")
    assert is_right(peak(heap.measure(own, NAMES[0])), 8)


def test_it_measures_in_any_thread():
    with ThreadPoolExecutor(1) as pool:
        ledger = pool.submit(heap.measure, own, NAMES[0]).result()
    assert is_right(peak(ledger), 8)
