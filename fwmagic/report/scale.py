"""The one scale of all times of a report: where it begins and ends, and what lies beyond it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from fwmagic.format import seconds
from fwmagic.report.report import Time


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

    def beyond(self, time: Time) -> int:
        """Return how many samples are slower than it shows."""
        return sum(sample > self.high for sample in time.samples)


def scale(times: Iterable[Time]) -> Scale | None:
    """Return one scale for all times: from 0, unless they lie within a factor of two; None if there is no sample.

    It ends at the slowest of the 95th percentiles, and at three times that of the quartiles, so that a few interrupted
    blocks do not flatten the rest.
    """
    drawn = [time for time in times if time.samples]
    if not drawn:
        return None
    slow = (min(_quantile(t.samples, 0.95), 3 * _quantile(t.samples, 0.75)) for t in drawn)
    high = max(*slow, *(max(t.median, t.high or 0.0) for t in drawn))
    low = min(min(min(t.samples), t.median, t.low or math.inf) for t in drawn)
    low = low if low > high / 2 else 0.0
    margin = 0.03 * (high - low) or 0.03 * high or 1e-9
    return Scale(max(0.0, low - margin), high + margin)


def ends(on: Scale, times: Iterable[Time]) -> tuple[str, str]:
    """Return the labels of a scale's ends; the right one has the number of samples that are slower than that."""
    beyond = sum(map(on.beyond, times))
    dots = f" ({beyond} slower dot{'s' * (beyond > 1)})" if beyond else ""
    return seconds(on.low), f"{seconds(on.high)}{dots}"


def _quantile(samples: tuple[float, ...], share: float) -> float:
    return sorted(samples)[math.ceil(share * len(samples)) - 1]
