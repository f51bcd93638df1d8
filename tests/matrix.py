"""The core of the tests under several versions of Python, torch and JAX: `make matrix`; gigabytes, and many minutes.

Each row has an environment of its own, `.venv-matrix-NAME`, which is kept until `make clean`. It has what the package
needs and no JupyterLab; the package itself is read from this folder. An interpreter that is not on PATH is named in
the table, and fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
#: The tests of cells, of the ways to compile them, and of the report.
CORE = (
    *("ways", "function", "names", "analyse", "single", "sections", "report", "state", "fingerprint", "callables"),
    *("loops", "uses", "torch_compile", "torch", "torch_state", "jax", "jax_trace", "jax_state", "jax_functions"),
    "numpy",
)
#: What these tests need of the extra `test`.
TOOLS = {"hypothesis", "ipykernel", "jsonschema", "nbclient", "nbformat", "pytest", "pytest-xdist"}
SHOWN = ("torch", "jax", "flax", "numpy", "ipython")
_VERSIONS = "import platform, importlib.metadata as m; print(platform.python_version(), *map(m.version, {names!r}))"


@dataclass(frozen=True)
class Row:
    """One combination: its name, its Python, and the file that pins the rest."""

    name: str
    python: str
    constraints: str

    @property
    def interpreter(self) -> Path:
        return ROOT / f".venv-matrix-{self.name}" / "bin" / "python"

    def install(self) -> None:
        """Make the environment, unless it is younger than what it is made from."""
        ready = self.interpreter.parent.parent / ".ready"
        sources = [ROOT / "pyproject.toml", ROOT / self.constraints]
        if ready.exists() and ready.stat().st_mtime > max(source.stat().st_mtime for source in sources):
            return
        subprocess.run([self.python, "-m", "venv", "--clear", ready.parent], check=True)
        pip = [self.interpreter, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "-c", ROOT / self.constraints, *requirements()], check=True)
        ready.touch()

    def versions(self) -> list[str]:
        """Return the versions of Python and of what is shown."""
        code = _VERSIONS.format(names=SHOWN)
        return subprocess.run([self.interpreter, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    def run(self) -> tuple[int, int, int]:
        """Run the core tests; return how many passed, failed and were skipped."""
        tests = [f"tests/test_{name}.py" for name in CORE]
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results.xml"
            options = ("-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", "-p", "no:cacheprovider")
            subprocess.run(
                [self.interpreter, "-m", "pytest", *options, f"--junitxml={results}", *tests],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=False,
            )
            (suite,) = ElementTree.parse(results).getroot()
        total, *bad, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
        return total - sum(bad) - skipped, sum(bad), skipped


ROWS = (
    Row("lowest", "python3.11", "constraints-lowest.txt"),
    Row("today", "python3.11", "constraints.txt"),
    Row("between", "python3.12", "constraints-between.txt"),
    Row("newest", "python3.13", "constraints-newest.txt"),
)


def requirements() -> list[str]:
    """Return what the package and its core tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = [line for line in extras["test"] if re.split("[^a-z-]", line)[0] in TOOLS]
    return [
        *project["dependencies"],
        *(line for name in ("torch", "jax", "memory", "picture") for line in extras[name]),
        *tools,
    ]


def main(names: list[str]) -> int:
    """Run the rows of these names, or all; print the table and return the exit status."""
    table = [["", "Python", *SHOWN, "passed", "failed", "skipped"]]
    succeeded = True
    for row in ROWS:
        if names and row.name not in names:
            continue
        if which(row.python) is None:
            table.append([row.name, f"no {row.python} here", *["-"] * 8])
            succeeded = False
            continue
        row.install()
        passed, failed, skipped = row.run()
        succeeded = succeeded and passed > 0 and not failed
        table.append([row.name, *row.versions(), str(passed), str(failed), str(skipped)])
    for line in (table[0], ["---"] * len(table[0]), *table[1:]):
        print(f"| {' | '.join(line)} |")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
