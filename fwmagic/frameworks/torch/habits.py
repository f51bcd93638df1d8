"""What torch does by default and others do not: told from other causes by having it do as they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

_SPREAD = "{0}.{1} divides by n, torch.{1} by n - 1"
_MEDIAN = "torch.median takes the lower of two values in the middle, {}.median their mean"
_EVALUATION, _TRAINING = "evaluation", "training"
_MODE = "modules of {{}} are in {} mode: in {} mode it gives the same"
_OF_JAX = {
    "gelu": "jax.nn.gelu approximates with tanh unless approximate=False",
    "layer_norm": "the epsilon of a LayerNorm is 1e-6 in flax, and 1e-5 in torch",
    "batch_norm": "flax's momentum is the share that is kept, torch's the new one",
    "AdamW": "adamw decays weights by 1e-4 in optax, and by 1e-2 in torch",
    _TRAINING: _MODE.format(_EVALUATION, _TRAINING),
}
_MODULES = {"jax": "jnp", "numpy": "np"}


def habits(other: str) -> Mapping[str, str]:
    """Return in words what is done by default here, and not in another framework, each under a name for it.

    `{}` stands for the section that does so. With another section of torch it may be its modules' mode alone.
    """
    found = {_EVALUATION: _MODE.format(_TRAINING, _EVALUATION)}
    module = _MODULES.get(other)
    if module is not None:
        found |= {name: _SPREAD.format(module, name) for name in ("std", "var")} | {"median": _MEDIAN.format(module)}
    return found | _OF_JAX if other == "jax" else found


@contextmanager
def without_habit(habit: str, met: set[str]) -> Iterator[None]:
    """Do as others do, in one respect, in what runs in the block; `met` gets the names of all habits that show there.

    What modules and optimizers hold is changed for that, and not put back.
    """

    def enter(module: torch.nn.Module, _: Any) -> None:
        other = _EVALUATION if module.training else _TRAINING
        met.add(other)
        if other == habit:
            module.training = not module.training

    def step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups if isinstance(optimizer, torch.optim.AdamW) else ():
            if group["weight_decay"] == 1e-2:
                met.add("AdamW")
                group["weight_decay"] = 1e-4 if habit == "AdamW" else 1e-2

    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(enter).remove)
        stack.callback(register_optimizer_step_pre_hook(step).remove)
        stack.enter_context(_AsOthers(habit, met))
        yield


class _AsOthers(TorchFunctionMode):
    """Calls functions that have a habit in another way."""

    def __init__(self, habit: str, met: set[str]) -> None:
        super().__init__()
        self._habit = habit
        self._met = met

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in _OTHERWISE:
            self._met.add(name)
        call = _OTHERWISE[name] if name == self._habit else _as_it_is
        return call(function, args, kwargs or {})


def _as_it_is(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _by_n(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    asked = any(isinstance(one, bool) for one in args) or {"correction", "unbiased"} & kwargs.keys()
    return function(*args, **kwargs) if asked else function(*args, **kwargs, correction=0)


def _in_the_middle(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    lower, upper = function(*args, **kwargs), function(-args[0], *args[1:], **kwargs)
    if isinstance(lower, torch.Tensor):
        return (lower - upper) / 2
    return type(lower)(((lower.values - upper.values) / 2, lower.indices))


def _by_tanh(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **{**kwargs, "approximate": "tanh"})


def _with(name: str, place: int, other: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return what calls a function with another value for the argument of this name, or at this place."""

    def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > place:
            args = (*args[:place], other(args[place]), *args[place + 1 :])
        elif name in kwargs:
            kwargs = {**kwargs, name: other(kwargs[name])}
        return function(*args, **kwargs)

    return call


_OTHERWISE: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("std", "var"), _by_n),
    "median": _in_the_middle,
    "gelu": _by_tanh,
    "layer_norm": _with("eps", 4, lambda eps: 1e-6 if eps == 1e-5 else eps),
    "batch_norm": _with("momentum", 6, lambda momentum: 1 - momentum),
}
