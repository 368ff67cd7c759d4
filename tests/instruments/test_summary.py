"""Counts against products worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eqprop_lab import BackpropMLP, ConvEqProp, LoopedMLP, ResNetCifar, SmallCNN, count_parameters
from eqprop_lab.instruments.summary import summary

X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_flop_of_a_feed_forward_network() -> None:
    found = summary(BackpropMLP(64, 128, 10, seed=0), X)
    assert found.flop == 2 * (64 * 128 + 128 * 128 + 128 * 10) == 51_712
    assert [row.flop for row in found.layers if row.kind == "Linear"] == [16_384, 32_768, 2_560]
    assert found.steps is None and found.parameters == 26_122


def test_the_flop_of_a_relaxation_count_every_step() -> None:
    found = summary(LoopedMLP(64, 128, 10, seed=0, max_steps=30), X)
    assert found.flop == 2 * (64 * 128 + 30 * 128 * 128 + 128 * 10) == 1_001_984
    loop, read = found.layers[-2:]
    assert (loop.flop, read.flop) == (999_424, 2_560) and read.parameters == 128 * 10 + 10
    assert loop.parameters + read.parameters == found.parameters and found.steps == 30
    assert found.layers[0].shape == (128,)


def test_the_flop_of_convolutions() -> None:
    found = summary(SmallCNN(5, 1, (4, 6), seed=0), X)
    assert found.flop == 2 * (64 * 9 * 1 * 4 + 16 * 9 * 4 * 6 + 6 * 5)
    by_name = {row.name: row for row in found.layers}
    assert by_name["features.0"].shape == (4, 8, 8)
    assert by_name["features.0"].flop == 2 * 64 * 9 * 4
    assert sum(row.parameters for row in found.layers) == count_parameters(SmallCNN(5, 1, (4, 6)))


def test_resnet_20_takes_the_products_of_its_model_card() -> None:
    found = summary(ResNetCifar(20, 10), torch.rand(1, 3, 32, 32))
    assert found.flop / 2 == pytest.approx(40.55e6, abs=5e3)


def test_a_module_that_is_used_twice_is_one_row() -> None:
    shared = nn.Linear(64, 64)
    found = summary(nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared), X)
    (row,) = [row for row in found.layers if row.kind == "Linear"]
    assert row.flop == found.flop == 2 * 2 * 64 * 64 and row.parameters == 64 * 65


def test_a_table_and_a_model_that_is_left_as_it_was() -> None:
    model = ConvEqProp(1, [3, 4], 5, image_size=8, seed=0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    text = summary(model, X).table()
    assert "relaxation" in text and f"{count_parameters(model):,}" in text.splitlines()[-1]
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module"):
        summary("no", X)  # type: ignore[arg-type]
