"""The one display of a magic: the report as it grows, shown in place, and at last as a whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from fwmagic.format import one_line
from fwmagic.report import Report
from fwmagic.report.answer import phase

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: Seconds between two updates at the least.
INTERVAL = 0.25
#: The largest share of the time since the first update that the later ones take: beside a busy browser, they are fewer.
SHARE = 0.008
#: Lines of a log that may be ahead of one a second, where a run turns to something that may take a minute.
AHEAD = 3


class Display:
    """Shows a report while it runs, at most four times a second, and once more when it is closed.

    Updates take less than 1 % of the time, but for the first one, which also sets up the display.

    Parameters
    ----------
    publish
        Shows a report: `publish(report, update=True)` replaces what `publish(report, update=False)` showed first.
        None: nothing is shown at all.
    terminal
        What was shown cannot be replaced: progress on `stream` while it runs, and one final report.
    stream
        Where progress is shown; None is standard error. A terminal gets a bar, anything else (a log) about one line a
        second.
    clock
        Returns seconds.
    """

    def __init__(
        self,
        publish: Callable[..., None] | None,
        terminal: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._terminal = terminal
        self._stream = stream
        self._bar: Any = None
        self._lines = 0
        self._clock = clock
        self._began: float | None = None
        self._updated = 0.0
        self._cost = 0.0
        self._spent = 0.0
        self._pending: Report | None = None
        self._published = False
        self._closed = False
        self._phase = ""

    def update(self, report: Report) -> None:
        """Show `report`, unless the last update was a moment ago or the display is closed.

        A run that turns to something else is shown at once: what follows may be a compilation that takes a minute,
        and brings no further update.
        """
        if self._closed or self._publish is None:
            return
        self._pending = report
        now = self._clock()
        doing = "" if report.progress else phase(report)
        turned, self._phase = doing not in ("", self._phase), doing
        if self._began is None:
            self._began = self._updated = now
            self._draw_or_show(report, turned=True)
            return
        # The next update is expected to cost what the last one did.
        affordable = self._spent + self._cost <= SHARE * (now - self._began)
        if turned:  # before anything is timed: it takes nothing from that
            self._updated = now
            self._draw_or_show(report, turned)
        elif now - self._updated >= INTERVAL and affordable:
            self._updated = now
            self._draw_or_show(report, turned)
            self._cost = self._clock() - now
            self._spent += self._cost

    def close(self, report: Report | None = None) -> None:
        """Show `report` as the final one (None: the last one that was passed to `update`); more calls do nothing."""
        if self._closed or self._publish is None:
            return
        # closed first: if showing is interrupted, a second call from a `finally` is harmless
        self._closed = True
        if self._bar is not None:
            self._bar.close()
        final = report if report is not None else self._pending
        if final is not None:
            self._show(final)

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _draw_or_show(self, report: Report, turned: bool) -> None:
        if not self._terminal:
            self._show(report)
            return
        stream = sys.stderr if self._stream is None else self._stream
        if stream is None:  # a process without one, as of a window
            return
        if stream.isatty():
            self._draw(report, stream)
        else:
            self._log(report, stream, turned)

    def _show(self, report: Report) -> None:
        if self._publish is not None:
            self._publish(report, update=self._published)
            self._published = True
            self._pending = None

    def _draw(self, report: Report, stream: TextIO) -> None:
        if self._bar is None:
            self._bar = _display_bar(stream)
        self._bar.n = min(report.progress, 1.0)
        doing = "timing" if 0 < report.progress < 1 else phase(report)  # the bar has the share
        self._bar.set_description_str(one_line(doing, 50), refresh=False)
        self._bar.refresh()

    def _log(self, report: Report, stream: TextIO, turned: bool) -> None:
        elapsed = self._updated - (self._began or 0.0)
        if elapsed + (AHEAD if turned else 0) >= self._lines:
            self._lines += 1
            sys.stdout.flush()  # where both streams go to one file, they keep their order
            stream.write(f"fwmagic, {elapsed:.0f} s: {one_line(phase(report), 80)}\n")
            stream.flush()


def display_for_shell(shell: InteractiveShell | None, silent: bool = False) -> Display:
    """Return the display that fits a shell: in place in a kernel, once and at the end where a shell only prints.

    That is a terminal, or a program or log that runs IPython without one. None if there is no shell.
    """
    if shell is None or silent:
        return Display(None)
    from IPython.core.displaypub import DisplayPublisher
    from IPython.terminal.interactiveshell import TerminalInteractiveShell

    prints = isinstance(shell, TerminalInteractiveShell) or type(shell.display_pub) is DisplayPublisher
    return Display(display_in_full if prints else display_in_place(shell), prints)


def display_in_full(report: Report, update: bool) -> None:
    """Show a report as its text: a terminal has no other view of it; `print` may be a function of the notebook."""
    sys.stdout.write(f"{report}\n")


def display_in_place(shell: InteractiveShell) -> Callable[..., None]:
    """Return a `publish` that shows a report in a shell and replaces it by the same display id.

    It is shown by what the shell shows with now: while a cell is measured, that is taken away, and what compiles is
    told of all the same.
    """
    from uuid import uuid4

    publisher, formatter = shell.display_pub, shell.display_formatter
    assert formatter is not None  # each shell makes one when it begins
    transient = {"display_id": f"fwmagic-{uuid4().hex}"}

    def publish(report: Report, update: bool) -> None:
        data, metadata = formatter.format(report)  # type: ignore[no-untyped-call]
        publisher.publish(data=data, metadata=metadata, transient=transient, update=update)

    return publish


def _display_bar(stream: TextIO) -> Any:
    from threading import RLock

    from tqdm.std import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        """A bar without the thread that tqdm watches its bars with: no thread may run while cells are timed."""

        monitor_interval = 0
        # tqdm's own lock is one between processes, and making it fixes how this process may start others
        _lock = RLock()

    form = "{desc} {percentage:3.0f} %|{bar}| {elapsed}"
    return Bar(total=1.0, leave=False, file=stream, dynamic_ncols=True, bar_format=form, mininterval=0)
