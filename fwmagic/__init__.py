"""Comparing PyTorch and JAX in a notebook, with numbers that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from fwmagic.report import Report
    from fwmagic.run.callables import compare

__version__ = "0.1.0"
__all__ = ["Report", "compare", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register `%%torch`, `%%jax` and `%%compare`; imports no framework."""
    from fwmagic.magics import FwMagics

    FwMagics.register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away again, and forget all compiled programs."""
    from fwmagic.magics import FwMagics

    FwMagics.unregister(shell)


def __getattr__(name: str) -> Any:
    # `import fwmagic` must cost nothing; the library behind it is imported when it is first used.
    if name == "Report":
        from fwmagic.report import Report

        return Report
    if name == "compare":
        from fwmagic.run.callables import compare

        return compare
    raise AttributeError(f"module 'fwmagic' has no attribute {name!r}")
