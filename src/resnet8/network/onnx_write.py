"""A quantized network as an ONNX file.

In one of two forms, :mod:`QDQ <resnet8.network.onnx_qdq>` or :mod:`QOperator <resnet8.network.onnx_qoperator>`.
Roundings have no place in ONNX: QuantizeLinear rounds half to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resnet8.network.onnx_qdq import QDQ
from resnet8.network.onnx_qoperator import QOperator
from resnet8.network.short import shortened

if TYPE_CHECKING:
    import onnx

    from resnet8.network.program import Program

Form = Literal["qdq", "qoperator"]


def to_onnx(program: Program, form: Form = "qdq", *, compact: bool = False) -> onnx.ModelProto:
    """The file of ``program``: images, float32 (batch, 32, 32, 3), to class probabilities, (batch, 10).

    Reading it back (:func:`resnet8.network.onnx_read.extract`) gives the same network, but for roundings, or, from a
    compact file, :func:`resnet8.network.short.shortened` of it. Weights on a grid of up to four bits are stored so, two
    or four codes a byte (three bits as four).

    Args:
        program: A quantized network.
        form: ``qdq``, of standard operators only, or ``qoperator``, which is smaller, and which ONNX Runtime computes
            in integers at every optimization level.
        compact: Short names, and nothing that is stored twice.

    Raises:
        QuantizationError: when the form has no place for what the network has, or the installed onnx has no tensors of
            so few bits.
    """
    writer = QDQ if form == "qdq" else QOperator
    return writer(shortened(program) if compact else program, compact=compact).file()
