"""Answers to the exercises of notebook 10 as learners give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eqprop_lab import BioplausibleModel
from eqprop_lab.instruments.alignment import cosine
from tests.course.answers import right, wrong

Array = np.ndarray
Many = Sequence[Array]
Found = tuple[Array, ...]

# --- angle


def inner(g: Many, h: Many) -> float:
    return float(sum((a * b).sum() for a, b in zip(g, h, strict=True)))


def cos_of(g: Many, h: Many) -> float:
    return inner(g, h) / math.sqrt(inner(g, g) * inner(h, h))


@wrong("angle", "degrees are asked for")
def radians(g: Many, h: Many) -> float:
    return math.acos(cos_of(g, h))


@wrong("angle", "the cosine itself")
def only_the_cosine(g: Many, h: Many) -> float:
    return cos_of(g, h)


@wrong("angle", "make one vector of them")
def layer_by_layer(g: Many, h: Many) -> float:
    angles = [math.degrees(math.acos(cos_of([a], [b]))) for a, b in zip(g, h, strict=True)]
    return sum(angles) / len(angles)


@wrong("angle", "are both norms taken over all arrays")
def norms_of_the_first(g: Many, h: Many) -> float:
    size = np.linalg.norm(g[0]) * np.linalg.norm(h[0])
    return math.degrees(math.acos(max(-1.0, min(1.0, inner(g, h) / float(size)))))


@wrong("angle", "uses cosine")
def asked_of_the_package(g: Any, h: Any) -> float:
    return cosine(g[0], h[0])


@right("angle")
def one_long_vector(g: Many, h: Many) -> float:
    first, second = (np.concatenate([a.reshape(-1) for a in each]) for each in (g, h))
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    return float(np.rad2deg(np.arccos(first @ second)))


# --- direct_feedback


def softmax(z: Array) -> Array:
    z = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(z / z.sum(1, keepdims=True))


def forward(Ws: Many, bs: Many, x: Array) -> list[Array]:
    states = [x]
    for W, b in zip(Ws[:-1], bs[:-1], strict=True):
        states.append(np.tanh(states[-1] @ W.T + b))
    return states


def directly(
    Ws: Many, bs: Many, Ds: Many, x: Array, t: Array, *,
    slope: bool = True, again: bool = False, logits: bool = False, sign: float = 1.0,
    mean: bool = True,
) -> Found:  # fmt: skip
    """Direct feedback alignment with one thing changed."""
    states = forward(Ws, bs, x)
    z = states[-1] @ Ws[-1].T + bs[-1]
    delta = sign * ((z if logits else softmax(z)) - t)
    deltas = []
    for D, s in zip(Ds, states[1:], strict=True):
        steep = 1 - (np.tanh(s) if again else s) ** 2
        deltas.append(delta @ D * (steep if slope else 1))
    found = [d.T @ s for d, s in zip([*deltas, delta], states, strict=True)]
    return tuple(g / len(x) if mean else g for g in found)


@wrong("direct_feedback", "the error is z - t")
def raw_logits(*given: Any) -> Found:
    return directly(*given, logits=True)


@wrong("direct_feedback", "the slope of tanh is missing")
def no_slope(*given: Any) -> Found:
    return directly(*given, slope=False)


@wrong("direct_feedback", "the slope at its own state")
def slope_at_the_state(*given: Any) -> Found:
    return directly(*given, again=True)


@wrong("direct_feedback", "not its mean")
def summed(*given: Any) -> Found:
    return directly(*given, mean=False)


@wrong("direct_feedback", "the sign is flipped")
def downhill_already(*given: Any) -> Found:
    return directly(*given, sign=-1.0)


def backwards(Ws: Many, bs: Many, x: Array, t: Array) -> Found:
    states = forward(Ws, bs, x)
    delta, found = softmax(states[-1] @ Ws[-1].T + bs[-1]) - t, []
    for level in range(len(Ws) - 1, -1, -1):
        found.append(delta.T @ states[level] / len(x))
        delta = delta @ Ws[level] * (1 - states[level] ** 2)
    return tuple(found[::-1])


@wrong("direct_feedback", "this is backprop")
def through_w(Ws: Many, bs: Many, Ds: Many, x: Array, t: Array) -> Found:
    return backwards(Ws, bs, x, t)


@wrong("direct_feedback", "uses BioplausibleModel")
def by_the_rule_itself(Ws: Many, bs: Many, Ds: Many, x: Array, t: Array) -> Found:
    BioplausibleModel("direct_feedback_alignment", x.shape[1], 4, t.shape[1])
    return tuple(Ws)


@right("direct_feedback")
def as_asked(*given: Any) -> Found:
    return directly(*given)


# --- predictive_coding


def inferred(
    Ws: Many, bs: Many, x: Array, t: Array, steps: int, rate: float, *,
    sign: float = 1.0, top: float = 1.0, slope: bool = True, at_once: bool = True,
    stale: bool = False,
) -> Found:  # fmt: skip
    """Predictive coding with one thing changed."""
    states = forward(Ws, bs, x)

    def errors_of(states: list[Array]) -> tuple[list[Array], list[Array], Array]:
        means = [np.tanh(s @ W.T + b) for s, W, b in zip(states, Ws[:-1], bs[:-1], strict=False)]
        errors = [s - m for s, m in zip(states[1:], means, strict=True)]
        scaled = [e * (1 - m**2) if slope else e for e, m in zip(errors, means, strict=True)]
        return errors, scaled, softmax(states[-1] @ Ws[-1].T + bs[-1]) - t

    seen = errors_of(states)
    for _ in range(steps):
        seen = errors_of(states)
        new = list(states)
        for level in range(1, len(states)):
            errors, scaled, out = seen if at_once else errors_of(new)
            last = level == len(states) - 1
            pull = -top * out @ Ws[-1] if last else scaled[level] @ Ws[level]
            new[level] = states[level] + rate * (pull - errors[level - 1])
        states = new
    _, scaled, out = seen if stale else errors_of(states)
    hidden = [-sign * e.T @ s / len(x) for e, s in zip(scaled, states, strict=False)]
    return (*hidden, out.T @ states[-1] / len(x))


@wrong("predictive_coding", "the hidden weights climb")
def wrong_sign(*given: Any) -> Found:
    return inferred(*given, sign=-1.0)


@wrong("predictive_coding", "the target pushes")
def pushed(*given: Any) -> Found:
    return inferred(*given, top=-1.0)


@wrong("predictive_coding", "the slope of tanh is missing")
def flat(*given: Any) -> Found:
    return inferred(*given, slope=False)


@wrong("predictive_coding", "do all layers move at once")
def one_after_the_other(*given: Any) -> Found:
    return inferred(*given, at_once=False)


@wrong("predictive_coding", "errors and p those of the last states")
def errors_of_the_step_before(*given: Any) -> Found:
    return inferred(*given, stale=True)


@wrong("predictive_coding", "one step too few")
def too_few(Ws: Many, bs: Many, x: Array, t: Array, steps: int, rate: float) -> Found:
    return inferred(Ws, bs, x, t, steps - 1, rate)


@wrong("predictive_coding", "this is backprop")
def no_inference(Ws: Many, bs: Many, x: Array, t: Array, steps: int, rate: float) -> Found:
    return backwards(Ws, bs, x, t)


@right("predictive_coding")
def as_written(*given: Any) -> Found:
    return inferred(*given)
