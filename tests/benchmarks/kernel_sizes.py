"""The stored table of notebook 08: what a training step costs, hidden size by number of steps.

`python -m tests.benchmarks.kernel_sizes [--repeats N] [--output FOLDER]` writes
data/results/kernel_sizes.json. The rows are those of `eqprop_lab.instruments.kernel_costs`: 784
inputs, 10 classes, batch 64, a third as many nudged steps as free ones, one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.devices import capability
from eqprop_lab.instruments.kernel_costs import Size, step_costs
from tests.benchmarks.published import RESULTS
from tests.benchmarks.store import write_result

HIDDEN = (32, 64, 128, 256, 512)
STEPS = (10, 30, 100, 300)


def main() -> None:
    """Print the rows and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for hidden in HIDDEN:
        for steps in STEPS:
            row = step_costs(Size(hidden, steps), options.repeats)
            print(row)
            rows.append(row)
    shared: dict[str, Any] = {"seeds": [0], "estimator": "centered", "capability": capability()}
    shared |= {"batch": 64, "features": 784, "classes": 10, "repeats": options.repeats}
    write_result("kernel_sizes", shared | {"rows": rows}, options.output)


if __name__ == "__main__":
    main()
