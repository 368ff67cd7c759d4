"""The quiz: questions in sight, answers folded, both as plain text too."""

from __future__ import annotations

from typing import Any

import pytest

from eqprop_lab.notebook import quiz
from tests.notebook.conftest import Output


def test_answers_are_folded_and_texts_escaped(shown: list[Output]) -> None:
    quiz(("Is `a` < $b$?\nWhy?", "Yes & no."), ("How many?", "3"))
    data, _ = shown[0]
    page = data["text/html"]
    assert "<div>Is <code>a</code> &lt; $b$?<br>Why?</div>" in page
    assert page.count("<details>") == 2 and "open" not in page
    assert ">Answer 1</summary>" in page and "Yes &amp; no." in page
    assert data["text/plain"] == (
        "Questions\n1. Is `a` < $b$?\nWhy?\n2. How many?\n\nAnswers\n1. Yes & no.\n2. 3"
    )


@pytest.mark.parametrize(
    ("questions", "error"),
    [
        ((), ValueError),
        ((("a?",),), TypeError),
        ((("a?", 3),), TypeError),
        ((("a?", ""),), ValueError),
    ],
)
def test_a_quiz_of_something_else_is_refused(questions: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="quiz"):
        quiz(*questions)
