"""From a section to variants that are ready to be timed: reference run, compilation, agreement, fallback."""

from __future__ import annotations

import ast
import dis
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import Any

from fwmagic.agreement.agree import VARIES, spoilt
from fwmagic.agreement.close import not_finite
from fwmagic.cells.analyse import dotted
from fwmagic.cells.course import follow
from fwmagic.cells.function import first_use, why_no_function
from fwmagic.cells.loops import bars
from fwmagic.cells.modules import finalizes
from fwmagic.cells.names import names_of_code, notebook_functions
from fwmagic.cells.obstacles import trains
from fwmagic.cells.outcome import (
    LONG,
    MOST_AGAIN,
    Outcome,
    Window,
    drawn_again,
    first_run,
    moved_results,
    outcome_without_run,
    root,
    run_otherwise,
)
from fwmagic.cells.program import Program, program_as_written
from fwmagic.cells.scene import Scene
from fwmagic.cells.uses import unused_values
from fwmagic.cells.ways import LEAST_SPENT, Programs, Ready, tried_before
from fwmagic.cells.yours import yours
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import Framework
from fwmagic.frameworks.compiled import CompileOptions
from fwmagic.frameworks.least import Least
from fwmagic.report import Agreement, Compilation, Finding, Place, Stage, Way, findings
from fwmagic.report.findings import Work
from fwmagic.run.checking import agreement, agreement_across, draws_of, is_same_again, left_by_one, to_numpy_of, varying
from fwmagic.run.compiling import CompileInterrupted, Compiling
from fwmagic.run.draft import Draft
from fwmagic.run.effects import gone, seen_effect
from fwmagic.run.section import Section

# Work that is the same again, or that nothing reads, is told from this share on: shares are estimates.
_REPEATED = 0.03
# A random cell that takes longer than so many seconds is not run again to see whether it sets its own seeds.
_SEEDED = 1.0
# A cell that took longer than this when it ran as written took that for compiling: nobody has asked for it twice.
_WORTH_A_LOOK = 5.0


@dataclass(frozen=True)
class Contender:
    """A variant that is ready to be timed in this process.

    `other` is its section in another way, for a look at what the way costs: whole, or as Python. `prints`: the line
    that prints while it is traced.
    """

    name: str
    section: Section
    program: Program
    outcome: Outcome
    compilation: Compilation
    withheld: str = ""
    findings: tuple[Finding, ...] = ()
    other: Program | None = None
    prints: int | None = None
    repeated: tuple[float, int | None] = (0.0, None)
    least: Least = field(default_factory=Least)

    @property
    def trains(self) -> bool:
        """Whether it trains in a way that keeps its body from becoming one program."""
        return self.section.framework.strategy == "locals" and trains(self.program.scene) is not None


class _RunsOnce(Exception):
    """The plain run of a section was seen to do what cannot be undone: no variant of it is run again."""

    def __init__(self, program: Program, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.program, self.outcome, self.why = program, outcome, why


class Preparation:
    """Gets the variants of sections ready, one after the other, and notes in the draft what was found.

    It keeps the reference of each section: the outcome of one plain run, by the section's name. `window` is where an
    interrupt may stop it. `looks`: other ways are got ready, too, for a look at what they cost.
    """

    def __init__(self, draft: Draft, programs: Programs, window: Window, looks: bool = True) -> None:
        self.contenders: list[Contender] = []
        self._draft = draft
        self._programs = programs
        self._window = window
        self._looks = looks
        self._references: dict[str, Outcome] = {}
        self._plain: dict[str, Program] = {}
        self._first_seconds: dict[str, float] = {}

    def reference(self, section: Section) -> Outcome | None:
        """Return what the plain run of a section gave; None if there was none."""
        return self._references.get(section.name)

    def refer(self, section: Section, outcome: Outcome) -> None:
        """Take what a plain run of a section gave for its reference."""
        self._references[section.name] = outcome

    def let_go(self) -> None:
        """Forget the variants and what was found of them."""
        for found in (self.contenders, self._references, self._plain):
            found.clear()

    def prepare(self, section: Section, scene: Scene) -> None:
        """Make every variant of a section ready, or note why it is not.

        Raises
        ------
        KeyboardInterrupt
            Any other exception is that of a variant.
        """
        for name, mode in section.options.variants().items():
            self._draft.variant(name, status="running")
            try:
                contender = self._ready(section, scene, name, mode)
            except _RunsOnce as once:
                self._once(section, name, once.program, once.outcome, once.why)
                return
            except CompileInterrupted:
                continue
            except CannotCompile as error:
                if section.options.mode == "all":  # both are asked for, as far as they can be had
                    self._draft.variant(name, status="not timed", note=_why_not_prepared(error))
                else:
                    self._draft.failed(name, error, "compile", section.body.filename)
                continue
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the user's code raised: this variant failed, the others go on
                section.framework.add_hint(error)
                self._draft.failed(name, error, "first run", section.body.filename)
                continue
            self.contenders.append(contender)
            self._draft.variant(
                name,
                returned=contender.program.returned,
                compilation=contender.compilation,
                source=contender.program.source,
                outputs=_shown_outputs(contender.outcome),
            )

    def run_once(self, section: Section, scene: Scene, why: str) -> None:
        """Run a section one time, and no variant of it a second time; `why` is what the report says of that."""
        program = self._as_it_is(scene)
        for name in section.options.variants():
            try:
                _, outcome = first_run(program, self._window, only=True, watched=not section.options.repeat_effects)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the user's code raised: this variant failed, the others go on
                self._draft.failed(name, error, "first run", section.body.filename)
                continue
            self._once(section, name, program, outcome, why)
            return

    def can_run_again(self, section: Section, scene: Scene) -> bool:
        """Make the plain run of a section that may donate arrays, on copies of them; say whether that was not its last.

        If it is, the report has it already.
        """
        program, options = self._as_it_is(scene), section.options
        try:
            _, outcome = first_run(program, self._window, only=True, watched=not options.repeat_effects)
        except Exception:  # as it will when the section is prepared, which notes it
            return True
        lost = scene.snapshot.deleted()
        why = gone(lost[0][0]) if lost else seen_effect(outcome.effect, options.repeat_effects)
        self._first_seconds[section.name] = outcome.seconds
        if why:
            self._once(section, next(iter(options.variants())), program, outcome, why)
        return not why

    def _once(self, section: Section, name: str, program: Program, outcome: Outcome, why: str) -> None:
        """Note a section's one run, of which one variant is told."""
        self.refer(section, outcome)
        self._draft.once(
            name,
            outcome.seconds,
            why,
            source=program.source,
            returned=program.returned,
            outputs=_shown_outputs(outcome),
        )
        for other in section.options.variants():
            if self._draft.report[other].status in ("waiting", "running"):
                self._draft.variant(other, status="not timed", note=f"not run: {why}")

    def compare_across(self, sections: Sequence[Section]) -> None:
        """Compare every section's results with those of the first section that has any."""
        able = [section for section in sections if self.reference(section) is not None]
        if len(able) < 2:
            return
        first, *others = able
        for section in others:
            if not section.options.check:
                continue
            result = self._across(first, section)
            self._draft.find(*self._one_sided(first, section))
            for name in section.options.variants():
                variant = self._draft.report[name]
                own = variant.agreement
                # Of values that no two runs share, how they differ from the first section's is what there is to say.
                known = own is not None and own.status != "agrees" and not _is_worse(result, own)
                if variant.status not in ("failed", "not timed") and not known:
                    self._draft.variant(name, agreement=result)

    def _one_sided(self, first: Section, section: Section) -> Iterator[Finding]:
        """Yield the finding on what only one of two sections leaves, unless the other one leaves something instead."""
        ours, theirs = left_by_one((self._references[first.name], self._references[section.name]))
        name = next(iter(section.options.variants()))
        if bool(ours) != bool(theirs):
            one, other = (first, section) if ours else (section, first)
            yield findings.of_one_sided(name, one.name, other.name, ours or theirs)

    def draw_again(self, section: Section) -> None:
        """Run a random section once more, to see how far chance goes, if its plain run was made here and is short."""
        program, reference = self._plain.get(section.name), self.reference(section)
        if program is not None and reference is not None:
            self.refer(section, drawn_again(program, reference, self._window, seeds=True))

    def _varies(self, section: Section, plain: Program | None, most: float) -> bool:
        """Say whether a section gives something else when it is run again, and take it for a random one then.

        Numbers of the system, as those of `uuid` and of generators without a seed, leave no trace, nor do addresses.
        One that takes more than `most` seconds is not run again.
        """
        known = self._references[section.name]
        seen = None if plain is None else varying(plain, known, section, self._window, seeds=True, most=most)
        if seen is not None:
            self.refer(section, seen)
        return seen is not None

    def _across(self, first: Section, section: Section) -> Agreement:
        """Compare a section's results with those of the first one."""
        pair = (self._references[first.name], self._references[section.name])
        # Of longer ones, nobody would see whether what they leave is the same in every run.
        across = partial(agreement_across, first, section, with_left=max(one.seconds for one in pair) <= _SEEDED)
        result = across(pair)
        if any(one.random for one in pair) and result.status != "agrees":
            self.draw_again(first)
            self.draw_again(section)
            result = across((self._references[first.name], self._references[section.name]))
        elif result.status == "differs" and any(
            [self._varies(one, self._plain.get(one.name), _SEEDED) for one in (first, section)]
        ):
            result = across((self._references[first.name], self._references[section.name]))
        elif result.status == "differs" and first.name in self._plain:
            result = self._but_for_rounding(result, self._plain[first.name], pair[0], partial(across, pair))
        if result.status != "agrees":
            cause = self._cause(first, section, across)
            return replace(result, sentence=f"{result.sentence}; the cause: {cause}") if cause else result
        return result

    def _cause(self, first: Section, section: Section, across: Callable[[tuple[Outcome, Outcome]], Agreement]) -> str:
        """Return which habit of a framework makes the outputs differ, if they agree without it; else nothing."""
        sections, known = (first, section), [self._references[one.name] for one in (first, section)]
        for place, one in enumerate(sections):
            habits, program = one.framework.habits(sections[1 - place].framework.name), self._plain.get(one.name)
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

    def _ready(self, section: Section, scene: Scene, name: str, mode: str) -> Contender:
        mine = yours(scene)
        contender = self._made(section, scene, name, mode, mine.called)
        work = replace(_prepared_work(section, scene, contender, self._references[section.name]), dropped=mine.dropped)
        if section.options.check:
            work = self._with_spoilt(work, section, scene, contender.outcome)
        return replace(contender, findings=tuple(findings.of_work(name, work)))

    def _with_spoilt(self, work: Work, section: Section, scene: Scene, outcome: Outcome) -> Work:
        """Return the work with what of it is NaN or infinite; a cell that is not long is run line by line for where."""
        what = ""
        try:
            what = spoilt(outcome.results, to_numpy_of([section.framework]))
            if not what or (scene.seconds or outcome.seconds) > LONG:
                return replace(work, spoilt=what)
            found = follow(scene, self._window)
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever methods of the results raise, and the user's code where it is not compiled
            return replace(work, spoilt=what)
        visits = [visit for visit in found.visits if visit.spot.own]
        for place, visit in enumerate(visits):
            odd = (not_finite(found.steps[result].array.values) for result in visit.results)
            if any(one.share and not one.is_mask for one in odd):
                turn = sum(one.spot == visit.spot for one in visits[: place + 1])
                return replace(work, spoilt=what, spoilt_line=visit.spot.line, spoilt_turn=turn)
        return replace(work, spoilt=what)

    def _made(self, section: Section, scene: Scene, name: str, mode: str, place: Place | None) -> Contender:
        body, options = section.body, section.options
        if self.reference(section) is None:
            # In any case: it shows whether the section may be run a second time.
            watched = not options.repeat_effects
            program, outcome = first_run(self._as_it_is(scene), self._window, watched=watched)
            # What was compiled in a run on copies was compiled for this one, too.
            outcome = replace(outcome, seconds=max(outcome.seconds, self._first_seconds.get(section.name, 0.0)))
            why = seen_effect(outcome.effect, options.repeat_effects)
            if why:
                raise _RunsOnce(program, outcome, why)
            self._plain[section.name] = program
            self.refer(section, outcome)
        if mode == "eager":
            return self._eager(section, scene, name, "eager", "asked for by --mode")
        if place is not None and mode == "auto":
            found = self._eager(section, scene, name, "yours", f"{place.reason}: timed as it is written", place.line)
            return replace(found, other=self._whole(section, scene, name))
        makes = self._references[section.name].makes
        if makes and mode == "auto":
            reason = f"the first call of a lazy layer makes `{makes}`, which is done once, and not compiled"
            return self._eager(section, scene, name, "eager", reason, first_use(body, root(makes)))
        try:
            ready, agreement = self._compared(section, scene, name)
        except CannotCompile as error:
            if mode == "compiled":
                raise
            # If no line stands in the way, look nowhere in the cell where it is the machine.
            first = None if section.framework.cannot_compile() else body.first_line
            found = self._eager(section, scene, name, "eager", error.reason, error.line or first)
            return _after(found, error.spent)
        if agreement is not None and agreement.status == "differs" and mode == "auto":
            reason = f"compiled, it computes something else: {agreement.sentence}"
            found = self._eager(section, scene, name, "eager", reason, body.first_line)
            spent = sum(stage.seconds or 0.0 for stage in ready.compilation.stages if stage.name != "prime")
            return _after(found, spent)
        if agreement is not None:
            self._draft.variant(name, agreement=agreement)
        made = Contender(
            name,
            section,
            ready.program,
            ready.outcome,
            ready.compilation,
            ready.withheld,
            prints=ready.prints,
            repeated=ready.repeated,
            least=ready.least,
        )
        return replace(made, other=self._plain.get(section.name)) if ready.compilation.way == "cell" else made

    def _compared(self, section: Section, scene: Scene, name: str) -> tuple[Ready, Agreement | None]:
        """Compile a section, as `_compiled`, and compare it with its plain run, if that is wanted."""
        ready = self._compiled(section, scene, name)
        if not section.options.check:
            return ready, None
        found = self._check(section, scene, ready)
        if found.status == "differs" and ready.kept is not None and ready.kept.fitted:  # what it took for fixed is not
            ready = self._compiled(section, scene, name, anew=True)
            found = self._check(section, scene, ready)
        if ready.kept is not None:
            ready.kept.fitted = found.status != "differs"
        return ready, found

    def _compiled(self, section: Section, scene: Scene, name: str, anew: bool = False) -> Ready:
        """Compile a section, `anew` as in `Programs.compile`.

        Raises
        ------
        CannotCompile
            There is no way to.
        CompileInterrupted
            Ctrl-C ended it, and the run goes on.
        KeyboardInterrupt
            It was the second one, or there is nothing else to go on with.
        """
        try:
            with Compiling(self._draft, name, section.framework):
                ready = self._programs.compile(scene, _wanted(section), self._window, anew=anew)
                with self._window():  # an interrupt that had to wait meant this compilation
                    return ready
        except (CompileInterrupted, KeyboardInterrupt):
            scene.restore()  # nobody has noted what was changed so far
            raise

    def _whole(self, section: Section, scene: Scene, name: str) -> Program | None:
        """Return a section that compiles on its own as one program of ours, if that computes the same."""
        known = self.reference(section)
        if not self._looks or (known is not None and known.seconds > _WORTH_A_LOOK):
            return None
        try:
            with Compiling(self._draft, name, section.framework, look=True):
                ready = self._programs.compile(scene, _wanted(section), self._window, look=True)
        except Exception:  # whatever compiling it raises: it is not what was asked for
            scene.restore()
            return None
        if ready.withheld:
            return None
        agreement = self._check(section, scene, ready)
        return None if agreement.status == "differs" else ready.program

    @staticmethod
    def _as_it_is(scene: Scene) -> Program:
        """Return a section's body as it is, ready to run."""
        scene.overlay.on()
        try:
            return program_as_written(scene)
        finally:
            scene.overlay.off()

    def _eager(
        self, section: Section, scene: Scene, name: str, way: Way, reason: str, line: int | None = None
    ) -> Contender:
        program, outcome = self._plain.get(section.name), self.reference(section)
        if program is None or outcome is None:
            program, outcome = self._known(section, scene)
        place = why_no_function(section.body, scene.namespace, scene.snapshot.objects())
        if place is not None and way == "eager":
            reason = f"{reason}; runs in the namespace, since {place.reason}"
        source = "first call"
        if section.framework.strategy:  # else the same cell again may show another time, and nobody knows why
            source = f"first call, {outcome.compilations} compilations in it"
        stages = (Stage("first run", outcome.seconds, source),)
        return Contender(name, section, program, outcome, Compilation(way, reason, line, stages=stages, cache="none"))

    def _known(self, section: Section, scene: Scene) -> tuple[Program, Outcome]:
        """Return the body as it is, with its outcome: of a slow cell that of its plain run, which is not repeated."""
        program, known = self._as_it_is(scene), self.reference(section)
        if known is None or known.seconds <= LONG or set(program.returned) - known.results.keys():
            return first_run(program, self._window)
        return outcome_without_run(program, known), known

    def _check(self, section: Section, scene: Scene, ready: Ready) -> Agreement:
        """Compare a compiled variant with the plain run of its section."""
        reference = self._references[section.name]
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
        plain = self._plain.get(section.name) or self._as_it_is(scene)
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
            draws = draws_of(self._references[section.name], again or ready.outcome, expected)
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


def _is_worse(across: Agreement, own: Agreement) -> bool:
    """Say whether a variant that could not be compared with its plain run has other outputs than the first section."""
    return own.status == "not compared" and across.status != "agrees"


def _shown_outputs(outcome: Outcome) -> dict[str, Any]:
    """Return the results, but those with a finalizer of the user's: it would run when the state was put back."""
    return {name: value for name, value in outcome.results.items() if not finalizes(value)}


def _wanted(section: Section) -> CompileOptions:
    return CompileOptions(section.options.compile_mode, section.options.fullgraph)


def _after(contender: Contender, spent: float) -> Contender:
    """Return a variant that is run as it is, with what was spent on compiling it in vain."""
    made = contender.compilation
    if spent < LEAST_SPENT:
        return contender
    return replace(contender, compilation=replace(made, stages=(tried_before(spent), *made.stages)))


def _prepared_work(section: Section, scene: Scene, contender: Contender, plain: Outcome) -> Work:
    """Return what the first run of a variant showed of its work, and the plain run of its section."""
    framework, body = section.framework, section.body
    outcome, way = contender.outcome, contender.compilation.way
    values = [value for value in (*outcome.results.values(), *outcome.changed.values()) if value is not None]
    traced = way == "cell" and framework.traced_print
    drawn = bars(body)
    return Work(
        title=framework.title,
        gave=bool(values) or plain.alters,
        arrays=framework.is_plain or any(_holds_array(framework, one) for one in values) or _reaches(section, scene),
        print_line=next(iter(body.prints), contender.prints) if traced else None,
        traced_print=framework.traced_print,
        unread=_unread(scene, contender.least) if way == "cell" and framework.strategy == "locals" else None,
        repeated=contender.repeated if contender.repeated[0] >= _REPEATED else None,
        bar_line=drawn[0] if drawn else None,
        draws=way != "cell",
    )


def _unread(scene: Scene, least: Least) -> tuple[float | None, int | None] | None:
    """Return the share and the line of what nothing reads; of a slow cell, which was not looked at, a line by its text.

    What a trace of JAX leaves unread is computed all the same.
    """
    if least != Least():
        return least.unread if least.unread[0] >= _REPEATED else None
    lines = unused_values(list(scene.body.statements), scene.framework.pure, partial(_only_returns, scene))
    return (None, lines[0]) if lines else None


def _reaches(section: Section, scene: Scene) -> bool:
    """Say whether a section can reach arrays of its framework, or names the framework or a library of its own."""
    framework, body = section.framework, section.body
    if scene.snapshot.leaves(framework.is_array):
        return True
    functions = notebook_functions(scene.namespace, body.all_reads)
    named = set(body.all_reads).union(*(names_of_code(function.__code__).reads for function in functions))
    libraries = (framework.module, *framework.companions)
    values = (scene.overlay.bindings.get(name, scene.namespace.get(name)) for name in named)
    return any(isinstance(v, ModuleType) and v.__name__.partition(".")[0] in libraries for v in values)


def _only_returns(scene: Scene, call: ast.Call) -> bool:
    """Say whether a call is of a method of an array, or of a notebook function, that changes nothing."""
    owner, _, method = dotted(call.func).rpartition(".")
    if owner:
        return (
            scene.framework.is_array(scene.namespace.get(owner)) and not method.endswith("_") and method != "backward"
        )
    function = scene.namespace.get(method)
    if not isinstance(function, FunctionType) or function.__globals__ is not scene.namespace:
        return False
    steps = list(dis.get_instructions(function))
    gives = any(b.opname == "RETURN_VALUE" and a.opname != "LOAD_CONST" for a, b in pairwise(steps))
    changes = any(step.opname.startswith(("STORE_ATTR", "STORE_SUBSCR", "STORE_GLOBAL", "DELETE_")) for step in steps)
    return gives and not changes and not any(name.endswith("_") for name in function.__code__.co_names)


def _holds_array(framework: Framework, value: Any) -> bool:
    pending, seen = [value], {id(value)}
    libraries = (framework.module, *framework.companions)
    while pending:
        one = pending.pop()
        if framework.is_array(one):
            return True
        # A module, an optimizer or the like holds its arrays somewhere inside.
        if any(kind.__module__.split(".")[0] in libraries for kind in type(one).__mro__):
            return True
        inner = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
        for held in inner:
            if id(held) not in seen:
                seen.add(id(held))
                pending.append(held)
    return False


def _lost_when_prepared(scene: Scene, reference: Outcome, compiled: Outcome) -> str:
    """Return where the plain run left another array than there was, and the compiled one did not."""
    before = {id(value) for _, value in scene.snapshot.leaves(scene.framework.is_array)}
    lost = (p for p, v in reference.changed.items() if p not in compiled.changed and id(v) not in before)
    return next(lost, "")


def _why_not_prepared(error: CannotCompile) -> str:
    return error.reason if error.line is None else f"line {error.line}: {error.reason}"
