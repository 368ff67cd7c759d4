"""Solvers: how a relaxation gets from one iterate to the next, by sweeps of the step s -> F(s).

    picard         s_{k+1} = F(s_k)
    damped         s_{k+1} = (1 - a) s_k + a F(s_k)
    chebyshev      s_{k+1} = s_{k-1} + w_{k+1} (F(s_k) - s_{k-1})
                   w_{k+1} = 1/(1 - r^2 w_k/4),   w_2 = 1/(1 - r^2/2)
    over_relaxed   s_g <- s_g + omega (F_g(s) - s_g), group by group
                   omega = 2/(1 + sqrt(1 - q))

Chebyshev needs the radius r of the step's Jacobian, which is real for symmetric couplings. The
certified norm is far too large for it (activations saturate), so r is measured, per sample, from
the ratio of successive movements: first of Picard steps, then of the recurrence itself. Where
movements grow, that sample starts afresh, with a smaller r for good.

Over-relaxation is for models that move in groups (red-black); q is the rate of plain sweeps. With
q = 0.4, usual after training, omega = 1.13 and the rate falls to omega - 1 = 0.13. A plain sweep
minimises the energy exactly in each group and so can only lower it; one with omega > 1 has no such
guarantee away from the fixed point: as soon as a movement grows, omega is 1 for the rest of that
relaxation. q follows from the movements seen at the present omega, lambda = their ratio:
q = (lambda + omega - 1)^2 / (lambda omega^2).

Sources: Golub and Varga 1961, doi:10.1007/BF01386013 (Chebyshev); Young 1954,
doi:10.1090/S0002-9947-1954-0059635-7 (successive over-relaxation). Why these and not Anderson
mixing: the figures of `tests/benchmarks/bench_solvers.py`; they also have no linear system that can
become singular.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eqprop_lab.equilibrium.state import Nudge, State, Steppable

SLOWEST = 0.999  # rate beyond which a relaxation is not said to get anywhere
WARM_UP = 4  # Picard steps from which the radius is measured
LARGEST_RADIUS = 0.98
# movements below the rounding of the state to this power tell more of rounding than of the radius
STILL = 0.75
FIRST, LARGEST = 1.1, 1.2  # omega: where it starts, and its cap
SOLVERS = ("picard", "damped", "chebyshev", "over_relaxed")


def rows(state: State) -> Tensor:
    """Per-sample l2 norm over all blocks, (B,)."""
    # Over all axes of a block as it lies in memory: flattening images with their channels last
    # would copy them.
    sizes = [torch.linalg.vector_norm(block, dim=tuple(range(1, block.ndim))) for block in state]
    return sizes[0] if len(sizes) == 1 else torch.stack(sizes).norm(dim=0)


class Solver:
    """One relaxation's memory. This one is Picard: it remembers nothing, and F(s) is the next
    iterate.

    share: of F(s) in the next iterate. radius: (B,), of the step's Jacobian, once it is measured.
    """

    share: float = 1.0
    radius: Tensor | None = None

    @property
    def slowest(self) -> float:
        """The largest rate that plain steps are taken to shrink by."""
        return SLOWEST

    def sweep(
        self,
        model: Steppable,
        state: State,
        drive: State,
        nudge: Nudge | None = None,
        out: State | None = None,
        *,
        last: bool = False,
    ) -> State:
        """F(s), or what goes further than it where this is not the `last` sweep; may be written to
        `out`.
        """
        return model.step(state, drive, nudge, out)

    def watch(self, moved: float, reached: bool = False) -> bool:
        """See how far the last sweep has moved the worst sample; returns whether a tolerance that
        it reached ends the relaxation.
        """
        return reached

    def advance(self, state: State, image: State) -> State:
        """The next iterate from s_k and the sweep of it."""
        return image


PICARD = Solver()


class Damped(Solver):
    """s <- (1 - a) s + a F(s)."""

    def __init__(self, share: float) -> None:
        self.share = share

    def advance(self, state: State, image: State) -> State:
        return tuple(torch.lerp(s, f, self.share) for s, f in zip(state, image, strict=True))


class OverRelaxed(Solver):
    """Omega starts at 1.1 and is corrected where movements are measured (with a tolerance).

    Its sweep raises ValueError for a model whose blocks all move at once.
    """

    def __init__(self) -> None:
        self.omega = FIRST
        self.further = True
        self.movements: list[float] = []

    def sweep(
        self,
        model: Steppable,
        state: State,
        drive: State,
        nudge: Nudge | None = None,
        out: State | None = None,
        *,
        last: bool = False,
    ) -> State:
        self.further = self.omega > 1 and not last
        if not self.further:
            return super().sweep(model, state, drive, nudge, out)
        if len(model.groups) == 1:
            raise ValueError(
                "solver='over_relaxed' needs a model that moves in groups (red-black), "
                f"{type(model).__name__} moves all at once; use 'chebyshev'"
            )
        for group in model.groups:
            image = model.update(group, state, drive, nudge)
            state = tuple(
                torch.lerp(s, i, self.omega) if k in group else s
                for k, (s, i) in enumerate(zip(state, image, strict=True))
            )
        return state

    def watch(self, moved: float, reached: bool = False) -> bool:
        if not self.further:
            return reached
        self.movements = [*self.movements[-2:], moved]
        if self.omega > 1 and len(self.movements) == 3:
            self._correct(*self.movements)
        if reached:  # what is returned is an image of the step itself: one plain sweep more
            self.omega = 1.0
        return False

    def _correct(self, first: float, before: float, last: float) -> None:
        if last > before:
            self.omega = 1.0
        elif last > 0:
            seen = math.sqrt(last / first)
            rate = (seen + self.omega - 1) ** 2 / (seen * self.omega**2)
            self.omega = min(2 / (1 + math.sqrt(max(0.0, 1 - rate))), LARGEST)


class Chebyshev(Solver):
    """The three-term recurrence, with a radius measured per sample.

    radius: (B,) where it is known already, from a relaxation of the same samples under the same
    weights: then there is nothing to warm up. A state handed to `advance` must stay as it is until
    the call after the next one.
    """

    weight: Tensor
    ceiling: Tensor  # of the radius

    def __init__(self, radius: Tensor | None = None) -> None:
        self.steps = 0
        self.previous: State | None = None
        self.moved = torch.empty(0, device="cpu")  # movement two steps ago
        self.learning = WARM_UP + (2 if radius is None else 0)  # the radius, after this step
        if radius is not None:
            self._start(radius)

    @property
    def slowest(self) -> float:
        # movements may rise, the rate may not
        return SLOWEST if self.radius is None else float(self.radius.max())

    def advance(self, state: State, image: State) -> State:
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
                if self.radius is None:
                    self._start(rate)
                elif self.steps > self.learning:
                    self._learn(self.radius, rate)
        if previous is None or self.radius is None:
            return image
        self.weight = 1 / (1 - self.radius.square() * self.weight / 4)
        pairs = zip(previous, image, strict=True)
        return tuple(
            torch.lerp(p, f, self.weight.to(f.dtype).reshape(-1, *[1] * (f.ndim - 1)))
            for p, f in pairs
        )

    def _start(self, radius: Tensor) -> None:
        self.radius = radius.clamp(0, LARGEST_RADIUS)
        self.ceiling = torch.full_like(radius, LARGEST_RADIUS)
        self.weight = torch.full_like(radius, 2.0)  # w_1 as the recurrence wants it

    def _learn(self, radius: Tensor, rate: Tensor) -> None:
        """Correct the radius by how fast the recurrence really goes."""
        # A mode m outside [-r, r] decays at the larger root x of x^2 - w m x + (w - 1) = 0: x, once
        # seen, gives m.
        beyond = (rate + (self.weight - 1) / rate.clamp_min(1e-3)) / self.weight
        slow = rate > 1.05 * (self.weight - 1).clamp_min(0).sqrt()
        radius = torch.where(slow, radius.maximum(beyond).minimum(self.ceiling), radius)
        # No contraction at all: the spectrum is not what the recurrence is made for. Less of it,
        # for good.
        grew = rate > 1
        self.ceiling = torch.where(grew, 0.7 * radius, self.ceiling)
        self.radius = radius.minimum(self.ceiling)
        self.weight = torch.where(grew, 2.0, self.weight)


def make_solver(name: str, damping: float = 0.5, radius: Tensor | None = None) -> Solver:
    """The solver of that name, for one relaxation."""
    if name == "chebyshev":
        return Chebyshev(radius)
    if name == "over_relaxed":
        return OverRelaxed()
    return Damped(damping) if name == "damped" else PICARD
