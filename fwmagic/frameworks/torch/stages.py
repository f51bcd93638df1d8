"""The forms that a graph of torch takes on its way to the machine, and which lines of the user each row is of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fwmagic.frameworks.compiled import Form
from fwmagic.frameworks.torch import compiler

Lines = tuple[int, ...]

# What `print_readable` writes above the nodes of one line, and Inductor above the calls of a kernel.
_FILE = re.compile(r"# File: (.+?):(\d+) in ")
_NODES = re.compile(r"Source [Nn]odes: \[([^\]]*)\]")
_CALLED = re.compile(r"\[Provenance debug handles\] (\S+)")
# Where Inductor defines a kernel, as a text, and where that text ends.
_DEFINED = re.compile(r"(\w+) = async_compile\.")
_DEFINED_END = "'''"


@contextmanager
def telling(namespace: dict[str, Any], tell: Callable[[list[Form]], None], filename: str) -> Iterator[None]:
    """Tell the forms of each graph that is made in the block, where `compiler.staging` makes it."""
    count = 0

    def made(graph: Any, inputs: Any) -> None:
        nonlocal count
        count += 1
        lines = {node.name: _lines_in([node.stack_trace or ""], filename) for node in graph.graph.nodes}
        found = []
        for name, seconds, text, stacks in compiler.forms(graph, inputs):
            kernels = {kernel: _lines_in(of, filename) for kernel, of in stacks.items()}
            found.append(Form(f"graph {count}", name, seconds, *_read(text, lines, kernels, filename)))
        tell(found)

    with compiler.graphs_told(made):
        yield


def _lines_in(stacks: Iterable[str], filename: str) -> Lines:
    """Return the deepest line of a file in each of some stacks."""
    found = (re.findall(rf'File "{re.escape(filename)}", line (\d+)', stack) for stack in stacks)
    return tuple(sorted({int(places[-1]) for places in found if places}))


def _read(
    text: str, nodes: dict[str, Lines], kernels: dict[str, Lines], filename: str
) -> tuple[str, tuple[Lines, ...]]:
    """Return a text without the comments that name lines, and the lines of its rows: they hold for what is below."""
    rows: list[str] = []
    found: list[Lines] = []
    lines: Lines = ()
    defining = False
    for row in text.splitlines():
        place, called = _FILE.search(row), _CALLED.search(row)
        if place:
            lines = (int(place[2]),) if place[1] == filename else ()
            continue
        if called:
            lines = kernels.get(called[1], ())
            continue
        named, defined = _NODES.search(row), _DEFINED.match(row)
        if named:
            lines = _all(nodes.get(name, ()) for name in named[1].split(", "))
        elif defined:
            lines = _all(of for kernel, of in kernels.items() if kernel.rpartition(":")[0] == defined[1])
            defining = True
        elif not defining and (not row.strip() or row.lstrip().startswith(("return", "def ", "class ", "del "))):
            lines = ()
        rows.append(row.rstrip())
        found.append(lines)
        if defining and row.startswith(_DEFINED_END):
            lines, defining = (), False
    return "\n".join(rows), tuple(found)


def _all(some: Iterable[Lines]) -> Lines:
    return tuple(sorted({line for lines in some for line in lines}))
