"""The first lines in which two sections part, as a finding."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from fwmagic.agreement.agree import how_far
from fwmagic.agreement.close import Array, closeness
from fwmagic.agreement.parting import Parting, Side, parting
from fwmagic.agreement.relation import relation
from fwmagic.cells.course import Course, Spot, follow
from fwmagic.cells.outcome import Window, sizes_reached
from fwmagic.cells.scene import Scene
from fwmagic.format import one_line, ordinal
from fwmagic.report import Finding
from fwmagic.report.findings import of_parting
from fwmagic.run.section import Section


class Divergence:
    """Runs sections line by line, each once, and says where one parts from another."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._courses: dict[str, Course] = {}

    def find(self, one: Section, scene: Scene, other: Section, other_scene: Scene) -> Finding:
        """Return the finding on the first lines in which `other` parts from `one`, or on why there are none."""
        names = (one.name, other.name)
        variant = next(iter(other.options.variants()))
        try:
            ours, theirs = self._course(one, scene), self._course(other, other_scene)
        except Exception as error:  # the user's code raised, which it did not do when it ran as it is
            why = f"run line by line, the cell raised {type(error).__name__}: {one_line(str(error), 120)}"
            return of_parting(variant, f"the first difference was not looked for: {why}", None, found=False)
        found = parting(ours, theirs)
        if found is None:
            cut = "" if ours.whole and theirs.whole else ", as far as they were followed"
            sentence = (
                f"no line of {names[0]} and {names[1]} was found to part{cut}: "
                "run line by line, what has a counterpart is the same"
            )
            return of_parting(variant, sentence, None, found=False)
        what = _in_words(found, names, sizes_reached(scene) | sizes_reached(other_scene))
        known = self._cause(found, one, scene, other, other_scene)
        first, second = _where(found.one), _where(found.other)
        hint = f"; {known}" if known else ""
        spot = found.other.visit.spot
        sentence = f"first difference: {names[0]} {first} and {names[1]} {second}: {what}{hint}"
        return of_parting(variant, sentence, spot.line if spot.own else None)

    def _cause(self, found: Parting, one: Section, scene: Scene, other: Section, other_scene: Scene) -> str:
        """Return which habit of a framework makes these lines part, if they do not part without it; else nothing."""
        both = (one, scene), (other, other_scene)
        for place, (section, its_scene) in enumerate(both):
            framework, met = section.framework, set[str]()
            habits = framework.habits(both[1 - place][0].framework.name)
            if habits:
                self._again(its_scene, framework.without_habit("", met))
            for habit in [one for one in habits if one in met]:
                course = self._again(its_scene, framework.without_habit(habit, met))
                known = [self._course(*pair) for pair in both]
                if course is not None:
                    known[place] = course
                    again = parting(*known)
                    if again is None or _where(again.one) != _where(found.one):
                        return habits[habit].format(section.name)
        return ""

    def _again(self, scene: Scene, way: AbstractContextManager[Any]) -> Course | None:
        """Run a section line by line in a context; None if it raises then."""
        try:
            return follow(scene, self._window, way)
        except Exception:  # whatever the user's code raises when it is run in another way
            return None

    def _course(self, section: Section, scene: Scene) -> Course:
        if section.name not in self._courses:
            self._courses[section.name] = follow(scene, self._window)
        return self._courses[section.name]


def _where(side: Side) -> str:
    spot = side.visit.spot
    turn = f" (when it runs for the {ordinal(side.before + 1)} time)" if side.before else ""
    return f"{_line(spot)} `{one_line(spot.text, 80)}`{turn}"


def _line(spot: Spot) -> str:
    inside = f" of `{spot.function}`" if spot.function and not spot.own else ""
    return f"line {spot.line}{inside}"


def _in_words(found: Parting, names: tuple[str, str], sizes: frozenset[int]) -> str:
    """Return how the values of the two lines differ."""
    a, b = found.one.array, found.other.array
    hint = relation(a, b, names, sizes)
    parts = [_form(a, b)]
    if a.values.size == b.values.size == 1:
        parts += [f"{a.values.item()} and {b.values.item()}"]
    elif a.values.shape == b.values.shape:
        parts += [how_far(a, closeness(a, b))]
    return "; ".join(part for part in [", ".join(part for part in parts if part), hint] if part)


def _form(a: Array, b: Array) -> str:
    shape = f"shape {list(a.shape)}" if a.shape == b.shape else f"shapes {list(a.shape)} and {list(b.shape)}"
    return shape if a.dtype == b.dtype else f"{shape}, {a.dtype} and {b.dtype}"
