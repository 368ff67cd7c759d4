"""Estimators with nudged phases of finite beta.

    one_sided     beta^1   states at +beta and 0
    centered      beta^2   states at +beta and -beta, one batch of 2B
    holomorphic   beta^N   N complex nudges beta exp(2 pi i k/N), first Fourier coefficient
    asymmetric    beta^2   centered with force(s) + (J^T - J)(s - s*): directed models too

Second column: the error. The first two compare settled states, which a physical system can hold and
read; `holomorphic` needs complex states, `asymmetric` the transpose. For a model with
`mean_difference`, `centered` is a simulation only: it relaxes M and D themselves. No device reads
D: it would subtract two states that it measured, noise and all.

Sources: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024; Laborieux et al. 2021,
doi:10.3389/fnins.2021.633674; Laborieux and Zenke 2022, arXiv:2209.00530 (holomorphic); Scurria et
al. 2026, arXiv:2602.03670 (asymmetric).
"""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import Displacement, estimator, own_phases, stacked
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.jacobian import force_jvp, force_vjp
from eqprop_lab.equilibrium.mean_difference import relax_pair
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import Equilibrium
from eqprop_lab.equilibrium.settings import SENSIBLE, Settings, nudged_phase
from eqprop_lab.equilibrium.solvers import rows
from eqprop_lab.equilibrium.state import State
from eqprop_lab.equilibrium.view import ModelView

# relative error of a gradient over (|M - s*|/|D|)^2: measured 6 to 12 on trained language models
PER_CURVED = 10.0
FITS = 4  # of a beta, tenfold at most
CURVED = 0.03  # what a fitted beta keeps |M - s*|/|D| below: about 1 % of a gradient


def strength(
    model: EquilibriumModel, free: State, cost_grad: CostGradient, settings: Settings
) -> float:
    """beta, or beta / max |dC/ds| over the batch where the settings ask for a relative one."""
    if not settings.relative:
        return settings.beta
    with torch.no_grad():
        pulls = model.readout_vjp(free, cost_grad(model.readout(free)))
        largest = max(float(rows((p,)).max()) for p in pulls if p is not None)
    # Below the smallest normal number there is nothing to resolve, and beta would leave the dtype's
    # range.
    return settings.beta / largest if largest > torch.finfo(free[0].dtype).tiny else settings.beta


def _half(state: State) -> State:
    """D of the stacked pair [s+; s-]."""
    return tuple(torch.sub(*block.chunk(2)).div_(2) for block in state)


def _halves(state: State) -> tuple[State, State]:
    """(D, M) of the stacked pair [s+; s-]."""
    return _half(state), tuple(torch.add(*block.chunk(2)).div_(2) for block in state)


@estimator
def one_sided(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
) -> Displacement:
    """States at +beta and 0: D = s+ - s*, M = (s+ + s*)/2. Error beta^1."""
    beta = strength(model, free.state, cost_grad, settings)
    if (own := own_phases(model, drive, free, cost_grad, settings, (beta, 0.0))) is not None:
        return own

    def away(state: State) -> State:
        return tuple(p - f for p, f in zip(state, free.state, strict=True))

    nudge = CostNudge(model, cost_grad, (beta,))
    nudged = nudged_phase(model, free.state, drive, nudge, settings, away, free.radius)
    difference = away(nudged.state)
    mean = tuple((p + f) / 2 for p, f in zip(nudged.state, free.state, strict=True))
    # What the free state still had before it is in the difference too: with two nudged phases it
    # cancels.
    drift = free.error * nudged.coarse
    return Displacement(difference, mean, nudged, beta, apart=1.0, drift=drift)


@estimator
def centered(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
) -> Displacement:
    """States at +beta and -beta, relaxed together as one batch of 2B from the free state. Error
    beta^2.

    Models that ask for it hold their mean and half difference in that batch instead (see
    `mean_difference`).
    """
    beta = strength(model, free.state, cost_grad, settings)
    if (own := own_phases(model, drive, free, cost_grad, settings, (beta, -beta))) is not None:
        return own
    if model.mean_difference:
        half, middle, pair = relax_pair(model, free.state, drive, cost_grad, beta, settings)
        return Displacement(half, middle, pair, beta)  # nothing was subtracted
    nudge = CostNudge(model, cost_grad, (beta, -beta))
    start, twice = stacked([free.state] * 2), stacked([drive] * 2)
    nudged = nudged_phase(model, start, twice, nudge, settings, _half, free.radius)
    difference, mean = _halves(nudged.state)
    return Displacement(difference, mean, nudged, beta, apart=2.0)


@estimator
def asymmetric(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
) -> Displacement:
    """Nudged step activate(force(s) + (J^T - J)(s - s*) - beta dC/ds), J the Jacobian of the force
    at s*. Error beta^2.

    Its displacement solves a = N (g + J^T a), the exact adjoint, for any J; where J is symmetric it
    is `centered`. One product with J and one with J^T a step, so not purely local. Gradient: <D, d
    force/d theta> at s*.

    J is that of s*: nothing holds states that go far from there, and news that come back along many
    tokens can carry them off on the way to a small D. |M - s*|/|D|, zero for a linear response,
    shows it; a beta that may be fitted is made smaller until it does not.
    """
    beta = strength(model, free.state, cost_grad, settings)
    if (own := own_phases(model, drive, free, cost_grad, settings, (beta, -beta))) is not None:
        return own  # an energy: J is symmetric
    first = moved = _corrected(model, drive, free, cost_grad, settings, beta)
    if not settings.fitted:
        return first
    weakest = SENSIBLE * torch.finfo(free.state[0].dtype).eps
    for _ in range(FITS):
        curved = math.sqrt(moved.bend / PER_CURVED)
        if curved <= CURVED or beta <= weakest:
            break
        beta = max(weakest, beta * max(0.1, 0.7 * CURVED / curved))
        moved = _corrected(model, drive, free, cost_grad, settings, beta)
    # no weaker nudge helps where the free phase has not settled: its own movement runs away
    return moved if moved.bend < first.bend else first


class _Together(ModelView):
    """A model whose groups move all at once."""

    def __init__(self, model: EquilibriumModel) -> None:
        super().__init__(model)
        self.groups = (tuple(block for group in model.groups for block in group),)


def _corrected(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
    beta: float,
) -> Displacement:
    """`asymmetric` at one beta."""
    twice, start = stacked([drive] * 2), stacked([free.state] * 2)
    pull = CostNudge(model, cost_grad, (beta, -beta))
    forward = force_jvp(model, start, twice)
    backward = force_vjp(model, start, twice)

    def nudge(state: State) -> State:
        away = tuple(s - f for s, f in zip(state, start, strict=True))
        terms = zip(pull(state), forward(away), backward(away), model.kappa, strict=True)
        return tuple(j - jt if p is None else k * p + j - jt for p, j, jt, k in terms)

    # the correction is a product with all blocks: it would be made anew for every group
    at_once = model if len(model.groups) == 1 else _Together(model)
    nudged = nudged_phase(at_once, start, twice, nudge, settings, _half, free.radius)
    # The adjoint is the displacement itself; `contrast` weights with kappa, as it has to for a
    # primitive function.
    half, middle = _halves(nudged.state)
    difference = tuple(d / k for d, k in zip(half, model.kappa, strict=True))
    bend = PER_CURVED * _curved(half, middle, free) ** 2
    return Displacement(difference, free.state, nudged, beta, apart=2.0, bend=bend)


def _curved(half: State, middle: State, free: Equilibrium) -> float:
    """|M - s*|/|D|, at most 1, less what a free phase that still moved, and rounding, put in M."""
    aside, moved, state = (
        float(torch.stack([block.norm() for block in blocks]).norm())
        for blocks in (
            tuple(m - f for m, f in zip(middle, free.state, strict=True)),
            half,
            free.state,
        )
    )
    still = free.error + 8 * torch.finfo(free.state[0].dtype).eps
    aside -= still * state
    return min(1.0, aside / moved) if aside > 0 < moved else 0.0


class _Complexified(ModelView):
    """A model with affine force, stepped on complex states: force(a + ib) = force(a) + i J b."""

    def force(self, state: State, drive: State) -> State:
        parts = stacked([tuple(s.real for s in state), tuple(s.imag for s in state)])
        forces = self.model.force(
            parts, stacked([drive, tuple(torch.zeros_like(d) for d in drive)])
        )
        return tuple(torch.complex(*f.chunk(2)) for f in forces)

    def readout(self, state: State) -> Tensor:
        real = tuple(s.real.contiguous() for s in state)
        imaginary = tuple(s.imag.contiguous() for s in state)
        origin = self.model.readout(tuple(torch.zeros_like(s[:1]) for s in real))
        return torch.complex(self.model.readout(real), self.model.readout(imaginary) - origin)

    def pull(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        parts = [
            self.model.pull(tuple(getattr(s, part) for s in state), getattr(cotangent, part))
            for part in ("real", "imag")
        ]
        return tuple(
            None if a is None or b is None else torch.complex(a, b)
            for a, b in zip(*parts, strict=True)
        )


@estimator
def holomorphic(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
) -> Displacement:
    """-(1/(N beta)) sum_k exp(-2 pi i k/N) dPhi/dtheta(s_k), s_k nudged by beta exp(2 pi i k/N).
    Error beta^N.

    Needs an affine force, an affine readout and an activation that extends to complex numbers (tanh
    does). States at conjugate nudges are conjugate, so only half of the circle is relaxed. Raises
    TypeError for other models.
    """
    if not model.affine_force:
        raise TypeError(
            "estimator='holomorphic' needs a model whose force is affine, "
            f"{type(model).__name__}'s is not"
        )
    points = settings.points
    half = range(points // 2 + 1)
    phases = [cmath.exp(2j * cmath.pi * k / points) for k in half]
    # Interior points of the half circle stand for their conjugates too.
    weights = [
        (1 if k in (0, points / 2) else 2) * p.conjugate() / points
        for k, p in zip(half, phases, strict=True)
    ]
    beta = strength(model, free.state, cost_grad, settings)
    view = _Complexified(model)
    many = len(half)
    nudge = CostNudge(view, cost_grad, [beta * p for p in phases])
    start = tuple(torch.complex(s, torch.zeros_like(s)) for s in stacked([free.state] * many))

    def first(state: State) -> State:
        """The first Fourier coefficient over the circle; the free state has none."""
        parts = (block.chunk(many) for block in state)
        return tuple(
            torch.stack([(w * s).real for w, s in zip(weights, part, strict=True)]).sum(0)
            for part in parts
        )

    drives = stacked([drive] * many)
    nudged = nudged_phase(view, start, drives, nudge, settings, first, free.radius)
    moves, middles = [], []
    for weight, state in zip(
        weights, zip(*(s.chunk(many) for s in nudged.state), strict=True), strict=True
    ):
        moves.append(tuple(weight * (s - f) for s, f in zip(state, free.state, strict=True)))
        middles.append(tuple((s + f) / 2 for s, f in zip(state, free.state, strict=True)))
    # Re <p + iq, force(m) + i J n> = <p, force(m)> - <q, J n>: the imaginary parts see no
    # drive.
    difference = stacked(
        [tuple(m.real for m in move) for move in moves] + [tuple(-m.imag for m in v) for v in moves]
    )
    mean = stacked(
        [tuple(m.real for m in mid) for mid in middles]
        + [tuple(m.imag for m in v) for v in middles]
    )
    driven = [True] * many + [False] * many
    return Displacement(difference, mean, nudged, beta, apart=2.0, driven=driven)
