"""Which recipe for which need, sentences about recipes, and the picture of accuracy against size."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import evaluation, model, seed_study, wrong_on
from test_analysis import tables_in

from resnet8 import results
from resnet8.comparison import compare
from resnet8.report import choice, pictures, plots
from resnet8.report.documents import COMPARISON
from resnet8.report.limit import Limits

if TYPE_CHECKING:
    from resnet8.results import Evaluation

ROOT = Path(__file__).resolve().parents[2]
LABELS = "0123456789" * 100


def file(
    name: str,
    wrong: range,
    size: int,
    weights: str = "uint8",
    *,
    speed: float = 1000.0,
    runtime: str = "onnxruntime",
    per_channel: bool = True,
) -> Evaluation:
    described = model(f"{name}.onnx", "uint8", weights, size)
    found = evaluation(
        *(LABELS, wrong_on(LABELS, wrong)), runtime=runtime, described=described, recipe=name, speed=speed
    )
    assert found.quantization is not None
    settings = {**found.quantization.settings, "per_channel": per_channel}
    return replace(found, quantization=replace(found.quantization, settings=settings))


FP32 = evaluation(LABELS, wrong_on(LABELS, range(100)))
RUN = [
    FP32,
    file("int8", range(101), 82_000),
    file("int8-vnni", range(100), 82_000, "int8", speed=9000.4),
    file("int8-per-tensor", range(103), 81_000, per_channel=False),
    file("int4", range(105), 45_000, "int4+uint8"),
    file("mixed", range(130), 37_000, "int2+int4+uint8"),
    file("torch-int8", range(140), 186_000, "int8", runtime="pytorch"),
    file("torch-pt2e-int8", range(120), 150_000, "int8", runtime="pytorch"),
]


def test_each_need_has_its_recipe() -> None:
    (table,) = tables_in(choice.needs(compare(RUN), RUN))
    assert [row[:2] for row in table[2:]] == [
        ["the smallest", "`mixed`"],
        ["the smallest that cannot be told from FP32", "`int4`"],
        ["the most faithful", "`int8`"],
        ["the fastest here", "`int8-vnni`"],
        ["PyTorch", "`torch-pt2e-int8`"],
        ["hardware with one scale for a tensor", "`int8-per-tensor`"],
    ]
    assert table[5][3:] == ["82,000", "900", "1.000", "1,000", "9,000", "no"]


def test_a_need_that_nothing_serves() -> None:
    (table,) = tables_in(choice.needs(compare([FP32]), [FP32]))
    assert {cell for row in table[2:] for cell in row[1:]} == {"–"}


def test_recipes_in_a_sentence() -> None:
    study = seed_study(RUN[1], {42: (899, 999), 43: (897, 995)})
    found = choice.recipes(compare(RUN[:3]), RUN[:3], Limits(seeds=(study,)))
    assert list(found) == [f"recipe-{name}" for name in choice.RECIPES]
    assert found["recipe-int8"] == (
        "*Measured:* 82,000 bytes, 899 of 1,000 correct (1 lost, 0 gained, p = 1.000), the float model's prediction "
        "on 999; 1,000 images/s with VNNI; made in 1 s. Over 2 calibration draws: correct 898.0 ± 1.4 (897 – 899), "
        "agreement 997.0 ± 2.8 (995 – 999).\n"
    )
    assert found["recipe-int4"] == "*Not measured here yet.*\n"


def test_the_page_of_recipes_has_every_block() -> None:
    text = (ROOT / "docs/quantization/recipes.md").read_text()
    assert re.findall(r"<!-- recipe-([\w-]+):begin -->", text) == list(choice.RECIPES)


# --- the picture ---


def test_the_picture_shows_every_file() -> None:
    result = compare(RUN)
    assert choice.points(result)[:2] == [(37_000, 87.0, "mixed", False), (45_000, 89.5, "int4", True)]
    assert choice.baseline(result) == 90.0
    svg = plots.content(plots.accuracy_size(result), ".svg", choice.fingerprint(result))
    assert svg == plots.content(plots.accuracy_size(result), ".svg", choice.fingerprint(result))
    text = svg.decode()
    for words in ("mixed", "int4", "torch-int8", "float: 90.00 %", "bytes of the file", choice.fingerprint(result)):
        assert words in text
    for one in (compare([FP32]), compare([*RUN[:2], replace(RUN[1], model=RUN[3].model)])):
        assert plots.content(plots.accuracy_size(one), ".png").startswith(b"\x89PNG")


def test_names_that_are_near_stand_together() -> None:
    result = compare([FP32, RUN[1], file("like", range(101), 82_100)])
    text = plots.content(plots.accuracy_size(result), ".svg").decode()
    assert "<!-- int8, like -->" in text


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with a comparison, and a README that shows the picture."""
    results.save(compare(RUN), tmp_path / COMPARISON)
    (tmp_path / "README.md").write_text("![](docs/images/accuracy-size.svg)\n")
    (tmp_path / "docs/images").mkdir(parents=True)
    return tmp_path


def test_pictures_are_drawn_where_they_are_out_of_date(page: Path) -> None:
    files = [page / "docs/images/accuracy-size.svg", page / "docs/images/accuracy-size.png"]
    assert pictures.outdated(page) == files
    for path, content in pictures.drawn(page).items():
        path.write_bytes(content)
    assert pictures.outdated(page) == []
    assert pictures.drawn(page) == {}
    results.save(compare(RUN[:3]), page / COMPARISON)
    assert pictures.outdated(page) == files


def test_no_picture_is_wanted_where_none_is_shown(page: Path) -> None:
    (page / "README.md").write_text("nothing")
    assert pictures.outdated(page) == []
    shutil.rmtree(page / "docs")
    (page / "README.md").unlink()
    assert pictures.outdated(page) == []


def test_the_committed_pictures_show_the_committed_results() -> None:
    assert pictures.outdated(ROOT) == []
