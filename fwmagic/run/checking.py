"""Whether runs of sections gave the same: outcomes compared, by the frameworks that they are of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    coarsely: bool = False,
) -> Agreement:
    """Compare two trees of results."""
    to_numpy = to_numpy_of(frameworks)
    try:
        return agree(
            expected,
            found,
            names=names,
            to_numpy=to_numpy,
            random=random,
            again=again,
            moved=moved,
            coarsely=coarsely,
        )
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
    return seen if seen.again is not None and not is_same_again(seen, section.framework) else None


def is_same_again(outcome: Outcome, framework: Framework) -> bool:
    """Say whether a further run was seen to give the same, as that of a cell that sets the seeds it draws from."""
    if outcome.again is None:
        return False
    given, again = outcome.given, outcome.again
    names = given.keys() & again.keys()
    given, again = ({name: one[name] for name in names} for one in (given, again))
    return agreement(given, again, ("one run", "another"), [framework], False).status != "differs"


def draws_of(one: Outcome, other: Outcome, names: Collection[str], leads: bool = False) -> Draws:
    """Return what further runs of two programs gave under some names; what draws no numbers would give the same again.

    One that `leads` is what the other one was made from, as a plain run is of a compiled one.
    """
    both = []
    for outcome in (one, other):
        runs = (outcome.again, *outcome.more) if outcome.random else (outcome.given,)
        both.append([known and {name: known[name] for name in names if name in known} for known in runs])
    first, second = both
    return Draws(first[0], second[0], (tuple(first[1:]), tuple(second[1:])), leads)


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
        draws_of(reference, outcome, expected),
        moved,
    )
