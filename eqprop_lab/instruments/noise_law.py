"""What noise leaves of a gradient at a nudge beta, and which beta is the best.

    error(beta)^2 = (curvature beta^N)^2 + (noise/beta)^2
    best beta     = (noise / (sqrt(N) curvature))^(1/(N+1))

N is 1 for one_sided, 2 for centered and asymmetric, the number of nudges for holomorphic. The first
term is what a finite nudge bends, the second what noise that is independent in the phases leaves
when their difference is divided by beta: uncorrelated, so squares add. Both numbers are measured
apart: the curvature without noise, the noise as the spread at one beta.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.equilibrium.gradients import estimate_gradients, own_estimator
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.instruments.noise import Noisy
from eqprop_lab.validation import integer, known_keys, real

ORDERS = {"one_sided": 1, "centered": 2, "asymmetric": 2}
HOW = ("cost", "points", "free_steps", "nudged_steps", "solver")  # noise meets no tolerance


@dataclass(frozen=True)
class NoiseLaw:
    """error(beta)^2 = (curvature beta^order)^2 + (noise/beta)^2, relative to the gradient."""

    curvature: float
    noise: float
    order: int = 2

    def __post_init__(self) -> None:
        for name in ("curvature", "noise"):
            object.__setattr__(self, name, real(name, getattr(self, name), above=0.0))
        object.__setattr__(self, "order", integer("order", self.order))

    def error(self, beta: float) -> float:
        """Relative error of a gradient at beta > 0."""
        beta = real("beta", beta, above=0.0)
        return math.hypot(self.curvature * beta**self.order, self.noise / beta)

    @property
    def best_beta(self) -> float:
        """Where the error is smallest."""
        return (self.noise / (math.sqrt(self.order) * self.curvature)) ** (1 / (self.order + 1))


def flat(gradients: dict[str, Tensor]) -> Tensor:
    """All gradients as one float64 vector, in the order of the parameters."""
    return torch.cat([value.detach().cpu().double().flatten() for value in gradients.values()])


def spread(samples: Tensor) -> float:
    """sqrt(E |g - E g|^2) of the rows of (R, P), R >= 2, by the unbiased variance."""
    return math.sqrt(float(samples.var(dim=0).sum()))


def noise_law(
    device: Noisy,
    x: Tensor,
    y: Tensor,
    estimator: str | None = None,
    *,
    bent_at: float = 0.2,
    noisy_at: float = 0.05,
    repeats: int = 8,
    **how: Any,
) -> NoiseLaw:
    """The law of a device on one batch, from two numbers that are measured apart.

    curvature: |g(beta) - g*| / (|g*| beta^N) at beta = bent_at, without noise, g* by `implicit`.
    noise: beta times the spread of `repeats` noisy gradients at beta = noisy_at, over |g*|.
    how: cost, points, free_steps, nudged_steps, solver as in `estimate_gradients`.
    Raises TypeError, ValueError naming the argument: noise that is common to the phases
    (each="batch") does not grow with 1/beta, and estimators without a nudge have no such law.
    """
    if not isinstance(device, Noisy):
        raise TypeError(f"device must be a Noisy model, got {type(device).__name__}")
    if device.each == "batch":
        raise ValueError("device: noise drawn each='batch' is common to all phases and cancels")
    name = own_estimator(device.model, estimator)
    if name not in (*ORDERS, "holomorphic"):
        raise ValueError(f"estimator must be one that divides by beta, got {name!r}")
    bent_at, noisy_at = real("bent_at", bent_at, above=0.0), real("noisy_at", noisy_at, above=0.0)
    repeats = integer("repeats", repeats, at_least=2)
    known_keys("how", how, HOW)
    order = ORDERS.get(name, how.get("points", 4))
    exact = flat(estimate_gradients(device.model, x, y, "implicit", **how))
    bent = flat(estimate_gradients(device.model, x, y, name, bent_at, **how))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # noise does not settle
        noisy = torch.stack(
            [flat(estimate_gradients(device, x, y, name, noisy_at, **how)) for _ in range(repeats)]
        )
    size, left = float(exact.norm()), spread(noisy)
    if not left > 0:
        raise ValueError("device: nothing of it is random, so there is no noise to weigh")
    bend = float((bent - exact).norm()) / size
    return NoiseLaw(bend / bent_at**order, left * noisy_at / size, order)
