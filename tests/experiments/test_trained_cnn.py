"""A stored convolutional network: its answers, its batch statistics, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import (
    EqPropTrainer,
    ResNetCifar,
    build_dataset,
    load_trained,
    save_trained,
    trained_info,
)
from eqprop_lab.experiments import trained
from eqprop_lab.experiments.rebuilding import KINDS
from tests.experiments.test_trained import INFO

X, Y = torch.rand(6, 2, 9, 9, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
KIND = KINDS["ResNetCifar"]


def made(shortcut: str = "A") -> ResNetCifar:
    return ResNetCifar(14, 3, 2, 4, shortcut, seed=5)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_trained_network_answers_as_it_did(shortcut: str, tmp_path: Path) -> None:
    model = made(shortcut)
    EqPropTrainer(model, "autograd", lr=0.01, progress=False).fit([(X, Y)], 2)
    loaded = load_trained(save_trained(model, tmp_path / "net.safetensors", INFO))
    assert not loaded.training and KIND.arguments(loaded) == KIND.arguments(model)
    torch.testing.assert_close(loaded(X), model.eval()(X))
    assert not torch.allclose(loaded(X), made(shortcut).eval()(X), atol=0.01)


@pytest.mark.parametrize(
    "change",
    [{"width": 10**6}, {"depth": 6 * 10**6 + 2}, {"num_classes": 10**9}, {"in_channels": 10**9}],
    ids=str,
)
def test_params_that_ask_for_more_than_is_there_are_refused(change: dict[str, Any]) -> None:
    model = made()
    params, tensors = KIND.arguments(model), dict(model.state_dict())
    assert KIND.misfit(params, tensors) is None
    assert "not those of its params" in str(KIND.misfit({**params, **change}, tensors))


def test_the_shipped_network_reads_digits_of_another_collection() -> None:
    info, net = trained_info("mnist_8x8_resnet"), load_trained("mnist_8x8_resnet")
    assert info["model"] == "ResNetCifar" and info["test_accuracy"] > 0.97
    digits = build_dataset("digits").validation
    with torch.no_grad():
        right = net(digits.x).argmax(1) == digits.y
    # by chance a tenth; trained on them, more than nine tenths
    assert 0.6 < float(right.double().mean()) < 0.9
    assert (trained._folder() / "mnist_8x8_resnet.safetensors").stat().st_size < 100_000
