"""What a framework without a compiler answers: the part of the protocol that most adapters need not write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from fwmagic.errors import CannotCompile
from fwmagic.frameworks import CompileLog, CompileOptions, Traced, line_of
from fwmagic.frameworks.memory import HostMemory, Memory


class Base:
    """A framework that runs eagerly, on one device, and has nothing to wait for."""

    title = ""
    strategy = ""
    memory: Memory = HostMemory()

    def canonical_dtype(self, dtype: Any) -> Any:
        """Return the dtype itself."""
        return dtype

    def flags(self) -> dict[str, Any]:
        """Return nothing: there are no global settings."""
        return {}

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Do nothing: there are no global settings."""

    def pack(self, value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
        """Return None: arrays are pickled as usual."""
        return None

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return None: a call returns only when it is done."""
        return None

    def drain(self) -> None:
        """Do nothing: no work is under way after a call."""

    def compile_events(self) -> int:
        """Return 0: nothing is compiled."""
        return 0

    def cannot_compile(self) -> str:
        """Return that there is no compiler."""
        return f"{self.title} has no compiler"

    def prime(self) -> float:
        """Return 0: there is nothing to prime."""
        return 0.0

    def watch(self, filename: str) -> AbstractContextManager[CompileLog]:
        """Log nothing."""
        return contextlib.nullcontext(CompileLog())

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Raise CannotCompile."""
        raise CannotCompile(self.cannot_compile())

    def trace(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Traced:
        """Raise CannotCompile."""
        raise CannotCompile(self.cannot_compile())

    def is_traced(self, value: Any) -> bool:
        """Return False: nothing is traced."""
        return False

    def adopt(self, values: Iterable[Any]) -> None:
        """Do nothing: there is no trace."""

    def module_calls(self, value: Any) -> tuple[Any, str] | None:
        """Return None: there are no modules to compile."""
        return None

    def explain(self, error: BaseException, filename: str) -> CannotCompile:
        """Return the error's class and the first line of its message."""
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        return CannotCompile(f"{type(error).__name__}: {first}", line_of(error, filename))

    def eager(self) -> AbstractContextManager[Any]:
        """Change nothing: everything runs eagerly."""
        return contextlib.nullcontext()

    def workers(self) -> int:
        """Return the number of cores: linear algebra libraries use all of them unless they are told otherwise."""
        return os.cpu_count() or 1

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Change nothing: there is one device."""
        return contextlib.nullcontext()

    def preload(self) -> None:
        """Import nothing more."""
