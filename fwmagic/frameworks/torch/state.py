"""Saving and putting back tensors and generators, and packing tensors for another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Kept
from fwmagic.libraries import module_of

_PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
_LAZY = (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer)
_STATEFUL = (torch.nn.Module, torch.Tensor, torch.Generator, torch.UntypedStorage)
_HOOKS = {"_backward_hooks": "hooks", "_post_accumulate_grad_hooks": "grad_hooks"}
# Machinery that changes as it compiles and must not be wound back.
_MACHINERY = ("torch._", "torch.fx", "torch.autograd", "triton")


# Torch's own way to set versions, which it exports for none but its distributed part; where it is gone, they stay.
_preserved: Any = getattr(torch.autograd, "_unsafe_preserve_version_counter", None)

# Up to 32,768 elements are compared on one thread.
_PART = 2**14


class _Storage:
    """The memory of one or more tensors, copied once however many of them look into it."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage
        self._saved = _storage_on_host(storage) if storage.device.type != "cpu" else storage.clone()  # type: ignore[no-untyped-call]

    def changed(self) -> bool:
        if self._storage.nbytes() != self._saved.nbytes():
            return True
        now, saved = (_storage_parts(one) for one in (_storage_on_host(self._storage), self._saved))
        return not all(map(torch.equal, now, saved))

    def restore(self) -> None:
        if self._storage.nbytes() != self._saved.nbytes():
            self._storage.resize_(self._saved.nbytes())
        self._storage.copy_(self._saved)

    def children(self) -> Iterator[Any]:
        return iter(())


def _storage_on_host(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Return a copy on the CPU, or the storage itself if it is there."""
    return storage.cpu()  # type: ignore[no-untyped-call,no-any-return]


def _storage_parts(storage: torch.UntypedStorage) -> tuple[torch.Tensor, ...]:
    """Return the memory as integers, of eight bytes where that fits, in parts that torch compares on one thread.

    On a busy machine it takes milliseconds until the others are there, and then they stay awake.
    """
    dtype = torch.uint8 if storage.nbytes() % 8 else torch.int64
    return torch.split(torch.empty(0, dtype=dtype, device=storage.device).set_(storage), _PART)


class _Tensor:
    """All of a tensor but the bytes: which memory it looks into and how, its gradient, graph, hooks and class."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._type = type(tensor)
        with torch._C.DisableTorchFunctionSubclass():
            # A second tensor that looks into the same memory keeps what `t.data = ...` or `resize_` takes away.
            self._alias = tensor.data
            self._held = self._now()
            gradient = self._held["grad"]
            self._gradient = None if gradient is None else gradient.data
            self._parts = parts(self._alias)
            self._attributes = tensor.__dict__

    def _now(self) -> dict[str, Any]:
        tensor = self._tensor
        return {
            "form": _tensor_form(tensor),
            "storage": _tensor_storage(tensor),
            "requires_grad": tensor.requires_grad,
            "grad_fn": tensor.grad_fn,
            "grad": tensor.grad if tensor.is_leaf or tensor.retains_grad else None,
            **{hooks: getattr(tensor, name, None) for name, hooks in _HOOKS.items()},
        }

    def changed(self) -> bool:
        with torch._C.DisableTorchFunctionSubclass():
            now = self._now()
            now_parts = parts(self._tensor)
        if type(self._tensor) is not self._type or now.pop("form") != self._held["form"]:
            return True
        if [part.data_ptr() for part in now_parts] != [part.data_ptr() for part in self._parts]:
            return True
        return any(value is not self._held[name] for name, value in now.items())

    def restore(self) -> None:
        tensor, held = self._tensor, self._held
        if type(tensor) is not self._type:
            tensor.__class__ = self._type
        with torch._C.DisableTorchFunctionSubclass():
            if held["grad_fn"] is None and tensor.grad_fn is not None:
                tensor.detach_()
            tensor.data = self._alias
            if tensor.is_leaf and tensor.requires_grad != held["requires_grad"]:
                tensor.requires_grad_(held["requires_grad"])
            if (tensor.is_leaf or tensor.retains_grad) and tensor.grad is not held["grad"]:
                if self._gradient is not None and held["grad"].dtype != self._gradient.dtype:
                    held["grad"].data = self._gradient  # one of another dtype would be refused
                tensor.grad = held["grad"]
            for name, hooks in _HOOKS.items():
                now = getattr(tensor, name, None)
                if now is not held[hooks]:
                    if now is not None:  # autograd goes on calling what is in it
                        now.clear()
                    setattr(tensor, name, held[hooks])
        if tensor.grad_fn is not held["grad_fn"]:
            raise FwMagicError("it was changed in place, and its place in the autograd graph cannot be put back")

    @property
    def made(self) -> bool:
        """Whether it was a parameter or buffer of a lazy layer that the layer's first call has made since."""
        return self._type is not type(self._tensor) and issubclass(self._type, _LAZY)

    def children(self) -> Iterator[Any]:
        held = self._held
        yield from (held[name] for name in ("storage", "grad", "hooks", "grad_hooks") if held[name] is not None)
        yield from self._parts
        yield self._attributes


class _Wrapper:
    """A tensor subclass that is made of other tensors, which are its attributes: a jagged tensor, a DTensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._attributes = tensor.__dict__

    def changed(self) -> bool:
        return False

    def restore(self) -> None:
        """Do nothing: its attributes are put back, and there is nothing else."""

    def children(self) -> Iterator[Any]:
        yield self._attributes


class _Scripted:
    """A scripted or traced module: its attributes that TorchScript holds, and what Python does."""

    def __init__(self, module: Any) -> None:
        self._inside = module._c
        self._names = list(module._concrete_type.get_attributes())
        self._held = self._now()
        self._tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        self._attributes = module.__dict__

    def _now(self) -> dict[str, Any]:
        values = {name: self._inside.getattr(name) for name in self._names}
        return {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}

    def changed(self) -> bool:
        return repr(self._now()) != repr(self._held)

    def restore(self) -> None:
        for name, value in self._held.items():
            self._inside.setattr(name, value)

    def children(self) -> Iterator[Any]:
        yield from self._tensors
        yield self._attributes


class _TorchGenerator:
    """The state of a random generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._saved = generator.get_state()

    def changed(self) -> bool:
        return not torch.equal(self._generator.get_state(), self._saved)

    def restore(self) -> None:
        self._generator.set_state(self._saved)

    def children(self) -> Iterator[Any]:
        return iter(())


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the dense tensors that a sparse one is made of: each time new objects that look into the same memory."""
    return [getattr(tensor, name)() for name in _PARTS.get(tensor.layout, ())]


def _tensor_form(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return how the tensor looks into its memory, and as what; a nested or sparse one has no strides."""
    seen_as = tensor.is_conj(), tensor.is_neg(), getattr(tensor, "names", None)  # later versions name no axes
    if tensor.is_nested or tensor.layout is not torch.strided:
        is_coalesced = tensor.layout is torch.sparse_coo and tensor.is_coalesced()
        return tensor.dtype, tensor.device, tensor.layout, seen_as, is_coalesced
    places = _tensor_shape(tensor), tensor.stride(), tensor.storage_offset()
    return tensor.dtype, tensor.device, tensor.layout, seen_as, *places


def _tensor_shape(tensor: torch.Tensor) -> list[int]:
    """Return the shape, also of a parameter of a lazy layer, which does not say it by itself."""
    with torch._C.DisableTorchFunctionSubclass():
        return list(torch.Tensor.size(tensor))


def _tensor_storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """Return the memory, always as the same Python object; None for a sparse tensor, or one without data."""
    return tensor.untyped_storage() if tensor.layout is torch.strided and tensor.device.type != "meta" else None


def is_unmade(value: Any) -> bool:
    """Say whether it is a parameter or buffer of a lazy layer that the layer's first call is yet to make."""
    return isinstance(value, _LAZY)


def is_readable(tensor: torch.Tensor) -> bool:
    """Say whether a tensor has all of its memory: to read one whose memory was freed ends the process.

    A parameter of a lazy layer has none before the layer's first call.
    """
    if is_unmade(tensor):
        return False
    is_strided = not tensor.is_nested and tensor.layout is torch.strided
    if not is_strided or tensor.is_meta or is_traceable_wrapper_subclass(tensor):
        return True
    with torch._C.DisableTorchFunctionSubclass():
        steps = ((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        end = (tensor.storage_offset() + sum(steps) + 1) * tensor.element_size()
        return tensor.numel() == 0 or end <= tensor.untyped_storage().nbytes()


def keep(value: Any) -> Kept | None:
    """Save a tensor, its memory, a scripted module or a generator; None for all else, and for an opaque layout."""
    if isinstance(value, torch.Tensor):
        if is_traceable_wrapper_subclass(value):
            return _Wrapper(value)
        return _Tensor(value) if value.layout is torch.strided or value.layout in _PARTS else None
    if isinstance(value, torch.UntypedStorage):
        return _Storage(value)
    if isinstance(value, torch.jit.ScriptModule) and hasattr(value, "_concrete_type"):
        return _Scripted(value)
    return _TorchGenerator(value) if isinstance(value, torch.Generator) else None


def counters(arrays: Iterable[Any]) -> Callable[[], None]:
    """Return what sets the version of each tensor back, by which autograd tells that what it saved was changed.

    A tensor that was made for inference alone has none.
    """
    with torch._C.DisableTorchFunctionSubclass():
        counted = tuple(one for one in arrays if isinstance(one, torch.Tensor) and not one.is_inference())
        return _preserved(counted).__exit__ if counted and _preserved is not None else _nothing


def _nothing() -> None:
    pass


def is_stateless(value: Any) -> bool:
    """Say whether it is a dtype, a device, a node of the autograd graph, a scripted function, or of the compiler."""
    if isinstance(value, _STATEFUL):
        return False
    if isinstance(value, torch.autograd.graph.Node | torch.Stream | torch.Event | torch.jit.ScriptFunction):
        return True
    module = module_of(type(value))
    return module == "torch" or module.startswith(_MACHINERY)


def operators() -> list[Any]:
    """Return the custom operators of this process; no public name lists them, and where this one is gone, none are."""
    return [*getattr(torch._library.custom_ops, "OPDEFS", {}).values()]


def describe(array: Any) -> str:
    """Return dtype, shape and device, `float32[3, 4] cpu`, and what is unusual: layout, strides, requires_grad."""
    dtype = str(array.dtype).removeprefix("torch.")
    if array.is_nested:
        return f"{dtype} nested {array.device}"
    if is_unmade(array):
        text = f"{dtype} uninitialized {array.device}"
        return f"{text} requires_grad" if array.requires_grad else text
    text = f"{dtype}{_tensor_shape(array)} {array.device}"
    if array.layout is not torch.strided:
        text += f" {str(array.layout).removeprefix('torch.')}"
    elif not array.is_contiguous():
        text += f" strides {list(array.stride())}"
    return f"{text} requires_grad" if array.requires_grad else text


def rng_state() -> Any:
    """Return the state of the generators of the CPU and, where CUDA is in use, of each GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if _cuda_in_use() else []


def set_rng_state(state: Any) -> None:
    """Put a state from `rng_state` back; a GPU that came into use since goes back to the start of its seed."""
    cpu, gpus = state
    torch.set_rng_state(cpu)
    if gpus:
        torch.cuda.set_rng_state_all(gpus)
    elif _cuda_in_use():
        for generator in torch.cuda.default_generators:
            generator.manual_seed(generator.initial_seed())


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def seed(seed: int) -> None:
    """Seed the generators of the CPU and of all GPUs."""
    torch.manual_seed(seed)


def pack(value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Return how to rebuild a storage, its bytes put in `slot`, or a tensor with a gradient; None for anything else.

    A tensor is pickled as its storage, offset, shape and strides. torch would write the storage anew for each tensor
    that shares it, so that a view would no longer see what is written to its base; and it would leave gradients out.
    """
    if isinstance(value, torch.Tensor) and value.is_leaf and value.grad is not None:
        return (*value.__reduce_ex__(5), value.grad, None, None, _set_gradient)  # type: ignore[no-untyped-call]
    if isinstance(value, torch.storage.TypedStorage):
        return _storage_of_dtype, (value._untyped_storage, value.dtype)
    if isinstance(value, torch.UntypedStorage) and value.device.type != "meta":
        # Not by `numpy()`, which lets the notebook resize the tensor no more.
        numbers = np.from_dlpack(torch.empty(0, dtype=torch.uint8, device=value.device).set_(value).cpu())
        return _storage_of_numbers, (slot(numbers), str(value.device))
    return None


def _set_gradient(tensor: torch.Tensor, gradient: torch.Tensor) -> None:
    tensor.grad = gradient


def _storage_of_dtype(storage: Any, dtype: torch.dtype) -> Any:
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)  # type: ignore[no-untyped-call]


def _storage_of_numbers(numbers: Any, device: str) -> Any:
    if numbers.flags.writeable and numbers.size:
        here = torch.from_numpy(numbers)
    else:
        here = torch.empty(numbers.size, dtype=torch.uint8)
        here.numpy()[...] = numbers
    return here.to(device).untyped_storage()
