"""A report while it is being made: every change is a new frozen report, and goes to whoever shows it."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from fwmagic import frameworks
from fwmagic.cells import interrupts
from fwmagic.errors import CannotCompile, FwMagicError, entries_of, in_words, message_of, traceback_of
from fwmagic.frameworks import line_of
from fwmagic.libraries import is_of_library
from fwmagic.options import Options
from fwmagic.report import Compilation, Failure, Finding, Report, Stage, Time, Variant
from fwmagic.run.section import Section

Show = Callable[[Report], None]

#: What a variant's status is until it is done.
_OPEN = ("waiting", "running")


class Draft:
    """The report of one execution, and the function that shows it; `errors` are what failed variants raised."""

    def __init__(
        self, magic: str, show: Show, options: Options, execution_count: int | None = None, cell: str = ""
    ) -> None:
        now = time_stamp()
        self.report = Report(
            secrets.token_hex(8),
            now,
            magic,
            "running",
            budget=options.budget,
            margin=options.margin,
            execution_count=execution_count,
            cell=cell,
        )
        self.errors: list[BaseException] = []
        self._show = show
        self._interrupted = False

    def change(self, **facts: Any) -> None:
        """Set fields of the report and show it."""
        self.report = replace(self.report, updated=time_stamp(), **facts)
        self._show(self.report)

    def variant(self, name: str, **facts: Any) -> None:
        """Set fields of one variant."""
        variants = tuple(replace(v, **facts) if v.name == name else v for v in self.report.variants)
        self.change(variants=variants)

    def add(self, variant: Variant) -> None:
        """Add a variant."""
        self.change(variants=(*self.report.variants, variant))

    def add_waiting(self, *sections: Section) -> None:
        """Add the variants of sections, which are not there yet; all at once: a view gives each its row."""
        new = [
            waiting_variant(section, name, mode, section.options.stated())
            for section in sections
            for name, mode in section.options.variants().items()
        ]
        self.change(variants=(*self.report.variants, *new))

    def failed(
        self, name: str, error: BaseException, stage: str, filename: str = "", told: BaseException | None = None
    ) -> None:
        """Note that a variant failed, with the line of the file `filename`; `told` is what is raised for it at last."""
        line = error.line if isinstance(error, CannotCompile) else line_of(error, filename)
        self.errors.append(told or _shown_as(error).with_traceback(_of_user(error, filename)))
        self.variant(name, status="failed", failure=failure_of(error, line, stage))

    def once(self, name: str, seconds: float, why: str, **facts: Any) -> None:
        """Note a variant that could be run only one time: its one sample, and why."""
        source = "time.perf_counter around the one run, compilation included"
        time = Time((seconds,), seconds, None, None, 1, 1, warm=False, source=source)
        stages = (Stage("first run", seconds, "the one run"),)
        compilation = Compilation("eager", why, stages=stages, cache="none")
        self.variant(name, status="run-once", note=why, time=time, compilation=compilation, **facts)

    def goes_on(self) -> bool:
        """Say whether the run goes on after Ctrl-C in a compilation: the first time, if there is another variant."""
        goes_on = not self._interrupted and any(v.status in (*_OPEN, "timed", "run-once") for v in self.report)
        self._interrupted = True
        return goes_on

    def interrupt(self, note: str) -> None:
        """Note that Ctrl-C ended the run; variants that were not done are marked."""
        variants = tuple(replace(v, status="interrupted") if v.status in _OPEN else v for v in self.report.variants)
        self.change(state="interrupted", note=note, variants=variants)

    def fail(self, note: str) -> None:
        """Note that an error outside of the variants ended the run; those that were not done are marked."""
        variants = tuple(replace(v, status="not timed") if v.status in _OPEN else v for v in self.report.variants)
        self.change(state="failed", note=note, variants=variants)

    def end(self) -> None:
        """Note that the run is over: failed if a variant did."""
        failed = any(variant.status == "failed" for variant in self.report)
        self.change(state="failed" if failed else "done", progress=1.0)

    def find(self, *findings: Finding) -> None:
        """Add findings."""
        if findings:
            self.change(findings=(*self.report.findings, *findings))


def time_stamp() -> str:
    """Return the time of now in ISO 8601, with milliseconds: runs are listed in the order in which they began."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def waiting_variant(section: Section, name: str, mode: str, options: Mapping[str, str]) -> Variant:
    """Return a variant of a section before anything is known of it; `options` are those that the user wrote."""
    framework = section.framework
    return Variant(name, section.name, framework.name, mode, "waiting", options=options, colour=framework.colour)


def failure_of(error: BaseException, line: int | None, stage: str) -> Failure:
    """Return what is reported of an exception; our own are told by their sentence alone."""
    message = message_of(error).strip() or "no message"
    kind = "" if isinstance(error, FwMagicError) else type(error).__name__
    return Failure(kind, message, line, stage)


def _shown_as(error: BaseException) -> BaseException:
    """Return an exception as it can be shown: in words, if it cannot be made text."""
    try:
        str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the class is the user's own, and so is its `__str__`
        return in_words(error)
    return error


def interrupt_of_user(error: KeyboardInterrupt, filename: str) -> KeyboardInterrupt:
    """Return an interrupt with the lines of the user's code where it came, if it was there; ours would tell nothing.

    Nor would those of a compiler, some hundred that take seconds to be shown.
    """
    entries = entries_of(error)
    own = next((i for i, entry in enumerate(entries) if _file_of(entry) == filename), len(entries))
    guards = [i for i, entry in enumerate(entries) if _file_of(entry) == interrupts.__file__]
    shown = entries[own : guards[-1] if guards else None]
    last = max((i for i, entry in enumerate(shown, 1) if _is_users(entry)), default=0)
    if any(_is_compilers(_file_of(entry)) for entry in shown[last:]):
        shown = shown[:last]
    return KeyboardInterrupt().with_traceback(traceback_of(shown))


def _is_users(entry: TracebackType) -> bool:
    file = _file_of(entry)
    return entry.tb_frame.f_globals.get("__name__") == "__main__" or not (file[:1] == "<" or is_of_library(file))


def _is_compilers(file: str) -> bool:
    return any(framework.stage_of(file) for framework in frameworks.loaded())


def _of_user(error: BaseException, filename: str) -> TracebackType | None:
    """Return the traceback from the user's own code on; all of it if that is not in it."""
    return next((entry for entry in entries_of(error) if _file_of(entry) == filename), error.__traceback__)


def _file_of(entry: TracebackType) -> str:
    return entry.tb_frame.f_code.co_filename
