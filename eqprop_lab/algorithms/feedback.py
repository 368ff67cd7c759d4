"""Rules that carry an error back through one pass: backpropagation, and feedback that is not W^T.

delta_l = (delta_(l+1) F_(l+1) + e_l) * rho'(a_l),    delta_L = w (p - y)

rule                        F_l                          what else
backprop                    W_l
feedback_alignment          B_l, fixed
direct_feedback_alignment   D_l from the output          delta_l = (delta_L D_l) * rho'(a_l)
sign_symmetry               sign(W_l) / sqrt(n_l)
ada_fa                      B_l, learned like W_l        (its model: AdaptiveFeedbackMLP)
sto_fa                      B_l * mask / (1 - q)         a new mask in every batch
eg_fa                       B_l                          w: of each sample, by its energy
em_fa                       B_l                          e_l = lambda s_l: activity costs
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.algorithms.registry import register_algorithm
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.models.adaptive_feedback import AdaptiveFeedbackMLP
from eqprop_lab.models.feedback import CarriedBack, FeedbackAlignmentMLP, feedback
from eqprop_lab.models.local_mlp import Pass
from eqprop_lab.validation import real

register_algorithm("feedback_alignment")(FeedbackAlignmentMLP)
register_algorithm("ada_fa")(AdaptiveFeedbackMLP)
CLIP = 4.0  # no sample counts more than this, or less than one part of it


@register_algorithm("backprop")
class Backprop(CarriedBack):
    """delta_l = (delta_(l+1) W_(l+1)) * rho'(a_l): the gradient. Rumelhart, Hinton and Williams
    1986, doi:10.1038/323533a0.
    """

    def back(self, weights: Sequence[Tensor]) -> list[Tensor]:
        return list(weights[1:])


@register_algorithm("sign_symmetry")
class SignSymmetry(CarriedBack):
    """delta_l = (delta_(l+1) sign(W_(l+1)) / sqrt(n_(l+1))) * rho'(a_l): the feedback knows the
    signs of W and nothing of its sizes. Liao, Leibo and Poggio 2016, arXiv:1510.05067.
    """

    def back(self, weights: Sequence[Tensor]) -> list[Tensor]:
        return [weight.sign() / math.sqrt(len(weight)) for weight in weights[1:]]


@register_algorithm("direct_feedback_alignment")
class DirectFeedbackAlignment(CarriedBack):
    """delta_l = (delta_L D_l) * rho'(a_l), D_l ~ N(0, 1/K) fixed, from the output to every layer
    ("direct_1": to layer 1). Nokland 2016, arXiv:1609.01596.
    """

    def _draw(self, maps: Sequence[DenseMap]) -> None:
        for number, linear in enumerate(maps[:-1], start=1):
            noise = torch.randn(self.output_dim, linear.outputs) / math.sqrt(self.output_dim)
            self.register_buffer(f"direct_{number}", noise)

    def deltas(self, seen: Pass, error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        ways = [getattr(self, f"direct_{n}") for n in range(1, len(weights))]
        hidden = [error @ way * slope for way, slope in zip(ways, seen.slopes, strict=True)]
        return [*hidden, error]


@register_algorithm("sto_fa")
class StochasticFeedback(FeedbackAlignmentMLP):
    """F_l = B_l * mask / (1 - q), mask ~ Bernoulli(1 - q) anew for every batch and layer, from
    torch's global generator. q = 0 is feedback alignment.

    Args: drop: q, in [0, 1); the rest as in `LocalMLP`. The predecessor's name; our definition is
    DropConnect (Wan et al. 2013) on the feedback.
    """

    def __init__(self, *sizes: Any, drop: float = 0.5, **frame: Any) -> None:
        super().__init__(*sizes, **frame)
        self.drop = real("drop", drop, at_least=0.0, below=1.0)

    def back(self, weights: Sequence[Tensor]) -> list[Tensor]:
        kept = 1 - self.drop
        return [b * torch.bernoulli(torch.full_like(b, kept)) / kept for b in feedback(self)]


@register_algorithm("eg_fa")
class EnergyGuidedFeedback(FeedbackAlignmentMLP):
    """delta_L = w_b (p - y), w_b = clip(exp(kappa zscore_b(E)), 1/4, 4), of mean 1:

        E_b = - sum_(hidden l) mean_i s_(l,i) a_(l,i)

    A high energy is a poor fit of the states, and a larger step. kappa = 0 is feedback alignment.

    Args: kappa: any number, a negative one trusts good fits more; the rest as in `LocalMLP`. The
    predecessor's name, our definition; nearest: three-factor rules, Fremaux and Gerstner 2016,
    doi:10.3389/fncir.2015.00085.
    """

    def __init__(self, *sizes: Any, kappa: float = 0.5, **frame: Any) -> None:
        super().__init__(*sizes, **frame)
        self.kappa = real("kappa", kappa)

    def error(self, seen: Pass, error: Tensor) -> Tensor:
        layers = zip(seen.inputs[1:], seen.pre, strict=False)
        energy = -torch.stack([(s * a).mean(1) for s, a in layers]).sum(0)
        spread = energy.std(unbiased=False).clamp_min(torch.finfo(energy.dtype).tiny)
        score = (energy - energy.mean()) / spread
        weight = torch.exp(self.kappa * score).clamp(1 / CLIP, CLIP)
        return error * (weight / weight.mean())[:, None]


@register_algorithm("em_fa")
class EnergyMinimisingFeedback(FeedbackAlignmentMLP):
    """delta_l = (delta_(l+1) B_(l+1) + lambda s_l) * rho'(a_l), for the cost

        L = cross-entropy + lambda/2 sum_(hidden l) mean_b ||s_l||^2

    lambda = 0 is feedback alignment. The loss that is reported is the cross-entropy alone.

    Args: cost_of_activity: lambda >= 0; the rest as in `LocalMLP`. The predecessor's name, our
    definition; a metabolic cost as in Olshausen and Field 1996, doi:10.1038/381607a0.
    """

    def __init__(self, *sizes: Any, cost_of_activity: float = 1e-3, **frame: Any) -> None:
        super().__init__(*sizes, **frame)
        self.cost_of_activity = real("cost_of_activity", cost_of_activity, at_least=0.0)

    def extra(self, state: Tensor) -> Tensor | None:
        return self.cost_of_activity * state
