"""A real JupyterLab or Notebook in a real Chromium: a server with folders of its own, and what a user does."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Error, Page

from fwmagic.report import MIME, Report

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-quic"]  # fmt: skip
_CARRIED = Path(__file__).parent / "chromium"


def chromium() -> str:
    """Return the path of a browser: the one on PATH, else the one that an npm package carries."""
    for name in CHROMIUM:
        if (found := shutil.which(name)) is not None:
            return found
    script = "import('@sparticuz/chromium').then(async c => console.log(await c.default.executablePath()))"
    done = subprocess.run(["node", "-e", script], cwd=_CARRIED, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"no Chromium on PATH, and none in {_CARRIED} (npm ci --prefix {_CARRIED}): {done.stderr}")
    return done.stdout.strip()


class Server:
    """A Jupyter server on a free port; `folder` is what it serves."""

    def __init__(self, home: Path, application: str = "lab") -> None:
        self.application = application
        self.folder = home / "notebooks"
        self.settings = home / "settings"
        self.configuration = home / "config"
        self._begin()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        folders = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }  # fmt: skip
        env = {**os.environ, **{name: str(home / folder) for name, folder in folders.items()}}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        command = [
            sys.executable, "-m", "jupyter", application, "--no-browser", "--allow-root", "--ip=127.0.0.1",
            f"--port={self.port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
            "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={self.folder}",
            "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
        ]  # fmt: skip
        self.log = (home / "server.log").open("wb")
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=subprocess.STDOUT)
        self._wait_until_up()

    def url(self, notebook: str = "") -> str:
        """Return the address of the application with a notebook open."""
        tree = "notebooks" if self.application == "notebook" else "lab/tree"
        return f"http://127.0.0.1:{self.port}/{tree}/{notebook}"

    def write(self, name: str, cells: list[Any]) -> Path:
        """Write a notebook into the served folder."""
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def clear(self) -> None:
        """End all kernels, and remove all notebooks and settings."""
        for kernel in json.loads(self._ask("GET", "kernels")):
            self._ask("DELETE", f"kernels/{kernel['id']}")
        shutil.rmtree(self.folder)
        shutil.rmtree(self.settings)
        self._begin()

    def _ask(self, method: str, what: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{what}", method=method)
        with urllib.request.urlopen(request) as answer:
            return str(answer.read(), "utf-8")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _begin(self) -> None:
        self.folder.mkdir(parents=True)
        settings = self.settings / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet), encoding="utf-8")

    def _wait_until_up(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api") as answer:
                answer.read()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"the server did not come up: {Path(self.log.name).read_text(encoding='utf-8')}")


@contextlib.contextmanager
def server(home: Path, application: str = "lab") -> Iterator[Server]:
    """Run a server, and end it."""
    running = Server(home, application)
    try:
        yield running
    finally:
        running.close()


def code(source: str, *outputs: Any) -> Any:
    """Return a code cell with outputs."""
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1 if outputs else None)


def output_of(report: Report) -> Any:
    """Return what a notebook stores of a report."""
    return output(report._repr_mimebundle_())


def output(data: dict[str, Any]) -> Any:
    """Return an output with any data."""
    return nbformat.v4.new_output("display_data", data=data)


def stored(value: Any, mime: str = MIME) -> Any:
    """Return an output whose data of our type is `value`, whatever it is."""
    return output({mime: value, "text/plain": "a report"})


class Lab:
    """What a user does on a page of JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.panel = page.locator("#fwmagic-panel")
        #: What the page threw, but for what JupyterLab says itself when a notebook is closed whose kernel changes.
        self.errors: list[str] = []
        page.on("pageerror", self._note)

    def _note(self, error: Error) -> None:
        if error.message != "Disposed" or "fwmagic" in (error.stack or ""):
            self.errors.append(error.stack or str(error))  # the stack begins with the message

    def open(self, server: Server, notebook: str) -> Lab:
        """Open a notebook, on a page that is there as on a new one, and wait until its kernel is ready."""
        if self.page.evaluate("() => window.jupyterapp === undefined"):
            self.page.goto(f"{server.url(notebook)}?reset")
        else:
            self.command("docmanager:open", {"path": notebook})
        self.wait_for_kernel(notebook)
        return self

    def leave(self) -> None:
        """Leave the page, so that the next notebook is opened on a new one."""
        self.page.goto("about:blank")

    def tidy(self) -> None:
        """Close all notebooks with their kernels, and the panel."""
        self.page.evaluate(
            """async () => {
                const app = window.jupyterapp;
                if (app === undefined) {
                    return;
                }
                for (const widget of [...app.shell.widgets('main')]) {
                    await widget.sessionContext?.ready;
                    await widget.sessionContext?.shutdown();
                    widget.dispose();
                }
                app.shell.collapseRight();
            }"""
        )

    def wait_for_kernel(self, notebook: str) -> None:
        # After a reload, the restored layout may show another notebook first.
        self.page.wait_for_function(
            """notebook => {
                const panel = window.jupyterapp?.shell.currentWidget;
                const context = panel?.context?.path === notebook && panel.sessionContext;
                return context && context.isReady && context.session?.kernel?.status === 'idle';
            }""",
            arg=notebook,
            timeout=60_000,
        )

    def close_notebook(self) -> None:
        """Close the notebook of now, and end its kernel."""
        self.page.evaluate(
            """async () => {
                const panel = window.jupyterapp.shell.currentWidget;
                await panel.sessionContext.ready;
                await panel.sessionContext.shutdown();
                panel.dispose();
            }"""
        )

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Execute a command without waiting for its end."""
        self.page.evaluate(
            "([name, args]) => void window.jupyterapp.commands.execute(name, args)", [name, arguments or {}]
        )

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def wait_until_idle(self, timeout: float = 120) -> None:
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const cells = panel.content.widgets.filter(c => c.model.type === 'code' && c.model.sharedModel.source);
                return cells.every(c => c.model.executionCount !== null && c.prompt !== '*')
                    && panel.sessionContext.session.kernel.status === 'idle';
            }""",
            timeout=1000 * timeout,
        )

    def open_panel(self) -> None:
        self.command("fwmagic:open")
        self.panel.wait_for(state="visible")

    def theme(self, name: str) -> None:
        """Change the theme: `Light` or `Dark`."""
        self.command("apputils:change-theme", {"theme": f"JupyterLab {name}"})
        light = str(name == "Light").lower()
        self.page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")  # covers the page until the theme is loaded

    def narrow(self) -> None:
        """Drag the edge of the right area until it is as narrow as JupyterLab lets it be: 250 pixels."""
        edge = self.panel.bounding_box()
        if edge is None:
            raise RuntimeError("the panel is not open")
        self.page.mouse.move(edge["x"] - 2, 500)
        self.page.mouse.down()
        self.page.mouse.move(edge["x"] + edge["width"], 500, steps=5)
        self.page.mouse.up()

    def report_in_kernel(self, name: str) -> Report:
        """Return the report that the kernel's variable holds."""
        text = self.page.evaluate(
            """async name => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const expression = {report: `${name}.to_json()`};
                const future = kernel.requestExecute({code: '', silent: true, user_expressions: expression});
                const reply = await future.done;
                return reply.content.user_expressions.report.data['text/plain'];
            }""",
            name,
        )
        return Report.from_json(ast.literal_eval(text))
