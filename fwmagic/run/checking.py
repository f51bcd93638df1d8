"""Whether runs of sections gave the same: outcomes compared, by the frameworks that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fwmagic.agreement.agree import Draws, agree
from fwmagic.agreement.close import ToNumpy
from fwmagic.cells.outcome import Outcome, Window, drawn_again
from fwmagic.cells.program import Program
from fwmagic.errors import message_of
from fwmagic.format import one_line
from fwmagic.frameworks import Framework
from fwmagic.report import Agreement
from fwmagic.run.section import Section


def agreement(
    expected: Any,
    found: Any,
    names: tuple[str, str],
    frameworks: Sequence[Framework],
    random: bool,
    again: Draws | None = None,
    moved: Any = None,
) -> Agreement:
    """Compare two trees of results."""
    to_numpy = to_numpy_of(frameworks)
    try:
        return agree(expected, found, names=names, to_numpy=to_numpy, random=random, again=again, moved=moved)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever methods of the results raise that are the user's own
        why = f"comparing raised {type(error).__name__}: {one_line(message_of(error), 100)}"
        return Agreement(names[0], "not compared", f"not compared: {why}")


def varying(
    program: Program, outcome: Outcome, section: Section, window: Window, seeds: bool = False
) -> Outcome | None:
    """Return the outcome as that of a random program, if a further run gives something else; None: it does not."""
    seen = drawn_again(program, replace(outcome, random=True), window, seeds)
    if seen.again is None:
        return None
    found = agreement(outcome.results, seen.again, ("one run", "another"), [section.framework], False)
    return seen if found.status == "differs" else None


def draws_of(one: Outcome, other: Outcome, only: Sequence[str] | None = None) -> Draws:
    """Return what further runs of two programs gave: what draws no random numbers would give the same again.

    `only` are the names of the results that are compared; None: all are.
    """
    both = []
    for outcome in (one, other):
        runs = (outcome.again, *outcome.more) if outcome.random else (outcome.results,)
        both.append([run if only is None or run is None else {n: run[n] for n in only if n in run} for run in runs])
    first, second = both
    return Draws(first[0], second[0], (tuple(first[1:]), tuple(second[1:])))


def to_numpy_of(frameworks: Sequence[Framework]) -> ToNumpy:
    """Return the function that gives the values of arrays of some frameworks, and of NumPy."""

    def to_numpy(value: Any) -> Any:
        for framework in frameworks:
            array = framework.array_in(value)
            if array is not None:
                return framework.to_numpy(array)
        return value if type(value).__module__ == "numpy" and hasattr(value, "dtype") else None

    return to_numpy


def agreement_across(
    first: Section, section: Section, pair: tuple[Outcome, Outcome], moved: Mapping[str, Any] | None = None
) -> Agreement:
    """Compare what two sections gave, and the arrays that both of them changed, unless by chance."""
    reference, outcome = pair
    random = reference.random or outcome.random
    given = [name for name in reference.results if name in outcome.results and reference.results[name] is not None]
    expected, found = ({name: one.results[name] for name in given} for one in pair)
    for path, value in reference.changed.items():
        if not random and path in outcome.changed:
            expected.setdefault(path, value)
            found.setdefault(path, outcome.changed[path])
    if not expected:
        nothing = "no result in common: end both sections with the value to compare"
        return Agreement(first.name, "not compared", nothing)
    return agreement(
        expected,
        found,
        (first.name, section.name),
        [first.framework, section.framework],
        random,
        draws_of(reference, outcome, given),
        moved,
    )
