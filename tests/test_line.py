"""An option line is read as it is written; what cannot stand there is one sentence that names the way out."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from fwmagic.line import OptionLine, helped, parse_header, parse_line

OPTIONS = [
    ("--mode compiled", "mode", "compiled"),
    ("--compile-mode max-autotune", "compile_mode", "max-autotune"),
    ("--fullgraph", "fullgraph", True),
    ("--budget 0.5", "budget", 0.5),
    ("--margin 0.03", "margin", 0.03),
    ("--device cuda:1", "device", "cuda:1"),
    ("--inputs A,W", "inputs", ("A", "W")),
    ("--items 128", "items", 128),
    ("--baseline jax", "baseline", "jax"),
    ("--no-check", "check", False),
    ("--seed 7", "seed", 7),
    ("--keep-going", "keep_going", True),
    ("--repeat-effects", "repeat_effects", True),
    ("--output r", "output", "r"),
]


@pytest.mark.parametrize(("text", "field", "value"), OPTIONS)
@pytest.mark.parametrize("magic", ["compare", "torch"])
def test_each_option_is_read(magic, text, field, value):
    if magic == "torch" and field in ("baseline", "keep_going"):
        with pytest.raises(UsageError, match="belongs to %%compare"):
            parse_line(magic, text)
    else:
        assert parse_line(magic, text).values == {field: value}
        assert parse_line(magic, text.replace(" ", "=")).values == {field: value}


@pytest.mark.parametrize("field", [field for _, field, _ in OPTIONS])
def test_a_section_takes_the_options_that_can_differ_between_sections(field):
    text = next(text for text, name, _ in OPTIONS if name == field)
    if field in ("budget", "margin", "baseline", "keep_going", "output"):
        flag = text.split()[0]
        with pytest.raises(UsageError, match=f"^%%torch in line 5: {flag} holds for all sections .*%%compare line$"):
            parse_header("torch", text, 5)
    else:
        assert field in parse_header("torch", text, 5).values


options = st.permutations([(text, field, value) for text, field, value in OPTIONS if field not in
                           ("baseline", "keep_going")] + [("'my name'", "name", "my name")])  # fmt: skip


@given(options, st.integers(0, 13), st.booleans())
def test_options_and_the_name_may_stand_in_any_order(order, count, equals):
    chosen = order[:count]
    text = " ".join(text.replace(" ", "=") if equals and text[0] == "-" else text for text, _, _ in chosen)
    assert parse_line("torch", f"  {text}\t# and a note").values == {field: value for _, field, value in chosen}


def answer(function, *arguments):
    """What the function returns, or the text of the error that it raises."""
    try:
        return function(*arguments)
    except UsageError as error:
        return str(error)


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_line_is_read_or_refused_in_one_sentence(words):
    for magic in ("torch", "jax", "compare"):
        said = answer(parse_line, magic, shlex.join(words))
        assert isinstance(said, OptionLine) or said.startswith(f"%%{magic}: ")


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    said = answer(parse_header, "jax", text, 3)
    assert isinstance(said, OptionLine) or said.startswith("%%jax in line 3: ")


def test_a_comment_ends_the_line_and_may_hold_an_apostrophe():
    assert parse_line("torch", "--budget 1  # don't --mode eager").values == {"budget": 1.0}
    assert parse_line("torch", "# --nothing").values == {}
    assert parse_line("torch", "").name is None
    assert parse_header("torch", " mine --seed 1\r\n", 2).name == "mine"
    with pytest.raises(UsageError, match="'with # inside' is no name"):
        parse_line("torch", "'with # inside'")


def test_the_short_form_of_output():
    assert parse_line("jax", "-o r").values == {"output": "r"}
    assert parse_line("jax", "-or").values == {"output": "r"}


REFUSED = [
    ("torch", "--budgt 1", "there is no option --budgt; did you mean --budget?"),
    ("torch", "--isolat", "there is no option --isolat; did you mean --isolate?"),
    ("torch", "--isolate=1", "--isolate takes no value"),
    ("compare", "--threads 0", "--threads takes a whole number greater than 0, not '0'"),
    ("compare", "--threads two", "--threads takes a whole number greater than 0, not 'two'"),
    ("compare", "--timeout=0", "--timeout takes seconds greater than 0, not '0'"),
    ("compare", "--timeout inf", "--timeout takes seconds greater than 0, not 'inf'"),
    ("compare", "--alloc", "--alloc needs a value"),
    ("compare", "--alloc platform", "--alloc takes policies with commas between them, or all: 'platform'"),
    ("compare", "--alloc jax:platform,torch:x", "--alloc takes policies with commas between them, or all: 'torch:x'"),
    ("torch", "--alloc jax:platform", "--alloc belongs to %%compare; leave it out, or compare sections with %%compare"),
    ("torch", "--memray=yes", "--memray takes no value"),
    ("torch", "--no-memory=1", "--no-memory takes no value"),
    ("torch", "--flamegraph no/such/folder/x.html", "--flamegraph names the folder 'no/such/folder', which does not"),
    ("torch", "--flamegraph .", "--flamegraph takes a file, and '.' is a folder: name a file in it"),
    ("torch", "--mod eager", "there is no option --mod; did you mean --mode?"),
    ("torch", "-x", "there is no option -x"),
    ("torch", "--help", "there is no option --help"),
    ("torch", "--mode egaer", "--mode is one of auto, eager, compiled, all, not 'egaer'; did you mean eager?"),
    ("torch", "--mode", "--mode needs a value: one of auto, eager, compiled, all"),
    ("torch", "--mode eager,compiled", "--mode is one of auto, eager, compiled, all, not 'eager,compiled'"),
    ("torch", "--compile-mode fast", "--compile-mode is one of default, reduce-overhead, max-autotune, not 'fast'"),
    ("torch", "--fullgraph=yes", "--fullgraph takes no value"),
    ("torch", "--budget 0", "--budget takes seconds greater than 0, not '0'"),
    ("torch", "--budget -1", "--budget takes seconds greater than 0, not '-1'"),
    ("torch", "--budget inf", "--budget takes seconds greater than 0, not 'inf'"),
    ("torch", "--budget nan", "--budget takes seconds greater than 0"),
    ("torch", "--budget 2s", "--budget takes seconds greater than 0, not '2s'"),
    ("compare", "--margin 1", "--margin takes a fraction from 0 to below 1, such as 0.01 for 1 %, not '1'"),
    ("compare", "--margin -0.1", "--margin takes a fraction"),
    ("torch", "--items 0", "--items takes a whole number greater than 0, not '0'"),
    ("torch", "--items 1.5", "--items takes a whole number"),
    ("torch", "--seed -1", "--seed takes a whole number from 0 to 4294967295, not '-1'"),
    ("torch", "--device tpu", "--device takes cpu, cuda, cuda:N, gpu or gpu:N, not 'tpu'"),
    ("torch", "--device cuda:x", "--device takes cpu, cuda, cuda:N, gpu or gpu:N"),
    ("torch", "--inputs A,2b", "--inputs takes names of variables such as A,W, and '2b' is none"),
    ("torch", "--inputs A,", "--inputs takes names of variables such as A,W, and '' is none"),
    ("torch", "--inputs class", "--inputs takes names of variables such as A,W, and 'class' is none"),
    ("torch", "-o a.b", "--output takes the name of a variable, not 'a.b'"),
    ("torch", "-o", "--output needs a value"),
    ("torch", "-o if", "--output takes the name of a variable, not 'if'"),
    ("torch", "--mode eager --mode all", "--mode is given twice; leave one of them out"),
    ("torch", "--no-check --no-check", "--no-check is given twice"),
    ("jax", "--compile-mode default", "--compile-mode belongs to torch; leave it out, or write it on a %%torch line"),
    ("jax", "--fullgraph", "--fullgraph belongs to torch"),
    ("torch", "--keep-going", "--keep-going belongs to %%compare; leave it out, or compare sections with %%compare"),
    ("torch", "a b", "'b' follows a name; quote a name of several words, or begin the cell's code on the next line"),
    ("torch", "x:y", "'x:y' is no name for a section; use letters, digits, spaces and any of _ . + -"),
    ("torch", "''", "'' is no name for a section"),
    ("compare", "mine", "'mine' cannot stand here: %%compare takes no name; name a section, as in %%torch mine"),
    ("torch", "bob's", "no closing quotation; close the quotation mark, or take it out"),
]


@pytest.mark.parametrize(("magic", "text", "sentence"), REFUSED)
def test_what_cannot_stand_on_a_magics_line_is_refused_with_the_way_out(magic, text, sentence):
    with pytest.raises(UsageError, match=re.escape(f"%%{magic}: {sentence}")):
        parse_line(magic, text)


def test_a_header_of_another_framework_is_no_torch():
    with pytest.raises(UsageError, match=r"^%%numpy in line 9: --fullgraph belongs to torch"):
        parse_header("numpy", "--fullgraph", 9)


@pytest.mark.parametrize("text", ["--seed 1", "name", "-x"])
def test_setup_takes_no_options_and_no_name(text):
    assert parse_header("setup", " # only a comment", 2).values == {}
    with pytest.raises(UsageError, match=r"^%%setup in line 2: .* takes no options and no name; .*%%compare line$"):
        parse_header("setup", text, 2)


def help_of(shell, magic):
    def run(line, cell):
        """Run a cell."""

    shell.register_magic_function(helped(magic)(run), "cell", magic)
    return shell.object_inspect(f"%%{magic}")["docstring"]


def test_the_help_of_a_magic_lists_its_options(bare_shell):
    torch, jax, compare = (help_of(bare_shell, magic) for magic in ("torch", "jax", "compare"))
    assert "%%torch NAME -o report" in torch
    for text, field, _ in OPTIONS:
        flag = text.split()[0]
        assert (flag in torch) is (field not in ("baseline", "keep_going"))
        assert (flag in jax) is (field not in ("baseline", "keep_going", "compile_mode", "fullgraph"))
        assert flag in compare
    assert "NAME" in torch
    assert "Run a cell." in torch
