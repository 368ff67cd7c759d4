"""The table of results says what the stored files say: networks, sizes, estimators, spread,
notebook.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools import readme_tables

CONV = {"eqprop": "ConvEqProp", "response": "ConvEqProp", "backprop": "BackpropCNN"}


def result(accuracies: dict[str, list[float]], epochs: int = 5, **changes: Any) -> dict[str, Any]:
    """A stored result with runs of 3 and 5 seconds."""
    runs = {
        key: [{"test_accuracy": a, "cpu_seconds": 4.0 + (-1) ** i} for i, a in enumerate(values)]
        for key, values in accuracies.items()
    }
    return {
        "device": "CPU, 1 thread",
        "estimator": "centered",
        "dataset": "mnist",
        "sizes": ["1x28x28", 32, 64, 10],
        "parameters": 50698,
        "recipe": {"beta": 0.03, "epochs": epochs},
        "networks": CONV,
        **changes,
        **runs,
    }


def table(folder: Path, **results: dict[str, Any]) -> list[str]:
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return readme_tables.results_table(folder).splitlines()[2:]


def test_every_network_of_a_result_has_a_row(tmp_path: Path) -> None:
    rows = table(
        tmp_path,
        mnist=result({"eqprop": [0.98, 1.0], "response": [0.97, 0.97], "backprop": [0.99]}),
    )
    end = "CPU, 1 thread | [05](notebooks/05_conv_eqprop.ipynb) |"
    net = "1x28x28-32-64-10, 50,698 parameters"
    starts = ("ConvEqProp, EqProp", "ConvEqProp, recurrent backprop", "BackpropCNN, backprop")
    ends = (
        "`centered`, beta 0.03 | 99.00 ± 1.41 % | 2 | 4.0 s",
        "`response` | 97.00 ± 0.00 % | 2 | 4.0 s",
        "autograd | 99.00 % | 1 | 5.0 s",
    )
    assert rows == [
        f"| mnist | {start}, {net} | {numbers} | {end}"
        for start, numbers in zip(starts, ends, strict=True)
    ]


@pytest.mark.parametrize(
    "path", sorted((readme_tables.ROOT / "data" / "results").glob("*.json")), ids=lambda p: p.stem
)
def test_only_finite_nudges_are_called_eqprop(path: Path, tmp_path: Path) -> None:
    (tmp_path / path.name).write_bytes(path.read_bytes())
    for row in readme_tables.results_table(tmp_path).splitlines()[2:]:
        assert (", EqProp, " in row) == ("`, beta " in row), row


def test_two_recipes_for_one_network_are_told_apart(tmp_path: Path) -> None:
    looped = {"eqprop": "LoopedMLP", "backprop": "BackpropMLP"}
    one = {"eqprop": [0.98, 0.98]}
    rows = table(
        tmp_path,
        a=result(one),
        b=result(one, epochs=20),
        c=result(one, networks=looped),
        d=result(one, dataset="digits"),
    )
    assert [row.split(" | ")[0] for row in rows] == [
        "| mnist, 5 epochs",
        "| mnist, 20 epochs",
        "| mnist",
        "| digits",
    ]
    assert "LoopedMLP, EqProp" in rows[2] and "[04](notebooks/04_looped_mlp.ipynb)" in rows[2]


def test_other_files_are_left_out_and_unknown_networks_named(tmp_path: Path) -> None:
    assert table(tmp_path, other={"device": "CPU"}) == []
    with pytest.raises(ValueError, match="odd.json: no notebook is known for 'NewNet'"):
        table(tmp_path, odd=result({"eqprop": [0.5]}, networks={"eqprop": "NewNet"}))


def test_text_outside_the_markers_stays() -> None:
    text = (
        "a\n<!-- map -->\nrows before\n<!-- /map -->\nb\n<!-- results -->\n<!-- /results -->\nc\n"
        "<!-- vision -->\n<!-- /vision -->\n<!-- sweeps -->\n<!-- /sweeps -->\n"
        "<!-- noise -->\n<!-- /noise -->\n"
        "<!-- blocks -->\n<!-- /blocks -->\n"
        "<!-- texts -->\n<!-- /texts -->\nd\n"
    )
    filled = readme_tables.filled(text)
    assert (
        filled.startswith("a\n<!-- map -->\n|")
        and "rows before" not in filled
        and "<!-- /results -->\nc\n<!-- vision -->\n|" in filled
        and filled.endswith("<!-- /texts -->\nd\n")
    )
    assert readme_tables.filled(filled) == filled
    with pytest.raises(ValueError, match="lacks the markers <!-- results -->"):
        readme_tables.filled("<!-- map -->\n<!-- /map -->\n")


def test_the_gap_of_a_text_model_is_taken_seed_by_seed() -> None:
    def run(name: str, kind: str, seed: int, test: float) -> dict[str, Any]:
        return {"variant": name, "kind": kind, "lr": 0.1, "steps": 2, "seed": seed, "test": test,
                "estimator": "response", "parameters": 1234, "cpu_seconds": 7.0}  # fmt: skip

    result = {
        "recipe": {"steps": 2, "twins": {"hybrid": "transformer"}},
        "chosen": {"hybrid": 0.1, "transformer": 0.1},
        "runs": [run("hybrid", "fast", 0, 2.0), run("hybrid", "fast", 1, 3.0)]
        + [run("hybrid", "physical", 0, 9.0), run("hybrid", "fast", 2, 9.0) | {"lr": 0.2}],
        "twins": [run("transformer", "backprop", 0, 1.5), run("transformer", "backprop", 1, 2.5)],
    }
    row, twin = readme_tables.texts_table(result).splitlines()[2:]
    assert "2.500 ± 0.707 | 0.500 ± 0.000 (transformer) | 2 | 7 s" in row
    assert twin.startswith("| transformer, backprop | autograd | 1,234 | 2.000 ± 0.707 |")


def test_sweeps_stand_beside_backprop_with_the_clock_of_their_device() -> None:
    def task(device: str, **recipe: Any) -> dict[str, Any]:
        run = {"test_accuracy": 0.98, "cpu_seconds": 12.3, "seconds": 99.0}
        runs = {"predictive": [run, run], "backprop": [run]}
        return {"device": device, "parameters": 1234, "recipe": recipe, **runs}

    made = {"date": "today", "digits": task("CPU, 1 thread", hidden_dims=[64, 32])}
    made |= {"cifar": task("a GPU", hidden_channels=[8, 8, 16]), "half": {"predictive": []}}
    assert readme_tables.sweeps_table(made).splitlines()[2:] == [
        "| digits | dense 64-32, 3 layers | 1,234 | EqProp, one sweep | 98.00 ± 0.00 % | 2 | 12 s "
        "| CPU, 1 thread |",
        "| digits | dense 64-32, 3 layers | 1,234 | backprop | 98.00 % | 1 | 12 s "
        "| CPU, 1 thread |",
        "| cifar | conv 8-16, 4 layers | 1,234 | EqProp, one sweep | 98.00 ± 0.00 % | 2 "
        "| 99 s (wall) | a GPU |",
        "| cifar | conv 8-16, 4 layers | 1,234 | backprop | 98.00 % | 1 | 99 s (wall) | a GPU |",
    ]


def test_noise_stands_by_estimator_and_beta_and_few_bits_are_left_out() -> None:
    def run(seed: int, beta: float, accuracy: float, **more: Any) -> dict[str, Any]:
        one = {"noise": 0.04, "estimator": "centered", "bits": None, "seed": seed, "beta": beta}
        return one | {"test_accuracy": accuracy} | more

    runs = [run(seed, beta, 0.3 + 0.1 * seed) for seed in (0, 1) for beta in (0.01, 0.03, 0.1, 1.0)]
    runs += [run(0, beta, 0.5, noise=0.1) for beta in (0.01, 0.1, 1.0)]
    rows = readme_tables.noise_table({"runs": [*runs, run(0, 1.0, 0.9, bits=4)]}).splitlines()[2:]
    assert rows == [
        "| 0.04 | `centered` | 35.00 ± 7.07 % | 35.00 ± 7.07 % | 35.00 ± 7.07 % | 2 |",
        "| 0.1 | `centered` | 50.00 % | 50.00 % | 50.00 % | 1 |",
    ]


def test_chains_stand_beside_the_networks_of_their_layers() -> None:
    def runs(depth: int) -> list[dict[str, Any]]:
        return [{"depth": depth, "parameters": 1234, "test_accuracy": 0.98, "cpu_seconds": 12.3}]

    task = {"chain": runs(3) + runs(2), "deep": runs(3), "plain": runs(6)}
    pairs = [("chain", 3), ("deep", 3), ("plain", 6)]
    rows = [{"kind": k, "depth": n, "step_ms": 2.34, "states_mb": 0.5} for k, n in pairs]
    made = {"digits": task, "mnist": {**task, "plain": []}, "costs": {"rows": rows}}
    end = "1,234 | 98.00 % | 1 | 12 s"
    assert readme_tables.blocks_table(made).splitlines()[2:] == [
        f"| digits | 3 | chain of blocks | {end} | 2.3 ms | 512 KiB |",
        f"| digits | 3 | one deep network | {end} | 2.3 ms | 512 KiB |",
        f"| digits | 6 | plain net, backprop | {end} | 2.3 ms | 512 KiB |",
        f"| mnist | 3 | chain of blocks | {end} |  |  |",
        f"| mnist | 3 | one deep network | {end} |  |  |",
    ]


def test_every_network_for_images_has_a_row(tmp_path: Path) -> None:
    def run(network: str, accuracy: float, **more: Any) -> dict[str, Any]:
        return {"network": network, "test_accuracy": accuracy, "parameters": 75002, **more}

    cpu = [run("ResNet-8", a, cpu_seconds=3.6) for a in (0.99, 1.0)]
    device = [run("eqprop", 0.7, seconds=200.4), run("resnet8", 0.8, seconds=100.0)]
    conv = {"model": "ConvEqProp", "params": {"hidden_channels": 32}}
    recipes = {"eqprop": conv, "resnet8": {"model": "resnet8", "params": {}}}
    for name, content in (
        ("digits_vision", {"device": "CPU", "recipes": {"ResNet-8": {}}, "runs": cpu}),
        ("cifar_playground", {"device": "a GPU", "recipes": recipes, "runs": device}),
    ):
        content |= {"dataset": name.partition("_")[0]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    assert readme_tables.vision_table(tmp_path).splitlines()[2:] == [
        "| digits | ResNet-8 | 75,002 | 99.50 ± 0.71 % | 2 | 3.6 s | CPU |",
        "| cifar | ConvEqProp 32-64 | 75,002 | 70.00 % | 1 | 200 s (wall) | a GPU |",
        "| cifar | resnet8 | 75,002 | 80.00 % | 1 | 100 s (wall) | a GPU |",
    ]
