"""The one contract of the project: what an equilibrium model is.

    s*  solves  s_l = activate(force_l(s, drive)),      readout(s*) = logits

Everything else (relaxation, gradient estimators, training, probes) is written against this class
and nothing more.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.inputs import check_input, check_pair
from eqprop_lab.equilibrium.relaxation import Equilibrium, free_state
from eqprop_lab.equilibrium.state import Nudge, State, added, nudged
from eqprop_lab.validation import positive_int


class _Frozen(threading.local):
    """What the relaxations of one thread hold: {id of a model: (its weights, how many bodies share
    them)}.

    Not on the module: threads share a model, and each of them relaxes with the weights it took
    itself.
    """

    def __init__(self) -> None:
        self.held: dict[int, tuple[dict[str, Tensor], int]] = {}


_FROZEN = _Frozen()


@contextmanager
def holding(model: EquilibriumModel, take: Callable[[], dict[str, Tensor]]) -> Iterator[None]:
    """`frozen_weights` with what `take` gives, unless this thread has frozen some already."""
    # this thread's own, also when the body is closed by another
    held, key = _FROZEN.held, id(model)
    weights, users = held[key] if key in held else (take(), 0)
    held[key] = weights, users + 1
    try:
        yield
    finally:
        weights, users = held.pop(key)
        if users > 1:
            held[key] = weights, users - 1


@dataclass(frozen=True)
class Contrasted:
    """Two nudged phases as a model relaxes them itself, s+- = M +- D, and its own derivative of E.

    difference: D of what the cost pulls on (force_l(M) is its partner in `input_gradient`); mean:
    M; phase: how the phases ended. gradients: scale -> scale d/dtheta [E(s-) - E(s+)]/2, by
    parameter name.
    """

    difference: State
    mean: State
    phase: Equilibrium
    gradients: Callable[[float], dict[str, Tensor]]


class EquilibriumModel(nn.Module, ABC):
    """Base of all equilibrium models. A subclass gives drive, initial_state, force, readout and,
    where it has one, energy.

    Shapes: a state is a tuple of tensors, batch first; `drive` a tuple of tensors, batch first,
    that depend on the input only. Attributes: `output_dim`, the width of the logits; `max_steps`,
    the default length of a free phase; `groups`, the update order of the blocks (one group is a
    Picard step, two are red-black; a block in no group is clamped: `initial_state` sets it);
    `kappa`, the weight of each block in the energy; `contraction_metric`, the norm in which
    `contraction_bound` holds; `affine_force`, whether force(s, u) = J s + u with a drive that only
    adds (force(v, 0) is then J v) and the readout is affine too; `metric_condition`, the largest
    ||x||_2 over the norm of x in that metric times the largest inverse of it (1 for l2, inf where
    there is no such number); `readout_blocks`, the blocks the readout sees (None: any);
    `estimator`, the one with a finite nudge that is right for this model, and `limit`, what it
    tends to with a weak nudge; `nudged_steps`, the default length of a nudged phase; `beta`, the
    default strength of the nudge, "auto" where one strength does not suit all weights.

    The rows of the blocks are what is relaxed: one a sample, or one a token of a sequence, token
    after token (see `tokens`). Residuals, relative nudges and the mean of a cost are over rows.
    """

    groups: tuple[tuple[int, ...], ...] = ((0,),)
    kappa: tuple[float, ...] = (1.0,)
    contraction_metric: str = "l2"
    metric_condition: float = 1.0
    estimator: str = "centered"
    limit: str = "response"
    nudged_steps: int = 10
    beta: float | str = 0.03
    readout_blocks: tuple[int, ...] | None = None
    affine_force: bool = False
    # whether `parameter_gradients` takes from the free state what the drive put there with a graph
    drive_with_graph: bool = False
    # whether `centered` relaxes mean and half difference (affine forces only)
    mean_difference: bool = False
    # whether a drive of fewer rows than the state is taken as that of the first of them
    partial_drives: bool = False
    # whether `initial_state` is the free equilibrium itself: a free phase takes no step then
    starts_at_rest: bool = False
    # what a step's products are rounded to, where it is not the states' dtype
    products: torch.dtype | None = None
    output_dim: int

    def __init__(self, max_steps: int = 30) -> None:
        super().__init__()
        self.max_steps = positive_int("max_steps", max_steps)

    @abstractmethod
    def drive(self, x: Tensor) -> State:
        """Everything that depends on the input only, computed once per batch: x (B, ...) -> tuple
        of (B, ...).
        """

    @abstractmethod
    def initial_state(self, drive: State) -> State:
        """Where a free phase starts: tuple of (B, ...)."""

    @abstractmethod
    def force(self, state: State, drive: State) -> State:
        """Pre-activation a_l of every block, the gradient of the primitive function Phi where there
        is one.
        """

    @abstractmethod
    def readout(self, state: State) -> Tensor:
        """Logits (B, classes) of a state."""

    @abstractmethod
    def activate(self, a: Tensor) -> Tensor:
        """1-Lipschitz monotone activation of each row: elementwise, or the slope of a potential."""

    def activate_(self, a: Tensor) -> Tensor:
        """activate(a), perhaps rounded a little more; `a` may be overwritten."""
        return self.activate(a)

    def activate_pair(self, pair: Tensor) -> Tensor:
        """[abar; alpha] along the batch -> mean and half difference [M; D] of activate(abar +-
        alpha).

        `pair` may be overwritten.
        """
        mean, half = pair.chunk(2)
        plus = self.activate(mean + half)
        minus = self.activate(mean - half)
        return torch.cat([plus + minus, plus - minus]).mul_(0.5)

    def activation_slope(self, state: State) -> State | None:
        """d activate/da of an elementwise activation, expressed by the fixed point `state`; None
        for any other kind.
        """
        return None

    def activation_product(self, state: State) -> Callable[[State], State] | None:
        """v -> N v, N = d activate/da at the fixed point `state`, of an activation that is not
        elementwise; None: by autograd.
        """
        return None

    def energy(self, state: State, drive: State) -> Tensor:
        """Energy per sample (B,), for probes and plots only. Models without an energy raise
        TypeError.
        """
        raise TypeError(
            f"{type(self).__name__} has no energy: its force is not the gradient of a primitive "
            "function"
        )

    def contraction_bound(self) -> float:
        """Certified Lipschitz constant of one step in `contraction_metric`; inf where there is no
        certificate.
        """
        return float("inf")

    def effective_weights(self) -> dict[str, Tensor]:
        """The parametrised weights a relaxation reads at every step, evaluated now. Empty: none."""
        return {}

    @property
    def _frozen(self) -> dict[str, Tensor] | None:
        """The weights this thread has frozen, None outside of `frozen_weights`."""
        entry = _FROZEN.held.get(id(self))
        return None if entry is None else entry[0]

    def _weights(self) -> dict[str, Tensor]:
        """`effective_weights`, as this thread has frozen them or as they are now."""
        frozen = self._frozen  # looked up once: a step of a small network is not much more
        return self.effective_weights() if frozen is None else frozen

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Evaluate `effective_weights` once for the body, instead of at every step of a settle.

        They belong to the thread that took them: others see the parameters as they are. Bodies of
        one thread share them, and the last one to end lets go, in whatever order they end.
        """
        with holding(self, self.effective_weights):
            yield

    def step(
        self, state: State, drive: State, nudge: Nudge | None = None, out: State | None = None
    ) -> State:
        """s_l <- activate(force_l(s) - nudge_l(s)), group by group. The nudge acts inside the
        activation.

        out: buffers, different from `state`, that a model may write its result into when no
            gradients are recorded; it may then be rounded a little more, as other steps follow.
        """
        for group in self.groups:
            state = self.update(group, state, drive, nudge, rough=out is not None)
        return state

    def update(
        self, group: tuple[int, ...], state: State, drive: State, nudge: Nudge | None = None,
        rough: bool = False,
    ) -> State:  # fmt: skip
        """The state after one group of blocks has moved; rough: by `activate_`."""
        force = self.block_forces(group, state, drive)
        if nudge is not None and self._sees(group, nudge):
            force = nudged(force, state, nudge)
        activate = self.activate_ if rough else self.activate
        return tuple(
            activate(f) if i in group else s
            for i, (f, s) in enumerate(zip(force, state, strict=True))
        )

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        """Forces in which only the blocks of `group` need be right; the others may hold anything of
        their shape.
        """
        return self.force(state, drive)

    def _sees(self, group: tuple[int, ...], nudge: Nudge) -> bool:
        """Whether a nudge can act on these blocks; that of a cost acts through the readout only."""
        if self.readout_blocks is None or not getattr(nudge, "through_readout", False):
            return True
        return not set(group).isdisjoint(self.readout_blocks)

    def contrasted(
        self,
        drive: State,
        free: State,
        cost_grad: CostGradient,
        betas: tuple[float, float],
        steps: int,
        tol: float | None = None,
    ) -> Contrasted | None:
        """The phases nudged by either beta and dE/dtheta between them, where a model does both
        itself; None: they are relaxed step by step, and the formula of `contrast` is used.
        """
        return None

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        """d/dtheta [ sum_l <cotangent_l, force_l(state)> + <error, readout(free)> ] by parameter
        name.

        `cotangent` and `state` may hold several phases of the batch; `driven` says which of them
        see the drive of x. One autograd call; a model with closed forms overrides it (one matrix
        product per weight).
        """
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        if not named:
            return {}
        with torch.enable_grad():
            total = torch.sum(error * self.readout(free)) + self._work(x, cotangent, state, driven)
        grads = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        return {
            n: torch.zeros_like(p) if g is None else g
            for (n, p), g in zip(named.items(), grads, strict=True)
        }

    def input_gradient(
        self, x: Tensor, cotangent: State, state: State, driven: Sequence[bool] = (True,)
    ) -> Tensor:
        """d/dx sum_l <cotangent_l, force_l(state)> over the phases that see the drive of x: same
        shape as x.
        """
        with torch.enable_grad():
            inputs = x.detach().requires_grad_()
            work = self._work(inputs, cotangent, state, driven)
        return torch.autograd.grad(work, inputs)[0]

    def _work(self, x: Tensor, cotangent: State, state: State, driven: Sequence[bool]) -> Tensor:
        """sum_l <cotangent_l, force_l(state)>, with a graph to x and the parameters."""
        drive = self.drive(x)
        blocks = zip(
            *(drive if on else tuple(torch.zeros_like(d) for d in drive) for on in driven),
            strict=True,
        )
        force = self.force(state, tuple(torch.cat(block) for block in blocks))
        return torch.stack([torch.sum(c * f) for c, f in zip(cotangent, force, strict=True)]).sum()

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        """(d readout / d state_l)^T cotangent for every block; None for a block the readout does
        not see.
        """
        with torch.enable_grad():
            leaves = tuple(block.detach().requires_grad_() for block in state)
            logits = self.readout(leaves)
        return torch.autograd.grad(logits, leaves, cotangent, allow_unused=True)

    def pull(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        """(1/kappa_l) (d readout / d state_l)^T cotangent: how the logits pull on every block."""
        pulls = zip(self.readout_vjp(state, cotangent), self.kappa, strict=True)
        return tuple(None if p is None else p / k for p, k in pulls)

    def add_pull(self, force: State, state: State, cotangent: Tensor, factor: float) -> State:
        """force_l + factor pull_l, by the quickest way; `force` may be overwritten."""
        return added(force, self.pull(state, cotangent), factor)

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        check_input(x, next(self.parameters()))

    def targets(self, x: Tensor, y: Tensor) -> Tensor:
        """y as one target for each row of the logits. Raises TypeError, ValueError unless it is."""
        check_pair(x, y)
        return y

    def tokens(self, x: Tensor) -> int | None:
        """How many rows of the state one sample has, in causal order; None: rows do not meet.

        A free phase with a tolerance holds a row as soon as it and all before it have settled, so
        that no later row can change, through the number of steps, where it ends.
        """
        return None

    def settled(self, x: Tensor) -> State:
        """s_T, where `max_steps` steps lead, x not looked at. An export puts a loop here."""
        return free_state(self, x, max_steps=self.max_steps)[1].state

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the relaxed state: readout(s_T) after `max_steps` steps."""
        self.check_batch(x)
        return self.readout(self.settled(x))
