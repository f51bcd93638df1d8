"""The report: frozen dataclasses, and the JSON that they become and are read from."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fwmagic import wire
from fwmagic.parts import (
    Agreement,
    Allocation,
    Amount,
    Compilation,
    Failure,
    Finding,
    Ledger,
    Moment,
    Place,
    Stage,
    Time,
    Timeline,
)

__all__ = [
    "MIME",
    "MOST_POINTS",
    "VERSION",
    "Agreement",
    "Allocation",
    "Amount",
    "Compilation",
    "Conditions",
    "Failure",
    "Finding",
    "Ledger",
    "Moment",
    "Place",
    "Ratio",
    "Report",
    "Stage",
    "Time",
    "Timeline",
    "Variant",
    "turned",
]

VERSION = 1
MIME = f"application/vnd.fwmagic.report.v{VERSION}+json"
#: A report stored in a notebook carries at most this many samples a variant; `to_json()` has all.
MOST_POINTS = 60


@dataclass(frozen=True)
class Variant:
    """One way to run a section: framework, mode and what was found out about it.

    `status` is waiting, running, timed, run-once, failed, not timed or interrupted; `note` says why when it
    is not `timed`. `returned` names the values that the program returns; `source` is the program as Python.
    `memory` has one ledger a device, that which it computes on first; `source` is left out where a report is thinned.
    `outputs` are the live values of its first run and never part of the JSON.
    """

    name: str
    section: str
    framework: str
    mode: str
    status: str
    note: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    returned: tuple[str, ...] = ()
    time: Time | None = None
    compilation: Compilation | None = None
    agreement: Agreement | None = None
    failure: Failure | None = None
    memory: tuple[Ledger, ...] = ()
    source: str = field(default="", metadata={"thinned": lambda *_: ""})
    outputs: Any = field(default=None, compare=False, repr=False, metadata={"json": False})


@dataclass(frozen=True)
class Ratio:
    """Time of `variant` over time of `over`, from paired blocks: below 1, `variant` is quicker.

    `verdict` says what `variant` is: faster, slower, same, undecided, or withheld (with `note` saying why).
    `low` and `high` are the 95 % interval of the median ratio; None when there are fewer than six batches,
    and `least` and `most` then give the range seen.
    """

    variant: str
    over: str
    median: float
    low: float | None
    high: float | None
    least: float
    most: float
    verdict: str
    rounds: int
    batches: int
    repeatable: bool = True
    note: str = ""


@dataclass(frozen=True)
class Conditions:
    """What the numbers hold for: versions, devices, threads, precision, and the load by other processes."""

    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    threads: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""
    load_before: float | None = None
    load_during: float | None = None
    neighbours: tuple[str, ...] = ()
    machine: str = ""
    process: str = "the kernel's own process"


@dataclass(frozen=True)
class Report:
    """Everything about one execution of a magic, or of `fwmagic.compare`.

    `state` is running, done, interrupted or failed; `progress` the share of the budget used, 0 to 1;
    `budget` and `spent` are wall seconds of warm-up and rounds, all variants together; `margin` the relative
    difference below which two variants are called the same.
    """

    run_id: str
    started: str
    magic: str
    state: str
    variants: tuple[Variant, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    findings: tuple[Finding, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    budget: float = 2.0
    spent: float = 0.0
    margin: float = 0.01
    baseline: str | None = None
    fastest: str | None = None
    progress: float = 0.0
    execution_count: int | None = None
    note: str = ""
    version: int = VERSION

    def __getitem__(self, name: str) -> Variant:
        for variant in self.variants:
            if variant.name == name:
                return variant
        same_section = [variant for variant in self.variants if variant.section == name]
        if len(same_section) == 1:
            return same_section[0]
        names = ", ".join(variant.name for variant in self.variants) or "none"
        raise KeyError(f"no variant {name!r} in this report; it has: {names}")

    def __iter__(self) -> Iterator[Variant]:
        return iter(self.variants)

    def ratio(self, variant: str, over: str | None = None) -> Ratio:
        """Return the ratio of `variant`'s time over that of `over` (default: the baseline).

        Raises
        ------
        KeyError
            No such pair was timed against each other.
        """
        wanted = self[variant].name
        base = self[over].name if over is not None else self.baseline
        for ratio in self.ratios:
            if (ratio.variant, ratio.over) == (wanted, base):
                return ratio
            if (ratio.over, ratio.variant) == (wanted, base):
                return turned(ratio)
        pairs = ", ".join(f"{r.variant}/{r.over}" for r in self.ratios) or "none"
        raise KeyError(f"no ratio of {wanted!r} over {base!r} in this report; it has: {pairs}")

    def to_dict(self, most_points: int | None = None) -> dict[str, Any]:
        """Return the report as JSON-ready values.

        With `most_points`, samples are thinned evenly to that many (timelines to fewer), and numbers rounded to five
        digits: half the size.
        """
        return typing.cast("dict[str, Any]", wire.plain(self, most_points))

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the whole report as JSON text, every sample included; write it to `path` if one is given."""
        text = json.dumps(self.to_dict(), allow_nan=False)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @staticmethod
    def from_json(text: str | bytes | Mapping[str, Any]) -> Report:
        """Return the report that `to_json` or a notebook's stored output holds.

        Raises
        ------
        ValueError
            The text is not a report, or is one of a version that this fwmagic does not know.
        """
        data = text if isinstance(text, Mapping) else json.loads(text)
        if not isinstance(data, Mapping):
            raise ValueError("not a fwmagic report: a JSON object was expected")
        if data.get("version") != VERSION:
            raise ValueError(
                f"report version {data.get('version')!r} is not known to this fwmagic (it reads {VERSION}): "
                "update fwmagic to open it"
            )
        return typing.cast("Report", wire.typed(Report, data, "report"))

    def __str__(self) -> str:
        from fwmagic.text import to_text

        return to_text(self)

    def to_markdown(self) -> str:
        """Return the verdicts and the table as Markdown, for a paper or an issue."""
        from fwmagic.text import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """Return the report as static HTML without a script."""
        from fwmagic.html import to_html

        return to_html(self)

    def to_svg(self, chart: str = "times") -> str:
        """Return a chart of the report as SVG: times, stages, ratios, memory or timeline.

        Raises
        ------
        ValueError
            There is no such chart, or nothing to draw in it.
        FwMagicError
            The package that draws it is not installed.
        """
        from fwmagic.picture import to_svg

        return to_svg(self, chart)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from fwmagic.text import to_text
        from fwmagic.words import to_words

        stored = {**self.to_dict(MOST_POINTS), "words": to_words(self)}
        return {MIME: stored, "text/html": self.to_html(), "text/plain": to_text(self, short=True)}


def turned(ratio: Ratio) -> Ratio:
    """Return the same pair seen from the other side."""
    opposite = {"faster": "slower", "slower": "faster"}
    return dataclasses.replace(
        ratio,
        variant=ratio.over,
        over=ratio.variant,
        median=1 / ratio.median,
        low=None if ratio.high is None else 1 / ratio.high,
        high=None if ratio.low is None else 1 / ratio.low,
        least=1 / ratio.most,
        most=1 / ratio.least,
        verdict=opposite.get(ratio.verdict, ratio.verdict),
    )
