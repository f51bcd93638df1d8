"""The run of a %%compare cell: every section under an overlay, and the notebook as before at the end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.definitions import names_made
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.scene import Overlay, quiet
from fwmagic.cells.watch import Watch
from fwmagic.errors import FwMagicError, message_of
from fwmagic.format import one_line
from fwmagic.frameworks import Framework, line_of
from fwmagic.measure.load import Load
from fwmagic.run.alloc import AllocRun
from fwmagic.run.draft import Draft, Show, interrupt_of_user
from fwmagic.run.effects import done_once
from fwmagic.run.inputs import checked_inputs
from fwmagic.run.isolated import Isolation
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Here, passes
from fwmagic.run.preparation import Preparation
from fwmagic.run.section import Section, devices_of_sections
from fwmagic.run.session import Session, distinct, seed_all, start
from fwmagic.run.staging import Staging


class Comparison:
    """One %%compare cell: its setup and its sections, all analysed."""

    def __init__(self, session: Session, setup: Body | None, sections: list[Section], show: Show) -> None:
        self.options = sections[0].options
        self.draft = Draft("%%compare", show, self.options, session.execution_count, session.cell)
        self._session = session
        self._setup = setup
        self._sections = sections
        self._guard = InterruptGuard()
        self._watch: Watch | None = None  # of the setup
        self._preparation = Preparation(self.draft, session.programs, self._guard.window)

    def run(self) -> None:
        """Run everything; afterwards the notebook is as if the cell had not run.

        Raises
        ------
        FwMagicError
            A section has nothing to time, or an option of its cannot take effect; nothing was run.
        KeyboardInterrupt
            And whatever the setup raises; also then the notebook is as before.
        """
        __tracebackhide__ = True
        for section in self._sections:
            if section.body.is_empty:
                raise FwMagicError(f"Section {section.name!r} has nothing to time: {section.body.why_empty}.")
            checked_inputs(section.options.inputs, self._session.namespace)
            # In a process of its own, it is the worker that looks: asking JAX would start it here.
            if section.options.device is not None and not self.options.isolated:
                section.framework.device(section.options.device)
        if not self.options.alloc:
            self.draft.add_waiting(*self._sections)
        names = self._setup.names if self._setup is not None else []
        try:
            with self._guard:
                if not self.options.isolated:
                    start(*self._frameworks())
                # The sections' scenes save what the sections reach; this saves what the setup does, and the generators.
                world = self._session.snapshot(names, *self._frameworks())
                try:
                    self._run(Load())
                finally:
                    try:
                        world.restore()
                    finally:
                        if self._watch is not None:
                            self._watch.put_back_files()
                self.draft.end()
        except KeyboardInterrupt as error:
            self.draft.interrupt("interrupted: the notebook is as before the cell")
            raise interrupt_of_user(error, self._sections[0].body.filename) from None
        except BaseException as error:
            self.draft.fail(f"{self._what_failed(error)}; the notebook is as before the cell")
            raise

    def _what_failed(self, error: BaseException) -> str:
        message = one_line(message_of(error), 200).rstrip(".")
        if isinstance(error, FwMagicError):
            return message
        line = None if self._setup is None else line_of(error, self._setup.filename)
        last = 0 if self._setup is None else max(node.end_lineno or 0 for node in self._setup.tree.body)
        # the sections have the same file name
        where = f"%%setup failed at line {line} with " if line is not None and line <= last else ""
        return f"{where}{type(error).__name__}: {message}"

    def _run(self, load: Load) -> None:
        __tracebackhide__ = True
        window = self._guard.window
        if self.options.isolated:
            given = self._set_up()
            kind = AllocRun if self.options.alloc else Isolation
            isolation = kind(self._session, self._sections, self.draft, self._preparation, window, self._done_once())
            isolation.run(given, load)
            return
        staging = Staging(self._session, self._frameworks(), self.draft, self._preparation, window)
        try:
            given = self._set_up()
            staging.stated += self._done_once()
            for section in self._sections:
                staging.stage(section, given)
            self._measure(staging, load)
            # What measured runs have made goes before the state is put back, as its finalizers may change that.
            self._preparation.let_go()
        finally:
            staging.close()

    def _measure(self, staging: Staging, load: Load) -> None:
        """Make the variants of the staged sections ready, and time them."""
        load.start()
        for section in self._sections:
            staging.prepare(section)
        self._preparation.compare_across(self._sections)
        silence, window = partial(quiet, self._session.shell), self._guard.window
        here = Here(self._frameworks(), window, "; ".join(staging.stated), devices_of_sections(self._sections), silence)
        contenders = self._preparation.contenders
        wanted = passes(self.options, window, several=len(contenders) > 1)
        Measuring(self.draft, here, self.options, load).run(here.entrants(contenders, wanted))
        if self.options.first_difference:
            staging.find_first_differences(self._sections)

    def _set_up(self) -> Mapping[str, Any]:
        """Run %%setup, quietly, and return what it bound; it is taken off the namespace again."""
        __tracebackhide__ = True
        if self.options.seed is not None:
            seed_all(self.options.seed, *self._frameworks())
        if self._setup is None:
            return {}
        import numpy as np

        overlay = Overlay(self._session.namespace, {"np": np})
        body = self._setup
        overlay.on()
        try:
            self._watch = Watch(self._session.namespace, body.filename)
            with self._watch, quiet(self._session.shell), self._guard.window():
                exec(body.code(body.tree), self._session.namespace)
            names = body.assigned | names_made(body.tree.body)
            overlay.keep(names)
        finally:
            overlay.off()
        return {name: value for name, value in overlay.bindings.items() if name in names}

    def _done_once(self) -> list[str]:
        """Return the sentence on what the setup did that cannot be undone, if there was anything."""
        return [] if self._watch is None else done_once(self._watch, "%%setup")

    def _frameworks(self) -> list[Framework]:
        return distinct(section.framework for section in self._sections)
