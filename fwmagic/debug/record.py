"""The record of a run, line by line: what each line's names were, how often it ran, and what it printed."""

from __future__ import annotations

import ast
import bdb
import sys
import threading
import time
import warnings
from collections import ChainMap, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, Literal

from fwmagic.cells.follow import Follower
from fwmagic.cells.names import names_of_code
from fwmagic.debug.glance import Glance, glance
from fwmagic.debug.source import Source, Statement, source_of_file
from fwmagic.format import one_line
from fwmagic.frameworks import Framework
from fwmagic.frameworks.arrays import is_numpy
from fwmagic.frameworks.compiled import Staged
from fwmagic.frameworks.traps import Inspector

#: A record ends after so many lines, and its numbers after so many seconds spent on reading them.
MOST_VISITS, MOST_READING = 100_000, 2.0
# Of what a line printed, so many times are kept besides the last one; of one time, so many characters.
_MOST_PRINTED, _MOST_TEXT = 2, 200
_MOST_SIGNATURES = 100
# Of all times that lines ran, so many of the first and of the last ones are kept.
_MOST_STEPS = 100
_RETURNED = "→"
# Frames that run as a part of the line that they are in; before Python 3.12 a comprehension has one of its own.
_WITHIN = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

#: What a line is: a statement, the calls of a function at its `def`, or those of a lambda in a statement.
Part = Literal["statement", "def", "lambda"]


@dataclass
class Line:
    """What is recorded of one statement: `runs` counts all of its visits, `staged` those while something was traced.

    `first` and `last` are its names, at its first and its latest visit that was looked at, which was number `looked`.
    """

    file: str
    statement: Statement
    part: Part
    function: str = ""
    runs: int = 0
    staged: int = 0
    looked: int = 0
    first: dict[str, Glance] = field(default_factory=dict)
    last: dict[str, Glance] = field(default_factory=dict)
    prints: int = 0
    printed: list[str] = field(default_factory=list)

    def prints_text(self, text: str) -> None:
        """Note what one visit printed."""
        self.prints += 1
        if self.prints > _MOST_PRINTED:
            del self.printed[_MOST_PRINTED - 1 :]
        self.printed.append(one_line(text, _MOST_TEXT))


@dataclass(frozen=True)
class Look:
    """A look at a line when it has run: which time of it that was, its names then, and what it printed."""

    line: Line
    time: int
    names: dict[str, Glance]
    printed: str = ""


@dataclass
class _Visit:
    """A line that runs: what it has printed so far."""

    line: Line
    staged: bool
    text: str = ""


class Record(Follower[_Visit]):
    """Records what the user's lines do, in one run; `traced`: of names, only those while something is traced count.

    Attributes
    ----------
    lines
        By file, first line and part; in the order in which they first ran.
    own
        The file of the cell.
    signatures
        What the arguments of functions were, each time that they were traced: by file and line of `def`.
    captured
        What the global numbers and arrays were that a function only read, when it was traced; likewise.
    whole
        Whether all lines were followed: a long run is cut off.
    reads
        Whether the numbers of all arrays were read.
    lost
        Whether a debugger has taken the place of this follower, so that later lines are missing.
    looks
        How often any line was looked at: `first_looks` and `last_looks` are those that are kept.
    """

    def __init__(self, framework: Framework, module: str, own: tuple[str, Source], traced: bool) -> None:
        super().__init__(module, framework.left_alone if traced else lambda function: function)
        self.lines: dict[tuple[str, int, Part], Line] = {}
        self.signatures: dict[tuple[str, int], list[dict[str, str]]] = {}
        self.captured: dict[tuple[str, int], dict[str, Any]] = {}
        self.warned: list[tuple[int, str]] = []
        self.whole = True
        self.reads = True
        self.lost = False
        self.looks = 0
        self.first_looks: list[Look] = []
        self.last_looks: deque[Look] = deque(maxlen=_MOST_STEPS)
        self.inspector = Inspector()
        self._framework = framework
        self.own = own[0]
        self._sources = {own[0]: own[1]}
        self._traced = traced
        self._visits = 0
        self._reading = 0.0
        self._thread = threading.get_ident()

    def source(self, file: str) -> Source:
        """Return the source of a file in which the user's code is."""
        if file not in self._sources:
            self._sources[file] = source_of_file(file)
        return self._sources[file]

    @contextmanager
    def recording(self, beside: bool = True) -> Iterator[None]:
        """Record what runs in the block, what it prints, which is also printed, and what it warns of.

        Not `beside` a debugger that is at work, whose place a follower would take.
        """
        if not beside and _debugger_is_at_work():
            self.lost = True
            yield
            return
        out, warn = sys.stdout, warnings.warn
        copied = _Copied(out, self._wrote)
        if self._traced:
            setattr(copied, "write", self._framework.left_alone(copied.write))  # noqa: B010
        sys.stdout = copied

        def told(message: Any, category: Any = None, stacklevel: int = 1, *rest: Any, **more: Any) -> None:
            self._warns(str(message))
            warn(message, category, stacklevel + 1, *rest, **more)

        # Not where warnings are shown: one that was shown before, or is ignored, tells as much.
        if not self._traced:
            setattr(warnings, "warn", told)  # noqa: B010 - a plain function, with which it may be replaced
        try:
            with self.following():
                try:
                    yield
                finally:
                    self.lost = sys.gettrace() is not self.tracer
        finally:
            if sys.stdout is copied:
                sys.stdout = out
            for module in [one for one in sys.modules.values() if isinstance(one, ModuleType)]:
                # Also where the cell, or what it has imported, took it from there.
                for name in [name for name, value in vars(module).items() if value is told]:
                    setattr(module, name, warn)

    def note_staged(self, made: list[Staged]) -> None:
        """Note what one trace holds in which Python does not run."""
        seen: dict[int, Look] = {}
        for one in made:
            statement = self.source(one.file).at(one.line)
            if statement is None:
                continue
            line = self._line_of(one.file, statement, "statement")
            if id(line) not in seen:
                line.runs += 1
                line.staged += 1
            names = statement.names[:1]
            found = {names[0] if names else one.name: Glance(one.label, "", "", True)}
            if not line.first:
                line.first = found
            line.last = found
            seen[id(line)] = Look(line, line.staged, found)
        for look in seen.values():
            self._keep(look)

    # Called by Python

    def goes_on(self) -> bool:
        """Say whether the record is not cut off."""
        self.whole = self._visits < MOST_VISITS
        return self.whole

    def enter_own(self, frame: FrameType) -> None:
        """Note the arguments of a function of the user."""
        code = frame.f_code
        head = self.source(code.co_filename).head(code)
        if head is None:
            return
        staged = self._framework.is_staging()
        line = self._line_of(code.co_filename, head, "def", code.co_qualname)
        line.runs += 1
        line.staged += staged
        given = {name: frame.f_locals[name] for name in head.names if name in frame.f_locals}
        if staged and line.staged <= _MOST_SIGNATURES:
            found = {name: self._signature(value) for name, value in given.items()}
            self.signatures.setdefault((code.co_filename, head.first), []).append(found)
        if staged:
            names = names_of_code(code)
            held = {name: frame.f_globals[name] for name in names.reads - names.writes if name in frame.f_globals}
            self.captured[code.co_filename, head.first] = {
                n: value for n, value in held.items() if self._is_data(value)
            }
        self._look(line, staged, given)

    def _signature(self, value: Any) -> str:
        return f"{glance(value, self._framework, False)}{' weak' if self._framework.is_weak(value) else ''}"

    def _is_data(self, value: Any) -> bool:
        return type(value) in (bool, int, float) or self._framework.is_array(value) or is_numpy(value)

    def continues(self, frame: FrameType) -> bool:
        """Say whether the frame is in the middle of a statement that takes several lines."""
        visit = self.open.get(frame)
        if visit is None:
            return False
        statement = visit.line.statement
        return statement.first < statement.last and statement.first <= frame.f_lineno <= statement.last

    def begin(self, frame: FrameType) -> _Visit:
        """Begin a visit."""
        code = frame.f_code
        number = frame.f_lineno
        statement = self.source(code.co_filename).at(number) or Statement(number, number, ast.Pass())
        self._visits += 1
        part: Part = "lambda" if code.co_name == "<lambda>" else "statement"
        line = self._line_of(code.co_filename, statement, part, code.co_qualname)
        staged = self._framework.is_staging()
        if code.co_name not in _WITHIN and not isinstance(statement.node, _DEFINITIONS):
            line.runs += 1
            line.staged += staged
            own = statement.first if code.co_filename == self.own else None
            self.inspector.look(statement.node, own, ChainMap(frame.f_locals, frame.f_globals))
        return _Visit(line, staged)

    def end(self, frame: FrameType, visit: _Visit, value: Any, last: bool) -> None:
        """End a visit: look at what its line bound, changed or returned."""
        line = visit.line
        if visit.text:
            line.prints_text(visit.text)
        if frame.f_code.co_name in _WITHIN or isinstance(line.statement.node, _DEFINITIONS):
            return
        if _has_ended(line.statement.node, frame.f_lineno, last):
            line.runs -= 1
            line.staged -= visit.staged
            return
        names = () if line.part == "lambda" else line.statement.names
        found = {name: held[0] for name in names if (held := _held(name, frame))}
        if value is not None:
            found[_RETURNED] = value
        self._look(line, visit.staged, found, one_line(visit.text, _MOST_TEXT))

    # What is noted

    def _look(self, line: Line, staged: bool, values: dict[str, Any], printed: str = "") -> None:
        if self._traced and not staged:
            return
        start = time.perf_counter()
        reads = not self._traced and self._reading < MOST_READING
        found = {name: glance(value, self._framework, reads) for name, value in values.items()}
        self._reading += time.perf_counter() - start
        self.reads &= reads or self._traced
        line.first = line.first or found
        if reads or self._traced:
            line.last = found
            line.looked = line.runs
        self._keep(Look(line, line.staged if self._traced else line.runs, found, printed))

    def _keep(self, look: Look) -> None:
        self.looks += 1
        kept: list[Look] | deque[Look] = self.first_looks if self.looks <= _MOST_STEPS else self.last_looks
        kept.append(look)

    def _line_of(self, file: str, statement: Statement, part: Part, function: str = "") -> Line:
        key = (file, statement.first, part)
        if key not in self.lines:
            self.lines[key] = Line(file, statement, part, function)
        return self.lines[key]

    def _visit(self) -> _Visit | None:
        """Return the innermost visit that is going on."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame not in self.open:
            frame = frame.f_back
        return None if frame is None else self.open[frame]

    def _wrote(self, text: str) -> None:
        if threading.get_ident() != self._thread:
            return
        visit = self._visit()
        if visit is not None and len(visit.text) < _MOST_TEXT:
            visit.text += text

    def _warns(self, text: str) -> None:
        visit = self._visit() if threading.get_ident() == self._thread else None
        if visit is not None and visit.line.file == self.own:
            self.warned.append((visit.line.statement.first, text))


def _debugger_is_at_work() -> bool:
    """Say whether a debugger follows this thread: one of Python's own, or the one of JupyterLab."""
    debugpy = sys.modules.get("debugpy")  # from Python 3.12 on, it traces nothing
    of_jupyter = debugpy is not None and debugpy.is_client_connected()
    return of_jupyter or isinstance(getattr(sys.gettrace(), "__self__", None), bdb.Bdb)


def _has_ended(node: ast.AST, line: int, last: bool) -> bool:
    """Say whether a statement is a loop that had no further turn: the next line is none of its body."""
    return isinstance(node, ast.For) and (last or not node.lineno <= line <= (node.body[-1].end_lineno or line))


def _held(name: str, frame: FrameType) -> list[Any]:
    """Return what a name such as `x` or `self.w` is bound to, in a list; an empty one where only code could tell."""
    first, *inside = name.split(".")
    if first in frame.f_locals:
        value = frame.f_locals[first]
    elif first in frame.f_globals:
        value = frame.f_globals[first]
    else:
        return []
    for part in inside:
        held = getattr(value, "__dict__", {})
        if part not in held:
            return []
        value = held[part]
    return [value]


class _Copied:
    """A stream that also tells what is written to it."""

    def __init__(self, stream: Any, tell: Callable[[str], None]) -> None:
        self._stream = stream
        self._tell = tell

    def write(self, text: str) -> Any:
        self._tell(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
