"""Modules of the user: what a compiled program may have taken for fixed in them."""

from __future__ import annotations

import importlib
import sys
import types
from importlib.machinery import SourceFileLoader

import numpy
import pytest

from fwmagic.cells.fingerprint import fingerprint_of_modules
from fwmagic.cells.modules import is_of_user, on_import
from fwmagic.cells.snapshot import Snapshot


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("K = 2\ndef f(x):\n    return x * K\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("mine")
    del sys.modules["mine"]


@pytest.mark.parametrize(
    ("name", "listed", "users"),
    [("of_hand", True, True), ("of_hand", False, True), ("numpy.of_hand", False, False), ("_cython_9", True, False)],
)
def test_whose_a_module_without_a_file_is(monkeypatch, name, listed, users):
    made = types.ModuleType(name)
    if listed:
        monkeypatch.setitem(sys.modules, name, made)
    assert is_of_user(made) is users


@pytest.mark.parametrize("name", ["mine", "f"])
def test_a_number_of_a_module_of_the_user_counts(module, name):
    namespace = {"mine": module, "f": module.f}
    before = fingerprint_of_modules(namespace, [name])
    assert fingerprint_of_modules(namespace, [name]) == before
    module.K = 3
    assert fingerprint_of_modules(namespace, [name]) != before


def test_a_function_that_was_redefined_counts(module):
    before = fingerprint_of_modules({"mine": module}, ["mine"])
    module.f = eval("lambda x: x")
    assert fingerprint_of_modules({"mine": module}, ["mine"]) != before


def test_libraries_do_not_count(module):
    assert fingerprint_of_modules({"np": numpy, "sys": sys, "x": 3}, ["np", "sys", "x", "unknown"]) == ()


def test_modules_that_are_imported_meanwhile_are_put_back_to_what_their_import_made(tmp_path, monkeypatch):
    (tmp_path / "later.py").write_text("calls = []\ndef f():\n    calls.append(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    snapshot, before = Snapshot({}, [], []), dict(vars(SourceFileLoader))
    with on_import(snapshot.take_in):
        later = importlib.import_module("later")
        later.f()
        later.K = 3
    assert snapshot.changes().paths == ["later.K", "later.calls"]
    snapshot.restore()
    assert (later.calls, hasattr(later, "K")) == ([], False)
    assert dict(vars(SourceFileLoader)) == before
    del sys.modules["later"]


def test_what_was_installed_into_a_folder_of_its_own_is_a_library(tmp_path, monkeypatch):
    """As `pip install --target` does; what else is there is the user's, and so is what was installed to be edited."""
    (tmp_path / "beside.py").touch()
    for name in ("installed", "edited"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("class Held:\n    made = []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = {name: importlib.import_module(name) for name in ("beside", "edited")}
    information = tmp_path / "installed-1.0.dist-info"
    information.mkdir()
    (information / "RECORD").write_text("../bin/run,,\ninstalled/__init__.py,sha256=0,31\n")
    modules["installed"] = importlib.import_module("installed")
    assert [name for name, one in modules.items() if is_of_user(one)] == ["beside", "edited"]
    snapshot = Snapshot({"v": modules["installed"].Held()}, ["v"], [])
    assert modules["installed"].Held.made not in snapshot.objects()
    for name in modules:
        del sys.modules[name]
