"""The magics as a person meets them: loading, help, options, defaults, and what a wrong cell says."""

from __future__ import annotations

import inspect
import re
import signal
import sys
import traceback
import warnings

import pytest
from cells import fail, names, run, shown, untouched
from IPython.core.error import UsageError

from fwmagic import frameworks
from fwmagic.options import OPTIONS
from fwmagic.report import MIME, Report

MAGICS = ("torch", "jax", "compare")
QUICK = "--budget 0.1"


def magics(shell):
    return {name for name in MAGICS if shell.find_cell_magic(name) is not None}


def configurable(shell):
    return [item for item in shell.configurables if type(item).__name__ == "FwMagics"]


class TestLoading:
    def test_load_unload_and_load_again(self, bare_shell):
        assert magics(bare_shell) == set()
        bare_shell.run_line_magic("load_ext", "fwmagic")
        assert magics(bare_shell) == set(MAGICS)
        assert len(configurable(bare_shell)) == 1
        bare_shell.run_line_magic("unload_ext", "fwmagic")
        assert magics(bare_shell) == set()
        assert configurable(bare_shell) == []
        bare_shell.run_line_magic("load_ext", "fwmagic")
        assert magics(bare_shell) == set(MAGICS)

    def test_reload(self, shell):
        run(shell, "%reload_ext fwmagic")
        assert magics(shell) == set(MAGICS)
        assert len(configurable(shell)) == 1
        assert run(shell, f"%%jax {QUICK} --mode eager\n1 + 1") == 2

    def test_unloading_forgets_the_compiled_programs(self, shell):
        text = f"%%jax {QUICK} -o r\njnp.ones(3) * 3"
        caches = []
        for _ in range(2):
            run(shell, text)
            caches.append(shell.user_ns["r"]["jax"].compilation.cache)
        assert caches[1] == "reused"
        run(shell, "%reload_ext fwmagic")
        run(shell, text)
        assert shell.user_ns["r"]["jax"].compilation.cache != "reused"

    def test_names_stay_free_until_a_magic_is_used(self, shell):
        assert not {"torch", "jax", "jnp", "np"} & set(names(shell))


class TestHelp:
    @pytest.mark.parametrize("magic", MAGICS)
    def test_a_question_mark_lists_every_option(self, shell, magic, capsys):
        run(shell, f"%%{magic}?")
        text = capsys.readouterr().out
        place = "compare" if magic == "compare" else "lone"
        for_jax = {o.flag for o in OPTIONS.values() if place in o.places and o.belongs in (None, "jax")}
        for_torch = {"--compile-mode", "--fullgraph"} if magic != "jax" else set()
        assert for_jax | for_torch <= set(re.findall(r"--[a-z-]+", text))
        assert "-o --output NAME" in text

    @pytest.mark.parametrize("magic", MAGICS)
    def test_it_fits_a_screen_and_begins_with_three_examples(self, shell, magic, capsys):
        run(shell, f"%%{magic}?")
        lines = capsys.readouterr().out.rstrip().splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 120
        examples = [line for line in lines if line.lstrip().startswith(f"%%{magic}")]
        assert len(examples) == 3
        assert lines.index(examples[0]) <= 3

    def test_help_says_first_what_the_magic_is_for(self, shell, capsys):
        run(shell, "%%compare?")
        assert "Compare sections" in capsys.readouterr().out


class TestAliases:
    @pytest.mark.parametrize(("magic", "bound"), [("torch", {"torch"}), ("jax", {"jax", "jnp"})])
    def test_a_framework_is_there_without_an_import(self, shell, magic, bound):
        run(shell, f"%%{magic} {QUICK} --mode eager\n1")
        assert bound <= set(names(shell))
        assert {"np"} >= set(names(shell)) - bound

    def test_the_users_own_name_is_kept(self, shell):
        run(shell, "jnp = 'mine'")
        assert run(shell, f"%%jax {QUICK} --mode eager\njnp") == "mine"

    def test_numpy_is_there_too(self, shell):
        assert run(shell, f"%%jax {QUICK} --mode eager\nnp.ones(2).sum()") == 2


class TestLine:
    def test_a_trailing_comment_on_the_magics_own_line(self, shell):
        run(shell, f"%%jax {QUICK} --mode eager -o r  # a comment -o s\njnp.ones(3)")
        assert shell.user_ns["r"]["jax"].mode == "eager"
        assert "s" not in shell.user_ns

    def test_a_trailing_comment_in_a_sections_header(self, shell):
        run(shell, f"%%compare {QUICK} -o r  # both\n%%numpy one  # the first\n1\n%%numpy two\n2")
        assert [variant.name for variant in shell.user_ns["r"]] == ["one", "two"]

    def test_a_trailing_comment_in_the_cell(self, shell):
        assert run(shell, f"%%jax {QUICK} --mode eager\n1 + 1  # two") == 2

    def test_braces_and_dollars_stay_as_they_are(self, shell):
        run(shell, "x = 'wrong'")
        assert run(shell, f"%%jax {QUICK} --mode eager\n'{{x}} $x'") == "{x} $x"


class TestValue:
    @pytest.mark.parametrize("magic", ["torch", "jax"])
    def test_the_last_expression_is_out(self, shell, magic, capsys):
        assert run(shell, f"%%{magic} {QUICK} --mode eager\ny = 2\ny + 1") == 3
        assert shell.user_ns["Out"][1] == shell.user_ns["_"] == 3
        assert "Out[1]: 3" in capsys.readouterr().out

    def test_a_semicolon_silences_it(self, shell, capsys):
        run(shell, f"%%jax {QUICK} --mode eager\ny = 2\ny + 1;")
        assert shell.user_ns["y"] == 2
        assert shell.user_ns["Out"] == {}
        assert "Out[" not in capsys.readouterr().out

    def test_compare_has_none(self, shell):
        assert run(shell, f"%%compare {QUICK}\n%%numpy\n1 + 1") is None
        assert shell.user_ns["Out"] == {}

    def test_output_binds_the_report(self, shell):
        run(shell, f"%%jax {QUICK} --mode eager -o mine\njnp.ones(3)")
        assert isinstance(shell.user_ns["mine"], Report)
        run(shell, f"%%compare {QUICK} --output ours\n%%numpy\n1")
        assert shell.user_ns["ours"].magic == "%%compare"

    def test_nothing_is_bound_without_it(self, shell):
        run(shell, "%%compare --budget 0.1\n%%numpy\n1")
        assert names(shell) == {}


class TestDisplay:
    def test_one_display_updated_in_place(self, shell):
        run(shell, f"%%jax {QUICK} --mode all\njnp.ones(3)")
        items = [item for item in shell.display_pub.outputs if MIME in item["data"]]
        assert {item["transient"]["display_id"] for item in items} == {items[0]["transient"]["display_id"]}
        assert [item["update"] for item in items] == [False] + [True] * (len(items) - 1)
        assert {MIME, "text/html", "text/plain"} <= set(items[-1]["data"])
        assert [report.state for report in shown(shell)] == ["running"] * (len(items) - 1) + ["done"]

    def test_the_report_knows_its_cell(self, shell):
        run(shell, "1")
        run(shell, f"%%jax {QUICK} --mode eager\n1")
        assert shown(shell)[-1].execution_count == 2

    def test_each_run_has_an_id_of_its_own(self, shell):
        for _ in range(2):
            run(shell, f"%%jax {QUICK} --mode eager\n1")
        assert len({report.run_id for report in shown(shell)}) == 2


class TestDefaults:
    """`%config FwMagics.…` sets what a line does not."""

    @pytest.mark.parametrize(
        ("setting", "seen"),
        [
            ("budget = 0.15", lambda report: report.budget == 0.15),
            ("margin = 0.2", lambda report: report.margin == 0.2),
            ("mode = 'eager'", lambda report: report["jax"].mode == "eager"),
            ("check = False", lambda report: report["jax"].agreement is None),
            ("device = 'cpu'", lambda report: report.conditions.devices["jax"].startswith("cpu:0")),
        ],
    )
    def test_a_default_holds(self, shell, setting, seen):
        run(shell, "%config FwMagics.budget = 0.1")
        run(shell, f"%config FwMagics.{setting}")
        run(shell, "%%jax -o r\njnp.ones(3)")
        assert seen(shell.user_ns["r"])

    def test_the_device_is_passed_on(self, shell):
        run(shell, "%config FwMagics.device = 'cuda'")
        assert "--device cuda" in str(fail(shell, "%%jax\njnp.ones(3)"))

    def test_the_line_wins(self, shell):
        run(shell, "%config FwMagics.mode = 'eager'")
        run(shell, f"%%jax {QUICK} --mode compiled -o r\njnp.ones(3)")
        assert shell.user_ns["r"]["jax"].mode == "compiled"

    def test_a_value_that_cannot_be_is_refused(self, shell, caplog):
        run(shell, "%config FwMagics.mode = 'fast'")
        assert "expected any of ['auto', 'eager', 'compiled', 'all'], not the str 'fast'" in caplog.text
        assert configurable(shell)[0].mode == "auto"
        run(shell, "%config FwMagics.device = 'gpus'")
        assert "FwMagics.device takes cpu, cuda, cuda:N, gpu or gpu:N, not 'gpus'" in caplog.text
        assert configurable(shell)[0].device is None

    @pytest.mark.parametrize(
        ("setting", "sentence"),
        [
            ("budget = 0", "budget takes seconds greater than 0, not 0.0"),
            ("budget = float('inf')", "budget takes seconds greater than 0, not inf"),
            ("margin = 1", "margin takes a fraction from 0 to below 1, such as 0.01 for 1 %, not 1.0"),
        ],
    )
    def test_the_range_is_that_of_a_line(self, shell, caplog, setting, sentence):
        run(shell, f"%config FwMagics.{setting}")
        assert f"FwMagics.{sentence}" in caplog.text
        assert (configurable(shell)[0].budget, configurable(shell)[0].margin) == (2.0, 0.01)

    def test_they_are_listed_with_their_meaning(self, shell, capsys):
        run(shell, "%config FwMagics")
        text = capsys.readouterr().out
        for name in ("mode", "compile_mode", "budget", "margin", "device", "check"):
            assert f"FwMagics.{name}=" in text
        assert "Default of --budget: wall seconds for warm-up and timing" in text
        assert "False: do not compare the outputs, as --no-check does for one cell." in text


DEFINES = """
%%jax {QUICK}
@jax.jit

def double(x):
    # twice
    return 2 * x

class Pair:
    def left(self):
        return 1

double(3)
"""


class TestLines:
    """Everything that names a line names the notebook's own."""

    def test_the_source_of_a_function_and_of_a_method(self, shell):
        run(shell, DEFINES.strip().replace("{QUICK}", QUICK))
        assert inspect.getsource(shell.user_ns["Pair"].left) == "    def left(self):\n        return 1\n"
        function = shell.user_ns["double"].__wrapped__
        assert inspect.getsource(function).endswith("def double(x):\n    # twice\n    return 2 * x\n")

    def test_the_source_after_a_second_cell(self, shell):
        run(shell, f"%%jax {QUICK}\ndef f():\n    return 1")
        run(shell, f"%%jax {QUICK}\ndef g():\n    return 2")
        assert inspect.getsource(shell.user_ns["f"]) == "def f():\n    return 1\n"

    @pytest.mark.parametrize("head", [f"%%jax {QUICK}", f"%%compare {QUICK}\n%%jax"])
    @pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose", "Minimal"])
    def test_an_error_names_the_line_and_shows_it(self, shell, head, mode, capsys):
        run(shell, f"%xmode {mode}")
        text = f"{head}\nx = 1\n\nx / 0  # here"
        error = fail(shell, text)
        assert isinstance(error, ZeroDivisionError)
        line = text.count("\n") + 1
        frame = traceback.extract_tb(error.__traceback__)[-1]
        assert (frame.lineno, frame.line) == (line, "x / 0  # here")
        if mode != "Minimal":
            out = capsys.readouterr().out
            assert f"line {line}" in out or f"----> {line}" in out
            assert "x / 0  # here" in out

    def test_our_own_frames_are_hidden(self, shell, capsys):
        run(shell, "%xmode Context")
        fail(shell, f"%%jax {QUICK}\n1 / 0")
        assert "fwmagic/run" not in capsys.readouterr().out

    @pytest.mark.parametrize("head", ["%%jax", "%%compare\n%%jax"])
    @pytest.mark.parametrize("where", ["execute.parse_line", "measure.load.Load.start"])
    def test_an_interrupt_in_no_line_of_the_cell_is_seen_at_its_first(self, shell, head, where, monkeypatch, capsys):
        monkeypatch.setattr(f"fwmagic.{where}", lambda *_: signal.raise_signal(signal.SIGINT))
        run(shell, "%xmode Context")
        error = fail(shell, f"{head}\njnp.ones(3)")
        frame = traceback.extract_tb(error.__traceback__)[-1]
        assert (type(error), frame.name, frame.lineno) == (KeyboardInterrupt, "<module>", 1)
        assert "fwmagic/" not in capsys.readouterr().out

    @pytest.mark.parametrize("head", [f"%%jax {QUICK}", f"%%compare {QUICK}\n%%setup\ny = 2\n%%jax"])
    def test_a_syntax_error_has_its_line_and_a_caret(self, shell, head, capsys):
        text = f"{head}\nx = 1\ny = x +* 2"
        with untouched(shell):
            error = fail(shell, text)
        assert isinstance(error, SyntaxError)
        assert (error.lineno, error.offset) == (text.count("\n") + 1, 8)
        out = capsys.readouterr().out.splitlines()
        at = next(i for i, line in enumerate(out) if line.strip() == "y = x +* 2")
        assert out[at + 1].index("^") - out[at].index("y") == 7

    @pytest.mark.parametrize("head", ["%%torch", "%%compare\n%%numpy"])
    def test_a_syntax_error_that_the_code_raises_shows_the_users_frames_alone(self, shell, head, capsys):
        error = fail(shell, f"{head}\neval('1+')")
        told = capsys.readouterr().out
        assert isinstance(error, SyntaxError)
        assert "SyntaxError: invalid syntax" in told
        assert "eval('1+')" in told
        assert "fwmagic" not in told.replace("fwmagic,", "")

    @pytest.mark.parametrize("text", ["return 3", "yield 3", "break"])
    def test_a_syntax_error_that_only_the_compiler_finds(self, shell, text):
        with untouched(shell):
            error = fail(shell, f"%%jax {QUICK}\nx = 1\n{text}")
        assert isinstance(error, SyntaxError)
        assert error.lineno == 3

    def test_a_warning_has_its_line_and_comes_once(self, shell, capsys):
        run(shell, "import sys, warnings")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *args, **_: print("WARNED", args[0], args[3], file=sys.stderr)
            run(shell, f"%%jax {QUICK} --mode eager\n\nwarnings.warn('mind')\n1")
        assert capsys.readouterr().err == "WARNED mind 3\n"


class TestShellSyntax:
    @pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
    def test_an_exclamation_mark_runs_once_as_the_plain_cell_would(self, shell, tmp_path):
        target = tmp_path / "log"
        run(shell, f"%%jax {QUICK} -o r\n!echo hi >> {target}\njnp.ones(3)")
        assert target.read_text() == "hi\n"
        variant = shell.user_ns["r"]["jax"]
        assert variant.status == "run-once"
        assert "line 2" in variant.note

    def test_a_line_magic(self, shell, capsys):
        run(shell, f"%%jax {QUICK} -o r\n%xmode Plain\n1 + 1")
        assert shell.user_ns["r"]["jax"].status == "run-once"
        assert capsys.readouterr().out.count("Exception reporting mode") == 1


#: Cells that are refused, and what is said; `{QUICK}` stands for a small budget.
REFUSED = [
    ("%%jax --budgt 1\n1", "%%jax: there is no option --budgt; did you mean --budget?"),
    ("%%torch --nope\n1", "%%torch: there is no option --nope; %%torch? lists the options"),
    ("%%compare\n%%jax --nope\n1", "%%jax in line 2: there is no option --nope; %%compare? lists the options"),
    ("%%jax --fullgraph\n1", "%%jax: --fullgraph belongs to torch; leave it out, or write it on a %%torch line"),
    ("%%jax --compile-mode default\n1", "%%jax: --compile-mode belongs to torch"),
    ("%%jax --mode fast\n1", "%%jax: --mode is one of auto, eager, compiled, all, not 'fast'"),
    ("%%jax --keep-going\n1", "%%jax: --keep-going belongs to %%compare"),
    ("%%compare\n%%jax --budget 1\n1", "%%jax in line 2: --budget holds for all sections together"),
    ("%%compare\n%%numpy --mode compiled\n1", "since NumPy compiles nothing; leave it out"),
    ("%%compare --baseline c\n%%numpy a\n1\n%%numpy b\n2", "--baseline c names no timed variant; there are: a, b"),
    ("%%jax --device cuda\n1", "--device cuda: JAX has no cuda here, only cpu; leave --device out."),
    ("%%jax --device cpu:7\n1", "--device takes cpu, cuda, cuda:N, gpu or gpu:N, not 'cpu:7'"),
    ("%%compare\n%%jax --device gpu\n1", "--device gpu: JAX has no gpu here, only cpu; leave --device out."),
    ("%%compare\n%%numpy\n1\n%%torch --device cuda:3\n1", "--device cuda:3: torch sees no CUDA device here"),
    ("%%compare\n%%numpy --device cuda\n1", "--device cuda"),
    ("%%jax --inputs A\n1", "--inputs names 'A', which the notebook does not have: assign it in an earlier cell."),
    ("%%jax --inputs text\n1", "--inputs names 'text', which is a str and no array: only arrays are converted."),
    ("%%compare\n%%numpy\n1\n%%jax --inputs A\n1", "--inputs names 'A', which the notebook does not have"),
    ("%%compare\n%%jax\n\n%%numpy\n1", "%%compare in line 2: the section %%jax is empty; write its code below"),
    ("%%compare\n1 + 1\n%%numpy\n1", "%%compare in line 2: this text stands before the first section; put it below"),
    ("%%compare\n%%numpy a\n1\n%%jax a\n1", "this section and %%numpy in line 2 are both called 'a'"),
    ("%%compare\n%%numpy\n1\n%%setup\n1", "%%setup comes first; move it above"),
    ("%%compare\n1 + 1", "this text stands before the first section"),
    ("%%compare\n%%jax\ndef f(): pass\n%%numpy\n1", "Section 'jax' has nothing to time: it only defines `f`."),
    ("%%compare\n%%numpy\npass", "Section 'numpy' has nothing to time: it holds no code that does anything."),
    ("%%jax\nx = 1\nawait x", "Line 3 uses `await`, which a timed cell cannot: do that in a cell before this one"),
    ("%%compare\n%%numpy\n1\n%%jax\nasync with x: pass", "Line 5 uses `async with`"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_a_wrong_cell_is_refused_in_one_sentence_and_does_nothing(shell, capsys, text, sentence):
    shell.user_ns["text"] = "some"
    with untouched(shell):
        error = fail(shell, text)
    assert isinstance(error, UsageError)
    assert sentence in str(error)
    captured = capsys.readouterr()
    assert captured.out == ""  # no traceback
    assert captured.err == f"UsageError: {error}\n"
    assert "\n" not in str(error)
    assert shell.display_pub.outputs == []


@pytest.mark.parametrize("text", ["%%jax\n", "%%compare\n", "%%torch"])
def test_an_empty_cell(shell, text, capsys):
    with untouched(shell):
        assert isinstance(fail(shell, text), UsageError)
    assert "the cell body is empty" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["torch", "jax"])
@pytest.mark.parametrize("head", ["%%{0}", "%%compare\n%%numpy\n1\n%%{0}"])
def test_a_framework_that_is_not_installed(shell, monkeypatch, package, head):
    for module in [name for name in sys.modules if name.startswith(f"fwmagic.frameworks.{package}")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(frameworks, package, raising=False)
    monkeypatch.setitem(sys.modules, package, None)  # Python's own way to make an import fail
    with untouched(shell):
        error = fail(shell, head.format(package) + "\n1")
    assert isinstance(error, UsageError)
    assert str(error) == (
        f"{package} is not installed, so %%{package} cannot run. Install it with: pip install 'fwmagic[{package}]'"
    )


def test_a_magic_that_is_a_section_only(shell):
    assert "%%numpy" in str(fail(shell, "%%numpy\n1"))


def test_a_setting_that_was_refused_does_not_keep_the_extension_from_loading(shell, capsys):
    shell.run_line_magic("config", "FwMagics.mode = 'fast'")
    shell.run_line_magic("config", "FwMagics.budget = 0.5")
    capsys.readouterr()
    shell.run_line_magic("reload_ext", "fwmagic")
    magics = shell.magics_manager.registry["FwMagics"]
    assert (magics.mode, magics.budget) == ("auto", 0.5)
    assert "FwMagics.mode is one of auto, eager" in capsys.readouterr().err
