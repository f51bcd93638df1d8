"""What a run with processes of its own may leave behind on the system: processes, and shared memory."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def shared_memory() -> set[Path]:
    """Return what lies in shared memory, but for what other test runs of this moment have there."""
    return {path for path in Path("/dev/shm").iterdir() if not _of_others(path)}


def workers():
    """The processes that run a variant: children of the server that copies itself, or of this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()) or child.ppid() != os.getpid():
                found.append(child.pid)
        except psutil.NoSuchProcess:
            pass
    return found


def _of_others(path: Path) -> bool:
    """Say whether what lies in shared memory is mapped by a process that is not of this test, or gone by now."""
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    try:
        mapped = f" {path.stat().st_ino} "  # a semaphore is mapped under the name that it had at first
        for process in psutil.process_iter():
            if process.pid not in own and mapped in _maps(process.pid):
                return True
        return not path.exists()
    except FileNotFoundError:
        return True


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # another user's, or it has ended
        return ""
