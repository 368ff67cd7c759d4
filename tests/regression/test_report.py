from __future__ import annotations

import json
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest

from eqprop_lab.regression.report import LONGEST_TEXT, NotebookResult, plain, table, write_reports

RESULTS = [
    NotebookResult(
        "00_a", "00_a", "passed", 2.0, metrics={"cosine": 0.5}, provenance={"device": "cpu"}
    ),
    NotebookResult(
        "01_b", "01_b", "failed", 3.0, ["<bad> \x1b[31m"], executed="notebooks/01_b.ipynb"
    ),
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
    assert failure.get("message") == "<bad> "
    assert json.loads((tmp_path / "metrics.json").read_text())[0]["metrics"] == {"cosine": 0.5}


def anything(seed: int, length: int = 200) -> str:
    """Text of all kinds of characters: plain, controls, half pairs, what XML forbids, terminal
    codes.
    """
    draw = random.Random(seed)
    kinds = (
        range(0x20),
        range(0x20, 0x7F),
        range(0x7F, 0xA0),
        range(0xD800, 0xE000),
        range(0xFFF0, 0x10010),
    )
    characters = [chr(draw.choice(draw.choice(kinds))) for _ in range(length)]
    return (
        "".join(characters)
        + "]]> <![CDATA[ &amp; \x1b[31mred\x1b[0m \x9b2J \x1b]0;title\x07 \x1b(B <script>"
    )


@pytest.mark.parametrize("seed", range(30))
def test_reports_are_valid_for_any_text(tmp_path: Path, seed: int) -> None:
    text = anything(seed)
    results = [
        NotebookResult(
            text,
            text,
            "failed",
            1.0,
            [text, text],
            [text],
            {text: 1.0},
            {text: text},
            {text: [text]},
        ),
        NotebookResult(text, text, "not run", problems=[text], executed="notebooks/\udcff.ipynb"),
    ]
    page = write_reports(results, tmp_path, "smoke").read_bytes().decode("utf-8")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.text == f"{plain(text)}\n{plain(text)}".replace(
        "\r", "\n"
    )
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))[0]["problems"][
        0
    ] == plain(text)
    for said in (page, table(results), (tmp_path / "junit.xml").read_text(encoding="utf-8")):
        assert not any(ord(c) < 0x20 and c not in "\n\t" or 0x7F <= ord(c) < 0xA0 for c in said)
        said.encode("utf-8")
    assert "<script>" not in page and plain(text).endswith("]]> <![CDATA[ &amp; red    <script>")


def test_numbers_json_cannot_say_are_named_in_metrics_json(tmp_path: Path) -> None:
    facts = {"loss": float("nan"), "list": [float("inf"), 1.5], "on": True, "none": None}
    write_reports([NotebookResult("a", "a", "passed", provenance=facts)], tmp_path, "smoke")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    stored = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert stored[0]["provenance"] == {
        "loss": "nan",
        "list": ["inf", 1.5],
        "on": True,
        "none": None,
    }


def test_an_endless_message_and_endless_messages_are_cut(tmp_path: Path) -> None:
    result = NotebookResult("a", "a", "failed", problems=["x" * 10**7, *["y"] * 10**5])
    lines = table([result]).splitlines()
    assert lines[2].endswith(f"... ({10**7 - LONGEST_TEXT} characters more)") and lines[
        -2
    ].endswith("and 99951 more")
    write_reports([result], tmp_path, "smoke")
    assert (tmp_path / "junit.xml").stat().st_size < 20_000 and (
        tmp_path / "report.html"
    ).stat().st_size < 20_000
