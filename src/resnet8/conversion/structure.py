"""What a converted graph must contain to be this network."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from onnx import TensorProto

from resnet8 import network
from resnet8.errors import ConversionError
from resnet8.results import Structure
from resnet8.runtimes.ort import shapes

if TYPE_CHECKING:
    import onnx


def describe(model: onnx.ModelProto, parameters: int) -> Structure:
    """Count what an ONNX graph contains.

    Args:
        model: The graph.
        parameters: Of the Keras model it was converted from.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    operators = Counter(node.op_type for node in graph.node)
    inputs, outputs = shapes(model)
    return Structure(
        input_shape=inputs,
        output_shape=outputs,
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        ir_version=model.ir_version,
        nodes=len(graph.node),
        operators=dict(sorted(operators.items())),
        convolutions=operators["Conv"],
        dense_layers=sum(node.op_type in ("MatMul", "Gemm") and node.input[1] in constants for node in graph.node),
        # An Add of two computed tensors; the others add a constant (batch normalization, bias).
        residual_adds=sum(
            node.op_type == "Add" and not any(name in constants for name in node.input) for node in graph.node
        ),
        parameters=parameters,
        graph_parameters=sum(
            math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT
        ),
    )


def require(structure: Structure) -> None:
    """Check that the structure is ResNet8's.

    Raises:
        ConversionError: naming the first fact that differs.
    """
    expected = {
        "parameters": network.PARAMETERS,
        "graph_parameters": network.GRAPH_PARAMETERS,
        "convolutions": network.CONVOLUTIONS,
        "dense_layers": network.DENSE_LAYERS,
        "residual_adds": network.RESIDUAL_ADDS,
        "opset": network.OPSET,
        "ir_version": network.IR_VERSION,
    }
    for fact, value in expected.items():
        found = getattr(structure, fact)
        if found != value:
            raise ConversionError(
                f"the converted graph is no ResNet8: {fact.replace('_', ' ')}",
                found=str(found),
                expected=str(value),
                remedy="check that the Keras file is MLPerf Tiny's pretrainedResnet.h5",
            )
    if isinstance(structure.input_shape[0], int) or isinstance(structure.output_shape[0], int):
        raise ConversionError(
            "the converted graph has a fixed batch size",
            found=f"{structure.input_shape} to {structure.output_shape}",
            expected="a dynamic first axis",
        )
