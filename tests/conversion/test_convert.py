"""The conversion on the demo: structure, certificate, what fails it, and a .pt that needs nothing but torch."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from resnet8.conversion import convert, convert_keras, convert_to_pytorch, structure
from resnet8.conversion.structure import Converted
from resnet8.data.cifar10 import KNOWN_FINGERPRINTS, random_images
from resnet8.environment import library_versions
from resnet8.errors import ConversionError, ModelError
from resnet8.evaluation import RANDOM_IMAGES, evaluate_split, probe
from resnet8.facts import CONVERTED_WITH, ONNX_FILES
from resnet8.pipeline import PARITY, Reproduction
from resnet8.results import Parity, Structure, load, sha256
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from resnet8.data.assets import Assets
    from resnet8.workers import Workers


@pytest.fixture(scope="module")
def graph(reproduced: Reproduction) -> onnx.ModelProto:
    return onnx.load(reproduced.output_dir / "models/resnet8.onnx")


# --- structure ---


def test_the_graph_is_resnet8(graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(graph, full_check=True)
    constants = {tensor.name for tensor in graph.graph.initializer}
    operators = Counter(node.op_type for node in graph.graph.node)
    assert operators["Conv"] == 9
    assert operators["MatMul"] + operators["Gemm"] == 1
    assert operators["Softmax"] == 1
    adds = [node for node in graph.graph.node if node.op_type == "Add"]
    assert sum(not constants & set(node.input) for node in adds) == 3
    assert {entry.domain: entry.version for entry in graph.opset_import} | {"": 13} == {
        entry.domain: entry.version for entry in graph.opset_import
    }
    assert graph.ir_version == 7
    parameters = sum(
        numpy_helper.to_array(tensor).size
        for tensor in graph.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    )
    assert parameters == 78_186


def test_the_graphs_interface(graph: onnx.ModelProto) -> None:
    (source,), (target,) = graph.graph.input, graph.graph.output
    assert source.name == "input"
    for value, shape in ((source, ["batch", 32, 32, 3]), (target, ["batch", 10])):
        kind = value.type.tensor_type
        assert kind.elem_type == TensorProto.FLOAT
        assert [dim.dim_param or dim.dim_value for dim in kind.shape.dim] == shape


def test_the_structure_is_in_the_certificate(reproduced: Reproduction, graph: onnx.ModelProto) -> None:
    found = reproduced.parity.structure
    assert found == structure.describe(graph, 78_666)
    assert (found.convolutions, found.dense_layers, found.residual_adds) == (9, 1, 3)
    assert (found.parameters, found.graph_parameters, found.nodes) == (78_666, 78_186, 39)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"convolutions": 8}, "convolutions: found 8, expected 9"),
        ({"dense_layers": 2}, "dense layers: found 2, expected 1"),
        ({"residual_adds": 0}, "residual adds: found 0, expected 3"),
        ({"parameters": 78_667}, "parameters: found 78667, expected 78666"),
        ({"opset": 28}, "opset: found 28, expected 13"),
        ({"input_shape": (1, 32, 32, 3)}, "fixed batch size"),
    ],
)
def test_another_structure_is_refused(reproduced: Reproduction, change: dict[str, Any], match: str) -> None:
    structure.require(reproduced.parity.structure)
    with pytest.raises(ConversionError, match=match):
        structure.require(replace(reproduced.parity.structure, **change))


def unsettled(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph as tf2onnx leaves it on a bad day: other names and order of the constants, Flatten computed."""
    model = onnx.ModelProto.FromString(graph.SerializeToString())
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    shape = reshape.input[1]
    constants = [tensor for tensor in model.graph.initializer if tensor.name != shape]
    first = model.graph.node[0]
    assert (first.op_type, first.name) == ("Transpose", "model_1/conv2d_1/BiasAdd/Transpose")
    first.name = "model_1/conv2d_1/BiasAdd__322"
    for node in model.graph.node:
        node.input[:] = ["numbered" if name == first.output[0] else name for name in node.input]
    first.output[0] = "numbered"
    for i, tensor in enumerate(constants):
        for node in model.graph.node:
            node.input[:] = [f"const_fold_opt__{i}" if name == tensor.name else name for name in node.input]
        tensor.name = f"const_fold_opt__{i}"
    helpers = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("first", [0]), ("second", [1]), ("features", [64]))
    ]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*reversed(constants), *helpers])
    made = [
        helper.make_node("Shape", [reshape.input[0]], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "second"], ["rows"]),
        helper.make_node("Concat", ["rows", "features"], ["target"], axis=0),
    ]
    reshape.input[1] = "target"
    nodes = [*model.graph.node]
    place = nodes.index(reshape)
    nodes[place:place] = made
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "unk__17"
    onnx.checker.check_model(model, full_check=True)
    return model


def test_the_same_network_always_makes_the_same_file(graph: onnx.ModelProto) -> None:
    model = unsettled(graph)
    assert len(model.graph.node) == 42
    structure.settle(model)
    assert model.SerializeToString() == graph.SerializeToString()


def test_converting_again_makes_the_same_bytes(workers: Workers, demo_assets: Assets, reproduced: Reproduction) -> None:
    """After others in the same process, too: what was made before leaves no trace in names."""
    for _ in range(2):
        converted = workers["keras"].call(convert_keras, demo_assets.keras_model)
        assert converted.structure == reproduced.parity.structure
        assert converted.folding == reproduced.parity.folding
        assert sha256(converted.content) == reproduced.parity.models["onnxruntime"].sha256


def test_the_file_is_the_one_of_every_machine(reproduced: Reproduction, demo_assets: Assets) -> None:
    assert reproduced.parity.known_file is True
    known = ONNX_FILES[sha256(demo_assets.keras_model.read_bytes())]
    assert reproduced.parity.models["onnxruntime"].sha256 == known
    assert library_versions(tuple(CONVERTED_WITH)) == CONVERTED_WITH


def test_the_certificate_says_how_far_off_the_folding_was(reproduced: Reproduction) -> None:
    folding = reproduced.parity.folding
    assert [len(one.ulps) for one in folding] == [channels for channels in (16, 16, 16, 32, 32, 64, 64) for _ in "ab"]
    assert all(one.name.endswith(f"{kind}_1/input_1") for one, kind in zip(folding, ("mul", "add") * 7, strict=True))
    assert max(one.largest for one in folding) < 2**12  # float32 arithmetic, whatever the CPU's last bits are


# --- certificate ---


def test_the_certificate_is_passed_and_read_back(reproduced: Reproduction, demo_assets: Assets) -> None:
    certificate = load(Parity, reproduced.output_dir / PARITY)
    assert certificate == reproduced.parity
    assert certificate.passed
    assert certificate.images == 597
    assert certificate.data.dataset == "demo digits"
    assert certificate.data.fingerprint in KNOWN_FINGERPRINTS
    pairs = {(pair.a, pair.b) for pair in certificate.pairs}
    assert pairs == {("keras", "onnxruntime"), ("keras", "pytorch"), ("onnxruntime", "pytorch")}
    for pair in certificate.pairs:
        assert pair.max_abs_difference <= certificate.tolerance == 1e-4
        assert pair.differing_predictions == pair.ties == 0
    for model in certificate.models.values():
        content = Path(model.path).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (model.sha256, model.size_bytes)


class Answered:
    """The workers, but one function's answer is given; everything else is really computed."""

    def __init__(self, workers: Workers, function: object, answer: object) -> None:
        self.workers, self.function, self.answer = workers, function, answer
        self.name = ""

    def __getitem__(self, name: str) -> Answered:
        one = Answered(self.workers, self.function, self.answer)
        one.name = name
        return one

    def warm(self, module: str) -> None:
        pass

    def close(self) -> None:
        pass

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self.answer if function is self.function else self.workers[self.name].call(function, *args, **kwargs)


def altered(graph: onnx.ModelProto, factor: float) -> bytes:
    """The graph with one weight of its first convolution multiplied."""
    model = onnx.ModelProto.FromString(graph.SerializeToString())
    name = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    weights = numpy_helper.to_array(tensor).copy()
    largest = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    weights[largest] *= factor
    tensor.CopyFrom(numpy_helper.from_array(weights, name))
    return model.SerializeToString()


@pytest.mark.parametrize("factor", [1.01, -1.0])
def test_an_altered_model_fails_the_certificate(
    workers: Workers, graph: onnx.ModelProto, reproduced: Reproduction, demo_assets: Assets, factor: float
) -> None:
    found: Structure = reproduced.parity.structure
    doctored = Answered(workers, convert_keras, Converted(altered(graph, factor), found, ()))
    conversion = convert(demo_assets.keras_model, doctored, data_dir=demo_assets.data_dir)  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match=r"changed the model: keras and onnxruntime differ.*image \d+") as caught:
        conversion.require()
    assert "\n" not in str(caught.value)
    assert not conversion.parity.passed
    differences = {(pair.a, pair.b): pair.max_abs_difference for pair in conversion.parity.pairs}
    assert differences["keras", "onnxruntime"] > conversion.parity.tolerance
    assert differences["onnxruntime", "pytorch"] <= conversion.parity.tolerance  # PyTorch came from the altered file


def renamed(graph: onnx.ModelProto) -> bytes:
    """An equivalent file of other bytes."""
    model = onnx.ModelProto.FromString(graph.SerializeToString())
    model.producer_name = "another converter"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("versions", ["tested", "others"])
def test_another_file_of_a_known_network_is_an_error_only_with_the_tested_versions(  # noqa: PLR0917 - fixtures
    workers: Workers,
    graph: onnx.ModelProto,
    reproduced: Reproduction,
    demo_assets: Assets,
    monkeypatch: pytest.MonkeyPatch,
    versions: str,
) -> None:
    if versions == "others":
        monkeypatch.setitem(CONVERTED_WITH, "tf2onnx", "0.1")
    doctored = Answered(workers, convert_keras, Converted(renamed(graph), reproduced.parity.structure, ()))
    conversion = convert(demo_assets.keras_model, doctored)  # type: ignore[arg-type]
    if versions == "tested":
        with pytest.raises(
            ConversionError, match=r"does not make the ONNX file that it makes on other machines: found"
        ):
            conversion.require()
    else:
        conversion.require()
    assert conversion.parity.passed
    assert conversion.parity.known_file is False


def test_a_model_that_belongs_to_other_images_is_refused(
    workers: Workers, graph: onnx.ModelProto, reproduced: Reproduction, demo_assets: Assets, tmp_path: Path
) -> None:
    # Each label is another's: equivalent conversions of a model that cannot be the right one.
    from resnet8.data import demo

    folder = demo.materialize(tmp_path / "assets")
    data = folder / "cifar-10-batches-py"
    batches = demo.batches()
    images, labels = batches["test_batch"]
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    rolled = {b"labels": ((labels + 1) % 10).tolist(), b"data": planes}
    (data / "test_batch").write_bytes(demo._python2_pickle(rolled))
    doctored = Answered(workers, convert_keras, Converted(graph.SerializeToString(), reproduced.parity.structure, ()))
    conversion = convert(demo_assets.keras_model, doctored, data_dir=data)  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match=r"not as accurate as it must be: found \d.*at least 85%"):
        conversion.require()


def test_without_data_seeded_random_images_take_their_place(
    workers: Workers, graph: onnx.ModelProto, reproduced: Reproduction, demo_assets: Assets, tmp_path: Path
) -> None:
    real = Answered(workers, convert_keras, Converted(graph.SerializeToString(), reproduced.parity.structure, ()))
    steps: list[str] = []

    def step(text: str) -> Any:
        steps.append(text)
        return lambda done, total: None

    conversion = convert(
        demo_assets.keras_model,
        real,  # type: ignore[arg-type]
        onnx_model=tmp_path / "models/net.onnx",
        pytorch_model=tmp_path / "models/net.pt",
        step=step,
    )
    conversion.require()
    assert list(tmp_path.iterdir()) == []
    conversion.save(tmp_path / "parity.json")
    for backend, content in (("onnxruntime", conversion.onnx), ("pytorch", conversion.pytorch)):
        model = conversion.parity.models[backend]
        assert (Path(model.path).read_bytes(), sha256(content)) == (content, model.sha256)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"net.onnx", "net.pt"}
    assert conversion.parity.images == RANDOM_IMAGES
    assert (conversion.parity.data.dataset, conversion.parity.data.directory) == ("random images", "none")
    assert conversion.parity.data.fingerprint == random_images(RANDOM_IMAGES).source.fingerprint
    assert steps == ["Keras → ONNX", "ONNX → PyTorch", "prove: Keras", "prove: ONNX Runtime", "prove: PyTorch"]
    assert load(Parity, tmp_path / "parity.json") == conversion.parity


# --- the .pt file ---


def test_what_makes_it_imports_no_other_framework(reproduced: Reproduction) -> None:
    """Nor torchvision, which onnx2torch asks for, nor torch's compiler, which torchvision brings."""
    code = (
        "import sys; from pathlib import Path; from resnet8.conversion.onnx_to_pytorch import onnx_to_pytorch;"
        "path = Path(sys.argv[1]); onnx_to_pytorch(path, path.read_bytes());"
        "unwanted = {'onnxruntime', 'tensorflow', 'torchvision', 'torch._inductor'};"
        "print('found:', *sorted(unwanted & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, reproduced.output_dir / "models/resnet8.onnx"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["found:"]


def test_the_pt_loads_without_what_made_it(reproduced: Reproduction, demo_assets: Assets) -> None:
    code = (
        "import sys; from pathlib import Path; from resnet8.evaluation import evaluate;"
        "result = evaluate(Path(sys.argv[1]), Path(sys.argv[2]), max_samples=50);"
        "print(result.runtime, *sorted({'onnx2torch', 'torchvision', 'tensorflow', 'onnx'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, reproduced.output_dir / "models/resnet8.pt", demo_assets.data_dir],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["pytorch"]


@pytest.mark.parametrize("name", ["resnet8.onnx", "resnet8.pt", "resnet8_int8.pt", "resnet8_uint8.onnx"])
def test_every_batch_size_gives_the_same_probabilities(reproduced: Reproduction, name: str) -> None:
    predictor = open_model(reproduced.output_dir / "models" / name)
    split = random_images(53, seed=5)
    _, reference = evaluate_split(predictor, split, 50)
    for batch_size in (1, 3):
        _, probabilities = evaluate_split(predictor, split, batch_size)
        np.testing.assert_allclose(probabilities, reference, rtol=0, atol=1e-6)


def test_the_pt_names_its_source_and_no_place(reproduced: Reproduction) -> None:
    import zipfile

    with zipfile.ZipFile(reproduced.output_dir / "models/resnet8.pt") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    source = next(content for name, content in records.items() if name.endswith("extra/source.json"))
    assert reproduced.parity.models["onnxruntime"].sha256.encode() in source
    here = str(Path(structure.__file__).parent.parent).encode()
    assert not [name for name, content in records.items() if here in content or b"site-packages" in content]


def test_onnx_to_pytorch_alone_is_proved_too(workers: Workers, reproduced: Reproduction) -> None:
    models = reproduced.output_dir / "models"
    content, pair = convert_to_pytorch(models / "resnet8.onnx", Path("resnet8.pt"), workers)
    assert (pair.a, pair.b) == ("onnxruntime", "pytorch")
    assert pair.max_abs_difference <= 1e-4
    assert content == (models / "resnet8.pt").read_bytes()


@pytest.mark.parametrize("name", ["resnet8_int8.onnx", "resnet8.pt", "resnet8_int8.onnx.json"])
def test_what_is_no_float_onnx_is_not_converted(workers: Workers, reproduced: Reproduction, name: str) -> None:
    with pytest.raises(ModelError):
        convert_to_pytorch(reproduced.output_dir / "models" / name, Path("x.pt"), workers)


def test_probe_without_data_uses_random_images(workers: Workers, reproduced: Reproduction) -> None:
    evaluation, probabilities = workers["onnxruntime"].call(probe, reproduced.output_dir / "models/resnet8.onnx", None)
    assert evaluation.data.dataset == "random images"
    assert probabilities.shape == (RANDOM_IMAGES, 10)
