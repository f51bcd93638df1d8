"""The run of `%%compare --alloc`: each variant under every policy of its allocator, one fresh process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fwmagic import frameworks
from fwmagic.errors import FwMagicError
from fwmagic.frameworks.memory import Policy
from fwmagic.measure.load import Load
from fwmagic.memory import nvml
from fwmagic.memory.policies import policy_environment
from fwmagic.report import Ledger
from fwmagic.run.draft import waiting_variant
from fwmagic.run.inside import Found, Sent
from fwmagic.run.isolated import IsolatedVariant, Isolation
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Apart
from fwmagic.run.section import Section
from fwmagic.worker.parcel import Parcel
from fwmagic.worker.process import Worker, WorkerEnded


class AllocRun(Isolation):
    """The sections of one cell, each variant of which runs once for every policy of its framework's allocator."""

    def run(self, given: Mapping[str, Any], load: Load) -> None:
        """Run one variant after the other, each in a process that ends before the next one begins."""
        missing = self._no_device()
        each = "variant" if missing else "policy"
        process = f"a fresh process for each {each}, one at a time"
        self._apart = Apart(self._options.threads, process, alone=True)
        self._apart.state(*self._stated)
        jobs = [job for section in self._sections for job in self._jobs(section, bool(missing))]
        for section, name, mode, policy in jobs:
            told = dict(section.options.stated(), **({} if policy is None else {"alloc": str(policy)}))
            self._draft.add(waiting_variant(section, name, mode, told))
        self._draft.change(note=missing)
        measuring = Measuring(self._draft, self._apart, self._options, load, parts=len(jobs))
        try:
            with self._parcel(given) as parcel:
                load.start()
                self._draft.change(conditions=self._apart.conditions(load))  # also of what is shown meanwhile
                for section, name, mode, policy in jobs:
                    self._job(section, name, mode, policy, parcel, measuring)
        finally:
            self._close()
        measuring.judge()

    def _no_device(self) -> str:
        """Return why there is no device whose allocator could have a policy, or an empty string."""
        why = "--device cpu was asked for" if all(map(_on_cpu, self._sections)) else ""
        try:
            if not why and not nvml.count():
                why = "NVML sees none"
        except FwMagicError as error:
            why = str(error).rstrip(".")
        if not why:
            return ""
        return (
            f"No GPU here ({why}): a policy of an allocator changes nothing, so each variant is there once, on the host"
        )

    def _jobs(self, section: Section, once: bool) -> Iterator[tuple[Section, str, str, Policy | None]]:
        known = {str(policy): policy for policy in section.framework.memory.policies}
        own = [known[name] for name in self._options.alloc if name in known]
        for name, mode in section.options.variants().items():
            if once or not own or _on_cpu(section):
                yield section, name, mode, None
            else:
                yield from ((section, f"{name} {policy.name}", mode, policy) for policy in own)

    def _job(
        self, section: Section, name: str, mode: str, policy: Policy | None, parcel: Parcel, measuring: Measuring
    ) -> None:
        """Run one variant under one policy: its time, its memory, and what is held when nothing is left."""
        if self._was_last(section, name):
            return
        environment = policy_environment(os.environ, policy)
        try:
            remote = self._variant(section, name, mode, parcel, environment, anew=policy is not None)
            entrants = [] if remote is None else [remote.entrant()]
            measuring.time(entrants)
            measuring.measure_memory(entrants)
            if remote is not None and self._draft.report[name].status == "timed":
                self._held_later(remote, policy)
        except WorkerEnded as error:
            self._ended(name, error, "memory")
        finally:
            self._close()  # also one that could not be timed: it may hold most of the device

    def _prepare(self, worker: Worker, sent: Sent) -> Found:
        with self._window():
            worker.call(_import, (*sent.together, *sent.flags))
        flags = {name: _without(some, frameworks.get(name).memory.outranking) for name, some in sent.flags.items()}
        return super()._prepare(worker, replace(sent, flags=flags))

    def _held_later(self, remote: IsolatedVariant, policy: Policy | None) -> None:
        """Note which policy was in force, and what the allocator holds when the variant has let go of everything."""
        variant = self._draft.report[remote.name]
        first, *others = variant.memory
        notes = (variant.note, _policies_in_force(policy, remote.in_force()), _why_policy_idle(policy, variant.memory))
        memory = (replace(first, released=remote.release()), *others)
        self._draft.variant(remote.name, memory=memory, note="; ".join(filter(None, notes)))


def _without(flags: Mapping[str, bytes], names: Sequence[str]) -> dict[str, bytes]:
    return {name: value for name, value in flags.items() if name not in names}


def _import(names: Sequence[str]) -> None:
    """Import frameworks, in a worker that has none yet: how long that takes is not what `--timeout` is about."""
    for name in names:
        frameworks.get(name)


def _on_cpu(section: Section) -> bool:
    return (section.options.device or "").startswith("cpu")


def _why_policy_idle(policy: Policy | None, ledgers: tuple[Ledger, ...]) -> str:
    """Return what is to be said of a variant that did not reach the GPU."""
    if policy is None or ledgers[0].device != "host":
        return ""
    return f"it computed on the CPU, where the policy changes nothing: this {policy.framework} sees no GPU"


def _policies_in_force(policy: Policy | None, force: Mapping[str, str]) -> str:
    if policy is None:
        return ""
    found = ", ".join(f"{name} = {value}" for name, value in force.items())
    return f"{policy}: {policy.what}; read back: {found or 'nothing'}"
