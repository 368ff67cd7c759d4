"""How the phases of an estimator are relaxed: their knobs, each with its default and its check, and
the phases under them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.relaxation import Equilibrium, free_state, settle
from eqprop_lab.equilibrium.solvers import SOLVERS, make_solver
from eqprop_lab.equilibrium.state import Nudge, State
from eqprop_lab.validation import one_of, positive_int, real, switch

# times the rounding of the dtype: the beta for which rounding is about 1 % of a gradient
SENSIBLE = 1e3

CHECKS: dict[str, Callable[[str, object], Any]] = {
    "beta": partial(real, above=0.0),
    "free_steps": positive_int,
    "nudged_steps": positive_int,
    "tol": lambda name, value: None if value is None else real(name, value, above=0.0),
    "solver": partial(one_of, options=SOLVERS),
    "points": positive_int,
    "relative": switch,
    "fitted": switch,
}


@dataclass(frozen=True)
class Settings:
    """How the phases are relaxed. Raises TypeError, ValueError naming the knob.

    beta > 0: nudging strength; free_steps, nudged_steps: at most this many steps; tol > 0: relative
        residual to stop at (None: take every step); solver: one of `solvers.SOLVERS`, for every
        phase; points: complex nudges of the holomorphic estimator; relative: beta is meant relative
        to the largest |dC/ds| of the batch; fitted: where the response to it is bent, `asymmetric`
        takes a smaller one.
    """

    beta: float = 0.03
    free_steps: int = 30
    nudged_steps: int = EquilibriumModel.nudged_steps
    tol: float | None = None
    solver: str = "picard"
    points: int = 4
    relative: bool = False
    fitted: bool = False

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


def free_phase(
    model: EquilibriumModel, x: Tensor, settings: Settings, drive: State | None = None
) -> tuple[State, Equilibrium]:
    """(drive, free equilibrium) of a batch. drive: where it is known."""
    return free_state(
        model,
        x,
        drive=drive,
        max_steps=settings.free_steps,
        tol=settings.tol,
        solver=make_solver(settings.solver),
    )


def nudged_phase(
    model: EquilibriumModel,
    start: State,
    drive: State,
    nudge: Nudge,
    settings: Settings,
    read: Callable[[State], State],
    radius: Tensor | None = None,
) -> Equilibrium:
    """Nudged phases, stacked along the batch.

    read: their difference, what the estimator divides by beta. radius: as the free phase has
    measured it, for every phase stacked here.
    """
    known = None if radius is None else radius.repeat(len(start[0]) // len(radius))
    return settle(
        model,
        start,
        drive,
        max_steps=settings.nudged_steps,
        tol=settings.tol,
        nudge=nudge,
        solver=make_solver(settings.solver, radius=known),
        read=read,
    )
