"""The interface of a network with a learning rule of its own.

    local_gradients(x, y) -> {parameter name: what an optimiser gets in the place of dL/dp}

A rule is a module: its network, its feedback weights (buffers where they are fixed, parameters
where they are learned) and how it learns. Any torch optimiser takes the gradients: `EqPropTrainer`
does, `train_step` uses an Adam of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.equilibrium.spectral import bounded_weights, follow_updates


class LocalGradients(dict[str, Tensor]):
    """{parameter name: gradient}, and what the rule saw on the way.

    logits (B, K); loss (B,), the cross-entropy of each sample; residual: the largest change in the
    last step of a free phase, nan where nothing settles.
    """

    def __init__(
        self,
        gradients: Mapping[str, Tensor],
        logits: Tensor,
        loss: Tensor,
        residual: float = math.nan,
    ) -> None:
        super().__init__(gradients)
        self.logits = logits
        self.loss = loss
        self.residual = residual


class LocalRule(nn.Module, ABC):
    """A network that learns by a rule of its own: base of the rules, and what they share.

    learning_rate: of the Adam of `train_step`. Its state is no part of the state_dict, and begins
    anew when the module is moved or cast.
    """

    learning_rate: float = 1e-3
    _optimizer: torch.optim.Optimizer | None = None

    @abstractmethod
    def local_gradients(self, x: Tensor, y: Tensor) -> LocalGradients:
        """The rule: x (B, ...), y class indices (B,) or float targets (B, K) -> named gradients.

        Neither `.grad` nor any weight is touched. Raises TypeError, ValueError naming the argument.
        """

    @abstractmethod
    def exact_gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """dL/dp of the mean cross-entropy of `forward`, what the rule is measured against.

        Feedback weights, which the logits do not depend on, are left out.
        """

    def before_update(self) -> None:
        """What the rule does to its weights besides the gradients: called before each update."""

    def train_step(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """One update by the rule with its own Adam -> {"loss", "accuracy"} before the update.

        Raises ValueError, and updates nothing, where loss or gradients are not finite.
        """
        self.train()
        with tracked():
            found = self.local_gradients(x, y)
        _check_finite(found)
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        for name, parameter in self.named_parameters():
            parameter.grad = found.get(name)
        self.before_update()
        self._optimizer.step()
        follow_updates(bounded_weights(self))
        classes = y.argmax(1) if y.is_floating_point() else y
        right = found.logits.argmax(1) == classes
        return {"loss": float(found.loss.mean()), "accuracy": float(right.float().mean())}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._optimizer = None  # its moments would stay where the parameters were
        return super()._apply(fn, recurse)


def _check_finite(found: LocalGradients) -> None:
    tensors: dict[str, Tensor] = {"the loss": found.loss}
    tensors |= {f"the gradient of {name}": gradient for name, gradient in found.items()}
    for name, tensor in tensors.items():
        if not math.isfinite(float(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is not finite; nothing was updated")
