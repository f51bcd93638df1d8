"""JupyterLab's debugger stops in a `--debug` cell at the user's own lines: by its protocol, and in a browser."""

from __future__ import annotations

import ast
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import code
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from jupyter_core.utils import ensure_event_loop
from playwright.sync_api import expect

CELL = """\
%%jax --debug -o r
@jax.jit
def share(values):
    total = values.sum()
    return values / total

share(jnp.array([1.0, 3.0]))"""


class Debugger:
    """The debugger of a kernel, as JupyterLab speaks with it."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self._numbers = itertools.count(1)
        #: What was printed to stderr.
        self.printed = ""

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return what a request is answered with."""
        content = {"type": "request", "seq": next(self._numbers), "command": command, "arguments": arguments}
        message = self._client.session.msg("debug_request", content)
        self._client.control_channel.send(message)
        while True:
            reply = self._client.get_control_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                assert reply["content"]["success"], reply["content"]
                return reply["content"].get("body")

    def start(self) -> None:
        self.ask("initialize", clientID="test", adapterID="python", linesStartAt1=True, columnsStartAt1=True)
        self.ask("attach")

    def stop_at(self, text: str, *lines: int) -> None:
        """Set breakpoints in some lines of a cell."""
        source = {"path": self.ask("dumpCell", code=text)["sourcePath"]}
        self.ask("setBreakpoints", source=source, breakpoints=[{"line": line} for line in lines], sourceModified=False)
        self.ask("configurationDone")

    def stops(self, text: str) -> Iterator[tuple[str, int, dict[str, str]]]:
        """Run a cell; yield of each stop the function, the line and the local names, and go on after it."""
        number = self._client.execute(text)
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            content = message["content"]
            if message["msg_type"] == "debug_event" and content["event"] == "stopped":
                thread = content["body"]["threadId"]
                frame = self.ask("stackTrace", threadId=thread)["stackFrames"][0]
                scope = self.ask("scopes", frameId=frame["id"])["scopes"][0]
                names = self.ask("variables", variablesReference=scope["variablesReference"])["variables"]
                yield frame["name"], frame["line"], {one["name"]: one["value"] for one in names}
                self.ask("continue", threadId=thread)
            elif message["msg_type"] == "stream" and content["name"] == "stderr":
                self.printed += content["text"]
            elif message["parent_header"].get("msg_id") == number and content.get("execution_state") == "idle":
                return


@pytest.fixture
def client(tmp_path: Path) -> Iterator[BlockingKernelClient]:
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}
    manager, client = start_new_kernel(kernel_name="python3", env=environment, cwd=str(tmp_path))
    client.execute_interactive("%load_ext fwmagic", timeout=60)
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        ensure_event_loop().close()  # what the blocking client left open


def value(client: BlockingKernelClient, expression: str) -> str:
    reply = client.execute("", user_expressions={"value": expression}, reply=True, timeout=60)
    return str(reply["content"]["user_expressions"]["value"]["data"]["text/plain"])


@pytest.mark.slow  # its first tier: TestDebuggers in test_debug.py
def test_it_stops_once_at_each_line_with_numbers_and_the_view_is_whole(client):
    debugger = Debugger(client)
    debugger.start()
    debugger.stop_at(CELL, 5, 7)
    stops = list(debugger.stops(CELL))
    assert [(name, line) for name, line, _ in stops] == [("<module>", 7), ("share", 5)]
    assert debugger.printed == ""  # the debugger was not disturbed
    assert "4." in stops[1][2]["total"]
    told = value(client, "next((row.run, row.traced) for row in r.rows if row.number == 5)")
    (run,), (traced,) = ast.literal_eval(told)
    assert (run, traced) == ("1× → float32[2] 0.25 / 0.5 / 0.75", "1× → float32[2] tracer")


@pytest.mark.slow
def test_it_stops_in_later_cells_as_before(client):
    debugger, later = Debugger(client), "def f(x):\n    return x + 1\nf(1)"
    debugger.start()
    debugger.stop_at(later, 2)
    assert list(debugger.stops(CELL)) == []
    assert [stop[:2] for stop in debugger.stops(later)] == [("f", 2)]


@pytest.mark.slow
def test_it_stops_once_in_a_cell_of_torch(client):
    text = (
        "%%torch --debug -o r\n@torch.compile(backend='eager')\ndef f(x):\n    y = x * 2\n    print('half')\n"
        "    return y + 1\nf(torch.ones(2))"
    )
    debugger = Debugger(client)
    debugger.start()
    debugger.stop_at(text, 4, 6)
    assert [stop[:2] for stop in debugger.stops(text)] == [("f", 4), ("f", 6)]
    assert value(client, "[trap.line for trap in r.traps]") == "[5]"


@pytest.mark.slow
def test_in_jupyterlab_it_stops_at_the_line_of_a_breakpoint(lab, lab_server):
    lab_server.write("stop.ipynb", [code("%load_ext fwmagic"), code(CELL)])
    lab.open(lab_server, "stop.ipynb")
    page = lab.page
    page.locator(".jp-DebuggerBugButton").click()
    gutter = page.locator(".jp-Cell").nth(1).locator(".cm-breakpoint-gutter .cm-gutterElement")
    gutter.nth(5).click()  # the first one is a spacer
    lab.run_all()
    expect(page.locator(".jp-DebuggerCallstackFrame").first).to_contain_text("share", timeout=60_000)
    expect(page.locator(".jp-DebuggerEditor-highlight")).to_contain_text("return values / total")
    lab.command("debugger:continue")
    lab.wait_until_idle()
    expect(page.locator(".jp-OutputArea-executeResult")).to_contain_text("0.25")
    expect(page.locator(".fw-lines")).to_contain_text("1× → float32[2] 0.25 / 0.5 / 0.75")
    expect(page.locator(".fw-lines .fw-code").first).to_have_css("text-align", "left")  # JupyterLab's own is right
    expect(lab.panel.locator(".fwm-where")).to_contain_text("while tracing: line 3")
