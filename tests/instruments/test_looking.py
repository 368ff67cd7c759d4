"""Feature maps, saliency, Grad-CAM and rollout beside captum, dense algebra and hand-made maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import (
    ConvEqProp,
    DenseNet3,
    FullEqPropLM,
    LoopedMLP,
    ResNetCifar,
    SmallCNN,
    TransformerEqProp,
    relax,
)
from eqprop_lab.instruments.looking import (
    attention_maps,
    attention_rollout,
    feature_maps,
    grad_cam,
    map_layers,
    saliency,
)

X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
C = torch.tensor([2, 0, 4])
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResNetCifar(8, 5, 1, 4, seed=0),
    "dense": lambda: DenseNet3(22, 5, 4, in_channels=1, seed=0),
    "small": lambda: SmallCNN(5, 1, (4, 6), batch_norm=False, dropout=0.5, seed=0),
}
LAYERS = {"resnet": "features.4.body.3", "dense": "features.6", "small": "features.3"}


def conv(steps: int = 60) -> ConvEqProp:
    return ConvEqProp(1, [3, 4], 5, image_size=8, gamma=0.3, seed=0, max_steps=steps)


@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_and_saliency_are_those_of_captum(name: str) -> None:
    attribution = pytest.importorskip("captum.attr")
    model = NETWORKS[name]()
    layer = model.get_submodule(LAYERS[name])
    cam = grad_cam(model, X, C, LAYERS[name])
    slope = saliency(model, X, C)
    assert model.training  # as it was
    model.eval()
    theirs = attribution.LayerGradCam(model, layer).attribute(X, C, relu_attributions=True)
    torch.testing.assert_close(cam, theirs[:, 0].detach(), rtol=0, atol=1e-6)
    assert float(cam.max()) > 0
    theirs = attribution.Saliency(model).attribute(X.clone().requires_grad_(), C)
    torch.testing.assert_close(slope, theirs, rtol=0, atol=1e-6)


def test_saliency_goes_through_a_relaxation() -> None:
    attribution = pytest.importorskip("captum.attr")
    model = conv()
    theirs = attribution.Saliency(model).attribute(X.clone().requires_grad_(), C)
    torch.testing.assert_close(saliency(model, X, C), theirs, rtol=0, atol=1e-6)
    # and is the slope of the settled answer, by differences
    model, x = conv().double(), X.double()
    found = saliency(model, x, C)
    step = torch.zeros_like(x)
    step[1, 0, 3, 4] = 1e-5
    with torch.no_grad():
        change = (model(x + step) - model(x - step))[1, C[1]] / 2e-5
    assert float(found[1, 0, 3, 4]) == pytest.approx(abs(float(change)), rel=1e-6)


@pytest.mark.parametrize("block", [0, 1])
def test_grad_cam_of_an_equilibrium_is_its_answer_to_a_held_push(block: int) -> None:
    """dz/de = dz/ds (I - J)^-1 with the dense Jacobian of one step of all blocks at once."""
    model, x = conv(200).double(), X[:1].double()
    state = relax(model, x, max_steps=2000, tol=1e-13).state
    drive = tuple(part.detach() for part in model.drive(x))
    shapes = [part.shape for part in state]

    def parts(flat: Tensor) -> tuple[Tensor, ...]:
        pieces = flat.split([s.numel() for s in shapes])
        return tuple(p.reshape(s) for p, s in zip(pieces, shapes, strict=True))

    def once(flat: Tensor) -> Tensor:
        force = model.force(parts(flat), drive)
        return torch.cat([model.activate(f).flatten() for f in force])

    flat = torch.cat([part.flatten() for part in state])
    jacobian = torch.autograd.functional.jacobian(once, flat)
    slopes = torch.autograd.functional.jacobian(lambda f: model.readout(parts(f))[0], flat)
    identity = torch.eye(len(flat), dtype=torch.float64)
    expected = []
    for slope in slopes:
        push = parts(torch.linalg.solve((identity - jacobian).T, slope))[block]
        weighted = push.mean((2, 3), keepdim=True) * state[block]
        expected.append(weighted.sum(1).relu()[0])
    found = grad_cam(model, x.expand(5, 1, 8, 8), torch.arange(5), f"state {block}")
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-7, atol=1e-12)
    assert float(found.max()) > 0


def test_the_maps_of_an_equilibrium_are_its_settled_state() -> None:
    model = conv()
    found = feature_maps(model, X)
    state = relax(model, X).state
    assert list(found) == ["state 0", "state 1"] == map_layers(model, X)
    assert all(torch.equal(a, b) for a, b in zip(found.values(), state, strict=True))
    assert feature_maps(LoopedMLP(64, 5, 3, seed=0), X)["state 0"].shape == (3, 5)


def test_the_maps_of_a_cnn_are_what_its_modules_give() -> None:
    model = SmallCNN(5, 1, (4, 6), seed=0)
    found = feature_maps(model, X)
    model.eval()
    with torch.no_grad():
        wanted = model.features[0](X)
        assert torch.equal(found["features.0"], wanted)
        torch.testing.assert_close(found["features"], model.forward_features(X))
    assert "head" not in found and list(feature_maps(model, X, ["head"])) == ["head"]
    assert not any(m._forward_hooks for m in model.modules())


def test_the_sign_of_a_saliency_is_the_networks_own_class_unless_one_is_given() -> None:
    model = NETWORKS["resnet"]().eval()
    said = model(X).argmax(1)
    assert torch.equal(saliency(model, X), saliency(model, X, said))
    assert torch.equal(grad_cam(model, X), grad_cam(model, X, said))


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: grad_cam(NETWORKS["small"](), X, C, "featurs"), "did you mean 'features'"),
    (lambda: grad_cam(NETWORKS["small"](), X, C, "head"), "'head' has none"),
    (lambda: grad_cam(LoopedMLP(64, 5, 3, seed=0), X), "must have a layer with maps"),
    (lambda: grad_cam(conv(), X, C, "state 2"), "layer must be one of 'state 0'"),
    (lambda: saliency(conv(), X, torch.tensor([0, 1, 5])), "classes must lie in 0 to 4"),
    (lambda: saliency(conv(), X, torch.tensor([0, 1])), "one for each of 3 samples"),
    (lambda: saliency(conv(), X, torch.rand(3)), "classes must be a tensor of integers"),
    (lambda: feature_maps(lambda x: x, X), "model must be a torch.nn.Module"),  # type: ignore
    (lambda: attention_maps(conv(), X), "model must be one whose loop"),  # type: ignore
    (lambda: attention_rollout([]), "maps must hold one tensor a layer"),
    (lambda: attention_rollout([torch.rand(1, 2, 3, 4)]), r"maps\[0\] must have the shape"),
    (lambda: attention_rollout([torch.rand(1, 2, 3, 3)]), r"maps\[0\] must have rows"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_what_cannot_be_looked_at_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("kind", [TransformerEqProp, FullEqPropLM])
def test_the_rollout_of_a_model_is_a_causal_share(kind: Any) -> None:
    model = (
        kind(7, 8, 3, 6, 2, seed=0) if kind is TransformerEqProp else kind(7, 8, 3, 2, 6, seed=0)
    )
    tokens = torch.arange(12).reshape(2, 6) % 7
    maps = attention_maps(model, tokens)
    assert maps.shape == (3, 2, 2, 6, 6)
    rolled = attention_rollout(maps)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 6), atol=1e-6, rtol=0)
    assert float(rolled.triu(1).abs().max()) == 0
    assert torch.equal(rolled[:, 0, 0], torch.ones(2))  # nothing before the first


def test_rollout_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(1, 1, 2, 2)
    second = torch.stack([torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 1.0]])])[None]
    # (A_1 + I)/2 = [[1, 0], [1/2, 1/2]]; mean of heads [[1/2, 1/2], [0, 1]] -> [[3/4, 1/4], [0, 1]]
    wanted = torch.tensor([[[0.875, 0.125], [0.5, 0.5]]])
    assert torch.equal(attention_rollout([first, second]), wanted)
