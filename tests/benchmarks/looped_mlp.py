"""The published runs of notebook 04: LoopedMLP by EqProp next to BackpropMLP of equal size, on MNIST or the digits.

    python -m tests.benchmarks.looped_mlp mnist --seeds 0 1 2
    python -m tests.benchmarks.looped_mlp digits --seeds 0 1 2 3 4

Both networks get the same recipe, which was chosen on the validation images; the test images are looked at once per
seed, after training. MNIST takes about a minute a seed on one core. Writes data/results/NAME_looped_mlp.json, which
the README's table and notebook 04 read. A run that is stored there already is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.datasets import DataSet
from tests.benchmarks.published import RESULTS, Row, Training, measured, publish, shared

NETWORKS = {"eqprop": "LoopedMLP", "backprop": "BackpropMLP"}
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


def train(model: nn.Module, gradient: str, data: DataSet, recipe: dict[str, Any], seed: int) -> Row:
    """The record of one run."""
    names = ("optimizer", "lr", "weight_decay", "schedule", "beta", "free_steps", "nudged_steps")
    trainer = EqPropTrainer(model, gradient, **{name: recipe[name] for name in names}, progress=False)
    batches = data.train.batches(recipe["batch_size"], shuffle=True, seed=seed)
    return measured(trainer, lambda: trainer.fit(batches, recipe["epochs"], data.validation.batches(1000)), data)


def run(data: DataSet, recipe: dict[str, Any], seeds: Sequence[int], path: Path, fresh: bool = False) -> dict[str, Any]:
    """The result in `path`, with the runs of both networks for these seeds."""
    sizes = (data.input_dim, recipe["hidden_dim"], len(data.classes))

    def looped(seed: int) -> nn.Module:
        return LoopedMLP(*sizes, max_steps=recipe["max_steps"], seed=seed)

    def plain(seed: int) -> nn.Module:
        return BackpropMLP(*sizes, seed=seed)

    parameters, other = (sum(p.numel() for p in make(0).parameters()) for make in (looped, plain))
    if parameters != other:
        raise RuntimeError("the two networks must have equally many parameters")
    head = shared(data, ESTIMATOR, NETWORKS, sizes, parameters, recipe)
    trainings = {
        "eqprop": Training(lambda seed: train(looped(seed), ESTIMATOR, data, recipe, seed)),
        "backprop": Training(lambda seed: train(plain(seed), "autograd", data, recipe, seed)),
    }
    return publish(path, head, trainings, seeds, fresh)


def main() -> None:
    """Train, print a line per network and seed, and store every run at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    parser.add_argument("--fresh", action="store_true", help="discard the stored runs first")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.output / f"{arguments.data}_looped_mlp.json"
    run(build_dataset(arguments.data), RECIPES[arguments.data], arguments.seeds, path, arguments.fresh)
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
