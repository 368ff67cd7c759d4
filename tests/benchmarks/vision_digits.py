"""ResNet-8 and two DenseNets on the digits, five seeds: what notebook 13 shows beside a live run.

    python -m tests.benchmarks.vision_digits --seeds 0 1 2 3 4

One recipe for all three, the best on validation images of those that were tried when the networks
were designed; no grid was searched here, and the test images are looked at once a seed, after
training. Writes data/results/digits_vision.json; seconds
are CPU seconds of one thread, validation included.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.experiments.config import fit_experiment, make_trainer, parse_config
from eqprop_lab.experiments.runs import public_versions
from eqprop_lab.files import replace_text
from tests.benchmarks.published import RESULTS

NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet-8": {"name": "resnet8"},
    "DenseNet3(22, k 8)": {"name": "DenseNet3", "params": {"depth": 22, "growth_rate": 8}},
    "DenseNet3(40, k 12)": {"name": "DenseNet3", "params": {"depth": 40, "growth_rate": 12}},
}
EPOCHS = {"ResNet-8": 15, "DenseNet3(22, k 8)": 15, "DenseNet3(40, k 12)": 10}
TRAINING = {"optimizer": "sgd", "learning_rate": 0.2, "weight_decay": 5e-4, "batch_size": 64}
TRAINING |= {"schedule": "one_cycle", "gradient": "autograd"}


def train(network: str, seed: int, data: DataSet) -> dict[str, Any]:
    """One training and its scores."""
    content = {
        "model": NETWORKS[network],
        "training": TRAINING | {"epochs": EPOCHS[network]},
        "data": {"dataset": "digits", "augmentation": {"shift": 1}},
        "experiment": {"seed": seed},
    }
    config = parse_config(content)
    start = time.process_time()
    trainer = make_trainer(config)
    history = fit_experiment(config, trainer, data)
    used = time.process_time() - start
    return {
        "network": network,
        "seed": seed,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "cpu_seconds": round(used, 2),
        "val_accuracy": history["val_accuracy"],
        "test_accuracy": trainer.evaluate(data.test.batches(360))["accuracy"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, a line each, and store every run at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=RESULTS / "digits_vision.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    head = {"date": datetime.date.today().isoformat(), "device": "CPU, 1 thread"}
    result: dict[str, Any] = head | {"versions": public_versions()}
    result |= {"recipe": TRAINING | {"shift": 1}, "epochs": EPOCHS, "runs": []}
    if given.output.exists():
        result["runs"] = json.loads(given.output.read_text())["runs"]
    done = {(row["network"], row["seed"]) for row in result["runs"]}
    data = build_dataset("digits")
    for seed in given.seeds:
        for network in NETWORKS:
            if (network, seed) not in done:
                row = train(network, seed, data)
                result["runs"].append(row)
                print(network, seed, row["val_accuracy"][-1], row["test_accuracy"])
                replace_text(given.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
