"""Lines of code that do the same without a branch, a loop or an update in place, where that is mechanical."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence

from fwmagic.frameworks.traps import Change

_UPDATES = {ast.Add: "add", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power"}


def replaced(lines: Sequence[str], node: ast.AST, text: str) -> tuple[Change, ...]:
    """Return the change that puts `text` in place of an expression; none if it is on several lines."""
    first, last, start, end = _span(node)
    if first != last or not 0 < first <= len(lines):
        return ()
    line = lines[first - 1].encode()
    return (Change(first, first, (line[:start] + text.encode() + line[end:]).decode()),)


def statement(lines: Sequence[str], node: ast.stmt, text: str) -> tuple[Change, ...]:
    """Return the change that puts `text` in place of a whole statement, at its own depth."""
    first, last, start, _ = _span(node)
    indent = lines[first - 1][:start] if 0 < first <= len(lines) else ""
    return (Change(first, last, "\n".join(indent + row for row in text.splitlines())),)


def _span(node: ast.AST) -> tuple[int, int, int, int]:
    return tuple(getattr(node, name, 0) or 0 for name in ("lineno", "end_lineno", "col_offset", "end_col_offset"))  # type: ignore[return-value]


def without_branch(
    lines: Sequence[str], path: Sequence[ast.AST], where: str, condition: Callable[[ast.expr], str] = ast.unparse
) -> tuple[Change, ...]:
    """Return the changes that turn a branch on a value into a choice among two values by the function `where`.

    That is a conditional expression, or an `if` both of whose ways return, or bind the same single name. `condition`
    returns how what is asked is written without a branch.
    """
    for node, above in zip(reversed(path), [*reversed(path[:-1]), None], strict=True):
        if isinstance(node, ast.IfExp):
            chosen = f"{where}({condition(node.test)}, {ast.unparse(node.body)}, {ast.unparse(node.orelse)})"
            return replaced(lines, node, chosen)
        if isinstance(node, ast.If):
            return _without_if(lines, node, above, where, condition(node.test))
        if isinstance(node, ast.stmt):
            return ()
    return ()


def _without_if(lines: Sequence[str], node: ast.If, above: ast.AST | None, where: str, test: str) -> tuple[Change, ...]:
    if len(node.body) != 1 or len(node.orelse) > 1:
        return ()
    (then,) = node.body
    other: ast.stmt | None = node.orelse[0] if node.orelse else None
    if isinstance(then, ast.Return) and then.value is not None:
        rest = other or _next(above, node)
        if not isinstance(rest, ast.Return) or rest.value is None:
            return ()
        made = f"return {where}({test}, {ast.unparse(then.value)}, {ast.unparse(rest.value)})"
        (change,) = statement(lines, node, made)
        return (Change(change.first, max(change.last, rest.end_lineno or 0), change.text),)
    name, value = _bound(then)
    if not name:
        return ()
    if other is None:
        return statement(lines, node, f"{name} = {where}({test}, {value}, {name})")
    other_name, other_value = _bound(other)
    if other_name != name:
        return ()
    return statement(lines, node, f"{name} = {where}({test}, {value}, {other_value})")


def _bound(node: ast.stmt) -> tuple[str, str]:
    """Return the one name that a statement binds, and its new value as text; empty strings if there is none."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, ast.unparse(node.value)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return node.target.id, ast.unparse(ast.BinOp(ast.Name(node.target.id), node.op, node.value))
    return "", ""


def _next(above: ast.AST | None, node: ast.stmt) -> ast.stmt | None:
    body = getattr(above, "body", [])
    place = next((i for i, one in enumerate(body) if one is node), len(body))
    return body[place + 1] if place + 1 < len(body) else None


def without_update(lines: Sequence[str], node: ast.AST | None, convert: str = "") -> tuple[Change, ...]:
    """Return the change that turns `x[i] = v` into `x = x.at[i].set(v)`, or into `x = convert(x).at[i].set(v)`."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, method = node.targets[0], "set"
    elif isinstance(node, ast.AugAssign):
        target, method = node.target, _UPDATES.get(type(node.op), "")
    else:
        return ()
    value = ast.unparse(node.value)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub):
        method, value = "add", f"-({value})"
    if not isinstance(target, ast.Subscript) or not method:
        return ()
    array, place = ast.unparse(target.value), ast.unparse(target.slice)
    old = f"{convert}({array})" if convert else array
    return statement(lines, node, f"{array} = {old}.at[{place}].{method}({value})")


def without_mask(
    lines: Sequence[str], mask: ast.Subscript | None, around: Iterable[ast.AST], where: str
) -> tuple[Change, ...]:
    """Return the change of `x[x > 0].sum()`, in which what is left out counts as zero."""
    summed = any(isinstance(one, ast.Attribute) and one.value is mask and one.attr == "sum" for one in around)
    if mask is None or not summed:
        return ()
    return replaced(lines, mask, f"{where}({ast.unparse(mask.slice)}, {ast.unparse(mask.value)}, 0)")


def without_loop(lines: Sequence[str], node: ast.AST | None, loop: str) -> tuple[Change, ...]:
    """Return the change that turns `for i in range(n)` with one statement, `x = f(i, x)`, into a call of `loop`."""
    if not isinstance(node, ast.For) or not isinstance(node.target, ast.Name) or len(node.body) != 1 or node.orelse:
        return ()
    call = node.iter
    if not isinstance(call, ast.Call) or len(call.args) not in (1, 2):
        return ()
    name, value = _bound(node.body[0])
    if not name:
        return ()
    first, last = (["0", *map(ast.unparse, call.args)])[-2:]
    return statement(lines, node, f"{name} = {loop}({first}, {last}, lambda {node.target.id}, {name}: {value}, {name})")


def printed_by(call: ast.Call, function: str) -> str:
    """Return a call of `print` as one of a function that takes a format and its values; empty if it cannot be one."""
    if call.keywords:
        return ""
    pieces, values = [], []
    for argument in call.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            pieces.append(_braced(argument.value))
        elif isinstance(argument, ast.JoinedStr):
            text = ""
            for part in argument.values:
                if isinstance(part, ast.Constant):
                    text += _braced(str(part.value))
                elif isinstance(part, ast.FormattedValue) and part.conversion == -1:
                    spec = part.format_spec
                    if spec is not None and not all(
                        isinstance(one, ast.Constant) for one in getattr(spec, "values", ())
                    ):
                        return ""
                    form = "" if spec is None else "".join(str(one.value) for one in spec.values)  # type: ignore[attr-defined]
                    text += f"{{:{form}}}" if form else "{}"
                    values.append(ast.unparse(part.value))
                else:
                    return ""
            pieces.append(text)
        else:
            pieces.append("{}")
            values.append(ast.unparse(argument))
    return f"{function}({', '.join([repr(' '.join(pieces)), *values])})"


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def other_module(lines: Sequence[str], node: ast.AST | None, module: str) -> tuple[Change, ...]:
    """Return the change that takes a function from another module: `np.sin(x)` becomes `jnp.sin(x)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ()
    owner = node.func.value
    return replaced(lines, owner, module) if isinstance(owner, ast.Name) else ()


def applied(lines: Sequence[str], changes: Sequence[Change]) -> str:
    """Return a text with changes made."""
    new = list(lines)
    for change in sorted(changes, key=lambda one: one.first, reverse=True):
        new[change.first - 1 : change.last] = change.text.splitlines()
    return "\n".join(new)
