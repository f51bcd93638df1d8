"""Asking the NVIDIA driver: one call of NVML at a time, each with an answer or a sentence that says why not.

NVML is initialised by the first call, once in a process, and shut down when the process ends; importing this
module does nothing. Functions and codes are those of NVIDIA's NVML API Reference Guide.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any

from fwmagic.errors import FwMagicError

# Return codes of NVML, and what they mean to a reader.
_UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
FUNCTION_NOT_FOUND = 13
VERSION_MISMATCH = 25
_MEANING = {
    _UNINITIALIZED: "other code in this process has shut NVML down",
    NOT_SUPPORTED: "the driver does not support this for the device",
    NO_PERMISSION: "the driver does not let this user ask for it",
    NOT_FOUND: "the driver knows no such device",
    9: "the NVIDIA driver is not loaded",
    12: "the NVIDIA driver's library libnvidia-ml.so.1 was not found",
    FUNCTION_NOT_FOUND: "this release of the driver or of nvidia-ml-py has no such function",
    15: "the driver has lost the GPU",
    17: "the operating system does not let this process reach the GPU",
    18: "the driver's library and its kernel module are of different releases",
}


class Fault(FwMagicError):
    """NVML did not answer: the sentence says why; `code` is its return code, 0 where it has given none."""

    def __init__(self, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.code = code


# The process that has initialised NVML. Two threads that both find it unset initialise twice: NVML counts that.
_owner: int | None = None


def ask(function: str, *arguments: Any) -> Any:
    """Return what a function of NVML gives, called by its name in nvidia-ml-py.

    Raises
    ------
    Fault
        The function failed, or there is none, or NVML cannot be initialised.
    """
    nvml = _library()
    asked: Callable[..., Any] | None = getattr(nvml, function, None)
    try:
        if asked is None:
            raise nvml.NVMLError(FUNCTION_NOT_FOUND)
        return asked(*arguments)
    except nvml.NVMLError as error:
        raise _fault(error, function) from None


def _library() -> Any:
    """Return the module pynvml of nvidia-ml-py, initialised in this process: a fork does not inherit that."""
    global _owner
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        raise Fault("the package nvidia-ml-py is not installed") from None
    # An outdated package of the name pynvml puts a module of that name in front of the one that is needed.
    if not hasattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v3"):
        raise Fault("the module pynvml is not that of the package nvidia-ml-py: uninstall the package pynvml")
    if _owner != os.getpid():
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _fault(error, "nvmlInit") from None
        if _owner is None:
            atexit.register(_shut_down)
        _owner = os.getpid()
    return pynvml


def _fault(error: Any, function: str) -> Fault:
    meaning = _MEANING.get(error.value, "the driver does not answer")
    return Fault(f"{meaning} ({function}: {error})", error.value)


def _shut_down() -> None:
    if _owner != os.getpid():
        return  # a fork that has not used NVML
    try:
        ask("nvmlShutdown")
    except Fault:
        return  # other code has shut it down already, or the driver is gone: nothing is left to do
