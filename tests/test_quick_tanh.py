"""tanh by either way: near the float64 one, in place, and small values to their last digits."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab import quick_tanh
from eqprop_lab.equilibrium.activations import small_tanh_, tanh, tanh_, tanh_from_scaled, tanh_gain

A = torch.cat([torch.linspace(-30, 30, 60_001), torch.tensor([0.0, 1e-30, -1e-8])])


@pytest.fixture(params=quick_tanh.WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(quick_tanh, "WAY", request.param)
    monkeypatch.setattr(quick_tanh, "GAIN", quick_tanh.GAINS[request.param])
    return str(request.param)


def test_close_to_the_exact_one(way: str) -> None:
    exact, allowed = A.double().tanh(), 2e-7
    out, inside = torch.empty_like(A), A.clone()
    for got, most in ((tanh(A), 1e-7), (tanh(A, out), 1e-7), (tanh_(inside), allowed)):
        assert float((got.double() - exact).abs().max()) < most
    assert tanh(A, out) is out and tanh_(inside) is inside
    scaled = A * tanh_gain(A)
    assert tanh_from_scaled(scaled) is scaled
    assert float((scaled.double() - exact).abs().max()) < allowed
    assert float(tanh_(torch.zeros(1))) == 0.0 and bool(tanh_(torch.tensor([torch.nan])).isnan())


@pytest.mark.parametrize("largest", [0.19, 3.0])
def test_small_values_keep_their_digits(way: str, largest: float) -> None:
    values = largest * torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) - 0.01
    exact = values.double().tanh()
    got = values.to(memory_format=torch.channels_last)
    error = ((small_tanh_(got).double() - exact) / exact).abs()
    assert float(error.max()) < 3e-7


def test_other_tensors_take_torchs() -> None:
    values = A.double()
    assert tanh_gain(values) == 1.0 and torch.equal(tanh(values), torch.tanh(values))
    graph = A.clone().requires_grad_()
    tanh(graph).sum().backward()
    assert graph.grad is not None and tanh_gain(graph) == 1.0


def test_the_choice_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in quick_tanh.WAYS:
        monkeypatch.setattr(quick_tanh, "WAY", name)
        assert ("it has AVX-512" in quick_tanh.chosen()) == (name == quick_tanh.NUMPY)
