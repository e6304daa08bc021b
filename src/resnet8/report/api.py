"""The page of the public names, from their signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS = {
    "From Keras to a comparison": ("reproduce", "fetch", "convert", "calibrate", "quantize", "evaluate", "compare"),
    "Looking into a model, and computing it": ("open_model", "open_integer", "inspect_operations", "inspect_graph"),
    "Questions about the arithmetic": (
        *("audit_agreement", "audit_requantization", "audit_exhaustively", "audit_accumulators", "audit_worked"),
        *("audit_noise", "audit_cim", "export_vectors", "export_c"),
    ),
    "How many bits": ("sweep", "sensitivity", "search", "audit_seeds"),
    "What they take and return": (
        *("Workers", "Conversion", "Recipe", "Quantized", "Requantization", "Array"),
        *("read_split", "read_onnx", "load", "save", "Resnet8Error"),
    ),
}
"""The public names in the order of the page."""

_WIDTH = 100
_PLAIN = re.compile(r"[\w.'(,) /-]*")
_HEADING = re.compile(r"(?P<name>Args|Attributes|Returns|Raises|Example):")
_ENTRY = re.compile(r"(?P<name>\w+): (?P<text>.*)", re.DOTALL)


def page() -> str:
    """``api``: every public name with its signature and docstring, as Markdown."""
    package = importlib.import_module("resnet8")  # its names are what it is about, and lie above this layer
    parts = []
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += [f"### {name}", *_described(f"resnet8.{name}", getattr(package, name))]
    return "\n\n".join(parts) + "\n"


def _described(name: str, thing: Any) -> Iterator[str]:
    yield f"```python\n{_signature(name, thing)}\n```"
    yield from _documented(thing)
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                yield from _described(f"{thing.__name__}.{method}", function)


def _signature(name: str, thing: Any) -> str:
    """How it is called; a parameter a line where one line is too short for all."""
    signature = inspect.signature(thing)
    returned = "" if inspect.isclass(thing) else f" -> {signature.return_annotation}"
    words = [_parameter(one) for one in signature.parameters.values() if one.name != "self"]
    keyword = [one.kind is one.KEYWORD_ONLY for one in signature.parameters.values() if one.name != "self"]
    if True in keyword:
        words.insert(keyword.index(True), "*")
    line = f"{name}({', '.join(words)}){returned}"
    return line if len(line) <= _WIDTH else "\n".join((f"{name}(", *(f"    {one}," for one in words), f"){returned}"))


def _parameter(one: inspect.Parameter) -> str:
    """A parameter with its type and default; a default that is no plain value is an ellipsis."""
    words = f"{one.name}: {one.annotation}"
    if one.default is one.empty:
        return words
    default = repr(one.default).replace("PosixPath", "Path")
    return f"{words} = {default if _PLAIN.fullmatch(default) else '…'}"


def _documented(thing: Any) -> Iterator[str]:
    """The paragraphs and sections of a docstring."""
    blocks = re.split(r"\n\n(?=\S)", inspect.getdoc(thing) or "")
    for block in blocks:
        first, _, rest = block.partition("\n")
        heading = _HEADING.fullmatch(first)
        if heading is None:
            yield _prose(block)
        elif heading["name"] == "Returns":
            yield f"**Returns**\n\n{_prose(rest)}"
        elif heading["name"] == "Example":
            yield f"```pycon\n{inspect.cleandoc(rest)}\n```"
        else:
            entries = re.split(r"\n(?=\S)", inspect.cleandoc(rest))
            yield f"**{heading['name']}**\n\n" + "\n".join(_listed(entry) for entry in entries)


def _listed(entry: str) -> str:
    named = _ENTRY.fullmatch(entry)
    return f"- {_prose(entry)}" if named is None else f"- `{named['name']}`: {_prose(named['text'])}"


def _prose(text: str) -> str:
    """One line of Markdown: names in their roles, and literals, as code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return " ".join(text.split())
