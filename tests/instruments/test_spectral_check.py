"""`verify_spectral_norm`: promises kept are reported, promises broken are raised, nothing is
changed.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from eqprop_lab import ConvEqProp, LoopedMLP, verify_spectral_norm
from eqprop_lab.equilibrium.linear_maps import ConvMap
from eqprop_lab.equilibrium.norms import (
    conv_bound,
    conv_norm,
    exact_conv_norm,
    exact_norm,
    operator_norm,
)
from eqprop_lab.equilibrium.spectral import Bounded, BoundedNorm, bounded_weights
from eqprop_lab.instruments.spectral_check import SpectralNormError
from eqprop_lab.models import BackpropCNN, DeepEqProp
from eqprop_lab.models.layered import LayeredModel
from eqprop_lab.models.single_state import SingleStateConv


class Capped(nn.Module):
    """A parametrisation that only claims a cap."""

    def __init__(self, cap: float | None) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight


def conv(cap: float | None, scale: float, **geometry: object) -> nn.Conv2d:
    """A 3x3 smoothing kernel of 2 channels with sum 9 * scale."""
    layer = nn.Conv2d(2, 2, 3, bias=False, **geometry)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.eye(2)[:, :, None, None].expand(2, 2, 3, 3))
    if cap is not None:
        parametrize.register_parametrization(layer, "weight", Capped(cap))
    return layer


def test_a_looped_mlp_keeps_its_promise() -> None:
    model = LoopedMLP(4, 16, 2, rho=0.8, seed=0)
    table = verify_spectral_norm(model)
    assert [row.layer for row in table] == ["W_in", "W_rec", "W_out"] and len(table) == 3
    row = table["W_rec"]
    assert (row.kind, row.cap, row.method, row.holds) == ("Linear", 0.8, "exact", True)
    assert row.norm == row.bound == exact_norm(model.W_rec.weight) < 0.8
    assert table["W_in"].cap is None and table["W_in"].holds is None


def test_a_broken_promise_is_named_with_layer_norm_and_cap() -> None:
    model = LoopedMLP(4, 16, 2, rho=0.8, use_spectral_norm=False, seed=0)
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original.mul_(4.0)
    parametrize.register_parametrization(model.W_rec, "weight", Capped(0.8))
    with pytest.raises(
        SpectralNormError, match=r"W_rec \(Linear\) promises a norm of at most 0.8 and has norm "
    ) as e:
        verify_spectral_norm(model)
    assert e.value.table["W_rec"].holds is False
    assert f"has norm {exact_norm(model.W_rec.weight):.6f}" in str(e.value)


def test_a_model_without_promises_reports_norms_only() -> None:
    table = verify_spectral_norm(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    assert [(row.layer, row.holds) for row in table] == [("0", None), ("2", None)]
    assert "no promise" in str(table) and "yes" not in str(table)
    assert verify_spectral_norm(LoopedMLP(4, 8, 2, use_spectral_norm=False))["W_rec"].cap is None


def test_a_convolution_is_certified_for_every_size_and_measured_at_one() -> None:
    model = nn.Sequential(conv(0.95, 0.1, padding=1), nn.Tanh(), conv(None, 0.2, stride=2))
    row = verify_spectral_norm(model)["0"]
    assert (row.norm, row.method, row.holds) == (None, "certified", True)
    assert row.bound == conv_bound(model[0].weight)
    measured = verify_spectral_norm(model, (2, 11, 9))
    assert (measured["0"].method, measured["0"].holds) == ("exact", True)
    assert measured["0"].norm == pytest.approx(
        conv_norm(model[0].weight, (11, 9), padding=1), rel=1e-9
    )
    assert measured["0"].norm < row.bound
    assert measured["2"].norm == pytest.approx(
        conv_norm(model[2].weight, (11, 9), stride=2), rel=1e-9
    )


def test_a_cap_between_norm_and_bound_needs_the_image_size() -> None:
    model = nn.Sequential(conv(0.9, 0.1, padding=1))
    with pytest.raises(SpectralNormError, match=r"only 0\.90873\d is certified; pass input_shape"):
        verify_spectral_norm(model)
    assert verify_spectral_norm(model, (2, 8, 8))["0"].holds is True


def test_the_flattened_norm_of_torch_is_a_broken_promise() -> None:
    layer = parametrizations.spectral_norm(conv(None, 0.7, padding=1))
    model = nn.Sequential(layer).train()
    with pytest.raises(
        SpectralNormError, match=r"0 \(Conv2d\) promises a norm of at most 1 and has norm 2\.9"
    ):
        verify_spectral_norm(model, (2, 28, 28))
    assert layer.training and layer.parametrizations.weight[0].training


def test_verifying_changes_nothing() -> None:
    # Square weights: torch's estimate is 1 only after many more power iterations, and reading moves
    # it in training.
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    parametrizations.spectral_norm(model[0])
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(40):
        _ = model[0].weight
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert verify_spectral_norm(model)["0"].norm == pytest.approx(1.0, abs=1e-6)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model[0].training and not model[1].training


def test_a_parametrised_weight_of_an_own_module_is_found() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Module()
            self.inner.W = nn.Parameter(2 * torch.eye(4))
            parametrize.register_parametrization(self.inner, "W", BoundedNorm(self.inner.W, 0.5))

    row = verify_spectral_norm(Own())["inner.W"]
    assert (row.kind, row.cap, row.method) == ("Parameter", 0.5, "exact")
    assert 0.4 < row.norm < 0.5


def test_a_promise_that_cannot_be_checked_is_not_kept() -> None:
    model = nn.Sequential(conv(0.95, 0.1, padding=1, padding_mode="reflect"))
    with pytest.raises(SpectralNormError, match="cannot be checked"):
        verify_spectral_norm(model, (2, 8, 8))
    free = verify_spectral_norm(nn.Sequential(conv(None, 0.1, padding=1, padding_mode="reflect")))[
        "0"
    ]
    assert (free.method, free.bound) == ("unchecked", math.inf)


def test_weights_that_are_not_finite_keep_no_promise() -> None:
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Capped(0.9))
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 0] = math.nan
    with pytest.raises(SpectralNormError, match="has norm nan"):
        verify_spectral_norm(nn.Sequential(layer))


def test_the_table_is_aligned() -> None:
    lines = str(verify_spectral_norm(LoopedMLP(4, 16, 2, seed=0))).splitlines()
    assert lines[0].split() == ["layer", "kind", "cap", "norm", "bound", "method", "holds"]
    assert len(lines) == 4
    column = lines[0].index("method")
    assert all(line[column : column + 5] == "exact" for line in lines[1:])
    assert all(line == line.rstrip() for line in lines)


MODELS = {
    "looped": lambda: LoopedMLP(64, 16, 3, seed=0),
    "conv": lambda: ConvEqProp(1, [4, 6, 8], 3, gamma=1.0, rho=0.99, image_size=8, seed=0),
    "large": lambda: ConvEqProp(1, [48, 64], 3, image_size=28, seed=0),
    "deep": lambda: DeepEqProp(64, [12, 10, 8], 3, gamma=1.0, seed=0),
    "single": lambda: SingleStateConv(1, 4, 3, image_size=8, seed=0),
    "backprop": lambda: BackpropCNN(1, [4, 6], 3, image_size=8, seed=0),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_verified(name: str) -> None:
    model = MODELS[name]()
    table = verify_spectral_norm(model)
    promised = [row for row in table if row.cap is not None]
    assert len(promised) == len(bounded_weights(model)) and all(row.holds for row in promised)
    assert all(row.norm is None or row.norm <= row.bound for row in table)
    if isinstance(model, LayeredModel):
        assert [row.kind for row in table][:-1] == [
            type(layer.linear).__name__ for layer in model._layers()
        ]
        assert [row.bound for row in promised] == model.layer_norms()


@pytest.mark.parametrize("name", ["conv", "large", "deep", "single"])
def test_a_map_that_only_claims_a_cap_is_found(name: str) -> None:
    model = MODELS[name]()
    weight, *_ = bounded_weights(model)
    module = model.get_submodule(weight[0].rpartition(".")[0])
    parametrize.register_parametrization(module, "weight", Capped(0.1))
    with pytest.raises(
        SpectralNormError, match=r"promises a norm of at most 0\.1(,| and has norm)"
    ) as error:
        verify_spectral_norm(model)
    assert ("its norm is at least 2" in str(error.value)) is (name == "large")
    assert any(row.cap == 0.1 and row.holds is False for row in error.value.table)


def hiding(channels: int, start: torch.Tensor) -> nn.Conv2d:
    """A 1x1 kernel that halves everything, but for one direction, orthogonal to `start`, that it
    stretches by 1.5.
    """
    basis = torch.linalg.qr(torch.cat([start.double(), torch.ones(1, channels).double()]).T).Q
    away = basis[:, -1]
    layer = nn.Conv2d(channels, channels, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_((0.5 * torch.eye(channels) + torch.outer(away, away))[:, :, None, None])
    return layer


def test_a_kernel_made_to_hide_from_a_fixed_start_does_not_hide() -> None:
    # On images of one pixel a row of the start is a vector of channels.
    start = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = hiding(16, start)
    assert (
        operator_norm(
            lambda rows: rows @ (layer.weight[:, :, 0, 0] @ layer.weight[:, :, 0, 0]).detach(), 16
        )
        < 0.6
    )
    assert conv_norm(layer.weight, 1) == pytest.approx(1.5, rel=1e-9)
    parametrize.register_parametrization(layer, "weight", Capped(0.9))
    for shape in (None, (16, 1, 1), (16, 5, 5)):
        with pytest.raises(SpectralNormError, match=r"1\.5"):
            verify_spectral_norm(nn.Sequential(layer), shape)
    assert Bounded(layer.weight, ConvMap((16, 16), (1, 1), 1, 1), 0.9).sigma == pytest.approx(
        1.5, rel=1e-9
    )


def test_a_value_from_below_is_shown_and_does_not_decide() -> None:
    layer = conv(0.905, 0.1, padding=1)
    small = verify_spectral_norm(nn.Sequential(layer), (2, 20, 20))["0"]
    assert (small.method, small.holds) == ("exact", True)
    with pytest.raises(
        SpectralNormError, match=r"only 0\.90\d+ is certified; no norm below it decides"
    ) as error:
        verify_spectral_norm(nn.Sequential(layer), (2, 40, 40))
    row = error.value.table["0"]
    assert row.method == "certified" and row.norm is not None and row.norm < 0.905 < row.bound


@pytest.mark.parametrize(
    "geometry", [{}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}]
)
def test_the_whole_matrix_lies_just_above_what_comes_from_below(geometry: dict[str, int]) -> None:
    kernel = torch.randn(
        6, 4 // geometry.get("groups", 1), 3, 3, generator=torch.Generator().manual_seed(1)
    )
    exact, below = (
        exact_conv_norm(kernel, (9, 7), **geometry),
        conv_norm(kernel, (9, 7), **geometry),
    )
    assert exact is not None and below <= exact == pytest.approx(below, rel=1e-9)
    assert exact_conv_norm(kernel, 64, **geometry) is None
