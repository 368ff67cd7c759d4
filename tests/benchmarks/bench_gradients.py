"""Table of gradient errors: fresh and trained, MLP and conv, every estimator, against the true
sigma.

`python -m tests.benchmarks.bench_gradients [--epochs N]`; what is measured stands in
`gradient_errors`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tests.benchmarks.gradient_errors import errors, subjects, trained
from tests.benchmarks.store import write_result


def main() -> None:
    """Print the table and store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, make in subjects():
        for state in ("fresh", "trained"):
            model = make()
            step_error = trained(model, options.epochs)[1] if state == "trained" else 0.0
            row = {key: float(f"{value:.2e}") for key, value in errors(model).items()}
            rows.append(
                {
                    "model": name,
                    "state": state,
                    "d sigma/dW in the last step": float(f"{step_error:.2e}"),
                }
                | row
            )
            print(
                name,
                state,
                *(f"{key} {value:.1e}" for key, value in row.items()),
                sep="  ",
                flush=True,
            )
    write_result(
        "gradient_errors", {"epochs": options.epochs, "samples": 8, "rows": rows}, options.out
    )


if __name__ == "__main__":
    main()
