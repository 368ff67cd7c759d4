"""Trained networks: what is loaded is what was saved, and a file that cannot be used is refused by
name.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eqprop_lab import (
    ConvEqProp,
    DeepEqProp,
    list_trained,
    load_trained,
    relax,
    save_trained,
    trained_info,
)
from eqprop_lab.experiments import trained
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
    net = ConvEqProp(
        1,
        [3, 4],
        5,
        gamma=0.2,
        rho=0.8,
        image_size=[8, 12],
        kernel_size=[3, 4],
        max_steps=9,
        seed=3,
    )
    random = torch.Generator().manual_seed(0)
    batch = torch.rand(16, 1, 8, 12, generator=random), torch.arange(16) % 5
    EqPropTrainer(net, lr=0.05, progress=False).fit([batch] * 3, 1)
    return net


@pytest.fixture
def file(model: ConvEqProp, tmp_path: Path) -> Path:
    return save_trained(model, tmp_path / "new" / "net.safetensors", INFO)


def rewritten(file: Path, change: Any, seal: bool = False) -> Path:
    """The file with its header changed by a function of the dict; seal: with the fingerprint of
    what it now says.
    """
    header = json.loads(trained.safe_open(file, framework="pt").metadata()[trained.METADATA])
    change(header)
    tensors = load_file(file)
    if seal:
        header["fingerprint"] = trained.seal(tensors, header)
    save_file(tensors, file, {trained.METADATA: json.dumps(header)})
    return file


def test_what_is_loaded_is_what_was_saved(model: ConvEqProp, file: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaded = load_trained(file)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training and geometry(loaded) == geometry(model)
    assert (loaded.gamma, loaded.rho, loaded.cap, loaded.max_steps) == (
        model.gamma,
        model.rho,
        model.cap,
        9,
    )
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
    assert info["model"] == "ConvEqProp" and info["parameters"] == sum(
        p.numel() for p in model.parameters()
    )
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
    with pytest.raises(
        ValueError, match="'other', 'tiny_conv', got 'tiny_con'; did you mean 'tiny_conv'"
    ):
        load_trained("tiny_con")
    with pytest.raises(ValueError, match="name must be letters"):
        save_trained(model, "../tiny", INFO)


@pytest.mark.parametrize("name", [name for name in list_trained() if name.endswith("_conv")])
def test_every_shipped_classifier_is_whole_small_and_settles(name: str) -> None:
    info, net = trained_info(name), load_trained(name)
    assert info["model"] == "ConvEqProp" and type(net) is ConvEqProp
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
        (flipped, "damaged: it is not what was saved"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(trained.TrainedError, match=f"net.safetensors.*{reason}"):
            load_trained(file)
    with pytest.raises(trained.TrainedError, match="other.safetensors is missing"):
        load_trained(file.with_name("other.safetensors"))


CHANGES: dict[str, Any] = {
    "gamma": lambda header: header["params"].update(gamma=0.25),
    "rho": lambda header: header["params"].update(rho=0.85),
    "unbounded": lambda header: header["params"].update(use_spectral_norm=False),
    "max_steps": lambda header: header["params"].update(max_steps=10),
    "channels": lambda header: header["params"].update(hidden_channels=[3, 5]),
    "kernel": lambda header: header["params"].update(kernel_size=[999, 999]),
    "accuracy": lambda header: header.update(test_accuracy=0.99),
    "recipe": lambda header: header["recipe"].update(epochs=100),
    "added": lambda header: header.update(note="better"),
    "missing": lambda header: header.pop("date"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_header_that_was_changed_is_refused_before_anything_is_built(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "_built", None)
    rewritten(file, CHANGES[what])
    match = "damaged: it is not what was saved|says nothing about date"
    for use in (load_trained, trained_info):
        with pytest.raises(trained.TrainedError, match=f"net.safetensors.*({match})"):
            use(file)


def test_the_order_of_a_header_does_not_matter(file: Path) -> None:
    def turn(header: dict[str, Any]) -> None:
        items = list(header.items())[::-1]
        header.clear()
        header.update(items)

    assert load_trained(rewritten(file, turn)).rho == 0.8


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"kernel_size": [999, 999]}, "kernel_size must be at most"),
        ({"hidden_channels": [3, 5]}, r"not those of its params .*'hidden_channels': \[3, 5\]"),
        ({"hidden_channels": [10**5, 10**5]}, r"have \d+ values, those of its params"),
        ({"image_size": [10**5, 10**5]}, r"have \d+ values, those of its params"),
        ({"output_dim": 10**9}, r"have \d+ values, those of its params"),
        (
            {"hidden_channels": [4, 3], "output_dim": 3},
            "weights are not those of its params|values, those of",
        ),
        ({"rho": 2.0}, "build no ConvEqProp: rho must be"),
        ({"rho": float("inf")}, "build no ConvEqProp: rho must be"),
        ({"gamma": "x"}, "build no ConvEqProp: gamma must be"),
        ({"strides": 7}, "build no ConvEqProp: strides"),
        ({"width": 2}, "build no ConvEqProp: .*unexpected keyword"),
    ],
)
def test_params_that_do_not_fit_are_refused_without_work(
    params: dict[str, Any], reason: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    genuine = torch.randn

    def small(*shape: Any, **options: Any) -> torch.Tensor:
        built.append(torch.Size(shape[0] if isinstance(shape[0], tuple) else shape).numel())
        assert built[-1] < 10**4, "a large weight was drawn"
        return genuine(*shape, **options)

    monkeypatch.setattr(torch, "randn", small)
    with pytest.raises(trained.TrainedError, match=reason):
        load_trained(rewritten(file, lambda header: header["params"].update(params), seal=True))


def test_other_headers_are_refused(file: Path) -> None:
    with pytest.raises(trained.TrainedError, match="holds a 'LoopedMLP', not a ConvEqProp, Hy"):
        load_trained(rewritten(file, lambda header: header.update(model="LoopedMLP"), seal=True))
    name: Any
    for name in ([1], {}, None, "torch.nn.Linear"):
        with pytest.raises(trained.TrainedError, match="not a ConvEqProp, HybridEqPropLM, .* or "):
            load_trained(rewritten(file, lambda header: header.update(model=name), seal=True))  # noqa: B023
    with pytest.raises(trained.TrainedError, match=r"params must be a mapping, got \[1\]"):
        load_trained(
            rewritten(file, lambda header: header.update(model="ConvEqProp", params=[1]), seal=True)
        )
    with pytest.raises(trained.TrainedError, match="says nothing about params"):
        load_trained(rewritten(file, lambda header: header.pop("params"), seal=True))
    for metadata in (
        None,
        {trained.METADATA: "7"},
        {trained.METADATA: "{"},
        {trained.METADATA: "[" * 10**5},
    ):
        save_file({"a": torch.zeros(1)}, file, metadata)
        with pytest.raises(trained.TrainedError, match="does not say what it holds"):
            trained_info(file)


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    model: ConvEqProp, file: Path
) -> None:
    tensors = load_file(file)
    header = json.loads(trained.safe_open(file, framework="pt").metadata()[trained.METADATA])
    tensors["W_out.weight"][0, 0] = float("nan")
    header["fingerprint"] = trained.seal(tensors, header)
    save_file(tensors, file, {trained.METADATA: json.dumps(header)})
    with pytest.raises(trained.TrainedError, match=r"W_out\.weight is not finite"):
        load_trained(file)
    with torch.no_grad():
        model.W_out.bias[0] = float("inf")
    with pytest.raises(ValueError, match=r"model.*W_out\.bias is not finite"):
        save_trained(model, file.with_name("other.safetensors"), INFO)
    assert not file.with_name("other.safetensors").exists()


@pytest.mark.parametrize("default", ["float64", "float16", "meta", "inference"])
def test_a_network_is_loaded_the_same_under_any_default(
    default: str, file: Path, model: ConvEqProp
) -> None:
    x = torch.rand(4, 1, 8, 12)
    with ExitStack() as stack:
        if default == "meta":
            stack.enter_context(torch.device("meta"))
        elif default == "inference":
            stack.enter_context(torch.inference_mode())
        else:
            torch.set_default_dtype(getattr(torch, default))
            stack.callback(torch.set_default_dtype, torch.float32)
        loaded = load_trained(file)
        shipped = load_trained(list_trained()[0])
    assert {p.dtype for p in loaded.parameters()} == {
        torch.float32
    } and not loaded.W_out.weight.is_inference()
    assert {str(p.device) for p in [*loaded.parameters(), *shipped.parameters()]} == {"cpu"}
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))
    EqPropTrainer(loaded, lr=0.05, progress=False).fit([(x, torch.arange(4))], 1)


def test_what_cannot_be_saved_is_named_and_nothing_is_written(
    model: ConvEqProp, tmp_path: Path
) -> None:
    target = tmp_path / "net.safetensors"
    bad: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
        (
            DeepEqProp(4, 3, 2),
            target,
            INFO,
            TypeError,
            "model must be a ConvEqProp, .* or BackpropWindowLM, got DeepEqProp",
        ),
        (
            ConvEqProp(1, 3, 2, image_size=8).double(),
            target,
            INFO,
            TypeError,
            "torch.float32 throughout, got .*64",
        ),
        (model, target, {"seed": 0}, ValueError, "missing: dataset, recipe"),
        (
            model,
            target,
            INFO | {"seed": None},
            TypeError,
            r"info\['seed'\] must be an integer, got None",
        ),
        (
            model,
            target,
            INFO | {"test_accuracy": "0.9"},
            TypeError,
            r"info\['test_accuracy'\] must be a.* number, got '0.9'",
        ),
        (model, target, INFO | {"note": torch.zeros(1)}, TypeError, "plain, finite values"),
        (model, target, INFO | {"loss": float("nan")}, ValueError, "plain, finite values"),
        (model, tmp_path / "net.pt", INFO, ValueError, "ends in .safetensors"),
        (model, 3, INFO, TypeError, "name must be a text or a path, got 3"),
    ]
    for net, name, info, error, match in bad:
        with pytest.raises(error, match=match):
            save_trained(net, name, info)
    assert list(tmp_path.iterdir()) == []
