"""Documents as values, and what they are in Markdown."""

from __future__ import annotations

import re

from builders import parity
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet8.report import tables
from resnet8.report.document import Table, cells, markdown, table


def parse(text: str) -> list[list[str]]:
    """The cells of a table, by GitHub's rules: a bar separates cells unless a backslash stands before it."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines()]
    return [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows]


def test_a_table_has_a_row_for_each_thing_and_a_column_for_each_question() -> None:
    content = table(
        ["ab", ""], {"word": lambda word: word or None, "letters": len, "more": lambda word: 1000}, title="t"
    )
    assert content == Table("t", ("word", "letters", "more"), (("ab", "2", "1,000"), ("–", "0", "1,000")))


def test_numbers_have_commas_and_what_is_not_there_a_dash() -> None:
    assert cells("1234", 1234, -1234567, 0, None, "") == ("1234", "1,234", "-1,234,567", "0", "–", "")


def test_parts_stand_below_one_another() -> None:
    assert markdown("one", Table("not shown", ("a",), ()), "two") == "one\n\n| a |\n| --- |\n\ntwo\n"


def test_table() -> None:
    text = markdown(Table("title", ("model", "framework", "correct"), (("a", "b", "1"), ("c", "d", "2")), left=2))
    assert text == "| model | framework | correct |\n| --- | --- | ---: |\n| a | b | 1 |\n| c | d | 2 |\n"


CELL = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="\\"), max_size=8)


@settings(derandomize=True)
@given(cells=st.lists(st.tuples(CELL, CELL), min_size=2, max_size=4))
def test_any_cells_stay_in_their_columns(cells: list[tuple[str, str]]) -> None:
    heading, *rows = cells
    parsed = parse(markdown(Table("", heading, tuple(rows))))
    assert parsed == [list(heading), ["---", "---:"], *map(list, rows)]


def test_cells_are_one_line() -> None:
    assert len(markdown(Table("", ("a", "b"), (("x\ny", "z"),))).splitlines()) == 3


def test_certificates_heading_has_bars() -> None:
    parsed = parse(markdown(tables.parity(parity())))
    assert {len(row) for row in parsed} == {5}
    assert parsed[0][1] == "largest |Δp|"
