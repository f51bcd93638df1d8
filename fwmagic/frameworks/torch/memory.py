"""The memory of torch: its CUDA allocator, and all tensors that are alive, with what they and their graphs hold."""

from __future__ import annotations

import gc
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fwmagic.format import one_line
from fwmagic.frameworks.memory import Counters, Device, Events, Memory, Policy, one_spelling
from fwmagic.frameworks.torch import state
from fwmagic.report import Moment

# So many events of the allocator are kept: the first ones of a longer cell are lost, and that is said.
_MOST_EVENTS = 1_000_000
_COUNTERS = "torch.cuda.memory_stats: {} of the caching allocator"
# The spellings of one variable, in the order in which torch looks for them (c10/core/AllocatorConfig.cpp).
_CONFIGURATION = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"
_NO_CACHE = f"without its cache ({_UNCACHED}), torch counts nothing"


def _torch_policy(name: str, variable: str, value: str, what: str) -> Policy:
    return Policy("torch", name, {variable: value}, what)


class TorchMemory(Memory):
    """torch's memory on CUDA devices; on a CPU, torch allocates by the C library."""

    policies = (
        _torch_policy("caching", _CONFIGURATION[-1], "backend:native", "keeps what was freed, for later tensors"),
        _torch_policy(
            "expandable",
            _CONFIGURATION[-1],
            "backend:native,expandable_segments:True",
            "keeps what was freed, in segments that can grow",
        ),
        _torch_policy("async", _CONFIGURATION[-1], "backend:cudaMallocAsync", "uses the driver's own pool"),
        _torch_policy("none", _UNCACHED, "1", "asks the driver each time, gives back each time"),
    )

    def started(self) -> bool:
        """Say whether torch has a CUDA context in this process."""
        return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]

    def device(self, wanted: str | None) -> Device | None:
        """Return the CUDA device that a cell runs on; None on a CPU."""
        if not torch.cuda.is_available() or (wanted or "").startswith("cpu"):
            return None
        ordinal = torch.device((wanted or "cuda").replace("gpu", "cuda")).index
        ordinal = torch.cuda.current_device() if ordinal is None else ordinal
        uuid = getattr(torch.cuda.get_device_properties(ordinal), "uuid", None)
        return Device(f"cuda:{ordinal}", ordinal, None if uuid is None else str(uuid))

    def counters(self, device: Device) -> Counters:
        """Return what the caching allocator counts."""
        torch.cuda.synchronize(device.ordinal)
        return counters(torch.cuda.memory_stats(device.ordinal)) if _caches() else Counters(why=_NO_CACHE)

    def reset_peak(self, device: Device) -> bool:
        """Make the peaks begin at what is in use and held now."""
        torch.cuda.reset_peak_memory_stats(device.ordinal)
        return True

    @contextmanager
    def record(self, device: Device) -> Iterator[Events]:
        """Record the allocator's own history, without stacks."""
        start = self.counters(device)
        events = Events(source=_begin_history())
        if events.source:
            yield events
            return
        try:
            yield events
            torch.cuda.synchronize(device.ordinal)
            trace = torch.cuda.memory._snapshot(device.ordinal)["device_traces"][device.ordinal]
        finally:
            torch.cuda.memory._record_memory_history(None)
        events.moments, events.source = timeline(trace, start), "every event of torch's caching allocator"
        if len(trace) >= _MOST_EVENTS:
            events.moments = []
            events.source = f"not available: the cell allocates more than {_MOST_EVENTS} times"

    def empty_cache(self, device: Device) -> str:
        """Give the free segments back to the driver."""
        torch.cuda.empty_cache()
        return "torch.cuda.empty_cache()"

    def in_force(self) -> dict[str, str]:
        """Return the allocator's backend and settings, as torch reads them back."""
        settings = {"torch allocator": str(torch.cuda.get_allocator_backend())} if torch.cuda.is_available() else {}
        read = getattr(torch._C, "_accelerator_getAllocatorSettings", None)
        settings |= {"torch allocator settings": str(read()) or "none"} if read is not None else {}
        return settings if _caches() else settings | {"torch caching": "off"}

    def environment(self, given: Mapping[str, str], policy: Policy | None = None) -> dict[str, str]:
        """Return an environment with the policy in place of whatever was chosen there."""
        if policy is None:
            return one_spelling(given, _CONFIGURATION)
        kept = {name: value for name, value in given.items() if name not in (*_CONFIGURATION, _UNCACHED)}
        return kept | dict(policy.variables)

    def live(self) -> list[Any]:
        """Return every tensor that Python's garbage collector knows, but for fake, functional and meta ones.

        Only the type of each object is looked at: nothing that a lazy object would load is asked for.
        """
        tensors = []
        are_tensors: dict[type, bool] = {}
        for value in gc.get_objects():
            kind = type(value)
            if kind not in are_tensors:
                are_tensors[kind] = issubclass(kind, torch.Tensor) and not kind.__module__.startswith(_STAND_INS)
            if are_tensors[kind] and not _is_stand_in(value):
                tensors.append(value)
        return tensors

    def memory_of(self, array: Any) -> tuple[Hashable, int]:
        """Return an identity, the address, and the bytes of the memory that a tensor keeps alive.

        It is all of the storage that a view looks into. A sparse tensor's is that of its parts; a tensor that is made
        of other tensors, or that stands for one, has none of its own.
        """
        itself = ("object", id(array))
        with torch._C.DisableTorchFunctionSubclass():
            if is_traceable_wrapper_subclass(array):
                return itself, 0
            try:
                storages = [part.untyped_storage() for part in state.parts(array) or [array]]
                sizes = [storage.nbytes() if storage.device.type != "meta" else 0 for storage in storages]
                largest = max(range(len(sizes)), key=sizes.__getitem__)
                return (storages[largest].data_ptr() if sizes[largest] else itself), sum(sizes)
            except RuntimeError:  # an opaque layout, a tensor inside a transform such as vmap
                return itself, array.nbytes if array.is_mkldnn else 0

    def size_of(self, array: Any) -> int:
        """Return the bytes that the tensor itself shows of its memory."""
        with torch._C.DisableTorchFunctionSubclass():
            if array.layout is torch.strided:
                return int(array.nbytes)
        return self.memory_of(array)[1]

    def label(self, array: Any) -> tuple[str, str]:
        """Return dtype and shape, `float32 (3, 4)`, with an unusual layout, and the device."""
        dtype = str(array.dtype).removeprefix("torch.")
        with torch._C.DisableTorchFunctionSubclass():
            if array.is_nested:
                return f"{dtype} nested", str(array.device)
            layout = "" if array.layout is torch.strided else f" {str(array.layout).removeprefix('torch.')}"
            return f"{dtype} {tuple(torch.Tensor.size(array))}{layout}", str(array.device)

    def inside(self, array: Any) -> Iterable[tuple[str, Any]]:
        """Return what a tensor holds, each with how a reader would write it behind the tensor: `.grad`."""
        with torch._C.DisableTorchFunctionSubclass():
            held = [(f".{name}", value) for name, value in array.__dict__.items()]
            held += [(f".{name}", getattr(array, name, None)) for name in _HOOKS]
            # Of other tensors, to ask for it makes torch warn.
            if array.is_leaf or array.retains_grad:
                held.append((".grad", array.grad))
        return [(how, value) for how, value in held if value is not None]

    def graphs(self, arrays: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield what the autograd graphs of these tensors hold, each with the place of the tensor in `arrays`.

        Those are leaves and saved tensors; what a hook has packed is given as it was packed, for to unpack it would
        run the hook. At most 5000 nodes are looked at.
        """
        left = _MOST_NODES
        attributes: dict[type, list[str]] = {}
        for place, array in enumerate(arrays):
            waiting = [_grad_fn(array)]
            seen = set()
            while waiting and left:
                node = waiting.pop()
                if node is None or node in seen:
                    continue
                seen.add(node)
                left -= 1
                kind = type(node)
                if kind not in attributes:
                    attributes[kind] = [name for name in dir(kind) if name.startswith("_raw_saved_")]
                for held in _saved(node, attributes[kind]):
                    yield place, held
                waiting += [above for above, _ in node.next_functions]


def _begin_history() -> str:
    """Let the caching allocator record its history; return why it does not, or an empty string."""
    record = getattr(torch.cuda.memory, "_record_memory_history", None)
    if record is None or not hasattr(torch.cuda.memory, "_snapshot"):
        return "not available: this torch records no history of its allocator"
    if not _caches():
        return f"not available: {_NO_CACHE}"
    try:
        record("all", context=None, stacks="python", max_entries=_MOST_EVENTS, clear_history=True)
    except RuntimeError as error:  # the backend cudaMallocAsync has no history
        return f"not available: {one_line(str(error), 100)}"
    return ""


def _caches() -> bool:
    """Say whether the caching allocator is in use: without it, torch counts and records nothing."""
    ask = getattr(torch._C, "_cuda_cudaCachingAllocator_is_enabled", None)
    return bool(ask()) if ask is not None else _UNCACHED not in os.environ


def counters(stats: Mapping[str, Any]) -> Counters:
    """Return the counters of what `torch.cuda.memory_stats` gives; it is empty before torch has started CUDA."""
    if not stats:
        return Counters(0, 0, 0, 0, "torch has not started on this device")
    found = [stats.get(f"{name}.all.{when}") for when in ("current", "peak") for name in _NAMES]
    in_use, held, peak_in_use, peak_held = (None if value is None else int(value) for value in found)
    return Counters(in_use, held, peak_in_use, peak_held, _COUNTERS.format("allocated_bytes and reserved_bytes"))


_NAMES = ("allocated_bytes", "reserved_bytes")


def timeline(trace: Sequence[Mapping[str, Any]], start: Counters) -> list[Moment]:
    """Return the bytes in use and held after each event of an allocator's history, from what there was before it.

    Parameters
    ----------
    trace
        `device_traces` of a snapshot, for one device: `action`, `size` in bytes and `time_us`.
    start
        The counters when the history began.
    """
    in_use, held = start.in_use or 0, start.held or 0
    moments = [Moment(0.0, in_use, held)]
    begin: float | None = None
    for event in trace:
        sign, of_segments = _ACTIONS.get(str(event.get("action")), (0, False))
        if not sign:
            continue
        at = float(event.get("time_us", 0)) * 1e-6
        begin = at if begin is None else begin
        if of_segments:
            held += sign * int(event["size"])
        else:
            in_use += sign * int(event["size"])
        moments.append(Moment(max(at - begin, 0.0), max(in_use, 0), max(held, 0)))
    return moments


# What an action adds (1) or takes away (-1), and whether that is memory from the driver. A tensor's memory counts as
# freed when that is asked for, as in `allocated_bytes`.
_ACTIONS = {
    "alloc": (1, False),
    "free_requested": (-1, False),
    "segment_alloc": (1, True),
    "segment_map": (1, True),
    "segment_free": (-1, True),
    "segment_unmap": (-1, True),
}


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
# Tensors that stand for others while torch traces or transforms a program: they have no memory.
_STAND_INS = "torch._subclasses"
# To look at a node takes about 50 µs.
_MOST_NODES = 5000


def _is_stand_in(tensor: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.is_meta or torch._is_functional_tensor(tensor)


def _grad_fn(tensor: torch.Tensor) -> Any:
    try:
        with torch._C.DisableTorchFunctionSubclass():
            return tensor.grad_fn
    except RuntimeError:  # a view whose base was changed in place, where torch cannot tell
        return None


def _saved(node: Any, names: Sequence[str]) -> Iterator[Any]:
    """Yield what one node holds; a node of a user's `autograd.Function` has attributes, too."""
    leaf = getattr(node, "variable", None)
    if isinstance(leaf, torch.Tensor):
        yield leaf
    for name in names:
        try:
            saved = getattr(node, name)
        except RuntimeError:  # freed by a backward pass
            continue
        for one in saved if isinstance(saved, tuple) else (saved,):
            held = getattr(one, "data", None)
            if held is not None:
                yield held
    yield from (value for value in getattr(node, "__dict__", {}).values() if isinstance(value, torch.Tensor))
