"""LoopedMLP: one hidden layer that feeds back on itself until it settles.

    h <- tanh(W_rec h + u),   u = W_in x + b_in + b_rec,   z = W_out h + c
    Phi(h) = 1/2 h.W_rec h + h.u,    E(h) = sum_i [h_i artanh h_i + 1/2 log(1 - h_i^2)] - Phi(h)

W_rec is symmetric (so E exists and the EP theorem holds) with norm strictly below rho < 1 (so the
fixed point is unique).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.activations import (
    scaled_tanh,
    tanh_entropy,
    tanh_from_scaled,
    tanh_gain,
)
from eqprop_lab.equilibrium.inputs import as_vectors
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.spectral import BoundedNorm
from eqprop_lab.equilibrium.state import Nudge, State, nudged
from eqprop_lab.models.tanh import (
    TanhModel,
    class_first,
    class_first_reader,
    into_drive,
    scaled_force,
    walk_by_sigmoid,
)
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, real, switch


class LoopedMLP(TanhModel):
    """Recurrent equilibrium network `input_dim`-`hidden_dim`-`output_dim`.

    784-256-10 has 269,322 parameters.

    Args:
        input_dim, hidden_dim, output_dim: layer sizes, integers >= 1.
        use_spectral_norm: keep ||W_rec|| strictly below `rho` by parametrisation; False lifts the
            bound, and `contraction_bound` then says what the norm is, also when that is no
            certificate (>= 1).
        rho: cap of the norm, in (0, 1).
        max_steps: steps of a free phase.
        symmetric: False unties W_rec from its transpose: no energy, plain EqProp gradients are then
            wrong (that is what it is for; `asymmetric` and `implicit` stay right).
        seed: seeds the initial weights without touching the global generator; None draws from the
            global one.

    Shapes: x (B, input_dim) or any image shape with as many pixels; state ((B, hidden_dim),);
    logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument. Source: Scellier and Bengio 2017,
    doi:10.3389/fncom.2017.00024; discrete-time primitive function: Ernoult et al. 2019,
    arXiv:1905.13633.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        use_spectral_norm: bool = True,
        rho: float = 0.9,
        max_steps: int = 30,
        seed: int | None = None,
        symmetric: bool = True,
    ) -> None:
        super().__init__(max_steps)
        self.input_dim = positive_int("input_dim", input_dim)
        self.hidden_dim = positive_int("hidden_dim", hidden_dim)
        self.output_dim = positive_int("output_dim", output_dim)
        self.rho = real("rho", rho, above=0.0, below=1.0)
        self.use_spectral_norm = switch("use_spectral_norm", use_spectral_norm)
        self.symmetric = switch("symmetric", symmetric)
        if not self.symmetric:
            self.estimator, self.limit = "asymmetric", "implicit"
        with seeded(seed):
            self.W_in = nn.Linear(self.input_dim, self.hidden_dim)
            self.W_rec = nn.Linear(self.hidden_dim, self.hidden_dim)
            self.W_out = nn.Linear(self.hidden_dim, self.output_dim)
            cap = self.rho if self.use_spectral_norm else None
            bound = BoundedNorm(self.W_rec.weight, cap, symmetric=self.symmetric)
            parametrize.register_parametrization(self.W_rec, "weight", bound)
        # A subclass with another force or activation must not meet the closed forms written for
        # these two.
        self._own = (
            type(self).force is LoopedMLP.force and type(self).activate is LoopedMLP.activate
        )

    @property
    def bound(self) -> BoundedNorm:
        """The parametrisation of W_rec."""
        module = self.W_rec.get_submodule("parametrizations.weight.0")
        assert isinstance(module, BoundedNorm)
        return module

    def effective_weights(self) -> dict[str, Tensor]:
        return {"W_rec": self.W_rec.weight}

    def drive(self, x: Tensor) -> State:
        return (self.W_in(as_vectors(x, self.input_dim)) + self.W_rec.bias,)

    def initial_state(self, drive: State) -> State:
        gain = tanh_gain(drive[0])
        if gain == 1 or not self._own:
            return (self.activate(drive[0]),)
        return (tanh_from_scaled(gain * drive[0]),)  # of its rounding no step leaves anything

    def force(self, state: State, drive: State) -> State:
        return (torch.addmm(drive[0], state[0], self._inward()),)

    def _inward(self) -> Tensor:
        """W_rec^T. A product with the matrix as it lies is quicker, if it is its own transpose."""
        weight = self._weights()["W_rec"]
        return weight if self.symmetric else weight.T

    def step(
        self, state: State, drive: State, nudge: Nudge | None = None, out: State | None = None
    ) -> State:
        """tanh(W_rec h + u - nudge); in `out` if given: one product, tanh by the quickest way."""
        if out is None or not self._own:
            return super().step(state, drive, nudge)
        gain = tanh_gain(out[0])
        a = scaled_force(out[0], state[0], drive[0], self._inward(), gain)
        if nudge is not None:
            (a,) = nudged((a,), state, nudge, gain)
        return (tanh_from_scaled(a),)

    def walk(
        self, state: State, drive: State, nudge: Nudge | None, count: int,
        spare: tuple[State, State],
    ) -> tuple[State, float] | None:  # fmt: skip
        """`count` >= 2 steps in one loop, through two buffers, and how far the last but one went
        (l2, whole batch); None: this one steps in another way. The numbers are those of `step`, up
        to rounding.
        """
        if not self._own or self._steps_otherwise(state, drive, nudge):
            return None
        (h,), (u,), weight, gain = state, drive, self._inward(), tanh_gain(state[0])
        buffers = [a for (a,) in spare]
        if nudge is None and gain != 1:
            h, moved = walk_by_sigmoid(h, u, weight, count, buffers)
            return (h,), moved
        activate, pull = scaled_tanh(h), None if nudge is None else self._pull(nudge, gain)
        u = u if gain == 1 else gain * u  # once, where a product would scale what it adds to
        # two phases begin at one state: half of the first product does
        alike = nudge is not None and _of_two(h) and _of_two(u)
        for left in range(count, 0, -1):
            a = buffers[left % 2]
            if alike and left == count:
                half, other = a.chunk(2)
                torch.addmm(u.chunk(2)[0], h.chunk(2)[0], weight, alpha=gain, out=half)
                other.copy_(half)
            else:
                torch.addmm(u, h, weight, alpha=gain, out=a)
            before, h = h, activate(a if pull is None else pull(a, h))
            if left == 2:
                moved = vector_norm(h - before)
        return (h,), float(moved)

    def _steps_otherwise(self, state: State, drive: State, nudge: Nudge | None) -> bool:
        """Whether a step is that of a subclass, of this object alone, or runs compiled."""
        own = self.__dict__.get("step")
        if own is None:
            return type(self).step is not LoopedMLP.step
        compiles = getattr(own, "compiles", None)
        return compiles is None or compiles(state, drive, nudge)

    def _pull(self, nudge: Nudge, gain: float) -> Callable[[Tensor, Tensor], Tensor]:
        """(a, h) -> a - gain nudge(h), perhaps in place, with what a loop need look up only once:
        between two products Python starts from an empty cache each time.
        """
        # also by the object itself, which may have been given other ones
        own = all(
            getattr(getattr(self, name), "__func__", None) is getattr(LoopedMLP, name)
            for name in ("readout", "add_pull")
        )
        if not (own and type(nudge) is CostNudge and nudge.model is self):
            return lambda a, h: nudged((a,), (h,), nudge, gain)[0]
        read, weight, error = class_first_reader(self.W_out), self.W_out.weight, nudge.of_logits
        return lambda a, h: a.addmm_(error(read(h)), weight, alpha=-gain)

    def readout(self, state: State) -> Tensor:
        return class_first(state[0], self.W_out)

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return (cotangent @ self.W_out.weight,)

    def add_pull(self, force: State, state: State, cotangent: Tensor, factor: float) -> State:
        """a + factor W_out^T cotangent, in place."""
        return (force[0].addmm_(cotangent, self.W_out.weight, alpha=factor),)

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        """The gradients of the contract in closed form: one matrix product per weight."""
        if not self._own:
            return super().parameter_gradients(x, cotangent, state, free, error, driven)
        with torch.no_grad():
            c = cotangent[0]
            into = into_drive(c, driven)
            bias = into.sum(0)
            original = self.W_rec.get_parameter("parametrizations.weight.original")
            found = {
                "W_in.weight": (self.W_in.weight, into.T @ as_vectors(x, self.input_dim)),
                "W_in.bias": (self.W_in.bias, bias),
                "W_rec.bias": (self.W_rec.bias, bias.clone()),
                "W_rec.parametrizations.weight.original": (
                    original,
                    self.bound.pull_back(original, c.T @ state[0]),
                ),
                "W_out.weight": (self.W_out.weight, error.T @ free[0]),
                "W_out.bias": (self.W_out.bias, error.sum(0)),
            }
        return {
            name: gradient
            for name, (parameter, gradient) in found.items()
            if parameter.requires_grad
        }

    def energy(self, state: State, drive: State) -> Tensor:
        """E(h) per sample (B,), finite up to |h| = 1. Raises TypeError for the directed model."""
        if not self.symmetric:
            return super().energy(state, drive)
        (h,), (u,) = state, drive
        image = h @ self.effective_weights()["W_rec"].T
        return tanh_entropy(h).sum(1) - 0.5 * (h * image).sum(1) - (h * u).sum(1)

    def contraction_bound(self) -> float:
        """||W_rec||_2, exact: the Lipschitz constant of a step in l2, as tanh is 1-Lipschitz."""
        return exact_norm(self.W_rec.weight)

    def extra_repr(self) -> str:
        cap = f"rho={self.rho}" if self.use_spectral_norm else "no spectral bound"
        return f"{cap}, {'symmetric' if self.symmetric else 'directed'}, max_steps={self.max_steps}"


def _of_two(rows: Tensor) -> bool:
    """Whether the second half of the rows is as the first."""
    return len(rows) % 2 == 0 and torch.equal(*rows.chunk(2))
