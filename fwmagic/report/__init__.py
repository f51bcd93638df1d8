"""The report of a run: its data, and the views that are bound to it here, so that no data needs to know a view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fwmagic.report import charts, html, text
from fwmagic.report.report import (
    FEWEST_POINTS,
    MIME,
    MOST_ALL,
    MOST_POINTS,
    NEUTRAL,
    VERSION,
    Agreement,
    Allocation,
    Amount,
    Compilation,
    Conditions,
    Failure,
    Finding,
    How,
    Kind,
    Ledger,
    Moment,
    Place,
    Ratio,
    Regime,
    Report,
    Stage,
    Time,
    Timeline,
    Variant,
    Verdict,
    Way,
    turned,
)
from fwmagic.report.words import to_words, uses_memory

__all__ = [
    "MIME",
    "MOST_POINTS",
    "NEUTRAL",
    "VERSION",
    "Agreement",
    "Allocation",
    "Amount",
    "Compilation",
    "Conditions",
    "Failure",
    "Finding",
    "How",
    "Kind",
    "Ledger",
    "Moment",
    "Place",
    "Ratio",
    "Regime",
    "Report",
    "Stage",
    "Time",
    "Timeline",
    "Variant",
    "Verdict",
    "Way",
    "turned",
]


def _mimebundle(report: Report, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    """Return all forms of a report that a notebook stores: JSON with its words, HTML, and a text."""
    shared = _shared(report)
    # Twelve variants take little more room than four.
    most = min(MOST_POINTS, max(MOST_ALL // (len(report.variants) or 1), FEWEST_POINTS))
    stored = {**shared.to_dict(most), "words": to_words(shared)}
    return {MIME: stored, "text/html": html.to_html(shared), "text/plain": text.to_text(shared)}


def _shared(report: Report) -> Report:
    """Return what of a report is for a notebook: not what else runs on this machine, nor memory that is not shown."""
    variants = report.variants
    if not uses_memory(report):
        variants = tuple(replace(v, memory=tuple(one for one in v.memory if one.in_use is None)) for v in variants)
    # Of twelve variants busy with the same neighbours, 66 ratios say so: the words tell it of those that are shown.
    base = report.baseline
    ratios = tuple(r if base is None or base in (r.variant, r.over) else replace(r, note="") for r in report.ratios)
    return replace(report, variants=variants, ratios=ratios, conditions=replace(report.conditions, neighbours=()))


# What Python and IPython ask of an object that is shown, and the methods that users call.
Report.__str__ = text.to_text  # type: ignore[method-assign, assignment]
Report.details = text.to_details  # type: ignore[method-assign, assignment]
Report.to_markdown = text.to_markdown  # type: ignore[method-assign, assignment]
Report.to_html = html.to_html  # type: ignore[method-assign, assignment]
Report.to_svg = charts.to_svg  # type: ignore[method-assign, assignment]
Report._repr_mimebundle_ = _mimebundle  # type: ignore[method-assign, assignment]
