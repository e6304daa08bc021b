"""Every difference between engine and ONNX Runtime has its cause: on small networks, and on traces made to differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import pytest
from quantized import activation, addition, network, pool, product, refilled, rescale, to_onnx, weighted

from resnet8.audit.agreement import CAUSES, audit_agreement, require_explained
from resnet8.data.cifar10 import Split, preprocess
from resnet8.errors import ModelError
from resnet8.execute import engine
from resnet8.execute.exact import UNIT
from resnet8.execute.vpmaddubsw import saturating
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.layers import Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import limits, qparams
from resnet8.results import Agreement, from_json, to_json
from resnet8.runtimes.ort import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Edit = Callable[[NDArray[np.float32], dict[str, NDArray[Any]]], None]

MODEL = builders.model("network.onnx", "uint8", "int8")
IMAGES = 130  # two batches, the second not full


def images(count: int = IMAGES) -> Split:
    labels = np.random.default_rng(90).integers(0, 10, count)
    return Split(builders.noise(count, 91), labels, builders.CLASS_NAMES, builders.CIFAR10)


def traced(program: Program, form: Any = "qoperator", *, optimize: bool = False) -> Trace:
    return Trace(Path("network.onnx"), to_onnx(program, form).SerializeToString(), optimize=optimize)


class Doctored:
    """A trace whose results are altered behind ONNX Runtime's back; ``edit`` sees each batch in turn."""

    def __init__(self, trace: Trace, edit: Edit) -> None:
        self.program = trace.program
        self._trace, self._edit = trace, edit

    def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        probabilities, codes = self._trace.run(batch)
        probabilities, codes = probabilities.copy(), {name: values.copy() for name, values in codes.items()}
        self._edit(probabilities, codes)
        return probabilities, codes


def compared(trace: Any, split: Split | None = None) -> Any:
    (graph,) = audit_agreement(MODEL, {"graph": trace}, split or images()).graphs
    return graph


def causes(graph: Any) -> dict[str, int]:
    return {cause: sum(layer.causes[cause] for layer in graph.layers) for cause in CAUSES}


# --- as it is ---


@pytest.mark.parametrize("optimize", [False, True], ids=["as written", "optimized"])
@pytest.mark.parametrize(("of_x", "of_w"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_quantized_operators_agree_code_by_code(of_x: Any, of_w: Any, optimize: bool) -> None:
    program = network(5, of_x, of_w, per_channel=True)
    graph = compared(traced(program, optimize=optimize))
    assert causes(graph) == dict.fromkeys(CAUSES, 0)
    assert graph.prediction_differences == ()
    assert graph.integer_layers == 7
    assert graph.engine_correct == graph.ort_correct
    layers = [layer for layer in graph.layers if layer.operator != "rescale"]
    assert [(layer.layer, layer.operator) for layer in layers] == [
        ("first_conv", "conv"),
        ("scaling", "mul"),
        ("shifting", "add"),
        ("second_conv", "conv"),
        ("joining", "add"),
        ("pool", "average-pool"),
        ("dense", "dense"),
    ]
    sizes = [IMAGES * int(np.prod(layer.output.shape)) for layer in program.layers]
    assert [layer.codes for layer in layers] == sizes
    assert {layer.largest_difference for layer in graph.layers} == {0}
    assert {layer.kernel for layer in layers} == {"integer"}


@pytest.mark.parametrize("optimize", [False, True], ids=["as written", "optimized"])
@pytest.mark.parametrize(("of_x", "of_w"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_float_operators_differ_by_ties_and_rounding_only(of_x: Any, of_w: Any, optimize: bool) -> None:
    for seed in range(3):
        trace = traced(network(seed, of_x, of_w), "qdq", optimize=optimize)
        graph = compared(trace)
        found = causes(graph)
        assert (found["other"], found["saturation"]) == (0, 0)
        for layer in graph.layers:
            assert layer.differing == sum(layer.causes.values()) <= layer.codes
            assert layer.largest_difference == (1 if layer.differing else 0)
        assert graph.integer_layers == sum(layer.kernel == "integer" for layer in trace.program.layers)
        if not optimize:
            assert graph.integer_layers == 0
            # the residual's scales, 1, 0.25 and 1.1, put one sum in 22 close to a border
            joining = next(layer for layer in graph.layers if layer.layer == "joining")
            assert joining.causes["float rounding"] + joining.causes["tie"] > 100
        for one in graph.prediction_differences:
            assert one.cause in ("tie", "float rounding")
            assert one.engine != one.ort


def test_correct_predictions_are_counted_against_the_labels() -> None:
    program = network(6)
    split = images()
    ours = engine.probabilities(program, engine.run(program, engine.input_codes(program, split.images))).argmax(axis=1)
    labels = ours.copy()
    labels[:17] = (labels[:17] + 1) % 10
    graph = compared(traced(program), Split(split.images, labels, split.class_names, split.source))
    assert graph.engine_correct == graph.ort_correct == IMAGES - 17


def test_the_result_says_what_was_compared_and_survives_json() -> None:
    program = network(7)
    heard: list[tuple[int, int]] = []
    split = images()
    traces = {"optimized": traced(program, "qdq", optimize=True), "as in the file": traced(program, "qdq")}
    found = audit_agreement(MODEL, traces, split, lambda done, total: heard.append((done, total)))
    assert [graph.graph for graph in found.graphs] == ["optimized", "as in the file"]
    assert (found.model, found.data, found.images) == (MODEL, split.source, IMAGES)
    assert heard == [(100, 260), (130, 260), (230, 260), (260, 260)]
    assert from_json(Agreement, to_json(found), "memory") == found
    require_explained(found)


def test_layers_without_names_are_counted_apart() -> None:
    model = to_onnx(network(), "qoperator")
    for node in model.graph.node:
        node.ClearField("name")
    program = network()
    graph = compared(Trace(Path("network.onnx"), model.SerializeToString(), optimize=False))
    sizes = [IMAGES * int(np.prod(layer.output.shape)) for layer in program.layers]
    assert [layer.codes for layer in graph.layers] == sizes


# --- a network whose borders are known: logits = mean / 2 ---


def halving(scale_out: float = 1.0) -> Program:
    """Means of the channels, copied to logits at half their size: every odd accumulator is a tie."""
    image = activation("image", IMAGE_SHAPE, 1.0, 0)
    mean = pool(image, activation("mean", (1, 1, 3), 1.0, 0))
    x = replace(mean.output, shape=(3,), nchw=False)
    dense = weighted(
        np.random.default_rng(92), x, activation("logits", (10,), scale_out, 10), dense=True, bias=1, name="dense"
    )
    weights = np.zeros((1, 1, 3, 10), np.int8)
    weights[0, 0, np.arange(10) % 3, np.arange(10)] = 1
    bias = np.arange(10, dtype=np.int32)
    dense = refilled(dense, weights, qparams(0.5, 0, "int8"), bias)
    return Program(image, (mean, dense), dense.output, softmax=True, probabilities=None)


def accumulators(program: Program, split: Split) -> NDArray[np.int64]:
    """Of the logits, (N, 10)."""
    mean, dense = program.layers
    codes = engine.step(mean, {"image": engine.input_codes(program, split.images)})
    return engine.integer_accumulator(dense, {"mean": codes})


def first(condition: NDArray[np.bool_]) -> tuple[int, int]:
    image, logit = np.argwhere(condition)[0].tolist()
    return image, logit


def shifted(at: tuple[int, int], by: int) -> Edit:
    def edit(probabilities: NDArray[np.float32], codes: dict[str, NDArray[Any]]) -> None:
        if len(probabilities) == 100:  # the first batch
            codes["logits"][at] = int(codes["logits"][at]) + by

    return edit


def test_the_halving_network_agrees_as_it_is() -> None:
    graph = compared(traced(halving()))
    assert causes(graph) == dict.fromkeys(CAUSES, 0)


def test_a_code_off_by_two_has_no_cause() -> None:
    at = first(accumulators(halving(), images()) % 2 == 1)
    for by in (2, -2):
        graph = compared(Doctored(traced(halving()), shifted(at, by)))
        assert causes(graph) == {"tie": 0, "float rounding": 0, "saturation": 0, "other": 1}
        dense = graph.layers[-1]
        assert (dense.layer, dense.differing, dense.largest_difference) == ("dense", 1, 2)


def test_the_other_side_of_an_exact_tie_is_a_tie() -> None:
    sums = accumulators(halving(), images())
    # 1/2, 5/2: half to even goes down, so the other code is one up; 3/2, 7/2: one down
    for remainder, by in ((1, 1), (3, -1)):
        at = first(sums % 4 == remainder)
        graph = compared(Doctored(traced(halving()), shifted(at, by)))
        assert causes(graph) == {"tie": 1, "float rounding": 0, "saturation": 0, "other": 0}
        assert graph.layers[-1].largest_difference == 1
        # the other neighbour is no border's other side
        graph = compared(Doctored(traced(halving()), shifted(at, -by)))
        assert causes(graph) == {"tie": 0, "float rounding": 0, "saturation": 0, "other": 1}


def test_a_neighbour_far_from_the_border_has_no_cause() -> None:
    at = first(accumulators(halving(), images()) % 2 == 0)
    for by in (1, -1):
        graph = compared(Doctored(traced(halving()), shifted(at, by)))
        assert causes(graph) == {"tie": 0, "float rounding": 0, "saturation": 0, "other": 1}


@pytest.mark.parametrize("kind", ["mul", "add", "add of a constant", "rescale", "pool"])
def test_ties_are_found_in_layers_of_every_kind(kind: str) -> None:
    """Pixels of 7 and 8 in turn, halved or averaged: 3.5, and 7.5 in the mean."""
    image = activation("image", IMAGE_SHAPE, 1.0, 0)
    out = replace(image, name="out", grid=qparams(2.0, 0, "uint8"))
    ones = Constant("ones", np.ones(3, np.uint8), qparams(1.0, 1, "uint8"))
    mean = pool(image, activation("mean", (1, 1, 3), 1.0, 0))
    layer = {
        "mul": product(image, replace(out, grid=qparams(1.0, 0, "uint8")), ones.codes, qparams(0.5, 0, "uint8")),
        "add": addition(image, image, replace(out, grid=qparams(4.0, 0, "uint8"))),
        "add of a constant": addition(image, ones, out),
        "rescale": rescale(image, out),
        "pool": replace(mean, name="other", output=replace(mean.output, name="out")),
    }[kind]
    layer = replace(layer, name="layer")
    dense = halving().layers[1]
    program = Program(image, (layer, mean, dense), dense.output, softmax=True, probabilities=None)
    pixels = np.full((100, *IMAGE_SHAPE), 7, np.uint8)
    pixels[:, :, ::2] = 8
    split = replace(images(100), images=pixels)

    def edit(probabilities: NDArray[np.float32], codes: dict[str, NDArray[Any]]) -> None:
        at = (5, 0, 0, 2) if kind == "pool" else (5, 3, 7, 2)
        even, odd = (8, 7) if kind == "pool" else (4, 3)
        assert codes["out"][at] == even
        codes["out"][at] = odd

    graph = compared(Doctored(traced(program), edit), split)
    assert graph.layers[0].causes == dict.fromkeys(CAUSES, 0) | {"tie": 1}
    assert graph.layers[0].largest_difference == 1


@pytest.mark.parametrize(("ulps", "cause"), [(1, "float rounding"), (2, "float rounding"), (20, "other")])
def test_near_a_border_is_float_rounding_as_far_as_its_bound_goes(ulps: int, cause: str) -> None:
    scale = np.float32(1)
    for _ in range(ulps):
        scale = np.nextafter(scale, np.float32(2))
    program = halving(float(scale))
    sums = accumulators(program, images())
    at = first(sums % 4 == 3)  # x.5 - tiny: rounds down, the other code is one up
    value = int(sums[at]) / 2
    off = value - value / float(scale)
    assert off > 0
    assert (off <= 4.01 * UNIT * value) == (cause == "float rounding")
    trace = traced(program)
    _, codes = trace.run(preprocess(images().images[:100]))
    by = int(np.ceil(value)) + 10 - int(codes["logits"][at])
    if by == 0:  # float32 rounded to the tie, and up from there
        by = -1
    found = causes(compared(Doctored(trace, shifted(at, by))))
    assert found == dict.fromkeys(CAUSES, 0) | {cause: 1}


# --- saturation ---


def heavy() -> Program:
    """Weights that saturate int16 in pairs, at many codes."""
    program = network(8, largest=127)
    layers = []
    for layer in program.layers:
        if isinstance(layer, Weighted) and not layer.dense:
            codes = np.where(np.abs(layer.weights.codes) > 60, np.sign(layer.weights.codes) * 127, layer.weights.codes)
            layer = refilled(layer, codes.astype(np.int8))  # noqa: PLW2901
        layers.append(layer)
    return replace(program, layers=tuple(layers))


def saturated(program: Program) -> Any:
    """A trace as a CPU without VNNI would leave it, whatever CPU this is."""

    class Saturated:
        def __init__(self) -> None:
            self.program = program

        def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
            codes = {program.input.name: engine.input_codes(program, batch)}
            logits = engine.run(
                program,
                codes[program.input.name],
                accumulators=saturating,
                watch=codes.__setitem__,
            )
            return engine.probabilities(program, logits), codes

    return Saturated()


def test_saturation_is_a_cause_on_cpus_that_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet8.environment.has_vnni", lambda cpu: False)
    graph = compared(saturated(heavy()))
    found = causes(graph)
    assert found["saturation"] > 100
    assert found["other"] == 0
    by_layer = {layer.layer: layer for layer in graph.layers}
    assert by_layer["first_conv"].causes["saturation"] > 0
    assert by_layer["first_conv"].largest_difference > 1
    # what reads saturated codes agrees: each layer is judged by itself
    for name in ("scaling", "shifting", "joining", "pool"):
        assert by_layer[name].differing == 0
    for one in graph.prediction_differences:
        assert one.cause in ("saturation", "float rounding", "tie")


def test_saturation_is_no_excuse_on_cpus_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet8.environment.has_vnni", lambda cpu: True)
    found = causes(compared(saturated(heavy())))
    assert found["saturation"] == 0
    assert found["other"] > 100


def test_saturation_explains_only_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet8.environment.has_vnni", lambda cpu: False)
    graph = compared(Doctored(traced(halving()), shifted(first(accumulators(halving(), images()) % 2 == 0), 3)))
    assert causes(graph) == {"tie": 0, "float rounding": 0, "saturation": 0, "other": 1}


# --- predictions ---


def flipped(image: int, to: int) -> Edit:
    def edit(probabilities: NDArray[np.float32], codes: dict[str, NDArray[Any]]) -> None:
        if len(probabilities) == 30:  # the second batch
            probabilities[image - 100] = np.eye(10, dtype=np.float32)[to]

    return edit


def unlike(program: Program, image: int) -> tuple[int, int]:
    """The engine's class of an image, and another."""
    codes = engine.input_codes(program, images().images[image : image + 1])
    ours = int(engine.probabilities(program, engine.run(program, codes)).argmax())
    return ours, (ours + 1) % 10


def test_a_prediction_that_differs_without_a_differing_code_has_no_cause() -> None:
    program = network(9)
    sorted_logits = np.sort(engine.run(program, engine.input_codes(program, images().images)), axis=1)
    image = 100 + int(np.flatnonzero((sorted_logits[:, -1] != sorted_logits[:, -2])[100:])[0])
    ours, theirs = unlike(program, image)
    (one,) = compared(Doctored(traced(program), flipped(image, theirs))).prediction_differences
    assert (one.image, one.engine, one.ort, one.layer) == (image, ours, theirs, "logits")
    assert (one.cause, one.tie) == ("other", False)


def test_a_prediction_that_differs_between_equal_logits_is_a_tie() -> None:
    program = halving()
    dense = program.layers[1]
    # The biases lift two logits of the same channel above all others, to one code.
    bias = np.array([20, 0, 0, 20, 0, 0, 0, 0, 0, 0], np.int32)
    program = replace(program, layers=(program.layers[0], refilled(dense, bias=bias)))
    image = 105
    ours, _ = unlike(program, image)
    assert ours == 0
    (one,) = compared(Doctored(traced(program), flipped(image, 3))).prediction_differences
    assert (one.image, one.engine, one.ort, one.layer) == (image, 0, 3, "logits")
    assert (one.cause, one.tie) == ("tie", True)


def test_a_prediction_names_the_first_layer_that_differs() -> None:
    program = network(9)
    image = 103
    _, theirs = unlike(program, image)
    low, high = limits("uint8")

    def edit(probabilities: NDArray[np.float32], codes: dict[str, NDArray[Any]]) -> None:
        if len(probabilities) == 30:
            flipped(image, theirs)(probabilities, codes)
            for name in ("second", "logits"):
                at = np.argwhere((codes[name][3] > low + 3) & (codes[name][3] < high - 3))[0]
                codes[name][(3, *at)] += np.uint8(2)

    graph = compared(Doctored(traced(program), edit))
    (one,) = graph.prediction_differences
    assert (one.layer, one.cause, one.image) == ("second_conv", "other", image)
    assert causes(graph)["other"] >= 2


# --- the check that stands behind it all ---


def test_differences_without_a_cause_are_an_error() -> None:
    at = first(accumulators(halving(), images()) % 2 == 1)
    found = audit_agreement(MODEL, {"optimized": Doctored(traced(halving()), shifted(at, 2))}, images())
    with pytest.raises(ModelError) as caught:
        require_explained(found)
    assert "network.onnx: engine and ONNX Runtime differ without a known cause (graph optimized)" in str(caught.value)
    assert "found 1 codes, 0 predictions" in str(caught.value)
    program = network(9)
    found = audit_agreement(
        MODEL, {"graph": Doctored(traced(program), flipped(103, unlike(program, 103)[1]))}, images()
    )
    with pytest.raises(ModelError, match="found 0 codes, 1 predictions"):
        require_explained(found)


def test_operators_have_names_for_people() -> None:
    assert [layer.operator for layer in network().layers] == [
        "conv",
        "mul",
        "add",
        "conv",
        "add",
        "average-pool",
        "dense",
    ]
