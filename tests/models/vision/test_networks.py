"""DenseNet3, ResNetCifar, SmallCNN: their exact sizes, their layers, what they refuse."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab import (
    DenseNet3,
    EqPropTrainer,
    ResNetCifar,
    SmallCNN,
    build_dataset,
    count_parameters,
    model_registry,
)
from eqprop_lab.models.vision import resnet8, resnet20
from eqprop_lab.models.vision.base import VisionModel
from eqprop_lab.models.vision.resnet import NAMED, Subsample
from eqprop_lab.training import BatchError

# He et al. (option A), two model cards (B); Huang et al. and the implementation users know
RESNETS = {8: 75_290, 14: 172_506, 20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018}
RESNETS |= {110: 1_727_962}
DENSE: list[tuple[tuple[Any, ...], int]] = [
    ((100, 10), 769_162),
    ((40, 10, 12), 176_122),
    ((40, 10, 12, 1.0, False), 1_059_298),
    ((22, 10, 8), 32_318 + 9 * 16 * 2),
]
SMALL: dict[str, Callable[[], VisionModel]] = {
    "resnet A": lambda: ResNetCifar(14, 5, 1, 4, seed=0),
    "resnet B": lambda: ResNetCifar(14, 5, 1, 4, "B", seed=0),
    "dense": lambda: DenseNet3(22, 5, 4, in_channels=1, seed=0),
    "plain dense": lambda: DenseNet3(13, 5, 4, 1.0, False, 0.1, in_channels=1, seed=0),
    "small": lambda: SmallCNN(5, 1, (4, 6), seed=0),
    "small without norm": lambda: SmallCNN(5, 1, [4, 6, 8], 5, False, 0.2, seed=0),
}


@pytest.mark.parametrize("depth", RESNETS)
def test_a_resnet_has_the_parameters_of_the_paper(depth: int) -> None:
    assert count_parameters(ResNetCifar(depth, 10)) == RESNETS[depth]
    # one input channel instead of three: 2 x 9 x 16 weights less
    named = model_registry.create(f"resnet{depth}", in_channels=1)
    assert count_parameters(named) == RESNETS[depth] - 288
    assert isinstance(named, ResNetCifar) and named.depth == depth


@pytest.mark.parametrize(("arguments", "parameters"), DENSE, ids=[str(a) for a, _ in DENSE])
def test_a_densenet_has_the_parameters_of_its_model(
    arguments: tuple[Any, ...], parameters: int
) -> None:
    model = DenseNet3(*arguments)
    assert count_parameters(model) == parameters
    grey = DenseNet3(*arguments, in_channels=1)
    assert parameters - count_parameters(grey) == 2 * 9 * 2 * model.growth_rate


def test_shortcut_b_is_a_convolution_with_batch_norm() -> None:
    assert count_parameters(resnet20(shortcut="B")) == 272_474
    # two 1x1 convolutions, 16 -> 32 and 32 -> 64, each with a scale and a shift a map
    assert 272_474 - 269_722 == 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_shortcut_a_takes_every_second_pixel_and_adds_empty_maps() -> None:
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    skipped = Subsample(widen=True)(x)
    assert skipped.shape == (1, 4, 2, 2)
    assert skipped[0, 1].tolist() == [[0, 2], [8, 10]] and not skipped[0, [0, 3]].any()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_the_head_reads_the_mean_of_the_last_maps(name: str, size: tuple[int, int]) -> None:
    model = SMALL[name]().eval()
    x = torch.rand(3, 1, *size)
    with torch.no_grad():
        maps = model.forward_features(x)
        assert maps.shape[:2] == (3, model.num_features)
        expected = maps.flatten(2).mean(2) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("name", SMALL)
def test_a_new_head_leaves_the_maps_and_has_the_new_classes(name: str) -> None:
    model = SMALL[name]()
    before = copy.deepcopy(model.features.state_dict())
    model.reset_classifier(7, seed=1)
    assert model.num_classes == 7 and model.eval()(torch.rand(2, 1, 8, 8)).shape == (2, 7)
    after = model.features.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(ValueError, match="num_classes must be an integer >= 1, got 0"):
        model.reset_classifier(0)


def test_a_dense_layer_keeps_all_maps_before_it() -> None:
    """The input of a block is found again at the front of its output, untouched."""
    block = DenseNet3(13, 2, 4, 1.0, False, in_channels=1, seed=0).eval().features[1:4]
    x = torch.rand(2, 8, 6, 6)
    out = block(x)
    assert out.shape[1] == 8 + 3 * 4 and torch.equal(out[:, :8], x)


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_decides_the_weights_and_leaves_the_generator(name: str) -> None:
    torch.manual_seed(3)
    first = SMALL[name]()
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    pairs = zip(first.parameters(), SMALL[name]().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_without_dropout_nothing_is_drawn() -> None:
    """Two training passes are equal, so a run can be repeated to the bit."""
    model = DenseNet3(22, 5, 4, in_channels=1, seed=0).train()
    state = torch.get_rng_state()
    model(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.get_rng_state())
    assert not [m for m in model.modules() if isinstance(m, nn.Dropout)]


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: ResNetCifar(18, 10), r"depth must be 6n \+ 2 .*, got 18"),
    (lambda: ResNetCifar(2, 10), r"depth must be 6n \+ 2 .*, got 2"),
    (lambda: ResNetCifar(20, 10, shortcut="C"), "shortcut must be one of 'A', 'B', got 'C'"),
    (lambda: DenseNet3(41, 10), r"depth must be 6n \+ 4 with bottleneck .*, got 41"),
    (lambda: DenseNet3(37, 10), r"depth must be 6n \+ 4 with bottleneck .*, got 37"),
    (lambda: DenseNet3(4, 10), "depth must be 6n"),
    (lambda: DenseNet3(41, 10, bottleneck=False), r"depth must be 3n \+ 4 without .*, got 41"),
    (lambda: DenseNet3(40, 10, reduction=0), "reduction must be .* > 0 and <= 1"),
    (lambda: DenseNet3(40, 10, dropRate=1), "dropRate must be .* >= 0 and < 1"),
    (lambda: SmallCNN(10, kernel_size=4), "kernel_size must be odd, got 4"),
    (lambda: SmallCNN(10, channels=[]), "channels must be"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_what_is_no_such_network_is_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()


def test_images_that_do_not_fit_are_refused_before_work() -> None:
    trainer = EqPropTrainer(resnet8(in_channels=1, seed=0), "autograd")
    with pytest.raises(BatchError, match=r"x must have the shape \(batch, 1, height, width\)"):
        trainer.evaluate([(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))])
    dense = DenseNet3(22, 10, 4, in_channels=1, seed=0)
    with pytest.raises(ValueError, match=r"height and width >= 4, got \(2, 1, 8, 3\)"):
        dense.check_batch(torch.rand(2, 1, 8, 3))


@pytest.mark.parametrize("name", SMALL)
def test_it_learns_and_a_checkpoint_holds_its_statistics(name: str, tmp_path: Any) -> None:
    """Batch norm keeps means and variances: an answer in eval mode depends on them."""
    split = build_dataset("digits").train
    rows = split.y < 5
    x, y = split.x[rows][:64], split.y[rows][:64]
    model = SMALL[name]()
    trainer = EqPropTrainer(model, "autograd", lr=0.03)
    history = trainer.fit([(x, y)], epochs=12)
    assert history["train_loss"][-1] < 0.9 * history["train_loss"][0]
    path = trainer.save_checkpoint(tmp_path / "it.pt")
    other = EqPropTrainer(SMALL[name](), "autograd", lr=0.03)
    other.load_checkpoint(path)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), other.model.eval()(x))


def test_the_names_of_the_registry_are_networks() -> None:
    names = {"DenseNet3", "ResNetCifar", "SmallCNN", "densenet3"}
    names |= {build.__name__ for build in NAMED}
    assert names <= set(model_registry.list_models())
    dense = model_registry.create("densenet3", depth=22, growth_rate=8, in_channels=1)
    assert isinstance(dense, DenseNet3) and count_parameters(dense) == 32_318
    with pytest.raises(ValueError, match="did you mean 'width'"):
        model_registry.create("resnet20", widht=8)
    assert ResNetCifar(np.int64(8), np.int64(4)).num_classes == 4  # type: ignore[arg-type]
