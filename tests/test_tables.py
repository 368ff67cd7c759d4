"""Tables line up, end their columns where they should, and keep bars inside cells."""

from __future__ import annotations

import pytest

from eqprop_lab.tables import csv_text, markdown_table, text_table, with_spread


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("name", "size", ""), ("a", "10", "x"), ("longer", "9", "")]
    assert text_table(rows) == ["name    size", "a       10    x", "longer  9"]
    assert text_table(rows, right=[1]) == ["name    size", "a         10  x", "longer     9"]
    assert text_table([]) == [] and text_table([("only",)]) == ["only"]
    with pytest.raises(ValueError, match="zip"):
        text_table([("a", "b"), ("c",)])


def test_markdown_says_which_columns_end_in_line() -> None:
    assert markdown_table(("a", "b"), [("1|2", "3")], right=[1]) == [
        "| a | b |",
        "|:--|--:|",
        r"| 1\|2 | 3 |",
    ]


def test_csv_quotes_what_would_be_read_as_more_cells() -> None:
    rows = [("a", "b"), (1.5, None), ('say "x"', "y, z")]
    assert csv_text(rows) == 'a,b\n1.5,\n"say ""x""","y, z"\n'


def test_a_spread_is_said_where_there_is_one() -> None:
    assert with_spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert with_spread([98.06, 97.94], 1) == "98.0 ± 0.1"
    assert with_spread([0.5], 3) == "0.500"
