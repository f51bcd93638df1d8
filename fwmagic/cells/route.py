"""The route that the user's code takes in a run: a traced value may send it another way than an array does."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from dis import get_instructions
from types import CodeType, FrameType
from typing import Any

from fwmagic.cells.steps import MOST_STEPS
from fwmagic.frameworks.untraced import is_file_of_user
from fwmagic.libraries import module_of
from fwmagic.report import Place

# Where an expression begins and ends, line and column: what two programs of one text have in common.
_Span = tuple[int | None, int | None, int | None, int | None]
_NOWHERE: _Span = (None, None, None, None)


@dataclass
class _Call:
    """The calls of one function of the user from one place: what ran, what it called, what was raised in it.

    The place is one of the user's code, whatever library is in between. So what one run calls and another does not,
    because a library remembers what came of it, is compared with nothing.
    """

    name: str = ""
    file: str = ""
    at: _Span = _NOWHERE
    ran: dict[CodeType, set[int]] = field(default_factory=dict)
    calls: dict[Any, _Call] = field(default_factory=dict)
    raised: list[tuple[type[BaseException], int]] = field(default_factory=list)

    def beside(self, other: _Call, file: str) -> list[tuple[_Call, _Call, int | None]]:
        """Return all calls that are in both, innermost first, each with the line of the file that it came from."""
        pending: list[tuple[_Call, _Call, int | None]] = [(self, other, None)]
        found = []
        while pending:
            here, there, line = pending.pop()
            found.append((here, there, line))
            both = [(call, there.calls[key]) for key, call in here.calls.items() if key in there.calls]
            pending += [(one, two, one.at[0] if here.file == file else line) for one, two in both]
        return found[::-1]

    def spans(self) -> tuple[set[_Span], set[_Span]]:
        """Return all places of its code, and those that ran."""
        spans = {code: list(code.co_positions()) for code in self.ran}
        ran = {spans[code][offset // 2] for code, offsets in self.ran.items() for offset in offsets}
        return {span for some in spans.values() for span in some}, ran

    def parts_from(self, other: _Call) -> int | None:
        """Return the first line that ran here or there only; None: there is none."""
        (all_here, here), (all_there, there) = self.spans(), other.spans()
        return min((span[0] for span in (here ^ there) & all_here & all_there if span[0] is not None), default=None)


class Route:
    """Which of the user's code ran, in this thread, in the blocks that were `followed`."""

    def __init__(self) -> None:
        self._block = _Call()
        self._is_whole = True

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow what runs in the block; another tracer that was there is there again afterwards."""
        stack: list[tuple[_Call, FrameType | None]] = [(self._block, None)]
        steps = 0

        def enter(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
            code = frame.f_code
            if not self._is_whole or not is_file_of_user(code.co_filename):
                return None
            caller, place = stack[-1]
            at = _NOWHERE if place is None else [*place.f_code.co_positions()][place.f_lasti // 2]
            # In some programs of a body, its statements and its last expression are two pieces of code.
            key = (at, code.co_filename, code.co_name, 0 if code.co_name == "<module>" else code.co_firstlineno)
            call = caller.calls.setdefault(key, _Call(code.co_name, code.co_filename, at))
            ran = call.ran.setdefault(code, set())
            stack.append((call, frame))
            frame.f_trace_opcodes, frame.f_trace_lines = True, False

            def step(frame: FrameType, event: str, value: Any) -> Callable[..., Any]:
                nonlocal steps
                steps += 1
                if event == "opcode":
                    ran.add(frame.f_lasti)
                elif event == "return":
                    stack.pop()
                elif event == "exception":
                    # A name that is not bound yet is a local one where the body is a function.
                    kind = NameError if value[0] is UnboundLocalError else value[0]
                    call.raised.append((kind, frame.f_lineno))
                if steps > MOST_STEPS:
                    self._is_whole = False
                    sys.settrace(None)
                return step

            return step

        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for such a frame only when tracing begins
        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of which the first call is followed."""
        pending = [self]

        @functools.wraps(call)
        def first_followed(*arguments: Any) -> Any:
            if not pending:
                return call(*arguments)
            with pending.pop().followed():
                return call(*arguments)

        return first_followed

    def may_part(self) -> bool:
        """Say whether any of the code that ran could have gone another way."""
        codes = {code for call, _, _ in self._block.beside(self._block, "") for code in call.ran}
        return any(
            code.co_exceptiontable or any(one.is_jump_target for one in get_instructions(code)) for code in codes
        )

    def parting(self, plain: Route, file: str) -> Place | None:
        """Return where this route, of traced values, parts from the plain one, by a line of the file; None: nowhere.

        What was too long to be followed to its end is compared with nothing.
        """
        both = self._block.beside(plain._block, file) if self._is_whole and plain._is_whole else []
        for call, other, line in both:
            known = {kind for kind, _ in other.raised}
            raised = [(kind, at) for kind, at in call.raised if kind not in known]
            parting = raised[0][1] if raised else call.parts_from(other)
            if parting is not None:
                return _place(call, parting if call.file == file else line, raised[0][0] if raised else None)
        return None

    def caught(self, packages: Collection[str], file: str) -> Place | None:
        """Return where an error of these packages was raised, which did not end the block, or None."""
        for call, _, line in self._block.beside(self._block, file):
            for kind, raised_at in call.raised:
                if module_of(kind).partition(".")[0] in packages:
                    return _place(call, raised_at if call.file == file else line, kind)
        return None


def _place(call: _Call, line: int | None, raised: type[BaseException] | None) -> Place:
    who = "it" if call.name.startswith("<") else f"`{call.name}`"
    if raised is None:
        return Place(line, f"{who} goes another way with a traced value than plainly")
    return Place(line, f"{who} catches {raised.__name__}, raised for a traced value, and goes another way than plainly")
