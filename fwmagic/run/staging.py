"""Sections on their scenes: inputs, definitions and state in place under an overlay, and made ready to be timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.caches import copies_of
from fwmagic.cells.definitions import names_made
from fwmagic.cells.outcome import Window
from fwmagic.cells.scene import Overlay, Scene, quiet
from fwmagic.cells.walk import Copies
from fwmagic.cells.watch import Watch
from fwmagic.frameworks import Framework
from fwmagic.run.divergence import Divergence
from fwmagic.run.draft import Draft
from fwmagic.run.effects import copies_of_arrays, done_once, effects, lost_state, may_use_up
from fwmagic.run.inputs import Converted, section_inputs
from fwmagic.run.preparation import Preparation
from fwmagic.run.section import Section
from fwmagic.run.session import Session, distinct, seed_all


def define(session: Session, body: Body, overlay: Overlay, window: Window = nullcontext) -> None:
    """Make the definitions of a section, which belong to the overlay; it must be on."""
    with quiet(session.shell), window():
        exec(body.definition_code(), session.namespace)
    overlay.keep(names_made(body.definitions))


class Staging:
    """Gets sections that run `together` ready, each under an overlay of its own; `close` leaves nothing behind."""

    def __init__(
        self, session: Session, together: Sequence[Framework], draft: Draft, preparation: Preparation, window: Window
    ) -> None:
        self.stated: list[str] = []
        self._session = session
        self._together = distinct(together)
        self._draft = draft
        self._preparation = preparation
        self._window = window
        self._scenes: dict[str, Scene] = {}
        self._watches: list[Watch] = []
        self._repeated: set[str] = set()
        self._converted: Converted = {}
        self._copies: Copies = {}
        self._forgetting: list[Callable[[], None]] = []

    def close(self) -> None:
        """Put back everything that the sections can reach."""
        with contextlib.ExitStack() as stack:  # all of them, also where one of them refuses
            for watch in self._watches:
                stack.callback(watch.put_back_files)
            for forget in self._forgetting:
                stack.callback(forget)
            for scene in self._scenes.values():
                stack.callback(scene.restore)

    def stage(self, section: Section, given: Mapping[str, Any]) -> None:
        """Make the section's scene: its inputs, its definitions, and a snapshot of what it can reach."""
        start = self._session.snapshot([], *self._together)
        try:
            self._scenes[section.name] = self._scene(section, given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # such as what its definitions raise: its variants failed, the others go on
            for name in section.options.variants():
                self._draft.failed(name, error, "definitions", section.body.filename)
        finally:
            start.restore()

    def _scene(self, section: Section, given: Mapping[str, Any]) -> Scene:
        namespace, framework, body = self._session.namespace, section.framework, section.body
        device = section.options.device
        bindings, stated = section_inputs(
            given, section.options.inputs, namespace, self._together, framework, device, self._converted
        )
        self.stated += [stated] if stated and stated not in self.stated else []
        overlay = Overlay(namespace, {**framework.names(), **bindings})
        if section.options.seed is not None:
            seed_all(section.options.seed, framework)
        overlay.on()
        try:
            watch = Watch(namespace, body.filename)
            self._watches.append(watch)
            with watch:
                define(self._session, body, overlay, self._window)
            self.stated += done_once(watch, f"the definitions of {section.name}")
            snapshot = self._session.snapshot_of(body, *self._together, copies=self._copies)
            copies = copies_of(snapshot.caches.values())
            if copies:  # so that the notebook's own stay as they are
                overlay.put_in(snapshot, {id(copy.original): copy.function for copy in copies})
                snapshot = self._session.snapshot_of(body, *self._together, copies=self._copies)
            # The next execution of the cell, too, is to find what the user compiles as the notebook has it.
            objects = [*snapshot.stateless, *snapshot.objects()]
            found = (one.forgetting(value) for one in self._together for value in objects)
            self._forgetting += [forget for forget in found if forget is not None]
        finally:
            overlay.off()
        return Scene(namespace, framework, body, overlay, snapshot, device, self._session.shell, caches=tuple(copies))

    def prepare(self, section: Section) -> None:
        """Make the variants of a staged section ready, or run it the one time that it can be run."""
        scene = self._scenes.get(section.name)
        if scene is None:
            return
        options = section.options
        lost = lost_state(section.body, scene.snapshot, options.repeat_effects)
        why = effects(section.body, self._session.namespace, options.repeat_effects)
        if lost:
            # A comparison leaves the notebook as it is: what it would use up is not run at all.
            for name in options.variants():
                self._draft.variant(name, status="not timed", note=f"not run: {lost}")
        elif why:
            scene.used_up = self._arrays(section, scene)
            self._preparation.run_once(section, scene, why)
        elif self._can_run_again(section, scene):
            self._repeated.add(section.name)
            self._preparation.prepare(section, scene)
        scene.restore()

    def find_first_differences(self, sections: Sequence[Section]) -> None:
        """Name the first lines in which sections part from the first one, where their outputs do not agree.

        Sections that run only once are left out.
        """
        reference = self._preparation.references.outcome
        compared = [one for one in sections if one.name in self._repeated and reference(one) is not None]
        divergence = Divergence(self._window)
        for section in compared[1:]:
            first = compared[0]
            agreement = self._draft.report[next(iter(section.options.variants()))].agreement
            by_chance = any(outcome is not None and outcome.random for outcome in map(reference, (first, section)))
            wanted = ("differs", "not compared") if by_chance else ("differs",)
            if agreement is not None and agreement.status in wanted:
                scenes = self._scenes[first.name], self._scenes[section.name]
                self._draft.find(divergence.find(first, scenes[0], section, scenes[1]))

    def _can_run_again(self, section: Section, scene: Scene) -> bool:
        """Say whether a section can be run again, with copies of what it uses up; else it was run one time, on copies.

        Which arguments a compiled function donates shows only when they are gone, and gone is gone.
        """
        scene.used_up = self._arrays(section, scene)
        if not scene.used_up:
            return True
        can = self._preparation.can_run_again(section, scene)
        scene.keep_used_up()
        scene.restore()
        return can

    def _arrays(self, section: Section, scene: Scene) -> tuple[Any, ...]:
        """Return the arrays that a section may use up and that copies can stand for."""
        if not may_use_up(section.body, self._session.namespace, scene.snapshot, section.framework):
            return ()
        return tuple(array for array, _ in copies_of_arrays(scene.snapshot, section.framework).values())
