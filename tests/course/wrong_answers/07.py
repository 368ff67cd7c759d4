"""Answers to the exercises of notebook 07 as learners give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from eqprop_lab import estimate_gradients, relax
from tests.course.answers import right, wrong

Gradients = dict[str, Tensor]

# --- next_probabilities


def of_the_best(z: Tensor, top_k: int, slope: float) -> Tensor:
    """The softmax of slope * z among the top_k largest."""
    kept = torch.full_like(z, -torch.inf)
    places = z.topk(top_k)[1]
    kept[places] = z[places]
    return torch.softmax(slope * kept, 0)


@wrong("next_probabilities", "the temperature multiplies")
def times_the_temperature(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_the_best(z, top_k, temperature)


@wrong("next_probabilities", "the temperature is missing")
def without_temperature(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_the_best(z, top_k, 1.0)


@wrong("next_probabilities", "log p does not rise with z")
def squared(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_the_best(z, top_k, 1 / temperature**2)


@wrong("next_probabilities", "cut first, then share out")
def shared_out_before(z: Tensor, temperature: float, top_k: int) -> Tensor:
    p = torch.softmax(z / temperature, 0)
    return torch.where(z >= z.topk(top_k)[0][-1], p, torch.zeros_like(p))


@wrong("next_probabilities", "characters have a probability above zero")
def not_cut(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return torch.softmax(z / temperature, 0)


@wrong("next_probabilities", "are not those with the largest logits")
def the_smallest(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_the_best(-z, top_k, 1 / temperature)


@wrong("next_probabilities", "is needed")
def the_best_alone(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return torch.softmax(z.topk(top_k)[0] / temperature, 0)


@wrong("next_probabilities", "numbers that are not negative")
def logs(z: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_the_best(z, top_k, 1 / temperature).log()


@right("next_probabilities")
def by_exponentials(z: Tensor, temperature: float, top_k: int) -> Tensor:
    e = torch.exp((z - z.max()) / temperature) * (z >= z.sort(descending=True)[0][top_k - 1])
    return e / e.sum()


# --- below_the_loop


def below(model: Any) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    return {n: p for n, p in named.items() if n.split(".")[0] in ("embedding", "blocks")}


def through_phases(
    model: Any,
    x: Tensor,
    y: Tensor,
    beta: float,
    steps: int,
    *,
    into: float = 1.0,
    direct: float = 1.0,
    down: float | None = None,
    whole: float = 1.0,
    stale: bool = False,
) -> Gradients:
    """From the phases of `relax`, with one thing done wrong."""
    target = one_hot(y.flatten(), model.vocab_size)
    free = relax(model, x, steps).state

    def pull(state: tuple[Tensor, ...], at: float) -> tuple[Tensor, Tensor]:
        seen = free if stale else state
        surprise = model.readout(seen).softmax(1) - target
        return at * surprise @ model.W_out.weight, torch.zeros_like(state[1])

    low = -beta if down is None else down
    plus, minus = (
        relax(model, x, steps, start=free, nudge=lambda s, at=at: pull(s, at)).state[0]
        for at in (beta, low)
    )
    a = (minus - plus) / (beta - low)
    error = (model.readout(free).softmax(1) - target).detach()
    slope = into * a @ model.W_in.weight + direct * error @ model.W_skip.weight
    known, count = below(model), x.numel()
    grads = torch.autograd.grad(model.features(x), list(known.values()), whole * slope / count)
    return dict(zip(known, grads, strict=True))


@wrong("below_the_loop", "W_skip sees f")
def without_skip(*given: Any) -> Gradients:
    return through_phases(*given, direct=0.0)


@wrong("below_the_loop", "what goes through the loop is missing")
def skip_alone(*given: Any) -> Gradients:
    return through_phases(*given, into=0.0)


@wrong("below_the_loop", "lacks its 1/beta")
def without_beta(model: Any, x: Tensor, y: Tensor, beta: float, steps: int) -> Gradients:
    return through_phases(model, x, y, beta, steps, into=beta)


@wrong("below_the_loop", "twice too large")
def over_beta(*given: Any) -> Gradients:
    return through_phases(*given, into=2.0)


@wrong("below_the_loop", "which state has the lower cost?")
def plus_minus_minus(*given: Any) -> Gradients:
    return through_phases(*given, into=-1.0)


@wrong("below_the_loop", "the sign is flipped")
def uphill(*given: Any) -> Gradients:
    return through_phases(*given, whole=-1.0)


@wrong("below_the_loop", "it is the number of tokens times what it should be")
def sums(model: Any, x: Tensor, y: Tensor, beta: float, steps: int) -> Gradients:
    return through_phases(model, x, y, beta, steps, whole=x.numel())


@wrong("below_the_loop", "is a sum over the tokens, the rest a mean")
def sum_of_contrasts(model: Any, x: Tensor, y: Tensor, beta: float, steps: int) -> Gradients:
    return through_phases(model, x, y, beta, steps, into=x.numel())


@wrong("below_the_loop", "one nudge with the free state")
def one_nudge(*given: Any) -> Gradients:
    return through_phases(*given, down=0.0)


@wrong("below_the_loop", "is the pull made anew at every step")
def pull_of_the_free_state(*given: Any) -> Gradients:
    return through_phases(*given, stale=True)


@wrong("below_the_loop", "backpropagation through the loop")
def unrolled(model: Any, x: Tensor, y: Tensor, beta: float, steps: int) -> Gradients:
    f = model.features(x)
    u = model.W_in(f) + model.W_rec.bias
    r = torch.tanh(u)
    for _ in range(steps):
        r = torch.tanh(r @ model.W_rec.weight.T + u)
    cost = cross_entropy(model.readout((r, f)), y.flatten())
    known = below(model)
    return dict(zip(known, torch.autograd.grad(cost, list(known.values())), strict=True))


@wrong("below_the_loop", "uses estimate_gradients")
def the_estimate(model: Any, x: Tensor, y: Tensor, beta: float, steps: int) -> Gradients:
    found = estimate_gradients(model, x, y, "centered", beta, steps, steps)
    return {name: found[name] for name in below(model)}


@wrong("below_the_loop", "it returns a dict of")
def of_the_loop_too(model: Any, x: Tensor, y: Tensor, beta: float, steps: int) -> Gradients:
    rest = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    return rest | through_phases(model, x, y, beta, steps)


@right("below_the_loop")
def by_relax(*given: Any) -> Gradients:
    return through_phases(*given)


@right("below_the_loop")
def as_the_slope_of_a_product(*given: Any) -> Gradients:
    """Each gradient a leaf of its own, in another order."""
    return dict(reversed(through_phases(*given).items()))


# --- retrieval_step


def stepped(
    core: Any,
    a: Tensor,
    x: Tensor,
    *,
    seen: int = 0,
    sink: float | None = 0.0,
    scaled: bool = True,
    near: bool = True,
    drive: bool = True,
    turned: bool = False,
    normed: bool = True,
    past_only: bool = True,
) -> Tensor:
    """Token by token, with one thing done wrong."""
    W, k, d = core.W_q().detach(), core.keys(x[None])[0, 0].detach(), x.shape[1]
    rows = []
    for i in range(len(x)):
        last = i + 1 - seen if past_only else len(x)
        scores = k[:last] @ (W @ a[i]) / (d**0.5 if scaled else 1.0)
        if near:
            scores = scores + core.bias[0].detach()[(i - torch.arange(last)).abs()]
        e = torch.exp(scores)
        p = e / (e.sum() + (0.0 if sink is None else torch.exp(torch.tensor(sink))))
        heard = p @ k[:last]
        v = (W @ heard if turned else heard @ W) + (x[i] if drive else 0.0)
        rows.append(v / torch.sqrt(1 + v.square().mean()) if normed else v)
    return torch.stack(rows)


@wrong("retrieval_step", "a token may look at itself")
def strictly(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, seen=1)


@wrong("retrieval_step", "the sink is missing")
def without_sink(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, sink=None)


@wrong("retrieval_step", "it needs the score zero")
def sink_of_one(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, sink=1.0)


@wrong("retrieval_step", "not divided by the root of d")
def unscaled(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, scaled=False)


@wrong("retrieval_step", "the bias of the distance is missing")
def without_distance(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, near=False)


@wrong("retrieval_step", "the drive x is missing")
def without_drive(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, drive=False)


@wrong("retrieval_step", "a token sees the future")
def with_the_future(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, past_only=False)


@wrong("retrieval_step", "once as it is and once transposed")
def not_transposed(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, turned=True)


@wrong("retrieval_step", "does n come last?")
def without_norm(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x, normed=False)


@wrong("retrieval_step", "uses step")
def the_step(core: Any, a: Tensor, x: Tensor) -> Tensor:
    result: Tensor = core.step((a,), core.drive(x[None]))[0]
    return result


@right("retrieval_step")
def token_by_token(core: Any, a: Tensor, x: Tensor) -> Tensor:
    return stepped(core, a, x)
