"""Every code block of the models document, in this package's names: each runs and does what it
says.

What the document leaves open (`...`, data, training loops) is filled in; `difflut.models` is
`eqprop_lab.lut`.
"""

from __future__ import annotations

import inspect
import itertools
import re
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import EqPropTrainer, build_dataset
from eqprop_lab.lut import BaseLUTModel, ModelConfig, SimpleFeedForward, build_model

DATA = build_dataset("digits")
FEW = DATA.train.x[:200]


def images(count: int, seed: int = 0) -> torch.Tensor:
    """MNIST's size; the models below were trained on digits of this form."""
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def evaluate(model: nn.Module, loader: Any) -> float:
    return float(EqPropTrainer(model, "autograd", progress=False).evaluate(loader)["accuracy"])


def train_model(model: nn.Module, loader: Any, num_epochs: int = 2) -> Any:
    return EqPropTrainer(model, "autograd", lr=0.05, progress=False).fit(loader, num_epochs)


def test_load_a_pretrained_model() -> None:
    input_data = images(4)

    model = build_model("mnist_large", load_weights=True)
    output = model(input_data)

    assert output.shape == (4, 10) and not model.training and float(output.std()) > 0.1


def test_build_from_config() -> None:
    train_data = images(60)

    config = ModelConfig(
        model_type="feedforward",
        layer_type="random",
        node_type="probabilistic",
        encoder_config={"name": "thermometer", "num_bits": 4},
        node_input_dim=6,
        layer_widths=[1024, 1000],
        num_classes=10,
    )

    model = SimpleFeedForward(config)
    model.fit_encoder(train_data)

    assert model(train_data[:3]).shape == (3, 10)
    assert model.count_parameters()["total"] == 2024 * 64


def test_override_runtime_parameters() -> None:
    model = build_model(
        "mnist_large",
        overrides={
            "temperature": 0.5,
            "eval_mode": "sampling",
        },
    )

    plain = build_model("mnist_large", overrides={"eval_mode": "sampling"})
    x = images(8)
    assert (model.runtime.temperature, model.runtime.eval_mode) == (0.5, "sampling")
    assert not torch.equal(model(x), model(x))  # drawn
    assert not torch.equal(build_model("mnist_large")(x), model(x))
    # a colder table is a clearer one: two draws agree more often
    cold, warm = (
        float(torch.stack([m(x) for _ in range(20)]).std(0).mean()) for m in (model, plain)
    )
    assert cold < warm


def test_the_fields_of_a_configuration() -> None:
    assert is_dataclass(ModelConfig)
    found = {entry.name: entry for entry in fields(ModelConfig)}
    structural = [
        "model_type",
        "layer_type",
        "node_type",
        "encoder_config",
        "node_input_dim",
        "layer_widths",
        "num_classes",
    ]
    optional = ["runtime", "pretrained", "pretrained_name"]
    assert list(found)[:10] == structural + optional
    assert all(found[name].default is MISSING for name in structural)
    assert found["runtime"].default_factory is dict
    assert found["pretrained"].default is False and found["pretrained_name"].default is None


def signature(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_signatures_of_the_classes() -> None:
    assert issubclass(BaseLUTModel, nn.Module) and issubclass(SimpleFeedForward, BaseLUTModel)
    for name, arguments in {
        "__init__": ["self", "config"],
        "forward": ["self", "x"],
        "apply_runtime_overrides": ["self", "overrides"],
        "get_regularization_loss": ["self"],
        "save_config": ["self", "path"],
        "load_weights": ["self", "path"],
    }.items():
        assert signature(getattr(BaseLUTModel, name)) == arguments
    assert signature(BaseLUTModel.save_weights)[:2] == ["self", "path"]
    for name, arguments in {
        "__init__": ["self", "config"],
        "fit_encoder": ["self", "data"],
        "encode": ["self", "x"],
        "forward": ["self", "x"],
    }.items():
        assert signature(getattr(SimpleFeedForward, name)) == arguments


def test_the_factory_functions() -> None:
    from eqprop_lab.lut import get_pretrained_model_info, list_pretrained_models, load_pretrained

    parameters = inspect.signature(build_model).parameters
    assert list(parameters)[:3] == ["source", "load_weights", "overrides"]
    assert parameters["load_weights"].default is True and parameters["overrides"].default is None
    assert signature(load_pretrained) == ["name", "kwargs"]
    assert "mnist_large" in list_pretrained_models()["feedforward"]
    assert get_pretrained_model_info("mnist_large")["layer_widths"] == [1024, 1000]


def test_pattern_1_research_with_pretrained_models(capsys: pytest.CaptureFixture[str]) -> None:
    test_loader = DATA.test.batches(1000)

    # Load baseline model
    baseline = build_model("digits_small", load_weights=True)

    # Test with different temperatures
    accuracies = []
    for temp in [0.1, 0.5, 1.0, 2.0]:
        model = build_model("digits_small", overrides={"temperature": temp})
        accuracy = evaluate(model, test_loader)
        print(f"Temp {temp}: {accuracy:.2%}")
        accuracies.append(accuracy)

    assert len(capsys.readouterr().out.splitlines()) == 4
    # truth tables have no temperature; relaxed ones do, and cold they are truth tables
    assert set(accuracies) == {evaluate(baseline, test_loader)}
    with torch.no_grad():
        hard, x = baseline(DATA.test.x), DATA.test.x
        soft = [
            build_model("digits_small", overrides={"temperature": t, "eval_mode": "expectation"})(x)
            for t in (0.01, 1.0)
        ]
    off = [float((logits - hard).abs().mean()) for logits in soft]
    assert off[0] < 0.1 * off[1]


def test_pattern_2_training_from_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/my_experiment.yaml").write_text(
        "model_type: feedforward\nlayer_type: random\nnode_type: probabilistic\n"
        "encoder_config: {name: thermometer, num_bits: 2}\nnode_input_dim: 4\n"
        "layer_widths: [100, 50]\nnum_classes: 10\n"
    )
    train_data, train_loader = FEW, [(FEW, DATA.train.y[:200])]

    # Create config
    config = ModelConfig.from_yaml("configs/my_experiment.yaml")

    # Build and train
    model = build_model(config)
    model.fit_encoder(train_data)
    history = train_model(model, train_loader, num_epochs=50)

    # Save results
    model.save_config("results/my_model.yaml")
    model.save_weights("results/my_model.pth")

    assert history["train_accuracy"][-1] > 0.6 > 3 * history["train_accuracy"][0]
    again = build_model(ModelConfig.from_yaml("results/my_model.yaml"))
    again.load_weights("results/my_model.pth")
    assert torch.equal(again.eval()(FEW), model.eval()(FEW))


def test_pattern_3_hyperparameter_sweeps() -> None:
    # Define search space
    layer_widths = [[512, 512], [1024, 1000], [2048, 2048]]
    temperatures = [0.5, 1.0, 2.0]

    # Run sweep
    outputs: dict[int, torch.Tensor] = {}
    for widths, temp in itertools.product(layer_widths, temperatures):
        config = ModelConfig(
            model_type="feedforward",
            layer_widths=widths,
            runtime={"temperature": temp},
            layer_type="random",
            node_type="probabilistic",
            encoder_config={"name": "thermometer", "num_bits": 2},
            node_input_dim=3,
            num_classes=8,
        )
        model = build_model(config)
        model.fit_encoder(FEW)
        outputs[len(outputs)] = model(FEW[:2]).detach()

    assert len(outputs) == 9
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(outputs.values(), 2))


def test_pattern_4_transfer_learning() -> None:
    # Load pretrained model
    source_model = build_model("mnist_large", load_weights=True)

    # Create new model with different output size
    target_config = source_model.get_config()
    target_config.num_classes = 100  # New task
    target_config.pretrained = False

    target_model = build_model(target_config, load_weights=False)

    # Copy weights for shared layers
    assert target_model.copy_shared_layers(source_model) == [0, 1]

    assert source_model.get_config().num_classes == 10  # a copy was changed
    target_model.fit_encoder(images(20))
    assert target_model(images(2)).shape == (2, 100)
    for mine, theirs in zip(target_model.lut_layers(), source_model.lut_layers(), strict=True):
        assert torch.equal(mine.nodes.bits(), theirs.nodes.bits())


EXAMPLE = """
    # Structural parameters
    model_type: feedforward
    layer_type: random
    node_type: probabilistic
    encoder_config:
      name: thermometer
      num_bits: 4
      feature_wise: true
    node_input_dim: 6
    layer_widths: [1024, 1000]
    num_classes: 10
    input_size: 784
    dataset: mnist

    # Runtime parameters
    runtime:
      temperature: 1.0
      eval_mode: expectation
      init_fn: xavier_uniform
      regularizers:
        entropy: {weight: 0.001}
        clarity: {weight: 0.0001}

    # Pretrained info
    pretrained: true
    pretrained_name: mnist_large
    """


def test_the_example_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(textwrap.dedent(EXAMPLE))
    config = ModelConfig.from_yaml(path)
    shipped = build_model("mnist_large").get_config()
    assert config.is_compatible_with_weights(shipped)
    with pytest.warns(UserWarning, match="init_"):
        model = build_model(path, overrides={"init_gain": 1.0})
    assert model.runtime.eval_mode == "expectation" and not model.training
    entropy = model.runtime.regularizers["entropy"]
    assert entropy == (0.001, {}) and model.get_regularization_loss().item() > 0
    # the configuration's own weights are those of the shipped model
    assert all(map(torch.equal, model.truth_tables(), build_model("mnist_large").truth_tables()))


def test_creating_a_pretrained_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(
        model_type="feedforward",
        layer_type="random",
        node_type="probabilistic",
        encoder_config={"name": "thermometer", "num_bits": 2},
        node_input_dim=4,
        layer_widths=[60, 50],
        num_classes=10,
    )
    train_data = FEW

    model = SimpleFeedForward(config)
    model.fit_encoder(train_data)
    train_model(model, [(FEW, DATA.train.y[:200])])

    config = model.get_config()
    config.pretrained = True
    config.pretrained_name = "my_model"

    model.save_config("pretrained/feedforward/my_model.yaml")
    model.save_weights("pretrained/feedforward/my_model.pth")

    trained = model.eval()(FEW)
    model = build_model("my_model", load_weights=True)  # type: ignore[assignment]

    assert torch.equal(model(FEW), trained)


def test_structural_parameters_cannot_be_overridden_and_the_listed_runtime_ones_can() -> None:
    model = build_model("digits_small")
    for name in (
        "model_type",
        "layer_type",
        "node_type",
        "encoder_config",
        "node_input_dim",
        "layer_widths",
        "num_classes",
        "input_size",
    ):
        with pytest.raises(ValueError, match=f"{name} is structural"):
            model.apply_runtime_overrides({name: getattr(model.config, name)})
    for name, value in {
        "temperature": 0.5,
        "eval_mode": "expectation",
        "flip_probability": 0.1,
        "dropout": 0.1,
        "grad_stabilization": "layerwise",
        "regularizers": {"entropy": 0.1},
    }.items():
        model.apply_runtime_overrides({name: value})


def test_the_old_way_says_the_new_one() -> None:
    from eqprop_lab.lut.migration import LayeredFeedForward

    config = {
        "encoder": {"name": "thermometer", "num_bits": 4},
        "layer_type": "random",
        "node_type": "probabilistic",
        "node_input_dim": 6,
        "hidden_sizes": [1024, 1000],
        "node_params": {},
    }
    with pytest.raises(TypeError, match=r"build_model\(ModelConfig\(") as caught:
        LayeredFeedForward(config, input_size=784, num_classes=10)
    (new,) = re.findall(r"build_model\((ModelConfig\(.*\))\),", str(caught.value))
    built = build_model(eval(new, {"ModelConfig": ModelConfig}))
    assert isinstance(built, SimpleFeedForward) and built.config.layer_widths == [1024, 1000]


def test_the_new_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    lines = textwrap.dedent(EXAMPLE).replace("pretrained: true\n", "")
    Path("configs/my_model.yaml").write_text(lines)

    model = build_model("configs/my_model.yaml")

    assert model.training and len(model.lut_layers()) == 2


def test_adding_a_model_and_the_related_components() -> None:
    from eqprop_lab.lut.registry import REGISTRY

    @REGISTRY.register_model("name")
    class Mine(SimpleFeedForward):
        """Nothing new."""

    try:
        config = build_model("digits_small").get_config()
        config.model_type, config.pretrained = "name", False
        assert isinstance(build_model(config), Mine)
    finally:
        REGISTRY.unregister("model", "name")
