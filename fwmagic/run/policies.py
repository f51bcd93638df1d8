"""The run of `%%compare --alloc`: each variant under every policy of its allocator, one fresh process at a time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fwmagic.errors import FwMagicError
from fwmagic.measure.load import Load
from fwmagic.memory import nvml
from fwmagic.memory.policies import POLICIES, Policy, on_demand
from fwmagic.report import Ledger, Variant
from fwmagic.run import inside
from fwmagic.run.isolated import Apart, Isolation, Remote
from fwmagic.run.variants import Section
from fwmagic.worker.parcel import Parcel
from fwmagic.worker.process import WorkerEnded

_BY_NAME = {str(policy): policy for policy in POLICIES}


class Policies(Isolation):
    """The sections of one cell, each variant of which runs once for every policy of its framework's allocator."""

    def run(self, given: Mapping[str, Any], load: Load) -> None:
        """Run one variant after the other, each in a process that ends before the next one begins."""
        self._apart = Apart(self._options.threads, "a fresh process for each policy, one at a time")
        missing = self._no_device()
        jobs = [job for section in self._sections for job in self._jobs(section, bool(missing))]
        for section, name, mode, policy in jobs:
            told = dict(section.options.stated(), **({} if policy is None else {"alloc": str(policy)}))
            self._draft.add(Variant(name, section.name, section.framework.name, mode, "waiting", options=told))
        self._draft.change(note=missing)
        try:
            with self._parcel(given) as parcel:
                load.start()
                for section, name, mode, policy in jobs:
                    self._job(section, name, mode, policy, parcel, self._options.budget / len(jobs))
        finally:
            self._close()
        load.stop()
        self._draft.change(conditions=self._apart.conditions(load), progress=1.0)

    def _no_device(self) -> str:
        """Return why there is no device whose allocator could have a policy, or an empty string."""
        why = ""
        try:
            if not nvml.cards():
                why = "NVML sees none"
        except FwMagicError as error:
            why = str(error).rstrip(".")
        if (self._options.device or "").startswith("cpu"):
            why = "--device cpu was asked for"
        if not why:
            return ""
        return f"No GPU here ({why}): a policy of an allocator changes nothing, so each variant ran once, on the host"

    def _jobs(self, section: Section, once: bool) -> Iterator[tuple[Section, str, str, Policy | None]]:
        policies = [_BY_NAME[name] for name in self._options.alloc]
        own = [policy for policy in policies if policy.framework == section.framework.name]
        for name, mode in section.options.variants().items():
            if once or not own:
                yield section, name, mode, None
            else:
                yield from ((section, f"{name} {policy.name}", mode, policy) for policy in own)

    def _job(
        self, section: Section, name: str, mode: str, policy: Policy | None, parcel: Parcel, budget: float
    ) -> None:
        """Run one variant under one policy: its time, its memory, and what is held when nothing is left."""
        environment = on_demand(os.environ) if policy is None else policy.environment(os.environ)
        if policy is not None and policy.framework == "jax":
            # Else JAX would only log that it cannot start on the GPU, and compute on the CPU.
            environment.setdefault("JAX_PLATFORMS", "cuda,cpu")
        remote = self._variant(section, name, mode, parcel, environment, anew=policy is not None)
        if remote is None:
            return
        try:
            self._measure(remote, policy, budget)
        except WorkerEnded as error:
            self._preparation.fail(section, name, error, None, "memory")
        finally:
            remote.worker.close()

    def _measure(self, remote: Remote, policy: Policy | None, budget: float) -> None:
        timeout = self._options.timeout
        with self._window():
            time = remote.worker.call(inside.alone, budget, random.getrandbits(32), timeout=timeout)
        if time is not None:
            self._draft.variant(remote.name, status="timed", time=time)
        ledgers = remote.memory()
        with self._window():
            force = remote.worker.call(inside.in_force, timeout=timeout)
            released = remote.worker.call(inside.release, timeout=timeout)
        self._draft.variant(remote.name, memory=_with(ledgers, released), note=_in_force(policy, force))


def _with(ledgers: tuple[Ledger, ...], released: Any) -> tuple[Ledger, ...]:
    """Return the ledgers, the device's, which is the first, with what was held later."""
    first, *others = ledgers
    return (replace(first, released=released), *others)


def _in_force(policy: Policy | None, force: Mapping[str, str]) -> str:
    if policy is None:
        return ""
    found = ", ".join(f"{name} = {value}" for name, value in force.items())
    return f"{policy}: {policy.what}; read back: {found or 'nothing'}"
