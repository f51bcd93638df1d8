"""What the numbers of a report hold for: versions, devices, threads, settings and load."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fwmagic.frameworks import Framework
from fwmagic.measure.load import Load, machine
from fwmagic.report import Conditions


def conditions(frameworks: Sequence[Framework], devices: dict[str, str], load: Load, inputs: str = "") -> Conditions:
    """Return the conditions of a run in this process; `load` was started before it and is read now.

    Parameters
    ----------
    devices : dict of str to str
        By framework, the device that the user asked for; frameworks without one report their default.
    """
    return with_load(settings_of(frameworks, devices), load, inputs)


def settings_of(frameworks: Sequence[Framework], devices: dict[str, str]) -> Conditions:
    """Return versions, devices, threads and settings of the frameworks in this process."""
    versions = {"python": platform.python_version()}
    settings: dict[str, str] = {}
    for framework in frameworks:
        versions.update(framework.version())
        settings.update(framework.settings())
    return Conditions(
        versions=versions,
        devices={framework.name: framework.device(devices.get(framework.name)) for framework in frameworks},
        threads={framework.name: framework.threads() for framework in frameworks},
        settings=settings,
    )


def with_load(found: Conditions, load: Load, inputs: str) -> Conditions:
    """Return conditions with the machine, its load, and what was converted."""
    return replace(
        found,
        inputs=inputs,
        load_before=load.before,
        load_during=load.during,
        neighbours=load.neighbours,
        machine=machine(),
    )


def distinct(frameworks: Iterable[Framework]) -> list[Framework]:
    """Return each framework once, in order."""
    return list({framework.name: framework for framework in frameworks}.values())
