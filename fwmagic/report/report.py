"""The report: frozen dataclasses for a run, its variants and their parts."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from fwmagic.report import wire
from fwmagic.report.ledger import Ledger
from fwmagic.report.wire import Colour, Count, LineNumber, NotNegative, Positive, Share

VERSION: Final = 1
MIME = f"application/vnd.fwmagic.report.v{VERSION}+json"
#: A report stored in a notebook carries at most this many samples a variant; `to_json()` has all.
MOST_POINTS = 20
#: Of many variants each carries fewer, so that all together have about so many, and none has fewer than some.
MOST_ALL, FEWEST_POINTS = 192, 12
#: It carries so many characters of the cell, in whole lines: a notebook holds the cell anyway.
MOST_CELL = 4000

State = Literal["running", "done", "interrupted", "failed"]
Status = Literal["waiting", "running", "timed", "run-once", "failed", "not timed", "interrupted"]
Way = Literal["yours", "cell", "modules", "functions", "eager"]
Agrees = Literal["agrees", "differs", "not compared"]
#: With what a sentence on outputs begins, or its part on those of them, that were not compared.
NOT_COMPARED = "not compared: "
Verdict = Literal["faster", "slower", "same", "undecided", "withheld"]
#: What is drawn in no framework's colour.
NEUTRAL = "#CC79A7"


def points_of(variants: int) -> int:
    """Return how many samples of each are stored and drawn, of so many variants: twelve take little more than four."""
    return min(MOST_POINTS, max(MOST_ALL // (variants or 1), FEWEST_POINTS))


def some_samples(samples: tuple[float, ...], most: int) -> tuple[float, ...]:
    """Return at most so many, of four digits: they are for a drawing."""
    return tuple(float(f"{sample:.4g}") for sample in wire.spread(samples, most))


@dataclass(frozen=True)
class Time:
    """The time of one call of a variant, in seconds.

    Attributes
    ----------
    samples
        One value a block: its seconds divided by its calls. A stored report holds at most 30.
    median
        Median of the samples, in seconds.
    low
        Lower bound of the median's 95 % interval, in seconds; null: too few samples for an interval.
    high
        Upper bound of the median's 95 % interval, in seconds; null: too few samples for an interval.
    calls_per_block
        Calls timed as one block.
    calls
        Calls timed in all.
    dispatch
        Seconds of a call until it returned; null: not known apart.
    wait
        Seconds of a call from its return until its outputs were ready; null: not known apart.
    alone
        Seconds of a call in a tight loop of this variant, without the others in between; null: not known.
    cores
        CPU time of the process over wall time; null: not known.
    page_faults
        Pages of memory that a call got anew from the system; null: not known.
    warm
        Whether the time had settled when the rounds began.
    voided
        Blocks left out because something was compiled in them.
    items_per_second
        Items that a call works on, per second; null: not asked for.
    source
        How the times were obtained.
    """

    samples: tuple[NotNegative, ...] = field(metadata={"thinned": some_samples})
    median: NotNegative
    low: NotNegative | None
    high: NotNegative | None
    calls_per_block: Count
    calls: Count
    dispatch: NotNegative | None = None
    wait: NotNegative | None = None
    alone: NotNegative | None = None
    cores: NotNegative | None = None
    page_faults: NotNegative | None = None
    warm: bool = True
    voided: Count = 0
    items_per_second: NotNegative | None = None
    source: str = "time.perf_counter around blocks of calls whose outputs were waited for"

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the median; None: too few samples for one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Stage:
    """One stage of making a program ready.

    Attributes
    ----------
    name
        prime, tried before, trace, lower, backend or first run.
    seconds
        Seconds that it took; null: not available, and the source says why.
    source
        How the seconds were obtained, or why they are not available; a stored report leaves it out.
    """

    name: str
    seconds: NotNegative | None
    source: str = field(default="", metadata={"thinned": lambda *_: ""})


@dataclass(frozen=True)
class Place:
    """Something that happened at a line of the user's cell.

    Attributes
    ----------
    line
        Line of the user's cell, from 1; null: no line is known.
    reason
        What happened there, and why.
    """

    line: LineNumber | None
    reason: str


@dataclass(frozen=True)
class Compilation:
    """How the body of a variant was compiled.

    Attributes
    ----------
    way
        yours: the user compiled it; cell: one function; modules, functions: compiled in place; eager: not compiled.
    reason
        Why it was compiled in this way and not in a fuller one; empty if there is none.
    line
        Line of the user's cell, from 1; null: no line is known.
    compiled
        Names of the modules or functions that were compiled in place.
    stages
        The stages, in their order.
    cache
        Whether the backend compiled afresh or read a cache, or unknown.
    graphs
        Graphs or traces that were compiled; null: not known.
    breaks
        Where a graph broke.
    recompiles
        Where something was compiled again.
    lifted
        Captured arrays that were made arguments.
    every_call
        Whether every call compiles.
    """

    way: Way
    reason: str = ""
    line: LineNumber | None = None
    compiled: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    cache: str = "unknown"
    graphs: Count | None = None
    breaks: tuple[Place, ...] = ()
    recompiles: tuple[Place, ...] = ()
    lifted: Count = 0
    every_call: bool = False


@dataclass(frozen=True)
class Agreement:
    """Whether the outputs of a variant equal those of the reference.

    Attributes
    ----------
    reference
        What they were compared with.
    status
        The result of the comparison.
    sentence
        The first difference, the tolerance, or why nothing was compared; empty in a notebook where a finding says it.
    path
        Where in the outputs the first difference lies, or what agrees only beside far larger values; null: nowhere.
    pair
        What the reference and the variant have there, in short; empty where no two words say it.
    """

    reference: str
    status: Agrees
    sentence: str = ""
    path: str | None = None
    pair: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether what was compared agrees, and something was not, as the sentence says."""
        return self.status == "agrees" and NOT_COMPARED in self.sentence


@dataclass(frozen=True)
class Finding:
    """One remark on fairness or correctness.

    Attributes
    ----------
    code
        Its code, such as FW203.
    sentence
        What was found.
    fix
        What to do about it.
    variant
        The variant that it is about; null: all of them.
    line
        Line of the user's cell, from 1; null: no line is known.
    """

    code: str
    sentence: str
    fix: str
    variant: str | None = None
    line: LineNumber | None = None


@dataclass(frozen=True)
class Failure:
    """What a variant raised.

    Attributes
    ----------
    error
        The class of the exception.
    message
        Its message; a stored report holds its first line here, and more of it in words.
    line
        Line of the user's cell, from 1; null: no line is known.
    stage
        What was being done.
    """

    error: str
    message: str = field(metadata={"thinned": lambda text, _: text.partition("\n")[0]})
    line: LineNumber | None
    stage: str


@dataclass(frozen=True)
class Variant:
    """One way to run a section, and what was found out about it.

    `outputs` are the live values of its first run and never part of the JSON.

    Attributes
    ----------
    name
        Its name, unique in the report.
    section
        The section that it runs.
    framework
        torch, jax, numpy, or the name of another framework.
    mode
        eager, compiled, debug, or how else it runs.
    status
        How far it got; the note says why when it is not timed.
    note
        Why the status is what it is; empty if there is nothing to say.
    options
        Its own options.
    returned
        Names of the values that the program returns.
    time
        Its time; null: it was not timed.
    compilation
        How it was compiled; null: it did not get there.
    agreement
        Whether its outputs agree; null: it did not get there, or `--no-check`.
    failure
        What it raised; null: nothing.
    memory
        Its memory, one ledger a device; empty: it was not measured.
    source
        The program that was timed, as Python.
    colour
        Its framework's, as `#RRGGBB`.
    """

    name: str
    section: str
    framework: str
    mode: str
    status: Status
    note: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    returned: tuple[str, ...] = ()
    time: Time | None = None
    compilation: Compilation | None = None
    agreement: Agreement | None = None
    failure: Failure | None = None
    memory: tuple[Ledger, ...] = ()
    source: str = field(default="", metadata={"thinned": lambda *_: ""})
    colour: Colour = NEUTRAL
    outputs: Any = field(default=None, compare=False, repr=False, metadata={"json": False})

    @property
    def compile_stages(self) -> list[tuple[Stage, float]]:
        """What was spent on compiling, by stage: without prime, which is once a process, and the first run."""
        stages = self.compilation.stages if self.compilation is not None else ()
        known = ((stage, stage.seconds) for stage in stages if stage.name not in ("prime", "first run"))
        return [(stage, value) for stage, value in known if value is not None]


@dataclass(frozen=True)
class Regime:
    """A level at which a ratio stayed for a while, in a run in which it moved between two.

    Attributes
    ----------
    median
        Median ratio there.
    share
        The share of the rounds that were there.
    """

    median: Positive
    share: NotNegative


@dataclass(frozen=True)
class Ratio:
    """Time of one variant over that of another, from paired blocks: below 1, `variant` is quicker.

    Attributes
    ----------
    variant
        The variant whose time is divided.
    over
        The variant by whose time it is divided.
    median
        Median ratio.
    low
        Lower bound of its 95 % interval; null: fewer than six batches.
    high
        Upper bound of its 95 % interval; null: fewer than six batches.
    verdict
        What `variant` is; withheld: the note says why.
    rounds
        Rounds that it comes from; 0: not stored, as of two variants of which none is the baseline.
    batches
        Batches of rounds that the interval comes from; 0: not stored.
    least
        Least ratio seen; null: not known, or not stored since there is an interval.
    most
        Greatest ratio seen; null: not known, or not stored since there is an interval.
    repeatable
        Whether the parts of the run agreed; if not, the interval was widened.
    regimes
        The two levels between which the ratio moved, the lower one first; empty: it did not.
    note
        What else is to be known; empty if there is nothing.
    """

    variant: str
    over: str
    median: Positive
    low: NotNegative | None
    high: NotNegative | None
    verdict: Verdict
    rounds: Count = 0
    batches: Count = 0
    least: NotNegative | None = None
    most: NotNegative | None = None
    repeatable: bool = True
    regimes: tuple[Regime, ...] = ()
    note: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the median ratio; None: fewer than six batches."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Conditions:
    """What the numbers hold for.

    Attributes
    ----------
    versions
        Versions by package.
    devices
        The device in words, by framework.
    threads
        Threads that a framework computes with, in words, by framework.
    settings
        Flags that change speed or precision, and are not as their framework comes.
    inputs
        Names, dtypes and shapes of the inputs that were converted; empty if there are none.
    load_before
        Cores busy with other processes before the timing; null: not known.
    load_during
        Cores busy with other processes while timing; null: not known.
    neighbours
        The busiest other processes, in words.
    machine
        Processor and cores, in words.
    process
        The process that the variants ran in, in words.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    threads: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""
    load_before: NotNegative | None = None
    load_during: NotNegative | None = None
    neighbours: tuple[str, ...] = ()
    machine: str = ""
    process: str = "the kernel's own process"


@dataclass(frozen=True)
class Report:
    """Everything about one execution of a fwmagic magic, or of fwmagic.compare. All times are seconds.

    Attributes
    ----------
    run_id
        Tells this execution from every other.
    started
        When it began, in ISO 8601.
    magic
        The magic or function that was called.
    state
        running: an update will follow; the others are final.
    variants
        The variants, in the order of the cell.
    ratios
        The pairs that were timed against each other.
    findings
        Remarks on fairness and correctness.
    conditions
        What the numbers hold for.
    budget
        Wall seconds allowed for warm-up and rounds, all variants together.
    spent
        Wall seconds used of the budget.
    margin
        Relative difference below which two variants are called the same.
    baseline
        The variant that the others are compared with; null: there is none.
    fastest
        The variant that beats every other by verdict; null: there is none.
    progress
        Share of the budget used.
    execution_count
        The notebook's number of the cell; null: no notebook.
    note
        What else is to be known of the run; empty if there is nothing.
    cell
        The cell as it was written, its magic included; empty: there is none. A stored report holds 4000 characters at
        most.
    updated
        When it last changed, in ISO 8601; empty: not known.
    version
        Version of this format.
    """

    run_id: str
    started: str
    magic: str
    state: State
    variants: tuple[Variant, ...] = ()
    ratios: tuple[Ratio, ...] = field(default=(), metadata={"thinned": lambda all, _: tuple(map(_with_one_span, all))})
    findings: tuple[Finding, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    budget: NotNegative = 2.0
    spent: NotNegative = 0.0
    margin: NotNegative = 0.01
    baseline: str | None = None
    fastest: str | None = None
    progress: Share = 0.0
    execution_count: Count | None = None
    note: str = ""
    cell: str = field(default="", metadata={"thinned": lambda text, _: _first_lines(text)})
    updated: str = ""
    version: Literal[1] = field(default=VERSION, metadata={"always": True})

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

    def over_baseline(self) -> dict[str, Ratio]:
        """Return each variant's ratio over the baseline by the variant's name; without a baseline, all as they are."""
        names = {variant.name for variant in self.variants}
        found: dict[str, Ratio] = {}
        for r in self.ratios:
            if self.baseline in (None, r.over):
                found.setdefault(r.variant, r)
            elif r.variant == self.baseline and {r.variant, r.over} <= names:
                found.setdefault(r.over, turned(r))
        return found

    def to_dict(self, most_points: int | None = None) -> dict[str, Any]:
        """Return the report as JSON-ready values.

        With `most_points`, samples are thinned evenly to that many (timelines to fewer), numbers rounded to five
        digits, and fields left out that hold their defaults: a third of the size.
        """
        return typing.cast("dict[str, Any]", wire.encode(self, most_points))

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
        return typing.cast("Report", wire.decode(Report, data, "report"))

    if TYPE_CHECKING:  # the views, which know the data and not the other way: the package binds them to this class

        def details(self) -> str:
            """Return everything that the report tells, as text; `print(report)` is the first look."""

        def to_markdown(self) -> str:
            """Return the verdicts and the table as Markdown, for a paper or an issue."""

        def to_html(self) -> str:
            """Return the report as static HTML without a script."""

        def to_svg(self, chart: str = "times", width: int = 600) -> str:
            """Return a chart of the report as SVG."""

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]: ...


def _first_lines(text: str) -> str:
    """Return the text, or of a long one the first whole lines."""
    return text if len(text) <= MOST_CELL else text[: text.rfind("\n", 0, MOST_CELL) + 1]


def _with_one_span(ratio: Ratio) -> Ratio:
    """Return a ratio without the range that was seen, if it has an interval: of twelve variants there are 66."""
    return ratio if ratio.interval is None else dataclasses.replace(ratio, least=None, most=None)


def turned(ratio: Ratio) -> Ratio:
    """Return the same pair seen from the other side."""
    opposite: dict[Verdict, Verdict] = {"faster": "slower", "slower": "faster"}
    return dataclasses.replace(
        ratio,
        variant=ratio.over,
        over=ratio.variant,
        median=1 / ratio.median,
        low=None if ratio.high is None else 1 / ratio.high,
        high=None if ratio.low is None else 1 / ratio.low,
        least=None if ratio.most is None else 1 / ratio.most,
        most=None if ratio.least is None else 1 / ratio.least,
        regimes=tuple(Regime(1 / one.median, one.share) for one in reversed(ratio.regimes)),
        verdict=opposite.get(ratio.verdict, ratio.verdict),
    )
