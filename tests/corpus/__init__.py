"""The corpus: notebook cells as data, one TOML file a group, read into frozen dataclasses."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """One cell: `setup` are notebook cells run plainly before it, `then` one that is run plainly after it.

    `raises` names the class that the plain cell ends with, if any; `volatile` are names whose values differ
    from run to run (clocks), so that only their types are compared.
    """

    name: str
    framework: str
    tags: frozenset[str]
    setup: tuple[str, ...]
    body: str
    then: str = ""
    raises: str | None = None
    volatile: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The name that a test is shown under."""
        return f"{self.framework}-{self.name}"


def _cells(path: Path) -> list[Cell]:
    """Return the cells of one file; its top-level `setup` precedes the setup of each cell."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    known = {"name", "tags", "setup", "body", "then", "raises", "volatile"}
    cells = []
    for entry in data["cell"]:
        unknown = set(entry) - known
        if unknown:
            raise ValueError(f"{path.name}: cell {entry.get('name')!r} has unknown keys {sorted(unknown)}")
        setup = tuple(text for text in (data.get("setup", ""), entry.get("setup", "")) if text.strip())
        cells.append(
            Cell(
                name=entry["name"],
                framework=data["framework"],
                tags=frozenset(entry["tags"]) | frozenset(data.get("tags", ())),
                setup=setup,
                body=entry["body"],
                then=entry.get("then", ""),
                raises=entry.get("raises"),
                volatile=tuple(entry.get("volatile", ())),
            )
        )
    return cells


def load() -> list[Cell]:
    """Return every cell of the corpus, file by file in alphabetical order."""
    return [cell for path in sorted(FOLDER.glob("*.toml")) for cell in _cells(path)]
