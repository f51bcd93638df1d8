"""Random cells: what does not depend on chance is compared by value, the rest by shape, dtype, mean and spread."""

from __future__ import annotations

import pytest
from cells import run, untouched
from tiers import thinned, tiered

QUICK = "%%compare --mode eager --budget 0.02"
START = """
import random, time, uuid
import numpy as np, torch
x = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
t = torch.from_numpy(x.copy())
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(t), batch_size=16)
drawn = np.random.default_rng(1)
"""
BATCHES = "total = torch.zeros(32)\nfor (batch,) in loader:\n    total = total + batch.sum(0)\ntotal"

# The sections' bodies, and how the second one compares with the first.
CELLS = {
    "a loader that draws a seed only": (f"torch\n{BATCHES}", "numpy\nx.sum(0)", "agrees", "agrees with torch"),
    "such a loader, other sums": (f"torch\n{BATCHES}", "numpy\nx.sum(0) * 2", "differs", "numpy is 2 x torch"),
    "numbers that are drawn and not used": (
        "torch\ntorch.rand(3)\nt * 2", "numpy\nx * 3", "differs", "numpy is 1.5 x torch everywhere"),
    "a clock that is read and not used": (
        "numpy\nbegan = time.perf_counter()\nx * 2\n", "numpy two\nx * 3", "differs", "two is 1.5 x numpy everywhere"),
    "a generator of the notebook's": (
        "numpy\ndrawn.random(3)\nx * 2", "numpy two\nx + 1", "differs", "numpy and two differ at Out[0, 0]"),
    "of one distribution": (
        "torch\ntorch.rand(1000)", "numpy\nnp.random.rand(1000).astype('float32')", "not compared", "spreads agree"),
    "of another mean": (
        "torch\ntorch.rand(50000)", "numpy\nnp.random.randn(50000).astype('float32')", "differs", "in mean at Out"),
    "of another spread": (
        "torch\ntorch.randn(20000)", "numpy\n3 * np.random.randn(20000).astype('float32')", "differs", "in spread"),
    "of nearly the same mean": (
        "numpy\ndrawn.standard_normal(1000)", "numpy two\ndrawn.normal(0.5, 1, 1000)", "differs", "in mean at Out"),
    "of twice the spread": (
        "numpy\ndrawn.standard_normal(1000)", "numpy two\ndrawn.normal(0, 2, 1000)", "differs", "in spread at Out"),
    "one number, of another mean": (
        "torch\ntorch.dropout(torch.ones(9999), 0.5, True).mean()",
        "numpy\n(np.random.rand(9999) < 0.7).mean(dtype='float32')", "differs", "in mean at Out"),
    "the same numbers in another order, and a little larger": (
        "numpy\nx[np.random.permutation(64)] + 1", "numpy two\nx[np.random.permutation(64)] * 1.05 + 1", "not compared",
        "agree, means and spreads differ by less than 20 times"),
    "an array that one of two sections changes": (
        "numpy\n(x * 2).sum()", "numpy two\nx += 1\nx.sum()", "differs", "numpy and two differ at Out"),
    "such a one, and chance": (
        "numpy\nnp.random.default_rng().random(999)", "numpy two\nx += 1\nnp.random.default_rng().random(999)",
        "not compared", "spreads agree"),
    "of another shape": (
        "torch\ntorch.rand(10)", "numpy\nnp.random.rand(11).astype('float32')", "differs", "differ in shape at Out"),
    "of another dtype": (
        "torch\ntorch.rand(10)", "numpy\nnp.random.rand(10)", "differs", "differ in dtype at Out: float32 and float64"),
    "of a shape that depends on chance": (
        "torch\ntorch.rand(100)[torch.rand(100) > 0.5]",
        "numpy\nnp.random.rand(100).astype('float32')[np.random.rand(100) > 0.5]", "not compared",
        "shapes and dtypes agree"),
    "moved by chance as a whole": (
        "torch\nt * torch.randn(1)", "numpy\nx * np.float32(np.random.randn())", "not compared", "and spreads agree"),
    "in part": (
        "torch\nnoise = torch.rand(1000)\nsure = t * 2\nnoise",
        "numpy\nnoise = np.random.rand(1000).astype('float32')\nsure = x * 3\nnoise", "differs", "at sure[0, 0]"),
    "changed by the cell itself": (
        "torch\nt.add_(torch.rand(1))\nt.shape[0]", "numpy\n65", "differs", "64 and 65"),
    "a generator without a seed": (
        "numpy\nnp.random.default_rng().random(9)", "numpy two\nnp.random.default_rng().random(9)",
        "not compared", "gives something else in every run"),
    "such a one, of another mean": (
        "numpy\nnp.random.default_rng().random(9)", "numpy two\nnp.random.default_rng().random(9) + 99",
        "differs", "in mean at Out"),
    "a text of the system's": (
        "numpy\nuuid.uuid4().hex", "numpy two\nuuid.uuid4().hex", "not compared", "gives something else in every run"),
    "addresses for keys": (
        "numpy\n{id(object()): 1, id([]): 2}", "numpy two\n{id([]): 1}", "not compared", "other parts in every run"),
    "a seed that each sets": (
        "torch\ntorch.manual_seed(3)\ntorch.rand(1000)",
        "numpy\nnp.random.default_rng(3).random(1000).astype('float32')", "not compared", "draws random numbers"),
    "dropout of another share": (
        "torch\ntorch.nn.functional.dropout(torch.ones(200, 200), 0.5)",
        "numpy\n(np.random.rand(200, 200) < 0.9).astype('float32') / np.float32(0.9)", "differs", "in spread at Out"),
}  # fmt: skip


@pytest.fixture
def book(shell):
    run(shell, START)
    return shell


@pytest.mark.parametrize("case", thinned(CELLS, 2))
def test_random_sections(book, case):
    first, second, status, words = CELLS[case]
    with untouched(book):
        run(book, f"{QUICK}\n%%{first}\n%%{second}")
    run(book, f"{QUICK} -o r\n%%{first}\n%%{second}")
    found = [variant for variant in book.user_ns["r"]][-1].agreement
    assert (found.status, words in found.sentence) == (status, True), found.sentence


@pytest.mark.parametrize("seed", ["torch.manual_seed(3)", "given(3)"])
def test_numbers_from_a_seed_in_the_cell_are_not_compared_with_those_of_the_compilers_generator(shell, seed):
    run(shell, "import torch\nfrom torch import manual_seed as given")
    for _ in range(2):
        run(shell, f"%%torch --budget 0.05 -o r\n{seed}\ntorch.rand(3)")
        found = shell.user_ns["r"]["torch"]
        assert (found.compilation.way, found.agreement.status) == ("cell", "not compared")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("np.random.seed(1)\na = np.random.rand()\nt.sum() * a", "Out"),
        ("np.random.seed(1)\na = np.random.rand()\nt.mul_(a)\nt.shape[0]", "t[0, 0]"),
    ],
)
def test_a_cell_that_sets_the_seed_it_draws_from_is_compared_by_value(book, text, where):
    for _ in range(2):  # the first run has left the generators as the second one leaves them
        run(book, f"%%torch --budget 0.05 -o r\n{text}")
        found = book.user_ns["r"]["torch"].compilation
        words = f"compiled, it computes something else: torch eager and torch compiled differ at {where}: "
        assert (found.way, found.reason.startswith(words)) == ("eager", True), found


def test_an_array_that_is_changed_in_place_is_no_random_generator(book):
    """Torch is there, too, and a saved array of NumPy's is none of its objects."""
    run(book, "%%compare --budget 0.02 -o r\n%%numpy\n(x * 2).sum()\n%%numpy inplace\nx += 1\nx.sum()")
    assert book.user_ns["r"]["inplace"].agreement.sentence.startswith("numpy and inplace differ at Out")


def test_what_was_drawn_while_tracing_is_not_taken_for_the_cell(shell):
    run(
        shell, "import numpy as np, uuid, jax.numpy as jnp\nx = jnp.ones(3)\ndef drawn(): return uuid.uuid4().int % 997"
    )
    run(shell, "%%jax --budget 0.05 -o r\nx * drawn()")
    found = shell.user_ns["r"]["jax"].compilation
    assert found.way == "eager"
    assert "draws random numbers" in found.reason or "what it gave while it was traced" in found.reason


def test_a_random_section_that_takes_long_is_not_run_again(book):
    calls = book.user_ns["calls"] = []
    book.user_ns["slow"] = lambda: (time_passes(), calls.append(1))
    run(book, f"{QUICK} -o r\n%%torch\nslow()\ntorch.rand(9)\n%%numpy\nnp.random.rand(9).astype('float32')")
    found = book.user_ns["r"]["numpy"].agreement
    assert found.sentence.endswith("; shapes and dtypes agree")


def time_passes():
    import time

    time.sleep(0.06)


@pytest.mark.slow
def test_a_compiled_random_cell_is_compared_with_its_plain_run_by_mean_and_spread(book):
    run(book, "%%torch --budget 0.05 -o r\ntorch.rand(100, 100) * 2")
    found = book.user_ns["r"]["torch"]
    assert found.compilation.way == "cell"
    assert "; shapes, dtypes, means and spreads agree, " in found.agreement.sentence


def test_compiled_random_sections_are_compared_with_each_other(book):
    run(book, "%%compare --budget 0.05 -o r\n%%torch a\ntorch.randn(1000)\n%%torch b\ntorch.randn(1000) * 3 + 10")
    found = book.user_ns["r"]["b"]
    assert (found.compilation.way, found.agreement.status) == ("cell", "differs")
    assert "a and b differ in mean at Out" in found.agreement.sentence


APART = {
    "torch.rand(3)\nt * 2": ("x * 3", "numpy is 1.5 x torch everywhere"),
    "torch.rand(50000)": ("np.random.randn(50000).astype('float32')", "differ in"),
}


@pytest.mark.parametrize(
    "first", [next(iter(APART)), *(pytest.param(one, marks=pytest.mark.slow) for one in [*APART][1:])]
)
def test_random_sections_in_processes_of_their_own(book, first):
    second, words = APART[first]
    run(book, f"{QUICK} --isolate -o r\n%%torch\n{first}\n%%numpy\n{second}")
    found = book.user_ns["r"]["numpy"].agreement
    assert (found.status, words in found.sentence) == ("differs", True), found.sentence


@pytest.mark.parametrize(
    "text",
    [
        "%%torch\ny = t - t.mean()\ny.sum()\n%%numpy\ny = x - x.mean()\ny.sum()",
        "%%jax\ny = j - j.mean()\ny.sum()\n%%torch\ny = t - t.mean()\ny.sum()",
        "%%numpy\ny = x - x.mean()\ny.sum()\n%%jax\ny = j - j.mean()\ny.sum()",
    ],
)
def test_what_rounding_alone_makes_is_no_difference(book, text):
    run(book, "import jax.numpy as jnp\nj = jnp.asarray(x)")
    with untouched(book):
        run(book, f"%%compare --budget 0.02\n{text}")
    run(book, f"%%compare --budget 0.02 -o r\n{text}")
    assert {variant.agreement.status for variant in book.user_ns["r"] if variant.agreement} == {"agrees"}
    more = text.replace("y = x -", "y = x + 0.001 -").replace("y = t -", "y = t * 1.001 -")
    run(book, f"%%compare --budget 0.02 -o r\n{more.replace('.sum()', '')}")
    assert [*book.user_ns["r"]][-1].agreement.status == "differs"


GRID = "%%setup\ni = np.arange(1, 6, dtype='f'); j = i[:, None] - 1; hilbert = (1 / (i + j)).astype('f')\n"
GRID += "g = np.random.default_rng(0).integers(0, 10, (40, 40)).astype('f')\nh, d = g / 2, g / np.float32(10)\n"


@pytest.mark.parametrize(
    "text",
    thinned(
        [
            "%%torch\n(g > 5).float()\n%%numpy\n(g >= 5).astype('f')",
            "%%numpy\nnp.rint(h)\n%%numpy b\nnp.floor(h + .5)",
            "%%torch\n(torch.relu(d) > .3).float()\n%%jax\n(d >= .3).astype('f')",
            "%%numpy\n(g > 5).astype('f').mean()\n%%numpy b\n(g >= 5).astype('f').mean()",
            "%%torch\ntorch.histc(g, bins=9, min=0, max=9)\n%%numpy\nnp.histogram(g, 10, (0, 10))[0][:9].astype('f')",
            "%%jax\njnp.round(h)\n%%torch\ntorch.floor(h + .5)",
        ],
        3,
    ),
)
def test_a_threshold_among_numbers_that_nobody_rounds_is_a_difference(book, text):
    run(book, "import jax.numpy as jnp")
    run(book, f"%%compare --budget 0.02 -o r\n{GRID}{text}")
    assert [*book.user_ns["r"]][-1].agreement.status == "differs"


@pytest.mark.parametrize(
    "text",
    [
        "%%numpy\n(g / 10) // .1\n%%numpy b\n(g * .1) // .1",
        "%%numpy\nnp.linalg.inv(1 / (i + j))\n%%jax\njnp.linalg.inv(hilbert)",
        "%%torch\n(g.sin().sum(0) - g.flip(0).sin().sum(0))\n%%jax\njnp.sin(g).sum(0) - jnp.sin(g[::-1]).sum(0)",
    ],
)
def test_what_is_computed_from_such_numbers_is_rounded(book, text):
    run(book, "import jax.numpy as jnp")
    with untouched(book):
        run(book, f"%%compare --budget 0.02 -o r\n{GRID}{text}".replace(" -o r", ""))
    run(book, f"%%compare --budget 0.02 -o r\n{GRID}{text}")
    found = [*book.user_ns["r"]][-1].agreement
    assert (found.status, "but for rounding" in found.sentence) == ("agrees", True), found.sentence


def test_so_is_what_a_function_of_the_notebook_computes(book):
    for name, step in {"chaos": "3.9 * x * (1 - x)", "other": "3.9 * (x * (1 - x))"}.items():
        loop = f"    for _ in range(200):\n        x = {step}"
        run(book, f"def {name}():\n    x = np.linspace(.1, .9, 50, dtype='f')\n{loop}\n    return x")
    code = book.user_ns["chaos"].__code__
    run(book, f"{QUICK} -o r\n%%numpy a\nchaos()\n%%numpy b\nother()")
    found = book.user_ns["r"]["b"].agreement
    assert (found.status, "a rounding of what goes into it" in found.sentence) == ("not compared", True), found.sentence
    assert book.user_ns["chaos"].__code__ is code


def test_what_merely_varies_is_not_said_to_draw(book):
    run(book, "def told(): return uuid.uuid4().int % 997")
    run(book, f"{QUICK} -o r\n%%numpy a\ntold()\n%%numpy b\ntold()")
    words = "not compared value by value: the cell gives something else in every run; "
    assert book.user_ns["r"]["b"].agreement.sentence.startswith(words)


def test_what_only_has_a_method_of_a_generators_name_is_none(shell):
    run(shell, "import types, jax.numpy as jnp\nX, mine = jnp.ones(3), types.ModuleType('mine')")
    run(shell, "class Parser:\n    def get_state(self): return 1\n\nmine.get_state = lambda device: device")
    run(shell, "%%jax --budget 0.05 -o r\nmine\nX.sum() if not isinstance(X, Parser) else X")
    assert shell.user_ns["r"]["jax"].compilation.way == "cell"


LEFT = """
D, L, S, seen = {}, [], set(), []
class Box: pass
o = Box(); o.v = 0
def made():
    n = 0
    def tick():
        nonlocal n; n += 1; return n
    return tick
tick = made()
def stamp(): return time.monotonic()
"""
APART_LEFT = {
    "an entry": ('D["k"] = 1.0', 'D["k"] = 2.0', "D['k']: 1.0 and 2.0"),
    "a text": ('L.append("a")', 'L.append("b")', "L[0]: 'a' and 'b'"),
    "an attribute": ("o.v = 1", "o.v = 2", "o.v: 1 and 2"),
    "a tree": ('D["k"] = {"loss": [1.0, 2.0]}', 'D["k"] = {"loss": [1.0, 3.0]}', "D['k']['loss'][1]: 2.0 and 3.0"),
    "a length": ("L.append(1)", "L.append(1); L.append(2)", "L: 1 and 2 items"),
    "a key": ('D["a"] = 1', 'D["b"] = 1', "missing in b"),
    "a set": ('S.add("a")', 'S.add("b")', "'a' of 1 elements"),
    "a counter": ("tick()", "tick(); tick()", ": 1 and 2"),
    "a number of NumPy": ('D["k"] = np.float32(1)', 'D["k"] = np.float32(2)', "D['k']: 1.0 and 2.0"),
}
ALIKE_LEFT = {
    "the same": ('D["k"] = 1.0', 'D["k"] = 1.0'),
    "a rounding": ('D["k"] = float(x.sum() / 3)', 'D["k"] = float(x.sum() * (1 / 3))'),
    "an address": ('D["i"] = [id([])]', 'D["i"] = [id({}) + 16]'),
    "an address in words": ('D["r"] = repr(Box())', 'D["r"] = repr(o)'),
    "objects without equality": ('D["n"] = Box()', 'D["n"] = Box()'),
    "functions": ("L.append(lambda v: v)", "L.append(lambda v: v * 1)"),
    "both moved": ("o.v += 1; tick()", "o.v += 1; tick()"),
    "a time": ('D["h"] = {"t": stamp()}', 'D["h"] = {"t": stamp()}'),
    "the clock": ('D["t"] = time.time()', 'D["t"] = time.time()'),
    "drawn": ('D["u"] = [uuid.uuid4().hex]', 'D["u"] = [uuid.uuid4().hex]'),
    "one side only": ('D["k"] = 1', "L.append(1)"),
}


@pytest.mark.parametrize(
    ("one", "other", "words"), tiered(APART_LEFT, "an entry", "a text", "an attribute", "a tree", "a key")
)
def test_what_sections_leave_is_compared(book, one, other, words):
    run(book, LEFT)
    run(book, f"{QUICK} -o r\n%%numpy a\n{one}\nx.sum()\n%%numpy b\n{other}\nx.sum()")
    found = book.user_ns["r"]["b"].agreement
    assert (found.status, words in found.sentence) == ("differs", True), found.sentence


@pytest.mark.parametrize(
    ("one", "other"), tiered(ALIKE_LEFT, "a rounding", "an address", "objects without equality", "a time")
)
def test_what_no_two_runs_share_is_no_difference(book, one, other):
    run(book, LEFT)
    run(book, f"{QUICK} -o r\n%%numpy a\n{one}\nx.sum()\n%%numpy b\n{other}\nx.sum()")
    found = book.user_ns["r"]["b"].agreement
    assert found.status == "agrees", found.sentence


def test_texts_of_numbers_of_two_libraries_are_not_compared(book):
    run(book, LEFT)
    run(book, f"{QUICK} -o r\n%%torch a\nL.append(str(t.dtype))\nt.sum()\n%%numpy b\nL.append(str(x.dtype))\nx.sum()")
    assert book.user_ns["r"]["b"].agreement.status == "agrees"


@pytest.mark.parametrize("calls", ["twice(3); twice(4)", "twice(1)"])
def test_what_a_cache_counts_is_no_chance(book, calls):
    run(book, "import functools\n@functools.lru_cache\ndef twice(n): return 2 * n\n_ = twice(1), twice(2)")
    run(book, f"{QUICK} -o r\n%%numpy a\n{calls}\ntwice.cache_info()[:2]\n%%numpy b\n(-1, -1)")
    assert book.user_ns["r"]["b"].agreement.sentence.startswith("a and b differ at Out")
