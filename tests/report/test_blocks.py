"""The generated parts of the pages on arithmetic: what stands in them is what the results say."""

from __future__ import annotations

from dataclasses import replace

import builders
import pytest
import quantized

from resnet8.audit.accumulators import audit_accumulators
from resnet8.audit.requantization import audit_requantization
from resnet8.audit.worked import audit_worked
from resnet8.data.cifar10 import Split, read_split
from resnet8.environment import Cpu
from resnet8.report import blocks, cpus
from resnet8.results import (
    Agreement,
    CpuFile,
    CpuTrial,
    Evaluation,
    FirmwareLibrary,
    FirmwareStudy,
    FoldedConstant,
    GraphAgreement,
    LayerAgreement,
    PlaygroundUse,
    PredictionDifference,
    Reliability,
    from_json,
    to_json,
)

MODEL = builders.model("models/q.onnx", "uint8", "int8")
CAUSES = {"tie": 2, "float rounding": 1, "saturation": 0, "other": 0}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return read_split(builders.cifar_folder(tmp_path_factory.mktemp("data") / "cifar"), "test")


def agreement(*differences: PredictionDifference) -> Agreement:
    layers = (
        LayerAgreement("conv", "conv", "integer", 1000, 3, CAUSES, 1),
        LayerAgreement("dense", "dense", "float", 10, 0, dict.fromkeys(CAUSES, 0), 0),
    )
    graph = GraphAgreement("optimized", 1, 8, 9, layers, differences)
    return Agreement(MODEL, builders.CIFAR10, 10, (graph,), builders.ENVIRONMENT, "2026-01-02T03:04:05+00:00")


def test_agreement_shows_layers_that_differ_and_the_sum() -> None:
    text = blocks.agreement("x", agreement())["agreement-x"]
    assert f"Model `q.onnx` (SHA-256 `{MODEL.sha256[:16]}…`), 10 images" in text
    assert "ONNX Runtime on Example CPU (AVX-512, with VNNI)." in text
    assert "1 of 2 layers with integer kernels" in text
    assert "All 10 predictions are equal." in text
    assert "| conv | conv | integer | 1,000 | 3 | 2 | 1 | 0 | 0 | 1 |" in text
    assert "| all layers | 2 | 1 integer | 1,010 | 3 | 2 | 1 | 0 | 0 | 1 |" in text
    assert "dense" not in text


def test_agreement_says_where_differing_predictions_come_from() -> None:
    text = blocks.agreement("x", agreement(PredictionDifference(4, 1, 2, "pool", "tie", tie=False)))["agreement-x"]
    assert (
        "1 of 10 predictions differ; the first differing code of each of these images is in `pool`, its cause: tie"
        in text
    )


def test_requantization(split: Split) -> None:
    result = audit_requantization(MODEL, quantized.network(), split)
    (text,) = blocks.requantization("x", result).values()
    assert text.count("\n| ") == 2 + 20
    for row in result.rows:
        assert f"| {row.multiplier} | {row.rounding} | {row.changed:,} |" in text


def test_accumulators_and_widths(split: Split) -> None:
    result = audit_accumulators(MODEL, quantized.network(), split)
    found = blocks.accumulators("x", result)
    assert set(found) == {"accumulators-x", "widths-x"}
    for row in result.layers:
        assert f"| {row.layer} | {row.operator} | {row.depth} |" in found["accumulators-x"]
    assert "| 16 | wrap |" in found["widths-x"]
    assert all("Requantization in all runs: `float32/half-even`." in text for text in found.values())


def test_worked(split: Split) -> None:
    result = audit_worked(MODEL, quantized.network(), split)
    found = blocks.worked("x", result)
    assert "predicted: " in found["logits-x"]
    assert found["logits-x"].count("\n| ") == 1 + 10 + 1
    assert set(found) == {"layers-x", "pixels-x", "logits-x", "expanded-x"} | {
        f"example-{one.operator}-x" for one in result.examples
    }
    assert found["example-conv-x"].count("```") == 2
    assert found["layers-x"].count("\n| ") == 1 + len(result.layers) + 1
    assert "| 3×3 / 4×4, 0 1 1 1 |" in found["layers-x"]


LABELS = "0123456789"
OLD = replace(builders.ENVIRONMENT, cpu=Cpu("Old CPU", ("avx", "avx2", "fma"), 2))


def test_portability_checks_the_side_that_the_cpu_is_on() -> None:
    int8 = builders.model("q.onnx", "int8", "int8")
    exact = builders.evaluation(LABELS, LABELS, runtime="integer", described=int8)
    emulated = builders.evaluation(LABELS, "1123456780", runtime="emulated-avx2", described=int8)
    new = builders.evaluation(LABELS, "0123456780", recipe="ort-int8", described=int8)
    text = cpus.portability({"ort-int8": exact}, {"ort-int8": emulated}, {"ort-int8": new})
    assert "| ort-int8 | int8 | 10 | 8 | -2 | 2 | 9 | with | 1 |" in text
    assert "ONNX Runtime on Example CPU (AVX-512, with VNNI)" in text
    old = replace(new, predictions="1123456780", overall=emulated.overall, environment=OLD)
    text = cpus.portability({"ort-int8": exact}, {"ort-int8": emulated}, {"ort-int8": old})
    assert "| ort-int8 | int8 | 10 | 8 | -2 | 2 | 8 | without | 0 |" in text
    assert "ONNX Runtime on Old CPU (AVX2, no VNNI)" in text
    assert "Best without VNNI: 80.00 %" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("avx", "avx2", "avx_vnni"), "AVX2, with VNNI"),
        (("avx", "avx2", "avx512f"), "AVX-512, no VNNI"),
        (("avx",), "AVX, no VNNI"),
        (("sse4_1",), "SSE, no VNNI"),
        (("asimd", "asimddp"), "Arm, with dot products"),
        (("asimd",), "Arm, no dot products"),
    ],
)
def test_a_cpu_is_named_with_what_decides_its_kernels(flags: tuple[str, ...], words: str) -> None:
    there = replace(builders.ENVIRONMENT, cpu=Cpu("Some CPU", flags, 2))
    one = builders.evaluation(LABELS, LABELS, environment=there)
    assert f"Some CPU ({words})" in cpus.portability({"m": one}, {"m": one}, {"m": one})


def test_precision_sets_an_option_and_another_file_beside_the_file() -> None:
    described = builders.model("q.onnx", "uint8", "int8")
    before = builders.evaluation(LABELS, "1111111111", described=described, speed=1000)
    after = builders.evaluation(LABELS, "0123456780", described=described, speed=500)
    after = replace(after, session_options={"session.x64quantprecision": "1"})
    exact = builders.evaluation(LABELS, "0123456788", runtime="integer", described=described)
    seven = builders.evaluation(LABELS, "0123456711", speed=1200)
    elsewhere = replace(builders.evaluation(LABELS, LABELS, speed=1200), environment=OLD)
    measured = {"ort-per-channel": before, "ort-7bit-weights": seven, "ort-portable": elsewhere}
    text = cpus.precision({"ort-per-channel": after}, {"ort-per-channel": exact}, measured)
    option = "`session.x64quantprecision` = `1`"
    assert f"| ort-per-channel | {option} | 1 | 9 | +8 | 1,000 | 500 | 0.50 | 1 |" in text
    assert "| the file `ort-7bit-weights` in its place | 1 | 8 | +7 | 1,000 | 1,200 | 1.20 | – |" in text
    assert "| the file `ort-portable` in its place | 1 | 10 | +9 | 1,000 | 1,200 | – | – |" in text
    assert "10 images" in text
    alone = cpus.precision({"ort-per-channel": after}, {}, {"ort-per-channel": before})
    assert "0.50 | – |" in alone
    assert "in its place" not in alone


# A file that was made and predicts as here; one of other bytes; one that cannot be made; one that cannot run; one of a
# CPU that was not asked.
def trial(emulator: str | None = "qemu-x86_64 7.2.22 -cpu Haswell", cpu: Cpu = OLD.cpu) -> CpuTrial:
    made = builders.model("q.onnx", "int8", "int8").sha256
    return CpuTrial(
        emulator=emulator,
        data=replace(builders.CIFAR10, subset="first-5"),
        images=5,
        folding=(FoldedConstant("factor", (0, -3, 2)), FoldedConstant("addend", (0,))),
        files=(
            CpuFile("ort-int8", made, None, made, "01234"),
            CpuFile("ort-uint8", "0" * 64, None, made, "01239"),
            CpuFile("torch-int8", None, "no\nengine", made, "01234"),
            CpuFile("torch-other", made, "no kernel", made, None),
            CpuFile("fp32-onnx", None, None, made, "11234"),
            CpuFile("fp32-pytorch", made, None, made, None),
        ),
        environment=replace(builders.ENVIRONMENT, cpu=cpu),
        created="2026-01-02T03:04:05+00:00",
    )


def cpu_blocks(*trials: CpuTrial, emulated: str = "0123456788") -> dict[str, str]:
    def one(activations: str, weights: str, runtime: str = "onnxruntime") -> Evaluation:
        return replace(
            builders.evaluation(
                LABELS, LABELS, runtime=runtime, described=builders.model("q.onnx", activations, weights), recipe="r"
            ),
            environment=OLD,
        )

    int8 = one("int8", "int8")
    measured = {
        "ort-int8": int8,
        "ort-uint8": one("uint8", "uint8"),
        "torch-int8": one("uint8", "int8", "pytorch"),
        "torch-other": one("uint8", "int8", "pytorch"),
        "fp32-onnx": one("float32", "float32"),
        "fp32-pytorch": one("float32", "float32", "pytorch"),
    }
    exact = {"ort-int8": replace(int8, runtime="integer", predictions="9923456789")}
    without = {"ort-int8": replace(int8, runtime="emulated-avx2", predictions=emulated)}
    return cpus.trials(trials, measured, exact, without)


def test_a_recipe_makes_the_same_file_elsewhere_or_not() -> None:
    text = cpu_blocks(trial())["cpus-files"]
    assert "- **Haswell**: AVX2, no VNNI; emulated by `qemu-x86_64 7.2.22 -cpu Haswell`; 5 images" in text
    assert "Of 4 folded constants, TensorFlow's were off in 2 there, by at most 3 ulp" in text
    assert "| made by | Haswell |" in text
    for row in ("ort-int8 | yes", "ort-uint8 | no", "torch-int8 | not possible", "torch-other | yes"):
        assert f"| {row} |" in text
    assert "| fp32-onnx | not tried |" in text
    assert "Not possible: `torch-int8` on Haswell. «no engine»" in text
    assert "no kernel" not in text


def test_files_predict_the_same_elsewhere_or_not() -> None:
    text = cpu_blocks(trial())["cpus-predictions"]
    assert "| Haswell ≠ here | Haswell ≠ exact |" in text
    assert "of 5." in text
    assert "| ort-int8 | no | 0 | 2 |" in text
    assert "| ort-uint8 | yes | 1 | 1 |" in text  # unsigned weights: exact is what was measured
    assert "| torch-int8 | yes | 0 | – |" in text
    assert "| torch-other | yes | not possible | – |" in text
    assert "| fp32-onnx | yes | 1 | – |" in text
    assert "| fp32-pytorch | yes | not tried | – |" in text
    assert "Not possible: `torch-other` on Haswell. «no kernel»" in text
    differing = "`ort-uint8` on Haswell, `fp32-onnx` on Haswell"
    assert "the same everywhere: 5, of which 3 were evaluated on these CPUs. " in text
    assert f"With another prediction than here: {differing}." in text


def test_each_cpu_has_its_columns_and_a_real_one_its_own_name() -> None:
    bare = replace(trial(None, Cpu("Real CPU", ("avx",), 2)), images=3, folding=(), files=trial().files[:1])
    found = cpu_blocks(trial(), bare)
    assert "- **Real CPU**: AVX, no VNNI, no FMA; 5 images" not in found["cpus-files"]
    assert (
        "- **Real CPU**: AVX, no VNNI, no FMA; 3 images: CIFAR-10 (official), test split, subset first-5.\n"
        in (found["cpus-files"])
    )
    assert "| ort-int8 | yes | yes |" in found["cpus-files"]
    assert "| ort-uint8 | no | not tried |" in found["cpus-files"]
    assert "of 5 (Haswell), 3 (Real CPU)." in found["cpus-predictions"]
    assert "| ort-uint8 | yes | 1 | 1 | – | – |" in found["cpus-predictions"]


def test_the_emulation_is_compared_where_a_cpu_is_such_a_one() -> None:
    text = cpu_blocks(trial(), emulated="0123956789")["cpus-emulation"]
    assert "| ort-int8 | Haswell | 5 | 5 | 4 | 1 |" in text
    for flags in (("avx",), ("avx2", "avx512_vnni")):
        assert "cpus-emulation" not in cpu_blocks(trial(cpu=Cpu("Other CPU", flags, 2)))


def test_seven_bits_of_weights_are_exact_as_they_are() -> None:
    described = builders.model("q.onnx", "uint8", "int8")
    one = replace(builders.evaluation(LABELS, LABELS, described=described, recipe="r"), environment=OLD)
    assert one.quantization is not None
    seven = replace(one, quantization=replace(one.quantization, settings={"reduce_range": True}))
    there = replace(trial(), files=(CpuFile("m", None, None, described.sha256, "01239"),))
    new = replace(one, environment=builders.ENVIRONMENT)
    for measured, cells in ((one, "no | 1 | –"), (seven, "yes | 1 | 1"), (new, "no | 1 | 1")):
        text = cpus.trials([there], {"m": measured}, {}, {})["cpus-predictions"]
        assert f"| m | {cells} |" in text


def test_accumulators_multiplied_out_are_those_of_the_examples(split: Split) -> None:
    for dtype in ("uint8", "int8"):
        result = audit_worked(MODEL, quantized.network(dtype=dtype), split)
        text = blocks.worked("x", result)["expanded-x"]
        sums = {one.layer: one.accumulator for one in result.examples if one.operator in {"conv", "mul", "dense"}}
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()[4:]]
        assert {row[0] for row in rows} == sums.keys()
        for layer, _, _, *parts, total in rows:
            numbers = [int(part.replace(",", "")) for part in parts]
            assert sum(numbers) == int(total.replace(",", "")) == sums[layer]


def test_mistakes_change_the_code_that_the_example_gives(split: Split) -> None:
    result = audit_worked(MODEL, quantized.network(), split)
    found = blocks.pitfalls("x", result, audit_accumulators(MODEL, quantized.network(), split))
    assert set(found) >= {"mistakes-x", "clipping-x"}
    for example in result.examples:
        rows = [row for row in found["mistakes-x"].splitlines() if row.startswith(f"| {example.layer} |")]
        assert any("| rounded down |" in row for row in rows)
        for row in rows:
            _, _, right, wrong, difference = (cell.strip() for cell in row.strip("|").split("|"))
            assert int(right) == example.code
            assert int(wrong) - int(right) == int(difference)


def test_a_forgotten_zero_point_shifts_the_sum_by_its_weights(split: Split) -> None:
    result = audit_worked(MODEL, quantized.network(dtype="int8"), split)
    example = next(one for one in result.examples if one.operator == "conv")
    (facts,) = (one for one in result.layers if one.layer == example.layer)
    wrong = (example.accumulator or 0) + facts.inputs[0].zero_points[0] * sum(term.b or 0 for term in example.terms)
    code = min(max(round(wrong * example.multipliers[0]) + example.zero_point, -128), 127)
    text = blocks.pitfalls("x", result, None)["mistakes-x"]
    assert f"| {example.layer} | zero point of the input forgotten | {example.code} | {code} |" in text


def test_per_channel_models_show_how_far_multipliers_are_apart(split: Split) -> None:
    result = audit_worked(MODEL, quantized.network(per_channel=True), split)
    found = blocks.pitfalls("x", result, None)
    low, high = result.layers[0].multipliers[0]
    assert f"| {high / low:.3g} |" in found["channels-x"]
    assert "clipping-x" not in found


def test_the_playground_has_a_column_for_each_model() -> None:
    first = PlaygroundUse(
        model=MODEL,
        images=200,
        opening_seconds=7.94,
        layer_seconds=(0.5, 0.7, 2.0),
        change_seconds=(0.2, 0.4, 0.3),
        sqnr_seconds=1.44,
        alone_seconds=2.5,
        compared_seconds=3.86,
        resident_mb=(425, 426),
        load=0.15,
        browser="Chromium 1.2",
        environment=builders.ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )
    assert from_json(PlaygroundUse, to_json(first), "memory") == first
    second = replace(first, model=builders.model("models/r.onnx", "uint8", "uint8"), change_seconds=(0.9,), load=1.25)
    text = blocks.playground([first, second])
    assert "| measured | `q.onnx` | `r.onnx` |" in text
    assert (
        "| change a scale and see what becomes of one image (s) | 0.30 (at most 0.40) | 0.90 (at most 0.90) |" in text
    )
    assert "| show another layer (s) | 0.70 (at most 2.00) | 0.70 (at most 2.00) |" in text
    assert "| errors of every layer (s) | 1.4 | 1.4 |" in text
    assert "(MB) | 425, 426 | 425, 426 |" in text
    assert "3 changes" in text
    assert "Chromium 1.2" in text
    assert "load before: 0.1, 1.2." in text


def test_firmware_has_a_row_for_each_model_and_says_how_it_was_measured() -> None:
    one = FirmwareLibrary("int8", MODEL, "fixed32/half-even", 80_000, 84_000, 35_072, 300, 24_000_000, 60_000_000, 0)
    study = FirmwareStudy(
        libraries=(one, replace(one, recipe="int4", flash=46_000)),
        data=builders.CIFAR10,
        images=100,
        compiler="arm-none-eabi-gcc 1.2",
        flags="-O2",
        emulator="qemu-system-arm 3.4, -M board",
        environment=builders.ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )
    assert from_json(FirmwareStudy, to_json(study), "memory") == study
    text = blocks.firmware(study)["firmware"]
    assert "| `int8` | 84,000 | 80,000 | 35,072 | 300 | 24,000,000 | 60,000,000 | 0 |" in text
    assert "| `int4` | 46,000 |" in text
    assert "Requantization fixed32/half-even; 100 images" in text
    assert "arm-none-eabi-gcc 1.2, `-O2`; qemu-system-arm 3.4, -M board." in text
    # 100 inferences in 38.955 s at 120 MHz, as MLPerf Tiny has it.
    assert "389.6 ms a prediction on a Cortex-M4 at 120 MHz, which is 46.7 million cycles" in text


def test_reliability_has_a_column_for_each_allowed_outcome_and_one_for_the_others() -> None:
    result = Reliability(
        outcomes={
            "onnx": {"clear error": 1_200, "crash": 1},
            "record": {"clear error": 3, "same result": 4, "hang": 2},
        },
        failures=("crash", "hang", "memory"),
        environment=builders.ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )
    assert from_json(Reliability, to_json(result), "memory") == result
    text = blocks.reliability(result)
    assert "| what | tried | clear error | same result | not allowed |" in text
    assert "| onnx | 1,201 | 1,200 | 0 | 1 |" in text
    assert "| record | 9 | 3 | 4 | 2 |" in text
    assert "| **all** | 1,210 | 1,203 | 4 | 3 |" in text
    assert "met 3 times: crash, hang, memory. " in text
    assert "elsewhere" not in text


def test_reliability_says_what_was_tried_in_another_environment() -> None:
    other = replace(builders.ENVIRONMENT, libraries={"numpy": "9.8.7"})
    result = Reliability(
        outcomes={"onnx": {"clear error": 1}, "record": {"clear error": 3}},
        failures=("crash",),
        environment=builders.ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
        elsewhere={"record": other, "onnx": other},
    )
    assert from_json(Reliability, to_json(result), "memory") == result
    model = builders.ENVIRONMENT.cpu.model
    assert f"Tried elsewhere: record, onnx ({model}, numpy 9.8.7)." in blocks.reliability(result)
