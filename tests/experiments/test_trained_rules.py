"""Trained networks under a learning rule: what is loaded learns on as what was saved would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from eqprop_lab import AdaptiveFeedbackMLP, EquilibriumAlignment, load_trained, save_trained
from eqprop_lab.experiments.rebuilding import KINDS
from eqprop_lab.experiments.trained import TrainedError
from tests.algorithms.networks import RULES, X, Y, made
from tests.experiments.test_trained import INFO

MODELS: dict[str, Any] = {name: lambda name=name: made(name, 3) for name in RULES}
MODELS |= {
    f"{name} bounded": lambda name=name: made(name, 3, use_spectral_norm=True) for name in RULES
}
MODELS |= {
    "options": lambda: made("eqprop", 3, beta=0.1, nudges="one_sided", free_steps=7),
    "ada_fa itself": lambda: AdaptiveFeedbackMLP(12, [9, 7], 4, "relu", True, seed=3, decay=0.01),
    "eq_align itself": lambda: EquilibriumAlignment(12, 9, 4, rho=0.7, max_steps=9, seed=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_answers_and_learns_like_what_was_saved(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    model.train_step(X, Y)
    path = save_trained(model, tmp_path / "net.safetensors", INFO | {"estimator": "local"})
    loaded = load_trained(path)
    assert type(loaded) is type(model) and not loaded.training
    torch.testing.assert_close(loaded(X), model(X))
    torch.manual_seed(0)
    wanted = model.local_gradients(X, Y)
    torch.manual_seed(0)
    found = loaded.local_gradients(X, Y)
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6)
    assert KINDS[type(model).__name__].arguments(loaded) == KINDS[type(model).__name__].arguments(
        model
    )


@pytest.mark.parametrize("name", ["ada_fa", "eq_align", "leq_fa bounded"])
def test_params_that_ask_for_more_than_is_there_are_refused(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    kind = KINDS["BioplausibleModel"]
    params = kind.arguments(model)
    tensors = {key: t for key, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    assert kind.misfit(params, tensors) is None
    for change in ({"hidden_dims": [10**6] * len(params["hidden_dims"])}, {"output_dim": 10**9}):
        assert "not those of its params" in str(kind.misfit({**params, **change}, tensors))


def test_a_module_around_a_rule_is_no_network_of_the_package(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="EquilibriumAlignment, .* got Sequential"):
        save_trained(nn.Sequential(made("ada_fa")), tmp_path / "net.safetensors", INFO)
    path = save_trained(made("ada_fa", 3), tmp_path / "net.safetensors", INFO)
    assert {"rule.feedback_1", "rule.feedback_2"} <= load_file(path).keys()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(TrainedError, match="damaged"):
        load_trained(path)
