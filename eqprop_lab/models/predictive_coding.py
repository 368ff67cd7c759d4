"""Predictive coding: every layer is predicted by the one below it, and E is what it misses.

    E   = sum_l 1/2 ||e_l||^2,    e_l = s_l - p_l,    p_l = f(W_l s_(l-1) + b_l),    s_0 = x
    a_l = -dE/ds_l + s_l = p_l + W_(l+1)^T (f' e_(l+1)),    s_l <- a_l,    z = s_L

Free: s_l = p_l, one forward pass, E = 0. Nudged: a sweep from the top down,

    s_L <- p_L - beta dC/ds_L,    s_l <- p_l + W_(l+1)^T (f'_(l+1) e_(l+1))

with the errors it hands down. dE/dW_l = -(f' e_l) s_(l-1)^T at both states, by these errors: as
long as the states below a layer have not followed, s_l - p_l(s_(l-1)) of the state just reached is
another number, and 100 % wrong in the lower layers after one sweep.

One sweep from the free state is the recursion of backpropagation, whatever beta is; the settled
states tend to it with beta^2 (Millidge et al. 2022, arXiv:2206.02629). A sweep's derivative at E =
0 is nilpotent: from any start the free phase is over after L sweeps, and nudged ones settle at a
rate of order beta, whatever the weights.

Source: Kerjan, Hoier and Scellier 2026, arXiv:2606.03584 (centered EqProp on this energy, up to
ImageNet). Mean and half difference of the two phases are ours (see `mean_difference`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.contract import Contrasted, EquilibriumModel
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.inputs import as_vectors, check_input, check_shape
from eqprop_lab.equilibrium.linear_maps import DenseMap, LinearMap
from eqprop_lab.equilibrium.relaxation import (
    NOISE,
    SETTLED,
    DivergenceError,
    Equilibrium,
    expected_error,
)
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.conv import conv_maps
from eqprop_lab.models.predictive_layer import (
    HIDDEN,
    FlatMap,
    PredictiveLayer,
    back_pair,
    swapped,
)
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import one_of, positive_int, sizes, switch

TOP_GAIN = 0.25  # variance of the last layer's weights times their fan-in


def predictive_layers(
    maps: Sequence[LinearMap], activation: str, residual: bool, seed: int | None
) -> nn.ModuleList:
    """The layers of these maps, the last one without activation.

    W_l ~ N(0, g/n_l), n_l the fan-in, b_l = 0; g is 2 for relu, 1 for tanh, divided by the number
    of skip connections in a layer that has one, so that the states keep their size with depth. The
    last layer has g = 1/4: what a nudge moves comes back through it, and settled phases bend less.
    """
    unit = one_of("activation", activation, HIDDEN)
    *hidden, top = maps
    wanted = switch("residual", residual)
    skips = [wanted and m.in_shape == m.out_shape for m in hidden]
    gains = [1 / max(1, sum(skips)) if skip else 1.0 for skip in skips]
    with seeded(seed):
        layers = [
            PredictiveLayer(m, unit, skip, gain)
            for m, skip, gain in zip(hidden, skips, gains, strict=True)
        ]
        return nn.ModuleList([*layers, PredictiveLayer(top, "identity", gain=TOP_GAIN)])


def dense_maps(
    input_dim: int, hidden_dims: int | Sequence[int], output_dim: int
) -> list[LinearMap]:
    """The maps of PredictiveMLP. Arguments and errors as there."""
    hidden = sizes("hidden_dims", hidden_dims)
    hidden = [hidden, hidden] if isinstance(hidden, int) else hidden
    inputs, outputs = positive_int("input_dim", input_dim), positive_int("output_dim", output_dim)
    widths = [inputs, *hidden, outputs]
    return [DenseMap(a, b) for a, b in zip(widths, widths[1:], strict=False)]


def image_maps(
    input_channels: int,
    hidden_channels: int | Sequence[int],
    output_dim: int,
    image_size: int | Sequence[int] | None,
    kernel_size: int | Sequence[int] | None,
    strides: int | Sequence[int] | None,
) -> list[LinearMap]:
    """The maps of PredictiveConv. Arguments and errors as there."""
    maps = conv_maps(input_channels, hidden_channels, image_size, kernel_size, strides)
    top = maps[-1]
    readout = FlatMap(math.prod(top.out_shape), positive_int("output_dim", output_dim), below=top)
    return [*maps, readout]


class _Stack:
    """A module of predictive layers, one on top of the other."""

    layers: nn.ModuleList

    def _layers(self) -> list[PredictiveLayer]:
        return [layer for layer in self.layers if isinstance(layer, PredictiveLayer)]


class PredictiveModel(_Stack, EquilibriumModel):
    """What PredictiveMLP and PredictiveConv share.

    Shapes: state, one block a layer: (B, *out_shape_l), the last one (B, output_dim) are the
    logits. nudged_steps: sweeps of a nudged phase, one by default; more let the states settle.
    """

    starts_at_rest = True
    mean_difference = True
    nudged_steps = 1

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__(len(layers))
        self.layers = layers
        self.output_dim = self._layers()[-1].linear.out_shape[0]
        self.kappa = (1.0,) * len(layers)
        self.groups = tuple((block,) for block in reversed(range(len(layers))))
        self.readout_blocks = (len(layers) - 1,)

    def check_batch(self, x: Tensor) -> None:
        super().check_batch(x)
        self._inputs(x)

    def _inputs(self, x: Tensor) -> Tensor:
        return check_shape(x, self._layers()[0].linear.in_shape)

    def drive(self, x: Tensor) -> State:
        """(x, p_1): the first prediction does not change."""
        rows = self._inputs(x)
        if rows.ndim == 4:
            rows = rows.to(memory_format=torch.channels_last)
        return rows, self._layers()[0].predict(rows)

    def initial_state(self, drive: State) -> State:
        """The forward pass s_l = p_l(s_(l-1)), which is the free equilibrium."""
        state = [drive[1]]
        for layer in self._layers()[1:]:
            state.append(layer.predict(state[-1]))
        return tuple(state)

    def predictions(self, state: State, drive: State) -> State:
        """p_l of every layer."""
        above = zip(self._layers()[1:], state[:-1], strict=True)
        return (drive[1], *(layer.predict(s) for layer, s in above))

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        """p_l + W_(l+1)^T (f' e_(l+1)) of the layers in `group`; the others hold their state."""
        layers, force = self._layers(), list(state)
        for block in group:
            p = drive[1] if block == 0 else layers[block].predict(state[block - 1])
            if (above := block + 1) < len(layers):
                s, layer = state[block], layers[above]
                predicted = layer.predict(s)
                e = state[above] - predicted
                p = p + layer.pull(layer.back(e, predicted, s), e)
            force[block] = p
        return tuple(force)

    def force(self, state: State, drive: State) -> State:
        return self.block_forces(tuple(range(len(state))), state, drive)

    def activate(self, a: Tensor) -> Tensor:
        return a

    def readout(self, state: State) -> Tensor:
        return state[-1]

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return (*[None] * (len(state) - 1), cotangent)

    def layer_energies(self, state: State, drive: State) -> Tensor:
        """1/2 ||e_l||^2 of every layer and sample: (L, B)."""
        pairs = zip(state, self.predictions(state, drive), strict=True)
        return torch.stack([0.5 * (s - p).flatten(1).square().sum(1) for s, p in pairs])

    def energy(self, state: State, drive: State) -> Tensor:
        return self.layer_energies(state, drive).sum(0)

    def contrasted(
        self,
        drive: State,
        free: State,
        cost_grad: CostGradient,
        betas: tuple[float, float],
        steps: int,
        tol: float | None = None,
    ) -> Contrasted:
        """Sweeps from the free state that carry their errors; the first one needs one phase only,
        as nothing but the errors has moved yet.
        """
        if steps == 1 and tol is None:
            return _one_sweep(self._layers(), drive, free, cost_grad, betas)
        return _sweeps(self._layers(), drive, free, cost_grad, betas, steps, tol)


def _handed_down(
    layers: Sequence[PredictiveLayer], drive: State, free: State, top: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """(e_l, q_l) of every layer for the error `top` of the last, at the free state."""
    errors, scaled = [top], []
    for number in reversed(range(len(layers))):
        below = drive[0] if number == 0 else free[number - 1]
        scaled.append(layers[number].back(errors[-1], free[number], below))
        if number > 0:
            errors.append(layers[number].pull(scaled[-1], errors[-1]))
    return errors[::-1], scaled[::-1]


def _gradients(
    layers: Sequence[PredictiveLayer], below: Sequence[Tensor], scaled: Sequence[Tensor]
) -> Callable[[float], dict[str, Tensor]]:
    """scale -> -scale (q_D s_M^T + q_M s_D^T). below: s_(l-1) as [M] or [M; D]; scaled: q_l as [D]
    or [D; M].
    """

    def gradients(scale: float) -> dict[str, Tensor]:
        found = {}
        for number, (layer, s, q) in enumerate(zip(layers, below, scaled, strict=True)):
            cotangent = q * -scale
            if layer.weight.requires_grad:
                found[f"layers.{number}.weight"] = layer.linear.weight_gradient(s, cotangent)
            if layer.bias.requires_grad:
                half = cotangent[: len(below[0])]
                found[f"layers.{number}.bias"] = half.sum_to_size(1, *layer.bias.shape)[0]
        return found

    return gradients


def _one_sweep(
    layers: Sequence[PredictiveLayer],
    drive: State,
    free: State,
    cost_grad: CostGradient,
    betas: tuple[float, float],
) -> Contrasted:
    """The first sweep: D of the errors by the slopes of the free state, where the inputs of all
    layers still are.
    """
    top = cost_grad(free[-1]) * -((betas[0] - betas[1]) / 2)
    errors, scaled = _handed_down(layers, drive, free, top)
    phase = Equilibrium(tuple(errors), 1, 0.0, True, error=0.0)
    return Contrasted(
        tuple(errors), free, phase, _gradients(layers, (drive[0], *free[:-1]), scaled)
    )


@dataclass(frozen=True)
class Sweep:
    """One sweep, all as [M; D]: the states it began with (s_0 as x, without D) and ended with, e_l,
    and q_l = f' e_l.
    """

    below: Sequence[Tensor]
    errors: Sequence[Tensor]
    scaled: Sequence[Tensor]
    state: Sequence[Tensor]

    def gradients(self, layers: Sequence[PredictiveLayer]) -> Callable[[float], dict[str, Tensor]]:
        """dE/dtheta by the errors it carries (see `Contrasted`)."""
        first, *others = self.scaled
        return _gradients(layers, self.below, [first.chunk(2)[1], *map(swapped, others)])


def sweeping(
    layers: Sequence[PredictiveLayer],
    drive: State,
    free: State,
    cost_grad: CostGradient,
    betas: tuple[float, float],
) -> Iterator[Sweep]:
    """The sweeps of the phases nudged by either beta, from the free state on, without end."""
    state: Sequence[Tensor] = [torch.cat([s, torch.zeros_like(s)]) for s in free]
    while True:
        sweep = _sweep(layers, drive, state, cost_grad, betas)
        yield sweep
        state = sweep.state


def _sweeps(
    layers: Sequence[PredictiveLayer],
    drive: State,
    free: State,
    cost_grad: CostGradient,
    betas: tuple[float, float],
    steps: int,
    tol: float | None,
) -> Contrasted:
    """`steps` sweeps, or as many as it takes until errors and states move by less than tol."""
    before: list[Tensor] = []
    pace: list[tuple[int, float]] = []
    for step, sweep in enumerate(sweeping(layers, drive, free, cost_grad, betas), start=1):
        now = [*sweep.errors, *sweep.state]
        change, total = _movement(now, before)
        if not math.isfinite(total):
            raise DivergenceError(
                f"the nudged phase diverged: values that are not finite after {step} sweeps; "
                "lower beta"
            )
        pace.append((step, total))
        reached = change <= (SETTLED if tol is None else tol)
        if (reached and tol is not None) or step == steps:
            break
        before = now
    missed = None
    if tol is not None and not reached:
        missed = (
            f"nudged phase not converged: residual {change:.1e} > tol {tol:.1e} after {step} sweeps"
        )
    noise = NOISE * torch.finfo(free[0].dtype).eps * math.hypot(*(float(e.norm()) for e in now))
    error = expected_error(change, pace, noise)
    half = tuple(e.chunk(2)[1] for e in sweep.errors)
    mean = tuple(s.chunk(2)[0] for s in sweep.state)
    phase = Equilibrium(
        mean, step, change, reached, change=change, error=error, missed=missed, moved=total
    )
    return Contrasted(half, mean, phase, sweep.gradients(layers))


def _sweep(
    layers: Sequence[PredictiveLayer],
    drive: State,
    state: Sequence[Tensor],
    cost_grad: CostGradient,
    betas: tuple[float, float],
) -> Sweep:
    """One sweep from the top down."""
    x, first = drive
    errors, scaled, moved = [_nudged(state[-1], cost_grad, betas)], [], []
    for number in reversed(range(len(layers))):
        layer, e = layers[number], errors[-1]
        if number == 0:
            p = torch.cat([first, torch.zeros_like(first)])
            q = torch.cat([layer.back(part, first, x) for part in e.chunk(2)])
        else:
            p, slopes = layer.pair(state[number - 1])
            q = back_pair(e, slopes)
            errors.append(layer.pull(q, e))
        scaled.append(q)
        moved.append(p + e)
    return Sweep((x, *state[:-1]), errors[::-1], scaled[::-1], moved[::-1])


def _nudged(logits: Tensor, cost_grad: CostGradient, betas: tuple[float, float]) -> Tensor:
    """[M; D] of e_L = -beta dC/dz at the logits M +- D."""
    mean, half = logits.chunk(2)
    slopes = cost_grad(torch.stack([mean + half, mean - half]))
    plus, minus = torch.broadcast_to(slopes, (2, *mean.shape))
    plus, minus = -betas[0] * plus, -betas[1] * minus
    return torch.cat([plus + minus, plus - minus]).div_(2)


def _movement(now: Sequence[Tensor], before: Sequence[Tensor]) -> tuple[float, float]:
    """(relative movement of the worst block, absolute one of all) of blocks [M; D]; 1 for the first
    sweep.
    """
    if not before:
        return 1.0, float(torch.stack([block.norm() for block in now]).norm())
    halves = [(n.chunk(2), (n - b).chunk(2)) for n, b in zip(now, before, strict=True)]
    sizes_ = [[part.norm() for part in new] for new, _ in halves]
    moved = [[part.norm() for part in step] for _, step in halves]
    size, away = (torch.tensor(found, device="cpu") for found in (sizes_, moved))
    size[:, 0] = size.amax(1)  # the mean of an error is far below its half difference
    share = (away / size.clamp_min(torch.finfo(size.dtype).tiny)).amax()
    return float(share), float(away.norm())


class PredictiveMLP(PredictiveModel):
    """Dense predictive coding network `input_dim`-`hidden_dims`-`output_dim`.

    Args:
        hidden_dims: widths of the hidden layers as a list; an integer h stands for [h, h], and
            gives the layers of BackpropMLP.
        activation: "tanh" or "relu". residual: a skip connection around every hidden layer as wide
            as the one below.
        seed: as in LoopedMLP.
    Shapes: x (B, input_dim) or any image shape with as many pixels; logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: int | Sequence[int],
        output_dim: int,
        activation: str = "tanh",
        residual: bool = False,
        seed: int | None = None,
    ) -> None:
        maps = dense_maps(input_dim, hidden_dims, output_dim)
        super().__init__(predictive_layers(maps, activation, residual, seed))
        self.input_dim = maps[0].in_shape[0]

    def _inputs(self, x: Tensor) -> Tensor:
        return as_vectors(x, self.input_dim)


class PredictiveConv(PredictiveModel):
    """Convolutional predictive coding network: stride for pooling, flat linear readout.

    Args: input_channels, hidden_channels, output_dim, image_size, kernel_size, strides as in
        ConvEqProp; activation, residual, seed as in PredictiveMLP.
    Shapes: x (B, input_channels, height, width); logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int | Sequence[int],
        output_dim: int,
        activation: str = "tanh",
        residual: bool = False,
        seed: int | None = None,
        *,
        image_size: int | Sequence[int] | None = None,
        kernel_size: int | Sequence[int] | None = None,
        strides: int | Sequence[int] | None = None,
    ) -> None:
        maps = image_maps(
            input_channels, hidden_channels, output_dim, image_size, kernel_size, strides
        )
        super().__init__(predictive_layers(maps, activation, residual, seed))


class FeedforwardTwin(_Stack, nn.Module):
    """z = p_L(... p_1(x)): the layers of a predictive coding network as an ordinary module, for
    ``EqPropTrainer(twin, gradient="autograd")``. Weights of its own, and the same names.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers
        first = self._layers()[0].linear
        self.input_shape, self.output_dim = first.in_shape, self._layers()[-1].linear.out_shape[0]

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        check_input(x, next(self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        flat = len(self.input_shape) == 1
        s = as_vectors(x, self.input_shape[0]) if flat else check_shape(x, self.input_shape)
        for layer in self._layers():
            s = layer.predict(s)
        return s


class FeedforwardMLP(FeedforwardTwin):
    """The twin of PredictiveMLP: the same arguments and seed give the same weights."""

    def __init__(
        self,
        input_dim: int,
        hidden_dims: int | Sequence[int],
        output_dim: int,
        activation: str = "tanh",
        residual: bool = False,
        seed: int | None = None,
    ) -> None:
        maps = dense_maps(input_dim, hidden_dims, output_dim)
        super().__init__(predictive_layers(maps, activation, residual, seed))


class FeedforwardConv(FeedforwardTwin):
    """The twin of PredictiveConv: the same arguments and seed give the same weights."""

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int | Sequence[int],
        output_dim: int,
        activation: str = "tanh",
        residual: bool = False,
        seed: int | None = None,
        *,
        image_size: int | Sequence[int] | None = None,
        kernel_size: int | Sequence[int] | None = None,
        strides: int | Sequence[int] | None = None,
    ) -> None:
        maps = image_maps(
            input_channels, hidden_channels, output_dim, image_size, kernel_size, strides
        )
        super().__init__(predictive_layers(maps, activation, residual, seed))
