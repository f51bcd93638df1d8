"""The library behind the magics: callables, compared as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from inspect import getclosurevars, iscoroutinefunction
from types import FunctionType, MethodType
from typing import Any

from fwmagic.cells.outcome import alive
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.split import MOST_SECTIONS
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework, get, loaded
from fwmagic.measure.load import Load
from fwmagic.options import Options, from_arguments
from fwmagic.report import Compilation, Report, Variant
from fwmagic.run.checking import agreement
from fwmagic.run.draft import Draft
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Entrant, Here, passes


@dataclass(frozen=True)
class _CallableProgram:
    """A callable as the engine wants it."""

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    wait: Callable[[Any], Any] | None = None
    most_calls: int | None = None
    lead_in: bool = False

    def enter(self) -> None:
        """Nothing to prepare: callables are timed as they are."""

    def exit(self) -> None:
        """Nothing to undo."""

    def again(self) -> None:
        """Nothing to put back: callables may be called any number of times."""

    def finds(self) -> Sequence[Any]:
        """Return nothing: what a callable finds by name is its own affair."""
        return ()


def compare(
    callables: Mapping[str, Callable[[], Any]],
    *,
    budget: float = Options.budget,
    margin: float = Options.margin,
    baseline: str | None = Options.baseline,
    check: bool = Options.check,
    memory: bool = Options.memory,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Compare callables without arguments: time them against each other, and their results.

    They are timed as they are, one after the other in random order; whatever they return is waited for. State
    that they change is not put back.

    Parameters
    ----------
    callables : mapping of str to callable
        At least one, by name; the first is the baseline.
    budget : float
        Wall seconds for warm-up and rounds, all callables together.
    margin : float
        Two that differ by less than this fraction are called the same.
    baseline : str, optional
        The name that the others are compared with.
    check : bool
        Compare the results of the first calls.
    memory : bool
        Call each once more to measure its memory, when all are timed.
    progress : callable, optional
        Called with the report as it grows, at most four times a second.

    Raises
    ------
    FwMagicError
        There is nothing to compare, an option cannot take effect, or a value is no callable.
    """
    _refuse_callables(callables, baseline)
    options = from_arguments("compare", budget=budget, margin=margin, baseline=baseline, check=check, memory=memory)
    draft = Draft("compare", progress or (lambda _: None), options)
    load = Load()
    calls: dict[str, _CallableProgram] = {}
    outputs: dict[str, Any] = {}
    used: dict[str, Framework] = {}
    drew = False
    load.start()
    for name, function in callables.items():
        draft.add(Variant(name, name, "python", "as it is", "running"))
        generators = Snapshot({}, [], loaded())
        try:
            calls[name], outputs[name] = _first_call(function)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the callable raised: it failed, the others go on
            draft.failed(name, error, "first run", _file_of_callable(function))
            continue
        drew = drew or generators.moved_on()
        owners = frameworks_of_results(outputs[name])
        used.update(owners)
        draft.variant(
            name,
            framework=next(iter(owners), "python"),
            compilation=_compilation(function, owners),
            outputs=outputs[name],
        )
    if options.check:
        _check_callables(draft, outputs, list(used.values()), drew)
    here = Here(list(used.values()))
    wanted = passes(options, nullcontext, several=False)
    entrants = [
        Entrant(
            here.calls(name, call, owner.name),
            partial(wanted.run, name, call, owner),
            filename=_file_of_callable(call.call),
        )
        for name, call in calls.items()
        for owner in [next(iter(frameworks_of_results(outputs[name]).values()), get("numpy"))]
    ]
    Measuring(draft, here, options, load).run(entrants)
    draft.end()
    return draft.report


def _compilation(function: Callable[..., Any], owners: Mapping[str, Framework]) -> Compilation | None:
    """Say whether a callable is compiled, or names what is; None: it may be where no name shows it."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    held = [inner]
    if isinstance(inner, FunctionType | MethodType):
        with suppress(ValueError):  # a variable that has no value yet
            found = getclosurevars(inner)
            held += [*found.nonlocals.values(), *found.globals.values()]
    if any(framework.is_compiled(value) for framework in loaded() for value in held):
        return Compilation("yours", "timed as it is", cache="none")
    if any(framework.strategy for framework in owners.values()):
        return None
    return Compilation("eager", "timed as it is", cache="none")


def _refuse_callables(callables: Any, baseline: str | None) -> None:
    if not isinstance(callables, Mapping):
        raise FwMagicError(
            f"A mapping of names to callables was expected, not a {type(callables).__name__}: "
            'fwmagic.compare({"a": f, "b": g}).'
        )
    if not callables:
        raise FwMagicError("There is nothing to compare: give a mapping of names to callables.")
    if len(callables) > MOST_SECTIONS:
        raise FwMagicError(
            f"{len(callables)} callables are more than the {MOST_SECTIONS} that can be compared at once: compare fewer."
        )
    for name, function in callables.items():
        if not isinstance(name, str) or not name.strip():
            raise FwMagicError(f"{name!r} is no name for a callable: names are text that is not empty.")
        if iscoroutinefunction(function):
            raise FwMagicError(
                f"{name!r} is an async function, whose call does no work: pass one that runs it, such as "
                f"lambda: asyncio.run({getattr(function, '__name__', 'f')}())."
            )
        if not callable(function):
            raise FwMagicError(
                f"{name!r} is a {type(function).__name__} and no callable: pass a function without arguments."
            )
    if baseline is not None and baseline not in callables:
        raise FwMagicError(f"baseline names {baseline!r}, which is not compared; there are: {', '.join(callables)}.")


def _first_call(function: Callable[[], Any]) -> tuple[_CallableProgram, Any]:
    """Call once, and find out what has to be waited for: also what the call leaves in objects of the user's."""
    before = [(framework, alive(framework)) for framework in loaded()]
    outputs = function()
    waits = [wait for framework in loaded() if (wait := framework.waiter(outputs)) is not None]
    hidden = (framework for framework, arrays in before if framework.made_besides(arrays, outputs))
    waits += map(_finishing, hidden)
    for wait in waits:
        wait(outputs)
    return _CallableProgram(function, wait=_all(waits)), outputs


def _finishing(framework: Framework) -> Callable[[Any], None]:
    return lambda outputs: framework.finish()


def _all(waits: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    if len(waits) < 2:
        return waits[0] if waits else None

    def wait_for_all(outputs: Any) -> None:
        for wait in waits:
            wait(outputs)

    return wait_for_all


def frameworks_of_results(value: Any) -> dict[str, Framework]:
    """Return the frameworks whose arrays are in a tree of results, by name."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return {name: framework for item in value for name, framework in frameworks_of_results(item).items()}
    return {framework.name: framework for framework in loaded() if framework.is_array(value)}


def _check_callables(draft: Draft, outputs: Mapping[str, Any], used: list[Framework], drew: bool) -> None:
    names = list(outputs)
    for name in names[1:]:
        found = agreement({"result": outputs[names[0]]}, {"result": outputs[name]}, (names[0], name), used, drew)
        draft.variant(name, agreement=found)


def _file_of_callable(function: Callable[..., Any]) -> str:
    """Return the file that a callable was written in; empty if it is no function of Python."""
    code = getattr(function, "__code__", None)
    return "" if code is None else str(code.co_filename)
