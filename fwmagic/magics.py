"""The IPython face: `%%torch`, `%%jax` and `%%compare`."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand, output_can_be_silenced
from traitlets import Bool, Enum, Float, Unicode

from fwmagic import frameworks, line, live, options
from fwmagic.cells.analyse import Body, analyse
from fwmagic.cells.split import FIRST_LINE, split
from fwmagic.cells.ways import Programs
from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.report import Report
from fwmagic.run.sections import Comparison
from fwmagic.run.single import Session, run_single
from fwmagic.run.variants import Section

_NAMES = ("torch", "jax", "compare")


@magics_class
class FwMagics(Magics):
    """The magics of a shell, and the programs that they compiled; set defaults with `%config FwMagics.budget = 1`."""

    shell: InteractiveShell

    mode = Enum(("auto", "eager", "compiled", "debug", "all"), "auto", help="Default of --mode.").tag(config=True)
    compile_mode = Enum(
        ("default", "reduce-overhead", "max-autotune"), "default", help="Default of --compile-mode, for torch."
    ).tag(config=True)
    budget = Float(2.0, help="Default of --budget: wall seconds for warm-up and timing.").tag(config=True)
    margin = Float(0.01, help="Default of --margin: what differs by less is called the same.").tag(config=True)
    device = Unicode(None, allow_none=True, help="Default of --device.").tag(config=True)
    check = Bool(True, help="Whether outputs are compared; --no-check turns it off for a cell.").tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.programs = Programs()

    @classmethod
    def register(cls, shell: InteractiveShell) -> None:
        """Register the magics in a shell, with help that needs no framework."""
        shell.register_magics(cls)

    @classmethod
    def unregister(cls, shell: InteractiveShell) -> None:
        """Take the magics out of a shell again."""
        for name in _NAMES:
            shell.magics_manager.magics["cell"].pop(name, None)
        instance = shell.magics_manager.registry.pop(cls.__name__, None)
        if instance in shell.configurables:
            shell.configurables.remove(instance)

    @output_can_be_silenced
    @no_var_expand
    @cell_magic
    @line.arguments("torch")
    def torch(self, line: str, cell: str) -> Any:
        """Run a cell once, plainly, in PyTorch; then compile it with torch.compile and time it."""
        __tracebackhide__ = True
        return self._single("torch", line, cell)

    @output_can_be_silenced
    @no_var_expand
    @cell_magic
    @line.arguments("jax")
    def jax(self, line: str, cell: str) -> Any:
        """Run a cell once, plainly, in JAX; then compile it with jax.jit and time it."""
        __tracebackhide__ = True
        return self._single("jax", line, cell)

    @no_var_expand
    @cell_magic
    @line.arguments("compare")
    def compare(self, line: str, cell: str) -> None:
        """Compare sections, each below a line %%torch, %%jax or %%numpy; the notebook stays as it is."""
        __tracebackhide__ = True
        self._guarded(lambda: self._compare(line, cell))

    def _single(self, magic: str, text: str, cell: str) -> Any:
        __tracebackhide__ = True
        return self._guarded(lambda: self._run_single(magic, text, cell))

    def _guarded(self, run: Callable[[], Any]) -> Any:
        """Turn errors of ours into one line without a traceback; those of the user's code pass as they are."""
        __tracebackhide__ = True
        try:
            return run()
        except CannotCompile as error:
            where = "" if error.line is None else f", line {error.line}"
            raise UsageError(f"The cell cannot be compiled{where}: {error}; --mode auto runs it anyway.") from None
        except FwMagicError as error:
            raise UsageError(str(error)) from None

    def _run_single(self, magic: str, text: str, cell: str) -> Any:
        __tracebackhide__ = True
        chosen = options.resolve(line.parse(magic, text), self._defaults())
        framework = frameworks.get(magic)
        filename = self._filename(magic, text, cell)
        body = self._body(cell, filename, FIRST_LINE)
        section = Section(chosen.name, framework, body, chosen)
        display = live.for_shell(self.shell)
        try:
            value, report = run_single(self._session(), section, display.update)
        finally:
            display.close()
        self._bind(chosen.output, report)
        return value

    def _compare(self, text: str, cell: str) -> None:
        __tracebackhide__ = True
        own = line.parse("compare", text)
        parts = split(cell, line.parse_header, cell_magics=self.shell.magics_manager.magics["cell"])
        headers = {section.name: section.options for section in parts.sections}
        chosen = options.resolve_sections(own, headers, self._defaults())
        filename = self._filename("compare", text, cell)
        sections = [
            Section(part.name, frameworks.get(part.framework), self._body(part.body, filename, part.first_line), option)
            for part, option in zip(parts.sections, chosen, strict=True)
        ]
        setup = None if parts.setup is None else self._body(parts.setup.body, filename, parts.setup.first_line)
        display = live.for_shell(self.shell)
        comparison = Comparison(self._session(), setup, sections, display.update)
        try:
            report = comparison.run()
        finally:
            display.close()
        self._bind(chosen[0].output, report)
        errors = comparison.preparation.errors
        if errors and not chosen[0].keep_going:
            raise errors[0]

    def _body(self, text: str, filename: str, line: int) -> Body:
        """Return a section's code analysed, magics and `!` lines made calls."""
        __tracebackhide__ = True
        # IPython drops leading blank lines.
        stripped = next((i for i, row in enumerate(text.split("\n")) if row and not row.isspace()), 0)
        plain = self.shell.transform_cell(text)  # type: ignore[no-untyped-call]
        return analyse(plain, filename, line + stripped, self.shell.transform_ast, self.shell.compile.flags)

    def _filename(self, magic: str, text: str, cell: str) -> str:
        """Return the name under which tracebacks, `inspect` and compilers find the cell's text, by its own lines.

        It is the name that IPython gave the running cell, where `linecache` has only the call of the magic.
        """
        source = f"%%{magic} {text}".rstrip() + "\n" + cell
        name: str | None = None
        frame = inspect.currentframe()
        while frame is not None:
            if frame.f_globals is self.shell.user_ns and frame.f_code.co_name == "<module>":
                name = frame.f_code.co_filename
            frame = frame.f_back
        if name is None:
            name = str(self.shell.compile.cache(source, self._number(), raw_code=source))
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return name

    def _number(self) -> int:
        """Return the number of the running cell; IPython 9.16 began to count before a cell runs, not after it."""
        number: int = self.shell.displayhook.prompt_count
        return number

    def _session(self) -> Session:
        return Session(self.shell.user_ns, self.programs, self.shell, self._number())

    def _defaults(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("mode", "compile_mode", "budget", "margin", "device", "check")}

    def _bind(self, name: str | None, report: Report) -> None:
        if name is not None:
            self.shell.user_ns[name] = report
