"""PyTorch as a framework."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import torch

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework
from fwmagic.frameworks.arrays import Roundings, Spread, aligned_copy, spread_of_numbers
from fwmagic.frameworks.torch import compiler, stages, state, traps, work
from fwmagic.frameworks.torch.flags import holds_flag, matmul_precision, read_flags, write_flags
from fwmagic.frameworks.torch.habits import habits, without_habit
from fwmagic.frameworks.torch.memory import TorchMemory


class Torch(Framework):
    """PyTorch: bodies become functions with locals, compiled by `torch.compile`."""

    name = "torch"
    title = "PyTorch"
    module = "torch"
    colour = "#D55E00"
    has_views = True
    strategy = "locals"
    engine = "torch"
    compilers = ("torch.compile", "torch.jit.script", "torch.jit.trace", "torch.export.export")
    compiles_itself = "compile"
    uncompiled = ("torch.compiler.reset", "torch._dynamo.reset")
    effects = ("torch.save", "set_num_interop_threads", "set_start_method", "set_flush_denormal")
    optimizers = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler)
    machinery = (
        *("torch/_dynamo/", "torch/_inductor/", "torch/_functorch/", "torch/_logging/", "torch/fx/", "triton/"),
        *("torch/utils/data/", "torch/multiprocessing/"),
    )
    variables = ("TORCH", "_TORCH", "PYTORCH", "TRITON", "KMP_", "OMP_", "CUDA", "CUBLAS")
    pure = ("torch",)
    containers = (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict, torch.nn.ParameterList)
    # What a module keeps in a dict of its own.
    readable = (
        (re.compile(r"\._modules\['(\d+)'\]"), r"[\1]"),
        (re.compile(r"\._(?:parameters|buffers|modules)\['(\w+)'\]"), r".\1"),
    )
    not_eager = (
        "Under torch.compiler.set_stance('force_eager'), autograd still records a graph, and torch.vmap and torch.func "
        "still wrap their tensors."
    )
    memory = TorchMemory()

    def names(self) -> Mapping[str, Any]:
        """Return `torch` and `np`."""
        return {"torch": torch, "np": np}

    def is_array(self, value: Any) -> bool:
        """Say whether `value` is a tensor."""
        return isinstance(value, torch.Tensor)

    def canonical_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype in the machine's byte order, the only one that tensors have."""
        return dtype.newbyteorder("=")

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a private copy as a tensor."""
        # `np.ascontiguousarray` would make an array of no dimensions one of one.
        return torch.from_numpy(aligned_copy(np.asarray(array, order="C"))).to(self._device(device))

    def from_memory(
        self, block: np.ndarray[Any, Any], views: Sequence[np.ndarray[Any, Any]], device: str | None
    ) -> list[Any]:
        """Return tensors that look into one storage; none has steps backwards."""
        storage = torch.from_numpy(block.view(np.uint8)).to(self._device(device)).untyped_storage()
        return [_view_of(storage, view, view.__array_interface__["data"][0] - block.ctypes.data) for view in views]

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a tensor as a NumPy array; bfloat16 is widened to float32.

        Raises
        ------
        ValueError
            It has no memory, or that was freed or made smaller than the tensor is.
        """
        if array.is_meta or not state.is_readable(array):
            raise ValueError("it has no memory")
        tensor = array.detach().resolve_conj().resolve_neg().to("cpu")
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        converted: np.ndarray[Any, Any] = tensor.numpy()
        return converted

    def spread(self, array: Any) -> Spread | None:
        """Return a few numbers of a tensor, where it lies: on a CPU NumPy shares its memory."""
        if array.is_meta or array.layout != torch.strided or array.is_complex() or not state.is_readable(array):
            return None
        if not array.numel():
            return None
        tensor = array.detach()
        if tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16:
            # Not by `numpy()`, which lets the notebook resize the tensor no more.
            return spread_of_numbers(np.from_dlpack(tensor.resolve_neg()))
        low, high = (float(one) for one in torch.aminmax(tensor))
        mean = float(tensor.mean(dtype=None if tensor.is_floating_point() else torch.float64))
        if math.isfinite(low) and math.isfinite(high):
            return Spread(low, mean, high)
        place = int(torch.isfinite(tensor).flatten().to(torch.uint8).argmin())
        at = tuple(int(one) for one in np.unravel_index(place, tensor.shape))
        return Spread(low, mean, high, float(tensor[at]), at)

    def frozen(self, value: Any) -> Any:
        """Return a detached copy of a tensor; of one whose memory was freed, its form."""
        if not isinstance(value, torch.Tensor):
            return super().frozen(value)
        if state.is_unmade(value):
            return torch.empty(0, dtype=value.dtype, device="meta")
        return value.detach().clone() if state.is_readable(value) else torch.empty_like(value, device="meta")

    describe = staticmethod(state.describe)
    keep = staticmethod(state.keep)
    counters = staticmethod(state.counters)
    is_stateless = staticmethod(state.is_stateless)
    operators = staticmethod(state.operators)
    holds_flag = staticmethod(holds_flag)
    rng_state = staticmethod(state.rng_state)
    set_rng_state = staticmethod(state.set_rng_state)
    seed = staticmethod(state.seed)

    flags = staticmethod(read_flags)
    set_flags = staticmethod(write_flags)

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return the device's synchronize where there is a device; on a CPU a call returns only when done."""
        return torch.accelerator.synchronize if self._has_accelerator() else None

    def drain(self) -> None:
        """Wait for the device."""
        if self._has_accelerator():
            torch.accelerator.synchronize()

    compile_events = staticmethod(compiler.compile_events)
    cannot_compile = staticmethod(compiler.cannot_compile)
    prime = staticmethod(compiler.prime)
    watch = staticmethod(compiler.watch)
    compile = staticmethod(compiler.compile)
    forgetting = staticmethod(compiler.forgetting)
    explain = staticmethod(compiler.explain)
    calls_told = staticmethod(compiler.CallsTold)
    habits = staticmethod(habits)
    without_habit = staticmethod(without_habit)
    staging = staticmethod(compiler.staging)
    left_alone = staticmethod(compiler.left_alone)
    stages_told = staticmethod(stages.telling)
    advise = staticmethod(traps.advise)
    suspects = staticmethod(traps.suspects)
    inspector = traps.TorchInspector
    is_compiler_frame = staticmethod(compiler.is_compiler_frame)
    is_generated = staticmethod(compiler.is_generated)
    stage_of = staticmethod(compiler.stage_of)
    worked_outside = staticmethod(work.worked_outside)
    operations = staticmethod(work.operations)
    is_compiled = staticmethod(compiler.is_compiled)

    def module_calls(self, value: Any) -> tuple[Any, str] | None:
        """Return the module's `forward`, unless the user compiled or scripted the module already."""
        scripted = isinstance(value, torch.jit.ScriptModule)
        if isinstance(value, torch.nn.Module) and not scripted and getattr(value, "_compiled_call_impl", None) is None:
            return value, "forward"
        return None

    def nudge(self, arrays: Sequence[Any], roundings: Roundings) -> dict[int, Any]:
        """Change them in place, by the data alone: autograd would refuse a graph of which a part was changed."""
        for array in filter(self.is_array, arrays):
            if roundings.computes and array._is_view():
                continue
            if array.is_floating_point() and array.layout is torch.strided and state.is_readable(array):
                numbers = array.detach().to("cpu", torch.promote_types(array.dtype, torch.float32)).numpy()
                factors = torch.as_tensor(roundings.factors(numbers, torch.finfo(array.dtype).eps))
                with contextlib.suppress(RuntimeError):  # it looks at one place several times, or cannot be changed
                    array.data.mul_(factors.to(array.device, array.dtype))
        return {}

    @contextlib.contextmanager
    def other_seeds(self) -> Iterator[None]:
        """Let `torch.manual_seed` take the next seed: eager code and Inductor's draw other numbers from one seed.

        It is called by many names, and makes an `int` of its argument.
        """
        names = vars(torch.random)
        names["int"] = lambda seed: int(seed) + 1
        try:
            yield
        finally:
            del names["int"]

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

    usual: ClassVar[Mapping[str, str]] = {
        "torch.float32_matmul_precision": "highest",
        "torch.default_dtype": "float32",
        "torch.deterministic_algorithms": "False",
        "torch.grad": "on",
        "torch.cudnn.benchmark": "False",
    }

    def settings(self) -> dict[str, str]:
        """Return the flags that change speed or precision."""
        return {
            "torch.float32_matmul_precision": matmul_precision(),
            "torch.default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
            "torch.deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
            "torch.grad": "on" if torch.is_grad_enabled() else "off",
            "torch.cudnn.benchmark": str(torch.backends.cudnn.benchmark),
        }

    def use_threads(self, count: int) -> None:
        """Give both of torch's pools so many threads."""
        torch.set_num_threads(count)
        torch.set_num_interop_threads(count)

    preload = staticmethod(compiler.preload)
    pack = staticmethod(state.pack)

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


def _view_of(storage: torch.UntypedStorage, like: np.ndarray[Any, Any], offset: int) -> torch.Tensor | None:
    """Return the tensor that looks into a storage as an array does into its memory; None if there can be none."""
    size = like.itemsize
    if offset % size or any(step < 0 or step % size for step in like.strides):
        return None
    dtype = torch.from_numpy(np.empty(0, like.dtype)).dtype
    empty = torch.empty(0, dtype=dtype, device=storage.device)
    return empty.set_(storage, offset // size, like.shape, [step // size for step in like.strides])


FRAMEWORK = Torch()
