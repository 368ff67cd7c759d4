"""Recipes for the shipped MNIST networks, tried beside each other; validation images choose.

    python -m tests.benchmarks.lut_candidates --output DIR --device cuda --minutes 6 --processes 5
    python -m tests.benchmarks.lut_candidates --output DIR --publish

Each candidate is a process of its own. What is ready is stored at once: `lut_candidates.json` (a
row a candidate, validation only) and `lut_candidates.pth` (its network, wiring fixed, tables in
float16). Epochs are cut where the time would not do: a schedule is always gone through. A device
that fails is replaced by the CPU, and the row says so. --publish takes the best candidate of each
name on validation images, looks at the test images once, and puts configuration, result and weights
where `lut_networks --ship` finds them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eqprop_lab import EqPropTrainer
from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.datasets.splits import Split
from eqprop_lab.files import replace_file, replace_text
from eqprop_lab.lut import ModelConfig, SimpleFeedForward, get_pretrained_model_info
from eqprop_lab.training import Budget
from tests.benchmarks.lut_networks import kept, prepared, ship, softened, told
from tests.benchmarks.published import RESULTS, Training, publish

ROWS, WEIGHTS = "lut_candidates.json", "lut_candidates.pth"
SEED = 0
FEWEST = 3  # epochs worth training
SPARE = 15.0  # seconds: start of a process, evaluation, storing
LEARNED = {"layer_type": "learnable", "layer_config": {"learned_layers": 1}}
SHARP: dict[str, Any] = {"runtime": {"eval_mode": "threshold", "output_tau": 3.0}}
DWN: dict[str, Any] = {**SHARP, "node_type": "dwn", "node_config": {"sign": True}}
SHIPPED = "probabilistic"
WIDTHS = {"mnist_large": [1024, 1000], "mnist_small": [512, 500]}


@dataclass(frozen=True)
class Candidate:
    """One recipe for the network `name`. changes: of the configuration; recipe: of the training."""

    name: str
    changes: Mapping[str, Any]
    recipe: Mapping[str, Any]

    def config(self, epochs: int | None = None) -> ModelConfig:
        """As it is shipped: wiring fixed, the recipe in its metadata."""
        how = {
            "epochs": 40, "batch_size": 128, "optimizer": "adam", "learning_rate": 0.05,
            "schedule": "one_cycle", "shift": 0, **LEARNED, **self.recipe,
        }  # fmt: skip
        values: dict[str, Any] = {
            "model_type": "feedforward", "layer_type": "fixed", "node_type": "probabilistic",
            "encoder_config": {"name": "thermometer", "num_bits": 4, "feature_wise": True},
            "node_input_dim": 6, "layer_widths": WIDTHS[self.name], "num_classes": 10,
            "runtime": {"eval_mode": "threshold"}, "pretrained_name": self.name,
            "dataset": "mnist", "input_size": 784, "seed": SEED,
            **self.changes,
        }  # fmt: skip
        how["epochs"] = epochs or how["epochs"]
        return ModelConfig(**values, metadata={"recipe": how})


# the most promising first: what the time does not allow is left out from the end
CANDIDATES = {
    "large_sharp": Candidate("mnist_large", SHARP, {"shift": 1, "epochs": 60}),
    "small_sharp": Candidate("mnist_small", SHARP, {}),
    "large_dwn": Candidate("mnist_large", DWN, {"shift": 1, "learning_rate": 0.02}),
    "small_shift": Candidate("mnist_small", SHARP, {"shift": 1, "epochs": 60}),
    "large_mild": Candidate("mnist_large", {}, {"shift": 1, "epochs": 60}),
    "large_fast": Candidate("mnist_large", SHARP, {"shift": 1, "learning_rate": 0.1}),
    "small_dwn": Candidate("mnist_small", DWN, {"learning_rate": 0.02}),
    "large_still": Candidate("mnist_large", SHARP, {}),
    "small_fast": Candidate("mnist_small", SHARP, {"shift": 1, "learning_rate": 0.1}),
    "large_all": Candidate("mnist_large", SHARP, {"shift": 1, "layer_config": {}}),
    "small_mild": Candidate("mnist_small", {}, {"shift": 1}),
}


class OutOfTime(Exception):
    """Too little time is left for a training."""


def epoch_seconds(config: ModelConfig, data: DataSet, device: str, steps: int = 50) -> float:
    """What an epoch takes here, of a network that is thrown away: its second few steps."""
    size = config.metadata["recipe"]["batch_size"]
    rows = slice(0, steps * size)
    few = replace(data, train=Split(data.train.x[rows], data.train.y[rows]))
    trainer, batches = prepared(config, few, SEED, device)
    trainer.fit(batches, 1)  # a device's first calls load its kernels
    start = time.perf_counter()
    trainer.fit(batches, 1)
    return (time.perf_counter() - start) * len(data.train) / len(few.train)


def trained(
    candidate: Candidate, data: DataSet, device: str, end: float
) -> tuple[ModelConfig, EqPropTrainer, dict[str, Any]]:
    """Train until the recipe's end, or the epochs that fit before `end`. Raises OutOfTime."""
    config = candidate.config()
    seconds = epoch_seconds(config, data, device)
    fitting = int((end - SPARE - time.time()) / (1.2 * seconds))
    if fitting < FEWEST:
        raise OutOfTime(f"{fitting} epochs of {seconds:.1f} s would fit before the deadline")
    config = candidate.config(min(fitting, config.metadata["recipe"]["epochs"]))
    trainer, batches = prepared(config, data, SEED, device)
    start = time.perf_counter()
    epochs, held = config.metadata["recipe"]["epochs"], data.validation.to(device).batches(1000)
    budget = Budget((end - SPARE / 2 - time.time()) / 60)
    history = trainer.fit(batches, epochs, held, callbacks=[budget])
    if budget.up:
        print("stopped at its deadline", flush=True)
    head = told(config, data)
    row = {
        "epochs": len(history["val_accuracy"]),
        "seconds": round(time.perf_counter() - start, 1),
        "device": head["device"] if device == "cpu" else torch.cuda.get_device_name(device),
        "versions": head["versions"],
        **{
            key: [float(f"{value:.5g}") for value in history[key]]
            for key in ("train_accuracy", "val_accuracy")
        },
    }
    return config, trainer, row


def images(samples: int | None) -> DataSet:
    """MNIST, or its first few training images for a trial."""
    data = build_dataset("mnist")
    return replace(data, train=Split(data.train.x[:samples], data.train.y[:samples]))


def work(name: str, data: DataSet, device: str, end: float, folder: Path) -> None:
    """The process of one candidate: its row and its network into `folder`."""
    candidate = CANDIDATES[name]
    try:
        config, trainer, row = trained(candidate, data, device, end)
    except (RuntimeError, ValueError) as error:
        if device == "cpu":
            raise
        print(f"{name}: {device} failed, goes on on the CPU: {str(error)[:300]}", flush=True)
        config, trainer, row = trained(candidate, data, "cpu", end)
    assert isinstance(trainer.model, SimpleFeedForward)
    kept(config, trainer.model.cpu(), folder / f"{name}.pth")
    row = {"candidate": name, "config": config.to_dict(), **row}
    replace_text(folder / f"{name}.json", json.dumps(row))


def collect(folder: Path, output: Path) -> list[dict[str, Any]]:
    """What is ready in `folder`, as two files in `output`."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    weights = {row["candidate"]: (folder / f"{row['candidate']}.pth").read_bytes() for row in rows}
    packed = {
        name: torch.frombuffer(bytearray(b), dtype=torch.uint8) for name, b in weights.items()
    }
    replace_file(output / WEIGHTS, lambda file: torch.save(packed, file))
    replace_text(output / ROWS, json.dumps(rows, indent=1) + "\n")
    return rows


def run_all(
    names: Sequence[str], arguments: Sequence[str], end: float, processes: int, output: Path
) -> list[dict[str, Any]]:
    """Train the candidates, `processes` at a time, until all are done or the time is over.

    arguments: of the command of each process, besides its candidate and folder.
    """
    waiting = list(names)
    running: dict[str, subprocess.Popen[bytes]] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        while (waiting or running) and time.time() < end:
            while waiting and len(running) < processes and end - time.time() > 3 * SPARE:
                name = waiting.pop(0)
                print(f"{name} begins", flush=True)
                running[name] = _started([*arguments, "--work", name, "--output", str(folder)])
            if not running:
                break
            time.sleep(0.5)
            for name in [name for name, job in running.items() if job.poll() is not None]:
                if running.pop(name).returncode == 0:
                    rows = collect(folder, output)
                    _tell(rows, name)
        for name, job in running.items():
            print(f"{name} did not end in time", flush=True)
            job.kill()
            job.wait()
    return rows


def _started(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    module = "tests.benchmarks.lut_candidates"
    return subprocess.Popen([sys.executable, "-m", module, *arguments])


def _tell(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    (row,) = [row for row in rows if row["candidate"] == name]
    print(
        f"{name}: validation {row['val_accuracy'][-1]:.4f}, train {row['train_accuracy'][-1]:.4f}, "
        f"{row['epochs']} epochs, {row['seconds']} s on {row['device']}",
        flush=True,
    )


def best(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The row of the network `name` that is best on validation images.

    What is shipped has nodes with a temperature: examples of it override that.
    """
    own = [
        row
        for row in rows
        if row["config"]["pretrained_name"] == name and row["config"]["node_type"] == SHIPPED
    ]
    return max(own, key=lambda row: row["val_accuracy"][-1], default=None)


def loaded(row: Mapping[str, Any], output: Path) -> tuple[SimpleFeedForward, bytes]:
    """The network of a row, and its file."""
    stored = torch.load(output / WEIGHTS, weights_only=True)
    content = stored[row["candidate"]].numpy().tobytes()
    model = SimpleFeedForward(ModelConfig.from_dict(row["config"]))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "weights.pth"
        path.write_bytes(content)
        model.load_weights(str(path))
    return model.eval(), content


def publish_best(
    rows: Sequence[Mapping[str, Any]], name: str, data: DataSet, output: Path
) -> Path | None:
    """Store and ship the best candidate of a name; the test images are looked at here, once.

    Raises RuntimeError for weights that do not have the validation accuracy of their row.
    """
    row = best(rows, name)
    if row is None:
        return None
    model, content = loaded(row, output)
    trainer = EqPropTrainer(model, "autograd", progress=False)
    if (found := trainer.evaluate(data.validation.batches(1000))["accuracy"]) != row[
        "val_accuracy"
    ][-1]:
        raise RuntimeError(
            f"{row['candidate']}: validation {found}, its row has {row['val_accuracy'][-1]}"
        )
    hard = trainer.evaluate(data.test.batches(1000))["accuracy"]
    config = model.get_config()
    record = {
        "candidate": row["candidate"], "test_accuracy": hard, "seconds": row["seconds"],
        **softened(trainer, data, hard),
        **{key: row[key] for key in ("train_accuracy", "val_accuracy")},
    }  # fmt: skip
    head = told(config, data) | {"device": row["device"], "versions": row["versions"]}
    path = RESULTS / f"{name}_lut.json"
    result = publish(path, head, {"lut": Training(lambda seed: record)}, [SEED], fresh=True)
    weights = output / name
    weights.mkdir(exist_ok=True)
    (weights / f"seed{SEED}.pth").write_bytes(content)
    info = {"config": config, "config_path": get_pretrained_model_info(name)["config_path"]}
    return ship(info, result, weights, SEED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Try the candidates, or publish the best of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--samples", type=int, help="training images, default all: a trial")
    parser.add_argument("--publish", action="store_true", help="publish the best of `output`")
    parser.add_argument("--work", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--end", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if given.publish:
        rows = json.loads((given.output / ROWS).read_text())
        tried = [{key: row[key] for key in row if key != "config"} for row in rows]
        replace_text(RESULTS / ROWS, json.dumps({"candidates": tried}, indent=1) + "\n")
        for name in WIDTHS:
            publish_best(rows, name, images(None), given.output)
        return
    if given.work:
        work(given.work, images(given.samples), given.device, given.end, given.output)
        return
    end = time.time() + 60 * given.minutes
    shared = ["--device", given.device, "--end", repr(end)]
    shared += ["--samples", str(given.samples)] if given.samples else []
    run_all(given.only, shared, end, given.processes, given.output)


if __name__ == "__main__":
    main()
