"""The rounds of a measurement: one value a variant in each, and the ratios that they give."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from fwmagic.measure import stats
from fwmagic.report import Ratio, turned

# More rows than this tell nothing new: from then on every second round is kept, every fourth, and so on.
_MOST_ROWS = 32768
# Two programs of the same text differ for as long as they live, by where in memory their code and their arrays happen
# to lie: by up to so many seconds a call, and by this share of it.
_ADDRESS = 5e-9
_SHARE = 0.0015


class _Table:
    """A growing table: a row a round, a column a variant (None: failed, void, or not in it), in time order.

    `rows` are evenly thinned out if they are very many.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[float | None, ...]] = []
        self._count = 0
        self._step = 1

    def __len__(self) -> int:
        return self._count

    def add(self, row: Sequence[float | None]) -> None:
        if self._count % self._step == 0:
            self.rows.append(tuple(row))
        self._count += 1
        if len(self.rows) > _MOST_ROWS:
            del self.rows[1::2]
            self._step *= 2

    def pairs(self, variant: int, over: int) -> list[tuple[float, float]]:
        """Return the values of two variants in the rows that have both."""
        return [(a, b) for row in self.rows if (a := row[variant]) is not None and (b := row[over]) is not None]


class Rounds:
    """The rounds so far. Where variants have turns, also the rounds within a turn, which only some of them share."""

    def __init__(self, names: Sequence[str], baseline: int, margin: float) -> None:
        self._names = names
        self._baseline = baseline
        self._margin = margin
        self._all = _Table()
        self._within = _Table()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def rows(self) -> tuple[tuple[float | None, ...], ...]:
        """The rounds so far, evenly thinned out if they are very many."""
        return tuple(self._all.rows)

    def add(self, row: Sequence[float | None]) -> None:
        """Add a round."""
        self._all.add(row)

    def add_within(self, row: Sequence[float | None]) -> None:
        """Add a round within the turn of some variants: two of them are compared from such rounds, which are short."""
        self._within.add(row)

    def clear(self) -> None:
        """Forget all rounds."""
        self._all, self._within = _Table(), _Table()

    def samples(self, variant: int) -> tuple[float, ...]:
        """Return the values of one variant."""
        return tuple(sample for row in self._all.rows if (sample := row[variant]) is not None)

    def baseline(self, alive: Sequence[int]) -> str | None:
        """Return the name of the baseline: the one asked for, or the first of `alive` if that one failed."""
        index = self._base(alive)
        return None if index is None else self._names[index]

    def ratios(self, alive: Sequence[int]) -> tuple[Ratio, ...]:
        """Return every variant's ratio over the baseline, and then those of the other pairs, the quicker one first."""
        base = self._base(alive)
        pairs = itertools.combinations([index for index in alive if index != base], 2)
        found = [ratio for one, other in pairs if (ratio := self._ratio(one, other)) is not None]
        return (*self._over_baseline(alive), *(ratio if ratio.median <= 1 else turned(ratio) for ratio in found))

    def decided(self, alive: Sequence[int]) -> bool:
        """Say whether more rounds would change nothing: all ratios to the baseline have a verdict.

        A single variant has no ratio; for it, the interval of its median has to be within the margin.
        """
        if len(alive) == 1:
            samples = self.samples(alive[0])
            return bool(samples) and self._is_narrow(*stats.interval(samples))
        ratios = self._over_baseline(alive)
        return len(ratios) == len(alive) - 1 and all(ratio.verdict != "undecided" for ratio in ratios)

    def _is_narrow(self, median: float, low: float | None, high: float | None) -> bool:
        if low is None or high is None:
            return False
        return max(math.log(high / median), math.log(median / low)) <= math.log1p(self._margin)

    def _base(self, alive: Sequence[int]) -> int | None:
        if self._baseline in alive:
            return self._baseline
        return alive[0] if alive else None

    def _over_baseline(self, alive: Sequence[int]) -> list[Ratio]:
        base = self._base(alive)
        if base is None:
            return []
        found = (self._ratio(index, base) for index in alive if index != base)
        return [ratio for ratio in found if ratio is not None]

    def _ratio(self, variant: int, over: int) -> Ratio | None:
        """Return the ratio from the rounds that have a value for both; None if there is no such round."""
        pairs = self._within.pairs(variant, over) or self._all.pairs(variant, over)
        if not pairs:
            return None
        blur = math.log1p(_SHARE + _ADDRESS / min(map(statistics.median, zip(*pairs, strict=True))))
        logs = [math.log(a / b) for a, b in pairs]
        return stats.ratio_of_logs(self._names[variant], self._names[over], logs, self._margin, blur)
