"""Ctrl-C at any moment of a cell in a real kernel: the state is as after the plain run, or untouched."""

from __future__ import annotations

import ast
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_core.utils import ensure_event_loop

from fwmagic.report import MIME

ROOT = Path(__file__).parent.parent

SETUP = """
import random, signal, numpy as np, torch, jax, jax.numpy as jnp
%load_ext fwmagic
data = torch.linspace(-1, 1, 24).reshape(8, 3)

def reset():
    global net, optimizer, weights, table, history, array
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    weights = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    table, history, array = {"steps": 0}, [], np.zeros(4)

def predict(weights, x):
    return jnp.tanh(x @ weights["w"] + weights["b"])

def digest():
    names = sorted(name for name in globals() if not name.startswith("_"))
    values = [*net.parameters(), *weights.values()]
    gradients = [None if p.grad is None else p.grad.tolist() for p in net.parameters()]
    draws = [torch.get_rng_state().sum().item(), repr(np.random.get_state()), random.getstate()]
    patched = [sorted(vars(module)) for module in net.modules()], predict.__code__.co_name
    loose = [signal.getsignal(signal.SIGINT), torch.is_grad_enabled(), torch.get_num_threads()]
    return repr([names, [v.tolist() for v in values], gradients, optimizer.state_dict(), table, history,
                 array.tolist(), draws, patched, loose, jax.config.jax_disable_jit])
"""

TORCH = """%%torch --budget 0.3
optimizer.zero_grad()
loss = (net(data * {number}) ** 2).mean() + torch.rand(()) * 0
loss.backward()
optimizer.step()
table["steps"] += 1
history.append(loss.item())
"""
JAX = """%%jax --budget 0.3
gradient = jax.grad(lambda w: (predict(w, jnp.ones((5, 3)) * {number}) ** 2).mean())(weights)
for name in weights:
    weights[name] = weights[name] - 0.1 * gradient[name]
array += np.random.rand()
table["steps"] += 1
"""
ISOLATED = """%%compare --isolate --budget 0.3
%%torch --mode eager
optimizer.zero_grad()
net(data).sum().backward()
optimizer.step()
%%numpy
array += {number}
random.random()
"""
COMPARE = """%%compare --budget 0.3
%%setup
X = np.random.rand(5, 3)
%%jax
weights["w"] = weights["w"] + {number}
history.append(1)
predict(weights, X).sum()
%%torch --mode eager
optimizer.zero_grad()
net(X).sum().backward()
optimizer.step()
table["steps"] += 1
%%numpy
array += {number}
random.random()
"""


@dataclass
class Ended:
    """How a cell ended: `ok` or the names of its errors, the last report that it displayed, and the seconds it took.

    `heard` is how many of them came after the interrupt.
    """

    how: str
    report: dict[str, Any]
    seconds: float
    heard: float = 0.0


class Kernel:
    """A real kernel, in which cells are run and interrupted."""

    def __init__(self, directory: Path) -> None:
        environment = {**os.environ, "IPYTHONDIR": str(directory), "PYTHONPATH": str(ROOT)}
        self._sent = 0.0
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=environment, cwd=str(directory))

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        ensure_event_loop().close()  # what the blocking client left open

    def run(self, text: str, interrupt_after: float | None = None, group: bool = True, shown: bool = True) -> Ended:
        """Run a cell; interrupt the kernel, or its `group` of processes, so many seconds after it displayed its report.

        A %%torch or %%jax cell does so after its plain run, a %%compare cell before it runs anything. Where it is not
        to be `shown`, the seconds are counted from the beginning.
        """
        number = self.client.execute(text, store_history=False)
        report: dict[str, Any] = {}
        # Read off what is published: an interrupt that hits the kernel itself, after the cell, costs the reply.
        errors: list[str] = []
        timer = None
        begun = time.monotonic()
        if interrupt_after is not None and not shown:
            timer = self._timer(interrupt_after, group)
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind == "error":
                errors.append(content["ename"])
            if kind not in ("display_data", "update_display_data"):
                continue
            if not report:
                begun = time.monotonic()
                if interrupt_after is not None and shown:
                    timer = self._timer(interrupt_after, group)
            report = content["data"].get(MIME, report)
        now = time.monotonic()
        if timer is not None:
            timer.cancel()
            timer.join()
        return Ended(", ".join(errors) or "ok", report, now - begun, now - self._sent)

    def _timer(self, after: float, group: bool) -> threading.Timer:
        timer = threading.Timer(after, self._interrupt, [group])
        timer.start()
        return timer

    def _interrupt(self, group: bool) -> None:
        """Send SIGINT to the kernel and to what it started, as a stop button does; or to the kernel alone."""
        self._sent = time.monotonic()
        kernel = self.manager.provisioner.pid
        if group:
            os.killpg(os.getpgid(kernel), signal.SIGINT)
        else:
            os.kill(kernel, signal.SIGINT)

    def digest(self) -> str:
        """Return everything that the cells can change, as text."""
        number = self.client.execute("", user_expressions={"state": "digest()"}, store_history=False)
        reply = self.client.get_shell_msg(timeout=60)
        while reply["parent_header"].get("msg_id") != number:
            reply = self.client.get_shell_msg(timeout=60)
        state = reply["content"]["user_expressions"]["state"]
        assert state["status"] == "ok", state
        return str(ast.literal_eval(state["data"]["text/plain"]))


@pytest.fixture
def kernel(tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


def moments() -> Iterator[tuple[str, int, float]]:
    """Yield the cell to interrupt, the number in it (a new one is a new program), and the share of its time.

    Half of the moments lie in the first quarter: a cell compiles for a shorter time than it is measured.
    """
    draw = random.Random(2)
    for number in range(2, 5):  # torch's compiler is being primed
        yield TORCH, number, draw.random()
    for number in itertools.count(5):
        for text in (TORCH, JAX, COMPARE, ISOLATED):
            yield text, draw.choice((1, number)), draw.random() ** 2


def plainly(text: str, number: int) -> str:
    """Return what the cell amounts to: its body, or nothing for a comparison."""
    return "pass" if text in (COMPARE, ISOLATED) else text.format(number=number).split("\n", 1)[1]


def phase(report: dict[str, Any]) -> str:
    """Return what was going on when the report was shown for the last time."""
    if report["state"] == "done":
        return "over"
    if not all(variant.get("compilation") for variant in report["variants"]):
        return "compiling"
    return "memory" if all(variant.get("status") == "timed" for variant in report["variants"]) else "timing"


@pytest.mark.parametrize(
    ("count", "least_of_a_phase"), [(6, 0), pytest.param(60, 3, marks=pytest.mark.slow)], ids=["some", "many"]
)
@pytest.mark.slow
def test_the_state_is_right_after_an_interrupt_at_any_moment(kernel, count, least_of_a_phase):
    assert kernel.run(SETUP).how == "ok"
    # Before they are known: torch's compiler is primed, and the server of the processes comes up.
    lengths: dict[tuple[str, bool], float] = {(TORCH, True): 4.0, (ISOLATED, False): 4.0, (ISOLATED, True): 4.0}
    wrong, interrupted, heard = [], Counter(), []
    for place, (text, number, share) in enumerate(itertools.islice(moments(), 6 * count)):
        if interrupted.total() == count:
            break
        kernel.run("reset()")
        kernel.run(plainly(text, number))
        expected = kernel.digest()
        kernel.run("reset()")
        kind = text, number > 1
        after = share * lengths[kind] if kind in lengths else None
        ended = kernel.run(text.format(number=number), after, group=place % 2 == 0)
        cut = [one.get("note", "") for one in ended.report["variants"] if one.get("status") == "interrupted"]
        if ended.how == "ok" and cut:  # it ended a compilation, and the other variants went on
            assert len(cut) == 1
            assert cut[0].startswith("compile interrupted after ")
            assert ended.report["state"] == "done"
            interrupted["compiling"] += 1
        elif ended.how == "ok":  # it was over before, or is run for the first time: now its length is known
            lengths[kind] = ended.seconds
        else:
            assert ended.how == "KeyboardInterrupt"  # and only once
            assert ended.report["state"] != "running"
            interrupted[phase(ended.report)] += 1
            heard.append(ended.heard)
            print(f"{text.splitlines()[0]} {phase(ended.report)}: over {ended.heard:.2f} s after the interrupt")
        if kernel.digest() != expected:
            wrong.append((text, number, share, ended))
    assert wrong == []
    assert interrupted.total() == count
    assert min(interrupted[when] for when in ("compiling", "timing", "memory")) >= least_of_a_phase, interrupted
    assert kernel.run(TORCH.format(number=1)).report["state"] == "done"


# Nothing is imported yet: neither this package, nor the frameworks, nor torch's compiler; and no server is there.
COLD = {
    "here": "%%compare --budget 0.1\n%%torch\ntorch.ones(3).sum() * 2\n%%jax\njnp.ones(3).sum() * 2",
    "isolated": "%%compare --isolate --budget 0.1\n%%torch --mode eager\ntorch.ones(3)\n%%jax\njnp.ones(3)",
    "one": "%%torch --budget 0.1\nx = torch.ones(3)\n(x * 2).sum()",
}


def cold_moments(count: int) -> Iterator[tuple[str, float, bool]]:
    """Yield the cell, the seconds after which it is interrupted, and whether its whole group of processes is."""
    draw = random.Random(3)
    for place in range(count):
        yield draw.choice(list(COLD)), draw.uniform(0.0, 6.0), place % 2 == 0


@pytest.mark.parametrize(
    ("which", "after", "group"),
    [
        ("here", 1.0, True),
        *(pytest.param(*moment, marks=pytest.mark.slow, id=f"moment {i}") for i, moment in enumerate(cold_moments(12))),
    ],
)
def test_what_was_being_imported_is_whole_after_an_interrupt(kernel, which, after, group):
    assert kernel.run("import sys\n%load_ext fwmagic\nassert 'torch' not in sys.modules").how == "ok"
    ended = kernel.run(COLD[which], after, group=group, shown=False)
    assert ended.how in ("ok", "KeyboardInterrupt")  # it was over before, or this was heard once
    again = kernel.run(COLD[which])
    assert (again.how, again.report["state"]) == ("ok", "done")
    assert {variant["status"] for variant in again.report["variants"]} == {"timed"}


class Terminal:
    """IPython in a terminal of its own, where Ctrl-C reaches the whole group of processes."""

    def __init__(self, directory: Path) -> None:
        environment = {**os.environ, "IPYTHONDIR": str(directory), "PYTHONPATH": str(ROOT), "TERM": "dumb"}
        command = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]
        self._ipython = pexpect.spawn(
            sys.executable, command, env=environment, encoding="utf-8", timeout=120, dimensions=(40, 300)
        )
        self._cell = directory / "cell"
        self._number = 1
        self._wait()

    def _wait(self) -> str:
        self._ipython.expect_exact(f"In [{self._number}]: ")
        self._number += 1
        return self._ipython.before

    def run(self, text: str, interrupt_after: float | None = None) -> str:
        """Run a cell, and return what was printed; press Ctrl-C so many seconds after it began."""
        self._cell.write_text(text)
        self._ipython.sendline(f"print('succeeded', get_ipython().run_cell(open({str(self._cell)!r}).read()).success)")
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            self._ipython.sendintr()
        return self._wait()

    def close(self) -> None:
        self._ipython.sendline("exit()")
        self._ipython.expect(pexpect.EOF)
        self._ipython.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [0.2, 1.0, 2.5, 3.5, 5.0, 7.0])
def test_one_press_in_a_terminal_ends_a_cold_comparison_and_nothing_else(tmp_path, after):
    terminal = Terminal(tmp_path)
    try:
        terminal.run("%load_ext fwmagic")
        told = terminal.run(COLD["isolated"], after)
        if "succeeded True" not in told:
            assert "KeyboardInterrupt" in told
            assert "multiprocessing" not in told  # neither the server nor our own frames
            assert len(told.splitlines()) < 60
        assert "succeeded True" in terminal.run(COLD["isolated"])
    finally:
        terminal.close()
