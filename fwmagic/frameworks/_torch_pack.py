"""Tensors on their way to another process: the storage once, however many tensors share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fwmagic.frameworks import LEAST_PACKED


def pack(value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Return how to rebuild a storage, its bytes put in `slot`, or a tensor with a gradient; None for anything else.

    A tensor is pickled as its storage, offset, shape and strides. torch would write the storage anew for each tensor
    that shares it, so that a view would no longer see what is written to its base; and it would leave gradients out.
    """
    if isinstance(value, torch.Tensor) and value.is_leaf and value.grad is not None:
        return (*value.__reduce_ex__(5), value.grad, None, None, _set_gradient)  # type: ignore[no-untyped-call]
    if isinstance(value, torch.storage.TypedStorage):
        return _typed, (value._untyped_storage, value.dtype)
    if isinstance(value, torch.UntypedStorage) and value.device.type != "meta":
        numbers = torch.empty(0, dtype=torch.uint8, device=value.device).set_(value).cpu().numpy()
        return _untyped, (slot(numbers) if numbers.nbytes >= LEAST_PACKED else numbers, str(value.device))
    return None


def _set_gradient(tensor: torch.Tensor, gradient: torch.Tensor) -> None:
    tensor.grad = gradient


def _typed(storage: Any, dtype: torch.dtype) -> Any:
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)  # type: ignore[no-untyped-call]


def _untyped(numbers: Any, device: str) -> Any:
    here = torch.empty(numbers.size, dtype=torch.uint8)
    here.numpy()[...] = numbers
    return here.to(device).untyped_storage()
