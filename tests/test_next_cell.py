"""As in the notebook: the graph of autograd in the next cell, modules of the user, arrays that share memory."""

from __future__ import annotations

import sys

import pytest
from cells import run

from fwmagic.cells.snapshot import Snapshot
from fwmagic.frameworks import get

TORCH = get("torch")

NET = """
import torch
torch.manual_seed(0)
x, t = torch.randn(30, 8), torch.randint(0, 4, (30,))
net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 4))
w, b = torch.randn(8, 4, requires_grad=True), torch.ones(4)
"""
LOSS = "loss = torch.nn.functional.cross_entropy(net(x), t)"
STEP = "with torch.no_grad():\n    for p in net.parameters(): p.sub_(0.01 * p)"


@pytest.mark.parametrize("mode", ["eager", "auto"])
@pytest.mark.parametrize("cell", [LOSS, "b.mul_(2)\nloss = (x @ w * b).pow(2).mean()"], ids=["batch norm", "in place"])
def test_the_graph_that_a_cell_leaves_can_be_gone_back_through(shell, cell, mode):
    run(shell, NET)
    run(shell, f"%%torch --budget 0.05 --no-memory --mode {mode}\n{cell}")
    run(shell, "loss.backward()")


def test_a_graph_from_before_a_comparison_can_be_gone_back_through(shell):
    run(shell, f"{NET}\n{LOSS}")
    run(shell, f"%%compare --budget 0.05 --no-memory\n%%torch one --mode eager\n{STEP}\n%%torch two\nnet(x).sum()")
    run(shell, "loss.backward()")


def test_what_was_really_changed_is_still_told(shell):
    run(shell, f"{NET}\n{LOSS}")
    run(shell, f"%%torch --budget 0.05 --no-memory --mode eager\n{STEP}")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        run(shell, "loss.backward()")


def test_a_tensor_made_for_inference_alone_has_no_count(shell):
    run(shell, NET + "with torch.inference_mode(): still = torch.ones(3)")
    snapshot = Snapshot(shell.user_ns, ["still", "b"], [TORCH])
    shell.user_ns["b"].add_(0)
    snapshot.restore()
    assert shell.user_ns["b"]._version == 0


@pytest.mark.parametrize(
    ("head", "start"),
    [
        ("--inputs base,view", ""),
        ("", "%%setup\nbase = np.arange(10.)\nview = base[:3]\n"),
    ],
    ids=["inputs", "setup"],
)
def test_a_view_sees_what_a_section_writes_to_its_base(shell, head, start):
    run(shell, "import numpy as np\nbase = np.arange(10.); view = base[:3]")
    sections = "%%numpy a\nbase += 1\nview.sum()\n%%numpy b\nbase = base + 1\nbase[:3].sum()"
    run(shell, f"%%compare --budget 0.05 --no-memory -o report {head}\n{start}{sections}")
    report = shell.user_ns["report"]
    assert [float(next(iter(variant.outputs.values()))) for variant in report] == [6.0, 6.0]
    assert report["b"].agreement.status == "agrees"


LOOKS = {
    "imports in a helper": "def u(v):\n    import counting\n    return v * counting.t()",
    "imports a name in a helper": "def u(v):\n    from counting import t\n    return v * t()",
    "importlib": "import importlib\ndef u(v):\n    return v * importlib.import_module('count' + 'ing').t()",
    "sys.modules": "import sys\ndef u(v):\n    return v * sys.modules['count' + 'ing'].t()",
}


@pytest.fixture
def counting(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text("n = 0\ndef t():\n    global n\n    n += 1\n    return n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda: sys.modules["counting"].n
    sys.modules.pop("counting", None)


@pytest.mark.parametrize("helper", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("within", [True, False], ids=["called", "inline"])
def test_a_module_that_no_name_leads_to_is_put_back(shell, counting, helper, within):
    run(shell, f"import torch; x = torch.ones(3); import counting; del counting\n{helper}")
    body = "u(x).sum()" if within else f"y = x\n{helper.split(':', 1)[1]}".replace("    ", "").replace("return v", "x")
    run(shell, f"%%torch --budget 0.05 --no-memory --mode eager\n{body}")
    assert counting() == 1
    run(shell, f"%%compare --budget 0.05 --no-memory\n%%torch --mode eager\n{body}\n%%torch two\nx.sum()")
    assert counting() == 1
