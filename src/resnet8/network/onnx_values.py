"""What an ONNX node reads, and what of it is stored: codes and their types, weights on their grids, how they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet8.network.onnx_graph import PACKED, attribute
from resnet8.network.reading import Unfit
from resnet8.network.tensors import Activation, Constant, accumulator_step
from resnet8.numeric.grid import QParams, storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

QLINEAR: Mapping[str, tuple[str, tuple[int, ...], int, int]] = {
    "QLinearConv": ("Conv", (0, 3), 8, 6),
    "QLinearMatMul": ("MatMul", (0, 3), 0, 6),
    "QGemm": ("Gemm", (0, 3), 6, 7),
    "QLinearAdd": ("Add", (0, 3), 0, 6),
    "QLinearMul": ("Mul", (0, 3), 0, 6),
    "QLinearAveragePool": ("AveragePool", (0,), 0, 3),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 0, 3),
}
"""The float operator that each stands for; where its operands, its bias (0: none) and the grid of its output are."""


@dataclass(frozen=True)
class Stored(Constant):
    """A constant as it is in the file, in elements of type ``of``."""

    of: str = ""

    def on(self, grid: QParams) -> QParams:
        """``grid``, of codes of the stored type.

        Raises:
            Unfit: when its zero point is of a type that does not go with them.
        """
        if self.of not in PACKED:
            return grid
        if grid.dtype != storage(self.of).name:
            raise Unfit(f"a zero point of type {grid.dtype} for codes of type {self.of}")
        return QParams(grid.scale, grid.zero_point, self.of)


@dataclass(frozen=True)
class Parameter(Constant):
    """A constant whose scales, where it has several, run along ``axis``."""

    axis: int = 0


def require_grids(node: onnx.NodeProto, x: Activation, w: Constant, grid: QParams, bias: Constant | None) -> None:
    """Check that weights and bias are on grids that accumulators can be in steps of.

    Raises:
        Unfit: when they are not.
    """
    if grid.dtype == "int32":
        raise Unfit("weights in int32; int8 and uint8 are supported")
    axis = output_axis(node)
    along = w.axis if isinstance(w, Parameter) else axis
    if grid.per_channel and (along != axis or grid.scale.shape != w.codes.shape[axis : axis + 1]):
        raise Unfit(f"scales of shape {grid.scale.shape} along axis {along} of the weights")
    if bias is None or bias.grid is None:
        return
    if bias.grid.dtype != "int32" or bias.grid.zero_point.any():
        raise Unfit(f"a bias in {bias.grid.dtype}; int32 with zero point 0 is supported")
    if not np.allclose(bias.grid.scale, accumulator_step(x, grid), rtol=1e-6, atol=0):
        raise Unfit("a bias whose scale is not scale_x * scale_w")


def output_axis(node: onnx.NodeProto) -> int:
    """The axis of its weights along which the channels out lie."""
    return 0 if node.op_type.endswith("Conv") or attribute(node, "transB", 0) else 1


def without_auto_pad(node: onnx.NodeProto) -> bool:
    """Whether its pads are those that it names."""
    return attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
