"""The Markdown of the figures: tables, and numbers in them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

Row = Sequence[str]


def table(heads: Row, rows: Iterable[Row]) -> str:
    """Return a table; a bar in a cell stays one."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def median(values: Iterable[float]) -> float | None:
    """Return the median; None of nothing."""
    some = list(values)
    return statistics.median(some) if some else None


def percent(value: float | None, digits: int = 0) -> str:
    """Return a fraction in percent."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, scale: float = 1.0) -> str:
    """Return a number, scaled, to four digits."""
    return "–" if value is None else f"{value * scale:.4g}"
