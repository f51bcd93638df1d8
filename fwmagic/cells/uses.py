"""What statements do with an object after they have bound a name to it: read it, fill it, or work on it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable

from fwmagic.cells.names import DEFINITIONS, names_of_expression, names_of_statements

# What is asked of an array without its numbers.
_LOOKS = {"shape", "dtype", "ndim", "device", "size", "dim", "numel", "nbytes", "itemsize", "layout", "requires_grad"}
_MAKES_CONTAINER = {"list", "dict", "set", "deque", "defaultdict", "OrderedDict"}


def used_again(statements: list[ast.stmt], name: str) -> bool:
    """Say whether what `name` holds last is read by a statement after that.

    A statement that only fills a container, such as `name[0] = x` or, for a list that the statements make,
    `name.append(x)`, counts as one that binds it. A definition that reads it does not count, for it may never be
    called; nor does `print`, which computes nothing, nor a look at its shape or dtype.
    """
    return _used_again(statements, name, name in _containers(statements))


def _used_again(statements: list[ast.stmt], name: str, is_container: bool) -> bool:
    def binds(statement: ast.stmt) -> bool:
        return name in names_of_statements([statement]).writes or name in _filled([statement], is_container)

    last = max((i for i, statement in enumerate(statements) if binds(statement)), default=None)
    if last is None:
        return False
    later = [s for s in statements[last + 1 :] if not isinstance(s, DEFINITIONS) and not _only_shows(s)]
    if _is_read(later, name):
        return True
    statement = statements[last]
    blocks = [getattr(statement, part, []) for part in ("body", "orelse", "finalbody")]
    blocks += [part.body for part in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]]
    if isinstance(statement, DEFINITIONS):
        return False
    if isinstance(statement, ast.For | ast.With) and not any(map(binds, statement.body)):
        return name in names_of_statements([s for s in statement.body if not _only_shows(s)]).reads
    return any(_used_again(block, name, is_container) for block in blocks if block)


def _is_read(statements: list[ast.stmt], name: str) -> bool:
    """Say whether statements read what a name stands for, and not only its shape, its dtype or the like."""
    if name not in names_of_statements(statements).reads:
        return False
    nodes = [node for statement in statements for node in ast.walk(statement)]
    loads = sum(isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) for node in nodes)
    return not loads or loads > sum(_is_look(node, name) for node in nodes)


def _is_look(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=attribute, ctx=ast.Load()):
            return owner == name and attribute in _LOOKS
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=owner)]):
            return owner == name
    return False


def _containers(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names that the statements bind to a list, dict or set that they make."""
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            value = node.value
            called = value.func if isinstance(value, ast.Call) else None
            makes = getattr(called, "attr", getattr(called, "id", "")) in _MAKES_CONTAINER
            if makes or isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def _filled(statements: Iterable[ast.stmt], by_methods: bool) -> set[str]:
    """Return the names into whose items the statements put something, by `name[0] = x` or `name.append(x)`."""
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(_of_items(target) for target in targets if isinstance(target, ast.Subscript))
        call = node.value if isinstance(node, ast.Expr) else None
        if by_methods and isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            found.add(_of_items(call.func.value) if call.args or call.keywords else "")
    return found - {""}


def _of_items(node: ast.expr) -> str:
    """Return `name` for `name`, `name[0]`, `name[0][1]` and so on, else an empty string."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def filled(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names into whose objects the statements put something.

    They set an item or attribute, or call a method with arguments and drop what it returns.
    """
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(_name_used(target) for target in targets if not isinstance(target, ast.Name))
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and (call.args or call.keywords):
            found.add(_name_used(call.func))
    return found - {""}


def worked_on(statements: list[ast.stmt]) -> set[str]:
    """Return the names whose objects the statements may change: they set an attribute, or drop what is returned.

    Filling a container that the statements make does not count: it is as good as binding its name.
    """
    containers = _containers(statements)
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(_name_used(target) for target in targets if not _of_items(target))
        if isinstance(node, ast.Expr) and not _only_shows(node) and not _filled([node], True) & containers:
            found.update(names_of_expression(node.value).reads)
    return found - {""}


def unread_entries(statements: Iterable[ast.stmt], last: ast.expr | None, but: Collection[str]) -> list[ast.expr]:
    """Return the entries of dicts that the statements make, fill, and never read: `parts["gram"]`.

    Only dicts count whose name stands for nothing but its entries, each under a constant, and is not among `but`.
    """
    top = list(statements)
    whole = [node for part in (*top, *([last] if last is not None else [])) for node in ast.walk(part)]
    found: list[ast.expr] = []
    for name in sorted(_containers(top) - {*but}):
        entries = [node for node in whole if isinstance(node, ast.Subscript) and _is_entry(node, name)]
        makes = [s for s in top if isinstance(s, ast.Assign) and isinstance(s.value, ast.Dict) and _binds(s, name)]
        mentions = sum(isinstance(node, ast.Name) and node.id == name for node in whole)
        if len(makes) != 1 or mentions != len(entries) + 1 or any(isinstance(e.ctx, ast.Del) for e in entries):
            continue
        targets = [target for s in top if isinstance(s, ast.Assign) for target in s.targets]
        filled = [e.slice for e in entries if any(e is target for target in targets)]
        filled += [key for key in makes[0].value.keys if isinstance(key, ast.Constant)]  # type: ignore[attr-defined]
        read = {ast.dump(e.slice) for e in entries if isinstance(e.ctx, ast.Load)}
        unread = {ast.dump(key): key for key in filled if ast.dump(key) not in read}
        found += [ast.Subscript(ast.Name(name, ast.Load()), key, ast.Load()) for key in unread.values()]
    return found


def _is_entry(node: ast.Subscript, name: str) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == name and isinstance(node.slice, ast.Constant)


def _binds(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)


def unused_values(
    statements: list[ast.stmt],
    pure: Collection[str],
    returns: Callable[[ast.Call], bool] = lambda call: False,
    in_loop: bool = False,
) -> list[int]:
    """Return the lines of values that the statements compute and do not read: a compiler leaves that work out.

    They are bound anew before they are read, in the next turn of a loop or by a later statement, or dropped at once
    by a call of a function of a module in `pure`, such as `jnp`, or by one that only `returns` something.
    """
    lines: list[int] = []
    for i, statement in enumerate(statements):
        if isinstance(statement, ast.For | ast.While | ast.With):
            loops = in_loop or not isinstance(statement, ast.With)
            lines += unused_values(statement.body, pure, returns, in_loop=loops)
        name = _name_computed(statement)
        rest = statements[i + 1 :]
        again = next((j for j, other in enumerate(rest) if name and _name_computed(other) == name), None)
        between = rest if again is None else rest[: again + 1]
        # In a loop, all of its body comes before the name is bound the next time.
        reads = names_of_statements(statements if in_loop else between).reads
        if (name and name not in reads and (in_loop or again is not None)) or _only_returns(statement, pure, returns):
            lines.append(statement.lineno)
    return sorted(lines)


def _name_computed(statement: ast.stmt) -> str:
    """Return the one name that a statement binds to what it computes, or an empty string."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return ""
    works = any(isinstance(node, ast.Call | ast.BinOp) for node in ast.walk(statement.value))
    return statement.targets[0].id if works and len(statement.targets) == 1 else ""


def _only_returns(statement: ast.stmt, pure: Collection[str], returns: Callable[[ast.Call], bool]) -> bool:
    """Say whether a statement drops what a function of arrays returns, which does nothing else."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.BinOp):
        return True
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=function), keywords=keywords):
            changes = function.endswith("_") or function.startswith(("set_", "manual_", "use_"))
            if module in pure:
                return not changes and all(keyword.arg != "out" for keyword in keywords)
    return isinstance(call, ast.Call) and returns(call)


def _name_used(node: ast.expr) -> str:
    """Return the name with which `name.attribute`, `name[0].attribute` and the like begin, or an empty string."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _only_shows(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in {"print", "display"}
