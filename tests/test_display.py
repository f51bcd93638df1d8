"""The one display of a magic: in place in a notebook, a bar in a terminal, at most five updates a second."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
from example_reports import a_ratio, a_report, a_variant
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.terminal.interactiveshell import TerminalInteractiveShell

from fwmagic.display import AHEAD, INTERVAL, Display, display_for_shell
from fwmagic.format import seconds
from fwmagic.report import MIME, Report
from fwmagic.report.text import to_text


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shown(list):
    """What was published: the report and whether it replaced the last one."""

    def __call__(self, report: Report, update: bool) -> None:
        self.append((report, update))


def running(progress: float) -> Report:
    variants = (a_variant("torch", status="running"), a_variant("jax", status="waiting"))
    return a_report(*variants, state="running", progress=progress)


DONE = a_report(ratios=(a_ratio(),))


@pytest.fixture
def shell():
    """A real shell whose display publisher keeps what is published."""
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher)
    InteractiveShell.clear_instance()


@pytest.fixture
def terminal_shell():
    InteractiveShell.clear_instance()
    yield TerminalInteractiveShell.instance()
    TerminalInteractiveShell.clear_instance()


def test_at_most_four_updates_a_second_and_a_final_one():
    clock, shown, times = Clock(), Shown(), []

    def publish(report, update):
        times.append(clock.now)
        shown(report, update)

    live = Display(publish, clock=clock)
    for i in range(100):
        clock.now = 100 + i * 0.01
        live.update(running(i / 100))
    assert all(later - earlier >= 0.25 for earlier, later in pairwise(times))
    assert len(times) == 4
    live.close(DONE)
    assert shown[-1] == (DONE, True)
    assert [update for _, update in shown] == [False] + 4 * [True]


def test_what_a_run_turns_to_is_shown_at_once():
    """The next update may be a minute away: what compiles tells nothing meanwhile."""
    shown, clock = Shown(), Clock()
    live = Display(shown, clock=clock)
    first = a_report(a_variant("torch", status="waiting"), a_variant("jax", status="waiting"), state="running")
    first = replace(first, progress=0.0)
    for turn in (first, first, running(0), running(0)):
        live.update(turn)
        clock.now += 0.01
    assert [[v.status for v in report] for report, _ in shown] == [["waiting"] * 2, ["running", "waiting"]]
    assert "compiling torch: no figure is final" in str(shown[-1][0])


def test_updates_that_take_long_take_a_hundredth_of_the_time_all_the_same():
    clock, began = Clock(), []

    def publish(report, update):
        began.append(clock.now)
        clock.now += 0.02

    live = Display(publish, clock=clock)
    while clock.now < 130:
        live.update(running(0.1))
        clock.now += 0.001
    first, *later = began
    assert later[0] - first == pytest.approx(0.25, abs=0.01), "the first one sets up the display"
    for count, moment in enumerate(later[1:], 2):
        assert 0.02 * count / (moment - first) <= 0.01, "with the update that begins at this moment"
    assert len(later) > 10


def test_after_an_update_that_took_very_long_the_others_wait_and_then_go_on():
    clock, began = Clock(), []

    def publish(report, update):
        clock.now += 0.05 if len(began) == 3 else 0.001
        began.append(clock.now)

    live = Display(publish, clock=clock)
    while clock.now < 120:
        live.update(running(0.1))
        clock.now += 0.001
    apart = [later - earlier for earlier, later in pairwise(began)]
    assert apart[:2] == pytest.approx([0.25] * 2, abs=0.01)
    assert apart[3] > 4
    assert apart[-3:] == pytest.approx([0.25] * 3, abs=0.01)


def test_closing_shows_the_last_update_if_it_was_held_back():
    shown = Shown()
    with Display(shown, clock=Clock()) as live:
        live.update(running(0.1))
        live.update(running(0.2))
    assert [report.progress for report, _ in shown] == [0.1, 0.2]
    shown.clear()
    with Display(shown, clock=Clock()) as live:
        live.update(running(0.1))
    assert len(shown) == 1, "it was shown already"


def test_closing_twice_and_updating_afterwards_do_nothing():
    shown = Shown()
    live = Display(shown)
    live.close(DONE)
    live.close(DONE)
    live.close()
    live.update(running(0.5))
    assert shown == [(DONE, False)]


def test_closing_what_never_showed_anything_shows_nothing():
    shown = Shown()
    Display(shown).close()
    Display(shown, terminal=True, stream=Terminal()).close()
    assert shown == []


def test_an_error_in_the_cell_passes_through():
    shown = Shown()

    def cell():
        with Display(shown, clock=Clock()) as live:
            live.update(running(0.1))
            live.update(running(0.2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cell()
    assert shown[-1][0].progress == 0.2


def test_silent_shows_nothing(shell, capsys):
    for live in (
        display_for_shell(shell, silent=True),
        display_for_shell(None),
        Display(None, terminal=True, stream=Terminal()),
    ):
        live.update(running(0.1))
        live.close(DONE)
        live.close(DONE)
    assert shell.display_pub.outputs == []
    assert capsys.readouterr() == ("", "")


def test_a_kernel_updates_one_display_in_place(shell):
    live = display_for_shell(shell)
    live.update(running(0.1))
    live.close(DONE)
    first, last = shell.display_pub.outputs
    assert set(first["data"]) == {MIME, "text/html", "text/plain"}
    assert first["data"][MIME]["state"] == "running"
    assert not first["update"]
    assert last["update"]
    assert last["data"][MIME]["state"] == "done"
    assert last["data"]["text/plain"] == to_text(DONE)
    assert first["transient"]["display_id"] == last["transient"]["display_id"]


def test_two_reports_do_not_replace_each_other(shell):
    for _ in range(2):
        display_for_shell(shell).close(DONE)
    first, second = (output["transient"]["display_id"] for output in shell.display_pub.outputs)
    assert first != second


def test_a_terminal_gets_the_report_once_and_at_the_end(terminal_shell, capsys):
    live = display_for_shell(terminal_shell)
    live.update(running(0.1))
    assert capsys.readouterr().out == ""
    live.close(DONE)
    assert capsys.readouterr().out == f"{DONE}\n"


def test_the_bar_of_a_terminal_moves_and_vanishes():
    clock, shown, stream = Clock(), Shown(), Terminal()
    live = Display(shown, terminal=True, stream=stream, clock=clock)
    live.update(running(0))
    assert "compiling torch" in stream.getvalue()
    clock.now += INTERVAL
    live.update(running(0.25))
    clock.now += INTERVAL
    live.update(running(0.5))
    drawn = stream.getvalue()
    assert "timing" in drawn
    assert "25 %|" in drawn
    assert "50 %|" in drawn
    assert shown == []
    live.close(DONE)
    assert stream.getvalue().split("\r")[-2].strip() == "", "the bar was wiped"
    assert shown == [(DONE, False)]


def test_the_bar_is_throttled_too():
    stream = Terminal()
    live = Display(Shown(), terminal=True, stream=stream, clock=Clock())
    live.update(running(0.25))
    live.update(running(0.5))
    assert "50 %|" not in stream.getvalue()
    live.close()


def test_a_log_gets_a_line_a_second_and_no_bar():
    shown, stream, clock = Shown(), io.StringIO(), Clock()
    live = Display(shown, terminal=True, stream=stream, clock=clock)
    for i in range(401):
        clock.now = 100 + 0.01 * i
        live.update(running(max(i, 1) / 401))
    live.close(DONE)
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [f"fwmagic, {i} s" for i in range(5)]
    assert "timing, 50 % of" in lines[2]
    assert "\r" not in stream.getvalue()
    assert shown == [(DONE, False)]


def test_a_log_is_told_at_once_what_may_take_a_minute():
    stream, clock = io.StringIO(), Clock()
    live = Display(Shown(), terminal=True, stream=stream, clock=clock)
    waiting = a_report(a_variant("torch", status="waiting"), a_variant("jax", status="waiting"), state="running")
    live.update(replace(waiting, progress=0.0))
    clock.now += 0.1
    live.update(running(0))
    assert stream.getvalue().splitlines()[-1] == "fwmagic, 0 s: compiling torch"


def test_even_of_many_phases_a_log_gets_a_line_a_second():
    stream, clock = io.StringIO(), Clock()
    live = Display(Shown(), terminal=True, stream=stream, clock=clock)
    for i in range(100):
        clock.now = 100 + 0.1 * i
        live.update(a_report(a_variant(f"v{i}", status="running", compilation=None), state="running", progress=0.0))
    assert len(stream.getvalue().splitlines()) <= 10 + 1 + AHEAD


def test_a_shell_that_only_prints_gets_the_report_once(capfd):
    """Such as a program that runs IPython: what `display` shows there cannot be replaced."""
    InteractiveShell.clear_instance()
    live = display_for_shell(InteractiveShell.instance())
    for i in range(1, 9):
        live.update(running(i / 10))
    live.close(DONE)
    InteractiveShell.clear_instance()
    printed, told = capfd.readouterr()
    assert printed == f"{DONE}\n"
    assert told.startswith(f"fwmagic, 0 s: timing, 10 % of {seconds(DONE.budget)}\n")


def test_the_bar_starts_no_thread_and_leaves_tqdm_as_it_was():
    from tqdm.std import tqdm

    before, interval, had_lock = threading.active_count(), tqdm.monitor_interval, hasattr(tqdm, "_lock")
    live = Display(Shown(), terminal=True, stream=Terminal())
    live.update(running(0.25))
    assert threading.active_count() == before
    live.close(DONE)
    assert tqdm.monitor_interval == interval == 10
    assert hasattr(tqdm, "_lock") is had_lock


def test_importing_it_imports_neither_ipython_nor_tqdm():
    code = "import sys, fwmagic.display; sys.exit(any(name in sys.modules for name in ('IPython', 'tqdm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
