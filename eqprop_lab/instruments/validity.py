"""How strong may a nudge be? Whether an estimator's error falls as it should with a smaller beta.

    error   |g(beta) - g(beta/2)| / |g(beta/2)|                        what beta costs
    order   log2( |g(beta) - g(beta/2)| / |g(beta/2) - g(beta/4)| )    N inside: error ~ beta^N
    apart   |g_N(beta) - g_(N/2)(beta)| / |g_N(beta)|                  N nudges, and half as many

N is 1 for one_sided, 2 for centered and asymmetric, the number of nudges for holomorphic. A state
nudged by a complex beta is an analytic function of it only up to the nearest singularity: tanh has
poles, and so has the softmax, where the exponentials of complex logits sum to zero. Beyond it more
nudges do not help. Training brings it nearer, because the readout grows: at beta = 0.3 four nudges
are right to 4e-6 on fresh weights, 11 % off after four epochs on the digits. No reference is
needed; weights for which the estimator is wrong at any beta (directed ones) are not found this way.

Source: Laborieux and Zenke 2022, arXiv:2209.00530 (Fourier coefficients inside the radius of
convergence).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import Estimate, Gradients
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import NUDGED, Settings, estimate, make_settings
from eqprop_lab.equilibrium.relaxation import DivergenceError
from eqprop_lab.validation import one_of

ORDER, APART, ERROR = 0.9, 0.3, 0.1  # inside: order >= 0.9 N, apart <= 0.3, error <= 0.1
HALVINGS = 12


@dataclass(frozen=True)
class Validity:
    """The three numbers of the module; order is nan where rounding hides it, apart where there is
    no N/2.
    """

    estimator: str
    beta: float
    nudges: int
    error: float
    order: float
    apart: float

    @property
    def inside(self) -> bool:
        """Whether the nudge is inside the radius in which the estimator's error falls as beta^N."""
        falls = math.isnan(self.order) or self.order >= ORDER * self.nudges
        return falls and self.error <= ERROR and not self.apart > APART

    def __str__(self) -> str:
        order = "hidden by rounding" if math.isnan(self.order) else f"{self.order:.1f}"
        half = (
            "" if math.isnan(self.apart) else f", {self.apart:.1e} from {self.nudges // 2} nudge(s)"
        )
        verdict = "inside" if self.inside else "OUTSIDE"
        return (
            f"nudge: beta {self.beta:g} is {verdict} the radius of validity; "
            f"expected error {self.error:.1e}, order in beta {order} (N = {self.nudges}){half}"
        )


def _moving(gradients: Gradients, others: Gradients) -> tuple[Tensor, Tensor]:
    """Both as flat float64 vectors, without what no nudge reaches: the readout, read off at the
    free state.
    """
    names = [
        name for name, value in gradients.items() if not torch.equal(value, others[name])
    ] or list(gradients)
    one, two = (
        torch.cat([found[name].cpu().double().flatten() for name in names])
        for found in (gradients, others)
    )
    return one, two


def _apart(gradients: Gradients, others: Gradients) -> float:
    one, two = _moving(gradients, others)
    return float((one - two).norm() / two.norm()) if two.any() else 0.0


def _flat(logits: Tensor, y: Tensor, cost: str) -> bool:
    """Whether dC/dz is nothing but the rounding of its two terms: there is nothing to estimate, at
    any beta.
    """
    slope = make_cost(cost, y, logits.shape[1], logits).grad(logits)
    size = float(y.abs().max()) if y.is_floating_point() else 1.0
    if cost == "mse":
        size = max(size, float(logits.abs().max()))
    return float(slope.abs().max()) <= 10 * torch.finfo(logits.dtype).eps * size


def check_nudge(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    estimator: str,
    settings: Settings,
    cost: str = "cross_entropy",
) -> Validity:
    """The numbers of one beta, from four estimates (see the module). A nudge that diverges has
    error inf.

    Where the cost has no slope there is nothing to estimate, and every beta is inside: error 0,
    order and apart nan.
    """
    nudges = {"one_sided": 1, "holomorphic": settings.points}.get(
        one_of("estimator", estimator, NUDGED), 2
    )

    def at(part: float, name: str = estimator, points: int = settings.points) -> Estimate:
        return estimate(
            model, x, y, name, replace(settings, beta=part * settings.beta, points=points), cost
        )[0]

    try:
        whole = at(1.0)
        if _flat(whole.logits, model.targets(x, y), cost):
            return Validity(estimator, settings.beta, nudges, 0.0, math.nan, math.nan)
        half, quarter = at(0.5), at(0.25)
        fewer = {
            "holomorphic": "holomorphic" if nudges > 2 else "one_sided",
            "centered": "one_sided",
        }.get(estimator)
        apart = (
            math.nan
            if fewer is None
            else _apart(at(1.0, fewer, nudges // 2).gradients, whole.gradients)
        )
    except DivergenceError:
        return Validity(estimator, settings.beta, nudges, math.inf, math.nan, math.nan)
    error, next_error = (
        _apart(whole.gradients, half.gradients),
        _apart(half.gradients, quarter.gradients),
    )
    floor = max(10 * quarter.rounding, 1e-12, 10 * torch.finfo(whole.logits.dtype).eps)
    order = math.nan if next_error <= floor else math.log2(error / next_error)
    return Validity(estimator, settings.beta, nudges, error, order, apart)


def radius_of_validity(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    estimator: str = "holomorphic",
    beta: float = 1.0,
    *,
    cost: str = "cross_entropy",
    **phases: Any,
) -> Validity:
    """The largest beta / 2^k that is inside the radius on this batch, and its numbers; the last one
    tried if none is.

    phases: free_steps, nudged_steps, tol, solver, points; all arguments and errors as in
    `estimate_gradients`; estimator: one that nudges. Phases should be settled.
    """
    settings = make_settings(model, beta, estimator=estimator, **phases)
    for _ in range(HALVINGS):
        found = check_nudge(model, x, y, estimator, settings, cost)
        if found.inside:
            break
        settings = replace(settings, beta=settings.beta / 2)
    return found
