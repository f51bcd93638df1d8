"""The plan of the house, measured from the source: imports point one way, without circles; a name means one thing."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fwmagic"
# What is built for JupyterLab lies in the package, too.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "labextension" not in path.relative_to(PACKAGE).parts)

# A room (a package of fwmagic, or a module beside them) may import from its own floor and from those below it.
FLOORS = [
    {"__init__", "magics", "completion", "execute", "display"},
    {"debug"},
    {"run"},
    {"options", "line"},
    {"memory"},
    {"worker", "cells", "agreement", "measure"},
    {"frameworks"},
    {"report"},
    {"format", "errors", "libraries"},
]
# A stored report can be shown without any of the packages that fwmagic runs on.
STDLIB_ONLY = {"report", "format", "errors", "libraries"}
# What a view may ask for when it is called, and names in its error.
ASKED_FOR = {"report.charts": {"vl_convert"}}
# The libraries that have an adapter here, by the adapter that may import them.
ADAPTED = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "flax": "jax", "optax": "jax"}
# What no module outside of frameworks/ names in code: what is said of a framework comes from it.
OF_FRAMEWORKS = re.compile(
    r"(?<![a-z])(torch|pytorch|dynamo|\w*inductor|triton|jax|jaxlib|jnp|xla|pjrt|flax|nnx|optax)(?![a-z])",
    re.IGNORECASE,
)
NAMED_ANYWAY = {
    "magics": "the two magics bear these names",
    "options": "help sentences show what a user writes, and two options are those of torch.compile",
    "line": "help and errors show what a user writes",
}
# Functions of one meaning in several modules: a memory pass calls something once, and returns its ledger.
FAMILIES = {"measure": {"memory.device", "memory.heap", "memory.host"}}


def name_of(path: Path) -> str:
    """Return `cells.split` for cells/split.py, and `cells` for cells/__init__.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") or "__init__"


MODULES = {name_of(path): path for path in FILES}


def imports(source: str) -> list[tuple[str, bool]]:
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
            assert node.level == 0, "a relative import"
            found += [(f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names]
    return found


def targets(source: str) -> set[str]:
    """Return the modules of fwmagic that a source imports from."""
    found = set()
    for name, _ in imports(source):
        own = name.removeprefix("fwmagic.") if name.startswith("fwmagic.") else ""
        while own and own not in MODULES:
            own = own.rpartition(".")[0]
        if own or name == "fwmagic":
            found.add(own or "__init__")
    return found


GRAPH = {name: targets(path.read_text()) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    for depth, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return depth
    raise AssertionError(f"fwmagic.{room(module)} is on no floor: name it in FLOORS")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the circles of a graph: its strongly connected parts of more than one module, each in order."""
    reach = {name: {name} for name in graph}
    for _ in graph:
        wider = {name: seen.union(*(graph[one] for one in seen)) for name, seen in reach.items()}
        if wider == reach:
            break
        reach = wider
    parts = {frozenset(one for one in graph if name in reach[one] and one in reach[name]) for name in graph}
    return sorted(sorted(part) for part in parts if len(part) > 1)


every_module = pytest.mark.parametrize("module", sorted(MODULES))


@every_module
def test_imports_point_down(module):
    for other in GRAPH[module]:
        assert floor(other) >= floor(module), f"{module} imports {other}, which lies above it"


def test_no_modules_are_in_a_circle():
    assert circles(GRAPH) == []


def test_a_circle_would_be_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"e"}}) == [["a", "b", "c"]]


@every_module
def test_a_framework_is_imported_by_its_own_adapter_only(module):
    for name, _ in imports(MODULES[module].read_text()):
        library = name.partition(".")[0]
        if library in ADAPTED:
            assert module.split(".")[:2] == ["frameworks", ADAPTED[library]], f"{module} imports {library}"


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


def of_a_framework(text: str) -> bool:
    return OF_FRAMEWORKS.search(text.replace("_", " ")) is not None


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(NAMED_ANYWAY)))
def test_no_other_module_names_a_framework_in_code(module):
    named = [f"line {line}: {text!r}" for line, text in in_code(MODULES[module].read_text()) if of_a_framework(text)]
    assert room(module) == "frameworks" or not named, "ask the framework for it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "charts").iterdir()), ids=lambda path: path.name)
def test_no_chart_names_a_framework(path):
    assert not of_a_framework(path.read_text())


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


@every_module
def test_numpy_is_imported_when_it_is_needed_only(module):
    at_import = {name.partition(".")[0] for name, early in imports(MODULES[module].read_text()) if early}
    if not module.startswith("frameworks."):
        assert not at_import & {"numpy", "pandas"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) in STDLIB_ONLY))
def test_the_report_and_its_views_need_the_standard_library_only(module):
    for imported, early in imports(MODULES[module].read_text()):
        library = imported.partition(".")[0]
        allowed = library == "fwmagic" or library in sys.stdlib_module_names
        assert allowed or (not early and library in ASKED_FOR.get(module, ())), f"{module} imports {library}"


def test_data_does_not_know_its_views():
    views = {"report.text", "report.html", "report.drawings", "report.charts"}
    data = {"report.report", "report.wire", "report.words", "report.findings", "report.scale"}
    assert {module: GRAPH[module] & views for module in data} == {module: set() for module in data}
    assert all(GRAPH[one] & views <= {"report.drawings"} for one in views)


def test_no_name_means_two_things():
    """Public functions and classes; frameworks answer the same questions, each in its own module."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        if module.startswith("frameworks."):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                owners[node.name].add(module)
    twice = {name: where for name, where in owners.items() if len(where) > 1 and FAMILIES.get(name) != where}
    assert twice == {}


def test_the_plan_in_numbers(capsys):
    arrows = sum(map(len, GRAPH.values()))
    rooms = {(room(one), room(other)) for one, others in GRAPH.items() for other in others} - {
        (name, name) for name in map(room, GRAPH)
    }
    upward = [pair for pair in rooms if floor(pair[0]) > floor(pair[1])]
    lines = sum(len(path.read_text().splitlines()) for path in FILES)
    with capsys.disabled():
        print(f"\nfwmagic: {len(FILES)} files, {lines} lines, {arrows} arrows between modules")
        print(f"between rooms {len(rooms)} arrows, {len(upward)} of them upward; {len(circles(GRAPH))} circles")
    assert upward == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", [("torch.nn", True)]),
        ("from fwmagic import run, text", [("fwmagic.run", True), ("fwmagic.text", True)]),
        ("def f():\n    from jax import numpy", [("jax.numpy", False)]),
        ("class A:\n    import jax", [("jax", True)]),
        ("if TYPE_CHECKING:\n    import numpy", []),
    ],
)
def test_the_scan_sees_each_kind_of_import(source, found):
    assert imports(source) == found
