"""A pickle of a TorchScript archive, followed instruction by instruction without building anything."""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from resnet8.errors import ModelError
from resnet8.runtimes.torchscript.refusal import DEPTH, refuse

if TYPE_CHECKING:
    from pathlib import Path

_PACKED = frozenset(f"__torch__.torch.classes.quantized.{kind}PackedParamsBase" for kind in ("Conv2d", "Linear"))
_STORAGES = {
    f"torch {name}Storage": size
    for size, names in {1: "QInt8 QUInt8 Char Byte Bool", 2: "Short", 4: "Float Int QInt32", 8: "Double Long"}.items()
    for name in names.split()
}
_FUNCTIONS = frozenset(
    ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_qtensor", "collections OrderedDict")
) | {f"torch.jit._pickle {name}" for name in ("restore_type_tag", "build_intlist", "build_doublelist")}
_SCHEMES = frozenset(("torch per_tensor_affine", "torch per_channel_affine"))


def check_pickle(path: Path, member: str, data: bytes, classes: set[str], sizes: dict[str, int]) -> set[str]:
    """Check one pickle of the archive, and return the types of the tensors in it, such as ``QInt8``.

    Args:
        path: Names the archive in errors.
        member: The pickle's name in it.
        data: Its content.
        classes: Those that the archive's code defines, by their full names.
        sizes: Bytes of each member, for the storages.

    Raises:
        ModelError: when it builds anything but what a small network needs.
    """
    pickle = _Pickle(path, member, classes | _PACKED, sizes)
    pickle.check(data)
    return pickle.types


@dataclass(eq=False)
class _Value:
    """A value on the stack of a pickle: its kind, what is known of it, and how deep it is nested."""

    kind: str
    content: object = None
    depth: int = 1
    items: list[_Value] = field(default_factory=list)


_MARK = _Value("mark")
_PLAIN = frozenset(("number", "text", "none", "global", "tuple", "tensor"))
_SCALARS = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), "number"),
    **dict.fromkeys(("NEWTRUE", "NEWFALSE"), "number"),
    "BINUNICODE": "text",
    "NONE": "none",
}
_EMPTY = {"EMPTY_TUPLE": "tuple", "EMPTY_LIST": "list", "EMPTY_DICT": "dict"}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Pickle:
    """One pickle of the archive, followed instruction by instruction without building anything.

    Attributes:
        classes: The classes it may make objects of, by their full names.
        sizes: Bytes of each member, for the storages.
        types: Of the storages so far, by PyTorch's names.
    """

    path: Path
    member: str
    classes: set[str]
    sizes: dict[str, int]
    stack: list[_Value] = field(default_factory=list)
    memo: dict[int, _Value] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)

    def check(self, data: bytes) -> None:
        """Follow it to its end."""
        try:
            for operation, argument, _ in pickletools.genops(data):
                self._step(operation.name, argument)
        except ModelError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            self._refuse(f"{type(error).__name__}: {error!s:.80}")

    def _step(self, name: str, argument: object) -> None:
        if name in ("PROTO", "STOP"):
            return
        if name in ("BINPUT", "LONG_BINPUT"):
            number = int(str(argument))  # torch makes room for every number up to it
            self._require(number <= len(self.memo), f"a value remembered as number {number:,}")
            self.memo[number] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            value = self.memo[int(str(argument))]
            self._require(value.kind in _PLAIN, f"one {value.kind} in two places")
            self.stack.append(value)
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in _SCALARS:
            self.stack.append(_Value(_SCALARS[name], argument))
        elif name in _EMPTY:
            self.stack.append(_Value(_EMPTY[name]))
        elif name == "GLOBAL":
            self.stack.append(self._global(str(argument)))
        else:
            self._build(name)

    def _build(self, name: str) -> None:
        """Instructions that take values from the stack."""
        if name in _SHORT_TUPLES:
            self._tuple([self.stack.pop() for _ in range(_SHORT_TUPLES[name])][::-1])
        elif name == "TUPLE":
            self._tuple(self._marked())
        elif name in ("APPEND", "SETITEM", "BUILD"):
            items = [self.stack.pop() for _ in range(2 if name == "SETITEM" else 1)]
            self._put(name, items)
        elif name in ("APPENDS", "SETITEMS"):
            self._put(name, self._marked())
        elif name == "NEWOBJ":
            _, kind = self.stack.pop(), self.stack.pop()
            self._require(kind.kind == "global" and kind.content in self.classes, "an object of an unknown class")
            self.stack.append(_Value("object"))
        elif name == "BINPERSID":
            self.stack.append(self._storage(self.stack.pop()))
        elif name == "REDUCE":
            arguments, function = self.stack.pop(), self.stack.pop()
            self.stack.append(self._reduced(function, arguments))
        else:
            self._refuse(f"the instruction {name}")

    def _marked(self) -> list[_Value]:
        items: list[_Value] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _tuple(self, items: list[_Value]) -> None:
        self.stack.append(self._deeper(_Value("tuple", items=items), items))

    def _put(self, name: str, items: list[_Value]) -> None:
        target = self.stack[-1]
        kinds = {"APPEND": "list", "APPENDS": "list", "BUILD": "object"}
        self._require(target.kind == kinds.get(name, "dict"), f"{name} for a {target.kind}")
        self._deeper(target, items)

    def _deeper(self, value: _Value, items: list[_Value]) -> _Value:
        value.depth = max([value.depth, *(item.depth + 1 for item in items)])
        self._require(value.depth <= DEPTH, "values that are nested too deep")
        return value

    def _global(self, argument: str) -> _Value:
        name = argument.replace(" ", ".") if argument.startswith("__torch__.") else argument
        known = name in self.classes or name in _FUNCTIONS or name in _STORAGES or name in _SCHEMES
        self._require(known, f"the name {argument[:80]}")
        return _Value("global", name)

    def _storage(self, value: _Value) -> _Value:
        """``("storage", type, key, "cpu", count)``, as long as its member."""
        what, kind, key, device, count = (item.content for item in value.items)
        size = _STORAGES.get(str(kind), 0) * int(str(count))
        folder = "constants" if self.member == "constants.pkl" else "data"
        fits = (what, device) == ("storage", "cpu") and self.sizes.get(f"{folder}/{key}") == size
        self._require(fits, f"a storage of {size:,} bytes called {str(key)[:20]}")
        self.types.add(str(kind).removeprefix("torch ").removesuffix("Storage"))
        return _Value("storage", count)

    def _reduced(self, function: _Value, arguments: _Value) -> _Value:
        name = str(function.content)
        self._require(function.kind == "global" and name in _FUNCTIONS, f"a call of {name[:80]}")
        if name.startswith("torch._utils"):
            storage, offset, size, stride = arguments.items[:4]
            shape, steps = (tuple(int(str(item.content)) for item in part.items) for part in (size, stride))
            last = int(str(offset.content)) + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
            count = int(str(storage.content))
            numbers = (int(str(offset.content)), *shape, *steps)
            inside = min(numbers) >= 0 and (0 in shape or last < count) and math.prod(shape) <= count
            self._require(storage.kind == "storage" and inside, f"a tensor {shape} in a storage of {count}")
            return _Value("tensor")
        if name == "collections OrderedDict":
            return _Value("dict")
        self._require(bool(arguments.items), "a list without items")
        inner = arguments.items[0]
        return _Value("list", depth=inner.depth + 1)

    def _require(self, condition: bool, found: str) -> None:
        if not condition:
            self._refuse(found)

    def _refuse(self, found: str) -> NoReturn:
        refuse(self.path, f"{found} ({self.member})", "numbers, tensors and modules of a small network")
