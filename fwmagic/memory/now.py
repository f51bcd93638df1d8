"""What memory holds now: the ledgers of the devices and of the host, and the largest arrays with what holds them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import psutil

from fwmagic import frameworks
from fwmagic.format import size
from fwmagic.memory import device, nvml
from fwmagic.memory.device import UNKNOWN_CONTEXT, DeviceReadings, device_ledger
from fwmagic.memory.holders import Held, largest_held
from fwmagic.report import Amount, Ledger


@dataclass(frozen=True)
class Now:
    """What `%memory` shows: ledgers as they are now, and the largest live arrays, the largest first."""

    ledgers: tuple[Ledger, ...]
    arrays: tuple[Held, ...]

    def __str__(self) -> str:
        lines = ["memory now", *(f"  {_ledger_now(ledger)}" for ledger in self.ledgers)]
        lines += ["", "largest arrays" if self.arrays else "no array of 1 KiB or more is alive"]
        widths = [max((len(cells[i]) for cells in map(_array_now, self.arrays)), default=0) for i in range(3)]
        for cells in map(_array_now, self.arrays):
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
            lines.append(f"  {'  '.join(padded)}  {cells[-1]}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        ledgers = "".join(f"<li>{escape(_ledger_now(ledger))}</li>" for ledger in self.ledgers)
        head = "".join(f'<th scope="col">{name}</th>' for name in ("size", "array", "device", "held by"))
        rows = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in _array_now(array)) + "</tr>"
            for array in self.arrays
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return {"text/plain": str(self), "text/html": f"<ul>{ledgers}</ul>{table}"}


def now(namespace: dict[str, Any], count: int) -> Now:
    """Return what memory holds now: of every device in use, of the host, and the `count` largest arrays.

    Nothing is started: a framework that has not used a device yet is not asked. Garbage is collected first.
    """
    gc.collect()
    alive = {framework.name: framework.memory.live() for framework in frameworks.loaded()}
    arrays = largest_held(alive, namespace, count)
    return Now((*_devices_now(), _host_now()), arrays)


def _devices_now() -> Iterator[Ledger]:
    started = [framework for framework in frameworks.loaded() if framework.memory.started()]
    places = {framework.name: framework.memory.device(None) for framework in started}
    for framework in started:
        where = places[framework.name]
        if where is None:
            continue
        counters = framework.memory.counters(where)
        at_once = replace(counters, peak_in_use=counters.in_use, peak_held=counters.held)
        others = [
            (other.title, other.memory.counters(place).held)
            for other in started
            if other is not framework and (place := places[other.name]) is not None and place.ordinal == where.ordinal
        ]
        uuid, how = device.identify(where.ordinal, where.uuid)
        reading = nvml.read(uuid)
        ledger = device_ledger(
            where.name, DeviceReadings(at_once, at_once, at_once, reading, UNKNOWN_CONTEXT, tuple(others))
        )
        yield replace(ledger, device=f"{where.name} by {framework.title}", start=None, source=how)


def _host_now() -> Ledger:
    """Return the ledger of the host: this process's resident memory, what is available, and the rest."""
    memory, own = psutil.virtual_memory(), int(psutil.Process().memory_info().rss)
    rest = int(memory.total - memory.available - own)
    others = Amount("other processes", rest, "psutil: not available, less this process's")
    if rest < 0:  # what this process shares with others counts as available
        others = Amount("other processes", None, why="a part of this process's memory is shared")
    mine = Amount("in use", own, "resident memory of this process")
    return Ledger("host", int(memory.total), (others, mine, Amount("free", int(memory.available), "psutil: available")))


def _ledger_now(ledger: Ledger) -> str:
    known = ", ".join(f"{one.kind} {size(one.bytes)}" for one in ledger.peak if one.bytes is not None)
    missing = ", ".join(f"{one.kind}: not available: {one.why}" for one in ledger.peak if one.bytes is None)
    total = f" of {size(ledger.total)}" if ledger.total is not None else ""
    return "; ".join(part for part in (f"{ledger.device}{total}: {known}", missing, ledger.note) if part)


def _array_now(array: Held) -> tuple[str, str, str, str]:
    return size(array.bytes), f"{array.framework} {array.what}", array.device, ", ".join(array.holders)
