"""torch's global settings that a cell may change; every private name that holds one is here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch


def read_flags() -> dict[str, Any]:
    """Return threads, default dtype and device, autograd, precision, printing, hooks on all modules and the like."""
    return {name: read() for name, (read, _) in _FLAGS.items()}


def write_flags(flags: Mapping[str, Any]) -> None:
    """Put them back where they differ."""
    for name, value in flags.items():
        read, write = _FLAGS[name]
        if read() != value:
            write(value)


def holds_flag(module: Any, name: str) -> bool:
    """Say whether an attribute of a module of `torch.backends` is one of these settings."""
    return (getattr(module, "__name__", ""), name) in _OF_BACKENDS


_OF_BACKENDS = {
    *((f"torch.backends.{one}", name) for one in ("cudnn", "mkldnn") for name in ("enabled", "deterministic")),
    ("torch.backends.cudnn", "benchmark"),
}


def _read_deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _write_deterministic(saved: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(saved[0], warn_only=saved[1])


def _read_anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _write_anomaly(saved: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*saved)


def _read_device() -> Any:
    """Return what `torch.set_default_device` has set; not what a `with torch.device(...)` sets."""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return getattr(context, "device", None)


def _printing() -> Any:
    return getattr(getattr(torch, "_tensor_str", None), "PRINT_OPTS", None)


def _read_printing() -> dict[str, Any]:
    return dict(getattr(_printing(), "__dict__", {}))


def _write_printing(saved: Mapping[str, Any]) -> None:
    for name, value in saved.items():
        setattr(_printing(), name, value)


def _places_of_hooks() -> dict[str, dict[Any, Any]]:
    """Return the dictionaries of the hooks on all modules and on all optimizers, by their names."""
    owners = [sys.modules.get(name) for name in ("torch.nn.modules.module", "torch.optim.optimizer")]
    held = {name: place for owner in owners if owner is not None for name, place in vars(owner).items()}
    return {name: place for name, place in held.items() if name.startswith("_global_") and isinstance(place, dict)}


def _read_hooks() -> dict[str, list[Any]]:
    return {name: list(place.items()) for name, place in _places_of_hooks().items()}


def _write_hooks(saved: Mapping[str, list[Any]]) -> None:
    for name, place in _places_of_hooks().items():
        place.clear()
        place.update(saved.get(name, ()))


def _read_autocast() -> tuple[Any, ...]:
    """Return how deep in `torch.autocast` this is, and what that is set to for each kind of device."""
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    devices = ((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))
    return depth, torch.is_autocast_cache_enabled(), tuple(devices)


def _write_autocast(saved: tuple[Any, ...]) -> None:
    depth, caches, devices = saved
    torch.set_autocast_cache_enabled(caches)
    for kind, is_on, dtype in devices:
        torch.set_autocast_enabled(kind, is_on)
        torch.set_autocast_dtype(kind, dtype)
    while _read_autocast()[0] > depth:
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


def _write_invariants(on: bool) -> None:
    checks = torch.sparse.check_sparse_tensor_invariants
    (checks.enable if on else checks.disable)()  # type: ignore[no-untyped-call]


def _attribute(module: str, path: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Return what reads and what writes an attribute of a module of torch, if it has been imported and has that."""
    *owners, name = path.split(".")

    def owner() -> Any:
        found = sys.modules.get(module)
        for one in owners:
            found = getattr(found, one, None)
        return found

    def write(value: Any) -> None:
        if hasattr(owner(), name):
            setattr(owner(), name, value)

    return lambda: getattr(owner(), name, None), write


def _switches() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return what reads and what writes each switch of torch's own, of those that this version has."""
    names = ("mkldnn", "cudnn", "nnpack")
    switches = [
        *((torch._C, f"_get_{one}_enabled", f"_set_{one}_enabled") for one in names),
        *((torch._C, f"_get_{one}_deterministic", f"_set_{one}_deterministic") for one in names),
        (torch._C, "_get_cudnn_benchmark", "_set_cudnn_benchmark"),
        *((torch.backends.cuda, f"{one}_sdp_enabled", f"enable_{one}_sdp") for one in _ATTENTIONS),
        (torch.backends.mha, "get_fastpath_enabled", "set_fastpath_enabled"),
        (torch.multiprocessing, "get_sharing_strategy", "set_sharing_strategy"),
        *((torch.__future__, f"get_{one}", f"set_{one}") for one in _OF_CONVERSION),
    ]
    return {get: (getattr(owner, get), getattr(owner, put)) for owner, get, put in switches if hasattr(owner, get)}


_ATTENTIONS = ("flash", "mem_efficient", "math", "cudnn")
_OF_CONVERSION = ("swap_module_params_on_conversion", "overwrite_module_params_on_conversion")

_FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (_read_device, torch.set_default_device),
    "grad": (torch.is_grad_enabled, torch.set_grad_enabled),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic": (_read_deterministic, _write_deterministic),
    "anomaly": (_read_anomaly, _write_anomaly),
    "printing": (_read_printing, _write_printing),
    "hooks": (_read_hooks, _write_hooks),
    "warn always": (torch.is_warn_always_enabled, torch.set_warn_always),
    "autocast": (_read_autocast, _write_autocast),
    "invariants": (torch.sparse.check_sparse_tensor_invariants.is_enabled, _write_invariants),
    "distributions": _attribute("torch.distributions.distribution", "Distribution._validate_args"),
    "hub": _attribute("torch.hub", "_hub_dir"),
    **_switches(),
}
