"""What may follow on a line of a magic: options, their values and sections, for IPython's completer."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fwmagic.line import allowed_options, parse_header
from fwmagic.options import Option, Options

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

_IDENTIFIER = "fwmagic"
# Before IPython's own: what Python could mean by the words of an option line is of no use there.
_PRIORITY = 200
_HEADER = re.compile(r"%%([^\W\d]\S*)(.*)")


def add_completion(shell: InteractiveShell, magics: Collection[str]) -> None:
    """Let the completer of a shell propose what the cells of these magics take."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier=_IDENTIFIER, priority=_PRIORITY)  # type: ignore[untyped-decorator]
    def complete(context: CompletionContext) -> SimpleMatcherResult:
        rows, line = context.full_text.split("\n"), context.cursor_line
        fragment, proposals = proposed(rows, line, context.cursor_position, shell.user_ns, magics)
        return {
            "completions": [SimpleCompletion(text, type="magic") for text in proposals],
            "matched_fragment": fragment,
            "ordered": True,
            "suppress": True,
            # another cell magic may stand first in a section
            "do_not_suppress": {"IPCompleter.magic_matcher"} if fragment.startswith("%") else set(),
        }

    remove_completion(shell)
    shell.Completer.custom_matchers.append(complete)


def remove_completion(shell: InteractiveShell) -> None:
    """Take back what `add_completion` did."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != _IDENTIFIER]


def proposed(
    rows: Sequence[str], line: int, column: int, namespace: Mapping[str, Any], magics: Collection[str]
) -> tuple[str, list[str]]:
    """Return the text before the cursor that is to be replaced, and what may take its place, in its order.

    `rows` are the lines of the cell; the cursor is before character `column` of the row `line`, both from 0.
    """
    # Only now, so that loading the extension costs next to nothing.
    from fwmagic.frameworks import names

    known = names()
    own = next((i for i, row in enumerate(rows) if row.strip()), 0)
    first, before = _HEADER.match(rows[own]), rows[line][:column]
    if first is None or first[1] not in magics or line < own:
        return "", []
    if line > own and first[1] == "compare" and re.fullmatch(r"%%?\w*", before):
        return before, _beginning(before, [f"%%{name}" for name in ("setup", *known)])
    header = _HEADER.match(before)
    of_section = line > own and first[1] == "compare" and header is not None and header[1] in known
    words = before.split()
    if header is None or not (line == own or of_section) or any(word.startswith("#") for word in words):
        return "", []
    place = "section" if of_section else "compare" if first[1] == "compare" else "lone"
    given, fragment = (words, "") if before[-1].isspace() else (words[:-1], words[-1])
    if not given:  # the name of the magic is being written
        return "", []
    options = allowed_options(place, header[1])
    flag, separator, value = fragment.partition("=")
    asked = _taking_a_value(options, flag if separator else given[-1])
    if asked is not None:
        value = value if separator else fragment
        named = asked.type.offers(namespace, list(_variants(rows[own:], known)))
        return _value(value, map(shlex.quote, named), several=asked.type.python is tuple)
    written = {word.partition("=")[0] for word in given}
    free = [one for one in options if written.isdisjoint((one.flag, *one.short))]
    return fragment, _beginning(fragment, [one.flag for one in free] + [short for one in free for short in one.short])


def _beginning(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _taking_a_value(options: Iterable[Option], flag: str) -> Option | None:
    return next((one for one in options if flag in (one.flag, *one.short) and not one.switch), None)


def _value(written: str, names: Iterable[str], several: bool) -> tuple[str, list[str]]:
    """Return the part of a value that is to be replaced, and by what: of several, the last one, by a new one."""
    *there, last = written.split(",") if several else [written]
    return last, [name for name in _beginning(last, names) if name not in there]


def _variants(rows: Sequence[str], known: Collection[str]) -> Iterator[str]:
    """Yield the names of the variants of a %%compare cell, as far as its headers can be read."""
    from IPython.core.error import UsageError

    shared = re.search(r"--mode[ =](\w+)", rows[0])
    unnamed: dict[str, int] = {}
    for number, row in enumerate(rows[1:], 2):
        header = _HEADER.match(row)
        if header is None or header[1] not in known:
            continue
        try:
            read = parse_header(header[1], header[2], number)
        except UsageError:  # still being written
            continue
        name = read.name
        if name is None:
            count = unnamed[header[1]] = unnamed.get(header[1], 0) + 1
            name = header[1] if count == 1 else f"{header[1]}{count}"
        yield from Options(name, mode=read.values.get("mode", shared[1] if shared else Options.mode)).variants()
