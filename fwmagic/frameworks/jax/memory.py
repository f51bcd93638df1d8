"""The memory of JAX: XLA's allocator, and all arrays that are alive."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.extend.backend
from jaxlib import xla_client

from fwmagic.format import one_line
from fwmagic.frameworks.jax.compiler import config
from fwmagic.frameworks.memory import Counters, Device, Events, Memory, Policy, one_spelling
from fwmagic.report import Moment

_EVENTS = ("MemoryAllocation", "MemoryDeallocation")
_NO_POOL = "which does not tell what the allocator holds"
# The new spelling of a variable and its older one. JAX refuses to start if it finds two, and runs on the CPU then.
_FRACTION = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
_ALLOCATOR, _PREALLOCATE = "XLA_PYTHON_CLIENT_ALLOCATOR", "XLA_PYTHON_CLIENT_PREALLOCATE"
_CHOOSING = (_PREALLOCATE, _ALLOCATOR, "TF_GPU_ALLOCATOR", "TF_CUDA_MALLOC_ASYNC_SUPPORTED_PREALLOC")


def _jax_policy(name: str, allocator: str, preallocate: bool, what: str) -> Policy:
    return Policy("jax", name, {_ALLOCATOR: allocator, _PREALLOCATE: str(preallocate).lower()}, what)


class JaxMemory(Memory):
    """JAX's memory on GPUs and other accelerators; on a CPU, XLA allocates by the C library."""

    policies = (
        _jax_policy("preallocate", "default", True, "takes most of the device when it starts, and divides that itself"),
        _jax_policy("ondemand", "default", False, "takes memory when it is needed, keeps it, and divides that itself"),
        _jax_policy("platform", "platform", False, "asks the driver each time, gives back each time"),
        _jax_policy("cuda_async", "cuda_async", False, "uses the driver's own pool (cudaMallocAsync)"),
    )
    outranking = ("jax_pjrt_client_create_options",)

    def started(self) -> bool:
        """Say whether JAX has started its backends in this process.

        There is no public way to ask, and every other question starts them: a GPU's takes most of its memory.
        """
        ask = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
        return bool(ask is None or ask())

    def device(self, wanted: str | None) -> Device | None:
        """Return the accelerator that a cell runs on; None on a CPU."""
        device = _device(wanted)
        if device is None or device.platform == "cpu":
            return None
        ordinal = getattr(device, "local_hardware_id", None)
        return Device(f"{device.platform}:{device.id}", device.id if ordinal is None else int(ordinal))

    def counters(self, device: Device) -> Counters:
        """Return what XLA's allocator counts."""
        jax.effects_barrier()
        try:
            return counters(_device(device.name).memory_stats())
        except jax.errors.JaxRuntimeError as error:
            return Counters(why=f"XLA's allocator does not tell ({one_line(str(error), 100)})")

    def reset_peak(self, device: Device) -> bool:
        """Make the peak begin anew where this JAX can do that."""
        clear = getattr(_device(device.name), "clear_memory_stats", None)
        if clear is None:
            return False
        clear()
        return True

    @contextmanager
    def record(self, device: Device) -> Iterator[Events]:
        """Record XLA's memory events with JAX's profiler, in a folder that is removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="fwmagic-") as folder:
            events = Events(source=_begin_profile(folder))
            if events.source:
                yield events
                return
            try:
                yield events
            finally:
                jax.profiler.stop_trace()
            files = sorted(Path(folder).rglob("*.xplane.pb"))
            profile = jax.profiler.ProfileData.from_file(str(files[-1])) if files else None
            events.moments = [] if profile is None else timeline(profile, device.ordinal)
        events.source = (
            "every memory event of XLA's allocator, by jax.profiler"
            if events.moments
            else "not available: XLA's allocator gave no memory events to jax.profiler"
        )

    def in_force(self) -> dict[str, str]:
        """Return the options of XLA's allocator, as JAX's own parser reads this process's environment."""
        parse = getattr(xla_client, "generate_pjrt_gpu_plugin_options", None)
        if parse is None:
            return {}
        try:
            return {f"jax {name}": str(value) for name, value in {**parse(), **_create_options()}.items()}
        except ValueError as error:  # contradicting variables, as JAX itself would raise on a GPU
            return {"jax allocator": f"not available: {error}"}

    def environment(self, given: Mapping[str, str], policy: Policy | None = None) -> dict[str, str]:
        """Return an environment with the policy in place of whatever was chosen there, or with memory on demand.

        What chooses no policy stays, such as the fraction of memory that JAX may take.
        """
        # An empty fraction is none, as JAX reads it.
        chosen = one_spelling({n: v for n, v in given.items() if v or n not in _FRACTION}, _FRACTION)
        if policy is None:
            return chosen if any(map(chosen.get, _CHOOSING)) else chosen | {_PREALLOCATE: "false"}
        chosen = {name: value for name, value in chosen.items() if name not in _CHOOSING}
        # Else JAX would only log that it cannot start on the GPU, and compute on the CPU.
        platforms = chosen.get("JAX_PLATFORMS") or "cuda,cpu"
        return chosen | {"JAX_PLATFORMS": platforms, **policy.variables}

    def live(self) -> list[Any]:
        """Return every array of every backend that was not deleted; none before JAX has started."""
        if not self.started():
            return []
        arrays = {id(array): array for platform in jax.extend.backend.backends() for array in jax.live_arrays(platform)}
        return [array for array in arrays.values() if not array.is_deleted()]

    def memory_of(self, array: Any) -> tuple[Hashable, int]:
        """Return an identity and the bytes of the memory that an array keeps alive, on all devices of this process.

        It is the address; waits until the array has one. An array on several devices is its own identity: a piece
        that was taken out of it, by `addressable_shards`, counts once more.
        """
        itself = ("object", id(array))
        if array.is_deleted():
            return itself, 0
        if len(array.sharding.device_set) > 1:
            piece = math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
            return itself, piece * len(array.sharding.addressable_devices)
        try:
            return array.unsafe_buffer_pointer(), int(array.nbytes)
        except (RuntimeError, NotImplementedError):  # its computation has failed, or the device has no addresses
            return itself, int(array.nbytes)

    def label(self, array: Any) -> tuple[str, str]:
        """Return dtype and shape, `float32 (3, 4)`, and the device or devices."""
        devices = sorted(f"{device.platform}:{device.id}" for device in array.sharding.device_set)
        where = ", ".join(devices) if len(devices) < 3 else f"{len(devices)} devices from {devices[0]}"
        return f"{array.dtype} {tuple(array.shape)}", where


def _begin_profile(folder: str) -> str:
    """Let JAX's profiler begin; return why it does not, or an empty string."""
    if not hasattr(jax.profiler, "ProfileData"):
        return "not available: this JAX cannot read its own profile"
    try:
        jax.profiler.start_trace(folder)
    except RuntimeError as error:  # the user takes a profile already
        return f"not available: {one_line(str(error), 100)}"
    return ""


def _create_options() -> dict[str, Any]:
    """Return the options that the user gave XLA's client in JAX's configuration: they go before the environment's."""
    given = config("jax_pjrt_client_create_options")
    if isinstance(given, dict):
        return given
    return dict(option.split(":", 1) for option in str(given or "").split(";") if ":" in option)


def _device(wanted: str | None) -> Any:
    """Return JAX's device of that name, or its default one; None if it has none of that name."""
    chosen = config("jax_default_device") if wanted is None else wanted
    if not isinstance(chosen, str):
        return chosen or jax.devices()[0]
    platform, _, index = chosen.partition(":")
    try:
        devices = jax.devices(platform)
    except RuntimeError:  # no such platform here
        return None
    return next((one for one in devices if index in ("", str(one.id))), None)


def counters(stats: Mapping[str, Any] | None) -> Counters:
    """Return the counters of what `Device.memory_stats()` gives; None and missing keys are what is not known.

    The allocator `cuda_async` counts what is in use, but not what the driver's pool holds.
    """
    if not stats:
        return Counters(why="XLA's allocator keeps no counters for this device")
    in_use, peak = (_number(stats.get(name)) for name in ("bytes_in_use", "peak_bytes_in_use"))
    held, peak_held = (_number(stats.get(name)) for name in ("pool_bytes", "peak_pool_bytes"))
    source = "Device.memory_stats()" if held is not None else f"Device.memory_stats(), {_NO_POOL}"
    return Counters(in_use, held, peak, peak_held, source)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def timeline(profile: Any, ordinal: int) -> list[Moment]:
    """Return the bytes in use after each memory event of one device's allocator in a profile of `jax.profiler`.

    XLA's events hold the running total (`bytes_allocated`), so that none of them depends on one before it.
    """
    found: list[tuple[float, int]] = []
    for event in _allocator_events(profile):
        if event.name not in _EVENTS:
            continue
        stats = dict(event.stats)
        name, total = str(stats.get("allocator_name", "")), stats.get("bytes_allocated")
        if total is not None and (f"GPU_{ordinal}_" in name or not name):
            found.append((float(event.start_ns) * 1e-9, int(total)))
    found.sort(key=itemgetter(0))  # events of one moment stay in their order
    return [Moment(at - found[0][0], max(total, 0), None) for at, total in found]


def _allocator_events(profile: Any) -> Iterable[Any]:
    for plane in profile.planes:
        for line in plane.lines:
            yield from line.events
