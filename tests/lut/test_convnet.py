"""LUTs that slide: the same nodes at every place, counted as the text says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eqprop_lab import EqPropTrainer
from eqprop_lab.datasets import Split
from eqprop_lab.lut import ConvNet, ModelConfig
from eqprop_lab.lut.packed import PackedNetwork
from tests.lut.pieces import config, looked_up

X = torch.rand(6, 2, 6, 5, generator=torch.Generator().manual_seed(2))
SECTION: dict[str, Any] = {"image": [2, 6, 5], "channels": [7, 4], "kernel": 2, "padding": 1}


def made(**changes: Any) -> ConvNet:
    values = {"model_type": "convnet", "input_size": 60, "model_config": {**SECTION, "pool": 2}}
    model = ConvNet(config(**(values | changes)))
    model.fit_encoder(X)
    return model


def slowly(model: ConvNet, x: Tensor) -> Tensor:
    """Outputs of the last layer, a place at a time."""
    section = model.config.model_config
    kernel, padding, pool = (section[key] for key in ("kernel", "padding", "pool"))
    depth = len(section["channels"])
    height, width = x.shape[2:]
    bits = model.encode(x).view(len(x), 2, height, width, 3)
    image = np.moveaxis(bits.numpy(), 4, 2).reshape(len(x), 6, height, width)
    for layer in model.lut_layers()[:depth]:
        around = np.pad(image, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        rows, columns = (side - kernel + 1 for side in around.shape[2:])
        maps = np.zeros((len(x), layer.output_size, rows, columns))
        for i in range(rows):
            for j in range(columns):
                window = around[:, :, i : i + kernel, j : j + kernel].reshape(len(x), -1)
                maps[:, :, i, j] = looked_up([layer], torch.from_numpy(window)).numpy()
        rows, columns = rows // pool, columns // pool
        image = np.zeros((len(x), layer.output_size, rows, columns))
        for i in range(rows):
            for j in range(columns):
                block = maps[:, :, pool * i : pool * (i + 1), pool * j : pool * (j + 1)]
                image[:, :, i, j] = block.any((2, 3))
    flat = torch.from_numpy(image.reshape(len(x), -1))
    return looked_up(model.lut_layers()[depth:], flat)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model_config": {**SECTION, "pool": 1, "padding": 0}},
        {"layer_type": "learnable", "node_type": "dwn"},
    ],
    ids=str,
)
def test_counts_are_those_of_nodes_at_every_place(changes: dict[str, Any]) -> None:
    model = made(**changes).eval()
    with torch.no_grad():
        wanted = slowly(model, X).view(6, 3, 4).sum(2).float() / model.head.tau
        torch.testing.assert_close(model(X), wanted)
        assert torch.equal(model(X.flatten(1)), model(X))
    assert float(wanted.std()) > 0.1


def test_a_shifted_image_has_shifted_maps() -> None:
    model = made(model_config={**SECTION, "pool": 1, "padding": 0, "channels": [7]}).eval()
    image = model._image(model.encode(X))
    with torch.no_grad():
        maps = model._convolved(model.layers[0], image)
        moved = model._convolved(model.layers[0], image.roll(1, 3))
    assert torch.equal(maps[..., :-1], moved[..., 1:]) and 0.1 < float(maps.mean()) < 0.9


@pytest.mark.parametrize("node", ["probabilistic", "dwn"])
def test_it_learns_and_travels(node: str, tmp_path: Path) -> None:
    model = made(node_type=node, layer_type="topk")
    before = [table.clone() for table in model.truth_tables()]
    trainer = EqPropTrainer(model, "autograd", lr=0.1, progress=False)
    history = trainer.fit(Split(X, torch.arange(6) % 3).batches(6), 15)
    assert history["train_loss"][-1] < history["train_loss"][0]
    changed = [not torch.equal(a, b) for a, b in zip(before, model.truth_tables(), strict=True)]
    assert all(changed)
    fixed = model.with_fixed_wiring().eval()
    fixed.save_weights(str(tmp_path / "one.pth"), half=True)
    again = ConvNet(fixed.get_config())
    again.load_weights(str(tmp_path / "one.pth"))
    with torch.no_grad():
        assert torch.equal(again.eval()(X), model.eval()(X))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "must have image"),
        ({"image": [2, 6, 5]}, "must have channels"),
        ({"image": [60], "channels": [3]}, "channels, height, width"),
        ({"image": [2, 6, 4], "channels": [3]}, "48 pixels, input_size is 60"),
        ({**SECTION, "channels": [0]}, r"channels\[0\]"),
        ({**SECTION, "channels": 3}, "list of integers"),
        ({**SECTION, "kernel": 0}, "kernel"),
        ({**SECTION, "pool": 4, "channels": [3, 3]}, "nothing is left"),
        ({**SECTION, "kernels": 3}, "did you mean 'kernel'"),
    ],
)
def test_what_is_no_convnet_is_named(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(model_type="convnet", input_size=60, model_config=section)


def test_others_take_no_section_and_cannot_pack_a_convnet() -> None:
    with pytest.raises(ValueError, match="model_config must be empty for 'feedforward'"):
        config(model_config={"image": [1, 2, 6]})
    with pytest.raises(TypeError, match="model must be a SimpleFeedForward, got ConvNet"):
        PackedNetwork(made())  # type: ignore[arg-type]


def test_a_file_says_the_same(tmp_path: Path) -> None:
    told = made().config
    assert told.get_total_params_estimate() == 16 * (7 + 4 + 20 + 12)
    assert ModelConfig.from_yaml(told.to_yaml(tmp_path / "one.yaml")) == told
