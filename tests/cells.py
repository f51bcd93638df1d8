"""Cells run in the fixture `shell`: what they return, what they raise, what is shown, and what they leave behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell

from fwmagic.report import MIME, Report

#: What the shell itself keeps among the user's names.
_OF_THE_SHELL = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def run(shell: InteractiveShell, text: str) -> Any:
    """Run a cell that must succeed, and return its value."""
    result = shell.run_cell(text, store_history=True)
    result.raise_error()
    return result.result


def fail(shell: InteractiveShell, text: str) -> BaseException:
    """Run a cell that must fail, and return what it raised."""
    result = shell.run_cell(text, store_history=True)
    error = result.error_before_exec or result.error_in_exec
    assert error is not None, f"this cell should have failed:\n{text}"
    return error


def shown(shell: InteractiveShell) -> list[Report]:
    """Return the reports that were displayed, in order, as a notebook stores them."""
    found = [item["data"] for item in shell.display_pub.outputs if MIME in item["data"]]
    return [Report.from_json(data[MIME]) for data in found]


def names(shell: InteractiveShell) -> dict[str, int]:
    """Return the identities of what the user's names hold."""
    return {n: id(v) for n, v in shell.user_ns.items() if not n.startswith("_") and n not in _OF_THE_SHELL}


def generators() -> list[Any]:
    """Return the states of the process's random generators, comparable."""
    return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]


@contextmanager
def untouched(shell: InteractiveShell) -> Iterator[None]:
    """Assert that the block leaves the user's names and the random generators as they are."""
    before = names(shell), generators()
    yield
    assert names(shell) == before[0]
    assert generators() == before[1]
