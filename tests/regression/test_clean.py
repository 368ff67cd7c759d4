from __future__ import annotations

import base64
import copy
import sys
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from eqprop_lab.regression.clean import (
    CleanError,
    absolute_paths,
    committed_copy,
    plain_paths,
    source_hash,
)
from eqprop_lab.regression.outputs import METRICS_MIME, PROVENANCE_MIME, WIDGET_VIEW_MIME
from tests.regression.tiny import code, notebook

ROOT = Path("/home/someone/project")


def png(size: int) -> str:
    return base64.b64encode(b"x" * size).decode()


def executed(*results: NotebookNode) -> tuple[NotebookNode, NotebookNode]:
    """A source notebook and its executed copy as papermill leaves it."""
    source = notebook("x")
    source.metadata["eqprop"] = {"time_limit": {"smoke": 20}}
    done = copy.deepcopy(source)
    done.cells.insert(2, code("seed = 1", "injected-parameters"))
    done.cells[-1].outputs = list(results)
    done.cells[-1].execution_count = 7
    for cell in done.cells:
        cell.metadata["papermill"] = {"duration": 1.5}
    done.metadata["papermill"] = {"input_path": "/home/someone/x.ipynb"}
    done.metadata["widgets"] = {"state": {}}
    done.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    return source, done


def test_copy_keeps_pictures_and_text_and_drops_the_traces_of_the_run() -> None:
    explorer = {
        WIDGET_VIEW_MIME: {"model_id": "1"},
        "image/png": png(9),
        "text/plain": "a sentence",
    }
    private = new_output("display_data", data={METRICS_MIME: {"metrics": {"a": 1}}})
    timing = new_output("display_data", data={PROVENANCE_MIME: {"seconds": 1.5, "device": "cpu"}})
    bar = new_output("stream", name="stderr", text="50%|#####     | 1/2 [00:01<00:01, 1.00it/s]")
    shown = new_output("execute_result", data=explorer, execution_count=7)
    source, done = executed(shown, private, timing, bar)
    result = committed_copy(source, done, ROOT)
    assert [cell.id for cell in result.cells] == [cell.id for cell in source.cells]
    assert [cell.execution_count for cell in result.cells[1:]] == [1, 2]
    assert result.cells[-1].outputs == [
        new_output(
            "execute_result",
            data={"image/png": png(9), "text/plain": "a sentence"},
            execution_count=2,
        )
    ]
    assert set(result.metadata) == {"kernelspec", "language_info", "eqprop"}
    assert result.metadata.language_info == {"name": "python"}
    assert result.metadata.eqprop == {
        "time_limit": {"smoke": 20},
        "source_hash": source_hash(source),
    }
    assert all("papermill" not in cell.metadata for cell in result.cells)


def test_copy_is_the_same_after_a_second_run() -> None:
    source, done = executed(new_output("stream", name="stdout", text="ok"))
    once = committed_copy(source, done, ROOT)
    assert committed_copy(once, done, ROOT) == once


def test_places_of_this_machine_get_names() -> None:
    text = (
        f"{ROOT}/a.py {sys.prefix}/lib/b.py {Path.home()}/c "
        "/tmp/ipykernel_12/345.py:3: warn <X at 0x7f00ab12cd34>"
    )
    assert plain_paths(text, ROOT) == "./a.py <environment>/lib/b.py ~/c <cell>:3: warn <X>"


def test_a_path_that_is_left_is_refused() -> None:
    source, done = executed(
        new_output("stream", name="stdout", text="saved to /tmp/results/x.json")
    )
    with pytest.raises(CleanError, match="path of this machine in an output: /tmp/results/x.json"):
        committed_copy(source, done, ROOT)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /home/x/y.py", ["/home/x/y.py"]),
        (r"C:\Users\x", [r"C:\Users\x"]),
        ("https://example.org/home/x", []),
        ("1/tmp", []),
        ("./root/x and ~/usr/x", []),
    ],
)
def test_absolute_paths(text: str, found: list[str]) -> None:
    assert absolute_paths(text) == found


def test_large_pictures_and_notebooks_are_refused() -> None:
    with pytest.raises(CleanError, match="PNG of 81 KB"):
        committed_copy(
            *executed(new_output("display_data", data={"image/png": png(81 * 1024)})), ROOT
        )
    with pytest.raises(CleanError, match="notebook has .* KB"):
        committed_copy(*executed(new_output("stream", name="stdout", text="y" * 600_000)), ROOT)


def test_outputs_of_other_sources_are_refused() -> None:
    source, done = executed()
    source.cells[-1].source = "y"
    with pytest.raises(CleanError, match="other sources"):
        committed_copy(source, done, ROOT)


def test_the_hash_sees_sources_and_tags_only() -> None:
    source, done = executed(new_output("stream", name="stdout", text="ok"))
    assert source_hash(source) == source_hash(done)
    done.cells[-1].metadata["tags"] = ["check"]
    assert source_hash(source) != source_hash(done)


def test_text_that_a_kernel_cut_up_by_chance_is_one_piece() -> None:
    pieces = [("stdout", "a\n"), ("stdout", "b\n"), ("stderr", "c\n"), ("stdout", "d\n")]
    streams = [new_output("stream", name=name, text=text) for name, text in pieces]
    picture = new_output("display_data", data={"text/plain": "a sentence"})
    source, done = executed(*streams, picture, *copy.deepcopy(streams[:1]))
    outputs = committed_copy(source, done, ROOT).cells[-1].outputs
    assert [output.get("text") for output in outputs] == ["a\nb\n", "c\n", "d\n", None, "a\n"]
