"""A %%compare cell is cut at its headers and nowhere else, and nothing of its text is lost."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.error import UsageError

from fwmagic.cells.split import split
from fwmagic.line import OptionLine, parse_header

KNOWN = ["torch", "jax", "numpy", "mlx"]


def parts_of(cell, **options):
    return split(cell, parse_header, **{"known": KNOWN, **options})


def text_of(parts):
    setup = [] if parts.setup is None else [parts.setup]
    return parts.preamble + "".join(part.header + part.body for part in (*setup, *parts.sections))


def test_sections_have_their_framework_name_options_body_and_line():
    parts = parts_of("# note\n%%setup\nW = 1\n%%torch --seed 3 mine  # why\n\nW + 1\n%%jax\nW\n")
    assert parts.preamble == "# note\n"
    assert (parts.setup.header, parts.setup.body, parts.setup.first_line) == ("%%setup\n", "W = 1\n", 4)
    first, second = parts.sections
    assert (first.framework, first.name, first.body, first.first_line) == ("torch", "mine", "\nW + 1\n", 6)
    assert first.header == "%%torch --seed 3 mine  # why\n"
    assert first.options == OptionLine("torch", 5, {"seed": 3, "name": "mine"})
    assert (second.framework, second.name, second.body, second.first_line) == ("jax", "jax", "W\n", 9)


def test_sections_without_a_name_are_called_after_their_framework():
    parts = parts_of("%%torch\n1\n%%jax\n1\n%%torch\n1\n%%torch mine\n1\n%%torch\n1\n%%mlx\n1")
    assert [section.name for section in parts.sections] == ["torch", "jax", "torch2", "mine", "torch3", "mlx"]


def test_the_frameworks_that_are_known_without_being_told():
    assert [s.framework for s in split("%%numpy\n1\n%%torch\n1\n%%jax\n1", parse_header).sections] == [
        "numpy",
        "torch",
        "jax",
    ]


IN_STRINGS = [
    's = """\n%%torch\n"""\n',
    "s = '''\n%%jax\n%%tourch\n%%compare\n'''\n",
    's = r"""\\\\"""\nx = """\n%%torch\n"""\n',
    's = "a \\\n%%torch b"\n',
    's = f"""{x["a"]}\n%%torch\n"""\n',
    "s = \"'''\"  # \"\"\"\nx = '''\n%%torch\n'''\n",
    's = """a""" + """\n%%torch\n"""\n',
    's = """\n\\"""\n%%torch\n"""\n',
    's = """it\'s\n%%torch\n"""\n',
    "s = b'''\r\n%%torch\r\n'''\r\n",
    's = "a \\\r\n%%torch b"\r\n',
]


@pytest.mark.parametrize("body", IN_STRINGS)
def test_a_header_inside_a_string_is_text(body):
    ast.parse(body)  # Python sees strings only
    parts = parts_of(f"%%jax\n{body}%%torch\n1\n")
    assert [(section.framework, section.body) for section in parts.sections] == [("jax", body), ("torch", "1\n")]


NOT_IN_STRINGS = [
    "x = 'it'  # don't \"\"\"\n",
    "x = \"a ''' b\"\n",
    'x = \'a """ b\'\n',
    "!echo don't '''\n",
    '%timeit x  """\n',
    "x = ''\n",
    'x = """"""\n',
    'x = "\\\\"\n',
    'x = "\\""\n',
    "x = 'unfinished\n",
    'x = """a"""  # \'\'\'\n',
    "x = 1 + \\\n  2\n",
]


@pytest.mark.parametrize("body", NOT_IN_STRINGS)
def test_quotes_that_open_no_string_of_several_lines_hide_no_header(body):
    parts = parts_of(f"%%jax\n{body}%%torch\n1\n")
    assert [(section.framework, section.body) for section in parts.sections] == [("jax", body), ("torch", "1\n")]


@pytest.mark.parametrize("line", ["  %%torch", "\f%%torch", "x = 1 %%torch", "# %%torch", "%% torch", "%torch", "%%"])
def test_what_looks_like_a_header_and_is_none(line):
    body = f"x\n{line}\ny\n"
    assert [section.body for section in parts_of(f"%%jax\n{body}").sections] == [body]


def test_another_cell_magic_at_the_start_of_a_body_is_part_of_it():
    body = "\n# note\n%%time\nx = 1\n"
    assert parts_of(f"%%torch\n{body}%%jax\n1").sections[0].body == body
    other = "%%bash\n%%anything\n%%time\n"
    assert parts_of(f"%%torch\n{other}%%jax\n1").sections[0].body == other
    assert parts_of("%%torch\n%%js\n1", cell_magics=["js"]).sections[0].body == "%%js\n1"


bodies = st.lists(
    st.sampled_from(["x = 1", "", "  y = [", "\ty]", "é = 'ü\u2028'", "!ls \x0b", "\x0c", "%%cell z", '"""',
                     "'''", "it's", "%time z", "s = '\\", "x\x85y", "\x1c", " %%jax", "# %%torch"])
    | st.text(st.characters(exclude_characters="\n\r%"), max_size=8),
    max_size=6,
)  # fmt: skip
sections = st.lists(
    st.tuples(st.sampled_from(["torch", "jax", "numpy"]), st.sampled_from(["", " ", " # note", " --seed 1"]), bodies),
    min_size=1,
    max_size=4,
)


def safe(lines):
    """Make the lines a body with code that ends outside of any string, and opens none that would hide a header."""
    text = [line for line in lines if not line.startswith("%%")]
    quotes = re.compile(r"""["'\\]""")
    return ["code = 1", *(line if quotes.search(line) is None else f"# {line}" for line in text)]


@given(sections, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["", "\n", "# note\n \n"]))
def test_the_parts_joined_are_the_text_and_bodies_survive_verbatim(drawn, end, final, preamble):
    expected, line, cell = [], 2 + preamble.count("\n"), preamble
    for place, (framework, rest, lines) in enumerate(drawn):
        body = end.join(safe(lines)) + (end if final or place < len(drawn) - 1 else "")
        cell += f"%%{framework}{rest}{end}{body}"
        expected.append((framework, body, line + 1))
        line += 1 + body.count("\n")
    parts = parts_of(cell)
    assert text_of(parts) == cell
    assert [(s.framework, s.body, s.first_line) for s in parts.sections] == expected
    for section in parts.sections:
        assert "\n".join(f"\n{cell}".split("\n")[section.first_line - 1 :]).startswith(section.body)


@given(bodies, bodies)
@settings(max_examples=3 * settings().max_examples)
def test_any_text_is_cut_without_loss_or_refused_in_one_sentence(first, second):
    cell = "\n".join(["%%torch", "x", *first, "%%jax", "y", *second])
    try:
        parts = parts_of(cell)
    except UsageError as error:
        said = str(error)
    else:
        said = None
        assert text_of(parts) == cell
    assert said is None or re.match(r"%%compare in line \d+: ", said)


python_strings = st.lists(st.sampled_from(["\n", "%%torch", "'", '"', "\\", "#", "a"]), max_size=12).map("".join)


@given(st.lists(python_strings, min_size=1, max_size=3), st.sampled_from(['"""', "'''"]))
@settings(max_examples=3 * settings().max_examples)
def test_strings_are_seen_as_python_sees_them(contents, quotes):
    body = "".join(
        f"x = {quotes}" + text.replace("\\", "\\\\").replace(quotes[0], f"\\{quotes[0]}") + f"{quotes}  # it's\n"
        for text in contents
    )
    assert [node.value.value for node in ast.parse(body).body] == contents
    assert [section.body for section in parts_of(f"%%jax\n{body}%%torch\n1").sections] == [body, "1"]


WRONG = [
    ("x = 1\n%%torch\n1", 2, "this text stands before the first section; put it below %%setup, or"),
    ("\n# a\n%load_ext x\n%%torch\n1", 4, "this text stands before the first section"),
    ("%%tf\n1\n%%torch\n1", 2, "there is no section %%tf; begin one with %%torch or %%jax"),
    ("%%torch\n%%jax\n1", 2, "the section %%torch is empty; write its code below"),
    ("%%torch\n1\n%%jax --seed 1\n\n  # only a comment\n", 4, "the section %%jax is empty"),
    ("%%setup\n\n%%torch\n1", 2, "the section %%setup is empty"),
    ("", None, "%%compare: there is no section to compare; begin one with a line %%torch or %%jax or %%numpy or %%mlx"),
    ("\n# note\n", None, "%%compare: there is no section to compare"),
    ("%%setup\nx = 1", None, "%%compare: there is no section to compare"),
    ("%%setup\n1\n%%torch\n1\n%%setup\n2", 6, "this is a second %%setup; join it to %%setup in line 2"),
    ("%%torch\n1\n%%setup\n2", 4, "%%setup comes first; move it above %%torch in line 2"),
    ("%%torch a\n1\n%%jax a\n1", 4, "this section and %%torch in line 2 are both called 'a'; name one: %%jax NAME"),
    ("%%jax torch\n1\n%%torch\n1", 4, "this section and %%jax in line 2 are both called 'torch'"),
    ("%%tourch\n1", 2, "there is no section %%tourch; did you mean %%torch?"),
    ("%%torch\n1\n%%Jax\n1", 4, "there is no section %%Jax; did you mean %%jax?"),
    ("%%setpu\n1\n%%torch\n1", 2, "there is no section %%setpu; did you mean %%setup?"),
    ("%%torch\n%%tourch\n1", 3, "there is no section %%tourch; did you mean %%torch?"),
    ("%%torch;\n1", None, "did you mean %%torch?"),
    ("%%torch\n1\n%%time\n2", 4, "%%time stands in the middle of a section; move it to the section's first line"),
    ("%%torch\n%%compare\n%%jax\n1", 3, "a %%compare cannot stand inside another; put it into a cell of its own"),
    ("%%torch --budgt 1\n1", None, "%%torch in line 2: there is no option --budgt"),
    ("%%setup -x\n1\n%%torch\n1", None, "%%setup in line 2: '-x' cannot stand here"),
]


@pytest.mark.parametrize(("cell", "line", "sentence"), WRONG)
def test_a_cell_that_cannot_be_cut_is_refused_with_its_line_and_the_way_out(cell, line, sentence):
    where = "" if line is None else f"%%compare in line {line}: "
    with pytest.raises(UsageError, match=re.escape(where + sentence)):
        parts_of(cell)


def test_a_cell_magic_before_the_first_section_is_text_there():
    with pytest.raises(UsageError, match="in line 2: this text stands before the first section"):
        parts_of("%%time\n%%torch\n1", cell_magics=["time"])
