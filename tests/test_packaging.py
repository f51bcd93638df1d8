"""The wheel and the sdist: built without a network, complete, and of the version that the package says."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import fwmagic

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was made from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder], cwd=ROOT, check=True)
    (sdist,) = folder.glob("*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*command, "-w", folder, sdist], cwd=folder, check=True)
    return folder


@pytest.fixture
def wheel(built) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture
def metadata(wheel):
    return HeaderParser().parsestr(wheel.read(f"fwmagic-{fwmagic.__version__}.dist-info/METADATA").decode())


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fwmagic").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if name.startswith("fwmagic/")} == package
    assert {"fwmagic/report/report.css", "fwmagic/charts/times.json", "fwmagic/py.typed"} <= package


def test_wheel_and_sdist_carry_the_built_extension(wheel, built):
    data = f"fwmagic-{fwmagic.__version__}.data/data/share/jupyter/labextensions/fwmagic"
    names = {name.removeprefix(f"{data}/") for name in wheel.namelist() if name.startswith(data)}
    assert {"package.json", "install.json", "schemas/fwmagic/panel.json"} <= names
    assert [name for name in names if name.startswith("static/remoteEntry.")]
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        shipped = {name.partition("/")[2] for name in sdist.getnames()}
    assert [name for name in shipped if name.startswith("fwmagic/labextension/static/remoteEntry.")]
    assert {"labextension/src/index.ts", "labextension/package-lock.json", "labextension/hatch_build.py"} <= shipped
    assert not [name for name in shipped if "node_modules" in name or name.startswith("labextension/lib")]


def test_both_packages_have_one_version():
    assert json.loads((ROOT / "labextension/package.json").read_text())["version"] == fwmagic.__version__


def test_the_locks_name_no_registry():
    for lock in ("labextension/package-lock.json", "tests/chromium/package-lock.json"):
        assert "resolved" not in (ROOT / lock).read_text()


def test_the_bundle_is_small(wheel):
    """60 kB gzipped at most: it brings no chart library of its own."""
    bundle = b"".join(wheel.read(name) for name in wheel.namelist() if name.startswith("fwmagic/labextension/static/"))
    assert 5_000 < len(gzip.compress(bundle)) <= 60_000


def test_the_sdist_holds_the_tests_and_the_examples_and_no_build_output(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = ("pyproject.toml", "README.md", "LICENSE", "fwmagic/report/report.css", "tests/conftest.py", "Makefile")
    assert names.issuperset([*needed, "examples/quickstart.ipynb"])
    assert not [name for name in names if name.split("/")[0] in {"build", ".venv"} or "__pycache__" in name]


def test_the_version_is_the_one_of_the_package(metadata):
    assert metadata["Version"] == fwmagic.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"


def test_each_extra_that_an_error_can_name_exists(metadata):
    assert {"torch", "jax", "memory", "lab", "picture", "test", "all"} == set(metadata.get_all("Provides-Extra"))


def test_the_package_itself_needs_no_framework_and_no_notebook_application(metadata):
    needed = {line.split(">")[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert needed == {
        "cloudpickle",
        "ipython",
        "numpy",
        "nvidia-ml-py",
        "psutil",
        "tblib",
        "threadpoolctl",
        "tqdm",
    }


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    bounds = [line.split(";")[0].split(",")[0].split(">=") for line in requirements if ">=" in line]
    return {name: version for name, version in bounds}


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_the_lowest_versions_that_are_stated_are_the_ones_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    stated = lower_bounds([*project["dependencies"], *extras["torch"], *extras["jax"]])
    lowest = pinned("constraints-lowest.txt")
    for name, version in stated.items():
        assert lowest[name] == version or lowest[name].startswith(f"{version}."), name


def test_the_constraints_pin_every_framework():
    assert {"torch", "jax", "jaxlib", "flax", "optax", "numpy", "ipython"} <= set(pinned("constraints.txt"))
