"""A section of a run: its name, its framework, its code and its options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fwmagic.cells.analyse import Body
from fwmagic.frameworks import Framework
from fwmagic.options import Options


@dataclass(frozen=True)
class Section:
    """One section of a run, as the user wrote it; what a run finds out about it is kept by who found it out."""

    name: str
    framework: Framework
    body: Body
    options: Options


def devices_of_sections(sections: Iterable[Section]) -> dict[str, str]:
    """Return the devices that the user asked for, by framework."""
    return {s.framework.name: s.options.device for s in sections if s.options.device is not None}
