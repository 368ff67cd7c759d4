from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab.notebook import CheckFailed, check_at_least, check_at_most, check_close, check_equal


def test_a_check_that_holds_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    check_at_least("cosine", 0.99991, 0.999)
    check_at_most("residual", np.float32(1e-7), 1e-5)
    check_close("slope", torch.tensor(2.01), 2, 0.15)
    check_equal("increases", 0, 0)
    check_equal("states", torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]))
    assert capsys.readouterr().out.splitlines() == [
        "ok: cosine 0.9999 >= 0.999",
        "ok: residual 1e-07 <= 1e-05",
        "ok: slope 2.01 = 2 +- 0.15",
        "ok: increases 0 == 0",
        "ok: states: 2 equal numbers of shape (2,)",
    ]


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (check_at_least, (0.5, 0.9)),
        (check_at_least, (math.nan, 0.9)),
        (check_at_most, (0.5, 0.1)),
        (check_at_most, (math.nan, 0.1)),
        (check_close, (1.0, 2.0, 0.1)),
        (check_close, (math.nan, 2.0, 0.1)),
        (check_equal, (1, 2)),
        (check_equal, (np.zeros(2), np.ones(2))),
        (check_equal, (np.zeros(2), np.zeros(3))),
        (check_equal, (torch.tensor([math.nan]), torch.tensor([math.nan]))),
    ],
)
def test_a_check_that_fails_says_what_and_gives_the_hint(
    check: Any, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(CheckFailed, match=r"cosine.*\. Hint: did beta get lost\?"):
        check("cosine", *arguments, hint="did beta get lost?")


def test_a_failed_check_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="expected at least 2"):
        check_at_least("count", 1, 2)


@pytest.mark.parametrize("value", ["high", None, [1.0, 2.0], torch.ones(2)])
def test_only_single_numbers_are_compared(value: Any) -> None:
    with pytest.raises(TypeError, match="value of the check of accuracy"):
        check_at_least("accuracy", value, 0.5)


@pytest.mark.parametrize("tol", [-0.1, math.nan])
def test_a_tolerance_is_not_negative(tol: float) -> None:
    with pytest.raises(ValueError, match="a tolerance is zero or positive"):
        check_close("slope", 2.0, 2.0, tol)
