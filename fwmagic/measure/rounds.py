"""The rounds of a measurement: one value a variant in each, and the ratios that they give."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from fwmagic.measure import stats
from fwmagic.report import Ratio, turned

_SEGMENTS = 3


class Rounds:
    """A growing table: a row a round, a column a variant (None: failed, or void), in time order."""

    def __init__(self, names: Sequence[str], baseline: int, margin: float) -> None:
        self._names = names
        self._baseline = baseline
        self._margin = margin
        self._rows: list[tuple[float | None, ...]] = []
        self._begun: list[float] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> tuple[tuple[float | None, ...], ...]:
        """All rounds so far."""
        return tuple(self._rows)

    def add(self, row: Sequence[float | None], begun: float) -> None:
        """Add a round that began at the clock's time `begun`."""
        self._rows.append(tuple(row))
        self._begun.append(begun)

    def segments(self) -> tuple[int, ...]:
        """Return for each round in which third of the time so far it began: 0, 1 or 2."""
        if not self._begun:
            return ()
        first, length = self._begun[0], self._begun[-1] - self._begun[0]
        if length <= 0:
            return (0,) * len(self._begun)
        return tuple(min(_SEGMENTS - 1, int(_SEGMENTS * (begun - first) / length)) for begun in self._begun)

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

    def decided(self, alive: Sequence[int], repeated: bool = True) -> bool:
        """Say whether more rounds would change nothing: all ratios to the baseline have a verdict.

        `repeated` asks for verdicts that hold in each part of the run. A single variant has no ratio; for it, the
        interval of its median has to be within the margin.
        """
        if len(alive) == 1:
            samples = [sample for row in self._rows if (sample := row[alive[0]]) is not None]
            return bool(samples) and self._is_narrow(*stats.interval(samples))
        ratios = self._over_baseline(alive)
        done = [ratio.verdict != "undecided" and (ratio.repeatable or not repeated) for ratio in ratios]
        return len(done) == len(alive) - 1 and all(done)

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
        pairs = [
            (a, b, segment)
            for row, segment in zip(self._rows, self.segments(), strict=True)
            if (a := row[variant]) is not None and (b := row[over]) is not None
        ]
        if not pairs:
            return None
        a_samples, b_samples, segments = zip(*pairs, strict=True)
        names = self._names
        return stats.paired_ratio(names[variant], names[over], a_samples, b_samples, segments, self._margin)
