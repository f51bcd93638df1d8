"""From the text of a magic to its run: options, sections, analysed code, the display, and the name for the report."""

from __future__ import annotations

import bdb
import contextlib
import dataclasses
import inspect
import linecache
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fwmagic import frameworks
from fwmagic.cells.analyse import Body, analyse
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.split import FIRST_LINE, split
from fwmagic.cells.ways import Programs
from fwmagic.debug.debugging import run_debug
from fwmagic.debug.view import LineView
from fwmagic.display import display_for_shell
from fwmagic.errors import FwMagicError, entries_of
from fwmagic.frameworks import Framework
from fwmagic.line import parse_header, parse_line, resolve_options, resolve_sections
from fwmagic.report import Report
from fwmagic.run.compare import Comparison
from fwmagic.run.section import Section
from fwmagic.run.session import Session
from fwmagic.run.single import run_single


class ShownSyntaxError(SyntaxError, bdb.BdbQuit):
    """A syntax error that has been shown: IPython does not show a `BdbQuit`, and with others it shows our frames."""

    __qualname__ = "SyntaxError"  # what a reader of an executed notebook is told


ShownSyntaxError.__name__ = "SyntaxError"


class Execution:
    """One execution of a magic in a shell; `defaults` are those of the options, by field."""

    def __init__(self, shell: InteractiveShell, programs: Programs, defaults: Mapping[str, Any]) -> None:
        self._shell = shell
        self._programs = programs
        self._defaults = defaults

    def single(self, magic: str, text: str, cell: str) -> Any:
        """Run a %%torch or %%jax cell, show its report, and return the value of its last expression."""
        __tracebackhide__ = True
        with InterruptGuard():  # frameworks are imported
            chosen = resolve_options(parse_line(magic, text), self._defaults)
            framework = frameworks.get(magic)
            source = _whole_cell(magic, text, cell)
            filename = self._filename(source)
            body = self._body(cell, filename, FIRST_LINE)
        section = Section(chosen.name, framework, body, chosen)
        if chosen.asks("debug"):
            return self._debug(section, source)
        with self._shown(chosen.output, framework) as show:
            try:
                ran = run_single(self._session(source), section, show)
            except SyntaxError as error:
                raise self._of_user(error, filename) from None
        if ran.error is not None:
            raise ran.error
        return ran.value

    def _debug(self, section: Section, source: str) -> Any:
        """Run a cell with --debug, show it line by line, and return the value of its last expression."""
        __tracebackhide__ = True
        mended = f"{section.body.filename} mended"

        def reread(text: str) -> Section:
            linecache.cache[mended] = (len(text), None, text.splitlines(keepends=True), mended)
            return dataclasses.replace(section, body=self._analysed(text.partition("\n")[2], mended, FIRST_LINE))

        def show_and_offer(view: LineView) -> None:
            show(view)
            if view.fix is not None and view.fix.text:
                self._shell.set_next_input(view.fix.text)

        try:
            with self._shown(section.options.output, section.framework) as show:
                return run_debug(self._session(source), section, show_and_offer, reread)
        finally:
            linecache.cache.pop(mended, None)

    def compare(self, text: str, cell: str) -> None:
        """Run a %%compare cell and show its report.

        Raises
        ------
        Exception
            What the first variant that failed raised, unless the user said to keep going.
        """
        __tracebackhide__ = True
        with InterruptGuard():  # frameworks are imported
            own = parse_line("compare", text)
            parts = split(cell, parse_header, cell_magics=self._shell.magics_manager.magics["cell"])
            headers = {section.name: section.options for section in parts.sections}
            chosen = resolve_sections(own, headers, self._defaults)
            source = _whole_cell("compare", text, cell)
            filename = self._filename(source)
            # All of them, before code is analysed.
            adapters = [frameworks.get(part.framework) for part in parts.sections]
            setup = None if parts.setup is None else self._body(parts.setup.body, filename, parts.setup.first_line)
            sections = [
                Section(part.name, framework, self._body(part.body, filename, part.first_line, setup), option)
                for part, framework, option in zip(parts.sections, adapters, chosen, strict=True)
            ]
        with self._shown(chosen[0].output, *adapters) as show:
            comparison = Comparison(self._session(source), setup, sections, show)
            comparison.run()
        errors = comparison.draft.errors
        if errors and not chosen[0].keep_going:
            raise self._of_user(errors[0], filename)

    def _body(self, text: str, filename: str, line: int, setup: Body | None = None) -> Body:
        """Return a section's code analysed, magics and `!` lines made calls."""
        __tracebackhide__ = True
        if "\0" in text:
            where = line + text.partition("\0")[0].count("\n")
            raise FwMagicError(f"Line {where} holds a null byte, which Python cannot read: remove it.")
        try:
            return self._analysed(text, filename, line, setup)
        except SyntaxError as error:
            # As of any cell: without a traceback, since nothing has run.
            self._shell.showsyntaxerror()  # type: ignore[no-untyped-call]
            raise ShownSyntaxError(*error.args) from None
        except (RecursionError, MemoryError) as error:
            raise FwMagicError(
                f"The code from line {line} on is nested too deeply to be read ({type(error).__name__}), as a sum of "
                "thousands of terms is: write it as several statements."
            ) from None

    def _of_user(self, error: BaseException, filename: str) -> BaseException:
        """Return an error of the user's code; a syntax error that it raised while it ran is shown before.

        IPython shows all frames of one, ours included, and hides them of other errors.
        """
        entries = entries_of(error)
        own = next((entry for entry in entries if entry.tb_frame.f_code.co_filename == filename), None)
        if not isinstance(error, SyntaxError) or own is None:
            return error
        frames: Any = traceback.extract_tb(own)
        lines = self._shell.SyntaxTB.structured_traceback(type(error), error, frames)
        self._shell._showtraceback(type(error), error, lines)
        return ShownSyntaxError(*error.args)

    def _analysed(self, text: str, filename: str, line: int, setup: Body | None = None) -> Body:
        """Return `_body` of a text, or raise what Python raises of it."""
        # IPython drops leading blank lines.
        stripped = next((i for i, row in enumerate(text.split("\n")) if row and not row.isspace()), 0)
        plain = self._shell.transform_cell(text)  # type: ignore[no-untyped-call]
        flags, known = self._shell.compile.flags, [*frameworks.loaded(), *frameworks.imported_in(plain)]
        names = {name: module for framework in known for name, module in framework.names().items()}
        namespace = names | self._shell.user_ns
        return analyse(plain, filename, line + stripped, known, self._shell.transform_ast, flags, namespace, setup)

    def _filename(self, source: str) -> str:
        """Return the name under which tracebacks, `inspect` and compilers find the cell's text, by its own lines.

        It is the name that IPython gave the running cell, where `linecache` has only the call of the magic.
        """
        name: str | None = None
        frame = inspect.currentframe()
        while frame is not None:
            if frame.f_globals is self._shell.user_ns and frame.f_code.co_name == "<module>":
                name = frame.f_code.co_filename
            frame = frame.f_back
        if name is None:
            name = str(self._shell.compile.cache(source, self._number(), raw_code=source))
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return name

    def _number(self) -> int:
        """Return the number of the running cell; IPython 9.16 began to count before a cell runs, not after it."""
        number: int = self._shell.displayhook.prompt_count
        return number

    def _session(self, source: str) -> Session:
        return Session(self._shell.user_ns, self._programs, self._shell, self._number(), source)

    @contextlib.contextmanager
    def _shown(self, name: str | None, *known: Framework) -> Iterator[Callable[[Any], None]]:
        """Show reports as they come; the last one is bound to `name`, also if the run is interrupted.

        Raises
        ------
        FwMagicError
            The name is that of a module.
        """
        modules = {module for framework in known for module in framework.names()}
        if name in modules or isinstance(self._shell.user_ns.get(name), ModuleType):
            raise FwMagicError(f"-o {name} would take the place of the module `{name}`: choose another name.")
        shown = display_for_shell(self._shell)
        reports: list[Any] = []

        def show(report: Any) -> None:
            reports[:] = [report]
            if isinstance(report, Report):
                shown.update(report)
            else:  # a view of lines comes once, when all is done
                shown.close(report)

        try:
            yield show
        finally:
            with InterruptGuard():  # what is shown last is shown as a whole
                shown.close()
                if name is not None and reports:
                    self._shell.user_ns[name] = reports[0]


def _whole_cell(magic: str, text: str, cell: str) -> str:
    """Return a cell as it was written, the line of its magic included."""
    return f"%%{magic} {text}".rstrip() + "\n" + cell
