"""What a compiler is asked for, and what it tells of the programs that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fwmagic.frameworks.least import Least
from fwmagic.frameworks.untraced import Untraced
from fwmagic.report import Place

#: A trace of more operations takes minutes to compile.
MOST_TRACED = 1000


@dataclass(eq=False)  # two that have logged nothing yet are two
class CompileLog:
    """What a framework compiled while it was watched.

    `stages` are seconds by name (trace, lower, backend); `compiled` counts the operations, or 1 where that is
    not known, by the name of the function that they come from; `recompiled` are the names of those that were compiled
    before; `cache` is cold, disk-warm or unknown. Where this
    version of the framework does not tell what it compiles, `told` is False and a name that is not there means nothing.
    """

    stages: dict[str, float] = field(default_factory=dict)
    compiled: dict[str, int] = field(default_factory=dict)
    told: bool = True
    graphs: int | None = None
    breaks: list[Place] = field(default_factory=list)
    recompiles: list[Place] = field(default_factory=list)
    recompiled: set[str] = field(default_factory=set)
    cache: str = "unknown"


@dataclass(frozen=True)
class CompileOptions:
    """What the user asked of the compiler; `mode` and `fullgraph` mean something to torch only."""

    mode: str = "default"
    fullgraph: bool = False


@dataclass(frozen=True)
class Static:
    """The bytes that a compiler worked out for one program, before any run of it."""

    argument: int
    output: int
    temp: int
    alias: int

    @property
    def total(self) -> int:
        """Arguments, outputs and temporaries together; what an output shares with an argument counts once."""
        return self.argument + self.output + self.temp - self.alias


@dataclass(frozen=True)
class Traced:
    """A function compiled ahead of its first run: `call(*arguments)` gives its arrays, `rebuild` what it returned.

    `used` are the places of the arguments that it computes with, the only ones that it is called with; `lifted`
    counts arrays that it had captured and that are arguments now; `withheld` says why a verdict on it would not
    be honest, or is empty; `static` is the compiler's own account of its memory, if it gives one. `unread` are lines of
    what it computes although nothing reads it; `repeated` is the share of the work that a compiler does once,
    since it is the same again, and its line; `least` is what a call has to do at least; `untraced` is what was done
    outside of the framework meanwhile, and `left` are the numbers, texts and the like that it put into the state, by
    path.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    rebuild: Callable[[Any], Any]
    used: tuple[int, ...]
    lifted: int = 0
    withheld: str = ""
    static: Static | None = None
    unread: tuple[int, ...] = ()
    repeated: tuple[float, int | None] = (0.0, None)
    least: Least = field(default_factory=Least)
    untraced: Untraced = field(default_factory=Untraced)
    left: Mapping[str, Any] = field(default_factory=dict)


# Looking


@dataclass(frozen=True)
class Staged:
    """What a trace made on one line of a file, where Python does not run while tracing: a name, and dtype and shape."""

    file: str
    line: int
    name: str
    label: str


@dataclass(frozen=True)
class Form:
    """One form of a program on its way to the machine, such as its jaxpr.

    Attributes
    ----------
    program
        Whose form it is: the name of a function, a graph, or the cell.
    name
        What it is called.
    seconds
        How long it took to make it from the one before; None: that is not told.
    text
        The form itself.
    lines
        For each row of the text, the lines of the cell that it comes from: a kernel may come from several.
    """

    program: str
    name: str
    seconds: float | None
    text: str
    lines: tuple[tuple[int, ...], ...]

    def rows_of(self, line: int) -> list[str]:
        """Return the rows of the text that come from a line of the cell."""
        return [row.strip() for row, of in zip(self.text.splitlines(), self.lines, strict=False) if line in of]
