"""The diagnosis: what keeps a cell from being traced, or makes its trace compute something else, from its two runs."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from fwmagic.cells.analyse import Body, dotted
from fwmagic.debug.record import Line, Record
from fwmagic.debug.runs import PlainRun, TracedRun
from fwmagic.errors import entries_of, message_of
from fwmagic.format import one_line
from fwmagic.frameworks import Framework
from fwmagic.frameworks.rewrite import printed_by, replaced
from fwmagic.frameworks.traps import Evidence, Failing, LineFacts, Trap, outlives
from fwmagic.libraries import module_of
from fwmagic.run.section import Section

# What a trace does once: what it returned then is what it returns in every later call.
_HOST = ("random.", "np.random.", "numpy.random.", "time.", "datetime.", "secrets.", "uuid.")
_NOT_HOST = ("time.sleep",)
_LOGS = ("logging.", "logger.", "log.", "warnings.warn")
# Lines in no function: nobody asked for them to be compiled.
_OF_THE_CELL = "<module>"


def diagnose(section: Section, plain: PlainRun, traced: TracedRun, differs: str) -> list[Trap]:
    """Return the reasons that the two runs of a cell show, the most telling first, each line once for each of them."""
    framework = section.framework
    evidence = _evidence(section.body, plain, traced, differs)
    found = [*_of_errors(framework, evidence), *plain.record.inspector.found(), *framework.suspects(evidence)]
    found += [*_of_effects(framework, evidence), *_of_nan(plain.record, evidence)]
    if differs and not found:
        found += list(framework.stale(evidence)) or [_numerical(framework, evidence)]
    return list({(trap.what, trap.line): trap for trap in found}.values())


def _evidence(body: Body, plain: PlainRun, traced: TracedRun, differs: str) -> Evidence:
    return Evidence(
        file=body.filename,
        text=[row.rstrip("\n") for row in linecache.getlines(body.filename)],
        tree=body.tree,
        raised=_failing(plain.error, plain.record, body.filename),
        traced_raised=_failing(traced.error, traced.record, body.filename),
        differs=differs,
        lines=_facts(body, plain.record, traced.record),
        breaks=traced.log.breaks,
        recompiles=traced.log.recompiles,
        leaked=traced.leaked,
        warned=plain.record.warned,
        rebound=traced.rebound if differs else (),
        names=plain.names,
        plain={
            line.function.rpartition(".")[2]: frozenset(name for name, one in line.first.items() if not one.is_array)
            for line in plain.record.lines.values()
            if line.part == "def"
        },
        signatures={
            (_name_at(traced.record, file, first), first): seen
            for (file, first), seen in traced.record.signatures.items()
            if file == body.filename
        },
    )


def _name_at(record: Record, file: str, line: int) -> str:
    return record.lines[file, line, "def"].function.rpartition(".")[2]


def _facts(body: Body, plain: Record, traced: Record) -> list[LineFacts]:
    facts: dict[tuple[str, int, str], LineFacts] = {}
    for record in (plain, traced):
        for key, line in record.lines.items():
            if line.part == "def":
                continue
            own = line.file == body.filename
            fact = facts.setdefault(key, LineFacts(line.statement.first, own, line.function, line.statement.node))
            if record is plain:
                fact.ran += line.runs
            else:
                fact.traced += line.staged
                fact.prints |= bool(line.prints and line.staged)
    return sorted(facts.values(), key=lambda one: one.line)


def _failing(error: BaseException | None, record: Record, filename: str) -> Failing | None:
    """Return where an error was raised: at the deepest line of the user's."""
    if error is None:
        return None
    entries = [entry for entry in entries_of(error) if _is_users(entry, record, filename)]
    if not entries:
        return None
    entry = entries[-1]
    file = entry.tb_frame.f_code.co_filename
    positions = list(entry.tb_frame.f_code.co_positions())[entry.tb_lasti // 2]
    source = record.source(file)
    if None in positions:
        path: list[ast.AST] = []
    else:
        line, end, start, stop = positions
        path = source.path_to(line, end, start, stop)  # type: ignore[arg-type]
    return Failing(error, entry.tb_lineno, file == filename, path, entry.tb_frame.f_locals)


def _is_users(entry: TracebackType, record: Record, filename: str) -> bool:
    file = entry.tb_frame.f_code.co_filename
    return file == filename or any(file == line.file for line in record.lines.values())


def _of_errors(framework: Framework, evidence: Evidence) -> Iterator[Trap]:
    plain, traced = evidence.raised, evidence.traced_raised
    for failing in (plain, traced):
        if failing is None or (failing is traced and plain is not None and _is_same(plain, failing)):
            continue
        known = framework.advise(failing, evidence)
        if known is not None:
            yield known
            continue
        kind, line = type(failing.error).__name__, failing.line if failing.own else None
        told = one_line(message_of(failing.error).strip().partition("\n")[0], 200).rstrip(".")
        if failing is plain:
            why = f"It raises {kind}: {told}. It does so without a trace, too, so that tracing is not the cause."
            yield Trap("ordinary bug", f"`{kind}` in every run", line, why)
        else:
            why = f"Traced, it raises {kind}: {told}. Without a trace it works: it asks for what a trace does not have."
            yield Trap("tracing restriction", f"`{kind}` while tracing", line, why)


def _is_same(one: Failing, other: Failing) -> bool:
    return type(one.error) is type(other.error) and one.line == other.line


def _of_effects(framework: Framework, evidence: Evidence) -> Iterator[Trap]:
    """Yield what traced lines do besides computing: once, while tracing, and in no later call."""
    generators = tuple(f"{name}." for name, value in evidence.names.items() if _draws(value))
    for one in evidence.lines:
        if not one.own or not one.traced:
            continue
        line, node = one.line, one.node
        if one.prints and framework.traced_print and one.function != _OF_THE_CELL:
            call = _call_of(node, ("print",))
            new = printed_by(call, framework.traced_print) if call is not None else ""
            changes = replaced(evidence.text, call, new) if call is not None and new else ()
            why = (
                f"`print` is Python, and Python ran {_times(one.traced)} while tracing, with stand-ins for the "
                f"arrays, and {_times(one.ran)} without a trace. `{framework.traced_print}` prints when the program "
                "runs."
            )
            yield Trap("impurity or stale capture", "`print` while tracing", line, why, changes)
        call = _call_of(node, _LOGS)
        if call is not None and framework.traced_print and one.function != _OF_THE_CELL:
            why = (
                f"`{ast.unparse(call.func)}` is Python, and Python ran {_times(one.traced)} while tracing, with "
                f"stand-ins for the arrays, and {_times(one.ran)} without a trace. Log what the compiled function "
                f"returns, or use `{framework.traced_print}`."
            )
            yield Trap("impurity or stale capture", "a log while tracing", line, why)
        call = _call_of(node, _HOST) or (_call_of(node, generators) if one.function != _OF_THE_CELL else None)
        if call is not None and _is_of_python(call, evidence.names) and not _is_seeded(call):
            why = (
                f"`{ast.unparse(call.func)}` is called while tracing, and what it returned then is a constant of the "
                "program. Call it outside, and hand its result over as an argument."
            )
            yield Trap("Python value baked in", "a value of the moment of the trace", line, why)
        name = outlives(node, evidence.scopes)
        if name and (one.ran > one.traced or evidence.leaked):
            why = (
                f"This line changes `{name}`, which outlives the call, and Python ran it {_times(one.traced)} while "
                f"tracing and {_times(one.ran)} without a trace. Return the new value, and let the caller keep it."
            )
            yield Trap("impurity or stale capture", "a change outside of the function", line, why)


def _is_of_python(call: ast.Call, names: Mapping[str, Any]) -> bool:
    """Say whether `random` or `time` is Python's or NumPy's own, and not a framework's that has the same name."""
    root = dotted(call.func).partition(".")[0]
    return getattr(names.get(root), "__name__", root).partition(".")[0] in (root, "numpy")


def _draws(value: Any) -> bool:
    """Say whether an object is a random generator of Python's or NumPy's."""
    kind = type(value)
    return kind.__name__ in _GENERATORS and module_of(kind).partition(".")[0] in ("random", "numpy")


_GENERATORS = ("Generator", "RandomState", "Random")


def _is_seeded(call: ast.Call) -> bool:
    """Say whether a generator begins with a seed: then it draws the same in every run."""
    return dotted(call.func).rpartition(".")[2] in ("default_rng", "RandomState", "Random", "seed") and bool(call.args)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _call_of(node: ast.AST | None, names: tuple[str, ...]) -> ast.Call | None:
    """Return the first call in a simple statement whose dotted name begins as one of these."""
    if node is None or hasattr(node, "body"):
        node = getattr(node, "test", None) or getattr(node, "iter", None)
    for inner in ast.walk(node) if node is not None else ():
        if isinstance(inner, ast.Call):
            name = dotted(inner.func)
            if (
                name
                and name not in _NOT_HOST
                and (name in names or name.startswith(tuple(n for n in names if "." in n)))
            ):
                return inner
    return None


def _of_nan(record: Record, evidence: Evidence) -> Iterator[Trap]:
    """Yield where the first NaN came up."""
    for line in record.lines.values():
        odd = _with_nan(line)
        if not odd:
            continue
        own = line.file == record.own
        text = evidence.text[line.statement.first - 1] if own and line.statement.first <= len(evidence.text) else ""
        if "nan" not in text.lower():
            name = "what it returns" if odd == "→" else f"`{odd}`"
            why = f"{name[0].upper() + name[1:]} is the first value with a NaN, in the order in which the lines ran. "
            why += _OF_GRADIENT if "grad" in text else _OF_VALUE
            yield Trap("numerical", "the first NaN", line.statement.first if own else None, why)
        return


_OF_VALUE = "Look at what goes into this line: 0 / 0, inf - inf, or a root or logarithm of a negative number."
_OF_GRADIENT = (
    "It is a gradient: a `where` hides the value of the way that is not taken, and not its slope. Let that way see a "
    "harmless number, by a second `where` inside."
)


def _with_nan(line: Line) -> str:
    return next((name for seen in (line.first, line.last) for name, one in seen.items() if one.has_nan), "")


def _numerical(framework: Framework, evidence: Evidence) -> Trap:
    why = (
        f"Both runs did the same work, and the results differ: {evidence.differs}. A compiler adds up in another "
        "order, and may multiply and add in one step without rounding in between: where numbers cancel, that shows."
    )
    return Trap("numerical", "rounding", None, why)
