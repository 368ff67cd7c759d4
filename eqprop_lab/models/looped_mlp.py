"""LoopedMLP: one hidden layer that feeds back on itself until it settles.

    h <- tanh(W_rec h + u),   u = W_in x + b_in + b_rec,   z = W_out h + c
    Phi(h) = 1/2 h.W_rec h + h.u,    E(h) = sum_i [h_i artanh h_i + 1/2 log(1 - h_i^2)] - Phi(h)

W_rec is symmetric (so E exists and the EP theorem holds) with norm strictly below rho < 1 (so the
fixed point is unique).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.activations import tanh_entropy, tanh_from_scaled, tanh_gain
from eqprop_lab.equilibrium.inputs import as_vectors
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.equilibrium.spectral import BoundedNorm
from eqprop_lab.equilibrium.state import Nudge, State, nudged
from eqprop_lab.models.tanh import TanhModel, class_first, into_drive, scaled_force
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
        return (self.activate(drive[0]),)

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
    ) -> State | None:  # fmt: skip
        """`count` steps in one loop, the last into the first of two buffers; None: this one steps
        in another way. The numbers are those of `step`.
        """
        stepped = type(self).step is not LoopedMLP.step or "step" in self.__dict__
        if not self._own or stepped:
            return None
        (h,), (u,), weight, gain = state, drive, self._inward(), tanh_gain(state[0])
        for left in range(count, 0, -1):
            (a,) = spare[(left - 1) % 2]
            force = scaled_force(a, h, u, weight, gain)
            if nudge is not None:
                (force,) = nudged((force,), (h,), nudge, gain)
            h = tanh_from_scaled(force)
        return (h,)

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
