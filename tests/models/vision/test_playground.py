"""Ordinary networks under the trainer and in experiment files: the second seed document's snippets,
sets that users name, modules of other packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab import (
    DenseNet3,
    EqPropTrainer,
    ResNetCifar,
    load_config,
    train_from_config,
)
from eqprop_lab.datasets.torchvision_sets import import_torchvision
from eqprop_lab.experiments.config import parse_config
from tests.datasets.test_datasets import write_mnist
from tests.datasets.test_image_folder import write_images
from tests.datasets.test_torchvision_sets import write_pickled


@pytest.fixture
def cifar_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in which torchvision finds CIFAR-10 and CIFAR-100 of its own layout: 5,040
    training images (5,000 are held out), 8 test images.
    """
    import_torchvision()
    from torchvision.datasets import CIFAR10, CIFAR100

    for cls, classes in ((CIFAR10, 10), (CIFAR100, 100)):
        write_pickled(monkeypatch, tmp_path, cls, classes, {"train": 5040, "test": 8})
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    return tmp_path


def test_densenet_forward_pass() -> None:
    model = DenseNet3(depth=40, num_classes=10, growth_rate=12)
    x = torch.randn(1, 3, 32, 32)
    output = model(x)
    assert output.shape == (1, 10)


@pytest.mark.usefixtures("cifar_here")
def test_cifar10_dataloader() -> None:
    from eqprop_lab import load_cifar_10

    train_loader, test_loader = load_cifar_10(batch_size=4)
    batch = next(iter(train_loader))
    assert len(batch) == 2  # images, labels
    assert batch[0].shape[0] == 4  # batch size

    assert batch[0].shape[1:] == (3, 32, 32) and len(test_loader) == 2
    # the images that are held out for validation are in neither
    assert len(train_loader.split) == 40 and len(test_loader.split) == 8


CONFIG = """
# configs/base.yaml
model:
  name: "DenseNet3"
  params:
    growth_rate: 12
    depth: 40

training:
  epochs: 300
  batch_size: 64
  learning_rate: 0.1
  optimizer: "SGD"

data:
  dataset: "cifar_10"
  augmentation: true

experiment:
  use_wandb: true
  project: "torch-cnn"
"""


def test_the_config_of_the_document_trains(cifar_here: Path, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "base.yaml")
    assert (config.epochs, config.batch_size, config.trainer["lr"]) == (300, 64, 0.1)
    assert config.augmentation is not None and config.augmentation.crop == 4
    assert config.experiment["use_wandb"] and config.experiment["project"] == "torch-cnn"
    cut = config.as_dict()
    cut["training"]["epochs"] = 2
    cut["data"] |= {"limit": 24, "validation": 6}
    trainer, history = train_from_config(cut)
    model = trainer.model
    assert isinstance(model, DenseNet3) and sum(p.numel() for p in model.parameters()) == 176_122
    assert trainer.gradient == "autograd" and type(trainer.optimizer) is torch.optim.SGD
    assert history.epochs == 2 and history["train_loss"][1] < history["train_loss"][0]


def write_subset(root: Path) -> None:
    """A few classes of ImageNet in its own layout: train and val, folders named by synset."""
    classes = ("n01440764", "n02102040", "n03000684")
    for part, count, start in (("train", 6, 0), ("val", 3, 10)):
        write_images(root / part, count, (40, 56), classes, start)


SETS: dict[str, tuple[Mapping[str, Any], tuple[int, ...], int]] = {
    "cifar_100": ({"limit": 24, "validation": 6}, (3, 32, 32), 100),
    "fashion_mnist": ({"validation": 6}, (1, 28, 28), 10),
    "Fashion-MNIST": ({"validation": 6}, (1, 28, 28), 10),
    "image_folder": ({"size": 32}, (3, 32, 32), 3),
}


@pytest.mark.parametrize("name", SETS)
def test_an_epoch_on_every_set_that_the_document_asks_for(name: str, cifar_here: Path) -> None:
    write_mnist(cifar_here, name="FashionMNIST")
    write_subset(cifar_here / "imagenet")
    options, shape, classes = SETS[name]
    if name == "image_folder":
        options = {**options, "root": str(cifar_here / "imagenet")}
    content = {
        "model": {"name": "resnet8", "params": {"width": 4}},
        "training": {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.05},
        "data": {"dataset": name, "augmentation": True, **options},
    }
    trainer, history = train_from_config(content)
    model = trainer.model
    assert isinstance(model, ResNetCifar)
    assert (model.in_channels, model.num_classes) == (shape[0], classes)
    assert history.epochs == 1 and np.isfinite(history["val_loss"][0])


def test_sizes_follow_from_the_set_and_contradictions_are_refused() -> None:
    config: dict[str, Any] = {"model": {"name": "resnet8"}, "data": {"dataset": "digits"}}
    assert parse_config(config).params == {"in_channels": 1, "num_classes": 10, "seed": 0}
    config["model"]["params"] = {"num_classes": 4}
    with pytest.raises(ValueError, match="model.params.num_classes is 4, but digits has 10"):
        parse_config(config)
    config["model"]["params"] = {"in_channels": 3}
    with pytest.raises(ValueError, match="model.params.in_channels is 3, but digits has 1"):
        parse_config(config)
    config = {"model": {"name": "SmallCNN"}, "data": {"dataset": "two_moons"}}
    with pytest.raises(ValueError, match="a SmallCNN takes images, two_moons has none"):
        parse_config(config)


def test_a_token_model_without_classes_still_reads_a_text() -> None:
    model = {"name": "TransformerEqProp", "params": {"hidden_dim": 8, "num_layers": 1}}
    config = parse_config({"model": model, "data": {"dataset": "python_docs", "seq_len": 8}})
    assert "num_classes" not in config.params and config.params["vocab_size"] > 50


def trains(model: nn.Module, channels: int = 3, side: int = 32) -> None:
    """Three classes of plain colour are learnt in a few steps."""
    y = torch.arange(24) % 3
    x = torch.rand(24, channels, side, side) / 4 + y[:, None, None, None] / 3
    trainer = EqPropTrainer(model, "autograd", "adam", lr=3e-3)
    history = trainer.fit([(x, y)], epochs=6)
    assert history["train_loss"][-1] < 0.7 * history["train_loss"][0]


def test_a_torchvision_model_trains() -> None:
    import_torchvision()
    from torchvision.models import mobilenet_v3_small

    trains(mobilenet_v3_small(num_classes=3, dropout=0.0))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_timm_model_trains() -> None:
    # timm imports torchvision, which beside a CPU-only torch is imported by the package
    import_torchvision()
    timm = pytest.importorskip("timm")
    trains(timm.create_model("resnet10t", num_classes=3))
