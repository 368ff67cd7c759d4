"""The explorer that looks inside: its pictures are those of the instruments, its sentence says
them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab import ConvEqProp, LoopedMLP, ResNetCifar
from eqprop_lab.instruments.looking import feature_maps, grad_cam, saliency
from eqprop_lab.notebook.explorers.looking_inside import (
    CAM,
    METHODS,
    SALIENCY,
    STRONGEST,
    LookingInside,
)

X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([2, 0, 1])


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    settling = ConvEqProp(1, [3, 4], 3, image_size=8, gamma=0.3, seed=0)
    return {"cnn": ResNetCifar(8, 3, 1, 4, seed=0), "settles": settling}


@pytest.fixture(scope="module")
def inside(networks: dict[str, torch.nn.Module]) -> LookingInside:
    return LookingInside(networks, X, Y)


@pytest.mark.parametrize("network", ["cnn", "settles"])
@pytest.mark.parametrize("method", METHODS)
def test_a_picture_is_what_the_instrument_finds(
    inside: LookingInside, networks: dict[str, torch.nn.Module], network: str, method: str
) -> None:
    inside.set(image=1, network=network, layer=2, method=method)
    model, one = networks[network], X[1:2]
    name = inside.layers[network][1]
    if method == SALIENCY:
        wanted = saliency(model, one)[0, 0]
    elif method == CAM:
        wanted = grad_cam(model, one, layer=name)[0]
    else:
        maps = feature_maps(model, one, [name])[name][0].abs()
        wanted = max(maps, key=lambda m: float(m.square().sum()))
    peak = float(wanted.max())
    assert inside.data.peak == pytest.approx(peak)
    np.testing.assert_allclose(inside.data.found * (peak or 1), wanted.detach(), atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(inside.data.likely, model.eval()(one).softmax(1)[0], atol=1e-6)


def test_the_sentence_says_where_and_how_sure(inside: LookingInside) -> None:
    inside.set(image=2, network="settles", layer=1, method=STRONGEST)
    text = inside.describe(inside.data, **inside.values)
    best = int(inside.data.likely.argmax())
    assert "settles looks at image 2, class 1: strongest map in state 0" in text
    assert f"It says {best} with probability {inside.data.likely[best]:.2f}" in text
    row, column = np.unravel_index(inside.data.found.argmax(), (8, 8))
    assert f"row {row + 1} of 8, column {column + 1} of 8" in text


def test_a_layer_that_a_network_does_not_have_is_its_last(inside: LookingInside) -> None:
    inside.set(network="settles", layer=5, method=CAM)
    assert inside.data.layer == inside.layers["settles"][-1] and not inside.errors


def test_what_cannot_be_shown_is_refused(networks: dict[str, torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match="networks must hold at least one network"):
        LookingInside({}, X, Y)
    with pytest.raises(ValueError, match="must have layers with maps, 'flat' has none"):
        LookingInside({"flat": LoopedMLP(64, 5, 3, seed=0)}, X, Y)
    with pytest.raises(ValueError, match="with a label each"):
        LookingInside(networks, X, Y[:2])
