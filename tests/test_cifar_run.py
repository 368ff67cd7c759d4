"""The CIFAR-10 run at toy size: cut and resumed it is the uncut one, it keeps to its minutes, it
says what it did.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.experiments.config import ExperimentConfig, load_config
from eqprop_lab.gpu import budget as clock, cifar
from eqprop_lab.gpu.budget import Budget, Results, device_name, difference, read_results, wait
from eqprop_lab.gpu.cifar import cifar10, quick_kernels
from eqprop_lab.gpu.cifar_parts import (
    JPEG,
    TWIN_OPTIONS,
    Options,
    drawn_images,
    epochs_in,
    fit_to_data,
    measure_epoch,
    network_trainer,
    read_data,
)
from eqprop_lab.models.backprop import BackpropCNN
from eqprop_lab.training import EqPropTrainer, StopTraining
from eqprop_lab.training.optim import laid_out

CPU = torch.device("cpu")
INSTANT = 1e-6  # minutes in which nothing but the epoch that is always granted fits


@pytest.fixture(scope="session")
def recipe() -> ExperimentConfig:
    """The recipe of the package, without the network of full size that reading it builds to check
    it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eqprop_lab.experiments.config.make_trainer", lambda config: None)
        return load_config(cifar.RECIPE)


@pytest.fixture(autouse=True)
def _quick_recipe(recipe: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "load_config", {cifar.RECIPE: recipe}.__getitem__)


def toy(out: Path, **other: Any) -> Options:
    return Options(out=out, toy=True, **other)


def stored(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "cifar10.json").read_text())
    return content


def lasting(content: dict[str, Any]) -> dict[str, Any]:
    """Results without what differs from one call to the next: dates, seconds, calls."""
    kept = {key: value for key, value in content.items() if key not in ("date", "calls")}
    for network in cifar.NETWORKS:
        kept[network] = {key: value for key, value in kept[network].items() if key != "seconds"}
    return kept


def test_cut_anywhere_and_resumed_it_is_the_uncut_run(tmp_path: Path) -> None:
    whole = cifar10(CPU, toy(tmp_path / "whole"))
    assert (
        whole["ok"]
        and whole["finished"]
        and whole["eqprop_epochs"] == whole["backprop_epochs"] == 2
    )

    stages = [cifar10(CPU, toy(tmp_path / "cut", minutes=INSTANT)) for _ in range(5)]
    epochs = [
        (figures["eqprop_epochs"], figures["backprop_epochs"], figures["finished"])
        for figures in stages
    ]
    # The test needs the time of an epoch too: the call after the last epoch takes it, and goes on.
    assert epochs == [(1, 0, False), (2, 0, False), (2, 1, False), (2, 2, False), (2, 2, True)]
    one, other = stored(tmp_path / "whole"), stored(tmp_path / "cut")
    assert lasting(one) == lasting(other)
    for network in cifar.NETWORKS:
        weights = [
            torch.load(tmp_path / out / f"cifar10-{network}.pt", weights_only=True)["model"][
                "state"
            ]
            for out in ("whole", "cut")
        ]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), network
    assert [call["epochs"] for call in other["calls"]] == [1, 1, 1, 1, 0] and len(one["calls"]) == 1

    again = cifar10(CPU, toy(tmp_path / "cut"))
    assert again == stages[-1] and stored(tmp_path / "cut") == other


def test_the_results_say_what_was_run(
    tmp_path: Path, recipe: ExperimentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = cifar10(CPU, toy(tmp_path, epochs=3))
    content = stored(tmp_path)
    assert content["estimator"] == "centered" and content["seed"] == 0 and content["toy"] is True
    assert (
        content["device"] == device_name(CPU) and content["versions"]["torch"] == torch.__version__
    )
    assert content["date"][:2] == "20" and content["tf32"] is False and content["measured"] is None
    assert (
        content["samples"] == {"train": 64, "validation": 32, "test": 32}
        and content["pixels"] == "drawn"
    )
    assert content["recipe"]["training"]["epochs"] == 3 and content["finished"] is True
    assert content["twin"] == {key: v for key, v in recipe.trainer.items() if key in TWIN_OPTIONS}
    ours, twin = content["eqprop"], content["backprop"]
    assert ours["parameters"] == twin["parameters"]
    for entry in (ours, twin):
        assert entry["epoch"] == [1, 2, 3] and all(
            loss < 2 * math.log(4) for loss in entry["train_loss"]
        )
        assert all(
            len(entry[key]) == 3
            for key in ("val_loss", "val_accuracy", "train_accuracy", "seconds")
        )
        assert entry["test_accuracy"] * 32 == pytest.approx(round(entry["test_accuracy"] * 32))
    assert all(0 < norm < 1 for norm in ours["norm"]) and all(r < 1e-2 for r in ours["residual"])
    assert "norm" not in twin and "residual" not in twin
    assert (
        figures["eqprop_test_accuracy"] == ours["test_accuracy"]
        and figures["results"] == "cifar10.json"
    )
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6 and printed[0].startswith("eqprop   epoch   1 of 3  train loss ")
    assert (
        "norm" in printed[0]
        and "norm" not in printed[5]
        and printed[5].startswith("backprop epoch   3 of 3")
    )


def test_the_test_images_are_looked_at_once_by_each_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[str, int]] = []
    evaluate = EqPropTrainer.evaluate

    def seen(trainer: EqPropTrainer, loader: Any) -> dict[str, float]:
        looks.append((type(trainer.model).__name__, int(loader.split.x.sum())))
        return evaluate(trainer, loader)

    monkeypatch.setattr(EqPropTrainer, "evaluate", seen)
    cifar10(CPU, toy(tmp_path))
    test = int(drawn_images().test.x.sum())
    assert [name for name, images in looks if images == test] == ["ConvEqProp", "BackpropCNN"]
    assert len(looks) == 6  # and two epochs of each on the validation images


def test_the_second_network_is_not_begun_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, evaluate = [0.0], EqPropTrainer.evaluate
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(trainer: EqPropTrainer, loader: Any) -> dict[str, float]:
        # both epochs are done, their validation included: this is the test
        if trainer.history.epochs == 2:
            now[0] += 1000
        return evaluate(trainer, loader)

    monkeypatch.setattr(EqPropTrainer, "evaluate", slow)
    figures = cifar10(CPU, toy(tmp_path))
    assert (
        "eqprop_test_accuracy" in figures
        and figures["backprop_epochs"] == 0
        and not figures["finished"]
    )


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    cifar10(CPU, toy(tmp_path, minutes=INSTANT))
    with pytest.raises(
        ValueError, match=r"recipe\.training\.epochs is 2 there, 5 here; choose another folder"
    ):
        cifar10(CPU, toy(tmp_path, epochs=5))
    cifar10(CPU, toy(tmp_path, minutes=INSTANT))
    (tmp_path / "cifar10-eqprop.pt").unlink()
    with pytest.raises(
        ValueError, match=r"cifar10-eqprop\.pt is missing: put it back, or remove .*cifar10\.json"
    ):
        cifar10(CPU, toy(tmp_path))
    (tmp_path / "cifar10.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        cifar10(CPU, toy(tmp_path))
    (tmp_path / "cifar10.json").write_text("{}")
    with pytest.raises(ValueError, match="not what this check writes"):
        read_results(tmp_path / "cifar10.json")


def test_later_calls_keep_the_number_of_epochs_of_the_first(tmp_path: Path) -> None:
    cifar10(CPU, toy(tmp_path, epochs=1, minutes=INSTANT))
    assert cifar10(CPU, toy(tmp_path, fill_minutes=1.0))["epochs"] == 1
    assert stored(tmp_path)["finished"]


def test_without_json_the_checkpoint_still_counts(tmp_path: Path) -> None:
    cifar10(CPU, toy(tmp_path))
    before = lasting(stored(tmp_path))
    (tmp_path / "cifar10.json").unlink()
    cifar10(CPU, toy(tmp_path))
    assert lasting(stored(tmp_path)) == before


def ticking(patch: pytest.MonkeyPatch, step: float, other: float) -> None:
    """A clock that moves in training steps and validations only, by so many seconds each."""
    now, train_batch, evaluate = [0.0], EqPropTrainer.train_batch, EqPropTrainer.evaluate

    def later(method: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            now[0] += seconds
            return method(*given)

        return call

    faked = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    patch.setattr(clock, "time", faked)
    patch.setattr("eqprop_lab.training.trainer.time", faked)
    patch.setattr(EqPropTrainer, "train_batch", later(train_batch, step))
    patch.setattr(EqPropTrainer, "evaluate", later(evaluate, other))


def test_epochs_that_fill_a_given_time_are_measured_first(
    tmp_path: Path, recipe: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"step_seconds": 0.1, "other_seconds": 2.0}
    assert (
        epochs_in(1.0, measured, batches=40) == 10 and epochs_in(0.001, measured, batches=40) == 1
    )
    config = fit_to_data(recipe, drawn_images(), toy(tmp_path))
    with monkeypatch.context() as patch:
        ticking(patch, step=0.25, other=3.0)
        found = measure_epoch(config, drawn_images(), CPU)
    assert found == {"step_seconds": 0.25, "other_seconds": 3.0}
    # An epoch of four steps is to take 2.4 s: in the time of three and a half of them three are
    # done.
    monkeypatch.setattr(cifar, "measure_epoch", lambda *_: measured)
    cifar10(CPU, toy(tmp_path, fill_minutes=3.5 * 2.4 / 60))
    content = stored(tmp_path)
    assert content["recipe"]["training"]["epochs"] == 3 and content["measured"] == measured
    assert content["eqprop"]["epoch"] == [1, 2, 3]


def test_a_measurement_leaves_no_trace_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(CPU, toy(tmp_path / "plain"))
    monkeypatch.setattr(cifar, "epochs_in", lambda *_: 2)
    cifar10(CPU, toy(tmp_path / "filled", fill_minutes=1.0))
    plain, filled = (lasting(stored(tmp_path / name)) for name in ("plain", "filled"))
    assert filled.pop("measured")["step_seconds"] > 0 and plain.pop("measured") is None
    assert plain == filled


def test_the_budget_predicts_whether_the_next_epoch_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    trainer: Any = None

    def run(budget: Budget, seconds: list[float]) -> int:
        """Epochs of a fit whose epochs take so long."""
        budget.on_fit_start(trainer)
        for number, length in enumerate(seconds, start=1):
            now[0] += length
            try:
                budget.on_epoch_end(trainer, {})
            except StopTraining:
                return number
        return len(seconds)

    # after the third 15 s are left, and 16.5 might be needed
    assert run(Budget(minutes=1), [15] * 9) == 3
    # 20 s are left: too few for another long one
    assert run(Budget(minutes=1), [10, 20, 10, 10]) == 3
    assert run(Budget(minutes=1), [100, 1]) == 1  # one is always granted
    late = Budget(minutes=1, expected=30.0)
    now[0] += 40
    assert late.fits() and run(late, [1, 1]) == 1  # an earlier call has seen longer ones
    for minutes, error in ((0, ValueError), (math.nan, ValueError), ("9", TypeError)):
        with pytest.raises(error, match="minutes"):
            Budget(minutes)  # type: ignore[arg-type]


def test_results_remember_how_long_an_epoch_takes_on_this_device(tmp_path: Path) -> None:
    path, shared = tmp_path / "cifar10.json", {"recipe": {"a": (1, 2)}}
    for device, epochs, seconds in (
        ("card", 2, 6.0),
        ("card", 1, 2.0),
        ("cpu", 1, 90.0),
        ("card", 0, 0.0),
    ):
        results = Results(path, shared)
        results.begin(device, {})
        before = results.longest_epoch()
        results.worked([seconds / epochs] * epochs if epochs else [])
        results.save()
    assert before == 3.0 and len(results.content["calls"]) == 4
    assert difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b is 1 there, 2 here"
    assert difference({"a": None}, {"a": {"b": 2}}) == "a is None there, {'b': 2} here"


def test_gradients_get_the_layout_that_fused_optimisers_need() -> None:
    gradient = torch.arange(24.0).view(2, 3, 2, 2)
    parameter = torch.nn.Parameter(
        torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    )
    optimizer = torch.optim.SGD([parameter], lr=1.0, fused=True)
    parameter.grad = laid_out(gradient.clone(), parameter)
    optimizer.step()
    assert torch.equal(parameter.detach(), -gradient)


def test_both_networks_train_as_in_the_plain_layout(recipe: ExperimentConfig) -> None:
    data = drawn_images()
    config = fit_to_data(recipe, data, Options(toy=True))
    for network in cifar.NETWORKS:
        quick = network_trainer(network, config, CPU)
        plain = network_trainer(network, config, CPU)
        plain.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        wide = [p for p in quick.model.parameters() if p.ndim == 4]
        assert wide and all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
        for x, y in data.train.batches(16):
            quick.train_batch(x, y)
            plain.train_batch(x, y)
        for (name, p), q in zip(
            quick.model.named_parameters(), plain.model.parameters(), strict=True
        ):
            assert torch.allclose(p, q, rtol=1e-4, atol=1e-5), name
    assert isinstance(quick.model, BackpropCNN) and quick.gradient == "autograd"
    assert quick.lr == config.trainer["lr"] and quick.state.config == config.as_dict()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of ten classes, `count` images of each in train and half as many in test."""

    def make(suffix: str, size: int = 32, count: int = 2) -> Path:
        root = tmp_path / f"images{suffix}{size}"
        for blue, part, number in ((0, "train", count), (120, "test", count // 2)):
            for label in range(10):
                (root / part / f"class{label}").mkdir(parents=True)
                for i in range(number):
                    colour = (25 * label, 40 * i, blue)
                    Image.new("RGB", (size, size), colour).save(
                        root / part / f"class{label}/{i}{suffix}"
                    )
        return root

    return make


def test_images_are_read_from_a_folder(
    folder: Callable[..., Path], recipe: ExperimentConfig, tmp_path: Path
) -> None:
    small = replace(recipe, data={**recipe.data, "validation": 10})
    for suffix, pixels in ((".jpg", JPEG), (".png", "from image files")):
        data, found = read_data(small, Options(data=folder(suffix)))
        assert found == pixels and (len(data.train), len(data.validation), len(data.test)) == (
            10,
            10,
            10,
        )
        assert fit_to_data(small, data, Options()) is small
    figures = cifar10(CPU, toy(tmp_path / "out", data=folder(".jpg", size=16, count=4)))
    assert figures["finished"]
    content = stored(tmp_path / "out")
    assert (
        content["pixels"] == JPEG
        and content["dataset"] == "image_folder"
        and len(content["classes"]) == 10
    )
    assert str(tmp_path) not in json.dumps(content)


def test_torchvisions_files_are_read_where_they_are(
    tmp_path: Path, recipe: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def build(config: dict[str, Any]) -> DataSet:
        asked.append(config)
        return drawn_images()

    monkeypatch.setattr("eqprop_lab.gpu.cifar_parts.build_dataset", build)
    (tmp_path / "cifar-10-batches-py").mkdir()
    for data, root in ((tmp_path, {"root": tmp_path}), (None, {})):
        assert read_data(recipe, Options(data=data))[1] == "as published"
        assert asked.pop() == {**recipe.data, **root}


def test_other_images_are_refused_before_anything_is_built(recipe: ExperimentConfig) -> None:
    with pytest.raises(
        ValueError,
        match=r"32x32 colour images of ten classes, got images of shape \(3, 16, 16\) in 4",
    ):
        fit_to_data(recipe, drawn_images(), Options())
    x, y = torch.zeros(4, 3, 32, 32), torch.arange(4)
    few = DataSet("few", *[Split(x, y)] * 3, classes=("a", "b"))
    with pytest.raises(ValueError, match="in 2 classes"):
        fit_to_data(recipe, few, Options())


def test_options_are_checked() -> None:
    for given, message in (
        ({"minutes": 0}, "minutes must be a finite number > 0, got 0"),
        ({"epochs": 0}, "epochs must be an integer >= 1"),
        ({"fill_minutes": -1.0}, "fill_minutes must be"),
        ({"fill_minutes": 2.0, "epochs": 3}, "give one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            Options(**given)


def test_a_bound_that_is_lost_fails_the_check(tmp_path: Path) -> None:
    results = Results(tmp_path / "cifar10.json", {"recipe": {"training": {"epochs": 2}}})
    for norms, ok in (([0.9, 0.9], True), ([0.9, 1.0], False), ([0.9, None], False)):
        results.content["eqprop"] = {"norm": norms, "epoch": [1, 2]}
        assert cifar.summary(results)["ok"] is ok


def test_what_is_special_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda")
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device in (CPU, card):
        wait(device)
    assert waited == [card]  # without it a step would end when it has been handed over
    before = torch.backends.cudnn.benchmark
    with quick_kernels(CPU):
        assert torch.backends.cudnn.benchmark == before
    with quick_kernels(card):
        assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.benchmark == before
