"""The rounds of a measurement: what is kept of very many, the baseline, and ratios of pairs."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from fwmagic.measure.rounds import Rounds


def rounds(*rows, baseline=0, margin=0.01, names="abc"):
    table = Rounds(list(names), baseline, margin)
    for row in rows:
        table.add(row)
    return table


def noisy(count, *levels, seed=0):
    noise = random.Random(seed)
    return [tuple(level * math.exp(noise.gauss(0, 1e-3)) for level in levels) for _ in range(count)]


def test_of_very_many_rounds_those_are_kept_that_are_evenly_far_apart():
    table = Rounds(["a"], 0, 0.01)
    for number in range(100_000):
        table.add([float(number)])
    kept = [row[0] for row in table.rows]
    assert len(table) == 100_000
    assert 16_000 < len(kept) < 33_000
    assert {after - before for before, after in pairwise(kept)} == {kept[1] - kept[0]}
    assert kept[-1] > 98_000
    assert table.samples(0) == tuple(kept)


def test_none_and_one():
    assert (rounds().rows, rounds().ratios([0, 1]), rounds().baseline([]), len(rounds())) == ((), (), None, 0)
    assert rounds((1.0, None, 3.0)).samples(1) == ()


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


def test_what_no_repetition_tells_is_in_the_interval():
    for each in (1e-6, 1e-3):
        (ratio,) = rounds(*[(each, each)] * 100, names="ab").ratios([0, 1])
        assert ratio.interval == pytest.approx((1 / (1.0015 + 5e-9 / each), 1.0015 + 5e-9 / each))


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

    def test_not_where_parts_of_the_run_disagree_about_it(self):
        rows = [(1.0, 0.9 * (1 + 0.3 * (number // 10))) for number in range(30)]
        assert not rounds(*rows, names="ab").decided([0, 1])
