"""The traps of JAX that raise: what its errors mean in the user's code, and what to write instead."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import jax

from fwmagic.errors import message_of
from fwmagic.frameworks.jax.compiler import is_traced
from fwmagic.frameworks.rewrite import (
    other_module,
    printed_by,
    replaced,
    without_branch,
    without_loop,
    without_mask,
    without_update,
)
from fwmagic.frameworks.traps import Change, Evidence, Failing, Trap, outlives

# Functions of NumPy's name that JAX has, too.
_MODULES = ("np", "numpy", "math")
_SHAPED = {
    *("zeros", "ones", "full", "arange", "linspace", "eye", "empty", "reshape", "broadcast_to", "tile", "repeat")
}
_JITS = ("jax.jit", "jit")


def advise(failing: Failing, evidence: Evidence) -> Trap | None:
    """Return what an error means that JAX raised, at a line of the user's code; None for any other error."""
    kind, message = type(failing.error).__name__, message_of(failing.error)
    for matches, advice in _ADVICE:
        if matches(kind, message):
            return advice(failing, evidence)
    return None


def _trap(failing: Failing, what: str, why: str, changes: tuple[Change, ...] = (), bug: bool = False) -> Trap:
    line = failing.line if failing.own else None
    return Trap("ordinary bug" if bug else "tracing restriction", what, line, why, changes if failing.own else ())


def _written(node: ast.AST | None) -> str:
    """Return code as it stands in a sentence."""
    return "this line" if node is None else f"`{ast.unparse(node)}`"


def _unknown(failing: Failing) -> str:
    """Return a clause: which value is asked for, and that it is not there."""
    name, label = _subject(failing)
    return f"{name} is {label} without a value while tracing"


def _subject(failing: Failing) -> tuple[str, str]:
    """Return the traced value that is asked for, as it is written, and its type; other texts if none is named."""
    node = failing.node
    names = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)] if node is not None else []
    for name in names:
        value: Any = failing.values.get(name)
        if is_traced(value):
            return f"`{name}`", f"{value.dtype}[{','.join(map(str, value.shape))}]"
    return (_written(node) if isinstance(node, ast.expr) else "a value"), "an array"


def _static(failing: Failing, evidence: Evidence) -> tuple[Change, ...]:
    """Return the change that makes a parameter static, where its value was a plain one when the cell ran plainly."""
    function = failing.inside(ast.FunctionDef)
    node = failing.node
    if function is None or node is None:
        return ()
    plain = evidence.plain.get(function.name, frozenset())
    name = next((one.id for one in ast.walk(node) if isinstance(one, ast.Name) and one.id in plain), None)
    if name is None:
        return ()
    for decorator in function.decorator_list:
        if ast.unparse(decorator) in _JITS:
            return replaced(evidence.text, decorator, _static_jit(name))
    for call in ast.walk(evidence.tree):
        named = isinstance(call, ast.Call) and ast.unparse(call.func) in _JITS and not call.keywords
        if named and len(call.args) == 1 and ast.unparse(call.args[0]) == function.name:  # type: ignore[attr-defined]
            return replaced(evidence.text, call, f"jax.jit({function.name}, static_argnames={name!r})")
    return ()


def _static_jit(name: str) -> str:
    """Return the decorator that makes a parameter static; before 0.8.1, `jax.jit` had to be given the function."""
    if jax.__version_info__ >= (0, 8, 1):
        return f"jax.jit(static_argnames={name!r})"
    return f"lambda f: jax.jit(f, static_argnames={name!r})"


def _branch(failing: Failing, evidence: Evidence) -> Trap:
    node = failing.node
    if "BatchTracer" in message_of(failing.error):
        name, _ = _subject(failing)
        why = (
            f"Under `jax.vmap` {name} stands for one entry of many at once, so it has no single truth. "
            "Both ways have to be computed, and the right one chosen for each entry."
        )
        return _trap(
            failing, "a branch under vmap", why, without_branch(evidence.text, failing.path, "jnp.where", _logical)
        )
    around = failing.inside(ast.Call, ast.BoolOp, ast.IfExp, ast.If, ast.While, ast.Assert, ast.UnaryOp, ast.Compare)
    what, changes = "a branch on a value", without_branch(evidence.text, failing.path, "jnp.where", _logical)
    hint = "Both ways have to be part of the program: choose by `jnp.where` or `jax.lax.cond`."
    if isinstance(around, ast.Call) and isinstance(around.func, ast.Name) and around.func.id in _PYTHONS:
        function, short = _PYTHONS[around.func.id], around.func.id
        what = f"`{short}` of a value"
        hint = f"Python's `{short}` decides at once; `{function}` is computed when there are numbers."
        changes = replaced(evidence.text, around.func, function)
    elif isinstance(failing.inside(ast.BoolOp, ast.UnaryOp, ast.stmt), ast.BoolOp | ast.UnaryOp):
        logical = failing.inside(ast.BoolOp, ast.UnaryOp)
        what = "`and`, `or` or `not` of values"
        hint = "These words ask for one truth at once; `jnp.logical_and`, `logical_or` and `logical_not` are computed."
        changes = changes or replaced(evidence.text, logical, _logical(logical))
    elif isinstance(around, ast.Compare) and len(around.ops) > 1:
        what, hint = "a chain of comparisons", "A chain hides an `and`: combine two comparisons by `&`."
        changes = changes or replaced(evidence.text, around, _logical(around))
    elif failing.inside(ast.While, ast.stmt) is failing.inside(ast.While) is not None:
        what, changes = "a loop until a value", ()
        hint = "How often it runs would be fixed while tracing: `jax.lax.while_loop` leaves that to the program."
    elif isinstance(failing.inside(ast.stmt), ast.Assert):
        what, changes = "an assertion about a value", ()
        hint = "There is nothing to check yet: check the result outside, or use `jax.experimental.checkify`."
    changes = _static(failing, evidence) or changes
    text = _written(node) if isinstance(node, ast.expr) else "This line"
    why = f"{text} has to be true or false at once, and {_unknown(failing)}. {hint}"
    return _trap(failing, what, why, changes)


_PYTHONS = {"max": "jnp.maximum", "min": "jnp.minimum", "any": "jnp.any", "all": "jnp.all", "bool": "jnp.bool_"}


def _logical(node: ast.expr) -> str:
    if isinstance(node, ast.BoolOp):
        function = "jnp.logical_and" if isinstance(node.op, ast.And) else "jnp.logical_or"
        first, *others = (_logical(one) for one in node.values)
        for other in others:
            first = f"{function}({first}, {other})"
        return first
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return f"jnp.logical_not({_logical(node.operand)})"
    if isinstance(node, ast.Compare) and len(node.ops) > 1:
        sides = [node.left, *node.comparators]
        pairs = (ast.Compare(left, [op], [right]) for left, op, right in zip(sides, node.ops, sides[1:], strict=False))
        return " & ".join(f"({ast.unparse(pair)})" for pair in pairs)
    return ast.unparse(node)


def _number(failing: Failing, evidence: Evidence) -> Trap:
    call = failing.inside(ast.Call)
    changes: tuple[Change, ...] = ()
    what = "a number while tracing"
    hint = "Keep the array; a number can be taken out of the result, after the call."
    if call is not None:
        changes = _kept_as_array(call, evidence.text)
        function = ast.unparse(call.func)
        if function.startswith("math."):
            what, changes = "`math` of a value", other_module(evidence.text, call, "jnp")
            hint = "`math` computes with Python's numbers; `jnp` has the same functions for arrays."
        elif function.rpartition(".")[2] in _SHAPED:
            what, hint = "a shape that depends on a value", "A shape has to be a Python number, or a static argument."
        elif function.rpartition(".")[2] in ("nonzero", "unique", "argwhere", "flatnonzero", "where"):
            what, hint = "a shape that depends on values", "Give the largest count that there can be as `size=`."
            changes = ()
    changes = _static(failing, evidence) or changes
    why = f"A number is needed for {_written(call)}, and {_unknown(failing)}. {hint}"
    return _trap(failing, what, why, changes)


def _kept_as_array(call: ast.Call, lines: Sequence[str]) -> tuple[Change, ...]:
    """Return the change that leaves an array what it is where a Python number is made of it."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("item", "tolist") and not call.args:
        return replaced(lines, call, ast.unparse(call.func.value))
    if isinstance(call.func, ast.Name) and call.func.id in ("float", "int", "bool", "complex") and len(call.args) == 1:
        return replaced(lines, call, f"jnp.asarray({ast.unparse(call.args[0])}).astype({call.func.id})")
    return ()


def _numpy(failing: Failing, evidence: Evidence) -> Trap:
    call = failing.inside(ast.Call)
    changes = other_module(evidence.text, call, "jnp") if call is not None and _is_of_numpy(call) else ()
    why = (
        f"NumPy needs numbers for {_written(call)}, and {_unknown(failing)}. "
        "`jnp` has the same functions; what must run in Python goes into `jax.pure_callback`."
    )
    return _trap(failing, "NumPy on a traced value", why, changes)


def _is_of_numpy(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in _MODULES


def _integer(failing: Failing, evidence: Evidence) -> Trap:
    loop = failing.inside(ast.For)
    index = failing.inside(ast.Subscript)
    changes = _static(failing, evidence)
    if loop is not None and isinstance(loop.iter, ast.Call) and ast.unparse(loop.iter.func) == "range":
        changes = changes or without_loop(evidence.text, loop, "jax.lax.fori_loop")
        what, hint = "a loop over a traced count", "`jax.lax.fori_loop` takes one; or make it a static argument."
    elif index is not None:
        what, hint = "a list indexed by a traced value", "An array can be indexed in the program: make one of the list."
        changes = changes or replaced(evidence.text, index.value, f"jnp.asarray({ast.unparse(index.value)})")
    else:
        what, hint = "a Python integer from a traced value", "Make it a static argument, or keep it an array."
    why = f"Python needs an integer here, and {_unknown(failing)}. {hint}"
    return _trap(failing, what, why, changes)


def _mask(failing: Failing, evidence: Evidence) -> Trap:
    index = failing.inside(ast.Subscript)
    changes = without_mask(evidence.text, index, ast.walk(failing.inside(ast.stmt) or ast.Pass()), "jnp.where")
    why = (
        f"How many entries {_written(index)} has depends on values, and every shape has to be known while tracing. "
        "`jnp.where` with three arguments keeps the shape and puts a value that does not count in their place."
    )
    return _trap(failing, "a boolean mask", why, changes)


def _slice(failing: Failing, evidence: Evidence) -> Trap:
    index = failing.inside(ast.Subscript)
    changes: tuple[Change, ...] = ()
    if index is not None and isinstance(index.slice, ast.Slice) and index.slice.step is None:
        lower, upper = index.slice.lower, index.slice.upper
        added = isinstance(upper, ast.BinOp) and isinstance(upper.op, ast.Add) and lower is not None
        if added and ast.unparse(upper.left) == ast.unparse(lower):  # type: ignore[union-attr, arg-type]
            array, size = ast.unparse(index.value), ast.unparse(upper.right)  # type: ignore[union-attr]
            new = f"jax.lax.dynamic_slice_in_dim({array}, {ast.unparse(lower)}, {size})"  # type: ignore[arg-type]
            changes = replaced(evidence.text, index, new)
    why = (
        f"The bounds of a slice make a shape, which has to be known, and {_unknown(failing)}. "
        "`jax.lax.dynamic_slice_in_dim` takes a traced start, with a size that is a Python number."
    )
    return _trap(failing, "a slice with traced bounds", why, changes)


def _leak(failing: Failing, evidence: Evidence) -> Trap:
    name, _ = _subject(failing)
    stored = _storing(evidence)
    where = f", in line {stored[0]}" if stored else ""
    why = (
        f"{name} was stored while a function was traced{where}, and is used after the trace has ended, when it "
        "stands for nothing. Return it from the function, and bind what the call returns."
    )
    return _trap(failing, "a value that outlived its trace", why)


def _storing(evidence: Evidence) -> list[int]:
    """Return the lines of traced functions that put something where it outlives the call."""
    return [one.line for one in evidence.lines if one.own and one.traced and outlives(one.node, evidence.scopes)]


def _printed(failing: Failing, evidence: Evidence) -> Trap:
    call = next((one for one in failing.path if isinstance(one, ast.Call) and ast.unparse(one.func) == "print"), None)
    new = printed_by(call, "jax.debug.print") if call is not None else ""
    changes = replaced(evidence.text, call, new) if call is not None and new else ()
    why = (
        f"A format such as `:.2f` needs the number, and {_unknown(failing)}. "
        "`jax.debug.print` formats it when the program runs."
    )
    return _trap(failing, "a traced value in a format", why, changes)


def _shape(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        f"A shape is made in {_written(failing.inside(ast.Call))}, and {_unknown(failing)}. "
        "Every shape has to be known then: make it of a Python number, or of a static argument."
    )
    return _trap(failing, "a shape that depends on a value", why, _static(failing, evidence))


def _update(failing: Failing, evidence: Evidence) -> Trap:
    node = failing.inside(ast.Assign, ast.AugAssign)
    target = getattr(node, "target", None) or (node.targets[0] if isinstance(node, ast.Assign) else None)
    name = ast.unparse(target.value) if isinstance(target, ast.Subscript) else "the array"
    # What can be changed plainly, and not while tracing, is an array of NumPy: it has no `at`.
    convert = "jnp.asarray" if evidence.raised is None else ""
    old = f"{convert}({name})" if convert else name
    why = (
        f"Arrays of JAX cannot be changed, so that `{name}` can be computed with in any order. "
        f"`{old}.at[...].set(...)` returns a new one, and compiled, it is as quick as a change in place."
    )
    return _trap(failing, "an update in place", why, without_update(evidence.text, node, convert), bug=True)


def _argument(failing: Failing, evidence: Evidence) -> Trap:
    call = failing.inside(ast.Call)
    name = ast.unparse(call.func) if call is not None else "the function"
    changes: tuple[Change, ...] = ()
    for function in ast.walk(evidence.tree):
        if isinstance(function, ast.FunctionDef) and function.name == name and call is not None:
            parameters = [one.arg for one in function.args.args]
            given = zip(parameters, call.args, strict=False)
            texts = [one for one, value in given if _is_text(value, failing)]
            for decorator in function.decorator_list:
                if texts and ast.unparse(decorator) in _JITS:
                    changes = replaced(evidence.text, decorator, _static_jit(texts[0]))
    why = (
        f"The arguments of `{name}` become arrays of the trace, and text or an object is none. "
        "Name such a parameter in `static_argnames`, so that JAX makes a program for each of its values."
    )
    return _trap(failing, "an argument that is no array", why, changes)


def _is_text(node: ast.expr, failing: Failing) -> bool:
    value = node.value if isinstance(node, ast.Constant) else failing.values.get(getattr(node, "id", ""))
    return isinstance(value, str)


def _unhashable(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        "A static argument is a part of the name under which JAX keeps the compiled program, so it has to be hashable. "
        "Hand over a tuple instead of a list, and a frozen dataclass instead of a dictionary."
    )
    return _trap(failing, "a static argument without a hash", why)


def _key(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        f"A key of a dictionary or a member of a set needs a hash, and {_unknown(failing)}. "
        "Use a Python value as the key, or an array that is indexed."
    )
    return _trap(failing, "a traced value as a key", why)


def _types_of_loop(failing: Failing, evidence: Evidence) -> Trap:
    lines = [line.strip() for line in message_of(failing.error).splitlines() if line.strip()]
    told = next((line for line in lines if "has type" in line), lines[0])
    why = (
        "What a loop carries must have the same shape and dtype after each step, or the program could not go round: "
        f"{told} Give the first value the type that the body returns, or convert what it returns."
    )
    return _trap(failing, "a loop whose state changes its type", why.replace("  ", " "))


def _branches(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        "Both branches are part of the program, and what follows is compiled for one type of result. "
        "Let both return the same structure, shapes and dtypes."
    )
    return _trap(failing, "branches of different types", why)


def _donated(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        "The array was donated: the compiled call took its memory for its result, and it is gone. "
        "Use what the call returned, or do not donate an argument that is read again."
    )
    return _trap(failing, "a donated array that is used again", why)


def _attribute(failing: Failing, evidence: Evidence) -> Trap:
    node = failing.inside(ast.Attribute)
    name = node.attr if node is not None else "this"
    call = failing.inside(ast.Call)
    simple = node is not None and call is not None and call.func is node and name == "block_until_ready"
    changes = replaced(evidence.text, call, ast.unparse(node.value)) if simple else ()
    why = (
        f"`.{name}` is about an array that is in memory, and while tracing there is none yet. "
        "Do it outside, with what the compiled function returns."
    )
    return _trap(failing, "an attribute of arrays in memory", why, changes)


def _whole_numbers(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        "Whole numbers have no slope, so that only floating point can be differentiated. "
        "Hand over floats: `jnp.arange(3.0)` instead of `jnp.arange(3)`, or convert by `.astype(float)`."
    )
    return _trap(failing, "a gradient of whole numbers", why, bug=True)


def _not_one_number(failing: Failing, evidence: Evidence) -> Trap:
    why = (
        "A gradient is one of a single number, and what this function returns has several. "
        "Add them up, by `.sum()` or `.mean()`; `jax.jacobian` gives the slopes of all of them."
    )
    return _trap(failing, "a gradient of several numbers", why, bug=True)


_Matches = Callable[[str, str], bool]
_ADVICE: list[tuple[_Matches, Callable[[Failing, Evidence], Trap]]] = [
    (lambda kind, _: kind == "TracerBoolConversionError", _branch),
    (lambda kind, _: kind == "TracerArrayConversionError", _numpy),
    (lambda kind, _: kind == "TracerIntegerConversionError", _integer),
    (lambda kind, _: kind == "NonConcreteBooleanIndexError", _mask),
    (lambda kind, _: kind == "UnexpectedTracerError", _leak),
    (lambda kind, text: kind == "ConcretizationTypeError" and "Shapes must be" not in text, _number),
    (lambda kind, text: kind == "IndexError" and "static" in text and "lice" in text, _slice),
    (lambda kind, text: "Shapes must be 1D" in text or "Shapes must be" in text, _shape),
    (lambda kind, text: kind == "TypeError" and "unsupported format string" in text, _printed),
    (lambda kind, text: kind == "TypeError" and "immutable" in text, _update),
    (lambda kind, text: kind == "TypeError" and "does not support item assignment" in text, _update),
    (
        lambda kind, text: kind == "TypeError" and ("not a valid JAX type" in text or "Error interpreting" in text),
        _argument,
    ),
    (lambda kind, text: kind == "ValueError" and "on-hashable static" in text, _unhashable),
    (lambda kind, text: kind == "TypeError" and "unhashable type" in text and "Tracer" in text, _key),
    (lambda kind, text: kind == "TypeError" and "carry" in text and "type" in text, _types_of_loop),
    (lambda kind, text: kind == "TypeError" and ("branch" in text or "true_fun" in text), _branches),
    (lambda kind, text: kind == "TypeError" and "grad requires real" in text, _whole_numbers),
    (lambda kind, text: kind == "TypeError" and "only defined for scalar-output" in text, _not_one_number),
    (lambda kind, text: "has been deleted" in text or "donated" in text, _donated),
    (lambda kind, text: kind == "TypeError" and "cannot be interpreted as an integer" in text, _integer),
    (lambda kind, text: kind in ("AttributeError", "ConcretizationTypeError") and "Tracer" in text, _attribute),
]
