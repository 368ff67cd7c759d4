"""The published runs of notebook 04: LoopedMLP by EqProp next to BackpropMLP of equal size, on MNIST or the digits.

    python -m tests.benchmarks.looped_mlp mnist --seeds 0 1 2
    python -m tests.benchmarks.looped_mlp digits --seeds 0 1 2 3 4

Both networks get the same recipe, which was chosen on the validation images; the test images are looked at once per
seed, after training. MNIST takes about a minute a seed on one core. Writes data/results/NAME_looped_mlp.json, which
the README's table and notebook 04 read. Seconds are CPU seconds of the process, validation included.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, __version__, build_dataset
from eqprop_lab.datasets import DataSet
from eqprop_lab.regression.files import write_text

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"
ESTIMATOR = "centered"
SHARED: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.0, "schedule": "one_cycle", "beta": 0.03}
RECIPES: dict[str, dict[str, Any]] = {
    "mnist": {"hidden_dim": 256, "max_steps": 20, "epochs": 10, "batch_size": 100, "lr": 3e-3}
    | SHARED
    | {"free_steps": 8, "nudged_steps": 6},
    "digits": {"hidden_dim": 128, "max_steps": 30, "epochs": 15, "batch_size": 32, "lr": 6e-3}
    | SHARED
    | {"free_steps": 12, "nudged_steps": 10},
}


def train(model: nn.Module, gradient: str, data: DataSet, recipe: dict[str, Any], seed: int) -> dict[str, Any]:
    """Curves over the epochs, CPU seconds of the training, and the accuracy on the test images, looked at once."""
    names = ("optimizer", "lr", "weight_decay", "schedule", "beta", "free_steps", "nudged_steps")
    trainer = EqPropTrainer(model, gradient, **{name: recipe[name] for name in names}, progress=False)
    start = time.process_time()
    history = trainer.fit(
        data.train.batches(recipe["batch_size"], shuffle=True, seed=seed),
        epochs=recipe["epochs"],
        val_loader=data.validation.batches(1000),
    )
    seconds = time.process_time() - start
    curves = {key: history[key] for key in ("train_accuracy", "val_accuracy")}
    if gradient != "autograd":
        curves |= {key: history[key] for key in ("residual", "norm")}
    test = trainer.evaluate(data.test.batches(1000))
    rounded = {key: [float(f"{value:.5g}") for value in values] for key, values in curves.items()}
    return {"seed": seed, "test_accuracy": test["accuracy"], "cpu_seconds": round(seconds, 1), **rounded}


def run(data: DataSet, recipe: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The stored result: what was trained on what, and one record per seed of either network."""
    sizes = (data.input_dim, recipe["hidden_dim"], len(data.classes))
    eqprop, backprop, parameters = [], [], 0
    for seed in seeds:
        looped = LoopedMLP(*sizes, max_steps=recipe["max_steps"], seed=seed)
        plain = BackpropMLP(*sizes, seed=seed)
        parameters = sum(p.numel() for p in looped.parameters())
        if parameters != sum(p.numel() for p in plain.parameters()):
            raise RuntimeError("the two networks must have equally many parameters")
        eqprop.append(train(looped, ESTIMATOR, data, recipe, seed))
        backprop.append(train(plain, "autograd", data, recipe, seed))
        for name, rows in (("eqprop", eqprop), ("backprop", backprop)):
            row = rows[-1]
            print(
                f"seed {seed} {name:8} validation {row['val_accuracy'][-1]:.4f} test {row['test_accuracy']:.4f} "
                f"{row['cpu_seconds']:.0f} s CPU",
                flush=True,
            )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    threads = torch.get_num_threads()
    return {
        "device": f"CPU, {threads} thread{'s' if threads > 1 else ''}",
        "versions": {name: version.partition("+")[0] for name, version in versions.items()}
        | {"eqprop_lab": __version__},
        "date": datetime.date.today().isoformat(),
        "seeds": list(seeds),
        "estimator": ESTIMATOR,
        "dataset": data.name,
        "samples": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "sizes": list(sizes),
        "parameters": parameters,
        "recipe": recipe,
        "eqprop": eqprop,
        "backprop": backprop,
    }


def main() -> None:
    """Train, print a line per network and seed, and write the result whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = run(build_dataset(arguments.data), RECIPES[arguments.data], arguments.seeds)
    path = arguments.output / f"{arguments.data}_looped_mlp.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1) + "\n")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
