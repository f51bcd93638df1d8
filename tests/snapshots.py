"""Notebook namespaces, and a cell that is run and undone in them; for the tests of the state."""

from __future__ import annotations

import textwrap
from typing import Any

from fwmagic.cells.snapshot import Snapshot
from fwmagic.frameworks import get

ALL = [get("torch"), get("jax"), get("numpy")]


def notebook(source: str = "", **bound: Any) -> dict[str, Any]:
    """Return a namespace as a notebook has it: what is defined in it belongs to `__main__`."""
    namespace: dict[str, Any] = {"__name__": "__main__", **bound}
    run(namespace, source)
    return namespace


def run(namespace: dict[str, Any], source: str) -> None:
    exec(textwrap.dedent(source), namespace)


def round_trip(namespace: dict[str, Any], names: str, cell: str, frameworks: Any = ALL) -> list[str]:
    """Save, run a cell, and put back; return what was found changed."""
    snapshot = Snapshot(namespace, names.split(), frameworks)
    run(namespace, cell)
    changes = snapshot.changes()
    changed = changes.paths
    snapshot.restore()
    assert snapshot.changes().paths == []
    return changed
