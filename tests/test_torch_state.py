"""Torch: training state, views, memory that moves, odd layouts, generators."""

from __future__ import annotations

import textwrap
import warnings
from typing import Any

import pytest
import torch
from cells import run as run_cell
from snapshots import ALL, notebook, round_trip, run

from fwmagic.cells.snapshot import Snapshot
from fwmagic.frameworks import get

TORCH = get("torch")

TRAIN = """
    import torch
    torch.manual_seed(0)
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(4, 8); self.norm = torch.nn.BatchNorm1d(8); self.last = torch.nn.Linear(8, 1)
            self.calls = 0
        def forward(self, x):
            self.calls += 1
            return self.last(torch.dropout(self.norm(self.first(x)), 0.5, True))
    net = Net()
    opt = torch.optim.Adam(net.parameters(), lr=0.1)
    plan = torch.optim.lr_scheduler.StepLR(opt, 1)
    x, y = torch.randn(6, 4), torch.randn(6, 1)
    losses = []
    def step():
        opt.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward(); opt.step(); plan.step(); losses.append(loss.item())
        return loss
"""


def picture(net: Any, opt: Any) -> Any:
    """Return all that training changes, with what identifies it: objects, memory, autograd's version of each tensor."""
    tensors = [(id(t), t.data_ptr(), t.tolist()) for t in [*net.parameters(), *net.buffers()]]
    grads = [None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in net.parameters()]
    state = {id(p): {k: (id(v), v.tolist()) for k, v in held.items()} for p, held in opt.state.items()}
    return tensors, grads, state, opt.param_groups[0]["lr"], net.calls, net.training


@pytest.mark.parametrize("before", [0, 2])
def test_training_steps_leave_no_trace_and_repeat_exactly(before):
    namespace = notebook(TRAIN)
    for _ in range(before):
        run(namespace, "step()")
    namespace["losses"].clear()
    net, opt = namespace["net"], namespace["opt"]
    start = picture(net, opt)
    snapshot = Snapshot(namespace, ["step"], ALL)
    assert snapshot.unrestorable == []
    seen = []
    for _ in range(3):
        run(namespace, "step(); step(); net.eval()")
        seen.append((list(namespace["losses"]), [p.tolist() for p in net.parameters()]))
        assert picture(net, opt) != start
        changes = snapshot.changes()
        changed = changes.paths
        changes.restore()
        assert picture(net, opt) == start
    assert seen[0] == seen[1] == seen[2]
    assert namespace["losses"] == []
    named = {"net.first.weight", "net.norm.running_mean", "net.norm.num_batches_tracked", "net.calls", "losses"}
    assert named <= set(changed)
    assert ("opt.state[...]" in changed) is not before or "net.first.weight.grad" in changed
    versions = [p._version for p in net.parameters()]
    snapshot.restore()
    assert [p._version for p in net.parameters()] == versions, "nothing differed, so nothing may be written"


def test_a_gradient_comes_back_as_the_object_it_was():
    w = torch.ones(3, requires_grad=True)
    w.grad = held = torch.full((3,), 2.0)
    changed = round_trip(notebook(w=w), "w", "w.grad.add_(1)")
    assert changed == ["w.grad"]
    round_trip(notebook(w=w), "w", "w.grad = None; w.requires_grad_(False)")
    assert w.grad is held
    assert w.requires_grad
    assert held.tolist() == [2, 2, 2]
    net = torch.nn.Linear(2, 1)
    net.weight.grad = torch.ones(1, 2)
    round_trip(notebook(net=net), "net", "net.bfloat16(); net.zero_grad()")
    assert (net.weight.dtype, net.weight.grad.tolist(), net.weight.grad.dtype) == (
        torch.float32,
        [[1, 1]],
        torch.float32,
    )
    fresh = torch.ones(3, requires_grad=True)
    round_trip(notebook(w=fresh), "w", "w.sum().backward()")
    assert fresh.grad is None


@pytest.mark.parametrize(
    "cell",
    [
        "v.data = torch.zeros(7)",
        "v.resize_(100)",
        "v.set_(torch.zeros(2, 2))",
        "v.mul_(2)",
        "v.t_()",
        "v.unsqueeze_(0); base[3] = 9",
        "base.zero_(); v.data = v.data.half()",
        "v.untyped_storage().resize_(0)",
        "v.add_(torch.ones(3, requires_grad=True))",
        "v.requires_grad_()",
        "v.note = 1; v.held.append(2)",
        "v.__class__ = torch.nn.Parameter",
    ],
)
def test_a_tensor_looks_into_the_same_memory_again(cell):
    base = torch.arange(6.0)
    v = torch.empty(0).set_(base.untyped_storage(), 1, (2, 2), (2, 1)).t() if "t_" in cell else base[1:4]
    if "add_" in cell:
        base = v = torch.arange(3.0)
    v.held = []

    def now() -> Any:
        form = v.tolist(), v.stride(), v.dtype, v.requires_grad, v.is_leaf, type(v)
        return form, v.data_ptr() - base.data_ptr(), list(vars(v)), list(v.held), base.tolist()

    before = now()
    namespace = notebook("import torch", v=v, base=base)
    assert round_trip(namespace, "v base", cell)
    assert now() == before
    base[2] = 5
    assert 5 in v, "they share their memory as before"


def test_reading_tensors_touches_no_version_counter():
    x = torch.ones(3, requires_grad=True)
    y = (x * x).sum()
    version = x._version
    snapshot = Snapshot(notebook(x=x), ["x"], ALL)
    assert snapshot.changes().paths == []
    snapshot.restore()
    assert x._version == version
    y.backward()
    assert x.grad.tolist() == [2, 2, 2]


@pytest.mark.filterwarnings("ignore:.*(torch.quantize|quantized|Sparse CSR|nested).*")
@pytest.mark.parametrize(
    ("make", "cell"),
    [
        ("torch.eye(3).to_sparse()", "v.mul_(2)"),
        ("torch.eye(3).to_sparse()", "v.add_(torch.ones(3, 3).to_sparse())"),
        ("torch.eye(3).to_sparse_csr()", "v.values().mul_(3)"),
        ("torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)", "v.int_repr(); v[0] = 2"),
        ("torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])", "v.mul_(2)"),
        ("torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)", "v.values().mul_(2)"),
        ("torch.ones(3, dtype=torch.bfloat16)", "v.fill_(float('nan'))"),
        ("torch.ones(2, dtype=torch.complex64).conj()", "v.mul_(2)"),
        ("torch.ones(())", "v.add_(1)"),
        ("torch.ones(0, 3)", "v.resize_(2, 3)"),
        ("torch.nn.Buffer(torch.ones(2))", "v.zero_()"),
    ],
)
def test_unusual_tensors_come_back(make, cell):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its sparse and nested tensors are young
        namespace = notebook(f"import torch\nv = {make}")
    v = namespace["v"]

    def numbers() -> Any:
        dense = v.unbind() if v.is_nested else [v.dequantize() if v.is_quantized else v.to_dense()]
        return [(part.shape, part.tolist()) for part in dense]

    before = numbers()
    snapshot = Snapshot(namespace, ["v"], ALL)
    assert snapshot.unrestorable == []
    assert snapshot.changes().paths == []
    run(namespace, cell)
    assert numbers() != before
    assert snapshot.changes().paths
    snapshot.restore()
    assert numbers() == before
    assert snapshot.changes().paths == []
    assert namespace["v"] is v
    assert isinstance(TORCH.describe(v), str)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("make", "cell", "tells"),
    [
        ("1j * torch.ones(3)", "v.data = v.conj()", "v.is_conj(), v.tolist()"),
        ("torch.ones(3)", "v.data = torch._neg_view(v)", "v.is_neg(), v.tolist()"),
        ("torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,))", "v._coalesced_(True)", "v.is_coalesced()"),
    ],
)
def test_how_a_tensor_reads_its_memory_comes_back(make, cell, tells):
    namespace = notebook(f"import torch\nv = {make}")
    before = eval(tells, namespace)
    snapshot = Snapshot(namespace, ["v"], ALL)
    run(namespace, cell)
    assert eval(tells, namespace) != before
    assert snapshot.changes().paths == ["v"]
    snapshot.restore()
    assert eval(tells, namespace) == before
    assert not snapshot.changes().paths


SWITCHES = {
    "torch.backends.mkldnn.set_flags(False)": "torch._C._get_mkldnn_enabled()",
    "torch.backends.cuda.enable_flash_sdp(False)": "torch.backends.cuda.flash_sdp_enabled()",
    "torch.backends.mha.set_fastpath_enabled(False)": "torch.backends.mha.get_fastpath_enabled()",
    "torch.autocast('cpu').__enter__()": "(torch.ones(2, 2) @ torch.ones(2, 2)).dtype",
    "torch.sparse.check_sparse_tensor_invariants.enable()": "torch.sparse.check_sparse_tensor_invariants.is_enabled()",
    "of = torch.distributions.Distribution; of.set_default_validate_args(not of._validate_args)": (
        "torch.distributions.Normal._validate_args"
    ),
    "torch.multiprocessing.set_sharing_strategy('file_system')": "torch.multiprocessing.get_sharing_strategy()",
    "torch.hub.set_dir('/elsewhere')": "torch.hub.get_dir()",
    "torch.__future__.set_swap_module_params_on_conversion(True)": (
        "torch.__future__.get_swap_module_params_on_conversion()"
    ),
}


@pytest.mark.parametrize("cell", SWITCHES)
def test_what_torch_is_set_to_comes_back(cell):
    namespace = notebook("import torch")
    before = eval(SWITCHES[cell], namespace)
    snapshot = Snapshot(namespace, ["torch"], ALL)
    run(namespace, cell)
    assert eval(SWITCHES[cell], namespace) != before
    changes = snapshot.changes()
    changes.restore()
    assert eval(SWITCHES[cell], namespace) == before
    assert not snapshot.moved_settings()


def test_tensors_without_memory_or_of_an_opaque_layout():
    namespace = notebook(m=torch.ones(3, device="meta"))
    round_trip(namespace, "m", "m.resize_(5)")
    assert namespace["m"].shape == (3,)
    if torch.backends.mkldnn.is_available():
        opaque = notebook(v=torch.ones(3).to_mkldnn())
        assert Snapshot(opaque, ["v"], ALL).unrestorable == [
            ("v", "the array float32[3] cpu _mkldnn cannot be put back")
        ]


def test_a_lazy_layer_is_lazy_again():
    layer = torch.nn.LazyLinear(2)
    weight = layer.weight
    namespace = notebook("import torch", layer=layer)
    round_trip(namespace, "layer", "layer(torch.ones(1, 3))")
    assert type(layer) is torch.nn.LazyLinear
    assert layer.has_uninitialized_params()
    assert layer.weight is weight
    round_trip(namespace, "layer", "layer(torch.ones(1, 5))")


def test_hooks_and_graphs_of_tensors():
    namespace = notebook("""
        import torch
        seen = []
        w = torch.ones(2, requires_grad=True)
        net = torch.nn.Linear(2, 1)
        net.register_forward_hook(lambda module, args, out: seen.append('kept'))
        h = w * 2
    """)
    round_trip(
        namespace,
        "w net",
        "w.register_hook(lambda g: seen.append(1)); net.register_forward_pre_hook(print)\n"
        "w.register_post_accumulate_grad_hook(lambda p: seen.append(2))",
    )
    run(namespace, "(w * 2).sum().backward(); net(w)")
    assert namespace["seen"] == ["kept"]
    snapshot = Snapshot(namespace, ["h"], ALL)
    run(namespace, "h.add_(1)")
    with pytest.raises(Exception, match=r"h .*its place in the autograd graph cannot be put back"):
        snapshot.restore()
    assert namespace["h"].tolist() == [2, 2]


def test_loaders_and_generators_give_the_same_batches_again():
    namespace = notebook("""
        import torch
        g = torch.Generator().manual_seed(1)
        loader = torch.utils.data.DataLoader(list(range(10)), batch_size=5, shuffle=True, generator=g)
        plain = torch.utils.data.DataLoader(list(range(10)), batch_size=5, shuffle=True)
    """)
    snapshot = Snapshot(namespace, ["loader", "plain"], ALL)
    cell = "got = [b.tolist() for b in loader] + [b.tolist() for b in plain] + [torch.rand(1).item()]"
    seen = []
    for _ in range(3):
        run(namespace, cell)
        seen.append(namespace["got"])
        changes = snapshot.changes()
        assert [path.rpartition(".")[2] for path in changes.paths] == ["generator"]
        changes.restore()
    assert seen[0] == seen[1] == seen[2]
    torch.manual_seed(3)
    saved = TORCH.rng_state()
    first = torch.rand(1)
    TORCH.set_rng_state(saved)
    assert torch.equal(torch.rand(1), first)
    TORCH.seed(3)
    assert torch.equal(torch.rand(1), first)


def test_what_a_step_method_of_the_notebook_closes_over_is_the_real_model():
    namespace = notebook(
        TRAIN
        + """
    class Trainer:
        made = 0
        def __init__(self): self.log = []; Trainer.made += 1
        def step(self): self.log.append(step()); Trainer.made += 1
    train = Trainer().step
"""
    )
    weight = namespace["net"].first.weight
    before = weight.tolist()
    changed = round_trip(namespace, "train", "train()")
    assert weight.tolist() == before
    assert namespace["Trainer"].made == 1
    assert {"Trainer.made", "train.__self__.log", "net.first.weight"} <= set(changed)


def test_a_compiled_module_keeps_what_the_compiler_knows():
    namespace = notebook(
        "import torch\nnet = torch.compile(torch.nn.Linear(2, 1), backend='eager'); x = torch.ones(1, 2)"
    )
    snapshot = Snapshot(namespace, ["net", "x"], ALL)
    assert snapshot.unrestorable == []
    run(namespace, "y = net(x); y.sum().backward()")
    snapshot.restore()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    run(namespace, "net(x)")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert namespace["net"]._orig_mod.weight.grad is None


def test_the_description_of_a_tensor_has_what_a_compiled_program_depends_on():
    x = torch.ones(2, 3)
    variants = [x, x.t(), x.double(), x[0], x.clone().requires_grad_(), x.to_sparse(), torch.ones(2, 3, device="meta")]
    assert len({TORCH.describe(v) for v in variants}) == len(variants)
    assert TORCH.describe(x) == "float32[2, 3] cpu"


@pytest.mark.gpu
def test_cuda_tensors_and_generators_come_back():
    namespace = notebook("import torch\nw = torch.ones(3, device='cuda', requires_grad=True)")
    snapshot = Snapshot(namespace, ["w"], [get("torch")])
    seen = []
    for _ in range(2):
        run(namespace, "(w * torch.rand(3, device='cuda')).sum().backward(); got = w.grad.tolist(); w.data.zero_()")
        seen.append(namespace["got"])
        snapshot.restore()
    assert seen[0] == seen[1]
    assert namespace["w"].tolist() == [1, 1, 1]
    assert namespace["w"].grad is None


def test_tensors_are_swapped_inside_sets_and_the_results_of_torch():
    namespace = notebook("import torch\nv = torch.ones(3)\nbest = torch.max(v, 0)\nbag = frozenset([v]); hold = {v}")
    snapshot = Snapshot(namespace, ["best", "bag", "hold"], ALL)
    indices = namespace["best"].indices
    new = torch.zeros(3)
    snapshot.substitute({id(namespace["v"]): new, id(indices): new})
    assert namespace["best"].indices is new
    assert type(namespace["best"]) is torch.return_types.max
    assert namespace["bag"] == {new}
    assert namespace["hold"] == {new}
    snapshot.restore()
    assert namespace["best"].indices is indices
    assert namespace["bag"] == namespace["hold"] == {namespace["v"]}


def test_tensors_that_were_made_in_inference_mode():
    namespace = notebook("import torch\nwith torch.inference_mode(): v = torch.ones(3)")
    round_trip(namespace, "v", "with torch.inference_mode(): v.add_(1)")
    assert namespace["v"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("magic", "left"), [("%%torch{}", 0), ("%%compare{}\n%%torch", 48)])
def test_a_tensor_whose_memory_a_cell_frees_is_not_read(shell, magic, left):
    # torch itself would read what is not there, and the kernel would be gone
    run_cell(shell, "import torch\nt, x = torch.arange(12.0).reshape(3, 4), torch.ones(3)")
    magic = magic.format(" --budget 0.05 --mode eager -o report")
    run_cell(shell, f"{magic}\nt.untyped_storage().resize_(0)\nx * 2")
    assert [variant.status for variant in shell.user_ns["report"].variants] == ["timed"]
    assert shell.user_ns["t"].untyped_storage().nbytes() == left


def test_a_tensor_without_memory_has_no_values():
    t = torch.ones(3)
    t.untyped_storage().resize_(0)
    for one in (t, TORCH.frozen(t)):
        with pytest.raises(ValueError, match="it has no memory"):
            TORCH.to_numpy(one)
    assert TORCH.spread(t) is None


@pytest.mark.parametrize(
    "cell",
    [
        "%%torch --debug\nt * 2",
        "%%torch --budget 0.05 --mode eager\nt.add_(1)",
        "%%compare --isolate --budget 0.05 --mode eager\n%%torch a\nt * 2\n%%torch b\nt + t",
    ],
)
def test_a_tensor_can_be_resized_afterwards_as_before(shell, cell):
    run_cell(shell, "import torch\nt = torch.arange(12.0)")
    run_cell(shell, cell)
    run_cell(shell, "t.resize_(100)")
    assert shell.user_ns["t"].untyped_storage().nbytes() == 400


LAZY = """
    import torch
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3), torch.nn.LazyBatchNorm1d())
    x = torch.ones(4, 2, 2)
"""


def kinds(net):
    return [type(one).__name__ for one in (*net.parameters(), *net.buffers(), *net)]


def test_lazy_layers_are_lazy_after_a_comparison_and_made_after_a_cell(shell):
    run_cell(shell, textwrap.dedent(LAZY))
    net = shell.user_ns["net"]
    before = kinds(net)
    assert "UninitializedParameter" in before
    cell = "net(x).sum()"
    run_cell(shell, f"%%compare --budget 0.1 -o r\n%%torch a\n{cell}\n%%torch b\n{cell}")
    assert [variant.status for variant in shell.user_ns["r"]] == ["timed", "timed"]
    assert shell.user_ns["r"]["b"].agreement.status == "agrees"
    assert kinds(net) == before
    assert len(net[1]._forward_pre_hooks) == 1
    run_cell(shell, f"%%torch --budget 0.1 -o r\n{cell}")
    (variant,) = shell.user_ns["r"]
    assert (variant.status, variant.compilation.way) == ("timed", "eager")
    assert variant.compilation.reason.startswith("the first call of a lazy layer makes `net[1].weight`")
    assert not any(kind.startswith(("Uninitialized", "Lazy")) for kind in kinds(net))
