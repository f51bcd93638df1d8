"""From the text of a magic to its run: options, sections, analysed code, the display, and the name for the report."""

from __future__ import annotations

import contextlib
import inspect
import linecache
from collections.abc import Iterator, Mapping
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fwmagic import frameworks, options
from fwmagic.cells.analyse import Body, analyse
from fwmagic.cells.split import FIRST_LINE, split
from fwmagic.cells.ways import Programs
from fwmagic.display import display_for_shell
from fwmagic.report import Report
from fwmagic.run.compare import Comparison
from fwmagic.run.draft import Show
from fwmagic.run.section import Section
from fwmagic.run.session import Session
from fwmagic.run.single import run_single


class Execution:
    """One execution of a magic in a shell; `defaults` are those of the options, by field."""

    def __init__(self, shell: InteractiveShell, programs: Programs, defaults: Mapping[str, Any]) -> None:
        self._shell = shell
        self._programs = programs
        self._defaults = defaults

    def single(self, magic: str, text: str, cell: str) -> Any:
        """Run a %%torch or %%jax cell, show its report, and return the value of its last expression."""
        __tracebackhide__ = True
        chosen = options.resolve_options(options.parse_line(magic, text), self._defaults)
        framework = frameworks.get(magic)
        filename = self._filename(magic, text, cell)
        body = self._body(cell, filename, FIRST_LINE)
        section = Section(chosen.name, framework, body, chosen)
        with self._shown(chosen.output) as show:
            ran = run_single(self._session(), section, show)
        if ran.error is not None:
            raise ran.error
        return ran.value

    def compare(self, text: str, cell: str) -> None:
        """Run a %%compare cell and show its report.

        Raises
        ------
        Exception
            What the first variant that failed raised, unless the user said to keep going.
        """
        __tracebackhide__ = True
        own = options.parse_line("compare", text)
        parts = split(cell, options.parse_header, cell_magics=self._shell.magics_manager.magics["cell"])
        headers = {section.name: section.options for section in parts.sections}
        chosen = options.resolve_sections(own, headers, self._defaults)
        filename = self._filename("compare", text, cell)
        adapters = [frameworks.get(part.framework) for part in parts.sections]  # all of them, before code is analysed
        sections = [
            Section(part.name, framework, self._body(part.body, filename, part.first_line), option)
            for part, framework, option in zip(parts.sections, adapters, chosen, strict=True)
        ]
        setup = None if parts.setup is None else self._body(parts.setup.body, filename, parts.setup.first_line)
        with self._shown(chosen[0].output) as show:
            comparison = Comparison(self._session(), setup, sections, show)
            comparison.run()
        errors = comparison.draft.errors
        if errors and not chosen[0].keep_going:
            raise errors[0]

    def _body(self, text: str, filename: str, line: int) -> Body:
        """Return a section's code analysed, magics and `!` lines made calls."""
        __tracebackhide__ = True
        # IPython drops leading blank lines.
        stripped = next((i for i, row in enumerate(text.split("\n")) if row and not row.isspace()), 0)
        plain = self._shell.transform_cell(text)  # type: ignore[no-untyped-call]
        flags, known = self._shell.compile.flags, [*frameworks.loaded(), *frameworks.imported_in(plain)]
        return analyse(plain, filename, line + stripped, known, self._shell.transform_ast, flags)

    def _filename(self, magic: str, text: str, cell: str) -> str:
        """Return the name under which tracebacks, `inspect` and compilers find the cell's text, by its own lines.

        It is the name that IPython gave the running cell, where `linecache` has only the call of the magic.
        """
        source = f"%%{magic} {text}".rstrip() + "\n" + cell
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

    def _session(self) -> Session:
        return Session(self._shell.user_ns, self._programs, self._shell, self._number())

    @contextlib.contextmanager
    def _shown(self, name: str | None) -> Iterator[Show]:
        """Show reports as they come; the last one is bound to `name`, also if the run is interrupted."""
        shown = display_for_shell(self._shell)
        reports: list[Report] = []

        def show(report: Report) -> None:
            reports[:] = [report]
            shown.update(report)

        try:
            yield show
        finally:
            shown.close()
            if name is not None and reports:
                self._shell.user_ns[name] = reports[0]
