"""`pc_hybrid`: predictive coding whose errors come back through random weights.

    mu_l = rho(a_l),    eps_l = s_l - mu_l,    s_l from the forward pass, then T times, gamma:
    s_l <- s_l + gamma (-eps_l + (eps_(l+1) * rho'(a_(l+1))) B_(l+1)),    l < H
    s_H <- s_H + gamma (-eps_H - (p - y) B_L)
    G_l = -(eps_l * rho'(a_l))^T s_(l-1) / B,    G_L = (p - y)^T s_H / B

With B = W (`tied`) it is ordinary predictive coding: the states descend F = 1/2 sum_l ||eps_l||^2 +
C. Rao and Ballard 1999, doi:10.1038/4580; Whittington and Bogacz 2017, doi:10.1162/NECO_a_00949.
The mixture has the predecessor's name, and our definition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.algorithms.registry import register_algorithm
from eqprop_lab.equilibrium.costs import Cost, make_cost
from eqprop_lab.equilibrium.inputs import as_vectors, check_pair
from eqprop_lab.models.feedback import FeedbackAlignmentMLP, feedback
from eqprop_lab.models.local_mlp import ACTIVATIONS, Credit, by_layer
from eqprop_lab.validation import positive_int, real, switch


@dataclass(frozen=True)
class Inferred:
    """One moment of the inference: s_0 ... s_H, eps_1 ... eps_H, eps_l * rho'(a_l), and z."""

    states: list[Tensor]
    errors: list[Tensor]
    scaled: list[Tensor]
    logits: Tensor

    def energy(self, cost: Cost) -> Tensor:
        """F of every sample (B,)."""
        return torch.stack([0.5 * e.square().sum(1) for e in self.errors]).sum(0) + cost.value(
            self.logits
        )


@register_algorithm("pc_hybrid")
class PredictiveCoding(FeedbackAlignmentMLP):
    """Feed-forward network that learns from prediction errors after inference.

    Args: inference_steps: T >= 1; inference_rate: gamma in (0, 1]; tied: B = W, the random weights
    are then not used; the rest as in `LocalMLP`.
    """

    def __init__(
        self,
        *sizes: Any,
        inference_steps: int = 20,
        inference_rate: float = 0.2,
        tied: bool = False,
        **frame: Any,
    ) -> None:
        super().__init__(*sizes, **frame)
        self.inference_steps = positive_int("inference_steps", inference_steps)
        self.inference_rate = real("inference_rate", inference_rate, above=0.0, at_most=1.0)
        self.tied = switch("tied", tied)

    def inference(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Iterator[Inferred]:
        """The forward pass of x (B, input_dim), and what each of the T steps makes of it."""
        back = list(weights[1:]) if self.tied else feedback(self)
        states = self.run(x, weights).inputs
        for _ in range(self.inference_steps):
            now = self._predicted(states, weights)
            yield now
            pulls = [e @ b for e, b in zip(now.scaled[1:], back, strict=False)]
            pulls.append(-cost.grad(now.logits) @ back[-1])
            moves = zip(states[1:], now.errors, pulls, strict=True)
            states = [x, *(s + self.inference_rate * (pull - e) for s, e, pull in moves)]
        yield self._predicted(states, weights)

    def _predicted(self, states: list[Tensor], weights: Sequence[Tensor]) -> Inferred:
        rho, slope = ACTIVATIONS[self.activation]
        layers = zip(self._layers(), weights, states, strict=True)
        *hidden, logits = [layer.linear.up(s, w, layer.bias) for layer, w, s in layers]
        means = [rho(a) for a in hidden]
        errors = [s - mean for s, mean in zip(states[1:], means, strict=True)]
        slopes = [slope(a, mean) for a, mean in zip(hidden, means, strict=True)]
        scaled = [e * d for e, d in zip(errors, slopes, strict=True)]
        return Inferred(states, errors, scaled, logits)

    def energies(self, x: Tensor, y: Tensor) -> Tensor:
        """F of every sample before each step and after the last: (T + 1, B)."""
        self.check_batch(x)
        check_pair(x, y)
        with torch.no_grad():
            cost = make_cost("cross_entropy", y, self.output_dim, next(self.parameters()))
            moments = self.inference(as_vectors(x, self.input_dim), cost, self.weights())
            return torch.stack([now.energy(cost) for now in moments])

    def credit(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Credit:
        moments = self.inference(x, cost, weights)
        first = next(moments)
        (last,) = deque(moments, maxlen=1)  # the way between is not kept
        deltas = [*(-e for e in last.scaled), cost.grad(last.logits)]
        return Credit(*by_layer(deltas, last.states), first.logits)
