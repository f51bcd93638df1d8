"""A section's own option wins; an option that cannot take effect is refused, never ignored."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

import fwmagic
from fwmagic.line import parse_header, parse_line, resolve_options, resolve_sections
from fwmagic.options import OPTIONS, Options

PAGE = Path(__file__).parent.parent / "docs" / "magics.md"
WHERE = {
    ("lone",): "`%%torch`, `%%jax`",
    ("lone", "compare", "section"): "everywhere",
    ("lone", "compare"): "the magic's line",
    ("compare",): "`%%compare`",
}


def alone(magic, text, defaults=()):
    return resolve_options(parse_line(magic, text), dict(defaults))


def together(text, *sections, defaults=()):
    """Options of `%%compare text` with sections such as `jax --mode eager`, called a, b, c."""
    lines = [parse_header(*f"{section} ".split(" ", 1), number) for number, section in enumerate(sections, 2)]
    return resolve_sections(parse_line("compare", text), dict(zip("abcdef", lines, strict=False)), dict(defaults))


def test_the_defaults():
    assert alone("torch", "") == Options(name="torch")
    on = {name: value for name, value in dataclasses.asdict(Options("x")).items() if value}
    assert on == {
        "name": "x", "mode": "auto", "compile_mode": "default", "budget": 2.0, "margin": 0.01, "check": True,
        "memory": True,
    }  # fmt: skip


def test_a_name_of_its_own():
    assert alone("torch", "mine").name == "mine"
    assert alone("torch", "mine").given == frozenset()


def test_defaults_hold_where_nothing_is_given():
    defaults = {"budget": 5.0, "mode": "compiled", "compile_mode": "max-autotune", "device": "cpu"}
    options = alone("torch", "--budget 1", defaults)
    assert (options.budget, options.mode, options.compile_mode, options.device) == (
        1.0,
        "compiled",
        "max-autotune",
        "cpu",
    )
    assert options.given == {"budget"}
    assert alone("jax", "", defaults).compile_mode == "default"
    assert alone("torch", "--mode eager", defaults).compile_mode == "default"


def test_a_sections_own_option_wins_over_that_of_the_compare_line_and_that_over_the_default():
    first, second = together("--seed 1 --budget 4", "torch --seed 2", "jax", defaults={"seed": 3, "device": "cpu"})
    assert (first.seed, second.seed) == (2, 1)
    assert (first.budget, second.budget) == (4.0, 4.0)
    assert (first.device, second.device) == ("cpu", "cpu")
    assert [first.name, second.name] == ["a", "b"]
    assert first.given == second.given == {"seed", "budget"}


@given(
    st.integers(0, 9) | st.none(), st.lists(st.integers(0, 9) | st.none(), min_size=1, max_size=4), st.integers(0, 9)
)
def test_the_nearest_value_holds(on_line, in_sections, default):
    if on_line is not None and None not in in_sections:
        on_line = None
    words = [f"jax --seed {seed}" if seed is not None else "jax" for seed in in_sections]
    resolved = together("" if on_line is None else f"--seed {on_line}", *words, defaults={"seed": default})
    outer = default if on_line is None else on_line
    assert [options.seed for options in resolved] == [outer if seed is None else seed for seed in in_sections]


def test_an_option_of_torch_on_the_compare_line_reaches_the_torch_sections():
    torch, jax = together("--compile-mode max-autotune --fullgraph", "torch", "jax")
    assert (torch.compile_mode, torch.fullgraph) == ("max-autotune", True)
    assert (jax.compile_mode, jax.fullgraph) == ("default", False)
    assert jax.given == frozenset()


def test_numpy_stays_as_it_is_beside_sections_that_are_compiled():
    torch, numpy = together("--mode all", "torch", "numpy")
    assert (torch.mode, numpy.mode) == ("all", "auto")
    torch, numpy = together("", "torch", "numpy", defaults={"mode": "compiled"})
    assert (torch.mode, numpy.mode) == ("compiled", "auto")


def test_the_variants_of_a_section():
    assert Options("x", mode="all").variants() == {"x:eager": "eager", "x:compiled": "compiled"}


def test_what_the_user_wrote_is_stated():
    options = alone("torch", "--mode all --fullgraph --inputs A,W --no-check --items 3 -o r")
    assert options.stated() == {
        "mode": "all", "fullgraph": "yes", "inputs": "A,W", "items": "3", "no-check": "yes", "output": "r",
    }  # fmt: skip


def test_a_baseline_is_a_variant():
    assert together("--baseline b", "torch", "jax")[0].baseline == "b"
    assert together("--baseline a:eager --mode all", "torch")[0].baseline == "a:eager"


NO_EFFECT = [
    ("torch", "--fullgraph --mode eager", "--fullgraph has no effect in mode eager, which compiles nothing"),
    ("torch", "--compile-mode default --debug", "--compile-mode has no effect with --debug"),
    ("torch", "--debug --fullgraph", "--fullgraph has no effect with --debug"),
    ("torch", "--items 3 --debug", "--items has no effect with --debug, which runs the cell in the notebook itself"),
    ("jax", "--mode eager --debug", "--mode has no effect with --debug"),
    ("jax", "--no-check --debug", "--no-check has no effect with --debug"),
    ("jax", "--repeat-effects --debug", "--repeat-effects has no effect with --debug"),
    ("jax", "--debug --budget 1", "--budget has no effect with --debug"),
    ("jax", "--isolate --debug", "--isolate has no effect with --debug"),
    ("jax", "--threads 1 --debug", "--threads has no effect with --debug"),
    ("jax", "--timeout 1 --debug", "--timeout has no effect with --debug"),
    ("jax", "--threads 9999", "--threads 9999: this process may use"),
    ("jax", "--no-memory --debug", "--no-memory has no effect with --debug"),
    ("jax", "--memray --debug", "--memray has no effect with --debug"),
    ("jax", "--flamegraph x.html --debug", "--flamegraph has no effect with --debug"),
    ("jax", "--try-fix --budget 1", "--budget has no effect with --debug, which"),
    ("torch", "--stages --mode eager", "--mode has no effect with --debug, which"),
    ("jax", "--try-fix --try-fix", "--try-fix is given twice"),
    ("jax", "--memray --no-memory", "--memray measures memory, and --no-memory turns that off; leave one of them out"),
    ("jax", "--flamegraph x.html --no-memory", "--flamegraph measures memory, and --no-memory turns that off"),
    ("jax", "--margin 0.1", "--margin needs two timed variants; add --mode all or a section, or leave it out"),
]


@pytest.mark.parametrize(("magic", "text", "sentence"), NO_EFFECT)
def test_an_option_without_effect_in_a_cell_is_refused(magic, text, sentence):
    with pytest.raises(UsageError, match=re.escape(f"%%{magic}: {sentence}")):
        alone(magic, text)


def test_a_margin_between_the_two_modes_of_one_cell():
    assert alone("jax", "--margin 0.1 --mode all").margin == 0.1


NO_EFFECT_TOGETHER = [
    ("--compile-mode default", ["jax", "numpy"], "%%compare: --compile-mode belongs to torch, and there is no %%torch"),
    ("--fullgraph --mode eager", ["torch", "jax"], "%%compare: --fullgraph has no effect in mode eager"),
    ("--seed 1", ["torch --seed 2", "jax --seed 3"], "%%compare: --seed has no effect, since each section has its own"),
    ("--mode compiled", ["numpy", "torch --mode eager"], "%%compare: --mode compiled cannot take effect, since NumPy"),
    ("", ["jax", "numpy --mode all"], "%%numpy in line 3: --mode all cannot take effect, since NumPy compiles nothing"),
    ("--mode eager", ["jax", "torch --fullgraph"], "%%torch in line 3: --fullgraph has no effect in mode eager"),
    ("--margin 0.1", ["torch"], "%%compare: --margin needs two timed variants"),
    ("--baseline a", ["torch"], "%%compare: --baseline needs two timed variants"),
    ("--baseline x", ["torch", "jax"], "%%compare: --baseline x names no timed variant; there are: a, b"),
    ("--baseline a", ["torch --mode all"], "there are: a:eager, a:compiled"),
    ("--alloc jax:platform", ["torch"], "%%compare: --alloc names policies of jax, and there is no %%jax section"),
    ("--alloc all", ["numpy"], "%%compare: --alloc names policies of jax, and there is no %%jax section; add one"),
    ("--alloc torch:none --no-memory", ["torch"], "%%compare: --alloc measures memory, and --no-memory turns that off"),
    ("--first-difference", ["torch"], "%%compare: --first-difference needs two sections that are timed; add one"),
    ("--first-difference --no-check", ["torch", "jax"], "%%compare: --first-difference is about outputs that differ"),
    ("--first-difference --threads 1", ["torch", "jax"], "%%compare: --first-difference runs in the notebook itself"),
    ("--debug", ["torch", "jax"], "%%compare: --debug belongs to a cell of its own, %%torch --debug or %%jax --debug"),
    ("--try-fix", ["torch", "jax"], "%%compare: --try-fix belongs to a cell of its own, %%torch --try-fix or %%jax"),
    ("", ["torch", "jax --stages"], "%%jax in line 3: --stages belongs to a cell of its own, %%torch --stages or"),
    ("", ["torch", "jax --debug"], "%%jax in line 3: --debug belongs to a cell of its own, %%torch --debug or %%jax"),
    ("--baseline a:compild", ["torch --mode all"], "did you mean a:compiled?"),
]


@pytest.mark.parametrize(("text", "sections", "sentence"), NO_EFFECT_TOGETHER)
def test_an_option_without_effect_in_any_section_is_refused(text, sections, sentence):
    with pytest.raises(UsageError, match=re.escape(sentence)):
        together(text, *sections)


def test_an_option_of_the_compare_line_needs_one_section_only_that_it_can_reach():
    torch, other = together("--fullgraph --mode eager", "torch --mode compiled", "jax")
    assert (torch.fullgraph, other.fullgraph) == (True, False)


@pytest.mark.parametrize("text", ["--isolate", "--threads 1", "--timeout 3", "--alloc torch:caching,torch:none"])
def test_what_implies_a_process_of_its_own(text):
    assert together(text, "torch")[0].isolated
    assert not together("", "torch")[0].isolated


def test_a_flame_graph_implies_memray():
    assert alone("torch", "--flamegraph x.html").asks("memray")
    assert not alone("torch", "--isolate").asks("memray")


def test_all_policies_are_those_of_the_sections():
    assert "jax:platform" in together("--alloc all", "torch")[0].alloc
    assert together("--alloc torch:none,torch:caching,torch:none", "torch")[0].alloc == ("torch:none", "torch:caching")


def test_memory_is_measured_unless_the_user_says_no():
    assert not alone("torch", "--no-memory").memory
    assert not alone("torch", "", {"memory": False}).memory
    options = alone("torch", "--memray", {"memory": False})
    assert (options.memray, options.memory) == (True, False)
    assert "no-memory" in alone("torch", "--no-memory").stated()


def row(option):
    flags = [*option.short, option.flag]
    written = ", ".join(f"`{flag}`" if option.switch else f"`{flag} {option.type.metavar}`" for flag in flags)
    where = WHERE[option.places] + (f", for {option.belongs}" if option.belongs else "")
    return f"| {written} | {where} | {option.sentence} |"


def test_the_table_of_the_page_is_the_declaration():
    table = ["| option | where | what it does |", "| --- | --- | --- |", *map(row, OPTIONS.values())]
    written = re.search(r"^\| option \|(.*\n\|)*.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert written is not None
    assert written[0].splitlines() == table, "the table of docs/magics.md is:\n" + "\n".join(table)


def test_the_page_names_each_default_that_can_be_set():
    named = re.findall(r"^%config FwMagics\.(\w+) =", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) == {option.name for option in OPTIONS.values() if option.config}


def test_the_arguments_of_the_library_are_options_with_their_defaults():
    parameters = inspect.signature(fwmagic.compare).parameters
    taken = {name: one.default for name, one in parameters.items() if name not in ("callables", "progress")}
    assert taken == {option.name: option.default for option in OPTIONS.values() if option.argument}


def test_the_options_are_read_without_what_takes_long_to_import():
    code = "import sys, fwmagic.magics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "jax", "numpy", "psutil", "fwmagic.report", "fwmagic.cells"} & set(loaded)
