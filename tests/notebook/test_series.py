"""The map of the series is read from the title cells of the notebooks that exist."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from eqprop_lab.notebook.series import Entry, series, series_table

TITLE = """# {number} · {title}

Two states are
enough | for a gradient.

Time: 25 min read, 40 s run (CPU) · Needs: 01, 02 · Level: core

Previous: [02 · Before](02_before.ipynb)
"""


def write(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    nbformat.write(new_notebook(cells=[new_markdown_cell(source)]), path)
    return path


def test_entry_holds_what_the_title_cell_says(tmp_path: Path) -> None:
    path = write(tmp_path, "03_two_phases.ipynb", TITLE.format(number="03", title="Two phases"))
    claim = "Two states are enough | for a gradient."
    assert series(tmp_path) == [Entry("03", "Two phases", claim, 25, 40, "01, 02", "core", path)]


def test_order_is_by_number_and_other_files_are_left_out(tmp_path: Path) -> None:
    for number in ("10", "02", "00"):
        write(tmp_path, f"{number}_x.ipynb", TITLE.format(number=number, title="T"))
    write(tmp_path, "scratch.ipynb", "no title")
    assert [entry.number for entry in series(tmp_path)] == ["00", "02", "10"]


@pytest.mark.parametrize(
    "facts",
    [
        "**Time:** 25 min read, 40 s run (CPU) · **Needs:** 01, 02 · **Level:** core",
        "*Time: 25 min read, 40 s run (CPU) · Needs: 01, 02 · Level: core.*",
        "Time: 25 min read, about 40 s run · Needs: 01, 02 · Level: core",
    ],
)
def test_emphasis_in_the_facts_is_ignored(tmp_path: Path, facts: str) -> None:
    write(tmp_path, "03_a.ipynb", f"# 03 · A\n*A claim.*\n{facts}\n")
    (entry,) = series(tmp_path)
    assert (entry.claim, entry.minutes, entry.run_seconds) == ("A claim.", 25, 40)
    assert (entry.needs, entry.level) == ("01, 02", "core")


def test_links_to_the_neighbours_are_no_claim(tmp_path: Path) -> None:
    links = "[00](00_a.ipynb) · [02](02_a.ipynb)"
    write(
        tmp_path,
        "01_a.ipynb",
        f"# 01 · A\n\n{links}\n\nThe claim.\n\nTime: 1 min, 2 s · Needs: 00 · Level: core",
    )
    assert series(tmp_path)[0].claim == "The claim."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("# 04 · Wrong number\n\nClaim.", "begin with '# 03"),
        ("## 03 · Not a title\n\nClaim.", "begin with '# 03"),
        ("# 03 · A\n\nClaim.\n\nTime: long · Needs: 01 · Level: core", "no line 'Time"),
        ("# 03 · A\n\nTime: 1 min, 2 s · Needs: 01 · Level: core", "no sentence"),
        ("", "begin with '# 03"),
    ],
)
def test_a_title_cell_that_lacks_something_is_named(
    tmp_path: Path, source: str, message: str
) -> None:
    write(tmp_path, "03_a.ipynb", source)
    with pytest.raises(ValueError, match=f"03_a.ipynb: .*{message}"):
        series(tmp_path)


@pytest.mark.parametrize("text", ["not json", "[]", '{"cells": [{"source": "x"}]}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "03_a.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="03_a.ipynb is not a notebook"):
        series(tmp_path)


def test_a_notebook_without_cells_has_no_title(tmp_path: Path) -> None:
    nbformat.write(new_notebook(), tmp_path / "03_a.ipynb")
    with pytest.raises(ValueError, match="begin with '# 03"):
        series(tmp_path)


def test_default_folder_is_found_from_inside_and_from_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "notebooks"
    (folder / "deeper").mkdir(parents=True)
    write(folder, "03_a.ipynb", TITLE.format(number="03", title="A"))
    for place in (tmp_path, folder, folder / "deeper"):
        monkeypatch.chdir(place)
        assert [entry.path for entry in series()] == [folder / "03_a.ipynb"]


def test_no_notebooks_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="no notebook called NN_topic"):
        series(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"series\('notebooks'\)"):
        series()


def test_table_links_every_notebook_and_keeps_its_columns(tmp_path: Path) -> None:
    for number in ("02", "03"):
        write(tmp_path, f"{number}_x.ipynb", TITLE.format(number=number, title="T"))
    head, rule, *rows = series_table(series(tmp_path), prefix="notebooks/").splitlines()
    assert len(rows) == 2 and head.count("|") == rule.count("|") == 7
    assert rows[1].startswith(
        "| [03 · T](notebooks/03_x.ipynb) | Two states are enough \\| for a gradient. "
        "| 25\u00a0min | 40\u00a0s |"
    )
    assert "](02_x.ipynb)" in series_table(series(tmp_path))


def test_table_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="entries is empty"):
        series_table([])


def test_the_committed_series_is_complete(root: Path) -> None:
    numbers = [entry.number for entry in series(root / "notebooks")]
    assert numbers[0] == "00" and len(set(numbers)) == len(numbers)
