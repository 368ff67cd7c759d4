from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from eqprop_lab.regression.report import NotebookResult, table, write_reports

RESULTS = [
    NotebookResult("00_a", "00_a", "passed", 2.0, metrics={"cosine": 0.5}, provenance={"device": "cpu"}),
    NotebookResult("01_b", "01_b", "failed", 3.0, ["<bad> \x1b[31m"], executed="notebooks/01_b.ipynb"),
    NotebookResult("02_c", "02_c", "not run", problems=["interrupted"]),
]


def test_the_table_has_a_line_per_notebook_and_says_why() -> None:
    lines = table(RESULTS).splitlines()
    assert lines[1].split() == ["00_a", "passed", "2.0", "1"]
    assert lines[2].split()[:2] == ["01_b", "failed"]
    assert lines[3].strip().startswith("<bad>")
    assert lines[-1] == "1 of 3 passed"


def test_reports_are_written_and_readable(tmp_path: Path) -> None:
    page = write_reports(RESULTS, tmp_path, "smoke").read_text()
    assert "&lt;bad&gt;" in page
    assert "<bad>" not in page
    assert 'href="notebooks/01_b.ipynb"' in page
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase[@name='01_b']/failure")
    assert failure is not None
    assert failure.get("message") == "<bad> [31m"
    assert json.loads((tmp_path / "metrics.json").read_text())[0]["metrics"] == {"cosine": 0.5}
