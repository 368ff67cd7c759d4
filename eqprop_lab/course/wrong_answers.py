"""The wrong answers of `tests/course/wrong_answers/NN.py` with what the check says to each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WrongAnswer:
    """A function that a learner may write to an exercise, and a part of the check's message."""

    exercise: str
    says: str
    source: str


def wrong_answers(path: Path) -> list[WrongAnswer]:
    """Those of one file, read and not run; none where there is no file."""
    return list(_found(path.read_text("utf-8"))) if path.is_file() else []


def _found(text: str) -> Iterator[WrongAnswer]:
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "wrong":
                exercise, says = map(ast.literal_eval, mark.args)
                yield WrongAnswer(exercise, says, ast.get_source_segment(text, node) or "")
