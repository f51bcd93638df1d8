"""The forms that a program of JAX takes on its way to the machine, and which lines of the user their rows are of.

Only the public interface for compiling ahead of time is asked: `trace`, `lower`, `compile`, and the text of each.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from fwmagic.frameworks.compiled import Form
from fwmagic.frameworks.jax.compiler import is_compiled, is_traced
from fwmagic.frameworks.jax.tree import flatten, leaves_of

# More programs are not told of.
_MOST = 8
_LOCATION = re.compile(r"^(#loc\d*) = (loc\(.*\))$", re.MULTILINE)
_MARK = re.compile(r"fwmagic = \"\w+\"|fwmagic=\"\w+\"")
_AOT = ("trace", "lower", "eval_shape", "clear_cache")


def stages_of(program: str, jitted: Any, arguments: Any, keywords: Any, filename: str) -> list[Form]:
    """Return the forms of a jitted function, called with these arguments, and how long each took to make.

    Raises
    ------
    Whatever tracing or compiling it raises.
    """
    began = time.perf_counter()
    traced = jitted.trace(*arguments, **keywords)
    after_trace = time.perf_counter()
    lowered = traced.lower()
    after_lower = time.perf_counter()
    compiled = lowered.compile()
    end = time.perf_counter()
    return [
        Form(program, "jaxpr", after_trace - began, *_of_jaxpr(traced.jaxpr, filename)),
        Form(program, "StableHLO", after_lower - after_trace, *_of_mlir(lowered.as_text(debug_info=True), filename)),
        Form(program, "optimised HLO", end - after_lower, *_of_hlo(compiled.as_text() or "", filename)),
    ]


def stages_of_cell(function: Callable[..., Any], arguments: tuple[Any, ...], filename: str) -> list[Form]:
    """Return the forms of a whole cell, which is a function of arrays that returns any tree."""

    def cell(*arrays: Any) -> list[Any]:
        leaves, _ = flatten(function(*arrays))
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    return stages_of("the cell", jax.jit(cell), arguments, {}, filename)


@contextmanager
def telling(namespace: dict[str, Any], tell: Callable[[list[Form]], None], filename: str) -> Iterator[None]:
    """Tell the forms of each function that is jitted in the block, or that a name of the notebook is bound to.

    They are those of its first call, and are made right before it.
    """
    usual, told = jax.jit, dict[int, Any]()

    def first_call(jitted: Any, arguments: Any, keywords: Any) -> None:
        if id(jitted) in told or len(told) >= _MOST or any(map(is_traced, leaves_of((arguments, keywords)))):
            return
        told[id(jitted)] = jitted
        tell(stages_of(getattr(jitted, "__name__", "a function"), jitted, arguments, keywords, filename))

    def with_stages(jitted: Any) -> Any:
        @functools.wraps(jitted)
        def call(*arguments: Any, **keywords: Any) -> Any:
            first_call(jitted, arguments, keywords)
            return jitted(*arguments, **keywords)

        for name in _AOT:
            if hasattr(jitted, name):
                setattr(call, name, getattr(jitted, name))
        return call

    @functools.wraps(usual)
    def jit(*arguments: Any, **options: Any) -> Any:
        made = usual(*arguments, **options)
        if not arguments and "fun" not in options:  # a decorator, since 0.8.1
            return lambda function: with_stages(made(function))
        return with_stages(made)

    held = {name: value for name, value in namespace.items() if is_compiled(value) and callable(value)}
    stand_ins = {name: with_stages(value) for name, value in held.items() if hasattr(value, "trace")}
    namespace.update(stand_ins)
    setattr(jax, "jit", jit)  # noqa: B010 - a plain function, with which it may be replaced
    try:
        yield
    finally:
        setattr(jax, "jit", usual)  # noqa: B010
        for name, stand_in in stand_ins.items():
            if namespace.get(name) is stand_in:
                namespace[name] = held[name]


def _of_jaxpr(jaxpr: Any, filename: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    rows = jaxpr.pretty_print(source_info=True, use_color=False).splitlines()
    lines = tuple(_at_most_one(_line_in(row, filename)) for row in rows)
    return "\n".join(row.rpartition(" # ")[0].rstrip() or row for row in rows), lines


def _at_most_one(line: int | None) -> tuple[int, ...]:
    return () if line is None else (line,)


def _line_in(row: str, filename: str) -> int | None:
    """Return the line of a file that some text names as `file:line`, or as `"file":line`."""
    found = re.search(re.escape(filename) + r"\"?:(\d+)", row)
    return int(found[1]) if found else None


def _of_mlir(text: str, filename: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    places = dict(_LOCATION.findall(text))

    def line(location: str) -> int | None:
        direct = _line_in(location, filename)
        inner = (line(places.get(name, "")) for name in re.findall(r"#loc\d*", location))
        return direct if direct is not None else next((one for one in inner if one is not None), None)

    rows = [row for row in text.splitlines() if not row.startswith("#loc")]
    found = [re.search(r" loc\((?:[^()]|\([^()]*\))*\)", row) for row in rows]
    lines = tuple(_at_most_one(line(one[0]) if one else None) for one in found)
    bare = (re.sub(r" loc\((?:[^()]|\([^()]*\))*\)", "", row) for row in rows)
    return "\n".join(_MARK.sub("", row) for row in bare), lines


def _of_hlo(text: str, filename: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """Read HLO: newer versions of XLA name a frame of a table, older ones file and line."""
    text, tables = _tables(text)
    rows = text.splitlines()
    return "\n".join(re.sub(r", metadata=\{[^}]*\}", "", _MARK.sub("", row)) for row in rows), tuple(
        _at_most_one(_line_of_hlo(row, tables, filename)) for row in rows
    )


def _tables(text: str) -> tuple[str, dict[str, dict[str, str]]]:
    """Take the tables of files, places and frames out of the text of a module."""
    tables: dict[str, dict[str, str]] = {}
    rows: list[str] = []
    table: dict[str, str] | None = None
    for row in text.splitlines():
        if row in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            table = tables.setdefault(row, {})
        elif table is not None and re.match(r"\d+ ", row):
            number, _, entry = row.partition(" ")
            table[number] = entry
        elif row.strip() or table is None:
            table = None
            rows.append(row)
    return "\n".join(rows), tables


def _line_of_hlo(row: str, tables: dict[str, dict[str, str]], filename: str) -> int | None:
    named = re.search(r'source_file="([^"]*)".*?source_line=(\d+)', row)
    if named:
        return int(named[2]) if named[1] == filename else None
    frame = re.search(r"stack_frame_id=(\d+)", row)
    number, seen = frame[1] if frame else "", set[str]()
    while number and number not in seen:
        seen.add(number)
        entry = tables.get("StackFrames", {}).get(number, "")
        place = re.search(r"file_location_id=(\d+)", entry)
        where = tables.get("FileLocations", {}).get(place[1] if place else "", "")
        file = re.search(r"file_name_id=(\d+)", where)
        line = re.search(r"\bline=(\d+)", where)
        if file and line and tables.get("FileNames", {}).get(file[1], "").strip('"') == filename:
            return int(line[1])
        above = re.search(r"parent_frame_id=(\d+)", entry)
        number = above[1] if above else ""
    return None
