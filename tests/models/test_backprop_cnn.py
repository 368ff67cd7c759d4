"""BackpropCNN: the layers of ConvEqProp without the feedback, with equally many parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eqprop_lab import (
    BackpropCNN,
    ConvEqProp,
    EqPropTrainer,
    LoopedMLP,
    build_dataset,
    model_registry,
)
from eqprop_lab.models.backprop import geometry

CASES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1, 4, 10), {"image_size": 8}),
    ((1, [4, 5, 6], 10), {}),
    ((3, [4, 6], 7), {"image_size": [12, 16], "kernel_size": [3, 4], "strides": [1, 2]}),
    ((3, [4, 5, 6], 5), {"image_size": 16, "kernel_size": [3, 4, 2], "strides": 2}),
]


@pytest.mark.parametrize(("sizes", "shape"), CASES)
def test_it_has_the_layers_and_the_parameters_of_its_twin(
    sizes: tuple[Any, ...], shape: dict[str, Any]
) -> None:
    model = ConvEqProp(*sizes, **shape, seed=0)
    for twin in (BackpropCNN(*sizes, **shape, seed=0), BackpropCNN.like(model, seed=0)):
        assert sum(p.numel() for p in twin.parameters()) == sum(
            p.numel() for p in model.parameters()
        )
        assert (
            twin.input_shape == model.layers[0].linear.in_shape and twin.channels == model.channels
        )
    assert geometry(ConvEqProp(**geometry(model))) == geometry(model)


@pytest.mark.parametrize(("sizes", "shape"), CASES)
def test_with_equal_weights_it_is_the_net_without_feedback(
    sizes: tuple[Any, ...], shape: dict[str, Any]
) -> None:
    model = ConvEqProp(*sizes, **shape, use_spectral_norm=False, seed=1)
    twin = BackpropCNN.like(model)
    convolutions = [layer for layer in twin.layers if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        for convolution, layer in zip(convolutions, model.layers, strict=True):
            convolution.weight.copy_(layer.weight)
            convolution.bias.copy_(layer.bias.flatten())
        x = torch.randn(3, *twin.input_shape, generator=torch.Generator().manual_seed(0))
        drive = model.drive(x)
        forward = model.initial_state(drive)
        torch.testing.assert_close(twin.layers[:-2](x), forward[-1])
        fed_back = model.step(forward, model.drive(x))
    # the feedback makes the difference
    assert not torch.allclose(fed_back[0], forward[0], atol=1e-3)


def test_the_start_is_seeded_and_keeps_the_size_of_the_signal() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (BackpropCNN(1, 32, 10, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [[p.detach() for p in model.parameters()] for model in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])
    second = weights[0][2]
    assert float(second.std() * second[0].numel() ** 0.5) == pytest.approx(1.0, abs=0.03)
    assert float(weights[0][3].abs().max()) == 0.0


def test_it_trains_by_autograd() -> None:
    data = build_dataset("digits")
    trainer = EqPropTrainer(
        BackpropCNN(1, 4, 10, image_size=8, seed=0), "autograd", "adamw", 1e-2, progress=False
    )
    history = trainer.fit(
        data.train.batches(32, shuffle=True, seed=0), 2, data.validation.batches(180)
    )
    assert history["val_accuracy"][-1] > 0.8


def test_what_does_not_fit_is_named() -> None:
    model = BackpropCNN(1, 4, 10, image_size=8, seed=0)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\), got \(2, 64\)"):
        model.check_batch(torch.zeros(2, 64))
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.check_batch(torch.full((2, 1, 8, 8), torch.nan))
    with pytest.raises(TypeError, match="float64"):
        model.check_batch(torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    with pytest.raises(TypeError, match="model must be a ConvEqProp, got LoopedMLP"):
        BackpropCNN.like(LoopedMLP(4, 5, 2))
    with pytest.raises(ValueError, match="strides: 3 of layer 1"):
        BackpropCNN(1, 4, 10, strides=3)
    with pytest.raises(ValueError, match="output_dim must be an integer >= 1"):
        BackpropCNN(1, 4, 0)


def test_it_is_registered() -> None:
    made = model_registry.create(
        "BackpropCNN", input_channels=1, hidden_channels=4, output_dim=10, image_size=8
    )
    assert isinstance(made, BackpropCNN)
