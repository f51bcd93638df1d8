"""No work is dropped by compiling: cells of which a compiler would do a part only once, or leave it out."""

from __future__ import annotations

import re
import time

import jax
import pytest
import torch
from cells import run
from tiers import QUICK_BACKEND, compiling_with, thinned

QUICK = "--budget 0.1 --no-check"
SETUP = """
import collections, functools, json, math, random, time
from concurrent.futures import ThreadPoolExecutor as Pool
from threading import Event
import numpy as np
import jax, jax.numpy as jnp, torch
X = jnp.asarray(np.random.default_rng(0).standard_normal((64, 64)), jnp.float32)
A = jnp.asarray(np.random.default_rng(1).standard_normal((700, 700)), jnp.float32)
rng = np.random.default_rng(3)
words = [f"w{i % 977}" for i in range(60_000)]
def wave(n): return [math.sin(i) / (1 + i) for i in range(n)]
def noisy(a): return a + np.random.normal(size=200_000).mean()
def drawn(a): return a * rng.uniform()
def rested(a):
    time.sleep(0.005)
    return a + 1
def stamped(a): return a * (time.perf_counter() > 0)
def spectrum(n): return float(np.linalg.eigvalsh(np.diag(np.arange(n, dtype=float))).max())
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def loses(a):
    gram = a @ a.T
    cube = gram @ a
    return a.sum()
class Bag: pass
"""


@pytest.fixture
def notebook(shell):
    run(shell, SETUP)
    return shell


def plain_seconds(shell, text, clock=time.perf_counter, calls=20):
    """Return the least seconds of a warm plain run, of several from the same names."""
    code = compile(text, "plain", "exec")
    samples = []
    for _ in range(calls):
        namespace = dict(shell.user_ns)
        start = clock()
        exec(code, namespace)
        jax.block_until_ready([value for value in namespace.values() if isinstance(value, jax.Array)])
        samples.append(clock() - start)
    return min(samples)


def only(shell):
    (variant,) = shell.user_ns["r"]
    return variant


class TestDoneOnce:
    """What a trace would do once, and a compiled program never again."""

    @pytest.mark.parametrize(
        ("text", "line", "said"),
        thinned(
            [
                ("time.sleep(0.005)\ny = (X * 2).sum()", 2, "`time.sleep` waits"),
                ("y = X * 2\ny = rested(y).sum()", 3, "`time.sleep` waits"),
                ("Event().wait(0.005)\ny = (X * 2).sum()", 2, "`Event.wait` waits"),
                (
                    "with Pool(2) as p: t = list(p.map(len, words))\n(X * t[3]).sum()",
                    2,
                    "",
                ),  # starts threads, and waits
                ("y = noisy(X)\ny.std()", 2, "draws random numbers"),
                ("y = X + 1\nz = drawn(y).sum()", None, "draws random numbers"),
                ("y = stamped(X).sum()", 2, "`time.perf_counter` reads the clock"),
                (
                    "t = [math.sin(i) / (1 + i) for i in range(20_000)]\n(X * t[3]).sum()",
                    2,
                    "`math.sin` (20,000 calls)",
                ),
                ("y = X[0] * 2\n(y * wave(20_000)[5]).sum()", 3, "`math.sin` (20,000 calls)"),
                ("s = 0.0\nfor i in range(20_000):\n    s += (i % 7) * 0.5\n(X * s).sum()", 3, "Python code"),
                ("top = spectrum(150)\n(X * top).sum()", 2, "outside of JAX"),
                ("n = fib(17)\n(X + n).sum()", 2, "`fib`"),
                ("c = collections.Counter(words)\n(X * c['w1']).sum()", 2, "outside of JAX"),
                ("n = len(json.dumps(words))\n(X * n).sum()", 2, "outside of JAX"),
                ("s = sorted(words)[0]\n(X * len(s)).sum()", 2, "`sorted`"),
                ("g = np.sin(np.arange(300_000.0)).sum()\n(X * g).sum()", 2, "outside of JAX"),
            ],
            2,
        ),
    )
    def test_is_done_in_every_call(self, notebook, text, line, said):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        variant = only(notebook)
        assert variant.compilation.way != "cell"
        assert said in variant.compilation.reason
        assert "once and never again" in variant.compilation.reason
        assert not re.search(r"\d [nµm]?s\b", variant.compilation.reason)  # under a profiler, it takes longer
        assert variant.compilation.line == line or line is None
        # Of this thread alone: what other processes take makes only the time that is reported longer.
        assert variant.time.median > 0.4 * plain_seconds(notebook, text, clock=time.thread_time)
        assert variant.time.median >= 0.005 or "waits" not in said

    @pytest.mark.parametrize(
        ("magic", "turn"),
        [
            ("torch", "y = y * 0.9 + len(collections.Counter(words[60 * i : 60 * i + 60]))"),
            ("jax", "y = y * 0.9 + len(collections.Counter(words[60 * i : 60 * i + 60]))"),
            ("jax", "s = 0.0\n    for j in range(60):\n        s += math.cos(i * j)\n    y = y - s * y"),
        ],
        ids=["library-torch", "library-jax", "loop"],
    )
    def test_so_is_a_little_in_each_turn_of_a_loop_that_calls_the_framework(self, notebook, magic, turn):
        run(notebook, "row = X[0]" if magic == "jax" else "row = torch.from_numpy(np.array(X[0]))")
        text = f"y = row\nfor i in range(30):\n    {turn}\ny.sum()"
        run(notebook, f"%%{magic} {QUICK} -o r\n{text}")
        assert only(notebook).compilation.way != "cell"
        assert "once and never again" in only(notebook).compilation.reason

    @pytest.mark.parametrize("call", ["rested", "noisy", "drawn", "stamped"])
    def test_neither_is_a_function_compiled_that_does_it(self, notebook, call):
        text = f"y = X * 2\nif y.sum() > -1e9:\n    y = {call}(y)\ny.sum()"
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        assert only(notebook).compilation.way == "eager"

    def test_another_function_that_the_cell_calls_is_compiled(self, notebook):
        run(notebook, "def chain(a):\n    for _ in range(20):\n        a = jnp.tanh(a @ a)\n    return a")
        run(notebook, f"%%jax {QUICK} -o r\ny = chain(X)\nz = rested(y).sum()")
        assert (only(notebook).compilation.way, only(notebook).compilation.compiled) == ("functions", ("chain",))

    @pytest.mark.parametrize(
        "text",
        thinned(
            [
                "jnp.tanh(X @ X).sum()",
                "y = X\nfor i in range(30):\n    y = jnp.sin(y) + i\ny.sum()",
                "jax.grad(lambda w: jnp.mean(jnp.tanh(w @ X) ** 2))(X)",
                "jax.vmap(lambda row: jnp.dot(row, row))(X).sum()",
                "jax.lax.scan(lambda c, row: (c + row, c.sum()), X[0], X)[1]",
                "out = {f'k{i}': X * i for i in range(8)}\njax.tree.map(jnp.sum, out)",
                "from jax import random\na, b = random.split(random.key(0))\nrandom.normal(a, (8,)) + X[0, :8]",
                "k = jax.random.key(0)\na, b = jax.random.split(k)\n(jax.random.normal(a, (8,)) + X[0, :8]).sum()",
                "u, s, v = jnp.linalg.svd(X)\ns[:3]",
                "scale = 1 / math.sqrt(X.shape[0])\njax.nn.softmax(X @ X.T * scale, axis=-1)",
                "text = ', '.join(str(d) for d in X.shape)\nX.reshape(-1).sum()",
                "layers = [X, X + 1]\nh = X[0]\nfor w in layers:\n    h = jax.nn.relu(w @ h)\nh",
            ],
            2,
        ),
    )
    def test_what_a_trace_is_for_is_compiled(self, notebook, text):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        assert only(notebook).compilation.way == "cell", only(notebook).compilation.reason


class TestLeftOut:
    """What a compiler would leave out, since nothing reads it."""

    @pytest.mark.parametrize(
        ("text", "lines"),
        thinned(
            [
                ("p = {}\np['g'] = A @ A.T\np['c'] = p['g'] @ A\np['m'] = A.mean()\np['m']", "4"),
                ("p = {'g': A @ A.T, 'm': A.mean()}\np['m']", "2"),
                ("p = [A @ A.T, A.mean()]\np[1]", "2"),
                ("for i in range(3):\n    y = A @ (A * i)", "3"),
                ("A @ A\nA.sum()", "2"),
                ("A.at[0].set(1.0) @ A\ny = A.sum()", "2"),
                ("A.dot(A)\ny = A.sum()", "2"),
                ("loses(A)", "2"),
                ("y = A @ A\ny = A.sum()", "2"),
                ("b = Bag()\nb.g = A @ A\nb.g = None\ny = A.sum()", "3"),
                ("_, y = A @ A, A.sum()\n_ = 0\ny", "2"),
                ("f = lambda a: (a @ a, a.sum())\ny = f(A)[1]", "2"),
                ("try:\n    A @ A\nfinally:\n    y = A.sum()", "3"),
            ],
            2,
        ),
    )
    def test_is_computed_all_the_same(self, notebook, text, lines):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        compilation = only(notebook).compilation
        assert compilation.way == "cell"
        assert f"what nothing reads is computed, too (line {lines})" in compilation.reason
        assert only(notebook).time.median > 0.3 * plain_seconds(notebook, text)

    def test_so_it_is_in_a_function_that_is_compiled_in_place(self, notebook):
        text = "y = loses(A)\nif y > -1e9:\n    y = y + 1\ny"
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        assert only(notebook).compilation.way == "functions"
        assert only(notebook).time.median > 0.3 * plain_seconds(notebook, text)

    @pytest.mark.parametrize(
        "text",
        thinned(
            [
                "jax.grad(lambda w: jnp.sum(jnp.sin(w)))(X)",
                "jax.value_and_grad(lambda w: jnp.sum(jnp.sin(w) ** 2))(X)[1]",
                "h = X @ X\nh = jnp.tanh(h)\nh.sum()",
                "p = {'a': X * 2}\np['a'] = p['a'] + 1\np['a']",
            ],
            2,
        ),
    )
    def test_what_differentiation_leaves_over_is_not_meant(self, notebook, text):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        assert only(notebook).compilation.reason == "the whole body is one compiled function"


class TestTheSameAgain:
    """What the text computes twice with the same inputs, and a compiler once, is named."""

    @pytest.mark.parametrize(
        ("text", "line", "least"),
        thinned(
            [
                ("for _ in range(10):\n    y = A @ A", 3, "90 %"),
                ("y = [A @ A for _ in range(4)]\nsum(y)", 2, "7"),
                ("def f(a): return jnp.tanh(a @ a)\ny = f(A) + f(A)", 2, "49 %"),
                ("y = A @ A\nz = jnp.sin(A @ A)", 3, "4"),
                ("jnp.linalg.svd(X)[1] + jnp.linalg.svd(X)[1]", 2, "50 %"),
                ("b = A + 1\nc = A + 1\n(b @ b) - (c @ c)", None, "4"),
            ],
            2,
        ),
    )
    def test_with_its_share(self, notebook, text, line, least):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        (finding,) = (one for one in notebook.user_ns["r"].findings if one.code == "FW104")
        assert "computes what was computed before" in finding.sentence
        assert f"({least}" in finding.sentence
        assert finding.line == line or line is None

    @pytest.mark.parametrize(
        "text",
        thinned(
            [
                "u, s, v = jnp.linalg.svd(X)\na = X + 1\nb = X + 1\nu, s, v, a, b",
                "y = A\nfor _ in range(3):\n    y = y @ A / 100\ny",
                "jax.value_and_grad(lambda w: jnp.sum((w @ A) ** 2))(A)",
                "y = (A @ A) + (A @ A.T)",
                "w, v = jnp.linalg.eigh(X @ X.T)\nX[:9] + 1, X[:9] + 1, w",
                "[A[:2] + k for k in range(9)], A @ A",
                "h = X[0]\nfor k in range(12):\n    h = jnp.tanh(h @ A[:64, :64] + X[k])\nh",
                "P = jnp.stack([X] * 3)\nh = X[0]\nfor k in range(12):\n    h = jnp.tanh(h @ P[0] + X[k])\nh",
                "jnp.sort(X), X + 1, X + 1",
                "jnp.fft.fft2(X), X.sum(), X.sum()",
                "jnp.linalg.cholesky(X @ X.T + jnp.eye(64)), jnp.linalg.qr(X), X * 2, X * 2",
                "jax.lax.while_loop(lambda s: s.sum() < 1e6, lambda s: s * s + 1, X), X * 2, X * 2",
                "from jax import random\na, b = random.split(random.key(0))\nrandom.normal(a, (8,)) + X[0, :8]",
                "k = jax.random.key(0)\na, b = jax.random.split(k)\nn = jax.random.normal\nn(a, (300,)) + n(b, (300,))",
            ],
            2,
        ),
    )
    def test_nothing_is_said_of_other_work(self, notebook, text):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        assert "FW104" not in {one.code for one in notebook.user_ns["r"].findings}


class TestTorch:
    """Of a cell that `torch.compile` compiles, what it leaves out, or does once, is named with its share."""

    SETUP = """
import contextlib, torch
x, flag = torch.rand(200, 200), True
net = torch.nn.Sequential(torch.nn.Linear(200, 200), torch.nn.ReLU(), torch.nn.LayerNorm(200))
def heavy(v):
    for _ in range(4):
        v = torch.tanh(v @ v)
    return v
class Runs:
    def run(self, v): return heavy(v)
obj = Runs()
def pair(v): return v[0].sum(), heavy(v)
"""

    @pytest.fixture(autouse=True)
    def one_thread(self):
        """Several would wait for each other where others use the machine: longer than a body is looked at."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    def found(self, shell, text):
        run(shell, self.SETUP)
        with compiling_with(QUICK_BACKEND):  # what is left out is found in the plain run
            run(shell, f"%%torch {QUICK} -o r\n{text}")
        report = shell.user_ns["r"]
        return report["torch"], [one for one in report.findings if one.code == "FW104"]

    @pytest.mark.parametrize(
        ("text", "line"),
        thinned(
            [
                ("for _ in range(3):\n    obj.run(x)\ns = x[0].sum()", 3),
                ("y = heavy(x)\ndel y\ns = x[0].sum()", 2),
                ("a, b = heavy(x), x[0]\na = b\na.sum()", 2),
                ("[heavy(x) for _ in range(3)]\ns = x[0].sum()", 2),
                ("if flag:\n    y = heavy(x)\ny = x[0]\ny.sum()", 3),
                ("with contextlib.nullcontext():\n    t = heavy(x)\n    t = x[0]\nt.sum()", 3),
                ("s = pair(x)[0]", 2),
                ("d = dict(y=heavy(x), s=x[0].sum())\nd['s']", 2),
            ],
            3,
        ),
    )
    def test_what_nothing_reads_is_named_and_no_verdict_is_given(self, shell, text, line):
        variant, (finding,) = self.found(shell, text)
        assert "is not read, so that the compiler leaves it out (" in finding.sentence
        assert finding.line == line
        assert variant.compilation.way == "cell"

    @pytest.mark.parametrize(
        "text", ["h = {}\nh['a'] = heavy(x); h['b'] = x[0].sum()\nh['b']", "y = heavy(x)\nid(y) > 0"]
    )
    def test_what_is_computed_all_the_same_is_not_named(self, shell, text):
        variant, found = self.found(shell, text)
        assert (variant.compilation.way, found) == ("cell", [])

    @pytest.mark.parametrize(
        "text", ["ys = [heavy(x) for _ in range(4)]", "t = 0\nfor _ in range(4):\n    t = t + heavy(x)\nt"]
    )
    def test_what_is_computed_again_is_named(self, shell, text):
        _, (finding,) = self.found(shell, text)
        assert "computes what was computed before, which a compiler does once (" in finding.sentence

    @pytest.mark.parametrize(
        "text",
        thinned(
            [
                "w.data = heavy(x)\nw.sum()",
                "for i, p in enumerate(net.parameters()):\n    p.data = heavy(x + i)[:, 0] * p.data\nw.sum()",
                "w.set_(heavy(x))\nw.sum()",
                "w.grad = heavy(x)\nx[0].sum()",
                "w.grad = heavy(x).clone()\nw.grad.copy_(heavy(x + 1))\nx[0].sum()",
                "net[0].weight = torch.nn.Parameter(heavy(x))\nx[0].sum()",
                "net.load_state_dict({**net.state_dict(), '0.weight': heavy(x)}, assign=True)\nx[0].sum()",
                "net.register_buffer('kept', heavy(x))\nx[0].sum()",
                "optimizer.state[net[0].weight]['momentum_buffer'] = heavy(x)\nx[0].sum()",
                "w.untyped_storage().copy_(heavy(x).untyped_storage())\nw.sum()",
                "view[:] = heavy(x).numpy()\nw.sum()",
                "torch.tanh(heavy(x), out=w)\nx[0].sum()",
                "torch.utils.swap_tensors(w, heavy(x))\nw.sum()",
                "k = heavy(x).sum().item()\nx[0].sum() * k",
                "k = heavy(x)[0].tolist()[0]\nx[0].sum() * k",
                "held[0] = heavy(x)\nx[0].sum()",
            ],
            4,
        ),
    )
    def test_what_is_written_in_other_ways_than_by_an_operation_is_read(self, shell, text):
        run(
            shell,
            f"{self.SETUP}\nw = torch.rand(200, 200)\nview, held = w.numpy(), [None]\n"
            "optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)",
        )
        _, findings = self.found(shell, text)
        assert findings == []

    def test_what_is_not_read_is_named_beside_what_is_written(self, shell):
        run(shell, "import torch\nw = torch.rand(200, 200)")
        _, (finding,) = self.found(shell, "w.data = heavy(w) + 1\nheavy(x + 1)\nw.sum()")
        assert finding.line == 3

    @pytest.mark.parametrize("text", ["y = heavy(x)\ny.shape", "y = heavy(x)\nassert y.shape == x.shape\nlen(y)"])
    def test_what_only_its_shape_is_asked_of_is_a_result(self, shell, text):
        variant, findings = self.found(shell, text)
        assert "y" in variant.returned
        assert findings == []

    @pytest.mark.parametrize(
        "text",
        thinned(
            [
                "h = net(x)\nloss = h.pow(2).mean()\nloss",
                "a = x @ x\nb = a + 1\na * b",
                "y = x\nfor _ in range(4):\n    y = y @ x / 100\ny",
                "y = x.clone()\ny[0] = 0\ny[1] += 1\ny.sum()",
                "a, b = x.chunk(2)\ntorch.tanh(a @ x) + torch.tanh(b @ x)",
                "a, b = x.max(0)\na.float().exp() + b.float().exp()",
                "torch.dropout(x, 0.5, True) + torch.dropout(x, 0.5, True)",
                "x.std(), x.max(0), x.sort()[0]",
            ],
            2,
        ),
    )
    def test_nothing_is_said_of_other_work(self, shell, text):
        _, findings = self.found(shell, text)
        assert findings == []

    @pytest.mark.parametrize(
        "text", ["y = norm(x)\ny.sum()", "h = torch.func.hessian(lambda v: (v**3).sum())(x[0, :50])\nh"]
    )
    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
    def test_nothing_is_said_of_what_a_library_does_besides(self, shell, text):
        run(shell, "import torch\nnorm = torch.nn.BatchNorm1d(200)")
        _, findings = self.found(shell, text)
        assert findings == []


class TestLoops:
    """A loop is unrolled as the user's own `jax.jit` would, up to so many operations, and without a cliff."""

    @pytest.mark.parametrize(
        "loop",
        thinned(
            [
                "for _ in range(40):",
                "for _ in tqdm(range(40)):",
                "for _ in trange(40, desc='steps'):",
                "for _, _ in enumerate(tqdm(range(40))):",
                "for _ in [None] * 40:",
                "n = 0\nwhile (n := n + 1) <= 40:",
                "for _ in range(8):\n  for _ in range(5):",
            ],
            2,
        ),
    )
    def test_is_one_program_however_it_is_written(self, notebook, loop):
        run(notebook, "from tqdm.auto import tqdm, trange")
        indent = "    " if "\n  for" in loop else "  "
        run(notebook, f"%%jax --budget 0.1 -o r\nh = X\n{loop}\n{indent}h = jnp.sin(h)\nh")
        found = only(notebook)
        assert found.compilation.way == "cell", found.compilation.reason
        assert found.agreement.status == "agrees"
        codes = {finding.code for finding in notebook.user_ns["r"].findings}
        assert ("FW105" in codes) is ("tqdm" in loop.split("enumerate(")[0] or "trange" in loop)

    def test_two_hundred_steps_take_what_the_users_own_jit_takes(self, notebook):
        run(notebook, "w = X[:16, :16] / 4\ndef layer(h): return jnp.sin(w * h)")
        text = "h = X[:16, :16]\nfor _ in range(200):\n    h = layer(h)\nh"
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        run(
            notebook, "own = jax.jit(lambda h: functools.reduce(lambda h, _: layer(h), range(200), h))\ng = X[:16, :16]"
        )
        assert only(notebook).time.median < 2 * plain_seconds(notebook, "out = own(g)")

    @pytest.mark.parametrize("loop", ["for _ in range(2000):", "n = 0\nwhile (n := n + 1) < 2000:"])
    def test_a_very_long_one_stays_python(self, notebook, loop):
        run(notebook, "def layer(h): return jnp.sin(h)")
        run(
            notebook,
            f"%%jax {QUICK} -o r\nh = X[0]\n{loop}\n    try:\n        h = layer(h)\n    except Exception: pass\nh",
        )
        compilation = only(notebook).compilation
        assert (compilation.way, compilation.line) == ("functions", 3 if "for" in loop else 4)
        assert "more than 1,000 operations" in compilation.reason

    def test_a_bar_of_a_loop_that_runs_as_python_is_part_of_its_time(self, notebook, capsys):
        run(notebook, "from tqdm.auto import tqdm")
        text = "s = 0.0\nfor i in tqdm(range(3)):\n    s += float(X[i, 0])\nX * s"
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        (finding,) = (one for one in notebook.user_ns["r"].findings if one.code == "FW105")
        assert (finding.line, "is a part of its time" in finding.sentence) == (3, True)
        assert capsys.readouterr().err.count("3/3") <= 2


class TestSpent:
    """The compile time that is told is all that was spent."""

    def test_a_way_that_failed_before_is_a_stage(self, notebook):
        text = "y = X\nfor _ in range(150):\n    y = jnp.sin(y)\nz = loses(y)\nif z > -1e9:\n    z = z + 1\nz"
        start = time.perf_counter()
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        whole = time.perf_counter() - start
        compilation = only(notebook).compilation
        stages = {stage.name: stage.seconds for stage in compilation.stages}
        assert compilation.way == "functions"
        assert list(stages)[:2] == ["prime", "tried before"]
        assert 0.01 < stages["tried before"] < whole

    def test_so_it_is_where_nothing_was_compiled_in_the_end(self, notebook):
        text = "y = X\nfor _ in range(150):\n    y = jnp.sin(y)\nif y.sum() > 1e9:\n    y = y + 1\ny"
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        stages = {stage.name: stage.seconds for stage in only(notebook).compilation.stages}
        assert only(notebook).compilation.way == "eager"
        assert stages["tried before"] > 0.01
        assert "(in vain)" in notebook.user_ns["r"].to_markdown()


def test_more_names_than_eight_are_told_apart(notebook):
    text = "a = X + 1; b = X * 2; c = X - 3\nd = jnp.exp(X); e = jnp.sin(X); f = jnp.cos(X)"
    text += "\ng = jnp.abs(X); h = jnp.tanh(X); i = jnp.square(X); j = -X"
    run(notebook, f"%%jax --budget 0.1 -o r\n{text}")
    assert (only(notebook).compilation.way, only(notebook).agreement.status) == ("cell", "agrees")


def test_print_in_a_function_that_is_traced_is_told(notebook):
    run(notebook, "def loud(a):\n    print('loud')\n    return a * 2")
    run(notebook, f"%%jax {QUICK} -o r\ny = X + 1\nloud(y)")
    (finding,) = (one for one in notebook.user_ns["r"].findings if one.code == "FW103")
    assert finding.line == 3


def test_sixteen_bits_on_the_way_to_more_are_no_difference(shell, idle):
    run(shell, "import jax, jax.numpy as jnp\nX = jax.random.normal(jax.random.key(0), (300, 300))")
    text = "h = X.astype(jnp.bfloat16)\n(h @ h).astype(jnp.float32).sum()"
    run(shell, f"%%jax --budget 0.1 --no-memory -o r\n{text}")
    (variant,) = shell.user_ns["r"]
    assert (variant.compilation.way, variant.agreement.status) == ("cell", "agrees"), variant.agreement.sentence
