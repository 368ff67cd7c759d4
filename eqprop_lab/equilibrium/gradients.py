"""Gradient estimators behind one switch: {name: dL/dparameter} of a batch, for any model that keeps
the contract.

    estimator              what it uses                                      error       module
    one_sided              states at +beta and 0                             beta^1      phases
    centered               states at +beta and -beta                         beta^2      phases
    holomorphic            N complex nudges                                  beta^N      phases
    asymmetric             centered with (J^T - J)(s - s*): directed models  beta^2      phases
    response               linear response, the limit beta -> 0              0           adjoint
    implicit               the adjoint, directed models too                  0           adjoint
    bptt, truncated_bptt   autograd through (the last) steps                 truncation  adjoint

The formula they share stands in `contrast`.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.equilibrium.adjoint import bptt, implicit, response, truncated_bptt
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import Estimate, Estimator, Gradients
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.phases import asymmetric, centered, holomorphic, one_sided
from eqprop_lab.equilibrium.requirements import (
    check_precision,
    check_trainable,
    equilibrium_model,
    recording,
)
from eqprop_lab.equilibrium.settings import SENSIBLE, Settings
from eqprop_lab.equilibrium.view import ModelView
from eqprop_lab.validation import known_keys, one_of, positive_int

# the estimators that divide by beta
NUDGED = ("one_sided", "centered", "holomorphic", "asymmetric")
# what `**phases` of a block, of `check_gradient` and of `radius_of_validity` may hold
PHASES = ("free_steps", "nudged_steps", "tol", "solver", "points")

ESTIMATORS: dict[str, Estimator] = {
    "one_sided": one_sided,
    "centered": centered,
    "holomorphic": holomorphic,
    "response": response,
    "asymmetric": asymmetric,
    "bptt": bptt,
    "truncated_bptt": truncated_bptt,
    "implicit": implicit,
}


class EstimatedGradients(Gradients):
    """{parameter name: dL/dparameter}, and how far the phases they come from had settled.

    free_residual: of the free phase, worst sample; nudged_residual, free_error, nudged_error,
    rounding: as in `contrast.Estimate`; doubts: what was warned of.
    """

    def __init__(self, found: Estimate) -> None:
        super().__init__(found.gradients)
        self.free_residual, self.free_error = found.free.residual, found.free_error
        self.nudged_residual, self.nudged_error = found.nudged_residual, found.nudged_error
        self.rounding = found.rounding
        self.doubts = tuple(map(str, found.doubts))


def own_estimator(model: EquilibriumModel, estimator: str | None) -> str:
    """The name that was given, or the model's own. Raises TypeError, ValueError."""
    return one_of("estimator", model.estimator if estimator is None else estimator, ESTIMATORS)


def check_beta(model: EquilibriumModel, beta: float, estimator: str) -> None:
    """Raise ValueError with the smallest sensible beta where the model's dtype cannot resolve what
    this one does.

    two stacked phases        beta >= eps                    a weaker nudge moves states of size 1
                                                             by less than they are rounded
    mean and half difference  beta >= max(kappa) tiny / eps  below it the difference underflows
    """
    dtype = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
    limits = torch.finfo(dtype)
    direct = estimator == "centered" and model.mean_difference
    floor, sensible = limits.eps, SENSIBLE * limits.eps
    if direct:
        floor = sensible = max(model.kappa) * limits.tiny / limits.eps
    # Coarser numbers are refused as such, whatever beta is.
    if estimator in NUDGED and beta < floor and dtype in (torch.float32, torch.float64):
        raise ValueError(
            f"beta={beta:g} is below the rounding of {dtype}: what it changes is lost "
            f"(estimator={estimator!r}); the smallest sensible beta is about {sensible:.0e}, and "
            "beta='auto' fits it to the cost"
        )


def make_settings(
    model: EquilibriumModel,
    beta: float | str | None = None,
    free_steps: int | None = None,
    nudged_steps: int | None = None,
    *,
    points: int = Settings.points,
    estimator: str = "centered",
    **others: Any,
) -> Settings:
    """The Settings of an estimator for a model. Defaults: `model.beta`, `model.max_steps` free and
    `model.nudged_steps` nudged steps, and those of `Settings` for the others.

    Raises TypeError, ValueError (beta = 0 too, and one below the rounding of the model's dtype: see
    `check_beta`; an unknown knob: the nearest is named).
    """
    model = equilibrium_model(model)
    known_keys("the phases", others, PHASES)
    beta = model.beta if beta is None else beta
    relative = beta == "auto"
    settings = Settings(
        Settings.beta if relative else beta,  # type: ignore[arg-type]  # a text is refused
        model.max_steps if free_steps is None else free_steps,
        model.nudged_steps if nudged_steps is None else nudged_steps,
        points=_points(points),
        relative=relative,
        fitted=relative,
        **others,
    )
    if not relative:
        check_beta(model, settings.beta, estimator)
    return settings


def _points(value: object) -> int:
    points = positive_int("points", value)
    if points < 2 or points % 2:
        raise ValueError(f"points must be an even integer >= 2, got {points}")
    return points


def estimate(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    estimator: str,
    settings: Settings,
    cost: str = "cross_entropy",
) -> tuple[Estimate, Tensor]:
    """One estimate and the cost per sample (B,) at the free state: what a training step needs.
    Touches no `.grad`.
    """
    compute = ESTIMATORS[one_of("estimator", estimator, ESTIMATORS)]
    model.check_batch(x)
    targets = model.targets(x, y)
    weight = check_trainable(model.model if isinstance(model, ModelView) else model)
    check_precision(weight, estimator)
    with recording(x) as inputs:
        function = make_cost(cost, targets, model.output_dim, weight)
        result = compute(model, inputs, function.grad, settings)
        if not result.gradients:
            raise ValueError(
                "model must have a parameter to train: every one of them has requires_grad=False"
            )
        return result, function.value(result.logits)


def estimate_gradients(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    estimator: str | None = None,
    beta: float | str | None = None,
    free_steps: int | None = None,
    nudged_steps: int | None = None,
    tol: float | None = None,
    *,
    cost: str = "cross_entropy",
    solver: str = "picard",
    points: int = 4,
) -> EstimatedGradients:
    """{parameter name: dL/dparameter}, L the mean cost of the batch; `.grad` is not touched.

    Args:
        x (B, ...), y class indices (B,) or float targets (B, K). estimator: a name in `ESTIMATORS`
            (None: the model's own, `centered`, or `asymmetric` where the model is directed).
        beta > 0: nudging strength, absolute, never divided by the batch; "auto" takes 0.03 relative
            to the largest |dC/ds| of the batch, for costs whose slope is far from 1 (and for
            cotangents of any size), and less where `asymmetric` finds the response bent. None: the
            model's own, 0.03 or, for language models that are directed, "auto".
        free_steps, nudged_steps: at most this many relaxation steps; tol: relative residual at
            which a phase stops.
        cost: "cross_entropy" or "mse". solver: "picard", "damped", "chebyshev", "over_relaxed" (see
            `solvers`).
        points: nudges of the holomorphic estimator, an even number.
    Returns: gradients with respect to the parameters an optimiser sees (the originals of a
        parametrisation), a dict that also has `free_residual` and `nudged_residual` of its phases
        (see `EstimatedGradients`).
    Raises: TypeError, ValueError naming the argument; DivergenceError.
    Warns: ConvergenceWarning when tol is missed, and whenever a phase still moves so much that it
        is expected to be 5 % off; RoundingWarning when as much of the difference of the phases is
        rounding.
    """
    network = equilibrium_model(model)
    check_trainable(network)
    estimator = own_estimator(network, estimator)
    settings = make_settings(
        network,
        beta,
        free_steps,
        nudged_steps,
        tol=tol,
        solver=solver,
        points=points,
        estimator=estimator,
    )
    found = estimate(network, x, y, estimator, settings, cost)[0]
    for doubt in found.doubts:
        warnings.warn(doubt, stacklevel=2)
    return EstimatedGradients(found)
