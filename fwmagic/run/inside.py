"""One variant in a worker: what the kernel asks of the process that the variant runs in."""

from __future__ import annotations

import builtins
import gc
import linecache
import pickle
import random
import sys
import types
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from IPython.display import display

from fwmagic import frameworks
from fwmagic.cells.outcome import Outcome
from fwmagic.cells.ways import Programs
from fwmagic.frameworks import Counters, Framework
from fwmagic.measure.calls import Block, Local
from fwmagic.memory import host
from fwmagic.memory.device import UNKNOWN_CONTEXT, context_of
from fwmagic.memory.nvml import Figure
from fwmagic.memory.passes import Passes
from fwmagic.options import Options
from fwmagic.report import Amount, Conditions, Finding, Kind, Ledger, Variant
from fwmagic.run.draft import Draft
from fwmagic.run.place import Here, settings_of
from fwmagic.run.session import Session
from fwmagic.run.staging import Staging
from fwmagic.run.variants import Contender, Preparation, Section
from fwmagic.worker.parcel import Address, Parcel, unpack
from fwmagic.worker.process import packed


@dataclass(frozen=True)
class Sent:
    """What a worker needs for one variant, one of `several`, besides the notebook's objects.

    `flags` are the pickled settings of each framework by its name, `together` the names of the frameworks of all
    sections, `threads` how many each framework computes with (None: as it likes), and `source` the cell's text.
    """

    parcel: Address
    section: str
    framework: str
    options: Options
    together: tuple[str, ...]
    flags: Mapping[str, Mapping[str, bytes]]
    filename: str
    source: str
    threads: int | None = None
    several: bool = False


@dataclass(frozen=True)
class Found:
    """What a worker found out about its variant before it is timed.

    `outcome` and `reference` are in the parcel at `results`, their arrays NumPy's. `errors` are pickled.
    `most_calls` and `lead_in` are those of its program; `ready` says whether it can be timed.
    """

    variant: Variant
    conditions: Conditions
    stated: tuple[str, ...]
    findings: tuple[Finding, ...]
    errors: tuple[bytes, ...]
    results: Address
    workers: int
    ready: bool = False
    withheld: str = ""
    most_calls: int | None = None
    lead_in: bool = False


class _Room:
    """The variant of this process, once it is ready."""

    def __init__(self) -> None:
        self.framework: Framework | None = None
        self.device: str | None = None
        self.namespace: dict[str, Any] = {}
        self.calls: Local | None = None
        self.contender: Contender | None = None
        self.passes: Passes | None = None
        self.results: Parcel | None = None


# A worker has one variant, and its tasks are functions: this is where they find it.
_room = _Room()


def prepare(sent: Sent) -> Found:
    """Run the section plainly, compile it if that is wanted, and get ready to be timed."""
    framework = frameworks.get(sent.framework)
    together = [frameworks.get(name) for name in sent.together]
    _settle(sent)
    context = _context(framework, sent.options) if sent.options.memory else UNKNOWN_CONTEXT
    namespace, held = _unpacked(sent)
    growth = host.Growth()
    section = Section(sent.section, framework, held["bodies"][sent.section], sent.options)
    draft = Draft("%%compare", lambda _: None)
    preparation = Preparation(draft, Programs(), nullcontext)
    preparation.add(section)
    staging = Staging(Session(namespace, preparation.programs), together, preparation)
    staging.stage(section, held["given"])
    staging.prepare(section)
    here = Here([framework], devices=_device_of(section))
    contender = next(iter(preparation.contenders), None)
    _room.calls = None if contender is None else here.calls([contender.program])[0]
    _room.framework, _room.device, _room.namespace = framework, sent.options.device, namespace
    _room.contender = contender
    _room.passes = Passes(sent.options, nullcontext, sent.several, context)
    results = {"outcome": None if contender is None else contender.outcome, "reference": section.reference}
    _room.results = Parcel({name: _portable_outcome(one) for name, one in results.items()}, frameworks.loaded())
    (variant,) = draft.report.variants
    if variant.status == "failed" and sent.options.memory:
        variant = replace(variant, memory=(growth.ledger(),))
    return Found(
        variant=replace(variant, outputs=None),
        conditions=settings_of([framework], _device_of(section)),
        stated=tuple(staging.stated),
        findings=() if contender is None else contender.findings,
        errors=tuple(packed(error) for error in preparation.errors),
        results=_room.results.address,
        workers=framework.workers(),
        ready=contender is not None,
        withheld="" if contender is None else contender.withheld,
        most_calls=None if contender is None else contender.program.most_calls,
        lead_in=contender is not None and contender.program.lead_in,
    )


def block(calls: int, lead_in: bool) -> Block:
    """Time a block of the variant."""
    return _calls().block(calls, lead_in)


def split(calls: int, lead_in: bool) -> list[tuple[float, float]]:
    """Time single calls of the variant, dispatch and waiting apart."""
    return _calls().split(calls, lead_in)


def memory() -> tuple[Ledger, ...]:
    """Measure the variant's memory; it is timed no more after that."""
    assert _room.contender is not None
    assert _room.passes is not None
    return replace(_room.passes, exact=host.map_large_blocks()).of(_room.contender)


def release() -> tuple[Amount, ...]:
    """Let go of all that the variant has, and return what its allocator still holds, before and after it is asked."""
    assert _room.framework is not None
    memory, where = _room.framework.memory, _room.framework.memory.device(_room.device)
    _room.contender = _room.calls = _room.passes = None
    _room.namespace.clear()
    gc.collect()
    if where is None:
        return ()
    first = memory.counters(where)
    how = memory.empty_cache(where)
    last = memory.counters(where)
    return (
        _held("after del", first, first.source),
        _held("after empty_cache()", last if how else _NO_CACHE, f"{last.source}, after {how}"),
    )


_NO_CACHE = Counters(why="JAX has no call that gives free memory back")


def _held(when: Kind, counters: Counters, source: str) -> Amount:
    if counters.held is None:
        return Amount(when, None, why=counters.why or counters.source)
    return Amount(when, counters.held, source)


def in_force() -> dict[str, str]:
    """Return how this process allocates, as its framework reads it back."""
    assert _room.framework is not None
    return _room.framework.memory.in_force()


def taken() -> None:
    """Free the memory that the results were sent in."""
    if _room.results is not None:
        _room.results.close()


def _calls() -> Local:
    assert _room.calls is not None
    return _room.calls


def _settle(sent: Sent) -> None:
    """Give the frameworks the kernel's settings, and their number of threads: before the first of them starts."""
    for name, pickled in sent.flags.items():
        framework = frameworks.get(name)
        framework.set_flags({key: pickle.loads(value) for key, value in pickled.items()})
    if sent.threads is not None:
        for framework in frameworks.loaded():
            framework.use_threads(sent.threads)


def _unpacked(sent: Sent) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the notebook's main module anew, with its objects, and the random generators as they are in the kernel."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = vars(module)
    vars(builtins)["display"] = display  # it is among the built-in names of a notebook, too
    linecache.cache[sent.filename] = (len(sent.source), None, sent.source.splitlines(keepends=True), sent.filename)
    held = unpack(sent.parcel, namespace)
    namespace.update(held["namespace"])
    random.setstate(held["random"])
    for name, state in held["generators"].items():
        frameworks.get(name).set_rng_state(state)
    return namespace, held


def _context(framework: Framework, options: Options) -> Figure:
    """Return what the driver needs for this process, in which nothing was allocated yet."""
    where = framework.memory.device(options.device)
    return UNKNOWN_CONTEXT if where is None else context_of(framework.memory, where)


def _device_of(section: Section) -> dict[str, str]:
    device = section.options.device
    return {} if device is None else {section.framework.name: device}


def _portable_outcome(outcome: Outcome | None) -> Outcome | None:
    """Return an outcome whose arrays are NumPy's: in the kernel, an array of JAX would start JAX."""
    if outcome is None:
        return None
    results, changed = ({k: portable(v) for k, v in part.items()} for part in (outcome.results, outcome.changed))
    return replace(outcome, results=results, changed=changed)


class Elsewhere:
    """What stands for an object that cannot leave its process."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __repr__(self) -> str:
        return f"<{self.what} in a process of its own>"


def portable(value: Any) -> Any:
    """Return a tree of results with NumPy arrays for arrays, and `Elsewhere` for what is neither data nor array."""
    for framework in frameworks.loaded():
        if framework.is_array(value):
            return framework.to_numpy(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)._make(map(portable, value))  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):
        items = map(portable, value)
        return tuple(items) if isinstance(value, tuple) else list(items)
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if hasattr(value, "state_dict") and not isinstance(value, type):
        return portable(value.state_dict())
    if isinstance(value, str | bytes | int | float | complex | type(None)) or type(value).__module__ == "numpy":
        return value
    return Elsewhere(type(value).__qualname__)
