"""Whether runs of sections gave the same: outcomes compared, by the frameworks that they are of."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

from fwmagic.agreement import plain
from fwmagic.agreement.agree import DRAWS, VARIES, Draws, agree
from fwmagic.agreement.close import ToNumpy
from fwmagic.cells.function import LAST
from fwmagic.cells.outcome import MOST_AGAIN, Outcome, Window, drawn_again, root
from fwmagic.cells.program import Program
from fwmagic.errors import message_of
from fwmagic.format import one_line
from fwmagic.frameworks import Framework
from fwmagic.libraries import module_of
from fwmagic.report import Agreement
from fwmagic.run.section import Section


def agreement(
    expected: Any,
    found: Any,
    names: tuple[str, str],
    frameworks: Sequence[Framework],
    random: bool,
    again: Draws | None = None,
    moved: tuple[Any, Any] | None = None,
    coarsely: bool = False,
    sizes: Collection[int] = (),
    why: str = DRAWS,
) -> Agreement:
    """Compare two trees of results."""
    compare = partial(agree, names=names, to_numpy=to_numpy_of(frameworks), random=random, why=why)
    try:
        return compare(expected, found, again=again, moved=moved, coarsely=coarsely, sizes=sizes)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever methods of the results raise that are the user's own
        why = f"comparing raised {type(error).__name__}: {one_line(message_of(error), 100)}"
        return Agreement(names[0], "not compared", f"not compared: {why}")


def varying(
    program: Program,
    outcome: Outcome,
    section: Section,
    window: Window,
    seeds: bool = False,
    most: float = MOST_AGAIN,
) -> Outcome | None:
    """Return the outcome as that of a random program, if a further run gives something else; None: it does not."""
    seen = drawn_again(program, replace(outcome, random=True, varies=True), window, seeds, most)
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
        return value if module_of(type(value)) == "numpy" and hasattr(value, "dtype") else None

    return to_numpy


def agreement_across(
    first: Section,
    section: Section,
    pair: tuple[Outcome, Outcome],
    moved: tuple[Any, Any] | None = None,
    with_left: bool = True,
) -> Agreement:
    """Compare what two sections gave, the arrays that both of them changed, and what else they left, unless by chance.

    Of what else they left in the notebook, the same objects are compared, if `with_left`.
    """
    reference, outcome = pair
    random = reference.random or outcome.random
    given = [name for name in reference.results if name in outcome.results and reference.results[name] is not None]
    expected, found = ({name: one.results[name] for name in given} for one in pair)
    for path, value in reference.changed.items():
        if not random and path in outcome.changed:
            expected.setdefault(path, value)
            found.setdefault(path, outcome.changed[path])
    for path, value in reference.left.items() if with_left and not random else ():
        if path in outcome.left and path not in expected:
            across = first.framework is not section.framework
            expected[path], found[path] = _comparable(value, outcome.left[path], across)
    if not any(value is not None for value in expected.values()):
        has = (f"`{one.name}` has {_results_in_words(run)}" for one, run in zip((first, section), pair, strict=True))
        nothing = f"no result in common ({'; '.join(has)}): end both sections with the value to compare"
        return Agreement(first.name, "not compared", nothing)
    return agreement(
        expected,
        found,
        (first.name, section.name),
        [first.framework, section.framework],
        random,
        draws_of(reference, outcome, expected),
        moved,
        sizes=reference.sizes | outcome.sizes,
        why=VARIES if all(one.varies or not one.random for one in pair) else DRAWS,
    )


def _results_in_words(outcome: Outcome) -> str:
    """Return the results of a run by their names, or that there are none."""
    names = [f"`{name}`" for name, value in outcome.results.items() if value is not None]
    return plain.listed(names) if names else "none"


def left_by_one(pair: tuple[Outcome, Outcome]) -> tuple[list[str], list[str]]:
    """Return what each of two runs has bound or changed and the other has not, by the names where it begins.

    Numbers that only count, texts and modules are no work.
    """
    both = []
    for one in pair:
        names = {name for name, value in one.results.items() if name != LAST and not isinstance(value, _NO_WORK)}
        both.append(names.union(map(root, [*one.changed, *one.left])))
    return sorted(both[0] - both[1]), sorted(both[1] - both[0])


_NO_WORK = (type(None), bool, int, str, ModuleType)
# Texts that hold such numbers may differ by a rounding; those of two libraries by all that a digit is part of.
_DECIMALS, _DIGITS = re.compile(r"\d\.\d|\de-?\d"), re.compile(r"\d")


def _comparable(a: Any, b: Any, across: bool) -> tuple[Any, Any]:
    """Return two trees with None in both where one holds what tells nothing: `...`, or a text of some numbers."""
    if a is ... or b is ...:
        return None, None
    if isinstance(a, str) and isinstance(b, str):
        numbers = _DIGITS if across else _DECIMALS
        return (None, None) if numbers.search(a) and numbers.search(b) else (a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        pairs = {key: _comparable(a[key], b[key], across) for key in a.keys() & b.keys()}
        return {**a, **{key: x for key, (x, _) in pairs.items()}}, {**b, **{key: y for key, (_, y) in pairs.items()}}
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        both = [_comparable(x, y, across) for x, y in zip(a, b, strict=True)]
        return [x for x, _ in both], [y for _, y in both]
    return a, b
