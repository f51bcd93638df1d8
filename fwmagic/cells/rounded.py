"""What a body gives where the numbers that it reads and computes are off by a rounding."""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import CodeType, FunctionType
from typing import Any, TypeGuard

from fwmagic.cells.analyse import Body
from fwmagic.cells.outcome import LONG, Outcome, Window, copied_results
from fwmagic.cells.program import Program, program_as_written
from fwmagic.frameworks.arrays import Roundings

# The name under which code finds what rounds the results of its operators in another way.
_ROUNDED = "__fwmagic_rounded__"


def moved_results(
    program: Program, outcome: Outcome, window: Window, every: int = 0, spacing: float = 0.0
) -> Mapping[str, Any] | None:
    """Return the results where each number that the program reads or computes is off by a rounding; None of a long one.

    The rounding is that of its dtype, or of floats with a larger relative `spacing` that it makes of them.
    How far they move is how far two ways to compute the same may part. What it computes are the results of operators
    and calls in its own text, and in that of the notebook's functions that it can reach, unless these are compiled.
    `every`: every number that it reads is off, also such as nobody rounds, by other roundings for another `every`; and
    no result of an operator is.
    """
    scene, framework, roundings = program.scene, program.scene.framework, Roundings(every, spacing)
    if (scene.seconds or outcome.seconds) > LONG:
        return None

    def rounded(value: Any) -> Any:
        if sys.getrefcount(value) > _references(object()):  # somebody else has it, too
            return value
        return framework.nudge([value], roundings).get(id(value), value)

    program.enter()
    try:
        scene.namespace[_ROUNDED] = rounded
        again = program_as_written(scene if every else replace(scene, body=_rounding(scene.body)))
        moved = framework.nudge([value for _, value in scene.snapshot.leaves(framework.is_array)], roundings)
        roundings.computes = True
        scene.snapshot.substitute(moved)
        stay = every or scene.snapshot.held(framework.is_compiled)
        functions = () if stay else (one for one in scene.snapshot.objects() if _is_of(one, scene.namespace))
        with window(), _rounding_inside(functions):
            outputs = again.call(*(moved.get(id(value), value) for value in again.args))
        return {name: copied_results(value, framework) for name, value in again.collect(outputs).items()}
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run once more
        return None
    finally:
        scene.namespace.pop(_ROUNDED, None)
        program.exit()
        scene.restore()


def _references(value: Any) -> int:
    return sys.getrefcount(value)


class _Rounding(ast.NodeTransformer):
    """Hands what each operator and call gives over to what rounds it in another way."""

    def visit(self, node: ast.AST) -> Any:
        """Wrap an operation of two values, or a call."""
        self.generic_visit(node)
        if not isinstance(node, ast.BinOp | ast.Call):
            return node
        call = ast.Call(ast.Name(_ROUNDED, ast.Load()), [node], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))


def _rounding(body: Body) -> Body:
    """Return the body with what its operators and calls give rounded in another way."""
    statements = _Rounding().visit(copy.deepcopy(ast.Module(list(body.statements), []))).body
    last = None if body.last is None else _Rounding().visit(copy.deepcopy(body.last))
    return replace(body, statements=tuple(statements), last=last)


def _is_of(value: Any, namespace: dict[str, Any]) -> TypeGuard[FunctionType]:
    return type(value) is FunctionType and value.__globals__ is namespace


@contextlib.contextmanager
def _rounding_inside(functions: Iterable[FunctionType]) -> Iterator[None]:
    """Have functions of the notebook compute in the block with operators and calls that round in another way."""
    before = [(one, one.__code__) for one in functions]
    try:
        for one, code in before:
            one.__code__ = _rounding_code(one) or code
        yield
    finally:
        for one, code in before:
            one.__code__ = code


def _rounding_code(function: FunctionType) -> CodeType | None:
    """Return the code of a function with what its operators and calls give rounded; None where its text tells none."""
    code = function.__code__
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return None
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        return None
    definition.body = [_Rounding().visit(one) for one in definition.body]
    definition.decorator_list.clear()
    module = compile(tree, code.co_filename, "exec", dont_inherit=True)
    made = next((one for one in module.co_consts if isinstance(one, CodeType) and one.co_name == code.co_name), None)
    return made if made is not None and _names_in(made) - {_ROUNDED} == _names_in(code) else None


def _names_in(code: CodeType) -> set[str]:
    """Return all names in code: others, where its text is another one now, or where it means those of a class."""
    return {*code.co_names, *code.co_varnames, *code.co_freevars}
