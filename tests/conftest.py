"""Fixtures: a real IPython shell with fwmagic in it; and the rule that only a test marked `gpu` may be skipped."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

os.environ.pop("VIRTUAL_ENV", None)  # an empty one makes every IPython shell warn
# A shell starts what runs in the background with Ctrl-C ignored, and tests of Ctrl-C send themselves one.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says something of the machine only. `make test` takes the quick profile.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture
def bare_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A fresh shell, without fwmagic; what it displays is in `bare_shell.display_pub.outputs`."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config, display_pub_class=CapturingDisplayPublisher)
    shell.display_pub.outputs = []
    try:
        yield shell
    finally:
        torch = sys.modules.get("torch")  # None, too, in a test that hides it
        if torch is not None and "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # it wants to remove its own names from the namespace, while there is one
        atexit.unregister(shell.atexit_operations)
        shell.atexit_operations()
        InteractiveShell.clear_instance()


@pytest.fixture
def shell(bare_shell: InteractiveShell, request: pytest.FixtureRequest) -> Iterator[InteractiveShell]:
    """A fresh shell with fwmagic loaded, as a user's; but the passes for memory are for tests marked `memory`."""
    bare_shell.run_line_magic("load_ext", "fwmagic")
    if request.node.get_closest_marker("memory") is None:
        bare_shell.run_line_magic("config", "FwMagics.memory = False")
    yield bare_shell
    bare_shell.run_line_magic("unload_ext", "fwmagic")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")


def _skips(config: pytest.Config) -> list[tuple[bool, str]]:
    """Return for each skip whether it is allowed, and the line that says what was skipped and why."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    found = []
    for report in reporter.stats.get("skipped", []) if reporter is not None else []:
        allowed = "gpu" in getattr(report, "keywords", {})
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found.append((allowed, f"{report.nodeid}: {reason.removeprefix('Skipped: ')}"))
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and not all(allowed for allowed, _ in _skips(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    skips = _skips(config)
    terminalreporter.section("skips")
    for allowed, line in skips:
        terminalreporter.write_line(line if allowed else f"NOT ALLOWED (not marked gpu) {line}")
    terminalreporter.write_line(f"skipped {len(skips)}, of which not allowed {sum(not ok for ok, _ in skips)}")


@pytest.fixture
def idle(monkeypatch):
    """What other processes do on the machine that runs the tests must not take a verdict away."""
    monkeypatch.setattr("fwmagic.measure.load.Load.crowds", lambda *_: "")


@pytest.fixture
def untraced() -> Iterator[None]:
    """Keep coverage out: it slows what is timed, and the compilers of the frameworks."""
    trace = sys.gettrace()  # not pytest-cov's `no_cover`, which stops one of the two that a process of xdist has
    sys.settrace(None)
    yield
    sys.settrace(trace)


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Keep what is there already, a million objects of the frameworks', out of the garbage collections from now on."""
    gc.collect()
    gc.freeze()


# One for all modules: each takes seconds to come up. What a test leaves running there is ended with its module.
@pytest.fixture(scope="session")
def _jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import browser

    with browser.server(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="module")
def lab_server(_jupyter: Any) -> Iterator[Any]:
    """A Jupyter server, on which no kernel runs and whose folder is empty when this module begins."""
    yield _jupyter
    _jupyter.clear()


# Not for the whole session: while it lives, no other test can run an event loop in this thread.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    import browser
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser.chromium(), args=browser.FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def profile(chromium: Any) -> Iterator[Any]:
    """A profile in which the pages of a module are opened: what JupyterLab consists of is fetched once."""
    context = chromium.new_context(
        viewport={"width": 1500, "height": 1000}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture(scope="module")
def _lab(profile: Any) -> Iterator[Any]:
    import browser

    opened = browser.Lab(profile.new_page())
    yield opened
    opened.page.close()


@pytest.fixture
def lab(_lab: Any) -> Iterator[Any]:
    """A page of JupyterLab without a notebook, the same for the tests of a module: a new one takes seconds to load."""
    yield _lab
    _lab.tidy()
    errors, _lab.errors = _lab.errors, []
    assert errors == []


@pytest.fixture
def new_page(lab: Any) -> Iterator[None]:
    """Let the test load the page anew, and the test after it, too."""
    lab.leave()
    yield
    lab.leave()
