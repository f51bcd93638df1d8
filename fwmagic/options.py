"""The options: each is declared once, in `Options`; the lines of magics, their help and `%config` come from there."""

from __future__ import annotations

import argparse
import builtins
import keyword
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fwmagic.errors import FwMagicError

if TYPE_CHECKING:
    from fwmagic.frameworks import Framework

F = TypeVar("F", bound=Callable[..., Any])

# The names by which IPython keeps inputs and outputs, and its commands.
_OF_IPYTHON = re.compile(r"In|Out|exit|quit|get_ipython|_+|_i{1,3}|_i?\d+|_[iod]h")

# Records are named tuples here: a dataclass takes ten times as long to make, each time that fwmagic is loaded.

# --- how a value is read -------------------------------------------------------------------------------------


class ValueType(NamedTuple):
    """The values that an option takes: what is `wanted` of one, in words, its stand-in in a help, its Python type.

    `read` takes the text of a line or a Python value. It raises ValueError or TypeError for what is not wanted, or
    `argparse.ArgumentTypeError` with a sentence of its own. `offers` returns what completion proposes, given the
    notebook's names and those of the variants of the cell.
    """

    wanted: str
    metavar: str
    read: Callable[[Any], Any]
    python: type = str
    choices: tuple[str, ...] = ()
    offers: Callable[[Mapping[str, Any], Sequence[str]], Iterable[str]] = lambda *_: ()


def _choice_type(*allowed: str) -> ValueType:
    def read(text: str) -> str:
        if text in allowed:
            return text
        raise argparse.ArgumentTypeError(f"is one of {', '.join(allowed)}, not {text!r}{meant_option(text, allowed)}")

    wanted, metavar = f"one of {', '.join(allowed)}", "{" + ",".join(allowed) + "}"
    return ValueType(wanted, metavar, read, choices=allowed, offers=lambda *_: allowed)


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


def _known_policies(*_: Any) -> list[str]:
    """Return the policies of the frameworks that are imported: completion imports none."""
    from fwmagic.frameworks import loaded

    return ["all", *(str(policy) for framework in loaded() for policy in framework.memory.policies)]


def _reports_in(namespace: Mapping[str, Any], _: Any) -> list[str]:
    from fwmagic.report import Report

    return sorted({"report", *(name for name, value in list(namespace.items()) if type(value) is Report)})


def _arrays_in(namespace: Mapping[str, Any], _: Any) -> list[str]:
    from fwmagic.frameworks import loaded

    known = loaded()
    return sorted(name for name, value in list(namespace.items()) if name[:1] != "_" and _is_array(value, known))


def _is_array(value: Any, known: Iterable[Framework]) -> bool:
    try:
        return any(framework.is_array(value) for framework in known)
    except Exception:  # the class is the user's, and may raise whatever it is asked
        return False


def _read_file_option(text: str) -> str:
    if not Path(text).parent.is_dir():
        raise argparse.ArgumentTypeError(f"names the folder {str(Path(text).parent)!r}, which does not exist: make it")
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"takes a file, and {text!r} is a folder: name a file in it")
    return text


_SWITCH = ValueType("yes or no", "", bool, bool)
_MODE = _choice_type("auto", "eager", "compiled", "all")
_COMPILE_MODE = _choice_type("default", "reduce-overhead", "max-autotune")
_SECONDS = _number_type("seconds greater than 0", "SECONDS", float, lambda x: 0 < x < math.inf)
_FRACTION = _number_type("a fraction from 0 to below 1, such as 0.01 for 1 %", "FRACTION", float, lambda x: 0 <= x < 1)
_COUNT = _number_type("a whole number greater than 0", "N", int, lambda x: x > 0)
_SEED = _number_type("a whole number from 0 to 4294967295", "N", int, lambda x: 0 <= x < 2**32)
_DEVICE = ValueType(
    "cpu, cuda, cuda:N, gpu or gpu:N", "DEVICE", _read_device_option, offers=lambda *_: ("cpu", "cuda", "gpu")
)
_VARIABLE = ValueType("the name of a variable", "NAME", _read_variable_option, offers=_reports_in)
_VARIABLES = ValueType("names of variables", "A,W", _read_variables_option, tuple, offers=_arrays_in)
_VARIANT = ValueType("the name of a variant", "NAME", str, offers=lambda _, variants: variants)
_THREADS = ValueType(_COUNT.wanted, "N", _read_threads_option, int)
_POLICIES = ValueType("policies", "POLICIES", _read_policies_option, tuple, offers=_known_policies)
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


def _variants_in_modes(modes: Sequence[str]) -> int:
    """Return how many variants sections in these modes have."""
    return sum(len(_variants(mode)) for mode in modes)


def _is_asked(switch: str, line: Mapping[str, Any]) -> bool:
    """Say whether a line turns a switch on, by itself or by an option that implies it."""
    return any(name in line for name, one in OPTIONS.items() if switch in (name, one.implies))


_MEASURED = OptionNeed(
    "has no effect with --debug, which runs the cell in the notebook itself and times nothing; leave it out",
    lambda _, line: not _is_asked("debug", line),
)
_COMPILING = OptionNeed(
    "has no effect in mode {mode}, which compiles nothing; leave it out, or choose another --mode",
    lambda modes, _: set(modes) != {"eager"},
)
_PAIR = OptionNeed(
    "needs two timed variants; add --mode all or a section, or leave it out",
    lambda modes, _: _variants_in_modes(modes) > 1,
)
_SECTIONS = OptionNeed(
    "needs two sections that are timed; add one, or leave it out",
    lambda modes, _: len(modes) > 1,
)
_CHECKED = OptionNeed(
    "is about outputs that differ, and --no-check compares none; leave one of them out",
    lambda _, line: line.get("check", True),
)
_HERE = OptionNeed(
    "runs in the notebook itself; leave out what runs variants in processes of their own",
    lambda _, line: not _is_asked("isolate", line),
)
_MEMORY = OptionNeed(
    "measures memory, and --no-memory turns that off; leave one of them out",
    lambda _, line: line.get("memory", True),
)

# --- the options ---------------------------------------------------------------------------------------------

# Where an option may stand: the line of a %%torch or %%jax cell, that of a %%compare cell, a section's header.
_EVERYWHERE = ("lone", "compare", "section")
_LONE = ("lone",)
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
        told: dict[str, Any] = {"dest": self.name, "action": OptionOnce, "help": self.sentence}
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
        "fall back; all times eager and compiled",
        needs=(_MEASURED,), config=True)
    debug: bool = _option(
        False, _SWITCH, _LONE,
        "run the cell once without a trace, so that print, pdb and branches on values work, and show it line by line "
        "beside its trace")
    try_fix: bool = _option(
        False, _SWITCH, _LONE,
        "run the cell with the lines that the diagnosis proposes, compare what it gives, and offer it as the next cell",
        implies="debug")
    stages: bool = _option(
        False, _SWITCH, _LONE,
        "show the forms of what is compiled, from the trace to the code of the machine, with their time and the lines "
        "of the cell",
        implies="debug")
    compile_mode: str = _option(
        "default", _COMPILE_MODE, _EVERYWHERE, "the mode of torch.compile",
        belongs="torch", needs=(_MEASURED, _COMPILING), config=True)
    fullgraph: bool = _option(
        False, _SWITCH, _EVERYWHERE, "torch.compile fails where it would break the graph",
        belongs="torch", needs=(_MEASURED, _COMPILING))
    budget: float = _option(
        2.0, _SECONDS, _RUN, "wall seconds for warm-up and timing, all variants together",
        needs=(_MEASURED,), config=True, argument=True)
    margin: float = _option(
        0.01, _FRACTION, _RUN, "variants that differ by less than this fraction are called the same",
        needs=(_PAIR,), config=True, argument=True)
    device: str | None = _option(
        None, _DEVICE, _EVERYWHERE, "where to run: cpu, cuda, cuda:N, gpu or gpu:N", config=True)
    inputs: tuple[str, ...] = _option(
        (), _VARIABLES, _EVERYWHERE,
        "arrays of the notebook that the cell gets as copies in its own framework")
    items: int | None = _option(
        None, _COUNT, _EVERYWHERE, "how many items one run of the cell handles: the report adds items per second",
        needs=(_MEASURED,))
    baseline: str | None = _option(
        None, _VARIANT, _COMPARE, "the variant that the others are compared with (default: the first)",
        needs=(_PAIR,), argument=True)
    check: bool = _option(
        True, _SWITCH, _EVERYWHERE, "do not compare the outputs",
        needs=(_MEASURED,), config=True, argument=True)
    first_difference: bool = _option(
        False, _SWITCH, _COMPARE,
        "where the outputs of two sections differ, run both again, line by line, and name the first lines that part",
        needs=(_SECTIONS, _CHECKED, _HERE))
    seed: int | None = _option(None, _SEED, _EVERYWHERE, "seed the random generators before the cell runs")
    keep_going: bool = _option(False, _SWITCH, _COMPARE, "do not end in an error if a variant fails")
    repeat_effects: bool = _option(
        False, _SWITCH, _EVERYWHERE, "time a cell with effects that cannot be undone: they happen every time",
        needs=(_MEASURED,))
    isolate: bool = _option(False, _SWITCH, _RUN, "run each variant in a fresh process", needs=(_MEASURED,))
    threads: int | None = _option(
        None, _THREADS, _RUN, "give each framework so many threads, on the same so many cores",
        needs=(_MEASURED,), implies="isolate")
    timeout: float | None = _option(
        None, _SECONDS, _RUN, "end a variant that does not answer for so many seconds",
        needs=(_MEASURED,), implies="isolate")
    alloc: tuple[str, ...] = _option(
        (), _POLICIES, _COMPARE,
        "measure the memory of each section under these allocator policies, such as jax:ondemand,torch:caching, or all "
        "of them; each in a fresh process, one at a time",
        needs=(_MEMORY,), implies="isolate")
    memory: bool = _option(
        True, _SWITCH, _RUN, "do not measure memory", needs=(_MEASURED,), config=True, argument=True)
    memray: bool = _option(
        False, _SWITCH, _RUN, "find the heap's peak, and the lines of the cell that allocated it, with memray",
        needs=(_MEASURED, _MEMORY))
    flamegraph: str | None = _option(
        None, _FILE, _RUN, "write memray's flame graph of the peak to this HTML file",
        needs=(_MEASURED, _MEMORY), implies="memray")
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


class OptionOnce(argparse.Action):
    """Store a value, or a switch's constant; an option that is given twice is an error."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Store it; raises `argparse.ArgumentError`."""
        if hasattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "is given twice; leave one of them out")
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)


def meant_option(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the known word nearest to `word`, or nothing."""
    import difflib  # only where a word is unknown: loading the extension costs next to nothing

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""
