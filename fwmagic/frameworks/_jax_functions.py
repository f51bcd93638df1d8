"""jax.jit for a notebook function as it stands: arrays of its arguments and globals are traced, all else is static."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import jax
import numpy as np

from fwmagic.errors import CannotCompile
from fwmagic.frameworks import _jax_trace


class Jitted:
    """A function compiled by `jax.jit`, once for each structure of its arguments.

    What `equinox.filter_jit` does, and the function's global arrays are arguments too, so that they are not
    folded as constants. Numbers are traced at first and static if that fails. A function that cannot be traced
    runs as it is, and `failure` says why.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.failure: CannotCompile | None = None
        self.traces_numbers = True
        self._programs: dict[Hashable, tuple[Any, list[Any]]] = {}

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the compiled function."""
        if self.failure is not None:
            return self.function(*arguments, **keywords)
        try:
            return self._call(arguments, keywords)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError) as error:
            if self.traces_numbers:
                self.traces_numbers = False
                return self(*arguments, **keywords)
            self.failure = _jax_trace.explain(error, self.function.__code__.co_filename)
            return self.function(*arguments, **keywords)

    def _call(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        captured = self._globals()
        leaves, tree = jax.tree.flatten((arguments, keywords, captured))
        traced = [self._is_dynamic(leaf) for leaf in leaves]
        static = tuple(None if is_traced else leaf for leaf, is_traced in zip(leaves, traced, strict=True))
        if any(hasattr(value, "_pytree__state") for value in (*arguments, *keywords.values())):
            raise TypeError("a flax.nnx object keeps its state in place, which a trace of the function would lose")
        key = (tree, static, tuple(traced))
        if key not in self._programs:
            self._programs[key] = self._program(tree, static, traced)
        program, outputs = self._programs[key]
        arrays = program([leaf for leaf, is_traced in zip(leaves, traced, strict=True) if is_traced])
        out_tree, out_static = outputs[0]
        computed = iter(arrays)
        return jax.tree.unflatten(out_tree, [next(computed) if value is _ARRAY else value for value in out_static])

    def _program(self, tree: Any, static: tuple[Any, ...], traced: list[bool]) -> tuple[Any, list[Any]]:
        outputs: list[Any] = []

        def run(arrays: list[Any]) -> list[Any]:
            given = iter(arrays)
            leaves = [next(given) if is_traced else leaf for leaf, is_traced in zip(static, traced, strict=True)]
            arguments, keywords, captured = jax.tree.unflatten(tree, leaves)
            with self._bound(captured):
                result = self.function(*arguments, **keywords)
            flat, out_tree = jax.tree.flatten(result)
            is_array = [isinstance(value, jax.Array) for value in flat]
            outputs[:] = [(out_tree, [_ARRAY if a else v for v, a in zip(flat, is_array, strict=True)])]
            return [value for value, a in zip(flat, is_array, strict=True) if a]

        run.__name__ = self.function.__name__
        return jax.jit(run), outputs

    def _is_dynamic(self, leaf: Any) -> bool:
        if isinstance(leaf, jax.Array | np.ndarray):
            return True
        return self.traces_numbers and isinstance(leaf, int | float) and not isinstance(leaf, bool)

    def _globals(self) -> dict[str, Any]:
        """Return the global arrays, and trees of arrays, that the function and its helpers read."""
        namespace = self.function.__globals__
        found: dict[str, Any] = {}
        pending, seen = [self.function.__code__], set()
        while pending:
            code = pending.pop()
            pending.extend(const for const in code.co_consts if isinstance(const, type(code)))
            for name in code.co_names:
                value = namespace.get(name)
                if name in seen or value is None:
                    continue
                seen.add(name)
                if isinstance(value, FunctionType) and value.__globals__ is namespace:
                    pending.append(value.__code__)
                elif isinstance(value, jax.Array | np.ndarray | dict | list | tuple):
                    leaves = jax.tree.leaves(value)
                    if leaves and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
                        found[name] = value
        return found

    @contextmanager
    def _bound(self, captured: dict[str, Any]) -> Iterator[None]:
        namespace = self.function.__globals__
        before = {name: namespace[name] for name in captured}
        namespace.update(captured)
        try:
            yield
        finally:
            namespace.update(before)


_ARRAY = object()
