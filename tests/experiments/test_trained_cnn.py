"""A stored convolutional network: its answers, its batch statistics, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, ResNetCifar, load_trained, save_trained
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
