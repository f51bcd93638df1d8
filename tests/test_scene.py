"""Where programs run: the section's names on the namespace, its state at the start, and no output."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import io
import logging
import os
import subprocess
import sys
import warnings

import pytest
import torch
from scenes import notebook

from fwmagic.cells.scene import quiet
from fwmagic.errors import FwMagicError


@pytest.fixture
def book():
    return notebook("torch", "hist = []\nw = torch.zeros(2)\nimport random")


def test_every_run_starts_alike_and_leaves_no_names(book):
    scene = book.scene("def f(): return 1\nhist.append(f())\nw.add_(1)\nx = torch.rand(1)\nrandom.random()")
    before = dict(book.namespace)
    drawn = []
    for _ in range(2):
        scene.enter()
        assert (book.namespace["hist"], book.namespace["w"].tolist()) == ([], [0, 0])
        for code in scene.body.runs():
            exec(code, book.namespace)
        drawn.append((book.namespace["x"], book.namespace["f"]()))
        assert set(scene.look().paths) >= {"hist", "w"}
        scene.exit()
        assert book.namespace == before
    assert drawn[0] == drawn[1]
    scene.restore()
    assert (book.namespace["hist"], book.namespace["w"].tolist()) == ([], [0, 0])


def test_new_tensors_are_made_on_the_device(book):
    scene = book.scene("w")
    scene.device = "meta"
    scene.enter()
    device = torch.zeros(1).device.type
    scene.exit()
    assert (device, torch.zeros(1).device.type) == ("meta", "cpu")


def test_output_goes_nowhere_until_the_scene_is_left(book, capsys):
    scene = book.scene("print('x')")
    scene.enter()
    print("dropped", end="")
    scene.exit()
    print("seen", end="")
    assert capsys.readouterr().out == "seen"


def test_what_cannot_be_put_back_keeps_nothing_else_from_it(book, monkeypatch):
    scene = book.scene("f = 1\nhist.append(1)\nhist")
    before, streams = dict(book.namespace), (sys.stdout, sys.stderr, builtins.input)
    scene.enter()
    book.namespace["f"] = 1

    def refuse(self):
        raise OSError("refused")

    monkeypatch.setattr("fwmagic.cells.snapshot.Changes.restore", refuse)
    with pytest.raises(OSError, match="refused"):
        scene.exit()
    assert (sys.stdout, sys.stderr, builtins.input) == streams
    assert book.namespace == before


def test_quiet_takes_every_kind_of_output(capsys):
    held, log = sys.stderr, logging.Logger("of a screen")
    log.addHandler(logging.StreamHandler())
    with quiet():
        print("a")
        print("b", file=sys.stderr)
        print("c", file=held)
        held.writelines(["d"])
        logging.getLogger("e").error("e")
        log.error("f")
        warnings.showwarning(UserWarning("g"), UserWarning, "g.py", 1)
    assert capsys.readouterr() == ("", "")
    print("seen", file=held)
    log.error("too")
    assert capsys.readouterr() == ("", "seen\ntoo\n")


def test_what_c_code_writes_goes_nowhere_and_what_it_wrote_before_does_not(capfd):
    c = ctypes.CDLL(None)
    c.puts(b"before")
    with quiet():
        c.puts(b"inside")
        os.write(2, b"raw")
        sys.__stdout__.buffer.write(b"bytes")
    c.puts(b"after")
    c.fflush(None)
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_a_process_may_have_no_streams():
    code = "import os; os.close(1)\nfrom fwmagic.cells.scene import quiet\nwith quiet(): os.write(2, b'x')"
    ran = subprocess.run([sys.executable, "-c", f"{code}\nos.write(2, b'y')"], capture_output=True, check=True)
    assert ran.stderr == b"y"


def test_who_listens_to_the_log_and_to_warnings_is_told_in_quiet_too(caplog):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        with quiet():
            logging.getLogger("c").error("c")
            warnings.warn("d", stacklevel=1)
    assert shown == ["d"]
    assert [one.getMessage() for one in caplog.records] == ["c"]


@pytest.mark.parametrize("has_buffer", [True, False])
def test_a_quiet_stream_has_a_buffer_if_the_one_has_that_it_stands_for(monkeypatch, has_buffer):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()) if has_buffer else io.StringIO())
    with quiet():
        assert hasattr(sys.stdout, "buffer") == has_buffer
        assert not has_buffer or sys.stdout.buffer.write(b"abc") == 3
    assert not has_buffer or sys.stdout.buffer.getvalue() == b""


def test_quiet_shows_no_displays(shell):
    with quiet(shell):
        shell.run_cell("display(1)")
    assert shell.display_pub.outputs == []


def test_quiet_refuses_to_read_the_keyboard():
    with quiet(), pytest.raises(FwMagicError, match="reads from the keyboard"):
        input()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_quiet_puts_everything_back(error):
    before = sys.stdout, sys.stderr, builtins.input, logging.root.manager.disable, list(warnings.filters)
    with contextlib.suppress(ValueError, KeyboardInterrupt), quiet():
        if error is not None:
            raise error
    assert (sys.stdout, sys.stderr, builtins.input, logging.root.manager.disable, list(warnings.filters)) == before


def test_python_remembers_which_warnings_it_has_shown():
    """Entering and leaving must not make a warning that was shown once be shown again."""
    code = compile("import warnings\nwarnings.warn('once')", "cell", "exec")
    namespace = {}
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        exec(code, namespace)
        with quiet():
            pass
        exec(code, namespace)
    assert len(shown) == 1


def test_code_that_catches_warnings_finds_the_notebooks_filters():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        with quiet():
            for _ in range(2):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.warn("told", stacklevel=1)
                assert [str(one.message) for one in caught] == ["told"]


def test_a_warning_that_the_notebook_turned_into_an_error_is_raised():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet(), pytest.raises(UserWarning, match="told"):
            warnings.warn("told", stacklevel=1)
