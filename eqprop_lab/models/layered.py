"""Layered equilibrium networks: layers pushed up from below and down, with gain gamma, from above.

    a_l = W_l s_(l-1) + b_l + gamma W_(l+1)^T s_(l+1),    s_l <- tanh(a_l)
    s_0 = x,    z = W_out vec(s_L) + c
    E   = sum_l kappa_l [G(s_l) - <s_l, W_l s_(l-1) + b_l>],   kappa_l = gamma^-(L-l),
    G(s) = sum s artanh s + 1/2 log(1 - s^2)

One energy for every gamma > 0, so the EqProp theorem holds for each: gamma = 1 is the deep Hopfield
network, gamma -> 0 tends to a feed-forward one with the gradients of backpropagation (Xie and Seung
2003, doi:10.1162/089976603762552988). A step is a red-black sweep: first layers L-1, L-3, ..., then
L, L-2, ...; each half minimises E exactly in its layers, so E never rises, whatever the weights.

Certificate: with ||W_l|| <= n_l for l = 2..L (W_1 acts outside the loop) a sweep contracts, in the
norm max over the two groups of sqrt(sum_l kappa_l ||s_l||^2), by at least q = sqrt(gamma)
lambda_max(T), where T is the path matrix with the entries n_l. Equal shares: n_l < cap = rho / (2
cos(pi/(L+1)) sqrt(gamma)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.activations import tanh, tanh_, tanh_entropy
from eqprop_lab.equilibrium.inputs import check_shape
from eqprop_lab.equilibrium.linear_maps import LinearMap
from eqprop_lab.equilibrium.norms import outward
from eqprop_lab.equilibrium.sigma_vector import fingerprint, tracked
from eqprop_lab.equilibrium.spectral import Bounded, raw_norm
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.tanh import TanhModel, class_first, into_drive
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, real, switch

START = 0.8  # share of the cap that the interior weights have at the start
KEEPING = 3.0  # norm at which tanh layers keep the size of their states with depth


def _add_drive(force: Tensor, drive: Tensor) -> None:
    """force + drive, in place; a drive of fewer rows is that of the first of them."""
    # An export knows no sizes to compare, and hands in a whole drive.
    whole = torch.compiler.is_exporting() or len(drive) == len(force)
    (force if whole else force[: len(drive)]).add_(drive)


class Layer(nn.Module):
    """Weight and bias of one linear map; `bound` parametrises the weight of an interior layer."""

    def __init__(self, linear: LinearMap) -> None:
        super().__init__()
        self.linear = linear
        fan_in = math.prod(linear.weight_shape[1:])
        self.weight = nn.Parameter(torch.randn(linear.weight_shape) / math.sqrt(fan_in))
        self.bias = nn.Parameter(torch.zeros(linear.bias_shape))
        self._certified: tuple[Tensor, float] | None = None

    def bound(self, cap: float | None, start: float) -> None:
        """Scale the weight to the effective norm `start` and keep it strictly below `cap`."""
        bounded = Bounded(self.weight, self.linear, cap)
        factor = raw_norm(start, cap) / bounded.sigma
        with torch.no_grad():
            self.weight.mul_(factor)
        parametrize.register_parametrization(self, "weight", bounded.scaled(factor, self.weight))

    def certified_norm(self) -> float:
        """Certified bound of the effective weight, computed anew when the weight has changed."""
        with torch.no_grad(), tracked(False):
            mark = fingerprint(self.get_parameter("parametrizations.weight.original"))
            held = self._certified
            if held is None or not torch.equal(held[0], mark):
                self._certified = held = mark, self.linear.norm_bound(self.weight)
        return held[1]


class LayeredModel(TanhModel):
    """What ConvEqProp and DeepEqProp share; `maps`: linear maps from the input to the top layer.

    Shapes: x (B, *maps[0].in_shape); state, one block per layer: (B, *maps[l].out_shape); logits
    (B, output_dim).
    """

    # far below the readout D is too small to come from subtracting states in float32
    mean_difference = True
    partial_drives = True
    contraction_metric = "max over the red and the black layers of the kappa-weighted l2 norm"

    def __init__(
        self,
        maps: Sequence[LinearMap],
        output_dim: int,
        gamma: float | None,
        rho: float,
        use_spectral_norm: bool,
        max_steps: int,
        seed: int | None,
    ) -> None:
        super().__init__(max_steps)
        self.output_dim = positive_int("output_dim", output_dim)
        self.rho = real("rho", rho, above=0.0, below=1.0)
        self.use_spectral_norm = switch("use_spectral_norm", use_spectral_norm)
        depth = len(maps)
        self.path = 2 * math.cos(math.pi / (depth + 1))
        natural = (self.rho / (KEEPING * self.path)) ** 2
        self.gamma = natural if gamma is None else real("gamma", gamma, above=0.0, at_most=1.0)
        self.cap = self.rho / (self.path * math.sqrt(self.gamma))
        self.kappa = tuple(self.gamma ** (l + 1 - depth) for l in range(depth))  # noqa: E741
        top = depth - 1
        self.groups = tuple(range(top - 1, -1, -2)), tuple(range(top, -1, -2))
        self.readout_blocks = (top,)
        self.metric_condition = math.sqrt(2 * max(self.kappa))
        with seeded(seed):
            self.layers = nn.ModuleList(Layer(linear) for linear in maps)
            self.W_out = nn.Linear(math.prod(maps[-1].out_shape), self.output_dim)
            for layer in self._layers()[1:]:
                layer.bound(self.cap if self.use_spectral_norm else None, START * self.cap)

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _top(self) -> LinearMap:
        return self._layers()[-1].linear

    def effective_weights(self) -> dict[str, Tensor]:
        """W_l of the interior layers as "up1", "up2", ... and gamma W_l as "down1", ...

        1: above the first layer.
        """
        up = {
            f"up{number}": layer.weight for number, layer in enumerate(self._layers()) if number > 0
        }
        return up | {name.replace("up", "down"): self.gamma * weight for name, weight in up.items()}

    def check_batch(self, x: Tensor) -> None:
        super().check_batch(x)
        self._inputs(x)

    def _inputs(self, x: Tensor) -> Tensor:
        return check_shape(x, self._layers()[0].linear.in_shape)

    def drive(self, x: Tensor) -> State:
        """(W_1 x + b_1, b_2, ..., b_L), all that the input causes; biases (B, C, 1, 1), (B, H)."""
        first, *rest = self._layers()
        biases = (layer.bias.expand(x.shape[0], *layer.bias.shape) for layer in rest)
        return (first.linear.up(self._inputs(x), first.weight, first.bias), *biases)

    def initial_state(self, drive: State) -> State:
        """The feed-forward pass: s_l = tanh(W_l s_(l-1) + b_l)."""
        weights = self._weights()
        state = [self.activate(drive[0])]
        for number, layer in enumerate(self._layers()[1:], start=1):
            pushed = layer.linear.up(state[-1], weights[f"up{number}"])
            state.append(self.activate(pushed + drive[number]))
        return tuple(state)

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        """a_l of the layers in `group`; the others hold their state."""
        weights, layers = self._weights(), self._layers()
        force = list(state)
        for block in group:
            terms = []
            if block > 0:
                terms.append(layers[block].linear.up(state[block - 1], weights[f"up{block}"]))
            if (above := block + 1) < len(layers):
                terms.append(layers[above].linear.down(state[above], weights[f"down{above}"]))
            # Products are new tensors: what is added goes into the first of them.
            force[block], *others = terms
            for other in others:
                force[block].add_(other)
            _add_drive(force[block], drive[block])
        return tuple(force)

    def force(self, state: State, drive: State) -> State:
        return self.block_forces(tuple(range(len(state))), state, drive)

    def activate_(self, a: Tensor) -> Tensor:
        return tanh(a) if torch.is_grad_enabled() else tanh_(a)

    def readout(self, state: State) -> Tensor:
        return class_first(self._top().vec(state[-1]), self.W_out)

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return (*[None] * (len(state) - 1), self._top().unvec(cotangent @ self.W_out.weight))

    def add_pull(self, force: State, state: State, cotangent: Tensor, factor: float) -> State:
        """a_L + factor W_out^T cotangent (kappa_L is 1), in place."""
        rows = self._top().vec(force[-1]).addmm_(cotangent, self.W_out.weight, alpha=factor)
        return (*force[:-1], self._top().unvec(rows))

    def energy(self, state: State, drive: State) -> Tensor:
        """E per sample (B,), finite up to |s| = 1."""
        layers, weights = self._layers(), self._weights()
        total = torch.zeros_like(state[0].flatten(1)[:, 0])
        for block, (s, kappa, u) in enumerate(zip(state, self.kappa, drive, strict=True)):
            if block > 0:
                u = layers[block].linear.up(state[block - 1], weights[f"up{block}"]) + u
            total = total + kappa * (tanh_entropy(s) - s * u).flatten(1).sum(1)
        return total

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        """The gradients of the contract in closed form: one correlation per weight."""
        own = type(self)
        new_readout = own.readout is not LayeredModel.readout
        # a subclass that reads otherwise and says nothing of its gradients
        untold = new_readout and own.readout_gradients is LayeredModel.readout_gradients
        if own.force is not LayeredModel.force or untold:
            return super().parameter_gradients(x, cotangent, state, free, error, driven)
        found = self.readout_gradients(free, error)
        for number, (layer, c) in enumerate(zip(self._layers(), cotangent, strict=True)):
            into = into_drive(c, driven)
            # over all axes at once: one after the other takes fifteen times as long
            found[f"layers.{number}.bias"] = into.sum_to_size(1, *layer.bias.shape)[0]
            if number == 0:
                found["layers.0.weight"] = layer.linear.weight_gradient(self._inputs(x), into)
                continue
            original = layer.get_parameter("parametrizations.weight.original")
            if not original.requires_grad:
                continue  # nothing to pull back to
            up = layer.linear.weight_gradient(state[number - 1], c)
            down = layer.linear.weight_gradient(cotangent[number - 1], state[number])
            with torch.enable_grad():
                (pulled,) = torch.autograd.grad(layer.weight, original, up + self.gamma * down)
            found[f"layers.{number}.parametrizations.weight.original"] = pulled
        return {name: found[name] for name, p in self.named_parameters() if p.requires_grad}

    def readout_gradients(self, free: State, error: Tensor) -> dict[str, Tensor]:
        """dL/dtheta of the readout's own parameters at dL/dlogits = error (B, K)."""
        return {"W_out.weight": error.T @ self._top().vec(free[-1]), "W_out.bias": error.sum(0)}

    def layer_norms(self) -> list[float]:
        """Certified norms of the effective W_2, ..., W_L."""
        return [layer.certified_norm() for layer in self._layers()[1:]]

    def contraction_bound(self) -> float:
        """q = sqrt(gamma) lambda_max(T) in `contraction_metric`.

        A sweep contracts by q^2 from the second one on.
        """
        path = torch.diag(torch.tensor(self.layer_norms(), dtype=torch.float64, device="cpu"), 1)
        return outward(
            math.sqrt(self.gamma) * float(torch.linalg.eigvalsh(path + path.T)[-1]), len(path)
        )

    def extra_repr(self) -> str:
        cap = (
            f"rho={self.rho:g}, cap={self.cap:.3g}"
            if self.use_spectral_norm
            else "no spectral bound"
        )
        return f"gamma={self.gamma:.3g}, {cap}, max_steps={self.max_steps}"
