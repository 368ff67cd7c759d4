from __future__ import annotations

from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from eqprop_lab.notebook import metrics as notebook_metrics
from eqprop_lab.regression import outputs
from eqprop_lab.regression.outputs import alert_text, hidden_errors, metrics_of, provenance_of
from tests.regression.tiny import notebook


def holding(*results: NotebookNode) -> NotebookNode:
    nb = notebook("x")
    nb.cells[-1].outputs = list(results)
    return nb


def data(mime: str, content: Any) -> NotebookNode:
    return new_output("display_data", data={mime: content})


def with_widget(state: dict[str, Any], name: str = "HTMLModel") -> NotebookNode:
    nb = notebook("x")
    nb.metadata["widgets"] = {
        outputs.WIDGET_STATE_MIME: {"state": {"1": {"model_name": name, "state": state}}}
    }
    return nb


def test_mimes_are_those_the_notebooks_emit() -> None:
    assert outputs.METRICS_MIME == notebook_metrics.METRICS_MIME
    assert outputs.PROVENANCE_MIME == notebook_metrics.PROVENANCE_MIME


def test_metrics_of_several_cells_are_collected() -> None:
    nb = holding(
        data(outputs.METRICS_MIME, {"metrics": {"a": 1}}),
        data(outputs.METRICS_MIME, {"metrics": {"b": 2.5}}),
    )
    assert metrics_of(nb) == ({"a": 1.0, "b": 2.5}, [])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "is nan"),
        ("nan", "not a number"),
        (True, "not a number"),
        (1e999, "is inf"),
        (10**400, "is an integer of about 401"),
        ([1] * 10**6, "not a number"),
        (None, "not a number"),
    ],
)
def test_what_is_no_finite_number_is_a_problem(value: Any, reason: str) -> None:
    metrics, problems = metrics_of(holding(data(outputs.METRICS_MIME, {"metrics": {"a": value}})))
    assert metrics == {}
    assert len(problems) == 1
    assert reason in problems[0] and len(problems[0]) < 200


@pytest.mark.parametrize(
    "payload", [{}, {"metric": {"a": 1}}, {"metrics": [1]}, [], "text", 3, {"metrics": None}]
)
def test_metrics_without_their_key_are_a_problem(payload: Any) -> None:
    sound = data(outputs.METRICS_MIME, {"metrics": {"a": 1}})
    metrics, problems = metrics_of(holding(data(outputs.METRICS_MIME, payload), sound))
    assert metrics == {"a": 1.0} and len(problems) == 1
    assert problems[0].startswith("code cell 2: an output of metrics holds no 'metrics': ")


@pytest.mark.parametrize("payload", [[], "text", 3, None])
def test_provenance_that_is_none_is_left_out(payload: Any) -> None:
    assert provenance_of(holding(data(outputs.PROVENANCE_MIME, payload))) == {}


def test_a_metric_recorded_twice_is_a_problem() -> None:
    once = data(outputs.METRICS_MIME, {"metrics": {"a": 1}})
    assert metrics_of(holding(once, once))[1] == ["code cell 2: metric 'a' is recorded twice"]


def test_provenance_is_read() -> None:
    assert provenance_of(holding(data(outputs.PROVENANCE_MIME, {"seed": 3}))) == {"seed": 3}
    assert provenance_of(notebook("x")) == {}


def test_errors_in_cells_alerts_and_thread_traces_are_found() -> None:
    nb = holding(
        new_output("error", ename="ValueError", evalue="\x1b[31mbad\x1b[0m", traceback=[]),
        data("text/html", '<div class="x" role="alert"><b>it &lt; broke</b></div>'),
        new_output("stream", name="stderr", text="Exception in thread Thread-1:\n  trace\n"),
    )
    assert hidden_errors(nb) == [
        "code cell 2: error ValueError: bad",
        "code cell 2: alert: it < broke",
        "code cell 2: Exception in thread Thread-1:",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\x1b[31mred\x1b[0m", "red"), ("\x1b[1;38;5;4mx", "x"), ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;u\x1b\\link", "link"),
        ("\x9b2Jx", "x"), ("\x1b(Bx", "x"), ("\x1bcx", "x"), ("\x1b[?25lx", "x"),
    ],
)  # fmt: skip
def test_terminal_codes_are_taken_whole(text: str, wanted: str) -> None:
    assert outputs.ANSI.sub("", text) == wanted


def test_errors_in_widget_state_are_found() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "slider", "traceback": []}
    assert hidden_errors(with_widget({"outputs": [error]}, "OutputModel")) == [
        "OutputModel: error ValueError: slider"
    ]
    assert hidden_errors(with_widget({"value": "<p role=alert>boom</p>"})) == [
        "HTMLModel: alert: boom"
    ]


def test_healthy_widgets_and_empty_placeholders_are_no_problem() -> None:
    assert hidden_errors(with_widget({"value": '<div role="alert"></div>'})) == []
    assert hidden_errors(with_widget({"value": 3, "outputs": []})) == []
    assert alert_text("<p>role=alert in a sentence</p>") == ""
