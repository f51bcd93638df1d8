"""What the runs of a notebook share: its session, and what is asked of a section's code and generators."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.analyse import Body
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.ways import Programs
from fwmagic.frameworks import Framework
from fwmagic.run.variants import Section


@dataclass(frozen=True)
class Session:
    """What runs share: the notebook's namespace, its shell (None: no IPython), and the compiled programs."""

    namespace: dict[str, Any]
    programs: Programs
    shell: Any = None
    execution_count: int | None = None


def nothing_in(body: Body) -> str:
    """Return why a body without work has none, as the end of a sentence."""
    made = ", ".join(f"`{name}`" for name in sorted(body.defined))
    return f"it only defines {made}" if made else "it holds no code that does anything"


def names_of(body: Body) -> list[str]:
    """Return every name that a section reads or binds; those that it binds come last."""
    bound = body.assigned | body.defined
    return [*sorted((body.all_reads | body.reads) - bound), *sorted(bound)]


def snapshot_of(session: Session, names: list[str], section: Section) -> Snapshot:
    """Return a snapshot of what the section can reach."""
    adapters = {framework.name: framework for framework in [*frameworks.loaded(), section.framework]}
    return Snapshot(session.namespace, names, list(adapters.values()))


def seed_all(seed: int, *more: Framework) -> None:
    """Seed the global random generators of `random`, NumPy and the frameworks."""
    random.seed(seed)
    for framework in {framework.name: framework for framework in [*frameworks.loaded(), *more]}.values():
        framework.seed(seed)


def devices_of(sections: Iterable[Section]) -> dict[str, str]:
    """Return the devices that the user asked for, by framework."""
    return {s.framework.name: s.options.device for s in sections if s.options.device is not None}
