"""Where a section's programs run: the notebook's namespace, what the section adds to it, and the state to put back."""

from __future__ import annotations

import builtins
import contextlib
import io
import logging
import operator
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.caches import CachedCopy
from fwmagic.cells.kinds import MISSING
from fwmagic.cells.snapshot import Changes, Snapshot
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework

# What IPython itself binds: the history of inputs and outputs. `_` is not among them: a cell that binds it
# (`for _ in ...`) would stop IPython from ever updating it again, so it is put back like any other name.
# Compilers leave names of theirs, such as `__compiled_fn_1`, in the globals of a function that the user compiled,
# and call them later.
_OF_OTHERS = re.compile(r"In|Out|_i{1,3}|_\d+|_i\d+|_ih|_oh|_dh|__\w*(?<!__)")


class Overlay:
    """Names that a namespace has only while the overlay is on.

    Taking it off puts every name back to the object that it had: names that the code under the overlay bound
    are removed, names that it rebound or deleted are put back. The namespace stays the same dict and is never
    cleared, so that functions whose globals it is work on, in other threads too.
    """

    def __init__(self, namespace: dict[str, Any], bindings: Mapping[str, Any]) -> None:
        self.bindings = dict(bindings)
        self._namespace = namespace
        self._under: dict[str, Any] | None = None

    def on(self) -> None:
        """Put the bindings on the namespace; nothing happens if they are on already."""
        if self._under is None:
            self._under = dict(self._namespace)
            self._namespace.update(self.bindings)

    def off(self) -> None:
        """Take the bindings off; nothing happens if they are off already."""
        if self._under is None:
            return
        names, under = self._namespace, self._under
        for name in names.keys() - under.keys():
            if not _OF_OTHERS.fullmatch(name):
                del names[name]
        if not _begins_with(names, under):
            for name in [name for name, value in under.items() if names.get(name, MISSING) is not value]:
                if not _OF_OTHERS.fullmatch(name):
                    names[name] = under[name]
        self._under = None

    def keep(self, names: Iterable[str]) -> None:
        """Make what these names are bound to now part of the bindings; an unbound name is no longer one of them."""
        for name in names:
            if name in self._namespace:
                self.bindings[name] = self._namespace[name]
            else:
                self.bindings.pop(name, None)


def _begins_with(names: Mapping[str, Any], under: Mapping[str, Any]) -> bool:
    """Say, quickly, that `names` has everything that `under` has, in its order: between blocks, threads fall asleep."""
    in_order = len(names) >= len(under) and all(map(operator.is_, under, names))
    return in_order and all(map(operator.is_, under.values(), names.values()))


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
    #: Seconds of the quickest run so far, where one is known: a first compiled run says nothing about later ones.
    seconds: float | None = None
    #: What the notebook's functions with a cache are while the overlay is on.
    caches: tuple[CachedCopy, ...] = ()
    _contexts: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    _seen: bool = False
    _clean: bool = False

    def __post_init__(self) -> None:
        self._changes = Changes(self.snapshot, [])  # of the state; the random generators are put back all the same

    def enter(self) -> None:
        """Get ready for a run; not part of any measured time."""
        self.overlay.on()
        if not self._clean:
            self._changes.restore()
        self._clean = False
        for copy in self.caches:
            if copy.changed():
                copy.restore()
        self._contexts.enter_context(self.framework.on_device(self.device))
        if not self.shown:
            self._contexts.enter_context(quiet(self.shell))

    def exit(self) -> None:
        """Take the section's names off the namespace again."""
        self._contexts.close()
        self._changes.restore()  # now, and not only before the next run: another section may read what this one changed
        self._clean = True
        self.overlay.off()

    def look(self, again: bool = False) -> Changes:
        """Return what a run has changed, `again` since the last look, too; later runs begin with these put back."""
        before, changes = self._changes, self.snapshot.changes()
        # Once a run has drawn numbers, all later ones begin alike: another variant may draw where this one did not.
        changes.drew |= self._seen and before.drew
        changes.settings_too |= self._seen and before.settings_too
        if again:
            changes.add(before)
        self._seen = True
        # What one program changes is put back before another one, too, which may change less.
        self._changes = changes.with_those_of(before)
        return changes

    def look_later(self) -> None:
        """Let every later run begin with all put back that differs then: nobody has looked after a run."""
        self._changes = self.snapshot.changes(unseen=True)

    def filled(self) -> str:
        """Return the name of a function whose cache cannot be put back and holds something else now, or nothing."""
        own = {id(copy.function) for copy in self.caches}
        caches = self.snapshot.caches.items()
        return next((path for path, one in caches if id(one.function) not in own and one.changed()), "")

    def took(self, seconds: float) -> None:
        """Note how long one run took."""
        self.seconds = min(seconds, self.seconds or seconds)

    def restore(self) -> None:
        """Put back everything that the section can reach, arrays included."""
        self.overlay.on()
        try:
            self.snapshot.restore()
        finally:
            self.overlay.off()


@contextlib.contextmanager
def quiet(shell: Any = None) -> Iterator[None]:
    """Write the output of what runs in the block nowhere (streams, displays, log messages); refuse `input()`.

    Inside of another such block this does nothing, and costs next to nothing.
    """
    if isinstance(sys.stdout, _QuietStream) and isinstance(sys.stderr, _QuietStream):
        yield
        return
    before = sys.stdout, sys.stderr, builtins.input
    disabled = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.callback(logging.disable, disabled)
        stack.enter_context(_no_warnings())
        stack.callback(_set_streams, *before)
        logging.disable(logging.CRITICAL)
        _set_streams(_QuietStream(), _QuietStream(), _no_input)
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


class _QuietStream(io.TextIOBase):
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
