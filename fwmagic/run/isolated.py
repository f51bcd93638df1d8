"""A run whose variants have a process each: what is sent to them, what comes back, and how they take turns."""

from __future__ import annotations

import contextlib
import linecache
import os
import pickle
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.outcome import Outcome, Window
from fwmagic.cells.walk import Walk
from fwmagic.measure.calls import Block
from fwmagic.measure.load import Load
from fwmagic.memory.policies import on_demand
from fwmagic.report import Amount, Conditions, Ledger
from fwmagic.run import inside, measuring
from fwmagic.run.inside import Found, Sent
from fwmagic.run.place import distinct, with_load
from fwmagic.run.session import Session, names_of
from fwmagic.run.variants import Preparation, Section, across, agreement
from fwmagic.worker.parcel import Parcel, unpack
from fwmagic.worker.process import Raised, Setting, Worker, WorkerEnded

_OF_THE_SHELL = "get_ipython"


class Isolation:
    """The sections of one cell, each variant of which runs in a worker."""

    def __init__(
        self, session: Session, sections: Sequence[Section], preparation: Preparation, guard: InterruptGuard
    ) -> None:
        self._session = session
        self._sections = sections
        self._preparation = preparation
        self._draft = preparation.draft
        self._window: Window = guard.window
        self._options = sections[0].options
        self._apart = Apart(self._options.threads)
        self._workers: list[Worker] = []

    def run(self, given: Mapping[str, Any], load: Load) -> None:
        """Get all variants ready, one after the other, and time them; at the end no worker is left."""
        try:
            with self._parcel(given) as parcel:
                load.start()
                self._draft.change(conditions=self._apart.conditions(load))  # also of what is shown meanwhile
                remotes = [remote for one in self._sections for remote in self._section(one, parcel)]
            across(list(self._sections), self._draft)
            options = self._options
            how = measuring.Pass(self._draft, self._apart, options.budget, options.margin, options.baseline, load)
            self._preparation.errors += measuring.time_contenders(how, remotes, remotes)
            for remote in remotes:
                failed = self._draft.report[remote.name].status == "failed"
                self._draft.variant(remote.name, memory=last_seen(remote.worker) if failed else remote.memory())
        finally:
            self._close()

    def _close(self) -> None:
        for worker in self._workers:
            worker.close()

    def _parcel(self, given: Mapping[str, Any]) -> Parcel:
        """Pack what the sections can reach, and the state of the random generators."""
        namespace = self._session.namespace
        adapters = distinct([*frameworks.loaded(), *(section.framework for section in self._sections)])
        walk = Walk(namespace, adapters, keep=False)
        walk.run(dict.fromkeys(name for section in self._sections for name in names_of(section.body)), ())
        names = [name for name in walk.entries[0].keys if name in namespace and name != _OF_THE_SHELL]
        values = {
            "namespace": {name: namespace[name] for name in names},
            "given": dict(given),
            "bodies": {section.name: section.body for section in self._sections},
            "random": random.getstate(),
            "generators": {framework.name: framework.rng_state() for framework in adapters},
        }
        with self._window():
            return Parcel(values, adapters, namespace)

    def _section(self, section: Section, parcel: Parcel) -> Iterator[Remote]:
        """Get a section's variants ready, and yield those that can be timed."""
        for name, mode in section.options.variants().items():
            remote = self._variant(section, name, mode, parcel, on_demand(os.environ))
            if remote is not None:
                yield remote

    def _variant(
        self,
        section: Section,
        name: str,
        mode: str,
        parcel: Parcel,
        environment: Mapping[str, str],
        anew: bool = False,
    ) -> Remote | None:
        """Get a variant ready in a worker, or note why it is not."""
        if _OF_THE_SHELL in section.body.all_reads:
            why = "magics and `!` commands need the notebook's own process; leave out --isolate and what implies it"
            self._draft.variant(name, status="not timed", note=f"not run: {why}")
            return None
        self._draft.variant(name, status="running")
        worker: Worker | None = None
        try:
            worker = self._worker(environment, anew)
            found = self._prepare(worker, self._sent(section, name, mode, parcel))
        except WorkerEnded as error:
            self._preparation.fail(section, name, error, None, "first run")
            self._preparation.errors[-1] = WorkerEnded(f"{name}: {error}")  # the report has the name beside it
            self._draft.variant(name, memory=last_seen(worker))
            return None
        self._take(section, name, found)
        return Remote(worker, section, found, self._window, self._options.timeout) if found.ready else None

    def _worker(self, environment: Mapping[str, str], anew: bool) -> Worker:
        setting = Setting(dict(environment), str(Path.cwd()), tuple(sys.path), self._apart.cores)
        worker = Worker(setting, anew)  # no interrupt comes before it is known, so that it will be closed
        self._workers.append(worker)
        with self._window():
            worker.wait()
        return worker

    def _prepare(self, worker: Worker, sent: Sent) -> Found:
        with self._window():
            return worker.call(inside.prepare, sent, timeout=self._options.timeout, watched=True)

    def _sent(self, section: Section, name: str, mode: str, parcel: Parcel) -> Sent:
        filename = section.body.filename
        return Sent(
            parcel=parcel.address,
            section=section.name,
            framework=section.framework.name,
            options=replace(section.options, name=name, mode=mode),
            together=tuple(framework.name for framework in distinct(s.framework for s in self._sections)),
            flags={framework.name: _pickled(framework.flags()) for framework in frameworks.loaded()},
            filename=filename,
            source="".join(linecache.getlines(filename)),
            threads=self._options.threads,
            several=sum(len(one.options.variants()) for one in self._sections) > 1,
        )

    def _take(self, section: Section, name: str, found: Found) -> None:
        """Put what a worker found in the draft, under the kernel's names."""
        results: dict[str, Outcome | None] = unpack(found.results)
        self._workers[-1].call(inside.taken)
        outcome, reference = results["outcome"], results["reference"]
        outputs = None if outcome is None else dict(outcome.results)
        variant = replace(found.variant, section=section.name, outputs=outputs)
        facts = {field: getattr(variant, field) for field in _TAKEN}
        self._draft.variant(name, **facts)
        self._preparation.errors += [Raised(error).error() for error in found.errors]
        self._apart.add(found)
        if section.reference is None:
            section.reference = reference
        elif reference is not None and section.options.check:
            self._check(section, name, section.reference, reference)

    def _check(self, section: Section, name: str, first: Outcome, now: Outcome) -> None:
        """Compare the plain run in a worker with the one before it: in the notebook, or in another worker."""
        names = (f"{section.name} before", f"{section.name} in its own process")
        random = first.random or now.random
        found = agreement(first.results, now.results, names, [section.framework], random)
        own = self._draft.report[name].agreement
        if found.status == "differs" and (own is None or own.status == "agrees"):
            self._draft.variant(name, agreement=found)


_TAKEN = ("status", "note", "returned", "time", "compilation", "agreement", "failure", "memory", "source", "outputs")


class Remote:
    """A variant in its worker, ready to be timed."""

    def __init__(self, worker: Worker, section: Section, found: Found, window: Window, timeout: float | None) -> None:
        self.name = found.variant.name
        self.section = section
        self.withheld = found.withheld
        self.findings = found.findings
        self.most_calls = found.most_calls
        self.lead_in = found.lead_in
        self.worker = worker
        self._window = window
        self._timeout = timeout

    def block(self, calls: int, lead_in: bool) -> Block:
        """Time so many calls as one."""
        with self._window():
            return self.worker.call(inside.block, calls, lead_in, timeout=self._timeout)

    def split(self, calls: int, lead_in: bool) -> list[tuple[float, float]]:
        """Return the seconds of dispatch and of waiting of single calls."""
        with self._window():
            return self.worker.call(inside.split, calls, lead_in, timeout=self._timeout)

    def memory(self) -> tuple[Ledger, ...]:
        """Return the ledgers of its memory; a process that ends meanwhile leaves the sentence that says so."""
        try:
            with self._window():
                return self.worker.call(inside.memory, timeout=self._timeout)
        except WorkerEnded as error:
            return (Ledger("host", None, (Amount("in use", None, why=str(error)),)),)


class Apart:
    """A process for each variant as the place where variants are timed; with `threads`, on the same cores in turns."""

    alternate = True
    # Who pays for processes wants the ratio of another day, too: stopping early doubles its spread from run to run.
    least = 1.0

    def __init__(self, threads: int | None, process: str = "a process for each variant") -> None:
        self._process = process
        self.cores = _last_cores(threads) if threads is not None else ()
        self._wanted = threads
        self._workers = 1
        self._found = Conditions()
        self._stated: list[str] = []

    @property
    def threads(self) -> int:
        """How many threads one computation may use at most."""
        return self._wanted or self._workers

    def add(self, found: Found) -> None:
        """Take the conditions of one more worker in."""
        now, new = self._found, found.conditions
        self._found = replace(
            now,
            versions={**now.versions, **new.versions},
            devices={**now.devices, **new.devices},
            threads={**now.threads, **new.threads},
            settings={**now.settings, **new.settings},
        )
        self._stated += [sentence for sentence in found.stated if sentence not in self._stated]
        self._workers = max(self._workers, found.workers)

    def conditions(self, load: Load) -> Conditions:
        """Return what the numbers hold for."""
        process = self._process
        if self._wanted is not None:
            number = "1 thread" if self._wanted == 1 else f"{self._wanted} threads"
            process += f" and {number} for each framework"
            process += f", pinned to core {', '.join(map(str, self.cores))}" if self.cores else ", not pinned to cores"
        return with_load(replace(self._found, process=process), load, "; ".join(self._stated))


def _last_cores(count: int) -> tuple[int, ...]:
    """Return the numbers of the last cores that may be used; none where the system cannot pin a process."""
    return tuple(sorted(os.sched_getaffinity(0))[-count:]) if hasattr(os, "sched_setaffinity") else ()


def last_seen(worker: Worker | None) -> tuple[Ledger, ...]:
    """Return the ledger of a process that ended: how far its resident memory had grown when it was last read."""
    if worker is None or worker.resident is None:
        return ()
    start, last = worker.resident
    source = (
        "growth of the process, in which it also starts up: its resident memory was read every 50 ms until it ended, "
        "so that the true peak may be higher"
    )
    grown = Amount("in use", max(last - start, 0), source)
    return (Ledger("host", None, (grown,), start=start, how="last seen"),)


def _pickled(flags: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the settings that another process can be given."""
    found = {}
    for name, value in flags.items():
        if value is None:  # what nobody has chosen is for the other process to find out
            continue
        with contextlib.suppress(Exception):  # a device or the like, which is of this process only
            found[name] = pickle.dumps(value)
    return found
