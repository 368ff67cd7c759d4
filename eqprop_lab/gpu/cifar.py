"""The check "cifar10": ConvEqProp trained on CIFAR-10 with nudged phases, and its backprop twin on
the same images.

    python -m eqprop_lab gpu-check --only cifar10 --data FOLDER --minutes 9        again and again until it is finished

Every call goes on where the last one stopped and works for at most `minutes`. First the equilibrium
network is trained, then the feed-forward one: the same layers, images, epochs and optimiser. The
curves are in OUT/cifar10.json after every epoch; the test images are looked at once, by a network
that is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from eqprop_lab.datasets import DataSet
from eqprop_lab.experiments.config import ExperimentConfig, fit_experiment, load_config
from eqprop_lab.experiments.runs import versions
from eqprop_lab.gpu.budget import Budget, Results, device_name, read_results
from eqprop_lab.gpu.cifar_parts import (
    TWIN_OPTIONS,
    Options,
    epochs_in,
    fit_to_data,
    measure_epoch,
    network_trainer,
    read_data,
)
from eqprop_lab.training.history import Record

RECIPE = "cifar10_conv"
TEXT = "ConvEqProp on CIFAR-10 beside its backprop twin, resumable, a few minutes a call"
NETWORKS = ("eqprop", "backprop")
CURVES = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
SETTLING = ("residual", "norm")  # curves of the equilibrium network only


@contextmanager
def quick_kernels(device: torch.device) -> Iterator[None]:
    """On CUDA: convolutions in TF32 with the quickest kernel for every shape."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=True
    ):
        yield


def cifar10(device: torch.device, options: Options | None = None) -> dict[str, Any]:
    """Work on the run for one call and return where it stands. "ok": certified to settle at every
    epoch so far.

    Raises: what reading the images raises; ValueError for stored results of another run;
    CheckpointError.
    """
    options = Options() if options is None else options
    budget = Budget(options.minutes)
    recipe = load_config(RECIPE)
    images, pixels = read_data(recipe, options)
    config = fit_to_data(recipe, images, options)
    data = replace(
        images,
        **{part: getattr(images, part).to(device) for part in ("train", "validation", "test")},
    )
    path = options.out / "cifar10.json"
    with quick_kernels(device):
        config, measured = _laid_out(config, data, device, options, read_results(path))
        results = Results(path, facts(config, data, pixels, options))
        if results.content["finished"]:
            return summary(results)
        results.begin(device_name(device), versions())
        results.content.setdefault("measured", measured)
        results.content["tf32"] = device.type == "cuda"
        budget.longest = results.longest_epoch()
        for network in NETWORKS:
            if not _work(network, config, data, device, results, budget):
                break
    return summary(results)


def _laid_out(
    config: ExperimentConfig,
    data: DataSet,
    device: torch.device,
    options: Options,
    stored: dict[str, Any] | None,
) -> tuple[ExperimentConfig, dict[str, float] | None]:
    """The recipe with its number of epochs, and what was measured to find it."""
    if options.epochs is not None:
        return replace(config, epochs=options.epochs), None
    if stored is not None:
        return replace(config, epochs=stored["recipe"]["training"]["epochs"]), None
    if options.fill_minutes is None:
        return config, None
    measured = measure_epoch(config, data, device)
    batches = -(-len(data.train) // config.batch_size)
    return replace(config, epochs=epochs_in(options.fill_minutes, measured, batches)), measured


def facts(config: ExperimentConfig, data: DataSet, pixels: str, options: Options) -> dict[str, Any]:
    """What all calls of one run share."""
    return {
        "estimator": config.trainer.get("gradient", "centered"),
        "seed": config.seed,
        "toy": options.toy,
        "dataset": data.name,
        "pixels": pixels,
        "classes": data.classes,
        "samples": {part: len(getattr(data, part)) for part in ("train", "validation", "test")},
        "recipe": config.as_dict(),
        "twin": {key: value for key, value in config.trainer.items() if key in TWIN_OPTIONS},
    }


def _work(
    network: str,
    config: ExperimentConfig,
    data: DataSet,
    device: torch.device,
    results: Results,
    budget: Budget,
) -> bool:
    """Go on with one network; whether it is done, test included."""
    entry = results.content.setdefault(network, {})
    if "test_accuracy" in entry:
        return True
    checkpoint = results.path.with_name(f"cifar10-{network}.pt")
    if len(entry.get("epoch", ())) > 1 and not checkpoint.exists():
        raise ValueError(
            f"{checkpoint} is missing: put it back, or remove {results.path} to begin anew"
        )
    if not budget.fits():
        return False
    trainer = network_trainer(network, config, device)
    entry["parameters"] = sum(parameter.numel() for parameter in trainer.model.parameters())
    curves = CURVES if network == "backprop" else CURVES + SETTLING

    def store() -> None:
        entry.update({key: trainer.history[key] for key in curves if key in trainer.history})
        results.save()

    def show(record: Record) -> None:
        store()
        settled = f"norm {record['norm']:.3f}  " if "norm" in curves else ""
        print(
            f"{network:<9}epoch {record['epoch']:>3} of {config.epochs}  train loss {record['train_loss']:.4f}  "
            f"validation accuracy {record['val_accuracy']:.4f}  {settled}{record['seconds']:.1f} s",
            flush=True,
        )

    fit_experiment(config, trainer, data, [show, budget], checkpoint_path=checkpoint, resume=True)
    done = trainer.history.epochs == config.epochs and budget.fits()
    if done:
        test = trainer.evaluate(data.test.batches(config.batch_size))
        kept = ("accuracy", "loss") if network == "backprop" else ("accuracy", "loss", "residual")
        entry.update({f"test_{key}": test[key] for key in kept})
        results.content["finished"] = network == NETWORKS[-1]
    results.worked(budget.seconds)
    store()
    return done


def summary(results: Results) -> dict[str, Any]:
    """The figures of the check."""
    content = results.content
    norms = content["eqprop"].get("norm", [])
    shown: dict[str, Any] = {
        "ok": all(norm is not None and norm < 1 for norm in norms),
        "finished": content["finished"],
    }
    for network in NETWORKS:
        entry = content.get(network, {})
        shown[f"{network}_epochs"] = len(entry.get("epoch", ()))
        if "test_accuracy" in entry:
            shown[f"{network}_test_accuracy"] = entry["test_accuracy"]
    return shown | {"epochs": content["recipe"]["training"]["epochs"], "results": results.path.name}
