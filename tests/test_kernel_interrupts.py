"""Ctrl-C at any moment of a cell in a real kernel: the state is as after the plain run, or untouched."""

from __future__ import annotations

import ast
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """How a cell ended: `ok` or the name of its error, the last report that it displayed, and the seconds it took."""

    how: str
    report: dict[str, Any]
    seconds: float


class Kernel:
    """A real kernel, in which cells are run and interrupted."""

    def __init__(self, directory: Path) -> None:
        environment = {**os.environ, "IPYTHONDIR": str(directory), "PYTHONPATH": str(ROOT)}
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=environment, cwd=str(directory))

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        ensure_event_loop().close()  # what the blocking client left open

    def run(self, text: str, interrupt_after: float | None = None) -> Ended:
        """Run a cell; interrupt it so many seconds after it first displayed its report.

        A %%torch or %%jax cell does so after its plain run, a %%compare cell before it runs anything.
        """
        number = self.client.execute(text, store_history=False)
        report: dict[str, Any] = {}
        # Read off what is published: an interrupt that hits the kernel itself, after the cell, costs the reply.
        how = "ok"
        timer, shown = None, time.monotonic()
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind == "error":
                how = content["ename"]
            if kind not in ("display_data", "update_display_data"):
                continue
            if not report:
                shown = time.monotonic()
                if interrupt_after is not None:
                    timer = threading.Timer(interrupt_after, self._interrupt)
                    timer.start()
            report = content["data"].get(MIME, report)
        if timer is not None:
            timer.cancel()
            timer.join()
        return Ended(how, report, time.monotonic() - shown)

    def _interrupt(self) -> None:
        """Send SIGINT to the kernel and to what it started, as a notebook's stop button does."""
        os.killpg(os.getpgid(self.manager.provisioner.pid), signal.SIGINT)

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
        for text in (TORCH, JAX, COMPARE):
            yield text, draw.choice((1, number)), draw.random() ** 2


def plainly(text: str, number: int) -> str:
    """Return what the cell amounts to: its body, or nothing for a comparison."""
    return "pass" if text is COMPARE else text.format(number=number).split("\n", 1)[1]


def phase(report: dict[str, Any]) -> str:
    """Return what was going on when the report was shown for the last time."""
    if report["state"] == "done":
        return "over"
    if not all(variant["compilation"] for variant in report["variants"]):
        return "compiling"
    return "memory" if all(variant["status"] == "timed" for variant in report["variants"]) else "timing"


@pytest.mark.parametrize(
    ("count", "least_of_a_phase"), [(6, 0), pytest.param(40, 3, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_the_state_is_right_after_an_interrupt_at_any_moment(kernel, count, least_of_a_phase):
    assert kernel.run(SETUP).how == "ok"
    lengths: dict[tuple[str, bool], float] = {(TORCH, True): 4.0}
    wrong, interrupted = [], Counter()
    for text, number, share in itertools.islice(moments(), 6 * count):
        if interrupted.total() == count:
            break
        kernel.run("reset()")
        kernel.run(plainly(text, number))
        expected = kernel.digest()
        kernel.run("reset()")
        kind = text, number > 1
        after = share * lengths[kind] if kind in lengths else None
        ended = kernel.run(text.format(number=number), after)
        if ended.how == "ok":  # it was over before, or is run for the first time: now its length is known
            lengths[kind] = ended.seconds
        else:
            assert ended.how == "KeyboardInterrupt"
            interrupted[phase(ended.report)] += 1
        if kernel.digest() != expected:
            wrong.append((text, number, share, ended))
    assert wrong == []
    assert interrupted.total() == count
    assert min(interrupted[when] for when in ("compiling", "timing", "memory")) >= least_of_a_phase, interrupted
    assert kernel.run(TORCH.format(number=1)).report["state"] == "done"
