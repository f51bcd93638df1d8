"""One variant in a worker: what the kernel asks of the process that the variant runs in."""

from __future__ import annotations

import builtins
import gc
import importlib
import linecache
import pickle
import random
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cloudpickle
from IPython.display import display

from fwmagic import frameworks
from fwmagic.cells.kinds import CONTAINERS, attributes_of
from fwmagic.cells.outcome import Outcome
from fwmagic.cells.ways import Programs
from fwmagic.frameworks import Framework
from fwmagic.frameworks.memory import Counters
from fwmagic.libraries import module_of
from fwmagic.measure.calls import Block, Local
from fwmagic.memory import host
from fwmagic.memory.device import UNKNOWN_CONTEXT, device_context
from fwmagic.memory.nvml import Figure
from fwmagic.memory.passes import Passes
from fwmagic.options import Options
from fwmagic.report import Amount, Conditions, Finding, Kind, Ledger, Variant
from fwmagic.run.draft import Draft
from fwmagic.run.place import Here, conditions_here, passes
from fwmagic.run.preparation import Contender, Preparation
from fwmagic.run.section import Section, devices_of_sections
from fwmagic.run.session import Session
from fwmagic.run.staging import Staging
from fwmagic.worker.parcel import Parcel, ParcelAddress, unpack_parcel
from fwmagic.worker.process import RaisedInWorker


@dataclass(frozen=True)
class Sent:
    """What a worker needs for one variant, one of `several`, besides the notebook's objects.

    `flags` are the pickled settings of each framework by its name, `together` the names of the frameworks of all
    sections, `threads` how many each framework computes with (None: as it likes), and `source` the cell's text.
    """

    parcel: ParcelAddress
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

    `outcome` and `reference` are in the parcel at `results`, their arrays NumPy's. `errors` is what was raised.
    `most_calls` and `lead_in` are those of its program; `ready` says whether it can be timed, and `trains` whether
    it trains in a way that keeps its body from becoming one program.
    """

    variant: Variant
    conditions: Conditions
    stated: tuple[str, ...]
    findings: tuple[Finding, ...]
    errors: tuple[RaisedInWorker, ...]
    results: ParcelAddress
    ready: bool = False
    withheld: str = ""
    most_calls: int | None = None
    lead_in: bool = False
    trains: bool = False


class Inside:
    """The one variant of a worker, from the moment that it is prepared; its methods run in the worker's process."""

    def __init__(self) -> None:
        self._framework: Framework | None = None
        self._device: str | None = None
        self._namespace: dict[str, Any] = {}
        self._calls: Local | None = None
        self._memory: Callable[[bool], tuple[Ledger, ...]] | None = None
        self._results: Parcel | None = None

    def prepare(self, sent: Sent) -> Found:
        """Run the section plainly, compile it if that is wanted, and get ready to be timed."""
        framework = self._framework = frameworks.get(sent.framework)
        self._device = sent.options.device
        together = [frameworks.get(name) for name in sent.together]
        _settle_inside(sent)
        context = _context_inside(framework, sent.options) if sent.options.memory else UNKNOWN_CONTEXT
        self._namespace, held = _unpacked_inside(sent)
        growth = host.ResidentGrowth()
        section = Section(sent.section, framework, held["bodies"][sent.section], sent.options)
        draft = Draft("%%compare", lambda _: None, sent.options)
        draft.add_waiting(section)
        programs = Programs()
        preparation = Preparation(draft, programs, nullcontext, looks=False)
        staging = Staging(Session(self._namespace, programs), together, draft, preparation, nullcontext)
        staging.stage(section, held["given"])
        staging.prepare(section)
        preparation.references.draw_again(section)
        contender = next(iter(preparation.contenders), None)
        if contender is not None:
            self._calls = Here([framework]).calls(contender.name, contender.program, framework.name)
            self._memory = partial(
                _memory_inside, contender, passes(sent.options, nullcontext, sent.several, context=context)
            )
        results = {
            "outcome": None if contender is None else contender.outcome,
            "reference": preparation.references.outcome(section),
        }
        self._results = Parcel({name: _portable_outcome(one) for name, one in results.items()}, frameworks.loaded())
        (variant,) = draft.report.variants
        if variant.status == "failed" and sent.options.memory:
            variant = replace(variant, memory=(growth.ledger(),))
        return Found(
            variant=replace(variant, outputs=None),
            conditions=conditions_here([framework], devices_of_sections([section])),
            stated=tuple(staging.stated),
            findings=() if contender is None else contender.findings,
            errors=tuple(map(RaisedInWorker.of, draft.errors)),
            results=self._results.address,
            ready=contender is not None,
            withheld="" if contender is None else contender.withheld,
            most_calls=None if contender is None else contender.program.most_calls,
            lead_in=contender is not None and contender.program.lead_in,
            trains=contender is not None and contender.trains,
        )

    def block(self, calls: int, lead_in: bool) -> Block:
        """Time a block of the variant."""
        assert self._calls is not None
        return self._calls.block(calls, lead_in)

    def split(self, calls: int, lead_in: bool) -> list[tuple[float, float]]:
        """Time single calls of the variant, dispatch and waiting apart."""
        assert self._calls is not None
        return self._calls.split(calls, lead_in)

    def rest(self) -> None:
        """Wait until the threads that the variant's calls left waiting are at rest."""
        assert self._calls is not None
        self._calls.rest()

    def memory(self) -> tuple[Ledger, ...]:
        """Measure the variant's memory; it is timed no more after that."""
        assert self._memory is not None
        return self._memory(host.map_large_blocks())

    def release(self) -> tuple[Amount, ...]:
        """Let go of all that the variant has; return what its allocator holds still, before and after it is asked."""
        assert self._framework is not None
        memory, where = self._framework.memory, self._framework.memory.device(self._device)
        self._calls = self._memory = None
        self._namespace.clear()
        gc.collect()
        if where is None:
            return ()
        first = memory.counters(where)
        how = memory.empty_cache(where)
        last = memory.counters(where)
        if not how:
            last = Counters(why=f"{self._framework.title} has no call that gives free memory back")
        return (
            _held_inside("after del", first, first.source),
            _held_inside("after empty_cache()", last, f"{last.source}, after {how}"),
        )

    def in_force(self) -> dict[str, str]:
        """Return how this process allocates, as its framework reads it back."""
        assert self._framework is not None
        return self._framework.memory.in_force()

    def taken(self) -> None:
        """Free the memory that the results were sent in."""
        if self._results is not None:
            self._results.close()


def _memory_inside(contender: Contender, wanted: Passes, exact: bool) -> tuple[Ledger, ...]:
    """Measure the memory of a variant; `exact`: in a process that gives back at once what is freed."""
    (entrant,) = Here([contender.section.framework]).entrants([contender], replace(wanted, exact=exact))
    return entrant.memory()


def _held_inside(kind: Kind, counters: Counters, source: str) -> Amount:
    if counters.held is None:
        return Amount(kind, None, why=counters.why or counters.source)
    return Amount(kind, counters.held, source)


def _settle_inside(sent: Sent) -> None:
    """Give the frameworks the kernel's settings and number of threads, before the first of them starts."""
    for name, pickled in sent.flags.items():
        framework = frameworks.get(name)
        framework.set_flags({key: pickle.loads(value) for key, value in pickled.items()})
    if sent.threads is not None:
        for framework in frameworks.loaded():
            framework.use_threads(sent.threads)


def _unpacked_inside(sent: Sent) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the notebook's main module anew, with its objects, and the random generators as they are in the kernel."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = vars(module)
    # As in a notebook: the first code that runs here would add it, as if that were a name of its own.
    namespace["__builtins__"] = builtins
    vars(builtins)["display"] = display  # it is among the built-in names of a notebook, too
    linecache.cache[sent.filename] = (len(sent.source), None, sent.source.splitlines(keepends=True), sent.filename)
    held = unpack_parcel(sent.parcel, namespace)
    namespace.update(held["namespace"])
    for name, attributes in held["modules"].items():
        _bring_up_to_date(name, attributes)
    random.setstate(held["random"])
    for name, state in held["generators"].items():
        frameworks.get(name).set_rng_state(state)
    return namespace, held


def _bring_up_to_date(name: str, attributes: Mapping[str, Any]) -> None:
    """Import a module of the user, and bind what the kernel's has come to hold since it was imported there.

    What holds nothing and is pickled alike is left alone: the module's own functions may compare it by identity. All
    else is bound, since the notebook may have a name for the same object.
    """
    try:
        module = importlib.import_module(name)
    except Exception:  # whatever it raises: who imports it in this process is told
        return
    fresh = vars(module)
    fresh.update({k: v for k, v in attributes.items() if k not in fresh or _holds(v) or not _is_alike(fresh[k], v)})


def _holds(value: Any) -> bool:
    """Say whether an object is one that can hold something else later: a container, an array, one with attributes."""
    is_array = any(framework.is_array(value) for framework in frameworks.loaded())
    return is_array or type(value) in CONTAINERS or bool(attributes_of(value))


def _is_alike(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(cloudpickle.dumps(one) == cloudpickle.dumps(other))
    except Exception:  # what arrived can be pickled, so that the other one cannot
        return False


def _context_inside(framework: Framework, options: Options) -> Figure:
    """Return what the driver needs for this process, in which nothing was allocated yet."""
    where = framework.memory.device(options.device)
    return UNKNOWN_CONTEXT if where is None else device_context(framework.memory, where)


def _portable_outcome(outcome: Outcome | None) -> Outcome | None:
    """Return an outcome whose arrays are NumPy's: in the kernel, an array of JAX would start JAX."""
    if outcome is None:
        return None
    again = outcome.again or {}
    parts = (outcome.results, outcome.changed, again)
    results, changed, again = ({name: portable(value) for name, value in part.items()} for part in parts)
    more = tuple({name: portable(value) for name, value in part.items()} for part in outcome.more)
    return replace(outcome, results=results, changed=changed, again=None if outcome.again is None else again, more=more)


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
    if hasattr(type(value), "state_dict"):
        return portable(value.state_dict())
    if isinstance(value, str | bytes | int | float | complex | type(None)) or module_of(type(value)) == "numpy":
        return value
    return Elsewhere(type(value).__qualname__)
