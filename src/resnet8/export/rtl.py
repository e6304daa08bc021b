"""A quantized network for hardware: parameters, memory files, reference units in SystemVerilog, a testbench.

All golden values are those of :func:`resnet8.vectors.golden.network_layers`; here they only get another form. The
units (``templates/rtl/rtl``) compute them again, in Verilator or Icarus, and the testbench compares every one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ConfigDict

from resnet8 import environment, results
from resnet8.environment import Environment  # noqa: TC001 - pydantic reads the annotations when it runs
from resnet8.errors import DataError
from resnet8.execute import engine
from resnet8.export.rtl_parameters import BODIES, UNITS, header, parameters
from resnet8.export.rtl_text import makefile_units, readme, synthesis, testbench
from resnet8.export.rtl_words import hex_words, packed, pooled, windows
from resnet8.files import whole_folder
from resnet8.numeric.variants import ROUNDINGS
from resnet8.results import DataSource, ModelDescription  # noqa: TC001
from resnet8.vectors import require_integers
from resnet8.vectors.formats import Field, Writer, hex_lines
from resnet8.vectors.golden import codes_record, golden, network_layers
from resnet8.vectors.manifest import CONSTANT, NETWORK, CodesRecord, LayerRecord
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.program import Program
    from resnet8.numeric.variants import Requantization
    from resnet8.vectors.golden import Golden
    from resnet8.workers import Progress

__all__ = ["MANIFEST", "MAX_WORD", "RtlSet", "export_rtl"]

MANIFEST = "manifest.json"
MAX_WORD = 64
"""Bytes of a word, at most: as many as the widest layer of a ResNet8 has channels."""


@dataclass(frozen=True)
class RtlSet:
    """An exported folder, as a value: ``manifest.json``.

    Attributes:
        model: The quantized file.
        data: The images' source.
        requantization: Multiplier and rounding, as ``fixed32/half-even``.
        word: Bytes of a word.
        images: Indices in the split.
        labels: True class of each image.
        predictions: Class of each image by the golden logits.
        input: The images' codes.
        logits: Folder of the layer that writes the class scores.
        layers: In the order of computation.
        units: The module that computes each layer, by folder.
        parameters: What stands in each layer's header, by folder.
        files: SHA-256 of every file but this one, by its path in the folder.
    """

    model: ModelDescription
    data: DataSource
    requantization: str
    word: int
    images: tuple[int, ...]
    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    input: CodesRecord
    logits: str
    layers: tuple[LayerRecord, ...]
    units: dict[str, str]
    parameters: dict[str, dict[str, int]]
    files: dict[str, str]
    environment: Environment
    created: str
    kind: Literal["rtlset"] = "rtlset"
    schema_version: Literal[1] = 1
    __pydantic_config__ = ConfigDict(extra="forbid")


def export_rtl(
    folder: Path,
    program: Program,
    split: Split,
    images: Sequence[int],
    how: Requantization,
    *,
    model: ModelDescription,
    word: int = 4,
    progress: Progress = no_progress,
) -> RtlSet:
    """Write a folder for hardware, whole or not at all.

    Args:
        folder: To make; it must not exist.
        program: The network.
        split: The images' split.
        images: Indices in it.
        how: A requantization by integers.
        model: The file that the program is from.
        word: Bytes of a word of the packed files, and lanes of a unit: 1 to :data:`MAX_WORD`.
        progress: Called after each layer.

    Returns:
        The manifest, as written.

    Raises:
        DataError: when the word is not usable.
        StorageError: when the folder exists or cannot be written.
        ModelError: when a layer does not fit 8-bit codes and 32-bit accumulators.
        QuantizationError: when multipliers are float32, or one cannot be written in this fixed-point form.
    """
    require_integers(how)
    if not 1 <= word <= MAX_WORD:
        raise DataError(
            "the word is not usable",
            found=f"{word} bytes",
            expected=f"1 to {MAX_WORD}",
            remedy="choose with --word how many codes hardware reads at once",
        )
    chosen = split.select(np.asarray(images, np.int64), "exported")
    codes = engine.input_codes(program, chosen.images)
    with whole_folder(folder) as part:
        writer, found = Writer(part), dict[str, dict[str, int]]()

        def each(one: Golden, done: int) -> None:
            found[one.folder] = parameters(one, word)
            _layer(writer, one, word, found[one.folder])
            progress(done, len(program.layers))

        # The form is the same for every model: what a layer has once is there for each output channel.
        run = partial(golden, requantization=how, broadcast=True)
        layers, scores, logits = network_layers(program, codes, run, each)
        _copied(writer)
        writer.write("network/network.svh", header(f"network: {how.name}", _network(len(images), word, how)).encode())
        for field in (Field("input", codes, "image, row, column, channel"), Field("logits", scores, "image, class")):
            writer.write(f"network/{field.name}.hex", hex_lines("network", field))
        records = tuple(one.record for one in layers)
        result = RtlSet(
            model=model,
            data=chosen.source,
            requantization=how.name,
            word=word,
            images=tuple(images),
            labels=tuple(chosen.labels.tolist()),
            predictions=tuple(engine.probabilities(program, scores).argmax(axis=1).tolist()),
            input=codes_record(program.input, NETWORK),
            logits=logits,
            layers=records,
            units={one.folder: UNITS[one.kind] for one in records},
            parameters=found,
            files={},
            environment=environment.current(),
            created=results.now(),
        )
        _texts(writer, result, how)
        result = replace(result, files=dict(sorted(writer.digests.items())))
        writer.write(MANIFEST, results.to_json(result).encode())
    return result


def _network(images: int, word: int, how: Requantization) -> dict[str, int]:
    return {"IMAGES": images, "WORD": word, "ROUNDING": ROUNDINGS.index(how.rounding)}


def _copied(writer: Writer) -> None:
    """The files that are the same in every folder; «.in» hides their Python from the checks of this package."""
    root = resources.files("resnet8.export") / "templates" / "rtl"
    for name in ("rtl", "tb", "cocotb"):
        for file in sorted((root / name).iterdir(), key=lambda one: one.name):
            if file.is_file() and not file.name.startswith("."):
                writer.write(f"{name}/{file.name.removesuffix('.in')}", file.read_bytes())
    writer.write("Makefile", (root / "Makefile").read_bytes())


def _texts(writer: Writer, result: RtlSet, how: Requantization) -> None:
    """The files that are written for this network."""
    writer.write("tb/resnet8_tb.sv", testbench(result.layers, result.input, result.logits).encode())
    rounding = ROUNDINGS.index(how.rounding)
    for folder, unit in result.units.items():
        script = synthesis(folder, unit, result.parameters[folder], result.word, rounding)
        writer.write(f"synth/{folder}.ys", script.encode())
    writer.write("units.mk", makefile_units(result.units, result.parameters).encode())
    text = readme(
        result.layers, result.units, result.parameters, word=result.word, requantization=result.requantization
    )
    writer.write("README.md", text.encode())


def _layer(writer: Writer, one: Golden, word: int, values: dict[str, int]) -> None:
    """The folder of a layer; ``values`` stand in its header."""
    path, record = f"layers/{one.folder}", one.record
    writer.write(f"{path}/parameters.svh", header(f"{path}: {record.kind}, {record.name}", values).encode())
    for field in _lines(one):
        writer.write(f"{path}/{field.name}.hex", hex_lines(path, field))
    for name, (order, words) in _streams(one, word).items():
        writer.write(f"{path}/{name}.hex", hex_words(f"{path}/{name}: {order}", words))
    writer.write(f"{path}/{one.folder}.sv", _module(one.folder, BODIES[UNITS[record.kind]]).encode())


def _module(folder: str, body: str) -> str:
    includes = ("network/network.svh", f"layers/{folder}/parameters.svh", "tb/layer.svh", f"tb/{body}.svh")
    lines = "".join(f'    `include "{path}"\n' for path in includes)
    return (
        "// A layer of the testbench: its parameters, its golden values, the units that compute it.\n"
        f'module {folder};\n    localparam FOLDER = "layers/{folder}";\n{lines}endmodule\n'
    )


def _lines(one: Golden) -> Iterator[Field]:
    """What is written with one value on a line: tensors, and parameters with a line for each output channel."""
    yield from one.inputs
    yield from one.expected
    for name, field in one.parameters.items():
        if field.order.startswith("channel") and name != "factor_zero_point":  # the others stand in the header
            yield field
    if one.record.kind == "rescale":
        yield Field("factor", np.ones(one.record.output.shape[-1], np.uint8), "channel")


def _streams(one: Golden, word: int) -> dict[str, tuple[str, NDArray[np.uint8]]]:
    """The packed files: the order of their words, and these."""
    record = one.record
    codes = {field.name: field.values for field in one.inputs}
    output = packed(one.codes, record.output.zero_point, word)
    found = {"output_packed": ("image, row, column, channel group", output)}
    if record.weights_shape is not None:
        zeros = one.parameters["weights_zero_point"].values[:, None, None]
        weights = packed(one.parameters["weights"].values, zeros, word)
        order = "image, row, column, kernel row, kernel column, channel group"
        found["x_stream"] = (order, windows(codes["x"], record, word))
        found["weights_packed"] = ("channel out, kernel row, kernel column, channel group", weights)
        return found
    for name, read in record.operands.items():
        tensor = codes[name] if read.source != CONSTANT else _repeated(one, name)
        if record.kind == "average-pool":
            found[f"{name}_stream"] = ("image, channel group, row, column", pooled(tensor, read.zero_point, word))
        else:
            order = "image, row, column, channel group"
            found[f"{name}_stream"] = (order, packed(tensor, read.zero_point, word))
    return found


def _repeated(one: Golden, name: str) -> NDArray[Any]:
    """A constant of each channel, at every position."""
    return np.broadcast_to(one.parameters[name].values, one.codes.shape)
