"""A canonical, flat description of a namespace: values by their bits, types, and which paths are one object.

Independent of fwmagic on purpose: this is what fwmagic's own snapshot is judged by. `Digest.lines` maps a path
such as `net._parameters['weight']` to a description; the second path to an object says `same as <first path>`.
Nothing in it depends on addresses, file names or line numbers, so two runs of one text give equal digests.
"""

from __future__ import annotations

import builtins
import collections
import copyreg
import decimal
import gc
import hashlib
import locale
import logging
import os
import random
import re
import signal
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ATOMS = (type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented), range, slice)
#: Objects of classes from these packages are looked into; those of any other library are named by their class only.
OPEN = set(
    ["__main__", "builtins", "types", "collections", "torch", "flax", "optax", "functools", "contextlib", "dataclasses"]
)
#: Iterators that say where they are when they are asked how to be rebuilt.
ITERATORS = (
    *(type(iter(c)) for c in ([], (), "", b"", {}, set(), range(0), bytearray())),
    *(enumerate, zip, map, filter, reversed, type(reversed([]))),
)
#: Dynamo marks the objects that it has met; nobody can tell the difference.
DYNAMOS = ("_dynamo", "_torchdynamo_wrapper_id")
CLASS_NOISE = set(
    ["__weakref__", "__dict__", "__module__", "__doc__", "_abc_impl", "__firstlineno__", "__static_attributes__"]
)


def plain(text: str) -> str:
    """Return `text` without addresses and without the numbers of clocks."""
    text = re.sub(r"0x[0-9a-f]{6,}", "0x", text)
    return re.sub(r"(?m)^(CPU times|Wall time|time):.*$", r"\1", text)


class Digest:
    """The description of `namespace`; `objects` keeps what each path led to, so that no id is used again."""

    def __init__(self, namespace: Mapping[str, Any], volatile: tuple[str, ...] = ()) -> None:
        self.lines: dict[str, str] = {}
        self.objects: dict[str, Any] = {}
        self._first: dict[int, str] = {}
        self._storages: dict[int, str] = {}
        for name in sorted(namespace):
            if name in volatile:
                self.lines[name] = f"some {type(namespace[name]).__name__}"
            else:
                self._see(name, namespace[name])

    def ids(self) -> dict[str, int]:
        """Return the address of what each path leads to, and of the memory below each array."""
        found = {}
        for path, value in self.objects.items():
            found[path] = id(value)
            if _kind(value) == "torch.Tensor" and value.layout == sys.modules["torch"].strided:
                found[f"{path} storage"] = value.untyped_storage().data_ptr()
        return found

    def _see(self, path: str, value: Any) -> None:
        if isinstance(value, ATOMS):
            self.lines[path] = f"{type(value).__name__} {value!r}"
            return
        if isinstance(value, (float, complex)):
            self.lines[path] = f"{type(value).__name__} {value!r}"
            return
        # Equal tuples of one code object may be merged or not: their identity is no one's business.
        if type(value) is not tuple:
            if id(value) in self._first:
                self.lines[path] = f"same as {self._first[id(value)]}"
                return
            self._first[id(value)] = path
            self.objects[path] = value
        self.lines[path] = _name(type(value))
        for kind in type(value).__mro__:
            rule = RULES.get(_name(kind))
            if rule is not None:
                rule(self, path, value)
                return
        self._other(path, value)

    def _say(self, path: str, *facts: object) -> None:
        self.lines[path] += " " + " ".join(str(fact) for fact in facts)

    def _storage(self, path: str, address: int, offset: int) -> str:
        first = self._storages.setdefault(address, path)
        return f"memory of {first}+{offset}"

    def _attributes(self, path: str, value: Any) -> None:
        for name, item in sorted(getattr(value, "__dict__", {}).items()):
            if not name.startswith(DYNAMOS):
                self._see(f"{path}.{name}", item)
        for kind in type(value).__mro__:
            if kind.__module__.partition(".")[0] in OPEN - {"builtins"}:
                for name in copyreg._slotnames(kind):  # type: ignore[attr-defined]
                    if hasattr(value, name):
                        self._see(f"{path}.{name}", getattr(value, name))

    def _other(self, path: str, value: Any) -> None:
        if isinstance(value, ITERATORS):
            self._see(f"{path}.reduce", value.__reduce__()[1:])
        elif type(value).__module__.partition(".")[0] in OPEN:
            self._attributes(path, value)

    def _dict(self, path: str, value: Any) -> None:
        self._say(path, len(value))
        for position, (key, item) in enumerate(value.items()):
            if path.endswith("_hooks"):  # the keys are the next numbers of a counter of the process
                self._see(f"{path} hook {position}", item)
            elif isinstance(key, (str, int, bool, bytes, float)):
                self.lines[f"{path} key {position}"] = repr(key)
                self._see(f"{path}[{key!r}]", item)
            else:
                self._see(f"{path} key {position}", key)
                self._see(f"{path} value {position}", item)
        if isinstance(value, collections.defaultdict):
            self._see(f"{path}.default_factory", value.default_factory)
        self._attributes(path, value)

    def _sequence(self, path: str, value: Any) -> None:
        self._say(path, len(value), f"maxlen {value.maxlen}" if isinstance(value, collections.deque) else "")
        for position, item in enumerate(value):
            self._see(f"{path}[{position}]", item)
        if type(value) is not tuple:
            self._attributes(path, value)

    def _set(self, path: str, value: Any) -> None:
        self._say(path, sorted(plain(f"{type(item).__name__} {item!r}") for item in value))

    def _function(self, path: str, value: Any) -> None:
        self._say(path, value.__module__, value.__qualname__, _code(value.__code__))
        self._see(f"{path}.defaults", (value.__defaults__, value.__kwdefaults__))
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            self._see(f"{path} cell {name}", _contents(cell))
        self._attributes(path, value)

    def _cell(self, path: str, value: Any) -> None:
        self._see(f"{path} contents", _contents(value))

    def _method(self, path: str, value: Any) -> None:
        self._see(f"{path}.__self__", value.__self__)
        self._see(f"{path}.__func__", value.__func__)

    def _builtin(self, path: str, value: Any) -> None:
        self._say(path, value.__qualname__)
        if not isinstance(value.__self__, (types.ModuleType, type(None))):
            self._see(f"{path}.__self__", value.__self__)

    def _partial(self, path: str, value: Any) -> None:
        self._see(f"{path}.call", (value.func, value.args, value.keywords))

    def _class(self, path: str, value: Any) -> None:
        self._say(path, _name(value), [_name(base) for base in value.__bases__])
        if value.__module__ == "__main__":
            for name, item in sorted(vars(value).items()):
                if name not in CLASS_NOISE:
                    self._see(f"{path}.{name}", item)

    def _wrapper(self, path: str, value: Any) -> None:
        self._see(f"{path}.__func__", value.__func__)

    def _property(self, path: str, value: Any) -> None:
        self._see(f"{path}.functions", (value.fget, value.fset, value.fdel))

    def _jitted(self, path: str, value: Any) -> None:
        self._see(f"{path}.__wrapped__", value.__wrapped__)

    def _reference(self, path: str, value: Any) -> None:
        self._see(f"{path} referent", value())

    def _generator(self, path: str, value: Any) -> None:
        frame = value.gi_frame
        self._say(path, value.__qualname__, None if frame is None else frame.f_lasti)
        self._see(f"{path} locals", {} if frame is None else dict(frame.f_locals))

    def _module(self, path: str, value: Any) -> None:
        self._say(path, value.__name__)
        # A module of the user: one without a file, or beside the notebook.
        file = vars(value).get("__file__")
        if value.__name__ != "__main__" and (
            Path(file).parent == Path.cwd() if file else vars(value).get("__spec__") is None
        ):
            for name, item in sorted(vars(value).items()):
                if not name.startswith("__"):
                    self._see(f"{path}.{name}", item)

    def _numpy(self, path: str, value: Any) -> None:
        numpy = sys.modules["numpy"]
        root = value
        while isinstance(root.base, numpy.ndarray):
            root = root.base
        first = numpy.lib.array_utils.byte_bounds(root)[0]
        where = self._storage(path, first, value.ctypes.data - first) if value.size else ""
        self._say(path, value.dtype, value.shape, value.strides, value.flags.writeable, where)
        if value.dtype.hasobject:
            self._see(f"{path} items", value.tolist())
        else:
            self._say(path, _hash(value.tobytes()))

    def _numpy_scalar(self, path: str, value: Any) -> None:
        self._say(path, value.dtype, value.tobytes().hex())

    def _generator_state(self, path: str, value: Any) -> None:
        states = {"Generator": lambda g: g.bit_generator.state, "RandomState": lambda g: g.get_state(legacy=False)}
        self._see(f"{path} state", states[type(value).__name__](value))

    def _random(self, path: str, value: Any) -> None:
        self._say(path, _hash(repr(value.getstate()).encode()))

    def _torch_generator(self, path: str, value: Any) -> None:
        self._say(path, value.device, _tensor_hash(value.get_state()))

    def _tensor(self, path: str, value: Any) -> None:
        torch = sys.modules["torch"]
        if value.is_nested:
            self._say(path, value.dtype, value.layout, *map(_tensor_hash, value.unbind()))
            return
        self._say(path, value.dtype, value.device, tuple(value.shape), value.layout)
        if value.layout == torch.strided:
            storage = value.untyped_storage()
            # Memory that NumPy lent is known to both by its first byte.
            offset = value.storage_offset() * value.element_size()
            where = self._storage(path, storage.data_ptr(), offset) if value.numel() else ""
            self._say(path, value.stride(), where)
        self._say(path, value.requires_grad, value.is_leaf, value.retains_grad, type(value.grad_fn).__name__)
        self._say(path, _tensor_hash(value))
        if value.is_leaf or value.retains_grad:
            self._see(f"{path}.grad", value.grad)
        self._attributes(path, value)

    def _jax(self, path: str, value: Any) -> None:
        jax, numpy = sys.modules["jax"], sys.modules["numpy"]
        if isinstance(value, jax.core.Tracer):
            self._say(path, "A LEAKED TRACER")
        elif value.is_deleted():
            self._say(path, value.dtype, value.shape, "deleted")
        else:
            keys = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
            data = numpy.asarray(jax.random.key_data(value) if keys else value)
            self._say(path, value.dtype, value.shape, getattr(value, "weak_type", ""), _hash(data.tobytes()))

    def _counted(self, path: str, value: Any) -> None:
        """Say nothing of an object that only holds the next number of a counter of the process."""

    def _exception(self, path: str, value: Any) -> None:
        self._see(f"{path}.args", value.args)

    def _variable(self, path: str, value: Any) -> None:
        # Before Flax 0.12 there was no such method.
        raw = value.get_raw_value() if hasattr(type(value), "get_raw_value") else value.raw_value
        self._see(f"{path}.value", raw)
        self._see(f"{path}.metadata", value.get_metadata())


RULES: dict[str, Callable[[Digest, str, Any], None]] = {
    "dict": Digest._dict,
    "mappingproxy": Digest._dict,
    "list": Digest._sequence,
    "tuple": Digest._sequence,
    "collections.deque": Digest._sequence,
    "set": Digest._set,
    "frozenset": Digest._set,
    "function": Digest._function,
    "cell": Digest._cell,
    "method": Digest._method,
    "builtin_function_or_method": Digest._builtin,
    "functools.partial": Digest._partial,
    "type": Digest._class,
    "staticmethod": Digest._wrapper,
    "classmethod": Digest._wrapper,
    "property": Digest._property,
    "BaseException": Digest._exception,
    "generator": Digest._generator,
    "module": Digest._module,
    "weakref.ReferenceType": Digest._reference,
    "numpy.ndarray": Digest._numpy,
    "numpy.generic": Digest._numpy_scalar,
    "numpy.random._generator.Generator": Digest._generator_state,
    "numpy.random.mtrand.RandomState": Digest._generator_state,
    "random.Random": Digest._random,
    "torch._C.Generator": Digest._torch_generator,
    "torch.Tensor": Digest._tensor,
    "jaxlib._jax.ArrayImpl": Digest._jax,
    "jax.jaxlib._jax.Array": Digest._jax,
    "jax._src.core.Tracer": Digest._jax,
    "jaxlib._jax.PjitFunction": Digest._jitted,
    "flax.ids.FlaxId": Digest._counted,
    "torch.utils.hooks.RemovableHandle": Digest._counted,
    "flax.nnx.variablelib.Variable": Digest._variable,
}


def _name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _kind(value: object) -> str:
    """Return the first class of `value` that a rule names."""
    return next((_name(kind) for kind in type(value).__mro__ if _name(kind) in RULES), "")


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _tensor_hash(value: Any) -> str:
    torch = sys.modules["torch"]
    flat = value.detach().to("cpu").to_dense() if value.layout != torch.strided else value.detach().cpu()
    with torch.inference_mode(False), torch.no_grad():
        return _hash(flat.clone().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _code(code: types.CodeType) -> str:
    """Return what the function computes, without file names and line numbers."""
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return _hash(repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants)).encode())


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return "(empty cell)"


#: What IPython itself puts among the built-in names, and what its help page prints.
NOT_OF_PYTHON = {
    "display",
    "get_ipython",
    "_",
    "__IPYTHON__",
    "exit",
    "quit",
    "copyright",
    "credits",
    "license",
    "help",
}


def _below(folder: Path) -> list[Path]:
    """Return what is in a folder, but for what Python itself keeps there."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def _log() -> list[tuple[object, ...]]:
    """Return the loggers that are set up, but for those of imported modules, which set them up themselves."""
    loggers = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    own = [x for x in loggers if x.name.partition(".")[0] not in sys.modules]
    found = [(x.name, x.level, _own_handlers(x), x.filters, x.propagate, x.disabled) for x in [logging.root, *own]]
    return [(logging.root.manager.disable,), *(f for f in found if f[1:] != (0, [], [], True, False))]


def _own_handlers(logger: logging.Logger) -> list[object]:
    """Return the handlers that do not belong to the process that runs the tests."""
    return [handler for handler in logger.handlers if not type(handler).__module__.startswith("_pytest")]


def _decimals() -> list[object]:
    """Return the settings of decimal numbers, without the signals that a division may leave."""
    now = decimal.getcontext()
    return [getattr(now, name) for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")]


def _torch_hooks() -> dict[str, list[object]]:
    held = vars(sys.modules["torch"].nn.modules.module)
    return {name: list(v.values()) for name, v in held.items() if name.startswith("_global_") and isinstance(v, dict)}


def world(folder: Path) -> dict[str, str]:
    """Return what a cell may read without naming it: generators, modes, streams, settings, the files of a folder."""
    numpy, torch, jax = (sys.modules[name] for name in ("numpy", "torch", "jax"))
    hooks = (sys.displayhook, sys.excepthook, sys.gettrace(), sys.getprofile(), signal.getsignal(signal.SIGINT))
    # torch's compiler writes the folder of its cache into the environment, for its own subprocesses; pytest the test.
    environ = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_", "PYTEST_"))
    }
    modes = (
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), torch.autograd.forward_ad._current_level,
        torch._C._functorch.maybe_current_level(), jax.config.jax_disable_jit, jax.config.jax_enable_x64,
        jax.config.jax_check_tracer_leaks, gc.isenabled(), gc.get_threshold(), Path.cwd() == folder,
        torch.is_anomaly_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(), torch.get_default_device(),
        sys.getrecursionlimit(), sys.getswitchinterval(), locale.setlocale(locale.LC_ALL),
    )  # fmt: skip
    return {
        "random": _hash(repr(random.getstate()).encode()),
        "numpy": _hash(repr([getattr(s, "tolist", lambda s=s: s)() for s in numpy.random.get_state()]).encode()),
        "torch": _tensor_hash(torch.get_rng_state()),
        "hooks": plain(repr(hooks)),
        "modes": str(modes),
        "environ": _hash(repr(sorted(environ.items())).encode()),
        "paths": repr(([path for path in sys.path if "site-packages" not in path], sys.argv)),
        "files": repr([(str(p.relative_to(folder)), p.is_file() and _hash(p.read_bytes())) for p in _below(folder)]),
        "log": plain(repr(_log())).replace(str(folder), "."),
        "numbers": plain(repr((_decimals(), numpy.geterr(), numpy.get_printoptions()))),
        "torch printing": repr(vars(torch._tensor_str.PRINT_OPTS)),
        "torch hooks": plain(repr(_torch_hooks())),
        "built-in names": plain(repr({n: v for n, v in vars(builtins).items() if n not in NOT_OF_PYTHON})),
        "signals": plain(repr([signal.getsignal(number) for number in sorted(signal.valid_signals())])),
        "figures": repr(sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []),
    }


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return a line for each path that the two descriptions do not agree on."""
    found = []
    for path in sorted(one.keys() | other.keys()):
        left, right = one.get(path, "(absent)"), other.get(path, "(absent)")
        if left != right:
            found.append(f"{path}: {left} != {right}")
    return found


def kept(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, str]:
    """Return, for each path that was there before, whether it still leads to the same object."""
    answers: Mapping[bool | None, str] = {True: "the same object", False: "another object", None: "gone"}
    return {path: answers[None if path not in after else after[path] == old] for path, old in before.items()}
