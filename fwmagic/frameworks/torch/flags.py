"""torch's global settings that a cell may change; every private name that holds one is here."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

_Flag = tuple[Callable[[], Any], Callable[[Any], Any]]


def read_flags() -> dict[str, Any]:
    """Return threads, default dtype and device, autograd, precision, printing, hooks on all modules and the like."""
    return {name: _told(read) for name, (read, _) in _FLAGS.items()}


def write_flags(flags: Mapping[str, Any]) -> None:
    """Put them back where they differ."""
    for name, value in flags.items():
        read, write = _FLAGS[name]
        if value != _UNTOLD and _told(read) != value:
            write(value)


def holds_flag(path: str) -> bool:
    """Say whether an attribute of a module of torch, by its whole path, is one of these settings."""
    return path in _FLAGS


_UNTOLD = "untold"


def _told(read: Callable[[], Any]) -> Any:
    """Return a setting, if torch tells it: it may lack that, or refuse, where old and new names have set one thing."""
    try:
        return read()
    except (AttributeError, RuntimeError):
        return _UNTOLD


def matmul_precision() -> str:
    """Return how precisely matrices of float32 are multiplied, as its older name says, or else the newer ones."""
    known = _told(torch.get_float32_matmul_precision)
    if known != _UNTOLD:
        return str(known)
    return ", ".join(f"{backend} {_precision(backend, 'matmul')[0]()}" for backend in ("cuda", "mkldnn"))


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


def _attribute(module: str, path: str) -> _Flag:
    """Return what reads and what writes an attribute of a module of torch, if it has been imported and has that."""
    *owners, name = path.split(".")

    def owner() -> Any:
        return functools.reduce(getattr, owners, sys.modules.get(module))

    return lambda: getattr(owner(), name), lambda value: setattr(owner(), name, value)


def _attributes() -> dict[str, _Flag]:
    """Return what reads and what writes each setting that code sets as an attribute, by its whole path."""
    paths = [("torch.backends", path) for path in _OF_BACKENDS]
    paths += [("torch.utils.deterministic", "fill_uninitialized_memory")]
    return {f"{module}.{path}": _attribute(module, path) for module, path in paths}


def _precision(backend: str, operation: str) -> _Flag:
    """Return what reads and what writes with how many bits float32 is computed somewhere."""

    def read() -> str:
        return str(torch._C._get_fp32_precision_getter(backend, operation))

    def write(value: str) -> None:
        torch._C._set_fp32_precision_setter(backend, operation, "none")  # as what it is part of
        if read() != value:
            torch._C._set_fp32_precision_setter(backend, operation, value)

    return read, write


def _switches() -> dict[str, _Flag]:
    """Return what reads and what writes each switch of torch's own, of those that this version has."""
    switches = [
        (torch._C, "_get_nnpack_enabled", "_set_nnpack_enabled"),
        *((torch._C, f"_get_{one}_preferred_backend", f"_set_{one}_preferred_backend") for one in ("linalg", "blas")),
        *((torch.backends.cuda, f"{one}_sdp_enabled", f"enable_{one}_sdp") for one in _ATTENTIONS),
        (torch.backends.mha, "get_fastpath_enabled", "set_fastpath_enabled"),
        (torch.multiprocessing, "get_sharing_strategy", "set_sharing_strategy"),
        *((torch.__future__, f"get_{one}", f"set_{one}") for one in _OF_CONVERSION),
    ]
    return {get: (getattr(owner, get), getattr(owner, put)) for owner, get, put in switches if hasattr(owner, get)}


_ATTENTIONS = ("flash", "mem_efficient", "math", "cudnn")
_OF_CONVERSION = ("swap_module_params_on_conversion", "overwrite_module_params_on_conversion")
_OF_BACKENDS = (
    *(f"{one}.{name}" for one in ("cudnn", "mkldnn") for name in ("enabled", "deterministic", "allow_tf32")),
    *(f"cudnn.{name}" for name in ("benchmark", "benchmark_limit", "depthwise_kernel")),
    *(f"cuda.matmul.allow_{name}" for name in ("tf32", "fp16_accumulation")),
    *(f"cuda.matmul.allow_{name}_reduced_precision_reduction" for name in ("fp16", "bf16")),
    *("opt_einsum.enabled", "opt_einsum.strategy", "quantized.engine"),
)
# Each is what the next ones are where these are not set; older names, which set several of these, come before.
_PRECISIONS = {
    "fp32_precision": ("generic", "all"),
    "cudnn.fp32_precision": ("cuda", "all"),
    "cuda.matmul.fp32_precision": ("cuda", "matmul"),
    **{f"cudnn.{one}.fp32_precision": ("cuda", one) for one in ("conv", "rnn")},
    "mkldnn.fp32_precision": ("mkldnn", "all"),
    **{f"mkldnn.{one}.fp32_precision": ("mkldnn", one) for one in ("matmul", "conv", "rnn")},
}

_FLAGS: dict[str, _Flag] = {
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
    "stance": _attribute("torch._dynamo.eval_frame", "_stance"),
    **_switches(),
    **_attributes(),
    **{f"torch.backends.{path}": _precision(*where) for path, where in _PRECISIONS.items()},
}
