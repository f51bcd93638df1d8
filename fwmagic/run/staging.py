"""Sections on their scenes: inputs, definitions and state in place under an overlay, and made ready to be timed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.outcome import Window, first_run
from fwmagic.cells.scene import Overlay, Scene, quiet
from fwmagic.cells.snapshot import Snapshot
from fwmagic.frameworks import Framework, line_of
from fwmagic.report import Compilation
from fwmagic.run import measuring
from fwmagic.run.inputs import converted, shared
from fwmagic.run.once import effects, lost_state
from fwmagic.run.place import distinct
from fwmagic.run.session import Session, names_of, seed_all
from fwmagic.run.variants import Preparation, Section


class Staging:
    """Gets sections that run `together` ready, each under an overlay of its own; `close` leaves nothing behind."""

    def __init__(self, session: Session, together: Sequence[Framework], preparation: Preparation) -> None:
        self.stated: list[str] = []
        self._session = session
        self._together = distinct(together)
        self._preparation = preparation
        self._draft = preparation.draft
        self._window: Window = preparation.window
        self._scenes: list[Scene] = []

    def close(self) -> None:
        """Put back everything that the sections can reach."""
        for scene in self._scenes:
            scene.restore()

    def stage(self, section: Section, given: Mapping[str, Any]) -> None:
        """Make the section's scene: its inputs, its definitions, and a snapshot of what it can reach."""
        namespace, framework, body = self._session.namespace, section.framework, section.body
        device = section.options.device
        bindings, stated = shared(given, self._together, framework, device)
        inputs, stated_inputs = converted(section.options.inputs, namespace, self._together, framework, device)
        self.stated += [sentence for sentence in (stated, stated_inputs) if sentence and sentence not in self.stated]
        overlay = Overlay(namespace, {**framework.names(), **bindings, **inputs})
        start = self.snapshot([])
        if section.options.seed is not None:
            seed_all(section.options.seed, framework)
        overlay.on()
        try:
            with quiet(self._session.shell), self._window():
                exec(body.definition_code(), namespace)
            overlay.keep(body.defined)
            section.definitions = {name: namespace[name] for name in body.defined if name in namespace}
            snapshot = self.snapshot(names_of(body))
            section.scene = Scene(namespace, framework, body, overlay, snapshot, device, self._session.shell)
            self._scenes.append(section.scene)
        except Exception as error:  # the section's definitions raised: its variants failed, the others go on
            line = line_of(error, body.filename)
            for name in section.options.variants():
                self._preparation.fail(section, name, error, line, "definitions")
        finally:
            overlay.off()
            start.restore()

    def prepare(self, section: Section) -> None:
        """Make the variants of a staged section ready, or run it the one time that it can be run."""
        if section.scene is None:
            return
        repeat = section.options.repeat_effects
        lost = lost_state(section.body, section.scene.snapshot, repeat)
        why = effects(section.body, self._session.namespace, repeat)
        if lost:
            # A comparison leaves the notebook as it is: what it would use up is not run at all.
            for name in section.options.variants():
                self._draft.variant(name, status="not timed", note=f"not run: {lost}")
        elif why or section.options.mode == "debug":
            self._once(section, why)
        else:
            self._preparation.prepare(section)
        section.scene.restore()

    def snapshot(self, names: list[str]) -> Snapshot:
        """Return a snapshot of what names lead to, and of the random generators."""
        adapters = distinct([*frameworks.loaded(), *self._together])
        return Snapshot(self._session.namespace, names, adapters)

    def _once(self, section: Section, why: str) -> None:
        """Run a section one time: it has effects, or it is being debugged, with its output shown."""
        debug = section.options.mode == "debug"
        program = self._preparation.plain(section)
        scene = section.scene
        assert scene is not None
        scene.shown = debug
        for name in section.options.variants():
            try:
                mode = section.framework.eager() if debug else contextlib.nullcontext()
                with mode:
                    section.reference = first_run(program, self._window, only=True)
            except Exception as error:  # the user's code raised: this variant failed, the others go on
                self._preparation.fail(section, name, error, line_of(error, section.body.filename), "first run")
                continue
            reason = why or "one run without a compiler, for debugging: its time says nothing"
            measuring.once(
                self._draft,
                self._draft.report[name],
                section.reference.seconds,
                reason,
                compilation=Compilation("eager", reason),
                source=program.source,
                returned=program.returned,
                outputs=dict(section.reference.results),
            )
            return
