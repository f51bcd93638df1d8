"""What a run does to the world outside of the notebook, as stand-ins for functions of Python tell."""

from __future__ import annotations

import _thread
import asyncio
import io
import logging
import operator
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import traceback

import pytest
from cells import run

from fwmagic.cells import written
from fwmagic.cells.threads import left_at_work, wait_for
from fwmagic.cells.watch import Watch

SETUP = """
import asyncio, ctypes, faulthandler, gzip, json, logging, multiprocessing, os, pickle, zipfile
import pathlib, shutil, socket, sqlite3, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from threading import Thread, Timer
from time import sleep
import numpy as np
from os import remove as erase
server = socket.create_server(("127.0.0.1", 0))
served = socket.create_connection(server.getsockname())
here = pathlib.Path("here.txt")
opened = open("opened.txt", "w")
log = logging.getLogger("of.the.watched")
log.handlers[:], log.propagate = [logging.FileHandler("log.txt")], False
c = ctypes.CDLL(None)
spawning, forking = multiprocessing.get_context("spawn"), multiprocessing.get_context("fork")
c.fopen.restype = ctypes.c_void_p
c.fputs.argtypes, c.fclose.argtypes = [ctypes.c_char_p, ctypes.c_void_p], [ctypes.c_void_p]
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

    yield run
    namespace["opened"].close()
    namespace["served"].close()
    namespace["server"].close()
    namespace["log"].handlers[0].close()


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
        ("a = os.write(opened.fileno(), b'1')", None, "writes `opened.txt`"),
        ("faulthandler.dump_traceback(opened)", None, "writes `opened.txt`"),
        ("f = c.fopen(b'by_c.bin', b'w'); c.fputs(b'1', f); c.fclose(f)", None, "writes `by_c.bin`"),
        ("Thread(target=sleep, args=(0.1,)).start()", None, "leaves a thread at work"),
        ("Timer(0.1, int).start()", None, "leaves a thread at work"),
        ("def work(): sleep(0.1)\npool = ThreadPoolExecutor(); f = pool.submit(work)", None, "leaves a thread at work"),
        ("pool = ThreadPoolExecutor(); f = pool.submit(sleep, 0.1)", None, "leaves a thread at work"),
        ("p = spawning.Process(target=abs, args=(1,)); p.start(); p.join()", 1, "starts a process"),
        ("a = 1\npid = os.fork()\nif not pid: os._exit(0)\na = os.waitpid(pid, 0)", 2, "starts a process"),
        ("a = 1\np = forking.Process(target=abs, args=(1,)); p.start(); p.join()", 2, "starts a process"),
        ("c.system(b'true')", None, "starts a process"),
        ("log.warning('to a file that is open already')", 1, "writes `"),
        ("with open('b', mode='wb') as f: pickle.dump([1], f)", 1, "writes `b`"),
        ("json.dump([1], opened); opened.flush()", None, "writes `opened.txt`"),
        ("with zipfile.ZipFile('z.zip', 'w') as z: z.writestr('a', 'b')", 1, "writes `z.zip`"),
        ("gzip.open('g.gz', 'w').close()", 1, "writes `g.gz`"),
        ("np.savetxt('a.txt', np.ones(2))", 1, "writes `a.txt`"),
        ("tempfile.NamedTemporaryFile().close()", 1, "writes `"),
        ("erase('here.txt')", 1, "removes `here.txt`"),
        ("from os import remove as rm\nrm('here.txt')", 2, "removes `here.txt`"),
        ("import os as another\nanother.replace(src='here.txt', dst='b')", 2, "moves `here.txt`"),
        ("shutil.rmtree(tempfile.gettempdir() + '/none', ignore_errors=True)", 1, "removes `"),
        ("socket.create_connection(('127.0.0.1', 9)) if 0 else socket.getaddrinfo('localhost', 9)", 1, "uses the net"),
        ("served.sendall(b'1')", 1, "uses the network"),
        ("os.kill(os.getpid(), 0)", 1, "sends a signal"),
        ("os.makedirs('a'); f = c.fopen(b'a/by_c', b'w'); c.fputs(b'1', f); c.fclose(f)", 1, "makes the folder `a`"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork")
def test_what_a_cell_does_to_the_world(watched, text, line, why):
    if line is None and sys.platform != "linux" and "Thread" not in text:
        return  # only there the system tells it
    found = watched(text)
    assert found is not None
    assert (found[0], found[1][: len(why)]) == (line, why)


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("t = asyncio.create_task(asyncio.sleep(0))", True),
        ("asyncio.get_running_loop().call_soon(abs, 1)", True),
        ("asyncio.get_running_loop().call_later(9, abs, 1)", True),
        ("asyncio.all_tasks()", False),
    ],
)
def test_what_a_cell_leaves_to_the_event_loop_of_a_notebook(watched, text, leaves):
    async def notebook():
        asyncio.get_running_loop().call_soon(abs, 2)  # waits already
        return watched(text)

    assert asyncio.run(notebook()) == ((None, "leaves work to the event loop") if leaves else None)


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
        "os.close(os.dup(opened.fileno()))",
        "t = Thread(target=sleep, args=(0.01,)); t.start(); t.join()",
        "with ThreadPoolExecutor() as pool: f = pool.submit(sleep, 0.01)",
        "pool = ThreadPoolExecutor(); a = list(pool.map(abs, range(9)))",  # its threads wait for more
        "r, w = os.pipe(); a = os.write(w, b'1'); os.close(r); os.close(w)",
    ],
)
def test_what_does_nothing_to_the_world(watched, text):
    assert watched(text) is None


def held_by_python():
    """Return what modules and classes have through which the world is reached, by identity."""
    modules = [sys.modules[name] for name in ("builtins", "io", "os", "sys", "socket", "shutil", "tempfile", "sqlite3")]
    owners = [*modules, sys.modules[os.name], sys.modules["_io"], socket.socket, logging.FileHandler, pathlib.Path]
    return [{name: id(value) for name, value in vars(owner).items()} for owner in owners]


def test_nothing_is_left_of_a_watch(watched):
    before = held_by_python()
    watched("a = 1")
    assert held_by_python() == before
    with pytest.raises(ZeroDivisionError):
        watched("erase('here.txt'); 1 / 0")
    assert held_by_python() == before


def test_who_gets_hold_of_a_function_meanwhile_has_the_function_itself(tmp_path):
    text = """
    import os, functools
    from os import remove, rename as move
    class Has:
        make = os.mkdir
    one = Has()
    one.opens, listed, known = open, [os.rmdir], {"link": os.link}
    def outer():
        inner = os.replace
        return lambda: inner
    enclosed = outer()
    """
    names = {"__name__": "__main__"}
    with Watch(names, "cell"):
        exec(textwrap.dedent(text), names)
    has = names["Has"], names["one"]
    found = [names["remove"], names["move"], has[0].make, has[1].make, has[1].opens]
    found += [names["listed"][0], names["known"]["link"], names["enclosed"]()]
    expected = [os.remove, os.rename, os.mkdir, os.mkdir, open, os.rmdir, os.link, os.replace]
    assert all(map(operator.is_, found, expected))
    assert {type(one) for one in found} == {type(len)}


def test_a_run_that_is_watched_finds_the_functions_as_they_are():
    text = """
    import copy, inspect, os, pickle, types
    from os import remove
    class Has:
        find = os.path.exists
        make = os.mkdir
    found = [
        remove is os.remove, os.remove in {erase}, os.chmod in os.supports_follow_symlinks, open == io.open is open,
        isinstance(open, types.BuiltinFunctionType), pickle.loads(pickle.dumps(open)) is open, os.mkdir.__name__,
        copy.deepcopy(os.mkdir) is os.mkdir, str(inspect.signature(os.rename)), repr(os.kill), Has().make is os.mkdir,
    ]
    """
    code = textwrap.dedent(text)
    plain = {"__name__": "__main__", "erase": os.remove, "io": io}
    heard = dict(plain)
    exec(code, plain)
    with Watch(heard, "cell"):
        exec(code, heard)
    assert heard["found"] == plain["found"]


def test_an_error_shows_the_users_frames_only(watched, tmp_path):
    with pytest.raises(ValueError, match="1") as caught:
        watched("try:\n    open('none/here', 'w')\nexcept OSError as error:\n    raise ValueError(1) from error")
    chain = caught.value, caught.value.__cause__
    frames = [[one.name for one in traceback.extract_tb(error.__traceback__)] for error in chain]
    assert frames[1] == ["<module>"]
    assert frames[0][-2:] == ["run", "<module>"]


def test_no_hook_is_added_to_the_process():
    code = """
    import sys
    sys.addaudithook = lambda hook: print("added")
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext fwmagic\\nimport numpy as np\\nA = np.ones(3)").raise_error()
    shell.run_cell("%%compare --budget 0.05 -o r\\n%%numpy a\\nA.sum()\\n%%numpy b\\nA.mean()").raise_error()
    print([one.status for one in shell.user_ns["r"]])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "added" not in done.stdout
    assert "['timed', 'timed']" in done.stdout


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


def test_a_log_is_as_before_and_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = [logging.FileHandler(f"{n}.log", mode, delay=n == 2) for n, mode in enumerate("aww")]
    log = logging.Logger("of a run")
    log.handlers[:] = logs
    log.handlers[:2] = logs[:2]
    logs[0].emit(logging.makeLogRecord({"msg": "before"}))
    logs[1].emit(logging.makeLogRecord({"msg": "before"}))
    names = {"log": log}
    with Watch(names, "cell") as watch:
        exec(compile("log.warning('while')", "cell", "exec"), names)
    assert (watch.effect.line, watch.lasting) == (1, None)
    watch.put_back_files()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0.log", "1.log"]
    log.warning("after")
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["before\nafter\n"] * 2 + ["after\n"]
    for one in logs:
        one.close()


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
    for name in ("moved", "over", "removed"):
        (tmp_path / f"{name}.txt").write_text(name)
    held = {path.name: path.read_text() for path in tmp_path.iterdir()}
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
    os.rename("moved.txt", "there.txt")
    Path("moved.txt").write_text("anew")
    os.replace("new.npy", "over.txt")
    os.remove("removed.txt")
    """
    with Watch({}, "cell") as watch:
        exec(compile(textwrap.dedent(text), "cell", "exec"), {})
    assert watch.lasting is None
    watch.put_back_files()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == held


@pytest.mark.parametrize("line", ["np.ones(3).tofile('log.txt')", "target.write_text('x')"])
def test_a_comparison_leaves_the_files_that_it_writes_as_they_were(shell, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").write_text("before")
    run(shell, "from pathlib import Path\ntarget = Path('log.txt')\nimport numpy as np")
    run(shell, f"%%compare -o report\n%%numpy a\n{line}\nnp.ones(2)\n%%numpy b\n{line}\nnp.ones(2)")
    assert [variant.status for variant in shell.user_ns["report"]] == ["run-once"] * 2
    assert (tmp_path / "log.txt").read_text() == "before"


def test_a_folder_that_is_gone_or_another_one_is_no_trouble(watched, tmp_path):
    (tmp_path / "inner").mkdir()
    writes = "import os; a = os.pipe(); n = os.write(a[1], b'1')\n"
    assert watched(f"{writes}os.chdir('inner')") is None
    (tmp_path / "inner").rmdir()
    assert watched(writes) is None
    assert watched(f"{writes}os.chdir({str(tmp_path)!r})") is None


def of_another_process(watched, folder, code):
    """Return what is said of a cell that writes to a pipe, while another process runs this code in a folder."""
    code = f"import sys; sys.stdin.read(1); {code}; print('done', flush=True)"
    command, pipes = [sys.executable, "-ISc", code], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, **pipes) as other:
        numbers = other.stdin.fileno(), other.stdout.fileno()
        effect = watched("import os; n = os.write({}, b'1'); said = os.read({}, 4)".format(*numbers))
        other.stdin.close()
    return effect


def test_a_file_that_another_process_has_written_is_not_the_cells(watched, tmp_path):
    assert of_another_process(watched, tmp_path, "open('others.log', 'w').write(99 * 'x')") is None
    assert (tmp_path / "others.log").stat().st_size == 99


def test_a_file_that_is_open_here_and_another_process_has_written_is_not_the_cells(watched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    with (folder / "lock").open("w"):  # as whoever starts a kernel may leave one open
        assert of_another_process(watched, folder, "import os; os.utime('lock', (1, 1))") is None


def test_a_module_that_is_imported_from_the_folder_writes_its_bytecode(watched, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_the_folder.py").write_text("n = 1")
    assert watched("import of_the_folder; a = os.pipe(); n = os.write(a[1], b'1')") is None
    assert (tmp_path / "__pycache__").exists()


class TestSetupAndDefinitions:
    """They run once, and what they did is undone at the end or told."""

    @pytest.fixture
    def here(self, shell, tmp_path, monkeypatch):
        folder = tmp_path / "here"
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "log.txt").write_text("before")
        return folder

    def test_files_of_the_setup_are_there_for_the_sections_only(self, shell, here):
        setup = "np.save('x.npy', np.ones(3)); open('log.txt', 'w').close()"
        run(shell, f"%%compare --budget 0.1 -o r\n%%setup\n{setup}\n%%numpy a\nnp.load('x.npy').sum()")
        assert [variant.status for variant in shell.user_ns["r"]] == ["timed"]
        assert {path.name: path.read_text() for path in here.iterdir()} == {"log.txt": "before"}
        assert "undone" not in shell.user_ns["r"].conditions.inputs

    @pytest.mark.parametrize("options", ["", pytest.param("--isolate", marks=pytest.mark.slow)])
    def test_what_the_setup_did_for_good_is_told(self, shell, here, options):
        setup = "import os\nos.mkdir('made')"
        run(shell, f"%%compare {options} --budget 0.1 -o r\n%%setup\n{setup}\n%%numpy a\nnp.ones(3).sum()")
        told = shell.user_ns["r"].conditions.inputs
        assert "%%setup, line 4: makes the folder `made`, which cannot be undone" in told

    def test_files_of_definitions_are_put_back(self, shell, here):
        run(shell, "from pathlib import Path\nlog = Path('log.txt')")
        run(shell, "def noted(f):\n    with log.open('a') as file: file.write(f.__name__)\n    return f")
        section = "@noted\ndef twice(v): return v * 2\ntwice(np.ones(3))"
        run(shell, f"%%compare --budget 0.1 -o r\n%%numpy a\n{section}\n%%numpy b\n{section}")
        assert [variant.status for variant in shell.user_ns["r"]] == ["run-once"] * 2
        assert (here / "log.txt").read_text() == "before"


def test_what_stands_for_a_thread_that_python_did_not_start_is_nobodys_work():
    def show_itself():
        threading.current_thread()
        shown.set()

    shown = threading.Event()
    before = threading.enumerate()
    _thread.start_new_thread(show_itself, ())
    assert shown.wait(10)
    left = left_at_work(before)
    assert left is None
    for one in threading.enumerate():
        if one not in before:
            wait_for(one, 0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="known on Linux only")
def test_a_folder_that_takes_long_is_left_alone_for_a_while(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fwmagic.cells.written._slow", {})
    looks = []
    usual = written._below
    monkeypatch.setattr("fwmagic.cells.written._below", lambda folder: looks.append(folder) or usual(folder))
    monkeypatch.setattr("fwmagic.cells.written._LONGEST", -1.0)
    for _ in range(3):
        written.Written()
    assert looks == [tmp_path]


def test_a_file_in_whose_place_there_is_a_folder_by_now_stays_and_lasts(tmp_path, monkeypatch):
    """As where something is saved under another name first, and moved when it is complete."""
    monkeypatch.chdir(tmp_path)
    text = "os.mkdir('new'); open('new/a.txt', 'w').close(); os.rename('new', 'saved'); open('other.txt', 'w').close()"
    namespace = {"__name__": "__main__", "os": os}
    with Watch(namespace, "cell") as watch:
        exec(compile(text, "cell", "exec"), namespace)
    watch.put_back_files()
    assert (tmp_path / "saved").is_dir()
    assert not (tmp_path / "other.txt").exists()
    assert watch.lasting is not None
