"""BioplausibleModel: any rule by name, as one module.

BioplausibleModel("ada_fa", 784, [512], 10)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

# imported for the rules they register
from eqprop_lab.algorithms import alignment, equilibrium, feedback, layerwise, predictive
from eqprop_lab.algorithms.registry import ALGORITHMS, algorithm, check_options
from eqprop_lab.models.local_rule import LocalGradients, LocalRule
from eqprop_lab.models.registry import model_registry
from eqprop_lab.validation import sizes

FAMILIES = (alignment, equilibrium, feedback, layerwise, predictive)


def list_algorithms() -> list[str]:
    """The names of the learning rules, sorted."""
    return sorted(ALGORITHMS)


class BioplausibleModel(LocalRule):
    """A network under the learning rule of that name; `rule` is the model that does the work.

    It trains by its own rule, under `EqPropTrainer` as well as by `train_step`, and never by
    autograd: its logits carry no graph.

    Args: algorithm: one of `list_algorithms()`; input_dim, output_dim: integers >= 1; hidden_dims:
        one integer or a list of them; seed: as in LoopedMLP; options: further arguments of the
        rule, as `activation`, `use_spectral_norm`, `learning_rate`, `beta` (see its class).
    Shapes: x (B, input_dim) or any image shape with as many pixels -> logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument, and the nearest rule or option for one that
        is unknown.
    """

    def __init__(
        self,
        algorithm: str,
        input_dim: int,
        hidden_dims: int | Sequence[int],
        output_dim: int,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        kind = _kind(algorithm)
        check_options(algorithm, options)
        self.algorithm = algorithm
        hidden = sizes("hidden_dims", hidden_dims)
        self.hidden_dims = [hidden] if isinstance(hidden, int) else hidden
        self.rule: Any = kind(input_dim, self.hidden_dims, output_dim, seed=seed, **options)
        self.options = dict(options)
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.learning_rate = self.rule.learning_rate

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        self.rule.check_batch(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(x)

    def local_gradients(self, x: Tensor, y: Tensor) -> LocalGradients:
        found = self.rule.local_gradients(x, y)
        named = {f"rule.{name}": gradient for name, gradient in found.items()}
        return LocalGradients(named, found.logits, found.loss, found.residual)

    def exact_gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        found = self.rule.exact_gradients(x, y)
        return {f"rule.{name}": gradient for name, gradient in found.items()}

    def before_update(self) -> None:
        self.rule.before_update()

    def extra_repr(self) -> str:
        return repr(self.algorithm)


_kind = algorithm  # its argument of the same name hides it
model_registry.register("BioplausibleModel", BioplausibleModel)
