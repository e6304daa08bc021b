"""Quantized TorchScript files in the integer engine and in PyTorch, layer by layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import noise
from in_workers import add, divide, in_pytorchs_process, kill_oneself, pid, unsendable
from torch_quantized import Network, matmul_codes, require_near_borders, saved

from resnet8 import environment
from resnet8.audit.agreement import audit_agreement, require_explained
from resnet8.data.assets import locate
from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import MissingExtraError, ModelError
from resnet8.evaluation import choose
from resnet8.execute import engine, native
from resnet8.execute.fbgemm import biased
from resnet8.network.layers import Weighted
from resnet8.numeric.variants import Requantization
from resnet8.playground.opened import open_file
from resnet8.runtimes import base, integer, open_model
from resnet8.runtimes.base import FORMATS
from resnet8.runtimes.pytorch import Trace
from resnet8.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split
    from resnet8.pipeline import Reproduction

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")

VNNI = environment.has_vnni(environment.cpu())
RESNET8 = {"conv": 9, "mul": 7, "add": 11, "average-pool": 1, "rescale": 3, "dense": 1}


def trace_of(path: Path) -> Trace:
    return Trace(path, path.read_bytes())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Network(), tmp_path_factory.mktemp("models") / "network.pt")


def require_equal_codes(trace: Trace, images: np.ndarray) -> None:
    """With the float bias the engine's codes are PyTorch's, but for ties and float rounding of sums.

    The order of the dense layer's float sum is the CPU's: with it every code is PyTorch's, and the engine's, of the
    exact sum, are PyTorch's except next to a border.
    """
    probabilities, codes = trace.run(preprocess(images))
    np.testing.assert_array_equal(engine.input_codes(trace.program, images), codes[trace.program.input.name])
    for layer in trace.program.layers:
        found = engine.step(layer, codes, accumulators=biased)
        wanted = codes[layer.output.name]
        assert found.shape == wanted.shape == (len(images), *layer.output.shape)
        if layer.kind == "conv" and layer.kernel == "integer":
            np.testing.assert_array_equal(found, wanted, err_msg=layer.name)
        elif isinstance(layer, Weighted):
            read = codes[layer.x.name]
            np.testing.assert_array_equal(matmul_codes(layer, read), wanted, err_msg=layer.name)
            require_near_borders(layer, read, found, wanted)
        else:
            assert np.abs(found.astype(int) - wanted).max() <= 1
            assert (found != wanted).mean() < 1e-3
    ours = engine.probabilities(trace.program, codes[trace.program.logits.name])
    np.testing.assert_allclose(ours, probabilities, rtol=0, atol=1e-6)


def test_the_trace_shows_every_activation_and_the_engine_computes_it(network: Path) -> None:
    trace = trace_of(network)
    images = noise(30, 70)
    require_equal_codes(trace, images)
    probabilities, codes = trace.run(preprocess(images))
    assert set(codes) == set(trace.program.activations)
    np.testing.assert_array_equal(probabilities, open_model(network).probabilities(preprocess(images)))
    for activation in trace.program.activations.values():
        assert codes[activation.name].dtype == np.uint8
        assert len(np.unique(codes[activation.name])) > 20


def test_an_image_alone_has_the_codes_it_has_among_others(network: Path) -> None:
    trace = trace_of(network)
    images = preprocess(noise(3, 71))
    _, together = trace.run(images)
    _, alone = trace.run(images[1:2])
    for name, codes in alone.items():
        np.testing.assert_array_equal(codes[0], together[name][1])


def test_a_quantized_file_is_opened_in_the_integer_engine(network: Path) -> None:
    predictor = open_model(network, integer.open_content)
    assert predictor.runtime == "integer"
    assert predictor.model == open_model(network).model
    assert predictor.requantization == "float32/half-even, bias in float32"
    assert {layer.kernel for layer in predictor.program.layers} == {"integer"}
    images = preprocess(noise(50, 72))
    ours, theirs = predictor.probabilities(images), open_model(network).probabilities(images)
    assert ours.shape == (50, 10)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.9
    fixed = integer.open_content(network, network.read_bytes(), Requantization("fixed32", "half-up"))
    assert (fixed.probabilities(images).argmax(axis=1) == ours.argmax(axis=1)).mean() > 0.9


def test_the_page_and_the_command_compute_the_same_and_say_how_the_bias_is_added(network: Path) -> None:
    images = noise(50, 72)
    opened = open_file(network).require_quantized()
    codes = engine.input_codes(opened, images)
    ours = integer.open_content(network, network.read_bytes())
    np.testing.assert_array_equal(ours.logits(images), native.run(opened, images))
    np.testing.assert_array_equal(engine.run(opened, codes, accumulators=biased), native.run(opened, images))
    whole = integer.open_content(network, network.read_bytes(), Requantization("fixed32"))
    assert whole.requantization == "fixed32/half-even"
    np.testing.assert_array_equal(whole.logits(images), engine.run(opened, codes, Requantization("fixed32")))


def test_a_float_file_and_the_emulation_of_onnx_runtime_are_refused(reproduced: Reproduction, network: Path) -> None:
    with pytest.raises(ModelError, match=r"resnet8\.pt is not quantized: found no quantize_per_tensor"):
        open_model(reproduced.output_dir / "models/resnet8.pt", integer.open_content)
    with pytest.raises(ModelError, match=r"found a file for PyTorch, expected a quantized ONNX file"):
        open_model(network, integer.open_emulated)


def test_without_torch_the_error_says_what_to_install(
    network: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_process: None
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"\.whl\[torch\]"):
        open_model(network, integer.open_content)


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's process is a new one, and ends with the test."""
    with Workers() as workers:
        monkeypatch.setattr(base, "_process", lambda name, _: workers[name])
        yield


def test_pytorch_is_imported_and_loads_files_in_its_own_process_only(
    network: Path, demo_assets: Assets, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom resnet8.cli import app, execute\n"
        "from resnet8.evaluation import evaluate\nfrom resnet8.playground.opened import open_file\n"
        "from resnet8.runtimes.integer import open_integer\n"
        f"model, data = Path({str(network)!r}), Path({str(demo_assets.data_dir)!r})\n"
        "print(evaluate(model, data, max_samples=3).runtime, open_integer(model).runtime, open_file(model).quantized)\n"
        "try:\n    execute(app, ['audit', 'agreement', str(model), '--data-dir', str(data), '--max-samples', '3'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    first, *_, last = done.stdout.splitlines()
    assert (first, last) == ("pytorch integer True", "0 False")


@pytest.mark.parametrize(("function", "said"), [(kill_oneself, "exit code -9 (Killed)"), (unsendable, "exit code 1")])
def test_when_pytorchs_process_ends_the_file_is_named_and_the_next_call_has_a_new_one(
    function: Callable[[], object], said: str, own_process: None
) -> None:
    runtime = FORMATS["torchscript"]
    with pytest.raises(ModelError) as caught:
        runtime.call(Path("some.pt"), function)
    expected = f"some.pt failed in PyTorch: found the pytorch process ended without an answer: {said}, expected a model"
    assert str(caught.value).startswith(expected)
    assert runtime.call(Path("some.pt"), add, 2, b=3) == 5


def test_another_fault_there_names_the_file_too(own_process: None) -> None:
    with pytest.raises(ModelError, match=r"some\.pt failed in PyTorch: found the pytorch process failed: ZeroDivision"):
        FORMATS["torchscript"].call(Path("some.pt"), divide, 1, 0)


def test_a_worker_opens_files_itself() -> None:
    with Workers() as workers:
        process = workers["any"].call(pid)
        assert workers["any"].call(in_pytorchs_process) == process


def test_an_onnx_file_is_run_in_integers_without_torch() -> None:
    code = "import sys; import resnet8.runtimes.integer, resnet8.audit.agreement; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- ResNet8 itself ---


def require_resnet8(trace: Trace) -> None:
    kinds = [getattr(layer, "operator", layer.kind) for layer in trace.program.layers]
    assert {kind: kinds.count(kind) for kind in RESNET8} == RESNET8
    names = [layer.name for layer in trace.program.layers]
    assert len(set(names)) == len(names)
    assert {"conv2d_1/BiasAdd", "conv2d_3_1/BiasAdd", "dense_1/MatMul"} <= set(names)


def require_agreement(path: Path, split: Split) -> None:
    result = audit_agreement(open_model(path).model, {"TorchScript": trace_of(path)}, split)
    require_explained(result)
    (graph,) = result.graphs
    assert sum(layer.differing for layer in graph.layers) < 2e-4 * sum(layer.codes for layer in graph.layers)
    for layer in graph.layers:
        if layer.differing:
            assert (layer.operator, layer.largest_difference) == ("conv", 1)


def test_the_demo_is_a_resnet8_and_agrees(reproduced: Reproduction, demo_assets: Assets) -> None:
    path = reproduced.output_dir / "models/resnet8_int8.pt"
    trace = trace_of(path)
    require_resnet8(trace)
    split = choose(read_split(demo_assets.data_dir, "test"), None, 50)
    if VNNI:
        require_equal_codes(trace, split.images)
        require_agreement(path, split)
    theirs = open_model(path).probabilities(preprocess(split.images)).argmax(axis=1)
    ours = open_model(path, integer.open_content).probabilities(preprocess(split.images)).argmax(axis=1)
    assert (ours == theirs).mean() >= 0.9


@pytest.mark.real
@pytest.mark.slow
def test_the_real_file_agrees(real_models: dict[str, Path], real_assets: Path) -> None:
    path = real_models["torch-int8"]
    trace = trace_of(path)
    require_resnet8(trace)
    split = choose(read_split(locate(real_assets).data_dir, "test"), None, 200)
    theirs = open_model(path).probabilities(preprocess(split.images)).argmax(axis=1)
    ours = open_model(path, integer.open_content).probabilities(preprocess(split.images)).argmax(axis=1)
    assert (ours == theirs).mean() >= 0.95
    if VNNI:
        require_equal_codes(trace, split.images[:100])
        require_agreement(path, split)
