"""Numbers in words."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwmagic import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (1e-10, "0.100 ns"),
        (1.234e-7, "123 ns"),
        (9.9996e-7, "1.00 µs"),
        (0.00123, "1.23 ms"),
        (0.0012, "1.20 ms"),
        (0.99951, "1.00 s"),
        (12.34, "12.3 s"),
        (1234.0, "1230 s"),
        (-0.00123, "-1.23 ms"),
    ],
)
def test_seconds_take_the_unit_that_fits(value: float, text: str) -> None:
    assert fmt.seconds(value) == text


def test_two_times_share_the_unit_of_the_longer() -> None:
    assert fmt.seconds_between(0.000999, 0.00125) == "0.999-1.25 ms"
    assert fmt.seconds_between(0.0, 2e-6) == "0-2.00 µs"


def test_a_span_has_as_many_digits_as_tell_its_ends_apart() -> None:
    """`109-109 µs` was said of an interval."""
    assert fmt.seconds_between(108.6e-6, 109.2e-6) == "108.6-109.2 µs"
    assert fmt.ratio_between(1.0001, 1.0004) == "1.0001-1.0004"
    assert fmt.ratio_between(0.5, 0.5) == fmt.ratio(0.5), "no span at all"
    assert fmt.size_between(24 << 20, (24 << 20) + 9000) == "24.00 to 24.01 MiB"
    assert fmt.size_between(24 << 20, 24 << 20) == "24.0 MiB"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4301, "0.430"), (0.99951, "1.000"), (1.013, "1.013"), (1.0994, "1.099"), (1.0996, "1.10"), (117.4, "117")],
)
def test_ratio_near_one_keeps_three_decimals(value: float, text: str) -> None:
    assert fmt.ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"), json.loads((Path(__file__).parent.parent / "labextension/test/ratios.json").read_text())
)
def test_a_ratio_is_what_the_panel_makes_of_it(value: float, text: str) -> None:
    assert fmt.ratio(value) == text


def test_ratios_as_a_span() -> None:
    assert fmt.ratio_between(0.9713, 1.0204) == "0.971-1.020"


@pytest.mark.parametrize(
    ("factor", "text"), [(2.33, "2.3x"), (12.3, "12x"), (99.4, "99x"), (118.2, "118x"), (4321, "4320x")]
)
def test_times_as_fast(factor: float, text: str) -> None:
    assert fmt.times(factor) == text


def test_percent_count_and_size() -> None:
    assert fmt.percent(0.0342) == "3.42 %"
    assert fmt.percent(0.0342, 2) == "3.4 %"
    assert [fmt.setting(share) for share in (0.01, 0.005, 0.07)] == ["1 %", "0.5 %", "7 %"]
    counts = (0, 4, 0.5, 950.0, 12_345, 4_560_000, 7e12)
    assert [fmt.number(count) for count in counts] == ["0", "4", "0.500", "950", "12.3 k", "4.56 M", "7000 G"]
    sizes = (0, 512, 1536, 3 * 1024**3, 2**55)
    assert [fmt.size(size) for size in sizes] == ["0 B", "512 B", "1.50 KiB", "3.00 GiB", "32800 TiB"]


@given(st.floats(min_value=1e-12, max_value=1e6))
def test_three_digits_are_within_half_of_the_last_one(value: float) -> None:
    text = fmt.digits(value)
    assert re.fullmatch(r"\d+(\.\d+)?", text), "no exponent, no sign"
    assert math.isclose(float(text), value, rel_tol=0.00501)


@given(st.floats(min_value=1e-9, max_value=1e3))
def test_seconds_read_back(value: float) -> None:
    shown, unit = fmt.seconds(value).split()
    assert math.isclose(float(shown) * {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit], value, rel_tol=0.00501)
    assert 1 <= float(shown) < 1000 or unit in ("s", "ns")


def test_one_line_has_no_control_characters_and_a_limit() -> None:
    assert fmt.one_line("\x1b[31mred\x1b[0m\n  and\tmore\x00 \x9b") == "red and more"
    assert fmt.one_line("x" * 400) == "x" * 299 + "…"
    assert fmt.one_line("x" * 300) == "x" * 300


def test_a_line_is_cut_after_a_word() -> None:
    assert fmt.one_line("an error: of many words", 16) == "an error: of…"
    assert fmt.one_line("an error: of many", 11) == "an error…"
    assert fmt.one_line("a very_long_name_of_one_word", 20) == "a very_long_name_of…"
    assert fmt.one_line("exactly to the end of it", 18) == "exactly to the…"


def test_a_tie_goes_up_as_in_the_panel() -> None:
    assert fmt.size(21 * 2**17) == "2.63 MiB"
    assert fmt.size_between(24 << 20, 48 << 20) == "24.0 to 48.0 MiB"
    assert fmt.size_between(0, 100) == "0 to 100 B"
    assert fmt.size_between(4096, 48 << 20) == "0 to 48.0 MiB"
    assert fmt.size(41 * 2**17) == "5.13 MiB"


def test_ordinal_numbers() -> None:
    counts = (1, 2, 3, 4, 11, 12, 13, 21, 102, 113)
    said = "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 113th"
    assert " ".join(map(fmt.ordinal, counts)) == said
