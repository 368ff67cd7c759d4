"""Which accelerated solver to keep: steps and CPU time to a residual of 1e-6, for three candidates
beside Picard.

    over-relaxation   s + w (F(s) - s), the best w of a few
    Anderson(5)       the combination of the last five images with the least residual:
                      one small system a sample
    Chebyshev         what the package ships

`python -m tests.benchmarks.bench_solvers [--repeats N]` prints a table and writes
`results/solvers.json`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from eqprop_lab import LoopedMLP
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, settle
from eqprop_lab.equilibrium.solvers import Chebyshev, Damped, Solver, State
from tests.benchmarks.store import write_result

TOL, LIMIT, DEPTH = 1e-6, 300, 5
OVER = (1.1, 1.2, 1.3, 1.4)


class Anderson(Solver):
    """s <- sum_i a_i F(s_i), a of sum 1 with the least |sum_i a_i (F(s_i) - s_i)|, over the last
    `DEPTH` states.
    """

    def __init__(self) -> None:
        self.states: list[Tensor] = []
        self.images: list[Tensor] = []

    def advance(self, state: State, image: State) -> State:
        """One combination a sample; a little Tikhonov keeps the systems regular."""
        self.states, self.images = (
            [*self.states[1 - DEPTH :], state[0]],
            [*self.images[1 - DEPTH :], image[0].clone()],
        )
        images = torch.stack(self.images, 1)
        gaps = images - torch.stack(self.states, 1)
        gram = gaps @ gaps.mT
        size = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        eye = torch.eye(gram.shape[1])
        weights = torch.linalg.solve(
            gram + 1e-6 * size * eye, torch.ones(len(gram), gram.shape[1], 1)
        )
        return ((weights / weights.sum(1, keepdim=True) * images).sum(1),)


def candidates() -> dict[str, Callable[[], Solver]]:
    """Name -> a fresh solver."""
    fresh: dict[str, Callable[[], Solver]] = {
        "picard": Solver,
        "anderson": Anderson,
        "chebyshev": Chebyshev,
    }
    for w in OVER:
        fresh[f"over-relaxation {w}"] = partial(Damped, w)
    return fresh


def main() -> None:
    """Print and store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)  # the table says it: 300 steps is the limit
    rows = []
    for hidden, batch in ((256, 64), (512, 256)):
        torch.manual_seed(0)
        model, x = LoopedMLP(784, hidden, 10, seed=0), torch.rand(batch, 784)
        with torch.no_grad():  # the norm just below the bound, where training keeps it
            model.W_rec.get_parameter("parametrizations.weight.original").mul_(5.0)
            drive = model.drive(x)
            start = model.initial_state(drive)
            seconds: dict[str, list[float]] = {name: [] for name in candidates()}
            steps = {}
            for repeat in range(options.repeats + 3):
                for name, fresh in candidates().items():
                    began = time.process_time()
                    end = settle(model, start, drive, max_steps=LIMIT, tol=TOL, solver=fresh())
                    if repeat >= 3:
                        seconds[name].append(time.process_time() - began)
                    steps[name] = end.steps
        print(f"784-{hidden}-10, batch {batch}, residual <= {TOL:g}")
        for name in seconds:
            took = 1e3 * statistics.median(seconds[name])
            print(f"  {name:22} {steps[name]:4} steps  {took:8.2f} ms")
            rows.append(
                {
                    "hidden": hidden,
                    "batch": batch,
                    "solver": name,
                    "steps": steps[name],
                    "ms": round(took, 3),
                }
            )
    write_result("solvers", {"tol": TOL, "repeats": options.repeats, "rows": rows}, options.out)


if __name__ == "__main__":
    main()
