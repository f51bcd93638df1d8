"""The same numbers for every framework: arrays of %%setup and --inputs, converted to private copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework, loaded
from fwmagic.frameworks.arrays import is_numbers


def converted_inputs(
    names: Iterable[str],
    values: Mapping[str, Any],
    together: Sequence[Framework],
    framework: Framework,
    device: str | None,
) -> tuple[dict[str, Any], str]:
    """Return private copies of the arrays named as arrays of `framework`, and a sentence on dtypes that changed.

    All frameworks that run `together` get the canonical dtypes of each of them, so that the same numbers reach every
    variant: with JAX, float64 and int64 become float32 and int32 unless `jax_enable_x64` is on.

    Raises
    ------
    FwMagicError
        A name is not bound, holds no array, or holds numbers that this dtype cannot.
    """
    arrays: dict[str, Any] = {}
    changed: dict[str, tuple[Any, Any]] = {}
    for name, numbers in checked_inputs(names, values).items():
        canonical = canonical_dtype(numbers.dtype, together)
        if canonical != numbers.dtype:
            changed[name] = numbers.dtype, canonical
        arrays[name] = framework.from_numpy(_cast(numbers, canonical, name, together), device)
    return arrays, _sentence_on_inputs(changed, together)


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


Converted = dict[tuple[str, str | None, int], tuple[Any, Any]]
"""Arrays that were converted, with what they were converted from, by framework, device and identity of that."""


def shared_inputs(
    values: Mapping[str, Any],
    together: Sequence[Framework],
    framework: Framework,
    device: str | None,
    converted: Converted,
) -> tuple[dict[str, Any], str]:
    """Return what %%setup bound, its NumPy arrays (also those in lists, tuples and dicts) as arrays of `framework`.

    Two sections of one framework get the same arrays, as of any variable of the notebook: with a copy for each, two
    equal sections differed by up to 5 %, by where in memory their copies happened to lie. `converted` has those that
    there are, and gets the others.

    Raises
    ------
    FwMagicError
        An array holds numbers that the dtype of all frameworks cannot.
    """
    changed: dict[str, tuple[Any, Any]] = {}

    def convert(value: Any, path: str) -> Any:
        if is_numbers(value):
            canonical = canonical_dtype(value.dtype, together)
            if canonical != value.dtype:
                changed[path] = value.dtype, canonical
            key = framework.name, device, id(value)
            if key not in converted:  # with the value, so that no other one has its identity
                converted[key] = framework.from_numpy(_cast(value, canonical, path, together), device), value
            return converted[key][0]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)._make(convert(item, f"{path}[{i}]") for i, item in enumerate(value))  # type: ignore[attr-defined]
        if type(value) in (list, tuple):
            return type(value)(convert(item, f"{path}[{i}]") for i, item in enumerate(value))
        if type(value) is dict:
            return {key: convert(item, f"{path}[{key!r}]") for key, item in value.items()}
        return value

    return {name: convert(value, name) for name, value in values.items()}, _sentence_on_inputs(changed, together)


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


def _sentence_on_inputs(changed: Mapping[str, tuple[Any, Any]], together: Sequence[Framework]) -> str:
    """Say which arrays, by path, have another dtype now, and whose it is."""
    if not changed:
        return ""
    own = {f.title: any(f.canonical_dtype(before) != before for before, _ in changed.values()) for f in together}
    whose = " and ".join(title for title, narrower in own.items() if narrower)
    each = ", ".join(f"{path} from {before} to {after}" for path, (before, after) in changed.items())
    return f"converted to {whose}'s dtypes for all: {each}"
