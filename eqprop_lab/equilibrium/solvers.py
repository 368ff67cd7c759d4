"""What a relaxation makes of F(s): the next iterate of each solver.

    picard      s_{k+1} = F(s_k)
    damped      s_{k+1} = (1 - a) s_k + a F(s_k)
    over_relaxed   see `over_relaxation`; for models that move in groups
    chebyshev   s_{k+1} = s_{k-1} + w_{k+1} (F(s_k) - s_{k-1}),  w_{k+1} = 1/(1 - r^2 w_k/4),  w_2 = 1/(1 - r^2/2)

Chebyshev needs the radius r of the step's Jacobian, which is real for symmetric couplings. The
certified norm is far too large for it (activations saturate), so r is measured, per sample, from
the ratio of successive movements: first of Picard steps, then of the recurrence itself. Where
movements grow, that sample starts afresh, with a smaller r for good.

Source: Golub and Varga 1961, doi:10.1007/BF01386013. Why this one and not Anderson mixing or
over-relaxation: the figures of `tests/benchmarks/bench_solvers.py`; it also has no linear system
that can become singular.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from eqprop_lab.equilibrium.over_relaxation import OverRelaxed

State = tuple[Tensor, ...]
WARM_UP = 4  # Picard steps from which the radius is measured
LARGEST_RADIUS = 0.98
# movements below the rounding of the state to this power tell more of rounding than of the radius
STILL = 0.75
SOLVERS = ("picard", "damped", "chebyshev", "over_relaxed")


def rows(state: State) -> Tensor:
    """Per-sample l2 norm over all blocks, (B,)."""
    # Over all axes of a block as it lies in memory: flattening images with their channels last
    # would copy them.
    sizes = [torch.linalg.vector_norm(block, dim=tuple(range(1, block.ndim))) for block in state]
    return sizes[0] if len(sizes) == 1 else torch.stack(sizes).norm(dim=0)


class Solver(Protocol):
    """One relaxation's memory."""

    def advance(self, state: State, image: State) -> State:
        """The next iterate from s_k and F(s_k)."""
        ...


class Damped:
    """s <- (1 - a) s + a F(s)."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def advance(self, state: State, image: State) -> State:
        """The weighted mean of the state and its image."""
        return tuple(torch.lerp(s, f, self.weight) for s, f in zip(state, image, strict=True))


class Chebyshev:
    """The three-term recurrence, with a radius measured per sample.

    radius: (B,) where it is known already, from a relaxation of the same samples under the same
    weights: then there is nothing to warm up. A state handed to `advance` must stay as it is until
    the call after the next one.
    """

    def __init__(self, radius: Tensor | None = None) -> None:
        self.steps = 0
        self.previous: State | None = None
        self.moved = torch.empty(0, device="cpu")  # movement two steps ago
        self.radius = self.ceiling = self.weight = torch.empty(0, device="cpu")
        self.warm_up = WARM_UP if radius is None else 2
        if radius is not None:
            self._start(radius)

    def advance(self, state: State, image: State) -> State:
        """Picard while the radius is measured, the recurrence afterwards."""
        previous, self.previous = self.previous, state
        self.steps += 1
        if self.steps % 2 == 0:
            # Every second step, over two steps: the recurrence ripples from one to the next.
            moved = rows(tuple(f - s for f, s in zip(image, state, strict=True)))
            before, self.moved = self.moved, moved
            if self.steps >= WARM_UP:
                rate = (moved / before.clamp_min(torch.finfo(moved.dtype).tiny)).sqrt()
                # A radius learned from rounding, where the free phase has arrived, spoils the
                # nudged phase.
                rate = rate.where(moved > torch.finfo(moved.dtype).eps ** STILL * rows(image), 0.0)
                if self.steps == self.warm_up:
                    self._start(rate)
                elif self.steps > self.warm_up + 2:
                    self._learn(rate)
        if previous is None or self.steps < self.warm_up:
            return image
        self.weight = 1 / (1 - self.radius.square() * self.weight / 4)
        pairs = zip(previous, image, strict=True)
        return tuple(
            torch.lerp(p, f, self.weight.to(f.dtype).reshape(-1, *[1] * (f.ndim - 1)))
            for p, f in pairs
        )

    def _start(self, radius: Tensor) -> None:
        self.radius, self.ceiling = (
            radius.clamp(0, LARGEST_RADIUS),
            torch.full_like(radius, LARGEST_RADIUS),
        )
        self.weight = torch.full_like(radius, 2.0)  # w_1 as the recurrence wants it

    def _learn(self, rate: Tensor) -> None:
        """Correct the radius by how fast the recurrence really goes."""
        # A mode m outside [-r, r] decays at the larger root x of x^2 - w m x + (w - 1) = 0: x, once
        # seen, gives m.
        beyond = (rate + (self.weight - 1) / rate.clamp_min(1e-3)) / self.weight
        slow = rate > 1.05 * (self.weight - 1).clamp_min(0).sqrt()
        self.radius = torch.where(
            slow, self.radius.maximum(beyond).minimum(self.ceiling), self.radius
        )
        # No contraction at all: the spectrum is not what the recurrence is made for. Less of it,
        # for good.
        grew = rate > 1
        self.ceiling = torch.where(grew, 0.7 * self.radius, self.ceiling)
        self.radius = self.radius.minimum(self.ceiling)
        self.weight = torch.where(grew, 2.0, self.weight)


def make_solver(name: str, damping: float = 0.5, radius: Tensor | None = None) -> Solver | None:
    """The solver of that name, for one relaxation; None is Picard, which remembers nothing."""
    if name == "chebyshev":
        return Chebyshev(radius)
    if name == "over_relaxed":
        return OverRelaxed()
    return Damped(damping) if name == "damped" and damping != 1.0 else None
