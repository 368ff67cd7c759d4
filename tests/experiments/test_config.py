"""Experiment files: read safely, refused by name, and trained as they say."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eqprop_lab import BackpropMLP, LoopedMLP, load_config, train_from_config
from eqprop_lab.experiments.config import (
    ConfigError,
    build_experiment,
    fit_experiment,
    make_trainer,
    parse_config,
)

SMALL: dict[str, Any] = {
    "model": {"name": "LoopedMLP", "params": {"hidden_dim": 8, "max_steps": 6}},
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "nudged_steps": 4},
    "data": {"dataset": "two_moons", "samples": 48, "seed": 3},
    "experiment": {"name": "small", "seed": 5},
}


def changed(section: str, **values: Any) -> dict[str, Any]:
    content = copy.deepcopy(SMALL)
    content.setdefault(section, {}).update(values)
    return content


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_trains_as_it_says_and_again_the_same() -> None:
    config = parse_config(SMALL)
    trainer, history = train_from_config(config)
    assert (
        isinstance(trainer.model, LoopedMLP)
        and trainer.model.hidden_dim == 8
        and trainer.model.input_dim == 2
    )
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01 and trainer.settings.nudged_steps == 4
    assert (
        history["epoch"] == [1, 2]
        and history["estimator"] == ["centered"] * 2
        and "val_loss" in history
    )
    again, second = train_from_config(parse_config(config.as_dict()))
    assert second["train_loss"] == history["train_loss"]
    assert all(
        torch.equal(a, b)
        for a, b in zip(trainer.model.parameters(), again.model.parameters(), strict=True)
    )
    other, _ = train_from_config(parse_config(changed("experiment", seed=6)))
    assert not torch.equal(other.model.W_in.weight, trainer.model.W_in.weight)


def test_the_filled_in_config_is_plain_and_reads_back_the_same() -> None:
    config = parse_config(SMALL)
    text = yaml.safe_dump(config.as_dict())
    assert parse_config(yaml.safe_load(text)) == config
    assert (
        config.as_dict()["model"]["params"] | {"input_dim": 2, "output_dim": 2, "seed": 5}
        == config.params
    )
    assert make_trainer(config).state.config == config.as_dict()


def test_the_schema_of_a_yaml_file(tmp_path: Path) -> None:
    text = """
model: {name: BackpropMLP, params: {hidden_dim: 16}}
training: {epochs: 300, batch_size: 64, learning_rate: 1e-3, optimizer: "SGD", weight_decay: 1.5E-4}
data: {dataset: cifar_10, augmentation: false}
experiment: {use_wandb: true, project: "torch-cnn"}
"""
    config = load_config(write(tmp_path, text))
    assert config.trainer == {"lr": 1e-3, "optimizer": "sgd", "weight_decay": 1.5e-4}
    assert config.data == {"name": "cifar10"} and (config.epochs, config.batch_size) == (300, 64)
    assert config.params == {"hidden_dim": 16, "input_dim": 3072, "output_dim": 10, "seed": 0}
    assert config.experiment["project"] == "torch-cnn" and config.experiment["use_wandb"] is True
    trainer = make_trainer(config)
    assert isinstance(trainer.model, BackpropMLP) and trainer.gradient == "autograd"


def test_a_preset_can_stand_for_the_model(tmp_path: Path) -> None:
    text = "model: {preset: mnist_tiny, params: {rho: 0.5}}\ndata: {dataset: MNIST}"
    config = load_config(write(tmp_path, text))
    assert config.model == "LoopedMLP"
    wanted = {
        "input_dim": 784,
        "hidden_dim": 64,
        "output_dim": 10,
        "max_steps": 20,
        "rho": 0.5,
        "seed": 0,
    }
    assert config.params == wanted


REFUSED = [
    (changed("trainig"), "did you mean 'training'"),
    (changed("training", learning_rat=0.1), "did you mean 'learning_rate'"),
    (changed("training", lr=0.1), "'lr' is called 'learning_rate'"),
    (changed("training", learning_rate=-1), "lr must be a finite number > 0, got -1"),
    (changed("training", learning_rate="fast"), "lr must be a number, got 'fast'"),
    (changed("training", epochs=2.5), "training.epochs must be an integer"),
    (changed("training", batch_size=0), "training.batch_size must be an integer >= 1, got 0"),
    (changed("training", optimizer="adamm"), "did you mean 'adam'"),
    (changed("training", gradient="centred"), "did you mean 'centered'"),
    (changed("training", schedule="cosinus"), "did you mean 'cosine'"),
    (changed("training", early_stopping=0), "training.early_stopping"),
    (changed("model", name="LopedMLP"), "did you mean 'LoopedMLP'"),
    (changed("model", preset="mnist_tiny"), "either a 'name' or a 'preset'"),
    (changed("model", params={"hiden_dim": 3}), "did you mean 'hidden_dim'"),
    (changed("model", params={"hidden_dim": 0}), "hidden_dim must be an integer >= 1, got 0"),
    (
        changed("model", params={"hidden_dim": 3, "input_dim": 7}),
        "input_dim is 7, but two_moons has 2",
    ),
    (changed("model", params={}), "needs hidden_dim"),
    (changed("model", params=[3]), "model.params must be a mapping"),
    (changed("data", dataset="two_mons"), "did you mean 'two_moons'"),
    (changed("data", nose=0.1), "did you mean 'noise'"),
    (
        changed("data", augmentation=True),
        "data.augmentation must be false for two_moons, which has no images",
    ),
    (changed("data", augmentation={"shift": 1}), "data.augmentation must be false for two_moons"),
    (changed("experiment", sed=3), "did you mean 'seed'"),
    (changed("experiment", seed=-1), "experiment.seed must be an integer from 0"),
    (changed("experiment", name=""), "experiment.name must be a non-empty text"),
    (changed("experiment", use_wandb="yes"), "experiment.use_wandb must be True or False"),
    ({"model": {"name": "LoopedMLP"}}, "data.dataset must name a data set"),
    ({"model": [1]}, "section 'model' must be a mapping"),
    ([1, 2], "a config must be a mapping"),
]


@pytest.mark.parametrize(
    ("content", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED]
)
def test_what_is_wrong_is_named(content: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        parse_config(content)


def test_options_of_another_data_set_are_refused_before_training() -> None:
    content = changed("training", nudged_steps=4)
    content["data"] = {"dataset": "digits", "noise": 0.1}
    with pytest.raises(ValueError, match="digits config"):
        parse_config(content)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none of the recipes .*, digits_looped_mlp"):
        load_config(tmp_path / "missing.yaml")
    for text, message in (
        ("model: {name: [", "config.yaml is not valid YAML"),
        ("model: {}\nmodel: {}", "key 'model' is given twice"),
        ("model: !!python/object/apply:os.system ['true']", "config.yaml is not valid YAML"),
        ("training: {learning_rate: '1e-3'}\nmodel: {name: LoopedMLP, params: {hidden_dim: 3}}\n"
         "data: {dataset: xor}",
         "config.yaml: lr must be a number, got '1e-3'"),
        ("", "a config must be a mapping"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            load_config(write(tmp_path, text))


def test_early_stopping_of_a_config_stops() -> None:
    content = changed("training", early_stopping=1, learning_rate=1e-12, epochs=20)
    config = parse_config(content)
    trainer, data = build_experiment(config)
    assert len(fit_experiment(config, trainer, data)["epoch"]) < 20


def test_models_without_a_seed_argument_are_seeded_too() -> None:
    from eqprop_lab import model_registry

    model_registry.register(
        "plain_linear", lambda input_dim, output_dim: torch.nn.Linear(input_dim, output_dim)
    )
    try:
        content = changed("training", gradient="autograd")
        content["model"] = {"name": "plain_linear"}
        weights = [make_trainer(parse_config(content)).model.weight for _ in range(2)]
        assert torch.equal(*weights)
    finally:
        model_registry.unregister("plain_linear")


def test_a_config_names_a_rule_and_nothing_else_has_to_be_imported(tmp_path: Path) -> None:
    """In a process of its own: here another test may have imported the rules."""
    path = tmp_path / "rule.yaml"
    params = {"algorithm": "leq_fa", "hidden_dims": [4]}
    content = {
        "experiment": {"name": "rule", "seed": 0},
        "model": {"name": "BioplausibleModel", "params": params},
        "data": {"dataset": "digits"},
        "training": {"epochs": 1},
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    code = "import sys; from eqprop_lab import load_config; print(load_config(sys.argv[1]).model)"
    command = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "BioplausibleModel", found.stderr
