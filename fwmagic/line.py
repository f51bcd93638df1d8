"""One line of a magic, or a header of a section: what it asks for, its help, and the options that come of it."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fwmagic.options import OPTIONS, Option, Options, meant_option

if TYPE_CHECKING:
    from IPython.core.error import UsageError

F = TypeVar("F", bound=Callable[..., Any])


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
_EXPLAINED = ("mode", "debug", "budget", "baseline", "inputs", "isolate", "output")


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
    told = {one: " ".join([*one.short, one.flag, one.type.metavar]).strip() for one in allowed_options(place, magic)}
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
    allowed = allowed_options(place, line.magic)
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    for option in allowed:
        parser.add_argument(*option.short, option.flag, **option.keywords())
    try:
        found, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        message, flag = error.message, (error.argument_name or "").split("/")[-1]
        if message.startswith("expected one argument"):
            message = f"needs a value: {next(one.type.wanted for one in allowed if one.flag == flag)}"
        elif message.startswith("ignored explicit argument"):
            message = "takes no value"
        raise line.error(f"{flag} {message}") from None
    unknown = [word for word in others if word.startswith("-") or place in ("compare", "setup")]
    for word in [*unknown, *others[1:]]:
        raise line.error(_unexpected_on_line(word, line.magic, place, [option.flag for option in allowed]))
    for name in others:
        if not _NAME.fullmatch(name):
            raise line.error(f"{name!r} is no name for a section; use letters, digits, spaces and any of _ . + -")
        found.name = name
    return OptionLine(line.magic, line.number, vars(found))


def allowed_options(place: str, magic: str) -> list[Option]:
    """Return the options of a magic's own line (place `lone` or `compare`), or of a `section`'s header."""
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
    if known is not None and known.places == ("lone",):
        return f"{flag} belongs to a cell of its own, %%torch {flag} or %%jax {flag}; leave it out"
    if known is not None and place == "section":
        return f"{flag} holds for all sections together; write it on the %%compare line"
    if known is not None:
        return f"{flag} belongs to %%compare; leave it out, or compare sections with %%compare"
    if flag.startswith("-"):
        asked = "compare" if place == "section" else magic
        return f"there is no option {flag}{meant_option(flag, flags) or f'; %%{asked}? lists the options'}"
    if place == "compare":
        return f"{word!r} cannot stand here: %%compare takes no name; name a section, as in %%torch {word}"
    return f"{word!r} follows a name; quote a name of several words, or begin the cell's code on the next line"


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
        obstacles = [_obstacle_to_option(option, value, header.magic, section.mode, {}) for header, section in free]
        if all(obstacles):
            raise line.error(f"{option.flag} {obstacles[0]}")
    _check_run_options(line, sections)
    _check_baseline_option(line, sections)
    _check_policy_options(line, {header.magic for header in headers.values()})
    return sections


def _merged_options(own: OptionLine, shared: OptionLine, name: str, defaults: Mapping[str, Any]) -> Options:
    """Return a section's options: `own`, else those of `shared` and then `defaults` that can take effect in it."""
    outer = {**defaults, **shared.values}
    if "mode" in outer and _obstacle_to_option(OPTIONS["mode"], outer["mode"], own.magic, outer["mode"], own.values):
        del outer["mode"]
    mode = own.values.get("mode", outer.get("mode", Options.mode))
    for option in _written_options(own):
        if obstacle := _obstacle_to_option(option, own.values[option.name], own.magic, mode, own.values):
            raise own.error(f"{option.flag} {obstacle}")
    usable = {
        key: value
        for key, value in outer.items()
        if not _obstacle_to_option(OPTIONS[key], value, own.magic, mode, own.values)
    }
    given = {*own.values, *(shared.values.keys() & usable.keys())} - {"name"}
    return Options(**{**usable, **own.values, "name": name, "given": frozenset(given)})


def _written_options(line: OptionLine) -> list[Option]:
    return [option for option in OPTIONS.values() if option.name in line.values]


def _obstacle_to_option(option: Option, value: Any, framework: str, mode: str, line: Mapping[str, Any]) -> str | None:
    """Return why the option cannot take effect in a section of that framework, mode and line; None if it can."""
    if option.belongs not in (None, framework):
        return f"belongs to {option.belongs}, and there is no %%{option.belongs} section; leave it out, or add one"
    if option.name == "mode" and value in ("compiled", "all"):
        # Only where it matters: a section's framework is imported for this.
        from fwmagic.frameworks import get

        if not get(framework).strategy:
            return f"{value} cannot take effect, since {get(framework).title} compiles nothing; leave it out"
    return None if option.of_run else _unmet_need(option, [mode], line)


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
    timed = [name for section in sections for name in section.variants()]
    baseline = line.values.get("baseline")
    if baseline is not None and baseline not in timed:
        names = ", ".join(timed)
        raise line.error(
            f"--baseline {baseline} names no timed variant; there are: {names}{meant_option(baseline, timed)}"
        )


def _check_policy_options(line: OptionLine, frameworks: set[str]) -> None:
    """Raise if a policy belongs to a framework without a section; of `all` of them those are left out."""
    asked = line.values.get("alloc", ())
    absent = sorted(_owners_of_policies(asked) - frameworks)
    if absent and (
        _owners_of_policies(asked) != _owners_of_policies(OPTIONS["alloc"].read("all"))
        or not _owners_of_policies(asked) & frameworks
    ):
        raise line.error(f"--alloc names policies of {absent[0]}, and there is no %%{absent[0]} section; add one")


def _owners_of_policies(policies: Iterable[str]) -> set[str]:
    """Return the frameworks of policies, which are named `framework:policy`."""
    return {policy.split(":")[0] for policy in policies}
