"""The options: each is declared once, read from a line, and resolved for each section."""

from __future__ import annotations

import argparse
import difflib
import keyword
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments

from fwmagic.errors import FwMagicError
from fwmagic.measure.load import usable_cores
from fwmagic.memory import policies


@dataclass(frozen=True)
class Options:
    """The options that hold for one section, or for a %%torch or %%jax cell; `given` are those the user wrote.

    `budget` is wall seconds of all variants together, `margin` a fraction of 1, `items` how many items one call
    handles, `timeout` seconds, `alloc` the policies by name. From `budget` to `baseline`, and from `keep_going` on,
    they are the same for all sections of a cell but for `repeat_effects`.
    """

    name: str
    mode: str = "auto"
    compile_mode: str = "default"
    fullgraph: bool = False
    budget: float = 2.0
    margin: float = 0.01
    device: str | None = None
    inputs: tuple[str, ...] = ()
    items: int | None = None
    baseline: str | None = None
    check: bool = True
    seed: int | None = None
    keep_going: bool = False
    repeat_effects: bool = False
    output: str | None = None
    isolate: bool = False
    threads: int | None = None
    timeout: float | None = None
    alloc: tuple[str, ...] = ()
    memory: bool = True
    memray: bool = False
    flamegraph: str | None = None
    given: frozenset[str] = frozenset()

    @property
    def isolated(self) -> bool:
        """Whether each variant runs in a process of its own."""
        return self.isolate or self.threads is not None or self.timeout is not None or bool(self.alloc)

    def variants(self) -> dict[str, str]:
        """Return the mode of each variant by the variant's name, which is `name:mode` if there are several."""
        if self.mode == "all":
            return {f"{self.name}:{mode}": mode for mode in ("eager", "compiled")}
        return {self.name: self.mode}

    def stated(self) -> dict[str, str]:
        """Return the options that the user wrote, as text by their name."""
        texts = {}
        for name in sorted(self.given):
            value = getattr(self, name)
            flag = f"no-{name}" if name in ("check", "memory") else name.replace("_", "-")
            text = "yes" if isinstance(value, bool) else ",".join(value) if isinstance(value, tuple) else str(value)
            texts[flag] = text
        return texts


F = TypeVar("F", bound=Callable[..., Any])

_MODES = ("auto", "eager", "compiled", "debug", "all")
_COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


@dataclass(frozen=True)
class Line:
    """What one line asks for: a magic's own, or the header of a section of a %%compare cell.

    `number` is the 1-based line of a header in its cell, None for a magic's own line. `values` holds only what
    the user wrote, by the field of `Options`.
    """

    magic: str
    number: int | None
    values: Mapping[str, Any]

    @property
    def name(self) -> str | None:
        """The section's name, None if the user gave none."""
        return self.values.get("name")

    def error(self, sentence: str) -> UsageError:
        """Return the error that says `sentence` of this line."""
        where = f"%%{self.magic}" if self.number is None else f"%%{self.magic} in line {self.number}"
        return UsageError(f"{where}: {sentence}")


class _Once(argparse.Action):
    """Store a value, or a switch's constant; an option that is given twice is an error."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        if hasattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "is given twice; leave one of them out")
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in allowed:
            return text
        raise argparse.ArgumentTypeError(f"is one of {', '.join(allowed)}, not {text!r}{meant(text, allowed)}")

    return read


def _number(kind: type, fits: Callable[[Any], bool], wanted: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"takes {wanted}, not {text!r}")
        return value

    return read


def read_device(text: str) -> str:
    """Return the device that `text` names, as it is; raise `argparse.ArgumentTypeError` if it names none."""
    if re.fullmatch(r"cpu|(cuda|gpu)(:[0-9]+)?", text) is None:
        raise argparse.ArgumentTypeError(f"takes cpu, cuda, cuda:N, gpu or gpu:N, not {text!r}")
    return text


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"takes the name of a variable, not {text!r}")
    return text


def _variables(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise argparse.ArgumentTypeError(f"takes names of variables such as A,W, and {name!r} is none")
    return tuple(dict.fromkeys(names))


def _policies(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(policy) for policy in policies.read(text))
    except FwMagicError as error:
        raise argparse.ArgumentTypeError(f"takes policies with commas between them, or all: {error}") from None


def _file(text: str) -> str:
    if not Path(text).parent.is_dir():
        raise argparse.ArgumentTypeError(f"names the folder {str(Path(text).parent)!r}, which does not exist: make it")
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"takes a file, and {text!r} is a folder: name a file in it")
    return text


@dataclass(frozen=True)
class Option:
    """One option: the field that it sets, where it may stand (lone, compare, section), and how it is read."""

    flag: str
    places: tuple[str, ...]
    help: str
    read: Callable[[str], Any] | None = None
    metavar: str | None = None
    short: tuple[str, ...] = ()
    field: str = ""
    torch_only: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", self.field or self.flag.removeprefix("--").replace("-", "_"))

    @property
    def switch(self) -> bool:
        """Whether the option takes no value."""
        return self.read is None

    def keywords(self) -> dict[str, Any]:
        """Return what argparse is told about this option."""
        told: dict[str, Any] = {"dest": self.field, "action": _Once, "help": self.help}
        if self.switch:
            return told | {"nargs": 0, "const": not self.flag.startswith("--no-")}
        return told | {"type": self.read, "metavar": self.metavar}


_EVERYWHERE = ("lone", "compare", "section")
_RUN = ("lone", "compare")
OPTIONS = (
    Option("--mode", _EVERYWHERE, "how the cell runs: auto (the default) compiles what it can; eager; compiled, which "
            "fails where auto would fall back; debug runs once, uncompiled and untimed, so that print, pdb and "
            "branches on values work; all times eager and compiled", _choice(*_MODES), "{" + ",".join(_MODES) + "}"),
    Option("--compile-mode", _EVERYWHERE, "the mode of torch.compile",
            _choice(*_COMPILE_MODES), "{" + ",".join(_COMPILE_MODES) + "}", torch_only=True),
    Option("--fullgraph", _EVERYWHERE, "torch.compile fails where it would break the graph", torch_only=True),
    Option("--budget", _RUN, "wall seconds for warm-up and timing, all variants together (default: 2)",
            _number(float, lambda x: 0 < x < math.inf, "seconds greater than 0"), "SECONDS"),
    Option("--margin", _RUN, "variants that differ by less than this fraction are called the same (default: 0.01)",
            _number(float, lambda x: 0 <= x < 1, "a fraction from 0 to below 1, such as 0.01 for 1 %"), "FRACTION"),
    Option("--device", _EVERYWHERE, "where to run: cpu, cuda, cuda:N, gpu or gpu:N",
            read_device, "DEVICE"),
    Option("--inputs", _EVERYWHERE, "arrays of the notebook that the cell gets as private copies in its own framework",
            _variables, "A,W"),
    Option("--items", _EVERYWHERE, "how many items one run of the cell handles: the report adds items per second",
            _number(int, lambda x: x > 0, "a whole number greater than 0"), "N"),
    Option("--baseline", ("compare",), "the variant that the others are compared with (default: the first)",
            str, "NAME"),
    Option("--no-check", _EVERYWHERE, "do not compare the outputs", field="check"),
    Option("--seed", _EVERYWHERE, "seed the random generators before the cell runs",
            _number(int, lambda x: 0 <= x < 2**32, "a whole number from 0 to 4294967295"), "N"),
    Option("--keep-going", ("compare",), "do not end in an error if a variant fails"),
    Option("--repeat-effects", _EVERYWHERE, "time a cell with effects that cannot be undone: they happen every time"),
    Option("--isolate", _RUN, "run each variant in a fresh process"),
    Option("--threads", _RUN, "give each framework so many threads, on the same so many cores; implies --isolate",
            _number(int, lambda x: x > 0, "a whole number greater than 0"), "N"),
    Option("--timeout", _RUN, "end a variant that does not answer for so many seconds; implies --isolate",
            _number(float, lambda x: 0 < x < math.inf, "seconds greater than 0"), "SECONDS"),
    Option("--alloc", ("compare",), "measure the memory of each section under these allocator policies, such as "
            "jax:ondemand,torch:caching, or all of them; each in a fresh process, one at a time",
            _policies, "POLICIES"),
    Option("--no-memory", _RUN, "do not measure memory", field="memory"),
    Option("--memray", _RUN, "find the heap's peak, and the lines of the cell that allocated it, with memray"),
    Option("--flamegraph", _RUN, "write memray's flame graph of the peak to this HTML file; implies --memray",
            _file, "FILE"),
    Option("--output", _RUN, "bind the report to this variable", _variable, "NAME", ("-o",)),
)  # fmt: skip
_NAME = re.compile(r"\w[\w .+-]*")


def arguments(magic: str) -> Callable[[F], F]:
    """Return the decorator that gives the magic `torch`, `jax` or `compare` its help, for `%%torch?`."""

    def decorate(function: F) -> F:
        place = "compare" if magic == "compare" else "lone"
        if place == "lone":
            argument("name", nargs="?", metavar="NAME", help="a name for the report")(function)  # type: ignore[no-untyped-call]
        for option in reversed(_allowed(place, magic)):
            argument(*option.short, option.flag, **option.keywords())(function)  # type: ignore[no-untyped-call]
        decorated: F = magic_arguments(f"%{magic}")(function)  # type: ignore[no-untyped-call]
        return decorated

    return decorate


def parse(magic: str, text: str) -> Line:
    """Return what the own line of `%%torch`, `%%jax` or `%%compare` asks for.

    Raises
    ------
    UsageError
        An option does not exist, does not belong here, or has a value that it cannot have.
    """
    return _parse(Line(magic, None, {}), "compare" if magic == "compare" else "lone", text)


def parse_header(framework: str, text: str, number: int) -> Line:
    """Return what a section's header asks for; `text` follows `%%framework`, `number` is its line in the cell.

    Raises
    ------
    UsageError
        As `parse`; and `%%setup` takes no options.
    """
    return _parse(Line(framework, number, {}), "setup" if framework == "setup" else "section", text)


def _parse(line: Line, place: str, text: str) -> Line:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise line.error(f"{str(error).lower()}; close the quotation mark, or take it out") from None
    allowed = _allowed(place, line.magic)
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    for option in allowed:
        parser.add_argument(*option.short, option.flag, **option.keywords())
    try:
        found, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        message = error.message
        if message.startswith("expected one argument"):
            message = "needs a value"
        elif message.startswith("ignored explicit argument"):
            message = "takes no value"
        raise line.error(f"{(error.argument_name or '').split('/')[-1]} {message}") from None
    unknown = [word for word in others if word.startswith("-") or place in ("compare", "setup")]
    for word in [*unknown, *others[1:]]:
        raise line.error(_unexpected(word, line.magic, place, [option.flag for option in allowed]))
    for name in others:
        if not _NAME.fullmatch(name):
            raise line.error(f"{name!r} is no name for a section; use letters, digits, spaces and any of _ . + -")
        found.name = name
    return Line(line.magic, line.number, vars(found))


def _allowed(place: str, magic: str) -> list[Option]:
    for_torch = magic in ("torch", "compare")
    return [option for option in OPTIONS if place in option.places and (for_torch or not option.torch_only)]


def _unexpected(word: str, magic: str, place: str, flags: list[str]) -> str:
    """Return why `word`, which the parser did not take, cannot stand here, and the way out."""
    flag = word.split("=")[0]
    known = next((option for option in OPTIONS if flag in (option.flag, *option.short)), None)
    if place == "setup":
        return f"{word!r} cannot stand here: %%setup takes no options and no name; write them on the %%compare line"
    if known is not None and known.torch_only:
        return f"{flag} belongs to torch; leave it out, or write it on a %%torch line"
    if known is not None and place == "section":
        return f"{flag} holds for all sections together; write it on the %%compare line"
    if known is not None:
        return f"{flag} belongs to %%compare; leave it out, or compare sections with %%compare"
    if flag.startswith("-"):
        asked = "compare" if place == "section" else magic
        return f"there is no option {flag}{meant(flag, flags) or f'; %%{asked}? lists the options'}"
    if place == "compare":
        return f"{word!r} cannot stand here: %%compare takes no name; name a section, as in %%torch {word}"
    return f"{word!r} follows a name; quote a name of several words, or begin the cell's code on the next line"


def meant(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the known word nearest to `word`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


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
    if absent and (named != {policy.framework for policy in policies.every()} or len(absent) == len(named)):
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
