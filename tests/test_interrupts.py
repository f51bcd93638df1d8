"""Ctrl-C, with real signals: at no moment does it leave the state half put back."""

from __future__ import annotations

import contextlib
import importlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from snapshots import ALL, notebook

from fwmagic.cells.interrupts import InterruptGuard, _InterruptWindow
from fwmagic.cells.scene import Overlay
from fwmagic.cells.snapshot import Snapshot


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def _handler_is_put_back():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def guarded(code: Callable[[InterruptGuard], None]) -> None:
    with InterruptGuard() as guard:
        code(guard)


def test_an_interrupt_outside_of_a_window_waits_for_the_end():
    done = []

    def code(guard: InterruptGuard) -> None:
        interrupt()
        interrupt()
        done.append(1)

    with pytest.raises(KeyboardInterrupt):
        guarded(code)
    assert done == [1]


def test_an_interrupt_in_a_window_comes_at_once_and_a_second_one_cannot_break_the_clean_up():
    done = []

    def code(guard: InterruptGuard) -> None:
        try:
            with guard.window():
                interrupt()
                done.append("not reached")
        finally:
            interrupt()
            done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        guarded(code)
    assert done == ["cleaned up"]


def test_the_user_own_clean_up_inside_the_window_is_not_broken_either():
    done = []

    def code(guard: InterruptGuard) -> None:
        with guard.window():
            try:
                interrupt()
            finally:
                interrupt()
                done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        guarded(code)
    assert done == ["cleaned up"]


def test_a_deferred_interrupt_comes_when_a_window_opens():
    done = []

    def code(guard: InterruptGuard) -> None:
        interrupt()
        with guard.window():
            done.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        guarded(code)
    assert done == []


def test_a_window_can_be_opened_again_after_an_interrupt():
    with InterruptGuard() as guard:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt), guard.window():
                interrupt()


def test_windows_and_guards_inside_each_other():
    done = []

    def in_a_window(guard: InterruptGuard) -> None:
        with guard.window():
            with guard.window():
                pass
            interrupt()
            done.append("not reached")

    def code(guard: InterruptGuard) -> None:
        with guard:
            interrupt()
        done.append("the inner end is not the end")
        with pytest.raises(KeyboardInterrupt), guard.window():
            done.append("not reached")
        with pytest.raises(KeyboardInterrupt):
            in_a_window(guard)
        with InterruptGuard():
            interrupt()
        done.append("another guard passes it on")

    with pytest.raises(KeyboardInterrupt):
        guarded(code)
    assert done == ["the inner end is not the end", "another guard passes it on"]


def test_the_error_of_the_block_is_not_lost():
    def fail(guard: InterruptGuard) -> None:
        raise ValueError("of the block")

    def fail_interrupted(guard: InterruptGuard) -> None:
        interrupt()
        fail(guard)

    with pytest.raises(KeyboardInterrupt) as caught:
        guarded(fail_interrupted)
    assert isinstance(caught.value.__context__, ValueError)
    with pytest.raises(ValueError, match="of the block"):
        guarded(fail)


def test_a_handler_that_the_code_installs_stays():
    seen: list[int] = []
    with InterruptGuard():
        signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    interrupt()
    assert seen == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with InterruptGuard() as guard, guard.window():
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_is_left_alone():
    seen = []

    def work() -> None:
        with InterruptGuard() as guard, guard.window():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, where an interrupt is heard, for at most some seconds."""
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("then", ["", "import time; time.sleep(0.7)"])
def test_one_that_comes_in_an_import_waits_until_the_module_is_whole(tmp_path, monkeypatch, then: str):
    (tmp_path / "interrupted.py").write_text(f"import signal\nsignal.raise_signal(signal.SIGINT)\n{then}\nwhole = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = []

    def code(guard: InterruptGuard) -> None:
        with guard.window():
            importlib.import_module("interrupted")
            done.append("imported")
            wait_until(lambda: False)
            done.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        guarded(code)
    assert done == ["imported"]
    assert sys.modules.pop("interrupted").whole


class TestSwallowed:
    """Compilers lose an interrupt, in a callback say, and a section may catch it: it is meant for the run."""

    def test_it_is_raised_when_the_window_is_left(self):
        done = []

        def code(guard: InterruptGuard) -> None:
            with guard.window():
                with contextlib.suppress(KeyboardInterrupt):
                    interrupt()
                done.append("went on")
            done.append("not reached")

        with pytest.raises(KeyboardInterrupt):
            guarded(code)
        assert done == ["went on"]

    @pytest.mark.parametrize("error", [ValueError, SystemExit, None])
    def test_so_it_is_where_it_became_another_error(self, error: type[BaseException] | None):
        def code(guard: InterruptGuard) -> None:
            with guard.window():
                try:
                    interrupt()
                except KeyboardInterrupt:
                    raise error("instead") if error else BaseExceptionGroup("instead", [KeyboardInterrupt()]) from None

        with pytest.raises(KeyboardInterrupt):
            guarded(code)

    @pytest.mark.parametrize(("kind", "times"), [(KeyboardInterrupt, 1), (BaseException, 3)])
    def test_it_is_repeated_where_the_code_goes_on(self, kind: type[BaseException], times: int):
        caught = []

        def code(guard: InterruptGuard) -> None:
            with guard.window():
                for turn in range(10):
                    try:
                        if turn == 0:
                            interrupt()
                        wait_until(lambda: False)
                    except kind:
                        caught.append(1)
                        if len(caught) == 3:
                            return

        with pytest.raises(KeyboardInterrupt):
            guarded(code)
        assert len(caught) == times

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_it_is_where_nobody_can_catch_it(self):
        class Odd:
            def __del__(self) -> None:
                interrupt()

        def code(guard: InterruptGuard) -> None:
            with guard.window():
                Odd()
                wait_until(lambda: False)
                raise AssertionError("not reached")

        with pytest.raises(KeyboardInterrupt):
            guarded(code)

    def test_a_second_one_comes_at_once(self):
        done = []

        def code(guard: InterruptGuard) -> None:
            with guard.window():
                with contextlib.suppress(KeyboardInterrupt):
                    interrupt()
                done.append("went on")
                interrupt()
                done.append("not reached")

        with pytest.raises(KeyboardInterrupt):
            guarded(code)
        assert done == ["went on"]

    def test_the_clean_up_is_not_broken_by_a_repetition_but_by_a_second_one_that_comes_late(self):
        done = []

        def code(guard: InterruptGuard) -> None:
            with guard.window():
                try:
                    interrupt()
                finally:
                    time.sleep(1.2)  # longer than it takes to be repeated
                    done.append("cleaned up")
                    interrupt()
                    done.append("not reached")

        with pytest.raises(KeyboardInterrupt):
            guarded(code)
        assert done == ["cleaned up"]

    def test_nothing_comes_later(self):
        for _ in range(20):
            with contextlib.suppress(KeyboardInterrupt), InterruptGuard() as guard, guard.window():
                interrupt()
        time.sleep(0.5)

    def test_one_that_comes_while_a_window_closes_leaves_it_closed(self):
        done = []
        leave = _InterruptWindow.__exit__.__code__

        def at_its_beginning(frame: FrameType, event: str, _: Any) -> None:
            if event == "call" and frame.f_code is leave:
                sys.setprofile(None)
                signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)  # as Python calls it at this moment

        def code(guard: InterruptGuard) -> None:
            sys.setprofile(at_its_beginning)
            with guard.window():
                pass
            interrupt()
            done.append("deferred")

        with pytest.raises(KeyboardInterrupt):
            guarded(code)
        assert done == ["deferred"]


@pytest.mark.parametrize("times", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_the_state_is_whole_whenever_the_interrupts_come(times: int):
    namespace: dict[str, Any] = notebook("""
        import torch, numpy as np
        net = torch.nn.Linear(8, 8); opt = torch.optim.Adam(net.parameters()); x = torch.ones(4, 8)
        hist, book, a = [1], {'n': 0}, np.zeros(50)
        def step():
            opt.zero_grad(); net(x).sum().backward(); opt.step(); hist.append(2); book['n'] += 1; book[len(book)] = 1
            a[:] += 1
    """)

    def picture() -> Any:
        values = [p.tolist() for p in namespace["net"].parameters()], [p.grad for p in namespace["net"].parameters()]
        plain = list(namespace["hist"]), dict(namespace["book"]), namespace["a"].tolist(), dict(namespace["opt"].state)
        return values, plain, sorted(namespace)

    before = picture()
    pick = random.Random(0)
    interrupted = 0
    for _ in range(times):
        guard = InterruptGuard()
        try:
            with guard:
                snapshot = Snapshot(namespace, ["step"], ALL)
                overlay = Overlay(namespace, {"extra": 1})
                signal.setitimer(signal.ITIMER_REAL, pick.uniform(0.0001, 0.01), 0.002)
                signal.signal(signal.SIGALRM, lambda *_: interrupt())
                try:
                    for _ in range(20):
                        overlay.on()
                        try:
                            with guard.window():
                                namespace["step"]()
                        finally:
                            overlay.off()
                            changes = snapshot.changes()
                            changes.restore()
                finally:
                    snapshot.restore()
                    signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        assert picture() == before
    assert interrupted > times / 2
