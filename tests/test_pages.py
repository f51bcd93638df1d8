"""The HTML of a report alone, on the pages that show nothing else of it: VS Code, Colab, a bare page; light and dark.

None of them can be opened here, but what they do to an output is known: VS Code writes the kind of its theme on the
body and names its colours in variables, Colab writes `theme` on the root of a frame of its own; neither loads a script
of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from example_reports import a_ratio, a_report, a_variant, four_variants, twelve_variants, with_failure, with_memory

AXE = Path(__file__).parents[1] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
REPORTS = {
    "two": a_report(ratios=(a_ratio(),)),
    "four": four_variants(),
    "twelve": twelve_variants(),
    "memory": with_memory(),
    "failed": with_failure(),
    "running": a_report(a_variant("torch"), a_variant("jax", status="running"), state="running", progress=0.3),
}


class Place(NamedTuple):
    """What a page says of its theme: an attribute of its root and of its body, and the colours of its variables."""

    root: str = ""
    body: str = ""
    ground: str = ""
    text: str = ""

    def html(self, content: str) -> str:
        """Return the page with this in it, on the ground of its theme."""
        colours = {"background": self.ground, "foreground": self.text}
        named = ";".join(f"--vscode-editor-{name}:{colour}" for name, colour in colours.items() if colour)
        return (
            f"<!doctype html><html lang=en {self.root} style='{named}'><title>a page</title>"
            f"<body {self.body} style='margin:0;background:{self.ground}'><main>{content}</main>"
        )


def vscode(kind: str, ground: str = "", text: str = "") -> Place:
    return Place("", f"class='{kind}' data-vscode-theme-kind='{kind}'", ground, text)


LIGHT = {
    "VS Code": vscode("vscode-light", "#ffffff", "#3b3b3b"),
    "VS Code, high contrast": vscode("vscode-high-contrast-light", "#ffffff", "#292929"),
    "VS Code without variables": vscode("vscode-light"),
    "Colab": Place("theme=light"),
    "JupyterLab's attribute alone": Place("", "data-jp-theme-light=true"),
}
DARK = {
    "VS Code": vscode("vscode-dark", "#1f1f1f", "#cccccc"),
    "VS Code, high contrast": vscode("vscode-high-contrast", "#000000", "#ffffff"),
    "VS Code without variables": vscode("vscode-dark"),
    "Colab": Place("theme=dark"),
    "JupyterLab's attribute alone": Place("", "data-jp-theme-light=false"),
}
PLACES = [
    *((f"{name}, light", place, False, dark) for name, place in LIGHT.items() for dark in (False, True)),
    *((f"{name}, dark", place, True, dark) for name, place in DARK.items() for dark in (False, True)),
    *(("a bare page", Place(), dark, dark) for dark in (False, True)),
]

#: Of colours as they are computed: how light they are, from 0 to 1.
LIGHTNESS = """one => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d');
    const light = colour => {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
        return (r + g + b) / 765;
    };
    const style = getComputedStyle(one);
    return [light(style.backgroundColor), light(style.color), style.colorScheme];
}"""
CUT = """() => {
    const root = document.scrollingElement;
    const seen = one => one.checkVisibility() && !one.closest('.fw-scroll, .fw-caveat > summary');
    return [root.scrollWidth - root.clientWidth, ...[...document.querySelectorAll('.fwmagic *:not(style)')]
        .filter(one => seen(one) && one.getBoundingClientRect().right > root.clientWidth + 1)
        .map(one => one.outerHTML.slice(0, 80))];
}"""


@pytest.fixture(scope="module")
def pages(chromium):
    """A page on a system that is light, and one on a dark one; neither may ask for anything."""
    contexts = [chromium.new_context(color_scheme=scheme) for scheme in ("light", "dark")]
    made = [context.new_page() for context in contexts]
    asked: list[str] = []
    for page in made:
        page.on("request", lambda one: asked.append(one.url))
    yield made
    assert asked == []
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("place", "dark", "system"),
    [pytest.param(*rest, id=f"{name} on a {'dark' if rest[-1] else 'light'} system") for name, *rest in PLACES],
)
def test_it_has_the_theme_of_its_page_and_is_read_on_it(pages, place, dark, system):
    page = pages[system]
    for name in ("two", "memory", "running"):
        page.set_viewport_size({"width": 900, "height": 2000})
        page.set_content(place.html(REPORTS[name].to_html()))
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        ground, text, scheme = page.locator(".fwmagic").evaluate(LIGHTNESS)
        assert (ground < 0.3, text > 0.6) == (dark, dark)
        themed = "dark" if dark else "light"
        assert scheme == (themed if place != Place() else "light dark"), "for the bar of a run, and for scroll bars"
        page.add_script_tag(path=AXE)
        found = page.evaluate("() => axe.run('.fwmagic')")
        assert [(v["id"], n["html"][:200], n["failureSummary"]) for v in found["violations"] for n in v["nodes"]] == []
        assert "color-contrast" in [rule["id"] for rule in found["passes"]]
        assert not [n["html"] for v in found["incomplete"] if v["id"] == "color-contrast" for n in v["nodes"]]


def test_the_keyboard_reaches_all_that_unfolds_and_scrolls_and_is_seen_there(pages):
    page = pages[0]
    page.set_content(Place().html(with_memory().to_html()))
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    names = []
    for _ in range(20):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "() => [document.activeElement, getComputedStyle(document.activeElement).outlineStyle]"
            ".map(one => one.ariaLabel ?? one.textContent ?? one)"
        )
        if page.evaluate("() => document.activeElement === document.body"):
            break
        names.append(name)
        assert outline == "solid", name
    assert names == ["Figures", "Figures", "Compile", "Memory", "Conditions", "Remarks"]


def test_who_points_at_samples_is_told_what_they_are(pages):
    page = pages[0]
    page.set_content(Place().html(with_memory().to_html()))
    strip = page.locator(".fw-strip [role=img]").first
    assert strip.get_attribute("title") == ("jax: 40 blocks (20 drawn), 95 % interval 525-541 µs")
    assert strip.bounding_box()["height"] >= 20


@pytest.mark.parametrize("width", [900, 400, 250])
@pytest.mark.parametrize("name", REPORTS)
def test_nothing_of_it_is_cut_off(pages, name, width):
    page = pages[0]
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(LIGHT["VS Code"].html(REPORTS[name].to_html()))
    assert page.evaluate(CUT) == [0]
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    assert page.evaluate(CUT) == [0]
