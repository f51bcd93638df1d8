"""All tensors that are alive: the memory that each keeps, and what it and its autograd graph hold."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fwmagic.frameworks import _torch_state

_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
# Tensors that stand for others while torch traces or transforms a program: they have no memory.
_STAND_INS = "torch._subclasses"
# To look at a node takes about 50 µs.
_MOST_NODES = 5000


def live() -> list[Any]:
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


def _is_stand_in(tensor: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.is_meta or torch._is_functional_tensor(tensor)


def memory_of(array: Any) -> tuple[Hashable, int]:
    """Return an identity, the address, and the bytes of the memory that a tensor keeps alive.

    It is all of the storage that a view looks into. A sparse tensor's is that of its parts; a tensor that is made
    of other tensors, or that stands for one, has none of its own.
    """
    itself = ("object", id(array))
    with torch._C.DisableTorchFunctionSubclass():
        if is_traceable_wrapper_subclass(array):
            return itself, 0
        try:
            storages = [part.untyped_storage() for part in _torch_state._parts(array) or [array]]
            sizes = [storage.nbytes() if storage.device.type != "meta" else 0 for storage in storages]
            largest = max(range(len(sizes)), key=sizes.__getitem__)
            return (storages[largest].data_ptr() if sizes[largest] else itself), sum(sizes)
        except RuntimeError:  # an opaque layout, a tensor inside a transform such as vmap
            return itself, array.nbytes if array.is_mkldnn else 0


def size_of(array: Any) -> int:
    """Return the bytes that the tensor itself shows of its memory."""
    with torch._C.DisableTorchFunctionSubclass():
        if array.layout is torch.strided:
            return int(array.nbytes)
    return memory_of(array)[1]


def describe(array: Any) -> tuple[str, str]:
    """Return dtype and shape, `float32 (3, 4)`, with an unusual layout, and the device."""
    dtype = str(array.dtype).removeprefix("torch.")
    with torch._C.DisableTorchFunctionSubclass():
        if array.is_nested:
            return f"{dtype} nested", str(array.device)
        layout = "" if array.layout is torch.strided else f" {str(array.layout).removeprefix('torch.')}"
        return f"{dtype} {tuple(torch.Tensor.size(array))}{layout}", str(array.device)


def inside(array: Any) -> Iterable[tuple[str, Any]]:
    """Return what a tensor holds, each with how a reader would write it behind the tensor: `.grad`."""
    with torch._C.DisableTorchFunctionSubclass():
        held = [(f".{name}", value) for name, value in array.__dict__.items()]
        held += [(f".{name}", getattr(array, name, None)) for name in _HOOKS]
        # Of other tensors, to ask for it makes torch warn.
        if array.is_leaf or array.retains_grad:
            held.append((".grad", array.grad))
    return [(how, value) for how, value in held if value is not None]


def graphs(arrays: Sequence[Any]) -> Iterator[tuple[int, Any]]:
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
