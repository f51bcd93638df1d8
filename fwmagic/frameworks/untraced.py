"""What user code does outside of the framework while it is traced: the program that comes of it never does it again."""

from __future__ import annotations

import cProfile
import functools
import pickle
import random
import re
import sys
import sysconfig
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from fwmagic.frameworks.least import Least
from fwmagic.libraries import is_of_library

# Less than this, in seconds, and less than this share of a call, is not worth leaving a cell uncompiled. What the code
# takes that hands over to the framework is less sure: where caches are cold, ten times as much.
_LEAST, _LEAST_OF_GLUE, _SHARE = 3e-5, 1e-4, 0.2
# What waits for others does so for longer than this, in seconds.
_WAITING = 1e-4
# A call that takes more than this share of what was seen is named.
_TELLING = 0.1
# What a call of the framework costs the code that makes it, in seconds: of that, a trace is meant to take the place.
# In loops over operations, layers and parameters it is 0.5 to 1.7 us. What quick builtins take belongs to it.
_HANDING_OVER = 2.5e-6
# What is no computation, whoever calls it, and what is none where user code calls it itself.
_ENDS = {
    **{"sleep": "waits", "urandom": "draws random numbers"},
    **dict.fromkeys(("start_new_thread", "start_joinable_thread"), "starts a thread"),
}
# What waits for others, if it takes longer than `_WAITING`.
_WAITS = {
    *("_thread.lock.acquire", "_thread.RLock.acquire", "_thread._ThreadHandle.join", "_queue.SimpleQueue.get"),
    *("select.select", "select.poll.poll", "select.epoll.poll"),
}
_CLOCKS = {f"{name}{unit}" for name in ("time", "perf_counter", "monotonic", "process_time") for unit in ("", "_ns")}
# Libraries that draw bars and show values: `print` in other forms.
_BARS = ("tqdm", "rich", "IPython")
_OWN = str(Path(__file__).parents[1])


@dataclass
class Untraced:
    """What was seen in a block; all of it is there when the block is left.

    `seconds` were spent outside of the framework, most of them by `calls` calls of `what` in the function `code`
    (None: nothing was seen); `glue` of them by the user's own code and by quick builtins. `never` says what a trace
    must never do, however little time it takes, or is empty; `prints` is the code that prints, and `least` what a call
    has to do at least, where that was seen.
    """

    seconds: float = 0.0
    glue: float = 0.0
    what: str = ""
    calls: int = 0
    code: CodeType | None = None
    never: str = ""
    prints: CodeType | None = None
    least: Least = field(default_factory=Least)

    def why_not(self, title: str, seconds: float | None = None) -> str:
        """Return why this work must not be left to a trace of the framework `title`, or an empty string.

        `seconds` is what a call of the compiled program takes; None: not known yet.
        """
        consequence = "which a trace would do once and never again"
        if self.never:
            return f"{self.never}, {consequence}"
        if seconds is None or not self.is_worth_a_call or self.seconds < _SHARE * (self.seconds + seconds):
            return ""
        calls = f" ({self.calls:,} calls)" if self.calls > 1 else ""
        return f"{self.what}{calls} computes outside of {title} in each run, {consequence}"

    def let_go(self, seconds: float) -> None:
        """Let so many seconds go, of those alone that handing over to the framework may have taken."""
        gone = min(self.glue, seconds)
        self.seconds, self.glue = self.seconds - gone, self.glue - gone

    @property
    def is_worth_a_call(self) -> bool:
        """Whether it is worth finding out what a call of the compiled program takes."""
        return self.seconds >= _LEAST_OF_GLUE or self.seconds - self.glue >= _LEAST


@contextmanager
def watched(packages: Iterable[str], generators: Iterable[Any] = ()) -> Iterator[Untraced]:
    """See what the block does outside of the framework that consists of these packages.

    Random generators of Python and NumPy are those of the process and `generators`. Where another profiler is at work,
    only they are looked at.
    """
    seen = Untraced()
    every = [random, *(value for value in generators if _state(value) is not None)]
    if "numpy" in sys.modules:
        every.append(sys.modules["numpy"].random)
    before = [_state(generator) for generator in every]
    profiler = _profiler()
    began = time.perf_counter(), time.thread_time()
    try:
        yield seen
    finally:
        if profiler is not None:
            profiler.disable()
    wall, own = time.perf_counter() - began[0], time.thread_time() - began[1]
    if profiler is not None:
        _Calls(profiler.getstats(), packages).tell(seen)
        # For a part of it, other processes had the core, or nobody.
        share = min(own / wall, 1.0) if wall > 0 else 1.0
        seen.seconds, seen.glue = seen.seconds * share, seen.glue * share
    if [_state(generator) for generator in every] != before:
        seen.never = "it draws random numbers outside of the framework"


def _profiler() -> cProfile.Profile | None:
    if sys.getprofile() is not None:
        return None
    profiler = cProfile.Profile()
    try:
        profiler.enable()
    except ValueError:  # since Python 3.12, where there can be one only
        return None
    return profiler


def _state(generator: Any) -> bytes | None:
    """Return the state of a random generator of Python or NumPy, children included; None if it is none."""
    kind = type(generator)
    if generator is random or (issubclass(kind, random.Random) and not issubclass(kind, random.SystemRandom)):
        return pickle.dumps(generator.getstate() if generator is random else random.Random.getstate(generator))
    of_process = generator is sys.modules.get("numpy.random")
    if not of_process and not kind.__module__.startswith("numpy.random."):
        return None
    if hasattr(generator, "get_state"):
        return pickle.dumps(generator.get_state(legacy=False))
    owner = getattr(generator, "bit_generator", generator)
    seeds = getattr(owner, "seed_seq", owner)  # it counts the children, whose numbers follow from that count
    return pickle.dumps((getattr(owner, "state", None), getattr(seeds, "n_children_spawned", None)))


class _Calls:
    """Who called what, and how long it took: the entries of a profiler."""

    def __init__(self, entries: Iterable[Any], packages: Iterable[str]) -> None:
        self._entries = {id(entry.code): entry for entry in entries}
        self._roots = tuple({package.partition(".")[0] for package in packages})
        self._folders = _folders_of(self._roots)
        self._reaching = self._who_reaches_the_framework()

    def tell(self, seen: Untraced) -> None:
        """Note what user code did outside of the framework."""
        parts: defaultdict[tuple[int, str], float] = defaultdict(float)
        calls: Counter[tuple[int, str]] = Counter()
        handed_over, glue = 0.0, 0.0
        for entry in self._entries.values():
            if isinstance(entry.code, str) or not is_file_of_user(entry.code.co_filename):
                continue
            parts[id(entry.code), ""] += entry.inlinetime
            glue += entry.inlinetime
            for call in entry.calls or ():
                name = _name(call.code)
                if isinstance(call.code, str):
                    if any(root in name for root in self._roots):
                        continue
                    self._tell_of_builtin(seen, entry.code, call)
                    seconds = 0.0 if name in ("print", "exec", "eval") else call.inlinetime
                    handing = self._handed_over_by(call)
                    handed_over += handing
                    glue += seconds if handing or seconds < _HANDING_OVER * call.callcount else 0.0
                elif id(call.code) in self._reaching:
                    handed_over += call.callcount
                    continue
                elif is_file_of_user(call.code.co_filename) or self._is_beside_the_point(call.code):
                    continue
                else:
                    self._tell_of_library(seen, entry.code, call.code)
                    seconds = call.totaltime
                parts[id(entry.code), name] += seconds
                calls[id(entry.code), name] += call.callcount
        if not parts:
            return
        seen.seconds, seen.glue = sum(parts.values()), glue
        seen.let_go(handed_over * _HANDING_OVER)
        # What is called says more than where.
        largest = sorted(parts, key=parts.__getitem__, reverse=True)
        named = (part for part in largest if part[1] and parts[part] > _TELLING * sum(parts.values()))
        place, name = next(named, largest[0])
        seen.code = seen.code or self._entries[place].code
        seen.what = f"`{name}`" if name else _what_is(self._entries[place].code)
        seen.calls = calls[place, name]

    def _handed_over_by(self, call: Any) -> float:
        """Return how many calls of the framework a builtin has made, as `sum` does, where it was called here."""
        entry = self._entries[id(call.code)]
        made = sum(inner.callcount for inner in entry.calls or () if id(inner.code) in self._reaching)
        return float(made * call.callcount / entry.callcount)

    def _tell_of_builtin(self, seen: Untraced, code: CodeType, call: Any) -> None:
        name = _name(call.code)
        last = name.rpartition(".")[2]
        if name == "print":
            seen.prints = seen.prints or code
        elif _waits(call):
            seen.never, seen.code = f"`{name}` waits", code
        elif last in _ENDS or (name.startswith("time.") and last in _CLOCKS) or name in ("open", "io.open", "_io.open"):
            does = _ENDS.get(last, "reads the clock" if last in _CLOCKS else "opens a file")
            seen.never, seen.code = f"`{name}` {does}", code

    def _tell_of_library(self, seen: Untraced, code: CodeType, library: CodeType) -> None:
        """Look for what is no computation in all that a function of a library calls."""
        pending, looked_at = [library], {id(library)}
        while pending:
            entry = self._entries.get(id(pending.pop()))
            for call in (entry.calls if entry is not None else None) or ():
                last = _name(call.code).rpartition(".")[2]
                if isinstance(call.code, str) and (last in _ENDS or _waits(call)):
                    seen.never, seen.code = f"`{_name(library)}` {_ENDS.get(last, 'waits')}", code
                elif id(call.code) not in looked_at:
                    looked_at.add(id(call.code))
                    pending.append(call.code)

    def _who_reaches_the_framework(self) -> set[int]:
        """Return the functions that are the framework's, or of a library that calls it in the end."""
        callers: dict[int, list[int]] = {}
        for place, entry in self._entries.items():
            for call in entry.calls or ():
                callers.setdefault(id(call.code), []).append(place)
        pending = [place for place, entry in self._entries.items() if self._is_of_framework(entry.code)]
        reaching = set(pending)
        # Of what many call, such as `isinstance`, it is not known for whom it calls the framework.
        deaf = {place for place, entry in self._entries.items() if _is_of_python(entry.code)}
        while pending:
            new = [place for place in callers.get(pending.pop(), ()) if place not in reaching and place not in deaf]
            reaching.update(new)
            pending += new
        user = {
            p for p, e in self._entries.items() if not isinstance(e.code, str) and is_file_of_user(e.code.co_filename)
        }
        return reaching - user

    def _is_of_framework(self, code: CodeType | str) -> bool:
        return not isinstance(code, str) and code.co_filename.startswith(self._folders)

    @staticmethod
    def _is_beside_the_point(code: CodeType) -> bool:
        """Say whether a library's code draws a bar, or is our own."""
        return code.co_filename.startswith(_OWN) or any(bar in Path(code.co_filename).parts for bar in _BARS)


def _waits(call: Any) -> bool:
    """Say whether a call in C, of a profiler's entries, has waited for another thread, a process or the network."""
    return isinstance(call.code, str) and call.totaltime > _WAITING and _name(call.code) in _WAITS


def _is_of_python(code: CodeType | str) -> bool:
    """Say whether code belongs to Python, and is none that passes calls on."""
    return isinstance(code, str) or _is_file_of_python(code.co_filename)


@functools.lru_cache(maxsize=4096)
def _is_file_of_python(file: str) -> bool:
    path = Path(file)
    standard = path.is_relative_to(sysconfig.get_paths()["stdlib"]) and "site-packages" not in path.parts
    return standard and path.name not in ("contextlib.py", "functools.py")


def _what_is(code: CodeType) -> str:
    """Return what stands for the code itself in a sentence."""
    return "Python code" if code.co_name.startswith("<") else f"Python code of `{code.co_name}`"


def _name(code: CodeType | str) -> str:
    """Return `math.sin` for `<built-in method math.sin>`, `list.append` for a method, else a function's own name."""
    if not isinstance(code, str):
        return code.co_qualname
    method = re.match(r"<method '(\w+)' of '([\w.]+)' objects>", code)
    if method:
        return f"{method[2]}.{method[1]}"
    name = code.removeprefix("<built-in method ").removesuffix(">").partition(" of ")[0]
    return name.removeprefix("builtins.")


def _folders_of(roots: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders of packages, and of others whose names begin like theirs: jax and jaxlib."""
    tops = {name.partition(".")[0] for name in list(sys.modules) if name.startswith(roots)}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in tops)
    return tuple(f"{Path(file).parent}/" for file in files if file)


def is_file_of_user(file: str) -> bool:
    """Say whether code is the user's, by its file: a cell of a notebook, or a module that is no library's."""
    return (
        bool(file) and not file.startswith(("<frozen", "<string>", "<__array_function__")) and not is_of_library(file)
    )
