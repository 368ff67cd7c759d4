"""Answers to the exercises of notebook 06 as learners give them."""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab import TransformerEqProp, relax
from eqprop_lab.models.language.ball import ball, squareplus
from tests.course.answers import right, wrong

Two = tuple[Tensor, Tensor]

# --- may_stop


@wrong("may_stop", "each token by itself")
def by_itself(residuals: Tensor, tol: float) -> Tensor:
    return residuals <= tol


@wrong("may_stop", "it looks ahead")
def waits_for_the_future(residuals: Tensor, tol: float) -> Tensor:
    return residuals.flip(1).cummax(1).values.flip(1) <= tol


@wrong("may_stop", "a text stops as a whole")
def worst_of_the_text(residuals: Tensor, tol: float) -> Tensor:
    return (residuals.amax(1, keepdim=True) <= tol).expand_as(residuals)


@wrong("may_stop", "one text waits for another")
def worst_of_the_batch(residuals: Tensor, tol: float) -> Tensor:
    return (residuals.amax(0).cummax(0).values <= tol).expand_as(residuals)


@wrong("may_stop", "these are the ones that move on")
def moving(residuals: Tensor, tol: float) -> Tensor:
    return residuals.cummax(1).values > tol


@wrong("may_stop", "a residual of exactly tol is settled")
def strictly_below(residuals: Tensor, tol: float) -> Tensor:
    return residuals.cummax(1).values < tol


@wrong("may_stop", "the same text, and all tokens up to i")
def only_the_one_before(residuals: Tensor, tol: float) -> Tensor:
    settled = residuals <= tol
    return settled & torch.cat([settled[:, :1], settled[:, :-1]], 1)


@wrong("may_stop", "has shape")
def the_number_of_tokens(residuals: Tensor, tol: float) -> Tensor:
    return (residuals.cummax(1).values <= tol).sum(1)


@right("may_stop")
def by_products(residuals: Tensor, tol: float) -> Tensor:
    return (residuals <= tol).long().cumprod(1).bool()


# --- field_of_the_past


def field(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    *,
    nearest: int = 1,
    sink: float = 1.0,
    scale: float = 0.5,
) -> Tensor:
    """Token by token; keys j <= i - nearest."""
    rows = []
    for i in range(len(q)):
        seen = range(i - nearest + 1)
        e = [torch.exp(q[i] @ k[j] / q.shape[1] ** scale + bias[i - j]) for j in seen]
        total = sum(e, torch.tensor(sink).double())
        parts = [w / total * v[j] for j, w in zip(seen, e, strict=True)]
        rows.append(sum(parts, torch.zeros_like(v[0])))
    return torch.stack(rows)


@right("field_of_the_past")
def token_by_token(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return field(q, k, v, bias)


@wrong("field_of_the_past", "a token looks at itself")
def with_itself(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return field(q, k, v, bias, nearest=0)


@wrong("field_of_the_past", "the sink is missing")
def without_sink(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return field(q, k, v, bias, sink=0.0)


@wrong("field_of_the_past", "not divided by the root of d_h")
def unscaled(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return field(q, k, v, bias, scale=0.0)


@wrong("field_of_the_past", "with the sink's 1 and the bias of the distance")
def divided_by_the_width(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return field(q, k, v, bias, scale=1.0)


def scores_of(q: Tensor, k: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    place = torch.arange(len(q))
    distance = place[:, None] - place
    return q @ k.T / q.shape[1] ** 0.5 + bias[distance.clamp_min(0)], distance


@wrong("field_of_the_past", "it is not finite")
def rows_of_minus_infinity(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    scores, distance = scores_of(q, k, bias)
    return scores.masked_fill(distance <= 0, -torch.inf).softmax(1) @ v


@wrong("field_of_the_past", "the bias belongs to the distance")
def bias_of_the_place(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    scores = (q @ k.T / q.shape[1] ** 0.5 + bias).exp().tril(-1)
    return scores / (1 + scores.sum(1, keepdim=True)) @ v


@wrong("field_of_the_past", "it looks ahead")
def the_other_triangle(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    place = torch.arange(len(q))
    distance = (place[:, None] - place).abs()
    scores = (q @ k.T / q.shape[1] ** 0.5 + bias[distance]).exp().triu(1)
    return scores / (1 + scores.sum(1, keepdim=True)) @ v


@wrong("field_of_the_past", "is the softmax along the keys")
def cut_off_after_the_softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    scores, _ = scores_of(q, k, bias)
    return scores.softmax(1).tril(-1) @ v


@wrong("field_of_the_past", "is the softmax along the keys")
def softmax_over_the_queries(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    scores, distance = scores_of(q, k, bias)
    weights = scores.masked_fill(distance <= 0, -torch.inf).exp()
    return weights / (1 + weights.sum(0, keepdim=True)) @ v


@wrong("field_of_the_past", "has shape")
def weights_alone(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return field(q, k, torch.eye(len(q)).double(), bias)


# --- next_token_state


def settled(
    net: TransformerEqProp,
    fixed: list[Tensor],
    sweeps: int,
    *,
    up: bool = True,
    down: bool = True,
    swapped: bool = False,
    bias: float = 1.0,
    in_turn: bool = False,
) -> Two:
    B = net.B[0].weight.T if swapped else net.B[0].weight

    def memory(layer: int, r: Tensor) -> Tensor:
        xi = net.xi[layer].weight
        return squareplus(xi @ r + bias * net.c[layer]) @ xi

    with torch.no_grad():
        r1, r2 = ball(fixed[0]), ball(fixed[1])
        for _ in range(sweeps):
            new = ball(fixed[0] + memory(0, r1) + down * (r2 @ B))
            r2 = ball(fixed[1] + memory(1, r2) + up * (B @ (new if in_turn else r1)))
            r1 = new
    return r1, r2


@wrong("next_token_state", "B and its transpose are swapped")
def transposed(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps, swapped=True)


@wrong("next_token_state", "the layers do not hear each other")
def layers_alone(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps, up=False, down=False)


@wrong("next_token_state", "both layers at once")
def upwards_only(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps, down=False)


@wrong("next_token_state", "both layers at once")
def one_after_the_other(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps, in_turn=True)


@wrong("next_token_state", "is c inside the sigma?")
def without_c(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps, bias=0.0)


@wrong("next_token_state", "one sweep too few")
def one_too_few(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps - 1)


@wrong("next_token_state", "one sweep too many")
def one_too_many(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    return settled(net, fixed, sweeps + 1)


@wrong("next_token_state", "uses relax")
def by_the_package(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> Two:
    first, second = relax(net, torch.zeros(1, 1).long(), sweeps).state
    return first[0], second[0]


@right("next_token_state")
def as_rows(net: TransformerEqProp, fixed: list[Tensor], sweeps: int) -> list[Tensor]:
    with torch.no_grad():
        r = [ball(f)[None] for f in fixed]
        couplings = [net.B[0].weight, net.B[0].weight.T]
        for _ in range(sweeps):
            a = []
            for n, (f, B) in enumerate(zip(fixed, couplings, strict=True)):
                xi = net.xi[n].weight
                a.append(f + squareplus(r[n] @ xi.T + net.c[n]) @ xi + r[1 - n] @ B)
            r = [ball(part) for part in a]
    return [part[0] for part in r]
