"""A compilation while it goes on: how long it has taken so far, at which stage it is, and what ends with Ctrl-C."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from fwmagic.format import seconds as in_seconds
from fwmagic.frameworks import Framework
from fwmagic.run.draft import Draft

#: A compilation is told of when it has taken so many seconds, and from then on so often.
TOLD, OFTEN = 10.0, 1.0


class CompileInterrupted(Exception):
    """Ctrl-C ended the compilation of a variant, which is noted, and the others go on."""


class Compiling:
    """Tells, in the note of a variant, what its compilation is at, once that takes long.

    A thread of its own does, since the compiler has the one that waits. Nobody else changes the draft meanwhile.

    Parameters
    ----------
    framework
        Whose compiler it is, which tells stages by what the waiting thread runs; None: that is in another process.
    look
        Nobody asked for it, and the variant goes on without it.

    Raises
    ------
    CompileInterrupted
        Ctrl-C came in the block. The second time in a run, and where it has nothing left to do, it stays a
        KeyboardInterrupt and ends the run.
    """

    def __init__(self, draft: Draft, name: str, framework: Framework | None = None, look: bool = False) -> None:
        self._draft = draft
        self._name = name
        self._framework = framework
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, args=(threading.get_ident(),), daemon=True)
        self._began = time.monotonic()

    def __enter__(self) -> Compiling:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._draft.report[self._name].note:
            self._draft.variant(self._name, note="")
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            took = f"interrupted after {in_seconds(self._seconds())}"
            if self._look:
                self._draft.variant(self._name, note=f"a look at it as one compiled program was {took}")
            else:
                self._draft.variant(self._name, status="interrupted", note=f"compile {took}")
            if self._draft.goes_on():
                raise CompileInterrupted(took) from error

    def _tell(self, thread: int) -> None:
        pause = TOLD
        while not self._over.wait(pause):
            pause = OFTEN
            stage = self._stage(thread)
            self._draft.variant(self._name, note=f"{f'{stage}, ' if stage else ''}{self._seconds():.0f} s")

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _stage(self, thread: int) -> str:
        """Return the stage that the innermost frame of a thread belongs to that belongs to any."""
        frame = sys._current_frames().get(thread)
        while self._framework is not None and frame is not None:
            stage = self._framework.stage_of(frame.f_code.co_filename)
            if stage:
                return stage
            frame = frame.f_back
        return ""
