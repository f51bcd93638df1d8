"""What the user compiled is timed as it is written: where a compiled object is called, not where one is mentioned."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from cells import run
from scenes import notebook
from tiers import QUICK_BACKEND, compiling_with, thinned

from fwmagic.cells.yours import yours

QUICK = "--budget 0.1"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is one
JAX = """
import functools
from functools import partial
from jax import jit
from flax import nnx
x = jnp.ones(8)
f = lambda v: v * 2 + 1
step = jax.jit(f)
sine = jax.jit(jnp.sin)
fns = [step, sine]
table = {"step": step}
ready = step.lower(x).compile()
def loop(v): return step(step(v))
def makes(v): return jax.jit(f)(v)
def builds(): return jax.jit(f)
def holds(v):
    g = jax.jit(f)
    return g(v)
def drops(v):
    v2 = jax.jit(f)
    return v * 3
def closed(g):
    def inner(v): return g(v)
    return inner
inside = closed(step)
half = partial(step)
@partial(jax.jit, static_argnums=1)
def power(v, n): return v ** n
class Trainer:
    def __init__(self): self._step = jax.jit(f); self.other = 1
    def fit(self, v): return self._step(v)
    def size(self): return self.other
    @jax.jit
    def fixed(v): return v - 1
    def load(self): self = jax.jit(f)
trainer = Trainer()
class Net(nnx.Module):
    def __init__(self): self.w = nnx.Param(jnp.ones(8))
net = Net()
nstep = nnx.jit(lambda m, v: v * m.w[...])
"""
TORCH = """
x = torch.ones(8)
def f(v): return v * 2 + 1
fast = torch.compile(f)
net = torch.nn.Linear(8, 2)
quick = torch.compile(net)
own = torch.nn.Linear(8, 2)
own.compile()
scripted = torch.jit.script(f)
outer = torch.nn.Sequential(quick)
@torch.compiler.disable
def plain(v): return v * 2
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(8, 8)
    def load(self, compile=False):
        if compile:
            self = torch.compile(self)
    def forward(self, v): return self.body(v)
model = Model()
class Trainer:
    def __init__(self): self.net = torch.nn.Linear(8, 8)
    def compile(self): pass
    def fit(self, v):
        local = self.net
        local.compile()
        return local(v)
trainer = Trainer()
"""


def found(framework, text):
    scene = notebook(framework, {"jax": JAX, "torch": TORCH}[framework]).scene(text)
    scene.overlay.on()
    try:
        return yours(scene)
    finally:
        scene.overlay.off()


@pytest.mark.parametrize(
    ("framework", "text", "line", "said"),
    thinned(
        [
            ("jax", "y = x + 1\nstep(y)", 3, "calls `step`, which is compiled already"),
            ("jax", "sine(x)", 2, "`sine`"),
            ("jax", "power(x, 3)", 2, "`power`"),
            ("jax", "half(x)", 2, "compiled already"),
            ("jax", "y = x\nloop(y)", 3, "`step`"),
            ("jax", "inside(x)", None, "compiled already"),
            ("jax", "for g in fns:\n    x = g(x)", 2, "compiled already"),
            ("jax", "table['step'](x)", 2, "compiled already"),
            ("jax", "ready(x)", 2, "`ready`"),
            ("jax", "jax.vmap(step)(x)", 2, "`step`"),
            ("jax", "trainer.fit(x)", None, "compiled already"),
            ("jax", "Trainer.fixed(x)", 2, "compiled already"),
            ("jax", "nstep(net, x)", 2, "`nstep`"),
            ("jax", "g = step\ng(x)", 2, "`step`"),
            ("jax", "jax.jit(f)(x)", 2, "calls what it makes by `jax.jit`"),
            ("jax", "jit(lambda v: v + 1)(x)", 2, "by `jit`"),
            ("jax", "g = jax.jit(f)\ny = g(x)", 2, "by `jax.jit`"),
            ("jax", "@jax.jit\ndef g(v): return v + 1\ng(x)", 2, "`jax.jit`"),
            ("jax", "@partial(jax.jit, static_argnums=1)\ndef g(v, n): return v + n\ng(x, 2)", 2, "`jax.jit`"),
            ("jax", "partial(jax.jit, inline=True)(f)(x)", 2, "`jax.jit`"),
            ("jax", "for _ in range(3):\n    x = jax.jit(f)(x)", 3, "`jax.jit`"),
            ("jax", "makes(x)", 2, "`makes` calls what it makes by `jax.jit`"),
            ("jax", "holds(x)", 2, "`holds` calls"),
            ("jax", "builds()(x)", 2, "`builds`"),
            ("jax", "list(map(jax.jit(f), [x, x]))", 2, "`jax.jit`"),
            ("torch", "fast(x)", 2, "`fast`"),
            ("torch", "y = quick(x)", 2, "`quick`"),
            ("torch", "own(x)", 2, "`own`"),
            ("torch", "scripted(x)", 2, "`scripted`"),
            ("torch", "outer(x)", 2, "compiled already"),
            ("torch", "model = torch.compile(net)\nmodel(x)", 2, "`torch.compile`"),
            ("torch", "torch.compile(fullgraph=True)(f)(x)", 2, "`torch.compile`"),
            ("torch", "net.compile()\nnet(x)", 2, "`net.compile`"),
            ("torch", "model.body.compile()\nmodel(x)", 2, "`model.body.compile`"),
            ("torch", "trainer.net.compile()\ntrainer.net(x)", 2, "`trainer.net.compile`"),
            ("torch", "m = Model()\nm.compile(backend='eager')\ny = m(x)", 3, "`m.compile`"),
            ("torch", "trainer.fit(x)", None, "`fit` calls what it makes by `local.compile`"),
        ],
        2,
    ),
)
def test_a_compiled_object_is_called(framework, text, line, said):
    called = found(framework, text).called
    assert called is not None
    assert said in called.reason
    assert called.line == line or line is None


@pytest.mark.parametrize(
    ("framework", "text"),
    thinned(
        [
            *(
                ("jax", text)
                for text in (
                    "f(x)",
                    "jnp.sin(x)",
                    "jax.nn.relu(x)",
                    "g = jax.jit(f)",
                    "step = jax.jit(f)",
                    "step\nx + 1",
                )
            ),
            *(
                ("jax", text)
                for text in ("trainer.size()\nx * 2", "drops(x)", "# jax.jit\nx + 1", "trainer.load()\nx + 1")
            ),
            *(("torch", text) for text in ("f(x)", "net(x)", "plain(x)", "model(x)", "torch.compile(net)\nnet(x)")),
            *(("torch", text) for text in ("model.load(True)\nmodel(x)", "quick\nnet(x)", "y = x * 2")),
            *(("torch", text) for text in ("net.compile()\nf(x)", "trainer.compile()\ntrainer.net(x)", "net(x).sum()")),
            ("torch", "import re\nre.compile('x')\nre.split('x', 'axb')"),
        ],
        2,
    ),
)
def test_a_mention_is_not_enough(framework, text):
    assert found(framework, text).called is None


def test_nor_is_what_a_name_held_before_the_cell_binds_it_anew():
    assert found("jax", "step = abs\nstep(x)").called is None


@pytest.mark.parametrize(
    ("framework", "text", "line"),
    thinned(
        [
            ("jax", "y = x\njax.jit(f)\nf(y)", 3),
            ("jax", "drops(x)", 2),
            ("jax", "trainer.load()\nx + 1", None),
            ("torch", "m = Model()\ntorch.compile(m)\nm(x)", 3),
            ("torch", "model.load(True)\nmodel(x)", None),
        ],
        2,
    ),
)
def test_what_is_compiled_for_nothing(framework, text, line):
    dropped = found(framework, text).dropped
    assert "returns is dropped" in dropped.reason
    assert dropped.line == line or line is None


@pytest.mark.parametrize("text", ["g = jax.jit(f)", "step(x)", "jax.jit(f)(x)", "x + 1"])
def test_nothing_is_dropped(text):
    assert found("jax", text).dropped is None


class TestReport:
    def test_as_it_is_written_and_what_it_takes_as_one_program(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.ones(8)\nstep = jax.jit(lambda v: v * 2)")
        run(shell, "%%jax --budget 1 --no-check -o r\ny = x\nfor _ in range(40):\n    y = step(y)\ny")
        report = shell.user_ns["r"]
        assert (report["jax"].compilation.way, report["jax"].compilation.line) == ("yours", 4)
        (finding,) = (one for one in report.findings if one.code == "FW203")
        assert "the whole section as one compiled program takes 0." in finding.sentence

    @pytest.mark.parametrize(
        ("text", "way"), [("mine.fast(x)", "yours"), ("mine.twice(x)", "yours"), ("mine.other(x)", "cell")]
    )
    def test_so_is_what_a_module_of_the_users_compiled(self, shell, text, way, tmp_path, monkeypatch):
        functions = "def plain(v): return v * 2\ndef twice(v): return fast(fast(v))\ndef other(v): return v + 1"
        (tmp_path / "mine.py").write_text(f"import jax\n{functions}\nfast = jax.jit(plain)")
        monkeypatch.syspath_prepend(str(tmp_path))
        run(shell, "import mine, jax.numpy as jnp\nx = jnp.ones(8)")
        run(shell, f"%%jax {QUICK} -o r\ny = x + 1\n{text}")
        del sys.modules["mine"]
        compilation = shell.user_ns["r"]["jax"].compilation
        assert (compilation.way, compilation.line) == (way, 3 if way == "yours" else None)

    def test_so_it_is_in_torch(self, shell):
        with compiling_with(QUICK_BACKEND):
            run(shell, "import torch\nx = torch.ones(8)\nstep = torch.compile(lambda v: v * 2)\nstep(x)")
            run(shell, "%%torch --budget 1 --no-check -o r\ny = x\nfor _ in range(40):\n    y = step(y)\ny")
            report = shell.user_ns["r"]
            assert (report["torch"].compilation.way, report["torch"].compilation.line) == ("yours", 4)
            (finding,) = (one for one in report.findings if one.code == "FW203")
            assert "the whole section as one compiled program takes 0." in finding.sentence
            # Nobody asked for it, and so many operations take long to compile.
            run(shell, "%%torch --budget 1 --no-check -o r\ny = x\nfor _ in range(101):\n    y = step(y)\ny")
        assert "FW203" not in {finding.code for finding in shell.user_ns["r"].findings}

    def test_a_jit_in_every_call_takes_as_long_as_that(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.ones(8)\ndef made(v): return jax.jit(lambda u: u * 2)(v)")
        run(shell, f"%%jax {QUICK} -o r\nmade(x)")
        report = shell.user_ns["r"]
        assert report["jax"].compilation.way == "yours"
        assert report["jax"].time.median > 2e-3
        assert "FW201" in {finding.code for finding in report.findings}

    @pytest.mark.parametrize(("mode", "way"), [("eager", "eager"), ("compiled", "cell")])
    def test_another_mode_is_what_was_asked(self, shell, mode, way):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.ones(8)\nstep = jax.jit(lambda v: v * 2)")
        run(shell, f"%%jax {QUICK} --mode {mode} -o r\nstep(x)")
        assert shell.user_ns["r"]["jax"].compilation.way == way

    def test_one_that_is_dropped_is_no_compilation_and_is_said(self, shell):
        shell.user_ns["torch"] = torch
        run(shell, "net = torch.nn.Linear(4, 4)\nx = torch.ones(2, 4)")
        with compiling_with(QUICK_BACKEND):
            run(shell, f"%%torch {QUICK} -o r\ntorch.compile(net)\nnet(x)")
        report = shell.user_ns["r"]
        assert report["torch"].compilation.way != "yours"
        assert "FW204" in {finding.code for finding in report.findings}

    def test_sections_that_were_compiled_in_different_ways(self, shell, idle):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.ones(8)")
        text = "y = x\nfor i in range(10):\n    y = jnp.sin(y) + i\ny"
        other = "y = x\nfor i in iter(range(10)):\n    y = jnp.sin(y) + i\n    if y.sum() > 1e9: break\ny"
        run(shell, f"%%compare --budget 1 --no-check -o r\n%%jax whole\n{text}\n%%jax python\n{other}")
        (finding,) = (one for one in shell.user_ns["r"].findings if one.code == "FW205")
        assert finding.sentence.startswith("whole is one compiled program, and python stays Python (line 11); ")
        assert "run as Python, whole takes" in finding.sentence

    @pytest.mark.parametrize(("draws", "slower"), [(100, True), (0, False)])
    def test_a_cell_that_takes_longer_compiled_than_as_python(self, shell, idle, draws, slower):
        run(shell, "import torch, random\nx, draw = torch.arange(8.0), random.Random(0)\ng = torch.ones(300, 300)")
        text = "\n".join([*["draw.random()"] * draws, "x.sum()"]) if slower else "torch.sin(g) + torch.cos(g) + 1"
        with compiling_with(QUICK_BACKEND if slower else "inductor"):
            run(shell, f"%%torch --budget 0.5 -o r\n{text}")
        found = [one.sentence for one in shell.user_ns["r"].findings if one.code == "FW206"]
        assert bool(found) == slower, shell.user_ns["r"].details()
        assert all(re.match(r"torch takes [\d.]+x as long compiled as it does as Python", one) for one in found)

    def test_so_does_one_of_which_the_modules_are_compiled(self, shell, idle):
        run(shell, "import torch\nnet, v = torch.nn.Linear(4, 4), torch.ones(2, 4)")
        with compiling_with(QUICK_BACKEND):
            run(shell, "%%torch --budget 0.5 -o r\nfor _ in range(9):\n    y = net(v)\ny.sum().backward()")
        report = shell.user_ns["r"]
        assert report["torch"].compilation.way == "modules"
        assert "FW206" in {one.code for one in report.findings}, report.details()

    def test_a_torch_section_that_trains_has_no_other_way(self, shell, idle):
        text = "import torch, jax, jax.numpy as jnp\nx, v = torch.ones(4, 8), jnp.ones(8)\nnet = torch.nn.Linear(8, 2)"
        run(shell, f"{text}\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\ndef train(): net(x).sum().backward()")
        with compiling_with(QUICK_BACKEND):
            for section in ("net(x).sum().backward()\nopt.step()", "train()"):
                run(shell, f"%%compare {QUICK} -o r\n%%torch\n{section}\n%%jax\njnp.sin(v)")
                report = shell.user_ns["r"]
                assert [variant.compilation.way for variant in report] == ["modules", "cell"]
                assert "FW205" not in {finding.code for finding in report.findings}

    def test_every_call_finds_the_state_of_the_first_whatever_another_program_changes(self, shell):
        run(shell, "import functools, jax, jax.numpy as jnp\nx, state = jnp.ones(8), {'n': 0}")
        run(shell, "@functools.partial(jax.jit, static_argnums=1)\ndef power(v, n): return v ** n")
        run(shell, "def bump(v):\n    state['n'] += 1\n    return power(v, state['n'])")
        run(shell, f"%%jax {QUICK} -o r\nbump(x)")
        report = shell.user_ns["r"]
        assert (report["jax"].compilation.way, report["jax"].compilation.line) == ("yours", 2)
        assert "FW201" not in {finding.code for finding in report.findings}
        assert shell.user_ns["state"] == {"n": 1}
