"""The kernel's own process as the place where variants are timed."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Protocol

from fwmagic.cells.outcome import Window
from fwmagic.frameworks import Framework
from fwmagic.measure.calls import Harness, Local, Timed
from fwmagic.measure.load import Load, machine
from fwmagic.measure.timing import LEAST
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


# Two frameworks disturb each other in ways that last longer: see "Small JAX operations" in docs/timing.md.
_LEAST_ALTERNATING = 0.3


class Place(Protocol):
    """Where variants are timed: this process, or a process for each of them."""

    @property
    def alternate(self) -> bool:
        """Whether a variant that gets its turn finds threads and caches as another one left them."""

    @property
    def least(self) -> float:
        """The share of the budget before which nothing is decided."""

    @property
    def threads(self) -> int:
        """How many threads one computation may use at most."""

    def conditions(self, load: Load) -> Conditions:
        """Return what the numbers hold for."""


class Here:
    """The kernel's own process.

    `devices` are those that the user asked for, by framework; `inputs` says what was converted.
    """

    def __init__(
        self,
        frameworks: Sequence[Framework],
        window: Window = nullcontext,
        inputs: str = "",
        devices: Mapping[str, str] | None = None,
    ) -> None:
        self._frameworks = distinct(frameworks)
        self._window = window
        self._inputs = inputs
        self._devices = dict(devices or {})

    @property
    def alternate(self) -> bool:
        """Whether there are several frameworks, each with threads of its own."""
        return len(self._frameworks) > 1

    @property
    def least(self) -> float:
        """The share of the budget before which nothing is decided."""
        return _LEAST_ALTERNATING if self.alternate else LEAST

    @property
    def threads(self) -> int:
        """How many threads one computation may use at most."""
        return max((framework.workers() for framework in self._frameworks), default=1)

    def conditions(self, load: Load) -> Conditions:
        """Return what the numbers hold for."""
        return conditions(self._frameworks, self._devices, load, self._inputs)

    def calls(self, programs: Iterable[Timed]) -> list[Local]:
        """Return programs ready to be timed in this process."""
        harness = self.harness()
        return [Local(program, harness) for program in programs]

    def harness(self) -> Harness:
        """Return what surrounds every block of this process."""
        # What listens to compilations is set up now: the first time, that may import half a framework.
        events = [framework.compile_events for framework in self._frameworks if framework.compile_events() >= 0]

        def drain() -> None:
            for framework in self._frameworks:
                framework.drain()

        return Harness(lambda: sum(count() for count in events), drain, self._window)
