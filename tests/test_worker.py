"""Workers: fresh processes that start at once, end with a sentence, and leave nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from leftovers import shared_memory

from fwmagic.errors import FwMagicError
from fwmagic.worker.process import RaisedInWorker, Worker, WorkerEnded, WorkerSetting, answer


def a_setting(**fields):
    return WorkerSetting(
        **{
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
            "path": (str(Path(__file__).parent), *sys.path),
            **fields,
        }
    )


@pytest.fixture
def worker():
    with Worker(a_setting()) as started:
        yield started


# Tasks: the worker imports this module to find them.
def raise_value_error():
    raise ValueError("from there")


def end_by(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def crash():
    ctypes.string_at(0)


def allocate(count):
    kept = bytearray(count)
    time.sleep(0.3)
    os._exit(len(kept) and 3)


def loaded(names):
    return [name in sys.modules for name in names]


def started():
    import jax
    import torch

    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(bridge is not None and bridge.backends_are_initialized()), torch.get_num_threads(), jax.__name__


def read(name):
    return os.environ.get(name), str(Path.cwd()), sys.argv[0]


def main_name():
    return getattr(sys.modules["__main__"], "__file__", None)


def state():
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN, sorted(os.sched_getaffinity(0))


class Odd(Exception):
    """An exception that cannot be pickled."""

    def __reduce__(self):
        raise TypeError("not me")


def raise_odd():
    raise Odd("odd")


def test_a_task_is_done_in_a_process_of_its_own(worker):
    assert worker.call(os.getpid) == worker.number != os.getpid()
    assert worker.call(pow, 2, 10) == 1024


def test_it_begins_with_its_frameworks_imported_and_none_of_them_started(worker):
    assert worker.call(loaded, ["torch", "jax", "torch._inductor.compile_fx"]) == [True] * 3
    assert worker.call(started)[0] is False


def test_its_environment_folder_and_cores_are_its_own(tmp_path):
    cores = (max(os.sched_getaffinity(0)),)
    setting = a_setting(environment={**os.environ, "FWMAGIC_TEST": "there"}, folder=str(tmp_path), cores=cores)
    with Worker(setting) as one:
        assert one.call(read, "FWMAGIC_TEST")[:2] == ("there", str(tmp_path))
        assert one.call(state) == (True, list(cores))
    assert "FWMAGIC_TEST" not in os.environ


def test_one_that_begins_anew_imports_after_its_environment_is_set():
    setting = a_setting(environment={**os.environ, "FWMAGIC_TEST": "there"})
    with Worker(setting, anew=True) as one:
        assert one.call(loaded, ["torch", "jax"]) == [False, False]
        assert one.call(read, "FWMAGIC_TEST")[0] == "there"


@pytest.mark.parametrize("anew", [False, True], ids=["copy", "anew"])
def test_the_main_module_is_not_run_again(monkeypatch, tmp_path, anew):
    script = tmp_path / "script.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    with Worker(a_setting(), anew=anew) as one:
        assert one.call(main_name) != str(script)
    assert not (tmp_path / "ran").exists()
    assert sys.modules["__main__"].__file__ == str(script)


class TestErrors:
    def test_what_a_task_raises_is_raised_with_its_lines(self, worker):
        with pytest.raises(ValueError, match="from there") as error:
            worker.call(raise_value_error)
        assert error.traceback[-1].frame.code.name == "raise_value_error"
        assert str(error.traceback[-1].path) == __file__
        assert worker.call(pow, 2, 2) == 4

    def test_one_that_cannot_be_pickled_is_told_in_words(self):
        found = answer(raise_odd)
        assert isinstance(found, RaisedInWorker)
        told = found.error()
        assert (type(told), str(told)) == (FwMagicError, "Odd: odd")

    def test_what_is_no_exception_ends_the_process(self, worker):
        with pytest.raises(WorkerEnded, match="exit status 5"):
            worker.call(os._exit, 5)


class TestEnds:
    @pytest.mark.parametrize(
        ("task", "arguments", "sentence"),
        [
            (crash, (), "was ended by SIGSEGV: a segmentation fault"),
            (end_by, (signal.SIGKILL,), "was ended by SIGKILL; the system does that where memory runs out"),
            (end_by, (signal.SIGABRT,), "was ended by SIGABRT: a library gave up"),
            (os._exit, (7,), "ended itself with exit status 7"),
        ],
    )
    def test_the_sentence_says_how(self, worker, task, arguments, sentence):
        with pytest.raises(WorkerEnded, match=sentence):
            worker.call(task, *arguments)
        with pytest.raises(WorkerEnded, match=sentence):
            worker.call(pow, 2, 2)

    def test_one_that_hangs_is_ended(self, worker):
        with pytest.raises(WorkerEnded, match=r"did not answer within 0\.2 s, and was ended \(--timeout\)"):
            worker.call(time.sleep, 60, timeout=0.2)
        worker.close()
        assert not psutil.pid_exists(worker.number)

    def test_the_others_go_on(self, worker):
        with Worker(a_setting()) as other:
            with pytest.raises(WorkerEnded):
                worker.call(crash)
            assert other.call(pow, 2, 2) == 4

    def test_its_memory_is_known_when_it_ends(self, worker):
        with pytest.raises(WorkerEnded, match="exit status 3"):
            worker.call(allocate, 64 << 20, watched=True)
        start, last = worker.resident
        assert 32 << 20 < last - start < 128 << 20

    def test_a_task_that_is_not_watched_is_not_read(self, worker):
        worker.call(time.sleep, 0.2)
        assert worker.resident is None


def test_closing_ends_it_whatever_it_does_and_leaves_nothing():
    before = shared_memory()
    one = Worker(a_setting())
    number = one.number
    one._executor.submit(time.sleep, 60)
    one.close()
    one.close()
    del one
    assert not psutil.pid_exists(number)
    assert shared_memory() - before == set()


_KILLED = """
import os, sys, time
from fwmagic.worker.process import WorkerSetting
from fwmagic.worker.process import Worker
worker = Worker(WorkerSetting(dict(os.environ), os.getcwd(), tuple(sys.path)))
other = Worker(WorkerSetting(dict(os.environ), os.getcwd(), tuple(sys.path)), anew=True)
other._executor.submit(time.sleep, 60)
print(worker.number, other.number, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_no_worker_outlives_a_kernel_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True) as kernel:
        numbers = [int(number) for number in kernel.stdout.readline().split()]
        assert all(map(psutil.pid_exists, numbers))
        kernel.kill()
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, numbers))
