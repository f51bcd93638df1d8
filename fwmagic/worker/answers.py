"""The answer of a task in another process: what it returned, or what it raised, with the lines of the user's code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
from tblib import pickling_support

from fwmagic.errors import FwMagicError


@dataclass(frozen=True)
class Raised:
    """What a task raised, pickled with its traceback."""

    pickled: bytes

    def error(self) -> Exception:
        """Return the exception; classes of the notebook are those of the notebook again."""
        error: Exception = cloudpickle.loads(self.pickled)
        return error


def answer(task: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the task returns, or `Raised`."""
    try:
        return task(*arguments)
    except Exception as error:  # whatever the user's code raises has to reach the notebook
        return Raised(packed(error))


def packed(error: BaseException) -> bytes:
    """Return an exception pickled with its traceback; one that cannot be pickled is told in words instead."""
    pickling_support.install(error)
    try:
        pickled: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(pickled)
        return pickled
    except Exception:  # whatever its attributes raise when they are pickled
        told = FwMagicError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
        pickling_support.install(told)
        in_words: bytes = cloudpickle.dumps(told)
        return in_words
