"""A data set of one's own is one decorated function, and what is wrong with it is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import (
    Augmentation,
    build_dataset,
    get_dataset_info,
    load_config,
    register_dataset,
    train_from_config,
)
from eqprop_lab.datasets import NAMES, DataSet, Split
from eqprop_lab.datasets.registry import SOURCES, find_sizes
from eqprop_lab.experiments.config import parse_config


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(SOURCES)
    yield
    SOURCES.clear()
    SOURCES.update(before)


def split(samples: int = 12, shape: tuple[int, ...] = (1, 6, 8), classes: int = 3) -> Split:
    return Split(torch.rand(samples, *shape), torch.arange(samples) % classes)


def data(**changes: Any) -> DataSet:
    parts = {"train": split(), "validation": split(6), "test": split(6), "classes": tuple("abc")}
    return DataSet(**{"name": "mine", **parts, **changes})


def mine(samples: int = 12) -> DataSet:
    return data(train=split(samples))


def content(model: str = "LoopedMLP", **options: Any) -> dict[str, Any]:
    return {
        "model": {"name": model, "params": {"hidden_dim": 5} if model == "LoopedMLP" else {}},
        "training": {"epochs": 1, "batch_size": 4, "free_steps": 3, "nudged_steps": 3},
        "data": {"dataset": "mine", **options},
    }


FACTS = {"name": "mine", "input_dim": 48, "output_dim": 3, "channels": 1, "size": [6, 8]}


def test_one_decorator_is_enough() -> None:
    assert register_dataset("mine")(mine) is mine and "mine" in NAMES
    assert len(build_dataset("mine").train) == 12
    assert len(build_dataset({"name": "mine", "samples": 5}).train) == 5
    assert get_dataset_info("Mine")["input_dim"] is None  # nothing is built
    assert find_sizes({"name": "mine", "samples": 4}) == FACTS
    config = parse_config(content(samples=8, augmentation={"shift": 1}))
    assert config.params["input_dim"] == 48 and config.params["output_dim"] == 3
    trainer, history = train_from_config(config)
    assert history.epochs == 1 and trainer.state.config == config.as_dict()
    with pytest.raises(ValueError, match="registered without a usual one: give a mapping"):
        parse_config(content(augmentation=True))


def test_what_is_declared_is_known_before_anything_is_built(tmp_path: Path) -> None:
    def never() -> DataSet:
        raise AssertionError("nothing is to be built")

    usual = Augmentation(shift=2)
    register_dataset("mine", shape=(1, 6, 8), classes=3, augmentation=usual)(never)
    assert get_dataset_info("mine") == FACTS
    file = tmp_path / "mine.yaml"
    file.write_text(
        "model: {name: ConvEqProp, params: {hidden_channels: [3, 4]}}\n"
        "data: {dataset: mine, augmentation: true}"
    )
    config = load_config(file)
    assert config.augmentation == usual
    assert config.params["image_size"] == [6, 8] and config.params["input_channels"] == 1
    with pytest.raises(ValueError, match="shift must be at most 5 for images of 6x8"):
        parse_config(content(augmentation={"shift": 6}))
    with pytest.raises(ValueError, match="the mine config takes no keys, got 'samples'"):
        parse_config(content(samples=3))


def test_a_set_can_be_measured_without_being_built() -> None:
    def never(side: int) -> DataSet:
        raise AssertionError("nothing is to be built")

    register_dataset("mine", measure=lambda side: ((1, side, side), 2))(never)
    assert parse_config(content(side=4)).params["input_dim"] == 16
    with pytest.raises(ValueError, match="data set 'mine' needs side"):
        parse_config(content())
    with pytest.raises(ValueError, match="data set 'mine' needs side"):
        build_dataset("mine")


def test_a_set_in_a_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "own_sets.py").write_text(
        "import torch\n"
        "from eqprop_lab import register_dataset\n"
        "from eqprop_lab.datasets import DataSet, Split\n"
        "@register_dataset('blobs', shape=2, classes=2)\n"
        "def blobs(**options):\n"
        "    y = torch.arange(options.get('n', 10)) % 2\n"
        "    part = Split(torch.randn(len(y), 2) + y[:, None], y)\n"
        "    return DataSet('blobs', part, part, part, ('a', 'b'))\n"
    )
    code = (
        "import own_sets, eqprop_lab as ep; from eqprop_lab.experiments.config import parse_config;"
        "config = {'model': {'name': 'LoopedMLP', 'params': {'hidden_dim': 4}},"
        " 'training': {'epochs': 1}, 'data': {'dataset': 'blobs', 'n': 6}};"
        "print(ep.train_from_config(parse_config(config))[1].epochs)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "1\n", done.stderr


def test_a_name_is_taken_once_and_a_definition_may_run_again() -> None:
    register_dataset("mine")(mine)
    register_dataset("mine", classes=3)(mine)
    assert SOURCES["mine"].classes == 3
    for name in ("mine", "MINE", "CIFAR-10", "x o r"):
        with pytest.raises(ValueError, match="name must be new: .* is the data set '"):
            register_dataset(name)(data)
    assert build_dataset("xor").name == "xor"


WRONG_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"name": 3}, "name must be a text with a letter or digit, got 3"),
    ({"name": "-"}, "name must be a text with a letter or digit, got '-'"),
    ({"name": "mine", "augmentation": True}, "augmentation must be an Augmentation or None"),
    ({"name": "mine", "measure": 3}, "measure must be a function of the options or None"),
    ({"name": "mine", "shape": (1, 0, 3)}, "shape.1. must be an integer >= 1, got 0"),
    ({"name": "mine", "classes": "ten"}, "classes must be an integer >= 1, got 'ten'"),
    (
        {"name": "mine", "shape": 4, "augmentation": Augmentation(shift=1)},
        "augmentation needs images",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS, ids=lambda v: str(v)[:40])
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        register_dataset(**arguments)
    with pytest.raises(TypeError, match="a data set is a function that returns a DataSet, got 7"):
        register_dataset("mine")(7)  # type: ignore[type-var]


x, y = torch.rand(4, 1, 6, 8), torch.arange(4) % 3


def with_nan() -> torch.Tensor:
    broken = x.clone()
    broken[2, 0, 3, 3] = torch.nan
    return broken


WRONG_DATA: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "'mine': its function must return a DataSet, got NoneType"),
    (lambda: (split(), split()), "its function must return a DataSet, got tuple"),
    (lambda: data(name="yours"), "its DataSet is called 'yours'"),
    (lambda: data(test=(x, y)), "'mine': test must be a Split.x, y., got tuple"),
    (
        lambda: data(test=Split(x.double(), y)),
        "test.x must be a tensor of torch.float32, got torch",
    ),
    (lambda: data(train=Split(x, y.int())), "train.y must be a tensor of torch.int64, got torch"),
    (lambda: data(train=Split(x, [0, 1])), "train.y must be a tensor of torch.int64, got list"),
    (lambda: data(test=Split(x, y[:3])), "test must have samples, each with one label"),
    (lambda: data(test=Split(x[:0], y[:0])), "test must have samples, each with one label"),
    (lambda: data(test=Split(x, y[:, None])), "test must have samples, each with one label"),
    (
        lambda: data(validation=split(6, (1, 8, 6))),
        "validation must have samples of shape .1, 6, 8",
    ),
    (lambda: data(test=Split(x, y + 1)), "test must have labels from 0 to 2.*got 1 to 3"),
    (lambda: data(test=Split(x, y - 1)), "test must have labels from 0 to 2.*got -1 to 1"),
    (lambda: data(classes=("a", "b")), "train must have labels from 0 to 1"),
    (lambda: data(classes=3), "classes must be a tuple of two or more different names, got 3"),
    (lambda: data(classes="abc"), "classes must be a tuple of two or more .*, got 'abc'"),
    (lambda: data(classes=(0, 1, 2)), "classes must be a tuple of two or more .*, got .0, 1, 2"),
    (lambda: data(classes=("a",)), "classes must be a tuple of two or more .*, got .'a',"),
    (lambda: data(classes=("a", "b", "a")), "classes must be a tuple of two or more different"),
    (
        lambda: data(test=Split(x + torch.inf, y)),
        "test.x must be finite, got NaN or infinite numbers",
    ),
    (lambda: data(validation=Split(with_nan(), y)), "validation.x must be finite"),
    (lambda: data(train=Split(x[:, 0, 0, 0], y)), r"train.x must have the shape .*got .4,."),
    (lambda: data(train=Split(x[..., :0], y)), r"train.x must have the shape .*got .4, 1, 6, 0."),
    (lambda: data(test=Split(x.to_sparse(), y)), "test.x must be a dense tensor, got torch.spar"),
    (lambda: data(test=Split(x, y.to_sparse())), "test.y must be a dense tensor, got torch.spar"),
]


@pytest.mark.parametrize(("build", "message"), WRONG_DATA, ids=[m[:50] for _, m in WRONG_DATA])
def test_what_is_no_sound_data_set_is_refused(build: Callable[[], Any], message: str) -> None:
    register_dataset("mine")(build)
    with pytest.raises((TypeError, ValueError), match=message):
        build_dataset("mine")


def test_what_was_declared_must_be_true() -> None:
    for declared in ({"shape": (1, 8, 6)}, {"classes": 4}):
        register_dataset("mine", **declared)(mine)
        with pytest.raises(ValueError, match="registered with .* but it has shape .1, 6, 8. and 3"):
            build_dataset("mine")
