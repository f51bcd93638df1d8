"""The ways in which a framework's allocator can take memory from the driver, each as variables of a fresh process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fwmagic.errors import FwMagicError

ALL = "all"
# The new spelling of a variable and its older one. JAX refuses to start if it finds two, and runs on the CPU then.
_FRACTION = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
# The spellings of another one, in the order in which torch looks for them (c10/core/AllocatorConfig.cpp).
_CONFIGURATION = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_TORCH = (*_CONFIGURATION, "PYTORCH_NO_CUDA_MEMORY_CACHING")
_JAX = (
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "TF_GPU_ALLOCATOR",
    "TF_CUDA_MALLOC_ASYNC_SUPPORTED_PREALLOC",
)


#: Settings of a framework that outrank the variables: a policy takes effect without them only.
OUTRANKING = {"jax": ("jax_pjrt_client_create_options",)}


@dataclass(frozen=True)
class Policy:
    """One policy of one framework: the variables that choose it, and what it does, in words."""

    framework: str
    name: str
    variables: Mapping[str, str]
    what: str

    def __str__(self) -> str:
        return f"{self.framework}:{self.name}"

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return an environment with this policy in place of whatever was chosen there; it is not changed itself.

        What does not choose a policy stays, such as the fraction of memory that JAX may take; of a variable that has
        two spellings only one is left.
        """
        chosen = one_spelling(environment)
        for name in _TORCH if self.framework == "torch" else _JAX:
            chosen.pop(name, None)
        return chosen | dict(self.variables)


def _jax(name: str, allocator: str, preallocate: bool, what: str) -> Policy:
    variables = {
        "XLA_PYTHON_CLIENT_ALLOCATOR": allocator,
        "XLA_PYTHON_CLIENT_PREALLOCATE": str(preallocate).lower(),
    }
    return Policy("jax", name, variables, what)


POLICIES = (
    _jax("preallocate", "default", True, "takes most of the device when it starts, and divides that itself"),
    _jax("ondemand", "default", False, "takes memory when it is needed, keeps it, and divides that itself"),
    _jax("platform", "platform", False, "asks the driver each time, gives back each time"),
    _jax("cuda_async", "cuda_async", False, "uses the driver's own pool (cudaMallocAsync)"),
    Policy("torch", "caching", {"PYTORCH_ALLOC_CONF": "backend:native"}, "keeps what was freed, for later tensors"),
    Policy(
        "torch",
        "expandable",
        {"PYTORCH_ALLOC_CONF": "backend:native,expandable_segments:True"},
        "keeps what was freed, in segments that can grow",
    ),
    Policy("torch", "async", {"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, "uses the driver's own pool"),
    Policy("torch", "none", {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, "asks the driver each time, gives back each time"),
)
_BY_NAME = {str(policy): policy for policy in POLICIES}


def read(text: str) -> tuple[Policy, ...]:
    """Return the policies that `text` names: `all`, or names such as `jax:platform` with commas between them.

    Raises
    ------
    FwMagicError
        There is no such policy.
    """
    if text.strip() == ALL:
        return POLICIES
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _BY_NAME:
            raise FwMagicError(f"{name!r} is no policy; there are: {', '.join(_BY_NAME)}; or {ALL} alone")
    return tuple(_BY_NAME[name] for name in dict.fromkeys(names))


def on_demand(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which JAX takes memory on demand, unless the user has chosen how it takes it.

    Several processes share a device then; the first one would otherwise leave next to nothing for the others.
    """
    chosen = one_spelling(environment)
    if not any(chosen.get(name) for name in _JAX):
        chosen["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return chosen


def one_spelling(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which each variable has one spelling: that which counts of those that are there."""
    found = {name: value for name, value in environment.items() if value or name not in _FRACTION}  # as JAX reads them
    for names in (_FRACTION, _CONFIGURATION):
        given = [name for name in names if name in found]
        for name in given[1:]:
            del found[name]
    return found
