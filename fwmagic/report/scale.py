"""The one scale of all times of a report: where it begins and ends, and what lies beyond it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from fwmagic.format import seconds
from fwmagic.report.report import Report, Time, points_of, some_samples


class Scale(NamedTuple):
    """The span of seconds that every view of a report shows; what lies above is drawn at its right edge, and counted.

    Attributes
    ----------
    low
        Where it begins.
    high
        Where it ends.
    """

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where `value` lies, from 0 to 1."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def beyond(self, samples: Iterable[float]) -> int:
        """Return how many samples are slower than it shows."""
        return sum(sample > self.high for sample in samples)


def drawn(report: Report, time: Time) -> tuple[float, ...]:
    """Return the samples that are drawn as dots: those that a notebook stores, so that every view has the same."""
    return some_samples(time.samples, points_of(len(report.variants)))


def scale(times: Iterable[Time]) -> Scale | None:
    """Return one scale for all times: from 0, unless they lie within a factor of two; None if there is no sample.

    It ends at the slowest of the 95th percentiles, and at three times that of the quartiles, so that a few interrupted
    blocks do not flatten the rest.
    """
    timed = [time for time in times if time.samples]
    if not timed:
        return None
    slow = (min(_quantile(t.samples, 0.95), 3 * _quantile(t.samples, 0.75)) for t in timed)
    high = max(*slow, *(max(t.median, t.high or 0.0) for t in timed))
    low = min(min(min(t.samples), t.median, t.low or math.inf) for t in timed)
    low = low if low > high / 2 else 0.0
    margin = 0.03 * (high - low) or 0.03 * high or 1e-9
    return Scale(max(0.0, low - margin), high + margin)


def slower(on: Scale, report: Report) -> int:
    """Return how many of all dots are slower than the scale shows."""
    return sum(on.beyond(drawn(report, variant.time)) for variant in report if variant.time is not None)


def ends(on: Scale) -> tuple[str, str]:
    """Return the labels of a scale's ends, and whether the left one is 0."""
    return f"{seconds(on.low)}{' (not 0)' if on.low else ''}", seconds(on.high)


def _quantile(samples: tuple[float, ...], share: float) -> float:
    return sorted(samples)[math.ceil(share * len(samples)) - 1]
