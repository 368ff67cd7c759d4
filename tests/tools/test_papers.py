"""The page of papers says what is recorded: each figure of ours is computed again from its file."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest

from tools import papers

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
BASELINE = json.loads((ROOT / "tests" / "regression" / "baseline.json").read_text("utf-8"))
Entry = dict[str, Any]


def entries(path: Path) -> list[Entry]:
    found = json.loads(path.read_text("utf-8"))["metadata"]["eqprop"]["papers"]
    return [entry for entry in found if entry["value"] is not None]


TOLD = [(path.stem, entry) for path in NOTEBOOKS for entry in entries(path)]
LINES = (ROOT / "notebooks" / "papers.md").read_text("utf-8").splitlines()
TABLE = [line.strip("| ").split(" | ") for line in LINES if line.startswith("| [")]
CASES = [(*told, row) for told, row in zip(TOLD, TABLE, strict=True)]
IDS = [f"{name[:2]}-{entry['paper']}-{i}" for i, (name, entry) in enumerate(TOLD)]


def numbers(text: str) -> list[float]:
    found = re.findall(r"-?\d[\d.]*(?:e-?\d+)?", text.replace(",", ""))
    return [float(number) for number in found]


def accuracies(wanted: Entry, runs: str) -> dict[int, float]:
    """Read from the file by hand: by seed, as fractions."""
    result = json.loads((ROOT / "data" / "results" / f"{wanted['result']}.json").read_text("utf-8"))
    for key in runs.split("."):
        result = result[key]
    keys = wanted.get("field", "test_accuracy").split(".")
    only = wanted.get("only", {})
    kept = [run for run in result if all(run[name] == value for name, value in only.items())]
    return {run["seed"]: reduce(lambda part, key: part[key], keys, run) for run in kept}


def check_stored(wanted: Entry, ours: str, seeds: int) -> None:
    found = accuracies(wanted, wanted["runs"])
    values = 100 * np.array([found[seed] for seed in sorted(found)])
    if "twin" in wanted:
        other = accuracies(wanted, wanted["twin"])
        values -= 100 * np.array([other[seed] for seed in sorted(found)])
    assert seeds == len(values) >= 1
    expected = [values.mean(), *([values.std(ddof=1)] if seeds > 1 else [])]
    assert numbers(ours) == pytest.approx(expected, abs=0.00501)
    assert ours.endswith(" points" if "twin" in wanted else " %")


def check_recorded(entry: Entry, ours: str, seeds: int) -> None:
    kind, value, tol = entry["kind"], entry["value"], entry["tol"]
    signs = {"min": "≥ ", "max": "≤ ", "order": "about "}
    shift = {"min": -tol, "max": tol}.get(kind, 0.0)
    expected = [value + shift]
    if kind in ("abs", "rel"):
        width = tol * abs(value) if kind == "rel" else tol
        expected.append(entry["sd"] if entry["source"] == "seeds" else width)
    assert numbers(ours) == pytest.approx(expected, rel=0.05) and seeds == len(entry["seeds"])
    assert numbers(ours)[0] == pytest.approx(expected[0], rel=1e-3, abs=0.0)
    assert ours.startswith(signs.get(kind, "")) and ours[0] in "≥≤a0123456789-"


@pytest.mark.parametrize(("name", "entry", "row"), CASES, ids=IDS)
def test_ours_is_what_is_recorded(name: str, entry: Entry, row: list[str]) -> None:
    where, published, shown, made, *_ = row
    ours, _, seeds = shown.removesuffix(")").rpartition(" (")
    function = f" `{entry['function']}`" if "function" in entry else ""
    assert where.endswith(f"), {entry['where']}")
    assert made == f"[{name[:2]}]({name}.ipynb){function}"
    assert numbers(published) == pytest.approx([entry["value"]], rel=1e-3)
    if "stored" in entry:
        check_stored(entry["stored"], ours, int(seeds))
    else:
        check_recorded(BASELINE[name][entry["metric"]], ours, int(seeds))


def test_the_page_is_up_to_date() -> None:
    assert papers.main(["--check"]) == 0


@pytest.mark.parametrize("function", sorted({e["function"] for _, e in TOLD if "function" in e}))
def test_functions_exist(function: str) -> None:
    assert callable(resolve_name(f"eqprop_lab.{function}"))


@pytest.mark.parametrize(
    ("references", "by"),
    [
        ("1. A. Name (2017). Of Spins. [doi:10.1/x](https://doi.org/10.1/x)", "Name 2017"),
        ("1. A. Name and B. C. Other, Title, Journal 36, 2017. doi:10.1/x", "Name and Other 2017"),
        ("1. A. Name, B. Other, C. Third (2017). Of 1984. doi:10.1/x", "Name et al. 2017"),
        ("1. A. Name et al., Title, 2018. doi:10.1/x", "Name et al. 2018"),
        ("1. A. Name (2017). Title. doi:10.1/y", ""),
    ],
)
def test_authors_come_from_the_references(references: str, by: str) -> None:
    assert papers.authors(references, "doi:10.1/x") == by


def project(tmp_path: Path, entry: Entry, runs: list[Entry]) -> Path:
    """A project of one notebook with one entry, one recorded metric and one result."""
    full = {"paper": "doi:10.1/x", "where": "table 1", "value": 2.0} | entry
    cell = {"cell_type": "markdown", "source": ["## References\n", "1. A. Name (2017). doi:10.1/x"]}
    nb = {"cells": [cell], "metadata": {"eqprop": {"papers": [full]}}}
    slope = {"kind": "abs", "value": 2.0, "tol": 0.2, "sd": 0.0, "seeds": [0], "source": "theory"}
    files = {
        "notebooks/00_one.ipynb": nb,
        "tests/regression/baseline.json": {"00_one": {"slope": slope}},
        "data/results/some.json": {"a": runs, "b": [{"seed": 7, "test_accuracy": 0.5}]},
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_a_row_and_an_old_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path, {"metric": "slope", "function": "relax"}, [])
    assert papers.main(["--check"], root) == 1
    assert "run python tools/papers.py" in capsys.readouterr().err
    assert papers.main([], root) == 0 == papers.main(["--check"], root)
    link = "[Name 2017](https://doi.org/10.1/x)"
    row = f"| {link}, table 1 | 2 | 2 within 0.2 (1) | [00](00_one.ipynb) `relax` |  |"
    assert (root / "notebooks" / "papers.md").read_text("utf-8").splitlines()[-1] == row


def test_a_statement_without_a_number_is_no_row(tmp_path: Path) -> None:
    assert list(papers.rows(project(tmp_path, {"metric": "slope", "value": None}, []))) == []


RUN = {"seed": 0, "test_accuracy": 0.9}
STORED = {"result": "some", "runs": "a"}


@pytest.mark.parametrize(
    ("entry", "runs", "message"),
    [
        ({"metric": "cosine"}, [], "00_one, doi:10.1/x: 'cosine'"),
        ({"metric": "slope", "paper": "doi:10.1/y"}, [], "not in the list of references"),
        ({"metric": "slope", "paper": "a book", "by": "A 1"}, [], "doi:... or arXiv:... is needed"),
        ({"stored": STORED}, [], "one run a seed is needed, found seeds []"),
        ({"stored": STORED}, [RUN, RUN], "one run a seed is needed, found seeds [0, 0]"),
        ({"stored": STORED | {"only": {"lr": 1}}}, [RUN], "found seeds []"),
        ({"stored": STORED | {"twin": "b"}}, [RUN], "the twin has seeds [7], not [0]"),
    ],
)
def test_what_is_nowhere_is_refused(
    tmp_path: Path, entry: Entry, runs: list[Entry], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        papers.page(project(tmp_path, entry, runs))
