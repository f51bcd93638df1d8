"""A variant made ready to call: the plain ways to run a body."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.function import LAST, make_function, returned_names, why_no_function
from fwmagic.cells.kinds import MISSING
from fwmagic.cells.loops import why_too_long, with_turns_told
from fwmagic.cells.names import names_of_code
from fwmagic.cells.plans import PLAIN
from fwmagic.cells.route import Route
from fwmagic.cells.scene import Scene
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import Framework
from fwmagic.frameworks.compiled import MOST_TRACED, Static
from fwmagic.frameworks.untraced import Untraced, watched

# The name under which a traced body finds what it calls at the beginning of each turn of a loop.
_TURN = "__fwmagic_turn__"


@dataclass
class Patch:
    """A compiled stand-in for a module's call or a notebook function, there only while its program runs."""

    owner: Any
    name: str
    value: Any
    _before: Any = None
    _is_on: bool = False

    def on(self) -> None:
        """Put the stand-in in place."""
        place = self._place()
        self._before = place.get(self.name, MISSING)
        place[self.name] = self.value
        self._is_on = True

    def off(self) -> None:
        """Put back what was there."""
        if not self._is_on:
            return
        place = self._place()
        if self._before is MISSING:
            place.pop(self.name, None)
        else:
            place[self.name] = self._before
        self._is_on = False

    def _place(self) -> dict[str, Any]:
        return self.owner if isinstance(self.owner, dict) else vars(self.owner)


@dataclass(frozen=True)
class Program:
    """What the timing engine calls: `call(*args)`, then `wait(outputs)`; `enter` and `exit` around a block.

    `returned` names the live results, `collect` turns the outputs of a call into a dictionary of them, and
    `changed` gives the state that a traced program returns instead of changing it (path -> value). A first run tells
    what to wait for, and how calls may follow each other: `outcome.first_run` returns the program that knows it.
    """

    scene: Scene
    call: Callable[..., Any]
    args: tuple[Any, ...]
    returned: tuple[str, ...]
    collect: Callable[[Any], dict[str, Any]]
    source: str
    changed: Callable[[Any], dict[str, Any]] | None = None
    #: The numbers, texts and the like that its trace put into the state, which it never does itself.
    left: Mapping[str, Any] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    wait: Callable[[Any], Any] | None = None
    #: How many calls may follow each other before the state is put back, None: any number.
    most_calls: int | None = None
    #: The first call from the start state does more than later ones, such as making an optimizer's state.
    lead_in: bool = False
    #: The compiler's own account of the program's memory, if it gives one.
    static: Static | None = None
    #: The names that `call` itself reads in the notebook's namespace, None: any.
    reads: frozenset[str] | None = None

    def enter(self) -> None:
        """Get ready for a block."""
        self.scene.enter()
        for patch in self.patches:
            patch.on()

    def exit(self) -> None:
        """Leave nothing behind."""
        try:
            for patch in reversed(self.patches):
                patch.off()
        finally:
            self.scene.exit()

    def again(self) -> None:
        """Put the state of the start back, between two calls."""
        for patch in reversed(self.patches):
            patch.off()
        self.scene.again()
        for patch in self.patches:
            patch.on()

    def finds(self) -> list[Any] | None:
        """Return what the names that a call reads are bound to now; None if a block has anything to put back."""
        if self.most_calls is not None or self.lead_in or self.patches or self.reads is None:
            return None
        return self.scene.finds(self.reads)


def program_as_written(scene: Scene) -> Program:
    """Return the body as it is: as a function with locals, or in the namespace where it must stay there.

    A function's arguments would be the arrays that its first run has used up.
    """
    if scene.used_up or why_no_function(scene.body, scene.namespace, scene.snapshot.objects()) is not None:
        return program_in_namespace(scene)
    return program_as_function(scene)


def program_as_function(
    scene: Scene,
    compile: Callable[[types.FunctionType], Callable[..., Any]] | None = None,
    compiled: Callable[..., Any] | None = None,
    keeps: bool = False,
) -> Program:
    """Return the body as a function with locals; compiled if a compiler, or what it made before, is given.

    The overlay must be on. `keeps`: it returns what it does if it is compiled.
    """
    is_compiled = compile is not None or compiled is not None
    function = make_function(scene.body, scene.namespace, compiled=is_compiled, keeps=keeps)
    if compile is None:
        # As in any cell: for other code, `inspect` looks for a `def`, and tracebacks show wrong lines of the cell.
        function.call.__code__ = function.call.__code__.replace(co_name="<module>", co_qualname="<module>")
    call = compiled or (function.call if compile is None else compile(function.call))
    return Program(
        scene=scene,
        call=call,
        args=function.arguments(scene.namespace),
        returned=function.returned,
        collect=lambda outputs: dict(zip(function.returned, outputs[: len(function.returned)], strict=True)),
        source=function.source,
        # A function that is to be compiled has globals of its own.
        reads=frozenset(names_of_code(function.call.__code__).reads if compile is None and compiled is None else ()),
    )


def call_in_namespace(body: Body, namespace: dict[str, Any], whole: bool = False) -> Callable[[], tuple[Any, ...]]:
    """Return a function that runs the body in a namespace and returns its results; `whole` as in `Body.runs`."""
    # As functions: `exec` and `eval` would tell whoever listens to Python's audit events, in every timed call.
    code, expression = body.runs(whole)
    statements = types.FunctionType(code, namespace)
    last = None if expression is None else types.FunctionType(expression, namespace)

    def run() -> tuple[Any, ...]:
        __tracebackhide__ = True
        statements()
        head = () if last is None else (last(),)
        return (*head, *[namespace.get(name) for name in body.live])

    return run


def program_in_namespace(scene: Scene, whole: bool = False) -> Program:
    """Return the body as code that runs in the notebook's namespace; `whole` as in `Body.runs`."""
    names = returned_names(scene.body)
    return Program(
        scene=scene,
        call=call_in_namespace(scene.body, scene.namespace, whole),
        args=(),
        returned=names,
        collect=lambda outputs: dict(zip(names, outputs, strict=True)),
        source=scene.body.text,
        # A body that rebinds its own inputs, or what no code shows, starts from them again only in a new block.
        most_calls=1 if scene.used_up or scene.body.reads & scene.body.assigned or scene.snapshot.looks_up else None,
    )


def traced_program(
    scene: Scene, trace: Callable[..., Any], is_input: Callable[[Any], bool], route: Route | None = None
) -> tuple[Program, Any]:
    """Return the whole body as one function of the arrays that it can reach, traced in the real namespace.

    While tracing, every array that `is_input` accepts is swapped for its tracer wherever it occurs, the body
    runs in the namespace, and what it returns is its live results and every traced value that it left in the
    state: a value of its own that it reads again is neither, and need not be written to memory. Afterwards the
    namespace is as before. The overlay must be on. `route` is told which way the user's code goes.

    Raises
    ------
    CannotCompile
        A loop of the body is unrolled into too many operations.
    """
    body, snapshot, namespace = scene.body, scene.snapshot, scene.namespace
    framework = scene.framework
    inputs = [value for _, value in snapshot.leaves(is_input)]
    _, last = body.runs()
    statements = body.code(ast.Module(with_turns_told(body.statements, _TURN), []))
    seen: list[tuple[Untraced, dict[str, Any]]] = []
    turns = _Turns(framework)

    def cell(*arrays: Any) -> dict[str, Any]:
        known = {*namespace, *body.assigned, _TURN}
        snapshot.substitute({id(value): array for value, array in zip(inputs, arrays, strict=True)})
        objects = snapshot.objects()
        framework.adopt(objects)
        namespace[_TURN] = turns.begin
        try:
            follow = nullcontext() if route is None else route.followed()
            with watched((framework.module, *framework.companions), objects) as untraced, follow:
                exec(statements, namespace)
                results = {} if last is None else {LAST: eval(last, namespace)}
        finally:
            namespace.pop(_TURN, None)
        turns.check()
        hidden = sorted(namespace.keys() - known) if snapshot.looks_up else []
        if hidden:
            raise CannotCompile(f"it binds `{hidden[0]}` without naming it", _line_of_look_up(body))
        seen.append((untraced, snapshot.changes_of_structure().plain_values(body.assigned | body.defined)))
        results.update({name: namespace[name] for name in body.live if name in namespace})
        own = {id(array) for array in arrays}
        left = snapshot.find_leaves(framework.is_traced, but=_only_used_inside(scene))
        # Each is found once: what the notebook's own objects hold goes by its path there, also if it is a result.
        state = {id(value): path for path, value in snapshot.find_leaves(framework.is_traced, but=body.assigned)}
        changed = {state.get(id(value), path): value for path, value in left if id(value) not in own}
        return {"results": results, "changed": {p: v for p, v in changed.items() if p not in results}}

    try:
        done = trace(cell, tuple(inputs), body.filename)
    finally:
        snapshot.restore_structure()  # not earlier: a result may be a list that the state holds, too
    done = replace(done, untraced=seen[-1][0], left=seen[-1][1]) if seen else done
    program = Program(
        scene=scene,
        call=done.call,
        args=done.arguments,
        returned=returned_names(body),
        collect=lambda outputs: _part(done.rebuild(outputs), "results"),
        changed=lambda outputs: _part(done.rebuild(outputs), "changed"),
        source=_traced_source(framework.decorator, body, [path for path, _ in snapshot.leaves(is_input)]),
        left=done.left,
        static=done.static,
        reads=frozenset(),
    )
    return program, done


class _Turns:
    """What the loops of a body call while it is traced: a trace unrolls them, and must not become too long."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._error: CannotCompile | None = None

    def begin(self, line: int) -> None:
        """Begin a turn of the loop in this line; raises CannotCompile when there were too many operations."""
        count = self._framework.operations_traced()
        if count > MOST_TRACED:
            self._error = self._error or CannotCompile(why_too_long(MOST_TRACED), line)
        self.check()

    def check(self) -> None:
        """Raise what `begin` has raised already, and which the body may have caught."""
        if self._error is not None:
            raise self._error


def _line_of_look_up(body: Body) -> int | None:
    return None if body.uses_namespace is None else body.uses_namespace.line


def _only_used_inside(scene: Scene) -> frozenset[str]:
    """Return the names of the body's own arrays, and of containers of arrays that stay as made, that are no results."""
    body, namespace = scene.body, scene.namespace

    def is_tree(value: Any) -> bool:
        if isinstance(value, tuple | list | dict):
            return all(map(is_tree, value.values() if isinstance(value, dict) else value))
        return type(value) in PLAIN or scene.framework.is_traced(value)

    own = {name: namespace.get(name) for name in body.assigned - body.reads - {*body.live}}
    traced = scene.framework.is_traced
    return frozenset(n for n, value in own.items() if traced(value) or (n not in body.kept and is_tree(value)))


def _part(tree: Mapping[str, dict[str, Any]], key: str) -> dict[str, Any]:
    return tree[key]


def _traced_source(decorator: str, body: Body, paths: list[str]) -> str:
    """Return what is traced, as Python that runs: a function of the arrays, and of what it binds anew.

    `paths` lead to the arrays; those in other objects than containers are no arguments, but found where they are.
    """
    given = {path.partition("[")[0] for path in paths if "." not in path} | body.assigned
    values = [*([] if body.last is None else [body.last]), *(ast.Name(name, ast.Load()) for name in body.live)]
    whole = body.tree.body if body.last is None else body.tree.body[:-1]
    give_back = [ast.Return(ast.Tuple(values, ast.Load()) if len(values) > 1 else values[0])] if values else []
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(name) for name in sorted(body.reads & given)],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    function = ast.FunctionDef("cell", arguments, [*whole, *give_back], [])
    swapped = f"# traced in the notebook's namespace, with these arrays swapped for tracers: {', '.join(paths)}"
    return "\n".join([swapped, decorator, ast.unparse(ast.fix_missing_locations(function))])
