"""What the numbers of a report hold for."""

from __future__ import annotations

import platform

import jax
import jaxlib
import numpy as np
import torch
from cells import run

from fwmagic import frameworks
from fwmagic.measure.load import Load
from fwmagic.run.place import conditions_here, conditions_with_load
from fwmagic.run.session import distinct


def test_versions_devices_threads_settings_and_load():
    adapters = [frameworks.get(name) for name in ("torch", "jax", "numpy")]
    load = Load()
    load.start()
    load.stop()
    found = conditions_with_load(conditions_here(adapters, {"torch": "cpu"}), load, "A converted")
    assert found.versions["python"] == platform.python_version()
    assert found.versions["torch"] == str(torch.__version__)
    assert (found.versions["jax"], found.versions["jaxlib"]) == (jax.__version__, jaxlib.__version__)
    assert found.versions["numpy"] == np.__version__
    assert set(found.devices) == set(found.threads) == {"torch", "jax", "numpy"}
    assert found.devices["jax"].startswith("cpu:0")
    assert str(torch.get_num_threads()) in found.threads["torch"]
    assert not {name for name in found.settings if name.startswith(("torch.", "jax"))}, "all are as they come"
    assert found.inputs == "A converted"
    assert (found.load_before, found.load_during) == (load.before, load.during)
    assert found.machine
    assert found.process == "the kernel's own process"


def test_the_settings_are_those_of_now_that_are_not_as_they_come(shell):
    run(shell, "%%jax --budget 0.05 --mode eager -o r\n1")
    assert shell.user_ns["r"].conditions.settings == {}
    with jax.enable_x64(True):
        run(shell, "%%jax --budget 0.05 --mode eager -o r\n1")
    assert shell.user_ns["r"].conditions.settings == {"jax_enable_x64": "True"}


def test_each_framework_is_there_once():
    torch_, jax_ = frameworks.get("torch"), frameworks.get("jax")
    assert distinct([torch_, jax_, torch_]) == [torch_, jax_]


def test_a_cell_that_runs_once_has_them_too(shell):
    run(shell, "rest = iter('ab')")
    run(shell, "%%jax -o r\nnext(rest)")
    assert shell.user_ns["r"].conditions.versions["jax"] == jax.__version__
    assert shell.user_ns["r"].conditions.load_during is not None
