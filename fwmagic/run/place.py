"""Where variants are timed: the kernel's own process, or a process for each; and what the numbers hold for there."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from fwmagic.cells.outcome import Window
from fwmagic.errors import FwMagicError, message_of
from fwmagic.format import one_line
from fwmagic.frameworks import Framework
from fwmagic.measure.bound import least_seconds
from fwmagic.measure.calls import Calls, Harness, Local, Timed
from fwmagic.measure.load import Load, machine
from fwmagic.measure.timing import BLOCK, LEAST
from fwmagic.memory.host import keep_large_blocks, only_new_garbage
from fwmagic.memory.passes import Passes
from fwmagic.options import Options
from fwmagic.report import Conditions, Finding, Ledger
from fwmagic.run.preparation import Contender
from fwmagic.run.session import distinct

# Asking another process for a block takes longer than a short one.
_BLOCK_APART = 1e-3


def _nothing() -> tuple[Ledger, ...]:
    return ()


@dataclass(frozen=True)
class Entrant:
    """A variant that is ready to be timed and measured, in this process or in another one.

    `memory` runs it once more and returns its ledgers; `last_seen` returns what is known of the memory of one that
    failed meanwhile. `filename` is where the lines of its code are, `items` how many one call handles, `withheld` why
    a verdict on it would not be honest, or empty, and `findings` what is to be remarked on its work. `other`
    are calls of its section in another way, for a look at what the way costs. `least` are the seconds that the
    work of a call takes at least. `trains`: it trains in a way that keeps its body from becoming one program.
    """

    calls: Calls
    memory: Callable[[], tuple[Ledger, ...]]
    last_seen: Callable[[], tuple[Ledger, ...]] = _nothing
    filename: str = ""
    items: int | None = None
    withheld: str = ""
    findings: tuple[Finding, ...] = ()
    other: Calls | None = None
    least: float = 0.0
    trains: bool = False

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.calls.name


class Location(Protocol):
    """Where variants are timed: this process, or a process for each of them."""

    @property
    def least(self) -> float:
        """The share of the budget before which nothing is decided."""

    @property
    def length(self) -> float:
        """The seconds that a block should take."""

    @property
    def surroundings(self) -> Callable[[], AbstractContextManager[Any]]:
        """What many blocks together run in."""

    def conditions(self, load: Load) -> Conditions:
        """Return what the numbers hold for; `load` was stopped when they were there."""

    def memory_passes(self) -> AbstractContextManager[Any]:
        """Return what surrounds all memory passes together."""


class Here:
    """The kernel's own process.

    `devices` are those that the user asked for, by framework; `inputs` says what was converted. `surroundings` is what
    many blocks together run in, such as without output.
    """

    def __init__(
        self,
        frameworks: Sequence[Framework],
        window: Window = nullcontext,
        inputs: str = "",
        devices: Mapping[str, str] | None = None,
        surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.least = LEAST
        self.length = BLOCK
        self.surroundings = surroundings
        self._frameworks = distinct(frameworks)
        self._window = window
        self._inputs = inputs
        self._devices = dict(devices or {})

    def conditions(self, load: Load) -> Conditions:
        """Return what the numbers hold for."""
        return conditions_with_load(conditions_here(self._frameworks, self._devices), load, self._inputs)

    def memory_passes(self) -> AbstractContextManager[Any]:
        """Collect garbage once, and not anew for each pass."""
        return only_new_garbage()

    def entrants(self, contenders: Iterable[Contender], passes: Passes) -> list[Entrant]:
        """Return variants of sections ready to be timed in this process, and then measured."""
        return [self._entrant(contender, passes) for contender in contenders]

    def calls(self, name: str, program: Timed, pool: str) -> Local:
        """Return a program ready to be timed in this process, on the threads of a framework."""
        # Else what a call takes would depend on what the notebook freed before: on 8 MiB arrays, up to nine times.
        keep_large_blocks()
        return Local(name, program, self._harness(), pool)

    def _entrant(self, contender: Contender, passes: Passes) -> Entrant:
        section, program = contender.section, contender.program
        filename = section.body.filename
        return Entrant(
            calls=self.calls(contender.name, program, section.framework.name),
            memory=partial(
                passes.run,
                contender.name,
                program,
                section.framework,
                filename=filename,
                seconds=contender.outcome.seconds,
                static=program.static,
            ),
            filename=filename,
            items=section.options.items,
            withheld=contender.withheld,
            findings=contender.findings,
            least=least_seconds(contender.least, section.framework.memory.device(section.options.device) is None),
            other=self._other(contender),
            trains=contender.trains,
        )

    def _other(self, contender: Contender) -> Local | None:
        if contender.other is None:
            return None
        return self.calls(f"{contender.name} in another way", contender.other, contender.section.framework.name)

    def _harness(self) -> Harness:
        """Return what surrounds every block of this process."""
        # What listens to compilations is set up now: the first time, that may import half a framework.
        events = [framework.compile_events for framework in self._frameworks if framework.compile_events() >= 0]

        def drain() -> None:
            for framework in self._frameworks:
                framework.drain()

        return Harness(lambda: sum(count() for count in events), drain, self._window)


class Apart:
    """A process for each variant as the place where variants are timed; with `threads`, on the same cores in turns.

    `alone`: no other process runs between the blocks of one.
    """

    def __init__(self, threads: int | None, process: str = "a process for each variant", alone: bool = False) -> None:
        self.length = _BLOCK_APART
        self.surroundings = nullcontext
        # Who pays for processes wants the ratio of another day, too: stopping early doubles its spread from run to run.
        self.least = LEAST if alone else 1.0
        self.memory_passes = nullcontext
        self.cores = _cores_apart(threads) if threads is not None else ()
        self._process = process
        self._wanted = threads
        self._found = Conditions()
        self._stated: list[str] = []

    def add(self, new: Conditions) -> None:
        """Take the conditions of one more process in."""
        now = self._found
        self._found = replace(
            now,
            versions={**now.versions, **new.versions},
            devices={**now.devices, **new.devices},
            threads={**now.threads, **new.threads},
            settings={**now.settings, **new.settings},
        )

    def state(self, *sentences: str) -> None:
        """Take sentences on what was converted, or could not be sent, each once."""
        self._stated += [one for one in dict.fromkeys(sentences) if one and one not in self._stated]

    def conditions(self, load: Load) -> Conditions:
        """Return what the numbers hold for."""
        process = self._process
        if self._wanted is not None:
            number = "1 thread" if self._wanted == 1 else f"{self._wanted} threads"
            process += f" and {number} for each framework"
            process += f", pinned to core {', '.join(map(str, self.cores))}" if self.cores else ", not pinned to cores"
        return conditions_with_load(replace(self._found, process=process), load, "; ".join(self._stated))


def passes(options: Options, window: Window, several: bool, **facts: Any) -> Passes:
    """Return the memory passes that options ask for, of one or of several variants."""
    return Passes(
        window, options.device, options.memory, options.asks("memray"), options.flamegraph, several=several, **facts
    )


def conditions_here(frameworks: Iterable[Framework], devices: Mapping[str, str]) -> Conditions:
    """Return versions, devices, threads and settings of the frameworks in this process.

    Parameters
    ----------
    devices : dict of str to str
        By framework, the device that the user asked for; frameworks without one report their default.
    """
    some = list(frameworks)
    versions = {"python": platform.python_version()}
    settings: dict[str, str] = {}
    for framework in some:
        versions.update(framework.version())
        settings.update(framework.unusual_settings())
    return Conditions(
        versions=versions,
        devices={framework.name: _device_in_words(framework, devices.get(framework.name)) for framework in some},
        threads={framework.name: framework.threads() for framework in some},
        settings=settings,
    )


def _device_in_words(framework: Framework, wanted: str | None) -> str:
    try:
        return framework.device(wanted)
    except FwMagicError:
        raise
    except Exception as error:  # whatever a framework raises that cannot start here
        return f"unknown ({type(error).__name__}: {one_line(message_of(error), 100)})"


def conditions_with_load(found: Conditions, load: Load, inputs: str) -> Conditions:
    """Return conditions with the machine, its load, and what was converted."""
    return replace(
        found,
        inputs=inputs,
        load_before=load.before,
        load_during=load.during,
        neighbours=load.neighbours,
        machine=machine(),
    )


def _cores_apart(count: int) -> tuple[int, ...]:
    """Return the numbers of the last cores that may be used; none where the system cannot pin a process."""
    return tuple(sorted(os.sched_getaffinity(0))[-count:]) if hasattr(os, "sched_setaffinity") else ()
