"""LUT networks by their sizes, in the registry and in experiment files."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eqprop_lab import model_registry, train_from_config
from eqprop_lab.lut import SimpleFeedForward
from eqprop_lab.models.lut_network import LUTNetwork


def test_it_is_ready_as_soon_as_it_is_built() -> None:
    model = model_registry.create("LUTNetwork", input_dim=12, output_dim=3, hidden_dim=[20, 12])
    assert isinstance(model, SimpleFeedForward)
    assert model(torch.rand(5, 3, 4)).shape == (5, 3)
    thresholds = torch.tensor([0.2, 0.4, 0.6, 0.8]).expand(12, -1)
    torch.testing.assert_close(model.encoder.thresholds, thresholds)
    wider = LUTNetwork(2, 2, 4, num_bits=1, low=-3.0, high=5.0)
    assert wider.encoder.thresholds.tolist() == [[1.0], [1.0]]


def test_a_seed_is_a_network_and_none_is_the_global_generator() -> None:
    def drawn(**how: Any) -> torch.Tensor:
        return LUTNetwork(12, 3, 12, **how).layers[0].nodes.theta.detach()

    assert torch.equal(drawn(seed=1), drawn(seed=1))
    assert not torch.equal(drawn(seed=1), drawn(seed=2))
    torch.manual_seed(0)
    one, other = drawn(), drawn()
    torch.manual_seed(0)
    assert torch.equal(drawn(), one) and not torch.equal(one, other)


def test_an_experiment_file_trains_one() -> None:
    trainer, history = train_from_config(
        {
            "model": {
                "name": "LUTNetwork",
                "params": {"hidden_dim": [200, 100], "node_input_dim": 4},
            },
            "training": {"gradient": "autograd", "epochs": 2, "learning_rate": 0.1},
            "data": {"dataset": "digits"},
        }
    )
    assert isinstance(trainer.model, LUTNetwork) and trainer.model.input_dim == 64
    assert history["val_accuracy"][-1] > 0.7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_dim", 0),
        ("output_dim", "3"),
        ("hidden_dim", []),
        ("hidden_dim", 10),
        ("node_input_dim", 9),
        ("num_bits", 0),
        ("high", 0.0),
        ("node_type", "dwm"),
        ("layer_type", 3),
        ("seed", -1),
    ],
)
def test_bad_arguments(name: str, value: Any) -> None:
    good = {"input_dim": 12, "output_dim": 3, "hidden_dim": 12}
    words = {"hidden_dim": "hidden_dim|layer_widths"}.get(name, name)
    with pytest.raises((TypeError, ValueError), match=words):
        LUTNetwork(**(good | {name: value}))
