"""Rules that settle twice: equilibrium propagation in layers, and what else moves the states.

    a_l = W_l s_(l-1) + b_l + s_(l+1) F_(l+1)   (l < H),    a_H = W_H s_(H-1) + b_H - b (p - y) F_L
    s_l <- (1 - alpha) s_l + alpha rho(a_l)    from s = 0, b = 0: the free state s*
                                               from s*, b = +beta and -beta: s+ and s-
    G_l = -(s_l^+ s_(l-1)^+T - s_l^- s_(l-1)^-T) / (2 beta B),    G_L = (p - y)^T s_H* / B

    rule        F_l          how a state moves
    eqprop      W_l          as above
    mom_eq      W_l          v <- mu v + alpha (rho(a) - s),  s <- s + v
    sparse_eq   W_l          only the k largest of a layer are kept
    cf_align    kappa B_l    as above; F_L = B_L: no weight has to know its transpose

With F = W the update tends to the gradient as beta -> 0 and the states settle. The bound of the
weights above the first layer makes the step a contraction: see `layered`.

Sources: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024; Laborieux et al. 2021,
doi:10.3389/fnins.2021.633674 (two nudges, softmax readout).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from eqprop_lab.algorithms.registry import register_algorithm
from eqprop_lab.equilibrium.costs import Cost
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.equilibrium.requirements import check_precision
from eqprop_lab.models.feedback import draw_feedback, feedback
from eqprop_lab.models.local_mlp import ACTIVATIONS, Credit, LocalMLP, Pass
from eqprop_lab.validation import one_of, positive_int, real

States = list[Tensor]
# the nudges of each variant, in units of beta; None: the free state in the place of the second
NUDGES = {"centered": (1.0, -1.0), "one_sided": (1.0, 0.0), "random_sign": (1.0, 0.0)}


@dataclass(frozen=True)
class Phase:
    """What a phase relaxes with: W_1 x + b_1, W_l, F_l, and the nudge (None: free).

    keep: which units of a layer may be active, where a rule has frozen that.
    """

    drive: Tensor
    weights: Sequence[Tensor]
    back: Sequence[Tensor]
    pull: Callable[[Tensor], Tensor] | None = None
    keep: Sequence[Tensor] | None = None


@register_algorithm("eqprop")
class EquilibriumPropagation(LocalMLP):
    """Layered network that settles, under equilibrium propagation.

    Args:
        beta > 0: nudging strength. damping: alpha in (0, 1].
        free_steps, nudged_steps: longest phases; tol > 0: largest change of a state at which a
            phase of training ends. `forward` takes all free_steps, so that no sample depends on
            others.
        nudges: "centered", "one_sided" (+beta and the free state) or "random_sign" (that, with the
            sign drawn for each batch, from torch's global generator).
        activation: "tanh" or "relu", monotone ones, which have an energy; the rest as in
            `LocalMLP`.
    """

    activations: ClassVar[tuple[str, ...]] = ("tanh", "relu")

    def __init__(
        self,
        *sizes: Any,
        beta: float = 0.3,
        damping: float = 0.5,
        free_steps: int = 25,
        nudged_steps: int = 12,
        tol: float = 1e-4,
        nudges: str = "centered",
        **frame: Any,
    ) -> None:
        super().__init__(*sizes, **frame)
        self.beta = real("beta", beta, above=0.0)
        self.damping = real("damping", damping, above=0.0, at_most=1.0)
        self.free_steps = positive_int("free_steps", free_steps)
        self.nudged_steps = positive_int("nudged_steps", nudged_steps)
        self.tol = real("tol", tol, above=0.0)
        self.nudges = one_of("nudges", nudges, NUDGES)

    @property
    def cap(self) -> float:
        """rho / max(1, 2 cos(pi / (H + 1))), below which the H hidden layers contract by rho."""
        return self.rho / max(1.0, 2 * math.cos(math.pi / (len(self.hidden_dims) + 1)))

    def back(self, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        """F_2 ... F_L, each of the shape of W_l."""
        return weights[1:]

    def targets(self, phase: Phase, states: States) -> States:
        """rho(a_l) of the hidden layers."""
        rho = ACTIVATIONS[self.activation][0]
        layers = self._layers()
        forces = [phase.drive.expand_as(states[0])]
        for number, below in enumerate(states[:-1], start=1):
            layer = layers[number]
            forces.append(layer.linear.up(below, phase.weights[number], layer.bias))
        for number, above in enumerate(states[1:]):
            forces[number] = forces[number] + above @ phase.back[number]
        if phase.pull is not None:
            logits = layers[-1].linear.up(states[-1], phase.weights[-1], layers[-1].bias)
            forces[-1] = forces[-1] + phase.pull(logits) @ phase.back[-1]
        return [rho(force) for force in forces]

    def moved(self, phase: Phase, states: States, speed: States) -> tuple[States, States]:
        """(states, speeds) after one step."""
        pairs = zip(states, self.targets(phase, states), strict=True)
        return [torch.lerp(s, target, self.damping) for s, target in pairs], speed

    def settle(
        self, phase: Phase, states: States, steps: int, tol: float | None
    ) -> tuple[States, float]:
        """(states, largest change in the last step) of a phase; without tol no step is left out,
        and no change is looked at.
        """
        speed = [torch.zeros_like(s) for s in states]
        change = math.nan
        for _ in range(steps):
            before = states
            states, speed = self.moved(phase, states, speed)
            if tol is not None:
                pairs = zip(states, before, strict=True)
                change = float(torch.stack([(s - b).abs().max() for s, b in pairs]).max())
                if change <= tol:
                    break
        return states, change

    def free(
        self, x: Tensor, weights: Sequence[Tensor], tol: float | None = None
    ) -> tuple[Phase, States, float]:
        """The free phase of x (B, input_dim), its states s_1* ... s_H* and their last change."""
        first = self._layers()[0]
        phase = Phase(first.linear.up(x, weights[0], first.bias), weights, self.back(weights))
        zeros = [x.new_zeros(x.shape[0], width) for width in self.hidden_dims]
        return phase, *self.settle(phase, zeros, self.free_steps, tol)

    def run(self, x: Tensor, weights: Sequence[Tensor]) -> Pass:
        _, states, _ = self.free(x, weights)
        inputs = [x, *states]
        layers = zip(self._layers(), weights, inputs, strict=True)
        return Pass(inputs, [layer.linear.up(s, w, layer.bias) for layer, w, s in layers], [])

    def credit(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Credit:
        check_precision(x, "centered")
        phase, states, change = self.free(x, weights, self.tol)
        top = self._layers()[-1]
        logits = top.linear.up(states[-1], weights[-1], top.bias)
        plus, minus, width = self._nudged(phase, states, cost)
        pairs = zip([x, *plus], [x, *minus], plus, minus, strict=False)
        found = [(sp.T @ p - sm.T @ m) / (-width * len(x)) for p, m, sp, sm in pairs]
        biases = [(p - m).mean(0) / -width for p, m in zip(plus, minus, strict=True)]
        error = cost.grad(logits)
        return Credit(
            [*found, error.T @ states[-1] / len(x)],
            [*biases, error.mean(0)],
            logits,
            residual=change,
        )

    def _nudged(self, phase: Phase, free: States, cost: Cost) -> tuple[States, States, float]:
        """(s+, s-, how far their nudges are apart); both from the free state, as one batch."""
        signs = [self._sign() * sign for sign in NUDGES[self.nudges] if sign]
        nudge = self.beta * free[0].new_tensor(signs)[:, None, None]
        nudged = replace(phase, pull=lambda z: -nudge * cost.grad(z), keep=self.kept(free))
        start = [s.expand(len(signs), *s.shape) for s in free]
        states, _ = self.settle(nudged, start, self.nudged_steps, self.tol)
        plus = [s[0] for s in states]
        if len(signs) == 2:
            return plus, [s[1] for s in states], 2 * self.beta
        return plus, free, self.beta * signs[0]

    def _sign(self) -> float:
        flipped = self.nudges == "random_sign" and bool(torch.rand((), device="cpu") >= 0.5)
        return -1.0 if flipped else 1.0

    def kept(self, free: States) -> list[Tensor] | None:
        """What `Phase.keep` is in the nudged phases."""
        return None


@register_algorithm("mom_eq")
class MomentumEquilibrium(EquilibriumPropagation):
    """EqProp whose states have momentum: v <- mu v + alpha (rho(a) - s), s <- s + v. The fixed
    point is the same, and fewer steps lead there.

    Args: momentum: mu in [0, 1); the rest as in eqprop. The predecessor's name; our definition is
    Polyak's heavy ball, 1964, doi:10.1016/0041-5553(64)90137-5.
    """

    def __init__(self, *sizes: Any, momentum: float = 0.5, **others: Any) -> None:
        super().__init__(*sizes, **others)
        self.momentum = real("momentum", momentum, at_least=0.0, below=1.0)

    def moved(self, phase: Phase, states: States, speed: States) -> tuple[States, States]:
        away = zip(states, self.targets(phase, states), speed, strict=True)
        speed = [self.momentum * v + self.damping * (target - s) for s, target, v in away]
        return [s + v for s, v in zip(states, speed, strict=True)], speed


@register_algorithm("sparse_eq")
class SparseEquilibrium(EquilibriumPropagation):
    """EqProp among the winners: after every move each layer keeps its k = keep n largest |s|. In
    the nudged phases the winners are those of the free state: a change of winners is a jump, and
    no difference quotient.

    Args: keep: in (0, 1]; the rest as in eqprop. The predecessor's name, our definition;
    k-winners-take-all: Majani, Erlanson and Abu-Mostafa 1988; Makhzani and Frey 2013,
    arXiv:1312.5663.
    """

    def __init__(self, *sizes: Any, keep: float = 0.5, **others: Any) -> None:
        super().__init__(*sizes, **others)
        self.keep = real("keep", keep, above=0.0, at_most=1.0)

    def winners(self, state: Tensor) -> Tensor:
        """1 for the k largest |s| of every row, 0 for the others."""
        k = max(1, round(self.keep * state.shape[-1]))
        places = state.abs().topk(k, dim=-1, sorted=False).indices
        return torch.zeros_like(state).scatter(-1, places, 1.0)

    def moved(self, phase: Phase, states: States, speed: States) -> tuple[States, States]:
        states, speed = super().moved(phase, states, speed)
        keep = [self.winners(s) for s in states] if phase.keep is None else phase.keep
        return [s * mask for s, mask in zip(states, keep, strict=True)], speed

    def kept(self, free: States) -> list[Tensor]:
        return [self.winners(s) for s in free]


@register_algorithm("cf_align")
class ContrastiveFeedback(EquilibriumPropagation):
    """EqProp's contrast on states that hear the layer above through random weights, kappa B_l in
    the place of W_l, and the nudge through B_L. Not a gradient; kappa < 1 keeps the loop settling.

    Args: kappa: in (0, 1]; the rest as in eqprop. The predecessor's name, our definition;
    contrastive Hebbian learning with random feedback: Detorakis, Bartley and Neftci 2019,
    doi:10.1016/j.neunet.2019.01.008.
    """

    def __init__(self, *sizes: Any, kappa: float = 0.5, **others: Any) -> None:
        super().__init__(*sizes, **others)
        self.kappa = real("kappa", kappa, above=0.0, at_most=1.0)

    def _draw(self, maps: Sequence[DenseMap]) -> None:
        draw_feedback(self, maps)

    def back(self, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        *hidden, top = feedback(self)
        return [*(self.kappa * b for b in hidden), top]
