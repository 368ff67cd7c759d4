"""Answers to the exercises of notebook 05 as learners give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from eqprop_lab import ConvEqProp, estimate_gradients
from tests.course.answers import right, wrong

Two = tuple[Tensor, Tensor]

# --- largest_norm


@wrong("largest_norm", "uses")
def asked_of_the_package(rho: float, gamma: float, layers: int) -> float:
    return ConvEqProp(1, [2] * layers, 2, gamma=gamma, rho=rho, image_size=8).cap


@wrong("largest_norm", "the same for every input")
def copied_number(rho: float, gamma: float, layers: int) -> float:
    return 2.85


@wrong("largest_norm", "1/(the root of gamma) times")
def gamma_without_root(rho: float, gamma: float, layers: int) -> float:
    return rho / (2 * math.cos(math.pi / (layers + 1)) * gamma)


@wrong("largest_norm", "the root of gamma times")
def without_gamma(rho: float, gamma: float, layers: int) -> float:
    return rho / (2 * math.cos(math.pi / (layers + 1)))


@wrong("largest_norm", "gamma times")
def gamma_on_the_other_side(rho: float, gamma: float, layers: int) -> float:
    return rho * math.sqrt(gamma) / (2 * math.cos(math.pi / (layers + 1)))


@wrong("largest_norm", "twice what it should be")
def without_the_two(rho: float, gamma: float, layers: int) -> float:
    return rho / (math.cos(math.pi / (layers + 1)) * math.sqrt(gamma))


@wrong("largest_norm", "one node for each layer, the first one included")
def interior_layers_alone(rho: float, gamma: float, layers: int) -> float:
    return rho / (2 * math.cos(math.pi / layers) * math.sqrt(gamma))


@wrong("largest_norm", "the angle in radians?")
def in_degrees(rho: float, gamma: float, layers: int) -> float:
    return rho / (2 * math.cos(180 / (layers + 1)) * math.sqrt(gamma))


@wrong("largest_norm", "a path with L nodes")
def row_sums(rho: float, gamma: float, layers: int) -> float:
    return rho / (2 * math.sqrt(gamma))


@wrong("largest_norm", "give it back with `return`")
def printed(rho: float, gamma: float, layers: int) -> None:
    print(rho / (2 * math.cos(math.pi / (layers + 1)) * math.sqrt(gamma)))


@right("largest_norm")
def by_eigenvalues(rho: float, gamma: float, layers: int) -> Tensor:
    path = torch.diag(torch.ones(layers - 1, dtype=torch.float64), 1)
    return rho / gamma**0.5 / torch.linalg.eigvalsh(path + path.T)[-1]


# --- energy_weights


@wrong("energy_weights", "hears the layer above with the gain")
def multiplied(gains: Sequence[float]) -> list[float]:
    return [math.prod(gains[n:]) for n in range(len(gains) + 1)]


@wrong("energy_weights", "hears the layer above with the gain")
def own_gain_alone(gains: Sequence[float]) -> list[float]:
    return [*(1 / gain for gain in gains), 1.0]


@wrong("energy_weights", "the top layer must have the weight 1")
def from_the_bottom(gains: Sequence[float]) -> list[float]:
    return [1 / math.prod(gains[:n]) for n in range(len(gains) + 1)]


@wrong("energy_weights", "hears the layer above with the gain")
def all_gains_the_first(gains: Sequence[float]) -> list[float]:
    return [gains[0] ** -(len(gains) - n) for n in range(len(gains) + 1)]


@wrong("energy_weights", "hears the layer above with the gain 1,")
def none_at_all(gains: Sequence[float]) -> list[float]:
    return [1.0] * (len(gains) + 1)


@wrong("energy_weights", "layers have as many weights")
def without_the_top(gains: Sequence[float]) -> list[float]:
    return [1 / math.prod(gains[n:]) for n in range(len(gains))]


@wrong("energy_weights", "the top layer must have the weight 1")
def upside_down(gains: Sequence[float]) -> list[float]:
    return [1 / math.prod(gains[n:]) for n in range(len(gains) + 1)][::-1]


@right("energy_weights")
def by_products(gains: Sequence[float]) -> Tensor:
    parts = torch.tensor([*gains, 1.0], dtype=torch.float64)
    return 1 / parts.flip(0).cumprod(0).flip(0)


# --- kernel_gradient

Order = Callable[[int], Iterable[int]]


def red_black(depth: int) -> list[int]:
    return [*range(depth - 1, 0, -2), *range(depth, 0, -2)]


def pull_of(net: ConvEqProp, top: Tensor, target: Tensor) -> Tensor:
    error = net.readout((top,)).softmax(1) - target
    pulled = net.readout_vjp((top,), error)[-1]
    assert pulled is not None
    return pulled


class Network:
    """Phases of a network with one thing changed; states are lists with x in front."""

    def __init__(
        self,
        net: ConvEqProp,
        x: Tensor,
        target: Tensor,
        sweeps: int,
        order: Order = red_black,
        at_once: bool = False,
        gain: float | None = None,
        stale: bool = False,
    ) -> None:
        self.net, self.target, self.sweeps, self.order = net, target, sweeps, order
        self.at_once, self.stale = at_once, stale
        self.gain = net.gamma if gain is None else gain
        self.layers = [layer.linear for layer in net._layers()]
        self.weights = [layer.weight for layer in net._layers()]
        with torch.no_grad():
            self.free = self.settle([x, *net.initial_state(net.drive(x))], 0.0)

    @torch.no_grad()
    def settle(self, start: list[Tensor], strength: float) -> list[Tensor]:
        s, depth = list(start), len(self.layers)
        for _ in range(self.sweeps):
            seen = list(s) if self.at_once else s
            for n in self.order(depth):
                bias = self.net._layers()[n - 1].bias
                a = self.layers[n - 1].up(seen[n - 1], self.weights[n - 1], bias)
                if n < depth:
                    a = a + self.gain * self.layers[n].down(seen[n + 1], self.weights[n])
                else:
                    a = a - strength * pull_of(
                        self.net, (start if self.stale else s)[n], self.target
                    )
                s[n] = a.tanh()
        return s

    @torch.no_grad()
    def slope(self, s: list[Tensor], n: int) -> Tensor:
        return self.layers[n - 1].weight_gradient(s[n - 1], s[n])

    def answer(self, beta: float, n: int, power: int = 1) -> Two:
        """The right contrast; `power` of kappa."""
        plus, minus = self.settle(self.free, beta), self.settle(self.free, -beta)
        scale = self.net.kappa[n - 1] ** power / (2 * beta * len(self.target))
        return self.free[n], -scale * (self.slope(plus, n) - self.slope(minus, n))


@wrong("kernel_gradient", "[1] of the answer: it is 1/kappa times")
def without_kappa(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    return Network(net, x, target, sweeps).answer(beta, n, power=0)


@wrong("kernel_gradient", "a factor that the case decides")
def kappa_upside_down(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    return Network(net, x, target, sweeps).answer(beta, n, power=-1)


@wrong("kernel_gradient", "[1] of the answer: the sign is flipped")
def sign(net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int) -> Two:
    free, gradient = Network(net, x, target, sweeps).answer(beta, n)
    return free, -gradient


@wrong("kernel_gradient", "it is beta times what it should be")
def without_beta(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    free, gradient = Network(net, x, target, sweeps).answer(beta, n)
    return free, gradient * beta


@wrong("kernel_gradient", "twice what it should be")
def over_beta_alone(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    free, gradient = Network(net, x, target, sweeps).answer(beta, n)
    return free, 2 * gradient


@wrong("kernel_gradient", "it is the batch size times what it should be")
def summed(net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int) -> Two:
    free, gradient = Network(net, x, target, sweeps).answer(beta, n)
    return free, gradient * len(x)


@wrong("kernel_gradient", "all layers move at once")
def all_at_once(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    return Network(net, x, target, sweeps, at_once=True).answer(beta, n)


@wrong("kernel_gradient", "the layers move one by one from the bottom")
def from_bottom_to_top(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    order = lambda depth: range(1, depth + 1)  # noqa: E731
    return Network(net, x, target, sweeps, order).answer(beta, n)


@wrong("kernel_gradient", "layers L, L-2, ... go first; they come second")
def readout_first(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    order = lambda depth: [*range(depth, 0, -2), *range(depth - 1, 0, -2)]  # noqa: E731
    return Network(net, x, target, sweeps, order).answer(beta, n)


@wrong("kernel_gradient", "one nudge with the free state; take two")
def one_nudge(net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int) -> Two:
    network = Network(net, x, target, sweeps)
    gap = network.slope(network.settle(network.free, beta), n) - network.slope(network.free, n)
    return network.free[n], -(net.gamma ** (n - len(net.layers))) * gap / (beta * len(x))


@wrong("kernel_gradient", "is gamma on the message from above alone")
def without_gamma_in_the_sweep(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    return Network(net, x, target, sweeps, gain=1.0).answer(beta, n)


@wrong("kernel_gradient", "the pull made anew in each sweep?")
def stale_pull(net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int) -> Two:
    return Network(net, x, target, sweeps, stale=True).answer(beta, n)


@wrong("kernel_gradient", "has shape")
def bias_gradient(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    network = Network(net, x, target, sweeps)
    plus, minus = network.settle(network.free, beta), network.settle(network.free, -beta)
    return network.free[n], (minus[n] - plus[n]).mean(0) / (2 * beta)


@wrong("kernel_gradient", "a tuple of 2 is needed")
def gradient_alone(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Tensor:
    return Network(net, x, target, sweeps).answer(beta, n)[1]


@wrong("kernel_gradient", "estimate_gradients; do it without")
def of_the_package(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> Two:
    found = estimate_gradients(net, x, target.argmax(1), "centered", beta, sweeps, sweeps)
    return x, found["layers.0.weight"]


@right("kernel_gradient")
def by_autograd_of_products(
    net: ConvEqProp, x: Tensor, target: Tensor, beta: float, sweeps: int, n: int
) -> list[Tensor]:
    network = Network(net, x, target, sweeps)
    linear, found = network.layers[n - 1], torch.zeros_like(network.weights[n - 1])
    for strength in (-beta, beta):
        s = network.settle(network.free, strength)
        # The same slope tap by tap: one unit of the kernel at a time.
        for place in range(found.numel()):
            unit = torch.zeros_like(found).flatten()
            unit[place] = 1
            image = linear.up(s[n - 1], unit.view_as(found))
            found.view(-1)[place] -= (s[n] * image).sum() / (2 * strength * len(x))
    return [network.free[n], found.detach() * math.prod([1 / net.gamma] * (len(net.layers) - n))]


# --- half_difference


@wrong("half_difference", "their difference is rounding")
def as_it_stands(a: Tensor, d: Tensor) -> Tensor:
    return 0.5 * (torch.tanh(a + d) - torch.tanh(a - d))


@wrong("half_difference", "right for a small d alone")
def first_order(a: Tensor, d: Tensor) -> Tensor:
    return d * (1 - torch.tanh(a) ** 2)


@wrong("half_difference", "twice what it should be")
def whole_difference(a: Tensor, d: Tensor) -> Tensor:
    return torch.tanh(2 * d) * (1 - torch.tanh(a + d) * torch.tanh(a - d))


@wrong("half_difference", "half of what it should be")
def halved_twice(a: Tensor, d: Tensor) -> Tensor:
    return torch.tanh(2 * d) * (1 - torch.tanh(a + d) * torch.tanh(a - d)) / 4


@wrong("half_difference", "the sign is flipped")
def turned_round(a: Tensor, d: Tensor) -> Tensor:
    return torch.tanh(-2 * d) * (1 - torch.tanh(a + d) * torch.tanh(a - d)) / 2


@wrong("half_difference", "uses double; do it without")
def in_double_precision(a: Tensor, d: Tensor) -> Tensor:
    wide, small = a.double(), d.double()
    return ((torch.tanh(wide + small) - torch.tanh(wide - small)) / 2).float()


@wrong("half_difference", "which step subtracts two nearly equal numbers?")
def argument_not_doubled(a: Tensor, d: Tensor) -> Tensor:
    return torch.tanh(d) * (1 - torch.tanh(a + d) * torch.tanh(a - d))


@right("half_difference")
def by_hyperbolic_sines(a: Tensor, d: Tensor) -> Tensor:
    return torch.sinh(2 * d) / (2 * torch.cosh(a + d) * torch.cosh(a - d))
