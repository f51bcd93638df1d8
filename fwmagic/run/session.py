"""The session that the runs of a notebook share: its namespace, its shell, its compiled programs."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.analyse import Body
from fwmagic.cells.held import functions_held
from fwmagic.cells.listeners import told
from fwmagic.cells.modules import modules_of, parts_named
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.walk import Copies
from fwmagic.cells.ways import Programs
from fwmagic.frameworks import Framework


@dataclass(frozen=True)
class Session:
    """What runs share: the notebook's namespace, its shell (None: no IPython), and the compiled programs.

    `execution_count` and `cell` are the number and the text of the cell that runs.
    """

    namespace: dict[str, Any]
    programs: Programs
    shell: Any = None
    execution_count: int | None = None
    cell: str = ""

    def snapshot(self, names: Iterable[str], *more: Framework) -> Snapshot:
        """Return a snapshot of what names lead to, for the frameworks that are loaded and some more."""
        return Snapshot(self.namespace, names, with_loaded(*more))

    def snapshot_of(
        self, body: Body, *more: Framework, roots: Iterable[object] = (), copies: Copies | None = None
    ) -> Snapshot:
        """Return a snapshot of what a section can reach, and of more objects, for the frameworks that are loaded.

        `copies` are saved arrays that snapshots of one run share.
        """
        code = body.code(body.tree)
        imported = [one for one in modules_of(code) if vars(one) is not self.namespace]
        some = with_loaded(*more)
        operators = [operator for framework in some for operator in framework.operators()]
        run = [function for one in operators for function in functions_held(one, self._is_of_notebook)]
        roots = [*roots, *imported, *parts_named(code, self.namespace), *told(self.namespace), *run]
        return Snapshot(self.namespace, body.names, some, roots, body.unread, copies, beyond=True)

    def _is_of_notebook(self, function: FunctionType) -> bool:
        return function.__globals__ is self.namespace


def with_loaded(*more: Framework) -> list[Framework]:
    """Return the frameworks that this process has imported, and some more, each once."""
    return distinct([*frameworks.loaded(), *more])


def start(*some: Framework) -> None:
    """Import what frameworks import when they are first used: what that registers is no cell's doing."""
    for framework in some:
        framework.compile_events()


def distinct(some: Iterable[Framework]) -> list[Framework]:
    """Return each framework once, in order."""
    return list({framework.name: framework for framework in some}.values())


def seed_all(seed: int, *more: Framework) -> None:
    """Seed the global random generators of `random` and of the frameworks."""
    random.seed(seed)
    for framework in with_loaded(*more):
        framework.seed(seed)
