"""The IPython face: `%%torch`, `%%jax` and `%%compare`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, output_can_be_silenced
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Bool, Enum, Float, TraitError, Unicode, validate

from fwmagic import options
from fwmagic.errors import CannotCompile, FwMagicError

if TYPE_CHECKING:
    from fwmagic.cells.ways import Programs

_NAMES = ("torch", "jax", "compare")
_DEFAULTS = ("mode", "compile_mode", "budget", "margin", "device", "check", "memory")


@magics_class
class FwMagics(Magics):
    """The magics of a shell, and the programs that they compiled; set defaults with `%config FwMagics.budget = 1`."""

    shell: InteractiveShell

    mode = Enum(("auto", "eager", "compiled", "debug", "all"), "auto", help="Default of --mode.").tag(config=True)
    compile_mode = Enum(
        ("default", "reduce-overhead", "max-autotune"), "default", help="Default of --compile-mode, for torch."
    ).tag(config=True)
    budget = Float(2.0, min=1e-6, help="Default of --budget: wall seconds for warm-up and timing.").tag(config=True)
    margin = Float(0.01, min=0.0, max=0.99, help="Default of --margin: what differs by less is called the same.").tag(
        config=True
    )
    device = Unicode(None, allow_none=True, help="Default of --device.").tag(config=True)
    check = Bool(True, help="Whether outputs are compared; --no-check turns it off for a cell.").tag(config=True)
    memory = Bool(True, help="Whether memory is measured; --no-memory turns it off for a cell.").tag(config=True)

    @validate("device")
    def _check_device(self, proposal: dict[str, Any]) -> str | None:
        device: str | None = proposal["value"]
        try:
            return device if device is None else options.read_device(device)
        except ArgumentTypeError as error:
            raise TraitError(f"FwMagics.device {error}") from None

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.programs: Programs | None = None

    @classmethod
    def register(cls, shell: InteractiveShell) -> None:
        """Register the magics in a shell, with help that needs no framework."""
        shell.register_magics(cls)

    @classmethod
    def unregister(cls, shell: InteractiveShell) -> None:
        """Take the magics out of a shell again."""
        for name in _NAMES:
            shell.magics_manager.magics["cell"].pop(name, None)
        shell.magics_manager.magics["line"].pop("memory", None)
        instance = shell.magics_manager.registry.pop(cls.__name__, None)
        if instance in shell.configurables:
            shell.configurables.remove(instance)

    @output_can_be_silenced
    @cell_magic
    @options.arguments("torch")
    def torch(self, line: str, cell: str) -> Any:
        """Run a cell once, plainly, in PyTorch; then compile it with torch.compile and time it."""
        __tracebackhide__ = True
        return self._run("torch", line, cell)

    @output_can_be_silenced
    @cell_magic
    @options.arguments("jax")
    def jax(self, line: str, cell: str) -> Any:
        """Run a cell once, plainly, in JAX; then compile it with jax.jit and time it."""
        __tracebackhide__ = True
        return self._run("jax", line, cell)

    @cell_magic
    @options.arguments("compare")
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
        count: int = parse_argstring(self.now, line.rstrip().removesuffix(";")).count  # type: ignore[no-untyped-call]
        if count < 1:
            raise UsageError(f"%memory lists at least 1 array, not {count}.")
        return now(self.shell.user_ns, count)

    def _run(self, magic: str, text: str, cell: str) -> Any:
        """Run a cell; errors of ours become one line without a traceback, those of the user's code pass as they are."""
        __tracebackhide__ = True
        # Only now, so that loading the extension costs next to nothing.
        from fwmagic.execute import Execution

        try:
            execution = Execution(self.shell, self._programs(), self._defaults())
            return execution.compare(text, cell) if magic == "compare" else execution.single(magic, text, cell)
        except CannotCompile as error:
            where = "" if error.line is None else f", line {error.line}"
            raise UsageError(f"The cell cannot be compiled{where}: {error}; --mode auto runs it anyway.") from None
        except FwMagicError as error:
            raise UsageError(str(error)) from None

    def _programs(self) -> Programs:
        from fwmagic.cells.ways import Programs

        if self.programs is None:
            self.programs = Programs()
        return self.programs

    def _defaults(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _DEFAULTS}
