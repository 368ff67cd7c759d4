"""What comes over the wire as a batch: every value is looked at before any is computed with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.models.language.generation import Generates
from eqprop_lab.validation import shown

DEEPEST = 6  # lists in lists of one batch


class Refused(Exception):
    """A question that gets no answer: HTTP status, the field it is about, what is accepted."""

    def __init__(self, status: int, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.status, self.field, self.message = status, field, message


def errors(*found: tuple[str, str]) -> dict[str, list[dict[str, str]]]:
    """What is said where there is no answer, of (field, message) each."""
    return {"errors": [{"field": field, "message": message} for field, message in found]}


def batch(inputs: list[Any], like: Tensor, most: int) -> Tensor:
    """float32 inputs (B, ...) on the device of `like`. Raises Refused naming the first bad one."""
    _check_size(inputs, most)
    _check_numbers(inputs)
    try:
        array = np.array(inputs, dtype=np.float64)
    except (ValueError, OverflowError) as error:
        why = "its lists differ in length" if isinstance(error, ValueError) else str(error)
        raise Refused(422, "inputs", f"must be an array of numbers (B, ...): {why}") from error
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        where = "".join(f"[{i}]" for i in np.argwhere(~np.isfinite(array))[0])
        raise Refused(422, f"inputs{where}", "must be finite, and no larger than float32 holds")
    return torch.from_numpy(array).to(like)


def tokens(inputs: list[Any], model: Generates, most: int) -> Tensor:
    """Tokens (B, T) of lists of numbers or of texts of one length. Raises Refused."""
    _check_size(inputs, most)
    device = next(model.parameters()).device
    if all(isinstance(text, str) for text in inputs):
        if model.vocab is None:
            raise Refused(422, "inputs", "must be tokens: this model has no vocabulary")
        try:
            rows = [model.vocab.encode(text).tolist() for text in inputs]
        except ValueError as error:
            raise Refused(422, "inputs", str(error)) from error
    else:
        rows = inputs
        for at, row in enumerate(rows):
            if not isinstance(row, list) or not {int}.issuperset(map(type, row)):
                raise Refused(
                    422, f"inputs[{at}]", f"must be a list of tokens, or a text, got {shown(row)}"
                )
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise Refused(422, "inputs", "must be sequences of one length, of one token at least")
    if any(not 0 <= token < model.vocab_size for row in rows for token in row):
        raise Refused(422, "inputs", f"must hold tokens from 0 to {model.vocab_size - 1}")
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _check_size(inputs: list[Any], most: int) -> None:
    if not 1 <= len(inputs) <= most:
        raise Refused(422, "inputs", f"must be a batch of 1 to {most} samples, got {len(inputs)}")


def _check_numbers(inputs: list[Any]) -> None:
    """Not left to NumPy, which takes texts and truth values for numbers."""
    for where, row in _rows(inputs, "inputs", 1):
        if not {int, float}.issuperset(map(type, row)):
            at = next(i for i, value in enumerate(row) if type(value) not in (int, float))
            raise Refused(422, f"{where}[{at}]", f"must be a number, got {shown(row[at])}")


def _rows(value: list[Any], where: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    """The innermost lists: those that begin with no list."""
    if depth > DEEPEST:
        raise Refused(422, "inputs", f"must be an array of at most {DEEPEST} axes")
    if not value or not isinstance(value[0], list):
        yield where, value
        return
    for at, inner in enumerate(value):
        if not isinstance(inner, list):
            raise Refused(422, f"{where}[{at}]", f"must be a list, got {shown(inner)}")
        yield from _rows(inner, f"{where}[{at}]", depth + 1)
