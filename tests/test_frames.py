"""Data frames are ordinary values: their state lies in classes in C, which `in_c` makes like those of pandas."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from scipy.linalg import blas
from scipy.sparse import eye_array
from scipy.sparse.linalg import splu
from snapshots import ALL, notebook, round_trip, run

from fwmagic.cells.snapshot import Snapshot

# Those of CPython: the slot and the type of members that are objects, and the flags of a class with subclasses.
_MEMBERS, _OBJECT, _FLAGS = 72, 6, (1 << 18) | (1 << 10)


class _Member(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t)),
        *(("flags", ctypes.c_int), ("doc", ctypes.c_char_p)),
    )


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("pointer", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int)),
        *(("flags", ctypes.c_uint), ("slots", ctypes.POINTER(_Slot))),
    )


_kept: list[Any] = []  # what classes in C refer to


def in_c(name: str, *members: str) -> Any:
    """Return a class as C makes it, with these attributes, and one more pointer that cannot be seen."""
    start, size = object.__basicsize__, ctypes.sizeof(ctypes.c_void_p)
    table = (_Member * (len(members) + 1))(
        *(_Member(one.encode(), _OBJECT, start + size * place, 0, None) for place, one in enumerate(members)), _Member()
    )
    slots = (_Slot * 2)(_Slot(_MEMBERS, ctypes.cast(table, ctypes.c_void_p)), _Slot())
    spec = _Spec(name.encode(), start + size * (len(members) + 1), 0, _FLAGS, slots)
    _kept.extend((table, slots, spec))
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, (ctypes.POINTER(_Spec),)
    return make(ctypes.byref(spec))


Block = in_c("pandas._libs.internals.Block", "values", "refs")
Placement = in_c("pandas._libs.internals.BlockPlacement")
BlockManager = in_c("pandas._libs.internals.BlockManager", "axes", "blocks", "_blknos")
PandasObject = type("PandasObject", (), {"__module__": "pandas.core.base"})
Frame = type("DataFrame", (PandasObject,), {"__module__": "pandas"})


def a_frame() -> Any:
    frame, frame._mgr, block = Frame(), BlockManager(), Block()
    block.values, block.refs = np.arange(6.0).reshape(2, 3), Placement()
    frame._mgr.axes, frame._mgr.blocks, frame._cache = [["a", "b"], range(3)], (block,), {}
    return frame


def test_a_data_frame_is_put_back():
    frame = a_frame()
    axes, blocks, values = frame._mgr.axes, frame._mgr.blocks, frame._mgr.blocks[0].values
    namespace = notebook(df=frame, Block=Block)
    assert Snapshot(namespace, ["df"], ALL).unrestorable == []
    cell = """
        df._mgr.blocks[0].values[1] = 7.0
        df._mgr.blocks[0].values = df._mgr.blocks[0].values.T
        df._mgr.blocks += (Block(),)
        df._mgr.axes[0] = ["a", "b", "c"]
    """
    changed = round_trip(namespace, "df", cell)
    assert "df._mgr.blocks" in changed
    assert frame._mgr.blocks is blocks
    assert frame._mgr.axes is axes
    assert axes == [["a", "b"], range(3)]
    assert frame._mgr.blocks[0].values is values
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_a_frame_remembers_is_no_change():
    frame = a_frame()
    namespace = notebook(df=frame)
    snapshot = Snapshot(namespace, ["df"], ALL)
    run(namespace, "df._cache['engine'] = [1]")
    assert snapshot.changes().nothing()
    run(namespace, "df.attrs = {}")
    snapshot.restore()
    assert vars(frame).keys() == {"_mgr", "_cache"}
    assert frame._cache == {"engine": [1]}


def test_what_another_library_hides_in_c_cannot_be_put_back():
    held = in_c("others._libs.internals.Block", "values")()
    found = Snapshot(notebook(v=held), ["v"], ALL).unrestorable
    assert [path for path, _ in found] == ["v"]
    assert "keeps its state where Python cannot look" in found[0][1]


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
def test_what_is_hidden_in_c_has_no_module_inside_of_an_object_of_a_library():
    image = type("Image", (), {"__module__": "pandas"})()
    for image.core in (splu(eye_array(3).tocsc()), in_c("ImagingCore", "pixel")()):
        ((path, why),) = Snapshot(notebook(v=image), ["v"], ALL).unrestorable
        assert path == "v.core"
        assert why == f"a {type(image.core).__name__} keeps its state where Python cannot look"


def test_a_function_of_fortran_keeps_nothing():
    assert not Snapshot(notebook(v=blas.dgemm), ["v"], ALL).unrestorable


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
@pytest.mark.parametrize("magic", ["%%torch --budget 0.1 -o r", "%%compare --budget 0.1 -o r\n%%jax"])
def test_a_cell_that_may_change_it_is_not_run_again(shell, magic):
    image = type("Image", (), {"__module__": "pandas"})()
    image.core = in_c("ImagingCore", "pixel")()
    image.core.pixel = 0
    shell.push({"image": image})
    shell.run_cell(f"{magic}\nimage.core.pixel += 1\nimage.core.pixel").raise_error()
    once = magic.startswith("%%torch")
    assert image.core.pixel == once
    (variant,) = shell.user_ns["r"]
    assert variant.status == ("run-once" if once else "not timed")
    assert "ImagingCore keeps its state where Python cannot look" in variant.note
