"""Probes: what can be seen of a relaxation. They only look, no weight is changed.

E(h_0), E(h_1), ...       the energy along a trajectory, and how often it rises
||h_k - h*||              the convergence curve, and the rate it shrinks by per step
r = max |eig(dF/dh)|      at the fixed point: the rate in theory, r <= the certified bound
noise -> what is left     self-healing
max bytes at one time     the tensors a computation holds, which is what BPTT pays for its steps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import stacked
from eqprop_lab.equilibrium.relaxation import free_state, settle
from eqprop_lab.equilibrium.state import State
from eqprop_lab.instruments.live_bytes import MemoryTimeline
from eqprop_lab.validation import positive_int, real


def distances(a: State, b: State) -> Tensor:
    """||a - b|| per sample over all blocks, (B,)."""
    return torch.stack([(p - q).flatten(1).norm(dim=1) for p, q in zip(a, b, strict=True)]).norm(
        dim=0
    )


@torch.no_grad()
def energy_curve(model: EquilibriumModel, x: Tensor, trajectory: Sequence[State]) -> Tensor:
    """E of every state of a trajectory, (T + 1, B). TypeError for a model without an energy."""
    model.check_batch(x)
    drive = model.drive(x)
    with model.frozen_weights():
        return torch.stack([model.energy(state, drive) for state in trajectory])


def increases(energies: Tensor) -> Tensor:
    """Whether each step of each sample raises the energy: curve (T + 1, B) -> bool (T, B).

    A rise below 64 eps max(1, |E|), eps the rounding unit of the dtype, is rounding of the sum and
    does not count.
    Raises ValueError when an energy is not finite: nothing can be said about such a step.
    """
    if not bool(torch.isfinite(energies).all()):
        raise ValueError(
            "energies holds NaN or infinite values; outside -1..1 a state has no energy"
        )
    rounding = 64 * torch.finfo(energies.dtype).eps * energies.abs().clamp_min(1.0)
    return energies.diff(dim=0) > rounding[1:]


def count_increases(energies: Tensor) -> int:
    """How many steps of how many samples raise the energy, over a curve (T + 1, B); see
    `increases`.
    """
    return int(increases(energies).sum())


def convergence_curve(trajectory: Sequence[State], fixed_point: State) -> Tensor:
    """||h_k - h*|| for every state of a trajectory, (T + 1, B)."""
    return torch.stack([distances(state, fixed_point) for state in trajectory])


def measured_rate(curve: Tensor, high: float = 1e-4, low: float = 1e-10) -> Tensor:
    """Factor per step by which a convergence curve (T + 1, B) shrinks, (B,).

    exp of the least-squares slope of log(distance) over the points between `high` and `low` times
    the first
    distance: the first steps still belong to faster modes, the last ones to rounding. NaN with
        fewer than 3 points.
    """
    high, low = real("high", high, above=0.0, below=1.0), real("low", low, above=0.0, below=high)
    relative = curve / curve[0]
    inside = (relative < high) & (relative > low)
    steps = torch.arange(len(curve), dtype=curve.dtype, device=curve.device)[:, None].expand_as(
        curve
    )
    logs = relative.clamp_min(torch.finfo(curve.dtype).tiny).log()
    count = inside.sum(0)
    mean_step, mean_log = ((values * inside).sum(0) / count for values in (steps, logs))
    from_mean = (steps - mean_step) * inside
    slope = (from_mean * (logs - mean_log)).sum(0) / from_mean.square().sum(0)
    return torch.where(count >= 3, slope.exp(), torch.nan)


def step_jacobian(model: EquilibriumModel, x: Tensor, state: State) -> Tensor:
    """dF/dh of the free step at a state, (B, N, N), N all units of all blocks; memory B N^2.

    For LoopedMLP it is D W_rec with D = diag(1 - h^2), which has the eigenvalues of D^1/2 W_rec
    D^1/2.
    """
    model.check_batch(x)
    with torch.no_grad():
        drive = model.drive(x)
    leaves = tuple(block.detach().requires_grad_() for block in state)
    with torch.enable_grad(), model.frozen_weights():
        out = torch.cat([block.flatten(1) for block in model.step(leaves, drive)], dim=1)
    samples, units = out.shape
    rows = torch.eye(units, dtype=out.dtype, device=out.device)[:, None].expand(
        units, samples, units
    )
    parts = torch.autograd.grad(out, leaves, rows, is_grads_batched=True)
    return torch.cat([part.flatten(2) for part in parts], dim=2).transpose(0, 1)


def local_spectral_radius(model: EquilibriumModel, x: Tensor, state: State) -> Tensor:
    """max |eigenvalue| of the step's Jacobian per sample, (B,): near a fixed point the distance
    shrinks by this factor per step. Cost O(B N^3).
    """
    return torch.linalg.eigvals(step_jacobian(model, x, state)).abs().amax(1)


@torch.no_grad()
def inject_noise_and_relax(
    model: EquilibriumModel,
    x: Tensor,
    noise_level: float = 1.0,
    injection_step: int = 15,
    total_steps: int = 30,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Self-healing: settle, add N(0, noise_level^2) to every unit, relax the disturbed and the
    undisturbed copy side by side, compare.

    Args:
        x: inputs (B, ...). noise_level > 0. injection_step: steps before the noise, >= 1.
        total_steps: steps in all, > injection_step. generator: of the noise; default torch's global
            one.
    Returns: mean distance of the two copies over the batch right after the noise (`initial_noise`)
        and at the end (`final_noise`), `damping_ratio` = final / initial and `damping_percent` =
        100 (1 - damping_ratio).
    Raises: TypeError, ValueError naming the argument; DivergenceError.
    """
    level = real("noise_level", noise_level, above=0.0)
    before, total = (
        positive_int("injection_step", injection_step),
        positive_int("total_steps", total_steps),
    )
    if total <= before:
        raise ValueError(f"total_steps must be larger than injection_step = {before}, got {total}")
    model.check_batch(x)
    drive, end = free_state(model, x, max_steps=before)
    calm = end.state
    noisy = tuple(
        block
        + level
        * torch.randn(block.shape, dtype=block.dtype, device=block.device, generator=generator)
        for block in calm
    )
    both, twice = stacked([noisy, calm]), stacked([drive] * 2)
    ends = settle(model, both, twice, max_steps=total - before).state
    healed, undisturbed = zip(*(block.chunk(2) for block in ends), strict=True)
    initial, final = (
        float(distances(*pair).mean()) for pair in ((noisy, calm), (healed, undisturbed))
    )
    ratio = final / initial
    return {
        "initial_noise": initial,
        "final_noise": final,
        "damping_ratio": ratio,
        "damping_percent": 100 * (1 - ratio),
    }


def peak_tensor_bytes(computation: Callable[[], object]) -> int:
    """Most bytes that tensors made by `computation()` hold at one time.

    What exists before (parameters, inputs) does not count; what autograd saves does. A storage
    counts once, however many views it has. Every device counts; scratch memory inside a single
    operation does not. The computation runs once, several times slower than usual: for measuring
    only.
    """
    with MemoryTimeline() as counted:
        computation()
    return counted.peak
