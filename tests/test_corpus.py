"""Every cell of the corpus, as the oracle sees it: plainly, under its framework's magic, and in `%%compare`."""

from __future__ import annotations

import dataclasses
import functools
import gc
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from corpus import Cell, load
from oracle import ALIASES, REPORT, Notebook, Run, body_lines, notebook, prepared, unlike, witness
from tiers import QUICK_BACKEND, compiling_with

from fwmagic.report import Report, Variant
from fwmagic.report.answer import MOST, answer_of

CELLS = load()
FACTS = [cell for cell in CELLS if "facts" in cell.tags]
IDLE = "pass"  # stands where another notebook has `%%compare`, so that Out has the same numbers in all
BUDGET = 0.05
COMPILED = ("cell", "modules", "functions")

# Other tests cover what these run through.
pytestmark = pytest.mark.usefixtures("imported", "untraced")

#: A torch cell of each way to be compiled, and of each kind of state that a kernel may change.
THROUGH_INDUCTOR = (
    "pure-expression", "define-and-call", "train-step-adam", "dropout", "add-in-place", "views-of-one-storage",
)  # fmt: skip


def _with_every_tag(cells: list[Cell]) -> set[str]:
    """Return few cells that have every tag of each framework among them, those that raise included."""
    chosen = [cell for cell in cells if cell.raises]
    while True:
        had = {(cell.framework, tag) for cell in chosen for tag in cell.tags}
        most = max(cells, key=lambda cell: sum((cell.framework, tag) not in had for tag in cell.tags))
        if all((most.framework, tag) in had for tag in most.tags):
            return {cell.id for cell in chosen}
        chosen.append(most)


ONE_OF_EACH = _with_every_tag(CELLS)
#: The cells of the first tier: those, and the cells of the facts.
FIRST = {
    *ONE_OF_EACH,
    *[cell.id for cell in CELLS if "facts" in cell.tags or cell.name in THROUGH_INDUCTOR][::8],  # every eighth one
}


def backend_of(cell: Cell) -> str:
    """Return the backend of `torch.compile` in the first tier.

    What becomes of the notebook, and which way is taken, is settled before a backend sees the graph; so it is one
    that generates no code, and Inductor for some cells.
    """
    return QUICK_BACKEND if cell.framework == "torch" and cell.name not in THROUGH_INDUCTOR else "inductor"


def compiled(cells: list[Cell], first: Callable[[Cell], bool] = lambda cell: cell.id in FIRST) -> Any:
    """Parametrize a test by cell and backend: the first tier has the cells that are `first`, the second Inductor."""
    slow = pytest.mark.slow
    cases = []
    for cell in cells:
        quick = backend_of(cell) == QUICK_BACKEND
        if first(cell):
            cases.append(pytest.param(cell, backend_of(cell), id=cell.id))
        if quick or not first(cell):
            cases.append(pytest.param(cell, "inductor", id=f"{cell.id}-inductor" if quick else cell.id, marks=slow))
    return pytest.mark.parametrize(("cell", "backend"), cases)


@dataclass(frozen=True)
class Seen:
    """What a cell did in one notebook, what the cell after it did, what compilers did, and the report, if any."""

    run: Run
    then: Run
    compiled: frozenset[str]
    idle: Run
    variant: Variant | None = None
    wrong_outputs: tuple[str, ...] = ()
    answer: str = ""


def _seen(
    cell: Cell,
    text: str,
    *,
    idle: str = IDLE,
    backend: str = "",
    look: Callable[[Notebook], Report | None] = lambda book: None,
) -> Seen:
    """Run `idle`, then the cell as `text`, then the cell after it, in a notebook of their own; with fwmagic if a
    backend is named.
    """
    with notebook() as book, compiling_with(backend) if backend else nullcontext():
        if backend:
            book.shell.run_line_magic("load_ext", "fwmagic")
        prepared(book, cell)
        with witness() as compilers:
            before = book.run(idle, cell.volatile)
            run = book.run(text, cell.volatile, extra_lines=text.count("\n") - body_lines(cell.body).count("\n"))
        report = look(book)
        variant = None if report is None else next(iter(report), None)
        wrong = () if variant is None else tuple(_unlike_outputs(variant, book.shell.user_ns))
        then = book.run(body_lines(cell.then), cell.volatile)
        if backend:
            book.shell.run_line_magic("unload_ext", "fwmagic")
    if variant is not None:
        variant = dataclasses.replace(variant, outputs=None)
    answer = "" if report is None else answer_of(report).line
    return Seen(run, then, frozenset(compilers.names()), before, variant, wrong, answer)


@functools.cache
def plainly(cell: Cell) -> Seen:
    """Run the cell without a magic."""
    return _seen(cell, body_lines(cell.body))


@functools.cache
def under_magic(cell: Cell, backend: str) -> Seen:
    """Run the cell under `%%torch` or `%%jax`."""
    text = f"%%{cell.framework} --budget {BUDGET} -o {REPORT}\n{body_lines(cell.body)}"
    return _seen(cell, text, backend=backend, look=lambda book: book.shell.user_ns.get(REPORT))


@functools.cache
def after_comparing(cell: Cell, backend: str) -> Seen:
    """Run the cell as a section of `%%compare`, and then plainly."""
    section = f"%%compare --budget {BUDGET}\n%%{cell.framework}\n{body_lines(cell.body)}"
    return _seen(cell, body_lines(cell.body), idle=section, backend=backend)


def _unlike_outputs(variant: Variant, namespace: dict[str, Any]) -> Iterator[str]:
    """Yield the names of returned results whose numbers are not those that the committed run bound."""
    import jax
    import numpy as np
    import torch

    def numbers(value: Any) -> Any:
        return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)

    for name, value in (variant.outputs or {}).items():
        bound = value if name == "Out" else namespace.get(name, value)  # Out is the last expression's, and has no name
        leaves, wanted = jax.tree.leaves(value), jax.tree.leaves(bound)
        pairs = zip(leaves, wanted, strict=True)
        arrays = [(one, two) for one, two in pairs if isinstance(one, torch.Tensor | jax.Array | np.ndarray)]
        arrays = [(a, b) for a, b in arrays if not str(getattr(a, "dtype", "")).startswith("key")]
        if not all(np.allclose(numbers(a), numbers(b), rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in arrays):
            yield name


@pytest.fixture(scope="module")
def imported(small_heap: None) -> None:
    """Import the frameworks whole, and keep their objects out of the garbage collections, too."""
    with notebook():
        gc.freeze()


def test_the_corpus_holds_what_it_must():
    count = Counter(tag for cell in CELLS for tag in cell.tags)
    facts = Counter(cell.framework for cell in FACTS)
    assert facts == {"jax": 44, "torch": 35}
    groups = ("linen", "nnx", "optax", "train", "dataloader", "grad", "vmap", "rng", "closure", "class", "magics")
    assert {group: count[group] for group in groups if count[group] < 4} == {}
    for kind in ("iterator", "disable-jit", "own-jit", "object", "warning", "exception", "output", "numpy", "with"):
        assert count[kind], kind
    assert len({cell.id for cell in CELLS}) == len(CELLS)


every_cell = pytest.mark.parametrize(
    "cell", [pytest.param(cell, id=cell.id, marks=() if cell.id in FIRST else pytest.mark.slow) for cell in CELLS]
)


@every_cell
def test_the_plain_cell_ends_as_it_is_meant_to(cell: Cell):
    seen = plainly(cell)
    assert (seen.run.error[0] if seen.run.error else None) == cell.raises
    assert seen.then.error is None


@every_cell
def test_two_plain_runs_are_one_to_the_oracle(cell: Cell):
    once, again = plainly(cell), plainly.__wrapped__(cell)
    assert unlike(once.run, again.run) == []
    assert unlike(once.then, again.then) == []


@compiled(CELLS)
def test_under_its_magic_the_notebook_is_as_after_one_plain_run(cell: Cell, backend: str):
    plain, magic = plainly(cell), under_magic(cell, backend)
    aliases = frozenset(ALIASES)
    assert unlike(plain.run, magic.run, allowed=aliases) == []
    assert unlike(plain.then, magic.then, allowed=aliases) == []


@compiled(CELLS, first=lambda cell: cell.id in ONE_OF_EACH)
def test_after_compare_the_notebook_is_untouched(cell: Cell, backend: str):
    compared = after_comparing(cell, backend)
    untouched = plainly(cell)
    compared_itself = dataclasses.replace(compared.idle, error=None, shown_errors=0)
    ends_in = compared.idle.error[0] if compared.idle.error else None
    if "nothing-to-time" in cell.tags:  # which is said in one line, as IPython says that a magic was misused
        assert ends_in == "UsageError"
        compared_itself = dataclasses.replace(compared_itself, stderr="")
    elif cell.raises is None:
        assert ends_in is None
    assert unlike(untouched.idle, compared_itself) == []
    assert unlike(untouched.run, compared.run) == []
    assert unlike(untouched.then, compared.then) == []


@pytest.mark.parametrize("cell", [c for c in CELLS if c.raises], ids=lambda cell: cell.id)
def test_a_section_that_raises_ends_compare_in_an_error(cell: Cell):
    section = f"%%compare --budget {BUDGET}\n%%{cell.framework}\n{body_lines(cell.body)}"
    with notebook() as book:
        book.shell.run_line_magic("load_ext", "fwmagic")
        prepared(book, cell)
        assert book.run(section).error is not None
        book.shell.run_line_magic("unload_ext", "fwmagic")


def _witnessed(cell: Cell, backend: str) -> bool:
    """Say whether the compilers themselves saw what the report says they compiled."""
    seen = under_magic(cell, backend)
    way = seen.variant.compilation.way if seen.variant and seen.variant.compilation else None
    if way == "cell":
        return "cell" in seen.compiled
    text = "\n".join((*cell.setup, cell.body))
    users = {"forward", "__call__", "<lambda>", *re.findall(r"\bdef (\w+)", text)}
    return way in COMPILED and bool(users & (seen.compiled - plainly(cell).compiled))


@compiled(CELLS)
def test_what_the_report_calls_compiled_was_compiled(cell: Cell, backend: str):
    variant = under_magic(cell, backend).variant
    if variant is None:  # nothing was measured: the user's error is all there is to say, or there was nothing to time
        assert cell.raises or "nothing-to-time" in cell.tags
        return
    made = variant.compilation
    if made is not None and made.way in COMPILED:
        assert _witnessed(cell, backend), (made.way, made.compiled, sorted(under_magic(cell, backend).compiled))
        assert variant.agreement is None or variant.agreement.status != "differs"
        if variant.agreement is not None and variant.agreement.status == "agrees":
            assert under_magic(cell, backend).wrong_outputs == ()


@compiled(CELLS)
def test_the_answer_is_one_short_line_that_names_the_cell(cell: Cell, backend: str):
    variant, answer = under_magic(cell, backend).variant, under_magic(cell, backend).answer
    assert variant is None or variant.name in answer
    assert len(answer) <= MOST
    assert len(answer.splitlines()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "least", "backend"),
    [("jax", 29, backend_of), ("torch", 31, backend_of), ("torch", 31, lambda cell: "inductor")],
    ids=["jax", "torch", "torch-inductor"],
)
def test_so_many_cells_of_the_facts_end_compiled(framework: str, least: int, backend: Callable[[Cell], str]):
    cells = [(cell, backend(cell)) for cell in FACTS if cell.framework == framework]
    others = {cell.id: _why(under_magic(cell, how).variant) for cell, how in cells if not _witnessed(cell, how)}
    assert len(cells) - len(others) >= least, others


@compiled([c for c in FACTS if not c.raises])
def test_a_cell_that_was_not_compiled_names_its_reason_and_line(cell: Cell, backend: str):
    if _witnessed(cell, backend):
        return
    reason, line = _why(under_magic(cell, backend).variant)
    assert len(reason) > 10
    assert line is not None
    assert 2 <= line <= 1 + len(body_lines(cell.body).splitlines())


def _why(variant: Variant | None) -> tuple[str, int | None]:
    """Return the reason and line that a report gives for not compiling, or for not timing at all."""
    if variant is None:
        return "", None
    if variant.failure is not None:
        return f"{variant.failure.error}: {variant.failure.message}", variant.failure.line
    return ("", None) if variant.compilation is None else (variant.compilation.reason, variant.compilation.line)


@compiled([c for c in CELLS if "disable-jit" in c.tags])
def test_a_cell_under_disable_jit_is_not_called_compiled(cell: Cell, backend: str):
    variant = under_magic(cell, backend).variant
    assert variant is not None
    assert variant.compilation is not None
    assert variant.compilation.way not in COMPILED


@compiled(CELLS)
def test_no_timed_block_saw_a_compilation(cell: Cell, backend: str):
    variant = under_magic(cell, backend).variant
    if variant is not None and variant.time is not None and "recompiles" not in cell.tags:
        assert variant.time.voided == 0


#: Cells of the first tier that are executed twice: one of each way.
TWICE = {"jax-pure-expression", "jax-jit-of-lambda-in-body", "torch-pure-expression", "torch-train-step-adam"}
#: Times of two executions: at most this factor apart, where one takes longer than so many seconds. What was found to
#: differ differed by hundreds. Where a report says that the machine was busy, its times are not compared.
APART, SHORT = 6, 1e-3


@dataclass(frozen=True)
class Told:
    """What a report tells of a cell, whichever execution it is; of times, the order of magnitude."""

    status: str
    way: str
    line: int | None
    agreement: str
    remarks: tuple[tuple[str, int | None], ...]
    seconds: float = dataclasses.field(compare=False)


def _told(report: Report) -> list[Told]:
    remarks = {(one.code, one.line) for one in report.findings if one.code.startswith(("FW1", "FW4"))}
    busy = any(one.code == "FW601" for one in report.findings)
    return [
        Told(
            variant.status,
            variant.compilation.way if variant.compilation else "",
            variant.compilation.line if variant.compilation else None,
            variant.agreement.status if variant.agreement else "",
            tuple(sorted(remarks, key=repr)),
            variant.time.median if variant.time and variant.status == "timed" and not busy else 0.0,
        )
        for variant in report
    ]


@compiled([cell for cell in CELLS if not cell.raises], first=lambda cell: cell.id in TWICE)
def test_the_same_cell_again_tells_the_same(cell: Cell, backend: str):
    with notebook() as book:
        prepared(book, cell)
        ends = [book.run(body_lines(cell.body)).error for _ in range(2)]
    text = f"%%{cell.framework} --budget {BUDGET} -o {REPORT}\n{body_lines(cell.body)}"
    found: list[list[Told]] = []
    with notebook() as book, compiling_with(backend):
        book.shell.run_line_magic("load_ext", "fwmagic")
        prepared(book, cell)
        for plain in ends:
            error = book.run(text, extra_lines=1).error
            assert (error and error[0]) == (plain and plain[0])
            report = book.shell.user_ns.pop(REPORT, None)
            found += [] if error or report is None else [_told(report)]
        book.shell.run_line_magic("unload_ext", "fwmagic")
    first, again = found[0], found[-1]
    assert first == again
    for one, other in zip(first, again, strict=True):
        shorter, longer = sorted((one.seconds, other.seconds))
        assert not shorter or longer < max(APART * shorter, SHORT), (one.seconds, other.seconds)
