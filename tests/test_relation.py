"""How one array follows from another is said where it does, and never where it does not."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.agreement.close import Array
from fwmagic.agreement.relation import relation


def an_array(values):
    values = np.asarray(values)
    return Array(values, values.shape, values.dtype.name, "numpy")


def said(a, b, sizes=(20, 32, 1001)):
    return relation(an_array(a), an_array(b), ("torch", "jax"), sizes)


x = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
square = np.random.default_rng(1).standard_normal((5, 5)).astype("float32")
cube = np.random.default_rng(2).standard_normal((2, 3, 4)).astype("float32")
p = np.abs(x) + 0.1
f32 = np.float32
many = np.arange(1e5, dtype=f32)


def bfloat16(values):
    return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(f32)


SAID = {
    "transposed": (x, x.T, "jax is torch transposed"),
    "transposed, of one shape": (square, square.T, "jax is torch transposed"),
    "axes": (cube, cube.transpose(0, 2, 1), "jax is torch with its axes in the order (0, 2, 1)"),
    "channels last": (cube[None], cube[None].transpose(0, 2, 3, 1), "in the order (0, 2, 3, 1)"),
    "shape": (x, x.reshape(3, 10), "jax is torch in another shape, with the same values in the same order"),
    "an axis of one": (x, x[:, None], "jax is torch in another shape, with the same values in the same order"),
    "cropped": (cube, cube[:, 1:2, 1:3], "jax is the middle of torch"),
    "one fewer": (x[:-1], x, "torch is the beginning of jax"),
    "factor": (x, f32(1.25) * x, "jax is 1.25 x torch everywhere"),
    "negative": (x, -x, "jax is the negative of torch"),
    "variance": (x, x * f32(31 / 32), "jax is 0.96875 x torch everywhere: n against n - 1, with n = 32?"),
    "deviation": (f32(7.25), f32(7.25 * (31 / 32) ** 0.5), "jax is 0.984251 x torch: n against n - 1, with n = 32?"),
    "many": (x, f32(1.001) * x, "jax is 1.001 x torch everywhere: n against n - 1, with n = 1001?"),
    "sum and mean": (f32(0.37), f32(0.37 * 48), "jax is 48 x torch: a sum against a mean of 48?"),
    "base of a logarithm": (x, x * f32(np.log(2)), "a natural logarithm against one to base 2?"),
    "of whole numbers": (np.arange(8.0) * (32 / 31), np.arange(8.0), "n against n - 1, with n = 32?"),
    "shift": (x, x + f32(0.5), "jax is torch + 0.5 everywhere"),
    "shift down": (x, x - f32(0.5), "jax is torch - 0.5 everywhere"),
    "integers": (np.arange(6), np.arange(6) + 1, "jax is torch + 1 everywhere"),
    "logarithm": (p, np.log(p), "jax is the logarithm of torch"),
    "exponential": (np.log(p), p, "jax is the exponential of torch"),
    "square": (p, p * p, "jax is the square of torch"),
    "signs": (x, x * f32([1, -1, 1, -1, -1]), "jax is torch but for signs"),
    "reversed": (x, x[::-1], "jax is torch reversed along axis 0"),
    "rolled": (x, np.roll(x, 1, 1), "jax is torch shifted by one along axis 1"),
    "rows": (x, x[[3, 1, 0, 5, 2, 4]], "jax has the rows of torch in another order"),
    "values": (x[0], np.sort(x[0]), "jax has the values of torch in another order"),
    "values and rounding": (x[0], np.nextafter(np.sort(x[0]), f32(9)), "jax has the values of torch in another order"),
    "bfloat16": (x, bfloat16(x), "the values of jax are rounded to bfloat16"),
    "float16": (x, x.astype("float16").astype("float32"), "the values of jax are rounded to float16"),
    "float32": (x * (1 + 3e-7 * (-1.0) ** np.arange(5)), x.astype("float64"), "of jax are rounded to float32"),
    "the other one": (bfloat16(x), x, "the values of torch are rounded to bfloat16"),
    "edges": (x, np.pad(x[1:-1, 1:-1], 1), "jax is torch but for the edges"),
    "ends": (x, np.concatenate([x[:, :-1], 2 * x[:, -1:]], 1), "jax is torch but for the ends of axis 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_a_relation_is_said(case):
    a, b, words = SAID[case]
    assert words in said(a, b)


NOT_SAID = {
    "other values": (x, square[:1] + x),
    "one other value": (x, np.where(np.arange(30).reshape(6, 5) == 13, 9, x).astype("float32")),
    "other shapes": (x, square),
    "one and a half": (f32(2), f32(3)),
    "numbers without a relation": (f32(0.37), f32(0.41)),
    "nearly a factor": (x, (x * f32(1.25) + f32(1e-3)).astype("float32")),
    "flags": (np.array([True, False]), np.array([False, True])),
    "text": (np.array(["a", "b"]), np.array(["b", "a"])),
    "all NaN": (x, np.full_like(x, np.nan)),
    "zeros": (x, np.zeros_like(x)),
    "zeros and ones": (np.zeros(2), np.ones(2)),
    "one value off": (np.ones(9, f32), np.where(np.arange(9) == 3, f32(1.01), f32(1))),
    "large integers": (np.array([2**60, 5]), np.array([2**60 + 1, 5])),
    "a value that is gone": (many, np.where(many == 77_777, 0, many)),
    "two values that are gone": (many, np.where((many == 77_777) | (many == 88_888), 0, many)),
    "a row that is gone": (many.reshape(-1, 2), np.where(many == 77_777, 0, many).reshape(-1, 2)),
    "a single value that is near": (np.float64(0.125), np.float64(0.12501)),
}


@pytest.mark.parametrize("case", NOT_SAID)
def test_nothing_is_said_that_is_not_so(case):
    assert said(*NOT_SAID[case]) == ""


def test_n_against_n_minus_1_needs_such_an_n():
    """A factor that is near may come from anything, as that of two medians."""
    for a, b, n in ((f32(0.37), f32(0.37 * 149 / 150), 150), (x, f32(1.001) * x, 1001)):
        assert f"with n = {n}?" in said(a, b, (n,))
        assert "n - 1" not in said(a, b, (n // 3, 40_000))


@given(
    arrays.arrays("float32", arrays.array_shapes(max_dims=3, max_side=5), elements=st.floats(-10, 10, width=32)),
    arrays.arrays("float32", arrays.array_shapes(max_dims=3, max_side=5), elements=st.floats(-10, 10, width=32)),
)
def test_any_two_arrays_can_be_asked_about(a, b):
    assert isinstance(said(a, b), str)
    assert isinstance(said(a, a), str)
