"""Five ensembles of five LoopedMLP by EqProp, and of their backprop twins, on the digits.

    python -m tests.benchmarks.ensembles

Every member is trained by the published recipe of its rule (`looped_mlp`), with another seed for
weights and order. Temperatures are fitted on the validation images; the test images are looked at
once, by the finished ensemble. `seed` is that of the first member. Writes
data/results/digits_ensembles.json: for each ensemble NLL,
ECE and accuracy of every member and of all together, before and after their temperature.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab import build_dataset
from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.experiments.combining import Ensemble
from eqprop_lab.instruments.calibration import calibration, fit_temperature
from tests.benchmarks.looped_mlp import GRADIENTS, RECIPES, TWINS, make_trainer, makers
from tests.benchmarks.published import RESULTS, Row
from tests.benchmarks.rows import Rows

MEMBERS = 5
BINS = 15
DIGITS: dict[str, dict[str, Any]] = {
    "eqprop": RECIPES["digits"],
    "backprop": RECIPES["digits"] | TWINS["digits"],
}


def member(rule: str, seed: int, data: DataSet, part: Split | None = None) -> nn.Module:
    """One trained network, never shown the test images. part: of the training images, all it learns
    from, in as many updates as the recipe has on all of them.
    """
    split, recipe = data.train if part is None else part, DIGITS[rule]
    epochs = round(recipe["epochs"] * len(data.train) / len(split))
    model = makers(data, recipe)[rule](seed)
    batches = split.batches(recipe["batch_size"], shuffle=True, seed=seed)
    make_trainer(model, GRADIENTS[rule], recipe).fit(batches, epochs)
    return model.eval()


def scores(model: nn.Module, data: DataSet) -> Row:
    """NLL, ECE, accuracy on the test images; with the temperature of the validation images too,
    and the NLL of those, by which a member could be picked.
    """
    with torch.no_grad():
        held, z = model(data.validation.x), model(data.test.x)
    temperature = fit_temperature(held, data.validation.y)
    found = {"temperature": round(temperature, 4)}
    judged = calibration(held.double().softmax(1), data.validation.y)
    found |= {"validation_nll": round(judged.nll, 5)}
    for name, logits in (("", z), ("_tempered", z / temperature)):
        found |= _scores(logits, data.test.y, name)
    return found


def _scores(logits: Tensor, y: Tensor, name: str) -> Row:
    told = calibration(logits.double().softmax(1), y, BINS)
    return {f"{key}{name}": round(getattr(told, key), 5) for key in ("nll", "ece", "accuracy")}


def ensemble(rule: str, number: int, data: DataSet) -> Row:
    """The record of one ensemble."""
    start = time.process_time()
    models = [member(rule, MEMBERS * number + seed, data) for seed in range(MEMBERS)]
    used = time.process_time() - start
    together = Ensemble(models)
    return {
        "cpu_seconds": round(used, 1),
        "members": [scores(model, data) for model in models],
        "together": scores(together, data),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ensembles", type=int, default=5)
    parser.add_argument("--rules", nargs="+", choices=list(DIGITS), default=list(DIGITS))
    parser.add_argument("--output", type=Path, default=RESULTS / "digits_ensembles.json")
    parser.add_argument("--fresh", action="store_true", help="discard the stored rows first")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = build_dataset("digits")
    shared = {"dataset": "digits", "estimator": "centered", "bins": BINS, "recipes": DIGITS}
    rows = Rows(given.output, shared, given.fresh)
    for rule in given.rules:
        for number in range(given.ensembles):
            key = {"rule": rule, "ensemble": number, "seed": MEMBERS * number}
            rows.make(key, lambda: ensemble(rule, number, data))  # noqa: B023


if __name__ == "__main__":
    main()
