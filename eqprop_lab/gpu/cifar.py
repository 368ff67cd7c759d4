"""The check "cifar10": the recipes cifar10_conv and cifar10_cnn, one after the other, as two runs.

    python -m eqprop_lab gpu-check --only cifar10 --data FOLDER --minutes 9

again and again until it is finished, is `train RECIPE --minutes 9 --resume` for the equilibrium
network and then for its backprop twin, with images of another folder if need be. The runs lie in
OUT/cifar10. The test images are looked at once, by a network that is done; what came out is in
OUT/cifar10.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.experiments.config import (
    ExperimentConfig,
    build_experiment,
    config_file,
    fit_experiment,
    make_trainer,
    parse_config,
)
from eqprop_lab.experiments.resuming import runs_named, take_up
from eqprop_lab.experiments.runs import Run, RunStore
from eqprop_lab.files import replace_text
from eqprop_lab.training import Budget
from eqprop_lab.training.loggers import finite
from eqprop_lab.training.progress import show
from eqprop_lab.validation import positive_int, real
from eqprop_lab.yaml_files import read_yaml

TEXT = "ConvEqProp on CIFAR-10 beside its backprop twin, resumable, a few minutes a call"
RECIPES = {"eqprop": "cifar10_conv", "backprop": "cifar10_cnn"}
SIZES = {"input_channels": 3, "image_size": 32, "output_dim": 10}
TOY = {"hidden_channels": [4, 6], "kernel_size": [3, 4], "strides": [2, 2]}
TOY_TRAINING = {"epochs": 2, "batch_size": 32}
TOY_IMAGES = 64  # of a folder
MEASURED_STEPS = 20
JPEG = "decoded from JPEG files, not the published pixels"


@dataclass(frozen=True)
class Options:
    """out: folder of runs and results. data: folder of images (`image_folder`), or one with
    torchvision's cifar-10-batches-py; None is the project's data folder. minutes: of one call.
    epochs: instead of the recipe's; fill_minutes: as many as take the equilibrium network that
    long, measured first; later calls keep to them. toy: two small layers, two epochs, the digits
    without `data`. Raises TypeError, ValueError naming the argument.
    """

    out: Path = Path("runs/gpu-check")
    data: Path | None = None
    minutes: float = 9.0
    epochs: int | None = None
    fill_minutes: float | None = None
    toy: bool = False

    def __post_init__(self) -> None:
        real("minutes", self.minutes, above=0.0)
        if self.epochs is not None:
            positive_int("epochs", self.epochs)
        if self.fill_minutes is not None:
            real("fill_minutes", self.fill_minutes, above=0.0)
            if self.epochs is not None:
                raise ValueError(
                    f"epochs ({self.epochs}) and fill_minutes ({self.fill_minutes}): "
                    "give one of them"
                )


def cifar10(device: torch.device, options: Options | None = None) -> dict[str, Any]:
    """Work on both runs for one call and say where they stand.

    "ok": certified to settle at every epoch so far. Raises what reading the images raises;
    RunError for runs of another kind in the same folder; CheckpointError.
    """
    options = Options() if options is None else options
    budget = Budget(options.minutes)
    store = RunStore(options.out / "cifar10")
    configs = {network: adapted(name, options, device) for network, name in RECIPES.items()}
    epochs, measured = planned_epochs(configs["eqprop"], store, options)
    results: dict[str, Any] = {"toy": options.toy, **measured, "finished": False}
    for network, config in configs.items():
        if not budget.fits():
            break
        run, test = work(replace(config, epochs=epochs), store, budget)
        results[network] = entry(run, test)
        if test is None:
            break
        results["finished"] = network == "backprop"
    replace_text(
        options.out / "cifar10.json", json.dumps(finite(results), indent=1, allow_nan=False) + "\n"
    )
    return summary(results) | measured | {"epochs": epochs, "results": "cifar10.json"}


def adapted(recipe: str, options: Options, device: torch.device) -> ExperimentConfig:
    """The recipe for these images and this device; a toy one if that is asked for."""
    content: dict[str, Any] = read_yaml(config_file(recipe))
    content["training"] |= {"device": str(device)}
    if options.toy:
        content["model"]["params"] |= TOY
        content["training"] |= TOY_TRAINING
        content["data"] = {"dataset": "digits"}
    else:
        content["model"]["params"] |= SIZES
    if options.data is not None and (options.data / "cifar-10-batches-py").is_dir():
        content["data"] |= {"dataset": "cifar10", "root": str(options.data)}
    elif options.data is not None:
        content["data"] |= {"dataset": "image_folder", "root": str(options.data), "seed": 0}
        content["data"] |= {"limit": TOY_IMAGES} if options.toy else {}
    return parse_config(content)


def planned_epochs(
    config: ExperimentConfig, store: RunStore, options: Options
) -> tuple[int, dict[str, float]]:
    """How many epochs both networks train, and what was measured to find it."""
    if options.epochs is not None:
        return options.epochs, {}
    before = runs_named(store, config.experiment["name"])
    if before:
        return int(before[-1].config["training"]["epochs"]), {}
    if options.fill_minutes is None:
        return config.epochs, {}
    _, data = build_experiment(config)
    if not isinstance(data, DataSet):
        raise TypeError(f"the recipe must be one of images, {data.name} is a text")
    measured = measure_epoch(config, data)
    batches = -(-len(data.train) // config.batch_size)
    return epochs_in(options.fill_minutes, measured, batches), measured


def measure_epoch(config: ExperimentConfig, data: DataSet) -> dict[str, float]:
    """Seconds of a training step (20 after 20 for warming up), and of an epoch beside its steps."""
    rows = min(MEASURED_STEPS * config.batch_size, len(data.train))
    few = replace(data, train=Split(data.train.x[:rows], data.train.y[:rows]))
    budget = Budget(minutes=1e6)
    history = fit_experiment(replace(config, epochs=2), make_trainer(config), few, [budget])
    training = history["seconds"][1]
    return {
        "step_seconds": training / -(-rows // config.batch_size),
        "other_seconds": budget.seconds[1] - training,
    }


def epochs_in(minutes: float, measured: Mapping[str, float], batches: int) -> int:
    """How many epochs of `batches` steps take that long; at least one."""
    epoch = batches * measured["step_seconds"] + measured["other_seconds"]
    return max(1, int(60 * minutes / epoch))


def work(
    config: ExperimentConfig, store: RunStore, budget: Budget
) -> tuple[Run, dict[str, float] | None]:
    """Go on with one network: its run, and what the test images say of it when it is done."""
    content = config.as_dict()
    run = take_up(store, content) or store.create(content)
    tested = run.folder / "test.json"
    if tested.exists():
        return run, json.loads(tested.read_text(encoding="utf-8"))
    trainer, data = build_experiment(config)
    print(f"run {run.id}: {config.model} on {data.name}, {config.epochs} epochs")
    callbacks = [show, run, budget]
    fit_experiment(config, trainer, data, callbacks, resume=True, checkpoint_path=run.checkpoint)
    if trainer.history.epochs < config.epochs or not budget.fits():
        return run, None
    test = trainer.evaluate(data.test.to(trainer.device).batches(config.batch_size))
    found = {f"test_{key}": value for key, value in test.items()}
    found["parameters"] = sum(parameter.numel() for parameter in trainer.model.parameters())
    replace_text(tested, json.dumps(finite(found), indent=1) + "\n")
    return run, found


def entry(run: Run, test: dict[str, float] | None) -> dict[str, Any]:
    """What is stored of one run: what it was, its curves, and the test if there was one."""
    config = run.config
    folder = config["data"].pop("root", None)  # a path of this machine says nothing elsewhere
    return {
        "run": run.id,
        "config": config,
        "pixels": pixels(config["data"]["dataset"], folder),
        "versions": run.versions,
        **run.history,
        **(test or {}),
    }


def pixels(dataset: str, folder: str | None) -> str:
    """Where they come from."""
    if folder is None or dataset != "image_folder":
        return "as published"
    lossy = any(file.suffix.lower() in (".jpg", ".jpeg") for file in Path(folder).rglob("*.*"))
    return JPEG if lossy else "from image files"


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the check."""
    norms = results["eqprop"].get("norm", [])
    shown: dict[str, Any] = {
        "ok": all(norm is not None and norm < 1 for norm in norms),
        "finished": results["finished"],
    }
    for network in RECIPES:
        found = results.get(network, {})
        shown[f"{network}_epochs"] = len(found.get("epoch", ()))
        if "test_accuracy" in found:
            shown[f"{network}_test_accuracy"] = found["test_accuracy"]
    return shown
