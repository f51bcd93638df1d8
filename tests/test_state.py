"""What a cell can reach is saved, and put back into the same objects."""

from __future__ import annotations

import array
import collections
import decimal
import functools
import gc
import io
import itertools
import random
import sys
import textwrap
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshots import ALL, notebook, round_trip, run

from fwmagic.cells.foreign import Foreign
from fwmagic.cells.names import notebook_functions
from fwmagic.cells.snapshot import Snapshot
from fwmagic.errors import FwMagicError

# --- names, containers, attributes ---------------------------------------------------------------------------


def test_names_come_back_to_their_objects_and_new_ones_go():
    kept = [1]
    namespace = notebook(x=kept, y=2)
    changed = round_trip(namespace, "x y z", "x = [1]\ndel y\nz = 3")
    assert namespace["x"] is kept
    assert namespace["y"] == 2
    assert "z" not in namespace
    assert changed == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1, 2, 3], "v.append(4); v[0] = 9; v.sort(reverse=True)"),
        ({"a": 1, "b": 2}, "v['c'] = 3; del v['a']; v['a'] = 5"),
        (collections.OrderedDict(a=1, b=2, c=3), "v.move_to_end('a'); v['d'] = 1"),
        (collections.defaultdict(list, {1: [2]}), "v[1].append(3); v[7]; v.default_factory = None"),
        (collections.Counter("aab"), "v.update('bc')"),
        ({1, 2, 3}, "v.add(4); v.discard(1)"),
        (collections.deque([1, 2], maxlen=3), "v.append(3); v.append(4); v.rotate()"),
        (bytearray(b"abc"), "v.extend(b'd'); v[0] = 0"),
        (array.array("d", [1.0, float("nan")]), "v.append(3.0); v[0] = 2.0"),
        (io.StringIO("text"), "v.read(2); v.write('more')"),
        (io.BytesIO(b"text"), "v.seek(3); v.truncate(1)"),
        (random.Random(1), "v.random(); v.gauss(0, 1)"),
        (memoryview(bytearray(b"abc")), "v[1] = 0"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_container_holds_what_it_held(value, change):
    def contents() -> Any:
        if isinstance(value, io.StringIO | io.BytesIO):
            return value.getvalue(), value.tell()
        if isinstance(value, random.Random):
            return value.getstate()
        if isinstance(value, collections.defaultdict):
            return value.default_factory, {key: list(item) for key, item in value.items()}
        return repr(bytes(value) if isinstance(value, memoryview) else value)

    before = contents()
    namespace = notebook(v=value)
    snapshot = Snapshot(namespace, ["v"], [])
    run(namespace, change)
    assert contents() != before
    assert snapshot.changes().paths
    snapshot.restore()
    assert contents() == before
    assert namespace["v"] is value


def test_what_is_in_an_array_of_numbers_is_told_as_numbers():
    """Its bytes would be compared exactly."""
    namespace = notebook(v=array.array("d", [1.5]), nan=array.array("f", [float("nan")]))
    snapshot = Snapshot(namespace, ["v", "nan"], [])
    run(namespace, "v.append(2.5)")
    changes = snapshot.changes()
    assert changes.paths == ["v"]
    assert changes.plain_values(()) == {"v[0]": 1.5, "v[1]": 2.5}
    assert changes.left_plainly(()) == {"v": [1.5, 2.5]}
    assert snapshot.plain_before(["v[0]"]) == {"v[0]": 1.5}


def test_a_dict_keeps_its_order_and_its_very_keys():
    key = "".join(["k", "ey"])
    held = {key: 1, "b": 2}
    round_trip(notebook(held=held), "held", "held.pop('key'); held['key'] = 1")
    assert list(held) == ["key", "b"]
    assert next(iter(held)) is key


def test_subclasses_are_put_back_without_running_their_methods():
    namespace = notebook("""
        class Loud(dict):
            def __setitem__(self, key, value): raise RuntimeError
            def keys(self): return []
            def clear(self): raise RuntimeError
        class Items(list):
            def __iter__(self): return iter(())
        class Frozen:
            def __setattr__(self, name, value): raise AttributeError(name)
        loud = Loud(a=1); loud.note = 'n'
        items = Items([1, 2]); items.note = [3]
        frozen = Frozen(); vars(frozen)['x'] = 1
    """)
    round_trip(
        namespace,
        "loud items frozen",
        "dict.__setitem__(loud, 'b', 2); loud.note = ''; items.append(3); items.note.append(4); vars(frozen)['x'] = 2",
    )
    assert dict.copy(namespace["loud"]) == {"a": 1}
    assert namespace["loud"].note == "n"
    assert list.__len__(namespace["items"]) == 2
    assert namespace["items"].note == [3]
    assert namespace["frozen"].x == 1


def test_attributes_slots_frozen_dataclasses_and_enums():
    namespace = notebook("""
        import dataclasses, types
        class Point:
            __slots__ = ('x', 'y')
        class Named(Point):
            __slots__ = ('name',)
        @dataclasses.dataclass(frozen=True)
        class Setup:
            rate: float
            log: list
        @dataclasses.dataclass(frozen=True, slots=True)
        class Tight:
            log: list
        p = Named(); p.x = 1
        setup = Setup(0.1, []); tight = Tight([]); space = types.SimpleNamespace(n=1)
    """)
    changed = round_trip(
        namespace,
        "p setup tight space",
        """
        p.x = 2; p.y = 3; p.name = 'n'
        object.__setattr__(setup, 'rate', 0.2); setup.log.append(1)
        object.__setattr__(tight, 'log', None)
        space.n += 1; space.new = []
        """,
    )
    assert namespace["p"].x == 1
    assert not hasattr(namespace["p"], "y")
    assert not hasattr(namespace["p"], "name")
    assert namespace["setup"].rate == 0.1
    assert namespace["setup"].log == []
    assert namespace["tight"].log == []
    assert vars(namespace["space"]) == {"n": 1}
    assert {"p.x", "p.y", "p.name", "setup.rate", "setup.log", "tight.log", "space.n", "space.new"} == set(changed)


def test_class_counters_properties_and_the_class_of_an_object():
    namespace = notebook("""
        class Base:
            registry = []
        class Counter(Base):
            made = 0
            limit = property(lambda self: limits[0])
            @staticmethod
            def bump(): Counter.made += 1
        class Other(Counter): pass
        limits = [1]
        c = Counter()
    """)
    changed = round_trip(
        namespace,
        "c",
        """
        c.bump(); c.registry.append(1); Counter.added = 1; limits.append(2)
        c.__class__ = Other; Base.registry = None
        """,
    )
    counter = namespace["Counter"]
    assert counter.made == 0
    assert namespace["Base"].registry == []
    assert not hasattr(counter, "added")
    assert namespace["limits"] == [1]
    assert type(namespace["c"]) is counter
    assert "Counter.made" in changed
    assert "Base.registry" in changed


def test_what_only_leads_to_an_object():
    namespace = notebook()
    run(
        namespace,
        "import decimal, weakref\nclass Box(list):\n    def tick(self): self.append(2)\nbox, held = Box(), {'a': []}\n"
        "ref, tick, values = weakref.ref(box), weakref.WeakMethod(box.tick), held.values()\n"
        "context, proxy = decimal.Context(prec=5), weakref.proxy(box)\n"
        "import logging\nlog = logging.getLogger('of.mine.here'); log.seen = 0",
    )
    text = "ref().append(1); tick()(); next(iter(values)).append(1); log.seen += 1\ncontext.prec = 9\n"
    text += "context.traps[decimal.Inexact] = 1"
    assert round_trip(namespace, "ref tick values context log", text)
    assert namespace["log"].seen == 0
    assert (namespace["box"], namespace["held"]) == ([], {"a": []})
    assert (namespace["context"].prec, namespace["context"].traps[decimal.Inexact]) == (5, False)
    assert [path for path, _ in Snapshot(namespace, ["proxy", "ref"], ALL).unrestorable] == ["proxy"]


def test_a_logger_remembers_its_levels_and_nothing_has_changed():
    namespace = notebook()
    run(namespace, "import logging\nlog = logging.getLogger('of.mine.state')\nchild = log.getChild('child')")
    snapshot = Snapshot(namespace, ["log"], ALL)
    run(namespace, "log.isEnabledFor(10)")
    assert snapshot.changes().paths == []
    run(namespace, "log.setLevel(10)\nassert log.isEnabledFor(10) and child.isEnabledFor(10)")
    assert snapshot.changes().paths == ["log.level"]
    snapshot.restore_structure()
    run(namespace, "assert not log.isEnabledFor(10) and not child.isEnabledFor(10)")


def test_what_still_holds_is_copied_once():
    x = np.ones(1_000_000)
    namespace = notebook(x=x, t=torch.ones(10_000), y=np.ones(10))
    first = Snapshot(namespace, ["x", "t"], ALL)
    tracemalloc.start()
    second = Snapshot(namespace, ["x", "t", "y"], ALL, copies=first.copies)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < x.nbytes / 2
    x[:] = 2
    third = Snapshot(namespace, ["x"], ALL, copies=first.copies)
    for snapshot, value in ((second, 1), (third, 2), (first, 1)):
        x[:] = 3
        snapshot.restore()
        assert (x == value).all()


def test_what_was_registered_with_an_abstract_class():
    namespace = notebook()
    run(namespace, "import abc\nclass Base(abc.ABC): pass\nclass One: pass\nclass Two: pass\nBase.register(One)")
    changed = round_trip(namespace, "Base", "Base.register(Two)\nassert issubclass(Two, Base)")
    assert changed == ["Base"]
    assert [issubclass(namespace[name], namespace["Base"]) for name in ("One", "Two")] == [True, False]


def test_closures_defaults_partials_and_bound_methods():
    namespace = notebook("""
        import functools
        def make():
            count, seen = 0, []
            def step(extra, into=[], *, flags={}):
                nonlocal count
                count += 1; seen.append(extra); into.append(extra); flags[extra] = 1
                step.calls = count
                return count
            return step
        class Trainer:
            def __init__(self): self.steps = 0
            def step(self): self.steps += 1
        step = make()
        later = functools.partial(make(), 'x')
        train = Trainer().step
        add = [].append
    """)
    cell = "step('a'); step('b'); later(); train(); add(1); later.tag = 1; step.__defaults__ = ()"
    round_trip(namespace, "step later train add", cell)
    assert namespace["train"].__self__.steps == 0
    assert namespace["add"].__self__ == []
    assert not vars(namespace["step"])
    assert not vars(namespace["later"])
    assert namespace["step"].__defaults__ == ([],)
    assert namespace["step"].__kwdefaults__ == {"flags": {}}
    assert namespace["step"]("a") == 1


def test_globals_of_notebook_functions_are_reached_and_rebindings_undone():
    namespace = notebook("""
        total, hist, unused = 0, [], []
        def inner():
            global total, made
            total += 1; made = 1
            return [hist.append(i) for i in range(2)]
        def outer(): return (lambda: inner())()
    """)
    namespace["helper"] = namespace["outer"]
    changed = round_trip(namespace, "helper", "helper(); unused.append(1)")
    assert namespace["total"] == 0
    assert namespace["hist"] == []
    assert "made" not in namespace
    assert namespace["unused"] == [1], "not within reach of the cell"
    assert changed == ["total", "made", "hist"]


@pytest.mark.parametrize("names", [["globals"], ["eval"], ["locals"], ["by_name"]])
def test_where_any_name_may_be_looked_up_all_are_saved(names):
    namespace = notebook(kept=[1], other=2, drawn=(n for n in ()))
    run(namespace, "def by_name(name): return globals()[name]")
    snapshot = Snapshot(namespace, names, ALL)
    run(namespace, "by_name('kept').append(2)\nglobals()['other'] = 3")
    assert sorted(snapshot.changes().paths) == ["kept", "other"]
    snapshot.restore()
    assert (namespace["kept"], namespace["other"]) == ([1], 2)
    assert snapshot.unrestorable == []  # nobody has named it


def test_of_libraries_and_python_only_what_their_names_hold_is_put_back(monkeypatch):
    monkeypatch.setattr(textwrap, "planted", [1], raising=False)
    monkeypatch.setattr(textwrap, "deep", SimpleNamespace(held=[1]), raising=False)
    before = dict(sys.modules)
    namespace = notebook("import textwrap, sys\nmodules = sys.modules", dedent=textwrap.dedent)
    cell = "textwrap.planted.append(2); textwrap.deep.held.append(2); modules['planted'] = textwrap"
    round_trip(namespace, "textwrap modules dedent sys", cell)
    assert (textwrap.planted, textwrap.deep.held) == ([1], [1, 2])
    assert sys.modules.pop("planted") is textwrap
    assert dict(sys.modules) == before


def test_cycles_and_very_long_chains():
    namespace = notebook("""
        class Node: pass
        head = node = Node(); node.value = 0
        for i in range(100_000):
            node.next = Node(); node = node.next; node.value = i
        node.next = head
        knot = []; knot.append((knot, {'knot': knot}))
        chain = ()
        for i in range(100_000): chain = (i, chain)
    """)
    last = namespace["node"]
    try:
        changed = round_trip(namespace, "head knot chain", "node.value = 'x'; node.next = None; knot[0][1]['knot'] = 1")
        assert last.value == 99_999
        assert last.next is namespace["head"]
        assert namespace["knot"][0][1]["knot"] is namespace["knot"]
        assert "knot[0][1]['knot']" in changed
        assert all(len(path) < 200 for path in changed)
    finally:
        last.next = None
        while namespace["head"] is not last:  # Python itself would take a chain down recursively
            namespace["head"] = namespace["head"].next


def _as_made(numbers: random.Random) -> set[str]:
    """Return a set that much was put into and taken out of, the same one for the same numbers."""
    made = {str(numbers.random()) for _ in range(numbers.choice([1, 3, 8, 40, 300]))}
    for _ in range(numbers.randrange(2 * len(made))):
        if made and numbers.random() < 0.5:
            made.pop()
        else:
            made.add(str(numbers.random()))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_a_set_is_refilled_as_it_was_for_loops_for_pop_and_for_what_is_added(seed):
    plain, ours = _as_made(random.Random(seed)), _as_made(random.Random(seed))
    snapshot = Snapshot({"S": ours}, ["S"], [])
    numbers = random.Random(-seed)
    for _ in range(numbers.randrange(400)):
        if ours and numbers.random() < 0.4:
            ours.pop()
        else:
            ours.add(str(numbers.random()))
    ours.add("last")
    snapshot.restore()
    assert snapshot.changes().nothing()
    assert [*ours] == [*plain]
    for one in (plain, ours):
        one.update(map(str, range(seed)))
    assert [*ours] == [*plain]
    assert [ours.pop() for _ in range(len(ours))] == [plain.pop() for _ in range(len(plain))]


def test_a_set_that_holds_the_same_but_pops_another_one_has_changed():
    namespace = notebook("s = {1, 2, 3}")
    snapshot = Snapshot(namespace, ["s"], [])
    run(namespace, "s.add(s.pop())")
    assert snapshot.changes().paths == ["s"]
    snapshot.restore()
    assert namespace["s"].pop() == 1


def test_the_elements_of_a_set_are_held_as_often_as_before():
    elements = [object() for _ in range(40)]
    counts = [sys.getrefcount(one) for one in elements]
    held = set(elements)
    snapshot = Snapshot({"S": held}, ["S"], [])
    for _ in range(3):
        held.pop()
        held.update(map(object.__new__, [object] * 99))
        snapshot.restore()
    del snapshot, held
    gc.collect()
    assert [sys.getrefcount(one) for one in elements] == counts


def test_names_texts_and_bases_of_functions_and_classes():
    namespace = notebook("""
        class One: k = 1
        class Two: k = 2
        class Part(One): "text"
        def f(): "text"
    """)
    cell = """
        f.__doc__ = f.__name__ = f.__qualname__ = f.__module__ = 'other'
        Part.__name__ = Part.__qualname__ = Part.__doc__ = 'other'
        Part.__bases__ = (Two,)
    """
    changed = round_trip(namespace, "f Part Two", textwrap.dedent(cell))
    assert {"f.__doc__", "f.__name__", "f.__qualname__", "f.__module__"} <= set(changed)
    f, part = namespace["f"], namespace["Part"]
    assert (f.__doc__, f.__name__, f.__qualname__) == ("text", "f", "f")
    assert (part.__doc__, part.__name__, part.k) == ("text", "Part", 1)


def test_a_set_is_refilled_after_the_attributes_that_its_hashes_depend_on():
    namespace = notebook("""
        class Key:
            def __init__(self, n): self.n = n
            def __hash__(self): return self.n
            def __eq__(self, other): return self.n == other.n
        k = Key(1); s = {k}; d = {k: 1}
    """)
    round_trip(namespace, "s d k", "s.clear(); d.clear(); k.n = 2; s.add(3)")
    assert namespace["k"] in namespace["s"]
    assert namespace["d"][namespace["k"]] == 1


def test_equal_numbers_are_no_change_and_nan_is_equal_to_itself():
    namespace = notebook(n=10**9, f=float("nan"), z=0.0, s="text", t=(1,))
    changed = round_trip(
        namespace, "n f z s t", "n = int('1000000000'); f = float('nan'); z = -0.0; s = str(b'text', 'ascii')"
    )
    assert changed == ["z"]


def test_restoring_goes_on_past_what_refuses_and_names_it():
    held = bytearray(b"abc")
    namespace = notebook(held=held, other=[1])
    snapshot = Snapshot(namespace, ["held", "other"], [])
    held.append(1)
    namespace["other"].append(2)
    with memoryview(held), pytest.raises(FwMagicError, match=r"put back as they were: held \(BufferError"):
        snapshot.restore()
    assert namespace["other"] == [1]


def test_quick_path_puts_back_what_was_found_changed():
    namespace = notebook(a=[1], b=[1], x=np.zeros(3), r=random.Random(3))
    random.seed(1)
    snapshot = Snapshot(namespace, ["a", "b", "x", "r"], ALL)
    first = random.random(), np.random.rand(), namespace["r"].random()
    namespace["a"].append(2)
    namespace["x"][1] = 5
    changes = snapshot.changes()
    assert changes.paths == ["a", "x", "r"]
    for _ in range(3):
        changes.restore()
        assert (random.random(), np.random.rand(), namespace["r"].random()) == first
        assert namespace["a"] == [1]
        assert not namespace["x"].any()
        namespace["a"].append(3)
        namespace["x"][2] = 7
    namespace["b"].append(2)
    changes.restore()
    assert namespace["b"] == [1, 2], "not among what was found changed"
    snapshot.restore()
    assert namespace["b"] == [1]


def test_random_numbers_are_noticed():
    namespace = notebook(
        "import numpy as np, random, torch", g=np.random.default_rng(0), t=__import__("torch").Generator()
    )
    for cell, drew in [
        ("1 + 1", False),
        ("random.random()", True),
        ("np.random.rand()", True),
        ("torch.rand(1)", True),
        ("g.random()", True),
        ("torch.rand(1, generator=t)", True),
    ]:
        snapshot = Snapshot(namespace, ["g", "t"], ALL)
        run(namespace, cell)
        changes = snapshot.changes()
        assert changes.drew_random() is drew, cell
        snapshot.restore()
        changes = snapshot.changes()
        assert not changes.drew_random()


def test_a_large_data_set_of_plain_pairs_needs_no_entry_for_each():
    namespace = notebook(data=[(i, str(i)) for i in range(10_000)])
    snapshot = Snapshot(namespace, ["data"], ALL)
    assert len(snapshot.objects()) == 1
    before = snapshot.fingerprint()
    run(namespace, "data[77] = (77, 'x')")
    assert Snapshot(namespace, ["data"], ALL).fingerprint() != before
    snapshot.restore()
    assert Snapshot(namespace, ["data"], ALL).fingerprint() == before


# --- what cannot be put back ---------------------------------------------------------------------------------


def generator():
    yield 1


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (iter([1, 2]), "iterator"),
        (enumerate("ab"), "iterator"),
        (zip("ab", "cd", strict=True), "iterator"),
        (map(str, [1]), "iterator"),
        (itertools.count(), "iterator"),
        (generator(), "generator"),
        (np.nditer(np.zeros(2)), "iterator"),
    ],
)
@pytest.mark.parametrize("place", ["v", "box['k'][0]", "owner.attribute", "read"])
def test_iterators_that_the_notebook_holds_are_reported(value, why, place):
    namespace = notebook("class Owner: pass\nowner = Owner()", v=value)
    run(
        namespace,
        """
        box = {'k': (v,)}; owner.attribute = v
        def make(held):
            def read(): return next(held)
            return read
        read = make(v)
        """,
    )
    name = place.split(".")[0].split("[")[0]
    found = Snapshot(namespace, [name], ALL).unrestorable
    assert [path for path, _ in found] == ["read.held" if name == "read" else place]
    assert why in found[0][1]


def test_files_processes_and_unknown_objects_are_reported(tmp_path):
    import hashlib
    import queue
    import socket

    with (tmp_path / "f").open("w") as file, socket.socket() as link:
        namespace = notebook(f=file, s=link, h=hashlib.sha256(), q=queue.SimpleQueue(), fine=[1, "a", len, np.float32])
        found = dict(Snapshot(namespace, list(namespace), ALL).unrestorable)
    assert list(found) == ["f", "s", "h", "q"]
    assert "open file" in found["f"]
    assert "outside" in found["s"]


def test_what_has_nothing_to_put_back_is_not_reported():
    import datetime
    import logging
    import operator
    import pathlib
    import re
    import threading
    import weakref

    import jax
    import torch

    @functools.cache
    def cached(): ...

    values: list[Any] = [
        re.compile("x"), datetime.date(2020, 1, 1), decimal.Decimal(1), pathlib.Path("x"), threading.Lock(),
        threading.Event(), weakref.WeakSet(), operator.itemgetter(1), slice(1), range(3), print, [].append, int, np,
        random.SystemRandom(),
        logging.getLogger("x"), cached, {}.keys(), ValueError("x"), collections, type, object(), Any, list[int],
        np.float32(1), np.dtype("f4"), np.add, np.dot, np.random.rand, np.int64,
        torch.float32, torch.device("cpu"), torch.Size([1]), torch.strided, torch.nn.functional.relu, torch.relu,
        torch.compile(torch.nn.Linear(1, 1)), torch.compile(lambda x: x),
        torch.ones(1, requires_grad=True).exp().grad_fn,
        jax.jit(lambda x: x), jax.devices()[0], jax.numpy.ones(2).sharding, jax.numpy.add, jax.numpy.float32,
        jax.vmap(jax.numpy.sin), jax.random.key(0), jax.tree.structure([1]), jax.lax.scan,
    ]  # fmt: skip
    for value in values:
        assert Snapshot(notebook(v=value, box=[value]), ["v", "box"], ALL).unrestorable == [], value


def test_iterators_deep_inside_library_objects_are_not_reported():
    import torch

    class Wrapped:  # stands for a library's class
        def __init__(self, held: Any) -> None:
            self.held = held

    Wrapped.__module__ = "torch.utils"
    namespace = notebook("import torch\nclass Net(torch.nn.Module):\n    source = None\nnet = Net()")
    namespace["wrapped"] = Wrapped(iter([1]))
    namespace["loader"] = torch.utils.data.DataLoader([1, 2, 3])
    assert Snapshot(namespace, ["wrapped", "loader", "net"], ALL).unrestorable == []
    namespace["batches"] = iter(namespace["loader"])
    namespace["net"].source = iter([1])
    assert [path for path, _ in Snapshot(namespace, ["batches", "net"], ALL).unrestorable] == ["batches", "net.source"]


# --- everything at once --------------------------------------------------------------------------------------


class Thing:
    pass


class Slotted:
    __slots__ = ("a", "b")


def build(pick: random.Random, depth: int, made: list[Any]) -> Any:
    """Return a random structure; every mutable object in it, or a shared one, is in `made`."""
    import torch

    if made and pick.random() < 0.15:
        return pick.choice(made)
    if depth == 0 or pick.random() < 0.3:
        leaf = pick.randrange(6)
        if leaf == 0:
            value = np.array([pick.random(), float("nan"), -0.0])[: pick.randrange(4)]
        elif leaf == 1:
            value = torch.tensor([pick.random(), float("nan"), -0.0]).reshape(3, 1)[pick.randrange(3) :]
        else:
            return [pick.randrange(9), pick.random(), float("nan"), None, "text"][leaf - 2]
        made.append(value)
        return value
    inside = [build(pick, depth - 1, made) for _ in range(pick.randrange(4))]
    kind = pick.randrange(8)
    value = [
        lambda: list(inside),
        lambda: tuple(inside),
        lambda: dict(enumerate(inside)),
        lambda: collections.OrderedDict((str(i), v) for i, v in enumerate(inside)),
        lambda: collections.deque(inside),
        lambda: {pick.randrange(9) for _ in inside},
        Thing,
        Slotted,
    ][kind]()
    if isinstance(value, Thing):
        vars(value).update({f"a{i}": v for i, v in enumerate(inside)})
    elif isinstance(value, Slotted) and inside:
        value.a = inside[0]
    if not isinstance(value, tuple):
        made.append(value)
    return value


def mutate(pick: random.Random, value: Any, made: list[Any]) -> None:
    new = pick.choice([*made, 1, "new", [2]])
    if isinstance(value, np.ndarray):
        value[...] = pick.random()
    elif hasattr(value, "detach"):
        pick.choice([value.mul_, value.add_])(2)
    elif isinstance(value, list):
        pick.choice([lambda: value.append(new), value.clear, value.reverse, lambda: value.insert(0, new)])()
    elif isinstance(value, collections.deque):
        pick.choice([lambda: value.appendleft(new), value.clear, value.reverse])()
    elif isinstance(value, set):
        pick.choice([lambda: value.add(pick.randrange(20)), value.clear, lambda: value.discard(3)])()
    elif isinstance(value, dict):
        key = pick.choice([*value, "new"])
        pick.choice([lambda: value.update({key: new}), lambda: value.pop(key, None), value.clear])()
    elif isinstance(value, Thing):
        pick.choice(
            [lambda: vars(value).clear(), lambda: setattr(value, "a0", new), lambda: setattr(value, "z", new)]
        )()
    else:
        value.b = new
        if hasattr(value, "a"):
            del value.a


def picture(value: Any, seen: dict[int, int]) -> Any:
    """Return everything about a structure, identities too, by other means than the code that is tested."""
    if id(value) in seen:
        return ("again", seen[id(value)])
    if isinstance(value, int | float | str | None | type):
        return repr(value)
    seen[id(value)] = len(seen)
    if isinstance(value, np.ndarray):
        inside: Any = (value.shape, value.tobytes())
    elif hasattr(value, "detach"):
        inside = (tuple(value.shape), value.numpy().tobytes())
    elif isinstance(value, dict):
        inside = [(repr(key), picture(item, seen)) for key, item in value.items()]
    elif isinstance(value, set):
        inside = sorted(value)
    elif isinstance(value, Thing):
        inside = [(name, picture(item, seen)) for name, item in vars(value).items()]
    elif isinstance(value, Slotted):
        inside = [picture(getattr(value, name, None), seen) for name in ("a", "b")]
    else:
        inside = [picture(item, seen) for item in value]
    return (id(value), type(value).__name__, inside)


@settings(max_examples=3 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**64))
def test_any_structure_comes_back_bit_for_bit_and_object_for_object(seed):
    pick = random.Random(seed)  # hypothesis' own Random draws small structures only
    made: list[Any] = []
    namespace = notebook(**{name: build(pick, 3, made) for name in "abc"})
    for _ in range(3):  # cycles, and things that hang in two places
        holders = [value for value in made if isinstance(value, list)]
        if holders:
            pick.choice(holders).append(pick.choice(made))
    before = picture({name: namespace.get(name) for name in "abcd"}, {})
    snapshot = Snapshot(namespace, "abcd", ALL)
    for _ in range(pick.randrange(1, 12)):
        if made:
            mutate(pick, pick.choice(made), made)
        if pick.random() < 0.3:
            namespace[pick.choice("abcd")] = pick.choice([*made, 3])
    snapshot.restore()
    assert picture({name: namespace.get(name) for name in "abcd"}, {})[2] == before[2]
    assert snapshot.changes().paths == []


def test_the_global_generators_are_put_back_only_where_one_has_drawn():
    snapshot = Snapshot({}, [], ALL)
    quiet = snapshot.changes()
    assert not quiet.drew
    first = random.random()
    drawn = snapshot.changes()
    assert drawn.drew
    quiet.restore()
    assert random.random() != first
    drawn.restore()
    assert random.random() == first
    snapshot.restore()


ANSWERING = """
class Proxy:
    asked = []
    def __init__(self): object.__setattr__(self, "held", [1])
    def __getattribute__(self, name):
        Proxy.asked.append(name)
        return object.__getattribute__(self, name)
    def __getattr__(self, name):
        Proxy.asked.append(name)
        raise AttributeError(name)
    __class__ = property(lambda self: Proxy.asked.append("__class__") or list)
    __dict__ = property(lambda self: Proxy.asked.append("__dict__") or {})
"""


def test_an_object_that_stands_for_another_one_is_asked_nothing():
    namespace = notebook(ANSWERING + "proxy = Proxy()")
    proxy, asked = namespace["proxy"], namespace["Proxy"].asked
    held = object.__getattribute__(proxy, "held")
    asked.clear()
    snapshot = Snapshot(namespace, ["proxy"], ALL)
    held.append(2)
    object.__setattr__(proxy, "more", 3)
    assert asked == []
    assert snapshot.changes().paths == ["proxy.more", "proxy.held"]
    snapshot.restore()
    snapshot.fingerprint()
    notebook_functions(namespace, ["proxy"])
    assert held == [1]
    assert asked == []


def test_what_cannot_change_in_a_large_list_is_passed_over():
    items = "[str(i) for i in range(3000)], [(i, 'a') for i in range(3000)], [frozenset([i]) for i in range(3000)]"
    snapshot = Snapshot(notebook(f"values = {items}"), ["values"], ALL)
    assert len(snapshot.objects()) == 4


def test_what_bases_remember_of_a_class_that_was_registered_is_forgotten():
    namespace = notebook()
    run(namespace, "import abc\nclass A(abc.ABC): pass\nclass B(A): pass\nclass X: pass")
    round_trip(namespace, "B", "B.register(X)\nassert issubclass(X, A)")
    assert not issubclass(namespace["X"], namespace["B"])
    assert not issubclass(namespace["X"], namespace["A"])


def test_a_class_of_abstract_kind_that_keeps_no_registry_is_a_class():
    namespace = notebook()
    text = "import abc\nclass M(abc.ABCMeta):\n    def __new__(m, n, b, d): return type.__new__(m, n, b, d)\n"
    run(namespace, f"{text}class Z(metaclass=M): v = 2")
    assert round_trip(namespace, "Z", "Z.v = 3")
    assert namespace["Z"].v == 2


def test_an_object_of_a_librarys_own_class_in_place_of_its_function_is_a_patch(monkeypatch):
    functional = torch.nn.functional
    held, relu = Foreign(functional), functional.relu
    monkeypatch.setattr(functional, "relu", torch.nn.ReLU6())
    assert held.changed() == ["relu"]
    held.restore()
    assert functional.relu is relu


def test_what_a_singledispatch_remembers_is_no_state():
    text = """
        import functools
        @functools.singledispatch
        def area(shape): return -1
        class Square: pass
        @area.register
        def _(shape: Square): return 1
    """
    namespace = notebook(text)
    snapshot = Snapshot(namespace, ["area", "Square"], ALL)
    run(namespace, "assert area(Square()) + area(3) == 0")
    assert snapshot.changes().nothing()
    run(namespace, "area.register(Square, lambda shape: 5); assert area(Square()) == 5")
    snapshot.restore()
    run(namespace, "assert area(Square()) == 1")


def test_of_what_no_code_shows_no_name_takes_the_place_of_another():
    data = {f"data{i}": [[[j] for j in range(20)] for _ in range(90)] for i in range(30)}
    namespace = {"__name__": "__main__", **data, "last": []}
    snapshot = Snapshot(namespace, [], [], beyond=True)
    namespace["last"].append(1)
    snapshot.restore()
    assert namespace["last"] == []


def test_what_no_code_shows_is_inside_of_nothing_but_its_name():
    namespace = {"__name__": "__main__", "data": [{"rows": [[i]]} for i in range(9)], "last": {"a": [0]}, "x": 1}
    snapshot = Snapshot(namespace, ["x"], [], beyond=True)
    namespace["last"]["a"].append(1)
    namespace["data"][8]["rows"][0].append(1)
    changes = snapshot.changes()
    assert [*map(len, changes.objects)] == [2, 2]
    assert not changes.touch((set,))
