"""The small pictures of a report: each variant's samples on one scale, and its compile stages as a bar (SVG)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from fwmagic.format import seconds, seconds_between
from fwmagic.remarks import compile_stages
from fwmagic.report import Time, Variant

# Okabe and Ito's colours, told apart with any colour vision; their blue is lighter here, for a dark ground.
_COLOURS = {"torch": "#D55E00", "jax": "#2080C4", "numpy": "#009E73"}
_OTHER = "#CC79A7"
_WIDTH, _HEIGHT, _BAR, _GAP = 1000, 40, 10, 8
# Dots beyond these could not be told apart, and a stored report is to stay small.
_MOST_DOTS = 36


class Scale(NamedTuple):
    """The span of seconds that every strip of a report shows; what lies above is drawn at its right edge."""

    low: float
    high: float

    def x(self, value: float) -> int:
        """Return where `value` lies, from 0 to the width of the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return round(_WIDTH * min(max(share, 0.0), 1.0))


def colour(framework: str) -> str:
    """Return the colour that stands for a framework."""
    return _COLOURS.get(framework, _OTHER)


def scale(times: Iterable[Time]) -> Scale | None:
    """Return one scale for all times: from 0, unless they lie within a factor of two; None if there is no sample.

    It ends at the slowest of the 95th percentiles, so that one interrupted block does not flatten the rest.
    """
    drawn = [time for time in times if time.samples]
    if not drawn:
        return None
    high = max(max(_percentile(t.samples), t.median, t.high or 0.0) for t in drawn)
    low = min(min(min(t.samples), t.median, t.low or math.inf) for t in drawn)
    low = low if low > high / 2 else 0.0
    margin = 0.03 * (high - low) or 0.03 * high or 1e-9
    return Scale(max(0.0, low - margin), high + margin)


def strip(variant: Variant, time: Time, on: Scale) -> str:
    """Return the samples of a variant as a strip: one dot a block, the first at the top, with interval and median."""
    points = _thinned(time.samples)
    dots = "".join(f"M{on.x(value)} {_y(i, len(points))}z" for i, value in enumerate(points))
    beyond = sum(value > on.high for value in time.samples)
    drawn = f" ({len(points)} of them drawn)" if len(points) < len(time.samples) else ""
    described = f"{len(time.samples)} blocks{drawn}, median {seconds(time.median)}"
    interval = ""
    if time.low is not None and time.high is not None:
        described += f", 95 % interval {seconds_between(time.low, time.high)}"
        left, right = on.x(time.low), on.x(time.high)
        interval = f'<rect x="{left}" width="{max(right - left, 3)}" height="{_HEIGHT}" class="fw-interval"/>'
    if beyond:
        described += f"; {beyond} slower than the scale shows"
    middle = on.x(time.median)
    return (
        f"{opening(_HEIGHT, f'Samples of {variant.name}', described)}{interval}"
        f'<path class="fw-dots" stroke="{colour(variant.framework)}" d="{dots}"/>'
        f'<path class="fw-median" d="M{middle} 0V{_HEIGHT}"/></svg>'
    )


def stage_bar(variant: Variant, longest: float) -> str:
    """Return the compile stages of a variant as one bar; `longest` seconds (more than 0) fill the width."""
    stages = compile_stages(variant.compilation)
    described = ", ".join(f"{stage.name} {seconds(value)}" for stage, value in stages)
    start, parts = 0.0, []
    for _, value in stages:
        width = _WIDTH * value / longest
        # the gap tells one stage from the next, without a colour for each
        parts.append(f'<rect x="{start:.0f}" width="{max(width - _GAP, 1):.0f}" height="{_BAR}"/>')
        start += width
    bars = f'<g fill="{colour(variant.framework)}">{"".join(parts)}</g>'
    return f"{opening(_BAR, f'Compile stages of {variant.name}', described)}{bars}</svg>"


def axis(on: Scale) -> tuple[str, str, str]:
    """Return the labels of a scale's left end, middle and right end."""
    return seconds(on.low), seconds((on.low + on.high) / 2), seconds(on.high)


def opening(height: int, title: str, description: str) -> str:
    """Return the start of a drawing of this height, with the words that stand for it."""
    # the drawing is stretched to the width of the page; dots and lines keep their shape by a stroke that is not scaled
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" height="{height}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    )


def _thinned(samples: tuple[float, ...]) -> tuple[float, ...]:
    step = max(1.0, len(samples) / _MOST_DOTS)
    return tuple(samples[int(i * step)] for i in range(min(len(samples), _MOST_DOTS)))


def _y(index: int, count: int) -> int:
    return _HEIGHT // 2 if count == 1 else round(4 + (_HEIGHT - 8) * index / (count - 1))


def _percentile(samples: tuple[float, ...]) -> float:
    return sorted(samples)[math.ceil(0.95 * len(samples)) - 1]
