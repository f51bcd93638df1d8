"""Where a section's programs run: the notebook's namespace, what the section adds to it, and the state to put back."""

from __future__ import annotations

import builtins
import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.overlay import Overlay
from fwmagic.cells.state import Snapshot
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework


@dataclass
class Scene:
    """One section, ready to run any number of times with nothing left behind.

    `enter` puts the section's names on the namespace and its state back to the start; `exit` takes the names off.
    In between, output is written nowhere unless `shown`.
    """

    namespace: dict[str, Any]
    framework: Framework
    body: Body
    overlay: Overlay
    snapshot: Snapshot
    device: str | None = None
    shell: Any = None
    shown: bool = False
    #: Seconds of one plain run, where that is known: a first compiled run says nothing about later ones.
    seconds: float | None = None
    _contexts: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def enter(self) -> None:
        """Get ready for a run; not part of any measured time."""
        self.overlay.on()
        self.snapshot.restore_changed()
        self._contexts.enter_context(self.framework.on_device(self.device))
        if not self.shown:
            self._contexts.enter_context(quiet(self.shell))

    def exit(self) -> None:
        """Take the section's names off the namespace again."""
        self._contexts.close()
        self.overlay.off()

    def restore(self) -> None:
        """Put back everything that the section can reach, arrays included."""
        self.overlay.on()
        try:
            self.snapshot.restore()
        finally:
            self.overlay.off()


@contextlib.contextmanager
def quiet(shell: Any = None) -> Iterator[None]:
    """Write the output of what runs in the block nowhere (streams, displays, log messages); refuse `input()`."""
    before = sys.stdout, sys.stderr, builtins.input
    disabled = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.callback(logging.disable, disabled)
        stack.enter_context(_no_warnings())
        stack.callback(_set_streams, *before)
        logging.disable(logging.CRITICAL)
        _set_streams(_Nowhere(), _Nowhere(), _no_input)
        if shell is not None:
            stack.enter_context(_no_displays(shell))
        yield


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Ignore warnings: the one plain run has shown them, or none is to be left behind.

    `warnings.catch_warnings` would make Python forget which warnings it has shown already, and show them again.
    """
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    before = list(filters)
    filters.insert(0, ("ignore", None, Warning, None, 0))
    try:
        yield
    finally:
        filters[:] = before


class _Nowhere(io.TextIOBase):
    """A stream that forgets what is written to it."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)


def _set_streams(out: Any, err: Any, read: Any) -> None:
    sys.stdout, sys.stderr, builtins.input = out, err, read


def _no_input(*_: Any) -> str:
    raise FwMagicError(
        "This code reads from the keyboard, which a measured run cannot: read the input in a cell of its own."
    )


def _no_displays(shell: Any) -> AbstractContextManager[Any]:
    from IPython.utils.capture import capture_output

    context: AbstractContextManager[Any] = capture_output(stdout=False, stderr=False, display=True)
    return context
