"""What a plain run does: its operations, how many they are for the compiler, and what is done outside of torch."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from fwmagic.frameworks.least import Least
from fwmagic.frameworks.untraced import Untraced, watched
from fwmagic.libraries import is_of_library

# Operations are noted for so many seconds at most.
_COUNTING = 0.5
# Inductor writes an elementwise operation into others until it holds so many operations and reads so many arrays: where
# its result is used several times, or once. What holds one of the heavy ones is not computed twice.
_HELD, _HELD_ONCE = 50, 100
_READ, _READ_ONCE = 4, 12
_HEAVY = {"exp", "log", "log10", "log1p", "log2", "sigmoid", "tanh", "silu"}
# Operations for which each number of the arguments is needed where each of the result is, besides the elementwise ones;
# and others of which that is not so.
_WHOLE = {
    *("sum", "mean", "amax", "amin", "max", "min", "prod", "var", "std", "norm", "linalg_vector_norm"),
    *("logsumexp", "_softmax", "_log_softmax", "native_layer_norm", "mm", "bmm", "addmm", "mv", "dot", "cat"),
    *("sort", "cumsum", "cumprod", "clone", "_to_copy", "argmax", "argmin"),
}
# Those that only look at their argument, and of which a size does not tell whether they look at all of it.
_PARTS = {"unfold", "as_strided"}
# What hands the numbers of a tensor over to others than operations.
_HANDS_OVER = {"numpy", "tolist", "untyped_storage", "storage", "data_ptr", "__array__", "__dlpack__", "__reduce_ex__"}
# What takes no numbers from its argument, but its form.
_OF_FORM = {f"{made}_like" for made in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")}
_OF_FORM |= {f"new_{made}" for made in ("empty", "zeros", "ones", "full", "empty_strided")}
# Along so many paths it works as long as at one more operation.
_WRITTEN = 4

# What it takes the code that hands an operation over while it is looked at, in seconds: 0.1 to 5 us were found.
_LOOKED_AT = 5e-6

# How many operations on numbers a matrix product or a convolution is, by what is called.
_FORMULAS = dict(getattr(flop_counter, "flop_registry", {}))


class _Counted(BaseException):
    """As many operations were counted as are wanted, or for as long."""


@dataclass(frozen=True)
class _Inlined:
    """What Inductor has written into one elementwise operation: others, along so many paths, and what they read."""

    paths: int = 0
    held: frozenset[int] = frozenset()
    read: frozenset[int] = frozenset()
    heavy: bool = False

    def is_stored(self, users: int) -> bool:
        """Say whether Inductor stores the result and does not write it into its users; by its own rules on a CPU."""
        often = self.heavy or len(self.held) > _HELD or len(self.read) > _READ
        return len(self.held) > _HELD_ONCE or len(self.read) > _READ_ONCE or (users > 1 and often)


@dataclass(frozen=True)
class _Operation:
    """One operation: its name, whether it is elementwise, or only looks at its argument in another way.

    `part`: it looks at a part of it. `made` are the places of those that made its arguments, below 0 for what was there
    before. `again`: an operation before it has computed the same. `mutates`: it writes to an argument. `line` is the
    cell's, if it is known; `arithmetic` the operations on numbers of a matrix product or a convolution. Operations of
    one `call` are those of one call that the user's code makes of a library. `spacing` is that of the floats of 16 bits
    or less which it makes, relative to them. `blind`: its result is the same whatever numbers its arguments hold.
    """

    name: str
    elementwise: bool
    looks: bool
    made: tuple[int, ...]
    again: bool
    mutates: bool
    seconds: float
    line: int | None
    part: bool = False
    arithmetic: float = 0.0
    call: int = 0
    spacing: float = 0.0
    blind: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether each number of its arguments is needed where each of its result is."""
        return self.elementwise or self.name in _WHOLE


class _Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations in their order, until there are more than `most`, or for so many seconds.

    Each is a call of Python, which a profiler takes for the framework's. `given` has the memory of what was there
    before, by its place: address, bytes. Lines are those of the file `filename`. What becomes of a result outside of
    operations, as by `w.data = y`, is told by its storage.
    """

    def __init__(self, most: float = math.inf, seconds: float = math.inf, filename: str = "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noted: list[_Operation] = []
        self.given: dict[int, tuple[int, int]] = {}
        self._most = most
        self._until = time.perf_counter() + seconds
        self._places: Any = WeakIdKeyDictionary()
        self._storages: Any = WeakIdKeyDictionary()  # the storage of each tensor when it got its place
        self._written: dict[StorageWeakRef, int] = {}  # what has made a storage, or was the last to write to it
        self._read: set[int] = set()  # what others than operations have read
        self._parts: Any = WeakIdKeyDictionary()  # which of the results of an operation a tensor is
        self._filename = filename
        self._known: dict[Any, int] = {}  # what has computed something, by what that was
        self._first: dict[int, int] = {}  # of what was computed again, where it was first
        self._calls = 0
        self._call: FrameType | None = None  # the last call of a library that the user's code has made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if len(self.noted) > self._most or time.perf_counter() > self._until:
            raise _Counted
        tensors = _tensors((*args, *(kwargs or {}).values()))
        name = func.name().partition("::")[2].partition(".")[0]
        made = tuple(map(self._place, tensors))
        start = time.perf_counter()
        outputs = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - start
        mutates = bool(func._schema.is_mutable)
        first = len(self.noted)
        if mutates:
            self._known.clear()  # what was the same before may be no longer
        elif torch.Tag.nondeterministic_seeded not in func.tags:
            first = self._known.setdefault((func, self._told((args, kwargs))), first)
        self._first[len(self.noted)] = first
        formula = _FORMULAS.get(getattr(func, "_overloadpacket", None))
        arithmetic = 0.0
        if formula is not None and getattr(outputs, "dtype", None) in (torch.float32, torch.float64):
            arithmetic = float(formula(*args, **(kwargs or {}), out_val=outputs))
        results = _tensors((outputs,))
        for part, output in enumerate(results):
            self._put(output, len(self.noted), part)
            if not func.is_view and (storage := _storage(output)) is not None:
                self._written[storage] = len(self.noted)
        if not results:  # a number, which is read
            self._read.add(len(self.noted))
        again, line = first < len(self.noted), self._line()
        call = self._number_of_call()
        elementwise, looks = torch.Tag.pointwise in func.tags, bool(func.is_view)
        sizes = [sum(tensor.numel() for tensor in some[:1]) for some in (tensors, results)]
        part = looks and (name in _PARTS or sizes[1] < sizes[0])
        self.noted.append(
            _Operation(
                name,
                elementwise,
                looks,
                made,
                again,
                mutates,
                seconds,
                line,
                part,
                arithmetic,
                call,
                max(map(_spacing, results), default=0.0),
                name in _OF_FORM or (name == "mul" and any(isinstance(one, int | float) and not one for one in args)),
            )
        )
        return outputs

    def _line(self) -> int | None:
        """Return the deepest line of the file that is being run."""
        frame = sys._getframe(2) if self._filename else None
        while frame is not None and frame.f_code.co_filename != self._filename:
            frame = frame.f_back
        return None if frame is None else frame.f_lineno

    def _number_of_call(self) -> int:
        """Return which call of a library by the user's code is under way; each of an operation is one, too."""
        frame, inner = sys._getframe(2), None
        while frame.f_back is not None and is_of_library(frame.f_code.co_filename):
            frame, inner = frame.f_back, frame
        if inner is None or inner is not self._call:
            self._calls, self._call = self._calls + 1, inner
        return self._calls

    def _told(self, value: Any) -> Any:
        """Return what tells arguments from others: tensors by what has computed them first."""
        if isinstance(value, torch.Tensor):
            place = self._place(value)
            return "tensor", self._first.get(place, place), self._parts.get(value, 0)
        if isinstance(value, list | tuple):
            return tuple(map(self._told, value))
        if isinstance(value, dict):
            return tuple((name, self._told(one)) for name, one in value.items())
        return type(value), repr(value)

    def _place(self, tensor: torch.Tensor) -> int:
        """Return the place of what made a tensor, or what it holds by now."""
        storage = _storage(tensor)
        if tensor not in self._places or hash(self._storages[tensor]) != hash(storage):
            made = self._written.get(storage) if storage is not None else None
            if made is None:
                made = -1 - len(self.given)
                self.given[made] = _memory(tensor)
                self._put(tensor, made, 0)
            else:  # it may look at a part of what was made
                self._put(tensor, made, (tensor.storage_offset(), tensor.shape, tensor.stride()))
        found: int = self._places[tensor]
        return found

    def _put(self, tensor: torch.Tensor, place: int, part: Any) -> None:
        self._places[tensor], self._parts[tensor], self._storages[tensor] = place, part, _storage(tensor)

    def hand_over(self, values: Any) -> None:
        """Note that others than operations read these values."""
        self._read.update(map(self._place, _tensors(values)))

    def total(self) -> float:
        """Return with how many operations Inductor has to do.

        It writes elementwise operations into each other, up to some, and works along each path through them: where each
        turn of a loop uses a value twice, ten turns are a thousand paths.
        """
        others = {place for one in self.noted if not (one.elementwise or one.looks) for place in one.made}
        users = Counter(place for one in self.noted for place in {*one.made})
        inlined: list[_Inlined] = []
        written = 0
        for place, operation in enumerate(self.noted):
            parts = [inlined[i] if i >= 0 else _Inlined(read=frozenset({i})) for i in operation.made]
            own = operation.elementwise
            one = _Inlined(
                sum(part.paths for part in parts) + own,
                frozenset({place} if own else ()).union(*(part.held for part in parts)),
                frozenset[int]().union(*(part.read for part in parts)),
                operation.name in _HEAVY or any(part.heavy for part in parts),
            )
            if not (own or operation.looks):
                one = _Inlined(read=frozenset({place}))
            elif place in others or not users[place] or one.is_stored(users[place]):
                written += one.paths
                one = _Inlined(read=frozenset({place}))
            inlined.append(one)
        return max(len(self.noted), written / _WRITTEN)

    def left_out(self) -> tuple[tuple[float, int | None], tuple[float, int | None]]:
        """Return the shares of the work that nothing reads which is alive, and that is the same again, with lines.

        What a library does besides in a call whose result is read is its own affair, such as the statistics of a layer.
        """
        needed = self._needed()
        works = [(place, one) for place, one in enumerate(self.noted) if not one.looks]
        every = sum(one.seconds for _, one in works) or 1.0
        read = {one.call for place, one in works if place in needed}
        new = {one.call for _, one in works if not one.again}
        unread = _share_of((one for _, one in works if one.call not in read), every)
        return unread, _share_of((one for _, one in works if one.call in read - new), every)

    def _needed(self, folded: bool = False) -> set[int]:
        """Return the places of what is read by something that is alive, or writes to what was there before.

        `folded`: not of what an operation is blind to, which a compiler leaves out.
        """
        self._call = None  # a frame keeps its values alive
        needed = {place for place in (*self._places.values(), *self._read) if place >= 0}
        needed |= {
            place
            for storage, place in self._written.items()
            if not storage.expired()  # type: ignore[no-untyped-call]
        }
        needed |= {place for place, one in enumerate(self.noted) if one.mutates}
        for place in range(len(self.noted) - 1, -1, -1):
            if place in needed and not (folded and self.noted[place].blind):
                needed.update(self.noted[place].made)
        return needed

    def arithmetic(self) -> float:
        """Return the operations on numbers of matrix products and convolutions that a compiler has to leave in."""
        needed = self._needed(folded=True)
        return sum(one.arithmetic for place, one in enumerate(self.noted) if place in needed and not one.again)

    def gone_through(self, results: Any) -> float:
        """Return the bytes of results that are made, and of what was given that has to be read as a whole for that.

        A result that only looks at what was given is neither: nothing of it is read or written.
        """
        before = {address for address, _ in self.given.values()}
        shown = {self._places[tensor] for tensor in _tensors((results,)) if tensor in self._places}
        fresh: dict[int, int] = {}
        for tensor in _tensors((results,)):
            place = self._places.get(tensor, -1)
            address, size = _memory(tensor)
            if place >= 0 and self.noted[place].is_whole and not self.noted[place].again and address not in before:
                fresh[address] = max(size, fresh.get(address, 0))
        needed = set[int]()
        for place in range(len(self.noted) - 1, -1, -1):
            one = self.noted[place]
            if one.looks and not one.part:
                shown.update(one.made if place in shown else ())
                needed.update(one.made if place in needed else ())
            elif one.is_whole and not one.blind and place in shown | needed:
                needed.update(one.made)
        read: dict[int, int] = {}
        for place, (address, size) in self.given.items():
            if place in needed:
                read[address] = max(size, read.get(address, 0))
        return float(sum(fresh.values()) + sum(read.values()))


class _HandedOver(TorchFunctionMode):
    """Tells of what hands numbers over to others than operations, which no operation shows."""

    def __init__(self, noted: _Noted) -> None:
        super().__init__()
        self._noted = noted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _HANDS_OVER:
            self._noted.hand_over(args[:1])
        return func(*args, **(kwargs or {}))


def _share_of(some: Iterable[_Operation], every: float) -> tuple[float, int | None]:
    """Return the share of the seconds of every operation that some take, and the line that takes most of these."""
    by_line: Counter[int | None] = Counter()
    for one in some:
        by_line[one.line] += one.seconds  # type: ignore[assignment]
    line = max(by_line, key=by_line.__getitem__, default=None)
    return sum(by_line.values()) / every, line


def _tensors(values: Any) -> list[torch.Tensor]:
    """Return the tensors in some values, and in the lists, tuples and dicts among them."""
    found, pending, seen = [], [values], set[int]()
    while pending:
        one = pending.pop()
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, list | tuple | dict) and id(one) not in seen:
            seen.add(id(one))
            pending += one.values() if isinstance(one, dict) else one
    return found


def _storage(tensor: torch.Tensor) -> StorageWeakRef | None:
    try:
        return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError):  # of a kind that has none, such as a sparse one
        return None


def _memory(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the address of a tensor's memory, and how many bytes of it the tensor is."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), min(storage.nbytes(), tensor.numel() * tensor.element_size())
    except RuntimeError:  # of a kind that has none, such as a sparse one
        return 0, 0


def _spacing(tensor: torch.Tensor) -> float:
    """Return how far apart floats of 16 bits or less are, relative to them; 0 for any other tensor."""
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() and tensor.element_size() <= 2 else 0.0


def worked_outside(run: Callable[[], Any], filename: str) -> Untraced:
    """Run something plainly, and return what that did outside of torch: Dynamo may take its results for fixed.

    Lines are those of the file `filename`.
    """
    found = []
    for _ in range(2):  # the less of both: another process may have had the core in one of them
        operations = _Noted(filename=filename)
        try:
            with watched(("torch",)) as seen, operations, _HandedOver(operations):
                results = run()
        except Exception:  # whatever it raises that it does not raise when nobody looks: then nothing is known
            return Untraced()
        # Waiting and files break the graph, and Dynamo draws random numbers anew.
        seen.let_go(len(operations.noted) * _LOOKED_AT)
        spacing = max((one.spacing for one in operations.noted), default=0.0)
        least = Least(operations.arithmetic(), operations.gone_through(results), *operations.left_out(), spacing)
        found.append(replace(seen, never="", least=least))
        if not found[0].is_worth_a_call:
            break
    return min(found, key=lambda seen: seen.seconds)


def operations(run: Callable[[], Any], most: int, seconds: float) -> float:
    """Return into how many operations Inductor unrolls what takes so many seconds, or a number above `most`.

    Of what takes long, a part is counted, and the rest taken for alike.
    """
    long = seconds > _COUNTING
    mode, begun = _Noted(most, _COUNTING if long else math.inf), time.perf_counter()
    try:
        with mode:
            run()
    except _Counted:
        return mode.total() * (max(seconds / (time.perf_counter() - begun), 1.0) if long else 1.0)
    except Exception:  # whatever it raises that it does not raise when nobody counts: then nothing is known
        return 0.0
    return mode.total()
