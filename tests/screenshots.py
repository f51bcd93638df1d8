"""Pictures of the panel in its states, for the eyes: `python tests/screenshots.py` writes them beside this file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from browser import FLAGS, Lab, Server, chromium, code, output_of, server
from example_reports import four_variants, two_runs, with_failure, with_memory
from playwright.sync_api import Browser, expect, sync_playwright

from fwmagic.report import Report

FOLDER = Path(__file__).parent / "screenshots"
# Isolated variants take the whole budget, so there is a run to be seen.
COMPARE = """%%compare --isolate --budget 20
%%setup
A = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
%%torch --mode eager
torch.tanh(A @ A)
%%jax
jnp.tanh(A @ A)"""


def picture(
    browser: Browser, at: Server, name: str, *reports: Report, then: Callable[[Lab], None] = lambda _: None
) -> None:
    """Open a notebook with these reports, do what `then` does, and write the picture."""
    context = browser.new_context(viewport={"width": 1500, "height": 1600})
    lab = Lab(context.new_page())
    at.write(f"{name}.ipynb", [code(COMPARE, *map(output_of, reports))])
    if at.application == "lab":
        lab.open(at, f"{name}.ipynb")
        lab.open_panel()
    else:
        lab.page.goto(at.url(f"{name}.ipynb"))
    then(lab)
    if reports:
        expect(lab.page.locator(".fwmagic .fw-rows").first).to_be_visible()
    lab.page.wait_for_timeout(1000)  # the end of all movement
    lab.page.screenshot(path=FOLDER / f"{name}.png")
    context.close()


def dark(lab: Lab) -> None:
    wide(lab)
    lab.theme("Dark")


def beside(lab: Lab) -> None:
    lab.panel.locator(".fwm-beside").click()


def run(lab: Lab) -> None:
    lab.page.evaluate(
        """async () => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            await kernel.requestExecute({code: '%load_ext fwmagic'}).done;
        }"""
    )
    lab.run_all()
    expect(lab.panel.locator("figure[data-chart=times] svg")).to_be_visible(timeout=60_000)
    lab.page.wait_for_timeout(4000)


def open_in_notebook(lab: Lab) -> None:
    lab.page.get_by_text("View", exact=True).click()
    lab.page.get_by_text("Compare PyTorch and JAX").click()


def wide(lab: Lab) -> None:
    box = lab.panel.bounding_box()
    lab.page.mouse.move(box["x"] - 2, 500)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] - 250, 500, steps=5)
    lab.page.mouse.up()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        with server(Path(home) / "lab") as at:
            picture(browser, at, "light", four_variants(), then=wide)
            picture(browser, at, "narrow", four_variants(), then=Lab.narrow)
            picture(browser, at, "running", then=run)
            picture(browser, at, "two", *two_runs(), then=beside)
            picture(browser, at, "memory", with_memory(), then=wide)
            picture(browser, at, "memory-narrow", with_memory(), then=Lab.narrow)
            picture(browser, at, "failed", with_failure())
            picture(browser, at, "empty")
            picture(browser, at, "dark", four_variants(), then=dark)  # the last: the server keeps the theme
        with server(Path(home) / "notebook", "notebook") as at:
            picture(browser, at, "notebook7", four_variants(), then=open_in_notebook)
        browser.close()


if __name__ == "__main__":
    main()
