"""The load by other processes: seen, named, and never mixed up with our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fwmagic.measure import load
from fwmagic.measure.load import Load, machine

SPIN = "while True: pass"


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    """A busy process that is not a child of this one, under a name that no other process has."""
    program = tmp_path / "fwm-stranger"
    program.symlink_to(Path(sys.executable).resolve())
    shell = f"'{program}' -ISc '{SPIN}' >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout)
    yield program.name
    os.kill(pid, signal.SIGKILL)


def watched(seconds: float) -> Load:
    found = Load()
    found.start()
    time.sleep(seconds)
    found.stop()
    return found


def test_a_busy_stranger_is_seen_and_named(stranger: str) -> None:
    for _ in range(20):  # other work on the machine may leave it little time at first
        found = watched(0.3)
        if any(name.startswith(stranger) for name in found.neighbours):
            break
    assert found.before is not None
    assert found.during is not None
    assert found.during > load.BUSY
    assert any(name.startswith(f"{stranger} (") and name.endswith(" cores)") for name in found.neighbours)


def test_a_busy_child_is_our_own() -> None:
    with subprocess.Popen([sys.executable, "-ISc", SPIN]) as child:
        try:
            found = watched(0.3)
            known = load._seconds(psutil.Process()) + load._seconds(psutil.Process(child.pid))
            reading = load._read()
        finally:
            child.kill()
    assert child.pid not in {pid for pid, _ in reading.others}
    assert os.getpid() not in {pid for pid, _ in reading.others}
    assert reading.own >= known > 0
    assert found.during is not None


def test_the_work_of_a_child_that_has_ended_stays_our_own() -> None:
    before = load._read().own
    subprocess.run([sys.executable, "-ISc", "for i in range(3_000_000): pass"], check=True)
    assert load._read().own > before


def test_processes_that_may_not_be_read_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "name", refuse)
    found = watched(0.0)
    assert found.neighbours == ()
    assert found.during is not None


def test_before_start_nothing_is_known() -> None:
    found = Load()
    assert (found.before, found.during, found.neighbours) == (None, None, ())
    with pytest.raises(RuntimeError, match="start"):
        found.stop()


def test_the_busiest_come_first_and_idle_ones_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    names = {("a", 0.2): 1, ("b", 1.5): 2, ("c", 0.01): 3, ("d", 0.9): 4, ("e", 0.7): 5}
    start = load.Usage(0.0, 0.0, 0.0, {(pid, 0.0): (name, 10.0) for (name, _), pid in names.items() if name != "d"})
    end_of = {(pid, 0.0): (name, (0.0 if name == "d" else 10.0) + 2 * cores) for (name, cores), pid in names.items()}
    end = load.Usage(2.0, 8.0, 1.0, end_of)
    assert load._busiest(start, end) == ("b (1.5 cores)", "d (0.9 cores)", "e (0.7 cores)")
    assert load._cores_of_others(start, end) == pytest.approx(3.5)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert load._cores_of_others(start, end) == 2


def test_the_machine_is_described_with_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine().endswith(("core", "cores"))
    monkeypatch.setattr(load, "_CPUINFO", Path("no such file"))
    model, _, cores = machine().rpartition(", ")
    assert model
    assert cores.split()[0].isdigit()


@pytest.mark.parametrize(
    ("during", "used", "crowded"),
    [
        (None, 4, False),
        (0.2, 4, False),
        (0.5, 4, False),
        (1.0, 3, False),
        (1.0, 3.9, True),
        (3.5, 1, True),
        (3.5, 0.2, True),
    ],
)
def test_a_program_is_crowded_where_what_it_used_and_the_others_do_not_fit(monkeypatch, during, used, crowded):
    monkeypatch.setattr(load, "usable_cores", lambda: 4)
    found = load.Load()
    found.during = during
    assert bool(found.crowds(used)) == crowded
    assert not crowded or f"{during:.1f} of 4 cores" in found.crowds(used)


def test_what_is_less_than_a_tick_of_the_counters_is_nothing() -> None:
    start, end = load.Usage(0.0, 12345.67, 890.12, {}), load.Usage(1.0, 12345.67 + 0.61, 890.12 + 0.61, {})
    assert load._cores_of_others(start, end) == 0
