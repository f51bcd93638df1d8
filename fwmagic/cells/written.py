"""What a thread has written to files without asking Python, as code in C does: found afterwards, by its traces."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path

# What the system tells of this thread alone: the sum of all that it has written, to whatever it was.
_OF_THREAD = "/proc/thread-self/io"
_OPEN_FILES, _PLACES = Path("/proc/self/fd"), Path("/proc/self/fdinfo")
# The folder is looked at if it holds no more files and folders, and if that takes no longer than so many seconds.
_MOST_FILES, _MOST_FOLDERS = 2000, 100
_LONGEST = 0.05
# A folder that took longer is left alone for so many seconds.
_PATIENCE = 60.0
# What the shell, a database and Jupyter save meanwhile.
_OF_OTHERS = ("history.sqlite", ".ipynb", "-journal")

_State = tuple[int, int]  # size, and time of change
_Open = tuple[_State, str]  # and the place in it

_slow: dict[Path, float] = {}  # until when a folder is left alone

#: What stands for standard streams that lead elsewhere for a while: other descriptors of their files.
led_away: list[int] = []


class Written:
    """What this thread has written so far, and the files that are open or in the folder. Known on Linux only."""

    def __init__(self) -> None:
        self._sum = _bytes_so_far()
        self._folder = _folder()
        self._open = {} if self._sum is None else _open_files()
        self._streams = set() if self._sum is None else _streams()
        self._files = None if self._sum is None else _files_in(self._folder)

    def path(self, asked: Collection[str]) -> str:
        """Return a file that this thread has written to since, if none of `asked`; empty: there is none.

        Standard streams are left out.
        """
        written = 0 if self._sum is None else (_bytes_so_far() or 0) - self._sum
        if written <= 0:
            return ""
        changed = [path for path, now in _open_files().items() if _by_this(written, self._open.get(path, now), now)]
        changed += self._changed_in_folder(written)
        folder = self._folder or Path("/")
        known = {folder / path for path in asked}
        path = next((path for path in changed if path not in known), None)
        if path is None:
            return ""
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    def _changed_in_folder(self, written: int) -> Iterator[Path]:
        files = None if self._files is None else _files_in(self._folder)
        if files is None or self._files is None:
            return
        passed_by = self._streams | _streams()
        for path, now in files.items():
            before = self._files.get(path)
            is_own = _by(written, None if before is None else _state(before), _state(now))
            if is_own and (now.st_dev, now.st_ino) not in passed_by and not path.endswith(_OF_OTHERS):
                yield Path(path)


def _state(of_file: os.stat_result) -> _State:
    return of_file.st_size, of_file.st_mtime_ns


def _by(written: int, before: _State | None, now: _State) -> bool:
    """Say whether a file was changed, and with no more bytes than were written here: else it was another process."""
    size_before, size = 0 if before is None else before[0], now[0]
    return before != now and written >= (size - size_before if size >= size_before else size)


def _by_this(written: int, before: _Open, now: _Open) -> bool:
    """Say whether an open file may have been written to here: it has grown, or this process has moved on in it."""
    (state_before, place_before), (state, place) = before, now
    moved = place != place_before or state[0] > state_before[0]
    return moved and _by(written, state_before, state)


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _bytes_so_far() -> int | None:
    try:
        text = Path(_OF_THREAD).read_text()
    except OSError:  # not Linux, or it is not told
        return None
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("wchar:"))


def _open_files() -> dict[Path, _Open]:
    """Return the state of the files that are open, but for those of streams, and of the parent process."""
    found = {}
    streams, of_parent = _streams(), _files_of(os.getppid())
    for link in _OPEN_FILES.iterdir():
        of_file = _status_of(int(link.name))
        if of_file is None or not stat.S_ISREG(of_file.st_mode):
            continue
        which, path = (of_file.st_dev, of_file.st_ino), link.readlink()
        if which not in streams | of_parent and not path.name.endswith(_OF_OTHERS):
            found[path] = _state(of_file), _place(link.name)
    return found


def _place(number: str) -> str:
    """Return where in an open file the next byte is read or written."""
    try:
        return (_PLACES / number).read_text().partition("\n")[0]
    except OSError:  # closed meanwhile
        return ""


def _files_of(process: int) -> set[tuple[int, int]]:
    """Return the files that a process has open: the parent's were inherited, and others write to them."""
    found = set()
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                of_file = link.stat()
                found.add((of_file.st_dev, of_file.st_ino))
    return found


def _files_in(folder: Path | None) -> dict[str, os.stat_result] | None:
    """Return what the system tells of the files of a folder, and of the folders in it; nothing is asked of them here.

    None: there is no folder, there are too many, or the file system is slow, or was a moment ago: a cell is run
    several times.
    """
    begun = time.perf_counter()
    if folder is None or begun < _slow.get(folder, 0.0):
        return None
    found = {}
    for count, entry in enumerate(_below(folder)):
        if time.perf_counter() - begun > _LONGEST:
            _slow[folder] = begun + _PATIENCE
            return None
        if count >= _MOST_FILES:
            return None
        with contextlib.suppress(OSError):  # it is gone already
            found[entry.path] = entry.stat()
    return found


def _streams() -> set[tuple[int, int]]:
    """Return which files the standard streams write to: measured runs write nothing there."""
    return {
        (found.st_dev, found.st_ino) for number in (0, 1, 2, *led_away) if (found := _status_of(number)) is not None
    }


def _status_of(number: int) -> os.stat_result | None:
    try:
        return os.fstat(number)
    except OSError:  # closed, or that of the listing itself
        return None


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder, and the files of the folders in it."""
    found: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found += itertools.islice(entries, _MOST_FILES)
    folders = [entry for entry in found if entry.is_dir(follow_symlinks=False)]
    yield from (entry for entry in found if not entry.is_dir(follow_symlinks=False))
    for inner in folders[:_MOST_FOLDERS]:
        with contextlib.suppress(OSError), os.scandir(inner.path) as entries:  # not ours to read, or gone
            yield from (entry for entry in entries if not entry.is_dir())
