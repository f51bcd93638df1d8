"""A section of a notebook made ready to be compiled, without a shell; for the tests of the ways to compile."""

from __future__ import annotations

import itertools
import linecache
import textwrap
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fwmagic import frameworks
from fwmagic.cells.analyse import Body, analyse
from fwmagic.cells.outcome import Outcome, first_run
from fwmagic.cells.program import Program, program_as_written
from fwmagic.cells.scene import Overlay, Scene
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.ways import Programs, Ready
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import Framework
from fwmagic.frameworks.compiled import CompileOptions

_files = itertools.count()


def text_of(source: str) -> str:
    return textwrap.dedent(source).strip("\n")


@dataclass
class Notebook:
    """A namespace in which sections of one framework are run; cells begin on line 2, as under a magic."""

    framework: Framework
    namespace: dict[str, Any]
    programs: Programs

    def run(self, source: str) -> None:
        """Run a cell plainly."""
        text, name = text_of(source), f"setup-{next(_files)}"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # as IPython does
        exec(compile(text, name, "exec", dont_inherit=True), self.namespace)

    def body(self, source: str) -> Body:
        name = f"cell-{next(_files)}"
        return analyse(text_of(source), name, 2, frameworks.loaded(), namespace=self.namespace)

    def scene(self, source: str) -> Scene:
        """Return a section with its definitions made, as `%%compare` stages it."""
        body = self.body(source)
        adapters = {f.name: f for f in [*frameworks.loaded(), self.framework]}
        overlay = Overlay(self.namespace, {})
        overlay.on()
        try:
            exec(body.definition_code(), self.namespace)
            overlay.keep(body.defined)
            snapshot = Snapshot(self.namespace, body.names, list(adapters.values()), unread=body.unread)
        finally:
            overlay.off()
        return Scene(self.namespace, self.framework, body, overlay, snapshot)

    def ready(self, source: str, options: CompileOptions | None = None) -> Ready:
        """Compile a section that can be compiled."""
        return self.programs.compile(self.scene(source), options or CompileOptions(), nullcontext)

    def refused(self, source: str) -> CannotCompile:
        """Compile a section that cannot be compiled; return why."""
        before = dict(self.namespace)
        with pytest.raises(CannotCompile) as error:
            self.ready(source)
        assert unchanged(self.namespace, before)
        return error.value

    def plainly(self, source: str) -> Outcome:
        """Run a section as it is, as the reference run of a comparison."""
        program = self.plain(source)
        try:
            return first_run(program, nullcontext)[1]
        finally:
            program.scene.restore()

    def plain(self, source: str) -> Program:
        scene = self.scene(source)
        scene.overlay.on()
        try:
            return program_as_written(scene)
        finally:
            scene.overlay.off()


def notebook(framework: str, setup: str = "") -> Notebook:
    """Return a notebook in which a framework's names are bound and `setup` has run."""
    adapter = frameworks.get(framework)
    book = Notebook(adapter, {"__name__": "__main__", **adapter.names()}, Programs())
    book.run(setup)
    return book


def call(program: Program) -> dict[str, Any]:
    """Call a program as the engine does, and return its results."""
    program.enter()
    try:
        outputs = program.call(*program.args)
        if program.wait is not None:
            program.wait(outputs)
        return program.collect(outputs)
    finally:
        program.exit()


def unchanged(namespace: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Say whether a namespace holds the very objects of before, but for names that compilers need."""
    names = {name for name in namespace if not name.startswith("__")}
    return names == {n for n in before if not n.startswith("__")} and all(namespace[n] is before[n] for n in names)


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Say whether results of any framework have the same names and close values."""
    return found.keys() == expected.keys() and all(_close(found[name], expected[name]) for name in expected)


def _close(one: Any, other: Any) -> bool:
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(other, dict):
        return same(one, other)
    numbers = [np.asarray(v.detach() if hasattr(v, "detach") else v, complex) for v in (one, other)]
    return numbers[0].shape == numbers[1].shape and np.allclose(*numbers, rtol=1e-4, atol=1e-5)
