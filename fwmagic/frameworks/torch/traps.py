"""The traps of torch: what breaks a graph, what its errors mean in the user's code, what goes wrong in silence."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fwmagic.errors import message_of
from fwmagic.frameworks.rewrite import other_module, replaced, statement, without_branch, without_mask
from fwmagic.frameworks.torch import compiler
from fwmagic.frameworks.traps import Change, Evidence, Failing, Inspector, Trap, column_beside_row, path_to_line

_NUMBERS = ("item", "tolist")
_SHAPED = {*("nonzero", "unique", "masked_select", "argwhere", "unique_consecutive")}
# So many compilations of one function are one too many.
_STORM = 3


def advise(failing: Failing, evidence: Evidence) -> Trap | None:
    """Return what an error means that torch raised, at a line of the user's code; None for any other error."""
    text = message_of(failing.error)
    line = failing.line if failing.own else None
    if type(failing.error).__module__.startswith("torch._dynamo"):
        line = compiler.explain(failing.error, evidence.file).line or line
        return _break(line, text, path_to_line(evidence.tree, line), evidence) if line is not None else None
    return next((advice(failing, evidence, line) for part, advice in _ADVICE if part in text), None)


def _leaf(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    node = failing.inside(ast.stmt)
    name = _changed(node)
    why = (
        f"`{name}` is a leaf that requires a gradient, and a change in place would be lost to autograd. "
        "An update of a parameter is none of the computation: make it under `torch.no_grad()`."
    )
    changes: tuple[Change, ...] = ()
    if isinstance(node, ast.AugAssign | ast.Expr | ast.Assign):
        changes = statement(evidence.text, node, f"with torch.no_grad():\n    {ast.unparse(node)}")
    return Trap("ordinary bug", "an update in place of a leaf", line, why, changes)


def _saved(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    changed = [one for one in evidence.lines if one.own and _is_update(one.node)]
    where = f": line {changed[-1].line} changes `{_changed(changed[-1].node)}`" if changed else ""
    why = (
        f"Going backward needs a value as it was in the forward pass, and it was changed in place since{where}. "
        "Write the update as a new value, `x = x + 1` instead of `x += 1`."
    )
    changes: tuple[Change, ...] = ()
    node = changed[-1].node if changed else None
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        new = f"{node.target.id} = {ast.unparse(ast.BinOp(ast.Name(node.target.id), node.op, node.value))}"
        changes = statement(evidence.text, node, new)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        base, method = ast.unparse(node.value.func.value), node.value.func.attr.removesuffix("_")
        arguments = ", ".join(map(ast.unparse, node.value.args))
        changes = statement(evidence.text, node, f"{base} = {base}.{method}({arguments})")
    return Trap("ordinary bug", "a value that going backward needs was changed", line, why, changes)


def _detached(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    cause = ""
    changes: tuple[Change, ...] = ()
    for one in evidence.lines:
        text = ast.unparse(one.node) if isinstance(one.node, ast.stmt) and not isinstance(one.node, _HEADS) else ""
        word = next((word for word in (".detach()", ".data", ".item()", "torch.tensor(") if word in text), "")
        if one.own and word:
            cause = f" Line {one.line} cuts it off: `{word}` makes a value without a history."
            if word == ".detach()" and isinstance(one.node, ast.stmt):
                changes = statement(evidence.text, one.node, text.replace(word, ""))
    for off in _without_gradients(evidence.tree):
        cause = f" Line {off} turns gradients off."
    why = f"No value that the loss was computed from requires a gradient, or the way to it was cut.{cause}"
    if not cause:
        why += " Make the parameters with `requires_grad=True`, and compute the loss from them."
    return Trap("ordinary bug", "a loss without a gradient", line, why, changes)


def _again(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    why = (
        "Going backward frees the values that it needed, so that a graph can be gone through once. "
        "Compute the loss anew for each `.backward()`, or keep the graph with `retain_graph=True`."
    )
    return Trap("ordinary bug", "a graph that is gone through twice", line, why)


def _device(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    why = (
        "Tensors on different devices cannot be computed with each other, and torch moves none by itself. "
        "Move one by `.to(other.device)`, best where it is made."
    )
    return Trap("ordinary bug", "tensors on different devices", line, why)


def _needs_numpy(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    call = failing.inside(ast.Call)
    why = (
        "NumPy keeps no history, so a tensor that requires a gradient cannot become an array of it. "
        "Stay in torch, or say by `.detach()` that no gradient is wanted here."
    )
    changes: tuple[Change, ...] = ()
    if call is not None and isinstance(call.func, ast.Attribute) and call.func.attr == "numpy":
        changes = replaced(evidence.text, call.func.value, f"{ast.unparse(call.func.value)}.detach()")
    return Trap("ordinary bug", "NumPy on a tensor that requires a gradient", line, why, changes)


def _no_parameters(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    why = (
        "The optimizer was given no parameters: a module finds only layers that are attributes of it, and none in a "
        "plain list or dictionary. Keep them in a `torch.nn.ModuleList` or `ModuleDict`."
    )
    changes: tuple[Change, ...] = ()
    for node in ast.walk(evidence.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
            continue
        if "nn." in ast.unparse(node.value) and ast.unparse(node.targets[0]).startswith("self."):
            changes = replaced(evidence.text, node.value, f"torch.nn.ModuleList({ast.unparse(node.value)})")
    return Trap("ordinary bug", "layers in a plain list", line, why, changes)


def _not_one_number(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    call = failing.inside(ast.Call)
    changes: tuple[Change, ...] = ()
    if call is not None and isinstance(call.func, ast.Attribute) and call.func.attr == "backward" and not call.args:
        changes = replaced(evidence.text, call.func.value, f"({ast.unparse(call.func.value)}).sum()")
    why = (
        "A gradient is one of a single number, and this has several. "
        "Add them up, by `.sum()` or `.mean()`, before `.backward()`."
    )
    return Trap("ordinary bug", "a gradient of several numbers", line, why, changes)


def _whole_numbers(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    why = (
        "Whole numbers have no slope, so that only tensors of floating point can require a gradient. "
        "Make it of `torch.float32`, as by `.float()`."
    )
    return Trap("ordinary bug", "a gradient of whole numbers", line, why)


def _dtype(failing: Failing, evidence: Evidence, line: int | None) -> Trap:
    why = (
        "The two sides have different dtypes, and a product of matrices converts none by itself. "
        "Convert one with `.to(other.dtype)`; data of NumPy is float64, parameters of torch are float32."
    )
    return Trap("ordinary bug", "dtypes that do not fit", line, why)


_ADVICE: list[tuple[str, Callable[[Failing, Evidence, int | None], Trap]]] = [
    ("leaf Variable that requires grad", _leaf),
    ("modified by an inplace operation", _saved),
    ("does not require grad and does not have a grad_fn", _detached),
    ("backward through the graph a second time", _again),
    ("on the same device", _device),
    ("is not on the expected device", _device),
    ("Can't call numpy() on Tensor that requires grad", _needs_numpy),
    ("same dtype", _dtype),
    ("optimizer got an empty parameter list", _no_parameters),
    ("grad can be implicitly created only for scalar outputs", _not_one_number),
    ("floating point and complex dtype can require gradients", _whole_numbers),
]
_HEADS = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.With, ast.Try)


def _without_gradients(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of blocks and functions in which no gradients are kept."""
    for node in ast.walk(tree):
        heads: list[ast.AST] = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
        heads += node.decorator_list if isinstance(node, ast.FunctionDef) else []
        yield from (head.lineno for head in heads if ast.unparse(head).startswith(_OFF))  # type: ignore[attr-defined]


_OFF = ("torch.no_grad", "torch.inference_mode", "no_grad", "inference_mode")


def _is_update(node: ast.AST | None) -> bool:
    if isinstance(node, ast.AugAssign):
        return True
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Subscript) for target in node.targets)
    call = node.value if isinstance(node, ast.Expr) else None
    called = call.func if isinstance(call, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr.endswith("_") and not called.attr.endswith("__")


def _changed(node: ast.AST | None) -> str:
    """Return what a statement changes in place, as it is written."""
    if isinstance(node, ast.AugAssign):
        target: ast.AST = node.target
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        target = node.value.func.value
    else:
        return "a tensor"
    while isinstance(target, ast.Subscript):
        target = target.value
    return ast.unparse(target)


# Silent ones


def suspects(evidence: Evidence) -> Iterator[Trap]:
    """Yield what breaks graphs, what is compiled too often, and what else goes wrong without an error."""
    yield from _drawn_by_inductor(evidence)
    seen: set[int] = set()
    for place in evidence.breaks:
        if place.line is not None and place.line not in seen:
            seen.add(place.line)
            path = path_to_line(evidence.tree, place.line)
            trap = _break(place.line, place.reason, path, evidence)
            at_the_end = trap.what in _HARMLESS_AT_THE_END and place.line >= evidence.tree.body[-1].lineno
            if not at_the_end and not _is_seed(path):
                yield trap
    by_line: dict[int | None, list[str]] = {}
    for place in evidence.recompiles:
        by_line.setdefault(place.line, []).append(place.reason)
    for line, reasons in by_line.items():
        if len(reasons) >= _STORM - 1:
            why = (
                f"The function was compiled {len(reasons) + 1} times, since what the program took for fixed was "
                f"another each time ({_guard(reasons[-1])}). Hand over a tensor instead of a Python number, or call "
                "it with one shape; after 8 times torch gives up, and runs it as Python."
            )
            yield Trap("Python value baked in", "compiled anew again and again", line, why)


def _drawn_by_inductor(evidence: Evidence) -> Iterator[Trap]:
    """Yield where what is compiled draws random numbers, in a cell that sets the seed."""
    seeds = any(isinstance(node, ast.Call) and _called(node) == "manual_seed" for node in ast.walk(evidence.tree))
    for one in evidence.lines if seeds else ():
        calls = [node for node in _head_nodes(one.node) if isinstance(node, ast.Call) and _called(node) in _DRAWING]
        if one.own and one.traced and one.function != "<module>" and calls:
            why = (
                f"`{ast.unparse(calls[0])}` is compiled, and Inductor draws in its own way: from the same seed, other "
                "numbers than eager torch. `torch._inductor.config.fallback_random = True` makes them the same, for a "
                "comparison."
            )
            yield Trap("numerical", "random numbers of the compiler's own", one.line, why)


def _is_seed(path: Sequence[ast.AST]) -> bool:
    """Say whether a statement of the cell itself, in no function, sets the seed: what follows it is the graph."""
    call = getattr(path[-1], "value", None) if len(path) == 2 else None
    return isinstance(call, ast.Call) and _called(call) == "manual_seed"


_DRAWING = {*("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "dropout", "bernoulli", "normal_")}


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _guard(reason: str) -> str:
    return reason.partition(": ")[2] or reason


def _break(line: int, reason: str, path: Sequence[ast.AST], evidence: Evidence) -> Trap:
    """Return why a graph ends in a line, and what to write instead."""
    what, because, changes = _what_breaks(reason, path, evidence.text)
    hint = _INSTEAD[what]
    return Trap("tracing restriction", what, line, f"{because} {hint}", changes)


# Behind the last line there is nothing more to compile.
_HARMLESS_AT_THE_END = ("a number out of a tensor", "`print`")
_INSTEAD = {
    "a branch on a value": "The graph ends here, and Python decides in each call; `torch.where` keeps one graph.",
    "a loop until a value": "The graph ends here, in each turn; a fixed number of turns would keep it whole.",
    "a number out of a tensor": "The graph ends here: Python waits for the number; keep the tensor until the end.",
    "`print`": "The graph ends here, so that Python can print; print after the compiled function.",
    "a shape that depends on values": "The graph ends here: later shapes are unknown; `torch.where` keeps the shape.",
    "NumPy on a tensor": "The graph ends here, since NumPy needs the numbers; torch has the same functions.",
    "a module that is made in what is compiled": "The graph ends here; make modules and optimizers in an earlier cell.",
    "a function that cannot be traced": "The graph ends here; call it outside of what is compiled.",
}


def _what_breaks(reason: str, path: Sequence[ast.AST], text: Sequence[str]) -> tuple[str, str, tuple[Change, ...]]:
    node = path[-1] if path else None
    inside = _head_nodes(node)
    code = ast.unparse(node).splitlines()[0] if node is not None else "this line"
    if isinstance(node, ast.While) and "branch" in reason:
        return "a loop until a value", f"`{ast.unparse(node.test)}` depends on the numbers in a tensor.", ()
    chosen = next((one for one in inside if isinstance(one, ast.IfExp)), None)
    if "branch" in reason or "Data-dependent" in reason or isinstance(node, ast.If | ast.Assert) or chosen is not None:
        test = getattr(chosen or node, "test", None)
        asked = f"`{ast.unparse(test)}`" if test is not None else f"`{code}`"
        return "a branch on a value", f"{asked} depends on the numbers in a tensor.", _choice(path, chosen, text)
    if "torch.nn.Parameter" in reason:
        what = "a module that is made in what is compiled"
        return what, f"`{code}` makes parameters, which a graph does not.", ()
    calls = [one for one in inside if isinstance(one, ast.Call)]
    for call in calls:
        name = _called(call)
        if name == "print":
            return "`print`", f"`{code}` is for Python, not for a graph.", ()
        if name in _NUMBERS or name in ("float", "int", "bool"):
            kept = replaced(text, call, ast.unparse(call.func.value)) if isinstance(call.func, ast.Attribute) else ()
            return "a number out of a tensor", f"`{ast.unparse(call)}` needs the number.", kept
        if name in _SHAPED:
            return "a shape that depends on values", f"The shape of `{ast.unparse(call)}` depends on values.", ()
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("np", "numpy"):
            changes = other_module(text, call, "torch")
            return "NumPy on a tensor", f"`{ast.unparse(call)}` hands a tensor to NumPy.", changes
    mask = next((one for one in inside if isinstance(one, ast.Subscript) and isinstance(one.slice, ast.Compare)), None)
    if mask is not None or "dynamic shape" in reason.lower():
        return (
            "a shape that depends on values",
            f"The shape of `{code}` depends on values.",
            without_mask(text, mask, inside, "torch.where"),
        )
    return "a function that cannot be traced", f"Dynamo says of `{code}`: {reason.rstrip('.')}.", ()


def _head_nodes(node: ast.AST | None) -> list[ast.AST]:
    if node is None:
        return []
    head = getattr(node, "test", None) or getattr(node, "iter", None) if isinstance(node, _HEADS) else node
    return list(ast.walk(head)) if head is not None else []


def _choice(path: Sequence[ast.AST], chosen: ast.IfExp | None, text: Sequence[str]) -> tuple[Change, ...]:
    return without_branch(text, path if chosen is None else [chosen], "torch.where")


class TorchInspector(Inspector):
    """Looks for updates that reach another name, gradients and graphs that pile up, and layers left in training."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int | None], Trap] = {}
        self._same: dict[str, str] = {}
        self._gone_backward: dict[int, Any] = {}
        self._stepped: dict[int, Any] = {}

    def look(self, node: ast.AST, line: int | None, values: Mapping[str, Any]) -> None:
        """Look at one statement."""
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            self._same.update((one.id, node.value.id) for one in node.targets if isinstance(one, ast.Name))
        if _is_update(node):
            name = _changed(node)
            self._look_at_shared(name, line, values)
            if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
                self._look_at_sum(node, line, values)
        if isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            self._look_at_mode(node.value, line, values)
            self._look_at_step(node.value, line, values)
        for inner in ast.walk(node) if isinstance(node, ast.Assign | ast.Expr | ast.Return) else ():
            if isinstance(inner, ast.BinOp):
                sides = (side.id for side in (inner.left, inner.right) if isinstance(side, ast.Name))
                tensors = {name: values.get(name) for name in sides}
                shapes = {n: tuple(t.shape) for n, t in tensors.items() if isinstance(t, torch.Tensor)}
                self._add(column_beside_row(inner, line, shapes))

    def found(self) -> list[Trap]:
        """Return what was found, once a line."""
        return list(self._found.values())

    def _look_at_shared(self, name: str, line: int | None, values: Mapping[str, Any]) -> None:
        tensor = values.get(name)
        place = _storage(tensor)
        if place is None:
            return
        others = [n for n, other in values.items() if other is not tensor and _storage(other) == place]
        others += [two for pair in self._same.items() for one, two in (pair, pair[::-1]) if one == name]
        others = [other for other in others if _storage(values.get(other)) == place]
        if not others:
            return
        why = (
            f"`{name}` shares its memory with `{others[0]}`, so that this line changes `{others[0]}`, too. "
            f"Write `{name} = {name} + ...` for a new tensor, or make `{name}` with `.clone()`."
        )
        self._add(Trap("ordinary bug", "storage that two names share", line, why))

    def _look_at_sum(self, node: ast.AugAssign, line: int | None, values: Mapping[str, Any]) -> None:
        added = values.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if id(added) not in self._gone_backward:
            return
        name = ast.unparse(node.value)
        why = (
            f"`{name}` keeps the graph that it was computed by, and the sum keeps those of all turns. "
            f"Add the number alone, by `{name}.item()` or `{name}.detach()`."
        )
        self._add(Trap("ordinary bug", "a sum that keeps every graph", line, why))

    def _look_at_step(self, call: ast.Call, line: int | None, values: Mapping[str, Any]) -> None:
        """Look for gradients of an earlier step that are still there when new ones are added to them."""
        if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
            return
        owner, method = values.get(call.func.value.id), call.func.attr
        if method == "backward" and isinstance(owner, torch.Tensor):
            self._gone_backward[id(owner)] = owner
            groups = (group for optimizer in self._stepped.values() for group in optimizer.param_groups)
            grads = (one.grad for group in groups for one in group["params"])
            if any(grad is not None and bool(grad.any()) for grad in grads):
                why = (
                    "`.backward()` adds to the gradients that are there, and those of the last step still are. "
                    "Call `.zero_grad()` of the optimizer before it, in each turn."
                )
                self._add(Trap("ordinary bug", "gradients that add up", line, why))
            self._stepped.clear()
        elif method == "step" and isinstance(owner, torch.optim.Optimizer):
            self._stepped[id(owner)] = owner

    def _look_at_mode(self, call: ast.Call, line: int | None, values: Mapping[str, Any]) -> None:
        module = values.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if not isinstance(module, torch.nn.Module) or torch.is_grad_enabled():
            return
        name = ast.unparse(call.func)
        for layer in module.modules():
            if layer.training and isinstance(layer, _OF_MODE):
                kind = type(layer).__name__
                why = (
                    f"No gradient is wanted here, and `{name}` is in training: its {kind} changes its result at "
                    f"random, or by the other entries of the batch. Call `{name}.eval()` before, and "
                    f"`{name}.train()` afterwards."
                )
                self._add(Trap("ordinary bug", "a layer that is left in training", line, why))
                return

    def _add(self, trap: Trap | None) -> None:
        if trap is not None:
            self._found.setdefault((trap.what, trap.line), trap)


_OF_MODE = (
    *(torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout),
    *(torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm),
)


def _storage(value: Any) -> int | None:
    """Return where the memory of a tensor, or an array of NumPy, begins; None if it is neither, or has none."""
    if isinstance(value, np.ndarray):
        return int(value.__array_interface__["data"][0])
    if not isinstance(value, torch.Tensor) or value.is_meta or value.layout != torch.strided:
        return None
    try:
        return value.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):  # a tensor that stands for others
        return None
