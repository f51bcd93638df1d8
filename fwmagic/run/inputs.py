"""The same numbers for every framework: arrays of %%setup and --inputs, converted to copies of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fwmagic.cells.plans import PLAIN
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework, loaded
from fwmagic.frameworks.arrays import copied_together, is_mapped, is_numbers, sharing

Converted = dict[tuple[str, str | None, tuple[int, ...]], tuple[list[Any], list[Any]]]
"""Arrays that were converted, with what they were converted from, by framework, device and identities of these.

Those that share memory were converted together.
"""


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
    return section_inputs({}, names, values, together, framework, device, {} if converted is None else converted)


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


def section_inputs(
    given: Mapping[str, Any],
    names: Iterable[str],
    values: Mapping[str, Any],
    together: Sequence[Framework],
    framework: Framework,
    device: str | None,
    converted: Converted,
) -> tuple[dict[str, Any], str]:
    """Return what %%setup bound, and the arrays named as `converted_inputs` does.

    Of what %%setup bound, NumPy's arrays, also those in lists, tuples and dicts, are converted. What is one object, or
    looks into one memory, in the notebook is or does so here, too.

    Raises
    ------
    FwMagicError
        As `converted_inputs` does, or an array of %%setup holds numbers that this dtype cannot.
    """
    inputs = checked_inputs(names, values)
    found = [source for name, value in given.items() for source in _arrays_in(value, name, set())]
    conversion = _Conversion(together, framework, device, converted)
    conversion.convert([*found, *(_Source(values[name], numbers, name) for name, numbers in inputs.items())])
    bound = {name: conversion.rebuilt(value) for name, value in given.items()}
    return bound | {name: conversion.rebuilt(values[name]) for name in inputs}, conversion.sentence()


class _Source(NamedTuple):
    """An array to be converted, its numbers, and the path that leads to it."""

    value: Any
    numbers: Any
    path: str


def _arrays_in(value: Any, path: str, seen: set[int]) -> Iterator[_Source]:
    """Yield NumPy's arrays of numbers in a value, also those in lists, tuples and dicts, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if is_numbers(value):
        yield _Source(value, value, path)
    elif _is_container(value) and not PLAIN.issuperset(map(type, _items(value))):
        for key, item in zip(value if type(value) is dict else range(len(value)), _items(value), strict=True):
            yield from _arrays_in(item, f"{path}[{key!r}]", seen)


def _is_container(value: Any) -> bool:
    return type(value) in (list, tuple, dict) or (isinstance(value, tuple) and hasattr(value, "_fields"))


def _items(value: Any) -> Collection[Any]:
    return value.values() if type(value) is dict else value


class _Conversion:
    """Arrays of one section on their way to its framework, in the dtypes of all, and which of these changed."""

    def __init__(
        self, together: Sequence[Framework], framework: Framework, device: str | None, converted: Converted
    ) -> None:
        self._together = together
        self._framework = framework
        self._device = device
        self._converted = converted
        self._made: dict[int, Any] = {}
        self._apart: list[str] = []
        self._changed: dict[str, tuple[Any, Any]] = {}

    def convert(self, sources: Sequence[_Source]) -> None:
        """Convert arrays; those that share memory look into one copy of it."""
        distinct = list({id(source.value): source for source in sources}.values())
        groups = [[distinct[place] for place in places] for places in sharing([one.numbers for one in distinct])]
        together = {id(source) for group in groups for source in group}
        for group in [*groups, *([source] for source in distinct if id(source) not in together)]:
            # With the sources, so that no other ones have their identities.
            key = self._framework.name, self._device, tuple(id(source.value) for source in group)
            if key not in self._converted:
                self._converted[key] = self._group(group), [source.value for source in group]
            self._made.update(zip(key[2], self._converted[key][0], strict=True))
            self._tell(group)

    def rebuilt(self, value: Any) -> Any:
        """Return a value with the converted arrays in place of those that it holds."""
        if id(value) in self._made:
            return self._made[id(value)]
        if not _is_container(value):
            return value
        if isinstance(value, tuple):
            items = [self.rebuilt(item) for item in value]
            return self._made.setdefault(id(value), getattr(type(value), "_make", tuple)(items))
        made = self._made[id(value)] = type(value)()  # it may hold itself
        if PLAIN.issuperset(map(type, _items(value))):
            made.extend(value) if type(value) is list else made.update(value)
        elif type(value) is list:
            made.extend(map(self.rebuilt, value))
        else:
            made.update((key, self.rebuilt(item)) for key, item in value.items())
        return made

    def _group(self, group: Sequence[_Source]) -> list[Any]:
        dtypes = [self._canonical(source) for source in group]
        shared = copied_together([one.numbers for one in group], dtypes) if len(group) > 1 else None
        views = [None] * len(group) if shared is None else self._framework.from_memory(*shared, self._device)
        made = []
        for source, dtype, view in zip(group, dtypes, views, strict=True):
            if is_mapped(source.value) and self._framework.is_plain and dtype == source.numbers.dtype:
                made.append(source.value)  # of a large file, a section may read but a part
                continue
            if view is None or dtype != source.numbers.dtype:
                numbers = _cast(source.numbers, dtype, source.path, self._together)
            made.append(self._framework.from_numpy(numbers, self._device) if view is None else view)
        return made

    def _canonical(self, source: _Source) -> Any:
        return canonical_dtype(source.numbers.dtype, self._together)

    def _tell(self, group: Sequence[_Source]) -> None:
        """Remember which dtypes changed, and what no longer shares memory."""
        made = [self._made[id(source.value)] for source in group]
        if len({self._framework.memory.memory_of(array)[0] for array in made}) > 1 and self._framework.has_views:
            self._apart.append(" and ".join(source.path for source in group))
        for source in group:
            if self._canonical(source) != source.numbers.dtype:
                self._changed[source.path] = source.numbers.dtype, self._canonical(source)

    def sentence(self) -> str:
        """Say which arrays, by path, have another dtype now, and whose it is; and which share no memory any more."""
        apart = [f"{paths} share memory, but not as {self._framework.title}'s arrays" for paths in self._apart]
        return "; ".join([*([self._of_dtypes()] if self._changed else []), *apart])

    def _of_dtypes(self) -> str:
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
