"""A chart of a report as a static picture: the specification that the panel in JupyterLab draws, as SVG."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from fwmagic.errors import FwMagicError
from fwmagic.format import one_line
from fwmagic.report import wire, words
from fwmagic.report.report import Report, points_of
from fwmagic.report.scale import scale
from fwmagic.report.tables import incomparable

# The oldest that the package has: JupyterLab 4 brings Vega-Lite 5.6, which the charts are written for.
_VEGA_LITE = "5.8"
# A grey that is read on a light and on a dark ground, since the picture brings no ground.
_GREY, _FAINT = "#767676", "#76767640"
_CONFIG = {
    "axis": {
        "labelColor": _GREY,
        "titleColor": _GREY,
        "titleFontWeight": "normal",
        "domainColor": _GREY,
        "tickColor": _GREY,
        "gridColor": _FAINT,
    },
    "legend": {"labelColor": _GREY},
    "text": {"color": _GREY},
    "view": {"stroke": None},
}


def to_svg(report: Report, chart: str = "times", width: int = 600) -> str:
    """Return a chart of a report as SVG, `width` pixels wide and as high as its rows need.

    Raises
    ------
    ValueError
        There is no such chart, or nothing to draw in it.
    FwMagicError
        The package that draws it is not installed.
    """
    if chart not in words.CHARTS:
        raise ValueError(f"there is no chart {chart!r}: choose one of {', '.join(words.CHARTS)}")
    if chart not in words.charts(report):
        raise ValueError(f"this report has nothing to draw in a chart of {chart}")
    try:
        import vl_convert
    except ImportError:
        raise FwMagicError("a picture needs a package more: pip install 'fwmagic[picture]'") from None
    spec = json.loads(files("fwmagic").joinpath("charts", f"{chart}.json").read_text(encoding="utf-8"))
    spec |= {
        "datasets": {"variants": _chart_variants(report), "ratios": _chart_ratios(report)},
        "width": width,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
    }
    return vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE, allowed_base_urls=[])


def _chart_variants(report: Report) -> list[dict[str, Any]]:
    # There and back: the specifications read every field, and a thinned report leaves out what holds its default.
    thinned = Report.from_json(words.ranked(report).to_dict(points_of(len(report.variants))))
    shown = scale(v.time for v in report if v.time is not None)
    void = incomparable(report)
    return [
        {**row, "label": one_line(row["name"]), "shown": shown, "void": row["name"] in void}
        for row in thinned.to_dict()["variants"]
    ]


def _chart_ratios(report: Report) -> list[dict[str, Any]]:
    colours, void = {variant.name: variant.colour for variant in report}, incomparable(report)
    over = report.over_baseline()
    ratios = (over[variant.name] for variant in words.ranked(report) if variant.name in over)
    return [
        {**wire.encode(r, None), "label": one_line(r.variant), "colour": colours[r.variant], "void": r.variant in void}
        for r in ratios
    ]
