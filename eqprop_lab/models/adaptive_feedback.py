"""AdaptiveFeedbackMLP (`ada_fa`): feedback weights that learn to be the transpose of the forward
ones.

    B_l <- (1 - lambda) B_l - eta Adam(G_l),    W_l <- (1 - lambda) W_l - eta Adam(G_l),    l >= 2

Both get the same local update and shrink alike, so W - B shrinks by 1 - lambda a step and the angle
between them goes to 0, without a weight ever being copied (any optimiser stands for Adam).

With `mirror` B learns from noise that is sent up instead, and no error is needed for it; W stays:

    B_l <- (1 - lambda) B_l + lambda mean(rho(W_l xi) xi^T) / sigma^2,    xi ~ N(0, sigma^2)

The predecessor's name, our definition: Kolen and Pollack 1994, doi:10.1109/ICNN.1994.374486; Akrout
et al. 2019, arXiv:1904.05391.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.costs import Cost
from eqprop_lab.models.feedback import FeedbackAlignmentMLP, feedback
from eqprop_lab.models.local_mlp import ACTIVATIONS, Credit, pulled_back
from eqprop_lab.validation import real, switch

PROBES, SIGMA = 32, 0.1  # noise samples of a mirror's step, and their size


class AdaptiveFeedbackMLP(FeedbackAlignmentMLP):
    """Feed-forward network with learned feedback weights B_l, parameters "feedback_1", ...

    Args: decay: lambda of each update, in [0, 1). feedback_rate >= 0: times G_l in the update of B
        (Adam does not see the size of a rate, SGD does); with 0 the B_l are fixed buffers, and
        decay has to be 0 too. mirror: B_l, buffers now, follow W_l by noise probes before each
        update, drawn from torch's global generator; feedback_rate has no part in it and stays 1.
        The rest, shapes and errors as in `LocalMLP`.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: int | Sequence[int],
        output_dim: int,
        activation: str = "tanh",
        use_spectral_norm: bool = False,
        rho: float = 0.9,
        learning_rate: float = 1e-3,
        seed: int | None = None,
        *,
        decay: float = 5e-3,
        feedback_rate: float = 1.0,
        mirror: bool = False,
    ) -> None:
        shared = (activation, use_spectral_norm, rho, learning_rate, seed)
        super().__init__(input_dim, hidden_dims, output_dim, *shared)
        self.decay = real("decay", decay, at_least=0.0, below=1.0)
        self.feedback_rate = real("feedback_rate", feedback_rate, at_least=0.0)
        self.mirror = switch("mirror", mirror)
        if self.mirror:
            if self.decay == 0 or self.feedback_rate != 1:
                raise ValueError(
                    "mirror needs decay > 0 and feedback_rate 1, got "
                    f"decay {self.decay:g}, feedback_rate {self.feedback_rate:g}"
                )
            return
        if self.feedback_rate == 0:
            if self.decay:
                raise ValueError(
                    f"decay must be 0 where feedback_rate is 0, got {self.decay:g}: feedback "
                    "weights that only shrink end at zero"
                )
            return
        for number in range(1, len(self.layers)):
            name = f"feedback_{number}"
            values = getattr(self, name)
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(values))

    def credit(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Credit:
        found = super().credit(x, cost, weights)
        if self.mirror:
            return found
        for number, by_weight in enumerate(found.weights[1:], start=1):
            same = pulled_back(self.layers[number], by_weight)[1]
            found.others[f"feedback_{number}"] = self.feedback_rate * same
        return found

    def before_update(self) -> None:
        """W_l, B_l <- (1 - lambda) of themselves, l >= 2; or the mirror's step."""
        if self.mirror:
            self._reflect()
        elif self.decay:
            originals = [p for n, p in self.named_parameters() if _decays(n)]
            with torch.no_grad():
                torch._foreach_mul_([*originals, *feedback(self)], 1 - self.decay)

    @torch.no_grad()
    def _reflect(self) -> None:
        """B_l a step closer to W_l: noise goes up, and what comes out meets what went in."""
        rho = ACTIVATIONS[self.activation][0]
        for weight, b in zip(self.weights()[1:], feedback(self), strict=True):
            noise = SIGMA * torch.randn(PROBES, weight.shape[1], device=b.device, dtype=b.dtype)
            answer = rho(noise @ weight.T).T @ noise / (PROBES * SIGMA**2)
            b.lerp_(answer, self.decay)

    def extra_repr(self) -> str:
        own = f"decay={self.decay:g}, feedback_rate={self.feedback_rate:g}"
        own += ", mirror" if self.mirror else ""
        return f"{super().extra_repr()}, {own}"


def _decays(name: str) -> bool:
    """Whether it is what an optimiser sees of W_l, l >= 2."""
    return name.startswith("layers.") and "weight" in name and not name.startswith("layers.0.")
