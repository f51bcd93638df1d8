"""The oracle: the same text run plainly in one real shell and under a magic in another, everything compared.

A `Run` holds what a person at the notebook could tell: names, values and identities, process-wide state, outputs,
warnings, the error and its line. `witness` sees what was compiled without asking fwmagic.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import io
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus import Cell
from digest import Digest, differences, kept, plain, world
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from fwmagic.cells.settings import Settings
from fwmagic.frameworks import loaded

#: The mimetype prefix of fwmagic's own display, which the plain run cannot have.
OWN = "application/vnd.fwmagic"
#: What `%%torch` and `%%jax` bind for the user, and the report asked for with `-o`.
ALIASES = {"torch", "jax", "jnp", "np"}
REPORT = "fwmagic_report"
#: Some of these draw random numbers or add warning filters while they are imported: that must not fall into a cell.
IMPORTED_FIRST = ("numpy", "torch", "torch._inductor.compile_fx", "jax", "flax.linen", "flax.nnx", "optax")


@dataclass
class Run:
    """What one cell did, as seen from outside; `lines` and `kept` describe the namespace after it."""

    stdout: str = ""
    stderr: str = ""
    displays: list[str] = field(default_factory=list)
    warned: list[tuple[str, str, int]] = field(default_factory=list)
    error: tuple[str, str, int | None] | None = None
    shown_errors: int = 0
    names: set[str] = field(default_factory=set)
    lines: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    world: dict[str, str] = field(default_factory=dict)
    outs: dict[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, object]:
        """Return what the person saw."""
        return {
            "stdout": plain(self.stdout),
            "stderr": plain(self.stderr),
            "displays": [plain(item) for item in self.displays],
            "warnings": self.warned,
            "error": self.error,
            "errors shown": self.shown_errors,
        }


class Notebook:
    """A real IPython shell with a namespace of its own, standing in for `__main__` while it is open."""

    def __init__(self) -> None:
        self._main = sys.modules["__main__"]
        if "torch._dynamo" in sys.modules:  # Dynamo remembers the `__main__` that it met first: there is one a kernel
            sys.modules["torch._dynamo.symbolic_convert"]._import_module.cache_clear()
        InteractiveShell.clear_instance()
        config = Config()
        config.HistoryManager.enabled = False
        self.shell = InteractiveShell.instance(config=config)
        self._shown: list[Any] = []
        self.shell._showtraceback = lambda *args: self._shown.append(args)
        self.initial = set(self.shell.user_ns)
        self.folder = Path.cwd()

    def close(self) -> None:
        """Give `__main__` back and let go of everything the cells made."""
        if "torch._dynamo" in sys.modules:  # it wants to remove its own names from the namespace, while there is one
            sys.modules["torch"].compiler.reset()
        atexit.unregister(self.shell.atexit_operations)
        self.shell.restore_sys_module_state()
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = self._main

    def namespace(self) -> dict[str, Any]:
        """Return what the user would call their names."""
        names = self.shell.user_ns
        return {n: v for n, v in names.items() if not (n in self.initial or n.startswith("_") or n == REPORT)}

    def outs(self) -> dict[str, Any]:
        """Return Out and the names of the last results."""
        names = self.shell.user_ns
        return {"Out": dict(names["_oh"]), **{n: names[n] for n in ("_", "__", "___") if n in names}}

    def digest(self, volatile: tuple[str, ...] = ()) -> Digest:
        """Return the description of the names, of Out, and of the process, in one graph."""
        everything = {"names": self.namespace(), "outs": self.outs(), "world": world(self.folder)}
        flat = {f"names {n}": v for n, v in everything["names"].items()}
        return Digest(
            {**flat, "outs": everything["outs"], "world": everything["world"]}, tuple(f"names {n}" for n in volatile)
        )

    def run(self, text: str, volatile: tuple[str, ...] = (), extra_lines: int = 0) -> Run:
        """Run a notebook cell and return what it did; `extra_lines` are lines of magics above the cell's own."""
        run = Run()
        before = self.digest(volatile)
        addresses = before.ids()
        self._shown.clear()
        out, err = io.StringIO(), io.StringIO()
        publisher = CapturingDisplayPublisher()
        usual, self.shell.display_pub = self.shell.display_pub, publisher
        count = self.shell.execution_count
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # As Python's own filters have it: what is deprecated is shown where the notebook itself uses it.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("always", category=DeprecationWarning, module="__main__")
            filters = list(warnings.filters)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                result = self.shell.run_cell(text, store_history=True)
                streams = (sys.stdout is out, sys.stderr is err)
            filters = [item for item in warnings.filters if item not in filters]
        self.shell.display_pub = usual
        run.stdout, run.stderr = out.getvalue(), err.getvalue()
        shown = [item for item in publisher.outputs if not any(mime.startswith(OWN) for mime in item["data"])]
        run.displays = [repr((sorted(item["data"].items()), item.get("update", False))) for item in shown]
        run.warned = [
            (w.category.__name__, str(w.message), w.lineno - self._extra(w.filename, extra_lines)) for w in caught
        ]
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            line = self._line(error, count)
            message = error.msg if isinstance(error, SyntaxError) else str(error)  # the text ends with a file's name
            run.error = (type(error).__name__, plain(message), None if line is None else line - extra_lines)
        run.shown_errors = len(self._shown)
        run.names = set(self.namespace())
        after = self.digest(volatile)
        run.lines = {p: t for p, t in after.lines.items() if p.startswith("names ")}
        run.outs = {p: t for p, t in after.lines.items() if p.startswith("outs")}
        run.world = {p: t for p, t in after.lines.items() if p.startswith("world")}
        run.world.update({"new warning filters": repr(filters), "streams kept": repr(streams)})
        run.kept = {p: t for p, t in kept(addresses, after.ids()).items() if not p.startswith("world")}
        return run

    def _extra(self, filename: str, extra_lines: int) -> int:
        return extra_lines if filename in self.shell.compile._filename_map else 0

    def _line(self, error: BaseException, count: int) -> int | None:
        """Return the deepest line of this cell that the error came through."""
        if isinstance(error, SyntaxError):
            return error.lineno
        files = self.shell.compile._filename_map
        frames = [f for f in traceback.extract_tb(error.__traceback__) if files.get(f.filename) == count]
        return frames[-1].lineno if frames else None


@contextlib.contextmanager
def notebook() -> Iterator[Notebook]:
    """Open a notebook in an empty folder, with every random generator seeded; the process is as before afterwards."""
    states, settings, before = _generators(), Settings(), Path.cwd()
    flags = [(framework, framework.flags()) for framework in loaded()]
    folder = Path(tempfile.gettempdir()) / f"notebook-{os.getpid()}"  # the same for every notebook of this process
    while folder.exists():  # but for one that is opened while another one is
        folder = folder.with_name(f"{folder.name}-inside")
    try:
        folder.mkdir()
        os.chdir(folder)
        book = Notebook()
        try:
            yield book
        finally:
            book.close()
    finally:
        os.chdir(before)
        shutil.rmtree(folder)
        settings.restore()
        for framework, values in flags:
            framework.set_flags(values)
        for put_back, state in states:
            put_back(state)


def _generators() -> list[tuple[Any, Any]]:
    """Seed the generators of the process; return what puts each one back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # among themselves, while they are imported
        for name in IMPORTED_FIRST:
            importlib.import_module(name)
    numpy, torch = sys.modules["numpy"], sys.modules["torch"]
    states = [
        (random.setstate, random.getstate()),
        (numpy.random.set_state, numpy.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    random.seed(11)
    numpy.random.seed(11)
    torch.manual_seed(11)
    return states


def prepared(book: Notebook, cell: Cell) -> None:
    """Run the cells that come before; they must succeed."""
    for text in cell.setup:
        ended = book.run(text)
        assert ended.error is None, f"the setup of {cell.id} failed: {ended.error}"


def body_lines(body: str) -> str:
    """Return the body without the line break that TOML's quotes begin with."""
    return body.removeprefix("\n")


def unlike(plainly: Run, other: Run, *, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Return a line for each thing that a person could tell apart; names in `allowed` may be new in `other`."""
    found = [
        f"{what}: {one!r} != {two!r}"
        for (what, one), two in zip(plainly.shown().items(), other.shown().values(), strict=True)
        if one != two
    ]
    added = other.names - plainly.names
    if added - allowed:
        found.append(f"new names: {sorted(added - allowed)}")
    skipped = tuple(f"names {name}" for name in added & allowed)
    found += differences(plainly.lines, {p: t for p, t in other.lines.items() if p not in skipped})
    found += differences(plainly.outs, other.outs) + differences(plainly.world, other.world)
    common = plainly.kept.keys() & other.kept.keys()
    found += differences({p: plainly.kept[p] for p in common}, {p: other.kept[p] for p in common})
    return found


@dataclass
class Witness:
    """What was compiled meanwhile: JAX functions by name, and frames for which Dynamo kept a graph with operations."""

    jax: list[str] = field(default_factory=list)
    torch: list[str] = field(default_factory=list)

    def names(self) -> set[str]:
        """Return the names of the functions that were compiled; what Dynamo resumes counts for where it broke off."""
        resumed = [n.removeprefix("torch_dynamo_resume_in_").rpartition("_at_")[0] or n for n in self.torch]
        return set(self.jax) | set(resumed)


_witnesses: list[Witness] = []


@functools.cache
def _listen() -> None:
    """Tell the witnesses from now on what JAX compiles: older versions of JAX let no listener go."""
    import jax

    def on_event(event: str, seconds: float, **facts: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            name = str(facts.get("fun_name", ""))
            for seen in _witnesses:
                seen.jax.append(name.removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(on_event)


@contextlib.contextmanager
def witness() -> Iterator[Witness]:
    """Watch the compilers themselves: JAX's monitoring events, Dynamo's metrics."""
    _listen()
    seen = Witness()
    before = {id(m) for m in _metrics()}
    _witnesses.append(seen)
    try:
        yield seen
    finally:
        _witnesses[:] = [other for other in _witnesses if other is not seen]
        seen.torch += [m.co_name for m in _metrics() if id(m) not in before and _holds_a_graph(m)]


def _metrics() -> list[Any]:
    from torch._dynamo.utils import get_compilation_metrics

    return list(get_compilation_metrics())


def _holds_a_graph(metric: Any) -> bool:
    """Say whether the frame is the user's (an optimizer's own step is torch's) and was compiled with operations."""
    torchs_own = "/torch/optim/" in (metric.co_filename or "")
    return not torchs_own and metric.fail_type is None and (metric.graph_op_count or 0) > 0
