"""Rows of `cifar_playground` as one result: chosen on validation, beside published figures.

    python -m tests.benchmarks.store_cifar --rows OUT

OUT and its folders hold NETWORK_OPTIMIZER_RATE_SEED.json files. Of each network the optimiser and
rate with the best validation accuracy at the end are taken, among its rows of --tuning where there
are any, at the lowest seed that all of its settings have; the longest row of a seed at these
settings is a run. A shorter one of a twin, with as many epochs as the network beside it, is kept
apart: the same comparison at equal epochs. Writes data/results/cifar_playground.json, which
notebook 13 and the README show.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_text
from tests.benchmarks.cifar_playground import NETWORKS
from tests.benchmarks.published import RESULTS, Row, read

NAME = "cifar_playground"
TWINS = {"eqprop": "backprop", "eqprop_wide": "backprop_wide"}
NEEDED = ("network", "parameters", "pixels", "device", "versions", "date", "config", "epoch",
          "val_accuracy", "train_accuracy", "seconds")  # fmt: skip
# Test accuracy in %, on the published pixels.
PUBLISHED: list[Row] = [
    {
        "network": "ResNet-20",
        "accuracy": 91.25,
        "parameters": 270_000,
        "paper": "arXiv:1512.03385",
        "where": "table 6",
        "other": "64,000 steps of 128 images",
    },
    {
        "network": "DenseNet-BC-100, k 12",
        "accuracy": 95.49,
        "parameters": 769_162,
        "paper": "arXiv:1608.06993",
        "where": "table 2",
        "other": "300 epochs",
    },
    {
        "network": "four convolutions, centered EP",
        "accuracy": 88.3,
        "parameters": None,
        "paper": "doi:10.3389/fnins.2021.633674",
        "where": "abstract",
        "other": "250 free and 2 x 25 nudged steps, max pooling",
    },
    {
        "network": "Hopfield-ResNet13, centered EP",
        "accuracy": 93.92,
        "parameters": None,
        "paper": "arXiv:2509.26003",
        "where": "abstract",
        "other": "residual energy, thirteen layers",
    },
]
DEVIATIONS = (
    "Images are decoded from JPEG files, not the published pixels.",
    "The last 5,000 training images choose the rate and train nothing; in published work the whole "
    "training set trains, and often the test set chooses.",
    "As many epochs as fit into a few minutes of a device, not the hundreds of published recipes.",
)


def rows_in(folder: Path) -> list[Row]:
    """Every row of a folder, looked at. Raises ValueError naming the file."""
    rows = []
    for path in sorted(folder.rglob("*.json")):
        row = read(path)
        missing = [key for key in NEEDED if row is None or key not in row]
        if row is None or missing:
            raise ValueError(f"{path.name} is no row of {NAME}: it has no {missing[0]!r}")
        if row["network"] not in NETWORKS:
            raise ValueError(f"{path.name}: network must be among {', '.join(NETWORKS)}, "
                             f"got {row['network']!r}")  # fmt: skip
        if not len(row["epoch"]) == len(row["val_accuracy"]) == row["config"]["training"]["epochs"]:
            raise ValueError(f"{path.name} has {len(row['val_accuracy'])} epochs of the "
                             f"{row['config']['training']['epochs']} of its recipe")  # fmt: skip
        rows.append(row)
    if not rows:
        raise ValueError(
            f"rows must be a folder with NETWORK_OPTIMIZER_RATE_SEED.json, {folder} has none"
        )
    for key in ("pixels", "samples"):
        found = {json.dumps(row.get(key)) for row in rows}
        if len(found) > 1:
            raise ValueError(f"rows must be of the same images, they have {key} {sorted(found)}")
    return rows


def rate_of(row: Row) -> float:
    return float(row["config"]["training"]["learning_rate"])


def seed_of(row: Row) -> int:
    return int(row["config"]["experiment"]["seed"])


def setting_of(row: Row) -> tuple[str, float]:
    """Optimiser and rate."""
    return str(row["config"]["training"]["optimizer"]), rate_of(row)


def is_run(row: Row) -> bool:
    """Whether it looked at the test images; one of --tuning did not."""
    return "test_accuracy" in row


def chosen(rows: Sequence[Row], network: str) -> tuple[tuple[str, float], list[Row]]:
    """(optimiser and rate, the rows they were chosen from: one a setting, at the same seed).

    Raises ValueError where settings have no seed in common, or the chosen one was never run.
    """
    own = [row for row in rows if row["network"] == network]
    settings: dict[tuple[str, float], dict[int, Row]] = {}
    for row in [row for row in own if not is_run(row)] or own:
        settings.setdefault(setting_of(row), {})[seed_of(row)] = row
    shared = set.intersection(*(set(seeds) for seeds in settings.values()))
    if not shared:
        raise ValueError(f"rates of {network} must share a seed, {sorted(settings)} have none")
    tried = [seeds[min(shared)] for _, seeds in sorted(settings.items())]
    best = setting_of(max(tried, key=lambda row: row["val_accuracy"][-1]))
    if not any(is_run(row) and setting_of(row) == best for row in own):
        raise ValueError(f"{network} must have a run at {best}, which tuning chose; there is none")
    return best, tried


def run_of(row: Row) -> Row:
    """What is kept of a training."""
    names = ("network", "parameters", "device", "test_accuracy", "test_loss")
    optimizer, rate = setting_of(row)
    kept = {"seed": seed_of(row), "optimizer": optimizer, "learning_rate": rate}
    kept |= {name: row[name] for name in names}
    kept |= {"epochs": len(row["epoch"]), "seconds": round(sum(row["seconds"]), 1)}
    norms = [norm for norm in row.get("norm", ()) if norm is not None]
    if norms:
        kept["largest_norm"] = max(norms)
    return kept | {name: row[name] for name in ("train_accuracy", "val_accuracy")}


def longest(rows: Sequence[Row]) -> list[Row]:
    """One row a seed, in their order."""
    by_length = sorted(rows, key=lambda row: len(row["epoch"]))
    return sorted({seed_of(row): row for row in by_length}.values(), key=seed_of)


def equal_epochs(runs: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Rows of twins that were trained as long as the network beside them, where its
    own run was longer.
    """
    length = {(run["network"], run["seed"]): run["epochs"] for run in runs}
    settings = {run["network"]: (run["optimizer"], run["learning_rate"]) for run in runs}
    wanted = {
        (other, seed): epochs
        for one, other in TWINS.items()
        for (name, seed), epochs in length.items()
        if name == one and epochs != length.get((other, seed))
    }
    return [
        row
        for row in sorted(filter(is_run, rows), key=seed_of)
        if len(row["epoch"]) == wanted.get((row["network"], seed_of(row)))
        and setting_of(row) == settings[row["network"]]
    ]


def recipe_of(row: Row) -> dict[str, Any]:
    """Model and training of a network without what differs from row to row."""
    own = ("learning_rate", "epochs", "device", "seed")
    training = {k: v for k, v in row["config"]["training"].items() if k not in own}
    model = row["config"]["model"]
    params = {k: v for k, v in model["params"].items() if k not in own}
    return {"model": model["name"], "params": params, **training}


def together(texts: Sequence[str]) -> str:
    """Different ones, in order of their first."""
    return ", ".join(dict.fromkeys(texts))


def result(rows: Sequence[Row]) -> dict[str, Any]:
    """The whole file. Raises ValueError where a rate cannot be chosen."""
    networks = [name for name in NETWORKS if any(row["network"] == name for row in rows)]
    runs: list[Row] = []
    tuning: list[Row] = []
    recipes: dict[str, Row] = {}
    for name in networks:
        setting, tried = chosen(rows, name)
        own = [row for row in rows if row["network"] == name and is_run(row)]
        own = longest([row for row in own if setting_of(row) == setting])
        runs += map(run_of, own)
        recipes[name] = recipe_of(own[0])
        tuning += [
            dict(zip(("optimizer", "learning_rate"), setting_of(row), strict=True))
            | {"network": name, "seed": seed_of(row)}
            | {"epochs": len(row["epoch"]), "val_accuracy": row["val_accuracy"][-1]}
            for row in (tried if len(tried) > 1 else ())
        ]
    equal = equal_epochs(runs, rows)
    rows = [row for row in rows if row not in equal]
    packages = dict.fromkeys(key for row in rows for key in row["versions"])
    of = {p: together([str(row["versions"].get(p, "none")) for row in rows]) for p in packages}
    return {
        "date": max(row["date"] for row in rows),
        "device": together([row["device"] for row in rows]),
        "versions": of,
        "seeds": sorted({run["seed"] for run in runs}),
        "estimator": together([recipes[name]["gradient"] for name in networks]),
        "dataset": "cifar10",
        "pixels": rows[0]["pixels"],
        "samples": rows[0].get("samples"),
        "recipes": recipes,
        "twins": {one: other for one, other in TWINS.items() if {one, other} <= set(networks)},
        "published": PUBLISHED,
        "deviations": list(DEVIATIONS),
        "tuning": tuning,
        "runs": runs,
        # on another device, perhaps: their time says nothing beside the others'
        "equal_epochs": [
            {key: value for key, value in run_of(row).items() if key != "seconds"} for row in equal
        ],
    }


def gaps(made: Mapping[str, Any], network: str, of_twin: str = "runs") -> list[float]:
    """Test accuracy of its twin minus its own in points, seed by seed; of_twin: "equal_epochs" for
    runs of the twin that were as long.
    """
    twin = made["twins"].get(network)
    runs = [run for run in made["runs"] if run["network"] == network]
    runs += [run for run in made[of_twin] if run["network"] == twin]
    scores = {(run["network"], run["seed"]): 100 * run["test_accuracy"] for run in runs}
    seeds = [seed for name, seed in scores if name == network and (twin, seed) in scores]
    return [scores[twin, seed] - scores[network, seed] for seed in seeds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the result and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{NAME}.json")
    given = parser.parse_args(arguments)
    made = result(rows_in(given.rows))
    replace_text(given.output, json.dumps(made, indent=1, allow_nan=False) + "\n")
    for name in made["recipes"]:
        scores = [100 * run["test_accuracy"] for run in made["runs"] if run["network"] == name]
        behind = gaps(made, name)
        said = f", {statistics.fmean(behind):+.2f} points behind its twin" if behind else ""
        equal = gaps(made, name, "equal_epochs")
        said += f", {statistics.fmean(equal):+.2f} of {len(equal)} at equal epochs" if equal else ""
        print(f"{name:14} {statistics.fmean(scores):6.2f} % of {len(scores)} seeds{said}")


if __name__ == "__main__":
    main()
