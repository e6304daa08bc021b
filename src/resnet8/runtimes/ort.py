"""ONNX files in ONNX Runtime, on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime

from resnet8.environment import cpu
from resnet8.files import read_bytes
from resnet8.network.onnx_read import extract
from resnet8.numeric.grid import storage
from resnet8.runtimes.onnx_file import describe, parse, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.results import ModelDescription


class OrtPredictor:
    """An ONNX model in an inference session (see :class:`resnet8.runtimes.base.Predictor`).

    One thread inside the session and one session call per CPU at once: the int8 graphs spend much of their time in
    operators that ONNX Runtime does not divide among threads.
    """

    backend = "onnxruntime"
    requantization: str | None = None

    def __init__(
        self, model: ModelDescription, session: onnxruntime.InferenceSession, options: Mapping[str, str]
    ) -> None:
        self.model = model
        self.session_options = options
        self.threads = cpu().logical_cpus
        self._session = session
        self._input = session.get_inputs()[0].name

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10)."""
        output: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return output


def open_content(path: Path, content: bytes, options: Mapping[str, str] = MappingProxyType({})) -> OrtPredictor:
    """Open the ONNX model in ``content``.

    Args:
        path: Names the file in errors and results.
        content: Its bytes.
        options: Configuration entries of the session, such as ``{"session.x64quantprecision": "1"}``, by which ONNX
            Runtime computes with int8 weights exactly on x86 CPUs without VNNI.

    Raises:
        ModelError: when it is damaged or no ResNet8.
    """
    model = read(path, content)
    settings = session_options()
    for name, value in options.items():
        settings.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    return OrtPredictor(describe(path, content, model), session, options)


def optimized(content: bytes) -> onnx.ModelProto:
    """The graph that ONNX Runtime really runs: fused, rearranged, with operators of its own domain."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return onnx.load_model_from_string(read_bytes(Path(options.optimized_model_filepath)))


class Trace:
    """A quantized model that shows the codes of every activation.

    Attributes:
        program: The integer program of the graph that runs; ``kernel`` of each layer says how it is computed.

    Args:
        path: Names the file in errors.
        content: The ONNX file.
        optimize: Run the graph as ONNX Runtime optimizes it, else node by node as it stands in the file.

    Raises:
        ModelError: as :func:`resnet8.network.onnx_read.extract`.
    """

    def __init__(self, path: Path, content: bytes, *, optimize: bool) -> None:
        model = optimized(content) if optimize else parse(path, content)
        self.program: Program = extract(model, str(path))
        self._activations = tuple(self.program.activations.values())
        known = {value.name for value in model.graph.output}
        for activation in self._activations:
            if activation.name not in known:
                code_type = onnx.helper.np_dtype_to_tensor_dtype(storage(activation.params.dtype))
                model.graph.output.append(onnx.helper.make_tensor_value_info(activation.name, code_type, None))
        options = session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is done already
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._output = model.graph.output[0].name
        self._input = self._session.get_inputs()[0].name

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Probabilities, and the codes of every activation by name, (N, *shape), NHWC."""
        names = [activation.name for activation in self._activations]
        probabilities, *codes = self._session.run([self._output, *names], {self._input: images})
        return probabilities, {
            activation.name: _channels_last(value, activation)
            for activation, value in zip(self._activations, codes, strict=True)
        }


def _channels_last(codes: NDArray[Any], activation: Activation) -> NDArray[Any]:
    codes = codes.transpose(0, 2, 3, 1) if activation.nchw and codes.ndim == 4 else codes
    return codes.reshape(len(codes), *activation.shape)


def session_options() -> onnxruntime.SessionOptions:
    """One thread, errors only: images are divided among sessions' callers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options
