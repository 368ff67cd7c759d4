"""The CIFAR-10 run at toy size: cut and resumed it is the uncut one, it keeps to its minutes, it
says what it did.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from eqprop_lab import build_dataset
from eqprop_lab.experiments.config import make_trainer
from eqprop_lab.experiments.runs import RunError, RunStore
from eqprop_lab.gpu import cifar
from eqprop_lab.gpu.cifar import (
    JPEG,
    RECIPES,
    Options,
    adapted,
    cifar10,
    epochs_in,
    measure_epoch,
    pixels,
    planned_epochs,
)
from eqprop_lab.models.backprop import BackpropCNN
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.training import EqPropTrainer, callbacks, trainer

CPU = torch.device("cpu")
INSTANT = 1e-6  # minutes in which nothing but the epoch that is always granted fits
NAMES = {"BackpropCNN": "backprop", "ConvEqProp": "eqprop"}


def toy(out: Path, **other: Any) -> Options:
    return Options(out=out, toy=True, **other)


def stored(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "cifar10.json").read_text())
    return content


def lasting(content: dict[str, Any]) -> dict[str, Any]:
    """Results without what differs from one call to the next: seconds, and the names of runs."""
    kept = dict(content)
    for network in RECIPES:
        kept[network] = {k: v for k, v in kept[network].items() if k not in ("seconds", "run")}
    return kept


def weights(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    runs = RunStore(out / "cifar10").runs()
    models = [torch.load(run.checkpoint, weights_only=True)["model"] for run in runs]
    return {NAMES[model["class"]]: model["state"] for model in models}


def test_cut_anywhere_and_resumed_it_is_the_uncut_run(tmp_path: Path) -> None:
    whole = cifar10(CPU, toy(tmp_path / "whole"))
    assert whole["ok"] and whole["finished"]
    assert whole["eqprop_epochs"] == whole["backprop_epochs"] == 2

    stages = [cifar10(CPU, toy(tmp_path / "cut", minutes=INSTANT)) for _ in range(5)]
    epochs = [(f["eqprop_epochs"], f["backprop_epochs"], f["finished"]) for f in stages]
    # The test needs the time of an epoch too: the call after the last epoch takes it, and goes on.
    assert epochs == [(1, 0, False), (2, 0, False), (2, 1, False), (2, 2, False), (2, 2, True)]
    one, other = stored(tmp_path / "whole"), stored(tmp_path / "cut")
    assert lasting(one) == lasting(other)
    left, right = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert set(left) == set(RECIPES)
    for network, state in left.items():
        assert all(torch.equal(state[name], right[network][name]) for name in state), network
    assert cifar10(CPU, toy(tmp_path / "cut")) == stages[-1] and stored(tmp_path / "cut") == other


def test_the_results_say_what_was_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = cifar10(CPU, toy(tmp_path, epochs=3))
    content = stored(tmp_path)
    assert content["toy"] is True and content["finished"] is True
    ours, twin = content["eqprop"], content["backprop"]
    assert ours["parameters"] == twin["parameters"]
    for entry in (ours, twin):
        assert entry["epoch"] == [1, 2, 3] and entry["config"]["training"]["epochs"] == 3
        assert entry["versions"]["torch"] == torch.__version__
        assert entry["pixels"] == "as published" and entry["config"]["experiment"]["seed"] == 0
        assert entry["train_loss"][2] < entry["train_loss"][0]
        assert len(entry["val_accuracy"]) == len(entry["seconds"]) == 3
        right = entry["test_accuracy"] * entry["test_samples"]
        assert right == pytest.approx(round(right))
    assert ours["estimator"] == ["centered"] * 3 and twin["estimator"] == ["autograd"] * 3
    assert all(0 < norm < 1 for norm in ours["norm"]) and all(r < 1e-2 for r in ours["residual"])
    assert twin["norm"] == twin["residual"] == [None] * 3
    assert figures["eqprop_test_accuracy"] == ours["test_accuracy"]
    assert figures["results"] == "cifar10.json" and figures["epochs"] == 3
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8 and printed[0].endswith(": ConvEqProp on digits, 3 epochs")
    assert printed[1].startswith("epoch   1  train loss ") and "norm" in printed[1]
    assert printed[7].startswith("epoch   3") and "norm" not in printed[7]


def test_the_test_images_are_looked_at_once_by_each_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[str, int]] = []
    evaluate = EqPropTrainer.evaluate

    def seen(trainer: EqPropTrainer, loader: Any) -> dict[str, float]:
        looks.append((type(trainer.model).__name__, int(loader.split.x.sum())))
        return evaluate(trainer, loader)

    monkeypatch.setattr(EqPropTrainer, "evaluate", seen)
    for _ in range(2):
        cifar10(CPU, toy(tmp_path))
    test = int(build_dataset("digits").test.x.sum())
    assert [name for name, images in looks if images == test] == ["ConvEqProp", "BackpropCNN"]
    assert len(looks) == 6  # and two epochs of each on the validation images


def test_the_second_network_is_not_begun_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, evaluate = [0.0], EqPropTrainer.evaluate
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(trainer: EqPropTrainer, loader: Any) -> dict[str, float]:
        # both epochs are done, their validation included: this is the test
        if trainer.history.epochs == 2:
            now[0] += 1000
        return evaluate(trainer, loader)

    monkeypatch.setattr(EqPropTrainer, "evaluate", slow)
    figures = cifar10(CPU, toy(tmp_path))
    assert "eqprop_test_accuracy" in figures and not figures["finished"]
    assert figures["backprop_epochs"] == 0


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    cifar10(CPU, toy(tmp_path, minutes=INSTANT))
    with pytest.raises(RunError, match=r"training\.epochs is 2 there, 5 here; go on with it by"):
        cifar10(CPU, toy(tmp_path, epochs=5))
    cifar10(CPU, toy(tmp_path, minutes=INSTANT))
    (run,) = RunStore(tmp_path / "cifar10").runs()
    run.checkpoint.unlink()
    with pytest.raises(RunError, match=r"holds a training of 2 epochs.*checkpoint\.pt is missing"):
        cifar10(CPU, toy(tmp_path))


def test_the_results_are_made_from_the_runs(tmp_path: Path) -> None:
    cifar10(CPU, toy(tmp_path))
    before = stored(tmp_path)
    (tmp_path / "cifar10.json").write_text("{")
    cifar10(CPU, toy(tmp_path))
    assert stored(tmp_path) == before


def ticking(patch: pytest.MonkeyPatch, step: float, other: float) -> None:
    """A clock that moves in training steps and validations only, by so many seconds each."""
    now, train_batch, evaluate = [0.0], EqPropTrainer.train_batch, EqPropTrainer.evaluate

    def later(method: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            now[0] += seconds
            return method(*given)

        return call

    faked = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    patch.setattr(callbacks, "time", faked)
    patch.setattr(trainer, "time", faked)
    patch.setattr(EqPropTrainer, "train_batch", later(train_batch, step))
    patch.setattr(EqPropTrainer, "evaluate", later(evaluate, other))


def test_epochs_that_fill_a_given_time_are_measured_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"step_seconds": 0.1, "other_seconds": 2.0}
    assert epochs_in(1.0, measured, batches=40) == 10
    assert epochs_in(0.001, measured, batches=40) == 1
    config = adapted("cifar10_conv", toy(tmp_path), CPU)
    with monkeypatch.context() as patch:
        ticking(patch, step=0.25, other=3.0)
        found = measure_epoch(config, build_dataset("digits"))
    assert found == {"step_seconds": 0.25, "other_seconds": 3.0}
    # An epoch of 40 steps is to take 6 s: in the time of three and a half of them three are done.
    monkeypatch.setattr(cifar, "measure_epoch", lambda *_: measured)
    options = toy(tmp_path, fill_minutes=3.5 * 6 / 60, minutes=INSTANT)
    figures = cifar10(CPU, options)
    assert figures["epochs"] == 3 and figures["step_seconds"] == 0.1
    # Later calls keep to them.
    later = cifar10(CPU, toy(tmp_path, fill_minutes=1e-3, minutes=INSTANT))
    assert later["epochs"] == 3 and later["eqprop_epochs"] == 2


def test_a_measurement_leaves_no_trace_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(CPU, toy(tmp_path / "plain"))
    monkeypatch.setattr(cifar, "epochs_in", lambda *_: 2)
    assert cifar10(CPU, toy(tmp_path / "filled", fill_minutes=1.0))["step_seconds"] > 0
    plain, filled = (lasting(stored(tmp_path / name)) for name in ("plain", "filled"))
    assert filled.pop("step_seconds") > 0 and filled.pop("other_seconds") > 0
    assert plain == filled


def test_the_twin_is_the_network_without_its_feedback(tmp_path: Path) -> None:
    ours, twin = (adapted(name, toy(tmp_path), CPU) for name in RECIPES.values())
    shared = set(ours.trainer) & set(twin.trainer) - {"gradient"}
    assert {k: ours.trainer[k] for k in shared} == {k: twin.trainer[k] for k in shared}
    assert (ours.epochs, ours.batch_size, ours.data) == (twin.epochs, twin.batch_size, twin.data)
    model, other = make_trainer(ours).model, make_trainer(twin).model
    assert isinstance(model, ConvEqProp)
    for name, weight in BackpropCNN.like(model, seed=0).state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of ten classes, `count` images of each in train and half as many in test."""

    def make(suffix: str, size: int = 16, count: int = 4) -> Path:
        root = tmp_path / f"images{suffix}{size}"
        for blue, part, number in ((0, "train", count), (120, "test", count // 2)):
            for label in range(10):
                (root / part / f"class{label}").mkdir(parents=True)
                for i in range(number):
                    colour = (25 * label, 40 * i, blue)
                    image = Image.new("RGB", (size, size), colour)
                    image.save(root / part / f"class{label}/{i}{suffix}")
        return root

    return make


def test_images_are_read_from_a_folder(folder: Callable[..., Path], tmp_path: Path) -> None:
    images = folder(".jpg")
    assert pixels("image_folder", str(images)) == JPEG
    assert pixels("image_folder", str(folder(".png"))) == "from image files"
    assert cifar10(CPU, toy(tmp_path / "out", data=images))["finished"]
    entry = stored(tmp_path / "out")["eqprop"]
    assert entry["pixels"] == JPEG and entry["config"]["data"]["dataset"] == "image_folder"
    assert str(tmp_path) not in json.dumps(stored(tmp_path / "out"))


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configs are read without the network of full size that is built to check them."""
    monkeypatch.setattr("eqprop_lab.experiments.config.make_trainer", lambda config: None)


@pytest.mark.usefixtures("unbuilt")
def test_the_recipe_is_adapted_to_where_its_images_are(
    tmp_path: Path, folder: Callable[..., Path]
) -> None:
    plain = adapted("cifar10_conv", Options(), CPU)
    assert plain.data == {"name": "cifar10", "validation": 5000}
    assert plain.trainer["device"] == "cpu" and plain.trainer["quick_kernels"]
    assert planned_epochs(plain, RunStore(tmp_path), Options()) == (100, {})
    (tmp_path / "cifar-10-batches-py").mkdir()
    found = adapted("cifar10_conv", Options(data=tmp_path), CPU)
    assert found.data == {**plain.data, "root": str(tmp_path)}
    images = folder(".png")
    found = adapted("cifar10_cnn", Options(data=images), CPU)
    assert found.data == {
        "validation": 5000,
        "name": "image_folder",
        "root": str(images),
        "seed": 0,
    }
    assert found.params["image_size"] == 32 and found.params["output_dim"] == 10


def test_options_are_checked() -> None:
    for given, message in (
        ({"minutes": 0}, "minutes must be a finite number > 0, got 0"),
        ({"epochs": 0}, "epochs must be an integer >= 1"),
        ({"fill_minutes": -1.0}, "fill_minutes must be"),
        ({"fill_minutes": 2.0, "epochs": 3}, "give one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            Options(**given)


def test_a_bound_that_is_lost_fails_the_check() -> None:
    for norms, ok in (([0.9, 0.9], True), ([0.9, 1.0], False), ([0.9, None], False)):
        entry = {"norm": norms, "epoch": [1, 2]}
        assert cifar.summary({"eqprop": entry, "finished": False})["ok"] is ok
