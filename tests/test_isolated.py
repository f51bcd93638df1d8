"""`--isolate`, `--threads`, `--timeout`: variants in processes of their own, and a kernel that is never the worse."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from cells import fail, run, shown, untouched
from IPython.core.error import UsageError
from leftovers import shared_memory, workers

from fwmagic.run.isolated import IsolatedVariant
from fwmagic.worker.process import Worker


def report_of(shell, cell):
    run(shell, cell)
    return shown(shell)[-1]


@pytest.fixture(autouse=True)
def nothing_is_left():
    """After every run, whatever happened in it: no process, and no shared memory."""
    before = shared_memory()
    yield
    gc.collect()
    assert workers() == []
    assert shared_memory() - before == set()


PAIR = """%%compare {options} --budget 0.2 -o report
%%setup
x = np.linspace(0.5, 2.0, 4096, dtype=np.float32).reshape(64, 64)
%%torch --mode eager
torch.tanh(x @ x).sum()
%%jax
jnp.tanh(x @ x).sum()
"""


class TestAComparison:
    def test_is_timed_checked_and_leaves_the_notebook_as_it_was(self, shell):
        run(shell, "import torch, jax\nkept = torch.ones(3)")
        with untouched(shell):
            cell = PAIR.format(options="--isolate").replace(" -o report", "")
            report = report_of(shell, cell)
        assert [variant.status for variant in report] == ["timed", "timed"]
        assert report["jax"].agreement.status == "agrees"
        assert report["jax"].compilation.way == "cell"
        assert report.ratios[0].rounds > 0
        assert report.conditions.process == "a process for each variant"
        assert {"torch", "jax"} <= report.conditions.versions.keys()
        assert report.conditions.devices.keys() == {"torch", "jax"}
        assert "0" not in str(report.conditions.inputs)

    def test_its_outputs_are_numbers(self, shell):
        run(shell, PAIR.format(options="--isolate"))
        outputs = [shell.user_ns["report"][name].outputs["Out"] for name in ("torch", "jax")]
        assert all(isinstance(value, np.ndarray) for value in outputs)
        assert outputs[0] == pytest.approx(outputs[1], rel=1e-4)

    def test_the_processes_take_turns_in_random_order(self, shell, monkeypatch):
        order, pairs = [], set()
        rest = IsolatedVariant.rest
        monkeypatch.setattr(IsolatedVariant, "rest", lambda self: (order.append(self.name), rest(self))[1])
        for _ in range(20):  # a busy machine may leave a run two rounds
            order.clear()
            run(shell, PAIR.format(options="--isolate --margin 0").replace("--budget 0.2", "--budget 0.5"))
            rounds = order[2:]  # the first two are of the warm-up
            pairs |= {tuple(rounds[i : i + 2]) for i in range(0, len(rounds) - 1, 2)}
            if len(pairs) > 1:
                break
        assert pairs == {("torch", "jax"), ("jax", "torch")}

    def test_the_whole_budget_is_used_where_this_process_stops_as_soon_as_it_is_decided(self, shell, idle):
        cell = "%%compare{} --no-memory --budget 2\n%%numpy a\nnp.sort(np.arange(999))\n%%numpy b\n"
        cell += "np.sort(np.arange(99_999)[::-1])"
        apart, here = report_of(shell, cell.format(" --isolate")), report_of(shell, cell.format(""))
        assert [report.ratios[0].verdict for report in (apart, here)] == ["slower", "slower"], apart.details()
        assert here.spent < 1.8 < apart.spent <= 2.2

    def test_every_variant_has_a_process_of_its_own(self, shell):
        cell = "%%compare --isolate --budget 0.1 -o report\n%%numpy a\nimport os\nnp.int64(os.getpid())\n%%numpy b\n"
        run(shell, cell + "import os\nnp.int64(os.getpid()) + np.int64(0)")
        found = {int(shell.user_ns["report"][name].outputs["Out"]) for name in "ab"}
        assert len(found | {os.getpid()}) == 3

    def test_modes_side_by_side(self, shell):
        report = report_of(
            shell,
            "%%compare --isolate --budget 0.2\n%%setup\nx = np.ones(100, np.float32)\n%%jax --mode all\n(x * x).sum()",
        )
        assert [(v.name, v.mode, v.status) for v in report] == [
            ("jax:eager", "eager", "timed"),
            ("jax:compiled", "compiled", "timed"),
        ]

    def test_its_display_is_updated_while_it_runs(self, shell):
        run(shell, PAIR.format(options="--isolate"))
        *before, last = shown(shell)
        begun = [report for report in before if any(variant.status != "waiting" for variant in report)]
        assert begun
        assert last.state == "done"
        assert {report.conditions.process for report in (*begun, last)} == {"a process for each variant"}


@pytest.mark.parametrize("threads", sorted({1, min(2, len(os.sched_getaffinity(0)))}))
def test_threads_are_given_to_each_framework_and_cores_pinned(shell, threads):
    cell = f"""%%compare --threads {threads} --budget 0.2 -o report
%%torch --mode eager
import os
cores = torch.tensor(sorted(os.sched_getaffinity(0)))
torch.tensor([torch.get_num_threads(), torch.get_num_interop_threads()])
%%jax --mode eager
import os
cores = np.array(sorted(os.sched_getaffinity(0)))
jnp.ones((512, 512)) @ jnp.ones((512, 512))
%%numpy
import os
from threadpoolctl import threadpool_info
cores = np.array(sorted(os.sched_getaffinity(0)))
np.array([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
"""
    before = sorted(os.sched_getaffinity(0)), torch.get_num_threads(), os.environ.get("NPROC")
    run(shell, cell)
    report = shell.user_ns["report"]
    assert list(report["torch"].outputs["Out"]) == [threads, threads]
    assert set(report["numpy"].outputs["Out"]) == {threads}
    pinned = [list(report[name].outputs["cores"]) for name in ("torch", "jax", "numpy")]
    assert pinned == [sorted(os.sched_getaffinity(0))[-threads:]] * 3
    assert report["jax"].time.cores <= threads + 0.1
    assert report.conditions.threads["jax"].startswith(f"{threads} ")
    assert "pinned to core" in report.conditions.process
    assert (sorted(os.sched_getaffinity(0)), torch.get_num_threads(), os.environ.get("NPROC")) == before


class TestASingleCell:
    def test_the_notebook_is_as_after_one_plain_run(self, shell):
        run(shell, "import torch\nnet = torch.nn.Linear(4, 1)\nopt = torch.optim.SGD(net.parameters(), lr=0.5)")
        run(shell, "with torch.no_grad(): net.weight.fill_(1.0); net.bias.fill_(0.0)\nhistory = []")
        value = run(
            shell,
            "%%torch --isolate --mode eager --budget 0.2 -o report\nopt.zero_grad()\nloss = net(torch.ones(2, 4)).sum()"
            "\nloss.backward()\nopt.step()\nhistory.append(1)\nloss",
        )
        names = shell.user_ns
        assert float(value.detach()) == 8.0
        assert torch.equal(names["net"].weight, torch.zeros(1, 4))
        assert names["history"] == [1]
        assert names["report"]["torch"].status == "timed"
        assert names["report"]["torch"].agreement is None

    def test_what_is_different_in_the_other_process_is_said(self, shell):
        cell = "%%numpy a\nimport os\nnp.float64(os.getpid())\n"
        report = report_of(shell, "%%compare --isolate --budget 0.1\n%%setup\nz = 1\n" + cell)
        assert report["a"].status == "timed"
        run(shell, "import os, jax, jax.numpy as jnp")
        report = report_of(shell, "%%jax --isolate --mode eager --budget 0.1\njnp.float32(os.getpid())")
        assert report["jax"].agreement.status == "differs"


class TestWhatReachesTheWorker:
    def test_names_functions_and_classes_of_the_notebook(self, shell):
        run(shell, "import numpy as np\nfrom dataclasses import dataclass\nscale = 3.0\ndef twice(x): return scale * x")
        run(
            shell,
            "@dataclass\nclass Pair:\n    a: 'float'\n    b: float\n    def sum(self): return twice(self.a + self.b)",
        )
        run(
            shell,
            "%%compare --isolate --budget 0.1 -o report\n%%numpy a\nscale = 10.0\nnp.float64(Pair(1.0, 2.0).sum())\n"
            "%%numpy b\nnp.float64(Pair(1.0, 2.0).sum())",
        )
        report = shell.user_ns["report"]
        assert (report["a"].outputs["Out"], report["b"].outputs["Out"]) == (30.0, 9.0)
        assert shell.user_ns["scale"] == 3.0

    def test_a_flax_module_and_its_optimizer(self, shell):
        run(
            shell,
            "import jax, jax.numpy as jnp, flax.linen as nn, optax\n"
            "class Net(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n        return nn.Dense(3)(x).sum()\n"
            "net = Net(); params = net.init(jax.random.key(0), jnp.ones((2, 4)))\n"
            "tx = optax.adam(0.1); state = tx.init(params)",
        )
        report = report_of(
            shell,
            "%%jax --isolate --budget 0.2\nloss, grads = jax.value_and_grad(net.apply)(params, jnp.ones((2, 4)))\n"
            "updates, state = tx.update(grads, state)\nparams = optax.apply_updates(params, updates)\nloss",
        )
        assert (report["jax"].status, report["jax"].compilation.way) == ("timed", "cell")
        assert report["jax"].agreement.status == "agrees"

    def test_classes_that_are_registered_with_jax_and_flax(self, shell):
        run(
            shell,
            "import dataclasses, functools, jax, jax.numpy as jnp\nfrom flax import serialization, struct\n"
            "from jax import tree_util\n"
            "@struct.dataclass\nclass State:\n    w: jax.Array\n"
            "    n: int = struct.field(pytree_node=False, default=3)\n"
            "    def scaled(self): return self.w * self.n * FACTOR\n"
            "@functools.partial(tree_util.register_dataclass, data_fields=['w'], meta_fields=['n'])\n"
            "@dataclasses.dataclass\nclass Plain:\n    w: jax.Array\n    n: int = 4\n"
            "    def scaled(self): return self.w * self.n * FACTOR\n"
            "@tree_util.register_pytree_with_keys_class\nclass Keyed:\n    def __init__(self, w): self.w = w\n"
            "    def tree_flatten_with_keys(self): return ((tree_util.GetAttrKey('w'), self.w),), None\n"
            "    @classmethod\n    def tree_unflatten(cls, _, held): return cls(*held)\n"
            "    def scaled(self): return self.w * 5 * FACTOR\n"
            "class Pair:\n    def __init__(self, w): self.w = w\n    def scaled(self): return self.w * 6 * FACTOR\n"
            "tree_util.register_pytree_node(Pair, lambda p: ((p.w,), None), lambda _, held: Pair(*held))\n"
            "FACTOR = 2.0\nones = jnp.ones(2)\n"
            "trees = {'State': State(ones), 'Plain': Plain(ones), 'Keyed': Keyed(ones), 'Pair': Pair(ones)}\n"
            "made = {name: dict(vars(type(tree))) for name, tree in trees.items()}",
        )
        sections = "".join(
            f"%%jax {name} --mode eager\ntree = trees['{name}']\nassert jax.tree.leaves(tree)[0] is tree.w\n"
            f"paths = [tree_util.keystr(path) for path, _ in tree_util.tree_leaves_with_path(tree)]\n"
            f"jax.jit(lambda t: t.scaled())(tree)\n"
            for name in ("State", "Plain", "Keyed", "Pair")
        )
        sections += "%%jax written --mode eager\nserialization.to_state_dict(trees['State'])['w'] * 2\n"
        run(shell, f"%%compare --isolate --budget 0.1 -o report\n{sections}")
        report = shell.user_ns["report"]
        assert [variant.status for variant in report] == ["timed"] * 5
        assert [variant.outputs["Out"].tolist() for variant in report] == [[n * 2] * 2 for n in (3, 4, 5, 6, 1)]
        assert [report[name].outputs["paths"] for name in ("State", "Plain", "Keyed")] == [[".w"]] * 3
        for name, before in shell.user_ns["made"].items():
            now = vars(type(shell.user_ns["trees"][name]))
            assert [key for key, value in before.items() if now[key] is not value] == []

    def test_classes_of_the_notebook_stay_as_they_are_when_their_objects_come_back(self, shell):
        run(
            shell,
            "from collections import namedtuple\nimport numpy as np\nWORD = 'odd'\n"
            "class Odd(Exception):\n    def __str__(self): return WORD\n"
            "class Pair(namedtuple('Pair', 'a b')):\n    def total(self): return self.a + self.b\n"
            "made = [dict(vars(one)) for one in (Odd, Pair)]",
        )
        run(
            shell,
            "%%compare --isolate --budget 0.1 -o report --keep-going\n"
            "%%numpy a\nPair(1.0, 2.0)\n%%numpy b\nraise Odd()",
        )
        assert type(shell.user_ns["report"]["a"].outputs["Out"]) is shell.user_ns["Pair"]
        assert shell.user_ns["report"]["b"].failure.message == "odd"
        for name, before in zip(("Odd", "Pair"), shell.user_ns["made"], strict=True):
            now = vars(shell.user_ns[name])
            assert [key for key, value in before.items() if now[key] is not value] == []

    def test_random_generators_as_they_are(self, shell):
        run(shell, "import torch, numpy as np, random\ntorch.manual_seed(7); np.random.seed(7); random.seed(7)")
        cell = "%%compare --isolate --budget 0.1 -o report\n%%torch --mode eager\nimport random\n"
        run(shell, cell + "torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()])")
        there = shell.user_ns["report"]["torch"].outputs["Out"]
        here = run(shell, "torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()]).numpy()")
        assert list(there) == list(here)

    def test_settings_as_they_are(self, shell):
        cell = "%%compare --isolate --budget 0.1 -o report\n%%torch --mode eager\ntorch.ones(2)\n%%jax\njnp.arange(2.0)"
        run(
            shell,
            "import jax, torch\njax.config.update('jax_enable_x64', True)\ntorch.set_default_dtype(torch.float64)",
        )
        try:
            run(shell, cell)
        finally:
            run(shell, "jax.config.update('jax_enable_x64', False)\ntorch.set_default_dtype(torch.float32)")
        report = shell.user_ns["report"]
        assert [report[name].outputs["Out"].dtype for name in ("torch", "jax")] == [np.float64, np.float64]

    def test_environment_and_folder_as_they_are(self, shell, monkeypatch, tmp_path):
        monkeypatch.setenv("FWMAGIC_TEST", "7")
        monkeypatch.chdir(tmp_path)
        cell = "%%compare --isolate --budget 0.1 -o report\n%%numpy\nimport os\n"
        run(shell, cell + "np.array([int(os.environ['FWMAGIC_TEST']), len(os.getcwd())])")
        assert list(shell.user_ns["report"]["numpy"].outputs["Out"]) == [7, len(str(tmp_path))]

    def test_what_cannot_be_sent_fails_only_the_section_that_needs_it(self, shell):
        run(
            shell, "import threading\nlock = threading.Lock()\nimport numpy as np\ndef use(v): return lock.locked() + v"
        )
        cell = (
            "%%compare --isolate --budget 0.1\n%%numpy reads\nlock.locked()\nnp.ones(3)\n"
            "%%numpy calls\nuse(np.ones(3))\n%%numpy binds\nlock = 1\nnp.ones(3) * lock\n%%numpy other\nnp.ones(3)"
        )
        with untouched(shell):
            error = fail(shell, cell)
        assert isinstance(error, UsageError)
        assert "`lock` cannot be sent to a process of its own" in str(error)
        report = shown(shell)[-1]
        assert [variant.status for variant in report] == ["failed", "failed", "timed", "timed"]

    def test_arrays_that_share_memory_share_it_there(self, shell):
        run(shell, "import numpy as np, torch\nA = np.zeros(4)\nrow = A[1:3]\nt = torch.from_numpy(A)")
        bodies = "%%numpy\nA[1] = 5.0\nrow[0] * 1\n%%torch\nt[1] = 5.0\nrow[0] * 1"
        run(shell, f"%%compare --isolate --budget 0.1 -o report\n{bodies}")
        assert shell.user_ns["A"].tolist() == [0.0] * 4
        assert [float(variant.outputs["Out"]) for variant in shell.user_ns["report"]] == [5.0, 5.0]

    def test_what_was_bound_in_a_module_of_the_user_is_bound_there(self, shell, monkeypatch, tmp_path):
        text = "import threading\nK, seen, known, lock, absent = 7, [], {'n': 0}, threading.Lock(), object()\n"
        text += "def f(v, by=absent): return v * (K + len(seen) + known['n'] if by is absent else by)\n"
        (tmp_path / "fwmagic_sent.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        run(shell, "import fwmagic_sent\nfwmagic_sent.K = 9\nfwmagic_sent.seen.append(1)\nimport numpy as np")
        run(shell, "from fwmagic_sent import known")
        body = "known['n'] = 1\nfwmagic_sent.f(np.ones(2))"
        run(shell, f"%%compare --isolate --budget 0.1 -o report\n%%numpy\n{body}")
        assert shell.user_ns["report"]["numpy"].outputs["Out"].tolist() == [11.0, 11.0]


CRASHES = {
    "crash": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "exit": ("import os\nos._exit(9)", "exit status 9"),
    "killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "hung": ("import time\ntime.sleep(60)", "did not answer within 2 s"),
    "memory": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))\nnp.ones(1 << 34)",
        "Unable to allocate",
    ),
}


@pytest.mark.parametrize("which", CRASHES)
def test_what_ends_a_variant_ends_no_other_one_and_not_the_kernel(shell, which):
    code, sentence = CRASHES[which]
    run(shell, "kept = [1, 2]")
    with untouched(shell):
        error = fail(
            shell,
            f"%%compare --timeout 2 --budget 0.1\n%%numpy before\nnp.ones(3)\n%%numpy {which}\n{code}\nnp.ones(3)\n"
            "%%numpy after\nnp.ones(3)",
        )
    report = shown(shell)[-1]
    assert [variant.status for variant in report] == ["timed", "failed", "timed"]
    assert sentence in report[which].failure.message
    assert sentence in str(error)
    assert report.ratio("after", over="before").rounds > 0
    assert f"{which} failed" in str(report)


def test_a_variant_that_ends_while_it_is_timed(shell, monkeypatch):
    block, calls = IsolatedVariant.block, []

    def killed(self, *arguments):
        calls.append(self.name)
        if self.name == "ends" and calls.count("ends") == 8:
            os.kill(self.worker.number, signal.SIGKILL)
        return block(self, *arguments)

    monkeypatch.setattr(IsolatedVariant, "block", killed)
    fail(shell, "%%compare --isolate --budget 0.2\n%%numpy ends\nnp.ones(3)\n%%numpy after\nnp.ones(3)")
    report = shown(shell)[-1]
    assert [variant.status for variant in report] == ["failed", "timed"]
    assert report["ends"].failure.stage == "timing"
    assert "SIGKILL" in report["ends"].failure.message


def test_errors_of_the_users_code_have_the_users_lines(shell):
    run(shell, "class Odd(Exception): pass\ndef deep(x):\n    raise Odd('from the notebook')")
    error = fail(shell, "%%compare --isolate --budget 0.1\n%%numpy a\nx = 1\ndeep(x)\n%%numpy b\nnp.ones(3)")
    assert type(error) is shell.user_ns["Odd"]
    lines = [frame.tb_lineno for frame in _frames(error)]
    assert lines[-2:] == [4, 3]
    report = shown(shell)[-1]
    assert report["a"].failure.line == 4
    assert report["b"].status == "timed"


def _frames(error):
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def test_an_interrupt_ends_the_workers_and_nothing_else(shell):
    run(shell, "import numpy as np, time\nkept = np.ones(3)")
    main = threading.main_thread().ident
    timer = threading.Timer(1.5, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with untouched(shell):
        error = fail(shell, "%%compare --isolate\n%%numpy\ntime.sleep(30)\nnp.ones(3)")
    timer.join()
    assert isinstance(error, KeyboardInterrupt)
    assert shown(shell)[-1].state == "interrupted"


def test_an_interrupt_while_a_process_starts_leaves_none(shell, monkeypatch):
    def interrupted(worker: Worker) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "wait", interrupted)
    run(shell, "import numpy as np")
    with untouched(shell):
        error = fail(shell, "%%compare --isolate\n%%numpy\nnp.ones(3)")
    assert isinstance(error, KeyboardInterrupt)
    assert workers() == []


@pytest.mark.parametrize(
    ("line", "body", "sentence"),
    [
        ("--threads 0", "np.ones(3)", "--threads takes a whole number greater than 0, not '0'"),
        ("--timeout 0", "np.ones(3)", "--timeout takes seconds greater than 0, not '0'"),
        ("--threads 9999", "np.ones(3)", r"--threads 9999: this process may use \d+ cores?; ask for at most that many"),
        ("--isolate --device cuda", "np.ones(3)", "NumPy computes on the CPU only"),
    ],
)
def test_bad_input_is_one_sentence_and_runs_nothing(shell, line, body, sentence):
    with untouched(shell):
        error = fail(shell, f"%%compare {line}\n%%numpy\n{body}")
    assert isinstance(error, UsageError)
    assert re.search(sentence, str(error))


def test_magics_need_the_notebooks_own_process(shell):
    report = report_of(
        shell, "%%compare --isolate --budget 0.1\n%%numpy a\n%time z = 1\nnp.ones(3)\n%%numpy b\nnp.ones(3)"
    )
    assert [variant.status for variant in report] == ["not timed", "timed"]
    assert "leave out --isolate" in report["a"].note


def test_effects_happen_once_and_leave_no_file(shell, tmp_path):
    target = tmp_path / "out.txt"
    report = report_of(
        shell, f"%%compare --isolate --budget 0.1\n%%numpy a\nopen({str(target)!r}, 'a').write('x')\nnp.ones(3)"
    )
    assert report["a"].status == "run-once"
    assert not target.exists()


def test_an_effect_is_had_by_one_variant_of_a_section(shell, tmp_path):
    folder = tmp_path / "made"  # a second run would fail
    report = report_of(
        shell, f"%%compare --isolate --mode all --budget 0.1\n%%torch a\nimport os; os.mkdir({str(folder)!r})\nx = 1"
    )
    assert [variant.status for variant in report] == ["run-once", "not timed"]
    assert report["a:compiled"].note == f"not run: {report['a:eager'].note}"


_STARTS = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_line_magic("load_ext", "fwmagic")
shell.run_cell({cell!r}).raise_error()
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""


@pytest.mark.slow
def test_jax_is_not_started_in_the_kernel():
    done = subprocess.run(
        [sys.executable, "-c", _STARTS.format(cell=PAIR.format(options="--isolate"))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "IPYTHONDIR": os.environ.get("TMPDIR", "/tmp")},
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert "leaked" not in done.stderr


def test_a_worker_that_cannot_start_is_an_error(monkeypatch, shell):
    def broken(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Worker, "__init__", broken)
    error = fail(shell, "%%compare --isolate --budget 0.1\n%%numpy\nnp.ones(3)")
    assert "no more processes" in str(error)
