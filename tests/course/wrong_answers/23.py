"""Answers to the exercises of notebook 23 as learners give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eqprop_lab import DeepEqProp, EquilibriumBlock
from eqprop_lab.models.equilibrium_chain import HopfieldBlock
from tests.course.answers import right, wrong

Settled = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]

# --- message


def handed_on(
    weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float, factor: float = 1.0
) -> Tensor:
    return -factor * (plus - minus) @ weight / (2 * strength * gamma)


@wrong("message", "sign")
def plus_first(*given: Any) -> Tensor:
    return -handed_on(*given)


@wrong("message", "weighs kappa_1 = 1/gamma")
def unweighted(
    weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float
) -> Tensor:
    return gamma * handed_on(weight, gamma, plus, minus, strength)


@wrong("message", "1/gamma, not gamma")
def weighted_by_gamma(
    weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float
) -> Tensor:
    return gamma**2 * handed_on(weight, gamma, plus, minus, strength)


@wrong("message", "it is twice what it should be")
def over_one_beta(*given: Any) -> Tensor:
    return 2 * handed_on(*given)


@wrong("message", "it is beta times what it should be")
def not_divided(
    weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float
) -> Tensor:
    return strength * handed_on(weight, gamma, plus, minus, strength)


@wrong("message", "has shape")
def not_through_the_weight(
    weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float
) -> Tensor:
    return -(plus - minus) / (2 * strength * gamma)


@wrong("message", "uses DeepEqProp; do it without")
def of_the_package(
    weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float
) -> Tensor:
    net = DeepEqProp(weight.shape[1], [len(weight), 2], 2, gamma=gamma)
    return net.layers[0].weight  # type: ignore[union-attr, return-value]


@right("message")
def by_einsum(weight: Tensor, gamma: float, plus: Tensor, minus: Tensor, strength: float) -> Tensor:
    return torch.einsum("bh,hn->bn", (minus - plus) / (2 * strength), weight / gamma)


# --- chain_gradients


def walked(
    settled: Settled,
    weights: Sequence[Tensor],
    kappa: float,
    inputs: Tensor,
    v: Tensor,
    strength: float,
    carried: bool = True,
    own_input: bool = True,
) -> tuple[Tensor, ...]:
    passed = [inputs]
    for k in range(len(weights)):
        passed.append(settled(k, passed[-1], torch.zeros_like(v))[1])
    found: list[Tensor] = []
    for k in reversed(range(len(weights))):
        plus, minus = (settled(k, passed[k], b * v)[0] for b in (strength, -strength))
        d = kappa * (minus - plus) / (2 * strength)
        found.insert(0, d.T @ passed[k if own_input else k + 1])
        v = d @ weights[k] if carried else v
    return tuple(found)


@wrong("chain_gradients", "sign")
def the_other_way(
    settled: Settled, weights: Sequence[Tensor], kappa: float, inputs: Tensor, v: Tensor,
    strength: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    return walked(settled, weights, kappa, inputs, -v, strength)


@wrong("chain_gradients", "nudged by the message of the block above it")
def one_message_for_all(*given: Any) -> tuple[Tensor, ...]:
    return walked(*given, carried=False)


@wrong("chain_gradients", "the block's own input")
def by_the_output(*given: Any) -> tuple[Tensor, ...]:
    return walked(*given, own_input=False)


@wrong("chain_gradients", "returns a tuple of 1")
def last_block_only(*given: Any) -> tuple[Tensor, ...]:
    return walked(*given)[-1:]


@wrong("chain_gradients", "the length is not")
def mean_over_the_batch(
    settled: Settled, weights: Sequence[Tensor], kappa: float, inputs: Tensor, v: Tensor,
    strength: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    found = walked(settled, weights, kappa, inputs, v, strength)
    return tuple(g / len(inputs) for g in found)


@wrong("chain_gradients", "uses EquilibriumBlock; do it without")
def by_the_blocks_themselves(
    settled: Settled, weights: Sequence[Tensor], kappa: float, inputs: Tensor, v: Tensor,
    strength: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    for net in settled.nets:  # type: ignore[attr-defined]
        inputs = EquilibriumBlock(net)(inputs)
    return tuple(weights)


@right("chain_gradients")
def nudged_at_size_one(
    settled: Settled, weights: Sequence[Tensor], kappa: float, inputs: Tensor, v: Tensor,
    strength: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    passed = [inputs]
    for k in range(len(weights) - 1):
        passed.append(settled(k, passed[-1], 0 * v)[1])
    found: dict[int, Tensor] = {}
    for k in range(len(weights) - 1, -1, -1):
        size = v.abs().max()
        plus = settled(k, passed[k], strength * v / size)[0]
        d = -size * kappa * (plus - settled(k, passed[k], -strength * v / size)[0])
        d = d / (2 * strength)
        found[k], v = d.T @ passed[k], d @ weights[k]
    return tuple(found[k] for k in range(len(weights)))


# --- by_recomputation

Nets = Sequence[HopfieldBlock]


def output(net: HopfieldBlock, u: Tensor, steps: int) -> Tensor:
    drive = net.drive(u)
    state = net.initial_state(drive)
    for _ in range(steps):
        state = net.step(state, drive)
    return state[-1]


def firsts(nets: Nets) -> list[Tensor]:
    return [net.get_parameter("layers.0.weight") for net in nets]


@wrong("by_recomputation", "the graph of more than one block is alive")
def everything_in_one_graph(
    nets: Nets, inputs: Tensor, v: Tensor, steps: int
) -> tuple[Tensor, ...]:
    for net in nets:
        inputs = output(net, inputs, steps)
    return torch.autograd.grad(inputs, firsts(nets), v)


@wrong("by_recomputation", "through the blocks above")
def cut_at_the_joints(nets: Nets, inputs: Tensor, v: Tensor, steps: int) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    for net, weight in zip(nets, firsts(nets), strict=True):
        inputs = output(net, inputs.detach(), steps)
        found += torch.autograd.grad(inputs, weight, v)
    return tuple(found)


@wrong("by_recomputation", "block by block from the last")
def one_step_only(nets: Nets, inputs: Tensor, v: Tensor, steps: int) -> tuple[Tensor, ...]:
    for net in nets:
        inputs = output(net, inputs, 1)
    return torch.autograd.grad(inputs, firsts(nets), v)


@wrong("by_recomputation", "sign")
def pushed_uphill(nets: Nets, inputs: Tensor, v: Tensor, steps: int) -> tuple[Tensor, ...]:
    for net in nets:
        inputs = output(net, inputs, steps)
    return torch.autograd.grad(inputs, firsts(nets), -v)


@right("by_recomputation")
def recursively(nets: Nets, inputs: Tensor, v: Tensor, steps: int) -> tuple[Tensor, ...]:
    return _with_message(nets, inputs, v, steps)[:-1]


def _with_message(nets: Nets, inputs: Tensor, v: Tensor, steps: int) -> tuple[Tensor, ...]:
    start = inputs.detach().requires_grad_()
    first, *others = nets
    rest: tuple[Tensor, ...] = ()
    if others:
        with torch.no_grad():
            between = output(first, inputs, steps)
        *found, v = _with_message(others, between, v, steps)
        rest = tuple(found)
    gradient, message = torch.autograd.grad(
        output(first, start, steps), [*firsts([first]), start], v
    )
    return gradient, *rest, message
