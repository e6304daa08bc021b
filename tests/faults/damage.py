"""Damaged inputs, made from whole ones: cut, flipped, and edited by their structure with valid checksums. Seeded."""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

Damage = tuple[str, bytes]
"""What was done, in words, and the damaged content."""

_NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, -(2**31), 2**31 - 1, 2**63 - 1, -(2**63))
_REALS = (0.0, -1.0, 1e-45, 1e30, float("inf"), float("-inf"), float("nan"))


def cut(content: bytes, rng: random.Random) -> Damage:
    """A file that ends too early."""
    size = rng.randrange(len(content) + 1)
    return f"cut to {size} bytes", content[:size]


def flipped(content: bytes, rng: random.Random) -> Damage:
    """One to three bits turned over."""
    altered = bytearray(content)
    places = [rng.randrange(len(content) * 8) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    for place in places:
        altered[place // 8] ^= 1 << place % 8
    return f"bits {', '.join(map(str, places))} flipped", bytes(altered)


def inserted(content: bytes, rng: random.Random) -> Damage:
    """Random bytes put in, or a stretch taken out."""
    place, size = rng.randrange(len(content) + 1), rng.randrange(1, 65)
    if rng.random() < 0.5:
        return f"{size} bytes inserted at {place}", content[:place] + rng.randbytes(size) + content[place:]
    return f"{size} bytes missing at {place}", content[:place] + content[place + size :]


# ONNX


def onnx_edited(content: bytes, rng: random.Random) -> Damage:
    """A valid protobuf of another graph."""
    model = onnx.load_model_from_string(content)
    words = rng.choice(_ONNX_EDITS)(model, rng)
    return words, model.SerializeToString()


def _a_node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto:
    return rng.choice(model.graph.node)


def _without_node(model: onnx.ModelProto, rng: random.Random) -> str:
    index = rng.randrange(len(model.graph.node))
    del model.graph.node[index]
    return f"node {index} removed"


def _moved_node(model: onnx.ModelProto, rng: random.Random) -> str:
    nodes = list(model.graph.node)
    one, other = rng.randrange(len(nodes)), rng.randrange(len(nodes))
    nodes[one], nodes[other] = nodes[other], nodes[one]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return f"nodes {one} and {other} exchanged"


def _other_operator(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _a_node(model, rng)
    names = ("Relu", "Conv", "Add", "MatMul", "Softmax", "Identity", "Loop", "If", "Nothing", "", "QLinearConv", "Clip")
    node.op_type = rng.choice((*names, _a_node(model, rng).op_type))
    return f"{node.name} is {node.op_type!r}"


def _other_domain(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _a_node(model, rng)
    node.domain = rng.choice(("com.microsoft", "evil", "ai.onnx", "ai.onnx.ml"))
    return f"{node.name} of {node.domain}"


def _other_input(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _a_node(model, rng)
    if not node.input:
        return "nothing"
    index = rng.randrange(len(node.input))
    others = ("", "nowhere", rng.choice(_a_node(model, rng).output), rng.choice(model.graph.initializer).name)
    node.input[index] = rng.choice(others)
    return f"input {index} of {node.name} is {node.input[index]!r}"


def _fewer_inputs(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _a_node(model, rng)
    if node.input:
        del node.input[rng.randrange(len(node.input))]
    return f"{node.name} has {len(node.input)} inputs"


def _other_output(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _a_node(model, rng)
    node.output[0] = rng.choice(("", "elsewhere", _a_node(model, rng).output[0], model.graph.input[0].name))
    return f"{node.name} writes {node.output[0]!r}"


def _attribute(model: onnx.ModelProto, rng: random.Random) -> str:
    nodes = [node for node in model.graph.node if node.attribute]
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute)
    if rng.random() < 0.3:
        node.attribute.remove(attribute)
        return f"{attribute.name} of {node.name} removed"
    if attribute.ints:
        index = rng.randrange(len(attribute.ints))
        attribute.ints[index] = rng.choice(_NUMBERS)
        if rng.random() < 0.3:
            del attribute.ints[rng.randrange(len(attribute.ints))]
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice(_NUMBERS)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice(_REALS)
    else:
        attribute.type = rng.choice((onnx.AttributeProto.INT, onnx.AttributeProto.TENSOR))
    return f"{attribute.name} of {node.name} changed"


def _tensor_shape(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((*_NUMBERS, 10, 16))
    else:
        tensor.dims.append(rng.choice((1, 0, 16)))
    return f"{tensor.name} of shape {list(tensor.dims)}"


def _tensor_type(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    tensor.data_type = rng.choice((*TensorProto.DataType.values(), 99))
    return f"{tensor.name} of type {tensor.data_type}"


def _tensor_data(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    return f"{tensor.name} with {len(tensor.raw_data)} bytes"


def _tensor_values(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor).copy()
    if not values.size:
        return "nothing"
    real = values.dtype.kind == "f"
    value: Any = rng.choice(_REALS) if real else rng.choice(_NUMBERS)
    with np.errstate(all="ignore"):
        values.flat[rng.randrange(values.size)] = value if real else np.asarray(value).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return f"{tensor.name} holds {value}"


def _without_tensor(model: onnx.ModelProto, rng: random.Random) -> str:
    index = rng.randrange(len(model.graph.initializer))
    name = model.graph.initializer[index].name
    del model.graph.initializer[index]
    return f"{name} removed"


def _tensor_elsewhere(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=rng.choice(("weights.bin", "/etc/passwd", "../x", "")))
    return f"{tensor.name} elsewhere"


def _versions(model: onnx.ModelProto, rng: random.Random) -> str:
    if rng.random() < 0.5:
        model.ir_version = rng.choice((0, 1, 3, 9, 13, 14, 2**40))
    elif rng.random() < 0.5:
        del model.opset_import[:]
    else:
        model.opset_import[0].version = rng.choice((-1, 0, 1, 7, 9, 10, 21, 25, 28, 1000))
    return f"IR {model.ir_version}, {[one.version for one in model.opset_import]}"


def _ends(model: onnx.ModelProto, rng: random.Random) -> str:
    value = rng.choice((model.graph.input, model.graph.output))[0]
    dims = value.type.tensor_type.shape.dim
    choice = rng.randrange(4)
    if choice == 0:
        value.name = rng.choice(("", "other", model.graph.node[0].output[0]))
    elif choice == 1 and dims:
        rng.choice(dims).dim_value = rng.choice(_NUMBERS)
    elif choice == 2:
        value.type.tensor_type.elem_type = rng.choice((0, 2, 3, 7, 99))
    else:
        value.ClearField("type")
    return f"{value.name!r}: {[dim.dim_value for dim in dims]}"


def _no_text(model: onnx.ModelProto, rng: random.Random) -> str:
    node = _a_node(model, rng)
    node.name = rng.choice(("\x00", "[/x]", "name\nwith lines", "ü" * 1000, "\u202e"))
    return "an odd name"


def _constants_as_nodes(model: onnx.ModelProto, rng: random.Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    name = tensor.name
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [name], value=tensor))
    model.graph.initializer.remove(tensor)
    return f"{name} by a Constant"


_ONNX_EDITS: tuple[Callable[[onnx.ModelProto, random.Random], str], ...] = (
    *(_without_node, _moved_node, _other_operator, _other_domain, _other_input, _fewer_inputs, _other_output),
    *(_attribute, _tensor_shape, _tensor_type, _tensor_data, _tensor_values, _without_tensor, _tensor_elsewhere),
    *(_versions, _ends, _no_text, _constants_as_nodes),
)


# TorchScript


def archive_edited(content: bytes, rng: random.Random) -> Damage:
    """A zip archive with other members, whose checksums hold."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    index = rng.randrange(len(members))
    if rng.random() < 0.4:  # the members that say most are few
        telling = rng.choice(("data.pkl", "module.py"))
        index = next((i for i, (name, _) in enumerate(members) if name.endswith(telling)), index)
    name, data = members[index]
    choice = rng.randrange(6)
    if choice == 0:
        del members[index]
        words = f"{name} removed"
    elif choice == 1 and name.endswith(".py"):
        numbers = list(re.finditer(rb"\b\d+\b", data)) or [re.search(rb"", data)]
        match = rng.choice(numbers)
        assert match is not None
        members[index] = name, data[: match.start()] + str(rng.choice(_NUMBERS)).encode() + data[match.end() :]
        words = f"a number of {name} changed"
    elif choice == 2 and name.endswith(".py"):
        calls = list(re.finditer(rb"\b(torch|ops\.quantized)\.(\w+)\(", data)) or [re.search(rb"", data)]
        match = rng.choice(calls)
        assert match is not None
        other = rng.choice((b"torch.from_file(", b"torch.relu(", b"torch.flatten(", b"ops.quantized.add_relu("))
        members[index] = name, data[: match.start()] + other + data[match.end() :]
        words = f"{other.decode()} in {name}"
    else:
        words, altered = rng.choice((cut, flipped, inserted))(data, rng) if data else ("nothing", data)
        members[index] = name, altered
        words = f"{name} {words}"
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for one, held in members:
            archive.writestr(one, held)
    return words, written.getvalue()


# JSON, TOML


def json_edited(content: bytes, rng: random.Random) -> Damage:
    """Valid JSON that says something else."""
    value = json.loads(content)
    places = list(_places(value))
    owner, key = rng.choice(places)
    new: Any = rng.choice(
        (None, True, 0, -1, 2.0, 1e308, 10**30, "", "x", "[/x]", [], {}, [[]], owner[key], "y" * 5000, float("nan"))
    )
    choice = rng.randrange(4)
    if choice == 0:
        del owner[key]
        words = f"{key} removed"
    elif choice == 1 and isinstance(owner, dict):
        owner["surprise"] = new
        words = "a surprise"
    elif choice == 2 and isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
        owner[key] = rng.choice((owner[key] + 1, -owner[key], owner[key] * 2, owner[key] + 0.5))
        words = f"{key} is {owner[key]}"
    else:
        owner[key] = new
        words = f"{key} is {new!r:.40}"
    return words, json.dumps(value).encode()


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        if len(str(inner)) < 20_000:
            yield from _places(inner)


def nested(content: bytes, rng: random.Random) -> Damage:
    """Brackets in brackets."""
    depth = rng.choice((1_000, 200_000))
    return f"{depth} brackets", rng.choice((b"[", b'{"a":')) * depth


def text_edited(content: bytes, rng: random.Random) -> Damage:
    """A line of a text file changed."""
    lines = content.splitlines()
    index = rng.randrange(len(lines))
    others = (b"", b"x", b"x = 1", b"bits = -1", b"\xff\xfe", lines[index] + b"x", b"[section]", lines[index])
    other = rng.choice(others)
    if rng.random() < 0.3:
        return f"line {index} removed", b"\n".join(lines[:index] + lines[index + 1 :])
    return f"line {index} is {other!r}", b"\n".join([*lines[:index], other, *lines[index + 1 :]])


# Pickles of images


def batch_edited(content: bytes, rng: random.Random) -> Damage:
    """A pickle of another dictionary."""
    batch = pickle.loads(content, encoding="bytes")  # our own demo's
    key = rng.choice(list(batch))
    value = batch[key]
    choice = rng.randrange(4)
    new: Any
    if choice == 0:
        del batch[key]
        return f"{key!r} removed", pickle.dumps(batch, 2)
    if choice == 1:
        new = rng.choice((None, [], {}, b"", 3, "text", [None], [[1]], np.zeros(3), value))
    elif isinstance(value, list):
        new = list(value)
        new[rng.randrange(len(new))] = rng.choice((-1, 10, 3.5, None, "x", b"y", 10**20))
    elif isinstance(value, np.ndarray):
        others = (value[:-1], value[:, :-1], value.astype(np.float32), value.astype(object), value.T, value + 1)
        new = rng.choice(others)
    else:
        new = b"other"
    batch[key] = new
    return f"{key!r} is {type(new).__name__}", pickle.dumps(batch, 2)


ANY = (cut, flipped, inserted)
DAMAGES: dict[str, tuple[Callable[[bytes, random.Random], Damage], ...]] = {
    ".onnx": (*ANY, *(onnx_edited,) * 6),
    ".pt": (*ANY, *(archive_edited,) * 4),
    ".h5": ANY,
    ".tflite": ANY,
    ".json": (*ANY, *(json_edited,) * 6, nested),
    ".toml": (*ANY, text_edited, text_edited),
    "batch": (*ANY, batch_edited, batch_edited),
}
"""The ways to damage a file, by its suffix; ``batch`` for CIFAR-10's."""


def damaged(kind: str, content: bytes, seed: str) -> Damage:
    """One damaged content of a ``kind`` of file; the same for the same seed."""
    rng = random.Random(seed)
    return rng.choice(DAMAGES[kind])(content, rng)
