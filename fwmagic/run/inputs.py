"""The same numbers for every framework: arrays of %%setup and --inputs, converted to private copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework, is_numbers, loaded


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
        A name is not bound, or holds no array.
    """
    arrays: dict[str, Any] = {}
    changed: dict[str, tuple[Any, Any]] = {}
    for name, numbers in checked_inputs(names, values).items():
        canonical = canonical_dtype(numbers.dtype, together)
        if canonical != numbers.dtype:
            changed[name] = numbers.dtype, canonical
        arrays[name] = framework.from_numpy(numbers.astype(canonical), device)
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


def shared_inputs(
    values: Mapping[str, Any], together: Sequence[Framework], framework: Framework, device: str | None
) -> tuple[dict[str, Any], str]:
    """Return what %%setup bound, its NumPy arrays (also those in lists, tuples and dicts) as arrays of `framework`."""
    changed: dict[str, tuple[Any, Any]] = {}

    def convert(value: Any, path: str) -> Any:
        if is_numbers(value):
            canonical = canonical_dtype(value.dtype, together)
            if canonical != value.dtype:
                changed[path] = value.dtype, canonical
            return framework.from_numpy(value.astype(canonical), device)
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


def _sentence_on_inputs(changed: Mapping[str, tuple[Any, Any]], together: Sequence[Framework]) -> str:
    """Say which arrays, by path, have another dtype now, and whose it is."""
    if not changed:
        return ""
    own = {f.title: any(f.canonical_dtype(before) != before for before, _ in changed.values()) for f in together}
    whose = " and ".join(title for title, narrower in own.items() if narrower)
    each = ", ".join(f"{path} from {before} to {after}" for path, (before, after) in changed.items())
    return f"converted to {whose}'s dtypes for all: {each}"
