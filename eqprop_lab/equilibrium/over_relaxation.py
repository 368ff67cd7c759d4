"""Over-relaxation of red-black sweeps: every group of blocks goes a little further than its minimum
of the energy.

    s_g <- s_g + omega (F_g(s) - s_g),    omega = 2 / (1 + sqrt(1 - r)),    r the rate of plain sweeps

With r = 0.4, usual after training, omega = 1.13 and the rate falls to omega - 1 = 0.13. A plain
sweep minimises the energy exactly in each group and so can only lower it; one with omega > 1 has no
such guarantee away from the fixed
point: as soon as a movement grows, omega is 1 for the rest of that relaxation. r follows from the
movements seen at the present omega, lambda = their ratio: r = (lambda + omega - 1)^2 / (lambda
omega^2).

Source: Young 1954, doi:10.1090/S0002-9947-1954-0059635-7 (successive over-relaxation).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from eqprop_lab.equilibrium.contract import EquilibriumModel, Nudge

State = tuple[Tensor, ...]
FIRST, LARGEST = 1.1, 1.2


class OverRelaxed:
    """One relaxation's omega. It starts at 1.1 and is corrected where movements are measured (with
    a tolerance).
    """

    def __init__(self) -> None:
        self.omega = FIRST
        self.movements: list[float] = []

    def sweep(
        self, model: EquilibriumModel, state: State, drive: State, nudge: Nudge | None
    ) -> State:
        """One over-relaxed sweep. Raises ValueError for a model whose blocks all move at once."""
        if len(model.groups) == 1:
            raise ValueError(
                f"solver='over_relaxed' needs a model that moves in groups (red-black), {type(model).__name__} moves "
                "all at once; use 'chebyshev'"
            )
        for group in model.groups:
            image = model.update(group, state, drive, nudge)
            state = tuple(
                torch.lerp(s, i, self.omega) if k in group else s
                for k, (s, i) in enumerate(zip(state, image, strict=True))
            )
        return state

    def advance(self, state: State, image: State) -> State:
        """The image: the sweep itself has gone further."""
        return image

    def watch(self, moved: float) -> None:
        """Correct omega by the last three movements; give it up where the last one has grown."""
        self.movements = [*self.movements[-2:], moved]
        if self.omega == 1.0 or len(self.movements) < 3:
            return
        first, before, last = self.movements
        if last > before:
            self.omega = 1.0
        elif last > 0:
            seen = math.sqrt(last / first)
            rate = (seen + self.omega - 1) ** 2 / (seen * self.omega**2)
            self.omega = min(2 / (1 + math.sqrt(max(0.0, 1 - rate))), LARGEST)
