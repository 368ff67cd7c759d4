"""What a wrong answer looks like: its shape, its sign, a constant factor, a number that was copied.

Every function gives the hint, or "" where it sees nothing; none of them knows the right formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.notebook.answers import Named, describe, numbers

NEAR = 0.3
"""Relative error up to which an answer counts as nearly right."""
Factor = float | Callable[..., float]


@dataclass(frozen=True)
class Trial:
    """One random case: its arguments, what the learner's function made of it, what is right."""

    case: tuple[Any, ...]
    got: Named
    right: Named

    def error(self, name: str) -> float:
        """|got - right| / |right|; where nothing but zero is right, |got|."""
        right = self.right[name]
        return float((self.got[name] - right).norm() / (right.norm() or 1.0))


def misshapen(answer: Any, expected: Any) -> tuple[Named, str]:
    """The numbers of an answer in the shapes of the expected one, and what is wrong with them."""
    right = numbers(expected)
    try:
        got = numbers(answer)
    except TypeError as error:
        return {}, f"it returns {error}; {describe(expected)} is needed"
    if set(got) != set(right):
        return {}, f"it returns {describe(answer)}; {describe(expected)} is needed"
    for name, number in got.items():
        aim = right[name]
        at = name or "it"
        if number.numel() == aim.numel() == 1:
            number = number.reshape(aim.shape)
        if number.shape != aim.shape:
            found, wanted = tuple(number.shape), tuple(aim.shape)
            return {}, f"{at} has shape {found}, needed is {wanted}{_turned(number, aim)}"
        if not bool(torch.isfinite(torch.view_as_real(number + 0j)).all()):
            return {}, f"{at} is not finite: it contains nan or inf"
        if number.is_complex() and not aim.is_complex():
            if float(number.imag.norm()) > 1e-6 * float(number.norm()):
                return {}, f"{at} is complex; real numbers are needed"
            number = number.real
        got[name] = number
    return got, ""


def _turned(number: Tensor, aim: Tensor) -> str:
    """What may have led to a wrong shape."""
    if number.ndim == aim.ndim == 2 and number.T.shape == aim.shape:
        return ": is it transposed?"
    if number.ndim == aim.ndim + 1 and number.shape[1:] == aim.shape:
        return ": is a mean or a sum over the first dimension missing?"
    if aim.ndim > number.ndim:
        return ": is something summed or averaged that should be kept?"
    return ""


def recognised(
    trials: Sequence[Trial],
    names: Iterable[str],
    tol: float,
    factors: Mapping[str, Factor],
    mistakes: Mapping[str, Callable[..., Any]],
) -> str:
    """The hint for answers that are wrong under these names, the most particular one first."""
    names, ones = tuple(names), [1.0] * len(trials)
    known = {hint: [_wrong(f, trial, names) for trial in trials] for hint, f in mistakes.items()}
    got = [[trial.got[name] for name in names] for trial in trials]
    right = [[trial.right[name] for name in names] for trial in trials]
    alike = {hint: _ratios(got, wrong, tol) for hint, wrong in known.items()}
    for hint, ratios in alike.items():
        if ratios and _all_near(ratios, ones, tol):
            return hint
    if not any(item.any() for part in got for item in part):
        return "it is zero in every case"
    if copied(got):
        return "it is the same for every input: compute it from the arguments"
    if all(_turned_round(a, b, tol) for a, b in zip(got, right, strict=True)):
        return "it is transposed"
    factor = _ratios(got, right, tol)
    if factor and (hint := _factor(factor, trials, factors, tol)):
        return hint
    for hint, ratios in alike.items():
        if ratios and _constant(ratios, tol):
            return hint
    if factor and (c := _constant(factor, tol)):
        return f"it is {c:.4g} times what it should be, in every case: a constant factor"
    if factor and all(item.numel() > 1 for part in got for item in part):
        turned = " with the opposite sign" if max(factor.values()) < 0 else ""
        return f"the direction is right{turned}, the length is not: a factor that the case decides"
    return ""


def _constant(ratios: Mapping[int, float], tol: float) -> float:
    """The ratio if it is the same in all cases, else 0."""
    first = next(iter(ratios.values()))
    return first if _all_near(ratios, [first] * (max(ratios) + 1), tol) else 0.0


def _wrong(function: Callable[..., Any], trial: Trial, names: Sequence[str]) -> list[Tensor] | None:
    """What a known mistake makes of a case; None where it has another form."""
    made = numbers(function(*trial.case))
    fits = all(name in made and made[name].numel() == trial.got[name].numel() for name in names)
    return [made[name].reshape(trial.got[name].shape) for name in names] if fits else None


def _ratios(
    got: Sequence[list[Tensor]], other: Sequence[list[Tensor] | None], tol: float
) -> dict[int, float]:
    """{case: c} of got = c other (0 = c 0 says nothing); {} where there is no such c, or c = 0."""
    ratios = {}
    for case, (mine, theirs) in enumerate(zip(got, other, strict=True)):
        if theirs is None:
            return {}
        a, b = (torch.cat([item.flatten() for item in part]).real for part in (mine, theirs))
        if not a.any() and not b.any():
            continue
        ratio = float(a @ b / (b @ b)) if b.any() else 0.0
        if not ratio or float((a - ratio * b).norm()) > max(tol, 1e-6) * float(a.norm()):
            return {}
        ratios[case] = ratio
    return ratios


def _all_near(ratios: Mapping[int, float], aims: Sequence[float], tol: float) -> bool:
    near = max(tol, 1e-6)
    return all(abs(ratio - aims[k]) <= near * abs(aims[k]) for k, ratio in ratios.items())


def copied(got: Sequence[list[Tensor]]) -> bool:
    """Whether all answers are one and the same."""
    first = got[0]
    return len(got) > 1 and all(
        all(torch.equal(a, b) for a, b in zip(first, other, strict=True)) for other in got[1:]
    )


def _turned_round(got: Sequence[Tensor], right: Sequence[Tensor], tol: float) -> bool:
    """Whether square matrices are the transposes of the right ones."""
    return all(
        a.ndim == 2 and a.shape == b.T.shape and float((a - b.T).norm()) <= tol * float(b.norm())
        for a, b in zip(got, right, strict=True)
    )


def _factor(
    ratios: Mapping[int, float],
    trials: Sequence[Trial],
    factors: Mapping[str, Factor],
    tol: float,
) -> str:
    """A sign, a 2, or one of the named factors and what a 2 and a sign make of it."""
    values = {"": [1.0] * len(trials)}
    for name, factor in factors.items():
        of_case = [float(factor(*t.case) if callable(factor) else factor) for t in trials]
        inverse = f"1/({name})" if " " in name else f"1/{name}"
        values |= {f"{name} times": of_case, f"{inverse} times": [1 / v for v in of_case]}
    sizes = {"": 1.0, "twice": 2.0, "half of": 0.5}
    for (text, each), (times, c) in product(values.items(), sizes.items()):
        size = " ".join(filter(None, (times, text)))
        length = f"it is {size} what it should be" if size else ""
        for s, flipped in ((1, ""), (-1, "the sign is flipped")):
            if _all_near(ratios, [s * c * value for value in each], tol):
                return ", and ".join(filter(None, (length, flipped)))
    return ""
