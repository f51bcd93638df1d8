"""Pictures of real runs, for the documentation and for the eyes: what `make pictures` does.

The cells below run in a real kernel. Then their outputs are opened in a browser, in JupyterLab, in Notebook 7, as
nbconvert writes them and as a page shows them that lets no style through. Those of the documentation go to
`docs/images/`, all of them to `build/pictures/`: look at them. `python tests/pictures.py PART ...` does a part only:
`cells` runs the cells, `outputs`, `panel` and `notebook7` draw what they left.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat
from browser import FLAGS, Lab, Server, chromium, code, server
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.sign import NotebookNotary
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SEEN, KEPT = ROOT / "build" / "pictures", ROOT / "docs" / "images"
RUN = SEEN / "cells.ipynb"


def comparison(options: str, size: int, sections: str) -> str:
    """Return a cell that compares sections on so many numbers."""
    setup = f"%%setup\nx = np.random.default_rng(0).uniform(0.5, 2.0, {size:_}).astype(np.float32)"
    return f"%%compare {options}".rstrip() + f"\n{setup}\n{sections}"


BOTH = "%%torch\ntorch.sum(torch.exp(x) * torch.log(x))\n%%jax\njnp.sum(jnp.exp(x) * jnp.log(x))"
SMALL = 200_000
CELLS = {
    "report": comparison("--mode all --budget 4 -o report", 4_000_000, BOTH),
    "memory": comparison("--mode all --isolate -o memory", 8_000_000, BOTH),
    "two": comparison("-o pair", SMALL, BOTH),
    "first": comparison("--mode eager --budget 4 -o product", SMALL, BOTH),
    "second": comparison("--budget 4 -o product", SMALL, BOTH.replace("torch.log(x)", "x.log()")),
    "alone": "%%jax\nx = jnp.linspace(0, 1, 100_000)\nif x.sum() > 0:\n    y = jnp.sort(x)\ny.sum()",
    "failed": comparison("--keep-going", SMALL, "%%torch\ntorch.log(x).sum()\n%%jax broken\njnp.log(x) @ jnp.ones(3)"),
    "differ": comparison("", SMALL, "%%torch\ntorch.std(x)\n%%jax\njnp.std(x) + 0.1"),
    "same": comparison("", SMALL, "%%numpy sum\nnp.sum(x)\n%%numpy add\nnp.add.reduce(x)"),
    "twelve": comparison(
        "--budget 6",
        240_000,
        "\n".join(
            f"%%numpy by_{n}\nnp.sum(x.reshape(-1, {n}), axis=0).sum()"
            for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20)
        ),
    ),
}
# Isolated variants take the whole budget, so there is a run to be seen.
LIVE = CELLS["first"].replace("--budget 4", "--isolate --budget 20")


def run_cells() -> None:
    """Run the cells in one kernel, and keep them with their outputs."""
    cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext fwmagic", *CELLS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=600, kernel_name="python3", allow_errors=True).execute()
    nbformat.write(notebook, RUN)


def kept_cells() -> dict[str, Any]:
    """Return each cell with the outputs of its last run."""
    return dict(zip(CELLS, nbformat.read(RUN, as_version=4).cells[1:], strict=True))


def html_of(cell: Any) -> str:
    """Return the HTML of a cell's report."""
    return next(str(one.data["text/html"]) for one in cell.outputs if "text/html" in one.get("data", {}))


def page_of(browser: Browser, width: int, dark: bool = False) -> Page:
    scheme = "dark" if dark else "light"
    return browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme, device_scale_factor=1)


def outputs(browser: Browser, cells: dict[str, Any]) -> None:
    """Write pictures of the outputs as any page shows them."""
    for name, width, dark in [
        *((name, 900, False) for name in cells),
        *((name, width, False) for name in ("two", "report", "twelve") for width in (250, 600)),
        ("two", 900, True), ("report", 900, True),
    ]:  # fmt: skip
        page = page_of(browser, width, dark)
        page.set_content(f"<title>{name}</title><body style='margin:0'>{html_of(cells[name])}")
        kept = "report" if (name, width, dark) == ("report", 900, False) else None
        shot(page.locator(".fwmagic"), f"output-{name}-{width}{'-dark' if dark else ''}", kept)
        if name == "report" and width == 900:
            page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
            shot(page.locator(".fwmagic"), f"output-{name}-opened{'-dark' if dark else ''}")
        page.close()
    page = page_of(browser, 900)
    # As a page that lets through neither styles nor drawings nor attributes.
    bare = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html_of(cells["report"]), flags=re.DOTALL)
    plain = re.sub(r"<(\w+)[^>]*>", r"<\1>", bare)
    page.set_content(f"<title>sanitised</title>{plain}")
    shot(page, "output-sanitised")
    notebook = nbformat.v4.new_notebook(cells=[cells["report"], cells["failed"]])
    page.set_content(HTMLExporter().from_notebook_node(notebook)[0])
    shot(page, "output-nbconvert")
    page.close()


def shot(what: Any, name: str, kept: str | None = None) -> None:
    what.screenshot(path=SEEN / f"{name}.png")
    if kept is not None:
        what.screenshot(path=KEPT / f"{kept}.png")


def in_lab(
    browser: Browser,
    at: Server,
    name: str,
    cells: Iterable[Any],
    then: Callable[[Lab], None] = lambda _: None,
    kept: str | None = None,
) -> None:
    """Open a notebook of these cells, do what `then` does, and write a picture of the page, or `kept` of its panel."""
    context = browser.new_context(viewport={"width": 1500, "height": 1400})
    lab = Lab(context.new_page())
    at.write(f"{name}.ipynb", list(cells))
    lab.open(at, f"{name}.ipynb")
    lab.open_panel()
    # Its outputs are shown as those of a notebook that this server has run.
    lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.forEach(cell => { cell.model.trusted = true; })"
    )
    then(lab)
    lab.page.evaluate("() => document.activeElement?.blur()")
    charts = lab.panel.locator("figure")
    expect(charts.locator("svg")).to_have_count(charts.count())
    lab.page.wait_for_timeout(1000)  # the end of all movement
    shot(lab.page, name)
    if kept is not None:
        whole_to_its_last_chart(lab, kept)
    context.close()


def whole_to_its_last_chart(lab: Lab, kept: str) -> None:
    """Write a picture of the panel as far as the times, or else the last of its charts: none is cut through."""
    lab.page.set_viewport_size({"width": 1500, "height": 2400})
    lab.page.wait_for_timeout(500)
    times, charts = lab.panel.locator("figure[data-chart=times]"), lab.panel.locator("figure:visible")
    last = times if times.is_visible() else charts.last
    top, end = lab.panel.bounding_box(), last.bounding_box()
    if top["y"] + top["height"] < end["y"] + end["height"]:
        raise RuntimeError(f"the picture {kept} would be cut through its chart")
    clip = {"x": top["x"], "y": top["y"], "width": top["width"], "height": end["y"] + end["height"] + 8 - top["y"]}
    lab.page.screenshot(path=KEPT / f"{kept}.png", clip=clip)


def wide(lab: Lab) -> None:
    box = lab.panel.bounding_box()
    lab.page.mouse.move(box["x"] - 2, 500)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] - 250, 500, steps=5)
    lab.page.mouse.up()


def dark(lab: Lab) -> None:
    wide(lab)
    lab.theme("Dark")


def beside(lab: Lab) -> None:
    lab.panel.locator(".fwm-beside").first.click()


def beside_and_wide(lab: Lab) -> None:
    wide(lab)
    beside(lab)


def beside_and_narrow(lab: Lab) -> None:
    lab.narrow()
    beside(lab)


def memory(lab: Lab) -> None:
    """Leave of the panel what the page on memory shows."""
    wide(lab)
    for name in ("memory", "timeline"):
        expect(lab.panel.locator(f"figure[data-chart={name}] svg")).to_be_visible()
    lab.page.add_style_tag(
        content="""#fwmagic-panel > :not(.fwm-report), .fwm-report > :not([data-chart=memory], [data-chart=timeline])
                   { display: none !important; }"""
    )


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


def in_notebook7(browser: Browser, at: Server, name: str, cell: Any, trusted: bool) -> None:
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    path = at.write(f"{name}.ipynb", [cell])
    if trusted:
        with NotebookNotary(data_dir=str(path.parents[1] / "data")) as notary:
            notary.sign(nbformat.read(path, as_version=4))
    page.goto(at.url(path.name))
    # A notebook of the same content as one that was signed is trusted, whatever its name is.
    expect(page.locator(".jp-NotebookTrustedStatus")).to_have_text("Trusted" if trusted else "Not Trusted")
    page.get_by_text("View", exact=True).click()
    page.get_by_text("Compare PyTorch and JAX").click()
    expect(page.locator("figure svg").first).to_be_visible()
    page.wait_for_timeout(1000)
    shot(page, name)
    page.close()


def panel(browser: Browser, at: Server, cells: dict[str, Any]) -> None:
    """Write pictures of JupyterLab with its panel."""
    pair = [cells["first"], cells["second"]]
    in_lab(browser, at, "light", [cells["report"]], wide)
    in_lab(browser, at, "narrow", [cells["report"]], Lab.narrow)
    in_lab(browser, at, "list", cells.values(), wide)
    in_lab(browser, at, "running", [code(LIVE)], run)
    in_lab(browser, at, "two", pair, beside_and_wide, kept="panel")
    in_lab(browser, at, "two-narrow", pair, beside_and_narrow)
    in_lab(browser, at, "memory", [cells["memory"]], memory, kept="memory")
    in_lab(browser, at, "failed", [cells["failed"]], wide)
    in_lab(browser, at, "differ", [cells["differ"]], wide)
    in_lab(browser, at, "twelve", [cells["twelve"]], wide)
    in_lab(browser, at, "empty", [code("")])
    in_lab(browser, at, "dark", [cells["report"]], dark)  # the last ones: the server keeps the theme
    in_lab(browser, at, "two-dark", pair, beside_and_wide)


PARTS = ("cells", "outputs", "panel", "notebook7")


def main(parts: Iterable[str]) -> None:
    SEEN.mkdir(parents=True, exist_ok=True)
    if "cells" in parts:
        run_cells()
    cells = kept_cells()
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        if "outputs" in parts:
            outputs(browser, cells)
        if "panel" in parts:
            with server(Path(home) / "lab") as at:
                panel(browser, at, cells)
        if "notebook7" in parts:
            with server(Path(home) / "notebook", "notebook") as at:
                in_notebook7(browser, at, "notebook7-untrusted", cells["report"], trusted=False)
                in_notebook7(browser, at, "notebook7", cells["report"], trusted=True)
        browser.close()


if __name__ == "__main__":
    if not set(sys.argv[1:]) <= set(PARTS):
        sys.exit(f"python tests/pictures.py [PART ...]: one of {', '.join(PARTS)}")
    main(sys.argv[1:] or PARTS)
