"""What of the objects of pandas is state: the parts that its classes in C show, but not what it remembers."""

from __future__ import annotations

import types
from typing import Any, Final

from fwmagic.libraries import module_of

#: All classes in C are there; those without parts below are values, or remember what can be found out again.
_IN_C: Final = "pandas._libs"
# A list of weak references to what shares an array is not put back: what it holds of what lives must not be lost.
_PARTS: Final = {
    "BlockManager": ("axes", "blocks", "_known_consolidated", "_is_consolidated", "_blknos", "_blklocs"),
    "Block": ("_mgr_locs", "values", "refs"),
    "NDArrayBacked": ("_ndarray", "_dtype"),
}
_DESCRIPTORS: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)


def is_known(class_: type) -> bool:
    """Say whether a class is one of pandas in C, so that `parts_in_c` has all of its state."""
    return f"{module_of(class_)}.".startswith(f"{_IN_C}.")


def parts_in_c(type_: type) -> list[tuple[str, Any]]:
    """Return names and descriptors of the parts of a type's objects that are hidden in C otherwise."""
    found = [(class_, _PARTS.get(class_.__name__, ())) for class_ in type_.__mro__ if is_known(class_)]
    pairs = [(name, vars(class_).get(name)) for class_, names in found for name in names]
    return [(name, one) for name, one in pairs if isinstance(one, _DESCRIPTORS)]


def remembers(type_: type) -> bool:
    """Say whether objects of a type keep what can be found out again under the name `_cache`."""
    return any(one.__name__ == "PandasObject" and module_of(one) == "pandas.core.base" for one in type_.__mro__)
