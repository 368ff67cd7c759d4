"""A stop that does not look ahead: token i of a sequence is held once all tokens <= i have settled.

    held_i at step k   if   max_(j <= i) ||F(s_k)_j - s_kj|| / ||F(s_k)_j|| <= tol

A stop that waits for the worst token of the batch leaks: another last token can change the number
of sweeps, and with it every earlier state by about the tolerance. Here what becomes of a token
depends on it and the ones before it alone, bit for bit, and no sample of the batch on another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab.equilibrium.state import State


class CausalHold:
    """Which rows of the state are held, samples of `tokens` rows each, and how all had moved."""

    def __init__(self, tokens: int, tol: float) -> None:
        self.tokens, self.tol = tokens, tol
        self.held: Tensor | None = None  # (rows,)
        self.moved: list[Tensor] = []  # (rows,) of every step
        # (relative, absolute) movement of every row in its own last step
        self.last: tuple[Tensor, Tensor] | None = None

    def keep(self, image: State, state: State) -> State:
        """The image, with the rows that are held as they are in `state`."""
        if self.held is None:
            return image
        held = self.held
        return tuple(
            torch.where(held.reshape(-1, *[1] * (old.ndim - 1)), old, new)
            for new, old in zip(image, state, strict=True)
        )

    def watch(self, relative: Tensor, absolute: Tensor) -> tuple[Tensor, Tensor]:
        """See how far every row has moved, and hold those that need move no further.

        Returns both of every row's own last step: what is said of a state is about all its rows.
        """
        self.moved.append(absolute)
        if self.held is not None and self.last is not None:
            relative = torch.where(self.held, self.last[0], relative)
            absolute = torch.where(self.held, self.last[1], absolute)
        settled = relative.reshape(-1, self.tokens).cummax(1).values <= self.tol
        self.held, self.last = settled.flatten(), (relative, absolute)
        return self.last

    def pace(self) -> list[tuple[int, float]]:
        """(step, movement) of the rows that moved in the last step."""
        active = self.moved[-1] > 0
        if not bool(active.any()):
            active = torch.ones_like(active)
        return [(k, float(m[active].norm())) for k, m in enumerate(self.moved, start=1)]

    def share(self) -> float:
        """The last movements of all rows over those of the last step, both in l2, at least 1."""
        assert self.last is not None
        step = float(self.moved[-1].norm())
        return max(float(self.last[1].norm()) / step, 1.0) if step > 0 else 1.0
