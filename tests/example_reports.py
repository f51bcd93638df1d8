"""Reports for the tests of what is made of a report: one of every state, a big one, and a strategy for any."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from fwmagic.report import (
    NEUTRAL,
    Agreement,
    Amount,
    Compilation,
    Conditions,
    Failure,
    Finding,
    Kind,
    Ledger,
    Moment,
    Place,
    Ratio,
    Report,
    Stage,
    Time,
    Timeline,
    Variant,
)
from fwmagic.report.lines import CodeLine, Lines, LineVisit, Passage

WAYS = ("yours", "cell", "modules", "functions", "eager")
STATUSES = ("waiting", "running", "timed", "run-once", "failed", "not timed", "interrupted")
AGREEMENTS = ("agrees", "differs", "not compared")
VERDICTS = ("faster", "slower", "same", "undecided", "withheld")
KINDS = (
    "other processes",
    "reserved by the driver",
    "context",
    "in use",
    "free in pool",
    "held by others here",
    "unexplained",
    "free",
    "after del",
    "after empty_cache()",
)
HOW = ("measured", "sampled", "static", "last seen")
STATES = ("running", "done", "interrupted", "failed")


def a_time(median: float = 1.23e-3, points: int = 40, **fields: Any) -> Time:
    noise = random.Random(points)
    samples = tuple(median * noise.lognormvariate(0, 0.03) for _ in range(points))
    given: dict[str, Any] = {
        "samples": samples,
        "median": median,
        "low": median * 0.99,
        "high": median * 1.02,
        "calls_per_block": 4,
        "calls": 4 * points,
    }
    given |= {"dispatch": median * 0.1, "wait": median * 0.9, "cores": 1.87}
    return Time(**{**given, **fields})


def a_compilation(**fields: Any) -> Compilation:
    stages = (
        Stage("prime", 8.7, "time.perf_counter"),
        Stage("trace", 0.012, "time.perf_counter"),
        Stage("backend", 0.8, "jax.monitoring"),
        Stage("lower", None, "torch does not report it"),
    )
    return Compilation(**{"way": "cell", "reason": "", "stages": stages, "cache": "cold", "graphs": 1, **fields})


def a_ledger(device: str = "cuda:0", in_use: int = 1200 * 2**20, points: int = 40, **fields: Any) -> Ledger:
    """Return a ledger whose six segments add up to 24 GiB, with a timeline that ends at the peak."""
    total = 24 * 2**30
    segments: dict[Kind, int] = {
        "other processes": 900 * 2**20,
        "context": 520 * 2**20,
        "in use": in_use,
        "free in pool": 2 * in_use,
        "unexplained": 3 * 2**20,
    }
    segments["free"] = total - sum(segments.values())
    given: dict[str, Any] = {
        "total": total,
        "peak": tuple(Amount(kind, count, "NVML") for kind, count in segments.items()),
        "timeline": Timeline.of(
            Moment(0.01 * i, in_use * (i + 1) // points, min(3, 1 + 4 * i // points) * in_use) for i in range(points)
        ),
        "source": "sampled every 10 ms",
    }
    return Ledger(device, **{**given, **fields})


COLOURS = {"torch": "#D55E00", "jax": "#2080C4", "numpy": "#009E73"}


def a_variant(name: str = "torch", **fields: Any) -> Variant:
    framework = name.split(":")[0]
    given = {"section": name, "framework": framework, "mode": "compiled", "status": "timed"}
    given["colour"] = COLOURS.get(framework, NEUTRAL)
    if fields.get("status", "timed") == "timed":
        given |= {"time": a_time(), "compilation": a_compilation()}
    return Variant(name, **{**given, **fields})


def a_ratio(verdict: str = "faster", median: float = 0.43, low: Any = 0.42, high: Any = 0.45, **fields: Any) -> Ratio:
    given = {"variant": "jax", "over": "torch", "least": 0.4, "most": 0.5, "rounds": 120, "batches": 12}
    return Ratio(median=median, low=low, high=high, verdict=verdict, **{**given, **fields})


def a_report(*variants: Variant, **fields: Any) -> Report:
    """Return a finished report; the default is torch against jax."""
    given = {
        "run_id": "3f2a",
        "started": "2026-11-22T10:00:00+00:00",
        "magic": "compare",
        "state": "done",
        "variants": variants or (a_variant("torch"), a_variant("jax", time=a_time(0.53e-3))),
        "conditions": Conditions(
            versions={"torch": "2.13.0", "jax": "0.10.2"},
            devices={"torch": "cpu", "jax": "cpu:0"},
            threads={"torch": "2", "jax": "2"},
            settings={"jax_enable_x64": "False"},
            inputs="W float32 (512, 512)",
            load_before=0.1,
            load_during=0.4,
            neighbours=("chrome (0.3)",),
            machine="2 cores of an AMD EPYC",
        ),
        "spent": 1.9,
        "baseline": "torch",
        "progress": 1.0,
    }
    return Report(**{**given, **fields})


def four_variants(points: int = 1000) -> Report:
    """Return a long run of four variants with all that can be remarked on."""
    finding = Finding("FW203", "torch computes in float32, jax in float64.", "Set the dtype.", "numpy", 3)
    broken = a_compilation(
        way="functions",
        reason="the body trains, so it stays Python",
        line=4,
        compiled=("step", "loss_of"),
        graphs=3,
        breaks=(Place(7, "print() has a side effect"), Place(9, "a value is needed on the host")),
        recompiles=(Place(7, "the shape of x changed from (4, 3) to (5, 3)"),),
        lifted=2,
        every_call=True,
    )
    differs = Agreement("torch:eager", "differs", "12 of 4096 values differ by up to 3.1e-3 (allowed: 1e-5)", "loss[0]")
    variants = (
        a_variant("torch:eager", mode="eager", time=a_time(2.3e-3, points), compilation=Compilation("eager", "asked")),
        a_variant("torch:compiled", time=a_time(1.1e-3, points), compilation=broken),
        a_variant("jax:compiled", time=a_time(0.9e-3, points, items_per_second=71_000.0), agreement=differs),
        a_variant("numpy", mode="eager", time=a_time(4.1e-3, points, dispatch=None, wait=None, warm=False, voided=2)),
    )
    program = "def body(x, w):\n    return (x @ w).sum()\n" * 20
    variants = tuple(replace(v, source=program, returned=("loss", "params")) for v in variants)
    pairs = (("torch:compiled", 0.478), ("jax:compiled", 0.391), ("numpy", 1.78))
    ratios = tuple(
        a_ratio("faster" if r < 1 else "slower", r, r * 0.98, r * 1.02, variant=name, over="torch:eager")
        for name, r in pairs
    )
    general = Finding("FW101", "Another process was busy.", "Close it and run the cell again.")
    return a_report(
        *variants, ratios=ratios, findings=(finding, general), baseline="torch:eager", fastest="jax:compiled", spent=2.0
    )


def twelve_variants(points: int = 200) -> Report:
    """Return a report of twelve variants, the first one the fastest, with the ratios of all pairs."""
    agrees = Agreement("v00", "agrees", "v00 agrees with it within tolerance, of which at most 1.3 % is used", None)
    times = [1e-3 * (1 + 0.1 * i) for i in range(12)]
    variants = tuple(
        a_variant(f"v{i:02}", framework="torch", time=a_time(time, points), agreement=agrees if i else None)
        for i, time in enumerate(times)
    )
    ratios = tuple(
        a_ratio("slower", times[j] / times[i], times[j] / times[i] * 0.98, times[j] / times[i] * 1.02,
                variant=variants[j].name, over=variants[i].name)
        for i, j in itertools.combinations(range(12), 2)
    )  # fmt: skip
    return a_report(*variants, ratios=ratios, baseline="v11", fastest="v00")


def with_memory(points: int = 40) -> Report:
    """Return a finished report of torch and jax, each with the ledgers of a device and of the host."""
    host = Ledger(
        "host",
        None,
        (Amount("in use", 300 * 2**20, "VmHWM"), Amount("other processes", None, why="no permission")),
        source="sampled every 1 ms",
        start=612 * 2**20,
    )
    torch = a_variant("torch", memory=(a_ledger(points=points), host))
    jax = a_variant("jax", time=a_time(0.53e-3), memory=(a_ledger(in_use=800 * 2**20, points=points), host))
    return a_report(torch, jax, ratios=(a_ratio(),))


def with_failure() -> Report:
    """Return a finished report of torch and jax, and of a third variant that raised."""
    failure = Failure("ValueError", "operands could not be broadcast together", 4, "first run")
    broken = a_variant("numpy", mode="eager", status="failed", failure=failure)
    return a_report(a_variant("torch"), a_variant("jax", time=a_time(0.53e-3)), broken, ratios=(a_ratio(),))


def two_runs() -> tuple[Report, Report]:
    """Return a report and that of a later run, in which jax is quicker and torch another version."""
    cell = "%%compare\n%%torch\ntorch.tanh(A @ A)\n%%jax\njnp.tanh(A @ A)"
    first = a_report(ratios=(a_ratio(),), execution_count=1, run_id="1", started="2026-11-22T10:00:00+00:00", cell=cell)
    ratio = a_ratio(median=0.163, low=0.16, high=0.166, least=0.15, most=0.18)
    second = a_report(
        a_variant("torch"), a_variant("jax", time=a_time(0.2e-3)), ratios=(ratio,), execution_count=2, run_id="2",
        started="2026-11-22T11:00:00+00:00",
        conditions=replace(first.conditions, versions={"torch": "2.14.0", "jax": "0.10.2"}),
        cell=cell.replace("jnp.tanh(A @ A)", "jnp.tanh(A @ A, precision='highest')"),
    )  # fmt: skip
    return first, second


_TEXT = st.text(max_size=20)
_FLOAT = st.floats(allow_nan=False, allow_infinity=False)
_POSITIVE = st.floats(min_value=1e-9, max_value=1e6)
_COUNT = st.integers(min_value=0, max_value=10**6)
_LINE = st.none() | st.integers(min_value=1, max_value=999)
_WORDS = st.dictionaries(_TEXT, _TEXT, max_size=3)


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3).map(tuple)


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


_TIMES = st.builds(
    Time,
    samples=_some(_POSITIVE),
    median=_POSITIVE,
    low=_maybe(_POSITIVE),
    high=_maybe(_POSITIVE),
    calls_per_block=_COUNT,
    calls=_COUNT,
    dispatch=_maybe(_POSITIVE),
    wait=_maybe(_POSITIVE),
    cores=_maybe(_POSITIVE),
    warm=st.booleans(),
    voided=_COUNT,
    items_per_second=_maybe(_POSITIVE),
    source=_TEXT,
)
_PLACES = _some(st.builds(Place, line=_LINE, reason=_TEXT))
_STAGES = _some(st.builds(Stage, name=_TEXT, seconds=_maybe(_POSITIVE), source=_TEXT))
_COMPILATIONS = st.builds(
    Compilation,
    way=st.sampled_from(WAYS),
    reason=_TEXT,
    line=_LINE,
    compiled=_some(_TEXT),
    stages=_STAGES,
    cache=_TEXT,
    graphs=_maybe(_COUNT),
    breaks=_PLACES,
    recompiles=_PLACES,
    lifted=_COUNT,
    every_call=st.booleans(),
)
_SIZE = _maybe(st.integers(min_value=0, max_value=2**40))
_LEDGERS = st.builds(
    Ledger,
    device=_TEXT,
    total=_SIZE,
    peak=_some(st.builds(Amount, kind=st.sampled_from(KINDS), bytes=_SIZE, source=_TEXT, why=_TEXT)),
    timeline=_some(st.builds(Moment, seconds=_POSITIVE, in_use=_SIZE, held=_SIZE)).map(Timeline.of),
    source=_TEXT,
    note=_TEXT,
    how=st.sampled_from(HOW),
)
_VARIANTS = st.builds(
    Variant,
    name=_TEXT,
    section=_TEXT,
    framework=_TEXT,
    mode=_TEXT,
    status=st.sampled_from(STATUSES),
    note=_TEXT,
    options=_WORDS,
    returned=_some(_TEXT),
    time=_maybe(_TIMES),
    compilation=_maybe(_COMPILATIONS),
    agreement=_maybe(st.builds(Agreement, _TEXT, st.sampled_from(AGREEMENTS), _TEXT, _maybe(_TEXT))),
    failure=_maybe(st.builds(Failure, _TEXT, _TEXT, _LINE, _TEXT)),
    memory=_some(_LEDGERS),
    source=_TEXT,
    outputs=st.none(),
)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Return any report, its ratios and baseline between variants that it has."""
    variants = draw(st.lists(_VARIANTS, max_size=3, unique_by=lambda v: v.name))
    names = st.sampled_from([v.name for v in variants] or ["gone"])
    ratios = st.builds(
        Ratio,
        variant=names,
        over=names,
        median=_POSITIVE,
        low=_maybe(_POSITIVE),
        high=_maybe(_POSITIVE),
        least=_POSITIVE,
        most=_POSITIVE,
        verdict=st.sampled_from(VERDICTS),
        rounds=_COUNT,
        batches=_COUNT,
        repeatable=st.booleans(),
        note=_TEXT,
    )
    conditions = st.builds(
        Conditions,
        versions=_WORDS,
        devices=_WORDS,
        threads=_WORDS,
        settings=_WORDS,
        inputs=_TEXT,
        load_before=_maybe(_POSITIVE),
        load_during=_maybe(_POSITIVE),
        neighbours=_some(_TEXT),
        machine=_TEXT,
        process=_TEXT,
    )
    built = st.builds(
        Report,
        run_id=_TEXT,
        started=_TEXT,
        magic=_TEXT,
        state=st.sampled_from(STATES),
        variants=st.just(tuple(variants)),
        ratios=_some(ratios),
        findings=_some(st.builds(Finding, _TEXT, _TEXT, _TEXT, _maybe(_TEXT | names), _LINE)),
        conditions=conditions,
        budget=_POSITIVE,
        spent=_POSITIVE,
        margin=st.floats(min_value=1e-4, max_value=0.5),
        baseline=_maybe(names),
        fastest=_maybe(names),
        progress=st.floats(min_value=0, max_value=1),
        execution_count=_maybe(_COUNT),
        note=_TEXT,
        cell=_TEXT,
        updated=_TEXT | st.just("2026-11-22T10:00:00.250+00:00"),
        version=st.just(1),
    )
    return draw(built)


def a_cell_line_by_line(**fields: Any) -> Lines:
    """Return a cell that calls a function of another one twice: it was traced once, and ran twice."""
    return Lines(
        **{
            "run_id": "lines", "started": "2026-11-22T11:00:00+00:00", "name": "%%jax --debug", "brief": "1 found",
            "answer": "it ran once without a trace; 1 found: `print` while tracing in line 2.", "execution_count": 3,
            "passages": (
                Passage("", (CodeLine(2, "print(double(1), double(2))", marked=True), CodeLine(3, "z = 4"))),
                Passage("double", (CodeLine(7, "def double(x):"), CodeLine(8, "    return 2 * x", note="it ends"))),
            ),
            "visits": (
                LineVisit(7, 1, 1, True, ("x: float32[] tracer",)), LineVisit(8, 1, 1, True, ("→ float32[] tracer",)),
                LineVisit(7, 1, 1, False, ("x: float32[] 1",)), LineVisit(8, 1, 1, False, ("→ float32[] 2",)),
                LineVisit(7, 2, 1, False, ("x: float32[] 2",)), LineVisit(8, 2, 1, False, ("→ float32[] 4",)),
                LineVisit(2, 1, 0, False, ("prints '2.0 4.0'",)), LineVisit(3, 1, 0, False, ("z: 4",)),
            ),
            **fields,
        }
    )  # fmt: skip
