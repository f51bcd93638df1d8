"""Trees of arrays as JAX takes them apart, also dicts whose keys have no order, such as 1 and "all"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


class _Unsorted:
    """Stands for a dict whose keys cannot be sorted; JAX makes a dict of it when it puts the tree together."""

    def __init__(self, held: dict[Any, Any]) -> None:
        self.held = held


jax.tree_util.register_pytree_node(
    _Unsorted,
    lambda node: (tuple(node.held.values()), tuple(node.held)),
    lambda keys, values: dict(zip(keys, values, strict=True)),  # type: ignore[arg-type, return-value]
)


# What is nested deeper is left alone.
_DEEPEST = 200


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree and its structure, as `jax.tree.flatten` does.

    The tree is looked at in Python first: where comparing two keys raises, jaxlib 0.10 does not give back its depth,
    and the process has that much less of its stack, each time.
    """
    return jax.tree.flatten(tree if _has_order(tree) else _with_order(tree))


class Flattener:
    """Takes trees of one origin apart, as `flatten` does, in timed calls.

    The first one tells whether the keys of such trees have an order: then JAX itself takes the next ones apart, in no
    more time than in a program without us.
    """

    def __init__(self) -> None:
        self._flatten: Callable[[Any], tuple[list[Any], Any]] | None = None

    def __call__(self, tree: Any) -> tuple[list[Any], Any]:
        """Return the leaves of a tree and its structure."""
        if self._flatten is None:
            self._flatten = jax.tree.flatten if _has_order(tree) else flatten
        try:
            return self._flatten(tree)
        except (ValueError, TypeError):  # the keys of this one have none
            self._flatten = flatten
            return flatten(tree)


def holds_itself(tree: Any) -> bool:
    """Say whether a tree holds itself, or is nested too deep: jaxlib 0.10 would end the process."""
    pending, deepest = [(tree, 0)], dict[int, int]()
    while pending:
        one, depth = pending.pop()
        if depth > _DEEPEST:
            return True
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        for held in inner:
            if isinstance(held, list | tuple | dict) and deepest.get(id(held), -1) < depth + 1:
                deepest[id(held)] = depth + 1
                pending.append((held, depth + 1))
    return False


def is_tree(value: Any) -> bool:
    """Say whether JAX itself can take `value` apart."""
    if holds_itself(value) or not _has_order(value):
        return False
    try:
        jax.tree.flatten(value)
    except (ValueError, TypeError):
        return False
    return True


def leaves_of(tree: Any) -> list[Any]:
    """Return the leaves of a tree; one that holds itself is its own."""
    return [tree] if holds_itself(tree) else flatten(tree)[0]


def _has_order(tree: Any) -> bool:
    """Say whether the keys of each dict in a tree can be sorted."""
    if isinstance(tree, list | tuple):
        return all(map(_has_order, tree))
    return type(tree) is not dict or (_are_sortable(tree) and all(map(_has_order, tree.values())))


def _are_sortable(keys: Any) -> bool:
    try:
        sorted(keys)
    except Exception:  # whatever comparing two keys raises: it is the user's class
        return False
    return True


def _with_order(tree: Any) -> Any:
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)._make(map(_with_order, tree))  # type: ignore[attr-defined]
    if type(tree) in (list, tuple):
        return type(tree)(map(_with_order, tree))
    if type(tree) is dict:
        held = {key: _with_order(value) for key, value in tree.items()}
        return held if _are_sortable(held) else _Unsorted(held)
    return tree
