"""What keeps a cell from being run twice: effects outside of the notebook, and state that cannot be put back."""

from __future__ import annotations

import ast
from types import ModuleType
from typing import Any

from fwmagic.cells.analyse import Body, dotted
from fwmagic.cells.function import first_use
from fwmagic.cells.names import names_of_code, notebook_functions
from fwmagic.cells.outcome import root
from fwmagic.cells.snapshot import Snapshot

_ANYWAY = "--repeat-effects times it anyway"
#: Names that a function reads if it writes files, starts processes, opens connections or draws figures.
_GLOBALS = {"open", "subprocess", "shutil", "socket", "requests", "urllib", "sqlite3", "plt"}
_METHODS = {
    *("write_text", "write_bytes", "unlink", "mkdir", "makedirs", "system", "touch", "rmdir"),
    *("save", "savez", "savefig", "dump", "to_csv", "to_parquet", "add_scalar"),
}


def effects(body: Body, namespace: dict[str, Any], repeat_effects: bool) -> str:
    """Return which effect outside of the notebook a cell has, or an empty string.

    `repeat_effects` is the user's leave to repeat it; what is read from the keyboard cannot be repeated at all.
    """
    if body.stdin is not None:
        return f"line {body.stdin.line}: {body.stdin.reason}, which a measured run cannot"
    if body.effects and not repeat_effects:
        return f"line {body.effects[0].line}: {body.effects[0].reason} ({_ANYWAY})"
    for node in [] if repeat_effects else ast.walk(body.tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            owner = dotted(node).split(".")[0]
            if isinstance(namespace.get(owner), ModuleType):
                return f"line {node.lineno}: `{dotted(node)}` belongs to a module, which is not put back ({_ANYWAY})"
    for function in notebook_functions(namespace, body.all_reads):
        code, name = function.__code__, function.__name__
        read = names_of_code(code).reads
        used = sorted(_GLOBALS & read) + sorted(_METHODS & set(code.co_names))
        where = f"line {first_use(body, name)}: " if first_use(body, name) else ""
        if "input" in read:
            return f"{where}`input` in `{name}` reads from the keyboard, which a measured run cannot"
        if used and not repeat_effects:
            return f"{where}what `{used[0]}` does in `{name}` cannot be undone ({_ANYWAY})"
    return ""


def lost_state(body: Body, snapshot: Snapshot, repeat_effects: bool) -> str:
    """Return which state of the notebook a run would change for good, or an empty string.

    Going backward frees the graph of an earlier cell, so that it cannot be repeated at all.
    """
    if _goes_backward(body):
        # what the body binds before it reads it, such as the loss of the cell's last execution, is not gone through
        fresh = body.assigned - body.reads
        graph = next((path for path, _ in snapshot.leaves(_has_graph) if root(path) not in fresh), None)
        if graph is not None:
            return f"going backward frees the graph that `{graph}` carries from another cell"
    if snapshot.unrestorable and not repeat_effects:
        path, why = snapshot.unrestorable[0]
        return f"`{path}` cannot be put back: {why} ({_ANYWAY})"
    return ""


def _has_graph(value: Any) -> bool:
    return getattr(value, "grad_fn", None) is not None and hasattr(value, "requires_grad")


def _goes_backward(body: Body) -> bool:
    return "backward" in body.text or "autograd.grad" in body.text
