"""Answers to the exercises of notebook 21 as learners give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eqprop_lab import PredictiveMLP
from tests.course.answers import right, wrong

Many = Sequence[Tensor]

# --- layer_energies


def energies(
    weights: Many,
    biases: Many,
    states: Many,
    top: Callable[[Tensor], Tensor] = lambda a: a,
    hidden: Callable[[Tensor], Tensor] = torch.tanh,
) -> Tensor:
    found = []
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        a = states[i] @ w.T + b
        p = top(a) if i == len(weights) - 1 else hidden(a)
        found.append(0.5 * (states[i + 1] - p).square().sum(1).mean())
    return torch.stack(found)


@wrong("layer_energies", "the last layer has no activation")
def tanh_everywhere(weights: Many, biases: Many, states: Many) -> Tensor:
    return energies(weights, biases, states, top=torch.tanh)


@wrong("layer_energies", "hidden layers predict tanh")
def linear_everywhere(weights: Many, biases: Many, states: Many) -> Tensor:
    return energies(weights, biases, states, hidden=lambda a: a)


@wrong("layer_energies", "it is twice what it should be")
def without_half(weights: Many, biases: Many, states: Many) -> Tensor:
    return 2 * energies(weights, biases, states)


@wrong("layer_energies", "one number a layer")
def without_bias(weights: Many, biases: Many, states: Many) -> Tensor:
    return energies(weights, [0 * b for b in biases], states)


@wrong("layer_energies", "has shape")
def one_number(weights: Many, biases: Many, states: Many) -> Tensor:
    return energies(weights, biases, states).sum()


@right("layer_energies")
def by_norms(weights: Many, biases: Many, states: Many) -> Tensor:
    raw = [torch.addmm(b, s, w.T) for w, b, s in zip(weights, biases, states, strict=False)]
    misses = [s - a.tanh() for s, a in zip(states[1:-1], raw, strict=False)]
    misses.append(states[-1] - raw[-1])
    return torch.tensor([float(m.norm()) ** 2 / (2 * len(m)) for m in misses])


# --- sweep_errors


def raw_of(weights: Many, biases: Many, inputs: Tensor, states: Many) -> list[Tensor]:
    below = [inputs, *states[:-1]]
    return [s @ w.T + b for s, w, b in zip(below, weights, biases, strict=True)]


def handed_down(
    weights: Many, slopes: Many, top: Tensor, own_layer: bool = False
) -> tuple[Tensor, ...]:
    errors = [top]
    for i in reversed(range(1, len(weights))):
        if own_layer:
            errors.append(slopes[i - 1] * (errors[-1] @ weights[i]))
        else:
            errors.append((slopes[i] * errors[-1]) @ weights[i])
    return tuple(errors[::-1])


def slopes_of(weights: Many, biases: Many, inputs: Tensor, states: Many) -> list[Tensor]:
    raw = raw_of(weights, biases, inputs, states)
    return [*(1 - a.tanh() ** 2 for a in raw[:-1]), torch.ones_like(raw[-1])]


@wrong("sweep_errors", "sign")
def pushed_uphill(
    weights: Many, biases: Many, inputs: Tensor, states: Many, pull: Tensor, strength: float
) -> tuple[Tensor, ...]:
    return handed_down(weights, slopes_of(weights, biases, inputs, states), strength * pull)


@wrong("sweep_errors", "the slope is that of the layer above")
def like_a_delta(
    weights: Many, biases: Many, inputs: Tensor, states: Many, pull: Tensor, strength: float
) -> tuple[Tensor, ...]:
    return handed_down(
        weights, slopes_of(weights, biases, inputs, states), -strength * pull, own_layer=True
    )


@wrong("sweep_errors", "the slope f' is missing")
def without_slopes(
    weights: Many, biases: Many, inputs: Tensor, states: Many, pull: Tensor, strength: float
) -> tuple[Tensor, ...]:
    ones = [torch.ones_like(s) for s in states]
    return handed_down(weights, ones, -strength * pull)


@wrong("sweep_errors", "as strong as beta says")
def without_beta(
    weights: Many, biases: Many, inputs: Tensor, states: Many, pull: Tensor, strength: float
) -> tuple[Tensor, ...]:
    return handed_down(weights, slopes_of(weights, biases, inputs, states), -pull)


@wrong("sweep_errors", "slope of the layer above, times error, times W")
def slopes_of_states(
    weights: Many, biases: Many, inputs: Tensor, states: Many, pull: Tensor, strength: float
) -> tuple[Tensor, ...]:
    slopes = [*(1 - s.tanh() ** 2 for s in states[:-1]), torch.ones_like(pull)]
    return handed_down(weights, slopes, -strength * pull)


@right("sweep_errors")
def by_autograd(
    weights: Many, biases: Many, inputs: Tensor, states: Many, pull: Tensor, strength: float
) -> tuple[Tensor, ...]:
    errors = [-strength * pull]
    for i in reversed(range(1, len(weights))):
        s = states[i - 1].detach().clone().requires_grad_()
        a = s @ weights[i].T + biases[i]
        p = a if i == len(weights) - 1 else a.tanh()
        errors.insert(0, torch.autograd.grad(p, s, errors[0])[0])
    return tuple(errors)


# --- weight_contrast


def slopes_at(
    weights: Many,
    biases: Many,
    inputs: Tensor,
    states: Many,
    used: Many | None = None,
    bent: bool = True,
) -> list[Tensor]:
    raw, below = raw_of(weights, biases, inputs, states), [inputs, *states[:-1]]
    found = []
    for i, (a, s) in enumerate(zip(raw, states, strict=True)):
        if i == len(weights) - 1:
            q = s - a
        else:
            q = ((1 - a.tanh() ** 2) if bent else 1.0) * (s - a.tanh())
        found.append(-q.T @ (below[i] if used is None else used[i]) / len(inputs))
    return found


def over(plus: Many, minus: Many, size: float) -> tuple[Tensor, ...]:
    return tuple((p - m) / size for p, m in zip(plus, minus, strict=True))


@wrong("weight_contrast", "it is twice what it should be")
def one_beta(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    one, two = (slopes_at(weights, biases, inputs, s) for s in (plus, minus))
    return over(one, two, strength)


@wrong("weight_contrast", "it is beta times what it should be")
def not_divided(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    one, two = (slopes_at(weights, biases, inputs, s) for s in (plus, minus))
    return over(one, two, 2.0)


@wrong("weight_contrast", "it is the batch size times")
def summed(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    one, two = (slopes_at(weights, biases, inputs, s) for s in (plus, minus))
    return over(one, two, 2 * strength / len(inputs))


@wrong("weight_contrast", "sign")
def minus_first(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    one, two = (slopes_at(weights, biases, inputs, s) for s in (plus, minus))
    return over(two, one, 2 * strength)


@wrong("weight_contrast", "each phase has inputs of its own")
def inputs_of_one(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    used = [inputs, *plus[:-1]]
    one, two = (slopes_at(weights, biases, inputs, s, used) for s in (plus, minus))
    return over(one, two, 2 * strength)


@wrong("weight_contrast", "the slope f' is missing")
def unbent(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    one, two = (slopes_at(weights, biases, inputs, s, bent=False) for s in (plus, minus))
    return over(one, two, 2 * strength)


@wrong("weight_contrast", "uses PredictiveMLP; do it without")
def of_the_package(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    net = PredictiveMLP(inputs.shape[1], [w.shape[0] for w in weights[:-1]], len(weights[-1]))
    return tuple(net.parameters())


@right("weight_contrast")
def one_einsum(
    weights: Many, biases: Many, inputs: Tensor, plus: Many, minus: Many, strength: float
) -> tuple[Tensor, ...]:
    found = []
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        parts = []
        for states in (plus, minus):
            below = inputs if i == 0 else states[i - 1]
            p = below @ w.T + b
            slope = torch.ones_like(p)
            if i < len(weights) - 1:
                p = p.tanh()
                slope = 1 - p * p
            parts.append(torch.einsum("bi,bj->ij", slope * (p - states[i]), below))
        found.append((parts[0] - parts[1]) / (2 * strength * len(inputs)))
    return tuple(found)
