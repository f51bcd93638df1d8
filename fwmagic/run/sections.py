"""The run of a %%compare cell: every section under an overlay, and the notebook as before at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.outcome import first_run
from fwmagic.cells.overlay import Overlay
from fwmagic.cells.scene import Scene, quiet
from fwmagic.cells.state import Snapshot
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import line_of
from fwmagic.measure.load import Load
from fwmagic.report import Compilation, Report
from fwmagic.run import measuring
from fwmagic.run.conditions import distinct
from fwmagic.run.draft import Draft, Show
from fwmagic.run.here import Here
from fwmagic.run.inputs import checked, converted, shared
from fwmagic.run.once import effects, lost_state
from fwmagic.run.single import Session, devices_of, names_of, nothing_in, seed_all
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
        self._stated: list[str] = []

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
            if section.options.device is not None:
                section.framework.device(section.options.device)
        for section in self.sections:
            self.preparation.add(section)
        # The sections' scenes save what the sections reach; this saves what the setup reaches, and the generators.
        world = self._snapshot(names_of(self.setup) if self.setup is not None else [])
        load = Load()
        try:
            with self.guard:
                try:
                    self._run(world, load)
                finally:
                    world.restore()
        except KeyboardInterrupt:
            self.draft.interrupt("interrupted: the notebook is as before the cell")
            raise
        except Exception as error:
            self.draft.change(state="failed", note=f"{type(error).__name__}: the notebook is as before the cell")
            raise
        self.draft.change(state="failed" if self.preparation.errors else "done", progress=1.0)
        return self.draft.report

    def _run(self, world: Snapshot, load: Load) -> None:
        scenes: list[Scene] = []
        try:
            given = self._set_up()
            for section in self.sections:
                self._stage(section, given, scenes)
            load.start()
            for section in self.sections:
                if section.scene is not None:
                    self._prepare(section)
                    section.scene.restore()
            across(self.sections, self.draft)
            self._measure(load)
        finally:
            for scene in scenes:
                scene.restore()

    def _set_up(self) -> Mapping[str, Any]:
        """Run %%setup, quietly, and return what it bound; it is taken off the namespace again."""
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

    def _stage(self, section: Section, given: Mapping[str, Any], scenes: list[Scene]) -> None:
        """Make the section's scene: its inputs, its definitions, and a snapshot of what it can reach."""
        namespace, framework, body = self.session.namespace, section.framework, section.body
        together, device = self._frameworks(), section.options.device
        bindings, stated = shared(given, together, framework, device)
        inputs, stated_inputs = converted(section.options.inputs, namespace, together, framework, device)
        self._stated += [sentence for sentence in (stated, stated_inputs) if sentence and sentence not in self._stated]
        overlay = Overlay(namespace, {**framework.names(), **bindings, **inputs})
        start = self._snapshot([])
        if section.options.seed is not None:
            seed_all(section.options.seed, framework)
        overlay.on()
        try:
            with quiet(self.session.shell), self.guard.window():
                exec(body.definition_code(), namespace)
            overlay.keep(body.defined)
            section.definitions = {name: namespace[name] for name in body.defined if name in namespace}
            snapshot = self._snapshot(names_of(body))
            section.scene = Scene(namespace, framework, body, overlay, snapshot, device, self.session.shell)
            scenes.append(section.scene)
        except Exception as error:  # the section's definitions raised: its variants failed, the others go on
            line = line_of(error, body.filename)
            for name in section.options.variants():
                self.preparation.fail(section, name, error, line, "definitions")
        finally:
            overlay.off()
            start.restore()

    def _prepare(self, section: Section) -> None:
        assert section.scene is not None
        repeat = section.options.repeat_effects
        lost = lost_state(section.body, section.scene.snapshot, repeat)
        why = effects(section.body, self.session.namespace, repeat)
        if lost:
            # A comparison leaves the notebook as it is: what it would use up is not run at all.
            for name in section.options.variants():
                self.draft.variant(name, status="not timed", note=f"not run: {lost}")
        elif why or section.options.mode == "debug":
            self._once(section, why)
        else:
            self.preparation.prepare(section)

    def _once(self, section: Section, why: str) -> None:
        """Run a section one time: it has effects, or it is being debugged, with its output shown."""
        debug = section.options.mode == "debug"
        program = self.preparation.plain(section)
        scene = section.scene
        assert scene is not None
        scene.shown = debug
        for name in section.options.variants():
            try:
                mode = section.framework.eager() if debug else contextlib.nullcontext()
                with mode:
                    section.reference = first_run(program, self.guard.window, only=True)
            except Exception as error:  # the user's code raised: this variant failed, the others go on
                self.preparation.fail(section, name, error, line_of(error, section.body.filename), "first run")
                continue
            reason = why or "one run without a compiler, for debugging: its time says nothing"
            measuring.once(
                self.draft,
                self.draft.report[name],
                section.reference.seconds,
                reason,
                compilation=Compilation("eager", reason),
                source=program.source,
                returned=program.returned,
                outputs=dict(section.reference.results),
            )
            return

    def _measure(self, load: Load) -> None:
        options, contenders = self.options, self.preparation.contenders
        here = Here(self._frameworks(), self.guard.window, "; ".join(self._stated), devices_of(self.sections))
        how = measuring.Pass(self.draft, here, options.budget, options.margin, options.baseline, load)
        programs = here.calls(contender.program for contender in contenders)
        self.preparation.errors += measuring.time_contenders(how, contenders, programs)

    def _frameworks(self) -> list[Any]:
        return distinct(section.framework for section in self.sections)

    def _snapshot(self, names: list[str]) -> Snapshot:
        adapters = distinct([*frameworks.loaded(), *self._frameworks()])
        return Snapshot(self.session.namespace, names, adapters)
