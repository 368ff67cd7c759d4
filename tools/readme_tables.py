"""The tables of the README, made from what the project holds: `python tools/readme_tables.py
[--check]`.

The map comes from the title cells of the notebooks, the results from `data/results/*.json`. Each
stands between two markers (<!-- map --> ... <!-- /map -->); a test runs `--check`, so the README
cannot fall behind.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqprop_lab.notebook.series import series, series_table
from eqprop_lab.tables import markdown_table, with_spread

ROOT = Path(__file__).resolve().parent.parent
# Keys of a result in the order of the rows, each with the way its network is trained. `response`
# solves the linear equation that a vanishing nudge leaves: recurrent backprop, of which EqProp with
# its finite nudges is the finite form.
ROWS = {
    "eqprop": "EqProp",
    "response": "recurrent backprop",
    "backprop": "backprop",
    "lut": "hard tables",
}
# The notebook that tells about the results of a network, the first of its file.
NOTEBOOKS = {
    "LoopedMLP": "04_looped_mlp",
    "EqPropKernel": "08_kernel",
    "ConvEqProp": "05_conv_eqprop",
    "SimpleFeedForward": "11_lut_networks",
    "ConvNet": "11_lut_networks",
}


def results_table(folder: Path) -> str:
    """One row a network of a result: value, spread over seeds, estimator, device, time, notebook;
    backprop comes last.

    Raises ValueError naming the file for a network that no notebook tells about.
    """
    head = ("Data", "Network", "Estimator", "Test accuracy", "Seeds", "CPU time a seed", "Device",
            "Notebook")  # fmt: skip
    rows = []
    found = {path.name: _stored(path) for path in sorted(folder.glob("*.json"))}
    results = {
        name: result
        for name, result in found.items()
        if "networks" in result and any(key in result for key in ("eqprop", "lut"))
    }
    for name, result in results.items():
        if _first(result) not in NOTEBOOKS:
            raise ValueError(f"{name}: no notebook is known for {_first(result)!r}")
        alike = [other for other in results.values() if _subject(other) == _subject(result)]
        # Two recipes for the same network and data are told apart by their length.
        data = (
            result["dataset"]
            if len(alike) == 1
            else f"{result['dataset']}, {result['recipe']['epochs']} epochs"
        )
        rows += [_row(result, key, data) for key in ROWS if key in result]
    return "\n".join(markdown_table(head, rows, right=(3, 4, 5)))


def texts_table(result: Mapping[str, Any]) -> str:
    """One row a language model at its chosen learning rate, its twin below: nats a character of the
    test text, spread over seeds, the gap to the twin seed by seed, time.
    """
    head = ("Model", "Estimator", "Parameters", "Test, nats a character", "Gap to its twin",
            "Seeds", "CPU time a seed")  # fmt: skip
    recipe, rows = result["recipe"], []

    def runs(name: str, kind: str) -> dict[int, dict[str, Any]]:
        wanted = (name, kind, result["chosen"][name], recipe["steps"])
        every = (*result["runs"], *result["twins"])
        names = ("variant", "kind", "lr", "steps")
        return {r["seed"]: r for r in every if tuple(r[n] for n in names) == wanted}

    for name in (*recipe["twins"], *dict.fromkeys(recipe["twins"].values())):
        twin = recipe["twins"].get(name)
        own = runs(name, "fast" if twin else "backprop")
        other = runs(twin, "backprop") if twin else {}
        gaps = [run["test"] - other[seed]["test"] for seed, run in own.items() if other]
        rows.append(
            (
                f"`{name}`" if twin else f"{name}, backprop",
                f"`{next(iter(own.values()))['estimator']}`" if twin else "autograd",
                f"{next(iter(own.values()))['parameters']:,}",
                with_spread([run["test"] for run in own.values()], 3),
                f"{with_spread(gaps, 3)} ({twin})" if twin else "",
                str(len(own)),
                f"{statistics.mean(run['cpu_seconds'] for run in own.values()):.0f} s",
            )
        )
    return "\n".join(markdown_table(head, rows, right=(2, 3, 4, 5, 6)))


def vision_table(folder: Path) -> str:
    """One row a network of DATA_vision.json and of cifar_playground.json: parameters, test accuracy
    and its spread over seeds, time of a training.
    """
    head = ("Data", "Network", "Parameters", "Test accuracy", "Seeds", "Time a seed", "Device")
    paths = [*sorted(folder.glob("*_vision.json")), *folder.glob("cifar_playground.json")]
    rows = []
    for path in paths:
        result = _stored(path)
        for name in dict.fromkeys(run["network"] for run in result["runs"]):
            runs = [run for run in result["runs"] if run["network"] == name]
            shown = _network(name, result["recipes"][name])
            rows.append((result["dataset"], shown, f"{runs[0]['parameters']:,}", _percent(runs),
                         str(len(runs)), _cpu_time(runs) or _wall_time(runs),
                         result["device"]))  # fmt: skip
    return "\n".join(markdown_table(head, rows, right=(2, 3, 4, 5)))


SWEEPS = {"predictive": "EqProp, one sweep", "backprop": "backprop"}


def sweeps_table(result: Mapping[str, Any]) -> str:
    """Two rows a task of predictive_coding.json: test accuracy by sweeps and by backprop, time."""
    head = ("Data", "Network", "Parameters", "Trained by", "Test accuracy", "Seeds", "Time a seed",
            "Device")  # fmt: skip
    rows = []
    for name, task in result.items():
        if not isinstance(task, dict) or not SWEEPS.keys() <= task.keys():
            continue
        recipe, gpu = task["recipe"], "CPU" not in task["device"]
        widths = recipe.get("hidden_dims", recipe.get("hidden_channels"))
        kind = "dense" if "hidden_dims" in recipe else "conv"
        data = name.partition("_")[0]
        shown = f"{kind} {widths[0]}-{widths[-1]}, {len(widths) + 1} layers"
        rows += [
            (data, shown, f"{task['parameters']:,}", way, _percent(task[key]),
             str(len(task[key])), _wall_time(task[key]) if gpu else _cpu_time(task[key]),
             task["device"])
            for key, way in SWEEPS.items()
        ]  # fmt: skip
    return "\n".join(markdown_table(head, rows, right=(2, 4, 5, 6)))


def _stored(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


NOISY_BETAS = (0.01, 0.1, 1.0)


def noise_table(result: Mapping[str, Any]) -> str:
    """A row for each noise and estimator of noise_digits.json: test accuracy at three betas."""
    head = ("Noise", "Estimator", *(f"β = {beta:g}" for beta in NOISY_BETAS), "Seeds")
    runs = [run for run in result["runs"] if run["bits"] is None]
    rows = []
    for noise, name in dict.fromkeys((run["noise"], run["estimator"]) for run in runs):
        own = [run for run in runs if (run["noise"], run["estimator"]) == (noise, name)]
        cells = [[run for run in own if run["beta"] == beta] for beta in NOISY_BETAS]
        seeds = str(len({run["seed"] for run in own}))
        rows.append((f"{noise:g}", f"`{name}`", *map(_percent, cells), seeds))
    return "\n".join(markdown_table(head, rows, right=(0, 2, 3, 4, 5)))


BLOCKS = {"chain": "chain of blocks", "deep": "one deep network", "plain": "plain net, backprop"}
BLOCK_DEPTHS = (1, 3, 6)


def blocks_table(result: Mapping[str, Any]) -> str:
    """A row for each network of blocks.json at a few depths: test accuracy, time, memory."""
    costs = {(row["kind"], row["depth"]): row for row in result["costs"]["rows"]}
    head = ("Data", "Blocks of 2 layers", "Network", "Parameters", "Test accuracy", "Seeds",
            "CPU time a seed", "A step", "Memory of a step")  # fmt: skip
    rows = []
    for name, task in ((name, result[name]) for name in ("digits", "mnist") if name in result):
        for depth in BLOCK_DEPTHS:
            for kind, said in BLOCKS.items():
                runs = [run for run in task[kind] if run["depth"] == depth]
                if not runs:
                    continue
                cost = costs[kind, depth]
                on_digits = name == "digits"
                step = f"{cost['step_ms']:.1f} ms" if on_digits else ""
                memory = f"{1024 * cost['states_mb']:.0f} KiB" if on_digits else ""
                rows.append(
                    (name, str(depth), said, f"{runs[0]['parameters']:,}", _percent(runs),
                     str(len(runs)), _cpu_time(runs), step, memory)
                )  # fmt: skip
    return "\n".join(markdown_table(head, rows, right=(1, 3, 4, 5, 6, 7, 8)))


def _network(name: str, recipe: Mapping[str, Any]) -> str:
    """Its name; of the CIFAR-10 job's networks, whose names are keys, class and channels."""
    if "params" not in recipe:
        return name
    channels = recipe["params"].get("hidden_channels")
    return f"{recipe['model']}" + (f" {channels}-{2 * channels}" if channels else "")


def _wall_time(runs: Sequence[Mapping[str, Any]]) -> str:
    return f"{statistics.mean(run['seconds'] for run in runs):.0f} s (wall)"


def _percent(runs: Sequence[Mapping[str, Any]]) -> str:
    return f"{with_spread([100 * run['test_accuracy'] for run in runs])} %"


def _first(result: dict[str, Any]) -> str:
    """The network that a result is about."""
    return str(next(iter(result["networks"].values())))


def _subject(result: dict[str, Any]) -> tuple[str, str, str]:
    return result["dataset"], _first(result), str(result["sizes"])


def _cpu_time(runs: Sequence[Mapping[str, Any]]) -> str:
    """Mean CPU time; "" where another device did the work."""
    if any("cpu_seconds" not in run for run in runs):
        return ""
    seconds = statistics.mean(run["cpu_seconds"] for run in runs)
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _estimator(result: dict[str, Any], key: str) -> str:
    if key == "eqprop":
        return f"`{result['estimator']}`, beta {result['recipe']['beta']}"
    return "`response`" if key == "response" else "autograd"


def _row(result: dict[str, Any], key: str, data: str) -> tuple[str, ...]:
    runs = result[key]
    sizes = "-".join(str(size) for size in result["sizes"])
    notebook = NOTEBOOKS[_first(result)]
    return (
        data,
        f"{result['networks'][key]}, {ROWS[key]}, {sizes}, {result['parameters']:,} parameters",
        _estimator(result, key),
        _percent(runs),
        str(len(runs)),
        _cpu_time(runs),
        result["device"],
        f"[{notebook[:2]}](notebooks/{notebook}.ipynb)",
    )


def filled(text: str) -> str:
    """The README with its tables made anew. Raises ValueError when a marker is missing."""
    folder = ROOT / "data" / "results"
    tables = {
        "map": series_table(series(ROOT / "notebooks"), "notebooks/"),
        "results": results_table(folder),
        "texts": texts_table(_stored(folder / "language_models.json")),
        "vision": vision_table(folder),
        "sweeps": sweeps_table(_stored(folder / "predictive_coding.json")),
        "noise": noise_table(_stored(folder / "noise_digits.json")),
        "blocks": blocks_table(_stored(folder / "blocks.json")),
    }
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"README.md lacks the markers <!-- {name} --> and <!-- /{name} -->")
        text = pattern.sub(lambda found, table=table: found[1] + table + "\n" + found[2], text)  # type: ignore[misc]
    return text


def main(arguments: list[str]) -> int:
    """Write the tables, or with --check say whether they are up to date."""
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    if arguments == ["--check"]:
        if before != after:
            print(
                "README.md: the tables are out of date; run python tools/readme_tables.py",
                file=sys.stderr,
            )
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
