"""PyTorch as a framework."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks import Base, CompileLog, CompileOptions, Kept
from fwmagic.frameworks.torch import compiler
from fwmagic.frameworks.torch import state as _state
from fwmagic.frameworks.torch.memory import TorchMemory


class Torch(Base):
    """PyTorch: bodies become functions with locals, compiled by `torch.compile`."""

    name = "torch"
    title = "PyTorch"
    module = "torch"
    strategy = "locals"
    memory = TorchMemory()

    def names(self) -> Mapping[str, Any]:
        """Return `torch` and `np`."""
        return {"torch": torch, "np": np}

    def keep(self, value: Any) -> Kept | None:
        """Save a tensor or a `torch.Generator`."""
        return _state.keep(value)

    def is_array(self, value: Any) -> bool:
        """Say whether `value` is a tensor."""
        return _state.is_array(value)

    def is_stateless(self, value: Any) -> bool:
        """Say whether `value` is a dtype, a device, a size or the like."""
        return _state.is_stateless(value)

    def frozen(self, value: Any) -> Any:
        """Return a detached copy of a tensor, or a copy of a NumPy array."""
        if isinstance(value, np.ndarray):
            return value.copy()
        return value.detach().clone() if isinstance(value, torch.Tensor) else None

    def describe(self, array: Any) -> str:
        """Return dtype, shape, strides and device, as Dynamo's guards read them."""
        return _state.describe(array)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a private copy as a tensor."""
        return torch.from_numpy(np.array(array, copy=True, order="C")).to(self._device(device))

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a tensor as a NumPy array; bfloat16 is widened to float32."""
        tensor = array.detach().resolve_conj().resolve_neg().to("cpu")
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        converted: np.ndarray[Any, Any] = tensor.numpy()
        return converted

    def pack(self, value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
        """Return how to rebuild a storage in another process."""
        return _state.pack(value, slot)

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return the device's synchronize where there is a device; on a CPU a call returns only when done."""
        return torch.accelerator.synchronize if self._has_accelerator() else None

    def drain(self) -> None:
        """Wait for the device."""
        if self._has_accelerator():
            torch.accelerator.synchronize()

    def rng_state(self) -> Any:
        """Return the state of torch's global generators."""
        return _state.rng_state()

    def set_rng_state(self, state: Any) -> None:
        """Put the state of torch's global generators back."""
        _state.set_rng_state(state)

    def flags(self) -> dict[str, Any]:
        """Return threads, default dtype, autograd, precision and the like."""
        return {name: read() for name, (read, _) in _FLAGS.items()}

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put them back."""
        for name, value in flags.items():
            read, write = _FLAGS[name]
            if read() != value:
                write(value)

    def seed(self, seed: int) -> None:
        """Seed torch's global generators."""
        _state.seed(seed)

    def compile_events(self) -> int:
        """Return how many compilations Dynamo began."""
        return compiler.compile_events()

    def cannot_compile(self) -> str:
        """Return why Inductor cannot work here, or an empty string."""
        return compiler.cannot_compile()

    def prime(self) -> float:
        """Compile one trivial function."""
        return compiler.prime()

    def watch(self, filename: str) -> AbstractContextManager[CompileLog]:
        """Log what Dynamo compiles."""
        return compiler.watch(filename)

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Return `torch.compile(function)`."""
        return compiler.compile(function, options)

    def module_calls(self, value: Any) -> tuple[Any, str] | None:
        """Return the module's `forward`, unless the user compiled the module already."""
        if isinstance(value, torch.nn.Module) and getattr(value, "_compiled_call_impl", None) is None:
            return value, "forward"
        return None

    def explain(self, error: BaseException, filename: str) -> CannotCompile:
        """Return why Dynamo or Inductor raised."""
        return compiler.explain(error, filename)

    def eager(self) -> AbstractContextManager[Any]:
        """Run compiled functions as Python."""
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance

    def version(self) -> dict[str, str]:
        """Return torch's version, and CUDA's where this build has it."""
        versions = {"torch": str(torch.__version__)}
        if torch.version.cuda:
            versions["cuda"] = str(torch.version.cuda)
        return versions

    def device(self, wanted: str | None) -> str:
        """Return the device in words."""
        device = torch.device(self._device(wanted))
        return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Make new tensors on that device."""
        return torch.device(self._device(wanted)) if wanted else contextlib.nullcontext()

    def threads(self) -> str:
        """Return the size of torch's thread pool."""
        return f"{torch.get_num_threads()} intra-op, {torch.get_num_interop_threads()} inter-op"

    def workers(self) -> int:
        """Return the size of the intra-op pool."""
        return torch.get_num_threads()

    def use_threads(self, count: int) -> None:
        """Give both of torch's pools so many threads."""
        torch.set_num_threads(count)
        torch.set_num_interop_threads(count)

    def preload(self) -> None:
        """Import Dynamo and Inductor."""
        compiler.preload()

    def settings(self) -> dict[str, str]:
        """Return the flags that change speed or precision."""
        return {
            "torch.float32_matmul_precision": torch.get_float32_matmul_precision(),
            "torch.default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
            "torch.deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
            "torch.grad": "on" if torch.is_grad_enabled() else "off",
            "torch.cudnn.benchmark": str(torch.backends.cudnn.benchmark),
        }

    def _has_accelerator(self) -> bool:
        return torch.accelerator.is_available()

    def _device(self, wanted: str | None) -> str:
        if wanted is None:
            accelerator = torch.accelerator.current_accelerator() if self._has_accelerator() else None
            return accelerator.type if accelerator is not None else "cpu"
        try:
            device = torch.device(wanted.replace("gpu", "cuda"))
        except RuntimeError as error:
            raise FwMagicError(f"--device {wanted}: torch knows no such device; use --device cpu or cuda.") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise FwMagicError(f"--device {wanted}: torch sees no CUDA device here; use --device cpu or leave it out.")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise FwMagicError(f"--device {wanted}: torch sees {torch.cuda.device_count()} CUDA device(s) here.")
        return str(device)


_FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "grad": (torch.is_grad_enabled, torch.set_grad_enabled),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
}
FRAMEWORK = Torch()
