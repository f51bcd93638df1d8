"""`%memory`: the largest arrays with what holds them, and the ledgers of the host and of devices as they are now."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from bs4 import BeautifulSoup
from cells import fail, names, run
from fake_gpus import GIB, MIB
from IPython.core.error import UsageError

from fwmagic import frameworks
from fwmagic.format import size
from fwmagic.frameworks import Framework
from fwmagic.frameworks.memory import Counters, Device, Memory
from fwmagic.memory import device, now, nvml
from fwmagic.memory.device import SEGMENTS
from fwmagic.memory.holders import Held
from fwmagic.memory.now import Now
from fwmagic.memory.nvml import Figure, Reading
from fwmagic.report import Amount, Ledger

SIZES = itertools.count(1_234_567, 1001)  # no two tests have an array of one size
PREPARED = "import numpy as np, torch, jax, jax.numpy as jnp"


@pytest.fixture(autouse=True)
def no_last_traceback(monkeypatch):
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        monkeypatch.delattr(sys, name, raising=False)


def memory(shell, line="50"):
    return run(shell, f"%memory {line}")


def holders(found, count):
    """Return who holds the one array of so many elements."""
    (live,) = [live for live in found.arrays if live.what.split("(")[1].rstrip(",)").split(",")[0] == str(count)]
    return live.holders


# Who holds an array

MAKERS = {"numpy": "np.zeros", "torch": "torch.zeros", "jax": "jnp.zeros"}


@pytest.mark.parametrize("framework", MAKERS)
@pytest.mark.parametrize(
    ("cell", "holder"),
    [
        ("planted = {make}", "planted"),
        ("planted = [0, {make}]", "planted[1]"),
        ("planted = {{'<b>': {make}}}", "planted['<b>']"),
        ("{make}", "Out[2]"),
        ("def outer():\n    held = {make}\n    def inner():\n        return held\n    return inner\nplanted = outer()",
         "closure of `planted`: `held`"),
    ],
    ids=["a name", "a list", "a dictionary", "Out", "a closure"],
)  # fmt: skip
def test_the_holder_of_an_array_is_named(shell, framework, cell, holder):
    count = next(SIZES)
    run(shell, PREPARED)
    run(shell, cell.format(make=f"{MAKERS[framework]}({count})"))
    assert holder in holders(memory(shell), count)


@pytest.mark.parametrize("framework", MAKERS)
def test_an_array_in_the_last_traceback_is_named_with_its_function_and_line(shell, framework):
    count = next(SIZES)
    run(shell, PREPARED)
    fail(shell, f"def step():\n    big = {MAKERS[framework]}({count})\n    return 1 / 0\nstep()")
    (holder,) = holders(memory(shell), count)
    assert holder == "last traceback: `big` in `step` (line 3)"


@pytest.mark.parametrize("framework", MAKERS)
def test_an_array_that_only_the_underscore_holds(shell, framework):
    count = next(SIZES)
    run(shell, PREPARED)
    run(shell, f"{MAKERS[framework]}({count})")
    run(shell, "del Out[2], _2")
    found = memory(shell)
    assert any(holder.startswith("_") for holder in holders(found, count)), holders(found, count)


def test_what_is_gone_is_not_listed_also_if_only_a_cycle_had_it(shell):
    count = next(SIZES)
    run(shell, PREPARED)
    run(shell, f"cycle = [np.zeros({count})]\ncycle.append(cycle)\ndel cycle")
    assert not [live for live in memory(shell).arrays if str(count) in live.what]


def test_arrays_of_all_frameworks_come_by_their_size(shell):
    run(shell, PREPARED)
    run(shell, "a = np.zeros(3_000_000)\nb = torch.zeros(5_000_000)\nc = jnp.zeros(4_000_000)")
    found = memory(shell).arrays
    assert [live.bytes for live in found] == sorted((live.bytes for live in found), reverse=True)
    ours = [(live.framework, live.bytes) for live in found if set(live.holders) & {"a", "b", "c"}]
    assert ours == [("numpy", 24_000_000), ("torch", 20_000_000), ("jax", 16_000_000)]


def test_it_keeps_nothing_alive_and_leaves_the_names(shell):
    run(shell, PREPARED + "\nimport weakref\nheld = torch.zeros(2_000_000)\nalive = weakref.ref(held)")
    before = names(shell)
    memory(shell)
    assert names(shell) == before
    run(shell, "del held")
    assert run(shell, "alive()") is None


# The line


def test_it_lists_ten_arrays_unless_told_otherwise(shell):
    # Larger than what other tests may have; as nothing is written, they take no memory.
    run(shell, "import numpy as np\nkept = [np.zeros(20_000_000 + 1000 * i) for i in range(14)]")
    assert len(run(shell, "%memory").arrays) == 10
    assert len(run(shell, "%memory 3").arrays) == 3
    assert len(run(shell, "%memory 1").arrays) == 1
    assert [live.holders for live in run(shell, "%memory 2").arrays] == [("kept[13]",), ("kept[12]",)]


@pytest.mark.parametrize("line", ["0", "-1", "x", "1.5", "1 2", "--all"])
def test_bad_input_is_one_sentence(shell, line):
    error = fail(shell, f"%memory {line}")
    assert isinstance(error, UsageError)
    assert "\n" not in str(error)
    assert line.split()[-1] in str(error)


@pytest.mark.parametrize("line", ["%memory ;", "%memory 3;", "%memory 3 ;"])
def test_a_semicolon_silences_it(shell, capsys, line):
    run(shell, "import numpy as np\nkept = np.zeros(100_000)")
    capsys.readouterr()
    assert run(shell, line) is None
    assert capsys.readouterr().out == ""
    assert isinstance(run(shell, line.replace(";", "")), Now)


def test_its_value_can_be_bound(shell, capsys):
    run(shell, "found = %memory 3")
    assert isinstance(shell.user_ns["found"], Now)
    assert "memory now" not in capsys.readouterr().out


def test_a_question_mark_shows_what_it_takes(shell, capsys):
    run(shell, "%memory?")
    shown = capsys.readouterr().out
    assert "Show what memory holds now" in shown
    assert "how many arrays to list (default: 10)" in shown


def test_it_is_gone_when_the_extension_is_unloaded(bare_shell):
    bare_shell.run_line_magic("load_ext", "fwmagic")
    assert "memory" in bare_shell.magics_manager.magics["line"]
    bare_shell.run_line_magic("unload_ext", "fwmagic")
    error = fail(bare_shell, "%memory")
    assert "not found" in str(error)


# Text and HTML


def lines_of(found):
    """Return what the text says: the ledgers, and the rows of the table, each as its cells."""
    text = str(found).splitlines()
    assert text[0] == "memory now"
    split = text.index("")
    ledgers = [line.strip() for line in text[1:split]]
    return ledgers, [re.split(r"  +", line.strip()) for line in text[split + 2 :]]


def in_html(found):
    page = BeautifulSoup(found._repr_mimebundle_()["text/html"], "html.parser")
    rows = [[cell.get_text() for cell in row.find_all("td")] for row in page.find_all("tr")]
    return [item.get_text() for item in page.find_all("li")], [row for row in rows if row], page


def test_text_and_html_say_the_same_and_names_are_escaped(shell):
    run(shell, PREPARED)
    run(
        shell, "d = {'<b>': np.zeros(1_000_000), '</table><script>': torch.zeros(700_000)}\ne = jnp.zeros((3, 100_000))"
    )
    found = memory(shell)
    ledgers, rows = lines_of(found)
    html_ledgers, html_rows, page = in_html(found)
    assert html_ledgers == ledgers
    assert html_rows == rows
    assert len(rows) == len(found.arrays)
    assert [row for row in rows if row[-1] in ("d['<b>']", "d['</table><script>']", "e")] == [
        ["7.63 MiB", "numpy float64 (1000000,)", "cpu", "d['<b>']"],
        ["2.67 MiB", "torch float32 (700000,)", "cpu", "d['</table><script>']"],
        ["1.14 MiB", "jax float32 (3, 100000)", str(shell.user_ns["e"].device), "e"],
    ]
    assert page.find_all(["b", "script"]) == []
    assert [head.get_text() for head in page.find_all("th")] == ["size", "array", "device", "held by"]
    assert found._repr_mimebundle_()["text/plain"] == str(found)


def test_the_columns_of_the_text_are_aligned():
    arrays = (
        Held("numpy", "float64 (1000000,)", 8_000_000, "cpu", ("a", "b")),
        Held("jax", "int8 (2,)", 2048, "TFRT_CPU_0", ("c",)),
    )
    first, second = str(Now((), arrays)).splitlines()[-2:]
    assert (first.index("cpu"), first.index("a, b")) == (second.index("TFRT_CPU_0"), second.index("c", 40))


def test_without_arrays_it_says_so():
    found = Now((), ())
    assert "no array of 1 KiB or more is alive" in str(found)
    assert "<table>" not in found._repr_mimebundle_()["text/html"]


# The host


def host(found):
    return next(ledger for ledger in found.ledgers if ledger.device == "host")


def test_the_ledger_of_the_host_adds_up_to_the_machine(shell):
    run(shell, "import numpy as np\nkept = np.ones(16 << 20)")
    ledger = host(memory(shell))
    amounts = {amount.kind: amount.bytes for amount in ledger.peak}
    assert list(amounts) == ["other processes", "in use", "free"]
    assert ledger.total == psutil.virtual_memory().total
    if amounts["other processes"] is not None:  # of a process alone on its machine, what is shared counts twice
        assert sum(amounts.values()) == ledger.total
    assert amounts["in use"] >= 128 * MIB
    assert amounts["in use"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_memory_that_counts_twice_is_not_subtracted(monkeypatch):
    whole = SimpleNamespace(total=8 * GIB, available=7 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: whole)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=2 * GIB))
    found = now.now({}, 1)
    others, mine, free = host(found).peak
    assert others == Amount("other processes", None, why="a part of this process's memory is shared")
    assert (mine.bytes, free.bytes) == (2 * GIB, 7 * GIB)
    assert "other processes: not available: a part of this process's memory is shared" in str(found)


# Devices that are not there


class Pool(Memory):
    """The memory of a framework on a device that is not there."""

    def __init__(self, where, in_use, held, is_started=True):
        self.where, self.is_started = where, is_started
        self.found = Counters(in_use, held, 9 * GIB, 9 * GIB, "a script")

    def started(self):
        return self.is_started

    def device(self, wanted):
        assert self.is_started, "asking for its device would start it"
        return self.where

    def counters(self, device):
        assert device == self.where
        return self.found


class Fake(Framework):
    """A framework that has no arrays, but memory on a device."""

    def __init__(self, title, memory):
        self.name, self.title, self.memory = title.lower(), title, memory

    def is_array(self, value):
        return False

    def keep(self, value):
        return None

    def from_numpy(self, array, device):
        raise NotImplementedError

    def to_numpy(self, array):
        raise NotImplementedError


@pytest.fixture
def devices(monkeypatch):
    """Let these frameworks be loaded, and let NVML read this of every device."""

    def given(*loaded, own=4 * GIB):
        used, reserved, total = own + GIB, 512 * MIB, 24 * GIB
        found = {"total": total, "used": used, "free": total - used - reserved, "reserved": reserved, "own": own}
        reading = Reading(**{name: Figure(count, "NVML") for name, count in found.items()})
        monkeypatch.setattr(frameworks, "loaded", lambda: list(loaded))
        monkeypatch.setattr(device, "identify", lambda ordinal, uuid: (f"GPU-{ordinal}", "a script says so"))
        monkeypatch.setattr(nvml, "read", lambda uuid, before=None: reading)
        *found, last = now.now({}, 3).ledgers
        assert last.device == "host"
        return found

    return given


ZERO, ONE = Device("cuda:0", 0), Device("cuda:1", 1)


def test_a_device_in_use_has_a_ledger_of_what_is_there_now(devices, shell):
    (ledger,) = devices(Fake("PyTorch", Pool(ZERO, GIB, 2 * GIB)))
    assert run(shell, "%memory").ledgers[0] == ledger
    amounts = {amount.kind: amount.bytes for amount in ledger.peak}
    assert tuple(amounts) == SEGMENTS
    assert (amounts["in use"], amounts["free in pool"], amounts["unexplained"]) == (GIB, GIB, 2 * GIB)
    assert sum(count or 0 for count in amounts.values()) == ledger.total == 24 * GIB
    assert (ledger.device, ledger.source, ledger.start) == ("cuda:0 by PyTorch", "a script says so", None)
    assert amounts["context"] is None


def test_frameworks_on_one_device_see_what_the_others_hold(devices):
    first, second = devices(Fake("PyTorch", Pool(ZERO, GIB, 2 * GIB)), Fake("JAX", Pool(Device("gpu:0", 0), MIB, GIB)))
    for ledger, held in ((first, GIB), (second, 2 * GIB)):
        amounts = {amount.kind: amount.bytes for amount in ledger.peak}
        assert amounts["held by others here"] == held
        assert sum(count or 0 for count in amounts.values()) == 24 * GIB
    assert [ledger.device for ledger in (first, second)] == ["cuda:0 by PyTorch", "gpu:0 by JAX"]


def test_what_is_held_on_another_device_is_not_held_here(devices):
    found = devices(Fake("PyTorch", Pool(ZERO, GIB, 2 * GIB)), Fake("JAX", Pool(ONE, MIB, GIB)))
    for ledger in found:
        assert {amount.kind: amount.bytes for amount in ledger.peak}["held by others here"] == 0


def test_a_framework_that_has_not_started_or_has_no_device_is_not_asked(devices):
    found = devices(
        Fake("PyTorch", Pool(ZERO, GIB, 2 * GIB, is_started=False)),
        Fake("JAX", Pool(None, 1, 1)),
        Fake("NumPy", Memory()),
    )
    assert found == []


def test_what_a_device_does_not_tell_is_said_in_text_and_html(devices):
    (ledger,) = devices(Fake("JAX", Pool(Device("gpu:0", 0), None, None)))
    found = Now((ledger,), ())
    ledgers, _, _ = in_html(found)
    (text,) = [line.strip() for line in str(found).splitlines() if "gpu:0" in line]
    assert ledgers == [text]
    assert text.startswith("gpu:0 by JAX of 24.0 GiB: other processes 1.00 GiB")
    assert "free in pool: not available: no counter of what is held" in text


def test_figures_that_contradict_each_other_are_in_the_text(devices):
    (ledger,) = devices(Fake("PyTorch", Pool(ZERO, 6 * GIB, 6 * GIB)))
    assert ledger.note in str(Now((ledger,), ()))
    assert "contradict each other" in ledger.note


def test_ledgers_are_written_with_units():
    ledger = Ledger("host", 8 * GIB, (Amount("in use", 3 * MIB, "x"), Amount("free", None, why="why")))
    assert f"host of {size(8 * GIB)}: in use 3.00 MiB; free: not available: why" in str(Now((ledger,), ()))


# Nothing is started

_FRESH = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_line_magic("load_ext", "fwmagic")
{imports}
shell.run_cell("found = %memory").raise_error()
found = shell.user_ns["found"]
print()
print([ledger.device for ledger in found.ledgers], {asked})
"""


@pytest.mark.parametrize(
    ("imports", "asked", "seen"),
    [
        ("import jax", "__import__('jax')._src.xla_bridge.backends_are_initialized()", "False"),
        ("import torch", "__import__('torch').cuda.is_initialized()", "False"),
        ("", "sorted({'torch', 'jax', 'numpy'} & set(sys.modules))", "[]"),
    ],
)
def test_nothing_is_started_or_imported(tmp_path, imports, asked, seen):
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", _FRESH.format(imports=imports, asked=asked)],
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"['host'] {seen}"


def test_jax_that_is_used_is_listed_and_has_no_device_on_a_cpu(shell):
    used = jnp.ones(1_000_000)
    found = memory(shell)
    assert any(live.framework == "jax" and live.bytes == used.nbytes for live in found.arrays)
    on_cpu = next(iter(used.devices())).platform == "cpu"
    assert ([ledger.device for ledger in found.ledgers] == ["host"]) == on_cpu
    assert np.isfinite(float(used[0]))


# A real device


@pytest.mark.gpu
def test_what_a_real_device_holds_now(shell):
    run(
        shell,
        "import torch\nkept = torch.ones(64 << 20, device='cuda')\nbig = torch.ones(256 << 20, device='cuda')\ndel big",
    )
    found = memory(shell)
    (ledger,) = [ledger for ledger in found.ledgers if ledger.device.endswith("by PyTorch")]
    amounts = {amount.kind: amount.bytes for amount in ledger.peak}
    assert amounts["in use"] >= 256 * MIB
    assert amounts["in use"] < GIB
    assert amounts["free in pool"] >= GIB
    assert "kept" in [holder for live in found.arrays for holder in live.holders if live.device == "cuda:0"]
    if all(count is not None for name, count in amounts.items() if name != "context"):
        assert sum(count or 0 for count in amounts.values()) == pytest.approx(ledger.total, abs=16 * MIB)
