"""Machines with GPUs that are not there: fake C libraries of the driver, and processes that have them.

The libraries are loaded by the real nvidia-ml-py and by ctypes, once in a process; so each `Machine` is a process of
its own, which evaluates expressions. What its driver answers may change between two of them.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coverage

HERE = Path(__file__).parent
GIB = 1 << 30
MIB = 1 << 20


@functools.cache
def libraries(*flags: str) -> Path:
    """A folder with the fake libraries, compiled once in a session for each set of flags, such as -DOLD."""
    folder = tempfile.TemporaryDirectory(prefix="fake-gpus-")
    atexit.register(folder.cleanup)
    for source, name in (("fake_nvml.c", "libnvidia-ml.so.1"), ("fake_cuda.c", "libcuda.so.1")):
        command = ["cc", "-shared", "-fPIC", *flags, str(HERE / source)]
        subprocess.run([*command, "-o", str(Path(folder.name) / name)], check=True)
    return Path(folder.name)


_GENERATIONS = itertools.count()


def gpu(uuid: str, bus_id: str = "00000000:01:00.0", mig: int = -1, name: str = "NVIDIA Fake 80GB") -> str:
    """A GPU of the state; `mig`: -1 it has no MIG, 0 it is off, 1 it is on."""
    return f"gpu {uuid} {bus_id} {mig} {name}"


def memory(uuid: str, total: int, reserved: int, free: int, used: int) -> str:
    """Version 2 of a device's memory information, in bytes."""
    return f"memory {uuid} {total} {reserved} {free} {used}"


def process(uuid: str, pid: int, used: int | None, kind: str = "Compute", when: str = "always") -> str:
    return f"process {uuid} {kind} {pid} {'none' if used is None else used} {when}"


def _coverage() -> dict[str, str]:
    """Return what makes a machine's process count its lines for the coverage that is being measured, if it is."""
    running = coverage.Coverage.current()
    return {} if running is None else {"FAKE_GPUS_COVERAGE": os.path.abspath(running.config.data_file)}  # noqa: PTH100


class Machine:
    """A Python process on a machine with fake GPUs, or, if `library` is a folder without them, with none."""

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        self._state, self._cuda, self._log = folder / "state", folder / "cuda", folder / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
        environment |= {"FAKE_GPUS": str(self._state), "FAKE_CUDA": str(self._cuda), "FAKE_GPUS_LOG": str(self._log)}
        environment |= {"LD_LIBRARY_PATH": str(library or libraries()), **_coverage()}
        self.set()
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.pid = self._process.pid

    def set(self, *lines: str, cuda: list[str] | None = None, init: int = 0) -> None:
        """Set what the drivers answer: the lines of fake_nvml.c; CUDA's devices by ordinal, and what cuInit returns."""
        self._state.write_text("\n".join([f"generation {next(_GENERATIONS)}", *lines, ""]))
        # 100: CUDA_ERROR_NO_DEVICE
        self._cuda.write_text(" ".join(["100"] if cuda is None else [str(init), *cuda]))

    def ask(self, expression: str, /, environ: Mapping[str, str] | None = None, **names: Any) -> Any:
        """Evaluate an expression over the modules nvml, visible, cuda and os; CUDA_* variables as in `environ`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((expression, dict(environ or {}), names), self._process.stdin)
        self._process.stdin.flush()
        raised, result = pickle.load(self._process.stdout)
        if raised:
            raise result
        return result

    def calls(self) -> list[tuple[int, str]]:
        """Every call of NVML so far: the process and the function."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(pid), function) for pid, function in (line.split() for line in lines)]

    def close(self) -> None:
        """End the process as a program ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(30)
        self._process.stdout.close()
        assert code == 0

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def forked(expression: str) -> int:
    """Evaluate an expression in a fork that then ends as a program ends; return its exit status."""
    from fwmagic.memory import nvml

    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        eval(expression, {"nvml": nvml})
        atexit._run_exitfuncs()
        code = 0
    finally:
        os._exit(code)


def serve() -> None:
    """Evaluate what comes in until there is no more."""
    from fwmagic.memory import device, nvml

    given, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    while True:
        try:
            expression, environ, names = pickle.load(given)
        except EOFError:
            return
        for name in [name for name in os.environ if name.startswith("CUDA_")]:
            del os.environ[name]
        os.environ.update(environ)
        scope = {"device": device, "nvml": nvml, "os": os, "sys": sys, "forked": forked, **names}
        try:
            answer = (False, eval(expression, scope))
        except Exception as error:
            answer = (True, error)
        pickle.dump(answer, out)
        out.flush()


if __name__ == "__main__":
    measured = coverage.Coverage(os.environ.get("FAKE_GPUS_COVERAGE"), data_suffix=True, source=["fwmagic"])
    if "FAKE_GPUS_COVERAGE" in os.environ:
        measured.start()
    serve()
    if "FAKE_GPUS_COVERAGE" in os.environ:
        measured.stop()
        measured.save()
