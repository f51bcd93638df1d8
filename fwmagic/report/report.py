"""The report: frozen dataclasses for a run, its variants and their parts."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwmagic.report import wire

#: A stored report carries at most this many moments of a timeline: there may be one for each variant and device.
MOST_MOMENTS = 12


#: What is drawn in no framework's colour; also the variants of reports that were stored before they had one.
NEUTRAL = "#CC79A7"


@dataclass(frozen=True)
class Time:
    """The time of one call of a variant, in seconds.

    `samples` holds one value a block: its seconds divided by its `calls_per_block`. `low` and `high` bound
    the median (None: too few samples for an interval). `dispatch` is the part until the call returned,
    `wait` the part until its outputs were ready; `cores` is CPU time over wall time of this process.
    """

    samples: tuple[float, ...]
    median: float
    low: float | None
    high: float | None
    calls_per_block: int
    calls: int
    dispatch: float | None = None
    wait: float | None = None
    cores: float | None = None
    warm: bool = True
    voided: int = 0
    items_per_second: float | None = None
    source: str = "time.perf_counter around blocks of calls whose outputs were waited for"


@dataclass(frozen=True)
class Stage:
    """One stage of making a program ready: prime, trace, lower, backend or first run; seconds or why not."""

    name: str
    seconds: float | None
    source: str


@dataclass(frozen=True)
class Place:
    """Something that happened at a line of the user's cell (1-based; None: no line is known)."""

    line: int | None
    reason: str


@dataclass(frozen=True)
class Compilation:
    """How a variant's body was compiled: `way` is yours, cell, modules, functions or eager; `reason` says why."""

    way: str
    reason: str
    line: int | None = None
    compiled: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    cache: str = "unknown"
    graphs: int | None = None
    breaks: tuple[Place, ...] = ()
    recompiles: tuple[Place, ...] = ()
    lifted: int = 0
    every_call: bool = False


@dataclass(frozen=True)
class Agreement:
    """Whether a variant's outputs equal the reference's: status is agrees, differs or not compared."""

    reference: str
    status: str
    sentence: str
    path: str | None = None


@dataclass(frozen=True)
class Finding:
    """One remark on fairness or correctness: a code such as FW203, a sentence, and what to do about it."""

    code: str
    sentence: str
    fix: str
    variant: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Failure:
    """What a variant raised: the class, its message, the line of the user's cell, and the stage it happened in."""

    error: str
    message: str
    line: int | None
    stage: str


@dataclass(frozen=True)
class Amount:
    """One segment of a ledger in bytes; None: not available, and `source` says why.

    `name` is other processes, context, in use, free in pool, unexplained or free; a name that begins with
    `in use` tells in parentheses how it was found, such as `in use (static)`. Of what is `released` by a policy,
    it says after what: after del, or after empty_cache().
    """

    name: str
    bytes: int | None
    source: str


@dataclass(frozen=True)
class Moment:
    """One point of a timeline: seconds from its start, and the bytes in use and held then (None: not known)."""

    seconds: float
    in_use: int | None
    held: int | None


@dataclass(frozen=True)
class Timeline:
    """The course of a ledger, a column for each part of its moments; a column without entries is not known."""

    seconds: tuple[float, ...] = ()
    in_use: tuple[int | None, ...] = ()
    held: tuple[int | None, ...] = ()

    @staticmethod
    def of(moments: Iterable[Moment]) -> Timeline:
        """Return the timeline of moments in their order."""
        some = list(moments)
        columns = (tuple(m.in_use for m in some), tuple(m.held for m in some))
        known = (column if any(count is not None for count in column) else () for column in columns)
        return Timeline(tuple(m.seconds for m in some), *known)

    def __len__(self) -> int:
        return len(self.seconds)

    def __iter__(self) -> Iterator[Moment]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> Moment:
        columns = (column[place] if column else None for column in (self.in_use, self.held))
        return Moment(self.seconds[place], *columns)

    def thinned(self, most: int) -> Timeline:
        """Return at most so many moments: of each stretch the one with the most memory, and the last one."""
        if len(self) <= most:
            return self
        *inner, last = self
        step = len(inner) / (most - 1)
        stretches = (inner[int(i * step) : int((i + 1) * step)] for i in range(most - 1))
        return Timeline.of([*(max(one, key=lambda m: (m.in_use or 0, m.held or 0)) for one in stretches), last])


@dataclass(frozen=True)
class Allocation:
    """Bytes that were allocated at the peak by one line of the user's cell (1-based; None: `what` says by what)."""

    line: int | None
    bytes: int
    what: str = ""


@dataclass(frozen=True)
class Ledger:
    """The memory of one device, or of the host, when a variant used the most of it, in bytes.

    The segments of `peak` add up to `total` (None: not known). `start` was there before the run (None: not known):
    on a device it is a part of what is in use, on the host `in use` is what came on top of it. `released` is what
    the allocator still held later, and `lines` what allocated. `source` says where the timeline is from; `note`
    names what does not add up, or is empty.
    """

    device: str
    total: int | None
    peak: tuple[Amount, ...]
    timeline: Timeline = field(default=Timeline(), metadata={"most_points": MOST_MOMENTS, "thinned": Timeline.thinned})
    source: str = ""
    note: str = ""
    start: int | None = None
    released: tuple[Amount, ...] = ()
    lines: tuple[Allocation, ...] = ()


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
    `colour` is its framework's, as `#RRGGBB`. `outputs` are the live values of its first run, never part of the JSON.
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
    colour: str = field(default=NEUTRAL, metadata={"optional": True})
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

    if TYPE_CHECKING:  # the views, which know the data and not the other way: the package binds them to this class

        def to_markdown(self) -> str:
            """Return the verdicts and the table as Markdown, for a paper or an issue."""

        def to_html(self) -> str:
            """Return the report as static HTML without a script."""

        def to_svg(self, chart: str = "times", width: int = 600) -> str:
            """Return a chart of the report as SVG."""

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]: ...


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
