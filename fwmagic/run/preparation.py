"""From a section to variants that are ready to be timed: reference run, compilation, agreement, fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fwmagic.cells.course import follow
from fwmagic.cells.function import why_no_function
from fwmagic.cells.names import notebook_functions, words_of_code
from fwmagic.cells.outcome import LONG, Outcome, Window, drawn_again, first_run, outcome_without_run
from fwmagic.cells.program import Program, program_as_written
from fwmagic.cells.scene import Scene
from fwmagic.cells.uses import unused_values
from fwmagic.cells.ways import Programs, Ready
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import CompileOptions, Framework, bare_name, habit
from fwmagic.measure.agree import Draws, agree, spoilt
from fwmagic.measure.close import ToNumpy, not_finite
from fwmagic.report import Agreement, Compilation, Finding, Stage, Way, findings
from fwmagic.report.findings import Work
from fwmagic.run.draft import Draft
from fwmagic.run.section import Section


@dataclass(frozen=True)
class Contender:
    """A variant that is ready to be timed in this process."""

    name: str
    section: Section
    program: Program
    outcome: Outcome
    compilation: Compilation
    withheld: str = ""
    findings: tuple[Finding, ...] = ()


class Preparation:
    """Gets the variants of sections ready, one after the other, and notes in the draft what was found.

    It keeps the reference of each section: the outcome of one plain run, by the section's name. `window` is where an
    interrupt may stop it.
    """

    def __init__(self, draft: Draft, programs: Programs, window: Window) -> None:
        self.contenders: list[Contender] = []
        self._draft = draft
        self._programs = programs
        self._window = window
        self._references: dict[str, Outcome] = {}
        self._plain: dict[str, Program] = {}

    def reference(self, section: Section) -> Outcome | None:
        """Return what the plain run of a section gave; None if there was none."""
        return self._references.get(section.name)

    def refer(self, section: Section, outcome: Outcome) -> None:
        """Take what a plain run of a section gave for its reference."""
        self._references[section.name] = outcome

    def prepare(self, section: Section, scene: Scene) -> None:
        """Make every variant of a section ready, or note why it is not.

        Raises
        ------
        KeyboardInterrupt
            And whatever else is no `Exception`.
        """
        for name, mode in section.options.variants().items():
            self._draft.variant(name, status="running")
            try:
                contender = self._ready(section, scene, name, mode)
            except CannotCompile as error:
                if section.options.mode == "all":  # both are asked for, as far as they can be had
                    self._draft.variant(name, status="not timed", note=_why_not_prepared(error))
                else:
                    self._draft.failed(name, error, "compile", section.body.filename)
                continue
            except Exception as error:  # the user's code raised: this variant failed, the others go on
                section.framework.add_hint(error)
                self._draft.failed(name, error, "first run", section.body.filename)
                continue
            self.contenders.append(contender)
            self._draft.variant(
                name,
                returned=contender.program.returned,
                compilation=contender.compilation,
                source=contender.program.source,
                outputs=dict(contender.outcome.results),
            )

    def run_once(self, section: Section, scene: Scene, why: str) -> None:
        """Run a section one time, and no variant of it a second time; `why` is what the report says of that."""
        program = self._as_it_is(scene)
        for name in section.options.variants():
            try:
                _, outcome = first_run(program, self._window, only=True)
            except Exception as error:  # the user's code raised: this variant failed, the others go on
                self._draft.failed(name, error, "first run", section.body.filename)
                continue
            self.refer(section, outcome)
            self._draft.once(
                name,
                outcome.seconds,
                why,
                source=program.source,
                returned=program.returned,
                outputs=dict(outcome.results),
            )
            return

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
            for name in section.options.variants():
                variant = self._draft.report[name]
                own = variant.agreement
                if variant.status != "failed" and (own is None or own.status == "agrees"):
                    self._draft.variant(name, agreement=result)

    def draw_again(self, section: Section) -> None:
        """Run a random section once more, to see how far chance goes, if its plain run was made here and is short."""
        program, reference = self._plain.get(section.name), self.reference(section)
        if program is not None and reference is not None:
            self.refer(section, drawn_again(program, reference, self._window))

    def _across(self, first: Section, section: Section) -> Agreement:
        """Compare a section's results with those of the first one."""
        pair = (self._references[first.name], self._references[section.name])
        result = _agreement_across(first, section, pair)
        if any(one.random for one in pair) and result.status != "agrees":
            self.draw_again(first)
            self.draw_again(section)
            result = _agreement_across(first, section, (self._references[first.name], self._references[section.name]))
        if result.status == "differs":
            known = habit(first.framework, section.framework, self._words(first), self._words(section))
            return replace(result, sentence=f"{result.sentence}; {known}") if known else result
        return result

    def _words(self, section: Section) -> set[str]:
        """Return the bare names of what a section calls, of its own and in functions of the notebook."""
        codes = [section.body.code(section.body.tree)]
        program = self._plain.get(section.name)
        if program is not None:
            namespace = program.scene.namespace
            codes += [function.__code__ for function in notebook_functions(namespace, section.body.all_reads)]
        return {bare_name(word) for code in codes for word in words_of_code(code)}

    def _ready(self, section: Section, scene: Scene, name: str, mode: str) -> Contender:
        contender = self._made(section, scene, name, mode)
        work = _prepared_work(section, contender.outcome, contender.compilation.way)
        if section.options.check:
            work = self._with_spoilt(work, section, scene, contender.outcome)
        return replace(contender, findings=tuple(findings.of_work(name, work)))

    def _with_spoilt(self, work: Work, section: Section, scene: Scene, outcome: Outcome) -> Work:
        """Return the work with what of it is NaN or infinite; a cell that is not long is run line by line for where."""
        what = spoilt(outcome.results, _to_numpy([section.framework]))
        if not what or (scene.seconds or outcome.seconds) > LONG:
            return replace(work, spoilt=what)
        try:
            found = follow(scene, self._window)
        except Exception:  # whatever the user's code raises where it is not compiled
            return replace(work, spoilt=what)
        visits = [visit for visit in found.visits if visit.spot.own]
        for place, visit in enumerate(visits):
            odd = (not_finite(found.steps[result].array.values) for result in visit.results)
            if any(one.share and not one.is_mask for one in odd):
                turn = sum(one.spot == visit.spot for one in visits[: place + 1])
                return replace(work, spoilt=what, spoilt_line=visit.spot.line, spoilt_turn=turn)
        return replace(work, spoilt=what)

    def _made(self, section: Section, scene: Scene, name: str, mode: str) -> Contender:
        body, options = section.body, section.options
        checked = options.check or mode in ("eager", "all")
        if self.reference(section) is None and (checked or mode != "compiled"):
            self._plain[section.name], outcome = first_run(self._as_it_is(scene), self._window)
            self.refer(section, outcome)
        place = body.yours
        if place is not None:
            return self._eager(section, scene, name, "yours", f"{place.reason}: left as it is", place.line)
        if mode == "eager":
            return self._eager(section, scene, name, "eager", "asked for by --mode")
        wanted = CompileOptions(options.compile_mode, options.fullgraph)
        try:
            ready = self._programs.compile(scene, wanted, self._window)
        except CannotCompile as error:
            if mode == "compiled":
                raise
            # If no line stands in the way, look nowhere in the cell where it is the machine.
            first = None if section.framework.cannot_compile() else body.first_line
            return self._eager(section, scene, name, "eager", error.reason, error.line or first)
        agreement = self._check(section, scene, ready) if options.check else None
        if agreement is not None and agreement.status == "differs" and mode == "auto":
            reason = f"compiled, it computes something else: {agreement.sentence}"
            return self._eager(section, scene, name, "eager", reason, body.first_line)
        if agreement is not None:
            self._draft.variant(name, agreement=agreement)
        return Contender(name, section, ready.program, ready.outcome, ready.compilation, ready.withheld)

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
        place = why_no_function(section.body, scene.namespace)
        if place is not None and way == "eager":
            reason = f"{reason}; runs in the namespace, since {place.reason}"
        stages = (Stage("first run", outcome.seconds, "first call"),)
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
        names = (f"{section.name} eager", f"{section.name} compiled")
        result = agreement(expected, found, names, [section.framework], reference.random)
        if reference.random and result.status != "agrees":
            plain = self._plain.get(section.name) or self._as_it_is(scene)
            reference = drawn_again(plain, reference, self._window)
            self.refer(section, reference)
            draws = _draws(reference, drawn_again(ready.program, ready.outcome, self._window))
            result = agreement(expected, found, names, [section.framework], True, draws)
        lost = _lost_when_prepared(scene, reference, ready.outcome)
        if lost and result.status == "agrees":
            sentence = f"{names[1]} leaves `{lost}` as it was, which {names[0]} changes"
            return Agreement(names[0], "differs", sentence, lost)
        if section.body.clock is not None and result.status == "not compared":
            return replace(result, sentence=f"not compared: {section.body.clock.reason}")
        return result


def _prepared_work(section: Section, outcome: Outcome, way: str) -> Work:
    """Return what the first run of a variant that was compiled this way showed of its work."""
    framework, body = section.framework, section.body
    values = [value for value in (*outcome.results.values(), *outcome.changed.values()) if value is not None]
    traced = way == "cell" and framework.traced_print
    unread = unused_values(list(body.statements), framework.pure) if way == "cell" else []
    return Work(
        title=framework.title,
        gave=bool(values),
        arrays=framework.is_plain or any(_holds_array(framework, value) for value in values),
        print_line=body.prints[0] if traced and body.prints else None,
        traced_print=framework.traced_print,
        unread_line=unread[0] if unread else None,
    )


def _holds_array(framework: Framework, value: Any) -> bool:
    if framework.is_array(value):
        return True
    if isinstance(value, Mapping):
        return any(_holds_array(framework, item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_array(framework, item) for item in value)
    # A module, an optimizer or the like holds its arrays somewhere inside.
    libraries = (framework.module, *framework.companions)
    return any(kind.__module__.split(".")[0] in libraries for kind in type(value).__mro__)


def agreement(
    expected: Any,
    found: Any,
    names: tuple[str, str],
    frameworks: Sequence[Framework],
    random: bool,
    again: Draws | None = None,
) -> Agreement:
    """Compare two trees of results."""
    return agree(expected, found, names=names, to_numpy=_to_numpy(frameworks), random=random, again=again)


def _draws(one: Outcome, other: Outcome) -> Draws:
    """Return what further runs of two programs gave: what draws no random numbers would give the same again."""
    first, second = (outcome.again if outcome.random else outcome.results for outcome in (one, other))
    return Draws(first, second)


def _to_numpy(frameworks: Sequence[Framework]) -> ToNumpy:
    """Return the function that gives the values of arrays of some frameworks, and of NumPy."""

    def to_numpy(value: Any) -> Any:
        for framework in frameworks:
            array = framework.array_in(value)
            if array is not None:
                return framework.to_numpy(array)
        return value if type(value).__module__ == "numpy" else None

    return to_numpy


def _agreement_across(first: Section, section: Section, pair: tuple[Outcome, Outcome]) -> Agreement:
    reference, outcome = pair
    names = [name for name in reference.results if name in outcome.results]
    given = [name for name in names if reference.results[name] is not None]
    if not given:
        nothing = "no result in common: end both sections with the value to compare"
        return Agreement(first.name, "not compared", nothing)
    return agreement(
        {name: reference.results[name] for name in given},
        {name: outcome.results[name] for name in given},
        (first.name, section.name),
        [first.framework, section.framework],
        reference.random or outcome.random,
        _draws(reference, outcome),
    )


def _lost_when_prepared(scene: Scene, reference: Outcome, compiled: Outcome) -> str:
    """Return where the plain run left another array than there was, and the compiled one did not."""
    before = {id(value) for _, value in scene.snapshot.leaves(scene.framework.is_array)}
    lost = (p for p, v in reference.changed.items() if p not in compiled.changed and id(v) not in before)
    return next(lost, "")


def _why_not_prepared(error: CannotCompile) -> str:
    return error.reason if error.line is None else f"line {error.line}: {error.reason}"
