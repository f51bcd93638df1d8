"""The plan for each type: what of its objects is saved, and what is said of those that cannot be put back."""

from __future__ import annotations

import builtins
import collections
import contextvars
import io
import logging
import mmap
import random
import re
import sys
import types
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fwmagic.cells import frames
from fwmagic.cells.kinds import (
    ATTRIBUTES,
    CONTAINERS,
    LOCKS,
    LOGGER,
    MISSING,
    REFERRING,
    REMEMBERING,
    Kind,
    parts,
    slots,
    slots_of,
)
from fwmagic.cells.modules import is_class_of_user
from fwmagic.libraries import module_of


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the objects of one type.

    `asks`: a framework may own them. `is_class`, `is_module`: they are classes, modules. `notebook`: their class was
    written in the notebook. `why`: why they cannot be put back ("": they can); it counts where the notebook itself
    holds them, and with `anywhere` deep inside a library's object, too. `only_own`: those inside of a library's object
    are left alone, for another thread may hold them.
    """

    kinds: tuple[Kind, ...] = ()
    asks: bool = False
    is_class: bool = False
    is_module: bool = False
    notebook: bool = False
    builtin: bool = False
    why: str = ""
    anywhere: bool = False
    only_own: bool = False


#: The kinds of the built-in types; a subclass has those of the first of its bases that is named here.
BUILT_IN: Final[Mapping[type, tuple[Kind, ...]]] = {**CONTAINERS, **REFERRING}

_Pair = collections.namedtuple("_Pair", "first second")
#: Types whose objects have nothing to put back.
PLAIN: Final[frozenset[type]] = frozenset({
    type(MISSING), type(None), type(...), type(NotImplemented),
    object, int, float, complex, bool, str, bytes, range,
    types.CodeType, types.GenericAlias, types.UnionType, types.FrameType,
    types.TracebackType, types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.ClassMethodDescriptorType, type(vars(_Pair)["first"]),
})  # fmt: skip

#: Containers that hold their objects weakly, in a container of Python's under the name `data`.
WEAK: Final = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)
# Values, locks and the machinery of Python and Jupyter: either immutable, or not the cell's to change.
_CLOSED: Final = frozenset({
    "IPython", "_abc", "_contextvars", "_functools", "_io", "_operator", "_struct", "_thread", "_weakref", "abc",
    "contextvars", "datetime", "decimal", "fractions", "fwmagic", "inspect", "ipaddress", "ipykernel", "nanobind",
    "operator", "pathlib", "pybind11_builtins", "re", "tornado", "traitlets", "typing", "uuid", "weakref",
    "zmq", "zoneinfo",
})  # fmt: skip
# Functions in C or Fortran, such as those of scipy.linalg.blas, by the names of their types.
_FUNCTIONS_IN_C: Final = frozenset({"PyCapsule", "fortran"})
# Things that are joined to the world outside, or to other threads.
_LIVE: Final = frozenset({
    "_socket", "_sqlite3", "asyncio", "concurrent", "mmap", "multiprocessing", "selectors", "socket", "sqlite3", "ssl",
    "subprocess",
})  # fmt: skip
#: Marks the types that code of Python has made, in their flags.
HEAP_TYPE: Final = 1 << 9
_POINTER = tuple.__itemsize__


class Plans:
    """The plans of all types, made when first asked for."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        # A class that is made where there is no __name__ says that it comes from `builtins`.
        self._modules = {"__main__", namespace.get("__name__", "builtins")}
        self._plans: dict[type, Plan] = dict.fromkeys(PLAIN, Plan())

    def of(self, type_: type) -> Plan:
        """Return the plan for the objects of a type."""
        plan = self._plans.get(type_)
        if plan is None:
            plan = self._plans[type_] = self._make(type_)
        return plan

    def is_notebook(self, class_: type) -> bool:
        """Say whether a class was written in the notebook, or elsewhere by the user."""
        return bool(class_.__flags__ & HEAP_TYPE) and (module_of(class_) in self._modules or is_class_of_user(class_))

    def _make(self, type_: type) -> Plan:
        if issubclass(type_, type):
            return Plan(is_class=True)
        if type_ is types.ModuleType:
            return Plan(is_module=True)
        if issubclass(type_, types.ModuleType | random.SystemRandom):
            return Plan()
        notebook = self.is_notebook(type_)
        base = next((base for base in type_.__mro__ if base in BUILT_IN), None)
        if type_ is collections.OrderedDict:  # a torch module has ten of them; attributes on one are unheard of
            return Plan(BUILT_IN[type_], builtin=True)
        if base in LOCKS or base is weakref.ReferenceType:
            return Plan(BUILT_IN[base], builtin=True, only_own=True)
        if base is type_:
            return Plan(_plan_with_attributes(type_, BUILT_IN[base]), builtin=True)
        module = module_of(type_)
        package = module.partition(".")[0]
        what = type_.__qualname__ if module == "builtins" else f"{module}.{type_.__qualname__}"
        why, anywhere = "", False
        if type_ is contextvars.ContextVar:
            why = "what a ContextVar is set to cannot be taken back"
        elif issubclass(type_, types.GeneratorType | types.CoroutineType | types.AsyncGeneratorType):
            why = f"a {type_.__name__.replace('_', ' ')} cannot be wound back"
        elif issubclass(type_, io.IOBase) and base is None:
            why = f"an open file ({what}) cannot be wound back"
        elif type_ in (weakref.ProxyType, weakref.CallableProxyType):
            why = "what a weak proxy stands for cannot be looked at"
        elif package in _LIVE:
            why = f"a {what} is joined to something outside of the notebook"
        elif package == "logging" and not notebook:  # what it refers to is the log of the whole process
            return Plan(_plan_with_attributes(type_, ()), only_own=True)
        elif (package in _CLOSED or package.startswith("_cython_") or what in _FUNCTIONS_IN_C) and not notebook:
            return Plan()
        elif _is_iterator(type_) and not notebook:
            why = f"an iterator ({what}) cannot be wound back"
        elif base is None and _has_hidden_data(type_):
            why, anywhere = f"a {what} keeps its state where Python cannot look", not _is_of_python(type_)
        kinds = () if package in _LIVE else _plan_with_attributes(type_, BUILT_IN[base] if base else ())
        return Plan(kinds, asks=self._may_be_of_framework(type_), notebook=notebook, why=why, anywhere=anywhere)

    def _may_be_of_framework(self, type_: type) -> bool:
        """Say whether objects of a type can be asked what they are: not those that answer for another one."""
        classes = type_.__mro__[:-1]
        return not all(map(self.is_notebook, classes)) and not any("__class__" in vars(class_) for class_ in classes)


def _is_of_python(type_: type) -> bool:
    """Say whether a type is one of Python's own; one in C whose name has no module says that it is, too."""
    module = module_of(type_)
    named = module != "builtins" or vars(builtins).get(type_.__name__) is type_
    return named and module.partition(".")[0] in sys.stdlib_module_names


def _is_iterator(type_: type) -> bool:
    """Say whether objects of a type give one thing after the other; a mock's method is made when it is asked for."""
    found = next((vars(class_)["__next__"] for class_ in type_.__mro__ if "__next__" in vars(class_)), None)
    return isinstance(found, types.FunctionType | types.WrapperDescriptorType)


def is_only_read(value: Any) -> bool:
    """Say whether it is a file that is mapped so that nothing is written to it: its memory is read, or copied first."""
    return issubclass(type(value), mmap.mmap) and re.search("access=ACCESS_(READ|COPY)", repr(value)) is not None


def _plan_with_attributes(type_: type, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    in_slots, in_c = slots(type_), frames.parts_in_c(type_)
    remembering = REMEMBERING if frames.remembers(type_) else ATTRIBUTES
    return (
        *([in_slots] if in_slots is not None else []),
        *([parts(in_c)] if in_c else []),
        *([LOGGER if issubclass(type_, logging.Logger) else remembering] if type_.__dictoffset__ else []),
        *kinds,
    )


def _has_hidden_data(type_: type) -> bool:
    """Say whether objects of the type hold more than slots, a `__dict__` and a list of weak references."""
    class_: type | None = type_
    while class_ is not None and class_ is not object and class_ not in PLAIN:
        base: type = class_.__base__ or object
        if frames.is_known(class_):
            class_ = base
            continue
        known = _POINTER * (class_.__weakrefoffset__ != base.__weakrefoffset__)
        if class_.__dictoffset__ != base.__dictoffset__ and class_.__dictoffset__ >= -_POINTER:
            known += _POINTER
        known += _POINTER * len(slots_of(class_))
        if class_.__basicsize__ - base.__basicsize__ > known:
            return True
        class_ = base
    return False
