"""What code of the notebook is told by Python, its log and its warnings, and by NumPy, whoever sets it off."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from fwmagic.cells.plans import Plans


def told(namespace: dict[str, Any]) -> list[Any]:
    """Return handlers, filters, formatters and functions of the notebook, and what handlers of Python write to memory.

    A handler that keeps an open file, or the like, is left out: it could not be put back, whatever the cell does.
    """
    plans = Plans(namespace)
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    attached = [one for logger in loggers if isinstance(logger, logging.Logger) for one in _attached(logger)]
    asked: list[Any] = [warnings.showwarning, warnings.formatwarning, logging.getLogRecordFactory()]
    asked += [sys.unraisablehook, sys.excepthook, sys.displayhook, threading.excepthook]
    numpy = sys.modules.get("numpy")
    asked += [] if numpy is None else [numpy.geterrcall()]
    found = [one for one in asked if _is_written_in(namespace, one) or plans.is_notebook(type(one))]
    found += [one for one in attached if _is_of_notebook(one, plans)]
    found += [held for one in attached for held in getattr(one, "__dict__", {}).values() if type(held) is io.StringIO]
    found += [one.buffer for one in attached if isinstance(getattr(one, "buffer", None), list)]
    # `warnings.catch_warnings(record=True)` keeps them by the method of a list, which only a private name tells.
    recorded = getattr(getattr(warnings, "_showwarnmsg_impl", None), "__self__", None)
    found += [recorded] if isinstance(recorded, list) else []
    return list({id(one): one for one in found}.values())


def _is_written_in(namespace: dict[str, Any], one: Any) -> bool:
    """Say whether it is a function, or a method, of the notebook."""
    function = one.__func__ if isinstance(one, MethodType) else one
    return isinstance(function, FunctionType) and function.__globals__ is namespace


def _attached(logger: logging.Logger) -> Iterator[Any]:
    """Yield the handlers, the filters and the formatters of a logger."""
    for handler in logger.handlers:
        yield from (handler, *handler.filters, *([] if handler.formatter is None else [handler.formatter]))
        target = getattr(handler, "target", None)
        if isinstance(target, logging.Handler):  # of one that keeps what it is told for a while
            yield target
    yield from logger.filters


def _is_of_notebook(one: Any, plans: Plans) -> bool:
    if isinstance(one, FunctionType):  # a filter may be one
        return True
    opened = (held for held in getattr(one, "__dict__", {}).values() if isinstance(held, io.IOBase))
    return plans.is_notebook(type(one)) and all(type(held) in (io.StringIO, io.BytesIO) for held in opened)
