"""Where a section's programs run: the notebook's namespace, what the section adds to it, and the state to put back."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import io
import operator
import os
import sys
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.caches import CachedCopy
from fwmagic.cells.kinds import MISSING
from fwmagic.cells.names import names_of_code
from fwmagic.cells.namespaces import OF_OTHERS
from fwmagic.cells.snapshot import Changes, Snapshot
from fwmagic.cells.written import led_away
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework


class Overlay:
    """Names that a namespace has only while the overlay is on.

    Taking it off puts every name back to the object that it had: names that the code under the overlay bound
    are removed, names that it rebound or deleted are put back. The namespace stays the same dict and is never
    cleared, so that functions whose globals it is work on, in other threads too. Objects may hold something else only
    while it is on, too.
    """

    def __init__(self, namespace: dict[str, Any], bindings: Mapping[str, Any]) -> None:
        self.bindings = dict(bindings)
        self._namespace = namespace
        self._under: dict[str, Any] | None = None
        self._states: list[tuple[Changes, Changes]] = []  # of objects: how they were, and how they are under it

    def on(self) -> None:
        """Put the bindings on the namespace; nothing happens if they are on already."""
        if self._under is None:
            self._under = dict(self._namespace)
            self._namespace.update(self.bindings)
            for _, left in self._states:
                left.restore()

    def off(self) -> None:
        """Take the bindings off; nothing happens if they are off already."""
        if self._under is None:
            return
        names, under = self._namespace, self._under
        for before, _ in reversed(self._states):
            before.restore()
        for name in names.keys() - under.keys():
            if not OF_OTHERS.fullmatch(name):
                del names[name]
        if not _begins_with(names, under):
            for name in [name for name, value in under.items() if names.get(name, MISSING) is not value]:
                if not OF_OTHERS.fullmatch(name):
                    names[name] = under[name]
        self._under = None

    def put_in(self, snapshot: Snapshot, new: Mapping[int, Any]) -> None:
        """Have other objects in place of some, by their `id`, wherever a snapshot of now has them; it must be on."""
        before = dict(self._namespace)
        snapshot.substitute(new)
        objects = snapshot.changes().besides_names()
        self._states.append((objects, objects.now()))
        self.keep([name for name, value in self._namespace.items() if before.get(name, MISSING) is not value])

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
    In between, output is written nowhere. A run that uses arrays up has copies of them, made anew for each one.
    """

    namespace: dict[str, Any]
    framework: Framework
    body: Body
    overlay: Overlay
    snapshot: Snapshot
    device: str | None = None
    shell: Any = None
    #: Seconds of the quickest run so far, where one is known: a first compiled run says nothing about later ones.
    seconds: float | None = None
    #: What stands for functions with a cache while the overlay is on.
    caches: tuple[CachedCopy, ...] = ()
    #: The arrays that a run may use up, as a call that donates does: it finds copies in their places.
    used_up: tuple[Any, ...] = ()
    #: The objects that a run has changed which was none of this scene's.
    changed: tuple[Any, ...] = ()
    _contexts: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    _gone: set[int] = field(default_factory=set)
    _seen: bool = False
    _clean: bool = False

    def __post_init__(self) -> None:
        # Nothing of the state; the random generators are put back all the same.
        self._changes = Changes(self.snapshot, [], True, self.snapshot.all_settings())

    def enter(self) -> None:
        """Get ready for a run; not part of any measured time."""
        self.overlay.on()
        if self._clean:
            self._clean = False
            self._restore_caches()
            self._copy_used_up()
        else:
            self.again()
        self._contexts.enter_context(self.framework.on_device(self.device))
        self._contexts.enter_context(quiet(self.shell))

    def exit(self) -> None:
        """Take the section's names off the namespace again."""
        try:
            self._contexts.close()
            # Now, and not only before the next run: another section may read what this one changed.
            self._changes.restore()
            if self.used_up:
                self._gone |= self.snapshot.exchange({})
            self._clean = True
        finally:
            self.overlay.off()

    def again(self) -> None:
        """Put what a run changes back before another one, with the names left as they are."""
        self._changes.restore()
        self._restore_caches()
        self._copy_used_up()

    def keep_used_up(self) -> None:
        """Let later runs have copies of those arrays only that runs so far have used up."""
        self.used_up = tuple(one for one in self.used_up if id(one) in self._gone)

    def look(self, again: bool = False) -> Changes:
        """Return what a run has changed, `again` since the last look, too; later runs begin with these put back."""
        before, changes = self._changes, self.snapshot.changes()
        # Once a run has drawn numbers, all later ones begin alike: another variant may draw where this one did not.
        changes.drew |= self._seen and before.drew
        if self._seen:
            changes.settings |= before.settings
        if again:
            changes.add(before)
        self._seen = True
        # What one program changes is put back before another one, too, which may change less.
        self._changes = changes.with_those_of(before)
        return changes

    def long_changed(self, most: int) -> list[tuple[str, Any]]:
        """Return the containers of more than `most` entries that runs so far have changed, with their paths."""
        return self.snapshot.containers([*self.changed, *self._changes.objects], most)

    def look_later(self) -> None:
        """Let every later run begin with all put back that differs then: nobody has looked after a run."""
        self._changes = self.snapshot.changes(unseen=True)

    def filled(self) -> str:
        """Return the name of a function whose cache cannot be put back and holds something else now, or nothing."""
        own = {id(copy.function) for copy in self.caches}
        caches = self.snapshot.caches.items()
        return next((path for path, one in caches if id(one.function) not in own and one.changed()), "")

    def finds(self, reads: frozenset[str]) -> list[Any] | None:
        """Return what these names, and those that the notebook's functions here read, are bound to now, by name.

        None if a run has anything to put back, or a device of its own.
        """
        if self.device is not None or self.caches or not self._changes.nothing():
            return None
        functions = [one for one in self.snapshot.objects() if isinstance(one, types.FunctionType)]
        of_notebook = [one.__code__ for one in functions if one.__globals__ is self.namespace]
        names = reads.union(*(names_of_code(code).reads for code in of_notebook))
        return [self.namespace.get(name, MISSING) for name in sorted(names)]

    def took(self, seconds: float) -> None:
        """Note how long one run took."""
        self.seconds = min(seconds, self.seconds or seconds)

    def _restore_caches(self) -> None:
        for copy in self.caches:
            if copy.changed():
                copy.restore()

    def _copy_used_up(self) -> None:
        if self.used_up:
            copies = {id(one): self.framework.spare(one) for one in self.used_up}
            self._gone |= self.snapshot.exchange(copies)

    def restore(self) -> None:
        """Put back everything that the section can reach, arrays included."""
        self.overlay.on()
        try:
            self.snapshot.restore()
        finally:
            self.overlay.off()


@contextlib.contextmanager
def quiet(shell: Any = None) -> Iterator[None]:
    """Write what is shown by what runs in the block nowhere: streams, displays; refuse `input()`.

    The work behind it is done: messages of the log reach their handlers, and warnings who shows them, and only what
    these would write to the screen is dropped. Inside of another such block this does nothing, and costs next to
    nothing.
    """
    if isinstance(sys.stdout, _QuietStream) and isinstance(sys.stderr, _QuietStream):
        yield
        return
    before = sys.stdout, sys.stderr, builtins.input
    with contextlib.ExitStack() as stack:
        stack.enter_context(_descriptors_dropped())
        stack.enter_context(_warnings_as_before())
        stack.enter_context(_dropping(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
        stack.callback(_set_streams, *before)
        _set_streams(_QuietStream(sys.stdout), _QuietStream(sys.stderr), _no_input)
        if shell is not None:
            stack.enter_context(_no_displays(shell))
        yield


@contextlib.contextmanager
def _warnings_as_before() -> Iterator[None]:
    """Leave the filters of warnings, and who shows them, as they are; what Python itself shows is worded, and dropped.

    `warnings.catch_warnings` would make Python forget which warnings it has shown already, and show them again.
    """
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    before, show = list(filters), warnings.showwarning
    python: Any = warnings
    shows_itself = python._showwarnmsg_impl
    python._showwarnmsg_impl = python._formatwarnmsg
    try:
        yield
    finally:
        python._showwarnmsg_impl = shows_itself
        filters[:] = before
        warnings.filters, warnings.showwarning = filters, show


@contextlib.contextmanager
def _descriptors_dropped() -> Iterator[None]:
    """Have the standard streams of the process itself, to which code in C writes, lead nowhere."""
    _flush_streams()
    with contextlib.ExitStack() as stack:
        for number in (1, 2):
            with contextlib.suppress(OSError):  # a process need not have them
                kept = os.dup(number)
                stack.callback(os.close, kept)
                led_away.append(kept)
                stack.callback(led_away.remove, kept)
                stack.callback(os.dup2, kept, number)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        stack.callback(_flush_streams)
        yield


def _flush_streams() -> None:
    """Write what Python's and the C library's own streams hold back."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, it is closed, its place is gone
            stream.flush()  # type: ignore[union-attr]
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def _dropping(*streams: Any) -> Iterator[None]:
    """Have streams forget what is written to them by those that hold one, as a handler of the log does."""
    before = []
    for stream in streams:
        own = getattr(stream, "__dict__", None)
        if isinstance(own, dict) and own.get("write") is not _drop:
            before.append((own, {name: own.get(name, MISSING) for name in _NOTHING}))
            own.update(_NOTHING)
    try:
        yield
    finally:
        for own, held in before:
            for name, value in held.items():
                if value is MISSING:
                    own.pop(name, None)
                else:
                    own[name] = value


def _drop(text: Any, /) -> int:
    return len(text)


def _do_nothing(*_: Any) -> None:
    pass


#: What a stream does that forgets.
_NOTHING = {"write": _drop, "writelines": _do_nothing, "flush": _do_nothing}


class _QuietBytes(io.BufferedIOBase):
    """A stream of bytes that forgets what is written to it."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        return memoryview(content).nbytes


class _QuietStream(io.TextIOBase):
    """A stream that forgets what is written to it; it has a buffer if the one that it stands for has one."""

    encoding = "utf-8"

    def __init__(self, instead_of: Any = None) -> None:
        if hasattr(instead_of, "buffer"):
            self.buffer = _QuietBytes()

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
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
