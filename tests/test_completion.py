"""Completion of options, values, sections and names, through IPython's completer and a kernel's complete_request."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from example_reports import a_report
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.completer import provisionalcompleter
from jupyter_client.manager import start_new_kernel

from fwmagic.completion import proposed
from fwmagic.options import OPTIONS

COMPARE = "%%compare --budget 1\n%%torch\n1\n%%numpy two --mode eager\n2"


PIECES = [
    *("%%compare", "%%torch", "%%numpy", "%", "--mode", "--mode=", "--inputs", "-o", "a,b", "--baseline", "--alloc"),
    *("--seed x", "--device", "'", '"', "\\", "#", " ", "\t", "\n", "=", "é", "\0"),
]


@pytest.fixture
def loaded(bare_shell):
    """A shell with the magics, in which no cell runs."""
    bare_shell.run_line_magic("load_ext", "fwmagic")
    return bare_shell


def complete(shell, text):
    """Return what IPython proposes at the `|` of a cell, in its order, and the cell with the first of it put in."""
    position = text.index("|")
    code = text.replace("|", "")
    with provisionalcompleter():
        found = [(one.text, one.start, one.end) for one in shell.Completer.completions(code, position)]
    texts = [one for one, _, _ in found]
    first = found[0] if found else ("", position, position)
    return texts, code[: first[1]] + first[0] + code[first[2] :]


class TestOptions:
    def test_the_start_of_an_option(self, loaded):
        assert complete(loaded, "%%compare --mo|") == (["--mode"], "%%compare --mode")
        assert complete(loaded, "%%jax a --budget 1 --no-|")[0] == ["--no-check", "--no-memory"]

    def test_all_options_of_a_place_and_no_others(self, loaded):
        for line, place, framework in (
            ("%%jax |", "lone", "jax"),
            ("%%compare |", "compare", None),
            ("%%compare\n%%jax |", "section", "jax"),
        ):
            declared = [o for o in OPTIONS.values() if place in o.places and framework in (None, o.belongs or "jax")]
            shown = complete(loaded, line)[0]
            assert {one.flag for one in declared} == {one for one in shown if one.startswith("--")}, line

    def test_an_option_that_stands_there_already_is_left_out(self, loaded):
        assert "--mode" not in complete(loaded, "%%torch --mode eager --|")[0]
        assert complete(loaded, "%%torch --mode=eager --mo|")[0] == []
        assert "--output" not in complete(loaded, "%%torch -o r --|")[0]

    def test_an_option_of_torch_is_not_proposed_to_jax(self, loaded):
        assert complete(loaded, "%%torch --full|")[0] == ["--fullgraph"]
        assert complete(loaded, "%%jax --full|")[0] == []

    def test_behind_blank_lines_and_not_in_comments_or_code(self, loaded):
        assert complete(loaded, "\n\n%%compare --mo|")[0] == ["--mode"]
        assert "--mode" not in complete(loaded, "%%compare # --mo|")[0]
        assert "--mode" not in complete(loaded, "%%compare\n%%torch\nx --mo|")[0]
        assert "--mode" not in complete(loaded, "%%time\n%%torch --mo|")[0]
        assert "--mode" not in complete(loaded, "x = 1\n%%torch --mo|")[0]


class TestValues:
    def test_the_values_of_a_choice(self, loaded):
        modes = ["auto", "eager", "compiled", "all"]
        assert complete(loaded, "%%compare --mode |")[0] == modes
        assert complete(loaded, "%%compare --mode c|") == (["compiled"], "%%compare --mode compiled")
        assert complete(loaded, "%%compare --mode=c|") == (["compiled"], "%%compare --mode=compiled")
        assert complete(loaded, "%%compare\n%%torch a --compile-mode m|")[0] == ["max-autotune"]
        assert complete(loaded, "%%jax --device |")[0] == ["cpu", "cuda", "gpu"]

    def test_names_of_reports(self, loaded):
        loaded.user_ns.update(mine=a_report(), number=3)
        assert complete(loaded, "%%compare -o |")[0] == ["mine", "report"]
        assert complete(loaded, "%%compare --output m|")[0] == ["mine"]

    def test_names_of_arrays_also_behind_a_comma(self, loaded):
        class Hostile:
            @property
            def __class__(self):
                raise RuntimeError

        loaded.user_ns.update(A=np.ones(1), W=np.ones(1), number=3, hostile=Hostile())
        assert complete(loaded, "%%jax --inputs |")[0] == ["A", "W"]
        assert complete(loaded, "%%jax --inputs A,|") == (["W"], "%%jax --inputs A,W")

    def test_the_baseline_is_a_variant_of_the_cell(self, loaded):
        assert complete(loaded, COMPARE.replace("1\n", "1 --baseline |\n", 1))[0] == ["torch", "two"]
        both = COMPARE.replace("1\n", "1 --mode all --baseline |\n", 1)
        assert complete(loaded, both)[0] == ["torch:eager", "torch:compiled", "two"]
        assert complete(loaded, "%%compare --baseline |\n%%jax 'a b'\n1\n%%jax\n2\n%%jax\n3\n%%jax --mode\n4")[0] == [
            "'a b'", "jax", "jax2"
        ]  # fmt: skip

    def test_policies_of_what_is_imported(self, loaded):
        found = complete(loaded, "%%compare --alloc |")[0]
        assert found[0] == "all"
        assert {one.partition(":")[0] for one in found[1:]} <= {
            name for name in ("torch", "jax") if name in sys.modules
        }


class TestSections:
    def test_a_section_in_a_compare_cell(self, loaded):
        assert complete(loaded, "%%compare\n%%nu|") == (["%%numpy"], "%%compare\n%%numpy")
        assert complete(loaded, "%%compare\n%%se|\nx = 1\n%%torch\nx")[0] == ["%%setup"]

    def test_beside_cell_magics_of_others(self, loaded):
        found = complete(loaded, "%%compare\n%%t|")[0]
        assert found[0] == "%%torch"
        assert {"%%time", "%%timeit"} <= set(found)
        assert found.count("%%torch") == 1

    def test_not_in_a_cell_of_one_framework(self, loaded):
        assert "%%numpy" not in complete(loaded, "%%torch\n%%nu|")[0]


class TestNoHarm:
    def test_code_is_completed_as_ever(self, bare_shell):
        cells = ("%%compare\n%%torch\nx = [1]\nx.app|", "import o|", "%%ti|", "x --mo|", "%%compare --mo|")
        plain = [complete(bare_shell, cell) for cell in cells]
        bare_shell.run_line_magic("load_ext", "fwmagic")
        assert [complete(bare_shell, cell) for cell in cells[:-1]] == plain[:-1]
        assert complete(bare_shell, cells[-1]) != plain[-1]
        bare_shell.run_line_magic("unload_ext", "fwmagic")
        assert [complete(bare_shell, cell) for cell in cells] == plain

    def test_loading_again_proposes_nothing_twice(self, loaded):
        loaded.run_line_magic("reload_ext", "fwmagic")
        assert complete(loaded, "%%compare --mo|")[0] == ["--mode"]
        assert len(loaded.Completer.custom_matchers) == 1

    @given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(0, 80))
    def test_nothing_raises(self, words, position):
        text = "".join(words)
        before = text[:position]
        rows, line = text.split("\n"), before.count("\n")
        column = len(before.rpartition("\n")[2])
        fragment, found = proposed(rows, line, column, {"A": np.ones(1)}, ("torch", "compare"))
        assert rows[line][:column].endswith(fragment)
        assert len(found) == len(set(found))


def test_a_kernel_answers_a_complete_request():
    """As JupyterLab asks it."""
    manager, client = start_new_kernel()
    try:
        client.execute_interactive("%load_ext fwmagic", timeout=60, output_hook=lambda _: None)
        for text, matches in (
            ("%%compare --mo", ["--mode"]),
            ("%%compare --mode e", ["eager"]),
            ("%%compare\n%%nu", ["%%numpy"]),
        ):
            reply = client.complete(text, len(text), reply=True, timeout=60)["content"]
            assert reply["status"] == "ok"
            assert reply["matches"] == matches
            assert (reply["cursor_start"], reply["cursor_end"]) == (len(text) - len(text.split()[-1]), len(text))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
