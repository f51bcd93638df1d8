"""A report in words, for a view that is to word nothing itself, such as the panel in JupyterLab."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

from fwmagic import wire
from fwmagic.remarks import Group, Line, Table, conditions, details, table
from fwmagic.report import Report
from fwmagic.sentences import Sentence, headline


@dataclass(frozen=True)
class Words:
    """All that the text of a report says, in its parts."""

    headline: tuple[Sentence, ...]
    table: Table
    details: tuple[Group, ...]
    conditions: tuple[Line, ...]


def to_words(report: Report) -> dict[str, Any]:
    """Return the words of a report as JSON-ready values."""
    words = Words(
        headline=tuple(headline(report)),
        table=table(report),
        details=tuple(details(report)),
        conditions=tuple(conditions(report)),
    )
    return typing.cast("dict[str, Any]", wire.plain(words, None))
