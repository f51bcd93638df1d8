"""A report while it is being made: every change is a new frozen report, and goes to whoever shows it."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fwmagic.report import Finding, Report, Variant

Show = Callable[[Report], None]

#: What a variant's status is until it is done.
_OPEN = ("waiting", "running")


class Draft:
    """The report of one execution, and the function that shows it."""

    def __init__(self, magic: str, show: Show, **facts: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.report = Report(secrets.token_hex(8), now, magic, "running", **facts)
        self._show = show

    def change(self, **facts: Any) -> None:
        """Set fields of the report and show it."""
        self.report = replace(self.report, **facts)
        self._show(self.report)

    def variant(self, name: str, **facts: Any) -> None:
        """Set fields of one variant."""
        variants = tuple(replace(v, **facts) if v.name == name else v for v in self.report.variants)
        self.change(variants=variants)

    def add(self, variant: Variant) -> None:
        """Add a variant."""
        self.change(variants=(*self.report.variants, variant))

    def interrupt(self, note: str) -> None:
        """Note that Ctrl-C ended the run; variants that were not done are marked."""
        variants = tuple(replace(v, status="interrupted") if v.status in _OPEN else v for v in self.report.variants)
        self.change(state="interrupted", note=note, variants=variants)

    def fail(self, note: str) -> None:
        """Note that an error outside of the variants ended the run; those that were not done are marked."""
        variants = tuple(replace(v, status="not timed") if v.status in _OPEN else v for v in self.report.variants)
        self.change(state="failed", note=note, variants=variants)

    def find(self, *findings: Finding) -> None:
        """Add findings."""
        if findings:
            self.change(findings=(*self.report.findings, *findings))
