"""The memory passes of a run: one more run of each variant for its device, and one for the host, apart from timing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.outcome import LONG, Window
from fwmagic.errors import message_of
from fwmagic.format import one_line, size
from fwmagic.frameworks import Framework
from fwmagic.frameworks.compiled import Static
from fwmagic.frameworks.memory import Device
from fwmagic.measure.bench import LEAD_IN
from fwmagic.measure.calls import Timed
from fwmagic.memory import device, heap, host
from fwmagic.memory.nvml import Figure
from fwmagic.report import Amount, Ledger

#: One pass: it runs a call once, and returns its ledger.
Pass = Callable[[Callable[[], object]], Ledger]


@dataclass(frozen=True)
class Passes:
    """What is to be measured of variants, and where Ctrl-C may stop it.

    `wanted` is the device that was asked for. `memory`: of the device and of the host; `memray`: of the heap, too, with
    a flame graph in the file `flamegraph` if one is named. `several`: of more than one variant. `context` is what the
    driver needs for this process. `exact`: this process does nothing else any more, and gives back at once what is
    freed (see `host.map_large_blocks`).
    """

    window: Window
    wanted: str | None = None
    memory: bool = True
    memray: bool = False
    flamegraph: str | None = None
    several: bool = False
    context: Figure = device.UNKNOWN_CONTEXT
    exact: bool = False

    def run(
        self,
        name: str,
        program: Timed,
        framework: Framework,
        *,
        filename: str = "",
        seconds: float | None = None,
        static: Static | None = None,
    ) -> tuple[Ledger, ...]:
        """Run a variant once for each pass, and return its ledgers: that of the device it computes on first.

        `filename` is where its lines are, `seconds` how long a run takes, if that is known.
        """
        memory, wanted = framework.memory, self.wanted
        found: list[Ledger] = []
        where = memory.device(wanted) if self.memory else None
        on_host: Pass = partial(host.measure, elsewhere=framework.hands_over)
        if where is not None:
            others = tuple(_others_for_device_pass(framework, where, wanted))
            on_device = partial(device.measure, memory=memory, device=where, others=others, context=self.context)
            if seconds is not None and seconds > LONG:  # a slow cell is not run once more for each of the two

                def on_both(call: Callable[[], object]) -> Ledger:
                    return on_host(lambda: found.append(on_device(call)))

                found.append(self._once(program, seconds, "host", on_both))
            else:
                found.append(self._once(program, seconds, where.name, on_device))
        if self.memory and len(found) < 2:
            found.append(self._once(program, seconds, "host", on_host))
        if self.memray:
            on_heap = partial(heap.measure, filename=filename, flamegraph=self._graph(name), inside=framework.engine)
            found.append(self._once(program, seconds, "heap", on_heap))
        if static is not None and self.memory:
            found.append(_static_pass(where.name if where is not None else "CPU", framework.engine, static))
        return tuple(found)

    def _once(self, program: Timed, seconds: float | None, where: str, measure: Pass) -> Ledger:
        """Run a program once, from its start state, under a pass."""

        def call() -> Any:
            with self.window():
                outputs = program.call(*program.args)
                if program.wait is not None:
                    program.wait(outputs)
            return outputs

        program.enter()
        try:
            if program.lead_in and seconds is not None and seconds < LEAD_IN:
                call()  # as before a timed block: the first call makes state, such as an optimizer's
            if self.exact and where == "host":
                _settle_for_pass(call)
            return measure(call)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the user's code raises now costs this figure, and nothing else
            why = f"the run for it raised {type(error).__name__}: {one_line(message_of(error), 100)}"
            return Ledger(where, None, (Amount("in use", None, why=why),))
        finally:
            program.exit()

    def _graph(self, name: str) -> Path | None:
        """Return where to write a variant's flame graph: the file that was asked for, or one for each variant."""
        if self.flamegraph is None:
            return None
        path = Path(self.flamegraph)
        return path.with_stem(f"{path.stem}-{name.replace(':', '-').replace(' ', '-')}") if self.several else path


def _settle_for_pass(call: Callable[[], object]) -> None:
    """Make calls: what one frees takes with it what lingers in the heap where it was, and threads differ in heaps."""
    until = time.perf_counter() + LEAD_IN
    while host.lingering() and time.perf_counter() < until:
        call()


def _others_for_device_pass(
    framework: Framework, where: Device, wanted: str | None
) -> Iterable[tuple[str, int | None]]:
    """Yield what other frameworks of this process hold on the device that one computes on."""
    for other in frameworks.loaded():
        place = other.memory.device(wanted) if other.name != framework.name and other.memory.started() else None
        if place is not None and place.ordinal == where.ordinal:
            yield other.title, other.memory.counters(place).held


def _static_pass(where: str, engine: str, account: Static) -> Ledger:
    parts = ((account.argument, "arguments"), (account.output, "outputs"), (account.temp, "temporaries"))
    added = " + ".join(f"{size(count)} {what}" for count, what in parts)
    source = f"{engine}'s static analysis, not measured: {added} - {size(account.alias)} shared"
    return Ledger(where, None, (Amount("in use", account.total, source),), how="static")
