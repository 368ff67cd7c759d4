"""A profiled step: its phases, its operations, and a model that is left as it was."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab import ConvEqProp, LoopedMLP, ResNetCifar, estimate_gradients
from eqprop_lab.instruments.profile import profile

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 1])


def test_the_phases_of_an_equilibrium_step() -> None:
    model = LoopedMLP(64, 16, 3, seed=0)
    found = profile(model, (X, Y), free_steps=12, nudged_steps=5)
    assert list(found.seconds) == ["free", "nudged", "gradient"]
    assert all(spent > 0 for spent in found.seconds.values())
    more = profile(model, (X, Y), free_steps=24, nudged_steps=5)
    # one step has the same operations each time: twelve steps more in the free phase alone
    counts = [{p: sum(r.calls for r in f.operations(p)) for p in f.seconds} for f in (found, more)]
    assert counts[1]["free"] - counts[0]["free"] >= 12
    assert counts[1]["nudged"] == counts[0]["nudged"]
    assert counts[1]["gradient"] == counts[0]["gradient"]


def test_products_are_counted_where_they_are_made() -> None:
    found = profile(ConvEqProp(1, [3, 4], 3, image_size=8, seed=0), (X, Y), free_steps=7)
    free = {row.operation: row for row in found.operations("free")}
    assert free["convolution"].calls >= 7 and free["convolution"].bytes > 0
    assert "free" in found.table() and found.rows[0].seconds >= found.rows[-1].seconds


def test_an_ordinary_network_goes_forward_and_back() -> None:
    model = ResNetCifar(8, 3, 1, 4, seed=0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = profile(model, (X, Y))
    assert list(found.seconds) == ["forward", "backward"]
    forward = {row.operation: row.calls for row in found.operations("forward")}
    backward = {row.operation: row.calls for row in found.operations("backward")}
    assert forward["convolution"] == backward["convolution_backward"] == 7
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_an_estimator_without_a_nudge_goes_back() -> None:
    model = LoopedMLP(64, 16, 3, seed=0)
    before = estimate_gradients(model, X, Y)
    assert list(profile(model, (X, Y), "implicit").seconds)[:2] == ["free", "backward"]
    after = estimate_gradients(model, X, Y)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "parameter_gradients" not in vars(model)


def test_what_cannot_be_profiled_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient must be 'autograd' for an ordinary network"):
        profile(ResNetCifar(8, 3, 1, 4, seed=0), (X, Y), "centered")
    with pytest.raises(ValueError, match="estimator must be one of"):
        profile(LoopedMLP(64, 16, 3, seed=0), (X, Y), "centred")
    with pytest.raises(TypeError, match="model must be a torch.nn.Module"):
        profile("model", (X, Y))  # type: ignore[arg-type]
