"""Presets construct with the sizes they name, overrides override, and facts agree with the data
itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eqprop_lab import (
    EqPropTrainer,
    LoopedMLP,
    TransformerEqProp,
    build_dataset,
    create_model_preset,
    get_dataset_info,
    get_model_config,
)
from eqprop_lab.datasets import NAMES
from eqprop_lab.datasets.registry import dataset_name
from eqprop_lab.experiments import presets
from eqprop_lab.experiments.presets import list_presets, preset_model
from eqprop_lab.models.registry import model_registry
from tests.datasets.test_datasets import write_mnist


@pytest.mark.parametrize(
    ("name", "hidden", "steps"),
    [
        ("mnist_tiny", 64, 20),
        ("mnist_small", 128, 30),
        ("mnist_medium", 256, 30),
        ("mnist_large", 512, 40),
    ],
)
def test_mnist_presets_construct_as_named(name: str, hidden: int, steps: int) -> None:
    model = create_model_preset(name)
    assert isinstance(model, LoopedMLP) and preset_model(name) == "LoopedMLP"
    assert (model.hidden_dim, model.max_steps, model.W_rec.weight.shape) == (
        hidden,
        steps,
        (hidden, hidden),
    )
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_overrides_really_override() -> None:
    model = create_model_preset("mnist_small", hidden_dim=512, rho=0.5, seed=3)
    assert isinstance(model, LoopedMLP)
    assert model.W_in.weight.shape == (512, 784) and model.rho == 0.5 and model.max_steps == 30
    assert torch.equal(model.W_in.weight, LoopedMLP(784, 512, 10, seed=3).W_in.weight)
    assert create_model_preset("mnist_small").hidden_dim == 128  # the table is untouched


def test_unknown_presets_and_overrides_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'hidden_dim'"):
        create_model_preset("mnist_small", hiden_dim=512)
    with pytest.raises(ValueError, match="did you mean 'mnist_small'"):
        create_model_preset("mnist_smal")
    with pytest.raises(ValueError, match="hidden_dim must be an integer >= 1, got 0"):
        create_model_preset("mnist_small", hidden_dim=0)
    with pytest.raises(ValueError, match="did you mean 'hidden_dim'"):
        get_model_config("lm_tiny", hiden_dim=3)


def test_the_presets_are_listed_and_all_construct() -> None:
    assert len(list_presets()) == 14 and list_presets() == list_presets(constructible=True)
    assert list_presets()[0] == "mnist_tiny"


@pytest.mark.parametrize(
    ("name", "width", "layers"), [("lm_tiny", 128, 2), ("lm_small", 256, 4), ("lm_medium", 384, 6)]
)
def test_language_presets_construct_and_train(name: str, width: int, layers: int) -> None:
    model = create_model_preset(name, seed=0)
    assert isinstance(model, TransformerEqProp) and preset_model(name) == type(model).__name__
    assert (model.hidden_dim, model.num_layers, model.max_seq_len) == (width, layers, 128)
    x = torch.arange(8).view(1, 8)
    trainer = EqPropTrainer(model, "response", tol=1e-3, progress=False)
    first, logits, residual = trainer.train_batch(x, x + 1)
    assert logits.shape == (8, 65) and residual < 1e-3
    second, _, _ = trainer.train_batch(x, x + 1)
    assert second.mean() < first.mean()


def test_a_preset_of_a_model_that_is_not_there_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"model": "NotWritten", "params": {"width": 3}}
    monkeypatch.setitem(presets._presets(), "later", entry)
    assert "later" not in list_presets(constructible=True)
    with pytest.raises(
        ValueError, match="NotWritten, which is not part of this version.*mnist_large"
    ):
        create_model_preset("later")
    with pytest.raises(ValueError, match="key of the overrides of 'later'"):
        get_model_config("later", wide=3)
    model_registry.register("NotWritten", lambda **given: torch.nn.Linear(len(given), 1))
    try:
        built = create_model_preset("later", another=1)
        assert isinstance(built, torch.nn.Linear) and built.in_features == 2
    finally:
        model_registry.unregister("NotWritten")


def test_get_model_config_returns_constructor_arguments() -> None:
    config = get_model_config("mnist_tiny", hidden_dim=32)
    assert config == {"input_dim": 784, "hidden_dim": 32, "output_dim": 10, "max_steps": 20}
    assert LoopedMLP(**config).hidden_dim == 32
    config["hidden_dim"] = 1
    assert get_model_config("mnist_tiny")["hidden_dim"] == 64


@pytest.mark.parametrize("spelling", ["cifar10", "CIFAR10", "cifar-10", "cifar_10", "Cifar 10"])
def test_every_spelling_of_a_data_set_is_understood(spelling: str) -> None:
    facts = {"name": "cifar10", "input_dim": 3072, "output_dim": 10, "channels": 3, "size": 32}
    assert get_dataset_info(spelling) == facts


def test_facts_cover_every_data_set_and_agree_with_the_data(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for name in NAMES:
        facts = get_dataset_info(name)
        assert dataset_name(name.replace("_", "-").upper()) == name
        assert (facts["channels"] is None) == (name in ("xor", "two_moons", "image_folder"))
        if facts["channels"] is not None:
            assert facts["input_dim"] == facts["channels"] * facts["size"] ** 2
    for config in (
        "digits",
        "xor",
        "two_moons",
        {"name": "mnist", "root": tmp_path, "validation": 5},
    ):
        data = build_dataset(config)
        facts = get_dataset_info(data.name)
        assert (facts["input_dim"], facts["output_dim"]) == (data.input_dim, len(data.classes))
    with pytest.raises(ValueError, match="did you mean 'fashion_mnist'"):
        get_dataset_info("fashion_mnits")
    with pytest.raises(ValueError, match="got 7"):
        get_dataset_info(7)  # type: ignore[arg-type]
