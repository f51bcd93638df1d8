"""`--first-difference` names the first lines that part, whatever was planted there, and leaves nothing behind."""

from __future__ import annotations

import sys
import textwrap

import pytest
from cells import run, untouched
from tiers import tiered

SETUP = """
rng = np.random.default_rng(0)
x, w, u = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8), (8, 4)))
b = rng.standard_normal(8).astype(np.float32)
images = rng.standard_normal((2, 3, 9, 9)).astype(np.float32)
kernel = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
"""
# Each pair of bodies parts first at the two lines that end in `# here`.
PLANTED = {
    "gelu kind": (
        """
        h = x @ w
        h = torch.nn.functional.gelu(h)  # here
        h @ u
        """,
        """
        h = x @ w
        h = jax.nn.gelu(h)  # here
        h @ u
        """,
    ),
    "gelu kind, written in other lines": (
        """
        h = torch.nn.functional.gelu(x @ w)  # here
        h @ u
        """,
        """
        h = x @ w
        inner = 0.7978845608 * (h + 0.044715 * h**3)
        h = 0.5 * h * (1 + jnp.tanh(inner))  # here
        h @ u
        """,
    ),
    "eps of a layer norm": (
        """
        h = x @ w
        h = torch.nn.functional.layer_norm(h, (8,))  # here
        torch.tanh(h) @ u
        """,
        """
        h = x @ w
        mean = h.mean(-1, keepdims=True)
        var = ((h - mean) ** 2).mean(-1, keepdims=True)
        h = (h - mean) / jnp.sqrt(var + 1e-2)  # here
        jnp.tanh(h) @ u
        """,
    ),
    "bias": (
        """
        h = x @ w + b  # here
        h = torch.tanh(h)
        h @ u
        """,
        """
        h = x @ w  # here
        h = jnp.tanh(h)
        h @ u
        """,
    ),
    "bias, on a line of its own": (
        """
        h = x @ w
        h = h + b  # here
        h = torch.tanh(h)
        h @ u
        """,
        """
        h = x @ w
        h = jnp.tanh(h)  # here
        h @ u
        """,
    ),
    "transposed weight": (
        """
        h = torch.relu(x @ w)  # here
        h @ u
        """,
        """
        h = jax.nn.relu(x @ w.T)  # here
        h @ u
        """,
    ),
    "scale": (
        """
        q, k = x @ w, x
        s = q @ k.T / 8**0.5  # here
        torch.softmax(s, -1) @ x
        """,
        """
        q, k = x @ w, x
        s = q @ k.T  # here
        jax.nn.softmax(s, -1) @ x
        """,
    ),
    "mask": (
        """
        s = x @ x.T
        mask = torch.triu(torch.ones(16, 16), 1).bool()
        s = s.masked_fill(mask, float("-inf"))  # here
        p = torch.softmax(s, -1)
        p @ x
        """,
        """
        s = x @ x.T
        mask = jnp.tril(jnp.ones((16, 16)))
        s = jnp.where(mask == 1, s, 0.0)  # here
        p = jax.nn.softmax(s, -1)
        p @ x
        """,
    ),
    "mask, of another diagonal": (
        """
        s = x @ x.T
        mask = torch.tril(torch.ones(16, 16))  # here
        s = s.masked_fill(mask == 0, -1e9)
        torch.softmax(s, -1) @ x
        """,
        """
        s = x @ x.T
        mask = jnp.tril(jnp.ones((16, 16)), 1)  # here
        s = jnp.where(mask == 0, -1e9, s)
        jax.nn.softmax(s, -1) @ x
        """,
    ),
    "dropout": (
        """
        h = torch.relu(x @ w)
        h = torch.nn.functional.dropout(h, 0.5)  # here
        h @ u
        """,
        """
        h = jax.nn.relu(x @ w)
        h = h @ u  # here
        h
        """,
    ),
    "dtype": (
        """
        h = x @ w
        h = torch.tanh(h)  # here
        h @ u
        """,
        """
        h = x @ w
        h = jnp.tanh(h.astype(jnp.bfloat16)).astype(jnp.float32)  # here
        h @ u
        """,
    ),
    "padding": (
        """
        h = torch.nn.functional.pad(images, (1, 1, 1, 1))  # here
        h = torch.nn.functional.conv2d(h, kernel)
        h.mean((2, 3))
        """,
        """
        h = jnp.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")  # here
        h = jax.lax.conv(h, kernel, (1, 1), "VALID")
        h.mean((2, 3))
        """,
    ),
    "padding of a convolution": (
        """
        h = torch.nn.functional.conv2d(images, kernel)  # here
        h = torch.relu(h)
        h.mean((2, 3))
        """,
        """
        h = jax.lax.conv(images, kernel, (1, 1), "SAME")  # here
        h = jax.nn.relu(h)
        h.mean((2, 3))
        """,
    ),
    "order of axes": (
        """
        h = x.reshape(2, 8, 8)
        h = torch.softmax(h, 1)  # here
        h.reshape(16, 8) @ u
        """,
        """
        h = x.reshape(2, 8, 8)
        h = jax.nn.softmax(h, 2)  # here
        h.reshape(16, 8) @ u
        """,
    ),
    "momentum": (
        """
        running = torch.zeros(8)
        for turn in range(3):
            running = 0.9 * running + 0.1 * x[turn]  # here
        torch.tanh(running)
        """,
        """
        running = jnp.zeros(8)
        for turn in range(3):
            running = 0.99 * running + 0.1 * x[turn]  # here
        jnp.tanh(running)
        """,
    ),
    "init": (
        """
        first = torch.full((8, 8), 0.3)
        second = torch.full((8, 4), 0.1)  # here
        torch.tanh(x @ first) @ second
        """,
        """
        first = jnp.full((8, 8), 0.3)
        second = jnp.full((8, 4), 0.2)  # here
        jnp.tanh(x @ first) @ second
        """,
    ),
}


def cell_of(first, second, options="", setup=SETUP):
    parts = [
        f"%%compare --first-difference --mode eager --budget 0.02 -o r {options}".rstrip(),
        "%%setup",
        setup.strip(),
    ]
    return "\n".join([*parts, "%%torch", textwrap.dedent(first).strip(), "%%jax", textwrap.dedent(second).strip()])


def marked(cell):
    """Return the numbers of the lines that end in `# here`."""
    return [number for number, line in enumerate(cell.splitlines(), 1) if line.endswith("# here")]


def finding(shell):
    (found,) = [one for one in shell.user_ns["r"].findings if one.code == "FW403"]
    return found


QUICKLY = PLANTED.keys() - {
    "mask, of another diagonal",
    "padding of a convolution",
    "gelu kind, written in other lines",
}


@pytest.mark.parametrize(("first", "second"), tiered(PLANTED, *QUICKLY))
def test_the_first_lines_that_part(shell, first, second):
    cell = cell_of(first, second)
    run(shell, cell)
    found = finding(shell)
    ours, theirs = marked(cell)
    assert f"first difference: torch line {ours} `" in found.sentence
    assert f" and jax line {theirs} `" in found.sentence
    assert (found.variant, found.line) == ("jax", theirs)


TORCH_NET = """
class Net(torch.nn.Module):
    def __init__(self, **kinds):
        super().__init__()
        self.kinds = kinds
        self.one, self.two = torch.nn.Linear(8, 16, bias=kinds.get("bias", True)), torch.nn.Linear(16, 4)
        self.norm = torch.nn.LayerNorm(16, eps=kinds.get("eps", 1e-6))

    def forward(self, x):
        h = self.one(x)
        h = self.norm(h)
        h = torch.nn.functional.gelu(h, approximate=self.kinds.get("gelu", "tanh"))
        return self.two(h)
"""
LINEN_NET = """
class FlaxNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(16, name="one")(x)
        h = nn.LayerNorm(name="norm")(h)
        h = nn.gelu(h)
        return nn.Dense(4, name="two")(h)
"""
NNX_NET = """
class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.one, self.two = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)

    def __call__(self, x):
        h = self.one(x)
        h = self.norm(h)
        h = nnx.gelu(h)
        return self.two(h)
"""
MODELS = """
import numpy as np, torch, jax, jax.numpy as jnp
import flax.linen as nn
from flax import nnx
"""
SAME_WEIGHTS = """
x = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32) * 0.1
nnx_net = NnxNet(nnx.Rngs(0))
flax_net = FlaxNet()
state = {"params": {
    "one": {"kernel": nnx_net.one.kernel[...], "bias": 0.1 * jnp.arange(16)},
    "two": {"kernel": nnx_net.two.kernel[...], "bias": nnx_net.two.bias[...]},
    "norm": {"scale": nnx_net.norm.scale[...], "bias": nnx_net.norm.bias[...]},
}}
nnx_net.one.bias[...] = 0.1 * jnp.arange(16)
def with_weights(net):
    with torch.no_grad():
        for ours, theirs in ((net.one, nnx_net.one), (net.two, nnx_net.two)):
            ours.weight.copy_(torch.from_numpy(np.array(theirs.kernel[...]).T))
            if ours.bias is not None:
                ours.bias.copy_(torch.from_numpy(np.array(theirs.bias[...])))
    return net.eval()
"""
NETS = {"linen": ("FlaxNet.__call__", "flax_net.apply(state, x)"), "nnx": ("NnxNet.__call__", "nnx_net(x)")}
CHANGES = {
    "gelu": ("gelu='none'", 11, {"linen": 6, "nnx": 9}),
    "eps": ("eps=1e-3", 10, {"linen": 5, "nnx": 8}),
    "bias": ("bias=False", 9, {"linen": 4, "nnx": 7}),
}


@pytest.fixture
def models(shell):
    run(shell, MODELS)
    for source in (TORCH_NET, LINEN_NET, NNX_NET, SAME_WEIGHTS):
        run(shell, source.lstrip("\n"))
    return shell


MODULES = {f"{change}, {kind}": (kind, change) for kind in NETS for change in CHANGES}


@pytest.mark.parametrize(("kind", "change"), tiered(MODULES, "gelu, linen", "eps, nnx"))
def test_the_first_lines_of_modules_that_part(models, kind, change):
    arguments, ours, theirs = CHANGES[change]
    run(models, f"net = with_weights(Net({arguments}))")
    name, call = NETS[kind]
    with untouched(models):
        run(models, cell_of("net(x)", call, "--inputs x", setup="unused = 1").replace("-o r", "") + "\n")
    run(models, cell_of("net(x)", call, "--inputs x", setup="unused = 1"))
    sentence = finding(models).sentence
    assert f"first difference: torch line {ours} of `Net.forward` `" in sentence
    assert f" and jax line {theirs[kind]} of `{name}` `" in sentence


def test_modules_that_agree_have_no_first_difference(models):
    run(models, "net = with_weights(Net())")
    run(models, cell_of("net(x)", "nnx_net(x)", "--inputs x", setup="unused = 1"))
    report = models.user_ns["r"]
    assert report["jax"].agreement.status == "agrees"
    assert [one.code for one in report.findings if one.code == "FW403"] == []


# Pairs that are written in other ways, with lines beside the first difference that could be taken for it.
MORE = {
    "another way to work out the same, before": (
        """
        h = torch.nn.functional.layer_norm(x, (8,))
        h = torch.tanh(h @ w)
        h = torch.sin(h)  # here
        h @ u
        """,
        """
        centred = x - x.mean(-1, keepdims=True)
        h = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        h = jnp.tanh(h @ w)
        h = jnp.cos(h)  # here
        h @ u
        """,
    ),
    "a branch that agrees, after": (
        """
        left = torch.tanh(x) * 2  # here
        right = torch.tanh(x @ w)
        right = torch.sin(right)
        (left + right) @ u
        """,
        """
        left = jnp.tanh(x) * 3  # here
        right = jnp.tanh(x @ w)
        right = jnp.sin(right)
        (left + right) @ u
        """,
    ),
    "batched in the one, and one after the other in the other": (
        """
        h = torch.tanh(x @ w)
        h = torch.exp(h)  # here
        h @ u
        """,
        """
        def one(row):
            h = jnp.tanh(row @ w)
            h = jnp.expm1(h)  # here
            return h @ u
        jax.vmap(one)(x)
        """,
    ),
    "in a function that is differentiated": (
        """
        a = w.clone().requires_grad_()
        h = torch.tanh(x @ a)
        loss = (h**2).mean()  # here
        loss.backward()
        a.grad
        """,
        """
        def loss_of(a):
            h = jnp.tanh(x @ a)
            return (h**2).sum()  # here
        jax.grad(loss_of)(w)
        """,
    ),
    "in a function that the user compiled": (
        """
        h = torch.tanh(x @ w)
        h = h - h.mean()  # here
        h @ u
        """,
        """
        @jax.jit
        def centred(h):
            return h - h.mean(0)  # here
        h = jnp.tanh(x @ w)
        centred(h) @ u
        """,
    ),
    "in place": (
        """
        h = x @ w
        h[:, 0] = 1.0  # here
        torch.tanh(h)
        """,
        """
        h = x @ w
        h = h.at[0].set(1.0)  # here
        jnp.tanh(h)
        """,
    ),
    "in place, element by element": (
        """
        y = x[:4, :4].clone()
        for i in range(4):
            for j in range(4):
                y[i, j] = y[i, j] * 2  # here
        y
        """,
        """
        import numpy
        y = numpy.array(x[:4, :4])
        for i in range(4):
            for j in range(4):
                y[i, j] = y[i, j] * (3 if (i, j) == (2, 1) else 2)  # here
        jnp.asarray(y)
        """,
    ),
    "a branch that is taken in one only": (
        """
        h = x @ w
        if h.sum() > 1e9:  # here
            h = h * 2
        h @ u
        """,
        """
        h = x @ w
        if h.sum() < 1e9:  # here
            h = h * 2
        h @ u
        """,
    ),
    "in a later turn of a loop": (
        """
        h = x
        for turn in range(4):
            h = torch.tanh(h @ w)
            h = h + (0.5 if turn == 2 else 0.0)  # here
        h
        """,
        """
        h = x
        for turn in range(4):
            h = jnp.tanh(h @ w)
            h = h + 0.0  # here
        h
        """,
    ),
    "the axes of images in another order": (
        """
        h = torch.nn.functional.conv2d(images, kernel)
        h = torch.relu(h)
        h = torch.nn.functional.max_pool2d(h, 2)  # here
        h.mean((2, 3))
        """,
        """
        order = ("NHWC", "OIHW", "NHWC")
        h = jax.lax.conv_general_dilated(images.transpose(0, 2, 3, 1), kernel, (1, 1), "VALID", dimension_numbers=order)
        h = jax.nn.relu(h)
        h = jax.lax.reduce_window(h, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")  # here
        h.mean((1, 2))
        """,
    ),
}


TOLD = (
    "another way to work out the same, before",
    "a branch that agrees, after",
    "in a function that is differentiated",
)


@pytest.mark.parametrize(("first", "second"), tiered(MORE, *TOLD))
def test_the_first_lines_that_part_beside_others_that_do_not(shell, first, second):
    cell = cell_of(first, second)
    run(shell, cell)
    found = finding(shell)
    ours, theirs = marked(cell)
    assert f"first difference: torch line {ours} " in found.sentence
    assert f" and jax line {theirs} " in found.sentence


def test_what_the_two_lines_computed_is_said(shell):
    run(shell, cell_of(*PLANTED["gelu kind"]))
    sentence = finding(shell).sentence
    assert "`h = torch.nn.functional.gelu(h)" in sentence
    assert "shape [16, 8], " in sentence
    assert "values differ, by 0.000" in sentence
    assert sentence.endswith("jax.nn.gelu approximates with tanh unless approximate=False")
    run(shell, cell_of("torch.nn.functional.gelu(x @ w)", "jax.nn.gelu(x @ w) * 2"))  # the kind is not all of it
    assert "tanh" not in finding(shell).sentence
    run(shell, cell_of(*PLANTED["scale"]))
    assert "jax is 2.82843 x torch everywhere" in finding(shell).sentence
    run(shell, cell_of(*MORE["in a later turn of a loop"]))
    assert "(when it runs for the 3rd time)" in finding(shell).sentence


OPTIMIZER = """
torch.manual_seed(0)
net = torch.nn.Linear(8, 1)
opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
start = net.weight.detach().numpy().T.copy(), net.bias.detach().numpy().copy()
"""


@pytest.mark.slow
def test_the_parameters_of_an_optimizer_that_part(shell):
    run(shell, MODELS + OPTIMIZER)
    ours = """
        for turn in range(3):
            opt.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            opt.step()  # here
        net.weight
        """
    theirs = """
        w, b = start
        v = jnp.zeros((8, 1)), jnp.zeros(1)
        loss_of = lambda p: ((x @ p[0] + p[1]) ** 2).mean()
        for turn in range(3):
            g = jax.grad(loss_of)((w, b))
            v = 0.5 * v[0] + g[0], 0.5 * v[1] + g[1]  # here
            w, b = w - 0.1 * v[0], b - 0.1 * v[1]
        w
        """
    with untouched(shell):
        cell = cell_of(ours, theirs)
        run(shell, cell.replace("-o r", ""))
    run(shell, cell)
    sentence = finding(shell).sentence
    ours, theirs = marked(cell)
    assert f"torch line {ours} " in sentence
    assert f"jax line {theirs} " in sentence


def test_sections_that_agree_or_have_nothing_to_compare_have_none(shell):
    for second in ("x + 1", "y = x\ny = 2 * y"):
        run(shell, cell_of("y = x\ny + 1" if second == "x + 1" else "z = x\nz = z * 3", second))
        assert [one for one in shell.user_ns["r"].findings if one.code == "FW403"] == []


def test_outputs_that_part_nowhere_are_said_so(shell):
    run(shell, cell_of("h = x @ w\n(h, h)", "h = x @ w\n[h]"))
    assert "no line of torch and jax was found to part: " in finding(shell).sentence


def test_a_section_that_is_run_only_once_is_left_out(shell):
    run(shell, cell_of("x + 1", "import logging\nlogging.addLevelName(7, 'l')\nx + 2"))
    assert shell.user_ns["r"]["jax"].agreement.status == "differs"
    assert [one for one in shell.user_ns["r"].findings if one.code == "FW403"] == []


def test_three_sections_are_each_followed_once(shell):
    cell = cell_of("y = x * 2\ny @ w", "y = x * 3\ny @ w") + "\n%%numpy\ny = x * 4\ny @ w"
    run(shell, cell)
    found = [one for one in shell.user_ns["r"].findings if one.code == "FW403"]
    assert [one.variant for one in found] == ["jax", "numpy"]
    assert all("torch line 9 `y = x * 2`" in one.sentence for one in found)
    assert "numpy line 15 `y = x * 4`" in found[1].sentence


FOLLOWED = """
def followed():
    if sys.gettrace() is not None:
        raise ValueError("no")
    return 2.0
"""


def test_what_raises_line_by_line_is_said(shell):
    run(shell, f"import sys{FOLLOWED}")
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        run(shell, cell_of("x * 3", "x * followed()"))
    finally:
        sys.settrace(trace)
    assert "was not looked for: run line by line, the cell raised ValueError: no" in finding(shell).sentence


def test_a_debugger_that_was_there_is_there_afterwards(shell):
    def trace(*_):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(shell, cell_of(*PLANTED["scale"]))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert "first difference" in finding(shell).sentence
