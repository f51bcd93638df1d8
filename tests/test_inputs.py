"""The same numbers for every framework: private copies, in dtypes that all of them can hold."""

from __future__ import annotations

import re
from collections import namedtuple
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fwmagic import frameworks
from fwmagic.errors import FwMagicError
from fwmagic.run.inputs import canonical_dtype, checked_inputs, converted_inputs, section_inputs

TORCH, JAX, NUMPY = (frameworks.get(name) for name in ("torch", "jax", "numpy"))
ALL = [TORCH, JAX, NUMPY]
Pair = namedtuple("Pair", ["left", "right"])


def shared_inputs(values, together, framework, device, converted):
    """Return what a %%setup that bound these gives a section without `--inputs`."""
    return section_inputs(values, (), {}, together, framework, device, converted)


@pytest.mark.parametrize("framework", ALL, ids=lambda f: f.name)
@pytest.mark.parametrize(
    "source", [np.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(2, 3), jnp.arange(6.0).reshape(2, 3)]
)
def test_an_array_of_any_framework_becomes_one_of_another(framework, source):
    arrays, _ = converted_inputs(["A"], {"A": source}, [framework], framework, None)
    assert framework.is_array(arrays["A"])
    assert framework.to_numpy(arrays["A"]).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("framework", [TORCH, NUMPY], ids=lambda f: f.name)
def test_a_copy_is_private(framework):
    source = np.zeros(3, dtype=np.float32)
    (first, _), (second, _) = (converted_inputs(["A"], {"A": source}, ALL, framework, None) for _ in range(2))
    first["A"] += 1
    assert source.tolist() == [0, 0, 0]
    assert second["A"].tolist() == [0, 0, 0]


def test_sections_of_one_framework_share_their_copies():
    source, converted = torch.zeros(3), {}
    (first, _), (second, _), (other, _) = (
        converted_inputs(["A"], {"A": source}, ALL, framework, None, converted) for framework in (NUMPY, NUMPY, JAX)
    )
    assert first["A"] is second["A"]
    first["A"] += 1
    assert source.tolist() == other["A"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "together", "expected"),
    [
        ("float64", [TORCH], "float64"),
        ("float64", [TORCH, NUMPY], "float64"),
        ("float64", [TORCH, JAX], "float32"),
        ("float64", [JAX], "float32"),
        ("int64", [NUMPY, JAX], "int32"),
        ("complex128", [NUMPY, JAX], "complex64"),
        ("float32", ALL, "float32"),
        ("bool", ALL, "bool"),
    ],
)
def test_all_get_the_dtype_that_all_can_hold(dtype, together, expected):
    assert canonical_dtype(np.dtype(dtype), together) == np.dtype(expected)
    for framework in together:
        arrays, sentence = converted_inputs(["A"], {"A": np.ones(2, dtype)}, together, framework, "cpu")
        assert framework.to_numpy(arrays["A"]).dtype == np.dtype(expected)
        changed = f"converted to JAX's dtypes for all: A from {dtype} to {expected}"
        assert sentence == ("" if dtype == expected else changed)


@pytest.mark.parametrize(("together", "whose"), [([TORCH], "PyTorch"), ([JAX], "JAX"), ([NUMPY, TORCH], "PyTorch")])
def test_arrays_of_another_machines_byte_order_are_converted_and_it_is_said(together, whose):
    for framework in together:
        arrays, sentence = converted_inputs(["A"], {"A": np.arange(3, dtype=">f4")}, together, framework, "cpu")
        assert framework.to_numpy(arrays["A"]).tolist() == [0, 1, 2]
        assert sentence.startswith(f"converted to {whose}'s dtypes")
        assert "from >f4 to float32" in sentence


@pytest.mark.parametrize("framework", ALL)
def test_an_array_of_no_dimensions_stays_one(framework):
    arrays, _ = converted_inputs(["A"], {"A": np.array(3.5, np.float32)}, ALL, framework, "cpu")
    assert arrays["A"].shape == ()


def test_with_x64_jax_keeps_them():
    with jax.enable_x64(True):
        assert canonical_dtype(np.dtype("float64"), ALL) == np.dtype("float64")


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=5))
def test_the_numbers_are_the_same_everywhere(values):
    source = np.array(values, dtype=np.float32)
    for framework in ALL:
        arrays, _ = converted_inputs(["A"], {"A": source}, ALL, framework, None)
        assert framework.to_numpy(arrays["A"]).tobytes() == source.tobytes()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["B"], "--inputs names 'B', which the notebook does not have: assign it in an earlier cell."),
        (["A", "text"], "--inputs names 'text', which is a str and no array: only arrays are converted."),
        (["items"], "--inputs names 'items', which is a list and no array: only arrays are converted."),
    ],
)
def test_what_is_no_array_is_refused(names, sentence):
    values = {"A": np.ones(2), "text": "some", "items": [np.ones(2)]}
    with pytest.raises(FwMagicError) as caught:
        checked_inputs(names, values)
    assert str(caught.value) == sentence
    with pytest.raises(FwMagicError):
        converted_inputs(names, values, [TORCH], TORCH, None)


VIEWS = {
    "part": lambda base: base[1:3],
    "turned": lambda base: base.T,
    "strided": lambda base: base[::2, 1::2],
    "flat": lambda base: base.reshape(-1),
}


@pytest.mark.parametrize("together", [[TORCH, NUMPY], ALL], ids=["as they are", "narrowed"])
@pytest.mark.parametrize("framework", [TORCH, NUMPY], ids=lambda f: f.name)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_arrays_that_share_memory_still_do(kind, view, framework, together):
    base = np.arange(24.0).reshape(4, 6)
    values = {"view": kind(view(base)), "base": kind(base)}
    arrays, _ = converted_inputs(["view", "base"], values, together, framework, None)
    before = framework.to_numpy(arrays["view"]).copy()
    assert np.array_equal(before, view(base))
    arrays["base"] += 1
    assert np.array_equal(framework.to_numpy(arrays["view"]), before + 1)
    assert base[0, 0] == 0


def test_arrays_of_setup_and_inputs_share_memory_in_containers_too():
    base = np.arange(6, dtype=np.float32)
    listed = [base[:2], base]
    bound, sentence = section_inputs(
        {"listed": listed, "again": listed}, ["base"], {"base": base}, [NUMPY], NUMPY, None, {}
    )
    assert bound["again"] is bound["listed"]
    assert bound["listed"][1] is bound["base"]
    bound["base"][0] = 7
    assert bound["listed"][0][0] == 7
    assert sentence == ""


def test_a_view_that_only_shows_a_part_of_an_array_is_copied_alone():
    base = np.zeros(1 << 20, np.float32)
    arrays, _ = converted_inputs(["view"], {"view": base[:4]}, [NUMPY], NUMPY, None)
    assert NUMPY.memory.memory_of(arrays["view"])[1] < 1 << 14


def test_a_complex_array_and_its_real_part_share_memory_when_narrowed():
    z = np.array([1 + 2j, 3 + 4j])
    arrays, _ = converted_inputs(["z", "re"], {"z": z, "re": z.real}, ALL, NUMPY, None)
    assert (arrays["z"].dtype, arrays["re"].dtype) == (np.complex64, np.float32)
    arrays["re"][1] = 9
    assert arrays["z"].tolist() == [1 + 2j, 9 + 4j]


def test_what_cannot_share_memory_any_more_is_said():
    base = np.arange(4.0)
    arrays, sentence = converted_inputs(["b", "v"], {"b": base, "v": base[::-1]}, [TORCH], TORCH, None)
    assert arrays["v"].tolist() == [3, 2, 1, 0]
    assert sentence == "b and v share memory, but not as PyTorch's arrays"
    _, sentence = converted_inputs(["b", "v"], {"b": base, "v": base[::-1]}, [NUMPY], NUMPY, None)
    assert sentence == ""


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (np.array([1, 2**40]), "A holds 1099511627776, which int32 cannot hold"),
        (np.array([1.0, -1e300]), "A holds -1e+300, which float32 cannot hold"),
    ],
)
def test_a_number_that_a_narrower_dtype_cannot_hold_is_refused_with_what_to_do(numbers, sentence):
    for convert in (partial(converted_inputs, ["A"]), partial(shared_inputs, converted={})):
        with pytest.raises(FwMagicError, match=f"{re.escape(sentence)}.*jax_enable_x64"):
            convert({"A": numbers}, ALL, TORCH, None)
    arrays, _ = shared_inputs({"A": np.array([1.5, np.inf, np.nan])}, ALL, NUMPY, None, {})
    assert np.array_equal(arrays["A"], np.array([1.5, np.inf, np.nan], np.float32), equal_nan=True)


class TestSetup:
    def test_arrays_in_containers_are_converted_and_all_else_is_kept(self):
        function = len
        values = {
            "A": np.ones(2, np.float32),
            "nested": {"pair": Pair(np.ones(1, np.float32), "text"), "list": [np.zeros(1, np.float32), 3]},
            "words": np.array(["a", "b"]),
            "function": function,
        }
        found, sentence = shared_inputs(values, ALL, TORCH, None, {})
        assert isinstance(found["A"], torch.Tensor)
        assert isinstance(found["nested"]["pair"], Pair)
        assert isinstance(found["nested"]["pair"].left, torch.Tensor)
        assert isinstance(found["nested"]["list"][0], torch.Tensor)
        assert (found["nested"]["pair"].right, found["nested"]["list"][1]) == ("text", 3)
        assert found["words"] is values["words"]
        assert found["function"] is function
        assert sentence == ""
        assert isinstance(values["A"], np.ndarray)

    def test_sections_of_one_framework_have_the_same_copies(self):
        values = {"A": np.zeros(2, np.float32), "l": [np.zeros(1, np.float32)]}
        converted = {}
        (one, _), (two, _), (other, _) = (
            shared_inputs(values, ALL, framework, None, converted) for framework in (NUMPY, NUMPY, TORCH)
        )
        assert one["A"] is two["A"]
        assert one["l"] is not two["l"]
        assert one["l"][0] is two["l"][0]
        one["A"] += 1
        assert values["A"].tolist() == other["A"].tolist() == [0, 0]

    def test_what_changed_is_stated_with_its_place(self):
        _, sentence = shared_inputs({"A": np.ones(1), "d": {"k": [np.ones(1, np.int64)]}}, ALL, TORCH, None, {})
        assert sentence == (
            "converted to JAX's dtypes for all: A from float64 to float32, d['k'][0] from int64 to int32"
        )
