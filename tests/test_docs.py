"""Every Python block of the README and of docs/ runs, page by page and in order, in a real IPython shell.

A block is executed if its language is `python` or `ipython`. One that has to fail is written ```` ```python-error ````,
or has `<!-- raises: NameOfTheError -->` on the line before it (a blank line between is allowed). Other languages
are not executed; a block without any is refused, since it would escape unseen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from fwmagic.report import Report

ROOT = Path(__file__).parent.parent
#: The page whose examples are of what goes wrong.
OF_FAULTS = "findings.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<language>[^`]*)$")
RAISES = re.compile(r"^\s*<!--\s*raises:\s*(?P<error>[\w.]+)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the page's line of its fence, and the error that it must end in."""

    language: str
    text: str
    line: int
    raises: str | None = None


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a Markdown page, in order."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    start, raises, body = 0, None, []
    for number, line in enumerate(page.splitlines(), 1):
        if opened is None:
            if fence := FENCE.match(line):
                opened, start, body = fence, number, []
            elif marker := RAISES.match(line):
                raises = marker["error"]
            elif line.strip():
                raises = None
        elif line.strip().startswith(opened["ticks"]) and not line.strip().strip(opened["ticks"][0]):
            language = opened["language"].split()[0] if opened["language"].strip() else ""
            text = "\n".join(row.removeprefix(opened["indent"]) for row in body)
            found.append(Block(language, text, start, raises))
            opened, raises = None, None
        else:
            body.append(line)
    assert opened is None, f"the block that begins in line {start} has no end"
    return found


def run(shell, block: Block, page: str) -> None:
    """Run a block as one cell; AssertionError if it fails, or does not fail as it is said to."""
    error = shell.run_cell(block.text).error_before_exec or shell.last_execution_result.error_in_exec
    where = f"{page}, line {block.line}"
    if block.raises is None and block.language != "python-error":
        assert error is None, f"{where}: {type(error).__name__}: {error}"
        return
    assert error is not None, f"{where}: this block has to fail, and does not"
    if block.raises is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        assert block.raises in names, f"{where}: {block.raises} was expected, not {type(error).__name__}: {error}"


@pytest.mark.parametrize("budget", [0.05, pytest.param(2.0, marks=pytest.mark.slow)], ids=["quick", "as read"])
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(path, budget, bare_shell):
    bare_shell.config.FwMagics.budget = budget
    found = blocks(path.read_text(encoding="utf-8"))
    for block in found:
        assert block.language, f"{path.name}, line {block.line}: name the language of this block"
    for block in found:
        if block.language in {"python", "ipython", "python-error"}:
            run(bare_shell, block, path.name)
            for name, value in bare_shell.user_ns.items():
                if isinstance(value, Report) and path.name != OF_FAULTS:
                    assert unlike(value) == [], f"{path.name}, line {block.line}: {name} is no example to follow"


def unlike(report: Report) -> list[str]:
    """Return what keeps the variants of a report from being compared."""
    differ = [v.agreement.sentence for v in report if v.agreement is not None and v.agreement.status == "differs"]
    return [*differ, *(r.note for r in report.ratios if r.verdict == "withheld")]


def test_the_readme_has_blocks_to_run():
    languages = [block.language for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert "python" in languages


PAGE = """
# A page
```python
a = 1
```
text
~~~ipython title="x"
%precision 3
~~~
- a list
  ```python
  if a:
      b = 2
  ```

<!-- raises: ValueError -->

```python
int("x")
```
````markdown
```python
not_run
```
````
```python-error
a +
```
```
no language
```
"""


def test_blocks_are_found_with_their_language_text_line_and_error():
    assert blocks(PAGE) == [
        Block("python", "a = 1", 3),
        Block("ipython", "%precision 3", 7),
        Block("python", "if a:\n    b = 2", 11),
        Block("python", 'int("x")', 18, "ValueError"),
        Block("markdown", "```python\nnot_run\n```", 21),
        Block("python-error", "a +", 26),
        Block("", "no language", 29),
    ]


def test_a_marker_counts_only_right_before_its_block():
    assert blocks("<!-- raises: ValueError -->\ntext\n```python\n1\n```") == [Block("python", "1", 3)]


def test_a_block_without_an_end_is_refused():
    with pytest.raises(AssertionError, match="begins in line 2 has no end"):
        blocks("\n```python\n1")


@pytest.mark.parametrize(
    "block",
    [
        Block("python", "1 / 0", 1),
        Block("python", "1 +", 1),
        Block("python", "%no_such_magic", 1),
        Block("python", "1", 1, "ValueError"),
        Block("python", "1 / 0", 1, "ValueError"),
        Block("python-error", "1", 1),
    ],
)
def test_a_block_that_does_not_do_what_it_says_is_an_error(block, bare_shell):
    with pytest.raises(AssertionError, match="page, line 1: "):
        run(bare_shell, block, "page")


def test_names_last_from_block_to_block_and_an_expected_error_passes(bare_shell):
    for block in blocks(PAGE):
        if block.language in {"python", "ipython", "python-error"}:
            run(bare_shell, block, "page")
    assert bare_shell.user_ns["b"] == 2
