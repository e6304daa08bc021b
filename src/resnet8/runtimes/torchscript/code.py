"""The code of a TorchScript archive, checked as text: it can do nothing but compute a small network."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from resnet8.runtimes.torchscript.refusal import DEPTH, refuse, require

if TYPE_CHECKING:
    from pathlib import Path

CODE = 2**20
"""Characters of code at most."""
_CONSTANT = 2**16
_PADDING = 64
_LOOPS = 2
_TURNS = 8
_EXTENSIONS = 2

_TORCH = frozenset(
    (
        *("_convolution", "conv2d", "linear", "addmm", "matmul", "mm", "add", "add_", "mul", "mul_", "sub", "relu"),
        *("relu_", "softmax", "batch_norm", "pad", "permute", "transpose", "t", "contiguous", "flatten", "reshape"),
        *("view", "squeeze", "mean", "avg_pool2d", "adaptive_avg_pool2d", "clamp", "quantize_per_tensor"),
        *("dequantize", "len", "size", "eq", "ne", "append", "extend"),
    )
)
_QUANTIZED = frozenset(
    (
        *("conv2d", "conv2d_relu", "linear", "linear_relu", "mul", "mul_relu", "add", "add_relu", "matmul", "softmax"),
        *("conv2d_prepack", "linear_prepack"),
    )
)
_TYPES: dict[str, tuple[int, tuple[int | None, ...]]] = {
    "quantize_per_tensor": (3, (12, 13)),
    "softmax": (2, (None,)),
    "mean": (3, (None,)),
    "contiguous": (1, (0,)),
}
"""Where an operator's argument is the number of a type, and which may stand there: PyTorch does not check others."""
_BUILT_IN = frozenset(("getattr", "annotate", "range", "int", "float", "bool", "unchecked_cast"))
_METHODS = {"forward": 3, "__getstate__": 2, "__setstate__": 2, "set_weight_bias": 1, "_weight_bias": 1}
_METHODS |= {"unpack": 0, "__code_getter": 0}
"""A method may call those of lower rank; ``forward`` those of submodules too."""
_NODES = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.AnnAssign, ast.Return),
    *(ast.Expr, ast.If, ast.For, ast.Pass, ast.Call, ast.Attribute, ast.Name, ast.Constant, ast.List, ast.Tuple),
    *(ast.Subscript, ast.UnaryOp, ast.USub, ast.Load, ast.Store),
)


def check_code(path: Path, code: dict[str, str]) -> set[str]:
    """Check the files of code, and return the full names of the classes they define.

    Args:
        path: Names the archive in errors.
        code: The texts by the names of their members, ``code/__torch__/….py``.

    Raises:
        ModelError: when the code could do anything but compute, or exceeds a limit.
    """
    length = sum(map(len, code.values()))
    require(path, length <= CODE, f"{length:,} characters of code", f"at most {CODE:,}")
    parsed = {name: _parsed(path, name, text) for name, text in code.items()}
    functions, classes = (
        {
            f"{name.removeprefix('code/').removesuffix('.py').replace('/', '.')}.{one.name}"
            for name, tree in parsed.items()
            for one in tree.body
            if isinstance(one, kind)
        }
        for kind in (ast.FunctionDef, ast.ClassDef)
    )
    for name, tree in parsed.items():
        _Code(path, name, functions).check(tree)
    loops = sum(isinstance(node, ast.For) for tree in parsed.values() for node in ast.walk(tree))
    require(path, loops <= _LOOPS, f"{loops} loops")
    return classes


def _parsed(path: Path, name: str, text: str) -> ast.Module:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        refuse(path, f"{name}: {type(error).__name__}", "TorchScript code")
    require(path, _deepest(tree) <= DEPTH, f"{name}, which is nested too deep", f"at most {DEPTH} levels")
    return tree


def _deepest(tree: ast.AST) -> int:
    level, depth = [tree], 0
    while level and depth <= DEPTH:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` of an attribute of attributes of a name; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


@dataclass
class _Code:
    """One file of the code.

    Attributes:
        functions: The archive's functions, by their full names.
    """

    path: Path
    member: str
    functions: set[str]

    def check(self, tree: ast.Module) -> None:
        """Refuse what the archive must not hold."""
        bodies: set[int] = set()
        for node in ast.walk(tree):
            self._require(isinstance(node, _NODES), node, type(node).__name__)
            if isinstance(node, ast.FunctionDef):
                self._signature(node)
                bodies |= {id(part) for statement in node.body for part in ast.walk(statement)}
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                self._require(abs(node.value) <= _CONSTANT, node, f"the number {node.value!s:.30}")
        for node in ast.walk(tree):  # whatever is called elsewhere is called when the file is loaded
            self._require(id(node) in bodies or not isinstance(node, ast.Call), node, "a call outside of functions")
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self._class(node)
            else:
                self._require(isinstance(node, ast.FunctionDef), node, "a statement outside of functions")
                self._function(node, rank=0)

    def _class(self, node: ast.ClassDef) -> None:
        bases = [_dotted(base) for base in node.bases]
        self._require(bases == ["Module"] and not node.keywords + node.decorator_list, node, f"the class {node.name}")
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef):
                self._require(inner.name in _METHODS, inner, f"the method {inner.name}")
                first = [argument.arg for argument in inner.args.args[:1]]
                self._require(first == ["self"], inner, f"a method of {', '.join(first) or 'nothing'}")
                self._function(inner, rank=_METHODS[inner.name])
                continue
            self._require(isinstance(inner, ast.Assign | ast.AnnAssign | ast.Pass), inner, "a statement")

    def _signature(self, function: ast.FunctionDef) -> None:
        given = function.args
        parts = list(ast.iter_child_nodes(given))
        plain = all(isinstance(part, ast.Constant) for part in given.defaults)
        plain = plain and len(parts) == len(given.args) + len(given.defaults)
        self._require(plain, function, "an argument with a computed default value, or of an unusual kind")
        taken = {argument.arg for argument in given.args} & (_BUILT_IN | {"torch", "ops", "__torch__"})
        self._require(not taken, function, f"an argument called {', '.join(taken)}")

    def _function(self, function: ast.stmt, rank: int) -> None:
        """Check a method of this ``rank``, or a function, which has rank 0."""
        assert isinstance(function, ast.FunctionDef)  # noqa: S101 - for mypy
        self._require(not function.decorator_list, function, "a decorator")
        nodes = [part for statement in function.body for part in ast.walk(statement)]
        called = {id(inner) for part in nodes if isinstance(part, ast.Call) for inner in ast.walk(part.func)}
        values = self._values(nodes)
        forwarded: set[_Path] = set()
        for part in nodes:
            if isinstance(part, ast.FunctionDef | ast.ClassDef):
                self._refuse(part, "a function within a function")
            if isinstance(part, ast.AnnAssign):
                self._refuse(part, "an annotated value in a function")
            if isinstance(part, ast.Attribute) and id(part) not in called:
                self._require(_dotted(part).partition(".")[0] not in ("torch", "ops"), part, "an operator as a value")
            if isinstance(part, ast.For):
                self._loop(part, rank, function)
            if isinstance(part, ast.Call):
                self._call(part, rank, values, forwarded)
        extensions = sum(_dotted(part.func) == "torch.extend" for part in nodes if isinstance(part, ast.Call))
        self._require(extensions <= _EXTENSIONS, function, "lists that grow")

    def _values(self, nodes: list[ast.AST]) -> dict[str, _Path]:
        """What local names stand for, if they are assigned once: a part of ``self``, or a function of the archive."""
        found: dict[str, _Path] = {"self": ("self",)}
        for part in sorted((part for part in nodes if isinstance(part, ast.Assign)), key=lambda part: part.lineno):
            names = [one.id for target in part.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            for name in names:
                found[name] = () if name in found else _meaning(part.value, found)
        return found

    def _loop(self, loop: ast.For, rank: int, function: ast.FunctionDef) -> None:
        turns = loop.iter.args[0] if isinstance(loop.iter, ast.Call) and len(loop.iter.args) == 1 else None
        short = isinstance(turns, ast.Constant) and isinstance(turns.value, int) and turns.value <= _TURNS
        over_list = isinstance(turns, ast.Name) and any(
            isinstance(part, ast.Assign)
            and [_dotted(target) for target in part.targets] == [turns.id]
            and isinstance(part.value, ast.Call)
            and _dotted(part.value.func) == "torch.len"
            for part in function.body
        )
        is_range = isinstance(loop.iter, ast.Call) and _dotted(loop.iter.func) == "range"
        self._require(rank == 0 and is_range and (short or over_list), loop, "a loop")

    def _call(self, call: ast.Call, rank: int, values: dict[str, _Path], forwarded: set[_Path]) -> None:
        self._require(not call.keywords, call, "an argument by name")
        name = _dotted(call.func)
        root, _, last = name.rpartition(".")
        target = "".join(values.get(name, (name,))[:1])
        if root == "torch":
            self._require(last in _TORCH, call, f"the operator {name}")
            place, types = _TYPES.get(last, (0, ()))
            for one in call.args[place : place + 1] if types else ():
                self._require(isinstance(one, ast.Constant) and one.value in types, one, f"a data type of {name}")
            if last == "pad":
                numbers = [part.value for part in ast.walk(call) if isinstance(part, ast.Constant)]
                small = all(abs(one) <= _PADDING for one in numbers if isinstance(one, int))
                self._require(small, call, "padding of more than the map")
        elif root in ("ops.quantized", "ops.prim"):
            operators = _QUANTIZED if root == "ops.quantized" else {"RaiseException"}
            self._require(last in operators, call, f"the operator {name}")
        elif name in _BUILT_IN and name not in values:
            return
        elif target.startswith("__torch__."):  # an alias has one meaning: the whole name
            self._require(target in self.functions and rank > 0, call, f"a call of {target}")
        elif last == "forward":
            receiver = values.get(root, ())
            self._require(
                rank == _METHODS["forward"] and len(receiver) > 1 and receiver[0] == "self", call, "a call of forward"
            )
            # Of a submodule and what is within it, one is called: then each submodule of the file runs once at most.
            twice = any(receiver[: len(one)] == one[: len(receiver)] for one in forwarded)
            self._require(not twice, call, "a submodule that is called twice")
            forwarded.add(receiver)
        else:
            known = "." not in root and root not in ("", "torch", "ops") and _METHODS.get(last, rank) < rank
            self._require(known, call, f"a call of {name or ast.unparse(call.func)[:60]}")

    def _require(self, condition: bool, node: ast.AST, found: str) -> None:
        if not condition:
            self._refuse(node, found)

    def _refuse(self, node: ast.AST, found: str) -> NoReturn:
        line = f":{node.lineno}" if isinstance(node, ast.stmt | ast.expr) else ""
        refuse(self.path, f"{found} ({self.member}{line})", "code that computes a small network and does nothing else")


_Path = tuple[str, ...]
"""``("self", "a", "b")`` for ``self.a.b``, ``("__torch__.f",)`` for a function; empty for any other value."""


def _meaning(value: ast.expr, known: dict[str, _Path]) -> _Path:
    if isinstance(value, ast.Call) and _dotted(value.func) == "getattr" and len(value.args) == 2:
        owner, name = value.args
        path = _meaning(owner, known)
        return (*path, str(name.value)) if path and isinstance(name, ast.Constant) else ()
    root, *attributes = _dotted(value).split(".")
    if root == "__torch__":
        return (_dotted(value),)
    return (*known[root], *attributes) if known.get(root) else ()
