"""What a process is set to: paths, limits, log, warnings, numbers, figures and the like; read, and put back."""

from __future__ import annotations

import builtins
import contextvars
import decimal
import functools
import gc
import locale
import logging
import operator
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.kinds import MISSING, set_state_of_context, state_of_context
from fwmagic.cells.modules import is_of_user
from fwmagic.libraries import is_of_library


def _same(left: Any, right: Any) -> bool:
    """Compare numbers and texts by value, tuples and dicts by what they hold, all else by identity."""
    if left is right or type(left) is not type(right):
        return left is right
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return isinstance(left, int | float | str | Path) and bool(left == right)


@dataclass(frozen=True)
class Setting:
    """One setting: `read` returns it, in a form that `same` compares, and `write` sets it to that.

    `late`: it is put back only at the end of everything, since what surrounds a timed call sets it, too.
    """

    read: Callable[[], Any]
    write: Callable[[Any], None]
    late: bool = False
    same: Callable[[Any, Any], bool] = _same


class Settings:
    """The settings of this process as they are now; those of frameworks are not among them."""

    def __init__(self) -> None:
        self._saved = [(setting, setting.read()) for setting in _SETTINGS]

    def early(self) -> list[Setting]:
        """Return the settings that nothing but the code under measurement sets."""
        return [setting for setting, _ in self._saved if not setting.late]

    def moved(self) -> list[Setting]:
        """Return which settings differ now, of those that nothing but the code under measurement sets."""
        return [one for one, value in self._saved if not one.late and not one.same(value, one.read())]

    def module_taken(self) -> str:
        """Return the name of a module that is no longer among those imported, or nothing."""
        saved = next(value for setting, value in self._saved if setting is _MODULES)
        return next((name for name in saved if name not in sys.modules), "")

    def restore(self, only: Collection[Setting] | None = None) -> None:
        """Put back what differs, of all settings or of these: reading all of them takes milliseconds."""
        for setting, value in self._saved:
            if (only is None or setting in only) and not setting.same(value, setting.read()):
                setting.write(value)


def is_put_back(module: ModuleType, name: str) -> bool:
    """Say whether an attribute of a module of Python is a setting that is put back."""
    return module is builtins or (module, name) in (*_LISTS, *_OF_WARNINGS) or (module is sys and name in _HOOKS)


# Python


_LISTS = (*((sys, name) for name in ("path", "argv", "meta_path", "path_hooks")), (gc, "callbacks"))
_HOOKS = ("excepthook", "unraisablehook", "breakpointhook")


def _read_lists() -> tuple[Any, ...]:
    return tuple((held := getattr(module, name), tuple(held)) for module, name in _LISTS)


def _same_lists(saved: Any, now: Any) -> bool:
    return all(
        held is now_held and [*content] == [item for item in now_content if item in content or not _is_added(item)]
        for (held, content), (now_held, now_content) in zip(saved, now, strict=True)
    )


def _is_added(item: Any) -> bool:
    """Say whether a library may have added it: a folder where it looks for its parts later, a function of its own."""
    if isinstance(item, str):
        return is_of_library(item)
    return _is_of_a_library(getattr(item, "__module__", type(item).__module__))


def _is_of_a_library(name: Any) -> bool:
    """Say whether a module of this name has been imported and is no module of the user."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    return isinstance(module, ModuleType) and name != "__main__" and not is_of_user(module)


def _write_lists(saved: Any) -> None:
    for (module, name), (held, content) in zip(_LISTS, saved, strict=True):
        added = [item for item in getattr(module, name) if item not in content and _is_added(item)]
        setattr(module, name, held)
        held[:] = [*content, *added]


def _read_builtins() -> dict[str, Any]:
    return {name: value for name, value in vars(builtins).items() if name not in _OF_DISPLAYS}


def _write_builtins(saved: dict[str, Any]) -> None:
    names = vars(builtins)
    for name in names.keys() - saved.keys() - _OF_DISPLAYS:
        del names[name]
    names.update(saved)


#: Built-in names that an interpreter, or a run without output, binds anew all the time.
_OF_DISPLAYS = {"_", "input"}


def _write_profile(saved: Any) -> None:
    sys.setprofile(saved if callable(saved) else None)  # a profiler in C lets nobody set it again


def _write_collecting(on: bool) -> None:
    (gc.enable if on else gc.disable)()


def _read_stack_size() -> int:
    size = threading.stack_size()  # which sets it to none as well
    threading.stack_size(size)
    return size


def _write_stack_size(size: int) -> None:
    threading.stack_size(size)


def _of_module(module: str, name: str) -> Setting:
    """Return a private global of a module of Python, None where that has not been imported."""

    def write(value: Any) -> None:
        if module in sys.modules:
            setattr(sys.modules[module], name, value)

    return Setting(lambda: getattr(sys.modules.get(module), name, None), write)


def _read_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed
        return None


def _write_folder(folder: Path | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _read_environment() -> dict[str, str]:
    return dict(os.environ)


def _write_environment(saved: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(saved)


def _write_zone(_: tuple[str, str]) -> None:
    if hasattr(time, "tzset"):  # not on Windows
        time.tzset()  # which reads the variable that was put back


def _moved_variables(saved: dict[str, str], now: dict[str, str]) -> dict[str, str | None]:
    """Return how the variables were that differ (None: not set), but for those that a compiler sets for itself."""
    if saved == now:
        return {}
    theirs = tuple(prefix for framework in frameworks.loaded() for prefix in framework.variables)
    names = (name for name in {**saved, **now} if saved.get(name) != now.get(name))
    return {name: saved.get(name) for name in names if not name.startswith(theirs)}


def _same_variables(saved: dict[str, str], now: dict[str, str]) -> bool:
    return not _moved_variables(saved, now)


def _write_variables(saved: dict[str, str]) -> None:
    for name, value in _moved_variables(saved, dict(os.environ)).items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


class _Modules(dict[str, Any]):
    """The imported modules; `alike` are those of the last time at which nothing but imports had made others of them.

    There are thousands of modules after a compilation, and this is asked some twenty times while a cell is compared.
    """

    def __init__(self) -> None:
        super().__init__(sys.modules)
        self.alike = [*self, *self.values()]


def _moved_modules(saved: _Modules, now: _Modules) -> dict[str, Any]:
    """Return what the modules were that differ by hand, not by an import: that is done once in a process."""
    if len(now.alike) == len(saved.alike) and all(map(operator.is_, now.alike, saved.alike)):
        return {}
    differ = [(name, module) for name, module in saved.items() if now.get(name, MISSING) is not module]
    gone = {name: module for name, module in differ if name not in now or _is_another(name, now)}
    made = (name for name in now.keys() - saved.keys() if _is_by_hand(name, now[name], now))
    moved = {**gone, **dict.fromkeys(made, MISSING)}
    if not moved:
        saved.alike = now.alike
    return moved


def _is_another(name: str, now: _Modules) -> bool:
    """Say whether what is in the place of a module now was put there; a compiler loads what it has written anew."""
    return _is_by_hand(name, now[name], now) or not vars(now[name]).get("__file__")


def _is_by_hand(name: str, module: Any, now: _Modules) -> bool:
    """Say whether a module was put among the imported ones by other means than an import, and by no library."""
    if isinstance(module, ModuleType) and vars(module).get("__spec__") is not None:
        return False
    package = now.get(name.partition(".")[0])
    if package is not module and isinstance(package, ModuleType) and not is_of_user(package):
        return False
    return not isinstance(module, ModuleType) or is_of_user(module)


def _same_modules(saved: _Modules, now: _Modules) -> bool:
    return not _moved_modules(saved, now)


def _write_modules(saved: _Modules) -> None:
    for name, module in _moved_modules(saved, _Modules()).items():
        if module is MISSING:
            del sys.modules[name]
        else:
            sys.modules[name] = module


_SIGNALS = tuple(map(int, signal.valid_signals()))
# What each timer sends: without a handler that ends the process.
_OF_TIMERS = {
    getattr(signal, name, None): getattr(signal, timer, None)
    for name, timer in (("SIGALRM", "ITIMER_REAL"), ("SIGVTALRM", "ITIMER_VIRTUAL"), ("SIGPROF", "ITIMER_PROF"))
}


def _read_signals() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _moved_signals(saved: dict[int, Any], now: dict[int, Any]) -> dict[int, Any]:
    """Return the handlers that were there before, of the signals that code of the user handles in another way now.

    Our own guard takes itself off. A library sets its handlers once, and relies on them. None was not set by Python.
    """
    differ = [number for number, handler in now.items() if handler is not saved[number] is not None]
    moved = {number: saved[number] for number in differ if not _is_of_others(now[number])}
    return {number: handler for number, handler in moved.items() if handler is not signal.SIG_DFL or not _runs(number)}


def _runs(number: int) -> bool:
    """Say whether a timer is running that sends this signal."""
    timer = _OF_TIMERS.get(number)
    return timer is not None and any(signal.getitimer(timer))


def _is_of_others(handler: Any) -> bool:
    if isinstance(getattr(handler, "__self__", None), InterruptGuard):
        return True
    return isinstance(handler, FunctionType | MethodType) and _is_of_a_library(handler.__module__)


def _same_signals(saved: dict[int, Any], now: dict[int, Any]) -> bool:
    return not _moved_signals(saved, now)


def _write_signals(saved: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # elsewhere Python lets nobody set them
        for number, handler in _moved_signals(saved, _read_signals()).items():
            signal.signal(number, handler)


def _read_contexts() -> dict[Any, Any]:
    return dict(contextvars.copy_context())


def _write_contexts(saved: dict[Any, Any]) -> None:
    now = contextvars.copy_context()
    for variable, value in saved.items():
        if now.get(variable, MISSING) is not value:
            variable.set(value)


# Numbers and texts


def _read_decimal() -> tuple[Any, ...]:
    context = decimal.getcontext()
    return context, state_of_context(context)


def _write_decimal(saved: tuple[Any, ...]) -> None:
    context, state = saved
    decimal.setcontext(context)
    set_state_of_context(context, state)


def _read_signalled() -> dict[Any, bool]:
    return dict(decimal.getcontext().flags)


def _write_signalled(saved: dict[Any, bool]) -> None:
    decimal.getcontext().flags.update(saved)


def _write_locale(saved: str) -> None:
    locale.setlocale(locale.LC_ALL, saved)


# Warnings and the log


_SHOWN = "__warningregistry__"
_EMPTY: Mapping[str, Any] = {}
_OF_WARNINGS = ((warnings, "filters"), (warnings, "showwarning"))


def _read_warnings() -> tuple[Any, ...]:
    return warnings.filters, list(warnings.filters), warnings.showwarning


def _write_warnings(saved: tuple[Any, ...]) -> None:
    filters, content, show = saved
    filters[:] = content
    warnings.filters, warnings.showwarning = filters, show


def _read_shown() -> dict[str, tuple[dict[Any, Any], dict[Any, Any]]]:
    """Return what Python remembers, in each module that has warned, of the warnings that it has shown."""
    # Of thousands of modules hardly any has warned, and this is read a dozen times in a comparison.
    shown = {}
    for name, module in list(sys.modules.items()):  # thousands, of which hardly any has warned
        held: Mapping[str, Any] = getattr(module, "__dict__", _EMPTY)
        if _SHOWN in held and isinstance(one := held[_SHOWN], dict):
            shown[name] = one, dict(one)
    return shown


def _write_shown(saved: dict[str, tuple[dict[Any, Any], dict[Any, Any]]]) -> None:
    for name in _read_shown().keys() - saved.keys():
        vars(sys.modules[name]).pop(_SHOWN, None)
    for name, (held, content) in saved.items():
        if held != content:
            held.clear()
            held.update(content)
        if name in sys.modules:
            vars(sys.modules[name])[_SHOWN] = held


_UNTOUCHED = (logging.NOTSET, (), (), True, False)


def _read_log() -> dict[str, tuple[Any, ...]]:
    held = logging.root.manager.loggerDict
    loggers = {name: logger for name, logger in list(held.items()) if isinstance(logger, logging.Logger)}
    return {name: _of_logger(logger) for name, logger in {**loggers, "": logging.root}.items()}


def _of_logger(logger: logging.Logger) -> tuple[Any, ...]:
    if not (logger.level or logger.handlers or logger.filters or logger.disabled) and logger.propagate:
        return _UNTOUCHED  # most of the hundreds of them, and then there is nothing to compare
    handlers = tuple((one, one.level, one.formatter, tuple(one.filters)) for one in logger.handlers)
    return logger.level, handlers, tuple(logger.filters), logger.propagate, logger.disabled


def _moved_loggers(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return how the loggers were that differ; a new one of a library was set up by that while it was imported."""
    others = [(name, state) for name, state in now.items() if saved.get(name, _UNTOUCHED) is not state]
    differ = ((name, state) for name, state in others if not _same(saved.get(name, _UNTOUCHED), state))
    moved = {name: (_without_own(name, saved.get(name, _UNTOUCHED), state), state) for name, state in differ}
    return {
        name: before
        for name, (before, state) in moved.items()
        if not _same(before, state) and (name in saved or not _is_of_library(name))
    }


def _without_own(name: str, saved: tuple[Any, ...], now: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return how a logger was, without handlers of a class of its own package that are gone: that takes them away.

    The one to which torch traces its compilations takes itself off when the first one begins.
    """
    level, handlers, *others = saved
    kept = {id(handler) for handler, *_ in now[1]}
    own = name.partition(".")[0]
    left = (one for one in handlers if id(one[0]) in kept or type(one[0]).__module__.partition(".")[0] != own)
    return level, tuple(left), *others


@functools.cache
def _is_of_library(name: str) -> bool:
    """Say whether a logger goes by the name of an imported module, or is a global of one of a library."""
    if name.partition(".")[0] in sys.modules:  # most are: to look through all modules takes milliseconds
        return True
    logger = logging.getLogger(name)
    modules = [one for one in list(sys.modules.values()) if isinstance(one, ModuleType) and not is_of_user(one)]
    own = sys.modules.get("__main__")
    return any(logger is value for one in modules if one is not own for value in list(vars(one).values()))


def _same_log(saved: dict[str, Any], now: dict[str, Any]) -> bool:
    return not _moved_loggers(saved, now)


def _write_log(saved: dict[str, Any]) -> None:
    for name, (level, handlers, filters, propagate, disabled) in _moved_loggers(saved, _read_log()).items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler for handler, *_ in handlers]
        for handler, own_level, formatter, own_filters in handlers:
            handler.level, handler.formatter, handler.filters[:] = own_level, formatter, own_filters
        logger.filters[:] = filters
        logger.propagate, logger.disabled = propagate, disabled
        logger.setLevel(level)


# Figures


def _read_figures() -> tuple[Any, ...]:
    """Return matplotlib's settings and the numbers of its open figures, if it has been imported."""
    matplotlib: Any = sys.modules.get("matplotlib")
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    # Read as from any dict: its own methods choose a backend, or warn of old names.
    settings = dict(dict.items(matplotlib.rcParams)) if hasattr(matplotlib, "rcParams") else {}
    return settings, tuple(pyplot.get_fignums()) if hasattr(pyplot, "get_fignums") else ()


def _same_figures(saved: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    imported_meanwhile = not saved[0]
    return (imported_meanwhile or saved[0] == now[0]) and set(now[1]) <= set(saved[1])


def _write_figures(saved: tuple[Any, ...]) -> None:
    settings, figures = saved
    for number in set(_read_figures()[1]) - set(figures):
        sys.modules["matplotlib.pyplot"].close(number)
    if settings:
        dict.update(sys.modules["matplotlib"].rcParams, settings)


def _attribute(owner: Any, name: str, late: bool = False) -> Setting:
    return Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), late)


def _read_events() -> dict[str, list[Any]]:
    """Return what IPython calls before and after cells."""
    return {name: [*held] for name, held in _callbacks().items()}


def _write_events(saved: dict[str, list[Any]]) -> None:
    callbacks = _callbacks()
    for name in saved.keys() & callbacks.keys():
        callbacks[name][:] = saved[name]


def _callbacks() -> dict[str, list[Any]]:
    """Return what IPython's shell calls, by event, in lists of its own; nothing where no shell runs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return {} if shell is None else dict(shell.events.callbacks)


_MODULES = Setting(_Modules, _write_modules, same=_same_modules)
_SETTINGS = (
    Setting(_read_lists, _write_lists, same=_same_lists),
    Setting(_read_builtins, _write_builtins),
    Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    Setting(sys.getswitchinterval, sys.setswitchinterval),
    Setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    *(_attribute(sys, name) for name in _HOOKS),
    Setting(sys.gettrace, sys.settrace),
    Setting(sys.getprofile, _write_profile),
    Setting(threading.gettrace, threading.settrace),
    Setting(threading.getprofile, threading.setprofile),
    Setting(sys.get_asyncgen_hooks, lambda saved: sys.set_asyncgen_hooks(*saved)),
    Setting(gc.get_threshold, lambda saved: gc.set_threshold(*saved)),
    Setting(gc.isenabled, _write_collecting, late=True),
    Setting(gc.get_debug, gc.set_debug),
    Setting(_read_stack_size, _write_stack_size),
    _of_module("asyncio.events", "_event_loop_policy"),
    _of_module("urllib.request", "_opener"),
    Setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
    Setting(_read_folder, _write_folder),
    Setting(_read_environment, _write_variables, same=_same_variables),
    Setting(_read_environment, _write_environment, late=True),  # a compiler sets variables of its own
    Setting(lambda: time.tzname, _write_zone),
    _MODULES,
    Setting(_read_signals, _write_signals, same=_same_signals),
    Setting(_read_contexts, _write_contexts, late=True),
    Setting(_read_decimal, _write_decimal),
    Setting(_read_signalled, _write_signalled, late=True),  # any division may set these
    Setting(lambda: locale.setlocale(locale.LC_ALL), _write_locale),
    Setting(_read_warnings, _write_warnings, late=True),
    Setting(_read_shown, _write_shown, late=True),  # a warning that is shown once is so in the first of all calls
    Setting(_read_log, _write_log, same=_same_log),
    _attribute(logging.root.manager, "disable"),
    Setting(_read_figures, _write_figures, same=_same_figures),
    Setting(_read_events, _write_events),
)
