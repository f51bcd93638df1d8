"""Honest rounding differences agree; every planted difference is named with its place; the rest says why not."""

from __future__ import annotations

import array
import copy
import ctypes
import enum
from collections import namedtuple
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from flax.core import FrozenDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fwmagic import frameworks
from fwmagic.agreement.agree import Draws, _Comparison, agree, spoilt

Pair = namedtuple("Pair", "left right")
Both = namedtuple("Both", "first second")


@dataclass
class State:
    step: int
    weights: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


JAX = frameworks.get("jax")


class Counter(int):
    pass


def to_numpy(value):
    """As the frameworks do it: bfloat16 widened to float32, a typed key as its numbers, the array of a variable."""
    if isinstance(value, nnx.Variable):
        value = JAX.array_in(value)
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        return np.asarray(value.astype("float32") if value.dtype == jnp.bfloat16 else value)
    return value if isinstance(value, np.ndarray) else None


def compare(reference, outputs, **options):
    return agree(reference, outputs, names=("torch", "jax"), to_numpy=to_numpy, **options)


def random_array(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_the_first_difference_is_named_with_its_path_index_values_and_tolerance():
    ours = {"params": {"w": torch.full((10, 40), 2.0)}}
    theirs = {"params": {"w": jnp.full((10, 40), 2.0).at[3, 7].set(1.5).at[4, 0].set(9)}}
    found = compare(ours, theirs)
    assert (found.reference, found.status, found.path) == ("torch", "differs", "params['w'][3, 7]")
    assert found.sentence == (
        "torch and jax differ at params['w'][3, 7]: 2.0 and 1.5, tolerance 0.00024 "
        "(2 of 400 values differ, by 7 at [4, 0], relative 0.78)"
    )


one = random_array(5, 4) + 10
PLANTED = {
    "one element": ([one], [one * np.where(np.arange(20).reshape(5, 4) == 11, 1.001, 1).astype("float32")],
                    "output[0][2, 3]", "1 of 20 values differ"),
    "a missing leaf": ({"a": one, "b": one}, {"a": one}, "b", "missing in jax"),
    "an additional leaf": ({"a": one}, {"a": one, "b": one}, "b", "missing in torch"),
    "a missing leaf, deep": ({"a": [{"x": 1, "y z": 2}]}, {"a": [{"x": 1}]}, "a[0]['y z']", "missing in jax"),
    "length": ([one, one], [one], "output", "2 and 1 items"),
    "container": ({"a": one}, {"a": [one]}, "a", "an array of float32 [5, 4] and a value of class list"),
    "None": ([one], [None], "output[0]", "and None"),
    "shape": ({"w": one}, {"w": one.T}, "w", "differ in shape at w: [5, 4] and [4, 5]"),
    "a dimension of one": (one[0, 0], one[0, :1], "output", "[] and [1]"),
    "float dtype": ([one], [one.astype("float64")], "output[0]", "float32 and float64 (the values agree)"),
    "float dtype and values": ([one], [one.astype("float64") + 1], "output[0]", "20 of 20 values differ"),
    "kind": ([np.arange(3)], [np.arange(3.0)], "output[0]", "int64 and float64"),
    "integer": ([np.arange(9)], [np.where(np.arange(9) == 4, 5, np.arange(9))], "output[0][4]", "compared exactly"),
    "bool": (np.array([True, False]), np.array([True, True]), "output[1]", "False and True"),
    "sign": (one, one * np.where(np.arange(20).reshape(5, 4) == 0, -1, 1).astype("float32"), "output[0, 0]", "1 of"),
    "NaN here": (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "output[1]", "nan and 2.0, NaN on one side only"),
    "NaN elsewhere": (np.array([np.nan, 1.0]), np.array([1.0, np.nan]), "output[0]", "2 of 2 values differ"),
    "sign of infinity": (np.array([np.inf, 1.0]), np.array([-np.inf, 1.0]), "output[0]", "inf and -inf"),
    "infinity": (np.array([1.0, 1.0]), np.array([1.0, np.inf]), "output[1]", "1.0 and inf"),
    "imaginary part": (np.array([1 + 2j]), np.array([1 + 2.01j]), "output[0]", "1 of 1 values differ"),
    "the imaginary part of infinity": (np.array([complex(np.inf, 1)]), np.array([complex(np.inf, 2)]), "output[0]", ""),
    "Python float": ({"loss": 0.5}, {"loss": 0.5005}, "loss", "0.5 and 0.5005, tolerance 6e-05"),
    "Python int": ({"n": 2**70}, {"n": 2**70 + 1}, "n", "compared exactly"),
    "type": ({"n": 1}, {"n": True}, "n", "the int 1 and the bool True"),
    "number and array": ({"n": 1.5}, {"n": np.array([1.5])}, "n", "float and an array of float64 [1]"),
    "number and array, values": ({"n": 1.5}, {"n": np.array(1.6)}, "n", "1.5 and 1.6"),
    "text": ({"s": "relu"}, {"s": "gelu"}, "s", "'relu' and 'gelu'"),
    "enum": ([Colour.RED], [Colour.BLUE], "output[0]", "Colour.RED"),
    "namedtuple": (Pair(one, 1), Pair(one, 2), "output.right", "1 and 2"),
    "dataclass": ({"s": State(1, one)}, {"s": State(1, one + 1)}, "s.weights[0, 0]", "20 of 20"),
    "unsigned": ([np.arange(3, dtype="uint8")], [np.arange(3, dtype="int8")], "output[0]", "uint8 and int8"),
    "text in an array": ([np.array(["a", "b"])], [np.array(["a", "c"])], "output[0][1]", "b and c"),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_difference_is_named(case):
    reference, outputs, path, words = PLANTED[case]
    found = compare(reference, outputs)
    assert (found.status, found.path) == ("differs", path), found.sentence
    assert words in found.sentence
    assert found.sentence.count("torch and jax differ") == 1


@pytest.mark.parametrize("case", sorted(PLANTED.keys() - {"None"}))
@pytest.mark.parametrize("side", [0, 1])
def test_the_equal_twins_of_the_planted_differences_agree_exactly(case, side):
    value = PLANTED[case][side]
    found = compare(value, value)
    assert (found.status, found.sentence.partition(", but ")[0]) == ("agrees", "jax agrees with torch exactly"), found


def test_a_wrong_element_is_seen_if_it_is_not_lost_in_the_rounding_errors_of_the_others():
    array = np.float32([1.0, 1.0, 0.1, 0.01])
    for place, seen in ((0, True), (2, True), (3, False)):
        wrong = array.copy()
        wrong[place] *= 1.001
        assert (compare([array], [wrong]).status == "differs") is seen


@pytest.mark.parametrize(
    ("reference", "outputs", "pair"),
    [
        (9.0412, 8.9, ("9.04", "8.90")),
        (0.5, 0.5005, ("0.5000", "0.5005")),
        (9.0, 8.95, ("9.00", "8.95")),
        (-1.5, 1e-9, ("-1.5", "1e-09")),
        (1234.54, 9.04, ("1234.54", "9.04")),
        (99.95, 3.14159, ("99.95", "3.14")),
        (20044.4, 40019.6, ("20044", "40020")),
        (np.array([1, 2**60]), np.array([1, 2**60 + 1]), (str(2**60), str(2**60 + 1))),
        (np.float32([1, 2]), np.float32([1, np.nan]), ("2", "nan")),
        (np.zeros((5, 4)), np.zeros((4, 5)), ("[5, 4]", "[4, 5]")),
        (np.zeros(2, "float32"), np.zeros(2), ("float32", "float64")),
        ("relu", "gelu", ("'relu'", "'gelu'")),
        ({"a": 1, "b": 2}, {"a": 1}, ()),
    ],
)
def test_what_the_two_have_at_the_first_difference_is_kept_in_short(reference, outputs, pair):
    assert compare([reference, 1.0], [outputs, 2.0]).pair == pair


def test_further_differences_are_counted():
    left = {name: 1 for name in "abcdef"}
    found = compare(left, {**left, **dict.fromkeys("bcdef", 2)})
    assert found.path == "b"
    assert found.sentence.endswith("they also differ at c, d, e and 1 more")


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.complex_numbers(),
    arrays.arrays(st.sampled_from(["float32", "float64", "int32", "bool", "complex64", "float16", "uint8"]),
                  arrays.array_shapes(min_dims=0, max_side=4)),
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner).map(lambda both: Pair(*both))
    ),
    max_leaves=12,
)


def copied(tree, sequence=tuple):
    """The same tree of other objects: tuples for lists, another class of namedtuple, arrays of their own."""
    if isinstance(tree, Pair):
        return Both(*(copied(item) for item in tree))
    if isinstance(tree, list):
        return sequence(copied(item) for item in tree)
    if isinstance(tree, dict):
        return FrozenDict({key: copied(tree[key]) for key in reversed(list(tree))})
    return tree.copy() if isinstance(tree, np.ndarray) else tree


@given(trees)
@settings(max_examples=2 * settings().max_examples)
def test_a_copy_of_any_tree_is_never_said_to_differ(tree):
    found = compare(tree, copied(tree))
    assert found.status in ("agrees", "not compared"), found.sentence
    assert found.status == "agrees" or "no outputs" in found.sentence


@given(
    arrays.arrays("float64", arrays.array_shapes(max_side=5), elements=st.floats(0.1, 10)),
    st.data(),
)
def test_a_single_wrong_element_is_found_wherever_it_is(array, data):
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    wrong = array.copy()
    wrong[index] *= 1.001
    for dtype in ("float64", "float32"):
        found = compare([array.astype(dtype)], [wrong.astype(dtype)])
        if dtype == "float64" or array[index] > array.max() / 10:
            assert found.path == f"output[0][{', '.join(map(str, index))}]"
            assert f"1 of {array.size:,} values" in found.sentence


def test_sums_of_a_million_terms_agree_between_torch_and_jax():
    for seed in range(3):
        x = random_array(10**6, seed=seed)
        t, j = torch.from_numpy(x), jnp.asarray(x)
        ours = {"sum": (t.exp() * t.abs().sqrt()).sum(), "mean": t.sum(), "norm": t.norm(), "cumulated": t.cumsum(0)}
        theirs = {
            "sum": (jnp.exp(j) * jnp.sqrt(jnp.abs(j))).sum(),
            "mean": j.sum(),
            "norm": jnp.linalg.norm(j),
            "cumulated": jax.jit(jnp.cumsum)(j),
        }
        found = compare(ours, theirs)
        assert found.status == "agrees", found.sentence
        assert compare(ours, {**theirs, "sum": theirs["sum"] * 1.001}).path == "sum"


def test_two_numbers_of_16_bits_that_agree_are_told_apart():
    found = compare(np.float16([2048, 1]), np.float16([2052, 1]))
    assert found.status == "agrees"
    assert "the largest difference is 4 (relative 0.0019)" in found.sentence


def test_a_product_of_large_matrices_agrees_and_one_wrong_element_of_it_does_not():
    x = random_array(1000, 1000)
    ours, theirs = torch.from_numpy(x) @ torch.from_numpy(x), jnp.asarray(x) @ jnp.asarray(x)
    assert not np.array_equal(ours.numpy(), np.asarray(theirs))
    found = compare([ours], [theirs])
    assert found.status == "agrees"
    assert "within tolerance, of which at most" in found.sentence
    assert "the largest difference is" in found.sentence
    row, column = np.argwhere(np.abs(np.asarray(theirs)) > 20)[0]
    found = compare([ours], [theirs.at[row, column].multiply(1.001)])
    assert found.path == f"output[0][{row}, {column}]"
    assert "1 of 1,000,000 values differ" in found.sentence


def test_a_training_step_agrees_between_torch_and_jax():
    w, x, y = random_array(64, 64, seed=1), random_array(256, 64), random_array(256, 64, seed=2)
    leaf = torch.from_numpy(w.copy()).requires_grad_()
    loss = ((torch.tanh(torch.from_numpy(x) @ leaf) - torch.from_numpy(y)) ** 2).mean()
    loss.backward()
    value, gradient = jax.jit(jax.value_and_grad(lambda w: ((jnp.tanh(x @ w) - y) ** 2).mean()))(w)
    found = compare({"loss": loss, "gradient": leaf.grad}, {"loss": value, "gradient": gradient})
    assert found.status == "agrees", found.sentence
    assert compare([leaf.grad], [-gradient]).status == "differs"


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sixteen_bit_products_agree_and_a_wrong_element_does_not(name):
    x = random_array(64, 64)
    ours = torch.from_numpy(x).to(getattr(torch, name))
    theirs = jnp.asarray(x, getattr(jnp, name))
    product = jax.jit(jnp.matmul)(theirs, theirs)
    assert compare([ours @ ours], [product]).status == "agrees"
    found = compare([ours @ ours], [product.at[np.unravel_index(jnp.argmax(product), product.shape)].multiply(1.25)])
    assert found.status == "differs"
    assert compare([ours], [theirs.astype("float32")]).sentence.endswith(f"{name} and float32 (the values agree)")


def test_eight_bit_floats_and_four_bit_integers_are_compared():
    assert compare([jnp.ones(3, jnp.float8_e4m3fn)], [jnp.ones(3, jnp.float8_e4m3fn)]).status == "agrees"
    assert compare([jnp.ones(3, jnp.float8_e4m3fn)], [jnp.full(3, 8, jnp.float8_e4m3fn)]).path == "output[0][0]"
    assert compare([jnp.ones(3, jnp.int4)], [jnp.full(3, 2, jnp.int4)]).path == "output[0][0]"


def test_a_cancelled_element_has_the_tolerance_of_its_neighbours():
    assert compare([np.float32([1, 2, 0])], [np.float32([1, 2, 1e-7])]).status == "agrees"
    assert compare([np.float32([0])], [np.float32([1e-7])]).status == "differs"
    assert compare([np.float32([0])], [np.float32([1e-39])]).status == "agrees"  # XLA takes such a number for zero


def test_masked_arrays_are_compared_by_their_masks_and_by_what_these_leave():
    values = np.arange(8.0)
    masked = np.ma.masked_array(values, values > 3)
    assert compare(masked, np.ma.masked_array(values, values > 5)).path == "output.mask[4]"
    assert compare(masked, values).path == compare(values, masked).path == "output.mask[4]"
    assert compare(masked, np.ma.masked_array(np.where(values > 3, 99, values), values > 3)).status == "agrees"
    assert compare(masked, np.ma.masked_array(values + (values == 2), values > 3)).path == "output[2]"
    assert compare(masked, np.ma.masked_array(values[:4], values[:4] > 3)).status == "differs"


def test_a_mask_does_not_hide_a_wrong_element():
    scores = random_array(8, 8)
    masked = np.where(np.tri(8, dtype=bool), scores, np.float32(-1e9))
    wrong = masked.copy()
    wrong[5, 2] *= 1.01
    assert compare([masked], [masked * np.float32(1 + 1e-7)]).status == "agrees"
    assert compare([masked], [wrong]).path == "output[0][5, 2]"


def test_very_large_values_do_not_overflow():
    large = np.array([1e308, -0.9e308, 1.0])
    assert compare([large], [large * (1 + 1e-12)]).status == "agrees"
    assert compare([large], [-large]).sentence.count("2 of 3 values differ") == 1


def test_nan_and_infinity_at_the_same_places_agree():
    x = np.array([np.nan, np.inf, -np.inf, 1.0], dtype="float32")
    assert compare([torch.from_numpy(x)], [jnp.asarray(x) * np.float32(1 + 1e-6)]).status == "agrees"
    assert compare([np.array([complex(np.nan, 1)])], [np.array([complex(np.nan, 1)])]).status == "agrees"


def test_an_array_that_has_neither_a_dtype_nor_a_shape_is_compared_as_its_framework_converts_it():
    def to_numpy(value):
        return np.array(value) if isinstance(value, array.array) else None

    names = ("arrays", "others")
    one, other = array.array("d", [1.0, 2.0]), array.array("d", [1.0, 2.5])
    assert agree(one, array.array("d", one), names=names, to_numpy=to_numpy).status == "agrees"
    found = agree(one, other, names=names, to_numpy=to_numpy)
    assert (found.status, found.path) == ("differs", "output[1]")


def test_buffers_of_numbers_are_compared_as_these():
    """The bytes of two sums may differ in all but one place."""
    x = [1.0, 2.0, 3.5]
    near, other = [value * (1 + 1e-7) for value in x], [1.0, 2.0, 4.5]
    for make in (
        partial(array.array, "d"),
        lambda v: memoryview(array.array("d", v)),
        lambda v: (ctypes.c_double * 3)(*v),
    ):
        assert compare([make(x)], [make(near)]).status == "agrees"
        assert compare([make(x)], [make(other)]).path == "output[0][2]"
    many = np.arange(2000.0)
    found = compare([array.array("d", many)], [array.array("d", many * (1 + 1e-7))])
    assert found.status == "agrees"
    two = memoryview(np.arange(6.0).reshape(2, 3))
    assert compare([two], [memoryview(np.arange(6.0).reshape(2, 3) + np.eye(2, 3))]).path == "output[0][0][0]"


def test_empty_arrays_agree():
    assert compare([np.zeros((0, 3))], [np.zeros((0, 3))]).status == "agrees"
    assert compare([np.zeros((0, 3))], [np.zeros((3, 0))]).status == "differs"


def test_integers_of_another_width_are_equal_across_libraries_and_said_so():
    found = compare({"top": torch.tensor([1, 2])}, {"top": jnp.asarray([1, 2])})
    assert found.status == "agrees"
    assert found.sentence == "jax agrees with torch exactly; the integers of top are int64 and int32"
    assert compare({"top": torch.tensor([1, 2])}, {"top": jnp.asarray([1, 3])}).path == "top[1]"
    found = compare([np.array([1])], [np.array([1], dtype="int32")])
    assert found.sentence.endswith("differ in dtype at output[0]: int64 and int32")


@pytest.mark.parametrize(
    ("number", "array"),
    [
        (0.1, torch.tensor(0.1)),
        (0.1, np.float32(0.1)),
        (3, jnp.asarray(3)),
        (True, np.bool_(True)),
        (1j, jnp.asarray(1j)),
        (Counter(3), torch.tensor(3)),
    ],
)
def test_a_number_and_an_array_of_the_same_value_without_dimensions_agree_and_said_so(number, array):
    for pair in ((number, array), (array, number)):
        found = compare({"n": pair[0]}, {"n": pair[1]})
        assert found.status == "agrees", found.sentence
        assert "n is a Python number on one side" in found.sentence


def test_a_number_of_another_kind_than_the_array_is_a_difference():
    assert compare({"n": 1}, {"n": np.array(1.0)}).path == "n"
    assert compare([Counter(3)], [Counter(3)]).status == "agrees"
    assert compare([float("nan")], [float("nan")]).status == "agrees"
    assert compare([float("nan")], [1.0]).status == "differs"


def test_sequences_and_mappings_of_any_class_are_equal_by_their_items():
    assert compare(torch.Size([2, 3]), (2, 3)).status == "agrees"
    assert compare(Pair(1, 2), Both(1, 2)).status == "agrees"
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert compare(torch.linalg.eigh(x), jnp.linalg.eigh(jnp.asarray(x.numpy()))).status == "agrees"
    assert compare(FrozenDict({"a": 1}), {"a": 1}).status == "agrees"


def test_modules_and_optimizers_are_compared_by_their_state():
    models = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    assert compare({"model": models[0]}, {"model": models[1]}).path == "model['weight'][0, 0]"
    models[1].load_state_dict(models[0].state_dict())
    assert compare({"model": models[0]}, {"model": models[1]}).status == "agrees"
    optimizers = [torch.optim.SGD(model.parameters(), lr=lr) for model, lr in zip(models, (0.1, 0.2), strict=True)]
    assert compare(optimizers[0], optimizers[1]).path == "output['param_groups'][0]['lr']"


def test_the_variables_of_flax_nnx_are_arrays():
    states = [nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(seed))) for seed in (0, 0, 1)]
    assert compare(states[0], states[1]).status == "agrees"
    assert compare(states[0], states[2]).path == "kernel[0, 0]"


def test_typed_random_keys_are_compared_by_their_data():
    assert compare([jax.random.key(0)], [jax.random.key(0)]).status == "agrees"
    assert compare([jax.random.key(0)], [jax.random.key(1)]).status == "differs"
    found = compare([jax.random.key(0, impl="rbg")], [jax.random.key(0)])
    assert found.sentence.endswith("differ in dtype at output[0]: key<rbg> and key<fry>")


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({1, 2, 3}, {1, 2, 4}, "3 of 3 elements and 4 of 3 elements"),
        (frozenset("ab"), frozenset("abc"), "none of 2 elements and 'c' of 3 elements"),
        ({(1, "a")}, {(1, "b")}, None),
        (Fraction(1, 3), Fraction(1, 4), "Fraction(1, 3) and Fraction(1, 4)"),
        (Decimal("0.1"), Decimal("0.2"), "Decimal('0.1') and Decimal('0.2')"),
        (date(2026, 1, 1), date(2026, 1, 2), "datetime.date(2026, 1, 1) and datetime.date(2026, 1, 2)"),
        (Path("a"), Path("b"), None),
    ],
    ids=["set", "frozenset", "tuples", "fraction", "decimal", "date", "path"],
)
def test_what_is_equal_or_not_is_compared_by_that(one, other, words):
    assert compare([one], [copy.deepcopy(one)]).status == "agrees"
    found = compare([one], [other])
    assert (found.status, found.path) == ("differs", "output[0]")
    assert words is None or words in found.sentence
    assert compare([Decimal("nan")], [Decimal("nan")]).status == "agrees"


def test_what_only_larger_values_hide_is_not_called_exact():
    found = compare(np.array([1e-12, 5.0]), np.array([3e-12, 5.0]))
    assert found.status == "agrees"
    assert "exactly" not in found.sentence


def test_what_cannot_be_compared_is_named_and_the_rest_is_compared():
    found = compare({"f": lambda: 1, "x": 1}, {"f": lambda: 1, "x": 1})
    assert found.status == "agrees"
    assert found.sentence.endswith("; not compared: f (objects of class function cannot be compared)")
    assert compare({"f": lambda: 1, "x": 1}, {"f": lambda: 1, "x": 2}).path == "x"
    found = compare(lambda: 1, 3)
    assert (found.status, found.path) == ("not compared", None)
    assert found.sentence == "not compared: output (objects of class function cannot be compared)"
    found = compare([np.array([object()])], [np.array([object()])])
    assert found.sentence == "not compared: output[0] (arrays of dtype object cannot be compared)"
    shape = jax.ShapeDtypeStruct((2,), "float32")
    assert compare([shape], [one]).sentence == (
        "not compared: output[0] (objects of class ShapeDtypeStruct cannot be compared)"
    )
    same = object()
    assert compare([same], [same]).status == "agrees"


def test_a_donated_array_is_not_compared_and_says_why():
    gone = jnp.ones(3)
    gone.delete()
    found = compare({"w": gone}, {"w": jnp.ones(3)})
    assert found.status == "not compared"
    assert "w (its values cannot be read: Array has been deleted" in found.sentence


@pytest.mark.parametrize("nothing", [None, {}, [], (None, None)])
def test_no_outputs_are_not_said_to_agree(nothing):
    found = compare(nothing, nothing)
    assert (found.status, found.sentence) == ("not compared", "not compared: there are no outputs to compare")


def test_what_is_nan_or_infinite_is_not_said_to_agree_without_a_word():
    for values, share in (([np.nan, np.inf], "all"), ([np.nan, 1, 2, 3], "25 %"), ([-np.inf, 1, 2, 3], "25 %")):
        found = compare({"loss": np.float32(values)}, {"loss": np.float32(values)})
        assert found.status == "agrees"
        assert found.sentence == f"jax agrees with torch exactly, but {share} of loss is NaN or infinite"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, 2.0], ""),
        ([np.nan] + [0.0] * 99, "1.0 % of b"),
        ([np.nan] + [0.0] * 999, ""),
        ([np.inf, 1.0], "50 % of b"),
        ([-np.inf, 1.0], ""),
        ([-np.inf, -np.inf, 1.0], "67 % of b"),
        ([complex(0, np.nan)], "all of b"),
        ([1, 2], ""),
    ],
)
def test_how_much_of_an_output_spoils_what_is_timed(values, words):
    assert spoilt({"a": np.float32([1, 2]), "b": np.array(values)}, to_numpy) == words
    assert spoilt({"a": np.float32([1, 2]), "b": jnp.asarray(np.array(values))}, to_numpy) == words


def test_how_the_outputs_are_related_is_said():
    found = compare({"w": one}, {"w": one.T})
    assert found.sentence == "torch and jax differ in shape at w: [5, 4] and [4, 5]; jax is torch transposed"
    found = compare({"std": torch.from_numpy(one).std()}, {"std": jnp.std(one)}, sizes=[one.size])
    assert found.sentence.endswith("relative 0.025); jax is 0.974679 x torch: n against n - 1, with n = 20?")


class TestRandom:
    """Values that may differ by chance."""

    def draws(self, seed, low=0.0, shape=(50, 40)):
        generator = np.random.default_rng(seed)
        return {"y": generator.uniform(low, 1, shape).astype("float32"), "loss": float(generator.uniform(low, 1))}

    def test_values_that_agree_anyway_agree(self):
        found = compare(self.draws(0), self.draws(0), random=True)
        assert (found.status, found.sentence) == ("agrees", "jax agrees with torch exactly")

    def test_without_a_further_run_structure_shape_and_dtype_are_compared(self):
        found = compare(self.draws(0), self.draws(1), random=True)
        assert (found.status, found.path) == ("not compared", None)
        assert found.sentence == (
            "not compared value by value: the cell draws random numbers or reads the clock; shapes and dtypes agree"
        )
        assert compare(self.draws(0), self.draws(1, shape=(9, 9)), random=True).sentence.startswith(
            "torch and jax differ in shape at y: [50, 40] and [9, 9]"
        )
        wide = {**self.draws(1), "y": self.draws(1)["y"].astype("float64")}
        assert compare(self.draws(0), wide, random=True).sentence.startswith("torch and jax differ in dtype at y")
        assert compare(self.draws(0), {"y": 1}, random=True).status == "differs"

    def test_with_a_further_run_of_each_mean_and_spread_are_compared(self):
        again = Draws(self.draws(2), self.draws(3))
        found = compare(self.draws(0), self.draws(1), random=True, again=again)
        assert found.status == "not compared"
        assert found.sentence.endswith(
            "; shapes and dtypes agree, means and spreads differ by less than 20 times what two runs of one do"
        )
        other = Draws(self.draws(2), self.draws(3, low=-3))
        found = compare(self.draws(0), self.draws(1, low=-3), random=True, again=other)
        assert (found.status, found.path) == ("differs", "y")
        assert found.sentence.startswith("torch and jax differ in mean at y: 0.4989 and -0.99")

    def test_chance_that_moves_all_values_together_is_seen_as_such(self):
        for seed in range(0, 400, 4):
            one, two, three, four = (
                {"y": x * np.random.default_rng(seed + step).standard_normal()} for step in range(4)
            )
            found = compare(one, two, random=True, again=Draws(three, four))
            assert found.status == "not compared", (seed, found.sentence)

    def compared(self, one, other, runs=8):
        """Compare what two functions of a generator draw, in so many runs of each."""
        generator = np.random.default_rng(0)
        first, second = ([{"y": draw(generator)} for _ in range(runs)] for draw in (one, other))
        again = Draws(first[1], second[1], (tuple(first[2:]), tuple(second[2:])))
        return compare(first[0], second[0], random=True, again=again)

    @pytest.mark.parametrize("size", [1, 30, 1000])
    @pytest.mark.parametrize("shared", [False, True])
    def test_what_is_drawn_alike_agrees_and_what_is_far_from_it_differs(self, size, shared):
        def draw(mean, spread):
            return lambda g: np.full(size, g.normal(mean, spread)) if shared else g.normal(mean, spread, size)

        for _ in range(20):
            found = self.compared(draw(0, 1), draw(0, 1))
            assert "means and spreads agree" in found.sentence
        found = self.compared(draw(0, 1), draw(9, 1))
        assert (found.status, "in mean" in found.sentence) == ("differs", True)
        if size == 1000 and not shared:
            assert "in mean" in self.compared(draw(0, 1), draw(0.4, 1)).sentence
            assert "in spread" in self.compared(draw(0, 1), draw(0, 1.3)).sentence

    def test_values_that_do_not_depend_on_chance_are_compared(self):
        mine, yours = {**self.draws(0), "n": x}, {**self.draws(1), "n": x + 1}
        again = Draws({**self.draws(2), "n": x}, {**self.draws(3), "n": x + 1})
        found = compare(mine, yours, random=True, again=again)
        assert (found.status, found.path) == ("differs", "n[0, 0]")
        assert compare({"n": x}, {"n": x + 1}, random=True, again=Draws({"n": x}, {"n": x + 1})).path == "n[0, 0]"

    def test_what_is_the_same_in_every_run_of_the_plain_program_has_to_be_so_in_what_is_compiled(self):
        one, other = {**self.draws(0), "n": x}, {**self.draws(1), "n": x + 1}
        again = {**self.draws(2), "n": x}, {**self.draws(3), "n": x + 2}
        assert compare(one, other, random=True, again=Draws(*again)).status == "not compared"
        assert compare(one, other, random=True, again=Draws(*again, leads=True)).path == "n[0, 0]"

    def test_of_names_that_a_further_run_lacks_nothing_is_known(self):
        one, other = {**self.draws(0), "n": x}, {**self.draws(1), "n": x + 1}
        found = compare(one, other, random=True, again=Draws(self.draws(2), self.draws(3)))
        assert (found.status, "shapes and dtypes agree" in found.sentence) == ("not compared", True)

    def test_shapes_that_depend_on_chance_are_no_difference(self):
        again = Draws({"y": x[:3]}, {"y": x[:9]})
        assert compare({"y": x[:5]}, {"y": x[:7]}, random=True, again=again).status == "not compared"


x = random_array(40, 30, seed=3)


def test_a_container_that_holds_itself_is_compared():
    first: list[Any] = [1]
    second: list[Any] = [1]
    first.append(first)
    second.append(second)
    assert compare(first, second).status == "agrees"
    second[0] = 2
    assert compare(first, second).path == "output[0]"


def test_depth_is_not_limited():
    deep: Any = 1
    other: Any = 2
    for _ in range(3000):
        deep, other = [deep], [other]
    assert compare(deep, other).status == "differs"


def test_a_transposed_array_is_compared_by_its_indices():
    x = np.arange(6.0).reshape(2, 3)
    wrong = np.asfortranarray(x)
    wrong[1, 0] = 7
    assert compare([x], [np.asfortranarray(x)]).status == "agrees"
    assert compare([x], [wrong]).path == "output[0][1, 0]"


class TestHidden:
    """Small values beside far larger ones, where the tolerance is that of the array."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_wrong_one_is_named(self, dtype):
        ours = random_array(30, 30, dtype=dtype) * 1e7
        ours[3, 4] = 1.0
        theirs = ours.copy()
        theirs[3, 4] = 100.0 if dtype == "float32" else 1.5
        found = compare({"y": ours}, {"y": theirs})
        size, differs = ("1e+05", "99 %") if dtype == "float32" else ("6e+06", "33 %")
        assert (found.status, found.path) == ("agrees", "y")
        assert f"y[3, 4] only beside values {size} times as large: it differs by {differs}" in found.sentence

    @pytest.mark.parametrize("seed", range(5))
    def test_rounding_errors_of_what_cancels_are_none(self, seed):
        a = random_array(120, 120, seed=seed)
        pairs = {
            "product": (a @ a.T, (a.astype("float64") @ a.T).astype("float32")),
            "identity": (np.linalg.inv(a) @ a, np.linalg.solve(a, a)),
            "centred": (a + 1e6 - (a + 1e6).mean(0), a + 1e6 - (a + 1e6).astype("float64").mean(0).astype("float32")),
            "sums": (np.cumsum(a - a.mean()), np.cumsum((a - a.mean()).astype("float64")).astype("float32")),
            "softmax": (np.exp(9 * a - 30), np.exp(9 * a) / np.float32(np.exp(30))),
            "orthogonal": (np.linalg.qr(a)[0].T @ np.linalg.qr(a)[0], np.eye(120, dtype="float32")),
        }
        for name, (one, other) in pairs.items():
            found = compare({name: one}, {name: other.astype("float32")})
            assert found.path is None or found.status == "differs", found.sentence

    def test_coarse_dtypes_have_coarse_roundoffs(self):
        ours = torch.tensor([1e4, 1.0, 2.0], dtype=torch.bfloat16)
        theirs = torch.tensor([1e4, 1.0, 4.0], dtype=torch.bfloat16)
        assert compare({"y": ours}, {"y": theirs}).path is None
        ours, theirs = (torch.tensor([1e5, 1.0, value]) for value in (2.0, 4.0))
        assert compare({"y": ours}, {"y": theirs}).path == "y"


class TestResidue:
    """An output that is no more than what rounding leaves of values as large as the other outputs."""

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ([1.0, 0.5, 1e-17], [1.0, 0.5, 0.0]),
            ({"a": np.float64(1.0), "b": np.array(1e-17)}, {"a": np.float64(1.0), "b": np.array(0.0)}),
            ([np.array([1.0, 2]), np.array([1e-17, 3e-17])], [np.array([1.0, 2]), np.array([0.0, -2e-17])]),
            ([np.ones(2, "complex64"), np.zeros(1, "float32")], [np.ones(2, "complex64"), np.float32([1e-8])]),
        ],
    )
    def test_is_named_and_is_no_difference(self, ours, theirs):
        found = compare({"y": ours}, {"y": theirs})
        assert (found.status, found.path is None) == ("agrees", False)
        assert "times as large: it differs by" in found.sentence

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ([1.0, 6.6e-34], [1.0, 6.7e-34]),  # nearly the same, as no two residues are
            ([np.ones(2), np.array([1e-12])], [np.ones(2), np.array([0.0])]),
            ([np.ones(2), np.array([1, 0])], [np.ones(2), np.array([0, 0])]),
            ([1.0, float("inf")], [1.0, 0.0]),
        ],
    )
    def test_what_is_larger_or_meant_differs(self, ours, theirs):
        assert compare({"y": ours}, {"y": theirs}).status == "differs"

    def test_by_itself_it_differs_and_the_sentence_says_what_it_may_be(self):
        found = compare({"y": np.array([1e-17])}, {"y": np.array([0.0])})
        assert found.status == "differs"
        assert found.sentence.endswith("rounding leaves as much where values of about 1 cancel")


class TestOneSided:
    """Values of 16 bits that are all off in one direction, within the tolerance of their dtype."""

    @pytest.mark.parametrize(
        ("dtype", "change", "words"),
        [
            (torch.bfloat16, lambda x: x * 1.02, "y is larger by 2.0 % on the whole"),
            (torch.bfloat16, lambda x: x * 0.98, "y is smaller by 2.0 % on the whole"),
            (torch.float16, lambda x: x * 1.003, "y is larger by 0.30 % on the whole"),
            (torch.float16, lambda x: x - 0.003, "y is smaller by 0.003 on the whole"),
        ],
    )
    def test_are_named(self, dtype, change, words):
        x = torch.from_numpy(random_array(1000))
        found = compare({"y": x.to(dtype)}, {"y": change(x).to(dtype)})
        assert (found.status, found.path) == ("agrees", "y")
        assert f"{words}, which rounding does not explain" in found.sentence

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("seed", range(3))
    def test_rounding_is_not_one_sided(self, dtype, seed):
        a = torch.from_numpy(random_array(80, 80, seed=seed))
        b = a.to(dtype)
        pairs = {
            "product": ((b @ b.T).float(), b.float() @ b.float().T),
            "softmax": (torch.softmax(b, 1).float(), torch.softmax(a, 1)),
            "sum": (b.abs().sum(0).float(), b.abs().float().sum(0)),
            "chain": (torch.tanh(b * 2 + 1).mul(b).exp().float(), torch.tanh(a * 2 + 1).mul(a).exp()),
        }
        for name, (one, other) in pairs.items():
            found = compare({name: one.to(dtype)}, {name: other.to(dtype)})
            assert (found.status, found.path) == ("agrees", None), found.sentence


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_long_dict_is_looked_through_for_what_is_not_finite_as_a_whole(bad, monkeypatch):
    one_by_one = []
    monkeypatch.setattr("fwmagic.agreement.plain.number_array", lambda value: one_by_one.append(value))
    assert spoilt({"D": dict.fromkeys(range(20_000), bad)}, lambda _: None) == "all of D"
    assert not one_by_one


class TestMoved:
    """What a rounding of the inputs moves as far as two results are apart is no difference."""

    def test_a_rounding_to_sixteen_bits_explains_no_more_than_itself(self):
        ones, moved = {"Out": np.float32(100)}, {"Out": np.float32(102)}
        for off, status in ((1.5, "agrees"), (3, "differs")):
            found = compare(ones, {"Out": np.float32(100 + off)}, moved=(ones, moved), coarsely=True)
            assert found.status == status, found.sentence

    def test_a_sum_that_cancels_in_part_agrees_and_says_so(self):
        found = compare(
            {"Out": np.float32(2e-2)},
            {"Out": np.float32(1.95e-2)},
            moved=({"Out": np.float32(2e-2)}, {"Out": np.float32(1.99e-2)}),
        )
        assert found.status == "agrees"
        assert found.sentence == (
            "jax agrees with torch but for rounding; "
            "Out differs by 0.0005, and a rounding of what goes into it moves it by 0.0001"
        )

    def test_where_a_rounding_moves_all_by_its_own_size_nothing_is_compared(self):
        """Anything would agree with what is chaotic."""
        chaotic = [np.random.default_rng(seed).random(50, np.float32) for seed in (0, 1)]
        moved = {"Out": chaotic[0]}, {"Out": chaotic[1]}
        for other in (np.full(50, 0.5, "float32"), chaotic[0] * 2):
            found = compare({"Out": chaotic[0]}, {"Out": other}, moved=moved)
            assert found.status == "not compared", found.sentence
            assert "a rounding of what goes into it moves it by" in found.sentence
            both = {"Out": chaotic[0], "y": chaotic[1]}, {"Out": other, "y": chaotic[1]}
            found = compare(*both, moved=moved)
            assert found.status == "agrees"
            assert found.sentence.startswith("jax agrees with torch exactly; not compared: Out (it differs by")

    @pytest.mark.parametrize(
        "moved",
        [{"Out": np.float32(2.0001e-4)}, {"Out": np.float32(np.nan)}, {"other": np.float32(1)}, {"Out": "text"}],
    )
    def test_else_it_differs(self, moved):
        assert (
            compare(
                {"Out": np.float32(2e-4)}, {"Out": np.float32(-3e-4)}, moved=({"Out": np.float32(2e-4)}, moved)
            ).status
            == "differs"
        )

    def test_one_value_across_a_threshold_does_not_explain_a_hundred(self):
        flags = np.zeros(1000, "float32")
        other, moved = flags.copy(), flags.copy()
        moved[0] = other[:20] = 1
        assert compare({"Out": flags}, {"Out": other}, moved=({"Out": flags}, {"Out": moved})).status == "agrees"
        other[:100] = 1
        assert compare({"Out": flags}, {"Out": other}, moved=({"Out": flags}, {"Out": moved})).status == "differs"

    def test_integers_never_agree_by_that(self):
        assert (
            compare({"n": np.int64(2)}, {"n": np.int64(3)}, moved=({"n": np.int64(2)}, {"n": np.int64(9)})).status
            == "differs"
        )


@pytest.mark.parametrize(
    ("a", "b", "place"),
    [
        ([0] * 200_000, [0] * 199_999 + [1], "L[199999]"),
        ([0.0] * 200_000, [0.0] * 199_999 + [1.0], "L[199999]"),
        ([{"k": 0} for _ in range(50_000)], [{"k": i // 49_999} for i in range(50_000)], "L[49999]['k']"),
        ([(0, "a")] * 50_000, [*[(0, "a")] * 49_999, (0, "b")], "L[49999][1]"),
        (dict.fromkeys(range(100_000), 0), dict.fromkeys(range(99_999), 0) | {99_999: 1}, "L[99999]"),
    ],
    ids=["ints", "floats", "dicts", "tuples", "a dict"],
)
def test_of_much_that_is_plain_only_what_differs_is_looked_at_one_by_one(monkeypatch, a, b, place):
    seen = []
    leaf = _Comparison.leaf
    monkeypatch.setattr(_Comparison, "leaf", lambda *arguments: (seen.append(arguments[1]), leaf(*arguments)))
    same = compare({"L": a}, {"L": copy.deepcopy(a)})
    assert (same.status, len(seen)) == ("agrees", 0)
    found = compare({"L": a}, {"L": b})
    assert (found.status, found.path) == ("differs", place)
    assert len(seen) <= 1
