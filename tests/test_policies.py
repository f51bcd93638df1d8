"""Policies of allocators: JAX's and torch's own parsers read each environment, and `%%compare --alloc` runs them.

Where there is no GPU, `AllocRun._no_device` is made to say that there is one: the processes then compute on the CPU,
and everything but the memory of the device is real.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
from unittest.mock import patch

import jax  # noqa: F401 -- not later: it sets variables when it is imported
import pytest
from cells import fail, names, run, shown, untouched
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError
from jaxlib import xla_client
from leftovers import shared_memory, workers

from fwmagic.errors import FwMagicError
from fwmagic.frameworks.memory import Policy
from fwmagic.frameworks.torch import FRAMEWORK as TORCH_FRAMEWORK
from fwmagic.memory import nvml
from fwmagic.memory.policies import ALL, every_policy, named_policies, policy_environment
from fwmagic.run import isolated
from fwmagic.run.alloc import AllocRun
from fwmagic.worker.process import Worker

pytestmark = pytest.mark.memory

POLICIES = every_policy()
JAX = {policy.name: policy for policy in POLICIES if policy.framework == "jax"}
TORCH = {policy.name: policy for policy in POLICIES if policy.framework == "torch"}
FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
CONFIGURATIONS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
# What a user may have chosen before, and what has nothing to do with it.
CHOSEN = {
    "XLA_CLIENT_MEM_FRACTION": ".5",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": ".25",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_PYTHON_CLIENT_ALLOCATOR": "cuda_async",
    "TF_GPU_ALLOCATOR": "cuda_malloc_async",
    "TF_CUDA_MALLOC_ASYNC_SUPPORTED_PREALLOC": "100",
    "PYTORCH_ALLOC_CONF": "max_split_size_mb:64",
    "PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync",
    "PYTORCH_HIP_ALLOC_CONF": "max_split_size_mb:32",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
}
OTHER = {
    "PATH": "/bin",
    "CUDA_VISIBLE_DEVICES": "1",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",
    "JAX_PLATFORMS": "cuda",
}


def parsed(environment):
    """What JAX's own parser reads in exactly this environment."""
    with patch.dict(os.environ, environment, clear=True):
        return dict(xla_client.generate_pjrt_gpu_plugin_options())


def spellings(environment):
    return [[name for name in names if name in environment] for names in (FRACTIONS, CONFIGURATIONS)]


@pytest.fixture(scope="module")
def torch_parses():
    """Ask torch's own parser what it reads in some environments, each in a process that has read none before."""
    code = (
        "import json, os, sys, torch\n"
        "for environment in json.load(sys.stdin):\n"
        "    if not os.fork():\n"
        "        os.environ.update(environment)\n"
        "        print(json.dumps(torch._C._accelerator_getAllocatorSettings()), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    base = {name: value for name, value in os.environ.items() if name not in CHOSEN}

    def ask(*environments):
        given = json.dumps([{n: v for n, v in one.items() if n in CHOSEN} for one in environments])
        done = subprocess.run(
            [sys.executable, "-c", code], input=given, env=base, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


# The environments

STARTS = [
    pytest.param({}, id="nothing"),
    pytest.param(OTHER, id="other"),
    pytest.param(OTHER | CHOSEN, id="all"),
    *(pytest.param({name: value}, id=name) for name, value in CHOSEN.items()),
]


class TestOfJax:
    @pytest.mark.parametrize("start", STARTS)
    @pytest.mark.parametrize(
        ("name", "allocator", "preallocate"),
        [
            ("preallocate", "default", True),
            ("ondemand", "default", False),
            ("platform", "platform", False),
            ("cuda_async", "cuda_async", False),
        ],
    )
    def test_jaxs_own_parser_reads_the_policy(self, name, allocator, preallocate, start):
        found = parsed(policy_environment(start, JAX[name]))
        assert (found["allocator"], found["preallocate"]) == (allocator, preallocate)
        fraction = next((float(start[spelling]) for spelling in FRACTIONS if spelling in start), None)
        assert found.get("memory_fraction") == fraction

    def test_there_is_no_other_one(self):
        assert list(JAX) == ["preallocate", "ondemand", "platform", "cuda_async"]

    @pytest.mark.parametrize("policy", JAX.values(), ids=str)
    def test_what_xla_reads_besides_is_gone(self, policy):
        assert (
            not {"TF_GPU_ALLOCATOR", "TF_CUDA_MALLOC_ASYNC_SUPPORTED_PREALLOC"}
            & policy_environment(CHOSEN, policy).keys()
        )

    @pytest.mark.parametrize("policy", JAX.values(), ids=str)
    def test_what_torch_reads_stays(self, policy):
        start = {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64", "PYTORCH_NO_CUDA_MEMORY_CACHING": "1", **OTHER}
        assert policy_environment(start, policy).items() >= start.items()


class TestOfTorch:
    def test_torchs_own_parser_reads_the_policy(self, torch_parses):
        starts = [{}, CHOSEN, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}]
        environments = [policy_environment(start, policy) for policy in TORCH.values() for start in starts]
        wanted = {
            "caching": "backend:native",
            "expandable": "backend:native,expandable_segments:True",
            "async": "backend:cudaMallocAsync",
            "none": "",
        }
        assert torch_parses(*environments) == [wanted[name] for name in TORCH for _ in starts]

    @pytest.mark.parametrize("start", STARTS)
    @pytest.mark.parametrize("policy", TORCH.values(), ids=str)
    def test_only_one_of_them_turns_the_cache_off(self, policy, start):
        off = policy_environment(start, policy).get("PYTORCH_NO_CUDA_MEMORY_CACHING")
        assert off == ("1" if policy.name == "none" else None)

    @pytest.mark.parametrize("policy", TORCH.values(), ids=str)
    def test_what_jax_reads_stays(self, policy):
        start = {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform", "TF_GPU_ALLOCATOR": "cuda_malloc_async", **OTHER}
        assert policy_environment(start, policy).items() >= start.items()

    @pytest.mark.slow
    def test_of_several_spellings_that_one_stays_which_torch_reads(self, torch_parses):
        values = dict(zip(CONFIGURATIONS, ("max_split_size_mb:64", "max_split_size_mb:128", ""), strict=True))
        starts = [{n: v for i, (n, v) in enumerate(values.items()) if 1 << i & which} for which in range(8)]
        assert torch_parses(*map(TORCH_FRAMEWORK.memory.environment, starts)) == torch_parses(*starts)


VALUES = {
    **{name: st.sampled_from(["", ".5", ".25"]) for name in FRACTIONS},
    "XLA_PYTHON_CLIENT_PREALLOCATE": st.sampled_from(["", "true", "false", "0", "1"]),
    "XLA_PYTHON_CLIENT_ALLOCATOR": st.sampled_from(["default", "platform", "BFC", "cuda_async"]),
    "TF_GPU_ALLOCATOR": st.sampled_from(["", "cuda_malloc_async"]),
    **{name: st.sampled_from(["", "backend:native", "max_split_size_mb:64"]) for name in CONFIGURATIONS},
    "PYTORCH_NO_CUDA_MEMORY_CACHING": st.sampled_from(["", "0", "1"]),
    **{name: st.just(value) for name, value in OTHER.items()},
}
ENVIRONMENTS = st.fixed_dictionaries({}, optional=VALUES)


@given(start=ENVIRONMENTS, policy=st.sampled_from([None, *POLICIES]))
def test_no_environment_has_two_spellings_or_loses_what_is_not_a_choice(start, policy):
    before, kernel = dict(start), dict(os.environ)
    found = policy_environment(start, policy)
    assert (start, dict(os.environ)) == (before, kernel)
    assert all(len(names) <= 1 for names in spellings(found))
    assert found.items() >= {name: value for name, value in start.items() if name in OTHER}.items()
    assert found.keys() <= {*start, *policy_of(policy), "JAX_PLATFORMS"}
    assert all(found[name] == start[name] for name in found if name in start and name not in policy_of(policy))
    fractions = [float(start[name]) for name in FRACTIONS if start.get(name)]
    assert parsed(found).get("memory_fraction") == next(iter(fractions), None)
    assert policy is None or found.items() >= policy.variables.items()


def policy_of(policy):
    """The variables that a policy sets, and the one by which JAX is to take memory on demand."""
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **(policy.variables if policy else {})}


@given(start=ENVIRONMENTS)
def test_on_demand_keeps_what_the_user_has_chosen(start):
    chosen = [n for n in start if start[n] and (n.startswith("XLA_PYTHON_CLIENT_") or n.startswith("TF_"))]
    chosen = [name for name in chosen if name not in FRACTIONS]
    found = parsed(policy_environment(start))
    fraction = next((name for name in FRACTIONS if start.get(name)), None)
    one = parsed({name: value for name, value in start.items() if name not in FRACTIONS or name == fraction})
    assert found == (one if chosen else one | {"preallocate": False})


@pytest.mark.parametrize(
    ("given", "platforms"), [({}, "cuda,cpu"), ({"JAX_PLATFORMS": ""}, "cuda,cpu"), (OTHER, "cuda")]
)
def test_a_policy_of_jax_lets_it_not_start_on_the_cpu_unsaid(given, platforms):
    assert policy_environment(given, JAX["platform"])["JAX_PLATFORMS"] == platforms


@pytest.mark.parametrize("value", ["true", "false", "0"])
def test_on_demand_leaves_a_choice_of_preallocation(value):
    start = {"XLA_PYTHON_CLIENT_PREALLOCATE": value}
    assert policy_environment(start) == start


def test_on_demand_chooses_where_nothing_is_chosen():
    assert policy_environment(OTHER) == {**OTHER, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    assert parsed(policy_environment({}))["preallocate"] is False
    assert "preallocate" not in parsed({})


class TestRead:
    def test_all(self):
        assert named_policies(ALL) == named_policies(f" {ALL} ") == POLICIES

    def test_names_in_their_order_each_once(self):
        found = named_policies("torch:none, jax:ondemand,torch:none")
        assert [str(policy) for policy in found] == ["torch:none", "jax:ondemand"]

    @pytest.mark.parametrize(
        "text", ["", ",", "jax", "jax:", "platform", "jax:caching", "JAX:platform", "all,jax:platform"]
    )
    def test_what_is_no_policy_is_one_sentence_that_lists_them(self, text):
        with pytest.raises(
            FwMagicError, match=r"is no policy; there are: jax:preallocate, .*, torch:none; or all alone$"
        ):
            named_policies(text)

    def test_a_policy_is_known_by_its_name(self):
        assert all(named_policies(str(policy)) == (policy,) for policy in POLICIES)
        assert str(Policy("torch", "x", {}, "")) == "torch:x"


# %%compare --alloc


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """After every run, whatever happened in it: no process, no shared memory, and the environment as it was."""
    environment, before = _environment(), shared_memory()
    yield
    assert _environment() == environment
    if "shell" in request.fixturenames:
        gc.collect()
        assert workers() == []
        assert shared_memory() - before == set()


def _environment():
    """Return the environment without what pytest sets, and threadpoolctl when it is imported."""
    passed_by = ("PYTEST_CURRENT_TEST", "KMP_DUPLICATE_LIB_OK")
    return {name: value for name, value in os.environ.items() if name not in passed_by}


@pytest.fixture
def device(monkeypatch):
    """A machine that says it has a GPU, on which JAX then computes on the CPU."""
    monkeypatch.setattr(AllocRun, "_no_device", lambda self: "")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Every worker that is started finds no other one alive; the list has their numbers."""
    started = []

    class Watched(Worker):
        def __init__(self, *arguments):
            others = workers()
            super().__init__(*arguments)
            started.append((self.number, others, arguments[1]))

    monkeypatch.setattr(isolated, "Worker", Watched)
    yield started
    assert [others for _, others, _ in started] == [[]] * len(started)


def statuses(report):
    return {variant.name: variant.status for variant in report}


def of_host(variant):
    (amount,) = next(ledger for ledger in variant.memory if ledger.device == "host").peak
    return amount


class TestWithoutADevice:
    CELL = """%%compare --alloc all --budget 0.3 {options}
%%numpy
np.ones(1 << 21)
%%torch --mode eager {section}
torch.ones(1 << 21, dtype=torch.float64)
%%jax --mode eager {section}
jnp.ones(1 << 22)
"""

    def check(self, shell, why, **options):
        with untouched(shell):
            run(shell, self.CELL.format(**{"options": "", "section": "", **options}))
        report = shown(shell)[-1]
        assert report.note == (
            f"No GPU here ({why}): a policy of an allocator changes nothing, so each variant is there once, on the host"
        )
        assert statuses(report) == {"numpy": "timed", "torch": "timed", "jax": "timed"}
        assert report.ratios == ()
        assert report.fastest is None
        for variant in report:
            # Linux's counter of pages is one of batches: it is right to a part of a MiB
            assert of_host(variant).bytes >= 15 << 20
            assert variant.note == ""
            assert all(ledger.released == () for ledger in variant.memory)
        begun = [one for one in shown(shell) if any(variant.status != "waiting" for variant in one)]
        assert {one.conditions.process for one in begun} == {"a fresh process for each variant, one at a time"}
        return report

    @pytest.mark.slow
    def test_there_is_one_sentence_and_each_variant_runs_once_on_the_host(self, shell, monkeypatch, one_at_a_time):
        def count():
            raise FwMagicError("the NVIDIA driver's library libnvidia-ml.so.1 was not found.")

        monkeypatch.setattr(nvml, "count", count)
        run(shell, "import torch, jax, jax.numpy as jnp\nkept = jnp.ones(3)")
        report = self.check(shell, "the NVIDIA driver's library libnvidia-ml.so.1 was not found")
        assert len(one_at_a_time) == 3
        assert str(report).count("No GPU here") == 1

    @pytest.mark.slow
    def test_a_driver_without_devices_says_so(self, shell, monkeypatch):
        monkeypatch.setattr(nvml, "count", lambda: 0)
        self.check(shell, "NVML sees none")

    def test_a_device_that_is_not_wanted_is_none(self, shell, monkeypatch):
        monkeypatch.setattr(nvml, "count", lambda: 1)
        cell = self.CELL.replace("%%numpy\nnp.ones(1 << 21)\n", "").format(options="--device cpu", section="")
        run(shell, cell)
        report = shown(shell)[-1]
        assert "(--device cpu was asked for)" in report.note
        assert statuses(report) == {"torch": "timed", "jax": "timed"}


MANY = """%%compare --alloc torch:caching,torch:none,jax:platform,jax:ondemand --budget 0.6 --no-check --items 7
%%torch --mode eager
import os
settings = os.environ.get("PYTORCH_ALLOC_CONF") == "backend:native", "PYTORCH_NO_CUDA_MEMORY_CACHING" in os.environ
jax_may_take_all = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") != "false"
torch.tensor([os.getpid(), *settings, jax_may_take_all])
%%jax --mode eager
import os
settings = [os.environ[f"XLA_PYTHON_CLIENT_{name}"] for name in ("ALLOCATOR", "PREALLOCATE")]
np.array([os.getpid(), settings[0] == "platform", settings[1] == "false"])
%%numpy
import os
np.array([os.getpid(), os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") == "false"])
"""


@pytest.mark.slow
def test_every_policy_has_a_fresh_process_one_at_a_time(shell, device, one_at_a_time):
    run(shell, "import torch, jax.numpy as jnp\nkept = jnp.ones(3), torch.ones(3)")
    run(shell, "report = None")
    before = names(shell)
    run(shell, MANY.replace("--items", "-o report --items"))
    report = shell.user_ns["report"]
    assert names(shell) == {**before, "report": id(report)}
    assert statuses(report) == dict.fromkeys(
        ("torch caching", "torch none", "jax platform", "jax ondemand", "numpy"), "timed"
    )
    seen = {variant.name: [int(value) for value in variant.outputs["Out"]] for variant in report}
    pids = [found[0] for found in seen.values()]
    assert len({*pids, os.getpid()}) == 6
    assert pids == [number for number, _, _ in one_at_a_time]
    assert [anew for _, _, anew in one_at_a_time] == [True, True, True, True, False]
    assert {name: found[1:] for name, found in seen.items()} == {
        "torch caching": [1, 0, 0],
        "torch none": [0, 1, 0],
        "jax platform": [1, 1],
        "jax ondemand": [0, 1],
        "numpy": [1],
    }
    assert (report.note, report.ratios, report.fastest) == ("", (), None)
    assert report.conditions.process == "a fresh process for each policy, one at a time"
    assert report.spent > 0
    assert report["jax platform"].options["alloc"] == "jax:platform"
    for variant in report:
        assert of_host(variant).bytes is not None
        assert variant.time.items_per_second == pytest.approx(7 / variant.time.median)
    notes = {variant.name: variant.note for variant in report}
    assert notes["numpy"] == ""
    assert re.fullmatch(
        r"jax:platform: asks the driver each time, gives back each time; read back: .*jax allocator = platform, .*"
        r"jax preallocate = False.*",
        notes["jax platform"],
    )
    assert "jax allocator = default" in notes["jax ondemand"]
    assert "torch allocator settings = backend:native" in notes["torch caching"]
    assert "torch caching = off" in notes["torch none"]
    assert all("computed on the CPU, where the policy" in note for note in notes.values() if note)


def test_a_section_that_is_to_run_on_the_cpu_has_no_policies(shell, monkeypatch, one_at_a_time):
    monkeypatch.setattr(nvml, "count", lambda: 1)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    run(
        shell,
        "%%compare --alloc jax:platform --budget 0.2 --no-check\n%%jax here --device cpu --mode eager\n"
        "jnp.ones(3)\n%%jax there --mode eager\njnp.ones(3)",
    )
    report = shown(shell)[-1]
    assert statuses(report) == {"here": "timed", "there platform": "timed"}
    assert (report.note, report["here"].note) == ("", "")
    assert [anew for _, _, anew in one_at_a_time] == [False, True]


@pytest.mark.slow
def test_modes_have_each_policy(shell, device, monkeypatch):
    monkeypatch.setattr("fwmagic.measure.load.BUSY", -1.0)
    run(
        shell,
        "%%compare --alloc jax:platform --budget 0.2\n%%setup\nx = np.ones(4, np.float32)\n"
        "%%jax --mode all\njnp.tanh(x)",
    )
    report = shown(shell)[-1]
    assert {variant.name: (variant.mode, variant.status) for variant in report} == {
        f"jax:{mode} platform": (mode, "timed") for mode in ("eager", "compiled")
    }
    assert {variant.agreement.status for variant in report if variant.agreement is not None} == {"agrees"}
    assert "FW601" in [finding.code for finding in report.findings]


PLATFORM = 'import os\nif os.environ["XLA_PYTHON_CLIENT_ALLOCATOR"] == "platform":\n    {}\njnp.ones(3)\n'
TWO = "%%compare --alloc jax:platform,jax:ondemand {}\n%%jax --mode eager\n" + PLATFORM


@pytest.mark.slow
def test_a_policy_whose_process_dies_is_its_variants_failure_and_no_others(shell, device, one_at_a_time):
    with untouched(shell):
        error = fail(shell, TWO.format("--budget 0.2", "os.kill(os.getpid(), 9)"))
    report = shown(shell)[-1]
    assert statuses(report) == {"jax platform": "failed", "jax ondemand": "timed"}
    assert report["jax platform"].failure.message.startswith("its process ")
    assert isinstance(error, UsageError)
    assert str(error).startswith("jax platform: its process ")
    assert report.state == "failed"
    assert len(one_at_a_time) == 2


@pytest.mark.slow
def test_an_error_under_one_policy_leaves_no_process_beside_the_next_one(shell, device, one_at_a_time):
    error = fail(shell, TWO.format("--budget 0.2", "1 / 0"))
    report = shown(shell)[-1]
    assert type(error) is ZeroDivisionError
    assert statuses(report) == {"jax platform": "failed", "jax ondemand": "timed"}
    assert (report["jax platform"].failure.line, report["jax platform"].failure.stage) == (5, "first run")
    assert len(one_at_a_time) == 2


@pytest.mark.slow
def test_a_policy_whose_process_dies_while_its_memory_is_measured(shell, device, monkeypatch):
    memory = isolated.IsolatedVariant.memory

    def killed(self):
        if self.name == "jax platform":
            os.kill(self.worker.number, signal.SIGKILL)
        return memory(self)

    monkeypatch.setattr(isolated.IsolatedVariant, "memory", killed)
    error = fail(shell, "%%compare --alloc jax:platform,jax:ondemand --budget 0.2\n%%jax --mode eager\njnp.ones(3)")
    report = shown(shell)[-1]
    assert statuses(report) == {"jax platform": "failed", "jax ondemand": "timed"}
    assert report["jax platform"].failure.stage == "memory"
    assert str(error).startswith("jax platform: its process ")


@pytest.mark.slow
def test_a_policy_whose_process_dies_while_it_is_timed(shell, device, monkeypatch):
    block, names = isolated.IsolatedVariant.block, []

    def killed(self, *arguments):
        names.append(self.name)
        if names.count("jax platform") == 3 == len(names):
            os.kill(self.worker.number, signal.SIGKILL)
        return block(self, *arguments)

    monkeypatch.setattr(isolated.IsolatedVariant, "block", killed)
    fail(shell, "%%compare --alloc jax:platform,jax:ondemand --budget 0.4\n%%jax --mode eager\njnp.ones(3)")
    report = shown(shell)[-1]
    assert statuses(report) == {"jax platform": "failed", "jax ondemand": "timed"}
    assert report["jax platform"].failure.stage == "timing"
    assert report["jax platform"].failure.message.startswith("its process ")
    assert report["jax platform"].time is None


@pytest.mark.slow
def test_an_error_while_a_policy_is_timed_is_its_failure(shell, device, tmp_path):
    code = (
        f"from pathlib import Path\n    calls = Path({str(tmp_path)!r}, 'calls')\n"
        "    calls.open('a').write('x')\n    if calls.stat().st_size > 3: raise ValueError('once more')"
    )
    error = fail(shell, TWO.format("--budget 0.2 --repeat-effects", code))
    report = shown(shell)[-1]
    assert (type(error), str(error)) == (ValueError, "once more")
    assert statuses(report) == {"jax platform": "failed", "jax ondemand": "timed"}
    failure = report["jax platform"].failure
    assert (failure.error, failure.message, failure.line, failure.stage) == ("ValueError", "once more", 8, "timing")
    assert report.state == "failed"


@pytest.mark.slow
def test_the_timeout_ends_a_policy_that_hangs_and_none_that_is_timed_for_longer(shell, device, one_at_a_time):
    cell = TWO.format("--timeout 3 --budget 8", "import time; time.sleep(60)")
    error = fail(shell, cell)
    report = shown(shell)[-1]
    assert statuses(report) == {"jax platform": "failed", "jax ondemand": "timed"}
    assert "did not answer within 3 s" in report["jax platform"].failure.message
    assert "did not answer within 3 s" in str(error)


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (None, "cuda,cpu"),
        pytest.param("", "cuda,cpu", marks=pytest.mark.slow),
        pytest.param("cpu", "cpu", marks=pytest.mark.slow),
    ],
)
def test_jax_is_told_to_start_on_the_gpu_unless_the_user_has_chosen(shell, monkeypatch, chosen, seen):
    """Else it would only log that it cannot, and compute on the CPU."""
    monkeypatch.setattr(AllocRun, "_no_device", lambda self: "")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("JAX_PLATFORMS", chosen)
    cell = "%%compare --alloc jax:ondemand --budget 0.1 -o report\n%%jax --mode eager\nimport os\n"
    run(shell, cell + f"np.int64(os.environ['JAX_PLATFORMS'] == {seen!r})")
    assert shell.user_ns["report"]["jax ondemand"].outputs["Out"] == 1


def test_an_interrupt_ends_the_worker_and_marks_what_was_not_run(shell, device):
    run(shell, "import numpy as np\nkept = np.ones(3)")
    main = threading.main_thread().ident
    timer = threading.Timer(4, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with untouched(shell):
        error = fail(shell, TWO.format("", "import time; time.sleep(60)"))
    timer.join()
    assert isinstance(error, KeyboardInterrupt)
    report = shown(shell)[-1]
    assert report.state == "interrupted"
    assert statuses(report) == {"jax platform": "interrupted", "jax ondemand": "interrupted"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--alloc jax:nothing", "'jax:nothing' is no policy; there are: jax:preallocate"),
        ("--alloc torch:none", "--alloc names policies of torch, and there is no %%torch section; add one"),
        ("--alloc all --no-memory", "--alloc measures memory, and --no-memory turns that off"),
    ],
)
def test_bad_input_is_one_sentence_and_runs_nothing(shell, line, sentence):
    with untouched(shell):
        error = fail(shell, f"%%compare {line}\n%%jax\njnp.ones(3)")
    assert isinstance(error, UsageError)
    assert sentence in str(error)
    assert shown(shell) == []


@pytest.mark.gpu
def test_the_policies_of_torch_on_a_real_device(shell):
    run(
        shell,
        "%%compare --alloc torch:caching,torch:expandable,torch:async,torch:none --budget 0.8 -o report\n"
        "%%torch --mode eager --device cuda\nx = torch.ones(1 << 26)\n(x + 1).sum()",
    )
    report = shell.user_ns["report"]
    assert set(statuses(report).values()) == {"timed"}
    for variant in report:
        ledger = variant.memory[0]
        assert ledger.device.startswith("cuda:")
        amounts = {amount.kind: amount for amount in ledger.peak}
        if variant.name == "torch none":
            assert amounts["in use"].bytes is None
            assert "without its cache" in amounts["in use"].why
        else:
            assert amounts["in use"].bytes >= 2 << 28
        assert [amount.kind for amount in ledger.released] == ["after del", "after empty_cache()"]
    assert "torch allocator = cudaMallocAsync" in report["torch async"].note
    assert "torch allocator = native" in report["torch caching"].note
    after_del = {variant.name: variant.memory[0].released[0].bytes for variant in report}
    assert after_del["torch caching"] > 0
