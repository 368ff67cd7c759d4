"""The recipes of the package: settings as they were chosen, and each of them trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eqprop_lab import load_config, train_from_config
from eqprop_lab.datasets import Split
from eqprop_lab.datasets.registry import get_dataset_info
from eqprop_lab.equilibrium import sigma_vector
from eqprop_lab.experiments.config import ExperimentConfig, list_recipes, make_trainer, parse_config
from tests.benchmarks.looped_mlp import RECIPES as LOOPED
from tests.datasets.test_datasets import write_mnist

RECIPES = {
    "cifar10_cnn": ("sgd", 0.015, 256, 100, None, None),
    "cifar10_conv": ("sgd", 0.015, 256, 100, 10, 8),
    "digits_conv": ("adamw", 1e-2, 32, 40, 4, 4),
    "digits_looped_mlp": ("adamw", 4.8e-2, 32, 15, 12, 10),
    "mnist_conv": ("adamw", 4e-3, 100, 8, 4, 4),
    "mnist_conv_long": ("adamw", 4e-3, 100, 24, 4, 4),
    "mnist_looped_mlp": ("adamw", 6e-3, 100, 10, 8, 6),
    "python_docs_hybrid": ("adam", 2e-2, 16, 4, 30, 10),
}


def test_every_recipe_is_listed_here() -> None:
    assert list_recipes() == sorted(RECIPES)


def a_batch(config: ExperimentConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Two samples of the size the recipe's data have."""
    if "seq_len" in config.data:
        text = torch.arange(config.data["seq_len"] + 1).repeat(2, 1) % config.params["vocab_size"]
        return text[:, :-1], text[:, 1:]
    facts = get_dataset_info(config.data["name"])
    x = torch.rand(4, facts["channels"], facts["size"], facts["size"])
    batches = Split(x, torch.arange(4)).batches(2, shuffle=True, augment=config.augmentation)
    return next(iter(batches))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_a_training_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The norms of the start found roughly: converged, at the size of CIFAR-10, would take ten
    # seconds.
    monkeypatch.setattr(sigma_vector, "TOLERANCE", 1.0)
    config = load_config(name)
    assert config.experiment["name"] == name and parse_config(config.as_dict()) == config
    trainer = make_trainer(config)
    settings = trainer.settings
    assert RECIPES[name] == (
        config.trainer["optimizer"],
        config.trainer["lr"],
        config.batch_size,
        config.epochs,
        settings and settings.free_steps,
        settings and settings.nudged_steps,
    )
    classes = config.params.get("vocab_size", 10)
    before = {key: value.clone() for key, value in trainer.model.named_parameters()}
    x, y = a_batch(config)
    loss, logits, residual = trainer.train_batch(x, y)
    assert (
        logits.shape == (y.numel(), classes) and torch.isfinite(loss).all() and not residual >= 0.2
    )
    assert all(
        not torch.equal(value, before[key]) for key, value in trainer.model.named_parameters()
    )


@pytest.mark.parametrize("name", LOOPED)
def test_the_published_runs_of_looped_mlp_are_those_of_the_recipes(name: str) -> None:
    trainer, published = make_trainer(config := load_config(f"{name}_looped_mlp")), LOOPED[name]
    phases = trainer.settings
    assert {
        "hidden_dim": config.params["hidden_dim"],
        "max_steps": trainer.model.max_steps,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "lr": trainer.lr,
        "weight_decay": trainer.weight_decay,
        "optimizer": config.trainer["optimizer"],
        "schedule": trainer.schedule,
        "beta": phases.beta,
        "free_steps": phases.free_steps,
        "nudged_steps": phases.nudged_steps,
    } == published


def test_a_recipe_of_the_package_trains(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for name in ("mnist_looped_mlp", "mnist_conv_long"):
        content = load_config(name).as_dict()
        content["data"] |= {"root": str(tmp_path), "validation": 10}
        content["training"] |= {"epochs": 3}  # as many steps as the schedule needs
        trainer, history = train_from_config(parse_config(content))
        assert trainer.schedule == "one_cycle" and type(trainer.optimizer).__name__ == "AdamW"
        assert len(history["norm"]) == 3 and all(0 < norm < 1 for norm in history["norm"])
