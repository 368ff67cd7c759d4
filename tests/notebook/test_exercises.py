"""The check of an exercise: what passes, and what it says to every kind of mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eqprop_lab.notebook import CheckFailed, Exercise, setup
from eqprop_lab.notebook.exercises import WrongAnswer


def draw(k: int) -> tuple[Tensor, float]:
    return torch.randn(2 + k % 2, 4), 0.1 * (1 + k)


def gram(a: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """An oblong matrix and a vector."""
    return beta * a.T[:3] @ a @ torch.arange(8.0).reshape(4, 2), a.sum(1) / beta


def check(**other: Any) -> Exercise:
    settings = {"expected": gram, "factors": {"beta": lambda a, beta: beta}} | other
    return Exercise("gram", draw, **settings)


def raises(answer: Callable[..., Any], **other: Any) -> str:
    with pytest.raises(CheckFailed) as failure:
        check(**other)(answer)
    return str(failure.value)


def stub(a: Tensor, beta: float) -> tuple[Tensor, Tensor]:  # type: ignore[empty-body]
    """What it should do."""
    ...


def undocumented(a: Tensor) -> None: ...


@pytest.mark.parametrize("answer", [stub, undocumented])
def test_a_stub_is_open(answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    check()(answer)
    assert capsys.readouterr().out == (
        "Still open: write gram in the cell above, run it, then run this one again.\n"
    )


def test_nbgrader_gives_no_points_to_a_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert raises(stub) == "Not yet: gram is still open"


@pytest.mark.parametrize(
    "answer",
    [
        gram,
        lambda a, beta: [x.double() for x in gram(a, beta)],
        lambda a, beta: tuple(x.numpy() for x in gram(a, beta)),
        lambda a, beta: (gram(a, beta)[0].tolist(), gram(a, nn.Parameter(torch.tensor(beta)))[1]),
    ],
)
def test_a_right_answer_passes_however_it_is_written(
    answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    check()(answer)
    assert capsys.readouterr().out == "ok: gram is right on 6 random cases\n"


def changed(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """gram with functions of (result, a, beta) applied to its two parts."""

    def answer(a: Tensor, beta: float) -> tuple[Any, Any]:
        x, y = gram(a, beta)
        return first(x, a, beta), second(y, a, beta)

    return answer


def kept(x: Tensor, a: Tensor, beta: float) -> Tensor:
    return x


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda a, beta: print(gram(a, beta)), "give it back with `return`"),
        (lambda a, beta: [a.add(1)] and None, "is the `return` missing?"),
        (lambda a, beta: gram(a.mul_(2), beta), "changes its argument 1 in place"),
        (lambda a, beta: gram(a, beta)[0], "it returns a Tensor of shape (3, 2); a tuple of 2"),
        (lambda a, beta: ("x", 1), "it returns a str"),
        (lambda a, beta: 1 / 0, "it raised ZeroDivisionError"),
        (changed(lambda x, a, b: x.T, kept), "[0] has shape (2, 3), needed is (3, 2): is it trans"),
        (
            changed(kept, lambda y, a, b: torch.stack([y, y])),
            "is a mean or a sum over the first dimension",
        ),
        (changed(kept, lambda y, a, b: y.sum()), "is something summed"),
        (changed(lambda x, a, b: x / 0, kept), "[0] is not finite"),
        (changed(lambda x, a, b: x * 1j, kept), "[0] is complex"),
        (changed(lambda x, a, b: -x, lambda y, a, b: -y), "gram: the sign is flipped"),
        (changed(lambda x, a, b: -x, kept), "[0] of the answer: the sign is flipped; the rest"),
        (changed(kept, lambda y, a, b: 2 * y), "[1] of the answer: it is twice what it should be"),
        (changed(kept, lambda y, a, b: b * y), "it is beta times what it should be"),
        (changed(lambda x, a, b: x / b, kept), "it is 1/beta times what it should be"),
        (
            changed(lambda x, a, b: -x / b / 2, kept),
            "it is half of 1/beta times what it should be, and the sign is flipped",
        ),
        (changed(kept, lambda y, a, b: 3 * y), "it is 3 times what it should be, in every case"),
        (changed(kept, lambda y, a, b: b**2 * y), "the direction is right, the length is not"),
        (changed(kept, lambda y, a, b: 0 * y), "it is zero in every case"),
        (changed(lambda x, a, b: torch.ones(3, 2), kept), "it is the same for every input"),
        (changed(kept, lambda y, a, b: 1.01 * y + 0.01), "close, but not the same"),
        (changed(kept, lambda y, a, b: y**2 + 1), "the numbers differ"),
        (changed(kept, lambda y, a, b: y if b > 0.15 else y**2 + 1), "; 5 of 6 cases are right"),
    ],
)
def test_every_mistake_has_its_hint(answer: Callable[..., Any], said: str) -> None:
    assert said in raises(answer)


def test_named_mistakes_are_known_up_to_a_factor() -> None:
    mistakes = {"that is the first row": lambda a, beta: (gram(a, beta)[0], a.abs().sum(1))}
    for factor in (1.0, 7.0):
        answer = changed(kept, lambda y, a, b: factor * a.abs().sum(1))  # noqa: B023
        assert "[1] of the answer: that is the first row" in raises(answer, mistakes=mistakes)


def test_a_square_transpose_is_seen() -> None:
    exercise = Exercise("s", lambda k: (torch.randn(3, 3),), expected=lambda a: a.exp())
    with pytest.raises(WrongAnswer, match="it is transposed"):
        exercise(lambda a: a.exp().T)


def helper(a: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    return gram(a, beta)


def test_a_forbidden_name_is_found_behind_a_helper() -> None:
    assert "gram uses gram; do it without" in raises(
        lambda a, beta: helper(a, beta), forbidden=("gram",)
    )
    check(forbidden=("relax",))(helper)


def test_a_property_can_be_judged() -> None:
    def judge(answer: float, a: Tensor, beta: float) -> str:
        return "" if answer > beta else "it is too small"

    exercise = Exercise("more", draw, judge=judge)
    exercise(lambda a, beta: 2 * beta)
    with pytest.raises(WrongAnswer, match="it is too small"):
        exercise(lambda a, beta: 0.35)


def test_arguments_may_be_changed_where_that_is_the_task() -> None:
    def halve(model: nn.Linear) -> nn.Linear:
        with torch.no_grad():
            model.weight /= 2
        return model

    def judge(answer: nn.Linear, model: nn.Linear) -> str:
        return "" if torch.equal(2 * answer.weight, model.weight) else "not halved"

    def models(k: int) -> tuple[nn.Linear]:
        return (nn.Linear(2, 1 + k),)

    Exercise("halve", models, judge=judge, changes=(0,))(halve)
    with pytest.raises(WrongAnswer, match="argument 1 in place"):
        Exercise("halve", models, judge=judge)(halve)


def test_an_array_that_is_changed_is_seen() -> None:
    def doubled(a: np.ndarray) -> np.ndarray:
        a *= 2
        return a

    def arrays(k: int) -> tuple[np.ndarray]:
        return (np.ones(2 + k) + k,)

    with pytest.raises(WrongAnswer, match="argument 1 in place"):
        Exercise("doubled", arrays, expected=lambda a: 2 * a)(doubled)
    Exercise("doubled", arrays, expected=lambda a: 2 * a, changes={0})(doubled)


def test_how_an_answer_works_is_examined_where_its_results_are_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[Any] = []

    def slow(answer: Callable[..., Any]) -> str:
        seen.append(answer)
        return "it takes too long" if answer is gram else ""

    assert raises(gram, examine=slow) == "Not yet: gram: it takes too long"
    assert "takes" not in raises(lambda a, beta: gram(2 * a, beta), examine=slow)
    check(examine=slow)(stub)
    assert seen == [gram]
    check(examine=slow)(lambda a, beta: gram(a, beta))
    assert "ok: gram" in capsys.readouterr().out


def test_an_exercise_that_a_copied_number_would_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="every case has the same answer"):
        Exercise("same", draw, expected=lambda a, beta: 3.0)(lambda a, beta: 3.0)
    with pytest.raises(ValueError, match=r"expected=... or judge=... is needed"):
        Exercise("nothing", draw)


def test_cases_follow_the_seed_of_the_notebook_and_leave_the_generator_alone() -> None:
    seen: list[float] = []
    exercise = Exercise("sum", draw, expected=lambda a, beta: a.sum())

    def answer(a: Tensor, beta: float) -> Tensor:
        seen.append(float(a.sum()))
        return a.sum()

    exercise(answer)
    exercise(answer)
    assert seen[:6] == seen[6:]
    setup(seed=1)
    state = torch.get_rng_state()
    exercise(answer)
    assert torch.equal(torch.get_rng_state(), state)
    assert not set(seen[:6]) & set(seen[12:])


def test_a_notebook_shows_the_hint_and_the_learners_own_lines() -> None:
    def answer(a: Tensor, beta: float) -> Tensor:
        return a @ a

    with pytest.raises(WrongAnswer) as failure:
        check()(answer)
    shown = failure.value._render_traceback_()
    assert shown[0].startswith("Not yet: gram: it raised RuntimeError")
    assert any("return a @ a" in line for line in shown)
    assert not any("exercises.py" in line and "eqprop_lab" in line for line in shown)


def test_what_an_answer_prints_in_the_first_case_is_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(a: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        print(f"beta {beta:.1f}")
        return gram(a, beta)

    check()(answer)
    assert capsys.readouterr().out.splitlines()[0] == "beta 0.1"
