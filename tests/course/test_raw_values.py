"""Raw values come back as they were, and nothing else comes back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab.course.raw_values import decoded, encoded


def round_trip(value: Any) -> Any:
    return decoded(json.loads(json.dumps(encoded(value))), lambda: "called")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.bool])
def test_tensors_come_back(dtype: torch.dtype) -> None:
    value = torch.arange(6).reshape(2, 3).T.to(dtype)
    found = round_trip(value.requires_grad_() if value.is_floating_point() else value)
    assert found.dtype == dtype and torch.equal(found, value)


def test_collections_numbers_and_functions_come_back() -> None:
    value = {"a": (1, 2.5, None), ("b", 3): [True, "text", np.float32(2)], 4: -0.0}
    found = round_trip(value)
    assert found == value and isinstance(found["a"], tuple)
    assert np.isnan(round_trip(float("nan"))) and round_trip(1 + 2j) == 1 + 2j
    assert torch.equal(round_trip(torch.ones(2, dtype=torch.bfloat16)), torch.ones(2))
    assert round_trip(lambda: 0)() == "called"
    assert np.array_equal(round_trip(np.zeros((0, 3))), np.zeros((0, 3)))


def test_what_is_no_number_comes_back_as_its_type() -> None:
    assert type(round_trip(object())).__name__ == "object"
    assert type(round_trip(np.array(["a"]))).__name__ == "ndarray"
    assert type(round_trip(2**70)).__name__ == "int"
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    assert "list" in str(type(round_trip(deep)[0][0][0][0][0][0]))


@pytest.mark.parametrize(
    "content",
    [
        None,
        3,
        {"kind": "pickle", "value": ""},
        {"kind": "plain", "value": [1]},
        {"kind": "tensor", "dtype": "object", "shape": [1], "data": "AAAA"},
        {"kind": "tensor", "dtype": "float32", "shape": [2], "data": "AAAAAA=="},
        {"kind": "tensor", "dtype": "float32", "shape": [-1], "data": ""},
        {"kind": "array", "dtype": "float32", "shape": [1], "data": "?"},
        {"kind": "dict", "value": [[1]]},
        {"kind": "dict", "value": [[{"kind": "list", "value": []}, {"kind": "plain"}]]},
    ],
    ids=str,
)
def test_anything_else_is_refused(content: Any) -> None:
    with pytest.raises(ValueError):
        decoded(content)
