"""NumPy as a framework: nothing is compiled, nothing is asynchronous, everything is on the CPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import LEAST_PACKED, Base, Framework, Kept, _numpy_state

# threadpoolctl sets this when it is imported, and the environment is the user's.
_SET_BY_IMPORT = "KMP_DUPLICATE_LIB_OK"
_before = os.environ.get(_SET_BY_IMPORT)
from threadpoolctl import threadpool_info, threadpool_limits  # noqa: E402

if _before is None:
    os.environ.pop(_SET_BY_IMPORT, None)


class NumPy(Base):
    """The adapter of NumPy."""

    name = "numpy"
    title = "NumPy"
    module = "numpy"

    def names(self) -> Mapping[str, Any]:
        """Return `np`."""
        return {"np": np}

    def keep(self, value: Any) -> Kept | None:
        """Save an array or a random generator."""
        return _numpy_state.keep(value)

    def is_array(self, value: Any) -> bool:
        """Say whether it is an array; a NumPy scalar is none."""
        return _numpy_state.is_array(value)

    def is_stateless(self, value: Any) -> bool:
        """Say whether it is a dtype, a scalar, a universal function or the like."""
        return _numpy_state.is_stateless(value)

    def frozen(self, value: Any) -> Any:
        """Return a copy of an array."""
        return value.copy() if isinstance(value, np.ndarray) else None

    def describe(self, array: Any) -> str:
        """Return dtype, shape and device."""
        return _numpy_state.describe(array)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a copy."""
        self.device(device)
        return np.array(array, copy=True, order="K")

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return the array itself."""
        return np.asarray(array)

    def pack(self, value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
        """Return how to rebuild a big array of numbers in another process."""
        if type(value) is not np.ndarray or value.dtype.hasobject or value.nbytes < LEAST_PACKED:
            return None
        turned = value.flags.f_contiguous and not value.flags.c_contiguous
        return _unpacked, (slot(value.T if turned else value), turned, value.flags.writeable)

    def rng_state(self) -> Any:
        """Return the state of the generator behind `np.random.rand`."""
        return _numpy_state.rng_state()

    def set_rng_state(self, state: Any) -> None:
        """Put that state back."""
        _numpy_state.set_rng_state(state)

    def flags(self) -> dict[str, Any]:
        """Return how errors are handled and arrays are printed."""
        return {"errors": np.geterr(), "print": np.get_printoptions()}

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put these back."""
        np.seterr(**flags["errors"])
        if np.get_printoptions() != flags["print"]:
            np.set_printoptions(**flags["print"])

    def seed(self, seed: int) -> None:
        """Seed that generator."""
        _numpy_state.seed(seed)

    def version(self) -> dict[str, str]:
        """Return the version of NumPy."""
        return {"numpy": np.__version__}

    def device(self, wanted: str | None) -> str:
        """Return `CPU`."""
        if wanted not in (None, "cpu"):
            raise FwMagicError(f"--device {wanted}: NumPy computes on the CPU only; leave --device out.")
        return "CPU"

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Change nothing: there is one device."""
        self.device(wanted)
        return contextlib.nullcontext()

    def threads(self) -> str:
        """Return the size of the pool of the library that linear algebra runs on."""
        sizes = {f"{pool['num_threads']} ({pool['internal_api']})" for pool in _pools()}
        return ", ".join(sorted(sizes)) or "unknown"

    def workers(self) -> int:
        """Return the size of that pool."""
        return max((pool["num_threads"] for pool in _pools()), default=super().workers())

    def use_threads(self, count: int) -> None:
        """Give that pool so many threads."""
        threadpool_limits(count, user_api="blas")

    def settings(self) -> dict[str, str]:
        """Return the libraries that linear algebra runs on."""
        config: Any = np.show_config(mode="dicts")
        libraries = config["Build Dependencies"]
        return {name: libraries[name]["name"] for name in ("blas", "lapack") if name in libraries}


def _pools() -> list[dict[str, Any]]:
    """Return what is known of the pools of the BLAS libraries in this process."""
    pools: list[dict[str, Any]] = threadpool_info()
    return [pool for pool in pools if pool["user_api"] == "blas"]


def _unpacked(numbers: Any, turned: bool, writeable: bool) -> Any:
    array = np.array(numbers.T, order="F") if turned else np.array(numbers)
    array.setflags(write=writeable)
    return array


FRAMEWORK: Framework = NumPy()
