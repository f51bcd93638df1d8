"""Which device a CUDA ordinal of a process means, as a UUID; where that cannot be known, it is unknown.

The rules are those of the CUDA C Programming Guide, "CUDA Environment Variables", and, for instances of a GPU, of
NVIDIA's Multi-Instance GPU User Guide, "CUDA Device Enumeration". NVML knows neither variable, and its own order is
neither of CUDA's two.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from fwmagic.errors import FwMagicError
from fwmagic.memory import cuda, nvml
from fwmagic.memory.nvml import Card

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"

_NUMBER = re.compile(r"([+-]?)([0-9]+)")
# A number that C reads differently by the base it is told: octal, hexadecimal, binary.
_OTHER_BASE = re.compile(r"[+-]?0[0-9bBxX]")
_INSTANCE = re.compile(r"MIG-(GPU-[^/]*)/([0-9]+)/([0-9]+)")
_BUS_ID = re.compile(r"([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)\.([0-9a-fA-F]+)")


@dataclass(frozen=True)
class _Entry:
    """One entry of CUDA_VISIBLE_DEVICES: `key` is the same for two entries that name the same device."""

    kind: Literal["index", "gpu", "instance"]
    key: str | int
    uuid: str | None
    partitioned: bool = False


def uuids(environ: Mapping[str, str], cards: Sequence[Card]) -> tuple[str | None, ...]:
    """Return the UUID of each CUDA ordinal, in order, by what the environment says; None: it does not say.

    Parameters
    ----------
    environ
        The environment in which CUDA was, or will be, initialised.
    cards
        All GPUs of the machine and their MIG instances, in any order.

    Notes
    -----
    CUDA_VISIBLE_DEVICES lists indices, GPU UUIDs or unambiguous beginnings of them, or MIG instances, and the first
    invalid entry ends the list. Indices count by PCI bus id if CUDA_DEVICE_ORDER is PCI_BUS_ID, otherwise from
    the fastest GPU to the slowest by a rule that is not documented: of several GPUs they are then unknown. What the
    guide leaves open is read as CUDA has been seen to (driver 525): a device that is named twice leaves none
    visible, an index may have anything after its digits, and an entry of another kind than the first ends the list.
    Read so or not, an entry means this device or is not there: no other device gets its ordinal. Where releases
    of the driver enumerate different devices, which is around GPUs in MIG mode, all is unknown.
    """
    gpus = _in_cuda_order(environ, [card for card in cards if not _is_instance(card)])
    value = environ.get(VISIBLE)
    if value is None:
        return gpus
    entries: list[_Entry] = []
    for token in value.split(","):
        entry = _entry(token.strip(), gpus, cards)
        if entry is None:
            break
        entries.append(entry)
    if any(entry.kind == "instance" or entry.partitioned for entry in entries):
        alone = len(entries) == 1 and entries[0].kind == "instance"
        return (entries[0].uuid,) if alone else (None,) * len(entries)
    entries = list(takewhile(lambda entry: entry.kind == entries[0].kind, entries))
    named_twice = len({entry.key for entry in entries}) < len(entries)
    return () if named_twice else tuple(entry.uuid for entry in entries)


def identify(ordinal: int, reported: str | None, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the UUID, as NVML knows it, of the device with a CUDA ordinal, and a sentence on the source.

    Parameters
    ----------
    ordinal
        CUDA's, such as 1 for torch's `cuda:1`.
    reported
        The UUID that the framework itself gives for that device, with or without a prefix; None: it gives none.
    environ
        The environment of the process that uses the device. CUDA is asked only if it is as that of this process.

    Returns
    -------
    tuple
        The UUID comes from the framework, else from CUDA's driver library, else from the environment. None: the
        device is unknown, and the sentence says why.
    """
    if reported is not None:
        return _known(reported, "the framework gives the UUID of its device")
    if all(environ.get(name) == os.environ.get(name) for name in (VISIBLE, ORDER)):
        answer = cuda.uuid_of(ordinal)
        if answer is not None:
            return _known(answer, f"CUDA's driver library gives the UUID of the device with the ordinal {ordinal}")
    try:
        cards, count = nvml.cards(), nvml.count()
    except FwMagicError as error:
        return None, f"device unknown: {error}"
    hidden = count - sum(not _is_instance(card) for card in cards)
    if hidden:
        return None, f"device unknown: the driver does not let this user see {hidden} of {count} GPUs"
    said = " and ".join(f"{name} {_spelled(environ.get(name))}" for name in (VISIBLE, ORDER))
    found = uuids(environ, cards)
    if not 0 <= ordinal < len(found):
        return None, f"device unknown: by {said} there is no device with the CUDA ordinal {ordinal}"
    if found[ordinal] is None:
        return None, f"device unknown: {said} do not say which GPU has the CUDA ordinal {ordinal}"
    return found[ordinal], f"{said} say which GPU has the CUDA ordinal {ordinal}"


def _known(uuid: str, source: str) -> tuple[str | None, str]:
    try:
        return nvml.find(uuid), source
    except FwMagicError as error:
        return None, f"device unknown: {error}"


def _spelled(value: str | None) -> str:
    return "(not set)" if value is None else f"= {value!r}"


def _is_instance(card: Card) -> bool:
    return card.uuid.startswith("MIG-")


def _in_cuda_order(environ: Mapping[str, str], gpus: Sequence[Card]) -> tuple[str | None, ...]:
    """Return the GPUs' UUIDs by CUDA's index without CUDA_VISIBLE_DEVICES; None: that order is not known."""
    unknown = (None,) * len(gpus)
    if any(gpu.partitioned for gpu in gpus):
        return unknown  # CUDA may leave these out, or the others, and releases of the driver differ in it
    if len(gpus) == 1:
        return (gpus[0].uuid,)
    # A client of CUDA's Multi-Process Service counts the devices of its server, in the server's environment.
    if environ.get(ORDER) != "PCI_BUS_ID" or "CUDA_MPS_PIPE_DIRECTORY" in environ:
        return unknown
    places = {}
    for gpu in gpus:
        found = _BUS_ID.fullmatch(gpu.bus_id)
        if found is not None:
            places[tuple(int(part, 16) for part in found.groups())] = gpu.uuid
    return tuple(places[place] for place in sorted(places)) if len(places) == len(gpus) else unknown


def _entry(token: str, gpus: Sequence[str | None], cards: Sequence[Card]) -> _Entry | None:
    """Return what one entry of CUDA_VISIBLE_DEVICES names, given the GPUs by index; None: it is invalid."""
    number = _NUMBER.match(token)
    if number is not None:
        if _OTHER_BASE.match(token):
            return _Entry("index", token, None)
        index = int(number[2])
        valid = index < len(gpus) and (number[1] != "-" or index == 0)
        return _Entry("index", index, gpus[index]) if valid else None
    if token.startswith("MIG-"):
        card = _only([card for card in cards if _is_instance(card) and card.uuid.startswith(token)])
        card = card or _by_ids(token, cards)
        return None if card is None else _Entry("instance", card.uuid, card.uuid)
    if token.startswith("GPU-"):
        card = _only([card for card in cards if card.uuid.startswith(token)])
        return None if card is None else _Entry("gpu", card.uuid, card.uuid, card.partitioned)
    return None


def _by_ids(token: str, cards: Sequence[Card]) -> Card | None:
    """Return the instance that `MIG-<GPU UUID>/<GPU instance>/<compute instance>` names."""
    parts = _INSTANCE.fullmatch(token)
    gpu = parts and _only([card for card in cards if card.uuid.startswith(parts[1])])
    if parts is None or gpu is None:
        return None
    ids = int(parts[2]), int(parts[3])
    return _only([card for card in cards if card.instance == ids and card.bus_id == gpu.bus_id])


def _only(cards: Sequence[Card]) -> Card | None:
    return cards[0] if len(cards) == 1 else None
