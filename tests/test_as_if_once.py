"""As if once, nothing harmed, and later calls do no less than the first: cells that a plain run judges."""

from __future__ import annotations

import dataclasses
import functools
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from oracle import ALIASES, REPORT, Notebook, Run, notebook, unlike
from tiers import thinned, tiered

from fwmagic.report import Report

pytestmark = pytest.mark.usefixtures("untraced")

BUDGET = 0.03
IMPORTS = """
import contextvars, decimal, functools, gc, io, logging, math, os, signal, sys, threading, types, warnings
from collections import deque, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
import numpy as np
import torch
import jax, jax.numpy as jnp
x = torch.arange(6.0)
X = jnp.arange(6.0)
"""


@dataclass(frozen=True)
class Case:
    """A cell, what comes before and after it, and how its report ends: its status, and what its note says.

    `compared` is its status in `%%compare`, if it is another one.
    """

    name: str
    framework: str
    body: str
    setup: str = ""
    then: str = ""
    status: str = "timed"
    note: str = ""
    mode: str = "eager"
    compared: str = ""

    @property
    def text(self) -> str:
        return textwrap.dedent(self.body).strip("\n") + "\n"


#: What a cell does to the process is put back, and kept as one plain run leaves it.
SETTINGS = [
    Case("sys-path", "torch", "sys.path.append('elsewhere')\ny = x * 2", then="n = sys.path.count('elsewhere')"),
    Case(
        "sys-path-rebound",
        "torch",
        "sys.path = ['elsewhere', *sys.path]\ny = x * 2",
        then="n = sys.path.index('elsewhere')",
    ),
    Case(
        "seeds-and-flags-of-backends",
        "torch",
        "seed_everything(3)\ny = x + torch.rand(1)",
        """
        import random
        def seed_everything(s):
            random.seed(s); np.random.seed(s); torch.manual_seed(s); os.environ["PYTHONHASHSEED"] = str(s)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        """,
        "n = torch.backends.cudnn.deterministic\ntorch.backends.cudnn.deterministic = False\n"
        "_ = os.environ.pop('PYTHONHASHSEED')",
    ),
    Case(
        "precision-of-backends",
        "torch",
        """
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        precise(False)
        torch.set_float32_matmul_precision("medium")
        y = x * 2
        """,
        """
        from torch import backends
        def precise(tf32):
            backends.cudnn.allow_tf32, backends.opt_einsum.enabled = tf32, tf32
            torch.utils.deterministic.fill_uninitialized_memory = tf32
        """,
        """
        n = torch.get_float32_matmul_precision(), backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        n += backends.cudnn.allow_tf32, backends.opt_einsum.enabled
        precise(True)
        torch.set_float32_matmul_precision("highest")
        backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
        """,
    ),
    Case(
        "precision-by-newer-names-beside-older-ones",
        "torch",
        "precisely('ieee')\ny = x * 2",
        """
        def precisely(how):
            if hasattr(torch.backends, "fp32_precision"):
                torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = how
        precisely("tf32")
        """,
        "n = getattr(torch.backends.cuda.matmul, 'fp32_precision', '')\nprecisely('none')",
    ),
    Case(
        "stance-of-the-compiler",
        "torch",
        "torch.compiler.set_stance('force_eager')\ny = x * 2",
        then="n = torch._dynamo.eval_frame._stance.stance\ntorch.compiler.set_stance('default')",
    ),
    Case("recursion-limit", "torch", "sys.setrecursionlimit(sys.getrecursionlimit() + 7)\ny = x * 2"),
    Case(
        "built-in-name",
        "torch",
        """
        import builtins
        builtins.ascii = lambda value: 'mine'
        y = x * 2
        """,
        then="n = ascii('abc')",
    ),
    Case(
        "new-built-in",
        "jax",
        "vars(__import__('builtins'))['spare'] = 3\ny = X * 2",
        then="n = spare\ndel __builtins__.spare",
    ),
    Case(
        "decimal-context",
        "torch",
        "decimal.getcontext().prec = decimal.getcontext().prec + 1\ny = x * 2",
        then="n = decimal.getcontext().prec, decimal.Decimal(1) / 3",
    ),
    Case(
        "context-variable",
        "torch",
        "depth.set(depth.get() + 1)\ny = x * 2",
        "depth = contextvars.ContextVar('depth', default=0); depth.set(1)",
        "n = depth.get()",
        status="run-once",
        note="what a ContextVar is set to cannot be taken back",
        compared="not timed",
    ),
    Case(
        "thread-local",
        "torch",
        "local.n += 1\ny = x * local.n",
        "local = threading.local(); local.n = 0",
        "n = local.n",
    ),
    Case("lock-taken", "torch", "lock.acquire()\ny = x * 2", "lock = threading.Lock()", "n = lock.locked()"),
    Case(
        "condition-taken",
        "torch",
        "ready.acquire()\ny = x * 2",
        "import re\nready = threading.Condition()",
        "n = ready._is_owned(), re.findall('count=.', repr(ready))",
    ),
    Case("condition-left", "torch", "ready.release()\ny = x * 2", "ready = threading.Condition(); ready.acquire()"),
    Case(
        "lock-taken-again",
        "torch",
        "lock.acquire()\ny = x * 2",
        "lock = threading.RLock()",
        "n = 'count=1' in repr(lock)",
    ),
    Case("semaphore", "torch", "left.acquire()\ny = x * 2", "left = threading.Semaphore(1)", "n = left._value"),
    Case("queue", "torch", "y = x * q.get()", "import queue\nq = queue.Queue(); q.put(2)", "n = q.qsize()"),
    Case(
        "view-of-a-dict",
        "torch",
        "v['n'].append(1)\ny = x * 2",
        "import types\nv = types.MappingProxyType({'n': []})",
        "n = v['n']",
    ),
    Case("list-in-a-slice", "torch", "s.stop.append(1)\ny = x * 2", "s = slice([0])", "n = s.stop"),
    Case("garbage-collection", "torch", "gc.disable()\ny = x * 2", then="n = gc.isenabled(); gc.enable()"),
    Case(
        "environment",
        "torch",
        "os.environ['OF_MINE'] = os.environ.get('OF_MINE', '') + 'x'\ny = x * 2",
        then="n = os.environ.pop('OF_MINE')",
    ),
    Case(
        "environment-as-it-was",
        "torch",
        """
        textwrap.found.append("OF_MINE" in os.environ)
        if "OF_MINE" not in os.environ:
            os.environ["OF_MINE"] = str(len(sorted(range(1000))))
        y = x * int(os.environ["OF_MINE"])
        """,
        "import textwrap",
        "n = os.environ.pop('OF_MINE')",
    ),
    Case("warning-filters", "torch", "warnings.filterwarnings('error', 'of my own')\ny = x * 2"),
    Case(
        "signal-handler",
        "torch",
        "signal.signal(signal.SIGUSR1, lambda *_: None)\ny = x * 2",
        then="n = signal.getsignal(signal.SIGUSR1).__name__\n_ = signal.signal(signal.SIGUSR1, signal.SIG_DFL)",
    ),
    Case("excepthook", "torch", "sys.excepthook = print\ny = x * 2"),
    Case(
        "log-level-and-handler",
        "torch",
        """
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler(stream))
        log.info("mean %.2f", x.mean())
        """,
        "log = logging.getLogger('mine.train'); stream = io.StringIO()",
        "log.info('again')\nlines = stream.getvalue().splitlines(), len(log.handlers)",
    ),
    Case(
        "log-of-a-library-quietened",
        "jax",
        "logging.getLogger('jax').setLevel(logging.CRITICAL)\ny = X * 2",
        then="n = logging.getLogger('jax').level\nlogging.getLogger('jax').setLevel(0)",
    ),
    Case(
        "torch-settings",
        "torch",
        """
        torch.set_default_dtype(torch.float64)
        torch.set_printoptions(precision=2)
        np.set_printoptions(precision=3)
        torch.autograd.set_detect_anomaly(True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_default_device("meta")
        y = x * 2
        """,
        then="d = torch.ones(1).dtype, torch.ones(1).device, torch.is_anomaly_enabled()",
    ),
    Case(
        "hook-on-all-modules",
        "torch",
        """
        handle = torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: calls.append(type(m).__name__))
        y = lin(x)
        """,
        "calls = []; lin = torch.nn.Linear(6, 2)",
        "z = lin(x); n = len(calls); handle.remove()",
    ),
]
#: What a cell does to modules of the user is put back; what it does to a library's is done once.
MODULES = [
    Case(
        "lists-of-a-module",
        "torch",
        "cfg.history.append(1)\ncfg.table['n'] += 1\ny = x * cfg.table['n']",
        "cfg = types.ModuleType('cfg'); cfg.history = []; cfg.table = {'n': 0}",
        "s = len(cfg.history), cfg.table['n']",
    ),
    Case(
        "attributes-of-a-module",
        "jax",
        "cfg.seen += 1\nsetattr(cfg, 'last', X * 2)\ndel cfg.old",
        "cfg = types.ModuleType('cfg'); cfg.seen = 0; cfg.old = 1",
        "s = cfg.seen, cfg.last.sum(), hasattr(cfg, 'old')",
    ),
    Case(
        "module-in-a-file",
        "torch",
        "y = helper.scaled(x)",
        """
        Path("helper.py").write_text("calls = []\\nclass Scale:\\n    by = 1\\ndef scaled(v):\\n"
                                     "    calls.append(1); Scale.by += 1\\n    return v * Scale.by\\n")
        sys.path.insert(0, "")
        import importlib; sys.modules.pop("helper", None); importlib.invalidate_caches()
        import helper
        """,
        "n = len(helper.calls), helper.Scale.by",
    ),
    Case(
        "function-of-a-module-in-a-file",
        "torch",
        "y = scaled(x)",
        """
        Path("helper2.py").write_text("calls = []\\ndef scaled(v):\\n    calls.append(1); return v * len(calls)\\n")
        sys.path.insert(0, "")
        import importlib; sys.modules.pop("helper2", None); importlib.invalidate_caches()
        import helper2
        from helper2 import scaled
        """,
        "n = len(helper2.calls)",
    ),
    Case(
        "module-that-is-imported-while-it-runs",
        "torch",
        "y = lazily(x)",
        """
        Path("helper3.py").write_text("calls = []\\ndef scaled(v):\\n    calls.append(1); return v * len(calls)\\n")
        sys.path.insert(0, "")
        import importlib; sys.modules.pop("helper3", None); importlib.invalidate_caches()
        def lazily(v):
            import helper3
            return helper3.scaled(v)
        """,
        "import helper3; n = len(helper3.calls)",
    ),
    Case(
        "import-of-what-the-cell-makes",
        "torch",
        """
        sys.modules["of_the_cell"] = types.ModuleType("of_the_cell")
        import of_the_cell
        of_the_cell.by = 3
        y = x * of_the_cell.by
        """,
        then="n = of_the_cell.by; del sys.modules['of_the_cell']",
    ),
    Case(
        "among-the-imported-ones",
        "torch",
        """
        textwrap.found.append("of_mine" in sys.modules)
        if "of_mine" not in sys.modules:
            sys.modules["of_mine"] = types.SimpleNamespace(by=len(sorted(range(1000))))
        y = x * sys.modules["of_mine"].by
        """,
        "import textwrap",
        "n = sys.modules.pop('of_mine').by",
    ),
    Case(
        "taken-from-the-imported-ones",
        "torch",
        """
        textwrap.found.append("wave" in sys.modules)
        if "wave" in sys.modules:
            y = x * len(sorted(dir(sys.modules.pop("wave"))))
        """,
        "import textwrap, wave",
        "n = 'wave' in sys.modules\nsys.modules['wave'] = wave",
        status="run-once",
        note="takes `wave` from `sys.modules`",
    ),
    Case(
        "attribute-of-a-library-by-a-function",
        "torch",
        "swap()\ny = x * 2",
        "def swap(): math.tau = math.tau + 1",
        "n = math.tau\nmath.tau = math.pi * 2",
        status="run-once",
        note="line 2: `swap` sets `math.tau`, which belongs to a module",
    ),
    Case(
        "what-a-module-deep-in-a-library-holds",
        "torch",
        "html.entities.entitydefs['own'] = 'x'\ny = x * 2",
        "import html.entities",
        "n = html.entities.entitydefs.pop('own')",
        status="run-once",
        note="`html.entities.entitydefs`",
    ),
    Case(
        "attribute-of-a-library-by-setattr",
        "torch",
        "y = x * 2\nsetattr(math, 'spare', 1)",
        then="del math.spare",
        status="run-once",
        note="line 3: `math.spare` belongs to a module",
    ),
    Case(
        "method-of-a-class-of-a-library",
        "torch",
        "Linear.twice = lambda self: 2\ny = x * 2",
        "from torch.nn import Linear",
        "del Linear.twice",
        status="run-once",
        note="line 2: `Linear.twice` belongs to a class of a library",
    ),
]
#: Effects that reading the text does not find: the one run shows them.
EFFECTS = [
    Case(
        "append-through-a-path",
        "torch",
        "y = x * 3\nwith target.open('a') as f:\n    print(float(y.sum()), file=f)",
        "target = Path('log.txt')",
        "n = len(target.read_text().splitlines())",
        status="run-once",
        note="line 3: writes `log.txt`, which cannot be undone (--repeat-effects times it anyway)",
    ),
    Case(
        "tofile",
        "jax",
        "y = X * 2\nnp.asarray(y).tofile('y.bin')",
        status="run-once",
        note="line 3: writes `y.bin`",
    ),
    Case(
        "in-a-function-under-another-name",
        "torch",
        "y = x * 2\nlogged(y)",
        "put = np.savetxt\ndef logged(v):\n    put('y.txt', v.numpy())",
        status="run-once",
        note="line 3: writes `y.txt`",
    ),
    Case(
        "handler-that-opens-its-file-later",
        "torch",
        "log.warning('mean %.1f', x.mean())\ny = x * 2",
        "log = logging.getLogger('mine.file'); log.propagate = False\n"
        "log.addHandler(logging.FileHandler('run.log', delay=True))",
        "log.handlers[0].close()\nn = len(Path('run.log').read_text().splitlines())",
        status="run-once",
        note="line 2: writes `",
    ),
    Case(
        "in-a-thread",
        "torch",
        "t = threading.Thread(target=target.write_bytes, args=(b'1',)); t.start(); t.join()\ny = x * 2\ndel t",
        "target = Path('thread.bin')",
        status="run-once",
        note="writes `thread.bin`",
    ),
    Case(
        "renames",
        "jax",
        "here = here.rename('there.txt')\ny = X * 2",
        "here = Path('here.txt'); _ = here.write_text('1')",
        status="run-once",
        note="line 2: moves `here.txt`",
    ),
    Case(
        "database-that-moves-its-files",
        "torch",
        "with dbm.dumb.open('d', 'c') as d:\n    d['n'] = str(int(d['n']) + 1)\ny = x * 2\ndel d",
        "import dbm.dumb\nwith dbm.dumb.open('d', 'c') as d: d['n'] = '0'\ndel d",
        "with dbm.dumb.open('d', 'c') as d: n = d['n']\ndel d",
        status="run-once",
        note="writes `d.dat`",
    ),
    Case(
        "in-place-on-disk",
        "torch",
        "m = np.load('m.npy', mmap_mode='r+'); m += 1; total = float(m.sum())\ndel m",
        "np.save('m.npy', np.zeros(3))",
        "n = np.load('m.npy').sum()",
        status="run-once",
        note="line 2: writes `m.npy`",
    ),
    Case(
        "registers-a-class",
        "jax",
        """
        class Interval:
            def __init__(self, lo, hi): self.lo, self.hi = lo, hi
        jax.tree_util.register_pytree_node(Interval, lambda i: ((i.lo, i.hi), None), lambda _, k: Interval(*k))
        wide = jax.tree.map(lambda a: a * 2, Interval(X - 1, X + 1))
        width = wide.hi - wide.lo
        """,
        then="again = jax.jit(lambda i: i.hi)(wide)",
        status="run-once",
        note="what `jax.tree_util.register_pytree_node` does",
    ),
]
#: Ordinary values.
ANSWERING = """
class Items(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__
class Angry:
    def __init__(self): self.n, self.held = 2, []
    def __getattr__(self, name): raise RuntimeError(name)
class Obliging:
    def __init__(self): self.n = 2
    def __getattr__(self, name): return Obliging()
"""
VALUES = [
    *(
        Case(
            f"nested-tensor-{layout}",
            "torch",
            "rows.mul_(2)\ny = torch.nested.to_padded_tensor(rows, 0.0)",
            f"rows = torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(5, 4)], layout=torch.{layout})",
            "y = torch.nested.to_padded_tensor(rows, 0.0)",
        )
        for layout in ("jagged", "strided")
    ),
    Case(
        "attributes-that-are-items",
        "torch",
        "cfg.lr = cfg.lr * 0.5\nfor i in range(cfg.n):\n    cfg.hist.append(i)\n(x * cfg.lr).sum().backward()\ncfg",
        f"{ANSWERING}cfg = Items(lr=0.5, n=2, hist=[]); x = x.clone().requires_grad_()",
        "s = dict(cfg), x.grad",
    ),
    Case(
        "attributes-that-raise",
        "jax",
        "angry.n += 1\nfor one in angry.held:\n    one.n += 1\ny = X * angry.n\nHolder.one.held.append(1)\n[angry.n]",
        f"{ANSWERING}angry = Angry(); angry.held.append(Angry())\nclass Holder:\n    one = Angry()",
        "s = angry.n, angry.held[0].n, Holder.one.held",
    ),
    Case(
        "a-function-in-an-object-of-c",
        "torch",
        "y = x * torch.tensor(np.asarray(counted(np.arange(3.0)), float)).sum()",
        "calls = []\ncounted = np.frompyfunc(lambda v: (calls.append(1), v * 2)[1], 1, 1)",
        "n = len(calls)",
    ),
    Case(
        "callback-of-a-program-compiled-ahead-of-time",
        "jax",
        "y = ahead(X)\ny.sum()",
        """
        calls = []
        def count(a):
            calls.append(1)
            return np.asarray(a) * 2
        called = jax.jit(lambda v: jax.pure_callback(count, jax.ShapeDtypeStruct(v.shape, v.dtype), v))
        ahead = called.lower(X).compile(); del called
        """,
        "n = len(calls)",
    ),
    Case(
        "operator-registered-with-torch",
        "torch",
        "y = torch.ops.as_if_once.twice(x)",
        """
        calls = []
        @torch.library.custom_op("as_if_once::twice", mutates_args=())
        def twice(v: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return v * 2
        twice(x); calls.clear()
        """,
        "n = len(calls)",
    ),
    Case(
        "a-framework-put-aside",
        "torch",
        "real, torch = torch, None\ny = x * 2\ntorch = real\ny.sum()",
        then="s = torch is real",
    ),
    Case(
        "a-mock",
        "torch",
        "y = x * mock.v\nmock.n += 1\nmock.seen(3)\ny.sum()",
        "from unittest.mock import MagicMock; mock = MagicMock(); mock.v = 2.0; mock.n = 0",
        "s = mock.n, mock.seen.call_count, mock.seen.call_args.args",
    ),
    Case(
        "attributes-that-are-made-up",
        "torch",
        "made.n += 1\nheld.append(made)\ny = x * made.n * len(held)\n[made.n]",
        f"{ANSWERING}made, held = Obliging(), []",
        "s = made.n, len(held)",
    ),
    Case("a-file-that-is-read", "torch", "y = x * len(f.read_text())", "f = Path('f.txt'); _ = f.write_text('1')"),
    Case("global-counter", "torch", "tick()\ny = x * n", "n = 0\ndef tick():\n    global n\n    n += 1", "m = n"),
    Case(
        "attribute-of-a-class",
        "jax",
        "y = Layer()(X)\nmade = Layer.made",
        "class Layer:\n    made = 0\n    def __init__(self): type(self).made += 1\n    def __call__(self, v): return v",
        "n = Layer.made",
    ),
    Case(
        "scripted-function",
        "torch",
        "y = scripted(x, 3.0)",
        "def scaled(v, by: float):\n    return v * by\nscripted = torch.jit.script(scaled)",
    ),
    Case(
        "scripted-module-with-state",
        "torch",
        "y = net(torch.ones(4, 3)).sum()\nseen = net.seen",
        """
        class Net(torch.nn.Module):
            seen: int
            def __init__(self):
                super().__init__()
                self.norm, self.seen = torch.nn.BatchNorm1d(3), 0
            def forward(self, v):
                self.seen += 1
                return self.norm(v)
        net = torch.jit.script(Net())
        """,
        "n = net.seen, net.norm.num_batches_tracked, net.norm.running_mean.sum()",
    ),
    Case(
        "traced-module",
        "torch",
        "y = net(torch.ones(4, 3)).sum()",
        "net = torch.jit.trace(torch.nn.BatchNorm1d(3), torch.ones(4, 3))",
        "n = int(net.num_batches_tracked), float(net.running_mean.sum())",
    ),
    Case(
        "named-tuples",
        "torch",
        "batch = Transition(*zip(*memory))\ntotal = torch.stack(batch.state).sum()",
        "Transition = namedtuple('Transition', 'state action')\nmemory = [Transition(x + i, i) for i in range(4)]",
    ),
    Case(
        "typed-named-tuples",
        "jax",
        "moved = Pair(pair.a + 1, pair.b)\nmoved.a.sum()",
        "class Pair(NamedTuple):\n    a: object\n    b: int = 0\npair = Pair(X)",
    ),
    Case(
        "dataclasses",
        "torch",
        "state.steps += 1\nstate.w = state.w * 0.5",
        "@dataclass\nclass State:\n    w: object\n    steps: int = 0\nstate = State(x)",
        "n = state.steps, state.w",
    ),
    Case(
        "frozen-dataclasses-with-slots",
        "jax",
        "y = point.v * 2",
        "@dataclass(frozen=True, slots=True)\nclass Point:\n    v: object\npoint = Point(X)",
    ),
    Case(
        "sparse-tensor",
        "torch",
        "y = (sparse @ dense).sum()",
        "sparse = torch.eye(4).to_sparse(); dense = torch.ones(4, 2)",
    ),
    Case(
        "tensor-subclass",
        "torch",
        "y = tagged * 2\nkind = type(y).__name__",
        "class Tagged(torch.Tensor):\n    pass\ntagged = torch.ones(3).as_subclass(Tagged); tagged.tag = 'a'",
    ),
]
#: What the plain run changes, and is no longer within the cell's reach then.
LEFT_BEHIND = [
    Case(
        "hook-that-removes-itself",
        "torch",
        "y = net(x).detach()",
        """
        net, seen = torch.nn.Linear(6, 2), []
        def first(module, arguments, output):
            seen.append(output.detach())
            handle.remove()
        handle = net.register_forward_hook(first)
        """,
        "n = len(seen), seen[0].sum(), len(net._forward_hooks)",
    ),
    Case(
        "list-taken-out-of-another",
        "jax",
        "held = jobs.pop()\nheld.append(1)\ny = X * len(held)\ndel held",
        "last = []\njobs = [last]",
        "n = len(last), len(jobs)",
    ),
    Case(
        "tensor-in-a-queue",
        "torch",
        "queue.popleft().add_(1)\ny = x * len(queue)",
        "a, b = torch.zeros(2), torch.zeros(2)\nqueue = deque([a, b])",
        "n = a.sum(), b.sum()",
    ),
]
#: What no code names.
UNNAMED = [
    Case(
        "list-by-globals",
        "torch",
        "textwrap.found.append(len(globals()['kept']))\nglobals()['kept'].append(1)\ny = x * 2",
        "import textwrap\nkept = []",
        "n = len(kept)",
    ),
    Case(
        "memo-by-globals",
        "jax",
        """
        textwrap.found.append("memo" in globals())
        if "memo" not in globals():
            globals()["memo"] = jnp.linalg.svd(X.reshape(2, 3))[1]
        y = X * globals()["memo"].sum()
        """,
        "import textwrap",
        "n = memo.sum()",
        mode="auto",
    ),
    Case(
        "memo-by-globals-in-a-function",
        "torch",
        "y = x * table().sum()",
        """
        import textwrap
        def table():
            textwrap.found.append("memo" in globals())
            return globals().setdefault("memo", torch.linalg.svdvals(torch.eye(20)))
        """,
        "n = memo.sum()",
        mode="auto",
    ),
    Case("by-exec", "torch", "exec('kept.append(1)')\ny = x * len(kept)", "kept = []", "n = len(kept)"),
    Case(
        "code-of-a-function",
        "torch",
        "textwrap.found.append(f(1))\nf.__code__ = g.__code__\ny = f(x)",
        "import textwrap\ndef f(v): return v\ndef g(v): return v * 2",
        "n = f(1)",
    ),
    Case(
        "defaults-of-a-function",
        "torch",
        "f.__defaults__ = (f.__defaults__[0] + 1,)\ny = f(x)",
        "def f(v, by=1): return v * by",
        "n = f(1)",
        mode="auto",
    ),
    Case(
        "defaults-of-a-function-in-a-trace",
        "jax",
        "f.__defaults__ = (f.__defaults__[0] + 1,)\ny = f(X)",
        "def f(v, by=1): return v * by",
        "n = f(1)",
        mode="auto",
    ),
]
#: What runs beside the cell, and what it waits for.
THREADS = [
    Case(
        "thread-left-at-work",
        "torch",
        "threading.Thread(target=heard.wait, args=(0.2,)).start()\ny = x * 2",
        "heard = threading.Event()",
        status="run-once",
        note="leaves a thread at work",
    ),
    Case(
        "thread-waited-for",
        "torch",
        "t = threading.Thread(target=kept.append, args=(1,)); t.start(); t.join()\ny = x * len(kept)\ndel t",
        "kept = []",
        "n = len(kept)",
    ),
    Case(
        "pool-in-the-cell",
        "jax",
        "with Pool(2) as pool:\n    parts = list(pool.map(abs, [-1, 2]))\ny = X * parts[0]\ndel pool",
        "from concurrent.futures import ThreadPoolExecutor as Pool",
        mode="auto",
    ),
    Case(
        "event-of-a-timer",
        "torch",
        "ready.wait()\ny = x * 2",
        "ready = threading.Event(); timer = threading.Timer(0.2, ready.set); timer.start()",
        "n = ready.is_set(); timer.join(); del timer",
        status="run-once",
        note="another thread uses `ready",
    ),
]
REGISTERED = """
@functools.singledispatch
def area(shape): return -1.0
class Square:
    def __init__(self, side): self.side = side
handlers, square = {}, Square(x)
def kept(f):
    handlers[f.__name__] = f
    return f
area(square)
"""
#: Definitions that change more than the names that they bind.
DEFINING = [
    Case(
        "singledispatch",
        "torch",
        "@area.register\ndef _(shape: Square): return (shape.side**2).sum()\ny = area(square)",
        REGISTERED,
        "n = area(square), area(3), len(area.registry)",
    ),
    Case(
        "singledispatch-of-a-method",
        "torch",
        "@Painter.paint.register\ndef _(self, shape: float): return x * shape\ny = Painter().paint(2.0)",
        """
        class Painter:
            @functools.singledispatchmethod
            def paint(self, shape): return x
        Painter().paint(1.0)
        """,
        "n = Painter().paint(3.0).sum(), Painter().paint('a').sum()",
    ),
    Case(
        "decorator-that-keeps",
        "jax",
        "@kept\ndef double(v): return v * 2\ny = handlers['double'](X)",
        REGISTERED,
        "n = list(handlers), handlers['double'] is double",
    ),
    Case(
        "subclass-that-is-counted",
        "torch",
        "class Sub(Base):\n    pass\ny = x * len(Base.subs)",
        "class Base:\n    subs = []\n    def __init_subclass__(cls): Base.subs.append(cls)",
        "n = len(Base.subs), Base.subs[-1] is Sub",
    ),
    Case(
        "class-body-that-acts",
        "torch",
        "class Table:\n    rows = made.append(1) or len(made)\ny = x * Table.rows",
        "made = []",
        "n = made, Table.rows",
    ),
]
#: The first call would leave later ones less to do: `textwrap.found` says what each call found.
LATER = [
    Case(
        "list-sorted-in-place",
        "torch",
        "textwrap.found.append(scores[0])\nscores.sort()\nbest = torch.tensor(scores[-5:])",
        "import textwrap\nscores = np.random.default_rng(1).random(20_000).tolist()",
        "n = scores[0]",
    ),
    Case(
        "queue-drained",
        "torch",
        "textwrap.found.append(len(queue))\nwhile queue:\n    done.append(torch.linalg.eigvalsh(queue.popleft()))",
        "import textwrap\nqueue = deque(torch.eye(20) * (i + 1) for i in range(8)); done = []",
        "n = len(done), len(queue)",
    ),
    Case(
        "memo",
        "torch",
        "y = spectrum(60).sum()",
        """
        import textwrap
        memo = {}
        def spectrum(n):
            textwrap.found.append(len(memo))
            if n not in memo:
                memo[n] = torch.linalg.svdvals(torch.eye(n) * 2)
            return memo[n]
        """,
        "n = len(memo)",
    ),
    Case(
        "memo-in-an-attribute-of-the-function",
        "torch",
        "y = spectrum(60).sum()",
        """
        import textwrap
        def spectrum(n):
            memo = vars(spectrum).setdefault("memo", {})
            textwrap.found.append(len(memo))
            if n not in memo:
                memo[n] = torch.linalg.svdvals(torch.eye(n) * 2)
            return memo[n]
        """,
        "n = len(spectrum.memo)",
    ),
    Case(
        "memo-by-weak-keys",
        "torch",
        "y = spectrum(model).sum()",
        """
        import textwrap, weakref
        class Model: pass
        model, memo = Model(), weakref.WeakKeyDictionary()
        def spectrum(model):
            textwrap.found.append(len(memo))
            if model not in memo:
                memo[model] = torch.linalg.svdvals(torch.eye(60) * 2)
            return memo[model]
        """,
        "n = len(memo)",
    ),
    Case(
        "global-memo",
        "jax",
        "y = table().sum()",
        """
        import textwrap
        made = None
        def table():
            global made
            textwrap.found.append(made is None)
            if made is None:
                made = jnp.sin(jnp.arange(2000.0))
            return made
        """,
        "n = made.sum()",
    ),
    Case(
        "cached-property",
        "torch",
        "y = model.gram.sum()",
        """
        import textwrap
        class Model:
            def __init__(self): self.w = torch.ones(50, 50)
            @functools.cached_property
            def gram(self):
                return torch.linalg.matrix_exp(self.w * 1e-3)
        model = Model()
        """,
        "n = 'gram' in vars(model)",
    ),
    Case(
        "array-sorted-in-place",
        "torch",
        "textwrap.found.append(float(a[0]))\nwhile not np.all(a[:-1] <= a[1:]):\n    a.sort()\ntop = float(a[-1])",
        "import textwrap\na = np.arange(30_000.0)[::-1].copy()",
        "n = a[0]",
    ),
    Case(
        "optimizer-that-has-arrived",
        "torch",
        """
        textwrap.found.append(bool((w.detach() - 1).abs().max() < 0.05))
        while (w.detach() - 1).abs().max() > 0.05:
            opt.zero_grad()
            ((w - 1) ** 2).sum().backward()
            opt.step()
        """,
        "import textwrap\nw = torch.zeros(3, requires_grad=True); opt = torch.optim.SGD([w], lr=0.03, momentum=0.5)",
        "n = w.detach().sum()",
    ),
    Case(
        "converges-after-some-calls",
        "torch",
        """
        textwrap.found.append(float(u.max()))
        for _ in range(20):
            if float(u.max()) < 0.01:
                break
            u.mul_(0.98)
        """,
        "import textwrap\nu = torch.ones(500)",
        "n = u.max()",
    ),
    Case(
        "function-with-a-cache",
        "jax",
        "y = table(50).sum()",
        """
        import textwrap
        @functools.lru_cache(maxsize=4)
        def table(n):
            textwrap.found.append(1)
            return jnp.sin(jnp.arange(n) * X[1])
        """,
        "again = table(50) + 1; n = table.cache_info()",
    ),
    Case(
        "cache-cleared-by-the-cell",
        "jax",
        "table.cache_clear()\ny = table(50).sum()",
        "@functools.lru_cache(maxsize=1)\ndef table(n):\n    return jnp.sin(jnp.arange(n) * X[0])",
        "again = table(50) + 1; n = table.cache_info()",
        mode="auto",
    ),
    Case(
        "cache-that-holds-something-already",
        "torch",
        "y = table(2, by=3) + table(4)\nn = table.cache_info().currsize",
        "@functools.lru_cache(typed=True)\ndef table(n, by=1):\n    return torch.full((n,), by).sum()\ntable(2, by=3)",
        "m = table.cache_info()",
    ),
    Case(
        "cache-of-a-method",
        "torch",
        "y = model.table(3).sum()",
        """
        import textwrap
        class Model:
            @functools.cache
            def table(self, n):
                textwrap.found.append(1)
                return torch.ones(n)
        model = Model()
        """,
        "m = Model.table.cache_info()",
    ),
    Case(
        "caches-of-a-class",
        "jax",
        "y = Model.table(3).sum() + Model.other(2).sum()",
        """
        import textwrap
        class Model:
            @staticmethod
            @functools.lru_cache
            def table(n):
                textwrap.found.append(1)
                return jnp.ones(n)
            @classmethod
            @functools.cache
            def other(cls, n): return jnp.zeros(n)
        """,
        "m = Model.table.cache_info(), vars(Model)['other'].__func__.cache_info()",
        mode="auto",
    ),
    Case(
        "caches-in-containers-and-partials",
        "torch",
        "y = tables[0](3) + named['b'][1](3) + three()",
        """
        import textwrap
        @functools.cache
        def table(n):
            textwrap.found.append(1)
            return torch.ones(n).sum()
        tables, named, three = [table], {"b": (0, functools.cache(len and torch.zeros))}, functools.partial(table, 3)
        """,
        "m = table.cache_info(), named['b'][1].cache_info(), tables[0] is table, three.func is table",
    ),
    Case(
        "cache-that-cannot-be-copied",
        "torch",
        "y = x * clear.__self__(3)",
        "@functools.cache\ndef table(n): return n\nclear = table.cache_clear; del table",
        "m = clear.__self__.cache_info()",
        status="run-once",
        note="fills the cache of `clear",
    ),
]
DONATING = """
@functools.partial(jax.jit, donate_argnums=0)
def step(state, g):
    return {"w": state["w"] - 0.1 * g, "n": state["n"] + 1}
state = {"w": jnp.ones(6), "n": jnp.zeros((), jnp.int32)}
"""
DONATED = [
    Case(
        "donated-state",
        "jax",
        "state = step(state, X)\nstate['w'].sum()",
        DONATING,
        "state = step(state, X); n = int(state['n'])",
    ),
    Case("donated-in-a-tuple", "jax", "new = step(pair[0], X)\nnew['w'].sum()", f"{DONATING}pair = (state, [state])"),
    Case(
        "donated-in-a-loop",
        "jax",
        "for _ in range(3):\n    box[0] = step(box[0], X)\nbox[0]['n']",
        f"{DONATING}box = [state]; before = state",
        "n = int(box[0]['n']); gone = before['w'].is_deleted()",
    ),
    Case(
        "donated-by-name-in-a-function",
        "jax",
        "train()\nstate['n']",
        f"""{DONATING}
named = jax.jit(lambda s: {{**s, "n": s["n"] + 1}}, donate_argnames="s")
def train():
    global state
    state = named(s=state)
""",
        "n = int(state['n'])",
    ),
    Case(
        "donated-copy",
        "jax",
        "new = step(jax.tree.map(jnp.copy, state), X)\nnew['w'].sum()",
        DONATING,
        "state = step(state, X); n = int(state['n'])",
    ),
    Case(
        "donated-in-the-cell",
        "jax",
        "new = jax.jit(lambda s: s + 1, donate_argnums=0)(held)\nnew.sum()",
        "held = jnp.ones(5)",
        "gone = held.is_deleted()",
    ),
    Case(
        "donated-by-options",
        "jax",
        "new = jax.jit(lambda s: s + 1, **options)(held)\nnew.sum()",
        "held = jnp.ones(5); options = {'donate_argnums': 0}",
        "gone = held.is_deleted()",
    ),
    Case(
        "donated-by-a-partial",
        "jax",
        "new = fast(lambda s: s + 1)(held)\nnew.sum()",
        "held = jnp.ones(5); fast = functools.partial(jax.jit, donate_argnums=0)",
        "gone = held.is_deleted()",
    ),
    Case(
        "donated-ahead-of-time",
        "jax",
        "new = step(held)\nnew.sum()",
        "held = jnp.ones(5); step = jax.jit(lambda s: s + 1, donate_argnums=0).lower(held).compile()",
        "gone = held.is_deleted()",
    ),
    Case(
        "donated-by-nnx",
        "jax",
        "new = step(held)\nnew.sum()",
        "from flax import nnx; held = jnp.ones(5); step = nnx.jit(lambda s: s + 1, donate_argnums=0)",
        "gone = held.is_deleted()",
    ),
    Case(
        "donated-in-a-file",
        "jax",
        "new = steps.fast(held)\nnew.sum()",
        """
        Path("steps.py").write_text("import jax\\ndef fast(v):\\n"
                                    "    return jax.jit(lambda s: s + 1, donate_argnums=0)(v)\\n")
        sys.path.insert(0, "")
        import importlib; sys.modules.pop("steps", None); importlib.invalidate_caches()
        import steps; held = jnp.ones(5)
        """,
        "gone = held.is_deleted()",
    ),
    Case(
        "deleted",
        "jax",
        "held.delete()\nX * 2",
        "held = jnp.ones(5)",
        "gone = held.is_deleted()",
    ),
    Case(
        "gradients-of-what-is-no-leaf",
        "torch",
        "h.grad, k.grad = None, torch.ones(3)\nk.register_hook(lambda g: g * 2)\ny = x * 2",
        """
        w = torch.ones(3, requires_grad=True)
        h, k = w * 2, w * 3
        h.retain_grad(), k.retain_grad(), h.sum().backward(retain_graph=True)
        """,
        "g = h.grad, k.grad\nk.sum().backward()\nlast = w.grad",
    ),
    Case("deleted-of-its-own", "jax", "part = X + 1\npart.delete()\nX * 2", then="gone = part.is_deleted()"),
]
#: Code of the notebook that no name of the cell leads to: an object in C holds it, or Python and NumPy call it.
FROM_C = [
    Case(
        "function-in-a-universal-function",
        "torch",
        "y = torch.tensor(twice(np.arange(4.0)).astype(float))",
        "seen = []\ntwice = np.frompyfunc(lambda a: (seen.append(1), a * 2)[1], 1, 1)",
        "n = len(seen)",
    ),
    Case(
        "custom-operator",
        "torch",
        "y = torch.ops.of_mine.twice(x)",
        """
        seen = []
        @torch.library.custom_op("of_mine::twice", mutates_args=())
        def twice(v: torch.Tensor) -> torch.Tensor:
            seen.append(1)
            return v * 2
        @twice.register_fake
        def _(v): return torch.empty_like(v)
        del twice, _
        """,
        "n = len(seen)",
    ),
    Case(
        "callback-of-a-program",
        "jax",
        "y = program(X)",
        """
        seen = []
        program = jax.jit(lambda v: jax.pure_callback(lambda a: (seen.append(1), np.asarray(a) * 2)[1], v, v))
        program = program.lower(X).compile()
        """,
        "n = len(seen)",
    ),
    Case(
        "hook-beside-much-data",
        "torch",
        "y = lin(x)",
        """
        train, test = ([{"id": i} for i in range(8000)] for _ in range(2))
        parts = {"a": {i: [i] for i in range(20_000)}, "b": [[[j] for j in range(20)] for i in range(800)]}
        seen, lin = [], torch.nn.Linear(6, 2)
        handle = torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: seen.append(1))
        """,
        "n = len(seen)\nhandle.remove()",
    ),
    Case(
        "hook-that-fills-what-is-long",
        "torch",
        "y = lin(x)",
        """
        seen, lin = [0] * 20_000, torch.nn.Linear(6, 2)
        handle = torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: seen.append(1))
        """,
        "n = len(seen)\nhandle.remove()",
    ),
    Case(
        "told-by-numpy",
        "torch",
        "np.float64(1) / np.float64(0)\ny = x * 2",
        "seen = []\nheld = np.seterrcall(lambda error, flag: seen.append(error)), np.seterr(all='call')",
        "n = len(seen)\nheld = np.seterrcall(held[0]), np.seterr(**held[1])",
    ),
    Case(
        "told-of-what-cannot-be-raised",
        "torch",
        "Broken()\ny = x * 2",
        """
        class Broken:
            def __del__(self): raise ValueError
        class Told:
            def __init__(self): self.seen = []
            def hook(self, what): self.seen.append(1)
        told, held = Told(), sys.unraisablehook
        sys.unraisablehook = told.hook
        """,
        "n = len(told.seen)\nsys.unraisablehook = held",
    ),
]
SCRIPT = """
seen, calls = [], 0
def add():
    global calls
    seen.append(1)
    calls += 1
    return len(seen) + calls
class Counter:
    seen, n = [], 0
    def go(self):
        type(self).n += 1
        self.seen.append(1)
        return self.n + len(self.seen)
"""
_WRITTEN = f"import importlib.util, runpy\nscript = {SCRIPT!r}\nPath('script.py').write_text(script)\n"
_LOADED = f"""{_WRITTEN}spec = importlib.util.spec_from_file_location("loaded_by_path", "script.py")
loaded = importlib.util.module_from_spec(spec)
"""
#: Functions and classes whose globals are neither the notebook nor a module that Python knows.
ELSEWHERE = [
    Case("function-of-a-script", "torch", "y = x * add()", f"{_WRITTEN}%run script.py\ndel seen, calls", "n = add()"),
    Case(
        "function-of-a-path",
        "torch",
        "y = x * add()",
        f"{_WRITTEN}add = runpy.run_path('script.py')['add']",
        "n = add()",
    ),
    Case(
        "function-of-a-loaded-module",
        "torch",
        "y = x * add()",
        f"{_LOADED}spec.loader.exec_module(loaded)\nadd = loaded.add\ndel loaded, spec",
        "n = add()",
    ),
    Case(
        "function-by-exec",
        "torch",
        "y = x * add()",
        f"{_WRITTEN}held = {{}}\nexec(script, held)\nadd = held['add']\ndel held",
        "n = add()",
    ),
    Case(
        "function-by-its-type",
        "torch",
        "y = x * add()",
        """
        def add():
            seen.append(1)
            return len(seen)
        add = types.FunctionType(add.__code__, {"seen": [], "len": len})
        """,
        "n = add()",
    ),
    Case(
        "class-of-a-loaded-module",
        "torch",
        "y = x * counter.go()",
        f"{_LOADED}sys.modules[spec.name] = loaded\nspec.loader.exec_module(loaded)\ndel sys.modules[spec.name]\n"
        "counter = loaded.Counter()\ndel loaded, spec",
        "n = counter.go()",
    ),
    Case(
        "class-by-exec",
        "torch",
        "y = x * counter.go()",
        f"{_WRITTEN}held = {{}}\nexec(script, held)\ncounter = held['Counter']()\ndel held",
        "n = counter.go()",
    ),
]
CASES = [*SETTINGS, *MODULES, *EFFECTS, *VALUES, *LEFT_BEHIND, *UNNAMED, *THREADS, *DEFINING, *LATER, *DONATED]
CASES += [*FROM_C, *ELSEWHERE]
every_case = pytest.mark.parametrize("case", thinned(CASES, 3), ids=[case.name for case in CASES])
#: Of each group, what the first tier compares; under the magic it has all.
COMPARED = {
    *("sys-path", "log-level-and-handler", "torch-settings", "hook-on-all-modules", "garbage-collection"),
    *("lists-of-a-module", "function-of-a-module-in-a-file", "attribute-of-a-library-by-a-function"),
    *("append-through-a-path", "handler-that-opens-its-file-later", "named-tuples", "scripted-module-with-state"),
    *("function-in-a-universal-function", "callback-of-a-program", "told-by-numpy"),
    *("function-of-a-script", "function-by-exec", "class-of-a-loaded-module"),
    *("queue-drained", "global-memo", "function-with-a-cache", "cache-that-holds-something-already"),
    *("donated-state", "donated-in-the-cell", "deleted", "singledispatch", "decorator-that-keeps"),
    *(
        "hook-that-removes-itself",
        "environment-as-it-was",
        "memo-by-globals",
        "thread-left-at-work",
        "cache-of-a-method",
    ),
}


class Unseen(list):
    """A list in a library that is not put back, since its class is another one: what each call has found."""


@contextmanager
def prepared(case: Case) -> Iterator[Notebook]:
    with notebook() as book:
        textwrap.found = Unseen()
        book.shell.run_line_magic("load_ext", "fwmagic")
        book.shell.run_line_magic("config", "FwMagics.memory = False")
        for text in (IMPORTS, textwrap.dedent(case.setup)):
            assert book.run(text).error is None
        textwrap.found.clear()
        yield book
        book.shell.run_line_magic("unload_ext", "fwmagic")
        del textwrap.found


@functools.cache
def plainly(case: Case) -> tuple[Run, Run]:
    """Run the cell without a magic, and the cell after it."""
    with prepared(case) as book:
        book.run("pass")  # where another notebook has `%%compare`, so that Out has the same numbers
        run, then = book.run(case.text), book.run(case.then)
        assert (run.error, then.error) == (None, None)
        return run, then


def _ends_as_it_should(report: Report, status: str, note: str) -> None:
    variant = next(iter(report))
    assert (variant.status, variant.failure) == (status, None)
    assert note in variant.note
    # Some calls, before any is timed, show what later ones would find; those that are timed find what the first did.
    assert textwrap.found[-1:] == textwrap.found[:1]


@every_case
def test_under_its_magic_the_notebook_is_as_after_one_plain_run(case: Case):
    plain = plainly(case)
    with prepared(case) as book:
        book.run("pass")
        magic = f"%%{case.framework} --mode {case.mode} --budget {BUDGET} -o {REPORT}\n"
        run = book.run(magic + case.text, extra_lines=1)
        assert run.error is None
        _ends_as_it_should(book.shell.user_ns[REPORT], case.status, case.note)
        then = book.run(case.then)
    assert unlike(plain[0], run, allowed=frozenset(ALIASES)) == []
    assert unlike(plain[1], then, allowed=frozenset(ALIASES)) == []


@pytest.mark.parametrize("case", tiered({case.name: case for case in CASES}, *COMPARED))
def test_after_compare_the_notebook_is_as_before(case: Case):
    plain = plainly(case)
    section = f"%%compare --mode {case.mode} --budget {BUDGET} -o {REPORT}\n%%{case.framework}\n{case.text}"
    with prepared(case) as book:
        idle = book.run("pass")
    with prepared(case) as book:
        compared = book.run(section)
        assert compared.error is None
        status = case.compared or case.status
        note = re.sub(r"^line \d+: ", "", case.note) if status == case.status else ""
        _ends_as_it_should(book.shell.user_ns.pop(REPORT), status, note)
        files = "world['files']"
        assert compared.world[files] == idle.world[files]
        # What else a section does that cannot be undone is done the one time that the report tells of.
        if status == "timed" or case in DONATED:
            assert unlike(idle, dataclasses.replace(compared, error=None)) == []
            run, then = book.run(case.text), book.run(case.then)
            assert unlike(plain[0], run) == []
            assert unlike(plain[1], then) == []
