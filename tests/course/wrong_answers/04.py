"""Answers to the exercises of notebook 04 as learners give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from eqprop_lab import EqPropTrainer, LoopedMLP, estimate_gradients, relax
from tests.course.answers import right, wrong

Batches = list[tuple[Tensor, Tensor]]
Weights = dict[str, Tensor]
Lead = tuple[Tensor, Tensor]

# --- one_sided_bias


@wrong("one_sided_bias", "the sign is flipped")
def uphill(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return (plus - free).mean(0) / beta


@wrong("one_sided_bias", "half of what it should be")
def the_two_of_d(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return -(plus - free).mean(0) / (2 * beta)


@wrong("one_sided_bias", "it is beta times what it should be")
def no_beta(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return -(plus - free).mean(0)


@wrong("one_sided_bias", "it is the batch size times what it should be")
def sum_of_bias(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return -(plus - free).sum(0) / beta


@wrong("one_sided_bias", "is a mean or a sum over the first dimension missing?")
def each_image(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return -(plus - free) / beta


@wrong("one_sided_bias", "compare it with the free one")
def nudged_alone(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return -plus.mean(0) / beta


@right("one_sided_bias")
def with_a_loop(plus: Tensor, free: Tensor, beta: float) -> Tensor:
    return torch.stack([(f - p) / beta for p, f in zip(plus, free, strict=True)]).mean(0)


# --- train


def trained(
    model: LoopedMLP,
    batches: Batches,
    epochs: int,
    lr: float,
    beta: float,
    steps: int,
    *,
    inside: float = 1.0,
    readout: float = 1.0,
    summed: bool = False,
    all_summed: bool = False,
    clear: bool = True,
    low: float | None = None,
    stale: bool = False,
    turned: bool = False,
    adam: bool = False,
) -> Weights:
    """Trains by slopes of the energy, with one thing done wrong."""
    kind = torch.optim.Adam if adam else torch.optim.SGD
    optimizer = kind(model.parameters(), lr)
    for x, y in batches * epochs:
        target = one_hot(y.flip(0) if turned else y, model.output_dim)
        free = relax(model, x, steps).state

        def pull(state: tuple[Tensor, ...], at: float) -> tuple[Tensor]:
            seen = free if stale else state  # noqa: B023
            chances = model.readout(seen).softmax(1)
            return (at * (chances - target) @ model.W_out.weight,)  # noqa: B023

        down = -beta if low is None else low
        plus, minus = (
            relax(model, x, steps, start=free, nudge=lambda s, at=at: pull(s, at)).state
            for at in (beta, down)
        )
        drive = model.drive(x)
        rise = (model.energy(plus, drive) - model.energy(minus, drive)) / (beta - down)
        cost = cross_entropy(model.readout(free), y)
        if clear:
            optimizer.zero_grad()
        size = len(x) if summed or all_summed else 1
        last = len(x) if all_summed else 1
        (inside * size * rise.mean() + readout * last * cost).backward()
        optimizer.step()
    return dict(model.named_parameters())


@wrong("train", "the hidden weights climb")
def minus_before_plus(*given: Any) -> Weights:
    return trained(*given, inside=-1)


@wrong("train", "everything climbs")
def ascent(*given: Any) -> Weights:
    return trained(*given, inside=-1, readout=-1)


@wrong("train", "lacks its 1/beta")
def one_over_two(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> Weights:
    return trained(model, batches, epochs, lr, beta, steps, inside=beta)


@wrong("train", "twice too large")
def over_beta(*given: Any) -> Weights:
    return trained(*given, inside=2)


@wrong("train", "half of what it should be")
def halved_twice(*given: Any) -> Weights:
    return trained(*given, inside=0.5)


@wrong("train", "the contrast is a sum over the batch")
def sum_of_energies(*given: Any) -> Weights:
    return trained(*given, summed=True)


@wrong("train", "gradients are sums over the batch")
def sums(*given: Any) -> Weights:
    return trained(*given, all_summed=True)


@wrong("train", "zero_grad")
def no_zero_grad(*given: Any) -> Weights:
    return trained(*given, clear=False)


@wrong("train", "only the read-out learns")
def from_the_free_state(*given: Any) -> Weights:
    return trained(*given, inside=0)


@wrong("train", "the read-out does not learn")
def energies_alone(*given: Any) -> Weights:
    return trained(*given, readout=0)


@wrong("train", "one nudge with the free state")
def one_nudge(*given: Any) -> Weights:
    return trained(*given, low=0.0)


@wrong("train", "it stops after one epoch")
def once(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> Weights:
    return trained(model, batches, 1, lr, beta, steps)


@wrong("train", "not Adam")
def with_adam(*given: Any) -> Weights:
    return trained(*given, adam=True)


@wrong("train", "is the pull made anew at every step")
def pull_of_the_free_state(*given: Any) -> Weights:
    return trained(*given, stale=True)


@wrong("train", "is each target that of its image")
def shuffled_labels(*given: Any) -> Weights:
    return trained(*given, turned=True)


@wrong("train", "uses EqPropTrainer")
def the_trainer(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> Weights:
    EqPropTrainer(model, lr=lr, beta=beta, free_steps=steps, progress=False).fit(batches, epochs)
    return dict(model.named_parameters())


@wrong("train", "uses estimate_gradients")
def the_estimate(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> Weights:
    for x, y in batches * epochs:
        found = estimate_gradients(model, x, y, "centered", beta)
        for name, weight in model.named_parameters():
            weight.data -= lr * found[name]
    return dict(model.named_parameters())


@wrong("train", "is the `return` missing?")
def gives_nothing_back(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> None:
    trained(model, batches, epochs, lr, beta, steps)


@wrong("train", "it returns a LoopedMLP")
def gives_the_model_back(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> LoopedMLP:
    trained(model, batches, epochs, lr, beta, steps)
    return model


def closed_forms(
    model: LoopedMLP, x: Tensor, y: Tensor, beta: float, steps: int
) -> tuple[Weights, Tensor]:
    """The slopes of a batch, all but that of W_rec by name."""
    target, feedback = one_hot(y, model.output_dim).double(), model.W_out.weight.detach()
    (free,) = relax(model, x, steps).state
    ends = []
    for at in (beta, -beta):
        h = free
        for _ in range(steps):
            pull = (model.readout((h,)).softmax(1) - target) @ feedback
            h = torch.tanh(model.W_in(x) + model.W_rec(h) - at * pull).detach()
        ends.append(h)
    moved, mean = (ends[0] - ends[1]) / (2 * beta * len(x)), (ends[0] + ends[1]) / 2
    error = ((model.readout((free,)).softmax(1) - target) / len(x)).detach()
    slopes = {
        "W_in.weight": -moved.T @ x,
        "W_in.bias": -moved.sum(0),
        "W_rec.bias": -moved.sum(0),
        "W_out.weight": error.T @ free,
        "W_out.bias": error.sum(0),
    }
    return slopes, -(moved.T @ mean + mean.T @ moved) / 2


def by_closed_forms(
    model: LoopedMLP,
    batches: Batches,
    epochs: int,
    lr: float,
    beta: float,
    steps: int,
    chained: bool = True,
) -> Weights:
    """Trains by products of activities; with chained=False A gets the slope of W_rec itself."""
    weights: Weights = dict(model.named_parameters())
    name = "W_rec.parametrizations.weight.original"
    for _ in range(epochs):
        for x, y in batches:
            slopes, through = closed_forms(model, x, y, beta, steps)
            slopes[name] = through
            if chained:
                (slopes[name],) = torch.autograd.grad(model.W_rec.weight, weights[name], through)
            with torch.no_grad():
                for key, weight in weights.items():
                    weight -= lr * slopes[key]
    return weights


@wrong("train", "does A learn through W_rec?")
def past_the_parametrisation(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> Weights:
    return by_closed_forms(model, batches, epochs, lr, beta, steps, chained=False)


@right("train")
def products_of_activities(
    model: LoopedMLP, batches: Batches, epochs: int, lr: float, beta: float, steps: int
) -> Weights:
    return by_closed_forms(model, batches, epochs, lr, beta, steps)


@right("train")
def slopes_of_energy(*given: Any) -> Weights:
    return trained(*given)


# --- lead


def each_lead(a: Tensor, b: Tensor) -> Tensor:
    return a.double() - b.double()


@wrong("lead", "this is right for two different sets of images")
def two_sets(a: Tensor, b: Tensor) -> Lead:
    both = torch.stack([a, b]).double()
    return each_lead(a, b).mean(), (both.var(1).sum() / len(a)).sqrt()


@wrong("lead", "it is √n times what it should be")
def of_one_image(a: Tensor, b: Tensor) -> Lead:
    return each_lead(a, b).mean(), each_lead(a, b).std()


@wrong("lead", "1/√n times what it should be")
def over_n(a: Tensor, b: Tensor) -> Lead:
    return each_lead(a, b).mean(), each_lead(a, b).std() / len(a)


@wrong("lead", "a root is missing")
def variance(a: Tensor, b: Tensor) -> Lead:
    return each_lead(a, b).mean(), each_lead(a, b).var() / len(a)


@wrong("lead", "[0] of the answer: the sign is flipped")
def behind(a: Tensor, b: Tensor) -> Lead:
    return -each_lead(a, b).mean(), each_lead(a, b).std() / len(a) ** 0.5


@wrong("lead", "it is 100 times what it should be")
def in_points(a: Tensor, b: Tensor) -> Lead:
    ahead = 100 * each_lead(a, b)
    return ahead.mean(), ahead.std() / len(a) ** 0.5


@wrong("lead", "only one network is in it")
def error_of_a(a: Tensor, b: Tensor) -> Lead:
    return a.double().mean(), a.double().std() / len(a) ** 0.5


@wrong("lead", "images on which the two agree count as well")
def where_they_differ(a: Tensor, b: Tensor) -> Lead:
    ahead = each_lead(a, b)[a != b]
    return ahead.mean(), ahead.std() / len(ahead) ** 0.5


@wrong("lead", "[0] of the answer: it is n times what it should be")
def counted(a: Tensor, b: Tensor) -> Lead:
    return each_lead(a, b).sum(), each_lead(a, b).std() / len(a) ** 0.5


@wrong("lead", "a tuple of 2 is needed")
def without_its_error(a: Tensor, b: Tensor) -> Tensor:
    return each_lead(a, b).mean()


@right("lead")
def by_counts(a: Tensor, b: Tensor) -> tuple[float, float]:
    n, won, lost = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    gap = (won - lost) / n
    return gap, ((won + lost) / n - gap**2) ** 0.5 / n**0.5


# --- bounded_by_units


def sums_of(S: Tensor) -> Tensor:
    return S.abs().sum(1)


@wrong("bounded_by_units", "weak synapses have changed")
def norm_of_the_whole(S: Tensor, rho: float) -> Tensor:
    return S / (1 + (torch.linalg.matrix_norm(S, 2) / rho) ** 2) ** 0.5


@wrong("bounded_by_units", "weak synapses have changed")
def largest_sum(S: Tensor, rho: float) -> Tensor:
    return S * min(1.0, rho / float(sums_of(S).max()))


@wrong("bounded_by_units", "a strong pair stays far below rho")
def cut_off(S: Tensor, rho: float) -> Tensor:
    return S.clamp(-rho / len(S), rho / len(S))


@wrong("bounded_by_units", "the norm is above rho")
def cut_off_at_rho(S: Tensor, rho: float) -> Tensor:
    return S.clamp(-rho, rho)


@wrong("bounded_by_units", "W is not symmetric")
def rows_alone(S: Tensor, rho: float) -> Tensor:
    return S / (1 + sums_of(S) / rho)[:, None]


@wrong("bounded_by_units", "what becomes of a unit without synapses?")
def always_full(S: Tensor, rho: float) -> Tensor:
    q = sums_of(S) / rho
    return S / torch.sqrt(q[:, None] * q)


@wrong("bounded_by_units", "the norm is above rho")
def rho_forgotten(S: Tensor, rho: float) -> Tensor:
    q = 1 + sums_of(S)
    return S / torch.sqrt(q[:, None] * q)


@wrong("bounded_by_units", "a strong pair stays far below rho")
def root_forgotten(S: Tensor, rho: float) -> Tensor:
    q = (1 + (sums_of(S) / rho) ** 2).sqrt()
    return S / (q[:, None] * q)


@wrong("bounded_by_units", "the norm is above rho")
def lengths_of_rows(S: Tensor, rho: float) -> Tensor:
    q = (1 + (S.norm(dim=1) / rho) ** 2).sqrt()
    return S / torch.sqrt(q[:, None] * q)


@wrong("bounded_by_units", "a synapse has changed its sign")
def without_signs(S: Tensor, rho: float) -> Tensor:
    q = (1 + (sums_of(S) / rho) ** 2).sqrt()
    return S.abs() / torch.sqrt(q[:, None] * q)


@wrong("bounded_by_units", "shape")
def factors_of_the_units(S: Tensor, rho: float) -> Tensor:
    return 1 / (1 + (sums_of(S) / rho) ** 2).sqrt()


@right("bounded_by_units")
def only_where_needed(S: Tensor, rho: float) -> Tensor:
    q = (sums_of(S) / rho).clamp_min(1)
    return S / torch.sqrt(q[:, None] * q)


@right("bounded_by_units")
def the_smaller_share(S: Tensor, rho: float) -> Tensor:
    share = 1 / (sums_of(S) / rho).clamp_min(1)
    return S * torch.minimum(share[:, None], share)
