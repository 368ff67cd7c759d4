"""CIFAR-10 from JPEG archives on a GPU: small ConvEqProp, its backprop twin and ResNet-8 beside it.

    python -m tests.benchmarks.cifar_playground eqprop --archives FOLDER --output OUT --minutes 4

FOLDER holds train.npz and test.npz (`tools/unpack_cifar10.py` says what is in them); the pixels are
those of JPEG files, not the published ones, less the mean of their colour and over its deviation in
the training images. As many epochs as fit are trained, measured first, at most --epochs.
OUT/NETWORK_OPTIMIZER_RATE_SEED.json has the curves; the test images are looked at once, and never
with --tuning, which is for choosing a recipe.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.datasets.splits import as_pixels
from eqprop_lab.devices import named
from eqprop_lab.experiments.config import (
    ExperimentConfig,
    fit_experiment,
    make_trainer,
    parse_config,
)
from eqprop_lab.experiments.runs import versions
from eqprop_lab.files import replace_text
from eqprop_lab.gpu.cifar import JPEG, epochs_in, measure_epoch
from eqprop_lab.training.loggers import finite
from eqprop_lab.training.progress import show
from eqprop_lab.utils import count_parameters
from tools.unpack_cifar10 import read_archive

HELD_OUT = 5000
EQPROP = {"gradient": "centered", "beta": 0.03, "free_steps": 5, "nudged_steps": 5}
EQPROP |= {"solver": "over_relaxed", "eval_tol": 1e-4}
ADAMW = {"optimizer": "adamw", "learning_rate": 4e-3, "weight_decay": 0.05}
DECAY: dict[str, dict[str, Any]] = {"adamw": {"weight_decay": 0.05}, "sgd": {"weight_decay": 5e-4}}
SGD = {"gradient": "autograd", "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4}
# 32-64 channels are the preset cifar_conv_small
NETWORKS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "eqprop": ("ConvEqProp", {"hidden_channels": 32, "gamma": 0.03}, EQPROP | ADAMW),
    "backprop": ("BackpropCNN", {"hidden_channels": 32}, {"gradient": "autograd"} | ADAMW),
    "eqprop_wide": ("ConvEqProp", {"hidden_channels": 128, "gamma": 0.03}, EQPROP | ADAMW),
    "backprop_wide": ("BackpropCNN", {"hidden_channels": 128}, {"gradient": "autograd"} | ADAMW),
    "resnet8": ("resnet8", {}, SGD),
    "resnet20": ("resnet20", {}, SGD),
}


def read(folder: Path, limit: int | None = None) -> DataSet:
    """The archives as a data set, the last 5,000 training images held out."""
    splits = []
    for part in ("train", "test"):
        archive = read_archive(folder / f"{part}.npz")
        count = len(archive) if limit is None else min(limit, len(archive))
        images = [np.asarray(Image.open(io.BytesIO(archive.file(i)))) for i in range(count)]
        x = as_pixels(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        splits.append(Split(x, torch.from_numpy(archive.labels[:count].astype(np.int64))))
    train, test = standardised(*splits)
    last = len(train) - min(HELD_OUT, len(train) // 5)
    held = Split(train.x[last:], train.y[last:])
    return DataSet("cifar10", Split(train.x[:last], train.y[:last]), held, test, archive.classes)


def standardised(train: Split, test: Split) -> list[Split]:
    """(x - mean) / deviation by colour, both of the training images: padding becomes the mean."""
    deviation, mean = torch.std_mean(train.x, (0, 2, 3), keepdim=True)
    deviation = deviation.clamp_min(1e-6)  # images of one grey
    return [Split((part.x - mean) / deviation, part.y) for part in (train, test)]


def config_of(
    network: str, rate: float | None, seed: int, device: str, optimizer: str | None = None
) -> dict[str, Any]:
    """The four sections of an experiment file."""
    model, params, training = NETWORKS[network]
    own = {} if optimizer is None else {"optimizer": optimizer, **DECAY[optimizer]}
    own |= {} if rate is None else {"learning_rate": rate}
    shared = {"schedule": "one_cycle", "batch_size": 256, "device": device}
    shared |= {"quick_kernels": device == "cuda"}
    augmentation = {"crop": 4, "flip": True}
    return {
        "model": {"name": model, "params": params},
        "training": training | shared | own,
        "data": {"dataset": "cifar10", "augmentation": augmentation},
        "experiment": {"name": f"cifar10_{network}", "seed": seed},
    }


def fitting(config: ExperimentConfig, data: DataSet, end: float, most: int) -> ExperimentConfig:
    """The experiment with as many epochs as fit, measured first. end: on `time.perf_counter`."""
    measured = measure_epoch(config, data)
    batches = -(-len(data.train) // config.batch_size)
    epochs = epochs_in((end - time.perf_counter()) / 60, measured, batches)
    return replace(config, epochs=min(most, epochs))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one network, look at the test images once, store the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--archives", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--epochs", type=int, default=60, help="at most")
    parser.add_argument("--rate", type=float, help="learning rate instead of the network's own")
    parser.add_argument("--optimizer", choices=list(DECAY), help="instead of the network's own")
    parser.add_argument("--tuning", action="store_true", help="leave the test images alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--limit", type=int, help="only so many images of each part")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    settings = (given.network, given.rate, given.seed, given.device, given.optimizer)
    config = parse_config(config_of(*settings))
    data = read(given.archives, given.limit)
    config = fitting(config, data, start + 60 * given.minutes, given.epochs)
    trainer = make_trainer(config)
    history = fit_experiment(config, trainer, data, [show])
    test = {} if given.tuning else trainer.evaluate(data.test.to(trainer.device).batches(1000))
    row = {
        "network": given.network,
        "parameters": count_parameters(trainer.model),
        "pixels": f"{JPEG}, standardised by colour",
        "samples": {"train": len(data.train), "validation": len(data.validation)}
        | {"test": len(data.test)},
        "device": named(trainer.device),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "config": config.as_dict(),
        **history,
        **{f"test_{key}": value for key, value in test.items()},
    }
    kind = config.as_dict()["training"]["optimizer"]
    name = f"{given.network}_{kind}_{trainer.lr:g}_{given.seed}.json"
    text = json.dumps(finite(row), indent=1, allow_nan=False)
    reached = {"validation": history["val_accuracy"][-1], "test": test.get("accuracy")}
    print(f"{name}: {config.epochs} epochs, accuracy {reached}")
    replace_text(given.output / name, text + "\n")


if __name__ == "__main__":
    main()
