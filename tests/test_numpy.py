"""NumPy as a framework, and its arrays and generators in a snapshot."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from snapshots import notebook, round_trip, run

from fwmagic.cells.snapshot import Snapshot
from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks import get
from fwmagic.frameworks.compiled import CompileOptions

NUMPY = get("numpy")


@given(st.data())
def test_any_array_comes_back_bit_for_bit(data):
    dtype = data.draw(arrays.scalar_dtypes() | arrays.array_dtypes() | arrays.byte_string_dtypes())
    a = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0)))
    view = a[data.draw(arrays.basic_indices(a.shape, allow_ellipsis=True))]
    before = a.tobytes(), a.shape, a.strides, a.dtype
    raw = np.frombuffer(np.random.default_rng(0).bytes(max(a.nbytes, 1)), np.uint8)
    namespace = notebook(a=a, view=view)
    snapshot = Snapshot(namespace, ["view", "a"], [NUMPY])
    if a.nbytes:
        a.reshape(-1).view(np.uint8)[:] = raw[: a.nbytes]
    snapshot.restore()
    assert (a.tobytes(), a.shape, a.strides, a.dtype) == before
    assert snapshot.changes().paths == []


@pytest.mark.parametrize(
    ("make", "cell"),
    [
        ("np.arange(6.0)", "v[::2] = np.nan"),
        ("np.arange(6.0)", "v.resize((2, 5), refcheck=False)"),
        ("np.asfortranarray(np.arange(6.0).reshape(2, 3))", "v += 1"),
        ("np.arange(6.0).reshape(2, 3)[:, ::-1]", "v[0, 0] = 9; v.base[-1] = 7"),
        ("np.arange(3)", "v.flags.writeable = False"),
        ("np.arange(3.0)", "v.dtype = np.int64"),
        ("np.arange(6.0)[1:5]", "v.shape = (2, 2)"),
        ("np.zeros(())", "v[...] = 1"),
        ("np.array([[1], None, 'a', float('nan')], dtype=object)", "v[0].append(2); v[1] = 3; v[3] = 1"),
        ("np.array([(1, [2])], dtype=[('n', int), ('o', object)])", "v['o'][0].append(3); v['n'] = 9"),
        ("np.zeros(2, np.dtype([('a', 'i1'), ('b', 'f8')], align=True))", "v['b'] = 1"),
        ("np.zeros(2, [('a', 'i1'), ('b', 'f8')])", "v.dtype.names = ('p', 'q'); v['p'] = 1"),
        ("np.zeros(2, [('a', [('x', 'i1')], 3)])", "v.dtype['a'].base.names = ('y',); v['a']['y'] = 1"),
        ("np.ma.masked_array([1.0, 2.0], mask=[False, True])", "v[0] = np.ma.masked; v.mask[1] = False"),
        ("np.frombuffer(bytearray(8), np.uint8)[::2]", "v[:] = 3"),
        ("np.lib.stride_tricks.as_strided(np.arange(8), (3, 3), (8, 16))", "v[1, 1] = 100"),
        ("np.array(['ab', 'c'])", "v[0] = 'zz'"),
    ],
)
def test_arrays_of_all_sorts(make, cell):
    namespace = notebook(f"import numpy as np\nv = {make}")
    v = namespace["v"]
    before = repr(v), v.shape, v.flags.writeable
    snapshot = Snapshot(namespace, ["v"], [NUMPY])
    assert snapshot.unrestorable == []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting the", DeprecationWarning)  # NumPy 2.5 warns of the cell, not of us
        run(namespace, cell)
    assert snapshot.changes().paths
    snapshot.restore()
    assert (repr(v), v.shape, v.flags.writeable) == before
    assert snapshot.changes().paths == []


def test_a_read_only_array_that_was_made_writeable():
    a = np.arange(3)
    a.flags.writeable = False
    round_trip(notebook(a=a), "a", "a.flags.writeable = True; a[0] = 5; a.flags.writeable = False", [NUMPY])
    assert a.tolist() == [0, 1, 2]
    assert not a.flags.writeable


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        ("np.random.default_rng(0)", "v.random(); v.integers(9, dtype='u1')"),
        ("np.random.default_rng(0)", "v.bit_generator.advance(3)"),
        ("np.random.PCG64(1)", "v.random_raw()"),
        ("np.random.Generator(np.random.MT19937(1))", "v.normal()"),
        ("np.random.Generator(np.random.SFC64(1))", "v.normal()"),
        ("np.random.Generator(np.random.Philox(1))", "v.normal()"),
        ("np.random.RandomState(0)", "v.normal()"),
        ("np.random.RandomState(0)", "v.rand(3)"),
    ],
)
def test_generators_draw_the_same_numbers_again(make, draw):
    namespace = notebook(f"import numpy as np\nv = {make}")
    snapshot = Snapshot(namespace, ["v"], [NUMPY])
    seen = []
    for _ in range(2):
        run(namespace, draw)
        seen.append(repr(namespace["v"].__reduce__()[-1]))
        changes = snapshot.changes()
        assert changes.paths
        assert changes.drew_random()
        changes.restore()
    assert seen[0] == seen[1]


def test_spawned_streams_are_the_same_again():
    namespace = notebook("import numpy as np\ng = np.random.default_rng(0)")
    snapshot = Snapshot(namespace, ["g"], [NUMPY])
    seen = []
    for _ in range(2):
        run(namespace, "got = [s.random() for s in g.spawn(2)]")
        seen.append(namespace["got"])
        snapshot.restore()
    assert seen[0] == seen[1]
    run(namespace, "got = [s.random() for s in g.spawn(2)]; got = [s.random() for s in g.spawn(2)]")
    assert namespace["got"] != seen[0]


def test_the_framework():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert NUMPY.names() == {"np": np}
    assert NUMPY.describe(a) == "float32[2, 3] cpu"
    assert NUMPY.describe(np.float64(1)) == "float64[] cpu"
    private = NUMPY.from_numpy(a, None)
    private[0, 0] = 9
    assert a[0, 0] == 0
    assert NUMPY.to_numpy(a) is a
    frozen = NUMPY.frozen(a)
    a[0, 0] = 4
    assert frozen[0, 0] == 0
    assert NUMPY.frozen("text") is None
    assert NUMPY.canonical_dtype(np.dtype("f8")) == np.dtype("f8")
    assert NUMPY.waiter([a]) is None
    NUMPY.drain()
    assert NUMPY.compile_events() == 0
    assert NUMPY.prime() == 0
    assert NUMPY.module_calls(a) is None
    assert not NUMPY.is_traced(a)
    NUMPY.adopt([a])
    with NUMPY.watch("x") as log, NUMPY.eager(), NUMPY.on_device("cpu"):
        assert log.compiled == {}
    assert NUMPY.version() == {"numpy": np.__version__}
    assert NUMPY.device(None) == NUMPY.device("cpu") == "CPU"
    assert int(NUMPY.threads().split(" (")[0]) >= 1
    assert "blas" in NUMPY.settings()


def test_numpy_says_what_it_cannot_do():
    assert NUMPY.strategy == ""
    assert NUMPY.cannot_compile() == "NumPy has no compiler"
    with pytest.raises(CannotCompile, match="NumPy has no compiler"):
        NUMPY.compile(len, CompileOptions())
    with pytest.raises(CannotCompile, match="NumPy has no compiler"):
        NUMPY.trace(len, ())
    with pytest.raises(FwMagicError, match="--device cuda: NumPy computes on the CPU only"):
        NUMPY.device("cuda")
    try:
        exec(compile("\n1 / 0", "cell", "exec"))
    except ZeroDivisionError as error:
        explained = NUMPY.explain(error, "cell")
    assert explained.line == 2
    assert explained.reason == "ZeroDivisionError: division by zero"


def test_the_global_generator():
    NUMPY.seed(2**40 + 7)
    state = NUMPY.rng_state()
    first = np.random.rand()
    NUMPY.set_rng_state(state)
    assert np.random.rand() == first
    NUMPY.seed(7)
    assert np.random.rand() == first


def test_its_import_leaves_the_environment_as_it_was():
    code = "import os\nbefore = dict(os.environ)\nimport fwmagic.frameworks.numpy\nassert dict(os.environ) == before"
    environment = {name: value for name, value in os.environ.items() if name != "KMP_DUPLICATE_LIB_OK"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    subprocess.run([sys.executable, "-c", code], env=environment | {"KMP_DUPLICATE_LIB_OK": "FALSE"}, check=True)


@pytest.mark.parametrize(
    ("make", "cell"),
    [
        ("np.polynomial.Polynomial([1.0, 2.0])", "v.coef[0] += 1"),
        ("np.polynomial.Chebyshev([1.0, 2.0])", "v.coef = np.ones(3)"),
        ("np.poly1d([1.0, 2.0])", "v[0] = 9"),
        ("np.vectorize(len)", "v.pyfunc = str"),
    ],
)
def test_objects_of_numpys_classes_that_can_be_changed(make, cell):
    namespace = notebook(f"import numpy as np\nv = {make}")
    before = repr(vars(namespace["v"]))
    assert all(path.startswith("v") for path in round_trip(namespace, "v", cell, [NUMPY]))
    assert repr(vars(namespace["v"])) == before
