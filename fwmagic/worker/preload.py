"""What the server of the workers imports before any of them is started: the frameworks, of which none is started.

Workers are copies of that server. They begin within milliseconds, with their frameworks imported; but a process in
which a framework had started its threads could not be copied: the copy would hang.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from multiprocessing import forkserver
from pathlib import Path

from fwmagic import frameworks


def _tidy(server: int, kernel: int) -> None:
    """Remove the server's socket and its folder where the kernel, which made them, was killed and could not."""
    if os.getpid() != server or os.getppid() == kernel:
        return
    address = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_address", None)
    if isinstance(address, str) and address.startswith(os.sep):
        with contextlib.suppress(OSError):  # what somebody else has put there stays
            Path(address).unlink()
            Path(address).parent.rmdir()


atexit.register(_tidy, os.getpid(), os.getppid())
for _framework in frameworks.installed():
    with contextlib.suppress(Exception):  # a worker that needs it will hear of it
        _framework.preload()
