"""A traced program: which arguments it reads, what it captured, what nothing reads of it, and how to run it again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

#: What nothing reads is kept where it is more than this share of the work.
LEAST_UNREAD = 0.01
# Nanoseconds a byte that is read or written, and an operation on numbers; what one equation costs at least, in bytes.
_BYTE, _FLOP, _LEAST = 0.1, 0.02, 64
# Operations for each number of the result, where it is not one.
_FACTORISATIONS = {"cholesky", "lu", "qr", "geqrf", "householder_product", "svd", "eigh", "eig", "schur", "hessenberg"}
# What takes up to so many times as long as its numbers tell: it goes its own way through them, or turns unknown times.
_HEAVY = 100.0
_UNKNOWN = 1e5
_HEAVIER = {
    **dict.fromkeys(_FACTORISATIONS, _HEAVY),
    **dict.fromkeys(("triangular_solve", "tridiagonal_solve", "sort", "top_k", "approx_top_k", "fft"), _HEAVY),
    **dict.fromkeys(("gather", "scatter", "scatter-add", "random_bits", "threefry2x32", "erf_inv"), _HEAVY),
    **dict.fromkeys(("lgamma", "digamma", "igamma", "igammac", "regularized_incomplete_beta"), _HEAVY),
    **dict.fromkeys(("while", "pure_callback", "io_callback", "ffi_call", "custom_call", "pallas_call"), _UNKNOWN),
}
# Nothing is computed by these: what comes next reads their numbers where they lie.
_SHAPES = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "dynamic_slice"}
_CALLS = {"jit", "pjit"}
# What runs all of the one program in it, once.
_INLINED = {
    *_CALLS,
    *("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "remat2"),
}
# Operations for which each number of the arguments is needed where each of the result is.
_WHOLE = {
    *("abs", "add", "atan2", "cbrt", "ceil", "convert_element_type", "copy", "cos", "div", "erf", "exp"),
    *("exp2", "expm1", "floor", "log", "log1p", "logistic", "max", "min", "mul", "neg", "pow", "round"),
    *("rsqrt", "sign", "sin", "sqrt", "square", "sub", "tan", "tanh", "broadcast_in_dim", "concatenate"),
    *("expand_dims", "reshape", "rev", "squeeze", "transpose", "cumsum", "cumprod", "cummax", "cummin"),
    *("reduce_max", "reduce_min", "reduce_prod", "reduce_sum", "dot_general", "sort"),
}
# Narrower numbers, of fewer bytes, are computed with several times as fast.
_WIDE = 4


def used_arguments(jaxpr: Any) -> tuple[int, ...]:
    """Return the places of the arguments that are computed with or returned: passing others would cost time."""
    read = {id(atom) for equation in jaxpr.eqns for atom in equation.invars} | {id(atom) for atom in jaxpr.outvars}
    return tuple(place for place, variable in enumerate(jaxpr.invars) if id(variable) in read)


def captured_constants(jaxpr: Any, consts: Iterable[Any], found: dict[int, Any], nested: bool) -> int:
    """Collect the array constants of a jaxpr and of the jitted calls in it; return how many cannot be lifted."""
    arrays = {id(const): const for const in consts if getattr(const, "ndim", 0) > 0}
    hidden = len(arrays) if nested else 0
    if not nested:
        found.update(arrays)
    for equation in jaxpr.eqns:
        is_call = equation.primitive.name in _CALLS
        for body, inner in _bodies(equation):
            hidden += captured_constants(body, inner, found, nested or not is_call)
    return hidden


def _bodies(equation: Any) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Yield the jaxprs that an equation calls, each with its constants."""
    for value in equation.params.values():
        for inner in value if isinstance(value, tuple | list) else (value,):
            body = getattr(inner, "jaxpr", None)
            if body is not None and hasattr(body, "eqns"):
                yield body, inner.consts
            elif hasattr(inner, "eqns"):
                yield inner, ()


def evaluate(
    jaxpr: Any,
    consts: Iterable[Any],
    inputs: Iterable[Any],
    given: dict[int, Any],
    also: Iterable[Any] = (),
) -> list[Any]:
    """Evaluate a jaxpr with the captured constants `given` by id; calls that hold some are inlined.

    What it returns is followed by the values of the variables in `also`.
    """
    values: dict[Any, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
    values.update(zip(jaxpr.constvars, (given.get(id(const), const) for const in consts), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        body = equation.params.get("jaxpr")
        if equation.primitive.name in _CALLS and _captures_array(body):
            outputs = evaluate(body.jaxpr, body.consts, operands, given)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            # Older versions of JAX return the functions to call apart from the parameters.
            functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
            outputs = equation.primitive.bind(*functions, *operands, **parameters)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in (*jaxpr.outvars, *also)]


def _captures_array(closed: Any) -> bool:
    """Say whether a jitted call captured an array, itself or in a jitted call inside."""
    if any(getattr(const, "ndim", 0) > 0 for const in closed.consts):
        return True
    inner = (e.params.get("jaxpr") for e in closed.jaxpr.eqns if e.primitive.name in _CALLS)
    return any(_captures_array(body) for body in inner)


# What nothing reads


@dataclass(frozen=True)
class Unread:
    """What a traced program computes and returns nothing of: the last of it as `variables`, its share of the work.

    `lines` are those of the user's file in which it is computed, as far as JAX tells.
    """

    variables: tuple[Any, ...] = ()
    share: float = 0.0
    lines: tuple[int, ...] = ()


def unread(jaxpr: Any, filename: str = "") -> Unread:
    """Return what nothing reads in a jaxpr, if that is more than a hundredth of its work.

    What differentiation leaves over, such as the value of a function of which only the gradient is wanted, is not
    what the text computes.
    """
    dead = [equation for equation in _dead(jaxpr) if not _is_of_a_gradient(equation)]
    if not dead:
        return Unread()
    costs = {id(equation): _cost(equation) for equation in dead}
    share = sum(costs.values()) / (sum(map(_cost, jaxpr.eqns)) or 1.0)
    if share < LEAST_UNREAD:
        return Unread()
    read = {id(atom) for equation in dead for atom in equation.invars}
    last = [equation for equation in dead if not any(id(variable) in read for variable in equation.outvars)]
    last.reverse()
    variables = (variable for equation in last for variable in equation.outvars)
    lines = {line for equation in last if (line := _line(equation, filename)) is not None}
    return Unread(tuple(v for v in variables if hasattr(v.aval, "dtype")), share, tuple(sorted(lines)))


def _dead(jaxpr: Any, also: Iterable[Any] = ()) -> list[Any]:
    """Return the equations of which neither a result of a jaxpr nor one of the variables in `also` needs anything."""
    return _liveness(jaxpr, (*jaxpr.outvars, *also))[0]


def _liveness(jaxpr: Any, wanted: Iterable[Any]) -> tuple[list[Any], set[int]]:
    """Return the equations of which nothing is needed for what is wanted, and the `id` of each variable that is."""
    needed = set(map(id, wanted))
    dead = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(id(variable) in needed for variable in equation.outvars):
            needed.update(id(atom) for atom in equation.invars)
        else:
            dead.append(equation)
    return dead, needed


def _folded(jaxpr: Any, wanted: Iterable[Any], given: frozenset[int]) -> tuple[list[Any], set[int], set[int]]:
    """Return what `_liveness` does, where XLA folds away what it can.

    Also the `id` of each variable that is the same in each call: what is made of no argument but those `given`.
    """
    fixed = set(given)
    for equation in jaxpr.eqns:
        if not equation.effects and all(hasattr(atom, "val") or id(atom) in fixed for atom in equation.invars):
            fixed.update(map(id, equation.outvars))
    needed = set(map(id, wanted))
    dead = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects:
            needed.update(map(id, equation.invars))
        elif any(wanted := [id(variable) in needed for variable in equation.outvars]):
            needed.update(map(id, _read(equation, wanted, fixed)))
        else:
            dead.append(equation)
    return dead, needed, fixed


def _read(equation: Any, needed: list[bool], fixed: set[int]) -> list[Any]:
    """Return the arguments that have to be read for the results that `needed` marks: not what XLA folds away."""
    name, atoms = equation.primitive.name, list(equation.invars)
    bodies = [body for body, _ in _bodies(equation)]
    if name in _INLINED and len(bodies) == 1 and len(bodies[0].invars) == len(atoms):
        inside = _fixed_inside(bodies[0], equation, fixed)
        _, read, _ = _folded(bodies[0], _chosen(bodies[0].outvars, needed), inside)
        return [atom for atom, variable in zip(atoms, bodies[0].invars, strict=True) if id(variable) in read]
    if name == "select_n" and (hasattr(atoms[0], "val") or id(atoms[0]) in fixed):
        return []  # which of the others is taken is known before anything runs
    if name == "mul" and any(hasattr(atom, "val") and not jnp.any(atom.val) for atom in atoms):
        return []
    return atoms


def _fixed_inside(body: Any, equation: Any, fixed: set[int]) -> frozenset[int]:
    """Return which variables of a program inside stand for arguments that are the same in each call."""
    return _marked(body.invars, [hasattr(atom, "val") or id(atom) in fixed for atom in equation.invars])


def repeated(jaxpr: Any, filename: str = "") -> tuple[float, int | None]:
    """Return the share of the work that is the same again, which XLA does once, and the first line that does it.

    It is at least so large, whether what may be heavy is so or not.
    """
    again = [one for one in _again(jaxpr) if not one.effects and not _is_of_a_gradient(one)]
    sums = ([sum(_cost(one, is_heavy) for one in some) for some in (again, jaxpr.eqns)] for is_heavy in (False, True))
    share = min(part / (whole or 1.0) for part, whole in sums)
    lines = (line for equation in again if (line := _line(equation, filename)) is not None)
    return share, next(lines, None)


def _again(jaxpr: Any) -> list[Any]:
    """Return the equations of a jaxpr that do the same as one before them."""
    numbers: dict[int, Any] = {}
    known: dict[Any, Any] = {}
    again: list[Any] = []
    for equation in jaxpr.eqns:
        values = tuple(repr(a.val) if hasattr(a, "val") else numbers.get(id(a), id(a)) for a in equation.invars)
        key = (equation.primitive.name, values, tuple((k, _identity(v)) for k, v in sorted(equation.params.items())))
        first = known.setdefault(key, equation)
        if first is not equation:
            again.append(equation)
        for place, variable in enumerate(equation.outvars):
            numbers[id(variable)] = (id(first), place)
    return again


def arithmetic(jaxpr: Any, also: Iterable[Any] = ()) -> float:
    """Return the operations of matrix products and convolutions of numbers of 32 or 64 bits, at least.

    Those count that a result or one of the variables in `also` needs. Of branches the least is taken, a loop of unknown
    length turns zero times, and what is the same again, or the same in each turn of a loop, is done once.
    """
    return sum(_arithmetic(jaxpr, frozenset(), (*jaxpr.outvars, *also)))


def _arithmetic(
    jaxpr: Any, varying: frozenset[int], wanted: Iterable[Any], given: frozenset[int] = frozenset()
) -> tuple[float, float]:
    """Return the operations for what is wanted that do not depend on the variables `varying`, and those that do.

    Those `given` are the same in each call.
    """
    same, other = 0.0, 0.0
    depend = set(varying)
    dead, needed, constant = _folded(jaxpr, wanted, given)
    left_out = {id(equation) for equation in (*_again(jaxpr), *dead)}
    for equation in jaxpr.eqns:
        depends = [id(atom) in depend for atom in equation.invars]
        depend.update(map(id, equation.outvars) if any(depends) else ())
        if id(equation) not in left_out:
            flags = [id(one) in needed for one in equation.outvars]
            fixed, moving = _arithmetic_of(equation, depends, flags, constant)
            same, other = same + fixed, other + moving
    return same, other


def _arithmetic_of(equation: Any, depends: list[bool], needed: list[bool], constant: set[int]) -> tuple[float, float]:
    """Return the operations of an equation that do not depend on the arguments that `depends` marks, and others.

    `needed` marks the results that something needs; `constant` are variables that are the same in each call.
    """
    name = equation.primitive.name
    bodies = [body for body, _ in _bodies(equation)]
    total = lifted = 0.0
    if name in _INLINED and len(bodies) == 1:
        given = _fixed_inside(bodies[0], equation, constant)
        return _arithmetic(bodies[0], _marked(bodies[0].invars, depends), _chosen(bodies[0].outvars, needed), given)
    if name == "scan":
        (body,), turns, fixed = bodies, equation.params["length"], equation.params["num_consts"]
        moving = frozenset(map(id, body.invars[fixed:]))
        wanted = _wanted_of_turns(body, fixed, equation.params["num_carry"], needed)
        once, each = _arithmetic(body, moving, wanted)
        lifted = _arithmetic(body, moving | _marked(body.invars, depends), wanted)[0] * min(turns, 1)
        total = once * min(turns, 1) + each * turns
    elif name == "cond":
        total = min(sum(_arithmetic(body, frozenset(), _chosen(body.outvars, needed))) for body in bodies)
    elif name == "while":
        total = arithmetic(equation.params["cond_jaxpr"].jaxpr)
    elif name in ("dot_general", "conv_general_dilated") and equation.invars[0].aval.dtype.itemsize >= _WIDE:
        total = _operations(equation)
    return (lifted, total - lifted) if any(depends) else (total, 0.0)


def _wanted_of_turns(body: Any, fixed: int, carried: int, needed: Sequence[bool]) -> list[Any]:
    """Return which results of the body of a scan are needed: by its own results, or by a later turn."""
    flags = list(needed)
    while True:
        _, inside = _liveness(body, _chosen(body.outvars, flags))
        wanted = [id(body.invars[fixed + k]) in inside or flags[k] for k in range(carried)]
        if wanted == flags[:carried]:
            return _chosen(body.outvars, flags)
        flags[:carried] = wanted


def _chosen(atoms: Iterable[Any], flags: Iterable[bool]) -> list[Any]:
    return [atom for atom, flag in zip(atoms, flags, strict=False) if flag]


def _marked(variables: Iterable[Any], marks: Iterable[bool]) -> frozenset[int]:
    return frozenset(id(variable) for variable, mark in zip(variables, marks, strict=False) if mark)


def gone_through(jaxpr: Any) -> float:
    """Return the bytes of the results that are made, and of what was given of which every number is needed for them."""
    given = {id(variable): variable for variable in (*jaxpr.invars, *jaxpr.constvars)}
    again = {id(variable) for equation in _again(jaxpr) for variable in equation.outvars}
    made = {id(atom): atom for atom in jaxpr.outvars if id(atom) not in given and not hasattr(atom, "val")}
    needed = _needed(jaxpr, set(made)) & given.keys()
    fresh = (atom for key, atom in made.items() if key not in again)
    return sum(map(_bytes, fresh)) + sum(_bytes(given[key]) for key in needed)


def coarsest(jaxpr: Any) -> float:
    """Return the spacing of the coarsest floats of 16 bits or less that are made, relative to them; 0: of none."""
    found = 0.0
    for equation in jaxpr.eqns:
        dtypes = (getattr(variable.aval, "dtype", None) for variable in equation.outvars)
        short = (one for one in dtypes if one is not None and jnp.issubdtype(one, jnp.floating) and one.itemsize <= 2)
        spacings = [float(jnp.finfo(one).eps) for one in short]  # type: ignore[no-untyped-call]
        found = max([found, *spacings, *(coarsest(body) for body, _ in _bodies(equation))])
    return found


def _needed(jaxpr: Any, whole: set[int]) -> set[int]:
    """Return the variables of a jaxpr each number of which is needed, if that is so for some of its results."""
    needed = set(whole)
    for equation in reversed(jaxpr.eqns):
        wanted = [id(variable) in needed for variable in equation.outvars]
        if equation.primitive.name in _CALLS and any(wanted):
            for inner, _ in _bodies(equation):
                results = {id(atom) for atom, is_wanted in zip(inner.outvars, wanted, strict=True) if is_wanted}
                inside = _needed(inner, results)
                pairs = zip(inner.invars, equation.invars, strict=True)
                needed |= {id(atom) for variable, atom in pairs if id(variable) in inside}
        elif equation.primitive.name in _WHOLE and all(wanted):
            needed |= {id(atom) for atom in equation.invars}
    return needed


def _identity(value: Any) -> Any:
    """Return what tells a parameter of an operation from others."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _is_of_a_gradient(equation: Any) -> bool:
    stack = str(getattr(equation.source_info, "name_stack", ""))
    return "jvp(" in stack or "transpose(" in stack


def _line(equation: Any, filename: str) -> int | None:
    """Return the deepest line of a file that an equation comes from, or None."""
    traceback = getattr(equation.source_info, "traceback", None)
    for frame in getattr(traceback, "frames", ()):
        if getattr(frame, "file_name", None) == filename:
            return int(getattr(frame, "line_num", 0) or getattr(frame, "start_line", 0)) or None
    return None


def _cost(equation: Any, is_heavy: bool = False) -> float:
    """Return about how many nanoseconds an equation takes: what it reads and writes, and its operations on numbers.

    `is_heavy`: what may be heavy is.
    """
    name = equation.primitive.name
    factor = _HEAVIER.get(name, 1.0) if is_heavy else 1.0
    inner = sum(_cost(one, is_heavy) for body, _ in _bodies(equation) for one in body.eqns)
    if inner:
        return factor * inner * float(equation.params.get("length", 1) or 1)
    if name in _SHAPES:
        return _LEAST * _BYTE
    moved = sum(_bytes(atom) for atom in (*equation.invars, *equation.outvars))
    return factor * (max(moved, _LEAST) * _BYTE + _operations(equation) * _FLOP)


def _bytes(atom: Any) -> float:
    aval = atom.aval
    size = math.prod(getattr(aval, "shape", ()) or (1,))
    return float(size * getattr(getattr(aval, "dtype", None), "itemsize", 4))


def _operations(equation: Any) -> float:
    name = equation.primitive.name
    out = sum(math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return float(2 * out * math.prod(shape[axis] for axis in contracted))
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = equation.params["dimension_numbers"].rhs_spec[0]
        return float(2 * out * math.prod(kernel) / max(kernel[features], 1))
    shape = getattr(equation.invars[0].aval, "shape", ()) if equation.invars else ()
    if name in _FACTORISATIONS or name == "triangular_solve":
        return float(2 * math.prod(shape) * (shape[-1] if shape else 1))
    return float(out)
