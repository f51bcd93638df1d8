"""The options: each is declared once, in `Options`; the lines of magics, their help and `%config` come from there."""

from __future__ import annotations

import argparse
import builtins
import keyword
import math
import re
import shlex
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fwmagic.errors import FwMagicError

if TYPE_CHECKING:
    from IPython.core.error import UsageError

F = TypeVar("F", bound=Callable[..., Any])

# The names by which IPython keeps inputs and outputs, and its commands.
_OF_IPYTHON = re.compile(r"In|Out|exit|quit|get_ipython|_+|_i{1,3}|_i?\d+|_[iod]h")

# Records are named tuples here: a dataclass takes ten times as long to make, each time that fwmagic is loaded.

# --- how a value is read -------------------------------------------------------------------------------------


class ValueType(NamedTuple):
    """The values that an option takes: what is `wanted` of one, in words, its stand-in in a help, its Python type.

    `read` takes the text of a line or a Python value. It raises ValueError or TypeError for what is not wanted, or
    `argparse.ArgumentTypeError` with a sentence of its own.
    """

    wanted: str
    metavar: str
    read: Callable[[Any], Any]
    python: type = str
    choices: tuple[str, ...] = ()


def _choice_type(*allowed: str) -> ValueType:
    def read(text: str) -> str:
        if text in allowed:
            return text
        raise argparse.ArgumentTypeError(f"is one of {', '.join(allowed)}, not {text!r}{_meant_option(text, allowed)}")

    return ValueType(f"one of {', '.join(allowed)}", "{" + ",".join(allowed) + "}", read, choices=allowed)


def _number_type(wanted: str, metavar: str, convert: type, fits: Callable[[Any], bool]) -> ValueType:
    def read(text: Any) -> Any:
        value = convert(text)
        if not fits(value):
            raise ValueError
        return value

    return ValueType(wanted, metavar, read, convert)


def _read_device_option(text: str) -> str:
    if re.fullmatch(r"cpu|(cuda|gpu)(:[0-9]+)?", text) is None:
        raise ValueError
    return text


def _read_variable_option(text: str) -> str:
    name = unicodedata.normalize("NFKC", text)  # as Python reads the names in code
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError
    owner = "IPython" if _OF_IPYTHON.fullmatch(name) else "Python" if _is_of_python(name) else None
    if owner is not None:
        raise argparse.ArgumentTypeError(f"{name} would take the place of a name that {owner} needs: choose another")
    return name


def _is_of_python(name: str) -> bool:
    return hasattr(builtins, name) or (name.startswith("__") and name.endswith("__"))


def _read_variables_option(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise argparse.ArgumentTypeError(f"takes names of variables such as A,W, and {name!r} is none")
    return tuple(dict.fromkeys(names))


def _read_threads_option(text: str) -> int:
    # Only now: it imports psutil, and loading the extension costs next to nothing.
    from fwmagic.measure.load import usable_cores

    threads: int = _COUNT.read(text)
    if threads > usable_cores():
        cores = "1 core" if usable_cores() == 1 else f"{usable_cores()} cores"
        raise argparse.ArgumentTypeError(f"{threads}: this process may use {cores}; ask for at most that many")
    return threads


def _read_policies_option(text: str) -> tuple[str, ...]:
    from fwmagic.memory.policies import named_policies

    try:
        return tuple(str(policy) for policy in named_policies(text))
    except FwMagicError as error:
        raise argparse.ArgumentTypeError(f"takes policies with commas between them, or all: {error}") from None


def _read_file_option(text: str) -> str:
    if not Path(text).parent.is_dir():
        raise argparse.ArgumentTypeError(f"names the folder {str(Path(text).parent)!r}, which does not exist: make it")
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"takes a file, and {text!r} is a folder: name a file in it")
    return text


_SWITCH = ValueType("yes or no", "", bool, bool)
_MODE = _choice_type("auto", "eager", "compiled", "debug", "all")
_COMPILE_MODE = _choice_type("default", "reduce-overhead", "max-autotune")
_SECONDS = _number_type("seconds greater than 0", "SECONDS", float, lambda x: 0 < x < math.inf)
_FRACTION = _number_type("a fraction from 0 to below 1, such as 0.01 for 1 %", "FRACTION", float, lambda x: 0 <= x < 1)
_COUNT = _number_type("a whole number greater than 0", "N", int, lambda x: x > 0)
_SEED = _number_type("a whole number from 0 to 4294967295", "N", int, lambda x: 0 <= x < 2**32)
_DEVICE = ValueType("cpu, cuda, cuda:N, gpu or gpu:N", "DEVICE", _read_device_option)
_VARIABLE = ValueType("the name of a variable", "NAME", _read_variable_option)
_VARIABLES = ValueType("names of variables", "A,W", _read_variables_option, tuple)
_VARIANT = ValueType("the name of a variant", "NAME", str)
_THREADS = ValueType(_COUNT.wanted, "N", _read_threads_option, int)
_POLICIES = ValueType("policies", "POLICIES", _read_policies_option, tuple)
_FILE = ValueType("a file", "FILE", _read_file_option)

# --- what an option needs to have an effect ------------------------------------------------------------------


class OptionNeed(NamedTuple):
    """What an option needs to have an effect, and the sentence for a line on which it is not `met`.

    `met` is asked of the modes of the sections that the option reaches, and of all that stands on its line.
    """

    sentence: str
    met: Callable[[Sequence[str], Mapping[str, Any]], bool]


def _variants(mode: str) -> tuple[str, ...]:
    return ("eager", "compiled") if mode == "all" else (mode,)


def _timed_in_modes(modes: Sequence[str]) -> int:
    """Return how many variants of sections in these modes are timed."""
    return sum(one != "debug" for mode in modes for one in _variants(mode))


_COMPILING = OptionNeed(
    "has no effect in mode {mode}, which compiles nothing; leave it out, or choose another --mode",
    lambda modes, _: not {"eager", "debug"}.issuperset(modes),
)
_REPETITION = OptionNeed(
    "has no effect in mode {mode}, which runs once and times nothing; leave it out, or choose another --mode",
    lambda modes, _: _timed_in_modes(modes) > 0,
)
_TIMING = OptionNeed(
    "has no effect in mode {mode}, which times nothing; leave it out",
    lambda modes, _: _timed_in_modes(modes) > 0,
)
_MEASURING = OptionNeed(
    "has no effect in mode {mode}, which measures nothing; leave it out",
    lambda modes, _: _timed_in_modes(modes) > 0,
)
_PROCESS = OptionNeed(
    "has no effect in mode debug, which runs in the notebook itself; leave it out",
    lambda modes, _: "debug" not in modes,
)
_PAIR = OptionNeed(
    "needs two timed variants; add --mode all or a section, or leave it out",
    lambda modes, _: _timed_in_modes(modes) > 1,
)
_SECTIONS = OptionNeed(
    "needs two sections that are timed; add one, or leave it out",
    lambda modes, _: sum(mode != "debug" for mode in modes) > 1,
)
_CHECKED = OptionNeed(
    "is about outputs that differ, and --no-check compares none; leave one of them out",
    lambda _, line: line.get("check", True),
)
_HERE = OptionNeed(
    "runs in the notebook itself; leave out what runs variants in processes of their own",
    lambda _, line: not any(name in line for name, one in OPTIONS.items() if "isolate" in (name, one.implies)),
)
_MEMORY = OptionNeed(
    "measures memory, and --no-memory turns that off; leave one of them out",
    lambda _, line: line.get("memory", True),
)

# --- the options ---------------------------------------------------------------------------------------------

# Where an option may stand: the line of a %%torch or %%jax cell, that of a %%compare cell, a section's header.
_EVERYWHERE = ("lone", "compare", "section")
_RUN = ("lone", "compare")
_COMPARE = ("compare",)


class Option(NamedTuple):
    """What `Options` declares of one option. On a line, a switch says the opposite of its default.

    `belongs` names the only framework that it is for, `implies` a switch that it turns on. `config`: `%config` may set
    its default. `argument`: `fwmagic.compare` takes it.
    """

    name: str
    default: Any
    type: ValueType
    places: tuple[str, ...]
    help: str
    short: tuple[str, ...] = ()
    needs: tuple[OptionNeed, ...] = ()
    belongs: str | None = None
    implies: str | None = None
    config: bool = False
    argument: bool = False

    @property
    def flag(self) -> str:
        """The option as it is written on a line."""
        return ("--no-" if self.default is True else "--") + self.name.replace("_", "-")

    @property
    def switch(self) -> bool:
        """Whether it takes no value."""
        return self.type is _SWITCH

    @property
    def of_run(self) -> bool:
        """Whether it is the same for all sections of a cell."""
        return "section" not in self.places

    @property
    def sentence(self) -> str:
        """What it does, its default if that is a number, and what it implies."""
        default = f" (default: {self.default:g})" if isinstance(self.default, float) else ""
        return self.help + default + (f"; implies --{self.implies}" if self.implies else "")

    def read(self, value: Any) -> Any:
        """Return what the text of a line, or a Python value, stands for.

        Raises
        ------
        argparse.ArgumentTypeError
            It is nothing that the option takes.
        """
        if value is self.default:
            return value
        try:
            return self.type.read(value)
        except (TypeError, ValueError):
            raise argparse.ArgumentTypeError(f"takes {self.type.wanted}, not {value!r}") from None

    def keywords(self) -> dict[str, Any]:
        """Return what argparse is told about this option."""
        told: dict[str, Any] = {"dest": self.name, "action": _OptionOnce, "help": self.sentence}
        if self.switch:
            return told | {"nargs": 0, "const": not self.default}
        return told | {"type": self.read, "metavar": self.type.metavar}


def _option(default: Any, type: ValueType, places: tuple[str, ...], help: str, **declared: Any) -> Any:
    """Return a field of `Options`; `declared` are more fields of `Option`."""
    return field(default=default, metadata={"type": type, "places": places, "help": help, **declared})


@dataclass(frozen=True)
class Options:
    """The options that hold for one section, or for a %%torch or %%jax cell; `given` are those the user wrote."""

    name: str
    # fmt: off
    mode: str = _option(
        "auto", _MODE, _EVERYWHERE,
        "how the cell runs: auto (the default) compiles what it can; eager; compiled, which fails where auto would "
        "fall back; debug runs once, uncompiled and untimed, so that print, pdb and branches on values work; all times "
        "eager and compiled",
        config=True)
    compile_mode: str = _option(
        "default", _COMPILE_MODE, _EVERYWHERE, "the mode of torch.compile",
        belongs="torch", needs=(_COMPILING,), config=True)
    fullgraph: bool = _option(
        False, _SWITCH, _EVERYWHERE, "torch.compile fails where it would break the graph",
        belongs="torch", needs=(_COMPILING,))
    budget: float = _option(
        2.0, _SECONDS, _RUN, "wall seconds for warm-up and timing, all variants together",
        needs=(_TIMING,), config=True, argument=True)
    margin: float = _option(
        0.01, _FRACTION, _RUN, "variants that differ by less than this fraction are called the same",
        needs=(_PAIR,), config=True, argument=True)
    device: str | None = _option(
        None, _DEVICE, _EVERYWHERE, "where to run: cpu, cuda, cuda:N, gpu or gpu:N", config=True)
    inputs: tuple[str, ...] = _option(
        (), _VARIABLES, _EVERYWHERE,
        "arrays of the notebook that the cell gets as private copies in its own framework")
    items: int | None = _option(
        None, _COUNT, _EVERYWHERE, "how many items one run of the cell handles: the report adds items per second",
        needs=(_REPETITION,))
    baseline: str | None = _option(
        None, _VARIANT, _COMPARE, "the variant that the others are compared with (default: the first)",
        needs=(_PAIR,), argument=True)
    check: bool = _option(
        True, _SWITCH, _EVERYWHERE, "do not compare the outputs",
        needs=(_REPETITION,), config=True, argument=True)
    first_difference: bool = _option(
        False, _SWITCH, _COMPARE,
        "where the outputs of two sections differ, run both again, line by line, and name the first lines that part",
        needs=(_SECTIONS, _CHECKED, _HERE))
    seed: int | None = _option(None, _SEED, _EVERYWHERE, "seed the random generators before the cell runs")
    keep_going: bool = _option(False, _SWITCH, _COMPARE, "do not end in an error if a variant fails")
    repeat_effects: bool = _option(
        False, _SWITCH, _EVERYWHERE, "time a cell with effects that cannot be undone: they happen every time",
        needs=(_REPETITION,))
    isolate: bool = _option(False, _SWITCH, _RUN, "run each variant in a fresh process", needs=(_PROCESS,))
    threads: int | None = _option(
        None, _THREADS, _RUN, "give each framework so many threads, on the same so many cores",
        needs=(_PROCESS,), implies="isolate")
    timeout: float | None = _option(
        None, _SECONDS, _RUN, "end a variant that does not answer for so many seconds",
        needs=(_PROCESS,), implies="isolate")
    alloc: tuple[str, ...] = _option(
        (), _POLICIES, _COMPARE,
        "measure the memory of each section under these allocator policies, such as jax:ondemand,torch:caching, or all "
        "of them; each in a fresh process, one at a time",
        needs=(_PROCESS, _MEMORY), implies="isolate")
    memory: bool = _option(
        True, _SWITCH, _RUN, "do not measure memory", needs=(_MEASURING,), config=True, argument=True)
    memray: bool = _option(
        False, _SWITCH, _RUN, "find the heap's peak, and the lines of the cell that allocated it, with memray",
        needs=(_MEASURING, _MEMORY))
    flamegraph: str | None = _option(
        None, _FILE, _RUN, "write memray's flame graph of the peak to this HTML file",
        needs=(_MEASURING, _MEMORY), implies="memray")
    output: str | None = _option(None, _VARIABLE, _RUN, "bind the report to this variable", short=("-o",))
    # fmt: on
    given: frozenset[str] = frozenset()

    def asks(self, switch: str) -> bool:
        """Return whether a switch is on, by itself or by an option that implies it."""
        return any(
            getattr(self, one.name) != one.default for one in OPTIONS.values() if switch in (one.name, one.implies)
        )

    @property
    def isolated(self) -> bool:
        """Whether each variant runs in a process of its own."""
        return self.asks("isolate")

    def variants(self) -> dict[str, str]:
        """Return the mode of each variant by the variant's name, which is `name:mode` if there are several."""
        modes = _variants(self.mode)
        return {self.name if len(modes) == 1 else f"{self.name}:{mode}": mode for mode in modes}

    def stated(self) -> dict[str, str]:
        """Return the options that the user wrote, as text by their name."""
        texts = {}
        for name in sorted(self.given):
            value = getattr(self, name)
            text = "yes" if isinstance(value, bool) else ",".join(value) if isinstance(value, tuple) else str(value)
            texts[OPTIONS[name].flag.removeprefix("--")] = text
        return texts


OPTIONS: dict[str, Option] = {
    one.name: Option(one.name, one.default, **one.metadata) for one in fields(Options) if one.metadata
}


def from_arguments(name: str, **arguments: Any) -> Options:
    """Return the options that are arguments of a function, read as those of a line are.

    Raises
    ------
    FwMagicError
        A value is nothing that its option takes.
    """
    values = {}
    for key, value in arguments.items():
        try:
            values[key] = OPTIONS[key].read(value)
        except argparse.ArgumentTypeError:
            raise FwMagicError(f"{key} is {value}, but it takes {OPTIONS[key].type.wanted}.") from None
    return Options(name, **values)


# --- a line --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptionLine:
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
        from IPython.core.error import UsageError

        where = f"%%{self.magic}" if self.number is None else f"%%{self.magic} in line {self.number}"
        return UsageError(f"{where}: {sentence}")


class _OptionOnce(argparse.Action):
    """Store a value, or a switch's constant; an option that is given twice is an error."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        if hasattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "is given twice; leave one of them out")
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)


_NAME = re.compile(r"\w[\w .+-]*")


_ALONE = (
    ("NAME -o report", "the variant is called NAME; the report is bound to `report`"),
    ("--mode all --budget 6", "eagerly and compiled, and longer, to be surer"),
    ("--inputs A,W --isolate", "arrays of the notebook as this framework's; in a process of its own"),
)
_TOGETHER = (
    ("", "sections follow: %%setup if wanted, %%torch, %%jax, %%numpy, each with a name"),
    ("--mode all -o report", "each section eagerly and compiled; the report is bound to `report`"),
    ("--budget 6 --threads 1", "longer, to be surer; a process a variant, each with one thread"),
)
# The options that a help explains; it only names the others.
_EXPLAINED = ("mode", "budget", "baseline", "inputs", "isolate", "output")


def helped(magic: str) -> Callable[[F], F]:
    """Return the decorator that gives the magic `torch`, `jax` or `compare` its help: of one screen, for `%%torch?`."""

    def decorate(function: F) -> F:
        function.__doc__ = f"{function.__doc__}\n\n{_help_text(magic)}"
        return function

    return decorate


def _help_text(magic: str) -> str:
    """Return three examples, the options that are used most, and the names of all others."""
    place, examples = ("compare", _TOGETHER) if magic == "compare" else ("lone", _ALONE)
    lines = [f"    {f'%%{magic} {options}'.rstrip():<34}# {meaning}" for options, meaning in examples]
    told = {one: " ".join([*one.short, one.flag, one.type.metavar]).strip() for one in _allowed_options(place, magic)}
    explained = [one for one in told if one.name in _EXPLAINED]
    lines.append("")
    for one in explained:
        flag = "--mode MODE" if one.name == "mode" else told[one]
        lines += textwrap.wrap(f"{flag:<19} {one.sentence}", 100, subsequent_indent=" " * 20, break_on_hyphens=False)
    others = ", ".join(text.replace(" ", "\xa0") for one, text in told.items() if one not in explained)
    lines += ["", *textwrap.wrap(f"and {others}: see docs/magics.md", 100, break_on_hyphens=False)]
    return "\n".join(lines).replace("\xa0", " ")


def parse_line(magic: str, text: str) -> OptionLine:
    """Return what the own line of `%%torch`, `%%jax` or `%%compare` asks for.

    Raises
    ------
    UsageError
        An option does not exist, does not belong here, or has a value that it cannot have.
    """
    return _parse_options(OptionLine(magic, None, {}), "compare" if magic == "compare" else "lone", text)


def parse_header(framework: str, text: str, number: int) -> OptionLine:
    """Return what a section's header asks for; `text` follows `%%framework`, `number` is its line in the cell.

    Raises
    ------
    UsageError
        As `parse_line`; and `%%setup` takes no options.
    """
    return _parse_options(OptionLine(framework, number, {}), "setup" if framework == "setup" else "section", text)


def _parse_options(line: OptionLine, place: str, text: str) -> OptionLine:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise line.error(f"{str(error).lower()}; close the quotation mark, or take it out") from None
    allowed = _allowed_options(place, line.magic)
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
        raise line.error(_unexpected_on_line(word, line.magic, place, [option.flag for option in allowed]))
    for name in others:
        if not _NAME.fullmatch(name):
            raise line.error(f"{name!r} is no name for a section; use letters, digits, spaces and any of _ . + -")
        found.name = name
    return OptionLine(line.magic, line.number, vars(found))


def _allowed_options(place: str, magic: str) -> list[Option]:
    of_any = magic == "compare"
    return [one for one in OPTIONS.values() if place in one.places and (of_any or one.belongs in (None, magic))]


def _unexpected_on_line(word: str, magic: str, place: str, flags: list[str]) -> str:
    """Return why `word`, which the parser did not take, cannot stand here, and the way out."""
    flag = word.split("=")[0]
    known = next((option for option in OPTIONS.values() if flag in (option.flag, *option.short)), None)
    if place == "setup":
        return f"{word!r} cannot stand here: %%setup takes no options and no name; write them on the %%compare line"
    if known is not None and known.belongs is not None:
        return f"{flag} belongs to {known.belongs}; leave it out, or write it on a %%{known.belongs} line"
    if known is not None and place == "section":
        return f"{flag} holds for all sections together; write it on the %%compare line"
    if known is not None:
        return f"{flag} belongs to %%compare; leave it out, or compare sections with %%compare"
    if flag.startswith("-"):
        asked = "compare" if place == "section" else magic
        return f"there is no option {flag}{_meant_option(flag, flags) or f'; %%{asked}? lists the options'}"
    if place == "compare":
        return f"{word!r} cannot stand here: %%compare takes no name; name a section, as in %%torch {word}"
    return f"{word!r} follows a name; quote a name of several words, or begin the cell's code on the next line"


def _meant_option(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the known word nearest to `word`, or nothing."""
    import difflib  # only where a word is unknown: loading the extension costs next to nothing

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


# --- the options of each section -----------------------------------------------------------------------------


def resolve_options(line: OptionLine, defaults: Mapping[str, Any]) -> Options:
    """Return the options of a `%%torch` or `%%jax` cell; `defaults` are fields of `Options`.

    Raises
    ------
    UsageError
        An option cannot take effect together with another one.
    """
    options = _merged_options(line, OptionLine(line.magic, None, {}), line.name or line.magic, defaults)
    _check_run_options(line, [options])
    return options


def resolve_sections(
    line: OptionLine, headers: Mapping[str, OptionLine], defaults: Mapping[str, Any]
) -> tuple[Options, ...]:
    """Return each section's options: its own, else those of the `%%compare` line, else the defaults.

    Parameters
    ----------
    line : OptionLine
        The `%%compare` line.
    headers : mapping of str to OptionLine
        The sections' headers by the sections' names, in their order.
    defaults : mapping
        Fields of `Options`; one that a section cannot use is left out for it.

    Raises
    ------
    UsageError
        An option cannot take effect anywhere, or `--baseline` names no variant.
    """
    sections = tuple(_merged_options(header, line, name, defaults) for name, header in headers.items())
    for option in _written_options(line):
        if option.of_run:
            continue
        free = [(h, s) for h, s in zip(headers.values(), sections, strict=True) if option.name not in h.values]
        if not free:
            raise line.error(f"{option.flag} has no effect, since each section has its own; leave it out")
        value = line.values[option.name]
        obstacles = [_obstacle_to_option(option, value, header.magic, section.mode) for header, section in free]
        if all(obstacles):
            raise line.error(f"{option.flag} {obstacles[0]}")
    _check_run_options(line, sections)
    _check_baseline_option(line, sections)
    _check_policy_options(line, {header.magic for header in headers.values()})
    return sections


def _merged_options(own: OptionLine, shared: OptionLine, name: str, defaults: Mapping[str, Any]) -> Options:
    """Return a section's options: `own`, else those of `shared` and then `defaults` that can take effect in it."""
    outer = {**defaults, **shared.values}
    if "mode" in outer and _obstacle_to_option(OPTIONS["mode"], outer["mode"], own.magic, outer["mode"]):
        del outer["mode"]
    mode = own.values.get("mode", outer.get("mode", Options.mode))
    for option in _written_options(own):
        if obstacle := _obstacle_to_option(option, own.values[option.name], own.magic, mode):
            raise own.error(f"{option.flag} {obstacle}")
    usable = {
        key: value for key, value in outer.items() if not _obstacle_to_option(OPTIONS[key], value, own.magic, mode)
    }
    given = {*own.values, *(shared.values.keys() & usable.keys())} - {"name"}
    return Options(**{**usable, **own.values, "name": name, "given": frozenset(given)})


def _written_options(line: OptionLine) -> list[Option]:
    return [option for option in OPTIONS.values() if option.name in line.values]


def _obstacle_to_option(option: Option, value: Any, framework: str, mode: str) -> str | None:
    """Return why the option cannot take effect in a section of that framework and mode, None if it can."""
    if option.belongs not in (None, framework):
        return f"belongs to {option.belongs}, and there is no %%{option.belongs} section; leave it out, or add one"
    if option.name == "mode" and value in ("compiled", "all"):
        # Only where it matters: a section's framework is imported for this.
        from fwmagic.frameworks import get

        if not get(framework).strategy:
            return f"{value} cannot take effect, since {get(framework).title} compiles nothing; leave it out"
    return None if option.of_run else _unmet_need(option, [mode], {})


def _unmet_need(option: Option, modes: Sequence[str], line: Mapping[str, Any]) -> str | None:
    """Return what is said of the first need of an option that is not met, None if all are."""
    return next((need.sentence.format(mode=modes[0]) for need in option.needs if not need.met(modes, line)), None)


def _check_run_options(line: OptionLine, sections: Sequence[Options]) -> None:
    """Raise if an option that is the same for all sections has nothing to act on."""
    modes = [section.mode for section in sections]
    for option in _written_options(line):
        if option.of_run and (obstacle := _unmet_need(option, modes, line.values)):
            raise line.error(f"{option.flag} {obstacle}")


def _check_baseline_option(line: OptionLine, sections: Sequence[Options]) -> None:
    """Raise if the baseline is no variant that is timed."""
    timed = [name for section in sections for name, mode in section.variants().items() if mode != "debug"]
    baseline = line.values.get("baseline")
    if baseline is not None and baseline not in timed:
        names = ", ".join(timed)
        raise line.error(
            f"--baseline {baseline} names no timed variant; there are: {names}{_meant_option(baseline, timed)}"
        )


def _check_policy_options(line: OptionLine, frameworks: set[str]) -> None:
    """Raise if a policy belongs to a framework without a section; of `all` of them those are left out."""
    asked = line.values.get("alloc", ())
    absent = sorted(_owners_of_policies(asked) - frameworks)
    if absent and (
        _owners_of_policies(asked) != _owners_of_policies(_read_policies_option("all"))
        or not _owners_of_policies(asked) & frameworks
    ):
        raise line.error(f"--alloc names policies of {absent[0]}, and there is no %%{absent[0]} section; add one")


def _owners_of_policies(policies: Iterable[str]) -> set[str]:
    """Return the frameworks of policies, which are named `framework:policy`."""
    return {policy.split(":")[0] for policy in policies}
