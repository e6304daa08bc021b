"""ONNX files in ONNX Runtime, on the CPU."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime

from resnet8.environment import cpu
from resnet8.errors import ModelError, opening
from resnet8.files import read_bytes, scratch_folder
from resnet8.network.onnx_read import extract
from resnet8.numeric.grid import storage
from resnet8.runtimes.base import Predictor
from resnet8.runtimes.onnx_file import describe, least_bits, parse, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation


def open_content(path: Path, content: bytes, options: Mapping[str, str] = MappingProxyType({})) -> Predictor:
    """Open the ONNX model in ``content``.

    One thread inside the session and one session call per CPU at once: the int8 graphs spend much of their time in
    operators that ONNX Runtime does not divide among threads.

    Args:
        path: Names the file in errors and results.
        content: Its bytes.
        options: Configuration entries of the session, such as ``{"session.x64quantprecision": "1"}``, by which ONNX
            Runtime computes with int8 weights exactly on x86 CPUs without VNNI.

    Raises:
        ModelError: when it is damaged or no ResNet8.
    """
    model = read(path, content)
    require_bits(str(path), least_bits(model))
    settings = session_options()
    for name, value in options.items():
        settings.add_session_config_entry(name, value)
    opened = session(content, settings)
    source = opened.get_inputs()[0].name
    return Predictor(
        "onnxruntime",
        describe(path, content, model),
        lambda images: opened.run(None, {source: images})[0],
        threads=cpu().logical_cpus,
        session_options=options,
    )


SINCE: Mapping[int, tuple[int, int]] = MappingProxyType({4: (1, 23), 2: (1, 24)})
"""The first release of ONNX Runtime that casts codes of so many bits (1.18 dequantizes those of 4)."""


def require_bits(what: str, bits: int) -> None:
    """Check that the installed ONNX Runtime runs files with codes of ``bits`` bits.

    Args:
        what: The file or recipe that has them, for the message.
        bits: The fewest.

    Raises:
        ModelError: when it is too old.
    """
    major, minor = SINCE.get(bits, (0, 0))
    installed = onnxruntime.__version__
    if tuple(map(int, installed.split(".")[:2])) < (major, minor):
        raise ModelError(
            f"{what} has weights of {bits} bits, which the installed ONNX Runtime does not run",
            found=f"onnxruntime {installed}",
            expected=f"{major}.{minor} or newer",
            remedy="install it: pip install --upgrade onnxruntime",
        )


def session_options() -> onnxruntime.SessionOptions:
    """One thread, errors only: images are divided among sessions' callers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def session(content: bytes, options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A session of the ONNX model in ``content``; without options, one that runs the graph just as it stands."""
    if options is None:
        options = session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def optimized(content: bytes) -> onnx.ModelProto:
    """The graph that ONNX Runtime really runs: fused, rearranged, with operators of its own domain."""
    with scratch_folder() as folder:
        path, options = folder / "optimized.onnx", session_options()
        options.optimized_model_filepath = str(path)
        session(content, options)
        return onnx.load_model_from_string(read_bytes(path))


def traces(path: Path, content: bytes) -> Mapping[str, Trace]:
    """What shows the codes of the ONNX model in ``content``, by graph: the one that really runs, and the file's."""
    return {name: Trace(path, content, optimize=name == "optimized") for name in ("optimized", "as in the file")}


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
        model = parse(path, content)
        require_bits(str(path), least_bits(model))
        if optimize:
            with opening(path, "ONNX Runtime"):
                model = optimized(content)
        self.program: Program = extract(model, str(path))
        self._activations = tuple(self.program.activations.values())
        known = {value.name for value in model.graph.output}
        for activation in self._activations:
            if activation.name not in known:
                dtype = np.dtype(np.float32) if activation.accumulated else storage(activation.params.dtype)
                code_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
                model.graph.output.append(onnx.helper.make_tensor_value_info(activation.name, code_type, None))
        self._path = path
        with opening(path, "ONNX Runtime"):
            self._session = session(model.SerializeToString())  # what there is to optimize is done already
        self._output = model.graph.output[0].name
        self._input = self._session.get_inputs()[0].name

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Probabilities, and the codes of every activation by name, (N, *shape), NHWC."""
        names = [activation.name for activation in self._activations]
        try:
            probabilities, *codes = self._session.run([self._output, *names], {self._input: images})
        except Exception as error:  # ONNX Runtime raises many kinds
            raise ModelError(
                f"{self._path} failed in ONNX Runtime on {len(images)} images",
                found=f"{error!s:.200}",
                expected="a model that takes any number of images",
                remedy="convert the model with a dynamic batch («resnet8 convert»), and quantize it again",
            ) from error
        return probabilities, {
            activation.name: _channels_last(value, activation)
            for activation, value in zip(self._activations, codes, strict=True)
        }


def _channels_last(codes: NDArray[Any], activation: Activation) -> NDArray[Any]:
    if activation.accumulated:
        codes = np.rint(codes / np.float64(activation.scale)).astype(np.int32)
    codes = codes.transpose(0, 2, 3, 1) if activation.nchw and codes.ndim == 4 else codes
    return codes.reshape(len(codes), *activation.shape)
