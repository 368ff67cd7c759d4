"""The published runs of the LUT networks, and the weights that come with the package.

    python -m tests.benchmarks.lut_networks digits_small --seeds 0 1 2 3 4
    python -m tests.benchmarks.lut_networks digits_small --ship 0

A network and its recipe are those of its configuration (eqprop_lab/lut/pretrained), chosen on
validation images; the test images are looked at once a seed, after training. Accuracies are those
of the hard network; `test_soft_accuracy` is that of the relaxed tables, `gap` the difference in
points. Writes data/results/NAME_lut.json; the weights stay in runs/published, from where --ship
takes them into the package, with what is known about them in `metadata`.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from eqprop_lab import EqPropTrainer
from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.datasets.splits import Batches
from eqprop_lab.lut import REGISTRY, BaseLUTModel, ModelConfig, get_pretrained_model_info
from eqprop_lab.lut.encoded import EncodedModel
from eqprop_lab.lut.hardening import hardened
from tests.benchmarks.published import RESULTS, Row, Training, measured, publish, read, shared

WEIGHTS = RESULTS.parents[1] / "runs" / "published"
NAMES = ("digits_small", "digits_convnet", "mnist_small", "mnist_large")
WIRING = ("layer_type", "layer_config")


def begun(config: ModelConfig, data: DataSet, seed: int) -> EncodedModel:
    """The network before training. A recipe may learn the wiring that the configuration fixes."""
    recipe = config.metadata["recipe"]
    wiring = {key: recipe[key] for key in WIRING if key in recipe}
    make = REGISTRY.get("model", config.model_type)
    model: EncodedModel = make(replace(config, seed=seed, **wiring))
    model.fit_encoder(data.train.x)
    return model


def prepared(
    config: ModelConfig, data: DataSet, seed: int, device: str = "cpu"
) -> tuple[EqPropTrainer, Batches]:
    """Trainer and batches of a recipe."""
    recipe = config.metadata["recipe"]
    trainer = EqPropTrainer(
        begun(config, data, seed),
        "autograd",
        recipe["optimizer"],
        recipe["learning_rate"],
        schedule=recipe["schedule"],
        device=device,
        progress=False,
    )
    batches = data.train.to(device).batches(
        recipe["batch_size"],
        shuffle=True,
        seed=seed,
        augment=Augmentation(shift=recipe["shift"]) if recipe["shift"] else None,
    )
    return trainer, batches


def kept(config: ModelConfig, model: BaseLUTModel, path: Path) -> None:
    """Write the trained network, its wiring fixed where the configuration says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fixed = config.layer_type == "fixed"
    (model.with_fixed_wiring() if fixed else model).save_weights(str(path), half=True)


def softened(trainer: EqPropTrainer, data: DataSet, hard: float) -> Row:
    """Accuracy of the relaxed tables on test images, and how far it is from the hard one's."""
    model = trainer.model
    assert isinstance(model, BaseLUTModel)
    with hardened(model, ()):
        soft = trainer.evaluate(data.test.batches(1000))["accuracy"]
    return {"test_soft_accuracy": soft, "gap": float(f"{100 * (soft - hard):.3g}")}


def train(config: ModelConfig, data: DataSet, weights: Path, seed: int) -> Row:
    """The record of one training. weights: folder for the trained network."""
    trainer, batches = prepared(config, data, seed)
    held, epochs = data.validation.batches(1000), config.metadata["recipe"]["epochs"]
    row = measured(trainer, lambda: trainer.fit(batches, epochs, held), data)
    assert isinstance(trainer.model, BaseLUTModel)
    kept(config, trainer.model, weights / f"seed{seed}.pth")
    return softened(trainer, data, row["test_accuracy"]) | row


def told(config: ModelConfig, data: DataSet) -> dict[str, Any]:
    """What the runs of a configuration share."""
    keys = ("node_type", "layer_type", "node_input_dim", "encoder_config", "runtime")
    values, channels = config.to_dict(), config.model_config.get("channels", [])
    said = {
        k: values[k]
        for k in (*keys, "layer_config", "node_config", "model_config")
        if values[k] != {}
    }
    return shared(
        data,
        "autograd",
        {"lut": REGISTRY.get("model", config.model_type).__name__},
        (config.input_size or 0, *channels, *config.layer_widths, config.num_classes),
        config.get_total_params_estimate(),
        said | config.metadata["recipe"],
    )


def run(
    config: ModelConfig,
    data: DataSet,
    seeds: Sequence[int],
    path: Path,
    weights: Path,
    fresh: bool = False,
) -> dict[str, Any]:
    """The result in `path`, with the runs of these seeds. weights: folder, one file a seed."""
    one = Training(partial(train, config, data, weights))
    return publish(path, told(config, data), {"lut": one}, seeds, fresh)


def ship(info: Mapping[str, Any], result: Mapping[str, Any], weights: Path, seed: int) -> Path:
    """Put the network of a stored run beside its configuration. Raises RuntimeError."""
    rows = [row for row in result.get("lut", []) if row["seed"] == seed]
    file = weights / f"seed{seed}.pth"
    if not rows or not file.is_file():
        raise RuntimeError(f"seed {seed} is not trained, or its weights are gone: train it")
    config = info["config"]
    config.metadata |= {
        "estimator": "autograd",
        "seed": seed,
        "validation_accuracy": rows[0]["val_accuracy"][-1],
        "test_accuracy": rows[0]["test_accuracy"],
        "test_soft_accuracy": rows[0]["test_soft_accuracy"],
        "versions": result["versions"],
        "device": result["device"],
        "date": datetime.date.today().isoformat(),
    }
    config = replace(config, seed=seed, pretrained=True)
    config.to_yaml(info["config_path"])
    return Path(shutil.copyfile(file, Path(info["config_path"]).with_suffix(".pth")))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print a line a seed, and store every run at once; or ship a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="default runs/published")
    parser.add_argument("--fresh", action="store_true", help="discard the stored runs first")
    parser.add_argument("--ship", type=int, metavar="SEED", help="train nothing; ship this seed")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    info = get_pretrained_model_info(given.name)
    path, weights = given.output / f"{given.name}_lut.json", given.weights / given.name
    if given.ship is not None:
        print(f"wrote {ship(info, read(path) or {}, weights, given.ship).name}")
        return
    data = build_dataset(info["dataset"])
    run(info["config"], data, given.seeds, path, weights, given.fresh)
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
