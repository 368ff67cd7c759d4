"""The published runs of notebook 04: LoopedMLP by EqProp next to BackpropMLP of equal size, on
MNIST or the digits.

    python -m tests.benchmarks.looped_mlp mnist --seeds 0 1 2
    python -m tests.benchmarks.looped_mlp digits --seeds 0 1 2 3 4

Both networks get the same recipe except for learning rate and weight decay, which `tune_looped_mlp`
chose for each on the same grid, on held-out training images; the test images are scored once per
seed, after training. MNIST takes about a minute a seed on one core. Writes
data/results/NAME_looped_mlp.json, which the README's table and notebook 04 read. A run that is
stored there already is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, build_dataset, count_parameters
from eqprop_lab.datasets import DataSet
from tests.benchmarks.published import RESULTS, Row, Training, measured, publish, shared

NETWORKS = {"eqprop": "LoopedMLP", "backprop": "BackpropMLP"}
ESTIMATOR = "centered"
GRADIENTS = {"eqprop": ESTIMATOR, "backprop": "autograd"}
SHARED: dict[str, Any] = {"optimizer": "adamw", "schedule": "one_cycle", "beta": 0.03}
RECIPES: dict[str, dict[str, Any]] = {
    "mnist": {
        "hidden_dim": 256,
        "max_steps": 20,
        "epochs": 10,
        "batch_size": 100,
        "lr": 6e-3,
        "weight_decay": 0.1,
    }
    | SHARED
    | {"free_steps": 8, "nudged_steps": 6},
    "digits": {
        "hidden_dim": 128,
        "max_steps": 30,
        "epochs": 15,
        "batch_size": 32,
        "lr": 4.8e-2,
        "weight_decay": 0.1,
    }
    | SHARED
    | {"free_steps": 12, "nudged_steps": 10},
}
# What the backprop network does otherwise: its own best point of the search.
TWINS: dict[str, dict[str, Any]] = {
    "mnist": {"lr": 6e-3, "weight_decay": 0.1},
    "digits": {"lr": 1.2e-2, "weight_decay": 0.1},
}


def makers(data: DataSet, recipe: Mapping[str, Any]) -> dict[str, Callable[[int], nn.Module]]:
    """How either network of `NETWORKS` is made from a seed. Raises RuntimeError unless they are of
    equal size.
    """
    sizes = (data.input_dim, recipe["hidden_dim"], len(data.classes))

    def looped(seed: int) -> nn.Module:
        return LoopedMLP(*sizes, max_steps=recipe["max_steps"], seed=seed)

    def plain(seed: int) -> nn.Module:
        return BackpropMLP(*sizes, seed=seed)

    if len({count_parameters(make(0)) for make in (looped, plain)}) > 1:
        raise RuntimeError("the two networks must have equally many parameters")
    return {"eqprop": looped, "backprop": plain}


def make_trainer(model: nn.Module, gradient: str, recipe: Mapping[str, Any]) -> EqPropTrainer:
    """The trainer of a recipe, for either network."""
    names = ("optimizer", "lr", "weight_decay", "schedule", "beta", "free_steps", "nudged_steps")
    return EqPropTrainer(model, gradient, **{name: recipe[name] for name in names}, progress=False)


def train(
    model: nn.Module, gradient: str, data: DataSet, recipe: Mapping[str, Any], seed: int
) -> Row:
    """The record of one run."""
    trainer = make_trainer(model, gradient, recipe)
    batches = data.train.batches(recipe["batch_size"], shuffle=True, seed=seed)
    return measured(
        trainer, lambda: trainer.fit(batches, recipe["epochs"], data.validation.batches(1000)), data
    )


def run(
    data: DataSet,
    recipe: dict[str, Any],
    seeds: Sequence[int],
    path: Path,
    fresh: bool = False,
    twin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The result in `path`, with the runs of both networks for these seeds. twin: other settings
    for backprop.
    """
    own = dict(twin or {})
    make = makers(data, recipe)
    sizes = (data.input_dim, recipe["hidden_dim"], len(data.classes))
    head = shared(data, ESTIMATOR, NETWORKS, sizes, count_parameters(make["eqprop"](0)), recipe)
    trainings = {
        "eqprop": Training(lambda seed: train(make["eqprop"](seed), ESTIMATOR, data, recipe, seed)),
        "backprop": Training(
            lambda seed: train(make["backprop"](seed), "autograd", data, recipe | own, seed), own
        ),
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
    name = arguments.data
    run(build_dataset(name), RECIPES[name], arguments.seeds, path, arguments.fresh, TWINS[name])
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
