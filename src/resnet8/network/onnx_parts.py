"""The nodes and constants that an ONNX file is put together from, and the file.

A compact file stores nothing twice: of the scales and zero points of one value there is one, whoever reads it, under
one or two characters, as everything that has no name in the network. Nothing is said that a reader finds out: no shapes
of what is in between, no documentation. Codes of 4 and 2 bits are packed in every file.
"""

from __future__ import annotations

import string
from dataclasses import replace
from itertools import count, product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnet8.errors import QuantizationError
from resnet8.facts import IMAGE_SHAPE, INPUT_NAME, IR_VERSION, NARROW_VERSIONS, OPSET
from resnet8.network.onnx_graph import PACKED
from resnet8.network.tensors import accumulator_grid
from resnet8.numeric.grid import limits, of_width, storage, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer, Weighted
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation, Constant
    from resnet8.numeric.grid import QParams

OUTPUT_NAME, SHORT_OUTPUT_NAME = "probabilities", "output"
MICROSOFT = "com.microsoft"
"""The domain of the QLinear operators that are not in ONNX."""
WIDTHS = (2, 4, 8)
"""Bits of an element that a file's tensors may have."""
_CHARACTERS = string.ascii_letters + string.digits


class Writer:
    """Writes the file of a network, in a form that a class made of it knows.

    Attributes:
        program: The network.
        compact: Whether the file is to be small: see above.
        output: What the file calls the class probabilities.
    """

    def __init__(self, program: Program, *, compact: bool) -> None:
        self.program = program
        self.compact = compact
        self.output = SHORT_OUTPUT_NAME if compact else OUTPUT_NAME
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._shared: dict[tuple[Any, ...], str] = {}
        self._short = _short_names(program)
        self._bits = WIDTHS[-1]

    def layer(self, layer: AnyLayer) -> None:
        """Add the nodes of ``layer``."""
        raise NotImplementedError

    def file(self) -> onnx.ModelProto:
        """The file: float32 (batch, 32, 32, 3) to float32 (batch, classes); checked."""
        pixels = self.node("Transpose", [INPUT_NAME], self.inner(f"{INPUT_NAME}_nchw"), perm=[0, 3, 1, 2])
        self.quantize(pixels, self.program.input, "quantize_images")
        for layer in self.program.layers:
            self.layer(layer)
        self._end()
        graph = helper.make_graph(
            self._nodes,
            "resnet8",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
            [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, ("batch", *self.program.logits.shape))],
            list(self._constants.values()),
        )
        opset, ir_version = NARROW_VERSIONS.get(self._bits, (OPSET, IR_VERSION))
        opsets = [helper.make_opsetid("", opset)]
        if any(node.domain == MICROSOFT for node in self._nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        producer = {} if self.compact else {"producer_name": "resnet8"}
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, **producer)
        onnx.checker.check_model(model)
        return model

    # Nodes and constants

    def node(
        self, operator: str, inputs: list[str], output: str, *, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node; returns ``output``, after which it is called where it has no name (in a compact file none is)."""
        name = ("" if name == output else name) if self.compact else name or output
        self._nodes.append(
            helper.make_node(operator, inputs, [output], name=name or None, domain=domain or None, **attributes)
        )
        return output

    def inner(self, name: str) -> str:
        """What a tensor is called that the network has no name for: ``name``, or a short one."""
        return next(self._short) if self.compact else name

    def constant(self, name: str, value: NDArray[Any], dtype: str = "") -> str:
        """Store ``value``, codes of ``dtype`` in their storage type; under another name where this one is taken.

        Raises:
            QuantizationError: when the installed onnx has no tensors of so few bits.
        """
        dtype, wanted, numbers = dtype or value.dtype.name, name, count(2)
        tensor = _tensor(value, dtype)
        self._bits = min(self._bits, width(dtype)) if dtype in PACKED else self._bits
        while name in self._constants and not _same(self._constants[name], tensor):
            name = f"{wanted}_{next(numbers)}"
        tensor.name = name
        self._constants[name] = tensor
        return name

    def shared(self, name: str, value: NDArray[Any], dtype: str = "") -> str:
        """Store what the network has no name for: as ``name``, or once for all that are the same."""
        if not self.compact:
            return self.constant(name, value, dtype)
        key = (dtype or value.dtype.name, value.shape, value.tobytes())
        if key not in self._shared:
            self._shared[key] = self.constant(next(self._short), value, dtype)
        return self._shared[key]

    def grid(self, name: str, params: QParams) -> list[str]:
        """Scale and zero point of the tensor ``name``, the zero point in the type that holds the codes in memory."""
        zero_point = params.zero_point.astype(storage(params.dtype))
        return [self.shared(f"{name}_scale", params.scale), self.shared(f"{name}_zero_point", zero_point)]

    def optional(self, name: str, params: QParams) -> list[str]:
        """:meth:`grid`, in a compact file without the zero point that QuantizeLinear has without one: 0 of uint8."""
        scale, zero_point = params.scale, params.zero_point
        if self.compact and storage(params.dtype) == np.uint8 and not zero_point.any():
            return [self.shared(f"{name}_scale", scale)]
        return self.grid(name, params)

    # What all forms have in common

    def quantize(self, real: str, activation: Activation, name: str) -> None:
        """The codes of ``activation``, from reals."""
        output = self.saturated(activation)
        self.node("QuantizeLinear", [real, *self.optional(activation.name, activation.params)], output, name=name)
        self.narrow(output, activation, name=f"{name}_codes")

    def saturated(self, activation: Activation, *, relu: bool = False) -> str:
        """What the codes of ``activation`` are called where they saturate at the ends of their storage type only."""
        return self.inner(f"{activation.name}_saturated") if _ends(activation, relu=relu) else activation.name

    def narrow(self, codes: str, activation: Activation, *, relu: bool = False, name: str = "") -> None:
        """Its codes from those called ``codes``: a Clip, where it has fewer than its storage type."""
        if ends := _ends(activation, relu=relu):
            constants = [
                self.shared(f"{activation.name}_{end}", np.asarray(code, storage(activation.params.dtype)))
                for end, code in zip(("lowest", "highest"), ends, strict=True)
            ]
            self.node("Clip", [codes, *constants], activation.name, name="" if self.compact else name)

    def dequantize(self, codes: str, params: QParams, **attributes: Any) -> str:
        """Reals of the tensor ``codes``."""
        number = sum(codes == node.input[0] for node in self._nodes)
        output = self.inner(f"{codes}_real{number or ''}")
        return self.node("DequantizeLinear", [codes, *self.optional(codes, params)], output, **attributes)

    def flat(self, value: str, x: Activation) -> str:
        """``value``, which is ``x`` or its reals, as a layer reads it: as a vector where a map of 1 x 1 was written."""
        flat = len(x.shape) == 1 and len(self.program.activations[x.name].shape) == 3
        return self.node("Flatten", [value], self.inner(f"{value}_flat")) if flat else value

    def widened(self, codes: str, dtype: str) -> str:
        """Stored codes of fewer bits, by their name, as codes of 8."""
        kind = helper.np_dtype_to_tensor_dtype(storage(dtype))
        return self.node("Cast", [codes], self.inner(f"{codes}_codes"), to=kind)

    def geometry(self, layer: Weighted) -> dict[str, Any]:
        """The attributes of a convolution; a compact file has those alone that are not what they are without."""
        if not self.compact:
            return {"kernel_shape": layer.weights.shape[:2], "strides": layer.strides, "pads": layer.pads}
        strides = {"strides": layer.strides} if layer.strides != (1, 1) else {}
        return strides | ({"pads": layer.pads} if any(layer.pads) else {})

    def float_output(self, layer: Weighted) -> bool:
        """Whether the file has its output as real numbers: where its codes are the accumulators.

        Raises:
            QuantizationError: when they are accumulators, but in other steps than ``scale_x * scale_w``.
        """
        found = layer.output
        if not found.accumulated:
            return False
        if found.name != self.program.logits.name or not found.params.same_as(
            accumulator_grid(layer.x, layer.weights.params)
        ):
            raise QuantizationError(
                f"{found.name} does not fit an ONNX file",
                found=f"codes of type {found.params.dtype}",
                expected="codes of at most 8 bits, or class scores in steps of scale_x * scale_w",
                remedy="quantize it to 8 bits",
            )
        return True

    def _end(self) -> None:
        logits = self.program.logits
        output = logits.name if logits.accumulated else self.dequantize(logits.name, logits.params)
        output = self.flat(output, logits)
        if self.program.softmax:
            axis: dict[str, Any] = {} if self.compact else {"axis": 1}  # the last one, as without it
            output = self.node("Softmax", [output], self.inner("softmax"), **axis)
        if self.program.probabilities is not None:
            grid = self.optional(self.output, self.program.probabilities)
            codes = self.node("QuantizeLinear", [output, *grid], self.inner(f"{OUTPUT_NAME}_codes"))
            self.node("DequantizeLinear", [codes, *grid], self.output)
        else:
            self._nodes[-1].output[0] = self.output


def channelwise(x: Activation, constant: Constant) -> NDArray[Any]:
    """The codes of a constant for each channel of ``x``, as they are broadcast to it."""
    return constant.codes.reshape((-1, 1, 1) if len(x.shape) == 3 else (-1,))


def read_by(layer: Weighted) -> Activation:
    """The activation that it reads; by a dense layer as a vector, also where the network has it as a map of 1 x 1."""
    return replace(layer.x, shape=layer.x.shape[-1:]) if layer.dense else layer.x


def weight_codes(layer: Weighted) -> NDArray[Any]:
    """The codes of its weights as files have them: (channels out, channels in, rows, columns), or (in, out)."""
    codes = layer.weights.codes
    return codes[0, 0] if layer.dense else codes.transpose(3, 2, 0, 1)


def stored(dtype: str) -> str:
    """The type that codes of ``dtype`` have in a file: of 2, 4 or 8 bits, the fewest that hold them."""
    return of_width(dtype, next((bits for bits in WIDTHS if bits >= width(dtype)), width(dtype)))


def _tensor(value: NDArray[Any], dtype: str) -> TensorProto:
    if dtype in PACKED:
        kind = getattr(TensorProto, dtype.upper(), None)
        if kind is None:
            raise QuantizationError(
                f"the installed onnx has no {dtype} tensors",
                found=f"onnx {onnx.__version__}",
                expected="1.20 or newer",
                remedy="install it: pip install --upgrade onnx",
            )
        value = value.astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))


def _ends(activation: Activation, *, relu: bool) -> tuple[int, int] | None:
    """Its least and greatest code, where its storage type has others."""
    low, high = limits(activation.params.dtype)
    ends = (activation.zero_point if relu else low), high
    return None if ends == limits(storage(activation.params.dtype).name) else ends


def _same(one: TensorProto, other: TensorProto) -> bool:
    facts = ((tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in (one, other))
    return next(facts) == next(facts)


def _short_names(program: Program) -> Iterator[str]:
    """One character, then two, none of them a name in ``program``."""
    parameters = (name for layer in program.layers for name in layer.parameters.values())
    taken = {INPUT_NAME, SHORT_OUTPUT_NAME, *program.activations, *parameters}
    names = ("".join(name) for length in count(1) for name in product(_CHARACTERS, repeat=length))
    return (name for name in names if name not in taken)
