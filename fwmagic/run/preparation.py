"""From a section to variants that are ready to be timed: reference run, compilation, fallback."""

from __future__ import annotations

import ast
import dis
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import Any

from fwmagic.agreement.agree import spoilt
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
    Outcome,
    Window,
    first_run,
    outcome_without_run,
    root,
)
from fwmagic.cells.program import Program
from fwmagic.cells.scene import Scene
from fwmagic.cells.uses import unused_values
from fwmagic.cells.ways import LEAST_SPENT, Programs, Ready, tried_before
from fwmagic.cells.yours import yours
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import Framework
from fwmagic.frameworks.compiled import CompileOptions
from fwmagic.frameworks.least import Least
from fwmagic.libraries import module_of
from fwmagic.report import Agreement, Compilation, Finding, Place, Stage, Way, findings
from fwmagic.report.findings import Work
from fwmagic.run.checking import left_by_one, to_numpy_of
from fwmagic.run.compiling import CompileInterrupted, Compiling
from fwmagic.run.draft import Draft
from fwmagic.run.effects import gone, seen_effect
from fwmagic.run.references import References, as_it_is
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

    `window` is where an interrupt may stop it. `looks`: other ways are got ready, too, for a look at what they cost.

    Attributes
    ----------
    contenders
        The variants that are ready.
    references
        The plain run of each section, by which they are checked.
    """

    def __init__(self, draft: Draft, programs: Programs, window: Window, looks: bool = True) -> None:
        self.contenders: list[Contender] = []
        self.references = References(window)
        self._draft = draft
        self._programs = programs
        self._window = window
        self._looks = looks
        self._first_seconds: dict[str, float] = {}

    def let_go(self) -> None:
        """Forget the variants and what was found of them."""
        self.contenders.clear()
        self.references.let_go()

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
        program = as_it_is(scene)
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
        program, options = as_it_is(scene), section.options
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
        self.references.refer(section, outcome)
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
        able = [section for section in sections if self.references.outcome(section) is not None]
        if len(able) < 2:
            return
        first, *others = able
        for section in others:
            if not section.options.check:
                continue
            result = self.references.across(first, section)
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
        ours, theirs = left_by_one((self.references[first], self.references[section]))
        name = next(iter(section.options.variants()))
        if bool(ours) != bool(theirs):
            one, other = (first, section) if ours else (section, first)
            yield findings.of_one_sided(name, one.name, other.name, ours or theirs)

    def _ready(self, section: Section, scene: Scene, name: str, mode: str) -> Contender:
        mine = yours(scene)
        contender = self._made(section, scene, name, mode, mine.called)
        work = replace(_prepared_work(section, scene, contender, self.references[section]), dropped=mine.dropped)
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
        if self.references.outcome(section) is None:
            # In any case: it shows whether the section may be run a second time.
            watched = not options.repeat_effects
            program, outcome = first_run(as_it_is(scene), self._window, watched=watched)
            # What was compiled in a run on copies was compiled for this one, too.
            outcome = replace(outcome, seconds=max(outcome.seconds, self._first_seconds.get(section.name, 0.0)))
            why = seen_effect(outcome.effect, options.repeat_effects)
            if why:
                raise _RunsOnce(program, outcome, why)
            self.references.refer(section, outcome, program)
        if mode == "eager":
            return self._eager(section, scene, name, "eager", "asked for by --mode")
        if place is not None and mode == "auto":
            found = self._eager(section, scene, name, "yours", f"{place.reason}: timed as it is written", place.line)
            return replace(found, other=self._whole(section, scene, name))
        makes = self.references[section].makes
        if makes and mode == "auto":
            reason = f"the first call of a lazy layer makes `{makes}`, which is done once, and not compiled"
            return self._eager(section, scene, name, "eager", reason, first_use(body, root(makes)))
        try:
            ready, agreement = self._compared(section, scene, name, mode)
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
        plain = self.references.program(section) or as_it_is(scene)
        return made if ready.compilation.way == "eager" else replace(made, other=plain)

    def _compared(self, section: Section, scene: Scene, name: str, mode: str) -> tuple[Ready, Agreement | None]:
        """Compile a section, as `_compiled`, and compare it with its plain run, if that is wanted."""
        ready = self._compiled(section, scene, name, mode)
        if not section.options.check:
            return ready, None
        found = self.references.check(section, scene, ready)
        if found.status == "differs" and ready.kept is not None and ready.kept.fitted:  # what it took for fixed is not
            ready = self._compiled(section, scene, name, mode, anew=True)
            found = self.references.check(section, scene, ready)
        if ready.kept is not None:
            ready.kept.fitted = found.status != "differs"
        return ready, found

    def _compiled(self, section: Section, scene: Scene, name: str, mode: str, anew: bool = False) -> Ready:
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
                lasts = mode != "compiled"  # who asks for that gets it, also where it compiles in every call
                ready = self._programs.compile(scene, _wanted(section), self._window, anew=anew, lasts=lasts)
                with self._window():  # an interrupt that had to wait meant this compilation
                    return ready
        except (CompileInterrupted, KeyboardInterrupt):
            scene.restore()  # nobody has noted what was changed so far
            raise

    def _whole(self, section: Section, scene: Scene, name: str) -> Program | None:
        """Return a section that compiles on its own as one program of ours, if that computes the same."""
        known = self.references.outcome(section)
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
        agreement = self.references.check(section, scene, ready)
        return None if agreement.status == "differs" else ready.program

    def _eager(
        self, section: Section, scene: Scene, name: str, way: Way, reason: str, line: int | None = None
    ) -> Contender:
        program, outcome = self.references.program(section), self.references.outcome(section)
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
        program, known = as_it_is(scene), self.references.outcome(section)
        if known is None or known.seconds <= LONG or set(program.returned) - known.results.keys():
            return first_run(program, self._window)
        return outcome_without_run(program, known), known


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
        if any(module_of(kind).split(".")[0] in libraries for kind in type(one).__mro__):
            return True
        inner = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
        for held in inner:
            if id(held) not in seen:
                seen.add(id(held))
                pending.append(held)
    return False


def _why_not_prepared(error: CannotCompile) -> str:
    return error.reason if error.line is None else f"line {error.line}: {error.reason}"
