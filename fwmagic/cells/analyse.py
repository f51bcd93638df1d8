"""What a section's code is made of: definitions, body, last expression, and what it reads, binds and does."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, MappingProxyType
from typing import Any

from fwmagic.cells.definitions import Surroundings
from fwmagic.cells.names import DEFINITIONS, LEADS_TO_NAMES, LOOKS_UP, exposed_names, is_star, names_of_statements
from fwmagic.cells.uses import used_again, worked_on
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework
from fwmagic.report import Place

_CLOCKS = (
    *("time.time", "time.perf_counter", "time.monotonic", "time.process_time", "perf_counter", "monotonic"),
    *("datetime.now", "datetime.datetime.now", "datetime.utcnow", "datetime.datetime.utcnow", "datetime.date.today"),
)
_HOST_RANDOM = ("random.", "np.random.", "numpy.random.")
_STDIN = {"input", "sys.stdin.read", "sys.stdin.readline", "getpass.getpass", "getpass"}
_EFFECTS = {
    *("pickle.dump", "json.dump", "exit", "quit", "atexit.register"),
    *("os.system", "os.remove", "os.unlink", "os.mkdir", "os.makedirs", "os.rename", "os.chdir", "os.putenv"),
    *("os.write", "os.writev", "os.pwrite", "os.pwritev", "os.sendfile", "os.ftruncate", "os.copy_file_range"),
}
_EFFECT_MODULES = (
    *("subprocess.", "shutil.", "socket.", "requests.", "urllib.", "http.", "sqlite3.", "plt.", "sns."),
    "faulthandler.",
)
_EFFECT_METHODS = {
    *("write_text", "write_bytes", "unlink", "mkdir", "rmdir", "touch"),
    # Written without asking Python, so that nobody would see it.
    *("to_parquet", "to_hdf", "to_feather", "save_file", "save_pretrained", "imwrite", "add_scalar", "add_scalars"),
}
# Modules by which a program sets what an import finds, or what that does.
_OF_IMPORTS = {"sys", "os", "importlib", "site", "get_ipython"}
# What writes to one of these writes to no file.
_BUFFERS = {"io.BytesIO", "io.StringIO", "BytesIO", "StringIO"}
_NAMESPACE = {"locals", "vars", "dir"} | LOOKS_UP
_AWAITING = {ast.Await: "await", ast.AsyncFor: "async for", ast.AsyncWith: "async with"}


@dataclass(frozen=True)
class Body:
    """A section's code, taken apart. All line numbers are those of the whole cell.

    `reads` are names that the body may read before it binds them; `assigned` those that it binds; `live` the
    results: those of them that it does not read again, and inputs that it binds anew; `maybe` those of `live` that
    are perhaps never bound. `kept` are names of its own objects that are no results, and into which it may put some;
    `unread` those that it binds anew whatever they hold, such as what its last execution has left there.
    """

    text: str
    filename: str
    tree: ast.Module
    definitions: tuple[ast.stmt, ...]
    statements: tuple[ast.stmt, ...]
    last: ast.expr | None
    reads: frozenset[str]
    all_reads: frozenset[str]
    assigned: frozenset[str]
    defined: frozenset[str]
    live: tuple[str, ...]
    maybe: frozenset[str]
    kept: tuple[str, ...]
    unread: frozenset[str]
    disables_jit: Place | None = None
    clock: Place | None = None
    host_random: Mapping[str, Place] = field(default_factory=dict)
    trains: Place | None = None
    steps: Place | None = None
    defines: Place | None = None
    stdin: Place | None = None
    effects: tuple[Place, ...] = ()
    prints: tuple[int, ...] = ()
    uses_namespace: Place | None = None
    loops: tuple[ast.For | ast.While, ...] = field(default=())
    flags: int = 0

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to time: only definitions, or nothing that does anything."""
        idle = (ast.Pass, ast.Global)
        return self.last is None and all(isinstance(s, idle) or _is_constant(s) for s in self.statements)

    @property
    def why_empty(self) -> str:
        """Why there is nothing to time, as the end of a sentence."""
        made = ", ".join(f"`{name}`" for name in sorted(self.defined))
        return f"it only defines {made}" if made else "it holds no code that does anything"

    @property
    def names(self) -> list[str]:
        """Every name that the section reads or binds; those that it binds come last."""
        bound = self.assigned | self.defined
        return [*sorted((self.all_reads | self.reads) - bound), *sorted(bound)]

    @property
    def first_line(self) -> int:
        """Return the line of the body's first statement."""
        nodes: list[ast.stmt | ast.expr] = [
            *self.statements,
            *([self.last] if self.last is not None else []),
            *self.definitions,
        ]
        return min((node.lineno for node in nodes), default=1)

    def code(self, tree: ast.Module | ast.Expression) -> CodeType:
        """Return a code object of a part of the section, compiled as the notebook compiles its cells."""
        mode = "eval" if isinstance(tree, ast.Expression) else "exec"
        code: CodeType = compile(tree, self.filename, mode, self.flags, dont_inherit=True)
        return code

    def definition_code(self) -> CodeType:
        """Return a code object that runs the hoisted definitions."""
        return self.code(ast.Module(list(self.definitions), []))

    def runs(self, whole: bool = False) -> tuple[Any, Any]:
        """Return code objects for the body's statements and for its last expression (None: it has none).

        `whole`: the statements are those of the section as it stands, definitions included.
        """
        every = self.tree.body if self.last is None else self.tree.body[:-1]
        statements = self.code(ast.Module(list(every if whole else self.statements), []))
        last = None if self.last is None else self.code(ast.Expression(self.last))
        return statements, last


def analyse(
    text: str,
    filename: str,
    line: int,
    frameworks: Sequence[Framework] = (),
    transform: Callable[[ast.Module], ast.Module] = lambda tree: tree,
    flags: int = 0,
    namespace: Mapping[str, Any] = MappingProxyType({}),
    setup: Body | None = None,
) -> Body:
    """Take the transformed source of a section apart.

    Parameters
    ----------
    text : str
        Plain Python: magics and `!` lines have become calls already.
    filename : str
        The name under which `linecache` has the cell's text.
    line : int
        The line of the cell on which `text` begins (1-based).
    frameworks : sequence of Framework
        Those whose functions the section may call.
    transform : callable
        AST transformers of the shell.
    flags : int
        Flags of `compile` that hold in the notebook, such as those of its `from __future__` imports.
    namespace : mapping
        What the notebook has by name before the section runs.
    setup : Body, optional
        What runs between the two.

    Raises
    ------
    SyntaxError
        With the line of the whole cell.
    FwMagicError
        The section uses top-level `await`.
    """
    padded = "\n" * (line - 1) + text
    parsed = compile(padded, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    tree = transform(parsed)
    _refuse_await(tree)
    # Find what only the compiler finds, such as `return` outside of a function.
    compile(tree, filename, "exec", flags, dont_inherit=True)
    statements = list(tree.body)
    last: ast.expr | None = None
    if statements and isinstance(statements[-1], ast.Expr):
        last = statements.pop().value  # type: ignore[attr-defined]
    surroundings = Surroundings(namespace, [] if setup is None else setup.tree.body, tree.body)
    definitions, body = _hoist_definitions(statements, last, surroundings)
    whole = [*body, *([ast.copy_location(ast.Expr(last), last)] if last is not None else [])]
    reads, _ = exposed_names(whole)
    inputs, _ = exposed_names(whole, loops_run=True)
    _, surely = exposed_names(body)
    _, bound = exposed_names(body, loops_run=True)
    written = names_of_statements(whole)
    inner = names_of_statements([s for s in body if isinstance(s, DEFINITIONS)]).writes
    live = tuple(
        name
        for name in _bound_in_order(body, written.writes - inner - written.deletes)
        if name in inputs or not used_again(whole, name)
    )
    own = surely & written.writes - inner - written.deletes - {*live}
    return Body(
        text=text,
        filename=filename,
        tree=tree,
        definitions=tuple(definitions),
        statements=tuple(body),
        last=last,
        reads=frozenset(name for name in reads if name not in vars(builtins) or name in written.writes),
        all_reads=frozenset(names_of_statements(tree.body).reads),
        assigned=written.writes | written.deletes,
        defined=names_of_statements(definitions).writes,
        live=live,
        maybe=frozenset(live) - surely,
        kept=tuple(sorted(own & worked_on(body))),
        unread=frozenset(bound - reads),
        flags=flags,
        **_traits_of_body(tree, whole, frameworks),
    )


def _hoist_definitions(
    statements: list[ast.stmt], last: ast.expr | None, surroundings: Surroundings
) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Part definitions from the body; a definition that reads or shares a name which the body binds stays in it.

    One that does more than to define stays, too: its order counts, and its work.

    So does an import after a statement that may be about what is imported, or how: a path, a variable, a module.
    """
    definitions: list[ast.stmt] = [s for s in statements if isinstance(s, DEFINITIONS)]
    for place, statement in enumerate(statements):
        before = [one for one in statements[:place] if not isinstance(one, DEFINITIONS)]
        if isinstance(statement, ast.Import | ast.ImportFrom) and names_of_statements(before).reads & _OF_IMPORTS:
            definitions.remove(statement)
    moved = True
    while moved:
        moved = False
        kept = {id(definition) for definition in definitions}
        rest = [s for s in statements if id(s) not in kept]
        if last is not None:
            rest.append(ast.copy_location(ast.Expr(last), last))
        bound = names_of_statements(rest)
        taken = bound.writes | bound.deletes
        for definition in list(definitions):
            own = names_of_statements([definition])
            twice = any(own.writes & names_of_statements([d]).writes for d in definitions if d is not definition)
            before = statements[: statements.index(definition)]
            # Which names `from m import *` binds shows only when it has run.
            late = is_star(definition) and any(id(one) not in kept for one in before)
            late = late or not surroundings.only_defines(definition, [one for one in before if id(one) not in kept])
            if (own.reads | own.writes) & taken or twice or late:
                definitions.remove(definition)
                moved = True
    kept = {id(definition) for definition in definitions}
    return definitions, [s for s in statements if id(s) not in kept]


def _traits_of_body(tree: ast.Module, body: list[ast.stmt], frameworks: Sequence[Framework]) -> dict[str, Any]:
    """Return what the code does that decides how it can be run: the first place of each kind."""
    uncompiled = tuple(name for framework in frameworks for name in framework.uncompiled)
    effects = _EFFECTS.union(*(framework.effects for framework in frameworks))
    methods = _EFFECT_METHODS.union(name for framework in frameworks for name in framework.effects if "." not in name)
    found: dict[str, Any] = {"effects": [], "prints": [], "loops": [], "host_random": {}}

    def first(kind: str, node: ast.AST, reason: str) -> None:
        found.setdefault(kind, Place(getattr(node, "lineno", None), reason))

    for node in ast.walk(tree):
        if isinstance(node, ast.Call | ast.Attribute | ast.Name):
            name = dotted(node.func if isinstance(node, ast.Call) else node)
            if name.endswith(uncompiled):
                first("disables_jit", node, f"the cell runs under its own `{name}`")
        if isinstance(node, ast.Call):
            _trait_of_call(node, set() if into_memory(node, tree) else effects, methods, found, first)
        match node:
            case ast.Name(id=name) if name in LOOKS_UP | LEADS_TO_NAMES:
                first("uses_namespace", node, f"the body uses `{name}`")
            case ast.Attribute(attr=name) | ast.Constant(value=str(name)) if name in LEADS_TO_NAMES:
                first("uses_namespace", node, f"the body uses `{name}`")
    for node in (inner for statement in body for inner in ast.walk(statement)):
        if isinstance(node, ast.ClassDef):
            first("defines", node, f"the body defines the class `{node.name}`")
        elif isinstance(node, ast.For | ast.While):
            found["loops"].append(node)
        elif is_star(node):
            first("uses_namespace", node, "the body uses `import *`")
        elif isinstance(node, ast.Global):
            first("uses_namespace", node, "the body uses `global`")
    found["effects"], found["prints"], found["loops"] = map(tuple, (found["effects"], found["prints"], found["loops"]))
    return found


def _trait_of_call(
    node: ast.Call,
    effects: set[str],
    methods: set[str],
    found: dict[str, Any],
    first: Callable[[str, ast.AST, str], None],
) -> None:
    name = dotted(node.func)
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    line = node.lineno
    if name in _STDIN:
        first("stdin", node, f"`{name}` reads from the keyboard")
    if name.startswith(_CLOCKS):
        first("clock", node, f"`{name}` reads the clock")
    if name.startswith(_HOST_RANDOM):
        found["host_random"].setdefault(name, Place(line, f"`{name}` draws random numbers outside of the framework"))
    if method in {"backward", "step"}:
        first("trains" if method == "backward" else "steps", node, f"`.{method}()` trains")
    if name == "print":  # what `display` shows is no part of the work, and shown by the plain run
        found["prints"].append(line)
    if name in effects or name.startswith(_EFFECT_MODULES) or method in methods:
        found["effects"].append(Place(line, f"what `{name or method}` does cannot be undone"))
    if name == "get_ipython":
        found["effects"].append(Place(line, "what a magic or `!` command does cannot be undone"))
    if name in _NAMESPACE:
        first("uses_namespace", node, f"the body uses `{name}()`")


def into_memory(call: ast.Call, tree: ast.AST) -> bool:
    """Say whether a call is given a buffer in memory, in place of a file: made in it, or by all that binds its name."""
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        made: list[ast.expr | None] = [argument]
        if isinstance(argument, ast.Name):
            bindings = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.withitem)]
            values = {
                id(target): one.value for one in bindings if isinstance(one, ast.Assign) for target in one.targets
            }
            values |= {id(one.optional_vars): one.context_expr for one in bindings if isinstance(one, ast.withitem)}
            bound = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == argument.id]
            made = [values.get(id(node)) for node in bound if isinstance(node.ctx, ast.Store)]
        if made and all(isinstance(one, ast.Call) and dotted(one.func) in _BUFFERS for one in made):
            return True
    return False


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for an attribute chain that begins with a name, else an empty string."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def _bound_in_order(statements: list[ast.stmt], wanted: frozenset[str]) -> Iterator[str]:
    """Yield names in the order in which the statements first bind them."""
    seen: set[str] = set()
    for statement in statements:
        for name in sorted((names_of_statements([statement]).writes & wanted) - seen):
            seen.add(name)
            yield name


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _refuse_await(tree: ast.Module) -> None:
    pending: list[Any] = list(tree.body)
    while pending:
        node = pending.pop()
        word = _AWAITING.get(type(node), "")
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp) and any(g.is_async for g in node.generators):
            word = "async for"
        if word:
            raise FwMagicError(
                f"Line {node.lineno} uses `{word}`, which a timed cell cannot: "
                "do that in a cell before this one, and use here what it gave."
            )
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
