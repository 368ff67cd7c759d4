"""The frame that the learning rules share: one feed-forward network, and who hands it gradients.

    a_l = W_l s_(l-1) + b_l,    s_l = rho(a_l),    s_0 = x,    z = a_L,    p = softmax(z)
    G_l = delta_l^T s_(l-1) / B,    g_l = mean delta_l,    delta_L = p - y

A rule says what delta_l is. W_l ~ N(0, 1/n_(l-1)), b_l = 0. rho' is always taken at a_l.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.activations import tanh
from eqprop_lab.equilibrium.costs import Cost, make_cost
from eqprop_lab.equilibrium.inputs import as_vectors, check_input, check_pair
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.equilibrium.requirements import recording
from eqprop_lab.models.layered import START, Layer
from eqprop_lab.models.local_rule import LocalGradients, LocalRule
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import one_of, positive_int, real, sizes, switch

ORIGINAL = "parametrizations.weight.original"


def _silu_slope(a: Tensor, s: Tensor) -> Tensor:
    gate = torch.sigmoid(a)
    return gate * (1 + a * (1 - gate))


def _gelu_slope(a: Tensor, s: Tensor) -> Tensor:
    density = torch.exp(-0.5 * a.square()) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(a / math.sqrt(2))) + a * density


# rho, and rho'(a) from a and s = rho(a)
Activation = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]
ACTIVATIONS: dict[str, Activation] = {
    "tanh": (tanh, lambda a, s: 1 - s.square()),
    "relu": (torch.relu, lambda a, s: (a > 0).to(a.dtype)),
    "silu": (F.silu, _silu_slope),
    "gelu": (F.gelu, _gelu_slope),
}


@dataclass(frozen=True)
class Pass:
    """A batch on its way: inputs s_0 ... s_(L-1) of the layers, their pre-activations a_1 ... a_L.

    slopes: rho'(a_l) of the hidden layers.
    """

    inputs: list[Tensor]
    pre: list[Tensor]
    slopes: list[Tensor]


@dataclass(frozen=True)
class Credit:
    """What a rule gives: G_l and g_l of every layer, of other parameters by name, and logits."""

    weights: list[Tensor]
    biases: list[Tensor]
    logits: Tensor
    others: dict[str, Tensor] = field(default_factory=dict)
    residual: float = math.nan


def by_layer(
    deltas: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """(G_l, g_l) of all layers: delta_l^T s_(l-1) / B and the mean of delta_l."""
    weights = [delta.T @ s / len(s) for delta, s in zip(deltas, inputs, strict=True)]
    return weights, [delta.mean(0) for delta in deltas]


class LocalMLP(LocalRule):
    """Feed-forward network `input_dim`-`hidden_dims`-`output_dim` under a rule.

    Args:
        input_dim, output_dim: integers >= 1; hidden_dims: one integer or a list of them.
        activation: "tanh", "relu", "silu" or "gelu", as far as the rule takes it.
        use_spectral_norm: keep the norm of every weight above the first layer strictly below `cap`,
            which is rho where nothing else is said, by the smooth parametrisation of `spectral`.
        rho: in (0, 1). learning_rate: of `train_step`. seed: as in LoopedMLP; every rule draws the
            same W_l from it, and every rule with feedback weights the same B_l.
    Shapes: x (B, input_dim) or any image shape with as many pixels -> logits (B, output_dim). They
        carry no graph: `loss.backward()` raises, instead of training a rule by backpropagation.
    Raises: TypeError or ValueError naming the argument.
    """

    activations: ClassVar[tuple[str, ...]] = tuple(ACTIVATIONS)

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
    ) -> None:
        super().__init__()
        self.input_dim = positive_int("input_dim", input_dim)
        hidden = sizes("hidden_dims", hidden_dims)
        self.hidden_dims = [hidden] if isinstance(hidden, int) else hidden
        self.output_dim = positive_int("output_dim", output_dim)
        self.activation = one_of("activation", activation, self.activations)
        self.use_spectral_norm = switch("use_spectral_norm", use_spectral_norm)
        self.rho = real("rho", rho, above=0.0, below=1.0)
        self.learning_rate = real("learning_rate", learning_rate, above=0.0)
        with seeded(seed):
            widths = [self.input_dim, *self.hidden_dims, self.output_dim]
            maps = [DenseMap(a, b) for a, b in zip(widths, widths[1:], strict=False)]
            self.layers = nn.ModuleList(Layer(linear) for linear in maps)
            if self.use_spectral_norm:
                for layer in self._layers()[1:]:
                    layer.bound(self.cap, START * self.cap)
            self._draw(maps)

    def _draw(self, maps: Sequence[DenseMap]) -> None:
        """Make what the rule has besides W_l and b_l, from the same seed."""

    @property
    def cap(self) -> float:
        """Below which the norms stay, where they are bounded."""
        return self.rho

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def weights(self) -> list[Tensor]:
        """The effective W_1 ... W_L (n_l, n_(l-1)), bounded where they are bounded."""
        return [layer.weight for layer in self._layers()]

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        check_input(x, next(self.parameters()))
        as_vectors(x, self.input_dim)

    def run(self, x: Tensor, weights: Sequence[Tensor]) -> Pass:
        """The forward pass of x (B, input_dim)."""
        rho, slope = ACTIVATIONS[self.activation]
        inputs, pre, slopes = [x], [], []
        for layer, weight in zip(self._layers(), weights, strict=True):
            pre.append(layer.linear.up(inputs[-1], weight, layer.bias))
            if len(pre) < len(weights):
                inputs.append(rho(pre[-1]))
                slopes.append(slope(pre[-1], inputs[-1]))
        return Pass(inputs, pre, slopes)

    def logits(self, x: Tensor) -> Tensor:
        """z of x (B, ...), with a graph to the weights."""
        return self.run(as_vectors(x, self.input_dim), self.weights()).pre[-1]

    def forward(self, x: Tensor) -> Tensor:
        self.check_batch(x)
        with torch.no_grad():
            return self.logits(x)

    @abstractmethod
    def credit(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Credit:
        """The rule itself, for x (B, input_dim); cost.grad(z) is p - y."""

    def local_gradients(self, x: Tensor, y: Tensor) -> LocalGradients:
        self.check_batch(x)
        check_pair(x, y)
        with recording(x) as rows, torch.no_grad():
            cost = make_cost("cross_entropy", y, self.output_dim, next(self.parameters()))
            found = self.credit(as_vectors(rows, self.input_dim), cost, self.weights())
            named: dict[str, Tensor] = dict(found.others)
            parts = zip(self._layers(), found.weights, found.biases, strict=True)
            for number, (layer, by_weight, by_bias) in enumerate(parts):
                name, gradient = pulled_back(layer, by_weight)
                named |= {f"layers.{number}.{name}": gradient, f"layers.{number}.bias": by_bias}
            wanted = {name for name, p in self.named_parameters() if p.requires_grad}
            kept = {name: gradient for name, gradient in named.items() if name in wanted}
            return LocalGradients(kept, found.logits, cost.value(found.logits), found.residual)

    def exact_gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        self.check_batch(x)
        check_pair(x, y)
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        with recording(x) as rows, torch.enable_grad():
            logits = self.logits(rows)
            loss = make_cost("cross_entropy", y, self.output_dim, logits).value(logits).mean()
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        return {name: g for name, g in zip(named, found, strict=True) if g is not None}

    def extra_repr(self) -> str:
        cap = f"cap={self.cap:g}" if self.use_spectral_norm else "no spectral bound"
        return f"{self.activation}, {cap}"


def pulled_back(module: nn.Module, by_weight: Tensor) -> tuple[str, Tensor]:
    """(name, gradient) of what an optimiser sees of `module.weight`: its original, if bounded."""
    if not parametrize.is_parametrized(module, "weight"):
        return "weight", by_weight
    original = module.get_parameter(ORIGINAL)
    with torch.enable_grad():
        weight: Any = module.weight
        if not weight.requires_grad:
            return ORIGINAL, torch.zeros_like(original)  # frozen: left out by the caller
        return ORIGINAL, torch.autograd.grad(weight, original, by_weight)[0]
