"""Markdown: tables that are tables, and the analysis document, from results alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from builders import CIFAR10, ENVIRONMENT, evaluation, model, noise_study, parity, wrong_on

from resnet8.comparison import compare
from resnet8.environment import Cpu
from resnet8.report.analysis import analysis, comparison, recommendations
from resnet8.report.document import markdown
from resnet8.results import Comparison, DataSource, Evaluation, PairParity

LABELS = "0123456789" * 100
RUN = [
    evaluation(LABELS, wrong_on(LABELS, range(100))),
    evaluation(
        LABELS,
        wrong_on(LABELS, range(100)),
        runtime="pytorch",
        described=model("models/resnet8.pt", size_bytes=350_000, format="torchscript"),
    ),
    evaluation(
        LABELS, wrong_on(LABELS, range(10, 170)), described=model("i.onnx", "int8", "int8", 123_456), recipe="ort-int8"
    ),
    evaluation(
        LABELS,
        wrong_on(LABELS, range(105)),
        described=model("u.onnx", "uint8", "uint8", 123_000),
        recipe="published-uint8",
        method="second",
    ),
    evaluation(
        LABELS, wrong_on(LABELS, range(104)), described=model("v.onnx", "uint8", "uint8", 123_000), recipe="ort-uint8"
    ),
]
REFUSED = {"torch-uint8": "expected scalar type QInt8"}


def on(data: DataSource) -> list[Evaluation]:
    return [replace(one, data=data) for one in RUN]


def compared(run: list[Evaluation] = RUN) -> Comparison:
    return compare(run, refused=REFUSED)


def parse(text: str) -> list[list[str]]:
    """The cells of a table, by GitHub's rules: a bar separates cells unless a backslash stands before it."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines()]
    return [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows]


def tables_in(document: str) -> list[list[list[str]]]:
    blocks = re.findall(r"(?:^\|.*\n?)+", document, re.MULTILINE)
    return [parse(block) for block in blocks]


def section(document: str, heading: str) -> str:
    return document.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


# --- comparison ---


def test_recommendations() -> None:
    float32 = evaluation("0123456789", "0123456789")
    small = model("q.onnx", "uint8", "uint8", size_bytes=100_000)
    portable = evaluation("0123456789", "0123456789", described=small, recipe="ort-portable")
    text = recommendations(compare([float32, portable]))
    assert text.startswith("- For this CPU (Example CPU): **ort-portable**. 10 of 10 correct in 100,000 bytes")
    assert "\n- For any x86-64 CPU: **ort-portable**." in text


def test_comparison() -> None:
    text = markdown(*comparison(compared()))
    (table,) = tables_in(text)
    assert [row[0] for row in table[2:]] == ["fp32", "fp32", "ort-int8", "published-uint8", "ort-uint8"]
    assert [row[3] for row in table[2:]] == ["900", "900", "840", "895", "896"]
    assert "Flagged for their drop: ort-int8." in text
    assert "**torch-uint8** could not be made: expected scalar type QInt8" in text
    assert "- For any x86-64 CPU: **ort-uint8**." in text
    assert compared().rule in text
    assert "Published:" in text
    assert text.endswith("\n")


def test_comparison_without_flags_refusals_or_candidates() -> None:
    text = markdown(*comparison(compare(RUN[:1])))
    assert "No model drops by more than the limit." in text
    assert "could not be made" not in text
    assert "**none**. No quantized model qualifies." in text


def test_refusals_words_stay_one_paragraph() -> None:
    result = compare(RUN[:1], refused={"torch-uint8": "first line\n\n# second\n| third |"})
    text = markdown(*comparison(result))
    assert "first line # second | third |" in text


# --- the document ---


def test_every_table_is_well_formed() -> None:
    found = tables_in(analysis(compared(), parity(), RUN))
    assert len(found) == 9
    for table in found:
        assert len({len(row) for row in table}) == 1
        assert all(set(cell) <= set("-:") for cell in table[1])


def test_document_is_the_results() -> None:
    result = compared()
    document = analysis(result, parity(), RUN)
    assert document == analysis(result, parity(), RUN)  # and nothing else: no time, no order of a set
    assert document.startswith("# Quantization analysis\n")
    assert section(document, "Result").strip() == markdown(*comparison(result)).strip()

    measured = section(document, "What was measured, and on what")
    for fact in (
        "1,000",
        "CIFAR-10 (official)",
        "f" * 64,
        "Example CPU",
        "avx512_vnni",
        "onnxruntime 1.31.1",
        "3.11.7",
    ):
        assert fact in measured

    conversion = section(document, "The conversion is equivalent")
    for fact in (
        "passed",
        "1e-04",
        "opset 13",
        "IR 7",
        "39 nodes",
        "78,666",
        "78,186",
        "(batch, 32, 32, 3)",
        "1.50e-06",
    ):
        assert fact in conversion
    assert "byte for byte, the one that this Keras file makes on every machine" in conversion
    pairs, folding = tables_in(conversion)
    assert pairs[2][:2] == ["keras – onnxruntime", "1.50e-06"]
    assert folding[2:] == [["bn/mul", "3", "2", "3"], ["bn/add", "3", "0", "0"]]
    assert "**FAILED**" in section(analysis(result, parity(passed=False), RUN), "The conversion is equivalent")

    (classes,) = tables_in(section(document, "What quantization costs, class by class"))
    assert classes[0][2:] == ["fp32 (onnxruntime)", "fp32 (pytorch)", "ort-int8", "published-uint8", "ort-uint8"]
    assert classes[2] == ["airplane", "100", "90", "90", "84", "89", "89"]

    (real,) = tables_in(section(document, "Is the difference real?"))
    assert [row[0] for row in real[2:]] == ["ort-int8", "published-uint8", "ort-uint8"]
    assert real[2][2:5] == ["70", "10", "-6.00"]
    assert real[3][2:5] + real[3][6:] == ["5", "0", "-0.50", "0.062"]

    calibration = section(document, "Calibration: the same images for all, and how much they matter")
    (drawn,) = tables_in(calibration)
    assert drawn[3] == ["published-uint8", "second", "42", "20", "2 – 2", "895"]
    assert "moves the uint8 model from 896 (first) to 895 (second) correct images" in calibration
    assert "with the same settings (but for the last bits of the ranges), 1 images" in calibration

    cpu = section(document, "The CPU is part of the result")
    (kernels,) = tables_in(cpu)
    assert [row[3] for row in kernels[2:]] == ["no: can lose accuracy without VNNI", "yes", "yes"]
    assert "Example CPU, with VNNI" in cpu

    published = section(document, "The published numbers")
    counts, sizes = tables_in(published)
    assert counts[2:] == [["published-uint8", "8,675", "895 (VNNI)", "–", "–", "–"]]
    assert sizes[4][:4] == ["published-uint8", "123,000", "120.1 KB", "123 KB"]

    assert "uv run resnet8 reproduce\n" in section(document, "Reproduce it")


def test_the_noise_floor() -> None:
    studies = [noise_study(RUN[2], [range(150), range(165)]), noise_study(RUN[3], [range(100), range(112)])]
    result = compare(RUN, refused=REFUSED, noise=studies)
    document = analysis(result, parity(), RUN, noise=studies)
    (comparison,) = tables_in(section(document, "Result"))
    assert [row[4] for row in comparison] == ["noise", "---:", "–", "–", "835 – 850", "888 – 900", "–"]
    assert "Noise: the least and the greatest count" in section(document, "Result")
    floor = section(document, "The noise floor")
    (measured,) = tables_in(floor)
    assert [row[:5] for row in measured[2:]] == [
        ["ort-int8", "840", "2", "842.5 ± 10.6", "835 – 850"],
        ["published-uint8", "895", "2", "894.0 ± 8.5", "888 – 900"],
    ]
    assert "Counts that differ by less than the spread are not different results." in floor
    assert "widest for ort-int8: 15 images, from 835 to 850." in floor
    assert "Published counts: published-uint8 (8,675) outside its range." in floor


def test_nothing_is_said_of_noise_that_was_not_measured() -> None:
    document = analysis(compared(), parity(), RUN)
    assert "noise floor" not in document
    assert "Noise:" not in document


@pytest.mark.parametrize("dataset", ["demo digits", "unofficial"])
def test_other_images_are_announced(dataset: str) -> None:
    run = on(replace(CIFAR10, dataset=dataset))
    document = analysis(compared(run), parity(), run)
    assert "> **Not a CIFAR-10 result.**" in document
    assert "8,719" not in document
    assert ("reproduce --demo" in document) == (dataset == "demo digits")


def test_official_images_are_not() -> None:
    assert "Not a CIFAR-10 result" not in analysis(compared(), parity(), RUN)


def test_cpu_without_vnni_is_said() -> None:
    old = replace(ENVIRONMENT, cpu=Cpu("Old CPU", ("avx2",), 4))
    run = [replace(one, environment=old) for one in RUN]
    assert "Measured on Old CPU, without VNNI" in analysis(compared(run), parity(), run)


def test_document_without_quantized_models() -> None:
    document = analysis(compare(RUN[:1]), parity(PairParity("keras", "onnxruntime", 0, 0, 0, 0)), RUN[:1])
    assert all(len({len(row) for row in table}) == 1 for table in tables_in(document))
    assert "The draw alone" not in document


# --- what lies between a published count and ours ---


def published_int8(correct: int, *, vnni: bool, subset: str = "all") -> Evaluation:
    """A result of 10,000 images with that many right, on a CPU with or without VNNI."""
    labels = "0123456789" * 1000
    cpu = ENVIRONMENT.cpu if vnni else Cpu("Old CPU", ("avx2",), 4)
    return evaluation(
        labels,
        wrong_on(labels, range(10_000 - correct)),
        described=model("i.onnx", "int8", "int8", 123_456),
        recipe="published-int8",
        environment=replace(ENVIRONMENT, cpu=cpu),
        data=replace(CIFAR10, subset=subset),
    )


@pytest.mark.parametrize(
    ("here", "vnni", "words"),
    [
        (
            8612,
            True,
            "+54 here. The saturation of CPUs without VNNI costs this file 53 images: 8,559 where sums of two",
        ),
        (
            8559,
            False,
            "+1 here. The saturation of CPUs without VNNI costs this file 53 images: 8,559 where sums of two",
        ),
        (8558, False, "the published count, to the image. The saturation"),
    ],
)
def test_a_published_difference_is_explained_by_measured_files(here: int, vnni: bool, words: str) -> None:
    labels = "0123456789" * 1000
    run = [evaluation(labels, wrong_on(labels, range(1281))), published_int8(here, vnni=vnni)]
    exact = {"published-int8": replace(published_int8(8612, vnni=False), runtime="integer")}
    saturated = {"published-int8": replace(published_int8(8559, vnni=False), runtime="emulated-avx2")}
    document = analysis(compare(run), parity(), run, exact=exact, saturated=saturated)
    published = section(document, "The published numbers")
    assert f"- **published-int8**: {words}" in published
    assert "A CPU without VNNI comes closest to the published count: +1." in published


def test_without_that_evidence_the_difference_stands_alone() -> None:
    labels = "0123456789" * 1000
    run = [evaluation(labels, wrong_on(labels, range(1281))), published_int8(8612, vnni=True)]
    published = section(analysis(compare(run), parity(), run), "The published numbers")
    assert "- **published-int8**: +54 here.\n" in published
