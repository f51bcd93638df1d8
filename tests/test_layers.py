"""Imports point down only; torch and JAX have their own modules; no module grows too long."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fwmagic"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 300

# A module may import from its own layer and from those below it (further down in this list).
LAYERS = [
    {"__init__", "magics", "execute", "options", "line", "live", "now"},
    {"run"},
    {"worker", "cells", "measure", "memory", "findings"},
    {"frameworks"},
    {"picture", "words", "text", "html", "bars", "ledgers", "strips", "remarks", "sentences", "format"},
    {"report", "parts", "wire", "errors"},
]
# A stored report can be shown without any of the packages that fwmagic runs on.
STDLIB_ONLY = LAYERS[-2] | LAYERS[-1]
ADAPTED = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "flax": "jax", "optax": "jax"}
# What no other module names in code: what is said of a framework comes from it.
OF_FRAMEWORKS = re.compile(
    r"(?<![a-z])(torch|pytorch|dynamo|\w*inductor|triton|jax|jaxlib|jnp|xla|pjrt|flax|nnx|optax)(?![a-z])",
    re.IGNORECASE,
)
NAMED_ANYWAY = {
    "magics.py": "the two magics bear these names",
    "options.py": "help sentences and errors show what a user writes, and two options are those of torch.compile",
}
# `str(report)` draws the report: the one import that points up, inside a method.
VIEWS_OF_THE_REPORT = {"text", "html", "words", "picture"}
# What a view may ask for when it is called, and names in its error.
ASKED_FOR = {"picture": {"vl_convert"}}


def imports(source: str, module: str = "x") -> list[tuple[str, bool]]:
    """Return what is imported as absolute dotted names, and whether at import of the module (not in a function)."""
    tree = ast.parse(source)
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            if node.module == "fwmagic":
                found += [(f"fwmagic.{alias.name}", id(node) not in inside) for alias in node.names]
            else:
                found.append((node.module or "", id(node) not in inside))
    return found


def noun(path: Path) -> str:
    """Return the part of the package that a file belongs to: `cells` for cells/split.py, `run` for run.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def layer(name: str) -> int:
    for depth, nouns in enumerate(LAYERS):
        if name in nouns:
            return depth
    raise AssertionError(f"fwmagic.{name} is in no layer: name it in LAYERS")


def imported_nouns(path: Path) -> list[str]:
    known = {noun(module) for module in MODULES}.union(*LAYERS)
    names = [name.split(".") for name, _ in imports(path.read_text(), str(path))]
    parts = [name[1] if len(name) > 1 else "__init__" for name in names if name[0] == "fwmagic"]
    return [part if part in known else "__init__" for part in parts]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = noun(path)
    for other in imported_nouns(path):
        if own == "report" and other in VIEWS_OF_THE_REPORT:
            continue
        assert layer(other) >= layer(own), f"{own} imports {other}, which lies above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_framework_is_imported_only_in_its_own_modules(path):
    for name, _ in imports(path.read_text()):
        root = name.split(".")[0]
        if root in ADAPTED:
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            assert parts[:2] == ("frameworks", ADAPTED[root]), f"{path.name} imports {root}"


def in_code(source: str) -> list[tuple[int, str]]:
    """Return the texts and names of a module, with their lines; no comments and no docstrings."""
    tree = ast.parse(source)
    bodies = (body for node in ast.walk(tree) if isinstance(body := getattr(node, "body", None), list))
    alone = {id(statement.value) for body in bodies for statement in body if isinstance(statement, ast.Expr)}
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            texts = [node.value] if id(node) not in alone else []
        else:
            texts = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "module", "asname")]
        found += [(getattr(node, "lineno", 0), text) for text in texts if isinstance(text, str)]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_names_a_framework_in_code(path):
    named = [f"line {line}: {text!r}" for line, text in in_code(path.read_text()) if of_a_framework(text)]
    if path.relative_to(PACKAGE).parts[0] != "frameworks" and path.name not in NAMED_ANYWAY:
        assert not named, "ask the framework for it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "charts").iterdir()), ids=lambda path: path.name)
def test_no_chart_names_a_framework(path):
    assert not of_a_framework(path.read_text())


def of_a_framework(text: str) -> bool:
    return OF_FRAMEWORKS.search(text.replace("_", " ")) is not None


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ('"""Of torch."""\nx = 1  # of jax', False),
        ('def f():\n    """Of torch."""', False),
        ('x = "%%torch"', True),
        ('x = f"{1} of XLA"', True),
        ("torch_only = 1", True),
        ("x.is_jax", True),
        ("def f(flax): ...", True),
        ("from jax import numpy", True),
        ("import torch.nn", True),
        ("relaxed = flaxen", False),
    ],
)
def test_the_scan_sees_each_kind_of_name(source, named):
    assert any(of_a_framework(text) for _, text in in_code(source)) is named


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_numpy_is_imported_when_needed_only(path):
    at_import = {name.split(".")[0] for name, early in imports(path.read_text()) if early}
    parts = path.relative_to(PACKAGE).parts
    if parts[0] != "frameworks" or parts == ("frameworks", "__init__.py"):
        assert not at_import & {"numpy", "pandas"}


@pytest.mark.parametrize("name", sorted(STDLIB_ONLY))
def test_the_report_and_its_views_need_the_standard_library_only(name):
    path = PACKAGE / f"{name}.py"
    for imported, early in imports(path.read_text()):
        root = imported.split(".")[0]
        allowed = root == "fwmagic" or root in sys.stdlib_module_names
        assert allowed or (not early and root in ASKED_FOR.get(name, ())), f"{path.name} imports {root}"
    assert set(imported_nouns(path)) <= STDLIB_ONLY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_too_long(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{path.name} has {lines} lines: split it by its nouns"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", [("torch.nn", True)]),
        ("from fwmagic import run, text", [("fwmagic.run", True), ("fwmagic.report.text", True)]),
        ("def f():\n    from jax import numpy", [("jax", False)]),
        ("class A:\n    import jax", [("jax", True)]),
        ("if TYPE_CHECKING:\n    import numpy", []),
    ],
)
def test_the_scan_sees_each_kind_of_import(source, found):
    assert imports(source) == found
