"""The plain run of each section, which tells what variants and other sections have to give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fwmagic.agreement.agree import VARIES
from fwmagic.agreement.close import UnreadableError, array, is_rounded
from fwmagic.cells.outcome import MOST_AGAIN, Outcome, Window, drawn_again, run_otherwise
from fwmagic.cells.program import Program, program_as_written
from fwmagic.cells.rounded import moved_results
from fwmagic.cells.scene import Scene
from fwmagic.cells.ways import Ready
from fwmagic.frameworks import Framework
from fwmagic.report import Agreement
from fwmagic.run.checking import agreement, agreement_across, draws_of, is_same_again, to_numpy_of, varying
from fwmagic.run.section import Section

# A random cell that takes longer than so many seconds is not run again to see whether it sets its own seeds.
_SEEDED = 1.0


class References:
    """What the plain runs of sections gave, by which others are compared; `window` is where an interrupt may stop them.

    A section that was run plainly in this process can be run again, to see what of it is chance or rounding.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._outcomes: dict[str, Outcome] = {}
        self._programs: dict[str, Program] = {}

    def __getitem__(self, section: Section) -> Outcome:
        return self._outcomes[section.name]

    def outcome(self, section: Section) -> Outcome | None:
        """Return what the plain run of a section gave; None if there was none."""
        return self._outcomes.get(section.name)

    def program(self, section: Section) -> Program | None:
        """Return what was run plainly, if that was in this process."""
        return self._programs.get(section.name)

    def refer(self, section: Section, outcome: Outcome, program: Program | None = None) -> None:
        """Take what a plain run of a section gave for its reference; `program` can be run again."""
        self._outcomes[section.name] = outcome
        if program is not None:
            self._programs[section.name] = program

    def let_go(self) -> None:
        """Forget what was found."""
        self._outcomes.clear()
        self._programs.clear()

    def across(self, first: Section, section: Section) -> Agreement:
        """Compare a section's results with those of the first one."""
        pair = (self[first], self[section])
        # Of longer ones, nobody would see whether what they leave is the same in every run.
        across = partial(agreement_across, first, section, with_left=max(one.seconds for one in pair) <= _SEEDED)
        result = across(pair)
        if any(one.random for one in pair) and result.status != "agrees":
            self.draw_again(first)
            self.draw_again(section)
            result = across((self[first], self[section]))
        elif result.status == "differs" and any(
            [self._varies(one, self.program(one), _SEEDED) for one in (first, section)]
        ):
            result = across((self[first], self[section]))
        elif result.status == "differs" and (plain := self.program(first)) is not None:
            result = self._but_for_rounding(result, plain, pair[0], partial(across, pair))
        if result.status != "agrees":
            cause = self._cause(first, section, across)
            return replace(result, sentence=f"{result.sentence}; the cause: {cause}") if cause else result
        return result

    def check(self, section: Section, scene: Scene, ready: Ready) -> Agreement:
        """Compare a compiled variant with the plain run of its section."""
        reference = self[section]
        expected = dict(reference.results)
        found = dict(ready.outcome.results)
        common = reference.changed.keys() & ready.outcome.changed.keys()
        expected.update({path: reference.changed[path] for path in common})
        found.update({path: ready.outcome.changed[path] for path in common})
        # What one of them did not change is there as it was.
        before = scene.snapshot.plain_before(reference.plain.keys() ^ ready.outcome.plain.keys())
        plainly, compiled = {**before, **reference.plain}, {**before, **ready.outcome.plain}
        common = plainly.keys() & compiled.keys() - expected.keys()
        expected.update({path: plainly[path] for path in common})
        found.update({path: compiled[path] for path in common})
        names = (f"{section.name} eager", f"{section.name} compiled")
        result = agreement(expected, found, names, [section.framework], reference.random)
        plain = self.program(section) or as_it_is(scene)
        if reference.random and result.status != "agrees":
            reference = drawn_again(plain, reference, self._window, seeds=True, most=_SEEDED)
            if is_same_again(reference, section.framework):  # it sets the seeds that it draws from
                reference = replace(reference, random=False)
                result = agreement(expected, found, names, [section.framework], False)
            self.refer(section, reference)
        if reference.random and result.status != "agrees":
            more = drawn_again(ready.program, ready.outcome, self._window)
            draws = draws_of(reference, more, expected, leads=True)
            result = agreement(expected, found, names, [section.framework], True, draws)
        elif result.status == "differs" and self._varies(section, plain, MOST_AGAIN):
            again = varying(ready.program, ready.outcome, section, self._window)
            if again is None and varying(plain, reference, section, self._window) is not None:
                what = f"{names[0]} gives something else in every run, and {names[1]} what it gave while it was traced"
                return replace(result, sentence=what)
            draws = draws_of(self[section], again or ready.outcome, expected)
            result = agreement(expected, found, names, [section.framework], True, draws, why=VARIES)
        elif result.status == "differs":
            spacing = ready.least.spacing
            once_more = partial(agreement, expected, found, names, [section.framework], False, coarsely=spacing > 0)
            result = self._but_for_rounding(result, plain, reference, once_more, spacing)
        lost = _lost_when_prepared(scene, reference, ready.outcome)
        if lost and result.status == "agrees":
            sentence = f"{names[1]} leaves `{lost}` as it was, which {names[0]} changes"
            return Agreement(names[0], "differs", sentence, lost)
        if section.body.clock is not None and result.status == "not compared":
            return replace(result, sentence=f"not compared: {section.body.clock.reason}")
        return result

    def draw_again(self, section: Section) -> None:
        """Run a random section once more, to see how far chance goes, if its plain run was made here and is short."""
        program, reference = self.program(section), self.outcome(section)
        if program is not None and reference is not None:
            self.refer(section, drawn_again(program, reference, self._window, seeds=True))

    def _varies(self, section: Section, plain: Program | None, most: float) -> bool:
        """Say whether a section gives something else when it is run again, and take it for a random one then.

        Numbers of the system, as those of `uuid` and of generators without a seed, leave no trace, nor do addresses.
        One that takes more than `most` seconds is not run again.
        """
        known = self[section]
        seen = None if plain is None else varying(plain, known, section, self._window, seeds=True, most=most)
        if seen is not None:
            self.refer(section, seen)
        return seen is not None

    def _but_for_rounding(
        self,
        result: Agreement,
        plain: Program,
        reference: Outcome,
        compare: Callable[..., Agreement],
        spacing: float = 0.0,
    ) -> Agreement:
        """Return what differs as compared once more with what roundings make of the reference; it may agree then.

        All numbers are off by a rounding only beside what they are off by another one: those on a threshold, which
        nobody rounds, have crossed it in both.
        """
        moved = moved_results(plain, reference, self._window, spacing=spacing)
        found = result if moved is None else compare(moved=(reference.results, moved))
        if found.status != "differs" or moved is None:
            return found
        one, other = (moved_results(plain, reference, self._window, every, spacing) for every in (1, 2))
        return found if one is None or other is None else compare(moved=(one, other))

    def _cause(self, first: Section, section: Section, across: Callable[[tuple[Outcome, Outcome]], Agreement]) -> str:
        """Return which habit of a framework makes the outputs differ, if they agree without it; else nothing."""
        sections, known = (first, section), [self[one] for one in (first, section)]
        for place, one in enumerate(sections):
            habits, program = one.framework.habits(sections[1 - place].framework.name), self.program(one)
            if not habits or program is None:
                continue
            met = set[str]()
            run_otherwise(program, known[place], self._window, one.framework.without_habit("", met))
            for habit in [one for one in habits if one in met]:
                way = one.framework.without_habit(habit, met)
                found = run_otherwise(program, known[place], self._window, way)
                pair = (found or known[0], known[1]) if place == 0 else (known[0], found or known[1])
                if found is not None and across(pair).status == "agrees":
                    return habits[habit].format(one.name)
        return ""


def as_it_is(scene: Scene) -> Program:
    """Return a section's body as it is, ready to run."""
    scene.overlay.on()
    try:
        return program_as_written(scene)
    finally:
        scene.overlay.off()


def _lost_when_prepared(scene: Scene, reference: Outcome, compiled: Outcome) -> str:
    """Return where the plain run left another array than there was, and the compiled one did not.

    One that is the same but for a few roundings is none: what has reached its fixed point may move or stay.
    """
    arrays = scene.snapshot.leaves(scene.framework.is_array)
    before, known = dict(arrays), {id(value) for _, value in arrays}
    left = {path: value for path, value in reference.changed.items() if path not in compiled.changed}
    lost = (path for path, value in left.items() if id(value) not in known)
    return next((path for path in lost if not _is_rounded(before.get(path), left[path], scene.framework)), "")


def _is_rounded(before: Any, after: Any, framework: Framework) -> bool:
    """Say whether two arrays differ by a few roundings only."""
    try:
        one, other = (array(value, to_numpy_of([framework])) for value in (before, after))
    except UnreadableError:
        return False
    return one is not None and other is not None and is_rounded(one, other)
