"""The run of a %%compare cell: every section under an overlay, and the notebook as before at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.scene import Overlay, quiet
from fwmagic.cells.snapshot import Snapshot
from fwmagic.errors import FwMagicError
from fwmagic.format import one_line
from fwmagic.frameworks import Framework, line_of
from fwmagic.measure.load import Load
from fwmagic.memory import passes
from fwmagic.memory.passes import Passes
from fwmagic.report import Report
from fwmagic.run import measuring
from fwmagic.run.alloc import Policies
from fwmagic.run.draft import Draft, Show
from fwmagic.run.inputs import checked
from fwmagic.run.isolated import Isolation
from fwmagic.run.place import Here, distinct
from fwmagic.run.session import Session, devices_of, names_of, nothing_in, seed_all
from fwmagic.run.staging import Staging
from fwmagic.run.variants import Preparation, Section, across


class Comparison:
    """One %%compare cell: its setup and its sections, all analysed."""

    def __init__(self, session: Session, setup: Any, sections: list[Section], show: Show) -> None:
        self.session = session
        self.setup = setup
        self.sections = sections
        self.guard = InterruptGuard()
        options = sections[0].options
        self.options = options
        self.draft = Draft(
            "%%compare", show, budget=options.budget, margin=options.margin, execution_count=session.execution_count
        )
        self.preparation = Preparation(self.draft, session.programs, self.guard.window)

    def run(self) -> Report:
        """Run everything; afterwards the notebook is as if the cell had not run.

        Raises
        ------
        FwMagicError
            A section has nothing to time, or an option of its cannot take effect; nothing was run.
        KeyboardInterrupt
            And whatever the setup raises; also then the notebook is as before.
        """
        __tracebackhide__ = True
        for section in self.sections:
            if section.body.is_empty:
                raise FwMagicError(f"Section {section.name!r} has nothing to time: {nothing_in(section.body)}.")
            checked(section.options.inputs, self.session.namespace)
            # In a process of its own, it is the worker that looks: asking JAX would start it here.
            if section.options.device is not None and not self.options.isolated:
                section.framework.device(section.options.device)
        for section in self.sections if not self.options.alloc else ():
            self.preparation.add(section)
        # The sections' scenes save what the sections reach; this saves what the setup reaches, and the generators.
        names = names_of(self.setup) if self.setup is not None else []
        adapters = distinct([*frameworks.loaded(), *self._frameworks()])
        world = Snapshot(self.session.namespace, names, adapters)
        load = Load()
        try:
            with self.guard:
                try:
                    self._run(load)
                finally:
                    world.restore()
        except KeyboardInterrupt:
            self.draft.interrupt("interrupted: the notebook is as before the cell")
            raise
        except Exception as error:
            self.draft.fail(f"{self._what_failed(error)}; the notebook is as before the cell")
            raise
        self.draft.change(state="failed" if self.preparation.errors else "done", progress=1.0)
        return self.draft.report

    def _what_failed(self, error: Exception) -> str:
        message = one_line(str(error), 200).rstrip(".")
        if isinstance(error, FwMagicError):
            return message
        line = None if self.setup is None else line_of(error, self.setup.filename)
        # the sections have the same file name
        in_setup = line is not None and line <= max(node.end_lineno for node in self.setup.tree.body)
        where = f"%%setup failed at line {line} with " if in_setup else ""
        return f"{where}{type(error).__name__}: {message}"

    def _run(self, load: Load) -> None:
        __tracebackhide__ = True
        if self.options.isolated:
            given = self._set_up()
            kind = Policies if self.options.alloc else Isolation
            kind(self.session, self.sections, self.preparation, self.guard).run(given, load)
            return
        staging = Staging(self.session, self._frameworks(), self.preparation)
        try:
            given = self._set_up()
            for section in self.sections:
                staging.stage(section, given)
            load.start()
            for section in self.sections:
                staging.prepare(section)
            across(self.sections, self.draft)
            self._measure(load, staging.stated)
        finally:
            staging.close()

    def _set_up(self) -> Mapping[str, Any]:
        """Run %%setup, quietly, and return what it bound; it is taken off the namespace again."""
        __tracebackhide__ = True
        if self.options.seed is not None:
            seed_all(self.options.seed, *self._frameworks())
        if self.setup is None:
            return {}
        import numpy as np

        overlay = Overlay(self.session.namespace, {"np": np})
        body = self.setup
        overlay.on()
        try:
            with quiet(self.session.shell), self.guard.window():
                exec(body.code(body.tree), self.session.namespace)
            overlay.keep(body.assigned | body.defined)
        finally:
            overlay.off()
        return {name: value for name, value in overlay.bindings.items() if name in body.assigned | body.defined}

    def _measure(self, load: Load, stated: Sequence[str]) -> None:
        options, contenders = self.options, self.preparation.contenders
        here = Here(self._frameworks(), self.guard.window, "; ".join(stated), devices_of(self.sections))
        how = measuring.Pass(self.draft, here, options.budget, options.margin, options.baseline, load)
        programs = here.calls(contender.program for contender in contenders)
        self.preparation.errors += measuring.time_contenders(how, contenders, programs)
        passes.measure(Passes(options, self.guard.window, several=len(contenders) > 1), contenders, self.draft)

    def _frameworks(self) -> list[Framework]:
        return distinct(section.framework for section in self.sections)
