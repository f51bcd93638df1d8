"""Numbers in words: seconds, ratios, percent, counts and bytes, to three digits and in a fitting unit."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_COUNTS = ((1.0, ""), (1e3, " k"), (1e6, " M"), (1e9, " G"))
_BYTES = ((1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"), (1024**4, "TiB"))
# A terminal would obey escape sequences in a message; other control characters would break a table's lines.
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


def digits(value: float, count: int = 3) -> str:
    """Return `value` to `count` significant digits, never with an exponent."""
    if value == 0:
        return "0"
    rounded = _rounded(value, Decimal(value).adjusted() - count + 1)
    # 9.999 becomes 10.00, which needs one decimal less than 9.99 does
    return f"{rounded:.{max(0, count - 1 - rounded.adjusted())}f}"


def seconds(value: float) -> str:
    """Return a time given in seconds: `1.23 ms`."""
    scale, unit = _time_unit(value)
    return f"{digits(value / scale)} {unit}"


def seconds_between(low: float, high: float) -> str:
    """Return two times in one unit, which fits the longer one: `1.22-1.25 ms`."""
    scale, unit = _time_unit(max(abs(low), abs(high)))
    return f"{between(low / scale, high / scale, digits)} {unit}"


def ratio(value: float, count: int = 3) -> str:
    """Return a ratio to three digits; just above 1 to three decimals, so that 0.997 and 1.013 read alike."""
    return str(_rounded(value, -count)) if 0.9995 <= value < 1.0995 else digits(value, count)


def ratio_between(low: float, high: float) -> str:
    """Return two ratios as a span: `0.421-0.449`."""
    return between(low, high, ratio)


def between(low: float, high: float, word: Callable[[float, int], str], to: str = "-") -> str:
    """Return two numbers as a span, of three digits or as many as tell them apart; of one that six do not, the one."""
    for count in range(3, 7):
        if word(low, count) != word(high, count):
            return f"{word(low, count)}{to}{word(high, count)}"
    return word(low, 3)


def times(factor: float) -> str:
    """Return how many times as fast or slow: two digits below 100 and three above, such as `2.3x` or `118x`."""
    return f"{digits(factor, 2 if factor < 99.5 else 3)}x"


def percent(share: float, count: int = 3) -> str:
    """Return a measured share of 1 as percent: 0.034 is `3.40 %`."""
    return f"{digits(100 * share, count)} %"


def ordinal(count: int) -> str:
    """Return a count as an ordinal number: `1st`, `22nd`, `13th`."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{'th' if count % 100 in (11, 12, 13) else ending}"


def setting(share: float) -> str:
    """Return a share of 1 that was chosen, not measured, as percent: 0.01 is `1 %`."""
    return f"{round(100 * share, 6):g} %"


def number(value: float) -> str:
    """Return a count or a rate: `950`, `12.3 k`, `4.56 M`."""
    if isinstance(value, int) and abs(value) < 1000:
        return str(value)
    scale, unit = _last_fitting(_COUNTS, value)
    return f"{digits(value / scale)}{unit}"


def size(count: int) -> str:
    """Return bytes in binary units: `512 B`, `1.50 MiB`."""
    scale, unit = _last_fitting(_BYTES, count)
    return f"{count} B" if scale == 1 else f"{digits(count / scale)} {unit}"


def size_between(low: int, high: int) -> str:
    """Return two numbers of bytes in one unit, which fits the larger one: `24.0 to 48.0 MiB`.

    One that is less than a hundredth of the other is nothing beside it: `0 to 48.0 MiB`.
    """
    scale, unit = _last_fitting(_BYTES, high)
    if scale == 1:
        return f"{low} to {high} B"
    if 100 * low < high:
        return f"0 to {digits(high / scale)} {unit}"
    return f"{between(low / scale, high / scale, digits, ' to ')} {unit}"


def one_line(text: str, most: int = 300) -> str:
    """Return `text` as one line of at most `most` characters, without control characters.

    It is cut after a word, unless its last one is as long as half of it.
    """
    line = _CONTROL.sub(" ", _ESCAPE_SEQUENCE.sub("", text)).strip()
    if len(line) <= most:
        return line
    end = line.rfind(" ", most // 2, most)
    return line[: end if end > 0 else most - 1].rstrip(" ,;:(") + "…"


def _rounded(value: float, exponent: int) -> Decimal:
    """Return `value` to a multiple of a power of ten; a tie goes up, as it does where the panel words a ratio."""
    return Decimal(value).quantize(Decimal(1).scaleb(exponent), ROUND_HALF_UP)


def _time_unit(value: float) -> tuple[float, str]:
    """Return the largest unit in which `value`, rounded to three digits, is at least 1."""
    for scale, unit in _TIMES:
        if abs(value) >= 0.9995 * scale:
            return scale, unit
    return _TIMES[0] if value == 0 else _TIMES[-1]


def _last_fitting(units: tuple[tuple[float, str], ...], value: float) -> tuple[float, str]:
    fitting = [unit for unit in units if abs(value) >= 0.9995 * unit[0]]
    return fitting[-1] if fitting else units[0]
