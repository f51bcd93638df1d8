"""The options that hold for each section: its own, those of the %%compare line, and the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fwmagic.line import OPTIONS, Line, meant
from fwmagic.measure.load import usable_cores
from fwmagic.memory.policies import POLICIES
from fwmagic.run.options import Options

_BY_FIELD = {option.field: option for option in OPTIONS}


def resolve(line: Line, defaults: Mapping[str, Any]) -> Options:
    """Return the options of a `%%torch` or `%%jax` cell; `defaults` are fields of `Options`.

    Raises
    ------
    UsageError
        An option cannot take effect together with another one.
    """
    options = _merge(line, Line(line.magic, None, {}), line.name or line.magic, defaults)
    _check_pairs(line, [options])
    return options


def resolve_sections(line: Line, headers: Mapping[str, Line], defaults: Mapping[str, Any]) -> tuple[Options, ...]:
    """Return each section's options: its own, else those of the `%%compare` line, else the defaults.

    Parameters
    ----------
    line : Line
        The `%%compare` line.
    headers : mapping of str to Line
        The sections' headers by the sections' names, in their order.
    defaults : mapping
        Fields of `Options`; one that a section cannot use is left out for it.

    Raises
    ------
    UsageError
        An option cannot take effect anywhere, or `--baseline` names no variant.
    """
    sections = tuple(_merge(header, line, name, defaults) for name, header in headers.items())
    for name in line.values:
        if "section" not in _BY_FIELD[name].places:
            continue
        free = [(h, s) for h, s in zip(headers.values(), sections, strict=True) if name not in h.values]
        if not free:
            raise line.error(f"{_BY_FIELD[name].flag} has no effect, since each section has its own; leave it out")
        obstacles = [_obstacle(name, header.magic, section.mode, line.values) for header, section in free]
        if all(obstacles):
            raise line.error(f"{_BY_FIELD[name].flag} {obstacles[0]}")
    _check_pairs(line, sections)
    _check_policies(line, {header.magic for header in headers.values()})
    return sections


def _check_policies(line: Line, frameworks: set[str]) -> None:
    """Raise if a policy belongs to a framework without a section; of `all` of them those are left out."""
    named = {policy.split(":")[0] for policy in line.values.get("alloc", ())}
    absent = sorted(named - frameworks)
    if absent and (named != {policy.framework for policy in POLICIES} or len(absent) == len(named)):
        raise line.error(f"--alloc names policies of {absent[0]}, and there is no %%{absent[0]} section; add one")


def _obstacle(name: str, framework: str, mode: str, values: Mapping[str, Any]) -> str | None:
    """Return why the option cannot take effect in a section of that framework and mode, None if it can."""
    if _BY_FIELD[name].torch_only and framework != "torch":
        return "belongs to torch, and there is no %%torch section; leave it out, or add one"
    if name == "mode" and framework == "numpy" and values[name] in ("compiled", "all"):
        return f"{values[name]} cannot take effect, since NumPy compiles nothing; leave it out"
    if name in ("compile_mode", "fullgraph") and mode in ("eager", "debug"):
        return f"has no effect in mode {mode}, which compiles nothing; leave it out, or choose another --mode"
    if name in ("items", "check", "repeat_effects") and mode == "debug":
        return "has no effect in mode debug, which runs once and times nothing; leave it out, or choose another --mode"
    return None


def _merge(own: Line, shared: Line, name: str, defaults: Mapping[str, Any]) -> Options:
    """Return a section's options: `own`, else those of `shared` and then `defaults` that can take effect in it."""
    outer = {**defaults, **shared.values}
    if "mode" in outer and _obstacle("mode", own.magic, "", outer):
        del outer["mode"]
    mode = own.values.get("mode", outer.get("mode", Options.mode))
    usable = {key: value for key, value in outer.items() if not _obstacle(key, own.magic, mode, outer)}
    for key in own.values:
        if key != "name" and (obstacle := _obstacle(key, own.magic, mode, own.values)):
            raise own.error(f"{_BY_FIELD[key].flag} {obstacle}")
    given = {*own.values, *(shared.values.keys() & usable.keys())} - {"name"}
    return Options(**{**usable, **own.values, "name": name, "given": frozenset(given)})


def _check_pairs(line: Line, sections: Sequence[Options]) -> None:
    """Raise if an option of the whole run has nothing to act on: no variant that is timed, or no second one."""
    timed = [name for section in sections if section.mode != "debug" for name in section.variants()]
    if "budget" in line.values and not timed:
        raise line.error("--budget has no effect in mode debug, which times nothing; leave it out")
    for name in ("isolate", "threads", "timeout", "alloc"):
        if name in line.values and any(section.mode == "debug" for section in sections):
            raise line.error(f"--{name} has no effect in mode debug, which runs in the notebook itself; leave it out")
    for name in ("memory", "memray", "flamegraph"):
        if name in line.values and not timed:
            flag = _BY_FIELD[name].flag
            raise line.error(f"{flag} has no effect in mode debug, which measures nothing; leave it out")
    for name in ("alloc", "memray", "flamegraph"):
        if name in line.values and line.values.get("memory") is False:
            raise line.error(f"--{name} measures memory, and --no-memory turns that off; leave one of them out")
    threads = line.values.get("threads")
    if threads is not None and threads > usable_cores():
        cores = "1 core" if usable_cores() == 1 else f"{usable_cores()} cores"
        raise line.error(f"--threads {threads}: this process may use {cores}; ask for at most that many")
    for name in ("margin", "baseline"):
        if name in line.values and len(timed) < 2:
            raise line.error(f"--{name} needs two timed variants; add --mode all or a section, or leave it out")
    baseline = line.values.get("baseline")
    if baseline is not None and baseline not in timed:
        names = ", ".join(timed)
        raise line.error(f"--baseline {baseline} names no timed variant; there are: {names}{meant(baseline, timed)}")
