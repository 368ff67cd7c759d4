"""The errors of every estimator against a reference that finds sigma itself, fresh and trained, MLP
and conv.

    error = max over the parameters of ||g - g*|| / ||g*||
    g*: by autograd in float64 with the true sigma

Settled phases, float64, a batch of digits; trained means some epochs of the recipe's Adam on the
digits in float32.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from eqprop_lab import (
    ConvEqProp,
    EqPropTrainer,
    EquilibriumModel,
    LoopedMLP,
    build_dataset,
    check_gradient,
    relax,
)
from eqprop_lab.equilibrium.gradients import ESTIMATORS
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning

SETTLED: dict[str, Any] = {"free_steps": 20_000, "nudged_steps": 20_000, "tol": 1e-13}
ROUNDING: dict[str, Any] = SETTLED | {"tol": 1e-12}
BETAS = {"one_sided": 0.01, "centered": 0.01, "holomorphic": 0.01, "asymmetric": 0.01}
RHOS, GAMMAS = (0.5, 0.9, 0.99), (1.0, 0.05)


def subjects(
    rhos: tuple[float, ...] = RHOS,
) -> Iterator[tuple[str, Callable[[], EquilibriumModel]]]:
    """(what it is, how it is made)."""
    for rho in rhos:
        yield (
            f"LoopedMLP 64-64-10 rho {rho}",
            lambda rho=rho: LoopedMLP(64, 64, 10, rho=rho, seed=0),
        )
        for gamma in GAMMAS:
            yield (
                f"ConvEqProp 8-16 gamma {gamma} rho {rho}",
                lambda rho=rho, gamma=gamma: ConvEqProp(
                    1, [8, 16], 10, gamma, rho, image_size=8, seed=0
                ),
            )


def trained(
    model: EquilibriumModel, epochs: int, samples: int | None = None, lr: float = 1e-3
) -> tuple[EquilibriumModel, float]:
    """The model after some epochs on the digits, and the error of d sigma/dW its last step had."""
    train = build_dataset("digits").train
    x, y = (values[:samples] for values in (train.x, train.y))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    batches = [(x[part], y[part]) for part in order.split(32)]
    history = EqPropTrainer(model, "centered", lr=lr, progress=False).fit(batches, epochs)
    return model, history["sigma_error"][-1]


def errors(
    model: EquilibriumModel, estimators: tuple[str, ...] = tuple(ESTIMATORS)
) -> dict[str, float]:
    """{estimator: its largest relative error} of a float64 copy, on eight digits."""
    double = copy.deepcopy(model).double()
    test = build_dataset("digits").test
    x, y = test.x[:8].double(), test.y[:8]
    found = {}
    for name in estimators:
        with warnings.catch_warnings():
            # the last digit of a slow phase is rounding
            warnings.simplefilter("ignore", ConvergenceWarning)
            settings = (
                {"free_steps": 2000, "nudged_steps": 2000} if name.endswith("bptt") else ROUNDING
            )
            checked = check_gradient(double, x, y, name, BETAS.get(name, 0.03), **settings)
        found[name] = checked.worst
        found["d sigma/dW"] = max(checked.sigma.values())
    assert relax(double, x, 20_000, 1e-12).converged
    return found
