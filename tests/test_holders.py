"""Who holds the largest live arrays: every kind of place is searched, and the search leaves nothing behind."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import traceback
import types
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fwmagic import frameworks
from fwmagic.memory.holders import Held, largest_held

JAX, TORCH = (frameworks.get(name).memory for name in ("jax", "torch"))

SIZES = itertools.count(1_234_567, 1000)  # no two tests have an array of one size


@pytest.fixture(autouse=True)
def no_last_traceback(monkeypatch):
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        monkeypatch.delattr(sys, name, raising=False)


def notebook(code: str) -> dict[str, Any]:
    """Return the namespace after a cell that may call T() and J() for the one large array of torch or JAX."""
    namespace = {"__name__": "__main__", "torch": torch, "jax": jax, "jnp": jnp, "np": np, "SIZE": next(SIZES)}
    exec(compile("def T(): return torch.zeros(SIZE)\ndef J(): return jnp.zeros(SIZE)", "<lead-in>", "exec"), namespace)
    run(namespace, code)
    return namespace


def run(namespace: dict[str, Any], code: str) -> None:
    exec(compile(textwrap.dedent(code), "<cell>", "exec"), namespace)


def fails(namespace: dict[str, Any], code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a cell that raises, and leave its exception where Python leaves it."""
    try:
        run(namespace, code)
    except Exception as error:
        own = error.__traceback__.tb_next.tb_next  # without this function and `run`
        monkeypatch.setattr(sys, "last_value", error.with_traceback(own), raising=False)
        del own  # its frames lead to this one, and would never be freed
    else:
        pytest.fail("the cell raised nothing")


def found(namespace: dict[str, Any], count: int = 10) -> list[Held]:
    """Return what `largest_held` says of the memories of the size of this namespace's array, or a few bytes more."""
    wanted = range(4 * namespace["SIZE"], 4 * namespace["SIZE"] + 200)
    arrays = {
        one.name: [array for array in one.memory.live() if one.memory.memory_of(array)[1] in wanted]
        for one in frameworks.loaded()
    }
    return [live for live in largest_held(arrays, namespace, count) if live.bytes in wanted]


def the_array(namespace: dict[str, Any]) -> Held:
    (live,) = found(namespace)
    assert live.bytes == 4 * namespace["SIZE"]
    return live


# --- one array, in one place ---------------------------------------------------------------------------------

CLOSURE = """
def make():
    w = {}
    def f(x):
        return x + w
    return f
f = make()
"""

PLACES = {
    "a name": ("x = T()", ["x"]),
    "a name of JAX": ("x = J()", ["x"]),
    "a list": ("history = [0, 1, 2, T()]", ["history[3]"]),
    "a dict in a list": ("runs = [{'loss': J()}]", ["runs[0]['loss']"]),
    "a tuple in a deque": ("import collections; q = collections.deque([(1, T())])", ["q[0][1]"]),
    "a named tuple": ("import collections; p = collections.namedtuple('P', 'a b')(1, T())", ["p.b"]),
    "a set": ("s = {T()}", ["s[...]"]),
    "a key of a dict": ("d = {T(): 1}", ["a key of `d`"]),
    "an output": ("Out = {12: T()}", ["Out[12]"]),
    "the last output": ("_ = J()", ["_"]),
    "all outputs": ("_ = _12 = T(); Out = {12: _}; x = _", ["x", "_", "_12", "Out[12]"]),
    "a closure": (CLOSURE.format("T()"), ["closure of `f`: `w`"]),
    "a list in a closure": (CLOSURE.format("[J()]"), ["closure of `f`: `w[0]`"]),
    "a closure that two functions share": (
        CLOSURE.format("T()") + "g = type(f)(f.__code__, {}, closure=f.__closure__)",
        ["closure of `f`: `w`", "closure of `g`: `w`"],
    ),
    "a jitted closure": (CLOSURE.format("J()") + "f = jax.jit(f)\nf(1.0)", ["closure of `f`: `w`"]),
    "a closure in a partial": (
        CLOSURE.format("T()") + "import functools\nf = functools.partial(f, 1)",
        ["closure of `f.func`: `w`"],
    ),
    "a default": ("def f(x=T()): return x", ["f.__defaults__[0]"]),
    "an attribute": ("class A: pass\na = A(); a.big = T()", ["a.big"]),
    "a slot": ("class A: __slots__ = 'big'\na = A(); a.big = T()", ["a.big"]),
    "a frozen dataclass": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass A:\n    big: object\na = A(J())",
        ["a.big"],
    ),
    "a class": ("class A: big = T()", ["A.big"]),
    "a parameter": ("net = torch.nn.Module(); net.layer = torch.nn.Linear(SIZE, 1)", ["net.layer.weight"]),
    "a buffer": ("net = torch.nn.Module(); net.register_buffer('mean', T())", ["net.mean"]),
    "a gradient": ("w = torch.zeros(2, requires_grad=True); w.grad = None; v = torch.nn.Parameter(T())\n"
                   "v.grad = v.data; v.data = torch.zeros(0)", ["v.grad"]),
    "an attribute of a tensor": ("x = torch.zeros(1); x.main = T()", ["x.main"]),
    "an array in an array": ("import numpy as np; n = np.empty((2, 2), object); n[1, 0] = T()", ["n[1, 0]"]),
    "a traceback": (
        "def step():\n    big = T()\n    raise ValueError\ntry: step()\nexcept ValueError as error: kept = error",
        ["traceback of `kept`: `big` in `step` (line 3)"],
    ),
    "the traceback of a cause": (
        """
        def inner():
            big = {"k": T()}
            raise ValueError
        def outer():
            try:
                inner()
            except ValueError as error:
                raise KeyError from error
        try:
            outer()
        except KeyError as error:
            kept = [error]
        """,
        ["traceback of `kept[0]`: `big['k']` in `inner` (line 4)"],
    ),
    "the arguments of an exception": ("kept = ValueError('bad', T())", ["kept.args[1]"]),
    "a suspended generator": (
        "def batches():\n    big = T()\n    yield 1\nit = batches(); next(it)",
        ["inside `it` (generator)"],
    ),
    "an iterator": ("it = iter([T()])", ["inside `it` (list_iterator)"]),
    "a cache": (
        "import functools\n@functools.cache\ndef big(): return T()\nbig()",
        ["inside `big` (_lru_cache_wrapper)"],
    ),
    "a Ref": ("ref = jax.new_ref(J())", ["inside `ref` (Ref)"]),
    "what JAX keeps for a gradient": ("pull = jax.vjp(lambda a: a * a, J())[1]", ["inside `pull` (VJP)"]),
    "a pytree function": ("p = jax.tree_util.Partial(len, J())", ["p.args[0]"]),
    "NumPy's view of a tensor": ("n = T()[:SIZE - 1].numpy()", ["a view `n`", "a view `n.base`"]),
    "NumPy's view of a JAX array": ("n = np.asarray(J())", ["n", "n.base.obj"]),
    "a view": ("y = T()[:10]", ["a view `y`"]),
    "a view in a closure": (CLOSURE.format("T()[3:]"), ["closure of `f`: a view `w`"]),
    "a leaf of a graph": ("loss = torch.nn.Parameter(T()).sum()", ["graph of `loss`"]),
    "what a graph has saved": (
        "loss = (torch.ones(1, requires_grad=True).expand(SIZE) * 1).exp().sum()",
        ["graph of `loss`"],
    ),
    "what a Function has saved": (
        """
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x * 1)
                return (x * x).sum()
        loss = Square.apply(torch.ones(1, requires_grad=True).expand(SIZE))
        """,
        ["graph of `loss`"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_an_array_is_found_in(place):
    code, expected = PLACES[place]
    assert the_array(notebook(code)).holders == tuple(expected)


def test_the_closure_of_a_hook_is_found():
    namespace = notebook(CLOSURE.format("T()") + "x = torch.zeros(1, requires_grad=True)\nx.register_hook(f)\ndel f")
    (hook,) = namespace["x"]._backward_hooks
    assert the_array(namespace).holders == (f"closure of `x._backward_hooks[{hook}]`: `w`",)


def test_a_module_is_found_by_all_of_its_names_with_its_optimizer_gradient_and_state():
    namespace = notebook(
        """
        net = torch.nn.Linear(SIZE, 1, bias=False)
        optimizer = torch.optim.SGD(net.parameters(), momentum=0.9)
        net(T()).sum().backward()
        optimizer.step()
        model = net
        Out = {3: model}
        """
    )
    assert sorted(live.holders for live in found(namespace)) == [
        ("net.weight", "model.weight", "a key of `optimizer.state`", "optimizer.param_groups[0]['params'][0]",
         "Out[3].weight"),
        ("net.weight.grad",),
        ("optimizer.state[...]['momentum_buffer']",),
    ]  # fmt: skip


def test_a_module_of_flax_is_found_with_its_optimizer():
    namespace = notebook(
        """
        from flax import nnx
        import optax
        net = nnx.Linear(SIZE, 1, use_bias=False, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(net, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
        """
    )
    holders = sorted(live.holders for live in found(namespace))
    assert holders[0] == ("net.kernel",)
    (path,) = holders[1]
    assert path.startswith("optimizer.opt_state[0].trace")


# --- the last traceback, and what runs -----------------------------------------------------------------------


def test_each_frame_of_the_last_traceback_is_searched(monkeypatch):
    namespace = notebook("")
    code = """
    def inner(rows):
        raise ValueError("no")
    def outer():
        big = {"x": T()}
        inner([big["x"]])
    outer()
    """
    fails(namespace, code, monkeypatch)
    assert the_array(namespace).holders == (
        "last traceback: `rows[0]` in `inner` (line 3)",
        "last traceback: `big['x']` in `outer` (line 6)",
    )


def test_frames_of_libraries_are_searched_too(monkeypatch):
    namespace = notebook("net = torch.nn.Linear(3, 4)")
    fails(namespace, "net(T())", monkeypatch)
    holders = the_array(namespace).holders
    assert len(holders) > 1
    assert all("(module.py, line " in holder or "(linear.py, line " in holder for holder in holders)


def test_of_a_traceback_the_notebooks_own_frames_are_enough(monkeypatch):
    namespace = notebook("net = torch.nn.Linear(3, 4)")
    fails(namespace, "def step(batch): net(batch)\nstep(T())", monkeypatch)
    assert the_array(namespace).holders == ("last traceback: `batch` in `step` (line 1)",)


def test_what_real_cells_leave_behind_is_found(shell):
    shell.run_cell("import torch\nbig = torch.zeros(3, 500_009)\nbig", store_history=True)
    namespace = shell.user_ns
    namespace["SIZE"] = 3 * 500_009
    assert the_array(namespace) == Held(
        "torch", "float32 (3, 500009)", 12 * 500_009, "cpu", ("big", "_", "_1", "Out[1]")
    )
    shell.run_cell("del big", store_history=True)
    shell.run_cell("def step(n):\n    held = torch.zeros(n)\n    raise ValueError\nstep(500_029)", store_history=True)
    assert the_array(namespace).holders == ("_", "_1", "Out[1]")
    namespace["SIZE"] = 500_029
    assert the_array(namespace).holders == ("last traceback: `held` in `step` (line 3)",)
    sys.last_value = sys.last_traceback = sys.last_exc = None
    assert the_array(namespace).holders == ("IPython's last traceback: `held` in `step` (line 3)",)
    del shell.InteractiveTB.tb
    shell.run_cell("pass")  # until then, the result of the last cell has the error
    gc.collect()
    assert found(namespace) == []


def test_the_arguments_of_the_last_exception_are_searched(monkeypatch):
    namespace = notebook("")
    fails(namespace, "raise ValueError('bad', T())", monkeypatch)
    assert the_array(namespace).holders == ("sys.last_value.args[1]",)


def test_a_function_that_runs_in_another_thread_is_searched():
    namespace = notebook(
        """
        import threading
        started, stop = threading.Event(), threading.Event()
        def work():
            big = [T()]
            started.set()
            stop.wait()
        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        """
    )
    try:
        assert the_array(namespace).holders == ("running: `big[0]` in `work` (line 7)",)
    finally:
        namespace["stop"].set()
        namespace["thread"].join()


# --- arrays that share memory, order and number --------------------------------------------------------------


def test_two_names_of_one_tensor_are_two_holders():
    assert the_array(notebook("x = T(); y = x")).holders == ("x", "y")


def test_a_tensor_its_views_and_its_data_are_one_memory():
    live = the_array(notebook("x = torch.nn.Parameter(T()); y = x.data; part = x.detach()[5:9]; n = y.numpy()"))
    assert live.what == f"float32 ({live.bytes // 4},)"
    assert live.holders == ("x", "y", "n", "n.base", "a view `part`")


def test_arrays_of_jax_that_share_a_buffer_are_one_memory():
    assert the_array(notebook("x = J(); y = jax.device_put(x)")).holders == ("x", "y")


def test_the_largest_come_first_and_no_more_than_asked_for():
    namespace = notebook("a, c, b = (torch.zeros(SIZE + n) for n in (0, 20, 10))")
    assert [live.holders for live in found(namespace)] == [("c",), ("b",), ("a",)]
    assert [live.holders for live in found(namespace, 2)] == [("c",), ("b",)]
    assert found(namespace, 0) == []


def test_numpy_arrays_are_told_where_they_are_reached():
    live = the_array(notebook("n = np.zeros(SIZE, np.float32); part = n[3:]"))
    assert (live.framework, live.device, live.holders) == ("numpy", "cpu", ("n", "a view `part`"))


def test_small_arrays_are_not_reported():
    namespace = {"small": torch.zeros(255), "enough": torch.zeros(256)}
    assert [live.holders for live in largest_held({"torch": []}, namespace)] == [("enough",)]


def test_more_holders_than_a_reader_wants_are_counted():
    live = the_array(notebook("x = T(); many = [x] * 1000"))
    assert live.holders == ("x", *(f"many[{n}]" for n in range(7)), "993 more")


def test_an_object_that_leads_back_to_itself_is_no_other_way():
    code = "class A: pass\na = A(); a.child = A(); a.child.parent = a; a.child.big = T(); a.me = a"
    assert the_array(notebook(code)).holders == ("a.child.big",)


# --- what nothing in the notebook holds ----------------------------------------------------------------------


def test_a_global_of_a_library_is_named(monkeypatch):
    library = types.ModuleType("some_library")
    library.__file__ = pytest.__file__  # where libraries are
    monkeypatch.setitem(sys.modules, "some_library", library)
    namespace = notebook("import some_library\nsome_library.CACHE = {'x': [T()]}")
    assert the_array(namespace).holders == ("not found: held by `some_library.CACHE` outside of the notebook's names",)


def test_an_unknown_holder_is_told_by_its_type():
    namespace = notebook("x = T()")
    held = [namespace.pop("x")]
    assert the_array(namespace).holders == ("not found: held by a list outside of the notebook's names",)
    del held


def test_a_reference_that_no_python_object_has_is_the_frameworks():
    namespace = notebook("x = T()")
    array = ctypes.py_object(namespace["x"])
    ctypes.pythonapi.Py_IncRef(array)
    del array, namespace["x"]
    assert the_array(namespace).holders == ("only by the framework itself",)


# --- nothing is kept, nothing is changed ---------------------------------------------------------------------


@pytest.mark.parametrize("array", ["T()", "J()"])
def test_what_was_reported_can_be_freed(array, monkeypatch):
    namespace = notebook(f"x = {array}; held = [x]; loss = torch.nn.Parameter(T()).exp().sum()")
    fails(namespace, "def step(x): raise ValueError\nstep(x)", monkeypatch)
    gc.collect()
    gc.disable()
    try:
        live = found(namespace)
        alive = weakref.ref(namespace["x"])
        assert not gc.isenabled()
        sys.last_value = None
        del namespace["x"], namespace["held"]
        assert alive() is None, "without any garbage collection"
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [one for one in gc.garbage if type(one).__module__.startswith("fwmagic")] == []
        assert not [one for one in gc.garbage if isinstance(one, types.FrameType)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert live[0].holders


def test_a_traceback_whose_frames_are_cleared_lets_go():
    namespace = notebook(
        "def step():\n    big = T()\n    raise ValueError\ntry: step()\nexcept ValueError as error: kept = error"
    )
    assert the_array(namespace).holders == ("traceback of `kept`: `big` in `step` (line 3)",)
    traceback.clear_frames(namespace["kept"].__traceback__)
    assert found(namespace) == []


def test_garbage_collection_stays_on():
    namespace = notebook("x = T()")
    assert gc.isenabled()
    found(namespace)
    assert gc.isenabled()


def test_a_hook_of_saved_tensors_does_not_run():
    namespace = notebook(
        """
        ran = []
        def unpack(packed):
            ran.append(packed)
            return packed[0]
        with torch.autograd.graph.saved_tensors_hooks(lambda x: [x.detach()], unpack):
            loss = (torch.ones(1, requires_grad=True).expand(SIZE) * 1).exp().sum()
        """
    )
    assert the_array(namespace).holders == ("graph of `loss[0]`",)
    assert namespace["ran"] == []


def test_backward_still_works_after_the_search():
    namespace = notebook("x = torch.ones(SIZE, requires_grad=True); loss = x.exp().sum()")
    found(namespace)
    run(namespace, "loss.backward()")
    assert float(namespace["x"].grad[0]) == pytest.approx(2.71828, rel=1e-4)
    found(namespace)  # what the graph had saved is gone now


# --- which arrays are alive ----------------------------------------------------------------------------------


def test_tensors_without_memory_are_not_alive():
    from torch._subclasses.fake_tensor import FakeTensorMode

    real = torch.zeros(3)
    with FakeTensorMode():
        fake = torch.zeros(3)
    meta = torch.zeros(3, device="meta")
    functional = torch._to_functional_tensor(real)
    live = {id(tensor) for tensor in TORCH.live()}
    assert id(real) in live
    assert not live & {id(fake), id(meta), id(functional)}
    assert [TORCH.memory_of(tensor)[1] for tensor in (fake, meta)] == [0, 0]


def test_a_lazy_object_is_not_asked_for_anything():
    class Lazy:
        @property
        def __class__(self):
            raise AssertionError("loaded")

    lazy = Lazy()
    assert all(tensor is not lazy for tensor in TORCH.live())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("tensor", "size", "what"),
    [
        (lambda: torch.eye(3).to_sparse(), 3 * 4 + 6 * 8, "float32 (3, 3) sparse_coo"),
        (lambda: torch.eye(3).to_mkldnn(), 36, "float32 (3, 3) _mkldnn"),
        (lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)]), 20, "float32 nested"),
        (lambda: torch.zeros(4).expand(1000, 4), 16, "float32 (1000, 4)"),
        (lambda: torch.nn.LazyLinear(3).weight, 0, None),
    ],
)
def test_the_memory_of_unusual_tensors(tensor, size, what):
    made = tensor()
    assert TORCH.memory_of(made)[1] == size
    assert what is None or TORCH.label(made) == (what, "cpu")


def test_a_tensor_that_is_made_of_tensors_has_no_memory_of_its_own():
    namespace = notebook("parts = torch.nested.nested_tensor([T()], layout=torch.jagged)")
    assert the_array(namespace).holders == ("parts._values",)


def test_a_deleted_array_of_jax_is_not_alive():
    array = jnp.zeros(300)
    assert any(one is array for one in JAX.live())
    array.delete()
    assert all(one is not array for one in JAX.live())
    assert JAX.memory_of(array)[1] == 0


ON_TWO_DEVICES = """
import sys
import jax
from fwmagic.frameworks.jax import FRAMEWORK
memory = FRAMEWORK.memory
assert memory.live() == []
assert not sys.modules["jax._src.xla_bridge"].backends_are_initialized(), "nothing was started"
from jax.sharding import NamedSharding, PartitionSpec
mesh = jax.make_mesh((2,), ("a",))
one = jax.numpy.zeros((4, 100))
split = jax.device_put(one, NamedSharding(mesh, PartitionSpec("a")))
copies = jax.device_put(one, NamedSharding(mesh, PartitionSpec()))
print(*(memory.memory_of(array)[1] for array in (one, split, copies)))
print(*memory.label(split))
"""


def test_the_memory_of_an_array_is_that_on_all_devices_and_asking_starts_none():
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[:2] == ["1600 1600 3200", "float32 (4, 100) cpu:0, cpu:1"], done.stderr


def test_only_frameworks_that_are_loaded_are_asked(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax")
    loaded = [framework.name for framework in frameworks.loaded()]
    assert "jax" not in loaded
    assert "torch" in loaded
