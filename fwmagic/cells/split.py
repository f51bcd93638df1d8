"""The sections of a %%compare cell: where each begins, what it is called, and the text that it runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fwmagic import frameworks

if TYPE_CHECKING:
    from IPython.core.error import UsageError

#: Sections that one cell may have: all of them take turns, and each is compared with every other one.
MOST_SECTIONS = 100

#: The cell that a magic gets starts in the second line: the first is the %%compare line itself.
FIRST_LINE = 2

# Only a line feed ends a line, as in Python: `str.splitlines` would also split at form feeds and others.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADER = re.compile(r"%%([^\W\d]\S*)(.*)", re.DOTALL)
_OUTSIDE = re.compile(r"#.*|'{3}|\"{3}|['\"]")
_INSIDE = {quote: re.compile(rf"\\(?:\r\n|.)|{quote}", re.DOTALL) for quote in ("'", '"', "'''", '"""')}


class Named(Protocol):
    """What a header says: at least the section's name, None if it gives none."""

    @property
    def name(self) -> str | None:
        """The name that the user gave the section."""


Header = TypeVar("Header", bound=Named)


@dataclass(frozen=True)
class SectionText(Generic[Header]):
    """One section: `header` is its whole first line as written, `options` what was read from it.

    `first_line` is the line of the whole cell, 1-based, where `body` begins.
    """

    framework: str
    name: str
    header: str
    options: Header
    body: str
    first_line: int


@dataclass(frozen=True)
class Setup:
    """The %%setup part, which runs once before all sections; fields as in `SectionText`."""

    header: str
    body: str
    first_line: int


@dataclass(frozen=True)
class Parts(Generic[Header]):
    """A whole cell: `preamble` (blank lines and comments), `setup` and `sections` joined are its text."""

    preamble: str
    setup: Setup | None
    sections: tuple[SectionText[Header], ...]


@dataclass(frozen=True)
class _SplitPart:
    """The lines from one header to the next; the part before the first header has no kind."""

    kind: str
    rest: str
    header: str
    body: str
    line: int

    def __str__(self) -> str:
        return f"%%{self.kind} in line {self.line}"


def split(
    cell: str,
    read: Callable[[str, str, int], Header],
    known: Collection[str] | None = None,
    cell_magics: Collection[str] = (),
) -> Parts[Header]:
    """Return the parts of a %%compare cell.

    A section begins at a line that starts with `%%` and a framework's name, outside of any string. Another cell
    magic, such as `%%time`, may stand at the start of a body and is part of it.

    Parameters
    ----------
    cell : str
        The text below the %%compare line.
    read : callable
        Called as `read(framework, text, line)` with what follows `%%framework` in each header, also of `%%setup`;
        returns what is kept as `SectionText.options`.
    known : collection of str, optional
        The frameworks' names; by default all that could be asked for.
    cell_magics : collection of str, optional
        Names of cell magics that exist, which are therefore no misspelt frameworks.

    Raises
    ------
    UsageError
        There is no section, or an empty one; text stands before the first; a name is used twice or misspelt;
        `%%setup` stands twice or not first; there are more than `MOST_SECTIONS`.
    """
    known = [*(frameworks.names() if known is None else known)]
    preamble, *parts = _split_parts(cell, known, cell_magics)
    if _has_code(preamble.body):
        line = preamble.line + 1 + next(i for i, text in enumerate(preamble.body.split("\n")) if _has_code(text))
        raise _split_error(
            line, f"this text stands before the first section; put it below %%setup, or below {_any_header(known)}"
        )
    for part in parts:
        if not _has_code(part.body):
            raise _split_error(
                part.line, f"the section %%{part.kind} is empty; write its code below this line, or remove it"
            )
    setups = [part for part in parts if part.kind == "setup"]
    if len(parts) - len(setups) > MOST_SECTIONS:
        count = len(parts) - len(setups)
        raise _split_error(
            None, f"{count} sections are more than the {MOST_SECTIONS} that can be compared at once; use several cells"
        )
    if len(setups) > 1:
        raise _split_error(setups[1].line, f"this is a second %%setup; join it to {setups[0]}")
    if setups and parts[0] is not setups[0]:
        raise _split_error(setups[0].line, f"%%setup comes first; move it above {parts[0]}")
    if len(setups) == len(parts):
        raise _split_error(None, f"there is no section to compare; begin one with a line {_any_header(known)}")
    setup = None
    for part in setups:
        read("setup", part.rest, part.line)
        setup = Setup(part.header, part.body, part.line + 1)
    return Parts(preamble.body, setup, tuple(_named_sections(parts[len(setups) :], read)))


def _named_sections(parts: list[_SplitPart], read: Callable[[str, str, int], Header]) -> Iterator[SectionText[Header]]:
    """Yield the sections; one without a name is called after its framework: torch, torch2, torch3."""
    unnamed: dict[str, int] = {}
    first: dict[str, _SplitPart] = {}
    for part in parts:
        options = read(part.kind, part.rest, part.line)
        name = options.name
        if name is None:
            count = unnamed[part.kind] = unnamed.get(part.kind, 0) + 1
            name = part.kind if count == 1 else f"{part.kind}{count}"
        if name in first:
            raise _split_error(
                part.line, f"this section and {first[name]} are both called {name!r}; name one: %%{part.kind} NAME"
            )
        first[name] = part
        yield SectionText(part.kind, name, part.header, options, part.body, part.line + 1)


def _split_parts(cell: str, known: list[str], cell_magics: Collection[str]) -> Iterator[_SplitPart]:
    """Yield the lines before the first header, then each header with its lines."""
    kind, rest, header, line, body, quote = "", "", "", FIRST_LINE - 1, "", ""
    for number, text in enumerate(_LINE.findall(cell), FIRST_LINE):
        found = None if quote else _HEADER.match(text)
        if found and found[1] in (*known, "setup"):
            yield _SplitPart(kind, rest, header, body, line)
            kind, rest, header, line, body = found[1], found[2], text, number, ""
            continue
        if found:
            _check_magic(found[1], number, kind, body, known, cell_magics)
        body += text
        quote = _open_quote(text, quote)
    yield _SplitPart(kind, rest, header, body, line)


def _check_magic(name: str, line: int, kind: str, body: str, known: list[str], cell_magics: Collection[str]) -> None:
    """Raise if the line `%%name`, which follows `body` in its section of that kind, cannot stand there."""
    if name == "compare":
        raise _split_error(line, "a %%compare cannot stand inside another; put it into a cell of its own")
    close = difflib.get_close_matches(name, [*known, "setup"], n=1)
    if close and name not in cell_magics:
        raise _split_error(line, f"there is no section %%{name}; did you mean %%{close[0]}?")
    code = [text for text in body.split("\n") if _has_code(text)]
    if not kind and not code and name not in cell_magics:
        raise _split_error(line, f"there is no section %%{name}; begin one with {_any_header(known)}")
    # The text of another cell magic, such as %%bash, is in that magic's language: it may hold any line.
    if code and not _HEADER.match(code[0]):
        raise _split_error(line, f"%%{name} stands in the middle of a section; move it to the section's first line")


def _open_quote(line: str, quote: str) -> str:
    """Return the quotes of the string that is open after `line`, given those open before it; empty: none is."""
    if not quote and line.lstrip().startswith(("!", "%")):
        return ""
    position, escaped_end = 0, False
    while token := (_INSIDE[quote] if quote else _OUTSIDE).search(line, position):
        position, text = token.end(), token[0]
        escaped_end = text.endswith("\n")
        if quote:
            quote = "" if text == quote else quote
        elif not text.startswith("#"):
            quote = text
    return quote if len(quote) == 3 or escaped_end else ""


def _has_code(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n"))


def _any_header(known: list[str]) -> str:
    return " or ".join(f"%%{name}" for name in known)


def _split_error(line: int | None, sentence: str) -> UsageError:
    from IPython.core.error import UsageError

    where = "%%compare" if line is None else f"%%compare in line {line}"
    return UsageError(f"{where}: {sentence}")
