"""The rounds of a measurement: segments of time, the baseline, and ratios of pairs."""

from __future__ import annotations

import math
import random

import pytest

from fwmagic.measure.rounds import Rounds


def rounds(*rows, baseline=0, margin=0.01, names="abc"):
    table = Rounds(list(names), baseline, margin)
    for number, row in enumerate(rows):
        table.add(row, float(number))
    return table


def noisy(count, *levels, seed=0):
    noise = random.Random(seed)
    return [tuple(level * math.exp(noise.gauss(0, 1e-3)) for level in levels) for _ in range(count)]


def test_rounds_are_parted_by_when_they_began():
    table = Rounds(["a"], 0, 0.01)
    for begun in (5.0, 5.1, 5.2, 6.0, 7.9, 8.0):
        table.add([1.0], begun)
    assert table.segments() == (0, 0, 0, 1, 2, 2)
    assert len(table) == len(table.rows) == 6


def test_none_and_one():
    assert (rounds().segments(), rounds().rows, rounds().ratios([0, 1]), rounds().baseline([])) == ((), (), (), None)
    assert rounds((1.0, 2.0, 3.0)).segments() == (0,)


@pytest.mark.parametrize(
    ("alive", "name"), [([0, 1, 2], "b"), ([0, 2], "a"), ([2], "c"), ([], None)], ids=["own", "failed", "one", "none"]
)
def test_the_first_that_is_alive_stands_in_for_the_baseline(alive, name):
    assert rounds((1.0, 2.0, 3.0), baseline=1).baseline(alive) == name


def test_every_pair_has_its_ratio_the_quicker_one_first():
    found = rounds(*noisy(20, 1.0, 4.0, 2.0)).ratios([0, 1, 2])
    assert [(ratio.variant, ratio.over) for ratio in found] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert [ratio.median for ratio in found] == pytest.approx([4, 2, 0.5], rel=0.01)
    assert [ratio.verdict for ratio in found] == ["slower", "slower", "faster"]


def test_a_round_counts_where_both_have_a_value():
    rows = noisy(20, 1.0, 2.0)
    table = rounds(*[(a, b if i % 2 else None, None) for i, (a, b) in enumerate(rows)])
    (ratio,) = table.ratios([0, 1, 2])
    assert (ratio.variant, ratio.over) == ("b", "a")
    assert ratio.median == pytest.approx(2, rel=0.01)


class TestDecided:
    def test_by_a_clear_difference(self):
        assert rounds(*noisy(20, 1.0, 2.0, 3.0)).decided([0, 1, 2])

    def test_not_by_too_few_rounds(self):
        assert not rounds(*noisy(3, 1.0, 2.0, 3.0)).decided([0, 1, 2])

    def test_not_while_one_is_undecided_or_has_no_value(self):
        rows = [(a, b, None) for a, b in noisy(20, 1.0, 2.0)]
        assert rounds(*rows).decided([0, 1])
        assert not rounds(*rows).decided([0, 1, 2])
        assert not rounds(*noisy(20, 1.0, 1.01), names="ab").decided([0, 1])

    def test_one_alone_by_the_interval_of_its_median(self):
        assert rounds(*noisy(20, 1.0), names="a").decided([0])
        assert not rounds(*noisy(20, 1.0), names="a", margin=1e-6).decided([0])
        assert not rounds(*noisy(2, 1.0), names="a").decided([0])
        assert not rounds((None,), (None,), names="a").decided([0])

    def test_not_where_segments_disagree(self):
        rows = [(1.0, 2.0 * (1 + 0.3 * (number // 10))) for number in range(30)]
        assert not rounds(*rows, names="ab").decided([0, 1])
