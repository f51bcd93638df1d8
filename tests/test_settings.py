"""Settings of the process: what is put back, and what libraries did to it that stays."""

from __future__ import annotations

import asyncio
import decimal
import gc
import importlib
import logging
import os
import signal
import site
import socket
import sys
import threading
import time
import urllib.request
import warnings
import wave  # noqa: F401
from types import ModuleType, SimpleNamespace

import pytest

from fwmagic import frameworks
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.settings import Settings


@pytest.fixture(autouse=True)
def before():
    """Put everything back by Python's own means."""
    path, log, handler = list(sys.path), logging.getLogger("of.mine"), signal.getsignal(signal.SIGUSR1)
    variables, modules = dict(os.environ), dict(sys.modules)
    yield
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(variables)
    sys.modules.pop("of_mine", None)
    sys.modules.update(modules)
    log.handlers.clear()
    log.setLevel(0)
    signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    time.tzset()


CHANGES = [
    lambda: sys.path.insert(0, "elsewhere"),
    lambda: sys.path.remove(sys.path[-1]),
    lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
    lambda: logging.getLogger("of.mine").addHandler(logging.NullHandler()),
    lambda: logging.getLogger("of.mine").setLevel(5),
    lambda: setattr(decimal.getcontext(), "prec", 99),
    lambda: decimal.setcontext(decimal.Context(prec=3)),
    lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    lambda: gc.set_threshold(5),
    lambda: sys.set_int_max_str_digits(5000),
    lambda: setattr(sys, "excepthook", print),
    lambda: sys.meta_path.insert(0, SimpleNamespace(__module__="__main__")),
    lambda: gc.callbacks.append(SimpleNamespace(__module__="__main__")),
    lambda: sys.settrace(lambda *_: None),
    lambda: sys.setprofile(lambda *_: None),
    lambda: threading.settrace(lambda *_: None),
    lambda: threading.setprofile(lambda *_: None),
    lambda: sys.set_asyncgen_hooks(firstiter=print),
    lambda: socket.setdefaulttimeout(9.0),
    lambda: os.environ.update(OF_MINE="1"),
    lambda: os.environ.pop("PATH"),
    lambda: sys.modules.update(of_mine=ModuleType("of_mine")),
    lambda: sys.modules.update(of_mine=SimpleNamespace()),
    lambda: sys.modules.update(wave=ModuleType("wave")),
    lambda: sys.modules.pop("wave"),
    lambda: gc.set_debug(gc.DEBUG_UNCOLLECTABLE),
    lambda: threading.stack_size(2**20),
    lambda: [os.environ.update(TZ="Asia/Tokyo"), time.tzset()],
    lambda: urllib.request.install_opener(SimpleNamespace()),
    lambda: vars(asyncio.events).update(_event_loop_policy=SimpleNamespace()),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_what_code_of_the_user_sets_is_seen_and_put_back(number):
    settings = Settings()
    assert not settings.moved()
    CHANGES[number]()
    assert settings.moved()
    settings.restore(settings.moved())
    assert not settings.moved()


def test_some_is_put_back_at_the_end_only():
    settings, filters = Settings(), list(warnings.filters)
    warnings.filterwarnings("ignore", "of my own")
    gc.disable()
    assert not settings.moved()
    settings.restore(settings.early())
    assert not gc.isenabled()
    settings.restore()
    assert gc.isenabled()
    assert warnings.filters == filters


def test_what_a_compiler_sets_is_put_back_at_the_end():
    frameworks.get("torch")
    settings = Settings()
    os.environ["TORCHINDUCTOR_OF_MINE"] = "1"
    assert not settings.moved()
    settings.restore(settings.early())
    assert os.environ["TORCHINDUCTOR_OF_MINE"] == "1"
    settings.restore()
    assert "TORCHINDUCTOR_OF_MINE" not in os.environ


def test_what_is_imported_stays(tmp_path, monkeypatch):
    (tmp_path / "of_mine.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings()
    module = importlib.import_module("of_mine")
    assert not settings.moved()
    settings.restore()
    assert sys.modules["of_mine"] is module


def test_what_a_library_puts_on_the_path_stays():
    settings, folder = Settings(), f"{site.getsitepackages()[0]}/some/_vendor"
    sys.path.append(folder)
    assert not settings.moved()
    sys.path.insert(0, "elsewhere")
    settings.restore()
    assert sys.path[-1] == folder
    assert "elsewhere" not in sys.path


def test_a_handler_that_a_library_sets_stays():
    settings = Settings()
    handler = logging.basicConfig  # stands for a function of a library
    signal.signal(signal.SIGUSR1, handler)
    assert not settings.moved()
    settings.restore()
    assert signal.getsignal(signal.SIGUSR1) is handler


def test_a_handler_of_the_notebook_does_not():
    settings, namespace = Settings(), {"__name__": "__main__"}
    exec("def handler(*_): pass", namespace)
    signal.signal(signal.SIGUSR1, namespace["handler"])
    assert settings.moved()
    settings.restore()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.mark.parametrize("running", [False, True])
def test_a_handler_of_a_timer_goes_unless_the_timer_would_end_the_process(running):
    settings, namespace = Settings(), {"__name__": "__main__"}
    exec("def handler(*_): pass", namespace)
    signal.signal(signal.SIGVTALRM, namespace["handler"])
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 3600 if running else 0)
        settings.restore()
        assert signal.getsignal(signal.SIGVTALRM) is (namespace["handler"] if running else signal.SIG_DFL)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)


def test_our_own_guard_stays():
    settings = Settings()
    with InterruptGuard():
        guarded = signal.getsignal(signal.SIGINT)
        settings.restore()
        assert signal.getsignal(signal.SIGINT) is guarded
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_a_library_takes_off_its_own_logger_is_not_put_back():
    log = logging.getLogger("torch.of_a_trace")
    handler = type("Lazy", (logging.NullHandler,), {"__module__": "torch._logging._internal"})()
    other = logging.NullHandler()
    log.addHandler(handler)
    log.addHandler(other)
    saved = Settings()
    log.removeHandler(handler)
    assert not saved.moved()
    log.removeHandler(other)
    assert saved.moved()
    saved.restore()
    assert log.handlers == [other]
    log.handlers.clear()


def test_loggers_that_a_library_makes_stay_as_it_made_them(monkeypatch):
    settings = Settings()
    made = logging.getLogger("strange.name.of.a.library")
    made.setLevel(10)
    monkeypatch.setattr(decimal, "log", made, raising=False)
    assert not settings.moved()
    settings.restore()
    assert made.level == 10


def test_a_module_that_a_library_loads_anew_is_no_setting():
    name = "json.decoder"
    before = sys.modules[name]
    settings = Settings()
    del sys.modules[name]
    importlib.import_module(name)  # as Inductor loads what it has written
    try:
        assert not settings.moved()
        sys.modules[name] = ModuleType(name)  # by hand
        assert settings.moved()
        settings.restore()
        assert sys.modules[name] is before
    finally:
        sys.modules[name] = before


def test_modules_that_imports_alone_have_made_are_looked_at_once(monkeypatch):
    sys.modules.pop("colorsys", None)
    settings = Settings()
    importlib.import_module("colorsys")
    looked_at = []
    monkeypatch.setattr("fwmagic.cells.settings._is_by_hand", lambda name, *_: looked_at.append(name) or False)
    assert not settings.moved()
    assert "colorsys" in looked_at
    looked_at.clear()
    assert not settings.moved()
    assert not looked_at
