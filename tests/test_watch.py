"""What a run does to the world outside of the notebook, as its audit events tell."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import threading

import pytest
from cells import run

from fwmagic.cells.watch import Watch

SETUP = """
import asyncio, os, pathlib, shutil, socket, sqlite3, subprocess, sys, tempfile
from threading import Thread
import numpy as np
here = pathlib.Path("here.txt")
def write():
    here.write_text("2")
"""


@pytest.fixture
def watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    exec(SETUP, namespace)
    (tmp_path / "here.txt").write_text("1")

    def run(text):
        code = compile(textwrap.dedent(text), "cell", "exec")
        with Watch(namespace, "cell") as watch:
            exec(code, namespace)
        return watch.effect and (watch.effect.line, watch.effect.reason)

    return run


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a = 1\nhere.write_text('3')", 2, "writes `here.txt`"),
        ("a = 1\nwrite()", 2, "writes `here.txt`"),
        ("def inner():\n    with here.open('a'): pass\ninner()", 2, "writes `here.txt`"),
        ("np.arange(3).tofile('b')", 1, "writes `b`"),
        ("os.close(os.open('b', os.O_WRONLY | os.O_CREAT))", 1, "writes `b`"),
        ("here.unlink()", 1, "removes `here.txt`"),
        ("here.rename('there.txt')", 1, "moves `here.txt`"),
        ("os.mkdir('folder')", 1, "makes the folder `folder`"),
        ("shutil.copy('here.txt', 'copy.txt')", 1, "writes `copy.txt`"),
        ("here.chmod(0o600)", 1, "changes `here.txt`"),
        ("os.utime(here)", 1, "changes `here.txt`"),
        ("subprocess.run([sys.executable, '-c', ''])", 1, f"runs `{sys.executable}`"),
        ("os.system('true')", 1, "runs `true`"),
        ("sqlite3.connect('d.db').close()", 1, "opens the database `d.db`"),
        ("s = socket.socket(); s.bind(('127.0.0.1', 0)); s.close()", 1, "uses the network"),
        ("t = Thread(target=here.write_text, args=('3',)); t.start(); t.join()", None, "writes `here.txt`"),
        ("tempfile.mkdtemp()", 1, "makes the folder `"),
    ],
)
def test_what_a_cell_does_to_the_world(watched, text, line, why):
    found = watched(text)
    assert found is not None
    assert (found[0], found[1][: len(why)]) == (line, why)


@pytest.mark.parametrize(
    "text",
    [
        "here.read_text()",
        "list(pathlib.Path('.').glob('*'))",
        "print('a')",
        "open(os.devnull, 'w').close()",
        "sqlite3.connect(':memory:').close()",
        "async def f(): await asyncio.sleep(0)\nasyncio.run(f())",
        "import wave, xmlrpc.client",
        "os.environ['A_B'] = '1'; del os.environ['A_B']",
    ],
)
def test_what_does_nothing_to_the_world(watched, text):
    assert watched(text) is None


def test_what_others_do_meanwhile_is_not_the_cells(watched, tmp_path):
    go, done = threading.Event(), threading.Event()

    def work():
        go.wait()
        (tmp_path / "other").write_text("1")
        done.set()

    threading.Thread(target=work).start()
    namespace = {"go": go, "done": done}
    with Watch(namespace, "cell") as watch:
        exec("go.set(); done.wait()", namespace)
    assert watch.effect is None


def test_nothing_is_heard_when_nobody_watches(watched, tmp_path):
    assert watched("a = 1") is None
    with Watch({}, "cell") as watch:
        pass
    (tmp_path / "later").write_text("1")
    assert watch.effect is None


def test_what_we_write_ourselves_is_not_the_cells(tmp_path):
    with Watch({}, "cell") as watch, tempfile.NamedTemporaryFile(dir=tmp_path):
        subprocess.run(["true"], check=True)
    assert watch.effect is None


def test_the_files_of_a_run_can_be_put_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.txt").write_text("1")
    (tmp_path / "empty.txt").write_text("")
    text = """
    import os, numpy as np
    from pathlib import Path
    with open("old.txt", "a") as file:
        file.write("2")
    Path("old.txt").write_text("3")
    Path("empty.txt").write_text("4")
    np.save("new.npy", np.arange(3))
    open("gone.txt", "w").close()
    os.remove("gone.txt")
    """
    with Watch({}, "cell") as watch:
        exec(compile(textwrap.dedent(text), "cell", "exec"), {})
    watch.put_back_files()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.txt": "1", "empty.txt": ""}


@pytest.mark.parametrize("line", ["np.ones(3).tofile('log.txt')", "target.write_text('x')"])
def test_a_comparison_leaves_the_files_that_it_writes_as_they_were(shell, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").write_text("before")
    run(shell, "from pathlib import Path\ntarget = Path('log.txt')\nimport numpy as np")
    run(shell, f"%%compare -o report\n%%numpy a\n{line}\nnp.ones(2)\n%%numpy b\n{line}\nnp.ones(2)")
    assert [variant.status for variant in shell.user_ns["report"]] == ["run-once"] * 2
    assert (tmp_path / "log.txt").read_text() == "before"
