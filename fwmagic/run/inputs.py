"""The same numbers for every framework: arrays of %%setup and --inputs, converted to copies of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework, loaded
from fwmagic.frameworks.arrays import is_numbers

Converted = dict[tuple[str, str | None, int], tuple[Any, Any]]
"""Arrays that were converted, with what they were converted from, by framework, device and identity of that."""


def converted_inputs(
    names: Iterable[str],
    values: Mapping[str, Any],
    together: Sequence[Framework],
    framework: Framework,
    device: str | None,
    converted: Converted | None = None,
) -> tuple[dict[str, Any], str]:
    """Return copies of the arrays named as arrays of `framework`, and a sentence on dtypes that changed.

    All frameworks that run `together` get the canonical dtypes of each of them, so that the same numbers reach every
    variant: with JAX, float64 and int64 become float32 and int32 unless `jax_enable_x64` is on.

    Two sections of one framework that are given the same `converted` get the same copies, as of any variable of the
    notebook: with a copy for each, two equal sections differed by up to 5 %, by where in memory these happened to lie.
    `converted` has those that there are, and gets the others.

    Raises
    ------
    FwMagicError
        A name is not bound, holds no array, or holds numbers that this dtype cannot.
    """
    conversion = _Conversion(together, framework, device, {} if converted is None else converted)
    arrays = {
        name: conversion.array(numbers, values[name], name) for name, numbers in checked_inputs(names, values).items()
    }
    return arrays, conversion.sentence()


def checked_inputs(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays named as NumPy's.

    Raises
    ------
    FwMagicError
        A name is not bound, or holds no array.
    """
    arrays = {}
    for name in names:
        if name not in values:
            raise FwMagicError(
                f"--inputs names {name!r}, which the notebook does not have: assign it in an earlier cell."
            )
        arrays[name] = input_as_numpy(values[name])
        if arrays[name] is None:
            kind = type(values[name]).__name__
            raise FwMagicError(f"--inputs names {name!r}, which is a {kind} and no array: only arrays are converted.")
    return arrays


def shared_inputs(
    values: Mapping[str, Any],
    together: Sequence[Framework],
    framework: Framework,
    device: str | None,
    converted: Converted,
) -> tuple[dict[str, Any], str]:
    """Return what %%setup bound, its NumPy arrays (also those in lists, tuples and dicts) as arrays of `framework`.

    Two sections of one framework get the same arrays, as those of `converted_inputs` do.

    Raises
    ------
    FwMagicError
        An array holds numbers that the dtype of all frameworks cannot.
    """
    conversion = _Conversion(together, framework, device, converted)

    def convert(value: Any, path: str) -> Any:
        if is_numbers(value):
            return conversion.array(value, value, path)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)._make(convert(item, f"{path}[{i}]") for i, item in enumerate(value))  # type: ignore[attr-defined]
        if type(value) in (list, tuple):
            return type(value)(convert(item, f"{path}[{i}]") for i, item in enumerate(value))
        if type(value) is dict:
            return {key: convert(item, f"{path}[{key!r}]") for key, item in value.items()}
        return value

    return {name: convert(value, name) for name, value in values.items()}, conversion.sentence()


class _Conversion:
    """Arrays of one section on their way to its framework, in the dtypes of all, and which of these changed."""

    def __init__(
        self, together: Sequence[Framework], framework: Framework, device: str | None, converted: Converted
    ) -> None:
        self._together = together
        self._framework = framework
        self._device = device
        self._converted = converted
        self._changed: dict[str, tuple[Any, Any]] = {}

    def array(self, numbers: Any, source: Any, path: str) -> Any:
        """Return numbers, which are those of `source`, as an array of the framework."""
        canonical = canonical_dtype(numbers.dtype, self._together)
        if canonical != numbers.dtype:
            self._changed[path] = numbers.dtype, canonical
        key = self._framework.name, self._device, id(source)
        if key not in self._converted:  # with the source, so that no other one has its identity
            cast = _cast(numbers, canonical, path, self._together)
            self._converted[key] = self._framework.from_numpy(cast, self._device), source
        return self._converted[key][0]

    def sentence(self) -> str:
        """Say which arrays, by path, have another dtype now, and whose it is."""
        if not self._changed:
            return ""
        before = [dtype for dtype, _ in self._changed.values()]
        whose = [one.title for one in self._together if any(one.canonical_dtype(dtype) != dtype for dtype in before)]
        each = ", ".join(f"{path} from {before} to {after}" for path, (before, after) in self._changed.items())
        return f"converted to {' and '.join(whose)}'s dtypes for all: {each}"


def input_as_numpy(value: Any) -> Any:
    """Return an array of any loaded framework as NumPy's, or None."""
    for framework in loaded():
        if framework.is_array(value):
            return framework.to_numpy(value)
    return None


def canonical_dtype(dtype: Any, together: Sequence[Framework]) -> Any:
    """Return the dtype that all frameworks which run together can hold."""
    for framework in together:
        dtype = framework.canonical_dtype(dtype)
    return dtype


def _cast(numbers: Any, dtype: Any, path: str, together: Sequence[Framework]) -> Any:
    """Return numbers in a dtype that may be narrower; what it cannot hold must not become another number unsaid."""
    import numpy as np

    if dtype == numbers.dtype:
        return numbers.copy()
    with np.errstate(over="ignore"):
        cast = numbers.astype(dtype)
        lost = (cast != numbers) if cast.dtype.kind in "iu" else (np.isinf(cast) & ~np.isinf(numbers))
    if lost.any():
        widened = "".join(f", or call {one.widens}" for one in together if one.widens)
        raise FwMagicError(
            f"{path} holds {numbers[lost][0]}, which {dtype} cannot hold, and all variants get the same numbers: use "
            f"smaller ones{widened}."
        )
    return cast
