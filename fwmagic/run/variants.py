"""From a section to variants that are ready to be timed: reference run, compilation, agreement, fallback."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from fwmagic.cells import program as programs
from fwmagic.cells.analyse import Body
from fwmagic.cells.function import stays_in_namespace
from fwmagic.cells.outcome import LONG, Outcome, Window, first_run, without_run
from fwmagic.cells.program import Program
from fwmagic.cells.scene import Scene
from fwmagic.cells.ways import Programs, Ready
from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks import CompileOptions, Framework, line_of
from fwmagic.measure.agree import agree
from fwmagic.options import Options
from fwmagic.report import Agreement, Compilation, Failure, Finding, Stage, Variant, Way, findings
from fwmagic.run.draft import Draft


@dataclass
class Section:
    """One section of a run: its code, where it runs, and its reference: one plain run."""

    name: str
    framework: Framework
    body: Body
    options: Options
    scene: Scene | None = None
    reference: Outcome | None = None
    plain: Program | None = None
    definitions: dict[str, Any] = field(default_factory=dict)


@dataclass
class Contender:
    """A variant that is ready to be timed."""

    name: str
    section: Section
    program: Program
    outcome: Outcome | None
    compilation: Compilation
    withheld: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass
class Preparation:
    """Gets the variants of sections ready, one after the other, and notes in the draft what was found."""

    draft: Draft
    programs: Programs
    window: Window
    contenders: list[Contender] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def add(self, section: Section) -> None:
        """Add the section's variants to the draft, as waiting."""
        for name, mode in section.options.variants().items():
            self.draft.add(
                Variant(name, section.name, section.framework.name, mode, "waiting", options=section.options.stated())
            )

    def prepare(self, section: Section) -> None:
        """Make every variant of a section ready, or note why it is not.

        Raises
        ------
        KeyboardInterrupt
            And whatever else is no `Exception`.
        """
        for name, mode in section.options.variants().items():
            self.draft.variant(name, status="running")
            try:
                contender = self._ready(section, name, mode)
            except CannotCompile as error:
                if section.options.mode == "all":  # both are asked for, as far as they can be had
                    self.draft.variant(name, status="not timed", note=_where(error))
                else:
                    self.fail(section, name, error, error.line, "compile")
                continue
            except Exception as error:  # the user's code raised: this variant failed, the others go on
                self.fail(section, name, error, line_of(error, section.body.filename), "first run")
                continue
            outcome = contender.outcome
            contender.program.name = name
            contender.findings = tuple(findings.of_work(name, section, outcome, contender.compilation))
            self.contenders.append(contender)
            self.draft.variant(
                name,
                returned=contender.program.returned,
                compilation=contender.compilation,
                source=contender.program.source,
                outputs=None if outcome is None else dict(outcome.results),
            )

    def fail(self, section: Section, name: str, error: BaseException, line: int | None, stage: str) -> None:
        """Note that a variant failed."""
        failure = failure_of(error, line, stage)
        self.errors.append(error.with_traceback(_of_user(error, section.body.filename)))
        self.draft.variant(name, status="failed", failure=failure)

    def run(self, program: Program) -> Outcome:
        """Run a program once, quietly."""
        return first_run(program, self.window)

    def _ready(self, section: Section, name: str, mode: str) -> Contender:
        body, options = section.body, section.options
        assert section.scene is not None
        checked = options.check or mode in ("eager", "all")
        if section.reference is None and (checked or mode != "compiled"):
            section.plain = self.plain(section)
            section.reference = self.run(section.plain)
        place = body.yours
        if place is not None:
            return self._eager(section, name, "yours", f"{place.reason}: left as it is", place.line)
        if mode == "eager":
            return self._eager(section, name, "eager", "asked for by --mode")
        wanted = CompileOptions(options.compile_mode, options.fullgraph)
        try:
            ready = self.programs.compile(section.scene, wanted, self.window)
        except CannotCompile as error:
            if mode == "compiled":
                raise
            return self._eager(section, name, "eager", error.reason, error.line or self._first_line(section))
        agreement = self.check(section, ready) if options.check else None
        if agreement is not None and agreement.status == "differs" and mode == "auto":
            reason = f"compiled, it computes something else: {agreement.sentence}"
            return self._eager(section, name, "eager", reason, body.first_line)
        if agreement is not None:
            self.draft.variant(name, agreement=agreement)
        return Contender(name, section, ready.program, ready.outcome, ready.compilation, ready.withheld)

    @staticmethod
    def _first_line(section: Section) -> int | None:
        """Return where to look if no line stands in the way: nowhere in the cell if it is the machine."""
        return None if section.framework.cannot_compile() else section.body.first_line

    def plain(self, section: Section) -> Program:
        """Return a section's body as it is, ready to run."""
        assert section.scene is not None
        section.scene.overlay.on()
        try:
            return programs.plain(section.scene)
        finally:
            section.scene.overlay.off()

    def _eager(self, section: Section, name: str, way: Way, reason: str, line: int | None = None) -> Contender:
        assert section.scene is not None
        program = section.plain
        outcome = section.reference
        if program is None or outcome is None:
            program = self.plain(section)
            outcome = self._known(section, program) or self.run(program)
        place = stays_in_namespace(section.body, section.scene.namespace)
        if place is not None and way == "eager":
            reason = f"{reason}; runs in the namespace, since {place.reason}"
        stages = (Stage("first run", outcome.seconds, "first call"),)
        return Contender(name, section, program, outcome, Compilation(way, reason, line, stages=stages, cache="none"))

    @staticmethod
    def _known(section: Section, program: Program) -> Outcome | None:
        """Return what the plain run of a slow cell gave, so that it need not be run once more; None if it is quick."""
        known = section.reference
        if known is None or known.seconds <= LONG or set(program.returned) - known.results.keys():
            return None
        without_run(program, known)
        return known

    @staticmethod
    def check(section: Section, ready: Ready) -> Agreement:
        """Compare a compiled variant with the plain run of its section."""
        reference = section.reference
        assert reference is not None
        expected = dict(reference.results)
        found = dict(ready.outcome.results)
        common = reference.changed.keys() & ready.outcome.changed.keys()
        expected.update({path: reference.changed[path] for path in common})
        found.update({path: ready.outcome.changed[path] for path in common})
        names = (f"{section.name} eager", f"{section.name} compiled")
        result = agreement(expected, found, names, [section.framework], reference.random)
        lost = _lost(section, reference, ready.outcome)
        if lost and result.status == "agrees":
            sentence = f"{names[1]} leaves `{lost}` as it was, which {names[0]} changes"
            return Agreement(names[0], "differs", sentence, lost)
        if section.body.clock is not None and result.status == "not compared":
            return replace(result, sentence=f"not compared: {section.body.clock.reason}")
        return result


def failure_of(error: BaseException, line: int | None, stage: str) -> Failure:
    """Return what is reported of an exception; our own are told by their sentence alone."""
    message = str(error).strip() or "no message"
    kind = "" if isinstance(error, FwMagicError) else type(error).__name__
    return Failure(kind, message.splitlines()[0], line, stage)


def _lost(section: Section, reference: Outcome, compiled: Outcome) -> str:
    """Return where the plain run left another array than there was, and the compiled one did not."""
    assert section.scene is not None
    before = {id(value) for _, value in section.scene.snapshot.leaves(section.framework.is_array)}
    lost = (p for p, v in reference.changed.items() if p not in compiled.changed and id(v) not in before)
    return next(lost, "")


def _of_user(error: BaseException, filename: str) -> TracebackType | None:
    """Return the traceback from the user's own code on; all of it if that is not in it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    return trace or error.__traceback__


def _where(error: CannotCompile) -> str:
    return error.reason if error.line is None else f"line {error.line}: {error.reason}"


def agreement(
    expected: Any, found: Any, names: tuple[str, str], frameworks: list[Framework], random: bool
) -> Agreement:
    """Compare two trees of results."""

    def to_numpy(value: Any) -> Any:
        for framework in frameworks:
            if framework.is_array(value):
                return framework.to_numpy(value)
        return value if type(value).__module__ == "numpy" else None

    return agree(expected, found, names=names, to_numpy=to_numpy, random=random)


def across(sections: list[Section], draft: Draft) -> None:
    """Compare every section's results with those of the first section that has any."""
    able = [section for section in sections if section.reference is not None]
    if len(able) < 2:
        return
    first, *others = able
    assert first.reference is not None
    for section in others:
        assert section.reference is not None
        if not section.options.check:
            continue
        names = [name for name in first.reference.results if name in section.reference.results]
        given = [name for name in names if first.reference.results[name] is not None]
        if not given:
            result = Agreement(
                first.name, "not compared", "no result in common: end both sections with the value to compare"
            )
        else:
            result = agreement(
                {name: first.reference.results[name] for name in given},
                {name: section.reference.results[name] for name in given},
                (first.name, section.name),
                [first.framework, section.framework],
                first.reference.random or section.reference.random,
            )
        for name in section.options.variants():
            variant = draft.report[name]
            own = variant.agreement
            if variant.status != "failed" and (own is None or own.status == "agrees"):
                draft.variant(name, agreement=result)
