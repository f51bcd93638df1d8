"""The test run itself: skips are listed, and one that is not marked `gpu` fails the session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

ROOT = Path(__file__).parent.parent


def run_pytest(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source)
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu: needs a CUDA device\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_skip_that_is_not_marked_gpu_is_listed_and_fails_the_session(tmp_path):
    done = run_pytest(tmp_path, "import pytest\ndef test_a():\n    pytest.skip('too lazy')\n")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "NOT ALLOWED (not marked gpu) test_it.py::test_a: too lazy" in done.stdout


def test_a_skipped_module_fails_the_session_too(tmp_path):
    done = run_pytest(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n")
    assert done.returncode != 0
    assert "NOT ALLOWED" in done.stdout


def test_a_skip_marked_gpu_is_listed_and_allowed(tmp_path):
    source = "import pytest\n@pytest.mark.gpu\ndef test_a():\n    pytest.skip('no device')\ndef test_b():\n    pass\n"
    done = run_pytest(tmp_path, source)
    assert done.returncode == 0
    assert "test_it.py::test_a: " in done.stdout
    assert "skipped 1, of which not allowed 0" in done.stdout


def test_each_shell_is_fresh_and_is_the_one_that_get_ipython_returns(bare_shell):
    assert "left_over" not in bare_shell.user_ns
    bare_shell.run_cell("left_over = 1; here = get_ipython()").raise_error()
    assert bare_shell.user_ns["here"] is bare_shell
    assert InteractiveShell.instance() is bare_shell


def test_what_a_shell_displays_is_captured(bare_shell):
    assert bare_shell.display_pub.outputs == []
    bare_shell.run_cell("display({'text/plain': 'hello'}, raw=True)").raise_error()
    assert [output["data"] for output in bare_shell.display_pub.outputs] == [{"text/plain": "hello"}]
