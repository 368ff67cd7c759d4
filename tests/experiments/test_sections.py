"""What a config takes from its data set: sizes of the model, augmentation, the classes of a folder
of images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eqprop_lab import Augmentation, ConvEqProp, DataUnavailable, train_from_config
from eqprop_lab.experiments.config import (
    build_experiment,
    fit_experiment,
    make_trainer,
    parse_config,
)
from eqprop_lab.training import EqPropTrainer
from tests.datasets.test_image_folder import write_images


def conv(params: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    model = {"name": "ConvEqProp", "params": {"hidden_channels": [3, 4], **(params or {})}}
    training = {"epochs": 1, "batch_size": 4, "free_steps": 3, "nudged_steps": 3}
    return {"model": model, "training": training, "data": {"dataset": "digits", **data}}


REFUSED = [
    (conv(augmentation={"shfit": 1}), "data.augmentation: .*did you mean 'shift'"),
    (
        conv(augmentation={"shift": 9}),
        "data.augmentation: shift must be at most 7 for images of 8x8 pixels, got 9",
    ),
    (conv(augmentation={"flip": 1}), "data.augmentation: flip must be True or False, got 1"),
    (
        conv(augmentation="shift"),
        "data.augmentation must be false, true or a mapping like {shift: 1}, got 'shift'",
    ),
    (conv({"input_channels": 3}), "model.params.input_channels is 3, but digits has 1"),
    (conv({"image_size": 28}), "model.params.image_size is 28, but digits has 8"),
    (conv({"image_size": [8, 9]}), r"model.params.image_size is \[8, 9\], but digits has 8"),
    (conv({"output_dim": 4}), "model.params.output_dim is 4, but digits has 10"),
    (conv(dataset="xor"), "a ConvEqProp takes images, xor has none"),
    (conv(dataset="image_folder"), "root must name the folder of the images, got None"),
]


@pytest.mark.parametrize(
    ("content", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED]
)
def test_what_contradicts_the_data_set_is_refused(content: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        parse_config(content)


def test_a_convolutional_model_takes_its_sizes_from_the_data_set() -> None:
    params = parse_config(conv()).params
    assert params == {
        "hidden_channels": [3, 4],
        "input_channels": 1,
        "image_size": 8,
        "output_dim": 10,
        "seed": 0,
    }
    model = make_trainer(parse_config(conv(dataset="cifar100"))).model
    assert (
        isinstance(model, ConvEqProp)
        and model.input_channels == 3
        and model.W_out.weight.shape[0] == 100
    )
    # The same said otherwise is no contradiction.
    assert parse_config(conv({"image_size": [8, 8], "input_channels": 1})).params["image_size"] == [
        8,
        8,
    ]
    preset = {"model": {"preset": "mnist_conv"}, "data": {"dataset": "digits"}}
    with pytest.raises(ValueError, match="image_size is 28, but digits has 8"):
        parse_config(preset)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (False, None),
        (None, None),
        ({}, None),
        (True, Augmentation(shift=1)),
        ({"crop": 2, "flip": True, "cutout": 3}, Augmentation(crop=2, flip=True, cutout=3)),
    ],
)
def test_augmentation_is_read_and_written_back(given: Any, wanted: Augmentation | None) -> None:
    config = parse_config(conv(augmentation=given))
    assert config.augmentation == wanted and "augmentation" not in config.data
    assert parse_config(yaml.safe_load(yaml.safe_dump(config.as_dict()))) == config
    assert parse_config(conv(dataset="cifar10", augmentation=True)).augmentation == Augmentation(
        crop=4, flip=True
    )


def test_only_the_training_images_are_augmented() -> None:
    config = parse_config(conv(augmentation={"shift": 2}))
    trainer, data = build_experiment(config)

    class Stop:
        def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_experiment(config, trainer, data, [Stop()])
    train, held = trainer.state.loaders["train"], trainer.state.loaders["val"]
    assert train.augment == Augmentation(shift=2) and held.augment is None
    assert (len(train.split), len(held.split)) == (len(data.train), len(data.validation))


def test_sizes_follow_from_a_folder_of_images(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4, size=(8, 6))
    write_images(tmp_path / "val", 1, size=(8, 6), start=20)
    folder = {"dataset": "image_folder", "root": str(tmp_path), "validation": 3}
    config = parse_config(conv(**folder))
    assert config.params["image_size"] == [8, 6]
    assert (config.params["input_channels"], config.params["output_dim"]) == (3, 3)
    content = yaml.safe_load(yaml.safe_dump(config.as_dict()))
    assert parse_config(content) == config
    trainer, history = train_from_config(
        parse_config(conv(**folder, size=8, channels=1, augmentation={"flip": True}))
    )
    assert (
        isinstance(trainer.model, ConvEqProp)
        and trainer.model.input_channels == 1
        and len(history["val_loss"]) == 1
    )
    mlp = conv(**folder)
    mlp["model"] = {"name": "LoopedMLP", "params": {"hidden_dim": 5}}
    assert parse_config(mlp).params["input_dim"] == 3 * 8 * 6
    for key, value, has in (("output_dim", 5, 3), ("image_size", 8, r"\[8, 6\]")):
        with pytest.raises(ValueError, match=f"{key} is {value}, but image_folder has {has}"):
            parse_config(conv({key: value}, **folder))
    with pytest.raises(TypeError, match="channels must be 1 .grey. or 3 .colour., got '3'"):
        parse_config(conv(**folder, channels="3"))
    # A stored config names every size: it can be read where the folder is not, and is compared when
    # the images are.
    content["data"]["root"] = str(tmp_path / "elsewhere")
    assert make_trainer(parse_config(content)).model.input_channels == 3
    with pytest.raises(DataUnavailable, match="elsewhere"):
        build_experiment(parse_config(content))
    with pytest.raises(DataUnavailable, match="elsewhere"):
        parse_config(conv(dataset="image_folder", root=str(tmp_path / "elsewhere")))
    content["data"] |= {"root": str(tmp_path), "size": 5}
    with pytest.raises(ValueError, match=r"image_size is \[8, 6\], but image_folder has 5"):
        build_experiment(parse_config(content))
