"""The learning rules beside each other on the digits, as far as possible on equal terms.

    python -m tests.benchmarks.learning_rules

`compare_models` with the plan below: as many parameters as 128-64 has, one learning rate each, from
the same grid by validation accuracy, five other seeds, the test set after equal epochs and after
equal CPU time. Writes data/results/digits_learning_rules.json and .csv; a training that is stored
there is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.experiments.compare_models import ModelComparison, compare_models
from tests.benchmarks.published import RESULTS

NAME = "digits_learning_rules"
WIDTHS: dict[str, list[int]] = {"eq_align": [128]}
RULES = (
    "backprop", "eqprop", "mom_eq", "sparse_eq", "cf_align", "feedback_alignment",
    "direct_feedback_alignment", "sign_symmetry", "ada_fa", "eg_fa", "sto_fa", "em_fa", "leq_fa",
    "pc_hybrid", "eq_align",
)  # fmt: skip
PLAN: dict[str, Any] = {
    "metrics": ("accuracy", "loss", "cpu_seconds", "alignment"),
    "epochs": 15,
    "seconds": 2.0,
    "seeds": 5,
    "learning_rates": (1e-3, 3e-3, 1e-2),
    "tuning_seeds": 1,
    "batch_size": 32,
}
# what the project asks of each
FLOOR = 0.90
HIGHER = {"eqprop": 0.94, "mom_eq": 0.94, "leq_fa": 0.94}


def models() -> dict[str, dict[str, Any]]:
    """Two hidden layers, 2 : 1, for all but the rule that has one."""
    found = {}
    for name in RULES:
        params = {"algorithm": name, "hidden_dims": WIDTHS.get(name, [128, 64])}
        found[name] = {"model": "BioplausibleModel", "params": params}
    return found


def run(folder: Path = RESULTS, processes: int = 1) -> ModelComparison:
    """The comparison, with the trainings that were missing."""
    path = folder / f"{NAME}.json"
    found = compare_models(models(), "digits", path=path, processes=processes, **PLAN)
    found.to_csv(folder / f"{NAME}.csv")
    return found


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, 1 or 2")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(run(given.output, given.processes).table())


if __name__ == "__main__":
    main()
