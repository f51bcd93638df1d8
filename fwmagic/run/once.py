"""What makes a cell run once: effects that cannot be undone."""

from __future__ import annotations

from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.state import Snapshot


def reason_for_once(body: Body, snapshot: Snapshot, repeat_effects: bool) -> str:
    """Return why a cell must not be run again, or an empty string; `repeat_effects` is the user's leave to do so.

    Reading the keyboard, and going backward through a graph that was built in another cell, cannot be repeated
    at all.
    """
    if body.stdin is not None:
        return f"line {body.stdin.line}: {body.stdin.reason}, which a measured run cannot"
    graph = next((path for path, value in snapshot.leaves(_has_graph)), None)
    if graph is not None and _goes_backward(body):
        return f"going backward frees the graph that `{graph}` carries from another cell"
    if repeat_effects:
        return ""
    if body.effects:
        place = body.effects[0]
        return f"line {place.line}: {place.reason} (--repeat-effects times it anyway)"
    if snapshot.unrestorable:
        path, why = snapshot.unrestorable[0]
        return f"`{path}` cannot be put back: {why} (--repeat-effects times it anyway)"
    return ""


def _has_graph(value: Any) -> bool:
    return getattr(value, "grad_fn", None) is not None and hasattr(value, "requires_grad")


def _goes_backward(body: Body) -> bool:
    return "backward" in body.text or "autograd.grad" in body.text
