"""The stored runs of notebook 07: five equilibrium language models and their twins on one text.

    python -m tests.benchmarks.language_models train                 every run that is missing
    python -m tests.benchmarks.language_models train --only full     those of one network
    python -m tests.benchmarks.language_models score                 the test text, once
    python -m tests.benchmarks.language_models publish               a hybrid, into the package

About 112,000 parameters, windows of 64 characters, batches of 16, 1,000 steps, Adam, gradients cut
at norm 1, a cosine down to zero at the last step: the same for all, in the same order of batches.
Either side is trained with the same two learning rates at seed 0, the one with the lower validation
loss goes on with the other seeds; `score` then looks at the test text, for those runs only. Beside
them stand a run with the physical estimator (finite beta) of every variant, and runs of the
transformer that took as many CPU seconds as a variant's. Writes
data/results/language_models.json; a run that is stored there is not made again. Weights are kept in
runs/language_models until they are scored, and published.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from eqprop_lab import EqPropTrainer, __version__, count_parameters, save_trained
from eqprop_lab.datasets import get_lm_dataset
from eqprop_lab.datasets.ngrams import ngram_loss
from eqprop_lab.datasets.text import read_text
from eqprop_lab.devices import named
from eqprop_lab.files import replace_file, replace_text
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM, BackpropWindowLM
from tests.benchmarks.published import RESULTS, Row, read

TEXT, TOKENS, BATCH, STEPS, PIECE = "tiny_shakespeare", 64, 16, 1000, 50
RATES = (6e-3, 1.2e-2)
SEEDS = (0, 1, 2)
VOCABULARY = 65
WEIGHTS = Path("runs/language_models")
NAME = "language_models"
SAME = 2e-4  # nats that sums in another order, on another processor, may change a loss
TRANSFORMER = {"hidden_dim": 64, "num_layers": 2, "inner_dim": 255}
# name: (class, sizes, fast estimator, its steps; physical estimator, its steps, beta; twin). The
# nudge of a directed model runs away sooner or later where it is too strong for the weights of
# that day: kept at 1e-3 or 1e-4 for recurrent_core, at 3e-4 for full, within 1,000 updates in
# float64. recurrent_core stays with one that is made small anew in every batch ("auto"). full did
# not after 14 or 20 free steps: what they leave moves the nudged phases, too, and no weaker nudge
# helps. After 40, 1e-6 is weak enough throughout.
VARIANTS: dict[str, dict[str, Any]] = {
    "hybrid": {
        "make": HybridEqPropLM,
        "sizes": {"hidden_dim": 64, "num_layers": 2},
        "fast": ("response", 6, 4),
        "physical": ("centered", 6, 5),
        "twin": "transformer",
    },
    "looped_mlp": {
        "make": LoopedMLPForLM,
        "sizes": {"hidden_dim": 208, "embed_dim": 16},
        "fast": ("response", 6, 4),
        "physical": ("centered", 6, 5),
        "twin": "window",
    },
    "attention_only": {
        "make": EqPropAttentionOnlyLM,
        "sizes": {"hidden_dim": 68, "num_layers": 2, "inner_dim": 257},
        "fast": ("implicit", 4, 3),
        "physical": ("centered", 4, 5),
        "twin": "transformer",
    },
    "full": {
        "make": FullEqPropLM,
        "sizes": {"hidden_dim": 72, "num_layers": 3, "inner_dim": 72},
        "fast": ("implicit", 4, 3),
        "physical": ("asymmetric", 40, 10, 1e-6),
        "dtype": "float64",
        "twin": "transformer",
    },
    "recurrent_core": {
        "make": RecurrentEqPropLM,
        "sizes": {"hidden_dim": 96, "inner_dim": 288},
        "fast": ("implicit", 8, 5),
        "physical": ("asymmetric", 40, 25, "auto"),
        "dtype": "float64",
        "twin": "transformer",
    },
}
TWINS: dict[str, dict[str, Any]] = {
    "transformer": {"make": BackpropTransformerLM, "sizes": TRANSFORMER},
    "window": {"make": BackpropWindowLM, "sizes": {"hidden_dim": 208, "embed_dim": 16}},
}
NETWORKS = VARIANTS | TWINS


class Steps:
    """Pieces of a training text, `piece` whole batches each; each goes on after the last."""

    def __init__(self, seed: int, piece: int = PIECE, tokens: int = TOKENS) -> None:
        self.loader, self.vocab = get_lm_dataset(TEXT, tokens, BATCH, "train", seed=seed)
        self.piece = piece
        self.batches = self._forever()

    def _forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for x, y in self.loader:
                if len(x) == BATCH:
                    yield x, y

    def __len__(self) -> int:
        return self.piece

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.piece):
            yield next(self.batches)


def build(network: str, seed: int) -> nn.Module:
    """A network of the table, with fresh weights."""
    known = NETWORKS[network]
    longest = {} if "embed_dim" in known["sizes"] else {"max_seq_len": TOKENS}
    model: nn.Module = known["make"](VOCABULARY, **known["sizes"], **longest, seed=seed)
    return model


def phases(network: str, kind: str) -> dict[str, Any]:
    """The gradient's settings of a run: kind is "fast", "physical" or "backprop"."""
    if kind == "backprop":
        return {"gradient": "autograd"}
    estimator, free, nudged, *beta = VARIANTS[network][kind]
    told = {"gradient": estimator, "free_steps": free, "nudged_steps": nudged}
    return told | ({"beta": beta[0]} if beta else {})


def dtype_of(network: str, kind: str) -> torch.dtype:
    """What a run computes in: float32, unless its physical phases need more."""
    name = VARIANTS[network].get("dtype", "float32") if kind == "physical" else "float32"
    found: torch.dtype = getattr(torch, name)
    return found


def train(
    network: str, kind: str, lr: float, seed: int, steps: int = STEPS, device: str = "cpu"
) -> tuple[Row, nn.Module]:
    """One run, and the trained model."""
    model = build(network, seed).to(dtype_of(network, kind))
    trainer, found = fitted(model, lr, seed, steps, phases(network, kind) | {"device": device})
    row: Row = {"variant": network, "kind": kind} | found
    if kind == "fast":
        row["twin_cpu_seconds"] = beside(VARIANTS[network]["twin"], lr, seed)
    return row | scored(trainer, "validation") | settled(trainer, network, kind), model


def beside(twin: str, lr: float, seed: int) -> float:
    """CPU seconds that STEPS steps of the twin take on this machine, from a tenth of them."""
    _, row = fitted(build(twin, seed), lr, seed, STEPS // 10, phases(twin, "backprop"))
    return round(10 * float(row["cpu_seconds"]), 1)


def fitted(
    model: nn.Module, lr: float, seed: int, steps: int, how: dict[str, Any], tokens: int = TOKENS
) -> tuple[EqPropTrainer, Row]:
    """A model trained by the recipe that all share, and what is told of that."""
    trainer = EqPropTrainer(model, lr=lr, clip_norm=1.0, schedule="cosine", progress=False, **how)
    start = time.process_time()
    history = trainer.fit(Steps(seed, tokens=tokens), epochs=-(-steps // PIECE))
    seconds = time.process_time() - start
    return trainer, {
        "estimator": trainer.gradient,
        "lr": lr,
        "seed": seed,
        "parameters": count_parameters(model),
        "steps": len(history["train_loss"]) * PIECE,
        "cpu_seconds": round(seconds, 1),
        "device": made_on(trainer.device),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "curve": [
            [PIECE * (n + 1), round(loss, 4)] for n, loss in enumerate(history["train_loss"])
        ],
        "residual": _short(history["residual"][-1]),
        "nudged_residual": _short(history["nudged_residual"][-1]),
    }


def made_on(device: torch.device) -> str:
    """What a run is made on."""
    return named(device) + ("" if device.type == "cuda" else ", 1 thread")


def scored(trainer: EqPropTrainer, split: str, tokens: int = TOKENS) -> Row:
    """Nats a character of a whole split, and the worst residual of its free phases."""
    loader, _ = get_lm_dataset(TEXT, tokens, 64, split)
    found = trainer.evaluate(loader)
    return {
        split: round(found["loss"], 4),
        f"{split}_bits": round(found["bits_per_character"], 4),
        f"{split}_accuracy": round(found["accuracy"], 4),
        f"{split}_residual": _short(found["residual"]),
    }


def settled(trainer: EqPropTrainer, network: str, kind: str) -> Row:
    """The gradient of training on one batch of validation text against that of settled phases, in
    float64; and the certified bound.
    """
    if kind == "backprop":
        return {}
    loader, _ = get_lm_dataset(TEXT, TOKENS, BATCH, "validation")
    x, y = next(iter(loader))
    limit = "implicit" if network == "attention_only" else trainer.model.limit  # type: ignore[union-attr]
    exact = {"gradient": str(limit), "free_steps": 200, "nudged_steps": 200, "tol": 1e-8}
    found = []
    own = dtype_of(network, kind)
    for how, dtype in ((phases(network, kind), own), (exact, torch.float64)):
        model = build(network, 0).to(dtype)
        model.load_state_dict(trainer.model.state_dict())  # a run of a GPU is looked at here too
        one = EqPropTrainer(model, lr=1e-9, optimizer="sgd", **how)
        one.train_batch(x, y)
        found.append(torch.cat([p.grad.double().flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    bound = trainer.model.contraction_bound()  # type: ignore[operator,union-attr]
    return {
        "gradient_error": _short(float((found[0] - found[1]).norm() / found[1].norm())),
        "norm_bound": _short(bound),
    }


def _short(value: float) -> float | None:
    return None if value != value else float(f"{value:.3g}")


def plan(rows: list[Row]) -> Iterator[tuple[str, str, float, int, int]]:
    """(network, kind, lr, seed, steps) of every run, as far as it can be told by now."""
    for network in NETWORKS:
        kind = usual(network)
        for lr in RATES:
            yield network, kind, lr, 0, STEPS
    for network in NETWORKS:
        best = chosen(rows, network)
        if best is None:
            continue
        for seed in SEEDS[1:]:
            yield network, usual(network), best, seed, STEPS
    twin = chosen(rows, "transformer")
    for network in VARIANTS:
        best = chosen(rows, network)
        if best is None or twin is None:
            continue
        yield network, "physical", best, 0, STEPS
        other = VARIANTS[network]["twin"]
        rate = chosen(rows, other)
        if rate is not None:
            yield other, "backprop", rate, 0, same_time(rows, network, other)


def usual(network: str) -> str:
    """How a network is trained in the table."""
    return "fast" if network in VARIANTS else "backprop"


def at(rows: list[Row], network: str, kind: str, steps: int = STEPS) -> list[Row]:
    """The runs of one network."""
    found = [r for r in rows if (r["variant"], r["kind"]) == (network, kind)]
    return [r for r in found if r["steps"] == steps]


def chosen(rows: list[Row], network: str) -> float | None:
    """The learning rate with the lower validation loss at seed 0; None before both were tried."""
    tried = [r for r in at(rows, network, usual(network)) if r["seed"] == 0]
    if {r["lr"] for r in tried} < set(RATES):
        return None
    return float(min(tried, key=lambda r: r["validation"])["lr"])


def same_time(rows: list[Row], network: str, twin: str) -> int:
    """Steps of the twin in the CPU time of a variant's run, in whole pieces."""
    mine = at(rows, network, usual(network))
    least = min(r["cpu_seconds"] for r in at(rows, twin, usual(twin)))
    ratio = min(r["cpu_seconds"] / r.get("twin_cpu_seconds", least) for r in mine)
    return PIECE * round(STEPS * ratio / PIECE)


def rows_of(result: dict[str, Any]) -> list[Row]:
    """All runs of a result."""
    return [*result.get("runs", []), *result.get("twins", [])]


def store(path: Path, row: Row) -> None:
    """Add a run, or put it in the place of the same one."""
    with FileLock(f"{path}.lock"):
        result = read(path) or {}
        names = ("variant", "kind", "lr", "seed", "steps")
        others = [r for r in rows_of(result) if any(r[n] != row[n] for n in names)]
        replace_text(path, json.dumps(whole(result, [*others, row]), indent=1) + "\n")


def whole(result: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """The file's content."""
    rows = sorted(rows, key=lambda r: (r["variant"], r["kind"], r["steps"], r["lr"], r["seed"]))
    return head(rows) | {
        "estimator": "; ".join(
            f"{n} {v['fast'][0]}/{v['physical'][0]}" for n, v in VARIANTS.items()
        ),
        "recipe": {
            "seq_len": TOKENS,
            "batch_size": BATCH,
            "steps": STEPS,
            "lr": list(RATES),
            "optimizer": "adam",
            "schedule": "cosine",
            "clip_norm": 1.0,
            "beta": 0.03,
            "phases": {n: {k: v[k] for k in ("fast", "physical")} for n, v in VARIANTS.items()},
            "sizes": {n: v["sizes"] for n, v in NETWORKS.items()},
            "twins": {n: v["twin"] for n, v in VARIANTS.items()},
        },
        "chosen": {n: chosen(rows, n) for n in NETWORKS},
        "ngrams": result.get("ngrams") or floors(),
        "runs": [r for r in rows if r["variant"] in VARIANTS],
        "twins": [r for r in rows if r["variant"] in TWINS],
    }


def head(rows: list[Row]) -> dict[str, Any]:
    """Where, when and on what runs were made."""
    return {
        "device": ", ".join(sorted({r.get("device", made_on(torch.device("cpu"))) for r in rows})),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.partition("+")[0],
            "eqprop_lab": __version__,
        },
        "date": datetime.date.today().isoformat(),
        "seeds": sorted({r["seed"] for r in rows}),
        "dataset": TEXT,
    }


def floors() -> dict[str, dict[str, float]]:
    """Nats a character of n-gram tables on validation and test text."""
    data = read_text(TEXT)
    names = ("unigram", "bigram", "trigram", "4-gram", "5-gram")
    return {
        split: {
            name: round(ngram_loss(data.train, getattr(data, split), order, len(data.vocab)), 4)
            for order, name in enumerate(names, start=1)
        }
        for split in ("validation", "test")
    }


def weights_of(row: Row) -> Path:
    """Where the weights of a run wait to be scored."""
    names = ("variant", "kind", "lr", "seed", "steps")
    return WEIGHTS / ("_".join(str(row[n]) for n in names) + ".pt")


def restored(row: Row) -> nn.Module:
    """The model of a run with its kept weights, and the symbols of the text."""
    model: Any = build(row["variant"], row["seed"]).to(dtype_of(row["variant"], row["kind"]))
    # weights may have been kept before models had symbols
    stored = torch.load(weights_of(row), weights_only=True)
    model.load_state_dict({"_extra_state": model.get_extra_state()} | stored)
    model.vocab = read_text(TEXT).vocab
    return model  # type: ignore[no-any-return]


def make_missing(path: Path, only: list[str]) -> None:
    """Train until the plan has nothing left."""
    done: set[tuple[str, str, float, int, int]] = set()
    while True:
        rows = rows_of(read(path) or {})
        have = {(r["variant"], r["kind"], r["lr"], r["seed"], r["steps"]) for r in rows} | done
        todo = [job for job in plan(rows) if job not in have and (not only or job[0] in only)]
        if not todo:
            return
        done.add(todo[0])
        row, model = train(*todo[0])
        WEIGHTS.mkdir(parents=True, exist_ok=True)
        replace_file(weights_of(row), partial(torch.save, model.state_dict()))
        store(path, row)
        print({k: v for k, v in row.items() if k != "curve"}, flush=True)


def score(path: Path) -> None:
    """The test loss of the chosen runs that have none yet, from their kept weights."""
    rows = rows_of(read(path) or {})
    for row in rows:
        if "test" in row or row["lr"] != chosen(rows, row["variant"]):
            continue
        trainer = EqPropTrainer(restored(row), **phases(row["variant"], row["kind"]))
        store(path, row | scored(trainer, "test"))


def publish(path: Path, name: str | Path, network: str = "hybrid", kind: str = "physical") -> Path:
    """Put the chosen run of a network at seed 0 among the trained networks of the package.

    Raises RuntimeError for a run that is not there, not scored, or of which these are not the
    weights.
    """
    result = read(path) or {}
    rows = rows_of(result)
    best = chosen(rows, network)
    found = [r for r in at(rows, network, kind) if (r["lr"], r["seed"]) == (best, 0)]
    if not found or "test" not in found[0] or not weights_of(found[0]).is_file():
        raise RuntimeError(
            f"{network} {kind} at seed 0 is not trained and scored, or its weights are gone"
        )
    row = found[0]
    model = restored(row)
    trainer = EqPropTrainer(model, **phases(network, kind))
    loss = scored(trainer, "validation")["validation"]
    if abs(loss - row["validation"]) > SAME:
        raise RuntimeError(
            f"{weights_of(row).name} has validation loss {loss}, the stored run "
            f"{row['validation']}: these are not its weights"
        )
    return save_trained(model, name, told(result, row))


def told(result: dict[str, Any], row: Row) -> dict[str, Any]:
    """What is said of published weights."""
    shared = ("seq_len", "batch_size", "optimizer", "schedule", "clip_norm", "beta")
    return {
        "dataset": result["dataset"],
        "recipe": {key: result["recipe"][key] for key in shared}
        | {key: row[key] for key in ("lr", "steps")}
        | phases(row["variant"], row["kind"]),
        "estimator": row["estimator"],
        "seed": row["seed"],
        "validation_loss": row["validation"],
        "test_loss": row["test"],
        "validation_bits_per_character": row["validation_bits"],
        "test_bits_per_character": row["test_bits"],
        **{key: result[key] for key in ("versions", "date", "device")},
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["train", "score", "publish"])
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(NETWORKS))
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    parser.add_argument("--name", default="shakespeare_hybrid", help="of a published network")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.output / f"{NAME}.json"
    actions: dict[str, Callable[[], object]] = {
        "train": lambda: make_missing(path, given.only),
        "score": lambda: score(path),
        "publish": lambda: publish(path, given.name),
    }
    actions[given.what]()


if __name__ == "__main__":
    main()
