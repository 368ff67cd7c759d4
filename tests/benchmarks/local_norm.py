"""What keeps the loop of a LoopedMLP settling, and what a synapse must know for it: five ways side
by side.

    python -m tests.benchmarks.local_norm

    bounded      W = S / sqrt(1 + (m sigma/c)^2), the model's own: dL/dA needs sigma and the top
                 vector v of all of S
    sigma held   the same W, but dL/dA without the term along v: one number for all synapses is
                 still broadcast
    units        W_ij = S_ij / sqrt(q_i q_j), q_i = sqrt(1 + (r_i/c)^2), r_i = sum_j |S_ij|:
                 a number of each unit
    decay d      W = S, and every synapse shrinks by itself (AdamW, d on W_rec only): no promise
    free         W = S, nothing at all

`units` is certified: |W| <= c D^-1/2 |S| D^-1/2 with D the row sums of |S|, which is similar to a
stochastic matrix, so ||W|| <= c. Its price is the bound itself: a random S with row sums c has a
norm of about 2c/sqrt(n) only.

Scored on held-out training images (folds of `tune_looped_mlp`), each way at the best of the same
three learning rates; no test image is looked at. Writes data/results/digits_local_norm.json, which
notebook 04 reads.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.equilibrium.state import State
from eqprop_lab.files import replace_text
from tests.benchmarks.looped_mlp import ESTIMATOR, RECIPES
from tests.benchmarks.published import RESULTS, Row, read, shared
from tests.benchmarks.tune_looped_mlp import fold

RATES = (6e-3, 1.2e-2, 2.4e-2)
DECAYS = (1.0, 3.0, 10.0)
W_REC = "W_rec.parametrizations.weight.original"


def unit_bounded(matrix: Tensor, cap: float) -> Tensor:
    """S (n, n) symmetric -> W_ij = S_ij / sqrt(q_i q_j), symmetric, with norm at most `cap`."""
    units = (1 + (matrix.abs().sum(1) / cap).square()).pow(-0.25)
    return matrix * units[:, None] * units


class UnitBounded(LoopedMLP):
    """LoopedMLP whose recurrent weights are bounded by what their two units know. rho: the cap."""

    def __init__(self, *sizes: int, rho: float = 0.9, **options: Any) -> None:
        super().__init__(*sizes, use_spectral_norm=False, rho=rho, **options)

    def effective_weights(self) -> dict[str, Tensor]:
        """W_rec (H, H), norm at most rho."""
        return {"W_rec": unit_bounded(self.W_rec.weight, self.rho)}

    def force(self, state: State, drive: State) -> State:
        """a = W_rec h + u."""
        weights = self.effective_weights() if self._frozen is None else self._frozen
        return (torch.addmm(drive[0], state[0], weights["W_rec"]),)

    def contraction_bound(self) -> float:
        """||W_rec||_2."""
        return exact_norm(self.effective_weights()["W_rec"])


class SigmaHeld(LoopedMLP):
    """LoopedMLP that learns as if sigma, which divides its weights, did not depend on them."""

    def parameter_gradients(
        self, x: Tensor, cotangent: State, state: State, *rest: Any
    ) -> dict[str, Tensor]:
        """As in LoopedMLP, without the part of dL/dA along the top vector."""
        found = super().parameter_gradients(x, cotangent, state, *rest)
        with torch.no_grad():
            matrix, weight = (
                m for m in (self.W_rec.parametrizations.weight.original, self.W_rec.weight)
            )
            matrix = (matrix + matrix.T) / 2
            by_weight = cotangent[0].T @ state[0]
            scale = torch.sum(weight * matrix) / torch.sum(matrix * matrix)
            found[W_REC] = scale * (by_weight + by_weight.T) / 2
        return found


def optimizer(model: nn.Module, lr: float, decay: float) -> Callable[..., torch.optim.Optimizer]:
    """AdamW with a weight decay of W_rec alone."""

    def make(parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        own = model.get_parameter(W_REC)
        others = [p for p in parameters if p is not own]
        groups = [{"params": others, "weight_decay": 0.0}, {"params": [own], "weight_decay": decay}]
        return torch.optim.AdamW(groups, lr=lr)

    return make


WAYS: dict[str, tuple[type[LoopedMLP], dict[str, Any], float]] = {
    "bounded": (LoopedMLP, {}, 0.0),
    "sigma held": (SigmaHeld, {}, 0.0),
    "units": (UnitBounded, {}, 0.0),
    **{f"decay {d:g}": (LoopedMLP, {"use_spectral_norm": False}, d) for d in DECAYS},
    "free": (LoopedMLP, {"use_spectral_norm": False}, 0.0),
}


def score(way: str, lr: float, seed: int, recipe: Mapping[str, Any]) -> Row:
    """One training: accuracy on held-out images, norm of W_rec, residuals in training and after
    `max_steps`.
    """
    data = fold(build_dataset("digits"), seed)
    kind, options, decay = WAYS[way]
    model = kind(64, recipe["hidden_dim"], 10, max_steps=recipe["max_steps"], seed=seed, **options)
    names = ("schedule", "beta", "free_steps", "nudged_steps")
    trainer = EqPropTrainer(
        model,
        ESTIMATOR,
        optimizer(model, lr, decay),
        lr,
        **{name: recipe[name] for name in names},
        progress=False,
    )
    history = trainer.fit(
        data.train.batches(recipe["batch_size"], shuffle=True, seed=seed), recipe["epochs"]
    )
    found = trainer.evaluate(data.validation.batches(1000))
    values = {
        "val_accuracy": found["accuracy"],
        "val_loss": found["loss"],
        "norm": model.contraction_bound(),
        "train_residual": history["residual"][-1],
        "val_residual": found["residual"],
    }
    return {"way": way, "lr": lr, "seed": seed} | {
        name: float(f"{value:.4g}") for name, value in values.items()
    }


def run(
    path: Path, recipe: Mapping[str, Any], ways: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """The result in `path`, with the trainings that were missing. Raises ValueError for one made by
    another recipe.
    """
    common = {key: value for key, value in recipe.items() if key not in ("lr", "weight_decay")}
    head = shared(build_dataset("digits"), ESTIMATOR, {}, (), 0, common)
    head = {key: head[key] for key in ("device", "versions", "estimator", "dataset", "recipe")}
    result = read(path) or {"runs": []}
    if result.get("recipe", common) != json.loads(json.dumps(common)):
        raise ValueError(
            f"{path.name} holds trainings by another recipe: {result['recipe']}; remove it first"
        )
    rows = result["runs"]
    for way in ways:
        for lr in RATES:
            for seed in seeds:
                if not any((row["way"], row["lr"], row["seed"]) == (way, lr, seed) for row in rows):
                    rows.append(score(way, lr, seed, recipe))
                    seen = {
                        "date": datetime.date.today().isoformat(),
                        "seeds": sorted({row["seed"] for row in rows}),
                    }
                    result = head | seen | {"runs": rows}
                    replace_text(path, json.dumps(result, indent=1) + "\n")
    return result


def best(result: Mapping[str, Any], way: str) -> dict[str, float]:
    """Means over the seeds at the learning rate with the highest mean accuracy, then the lowest
    loss.
    """
    points = []
    for lr in {row["lr"] for row in result["runs"] if row["way"] == way}:
        rows = [row for row in result["runs"] if (row["way"], row["lr"]) == (way, lr)]
        numbers = ("val_accuracy", "val_loss", "norm", "train_residual", "val_residual")
        points.append(
            {"lr": lr} | {name: statistics.mean(row[name] for row in rows) for name in numbers}
        )
    return min(points, key=lambda point: (-round(point["val_accuracy"], 9), point["val_loss"]))


def main() -> None:
    """Train what is missing and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = run(
        given.output / "digits_local_norm.json", RECIPES["digits"], given.ways, given.seeds
    )
    for way in given.ways:
        print(
            way.ljust(11),
            {name: float(f"{value:.4g}") for name, value in best(result, way).items()},
        )


if __name__ == "__main__":
    main()
