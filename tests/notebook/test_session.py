from __future__ import annotations

import random
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from eqprop_lab.notebook import require, setup
from eqprop_lab.notebook.session import current_session, has_session
from eqprop_lab.notebook.style import PALETTE


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_same_seed_gives_the_same_numbers_from_all_three_generators() -> None:
    setup(7)
    first = _draws()
    setup(7)
    assert _draws() == first
    setup(8)
    assert all(a != b for a, b in zip(_draws(), first, strict=True))


def test_setup_returns_the_session_and_applies_the_style() -> None:
    assert not has_session()
    session = setup(3, "full", threads=1)
    assert (session.seed, session.profile, session.device) == (3, "full", "cpu")
    assert current_session() is session and session.seconds >= 0
    assert torch.get_num_threads() == 1
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert tuple(f"#{colour.lstrip('#')}" for colour in colours) == PALETTE


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"seed": -1}, ValueError, "seed = -1"),
        ({"seed": "1"}, TypeError, "seed = '1'"),
        ({"seed": True}, TypeError, "seed = True"),
        ({"profile": "quick"}, ValueError, "'smoke', 'full', 'cuda'"),
        ({"threads": 0}, ValueError, "threads = 0"),
    ],
)
def test_setup_names_the_bad_argument(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        setup(**arguments)
    assert not has_session()


def test_profile_cuda_without_a_gpu_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match='no CUDA device here; use "smoke"'):
        setup(profile="cuda")


def test_without_setup_the_session_is_missed_by_name() -> None:
    with pytest.raises(RuntimeError, match=r"setup\(seed, profile\) has not run"):
        current_session()


def test_require_returns_the_value_and_turns_int_into_float() -> None:
    assert require("steps", 3, kind=int, low=1) == 3
    beta = require("beta", 1, kind=float, low=0, high=1)
    assert beta == 1.0 and isinstance(beta, float)
    assert require("sizes", [1, 2], kind=list, low=1, high=2) == [1, 2]
    assert require("fast", True, kind=bool) is True


@pytest.mark.parametrize(
    ("value", "limits", "error", "words"),
    [
        ("1e-3", {"kind": float}, TypeError, "write 1.0e-3 or 0.001"),
        (0.5, {"kind": int}, TypeError, "a float; an int is needed"),
        (True, {"kind": float}, TypeError, "a bool"),
        (float("nan"), {"kind": float}, ValueError, "not finite"),
        (float("inf"), {"kind": float}, ValueError, "not finite"),
        (2.0, {"kind": float, "high": 1}, ValueError, "of at most 1"),
        (-1, {"kind": int, "low": 0}, ValueError, "of at least 0"),
        (9, {"kind": int, "low": 0, "high": 8}, ValueError, "from 0 to 8"),
        ([], {"kind": list, "low": 1}, ValueError, "a list with a length of at least 1"),
        ("c", {"kind": str, "choices": ("a", "b")}, ValueError, "one of 'a', 'b'"),
        (None, {"kind": str}, TypeError, "a NoneType; a str is needed"),
    ],
)
def test_require_names_argument_value_and_what_is_accepted(
    value: Any, limits: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        require("thing", value, **limits)
    assert str(caught.value).startswith(f"thing = {value!r}")
