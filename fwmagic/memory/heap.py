"""The heap while one call runs: its peak, its course, and the lines of the cell that had allocated it; by memray."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from fwmagic import frameworks
from fwmagic.errors import FwMagicError
from fwmagic.format import one_line
from fwmagic.memory.host import MOST_KEPT, larger_of_pairs, sampled_every
from fwmagic.report import Allocation, Amount, Ledger, Moment, Timeline

if TYPE_CHECKING:
    from memray import AllocationRecord, FileReader, MemorySnapshot

# Milliseconds between two snapshots of the heap: memray counts in whole ones.
_INTERVAL = 1
# Of more snapshots than it is asked for, memray drops some without a look at them: all are read, and thinned here.
_ALL = 1 << 30
# An allocation below both is not worth an entry of its own.
_SMALL_SHARE = 0.01
_SMALL = 64 * 1024
_SOURCE = "memray: the most that was allocated at one time"
_COURSE = "memray: allocated and not yet freed"
# What is no line and has no name: many small things, and what this package itself allocates around the call.
_OTHER: tuple[int | None, str] = (None, "other")
_OURS = str(PurePath(__file__).parent.parent)
_INSTALLED = ("site-packages", "dist-packages")


def measure(call: Callable[[], object], filename: str, flamegraph: Path | None = None, inside: str = "") -> Ledger:
    """Return the most that the heap grew while `call` ran, once, and the lines of the cell that it was for.

    It is a pass of its own and not for timing: memray follows the allocations of all threads, and only one
    `memray.Tracker` can be active in a process. The heap is what was asked for, also where it was never written;
    Python's small objects count with the large blocks that Python takes for them, other processes do not count.
    Where memray cannot be used, the amount says why, and `call` is not run.

    Parameters
    ----------
    call
        Waits for its own outputs, which are kept to the end.
    filename
        The name that the cell was compiled under. An allocation belongs to the innermost line of that name.
    flamegraph
        Where to write memray's flame graph of the peak: one HTML file that needs no network.
    inside
        What owns the threads in which no Python runs, such as `XLA`: of what they allocate, nothing else is known.

    Returns
    -------
    Ledger
        Of the device `heap`, in bytes; `lines` add up to the peak.

    Raises
    ------
    FwMagicError
        The flame graph cannot be written; where its folder is missing, this is raised before `call` is run.
    BaseException
        What `call` raises, unchanged.
    """
    if flamegraph is not None:
        _check_flamegraph(flamegraph)
    try:
        from memray import FileDestination, FileFormat, FileReader, Tracker
    except ImportError as error:
        return _unknown_heap(_missing_memray(error))
    with tempfile.TemporaryDirectory(prefix="fwmagic-") as folder:
        file = Path(folder) / "heap.bin"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_greenlets())
                tracker = Tracker(
                    # A tracker that may not start would still try to compress its file, in vain and aloud.
                    destination=FileDestination(file, compress_on_exit=False),
                    memory_interval_ms=_INTERVAL,
                    # Allocations are added up in memory: else a loop of small ones fills the disk.
                    file_format=FileFormat.AGGREGATED_ALLOCATIONS,
                )
                with _quiet_memray():
                    stack.enter_context(tracker)
            except (RuntimeError, OSError) as error:
                return _unknown_heap(_refusal_of_memray(error))
            start = time.time()
            outputs = call()
            end = time.time()
        del outputs
        with contextlib.closing(FileReader(file, max_memory_records=_ALL)) as reader:
            return _heap_ledger(reader, filename, flamegraph, inside, start, end)


def _heap_ledger(
    reader: FileReader, filename: str, flamegraph: Path | None, inside: str, start: float, end: float
) -> Ledger:
    peak = reader.metadata.peak_memory
    records = list(reader.get_high_watermark_allocation_records(merge_threads=True))
    last = sum(record.size for record in reader.get_leaked_allocation_records(merge_threads=True))
    # memray's own preparations take longer than many a cell.
    during = [snapshot for snapshot in reader.get_memory_snapshots() if start < snapshot.time / 1000 < end]
    snapshots = _thinned_heap(during, MOST_KEPT - 2)
    if flamegraph is not None:
        _draw_flamegraph(reader, records, snapshots, flamegraph)
    course = [Moment(snapshot.time / 1000 - start, snapshot.heap, None) for snapshot in snapshots]
    seconds = max(0.0, end - start)
    return Ledger(
        device="heap",
        total=None,
        peak=(Amount("in use", peak, _SOURCE),),
        timeline=Timeline.of([Moment(0.0, 0, None), *course, Moment(seconds, last, None)]),
        source=f"{_COURSE}, {sampled_every(seconds, len(course))}",
        lines=_heap_lines(records, filename, inside, peak),
    )


def _heap_lines(records: Iterable[AllocationRecord], filename: str, inside: str, peak: int) -> tuple[Allocation, ...]:
    """Return what was allocated at the peak, by line or by what is known instead of one; the largest first."""
    found: Counter[tuple[int | None, str]] = Counter()
    for record in records:
        found[_owner(record.stack_trace(), filename, inside)] += record.size
    least = min(_SMALL, _SMALL_SHARE * peak)
    large = [(owner, count) for owner, count in found.most_common() if count >= least and owner != _OTHER]
    rest = found.total() - sum(count for _, count in large)
    lines = [Allocation(line, count, what) for (line, what), count in large]
    return (*lines, Allocation(_OTHER[0], rest, _OTHER[1])) if rest else tuple(lines)


def _owner(stack: Sequence[tuple[str, str, int]], filename: str, inside: str) -> tuple[int | None, str]:
    """Return the cell's line on a stack that begins with the innermost frame; else None, and what is known."""
    known, of_the_compiler = frameworks.loaded(), False
    for function, file, line in stack:
        if file == filename and not of_the_compiler:
            return line, ""
        of_the_compiler = any(framework.is_compiler_frame(function, file) for framework in known)
    if not stack:
        return None, f"inside {inside}, line unknown" if inside else "in threads without Python, line unknown"
    function, file, _ = stack[0]
    if file.startswith(_OURS):
        return _OTHER
    package = _package(file)
    if package:
        return None, f"inside {package}, line unknown"
    return None, f"outside of the cell: {function} in {PurePath(file).name}"


def _package(file: str) -> str:
    """Return the installed package that a file belongs to, or the framework that wrote it; empty: none."""
    parts = PurePath(file).parts
    for folder, inner in itertools.pairwise(parts):
        if folder in _INSTALLED:
            return inner.removesuffix(".py")
    return next((framework.name for framework in frameworks.loaded() if framework.is_generated(file)), "")


def _thinned_heap(snapshots: list[MemorySnapshot], most: int) -> list[MemorySnapshot]:
    while len(snapshots) > most:
        snapshots = [snapshots[i] for i in larger_of_pairs([snapshot.heap for snapshot in snapshots])]
    return snapshots


def _draw_flamegraph(
    reader: FileReader, records: list[AllocationRecord], snapshots: list[MemorySnapshot], flamegraph: Path
) -> None:
    from memray.reporters.flamegraph import FlameGraphReporter

    reporter = FlameGraphReporter.from_snapshot(records, memory_records=snapshots, native_traces=False)
    try:
        with flamegraph.open("w", encoding="utf-8") as out:
            # Without the web: the scripts go into the file, instead of links to them.
            reporter.render(
                out,
                metadata=reader.metadata,
                show_memory_leaks=False,
                merge_threads=True,
                inverted=False,
                no_web=True,
            )
    except OSError as error:
        raise FwMagicError(f"The flame graph cannot be written to {flamegraph}: {error.strerror or error}.") from error


def _check_flamegraph(flamegraph: Path) -> None:
    """Raise what can be known about a place for the flame graph before anything runs."""
    if not flamegraph.parent.is_dir():
        raise FwMagicError(
            f"The flame graph cannot be written to {flamegraph}: there is no folder {flamegraph.parent}; make it first."
        )
    if flamegraph.is_dir():
        raise FwMagicError(f"The flame graph cannot be written to {flamegraph}: this is a folder; name a file in it.")


@contextlib.contextmanager
def _greenlets() -> Iterator[None]:
    """Put back what is called when a greenlet gives way to another: memray leaves its own there."""
    greenlet = sys.modules.get("greenlet")
    if greenlet is None:
        yield
        return
    before = greenlet.gettrace()
    try:
        yield
    finally:
        greenlet.settrace(before)


def _quiet_memray() -> contextlib.AbstractContextManager[object]:
    """Keep memray's notice about greenlets, which it writes each time that it starts, from the user's eyes."""
    return contextlib.redirect_stderr(io.StringIO()) if "greenlet" in sys.modules else contextlib.nullcontext()


def _unknown_heap(why: str) -> Ledger:
    return Ledger(device="heap", total=None, peak=(Amount("in use", None, why=why),))


def _missing_memray(error: ImportError) -> str:
    if sys.platform == "win32":
        return "memray runs on Linux and macOS only"
    if isinstance(error, ModuleNotFoundError) and error.name == "memray":
        return "memray is not installed: pip install 'fwmagic[memory]'"
    return f"memray cannot be imported: {one_line(str(error))}"


def _refusal_of_memray(error: Exception) -> str:
    if "one Tracker" in str(error):
        return "another memray.Tracker is active in this process, and there can be only one"
    return f"memray cannot start: {one_line(str(error))}"
