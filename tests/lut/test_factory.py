"""Models from names, files and configurations, with the weights that these promise."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.lut import (
    ModelConfig,
    SimpleFeedForward,
    build_model,
    factory,
    get_pretrained_model_info,
    list_pretrained_models,
    load_pretrained,
)
from tests.lut.pieces import X, config, model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one trained and one untrained model."""
    model().save_as_pretrained("trained", tmp_path)
    config(dataset="mine").save_to_pretrained("plain", tmp_path)
    return tmp_path


def test_a_name_is_a_trained_model_in_eval_mode(folder: Path) -> None:
    for source in ("trained", "feedforward/trained"):
        made = build_model(source, pretrained_dir=folder)
        assert isinstance(made, SimpleFeedForward) and not made.training
        assert fingerprint(made) == fingerprint(model())
        assert made.get_config().pretrained and made.get_config().pretrained_name == "trained"
    assert torch.equal(load_pretrained("trained", pretrained_dir=folder)(X), model().eval()(X))


def test_weights_that_are_promised_and_missing(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"plain\.pth is missing.*load_weights=False"):
        build_model("plain", pretrained_dir=folder)
    made = build_model("plain", load_weights=False, pretrained_dir=folder)
    assert made.training and len(made.lut_layers()) == 2
    (folder / "feedforward" / "trained.pth").unlink()
    for source in ("trained", folder / "feedforward" / "trained.yaml"):
        with pytest.raises(FileNotFoundError, match="load_weights=False"):
            build_model(source, pretrained_dir=folder)
    promising = config(pretrained=True, pretrained_name="trained")
    with pytest.raises(FileNotFoundError, match="load_weights=False"):
        build_model(promising, pretrained_dir=folder)
    with pytest.raises(ValueError, match="pretrained_name"):
        build_model(config(pretrained=True))
    absent = config(pretrained=True, pretrained_name="nowhere")
    with pytest.raises(FileNotFoundError, match="Pretrained model 'nowhere' not found"):
        build_model(absent)
    for promise in (promising, absent, config(pretrained=True)):
        assert build_model(promise, load_weights=False).training


def test_a_file_elsewhere_may_name_its_weights(folder: Path, tmp_path: Path) -> None:
    config(pretrained=True, pretrained_name="trained").to_yaml(tmp_path / "elsewhere.yaml")
    made = build_model(tmp_path / "elsewhere.yaml", pretrained_dir=folder)
    assert fingerprint(made) == fingerprint(model()) and not made.training


def test_a_file_and_a_configuration(folder: Path) -> None:
    path = folder / "feedforward" / "trained.yaml"
    for source in (path, str(path)):
        assert fingerprint(build_model(source)) == fingerprint(model())
    promising = config(pretrained=True, pretrained_name="trained")
    assert fingerprint(build_model(promising, pretrained_dir=folder)) == fingerprint(model())
    untrained = build_model(config())
    assert untrained.training and untrained.get_config() == config()
    other = config(pretrained=True, pretrained_name="trained", node_type="warp")
    with pytest.raises(ValueError, match="node_type is 'probabilistic' there"):
        build_model(other, pretrained_dir=folder)


def test_overrides_stay_with_their_model(folder: Path) -> None:
    given = config()
    made = build_model(given, overrides={"temperature": 0.5, "eval_mode": "sampling"})
    assert made.get_config().runtime == {"temperature": 0.5, "eval_mode": "sampling"}
    assert given.runtime == {} and made.runtime.temperature == 0.5
    cold = build_model("trained", overrides={"eval_mode": "expectation"}, pretrained_dir=folder)
    assert not torch.equal(cold(X), build_model("trained", pretrained_dir=folder)(X))
    with pytest.raises(ValueError, match="layer_widths is structural"):
        build_model(given, overrides={"layer_widths": [3]})


@pytest.mark.parametrize("source", [3, None, [1], {"model_type": "feedforward"}, 2.5])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(ValueError, match="source must be a pretrained name"):
        build_model(source)


def test_names_that_there_are_not(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Pretrained model 'x' not found") as caught:
        build_model("x", pretrained_dir=folder)
    assert "'trained'" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="Configuration file not found"):
        build_model("x.yaml")
    with pytest.raises(FileNotFoundError, match="Pretrained model"):
        get_pretrained_model_info("x")
    with pytest.raises(ValueError, match="did you mean 'overrides'"):
        load_pretrained("x", override={})
    with pytest.raises(TypeError, match="load_weights must be True or False"):
        build_model("x", load_weights="no")


def test_what_is_known_of_a_model(folder: Path) -> None:
    found = {name: get_pretrained_model_info(name, folder) for name in ("trained", "plain")}
    assert [info["has_weights"] for info in found.values()] == [True, False]
    assert found["trained"]["weights_path"] == folder / "feedforward" / "trained.pth"
    assert found["plain"]["weights_path"] is None
    plain = found["plain"]
    assert plain["config"] == config(dataset="mine") and plain["dataset"] == "mine"
    assert (plain["model_type"], plain["layer_widths"]) == ("feedforward", [20, 12])
    assert plain["num_classes"] == 3 and plain["config_path"].name == "plain.yaml"
    assert list_pretrained_models(folder) == {"feedforward": ["plain", "trained"]}


def test_a_folder_of_the_working_folder_is_looked_in_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names = list_pretrained_models()["feedforward"]
    (folder / "pretrained").mkdir()
    shutil.move(folder / "feedforward", folder / "pretrained")
    assert set(list_pretrained_models()["feedforward"]) - set(names) == {"plain", "trained"}
    assert fingerprint(build_model("trained")) == fingerprint(model())
    config().save_to_pretrained("digits_small", folder / "pretrained")
    with pytest.raises(ValueError, match="'digits_small' is the name of 2 models"):
        build_model("digits_small")
    shipped = Path(factory.__file__).parent / "pretrained"
    monkeypatch.chdir(shipped.parent)
    assert list_pretrained_models()["feedforward"] == names


SHIPPED = list_pretrained_models()["feedforward"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_holds_together(name: str) -> None:
    info = get_pretrained_model_info(name)
    made: ModelConfig = info["config"]
    assert made.pretrained_name == name and made.dataset in ("digits", "mnist", "cifar10")
    assert made.pretrained == info["has_weights"]
    assert {"recipe"} <= info["metadata"].keys()
    listed = (Path(factory.__file__).parent / "pretrained" / "README.md").read_text("utf-8")
    (row,) = [line for line in listed.splitlines() if line.startswith(f"| `{name}`")]
    assert ", ".join(map(str, made.layer_widths)) in row
    assert info["has_weights"] == row.endswith("| yes |")


def test_the_documents_models_are_there() -> None:
    assert {"mnist_large", "mnist_small", "cifar10_large", "digits_small"} <= set(SHIPPED)
