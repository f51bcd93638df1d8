"""The IPython face: `%%torch`, `%%jax` and `%%compare`."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, output_can_be_silenced
from IPython.core.magic_arguments import argument, magic_arguments
from traitlets import Bool, Enum, Float, Int, TraitError, TraitType, Unicode, validate

from fwmagic import line, options
from fwmagic.completion import add_completion, remove_completion
from fwmagic.errors import CannotCompile, FwMagicError, entries_of

if TYPE_CHECKING:
    from fwmagic.cells.ways import Programs

_NAMES = ("torch", "jax", "compare")
_TRAITS: dict[type, type[TraitType[Any, Any]]] = {bool: Bool, float: Float, int: Int, str: Unicode}
_DEFAULTS = {name: option for name, option in options.OPTIONS.items() if option.config}


def _config_trait(option: options.Option) -> TraitType[Any, Any]:
    """Return the setting that holds an option's default."""
    meaning = f"Default of {option.flag}: {option.help}."
    if option.switch:
        meaning = f"{not option.default}: {option.help}, as {option.flag} does for one cell."
    if option.type.choices:
        return Enum(option.type.choices, option.default, help=meaning)
    return _TRAITS[option.type.python](option.default, allow_none=option.default is None, help=meaning)


def _drop_unreadable(shell: InteractiveShell) -> None:
    """Take settings out of the shell's configuration that `%config` has refused: IPython keeps them all the same."""
    settings = shell.config.get("FwMagics", {})
    for name in [*settings]:
        if name in _DEFAULTS:
            try:
                _DEFAULTS[name].read(settings[name])
            except ArgumentTypeError as error:
                print(f"FwMagics.{name} {error}: left as it is by default", file=sys.stderr)
                del settings[name]


@magics_class
class FwMagics(Magics):
    """The magics of a shell, and the programs that they compiled; set defaults with `%config FwMagics.budget = 1`."""

    shell: InteractiveShell

    # A trait for each option that has a default to set.
    locals().update({name: _config_trait(option).tag(config=True) for name, option in _DEFAULTS.items()})

    @validate(*_DEFAULTS)
    def _read(self, proposal: dict[str, Any]) -> Any:
        name = proposal["trait"].name
        try:
            return _DEFAULTS[name].read(proposal["value"])
        except ArgumentTypeError as error:
            raise TraitError(f"FwMagics.{name} {error}") from None

    def __init__(self, shell: InteractiveShell) -> None:
        _drop_unreadable(shell)
        super().__init__(shell)
        self.programs: Programs | None = None

    @classmethod
    def register(cls, shell: InteractiveShell) -> None:
        """Register the magics in a shell, with help and completion that need no framework."""
        shell.register_magics(cls)
        add_completion(shell, _NAMES)

    @classmethod
    def unregister(cls, shell: InteractiveShell) -> None:
        """Take the magics out of a shell again."""
        remove_completion(shell)
        for name in _NAMES:
            shell.magics_manager.magics["cell"].pop(name, None)
        shell.magics_manager.magics["line"].pop("memory", None)
        instance = shell.magics_manager.registry.pop(cls.__name__, None)
        if instance in shell.configurables:
            shell.configurables.remove(instance)

    @output_can_be_silenced
    @cell_magic
    @line.helped("torch")
    def torch(self, line: str, cell: str) -> Any:
        """Run a cell once, plainly, in PyTorch; then compile it with torch.compile and time it."""
        __tracebackhide__ = True
        return self._run("torch", line, cell)

    @output_can_be_silenced
    @cell_magic
    @line.helped("jax")
    def jax(self, line: str, cell: str) -> Any:
        """Run a cell once, plainly, in JAX; then compile it with jax.jit and time it."""
        __tracebackhide__ = True
        return self._run("jax", line, cell)

    @cell_magic
    @line.helped("compare")
    def compare(self, line: str, cell: str) -> None:
        """Compare sections, each below a line %%torch, %%jax or %%numpy; the notebook stays as it is."""
        __tracebackhide__ = True
        self._run("compare", line, cell)

    @output_can_be_silenced
    @line_magic("memory")
    @magic_arguments("memory")  # type: ignore[no-untyped-call, untyped-decorator]
    @argument("count", nargs="?", type=int, default=10, help="how many arrays to list (default: 10)")  # type: ignore[no-untyped-call, untyped-decorator]
    def now(self, line: str) -> Any:
        """Show what memory holds now: the devices, the host, and the largest arrays of all frameworks with holders."""
        from fwmagic.memory.now import now

        # IPython leaves the `;` that silences to a line magic.
        text = line.rstrip().removesuffix(";").strip()
        try:
            count = int(text) if text else 10
        except ValueError:
            count = 0
        if count < 1:
            raise UsageError(f"%memory takes the number of arrays to list, at least 1, and not {text!r}.")
        return now(self.shell.user_ns, count)

    def _run(self, magic: str, text: str, cell: str) -> Any:
        """Run a cell; errors of ours become one line without a traceback, those of the user's code pass as they are."""
        __tracebackhide__ = True
        # Only now, so that loading the extension costs next to nothing.
        from fwmagic.cells.interrupts import InterruptGuard

        try:
            with InterruptGuard():  # a library that is half imported can often not be imported again
                from fwmagic.execute import Execution
            execution = Execution(self.shell, self._programs(), self._defaults())
            return execution.compare(text, cell) if magic == "compare" else execution.single(magic, text, cell)
        except KeyboardInterrupt as error:
            seen = self._seen_from_cell(error)
            if seen is error:
                raise
            raise seen from None
        except CannotCompile as error:
            where = "" if error.line is None else f", line {error.line}"
            raise UsageError(f"The cell cannot be compiled{where}: {error}; --mode auto runs it anyway.") from None
        except FwMagicError as error:
            raise UsageError(str(error)) from None

    def _seen_from_cell(self, error: KeyboardInterrupt) -> KeyboardInterrupt:
        """Return an interrupt with the magic's own line for the place where it came, if that was in no line below it.

        IPython shows the last frame in any case, and one of ours tells nothing.
        """
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_globals is not self.shell.user_ns:
            frame = frame.f_back
        files = {entry.tb_frame.f_code.co_filename for entry in entries_of(error)}
        if frame is None or frame.f_code.co_filename in files:
            return error
        return KeyboardInterrupt().with_traceback(TracebackType(None, frame, frame.f_lasti, frame.f_lineno))

    def _programs(self) -> Programs:
        from fwmagic.cells.ways import Programs

        if self.programs is None:
            self.programs = Programs()
        return self.programs

    def _defaults(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _DEFAULTS}
