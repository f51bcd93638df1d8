"""From paired samples to a ratio, its interval and a verdict. Pure Python: it runs between rounds and must be quick."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import mul

from fwmagic.report import Ratio, Regime, Verdict

#: Fewer batches than this bound no median at 95 %: the extremes of five do so at 93.75 %.
LEAST_BATCHES = 6
# Of intervals, this share do not hold what they are of; of those that tell a direction, that share: a false "faster" is
# worse than a wide interval, and the data are looked at several times.
_OUTSIDE, _OUTSIDE_VERDICT = 0.05, 0.005
_CLEAR = math.log(1.2)
#: Relative difference below which two variants are called the same.
MARGIN = 0.01
NOT_REPEATABLE = "not repeatable: parts of the run differ by more than their intervals, so the interval spans them all"

# A level of the blocking test is correlated when its lag-1 autocorrelation is this many standard errors above zero.
# One-sided 10 %: a batch that is too long costs some width, one that is too short costs the coverage.
_CORRELATED = 1.3
# A lag-1 autocorrelation of fewer values than this says nothing.
_LEAST_VALUES = 12
# Medians of batches of this many correlation lengths are taken as independent.
_LENGTHS = 3
_EXACT = 300
_PARTS = 3
# Regimes: how many stretches of rounds are looked at, and what the two levels have to be like.
_LEAST_STRETCHES, _MOST_STRETCHES = 60, 200
_LEAST_SHARE = 0.1
_LEAST_DISTANCE = math.log(1.05)
_SPREADS = 6


@dataclass(frozen=True)
class _Bounds:
    """A median with its 95 % interval; `low` and `high` are None when there are too few batches.

    `surely` are the bounds at 99.5 %, or the extremes of so few batches that these are as sure as it gets.
    """

    median: float
    low: float | None
    high: float | None
    batches: int
    surely: tuple[float, float] | None = None


def interval(samples: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the median of `samples`, in time order, and the bounds of its 95 % interval (None: fewer than six).

    Order statistics on the medians of batches that are long enough to be independent of one another.

    Raises
    ------
    ValueError
        There are no samples.
    """
    if not samples:
        raise ValueError("an interval needs at least one sample")
    bounds = _bounds(samples)
    return bounds.median, bounds.low, bounds.high


def ratio_of_logs(variant: str, over: str, logs: Sequence[float], margin: float = MARGIN, blur: float = 0.0) -> Ratio:
    """Return the time of `variant` over that of `over`, from the logarithms of their ratio in each round.

    `logs` are in time order. Each third of the run gets an interval of its own; where two of them do not meet, the
    result spans all of them and is not repeatable. `blur` is what no repetition tells of the logarithm: the interval
    is wider by it, on both sides.

    Raises
    ------
    ValueError
        There is no round.
    """
    if not logs:
        raise ValueError("a ratio needs at least one round")
    bounds = _bounds(logs)
    low, high = bounds.low, bounds.high
    parts = _part_bounds(logs)
    repeatable = not parts or max(part[0] for part in parts) <= min(part[1] for part in parts)
    if low is not None and high is not None and not repeatable:
        low = min(low, *(part[0] for part in parts))
        high = max(high, *(part[1] for part in parts))
    verdict: Verdict = "undecided"
    if low is not None and high is not None and bounds.surely is not None:
        surely = min(low, bounds.surely[0]) - blur, max(high, bounds.surely[1]) + blur
        low, high = low - blur, high + blur
        verdict = _verdict((low, high), surely, math.log1p(margin))
    return Ratio(
        variant=variant,
        over=over,
        median=math.exp(bounds.median),
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
        least=math.exp(min(logs)),
        most=math.exp(max(logs)),
        verdict=verdict,
        rounds=len(logs),
        batches=bounds.batches,
        repeatable=repeatable,
        regimes=regimes(logs),
        note="" if repeatable else NOT_REPEATABLE,
    )


def regimes(logs: Sequence[float]) -> tuple[Regime, ...]:
    """Return the two levels between which a ratio moved, and stayed for a while at each; nothing if it did not.

    The medians of short stretches of rounds are parted in two where the variance between the parts is greatest
    (N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62, 1979). They count as regimes if they are far apart against the
    spread within each, and if the ratio changes between them far less often than by chance.
    """
    if len(logs) < _LEAST_STRETCHES:
        return ()
    count = min(_MOST_STRETCHES, len(logs))
    edges = [i * len(logs) // count for i in range(count + 1)]
    stretches = [statistics.median(logs[a:b]) for a, b in pairwise(edges)]
    levels, sums = sorted(stretches), list(accumulate(sorted(stretches)))
    least = math.ceil(_LEAST_SHARE * count)
    # Between-class variance of a cut at i: as great as the product of the sizes and the squared distance of the means.
    cut = max(
        range(least, count - least + 1),
        key=lambda i: i * (count - i) * (sums[i - 1] / i - (sums[-1] - sums[i - 1]) / (count - i)) ** 2,
    )
    low, high = levels[:cut], levels[cut:]
    one, other = statistics.median(low), statistics.median(high)
    spread = max(statistics.median(abs(x - middle) for x in part) for part, middle in ((low, one), (high, other)))
    share = cut / count
    changes = sum((a < high[0]) != (b < high[0]) for a, b in pairwise(stretches))
    if other - one < max(_LEAST_DISTANCE, _SPREADS * spread) or changes > share * (1 - share) * count:
        return ()
    return Regime(math.exp(one), share), Regime(math.exp(other), 1 - share)


def fastest(names: Sequence[str], ratios: Sequence[Ratio]) -> str | None:
    """Return the one of `names` that is faster than every other by verdict, or None."""
    beats: dict[str, set[str]] = {name: set() for name in names}
    for one in ratios:
        if one.verdict == "faster" and one.variant in beats:
            beats[one.variant].add(one.over)
        if one.verdict == "slower" and one.over in beats:
            beats[one.over].add(one.variant)
    if len(beats) < 2:
        return None
    return next((name for name, beaten in beats.items() if beaten >= beats.keys() - {name}), None)


def _verdict(bounds: tuple[float, float], surely: tuple[float, float], margin: float) -> Verdict:
    """Return what bounds of a log-ratio say; the margin is taken on the log scale, so that it has no side.

    A direction needs the surer bounds, unless the others are far from 1: chance does not reach as far.
    """
    if surely[0] > margin or bounds[0] > max(margin, _CLEAR):
        return "slower"
    if surely[1] < -margin or bounds[1] < -max(margin, _CLEAR):
        return "faster"
    return "same" if -margin <= bounds[0] and bounds[1] <= margin else "undecided"


def _part_bounds(logs: Sequence[float]) -> list[tuple[float, float]]:
    """Return the interval of every third of the run; none at all if a third is too short to have one."""
    edges = [i * len(logs) // _PARTS for i in range(_PARTS + 1)]
    if edges[1] < LEAST_BATCHES:
        return []
    parts = [_bounds(logs[a:b]) for a, b in pairwise(edges)]
    return [(part.low, part.high) for part in parts if part.low is not None and part.high is not None]


def _bounds(values: Sequence[float]) -> _Bounds:
    count = len(values)
    median = statistics.median(values)
    if count < LEAST_BATCHES:
        return _Bounds(median, None, None, count)
    length = min(_batch_length(values, median), count // LEAST_BATCHES)
    batches = count // length
    if length == 1:
        medians = sorted(values)
    else:
        edges = [i * count // batches for i in range(batches + 1)]
        medians = sorted(statistics.median(values[a:b]) for a, b in pairwise(edges))
    # The median of all need not lie between two medians of batches, but its interval has to hold it.
    (low, high), surely = (
        (min(median, medians[rank]), max(median, medians[-1 - rank]))
        for rank in (_rank(batches, _OUTSIDE), _rank(batches, _OUTSIDE_VERDICT))
    )
    return _Bounds(median, low, high, batches, surely)


def _batch_length(values: Sequence[float], median: float) -> int:
    """Return how many consecutive values make a batch whose median hardly depends on the one before.

    The blocking test of Flyvbjerg and Petersen (J. Chem. Phys. 91, 461, 1989) on the signs of the deviations
    from the median, which is what the spread of a median depends on: neighbours are added up pairwise, level
    by level, and the last level that is still correlated gives the correlation length.
    """
    sums: list[int] = [value > median for value in values]
    width, length = 1, 0
    while len(sums) >= _LEAST_VALUES:
        count, total = len(sums), sum(sums)
        mean = total / count
        square = sum(map(mul, sums, sums)) - count * mean**2
        ends = sums[0] + sums[-1]
        product = sum(map(mul, sums, sums[1:])) - mean * (2 * total - ends) + (count - 1) * mean**2
        # The mean was taken from the same values, which pulls the autocorrelation down by about 1 / n.
        if square > 0 and (product / square + 1 / count) * math.sqrt(count) > _CORRELATED:
            length = width
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)]
        width *= 2
    return max(1, _LENGTHS * length)


@lru_cache(maxsize=2 * _EXACT)
def _rank(count: int, outside: float) -> int:
    """Return how many of `count` sorted values to cut off each end for an interval of the median; at least none.

    Each value lies on either side of the median with probability 1/2, so the binomial distribution tells.
    """
    if count > _EXACT:
        deviations = statistics.NormalDist().inv_cdf(1 - outside / 2)
        return int((count - deviations * math.sqrt(count)) / 2) - 1
    cut, beyond, limit = 0, 1, outside / 2 * 2**count
    while beyond + math.comb(count, cut + 1) <= limit:
        cut += 1
        beyond += math.comb(count, cut)
    return cut
