"""A run whose variants have a process each: what is sent to them, what comes back, and how they take turns."""

from __future__ import annotations

import linecache
import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.namespaces import MODULE
from fwmagic.cells.outcome import Outcome, Window
from fwmagic.cells.walk import Walk
from fwmagic.errors import FwMagicError, message_of
from fwmagic.measure.calls import Block
from fwmagic.measure.load import Load
from fwmagic.memory.policies import policy_environment
from fwmagic.report import Amount, Ledger
from fwmagic.run.checking import agreement
from fwmagic.run.compiling import CompileInterrupted, Compiling
from fwmagic.run.draft import Draft
from fwmagic.run.inside import Found, Inside, Sent
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Apart, Entrant
from fwmagic.run.preparation import Preparation
from fwmagic.run.section import Section
from fwmagic.run.session import Session, distinct, with_loaded
from fwmagic.worker.parcel import Parcel, unpack_parcel
from fwmagic.worker.process import Worker, WorkerEnded, WorkerSetting, launch_server, server_answers, take_in

_OF_THE_SHELL = "get_ipython"


class Isolation:
    """The sections of one cell, each variant of which runs in a worker."""

    def __init__(
        self,
        session: Session,
        sections: Sequence[Section],
        draft: Draft,
        preparation: Preparation,
        window: Window,
        stated: Sequence[str] = (),
    ) -> None:
        self._session = session
        self._sections = sections
        self._draft = draft
        self._preparation = preparation
        self._window = window
        self._options = sections[0].options
        self._stated = stated
        self._apart = Apart(self._options.threads)
        self._workers: list[Worker] = []
        self._given: Mapping[str, Any] = {}
        self._left_out: Mapping[str, str] = {}

    def run(self, given: Mapping[str, Any], load: Load) -> None:
        """Get all variants ready, one after the other, and time them; at the end no worker is left."""
        self._apart.state(*self._stated)
        try:
            with self._parcel(given) as parcel:
                load.start()
                self._draft.change(conditions=self._apart.conditions(load))  # also of what is shown meanwhile
                remotes = [remote for one in self._sections for remote in self._section(one, parcel)]
            self._preparation.compare_across(self._sections)
            measuring = Measuring(self._draft, self._apart, self._options, load)
            measuring.run([remote.entrant() for remote in remotes])
        finally:
            self._close()

    def _close(self) -> None:
        for worker in self._workers:
            worker.close()

    def _parcel(self, given: Mapping[str, Any]) -> Parcel:
        """Pack what the sections can reach, and the state of the random generators."""
        namespace = self._session.namespace
        adapters = with_loaded(*(section.framework for section in self._sections))
        walk = Walk(namespace, adapters, keep=False)
        walk.run(dict.fromkeys(name for section in self._sections for name in section.body.names), ())
        names = [name for name in walk.entries[0].keys if name in namespace and name != _OF_THE_SHELL]
        found = [(entry.target.__name__, entry) for entry in walk.entries if entry.kind is MODULE]
        imported = [(name, one) for name, one in found if one.target.__spec__ and sys.modules.get(name) is one.target]
        values: dict[str, Any] = {
            "namespace": {name: namespace[name] for name in names},
            "modules": {name: dict(zip(one.keys, one.values, strict=True)) for name, one in imported},
            "given": dict(given),
            "bodies": {section.name: section.body for section in self._sections},
            "random": random.getstate(),
            "generators": {framework.name: framework.rng_state() for framework in adapters},
        }
        spare = [values["namespace"], values["given"]]
        with self._window():
            parcel = Parcel(values, adapters, namespace, [*spare, *values["modules"].values()])
        of_notebook, of_setup, *_ = parcel.left_out
        self._given = given
        self._left_out = {name: why for name, why in of_notebook.items() if name not in given} | of_setup
        return parcel

    def _missing(self, section: Section) -> str:
        """Say which object that the section needs cannot be sent, or nothing."""
        if not self._left_out:
            return ""
        body, given = section.body, self._given
        walk = Walk(self._session.namespace, [section.framework], keep=False)
        read = body.reads | (body.all_reads - body.assigned - body.defined)
        walk.run(sorted(read), [(name, given[name]) for name in sorted(read & given.keys())])
        return next((self._left_out[name] for name in walk.entries[0].keys if name in self._left_out), "")

    def _section(self, section: Section, parcel: Parcel) -> Iterator[IsolatedVariant]:
        """Get a section's variants ready, and yield those that can be timed."""
        for name, mode in section.options.variants().items():
            if self._was_last(section, name):
                continue
            remote = self._variant(section, name, mode, parcel, policy_environment(os.environ))
            if remote is not None:
                yield remote

    def _was_last(self, section: Section, name: str) -> bool:
        """Say whether a section must not be run for this variant, too: it was run the one time that it can be."""
        others = (variant for variant in self._draft.report if variant.section == section.name)
        once = next((variant for variant in others if variant.status == "run-once" and variant.note), None)
        if once is None:
            return False
        self._draft.variant(name, status="not timed", note=f"not run: {once.note}")
        return True

    def _variant(
        self,
        section: Section,
        name: str,
        mode: str,
        parcel: Parcel,
        environment: Mapping[str, str],
        anew: bool = False,
    ) -> IsolatedVariant | None:
        """Get a variant ready in a worker, or note why it is not."""
        if _OF_THE_SHELL in section.body.all_reads:
            why = "magics and `!` commands need the notebook's own process; leave out --isolate and what implies it"
            self._draft.variant(name, status="not timed", note=f"not run: {why}")
            return None
        missing = self._missing(section)
        if missing:
            self._draft.failed(name, FwMagicError(missing), "first run")
            return None
        self._draft.variant(name, status="running")
        worker: Worker | None = None
        compiles = mode not in ("eager", "debug")
        try:
            worker = self._worker(environment, anew)
            with Compiling(self._draft, name) if compiles else nullcontext():
                found = self._prepare(worker, self._sent(section, name, mode, parcel))
            self._take(worker, section, name, found)
        except CompileInterrupted:
            if worker is not None:
                worker.close()  # what it compiles would disturb the others
            return None
        except WorkerEnded as error:
            self._ended(name, error, "first run")
            self._draft.variant(name, memory=last_seen(worker))
            return None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever keeps this variant from being had: the others go on
            self._draft.failed(name, error, "first run", section.body.filename)
            return None
        return IsolatedVariant(worker, section, found, self._window) if found.ready else None

    def _ended(self, name: str, error: WorkerEnded, stage: str) -> None:
        """Note that a variant's process ended; the report has its name beside the sentence, and an error has not."""
        self._draft.failed(name, error, stage, told=WorkerEnded(f"{name}: {error}"))

    def _worker(self, environment: Mapping[str, str], anew: bool) -> Worker:
        setting = WorkerSetting(dict(environment), str(Path.cwd()), tuple(sys.path), self._apart.cores)
        anew = anew or not self._served
        worker = Worker(setting, anew)  # no interrupt comes before it is known, so that it will be closed
        self._workers.append(worker)
        with self._window():
            worker.wait()
        return worker

    @cached_property
    def _served(self) -> bool:
        """Whether workers are copied from their server; the first time, it is started and waited for."""
        launch_server()
        with self._window():
            return server_answers()

    def _prepare(self, worker: Worker, sent: Sent) -> Found:
        with self._window():
            worker.call(take_in, Inside)
            return worker.ask(Inside.prepare, sent, timeout=self._options.timeout, watched=True)

    def _sent(self, section: Section, name: str, mode: str, parcel: Parcel) -> Sent:
        filename = section.body.filename
        return Sent(
            parcel=parcel.address,
            section=section.name,
            framework=section.framework.name,
            options=replace(section.options, name=name, mode=mode),
            together=tuple(framework.name for framework in distinct(s.framework for s in self._sections)),
            flags={framework.name: self._pickled(framework.flags()) for framework in frameworks.loaded()},
            filename=filename,
            source="".join(linecache.getlines(filename)),
            threads=self._options.threads,
            several=sum(len(one.options.variants()) for one in self._sections) > 1,
        )

    def _pickled(self, flags: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the settings that another process can be given; what it cannot be given is stated in the report."""
        found = {}
        for name, value in flags.items():
            if value is None:  # what nobody has chosen is for the other process to find out
                continue
            try:
                found[name] = pickle.dumps(value)
            except Exception as error:  # a device or the like: whatever an object raises when it is pickled
                self._apart.state(f"the setting {name} could not be sent to the processes ({type(error).__name__})")
        return found

    def _take(self, worker: Worker, section: Section, name: str, found: Found) -> None:
        """Put what a worker found in the draft, under the kernel's names."""
        results: dict[str, Outcome | None] = unpack_parcel(found.results)
        worker.ask(Inside.taken)
        outcome, reference = results["outcome"], results["reference"]
        outputs = None if outcome is None else dict(outcome.results)
        variant = replace(found.variant, section=section.name, outputs=outputs)
        facts = {field: getattr(variant, field) for field in _TAKEN}
        self._draft.variant(name, **facts)
        self._draft.errors += [raised.error() for raised in found.errors]
        self._apart.add(found.conditions)
        self._apart.state(*found.stated)
        first = self._preparation.references.outcome(section)
        if reference is not None and first is None:
            self._preparation.references.refer(section, reference)
        elif reference is not None and first is not None and section.options.check:
            self._check(section, name, first, reference)

    def _check(self, section: Section, name: str, first: Outcome, now: Outcome) -> None:
        """Compare the plain run in a worker with the one before it: in the notebook, or in another worker."""
        names = (f"{section.name} before", f"{section.name} in its own process")
        random = first.random or now.random
        found = agreement(first.results, now.results, names, [section.framework], random)
        own = self._draft.report[name].agreement
        if found.status == "differs" and (own is None or own.status == "agrees"):
            self._draft.variant(name, agreement=found)


_TAKEN = ("status", "note", "returned", "time", "compilation", "agreement", "failure", "memory", "source", "outputs")


class IsolatedVariant:
    """A variant in its worker, ready to be timed."""

    def __init__(self, worker: Worker, section: Section, found: Found, window: Window) -> None:
        self.name = self.pool = found.variant.name
        self.most_calls = found.most_calls
        # After blocks in other processes, this one's threads and caches take one call to settle.
        self.lead_in = found.lead_in or found.most_calls is None
        self.worker = worker
        self._section = section
        self._found = found
        self._window = window
        self._timeout = section.options.timeout

    def entrant(self) -> Entrant:
        """Return the variant as the last act of a run takes it."""
        return Entrant(
            calls=self,
            memory=self.memory,
            last_seen=lambda: last_seen(self.worker),
            filename=self._section.body.filename,
            items=self._section.options.items,
            withheld=self._found.withheld,
            findings=self._found.findings,
            trains=self._found.trains,
        )

    def block(self, calls: int, lead_in: bool) -> Block:
        """Time so many calls as one."""
        with self._window():
            return self.worker.ask(Inside.block, calls, lead_in, timeout=self._timeout)

    def split(self, calls: int, lead_in: bool) -> list[tuple[float, float]]:
        """Return the seconds of dispatch and of waiting of single calls."""
        with self._window():
            return self.worker.ask(Inside.split, calls, lead_in, timeout=self._timeout)

    def rest(self) -> None:
        """Wait until the threads of its process are at rest."""
        with self._window():
            self.worker.ask(Inside.rest, timeout=self._timeout)

    def held(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: its process takes one block after the other, each with its state."""
        return nullcontext()

    def finds(self) -> None:
        """Return None: each block is entered there."""

    def row(self) -> AbstractContextManager[Callable[[], bool]]:
        """Return a context that does nothing: each block there says whether something was compiled."""
        return nullcontext(lambda: False)

    def next_block(self, calls: int) -> float:
        """Return the seconds of one more block."""
        return self.block(calls, lead_in=False).seconds

    def memory(self) -> tuple[Ledger, ...]:
        """Return the ledgers of its memory; a process that ends meanwhile leaves the sentence that says so."""
        try:
            with self._window():
                return self.worker.ask(Inside.memory, timeout=self._timeout)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # such as one that says how the process ended
            return (Ledger("host", None, (Amount("in use", None, why=message_of(error)),)),)

    def in_force(self) -> dict[str, str]:
        """Return how its process allocates, as its framework reads it back."""
        with self._window():
            return self.worker.ask(Inside.in_force, timeout=self._timeout)

    def release(self) -> tuple[Amount, ...]:
        """Let its process go of everything, and return what its allocator holds then."""
        with self._window():
            return self.worker.ask(Inside.release, timeout=self._timeout)


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
