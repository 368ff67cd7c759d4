"""Check yourself: questions with folded answers, readable without script, colour or mouse."""

from __future__ import annotations

import html
import re

from eqprop_lab.notebook.output import emit


def quiz(*questions: tuple[str, str]) -> None:
    """Show (question, answer) pairs, each answer folded; write numbers of the run into the answers.

    Texts are plain, with `code` in backticks and formulas in dollars; a new line stays one.
    Raises ValueError, TypeError for a pair that is none, or says nothing.
    """
    if not questions:
        raise ValueError("quiz() without a question; write quiz((question, answer), ...)")
    for pair in questions:
        if not isinstance(pair, tuple) or [type(text) for text in pair] != [str, str]:
            raise TypeError(f"quiz: {pair!r} is not a pair (question, answer) of texts")
        if not all(text.strip() for text in pair):
            raise ValueError(f"quiz: {pair!r} has an empty text")
    items = [
        f'<li style="margin:0 0 1em"><div>{_html(question)}</div>'
        f'<details><summary style="cursor:pointer">Answer {number}</summary>'
        f'<div style="margin:.3em 0 0 1em">{_html(answer)}</div></details></li>'
        for number, (question, answer) in enumerate(questions, 1)
    ]
    asked = [f"{n}. {question}" for n, (question, _) in enumerate(questions, 1)]
    answered = [f"{n}. {answer}" for n, (_, answer) in enumerate(questions, 1)]
    emit(
        {
            "text/html": f'<ol class="eqprop-quiz">{"".join(items)}</ol>',
            "text/plain": "\n".join(["Questions", *asked, "", "Answers", *answered]),
        }
    )


def _html(text: str) -> str:
    """Escaped, with `code` and line breaks."""
    escaped = html.escape(text.strip()).replace("\n", "<br>")
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
