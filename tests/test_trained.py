"""Trained networks: what is loaded is what was saved, and a file that cannot be used is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eqprop_lab import ConvEqProp, DeepEqProp, list_trained, load_trained, relax, save_trained, trained, trained_info
from eqprop_lab.models.backprop import geometry
from eqprop_lab.training import EqPropTrainer

INFO: dict[str, Any] = {
    "dataset": "digits",
    "recipe": {"lr": 0.01, "epochs": 1},
    "estimator": "centered",
    "seed": 3,
    "validation_accuracy": 0.5,
    "test_accuracy": 0.25,
    "versions": {"torch": "2.13.0"},
    "date": "2026-11-22",
    "device": "CPU, 1 thread",
}


@pytest.fixture
def model() -> ConvEqProp:
    """A small network a few updates from its start."""
    net = ConvEqProp(1, [3, 4], 5, gamma=0.2, rho=0.8, image_size=[8, 12], kernel_size=[3, 4], max_steps=9, seed=3)
    random = torch.Generator().manual_seed(0)
    batch = torch.rand(16, 1, 8, 12, generator=random), torch.arange(16) % 5
    EqPropTrainer(net, lr=0.05, progress=False).fit([batch] * 3, 1)
    return net


@pytest.fixture
def file(model: ConvEqProp, tmp_path: Path) -> Path:
    return save_trained(model, tmp_path / "new" / "net.safetensors", INFO)


def rewritten(file: Path, change: Any) -> Path:
    """The file with its header changed by a function of the dict."""
    header = json.loads(trained.safe_open(file, framework="pt").metadata()[trained.METADATA])
    change(header)
    save_file(load_file(file), file, {trained.METADATA: json.dumps(header)})
    return file


def test_what_is_loaded_is_what_was_saved(model: ConvEqProp, file: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaded = load_trained(file)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training and geometry(loaded) == geometry(model)
    assert (loaded.gamma, loaded.rho, loaded.cap, loaded.max_steps) == (model.gamma, model.rho, model.cap, 9)
    state = loaded.state_dict()
    assert any("basis" in key for key in state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert loaded.contraction_bound() == model.contraction_bound() < 0.8
    x = torch.rand(4, 1, 8, 12)
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))
    assert relax(loaded, x, 200, 1e-4).converged
    assert torch.equal(load_trained(str(file))(x), loaded(x))


def test_a_loaded_network_can_be_trained_on_and_saved_again(file: Path, tmp_path: Path) -> None:
    loaded = load_trained(file)
    again = save_trained(loaded, tmp_path / "again.safetensors", INFO)
    assert again.read_bytes() == file.read_bytes()
    batch = torch.rand(8, 1, 8, 12), torch.arange(8) % 5
    EqPropTrainer(loaded, lr=0.05, progress=False).fit([batch], 1)
    assert loaded.contraction_bound() < 0.8


def test_the_header_says_what_it_is(file: Path, model: ConvEqProp) -> None:
    info = trained_info(file)
    assert {key: info[key] for key in INFO} == INFO
    assert info["model"] == "ConvEqProp" and info["parameters"] == sum(p.numel() for p in model.parameters())
    assert info["params"] == geometry(model) | {
        "gamma": 0.2,
        "rho": 0.8,
        "use_spectral_norm": True,
        "max_steps": 9,
        "seed": 3,
    }


def test_networks_of_the_package_are_found_by_name(
    model: ConvEqProp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "_folder", lambda: tmp_path)
    assert list_trained() == []
    for name in ("tiny_conv", "other"):
        assert save_trained(model, name, INFO) == tmp_path / f"{name}.safetensors"
    assert list_trained() == ["other", "tiny_conv"]
    assert load_trained("tiny_conv").contraction_bound() == model.contraction_bound()
    with pytest.raises(ValueError, match="'other', 'tiny_conv', got 'tiny_con'; did you mean 'tiny_conv'"):
        load_trained("tiny_con")
    with pytest.raises(ValueError, match="name must be letters"):
        save_trained(model, "../tiny", INFO)


@pytest.mark.parametrize("name", list_trained())
def test_every_shipped_network_is_whole_small_and_settles(name: str) -> None:
    info, net = trained_info(name), load_trained(name)
    assert net.contraction_bound() < net.rho and info["estimator"] and info["test_accuracy"] > 0.95
    shape = net.layers[0].linear.in_shape
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    assert relax(net, x, 100, 1e-4).converged
    assert (trained._folder() / f"{name}.safetensors").stat().st_size < 300_000


def test_a_damaged_file_is_refused(file: Path) -> None:
    content = file.read_bytes()
    flipped = content[:-7] + bytes([content[-7] ^ 1]) + content[-6:]
    for damaged, reason in (
        (content[:-9], "damaged"),
        (b"", "damaged"),
        (b"no such format", "damaged"),
        (flipped, "not those that were saved"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(trained.TrainedError, match=f"net.safetensors.*{reason}"):
            load_trained(file)
    with pytest.raises(trained.TrainedError, match="other.safetensors is missing"):
        load_trained(file.with_name("other.safetensors"))


def test_weights_that_do_not_fit_are_refused(file: Path) -> None:
    with pytest.raises(trained.TrainedError, match=r"weights are not those of its params(.|\n)*size mismatch"):
        load_trained(rewritten(file, lambda header: header["params"].update(hidden_channels=[3, 5])))
    with pytest.raises(trained.TrainedError, match="build no ConvEqProp: rho must be"):
        load_trained(rewritten(file, lambda header: header["params"].update(rho=2.0)))
    with pytest.raises(trained.TrainedError, match="build no ConvEqProp: .*unexpected keyword"):
        load_trained(rewritten(file, lambda header: header["params"].update(width=2)))
    with pytest.raises(trained.TrainedError, match="holds a 'LoopedMLP', not a ConvEqProp"):
        load_trained(rewritten(file, lambda header: header.update(model="LoopedMLP")))
    with pytest.raises(trained.TrainedError, match="says nothing about params"):
        load_trained(rewritten(file, lambda header: header.pop("params")))
    for metadata in (None, {trained.METADATA: "7"}, {trained.METADATA: "{"}):
        save_file({"a": torch.zeros(1)}, file, metadata)
        with pytest.raises(trained.TrainedError, match="does not say what it holds"):
            trained_info(file)


def test_what_cannot_be_saved_is_named_and_nothing_is_written(model: ConvEqProp, tmp_path: Path) -> None:
    target = tmp_path / "net.safetensors"
    bad: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
        (DeepEqProp(4, 3, 2), target, INFO, TypeError, "model must be a ConvEqProp, got DeepEqProp"),
        (ConvEqProp(1, 3, 2, image_size=8).double(), target, INFO, TypeError, "torch.float32 throughout, got .*64"),
        (model, target, {"seed": 0}, ValueError, "missing: dataset, recipe"),
        (model, target, INFO | {"seed": None}, TypeError, r"info\['seed'\] must be an integer, got None"),
        (model, target, INFO | {"note": torch.zeros(1)}, TypeError, "plain, finite values"),
        (model, target, INFO | {"loss": float("nan")}, ValueError, "plain, finite values"),
        (model, tmp_path / "net.pt", INFO, ValueError, "ends in .safetensors"),
        (model, 3, INFO, TypeError, "name must be a text or a path, got 3"),
    ]
    for net, name, info, error, match in bad:
        with pytest.raises(error, match=match):
            save_trained(net, name, info)
    assert list(tmp_path.iterdir()) == []
